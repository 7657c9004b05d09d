//! Inpainting with a mask from a file.

use std::path::PathBuf;

use tch::{Device, Kind};

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
        /// A picture of the images' size; what is darker than 128 of 255 is hidden.
        pub file: PathBuf => "a picture of the images’ size",
    }
}

impl Task for InpaintMask {
    fn operator(&self, shape: [i64; 3], _: u64, device: Device, kind: Kind) -> Result<Operator, Error> {
        let mask = images::read(&self.file, 1)?.get(0).ge(128).to_kind(kind).to_device(device);
        Ok(Inpaint::new(&mask, shape).map_err(|e| Error::file(&self.file, e))?.into())
    }
}
