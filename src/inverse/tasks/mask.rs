//! Inpainting with a mask from a file.

use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};

use crate::{
    Error,
    files::images,
    inverse::operators::{Inpaint, Operator, Task},
    numbers::registry::entry,
};

entry! {
    name: "inpaint-mask",
    what: "pixels are hidden where a picture is black",
    source: "",
    facts: { map: "linear, svd", random: "no" },
    example: "{kind: inpaint-mask, file: mask.png}",
    /// Hides the pixels that are black in a picture.
    pub struct InpaintMask {
        /// A picture of the images' size; what is darker than 128 of 255 is hidden. Or `.npy`, `[height, width]`, of bytes as
        /// in a picture, or of 0 (hidden) and 1.
        pub file: PathBuf => "a picture or .npy of the images’ size",
    }
}

impl Task for InpaintMask {
    fn operator(&self, shape: [i64; 3], _: u64, device: Device, kind: Kind) -> Result<Operator, Error> {
        let mask = seen(&self.file)?.to_kind(kind).to_device(device);
        Ok(Inpaint::new(&mask, shape).map_err(|e| Error::file(&self.file, e))?.into())
    }
}

/// True where a mask shows, `[height, width]`.
fn seen(file: &Path) -> Result<Tensor, Error> {
    if file.extension().is_none_or(|ending| ending != "npy") {
        return Ok(images::read(file, 1)?.get(0).ge(128));
    }
    let mask = images::read_npy(file)?;
    let size = mask.size();
    let plane = match size[..] {
        [_, _] => mask,
        [.., _, _] if size[..size.len() - 2].iter().all(|side| *side == 1) => mask.flatten(0, -3).get(0),
        _ => return Err(Error::file(file, format!("is {size:?}: one mask, [height, width], is wanted"))),
    };
    let all = |x: Tensor| i64::try_from(x.all()).map(|all| all != 0);
    if all(plane.eq(0.0).logical_or(&plane.eq(1.0)))? {
        return Ok(plane.eq(1.0));
    }
    match plane.kind() {
        Kind::Uint8 => Ok(plane.ge(128)),
        _ => Err(Error::file(file, "holds other numbers than 0 (hidden) and 1: a mask shows a pixel or hides it")),
    }
}
