//! Solvers and samplers, state by state, against what the peers' own code made of the same levels, start and noise.
//!
//! `tests/parity/solvers.py` wrote the file; what was replaced in the peers, and where they differ, is told there and in
//! `tests/parity/README.md`.

use serde::Deserialize;
use tweedie::numbers::{plan::AnySampler, scheme::Scheme, sigma::Sigmas};

use crate::common::{Line, carry_out};

/// For peers that round their states or levels to f32.
const SINGLE: f64 = 1e-5;
/// For the others, which compute in f64. Twelve digits are written; and a polynomial in ln σ is had as one in the time of a
/// process that grows geometrically, which it is but for (1e-7/0.02)².
const DOUBLE: f64 = 1e-10;
/// Other methods are farther away than this.
const APART: f64 = 1e-3;

#[derive(Deserialize)]
struct ExpectedLevels {
    mixture: Vec<[f64; 3]>,
    /// In units of the largest level.
    start: Vec<f64>,
    /// By step, draw and pixel.
    noise: Vec<Vec<Vec<f64>>>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    peer: String,
    sampler: String,
    f32: bool,
    levels: Vec<f64>,
    /// After each step, of all pixels; without the last where the peer's is another.
    states: Vec<Vec<f64>>,
}

impl ExpectedLevels {
    fn read() -> Self {
        serde_json::from_str(include_str!("golden/solvers.json")).unwrap()
    }

    /// Our states, by step and pixel.
    fn ours(&self, case: &Case, scheme: &Scheme) -> Vec<Vec<f64>> {
        let images = Line { components: self.mixture.clone() };
        let score = |x: f64, sigma: f64| images.score(x, sigma);
        let pixel = |(i, start): (usize, &f64)| {
            let mut noise = |k: usize, draw: usize| self.noise[k][draw][i];
            carry_out(scheme, start * case.levels[0], &score, &mut noise)
        };
        let pixels: Vec<Vec<f64>> = self.start.iter().enumerate().map(pixel).collect();
        (0..scheme.0.len()).map(|k| pixels.iter().map(|states| states[k]).collect()).collect()
    }
}

impl Case {
    fn scheme(&self) -> Scheme {
        let sampler: AnySampler = serde_yaml::from_str(&self.sampler).unwrap();
        sampler.get().scheme(&Sigmas::new(self.levels.clone()).unwrap()).unwrap()
    }

    fn bound(&self) -> f64 {
        if self.f32 { SINGLE } else { DOUBLE }
    }

    /// The largest difference after any step, in units of the largest pixel then.
    fn error(&self, ours: &[Vec<f64>]) -> f64 {
        let largest = |values: &mut dyn Iterator<Item = f64>| values.map(f64::abs).fold(0.0, f64::max);
        let step = |(theirs, ours): (&Vec<f64>, &Vec<f64>)| {
            let apart = largest(&mut theirs.iter().zip(ours).map(|(a, b)| a - b));
            apart / largest(&mut theirs.iter().copied())
        };
        self.states.iter().zip(ours).map(step).fold(0.0, f64::max)
    }
}

#[test]
fn solvers_come_by_the_states_of_the_peers() {
    let golden = ExpectedLevels::read();
    assert_eq!(golden.mixture, Line::golden().components);
    let mut missed = Vec::new();
    for case in &golden.cases {
        let ours = golden.ours(case, &case.scheme());
        // All steps, or all but the last.
        assert!(ours.len() - case.states.len() <= 1, "{}: {} states", case.peer, case.states.len());
        assert!(ours.iter().flatten().all(|x| x.is_finite()), "{}", case.sampler);
        let error = case.error(&ours);
        println!("{error:9.1e}  {}, {}", case.peer, case.sampler);
        if error > case.bound() {
            missed.push(format!("{}, {}: {error:.1e}", case.peer, case.sampler));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

/// On these levels every method either is the peer's or is far from it: agreement is no accident.
#[test]
fn states_of_the_peers_tell_methods_apart() {
    let golden = ExpectedLevels::read();
    let mut near = Vec::new();
    for case in &golden.cases {
        for other in golden.cases.iter().filter(|other| other.levels == case.levels) {
            let error = case.error(&golden.ours(case, &other.scheme()));
            if error > case.bound() && error < APART {
                near.push(format!("{}, {}: {error:.1e}", case.peer, other.sampler));
            }
        }
    }
    assert!(near.is_empty(), "{near:#?}");
}
