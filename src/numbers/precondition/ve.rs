//! Continuous variance-exploding networks.

use serde::{Deserialize, Serialize};

use super::{Precondition, Scaling};
use crate::Error;

/// Networks that estimate −n, as score_sde's do before their division by σ [Score SDE, App. C; EDM, Table 1].
///
/// ```text
/// skip = 1   out = σ   input = 1   label = ln(σ / 2)
/// ```
///
/// They were trained on pixels of 0 … 1, which they bring to −1 … 1 themselves; in that frame, which is ours, σ is twice
/// what it is in theirs: hence the half.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ve {
    /// Levels that the network was trained for, for pixels of −1 … 1: smallest and largest.
    pub range: [f64; 2],
}

impl Ve {
    pub(super) fn checked(&self) -> Result<Self, Error> {
        super::interval(self.range)?;
        Ok(*self)
    }
}

impl Precondition for Ve {
    fn at(&self, sigma: f64) -> Scaling {
        Scaling { skip_minus_one: 0.0, out: sigma, input: 1.0, label: (sigma / 2.0).ln() }
    }

    fn range(&self) -> (f64, f64) {
        self.range.into()
    }
}
