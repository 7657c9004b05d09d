//! Methods that ask for several scores a step, or remember earlier ones, as data.
//!
//! Whatever the paper, such a method adds up: the state, values that it made of scores, and fresh noise. Its coefficients
//! are numbers, known before the first network is called, so one loop carries out all of them. Three moves look at the
//! state to find theirs: Langevin steps of a given signal-to-noise ratio, steps with noise of the network's choice, and steps
//! whose length an error estimate decides.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::numbers::walk::{Step, Walk};

/// Σ of what is known at some point of a step: state · x + Σⱼ values\[j\] vⱼ + Σᵢ noise\[i\] nᵢ.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinearCombination {
    /// Coefficient of x, the state with which the step began.
    pub state: f64,
    /// Coefficients of the values, the newest first; those of earlier steps follow those of this one.
    pub values: Vec<f64>,
    /// Coefficients of the step's own standard normal draws.
    pub noise: Vec<f64>,
}

impl LinearCombination {
    /// x alone.
    pub fn state() -> Self {
        Self { state: 1.0, ..Self::default() }
    }

    /// x and values, without noise.
    pub fn new(state: f64, values: &[f64]) -> Self {
        Self { state, values: values.to_vec(), noise: Vec::new() }
    }

    /// The same combination with fresh noise.
    #[must_use]
    pub fn with_noise(self, noise: &[f64]) -> Self {
        Self { noise: noise.to_vec(), ..self }
    }
}

/// One evaluation: v = keep x̃ + gain s(x̃, σ) at x̃ = `at`.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// x̃, in the frame x + σ n.
    pub at: LinearCombination,
    /// σ, in data units.
    pub sigma: f64,
    /// Coefficient of x̃ in v.
    pub keep: f64,
    /// Coefficient of the score in v.
    pub gain: f64,
}

impl Stage {
    /// v = ε(x̃, σ) = −σ s, the noise that the network sees.
    pub fn epsilon(at: LinearCombination, sigma: f64) -> Self {
        Self { at, sigma, keep: 0.0, gain: -sigma }
    }

    /// v = D(x̃, σ) = x̃ + σ² s.
    pub fn denoised(at: LinearCombination, sigma: f64) -> Self {
        Self { at, sigma, keep: 1.0, gain: sigma * sigma }
    }
}

/// A step from one level to the next.
#[derive(Clone, Debug, PartialEq)]
pub struct SolverStep {
    /// The evaluations, in order; each may use those before it.
    pub stages: Vec<Stage>,
    /// The state after.
    pub next: LinearCombination,
}

impl SolverStep {
    /// Number of draws of noise.
    pub fn draws(&self) -> usize {
        self.stages.iter().map(|stage| &stage.at).chain([&self.next]).map(|mix| mix.noise.len()).max().unwrap_or(0)
    }

    /// x ← D(x, σ): how every method ends.
    pub fn denoise(sigma: f64) -> Self {
        Self {
            stages: vec![Stage::denoised(LinearCombination::state(), sigma)],
            next: LinearCombination::new(0.0, &[1.0]),
        }
    }
}

/// x ← x + τ s(x, σ) + √(2τ) n with τ = 2 a (r ‖n‖/‖s‖)² [Score SDE, Algorithms 4 and 5].
///
/// r is about the length of the step over that of the noise which it adds: whatever the network's scale, one r serves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Langevin {
    /// σ, in data units.
    pub sigma: f64,
    /// a.
    pub scale: f64,
    /// r.
    pub ratio: f64,
    /// Scope of ‖s‖ and ‖n‖.
    pub norms: Norms,
}

/// Scope of the lengths of score and noise.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Norms {
    /// Each image's own.
    #[default]
    Image,
    /// The means over the batch, as score_sde's code has it; an image then depends on those that it is computed with.
    Batch,
}

impl Langevin {
    /// Expected coefficients of the step, where the images are N(m, v) and x has this variance around m: in many
    /// dimensions the lengths are their expectations.
    fn expected(&self, v: f64, variance: f64) -> SolverStep {
        let total = v + self.sigma * self.sigma;
        let tau = 2.0 * self.scale * self.ratio * self.ratio * total * total / variance;
        SolverStep {
            stages: vec![],
            next: LinearCombination::new(1.0 - tau / total, &[]).with_noise(&[(2.0 * tau).sqrt()]),
        }
    }
}

/// x ← x + τ s(x, σ) + e n with ln e between ln `least` and ln `most`, where the network says, number by number [Nichol & Dhariwal
/// 2021, Eq. 15]; `least` where it says nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// σ, in data units.
    pub sigma: f64,
    /// τ, in squared data units.
    pub tau: f64,
    /// The smallest standard deviation of the noise.
    pub least: f64,
    /// The largest.
    pub most: f64,
}

