//! The flow with ε extrapolated as a polynomial.

use serde::{Deserialize, Serialize};

use super::{Solver, landing, multistep, order};
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
    what: "ε a polynomial of t, σ or ln σ; order 1 … 4",
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
        pub variable: Variable = Variable::Time => "time, sigma, log-sigma",
        /// The process whose time that is, if it is time.
        pub sde: AnySde = AnySde::Vp(Vp::default()) => "any process",
        /// Of fewer than 15 steps, the last has order 1 and the one before it at most 2, as in diffusers.
        pub lower_final: bool = false => "true, false",
        /// The step to 0 extrapolates as well, in place of ending with the denoised image; for `sigma` alone.
        pub extrapolate: bool = false => "true, false",
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
    /// ln σ: diffusers' `logrho`.
    LogSigma,
}

impl Deis {
    /// The variable at level σ.
    fn place(&self, sigma: f64) -> f64 {
        match self.variable {
            Variable::Time => self.sde.get().time(sigma),
            Variable::Sigma => sigma,
            Variable::LogSigma => sigma.ln(),
        }
    }

    /// ∫ Lⱼ dσ over a step.
    fn weight(&self, places: &[f64], j: usize, (sigma, next): (f64, f64)) -> f64 {
        if self.variable == Variable::Sigma {
            return integral(|sigma| lagrange(places, j, sigma), sigma, next);
        }
        // In u = ln σ the integrand is smooth however long the step.
        integral(|u| lagrange(places, j, self.place(u.exp())) * u.exp(), sigma.ln(), next.ln())
    }
}

impl Solver for Deis {
    fn scheme(&self, sigmas: &Sigmas) -> Result<Scheme, Error> {
        let most = order(self.order, &[1, 2, 3, 4], "1, 2, 3 or 4")?;
        if self.variable == Variable::Time {
            reaches(self.sde.get(), sigmas)?;
        }
        if self.extrapolate && self.variable != Variable::Sigma {
            return Err(Error::parameter("extrapolate", "false unless the variable is sigma", true));
        }
        let count = sigmas.iter().len();
        let few = self.lower_final && count < 15;
        let mut places: Vec<f64> = Vec::new();
        let step = |(k, pair): (usize, (f64, f64))| {
            places.insert(0, self.place(pair.0));
            places.truncate(most);
            let used = match count - 1 - k {
                0 if few => 1,
                1 if few => 2.min(places.len()),
                _ => places.len(),
            };
            let weights: Vec<f64> = (0..used).map(|j| self.weight(&places[..used], j, pair)).collect();
            multistep(pair.0, &weights)
        };
        let pairs = sigmas.pairs().enumerate().take_while(|(_, (_, next))| *next > 0.0 || self.extrapolate);
        let last = landing(sigmas).filter(|_| !self.extrapolate);
        Ok(pairs.map(step).chain(last).collect())
    }
}

/// Lⱼ(t), which is 1 at the j-th place and 0 at the others.
fn lagrange(places: &[f64], j: usize, t: f64) -> f64 {
    let others = places.iter().enumerate().filter(|(i, _)| *i != j);
    others.map(|(_, place)| (t - place) / (places[j] - place)).product()
}
