//! Inpainting with a mask from a file.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

use crate::{
    Error,
    files::images,
    inverse::operators::{Inpaint, Operator, Task},
};

/// Hides the pixels that are black in a picture.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct InpaintMask {
    /// A picture of the images' size; what is darker than 128 of 255 is hidden.
    pub file: PathBuf,
}

impl Task for InpaintMask {
    fn operator(&self, shape: [i64; 3], _: u64, device: Device, kind: Kind) -> Result<Operator, Error> {
        let mask = images::read(&self.file, 1)?.get(0).ge(128).to_kind(kind).to_device(device);
        Ok(Inpaint::new(&mask, shape).map_err(|e| Error::file(&self.file, e))?.into())
    }
}
