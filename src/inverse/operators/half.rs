//! Inpainting of half an image.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

use super::{Inpaint, Operator, Task};
use crate::{Error, numbers::registry::entry};

entry! {
    name: "inpaint-half",
    what: "one half is hidden",
    source: "",
    facts: { map: "linear, svd", random: "no" },
    /// Hides one half of the image.
    pub struct InpaintHalf {
        /// The hidden side; of an odd number of rows or columns the middle one is seen.
        pub hidden: Side = Side::Right => "left, right, top, bottom",
    }
}

/// A side of an image.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// The first columns.
    Left,
    /// The last columns.
    #[default]
    Right,
    /// The first rows.
    Top,
    /// The last rows.
    Bottom,
}

impl Side {
    /// Whether the pixel at `row` and `column` lies on the other side, or in the middle.
    fn spares(self, row: i64, column: i64, [_, height, width]: [i64; 3]) -> bool {
        match self {
            Self::Left => column >= width / 2,
            Self::Right => column < width - width / 2,
            Self::Top => row >= height / 2,
            Self::Bottom => row < height - height / 2,
        }
    }
}

impl Task for InpaintHalf {
    fn operator(&self, shape: [i64; 3], _: u64, device: Device, _: Kind) -> Result<Operator, Error> {
        let [_, height, width] = shape;
        let seen: Vec<bool> = (0..height * width).map(|i| self.hidden.spares(i / width, i % width, shape)).collect();
        Inpaint::from_pixels(&seen, shape, device)
    }
}
