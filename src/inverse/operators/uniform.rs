//! Uniform blur.

use tch::{Device, Kind};

use super::{
    Boundary, Operator, Separable, Task,
    blur::{reach, shrink},
};
use crate::{Error, numbers::registry::entry};

entry! {
    name: "deblur-uniform",
    what: "the mean of size × size pixels",
    source: "DDRM",
    facts: { map: "linear, svd", random: "no" },
    /// The mean of the k × k pixels around each [DDRM, §5.1].
    pub struct DeblurUniform {
        /// k in pixels, odd; if left out 9 for 256 pixels, as in the paper, shrinking with the square root of the shorter
        /// side: 3 for 32 pixels.
        pub size: Option<i64> = None => "odd" in "pixels" or "9 for 256 pixels, less for fewer",
        /// Continuation of the image beyond its border.
        pub boundary: Boundary = Boundary::Reflect => "reflect, zero, circular",
    }
}

impl Task for DeblurUniform {
    fn operator(&self, shape: [i64; 3], _: u64, device: Device, kind: Kind) -> Result<Operator, Error> {
        let size = 2 * reach(self.size, 4.0 * shrink(shape), shape)? + 1;
        let taps = vec![1.0 / size as f64; size as usize];
        Separable::blur([&taps, &taps], shape, self.boundary, device, kind)
    }
}
