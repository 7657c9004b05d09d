//! Methods that ask for several scores a step, or remember earlier ones, as data.
//!
//! Whatever the paper, such a method only ever adds up: the state, values that it made of scores, and fresh noise. Its
//! coefficients are numbers, known before the first network is called, so one loop carries out all of them.

use std::fmt;

use crate::walk::{Step, Walk};

/// Σ of what is known at some point of a step: state · x + Σⱼ values\[j\] vⱼ + Σᵢ noise\[i\] nᵢ.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mix {
    /// Of x, the state with which the step began.
    pub state: f64,
    /// Of the values, the newest first; those of earlier steps follow those of this one.
    pub values: Vec<f64>,
    /// Of the step's own standard normal draws.
    pub noise: Vec<f64>,
}

impl Mix {
    /// x alone.
    pub fn state() -> Self {
        Self { state: 1.0, ..Self::default() }
    }

    /// x and values, without noise.
    pub fn of(state: f64, values: &[f64]) -> Self {
        Self { state, values: values.to_vec(), noise: Vec::new() }
    }

    /// The same with fresh noise.
    #[must_use]
    pub fn with_noise(self, noise: &[f64]) -> Self {
        Self { noise: noise.to_vec(), ..self }
    }
}

/// One evaluation: v = keep x̃ + gain s(x̃, σ) at x̃ = `at`.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// x̃, in the frame x + σ n.
    pub at: Mix,
    /// σ, in data units.
    pub sigma: f64,
    /// What v has of x̃ itself.
    pub keep: f64,
    /// What it has of the score.
    pub gain: f64,
}

impl Stage {
    /// v = ε(x̃, σ) = −σ s, the noise that the network sees.
    pub fn epsilon(at: Mix, sigma: f64) -> Self {
        Self { at, sigma, keep: 0.0, gain: -sigma }
    }

    /// v = D(x̃, σ) = x̃ + σ² s.
    pub fn denoised(at: Mix, sigma: f64) -> Self {
        Self { at, sigma, keep: 1.0, gain: sigma * sigma }
    }
}

/// From one level to the next.
#[derive(Clone, Debug, PartialEq)]
pub struct Hop {
    /// The evaluations, in order; each may use those before it.
    pub stages: Vec<Stage>,
    /// The state after.
    pub next: Mix,
}

impl Hop {
    /// How many draws of noise it takes.
    pub fn draws(&self) -> usize {
        self.stages.iter().map(|stage| &stage.at).chain([&self.next]).map(|mix| mix.noise.len()).max().unwrap_or(0)
    }

    /// x ← D(x, σ): how every method ends.
    pub fn denoise(sigma: f64) -> Self {
        Self { stages: vec![Stage::denoised(Mix::state(), sigma)], next: Mix::of(0.0, &[1.0]) }
    }
}

/// A method laid out over all its levels.
#[derive(Clone, Debug, PartialEq)]
pub struct Scheme(pub Vec<Hop>);

impl Scheme {
    /// How many scores it asks for.
    pub fn evaluations(&self) -> usize {
        self.0.iter().map(|hop| hop.stages.len()).sum()
    }

    /// How many values must be kept between steps.
    pub fn reach(&self) -> usize {
        let of = |hop: &Hop| {
            let stages = hop.stages.iter().enumerate().map(|(i, stage)| stage.at.values.len().saturating_sub(i));
            stages.chain([hop.next.values.len().saturating_sub(hop.stages.len())]).max().unwrap_or(0)
        };
        self.0.iter().map(of).max().unwrap_or(0)
    }

    /// The exact variance after each step, where the images are N(m, v) and x begins with variance `start` around m.
    ///
    /// All that a method adds up is then normal, so its covariances say everything; s(x, σ) = −(x − m)/(v + σ²).
    pub fn variances(&self, v: f64, start: f64) -> Vec<f64> {
        let mut known = Covariance(vec![vec![start]]);
        self.0.iter().map(|hop| known.hop(hop, v, self.reach())).collect()
    }
}

impl fmt::Display for Scheme {
    /// A line for each step: the σ of its evaluations, what it keeps of x, the noise that it adds, and how many values
    /// it builds on.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = |noise: &[f64]| noise.iter().map(|n| n * n).sum::<f64>().sqrt();
        writeln!(f, "{:>6} {:>14} {:>14} {:>14} {:>8}", "k", "σ asked", "x kept", "noise added", "values")?;
        for (k, hop) in self.0.iter().enumerate() {
            let asked: Vec<String> = hop.stages.iter().map(|stage| format!("{:.7}", stage.sigma)).collect();
            let (kept, noise, values) = (hop.next.state, length(&hop.next.noise), hop.next.values.len());
            writeln!(f, "{k:>6} {:>14} {kept:>14.7} {noise:>14.6e} {values:>8}", asked.join(" "))?;
        }
        Ok(())
    }
}

/// Of the state, then of the values, newest first.
struct Covariance(Vec<Vec<f64>>);

impl Covariance {
    /// Carries out one step and gives the variance of the state after it.
    fn hop(&mut self, hop: &Hop, v: f64, reach: usize) -> f64 {
        let draws = hop.draws();
        // In this step: the state, the draws, then the values.
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
        self.0[0][0]
    }

    /// The coefficients of a mix over all that is known.
    fn row(&self, mix: &Mix, draws: usize) -> Vec<f64> {
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

impl From<&Walk> for Scheme {
    /// A row asks once a step: x + τ s + √(2τT) n.
    fn from(walk: &Walk) -> Self {
        let hop = |step: &Step| Hop {
            stages: vec![Stage { at: Mix::state(), sigma: step.sigma, keep: 0.0, gain: step.tau }],
            next: Mix { noise: [step.noise()].into_iter().filter(|n| *n > 0.0).collect(), ..Mix::of(1.0, &[1.0]) },
        };
        Self(walk.0.iter().map(hop).collect())
    }
}

impl From<&Scheme> for Scheme {
    fn from(scheme: &Scheme) -> Self {
        scheme.clone()
    }
}
