//! Consistency models.

use serde::{Deserialize, Serialize};

use super::{Precondition, Scaling};
use crate::{Error, numbers::sigma::positive};

/// Consistency functions with the identity at σ_min [Song et al. 2023, Eq. 5 and App. C].
///
/// ```text
/// skip = s²/((σ − σ_min)² + s²)   out = (σ − σ_min) s/√(σ² + s²)   input = 1/√(σ² + s²)   label = 250 ln σ
/// ```
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Consistency {
    /// s: the standard deviation of the training images.
    pub sigma_data: f64,
    /// σ_min and the largest level of training.
    pub range: [f64; 2],
}

impl Default for Consistency {
    /// s = 0.5 and σ from 0.002 to 80, as published.
    fn default() -> Self {
        Self { sigma_data: 0.5, range: [0.002, 80.0] }
    }
}

impl Consistency {
    pub(super) fn checked(&self) -> Result<Self, Error> {
        positive("sigma_data", self.sigma_data)?;
        super::interval(self.range)?;
        Ok(*self)
    }
}

impl Precondition for Consistency {
    fn at(&self, sigma: f64) -> Scaling {
        let (data, above, total) = (self.sigma_data, sigma - self.range[0], sigma.hypot(self.sigma_data));
        Scaling {
            skip_minus_one: -above * above / (above * above + data * data),
            out: above * data / total,
            input: total.recip(),
            label: 250.0 * sigma.ln(),
        }
    }

    fn range(&self) -> (f64, f64) {
        self.range.into()
    }
}
