//! The flow in steps of its own choice.

use super::{Solver, landing};
use crate::{
    Error,
    numbers::{
        registry::entry,
        scheme::{Adaptive, Scheme, Update},
        sigma::{Sigmas, at_least_zero, positive},
    },
};

entry! {
    name: "rk45",
    what: "the flow in steps that an error estimate chooses",
    source: "Score SDE, §4.3",
    facts: { scores: "own choice", order: "5", random: "no" },
    /// dx/d ln σ = x − D by an embedded pair of orders 5 and 4, each step as long as the tolerance allows [Dormand & Prince
    /// 1980; Score SDE, §4.3].
    ///
    /// In ln σ paths bend about as much at every level: the same tolerance costs about half the evaluations that it does in σ.
    /// The levels are where it must land; how many steps lie between two of them, each image decides for itself. So the network
    /// sees one image at a time, and the number of evaluations of an image is known only after it is drawn.
    #[derive(Copy)]
    pub struct Rk45 {
        /// The error allowed in a step, in data units.
        pub absolute: f64 = 1e-5 => "> 0" in "data units",
        /// Relative tolerance, as a share of |x|.
        pub relative: f64 = 1e-5 => "≥ 0",
    }
}

impl Solver for Rk45 {
    fn scheme(&self, sigmas: &Sigmas) -> Result<Scheme, Error> {
        let (absolute, relative) = (positive("absolute", self.absolute)?, at_least_zero("relative", self.relative)?);
        let inner = sigmas.pairs().take_while(|(_, next)| *next > 0.0);
        let inner = inner.map(|(from, to)| Update::Adaptive(Adaptive { from, to, absolute, relative }));
        Ok(Scheme(inner.chain(landing(sigmas).map(Update::SolverStep)).collect()))
    }
}

/// An embedded pair of Runge and Kutta's kind.
#[derive(Debug)]
pub struct Pair {
    /// Position of each stage in the step, and its coefficients of the slopes before it; the last is the result.
    pub stages: [(f64, &'static [f64]); 7],
    /// Coefficients of the slopes in the difference from the result of the lower order.
    pub error: [f64; 7],
}

/// Order 5 with an estimate of order 4; the last slope is the first of the next step.
pub const DORMAND_PRINCE: Pair = Pair {
    stages: [
        (0.0, &[]),
        (1.0 / 5.0, &[1.0 / 5.0]),
        (3.0 / 10.0, &[3.0 / 40.0, 9.0 / 40.0]),
        (4.0 / 5.0, &[44.0 / 45.0, -56.0 / 15.0, 32.0 / 9.0]),
        (8.0 / 9.0, &[19372.0 / 6561.0, -25360.0 / 2187.0, 64448.0 / 6561.0, -212.0 / 729.0]),
        (1.0, &[9017.0 / 3168.0, -355.0 / 33.0, 46732.0 / 5247.0, 49.0 / 176.0, -5103.0 / 18656.0]),
        (1.0, &[35.0 / 384.0, 0.0, 500.0 / 1113.0, 125.0 / 192.0, -2187.0 / 6784.0, 11.0 / 84.0]),
    ],
    error: [-71.0 / 57600.0, 0.0, 71.0 / 16695.0, -71.0 / 1920.0, 17253.0 / 339_200.0, -22.0 / 525.0, 1.0 / 40.0],
};