impl Spread {
    /// The step with noise half way, as a network without an opinion has it.
    fn expected(&self) -> SolverStep {
        SolverStep {
            stages: vec![Stage { at: LinearCombination::state(), sigma: self.sigma, keep: 0.0, gain: self.tau }],
            next: LinearCombination::new(1.0, &[1.0]).with_noise(&[(self.least * self.most).sqrt()]),
        }
    }
}

/// The flow dx/d ln σ = x − D(x, σ) from one level to another, in steps whose estimated error stays within
/// absolute + relative · |x| in the root mean square over an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adaptive {
    /// σ to begin with.
    pub from: f64,
    /// σ to end at.
    pub to: f64,
    /// Absolute tolerance, in data units.
    pub absolute: f64,
    /// A share of |x|.
    pub relative: f64,
}

/// A step of a scheme.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// A step with coefficients known beforehand.
    SolverStep(SolverStep),
    /// A step with a length that depends on the score's.
    Langevin(Langevin),
    /// A step with noise of the network's choice.
    Spread(Spread),
    /// As many steps as the state asks for.
    Adaptive(Adaptive),
}

impl Update {
    /// The hop, if its coefficients are known beforehand.
    pub fn hop(&self) -> Option<&SolverStep> {
        if let Self::SolverStep(hop) = self { Some(hop) } else { None }
    }

    /// Expected coefficients of the move, for images N(m, v) where x has this variance around m.
    fn expected(&self, v: f64, variance: f64) -> SolverStep {
        match self {
            Self::SolverStep(hop) => hop.clone(),
            Self::Langevin(langevin) => langevin.expected(v, variance),
            Self::Spread(spread) => spread.expected(),
            // The flow is solved, up to its tolerance.
            Self::Adaptive(Adaptive { from, to, .. }) => SolverStep {
                stages: vec![],
                next: LinearCombination::new(((v + to * to) / (v + from * from)).sqrt(), &[]),
            },
        }
    }
}

/// A method laid out over all its levels.
#[derive(Clone, Debug, PartialEq)]
pub struct Scheme(pub Vec<Update>);

impl Scheme {
    /// Number of scores, apart from those of [`Adaptive`] moves.
    pub fn evaluations(&self) -> usize {
        self.asked().count()
    }

    /// The σ of all scores that it asks for, in order, apart from [`Adaptive`] moves.
    pub fn asked(&self) -> impl Iterator<Item = f64> {
        self.0.iter().flat_map(|step| match step {
            Update::SolverStep(hop) => hop.stages.iter().map(|stage| stage.sigma).collect(),
            Update::Langevin(langevin) => vec![langevin.sigma],
            Update::Spread(spread) => vec![spread.sigma],
            Update::Adaptive(_) => vec![],
        })
    }

    /// Whether the network decides how much noise a step adds.
    pub fn asks_for_spread(&self) -> bool {
        self.0.iter().any(|step| matches!(step, Update::Spread(_)))
    }

    /// Whether the state decides the number of scores.
    pub fn is_adaptive(&self) -> bool {
        self.0.iter().any(|step| matches!(step, Update::Adaptive(_)))
    }

    /// The moves that are hops.
    fn hops(&self) -> impl Iterator<Item = &SolverStep> {
        self.0.iter().filter_map(Update::hop)
    }

    /// Number of values to keep between steps.
    pub fn reach(&self) -> usize {
        let reach = |hop: &SolverStep| {
            let stages = hop.stages.iter().enumerate().map(|(i, stage)| stage.at.values.len().saturating_sub(i));
            stages.chain([hop.next.values.len().saturating_sub(hop.stages.len())]).max().unwrap_or(0)
        };
        self.hops().map(reach).max().unwrap_or(0)
    }

    /// The exact variance after each step, where the images are N(m, v) and x begins with variance `start` around m.
    ///
    /// All that a method adds up is then normal, so its covariances say everything; s(x, σ) = −(x − m)/(v + σ²). Lengths
    /// of scores are those of many dimensions, and adaptive moves are exact.
    pub fn variances(&self, v: f64, start: f64) -> Vec<f64> {
        let mut known = Covariance(vec![vec![start]]);
        self.0.iter().map(|step| known.hop(&step.expected(v, known.variance()), v, self.reach())).collect()
    }
}

