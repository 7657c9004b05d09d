//! Magnetic resonance imaging with the mask of a scan.

use std::path::PathBuf;

use tch::{Device, Kind, Tensor};

use crate::{
    Error,
    files::images,
    inverse::operators::{Fourier, Operator, Task},
    numbers::registry::entry,
};

entry! {
    name: "mri-mask",
    what: "frequencies that a file marks",
    source: "fastMRI",
    facts: { map: "linear, svd", random: "no" },
    example: "{kind: mri-mask, mask: mask.npy}",
    /// The frequencies that a scan has read, by its own mask; all else is as of `mri-cartesian`.
    pub struct MriMask {
        /// Columns, `[width]`, or whole, `[height, width]`: `.npy`, seen where it is not 0, or a picture, seen where it is
        /// 128 of 255 or brighter. Frequency 0 is in the middle.
        pub mask: PathBuf => "a .npy file or a picture",
    }
}

impl Task for MriMask {
    fn operator(&self, shape: [i64; 3], _: u64, device: Device, kind: Kind) -> Result<Operator, Error> {
        let mask = read(&self.mask)?.squeeze();
        let [_, height, width] = shape;
        let columns = mask.size() == [width] || mask.size() == [1, width];
        let mask = if columns { mask.view([1, width]).f_expand([height, width], false)? } else { mask };
        let fourier = Fourier::new(&mask, shape, device, kind).map_err(|e| Error::file(&self.mask, e))?;
        Ok(fourier.into())
    }
}

fn read(path: &std::path::Path) -> Result<Tensor, Error> {
    if path.extension().is_some_and(|ending| ending == "npy") {
        return Ok(images::read_npy(path)?.ne(0.0));
    }
    Ok(images::read(path, 1)?.get(0).ge(128))
}
