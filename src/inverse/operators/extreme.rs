//! Inpainting of all but a box.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

use super::{Inpaint, InpaintBox, Operator, Task};
use crate::{
    Error,
    numbers::registry::{Entry, Info},
};

/// Hides everything but a box at a random place, the box that [`InpaintBox`] hides [Random Walks].
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(transparent)]
pub struct InpaintExtreme(pub InpaintBox);

impl Entry for InpaintExtreme {
    const INFO: Info = Info {
        name: "inpaint-extreme",
        what: "all but a box is hidden",
        text: "Hides everything but a box at a random place, the box that `inpaint-box` hides [Random Walks].",
        ..InpaintBox::INFO
    };
}

impl Task for InpaintExtreme {
    fn operator(&self, shape: [i64; 3], seed: u64, device: Device, _: Kind) -> Result<Operator, Error> {
        Inpaint::from_pixels(&self.0.inside(shape, seed)?, shape, device)
    }
}
