//! EDM's own preconditioning.

use serde::{Deserialize, Serialize};

use super::{Precondition, Scaling};
use crate::{Error, numbers::sigma::positive};

/// Input and target of unit variance at every σ [EDM, Table 1].
///
/// ```text
/// skip = s² / (σ² + s²)   out = σ s / √(σ² + s²)   input = 1 / √(σ² + s²)   label = ln(σ) / 4
/// ```
///
/// Networks that estimate v of x/s [Salimans & Ho 2022], such as Stable Video Diffusion with s = 1, have the other sign.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Edm {
    /// s: the standard deviation of the training images.
    pub sigma_data: f64,
    /// Levels that the network was trained for: smallest and largest.
    pub range: [f64; 2],
    /// F estimates v: the sign of `out` is the other.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub v: bool,
}

impl Default for Edm {
    /// σ from 0.002 to 80, as the published samplers have it.
    fn default() -> Self {
        Self { sigma_data: 0.5, range: [0.002, 80.0], v: false }
    }
}

impl Edm {
    pub(super) fn checked(&self) -> Result<Self, Error> {
        positive("sigma_data", self.sigma_data)?;
        super::interval(self.range)?;
        Ok(*self)
    }
}

impl Precondition for Edm {
    fn at(&self, sigma: f64) -> Scaling {
        let (data, total) = (self.sigma_data, sigma.hypot(self.sigma_data));
        Scaling {
            skip_minus_one: -(sigma / total).powi(2),
            out: if self.v { -1.0 } else { 1.0 } * sigma * data / total,
            input: total.recip(),
            label: sigma.ln() / 4.0,
        }
    }

    fn range(&self) -> (f64, f64) {
        self.range.into()
    }
}
