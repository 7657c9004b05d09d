//! Networks that take σ itself, and x as it is.

use serde::{Deserialize, Serialize};

use super::{Precondition, Scaling};
use crate::Error;

/// Meaning of a network's output.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quantity {
    /// The denoised image: D = F.
    Denoised,
    /// The noise n of x = clean + σ n: D = x − σ F.
    Noise,
    /// The score: D = x + σ² F, which is Tweedie's formula.
    Score,
}

/// F(x, σ) in the frame of the walk, x = clean + σ n, pixels in −1 … 1.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Plain {
    /// Meaning of the network's output.
    pub predicts: Quantity,
    /// Levels that the network was trained for: smallest and largest.
    pub range: [f64; 2],
}

impl Plain {
    pub(super) fn checked(&self) -> Result<Self, Error> {
        super::interval(self.range)?;
        Ok(*self)
    }
}

impl Precondition for Plain {
    fn at(&self, sigma: f64) -> Scaling {
        let (skip_minus_one, out) = match self.predicts {
            Quantity::Denoised => (-1.0, 1.0),
            Quantity::Noise => (0.0, -sigma),
            Quantity::Score => (0.0, sigma * sigma),
        };
        Scaling { skip_minus_one, out, input: 1.0, label: sigma }
    }

    fn range(&self) -> (f64, f64) {
        self.range.into()
    }
}
