//! The flow with ε extrapolated as a polynomial.

use serde::{Deserialize, Serialize};

use super::{Solver, hops, multistep, order};
use crate::{
    Error,
    numbers::{
        quadrature::integral,
        registry::entry,
        scheme::Scheme,
        sde::{AnySde, Vp, reaches},
        sigma::Sigmas,
    },
};

entry! {
    name: "deis",
    what: "ε a polynomial of t or σ; order 1 … 4",
    source: "Zhang & Chen 2023",
    facts: { scores: "1", order: "= order", random: "no" },
    /// x ← x + Σⱼ εⱼ ∫ Lⱼ dσ over σ … σ′, with Lⱼ the Lagrange polynomials through the last levels [Zhang & Chen 2023, DEIS].
    ///
    /// One evaluation a step; the first steps take the lower orders. Order 2 in σ is Adams and Bashforth's method for unequal
    /// steps of σ.
    pub struct Deis {
        /// 1 to 4; 1 is DDIM.
        pub order: usize = 3 => "1, 2, 3, 4",
        /// Variable in which ε is a polynomial.
        pub variable: Variable = Variable::Time => "time, sigma",
        /// The process whose time that is, if it is time.
        pub sde: AnySde = AnySde::Vp(Vp::default()) => "any process",
    }
}

/// See [`Deis`].
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variable {
    /// t: tAB of the paper.
    #[default]
    Time,
    /// σ: ρAB of the paper.
    Sigma,
}

impl Solver for Deis {
    fn scheme(&self, sigmas: &Sigmas) -> Result<Scheme, Error> {
        let most = order(self.order, &[1, 2, 3, 4], "1, 2, 3 or 4")?;
        let sde = self.sde.get();
        let place = |sigma: f64| match self.variable {
            Variable::Time => sde.time(sigma),
            Variable::Sigma => sigma,
        };
        if self.variable == Variable::Time {
            reaches(sde, sigmas)?;
        }
        let mut places: Vec<f64> = Vec::new();
        Ok(hops(sigmas, |(sigma, next)| {
            places.insert(0, place(sigma));
            places.truncate(most);
            // In u = ln σ the integrand is smooth however long the step.
            let weight = |j: usize| {
                let basis = |u: f64| lagrange(&places, j, place(u.exp())) * u.exp();
                integral(basis, sigma.ln(), next.ln())
            };
            let weights: Vec<f64> = (0..places.len()).map(weight).collect();
            multistep(sigma, &weights)
        }))
    }
}

/// Lⱼ(t), which is 1 at the j-th place and 0 at the others.
fn lagrange(places: &[f64], j: usize, t: f64) -> f64 {
    let others = places.iter().enumerate().filter(|(i, _)| *i != j);
    others.map(|(_, place)| (t - place) / (places[j] - place)).product()
}