impl fmt::Display for Scheme {
    /// A line for each step: the σ of its evaluations, what it keeps of x, the noise that it adds, and how many values
    /// it builds on.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = |noise: &[f64]| noise.iter().map(|n| n * n).sum::<f64>().sqrt();
        writeln!(f, "{:>6} {:>14} {:>14} {:>14} {:>8}", "k", "σ asked", "x kept", "noise added", "values")?;
        for (k, step) in self.0.iter().enumerate() {
            match step {
                Update::SolverStep(hop) => {
                    let asked: Vec<String> = hop.stages.iter().map(|stage| format!("{:.7}", stage.sigma)).collect();
                    let (kept, noise, values) = (hop.next.state, length(&hop.next.noise), hop.next.values.len());
                    writeln!(f, "{k:>6} {:>14} {kept:>14.7} {noise:>14.6e} {values:>8}", asked.join(" "))?;
                }
                Update::Langevin(Langevin { sigma, ratio, .. }) => {
                    writeln!(f, "{k:>6} {sigma:>14.7} Langevin step, signal to noise {ratio}")?;
                }
                Update::Spread(Spread { sigma, least, most, .. }) => {
                    writeln!(f, "{k:>6} {sigma:>14.7} noise of the network's choice, {least:.6e} to {most:.6e}")?;
                }
                Update::Adaptive(Adaptive { from, to, .. }) => {
                    writeln!(f, "{k:>6} {from:>14.7} in steps of its own choice to {to:.7}")?;
                }
            }
        }
        Ok(())
    }
}

/// Covariances of the state, then of the values, newest first.
struct Covariance(Vec<Vec<f64>>);

impl Covariance {
    /// Variance of the state.
    fn variance(&self) -> f64 {
        self.0[0][0]
    }

    /// Carries out one step and gives the variance of the state after it.
    fn hop(&mut self, hop: &SolverStep, v: f64, reach: usize) -> f64 {
        let draws = hop.draws();
        // Order of the entries in this step: the state, the draws, then the values.
        self.insert_noise(draws);
        for stage in &hop.stages {
            let scale = stage.keep - stage.gain / (v + stage.sigma * stage.sigma);
            let row: Vec<f64> = self.row(&stage.at, draws).iter().map(|x| x * scale).collect();
            self.insert(1 + draws, &row);
        }
        let next = self.row(&hop.next, draws);
        self.insert(0, &next);
        // The old state and the draws have served.
        self.keep(|i| i == 0 || (i > 1 + draws && i < 2 + draws + reach));
        self.variance()
    }

    /// The coefficients of a mix over all that is known.
    fn row(&self, mix: &LinearCombination, draws: usize) -> Vec<f64> {
        let mut row = vec![0.0; self.0.len()];
        row[0] = mix.state;
        row[1..].iter_mut().zip(&mix.noise).for_each(|(to, from)| *to = *from);
        row[1 + draws..].iter_mut().zip(&mix.values).for_each(|(to, from)| *to = *from);
        row
    }

    /// A new variable, Σ row · known, at a place.
    fn insert(&mut self, place: usize, row: &[f64]) {
        let with: Vec<f64> = self.0.iter().map(|known| known.iter().zip(row).map(|(c, r)| c * r).sum()).collect();
        let own = with.iter().zip(row).map(|(c, r)| c * r).sum();
        for (known, c) in self.0.iter_mut().zip(&with) {
            known.insert(place, *c);
        }
        let mut line = with;
        line.insert(place, own);
        self.0.insert(place, line);
    }

    fn insert_noise(&mut self, draws: usize) {
        for i in 1..=draws {
            let nothing = vec![0.0; self.0.len()];
            self.insert(i, &nothing);
            self.0[i][i] = 1.0;
        }
    }

    fn keep(&mut self, wanted: impl Fn(usize) -> bool) {
        let chosen = |row: Vec<f64>| row.into_iter().enumerate().filter(|(i, _)| wanted(*i)).map(|(_, c)| c).collect();
        let rows = std::mem::take(&mut self.0).into_iter().enumerate().filter(|(i, _)| wanted(*i));
        self.0 = rows.map(|(_, row)| chosen(row)).collect();
    }
}

impl FromIterator<SolverStep> for Scheme {
    fn from_iter<I: IntoIterator<Item = SolverStep>>(hops: I) -> Self {
        Self(hops.into_iter().map(Update::SolverStep).collect())
    }
}

impl From<&Walk> for Scheme {
    /// A row asks once a step: x + τ s + √(2τT) n.
    fn from(walk: &Walk) -> Self {
        let hop = |step: &Step| SolverStep {
            stages: vec![Stage { at: LinearCombination::state(), sigma: step.sigma, keep: 0.0, gain: step.tau }],
            next: LinearCombination {
                noise: [step.noise()].into_iter().filter(|n| *n > 0.0).collect(),
                ..LinearCombination::new(1.0, &[1.0])
            },
        };
        walk.0.iter().map(hop).collect()
    }
}

impl From<&Scheme> for Scheme {
    fn from(scheme: &Scheme) -> Self {
        scheme.clone()
    }
}
