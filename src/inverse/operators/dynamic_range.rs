//! High dynamic range: what is too bright or too dark is cut off.

use tch::{Device, Kind, Tensor};

use super::{NonlinearOperator, Operator, Task};
use crate::{Error, numbers::registry::entry};

entry! {
    name: "high-dynamic-range",
    what: "c x held within −1 … 1",
    source: "DAPS",
    facts: { map: "nonlinear", random: "no" },
    aliases: ["hdr"],
    /// A(x) = c x, held within −1 … 1 [DAPS, §4.1]; ‖∂A/∂x‖ ≤ c.
    pub struct HighDynamicRange {
        /// c.
        pub scale: f64 = 2.0 => "> 0",
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
