//! Adams and Bashforth's classical weights.

use super::{Solver, hops, multistep, order};
use crate::{
    Error,
    numbers::{registry::entry, scheme::Scheme, sigma::Sigmas},
};

entry! {
    name: "ipndm",
    what: "Adams–Bashforth’s weights; order 1 … 4",
    source: "Zhang & Chen 2023",
    facts: { scores: "1", order: "= order", random: "no" },
    /// x ← x + (σ′ − σ) Σⱼ wⱼ εⱼ with the weights for equal steps, whatever the steps are [Zhang & Chen 2023, iPNDM].
    ///
    /// One evaluation a step; the first steps take the lower orders. Of full order only on levels in equal steps of σ.
    #[derive(Copy)]
    pub struct Ipndm {
        /// 1 to 4.
        pub order: usize = 4 => "1, 2, 3, 4",
    }
}

/// Weights of orders 1 to 4 for equal steps, the newest value first.
pub(super) const WEIGHTS: [&[f64]; 4] = [
    &[1.0],
    &[3.0 / 2.0, -1.0 / 2.0],
    &[23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0],
    &[55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0],
];

impl Solver for Ipndm {
    fn scheme(&self, sigmas: &Sigmas) -> Result<Scheme, Error> {
        let most = order(self.order, &[1, 2, 3, 4], "1, 2, 3 or 4")?;
        let mut known = 0;
        Ok(hops(sigmas, |(sigma, next)| {
            known = most.min(known + 1);
            let weights: Vec<f64> = WEIGHTS[known - 1].iter().map(|w| w * (next - sigma)).collect();
            multistep(sigma, &weights)
        }))
    }
}
