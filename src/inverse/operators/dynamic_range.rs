//! High dynamic range: what is too bright or too dark is cut off.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::{NonlinearOperator, Operator, Task};
use crate::Error;

/// A(x) = c x, held within −1 … 1 [DAPS, §4.1]; ‖∂A/∂x‖ ≤ c.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HighDynamicRange {
    /// c; 2 unless said otherwise.
    #[serde(default = "two")]
    pub scale: f64,
}

fn two() -> f64 {
    2.0
}

impl Default for HighDynamicRange {
    fn default() -> Self {
        Self { scale: two() }
    }
}

impl NonlinearOperator for HighDynamicRange {
    fn apply(&self, x: &Tensor) -> Tensor {
        (x * self.scale).clamp(-1.0, 1.0)
    }

    fn norm_squared(&self) -> f64 {
        self.scale * self.scale
    }
}

impl Task for HighDynamicRange {
    fn operator(&self, _: [i64; 3], _: u64, _: Device, _: Kind) -> Result<Operator, Error> {
        if !self.scale.is_finite() || self.scale <= 0.0 {
            return Err(Error::parameter("scale", "positive", self.scale));
        }
        Ok(Operator::Nonlinear(Box::new(self.clone())))
    }
}
