//! Inpainting of all but a box.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

use super::{Inpaint, InpaintBox, Operator, Task};
use crate::Error;

/// Hides everything but a box at a random place, the box that [`InpaintBox`] hides [Random Walks].
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(transparent)]
pub struct InpaintExtreme(pub InpaintBox);

impl Task for InpaintExtreme {
    fn operator(&self, shape: [i64; 3], seed: u64, device: Device, _: Kind) -> Result<Operator, Error> {
        Inpaint::from_pixels(&self.0.inside(shape, seed)?, shape, device)
    }
}
