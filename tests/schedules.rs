//! Noise levels: golden values, exact ends, and what is refused.

use std::f64::consts::FRAC_PI_2;

use crate::common::{ranges, relative};
use proptest::{num::f64::ANY, prelude::*};
use tweedie::numbers::{
    plan::{AnySampler, Plan},
    precondition::{AnyPrecondition, DdpmConfig, Labels, Prediction},
    samplers::Ddim,
    schedule::{
        AnySchedule, BetaQuantiles, Betas, Chain, Cosine, Ending, Falling, Geometric, Karras, Law, Linear, LinearBeta,
        List, ScaledLinear, Schedule, Sigmoid, SigmoidBeta, Spacing, Subsequence, Within, ZeroSnr,
    },
    sigma::{Sigmas, Times, alpha_bar, from_alpha_bar, from_snr, snr},
};

/// Golden values were printed with 16 digits by an independent float64 program; relative.
const GOLDEN: f64 = 1e-9;
/// The trained range of DDPM's chain.
const DDPM: (f64, f64) = (0.010000500037502575, 157.40728081040757);
/// The range of the NCSN++ of Score SDE on faces.
const NCSNPP: (f64, f64) = (0.01, 348.0);

fn ddpm_times() -> Times {
    LinearBeta::default().times().unwrap()
}

/// The sigmoid schedule of the random-walk paper.
fn sigmoid() -> Sigmoid {
    Sigmoid { start: 0.0, end: 3.0, tau: 0.3, max: None, min: None }
}

fn karras(rho: f64) -> Karras {
    Karras { rho, max: None, min: None }
}

fn cosine(times: usize) -> Cosine {
    Cosine { offset: 0.008, cap: 0.999, times }
}

fn all(schedule: &dyn Schedule, levels: usize, range: (f64, f64)) -> Vec<f64> {
    schedule.sigmas(levels, range).unwrap().iter().collect()
}

fn assert_all_close(got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len());
    for (k, (got, want)) in got.iter().zip(want).enumerate() {
        assert!(relative(*got, *want) <= tolerance, "level {k}: {got} is not {want}");
    }
}

fn message<T: std::fmt::Debug>(result: Result<T, tweedie::Error>) -> String {
    result.unwrap_err().to_string()
}

// ---- golden values ----

#[test]
fn ddpms_chain_has_the_published_levels() {
    let golden = [
        (0, 0.010000500037502575),
        (1, 0.014830923708982587),
        (2, 0.018969619362885777),
        (10, 0.04688549021144125),
        (100, 0.3422596990130316),
        (500, 3.4429671125258228),
        (998, 155.82519376238224),
        (999, 157.40728081040757),
    ];
    let times = ddpm_times();
    for (t, sigma) in golden {
        assert!(relative(times.sigma(f64::from(t)), sigma) <= GOLDEN, "t = {t}");
        assert!(relative(times.levels()[t as usize], sigma) <= GOLDEN, "t = {t}");
    }
    assert!(relative(alpha_bar(times.sigma(999.0)), 4.035829765375676e-05) <= GOLDEN);
}

#[test]
fn a_thousand_levels_of_ddpms_chain_are_its_own_to_the_bit() {
    let times = ddpm_times();
    let mut own = times.levels().to_vec();
    own.reverse();
    assert_eq!(all(&LinearBeta::default(), 1000, NCSNPP), own);
}

#[test]
fn fewer_levels_of_a_chain_lie_at_fractional_times_in_equal_steps() {
    let times = ddpm_times();
    for (k, sigma) in all(&LinearBeta::default(), 50, NCSNPP).into_iter().enumerate() {
        let t = 999.0 * (49 - k) as f64 / 49.0;
        assert!((times.time(sigma) - t).abs() < 1e-9, "k = {k}");
    }
}

#[test]
fn the_sigmoid_schedule_has_its_golden_levels() {
    let golden =
        [157.40728081040757, 23.877619025206645, 2.1027725787006446, 0.16973570931322784, 0.010000657434782885];
    assert_all_close(&all(&sigmoid(), 5, DDPM), &golden, GOLDEN);
}

/// The released code moves each level to the nearest of a million grid points, here by 3.4e-6 at k = 50. The published
/// digits are those of the level before it is moved, so half a unit of the last of them is the tolerance.
#[test]
fn a_hundred_sigmoid_levels_fall_where_the_paper_has_them() {
    let levels = all(&sigmoid(), 100, DDPM);
    assert_eq!(levels.iter().filter(|sigma| **sigma < 1.0).count(), 43);
    assert_eq!(levels.iter().filter(|sigma| **sigma < 0.1).count(), 20);
    assert!((levels[50] - 1.999658).abs() <= 0.5e-6, "{}", levels[50]);
    assert!((ddpm_times().time(levels[50]) - 395.918).abs() <= 0.5e-3);
}

#[test]
fn no_level_is_further_from_the_released_grid_than_published() {
    let times = ddpm_times();
    let points = 999_999.0;
    for sigma in all(&sigmoid(), 100, DDPM) {
        let snapped = times.sigma((times.time(sigma) / 999.0 * points).round() / points * 999.0);
        assert!((snapped - sigma).abs() <= 7e-4 && relative(snapped, sigma) <= 2.1e-4, "{sigma} {snapped}");
    }
}

/// The times that the lines of DDIM's and of improved-diffusion's programs pick, in Python.
#[test]
fn subsequences_are_the_times_that_released_programs_pick() {
    let times = |spacing, levels| {
        let schedule = Subsequence { spacing, ..Subsequence::default() };
        let sigmas: Vec<f64> = schedule.sigmas(levels, DDPM).unwrap().iter().collect();
        let chain = ddpm_times();
        sigmas.iter().rev().map(|sigma| chain.levels().iter().position(|level| level == sigma).unwrap()).collect()
    };
    let uniform: Vec<usize> = times(Spacing::Uniform, 10);
    assert_eq!(uniform, [0, 100, 200, 300, 400, 500, 600, 700, 800, 900]);
    let quadratic: Vec<usize> = times(Spacing::Quadratic, 10);
    assert_eq!(quadratic, [0, 9, 39, 88, 158, 246, 355, 483, 632, 800]);
    let doubled: Vec<usize> = times(Spacing::Quadratic, 50);
    assert_eq!((doubled.len(), &doubled[..5]), (49, &[0, 1, 2, 5, 8][..]), "two of the fifty times are 0");
    let respaced: Vec<usize> = times(Spacing::Respaced, 6);
    assert_eq!(respaced, [0, 200, 400, 599, 799, 999]);
    let more: Vec<usize> = times(Spacing::Uniform, 300);
    assert_eq!(more.len(), 334, "⌊1000/300⌋ = 3, as the program counts");
    let schedule = Subsequence::default();
    assert!(schedule.sigmas(1001, DDPM).is_err() && schedule.sigmas(0, DDPM).is_err());
}

#[test]
fn the_geometric_schedule_has_its_golden_levels() {
    let golden = [348.0, 25.47912051258798, 1.8654758106177627, 0.13658242239094173, 0.01];
    assert_all_close(&all(&Geometric::default(), 5, NCSNPP), &golden, GOLDEN);
    let ratio = all(&Geometric::default(), 1000, NCSNPP)[1] / 348.0;
    // Printed as 0.020718.
    assert!((1.0 - ratio * ratio - 0.020718).abs() <= 0.5e-6);
}

#[test]
fn the_linear_schedule_takes_equal_steps() {
    assert_all_close(&all(&Linear::default(), 5, (1.0, 9.0)), &[9.0, 7.0, 5.0, 3.0, 1.0], 1e-15);
}

#[test]
fn ends_that_are_written_out_go_before_the_models() {
    let (max, min) = (Some(50.0), Some(0.5));
    for schedule in [
        &Geometric { max, min } as &dyn Schedule,
        &Linear { max, min },
        &Karras { rho: 7.0, max, min },
        &Sigmoid { max, min, ..sigmoid() },
    ] {
        let sigmas = schedule.sigmas(10, NCSNPP).unwrap();
        assert_eq!(sigmas.max(), 50.0);
        // The sigmoid ends 10⁻⁹ of the range above min.
        assert!((sigmas.min() - 0.5).abs() < 1.0001e-9 * 49.5);
    }
}

/// [EDM, Eq. 5] for i = 0 … N − 1. Its bracket is written as a mean of both ends: as printed, high + u (low − high), it
/// loses up to high/low roundings at the small levels.
#[test]
fn karras_levels_follow_their_closed_form() {
    for rho in [0.5, 1.0, 3.0, 7.0, 20.0] {
        let (low, high) = (0.002f64.powf(1.0 / rho), 80f64.powf(1.0 / rho));
        let level = |i: i32| {
            let u = f64::from(i) / 39.0;
            ((1.0 - u) * high + u * low).powf(rho)
        };
        assert_all_close(&all(&karras(rho), 40, (0.002, 80.0)), &(0..40).map(level).collect::<Vec<_>>(), 1e-12);
    }
}

#[test]
fn karras_levels_are_linear_for_rho_one_and_geometric_for_large_rho() {
    assert_all_close(&all(&karras(1.0), 100, DDPM), &all(&Linear::default(), 100, DDPM), 1e-12);
    // The difference falls as ln²(max/min)/8ρ, here 12/ρ; the printed form would have lost nine digits instead.
    assert_all_close(&all(&karras(1e9), 100, DDPM), &all(&Geometric::default(), 100, DDPM), 2e-8);
}

// ---- chains of β ----

/// βₜ and σₜ as the papers write them: ᾱₜ is a running product, σₜ = √((1 − ᾱₜ)/ᾱₜ).
///
/// 1 − ᾱₜ is known to 10⁻¹⁶ only, so relative to σ² ≥ 10⁻⁵ the printed form errs by up to 10⁻¹¹.
fn assert_is_the_chain_of(betas: &[f64], chain: &dyn Chain) {
    assert_all_close(&chain.betas().unwrap(), betas, 1e-9);
    let mut product = 1.0;
    let sigma = |beta: &f64| {
        product *= 1.0 - beta;
        ((1.0 - product) / product).sqrt()
    };
    let levels: Vec<f64> = betas.iter().map(sigma).collect();
    assert_all_close(chain.times().unwrap().levels(), &levels, 1e-9);
    assert!(levels.windows(2).all(|pair| pair[0] < pair[1]));
}

#[test]
fn linear_betas_are_ddpms() {
    let betas: Vec<f64> =
        (0..1000).map(|t| 1e-4 * (1.0 - f64::from(t) / 999.0) + 0.02 * f64::from(t) / 999.0).collect();
    assert_is_the_chain_of(&betas, &LinearBeta::default());
}

/// torch.linspace(√0.00085, √0.012, 1000)², as latent diffusion has it.
#[test]
fn scaled_linear_betas_are_squares_of_a_line() {
    let line = |t: i32| 0.00085f64.sqrt() + f64::from(t) * (0.012f64.sqrt() - 0.00085f64.sqrt()) / 999.0;
    let betas: Vec<f64> = (0..1000).map(|t| line(t) * line(t)).collect();
    assert_is_the_chain_of(&betas, &ScaledLinear { first: 0.00085, last: 0.012, times: 1000 });
}

/// [Nichol & Dhariwal 2021, Eq. 17]. Divided as integers, t/N would be 0 and all β but the last 0.
/// Golden values of an independent float64 program.
#[test]
fn sigmoid_betas_follow_the_logistic_curve() {
    let chain = SigmoidBeta { first: 1e-4, last: 0.02, times: 1000 };
    let (betas, times) = (chain.betas().unwrap(), chain.times().unwrap());
    for (t, beta, sigma) in [
        (0, 0.00014920520081703202, 0.01221586944638621),
        (499, 0.010020120209938985, 1.5205309519735037),
        (999, 0.01995079479918297, 158.74336866656455),
    ] {
        assert!(relative(betas[t], beta) < GOLDEN, "β of {t}: {}", betas[t]);
        assert!(relative(times.sigma(t as f64), sigma) < GOLDEN, "σ of {t}: {}", times.sigma(t as f64));
    }
}

#[test]
fn a_chain_that_is_written_out_is_itself() {
    let chain = LinearBeta::default();
    let written = Betas { betas: chain.betas().unwrap() };
    assert_eq!(written.times().unwrap(), chain.times().unwrap());
    assert!(message(Betas { betas: vec![0.1, 1.5] }.times()).contains("beta must be larger than 0 and smaller than 1"));
    assert!(message(Betas { betas: vec![] }.times()).contains("the number of betas must be at least 1"));
}

#[test]
fn cosine_betas_are_those_of_improved_ddpm() {
    let f = |t: f64| ((t / 1000.0 + 0.008) / 1.008 * FRAC_PI_2).cos().powi(2);
    let alpha_bar = |t: i32| f(f64::from(t)) / f(0.0);
    let betas: Vec<f64> = (1..=1000).map(|t| f64::min(1.0 - alpha_bar(t) / alpha_bar(t - 1), 0.999)).collect();
    assert_is_the_chain_of(&betas, &cosine(1000));
    // Far from the capped end the product telescopes: ᾱₜ itself is the printed formula.
    let times = cosine(1000).times().unwrap();
    for t in [0, 1, 10, 500, 900] {
        assert!(relative(alpha_bar_at(&times, t), alpha_bar(t + 1)) < 1e-10, "t = {t}");
    }
}

fn alpha_bar_at(times: &Times, t: i32) -> f64 {
    alpha_bar(times.sigma(f64::from(t)))
}

// ---- σ, t, ᾱ and SNR ----

#[test]
fn levels_between_the_trained_ones_have_the_published_times() {
    let times = ddpm_times();
    let published = [
        (50.0, 878.214),
        (10.0, 673.665),
        (1.0, 258.093),
        (0.5, 144.153),
        (0.2, 57.381),
        (0.1, 26.406),
        (0.05, 10.945),
        (0.02, 2.269),
    ];
    for (sigma, t) in published {
        assert!((times.time(sigma) - t).abs() <= 0.5e-3, "σ = {sigma}: {}", times.time(sigma));
    }
}

#[test]
fn times_are_held_within_the_chain() {
    let times = ddpm_times();
    let (min, max) = times.range();
    assert_eq!((times.time(min / 2.0), times.time(min), times.time(max), times.time(1e9)), (0.0, 0.0, 999.0, 999.0));
    assert_eq!((times.sigma(-1.0), times.sigma(0.0), times.sigma(999.0), times.sigma(1e9)), (min, min, max, max));
}

proptest! {
    /// Absolute, in units of one time step.
    #[test]
    fn a_fractional_time_is_its_levels_time(t in 0.0f64..999.0) {
        let times = ddpm_times();
        prop_assert!((times.time(times.sigma(t)) - t).abs() < 1e-9);
    }

    #[test]
    fn a_level_has_its_times_level(sigma in DDPM.0..DDPM.1) {
        let times = ddpm_times();
        prop_assert!(relative(times.sigma(times.time(sigma)), sigma) < 1e-12);
    }

    /// 1 − ᾱ keeps 10⁻¹⁶ of 1, that is 10⁻¹⁶/σ² of itself: 10⁻⁸ at σ = 10⁻⁴, of which the root takes half.
    #[test]
    fn sigma_alpha_bar_and_snr_are_names_of_one_number(exponent in -4.0f64..3.0) {
        let sigma = 10f64.powf(exponent);
        prop_assert!(relative(from_alpha_bar(alpha_bar(sigma)), sigma) < 1e-8);
        prop_assert!(relative(from_snr(snr(sigma)), sigma) < 1e-15);
        prop_assert!(relative(alpha_bar(sigma) / (1.0 - alpha_bar(sigma)), snr(sigma)) < 2e-8);
    }
}

// ---- every schedule, any parameters ----

/// Strictly decreasing from the largest to the smallest level, both to the bit.
fn check(schedule: &dyn Schedule, levels: usize, range: (f64, f64), last: f64) -> Result<(), TestCaseError> {
    let sigmas = schedule.sigmas(levels, range).map_err(|error| TestCaseError::fail(error.to_string()))?;
    let all: Vec<f64> = sigmas.iter().collect();
    prop_assert_eq!(all.len(), levels);
    prop_assert!(all.windows(2).all(|pair| pair[0] > pair[1]) && all[levels - 1] > 0.0);
    prop_assert_eq!(sigmas.max(), range.1);
    if levels > 1 {
        prop_assert_eq!(sigmas.min(), last);
    }
    Ok(())
}

proptest! {
    #[test]
    fn geometric_levels_fall_between_exact_ends(levels in 1usize..300, range in ranges()) {
        check(&Geometric::default(), levels, range, range.0)?;
    }

    #[test]
    fn linear_levels_fall_between_exact_ends(levels in 1usize..300, range in ranges()) {
        check(&Linear::default(), levels, range, range.0)?;
    }

    #[test]
    fn karras_levels_fall_between_exact_ends(levels in 1usize..300, range in ranges(), rho in 0.2f64..100.0) {
        check(&karras(rho), levels, range, range.0)?;
    }

    /// Either way round; beyond |end/τ| ≈ 20 the curve is flat to 10⁻⁹ and refused (see below).
    #[test]
    fn sigmoid_levels_fall_between_exact_ends(
        levels in 1usize..200, range in ranges(), back: bool,
        start in -3.0f64..2.0, length in 0.2f64..3.0, tau in 0.5f64..2.0,
    ) {
        let (start, end) = if back { (start + length, start) } else { (start, start + length) };
        let last = 1e-9 * range.1 + (1.0 - 1e-9) * range.0;
        check(&Sigmoid { start, end, tau, ..sigmoid() }, levels, range, last)?;
    }

    #[test]
    fn chains_fall_from_their_last_time_to_their_first(
        levels in 1usize..300, times in 2usize..1000, first in 1e-5f64..0.02, last in 1e-5f64..0.05,
    ) {
        let chains: [(&dyn Schedule, Times); 3] = [
            (&LinearBeta { first, last, times }, LinearBeta { first, last, times }.times().unwrap()),
            (&ScaledLinear { first, last, times }, ScaledLinear { first, last, times }.times().unwrap()),
            (&cosine(times), cosine(times).times().unwrap()),
        ];
        for (schedule, times) in chains {
            check(schedule, levels, times.range(), times.range().0)?;
        }
    }

    #[test]
    fn a_list_is_taken_as_it_is(sigmas in crate::common::levels()) {
        let list = List { sigmas: sigmas.iter().collect() };
        prop_assert_eq!(list.sigmas(list.sigmas.len(), DDPM).unwrap(), sigmas);
    }

    /// Whatever the parameters, a schedule gives valid levels or an error; it never panics.
    #[test]
    fn wild_parameters_are_errors_and_not_panics(
        levels in 0usize..20, times in 0usize..20, a in ANY, b in ANY, c in ANY, range in (ANY, ANY),
    ) {
        let schedules: [&dyn Schedule; 9] = [
            &Geometric { max: Some(a), min: Some(b) },
            &Linear { max: Some(a), min: Some(b) },
            &karras(a),
            &Karras { rho: a, max: Some(b), min: Some(c) },
            &Sigmoid { start: a, end: b, tau: c, max: None, min: None },
            &List { sigmas: vec![a, b, c] },
            &LinearBeta { first: a, last: b, times },
            &ScaledLinear { first: a, last: b, times },
            &Cosine { offset: a, cap: b, times },
        ];
        for schedule in schedules {
            if let Ok(sigmas) = schedule.sigmas(levels, range) {
                prop_assert_eq!(sigmas.iter().len(), levels);
                prop_assert!(sigmas.iter().all(|sigma| sigma.is_finite() && sigma > 0.0));
            }
        }
    }
}

#[test]
fn one_level_is_the_largest_and_two_are_the_ends() {
    let (min, max) = DDPM;
    for schedule in [&Geometric::default() as &dyn Schedule, &Linear::default(), &karras(7.0)] {
        assert_eq!((all(schedule, 1, DDPM), all(schedule, 2, DDPM)), (vec![max], vec![max, min]));
    }
    let (low, high) = ddpm_times().range();
    let chain = LinearBeta::default();
    assert_eq!((all(&chain, 1, NCSNPP), all(&chain, 2, NCSNPP)), (vec![high], vec![high, low]));
    assert_eq!(all(&sigmoid(), 1, DDPM), [max]);
    assert_all_close(&all(&sigmoid(), 2, DDPM), &[max, 0.010000657434782885], GOLDEN);
}

// ---- what is refused, and how ----

#[test]
fn levels_out_of_order_are_refused_by_position_and_value() {
    let rule = "noise levels must be finite, positive and strictly decreasing, but level";
    let cases = [
        (vec![1.0, 2.0, 3.0], "1 is 2"),
        (vec![1.0, 1.0], "1 is 1"),
        (vec![2.0, 1.0, 0.0], "2 is 0"),
        (vec![2.0, 1.0, -0.5], "2 is -0.5"),
        (vec![1.0, f64::NAN], "1 is NaN"),
        (vec![f64::NAN], "0 is NaN"),
        (vec![f64::INFINITY, 1.0], "0 is inf"),
        (vec![-1.0], "0 is -1"),
    ];
    for (levels, slip) in cases {
        assert_eq!(message(Sigmas::new(levels.clone())), format!("{rule} {slip}"));
        let list = List { sigmas: levels };
        assert_eq!(message(list.sigmas(list.sigmas.len(), DDPM)), format!("{rule} {slip}"));
    }
}

#[test]
fn no_level_at_all_is_refused() {
    let none = "the number of noise levels must be at least 1, but is 0";
    assert_eq!(message(Sigmas::new(vec![])), none);
    let schedules: [&dyn Schedule; 8] = [
        &Geometric::default(),
        &Linear::default(),
        &karras(7.0),
        &sigmoid(),
        &List { sigmas: vec![] },
        &LinearBeta::default(),
        &ScaledLinear { first: 0.001, last: 0.01, times: 10 },
        &cosine(10),
    ];
    for schedule in schedules {
        assert_eq!(message(schedule.sigmas(0, DDPM)), none);
    }
}

#[test]
fn a_plan_refuses_too_few_and_too_many_steps() {
    let plan = |steps| Plan {
        schedule: AnySchedule::Geometric(Geometric::default()),
        steps,
        sampler: tweedie::numbers::plan::AnySampler::Ddim(Ddim::default()),
    };
    assert_eq!(message(plan(0).resolve(DDPM, f64::INFINITY)), "steps must be at least 1, but is 0");
    assert_eq!(
        message(plan(10_000_001).resolve(DDPM, f64::INFINITY)),
        "steps must be at most 10000000, but is 10000001"
    );
    assert_eq!(
        message(plan(usize::MAX).resolve(DDPM, f64::INFINITY)),
        format!("steps must be at most 10000000, but is {}", usize::MAX)
    );
    assert_eq!(plan(3).resolve(DDPM, f64::INFINITY).unwrap().scheme.0.len(), 3);
}

#[test]
fn ends_that_are_no_range_are_refused_by_name() {
    let geometric = |min, max| message(Geometric { min: Some(min), max: Some(max) }.sigmas(5, DDPM));
    assert_eq!(geometric(0.0, 1.0), "min must be positive and finite, but is 0");
    assert_eq!(geometric(-1.0, 1.0), "min must be positive and finite, but is -1");
    assert_eq!(geometric(f64::NAN, 1.0), "min must be positive and finite, but is NaN");
    assert_eq!(geometric(0.1, f64::NAN), "max must be finite and larger than min, but is NaN (min is 0.1)");
    assert_eq!(geometric(0.1, f64::INFINITY), "max must be finite and larger than min, but is inf (min is 0.1)");
    assert_eq!(geometric(2.0, 1.0), "max must be finite and larger than min, but is 1 (min is 2)");
    assert_eq!(
        message(Linear::default().sigmas(5, (1.0, 1.0))),
        "max must be finite and larger than min, but is 1 (min is 1)"
    );
}

#[test]
fn rho_tau_start_and_end_are_refused_by_name() {
    for (rho, shown) in [(0.0, "0"), (-7.0, "-7"), (f64::NAN, "NaN"), (f64::INFINITY, "inf")] {
        assert_eq!(message(karras(rho).sigmas(5, DDPM)), format!("rho must be finite and positive, but is {shown}"));
        let sigmoid = Sigmoid { tau: rho, ..sigmoid() };
        assert_eq!(message(sigmoid.sigmas(5, DDPM)), format!("tau must be finite and positive, but is {shown}"));
    }
    let ends = |start, end| message(Sigmoid { start, end, ..sigmoid() }.sigmas(5, DDPM));
    assert_eq!(ends(3.0, 3.0), "end must be finite and different from start, but is 3 (start is 3)");
    assert_eq!(ends(f64::NAN, 3.0), "end must be finite and different from start, but is 3 (start is NaN)");
    assert_eq!(ends(0.0, f64::INFINITY), "end must be finite and different from start, but is inf (start is 0)");
    let flat = "tau must be large enough for all levels to differ (or take fewer steps), but is 0.03";
    assert_eq!(message(Sigmoid { tau: 0.03, ..sigmoid() }.sigmas(50, DDPM)), flat);
    assert_eq!(message(Sigmoid { start: 30.0, end: 33.0, tau: 0.03, ..sigmoid() }.sigmas(50, DDPM)), flat);
}

#[test]
fn chains_refuse_betas_that_are_no_variances() {
    for (beta, shown) in [(0.0, "0"), (1.0, "1"), (-0.1, "-0.1"), (1.5, "1.5"), (f64::NAN, "NaN")] {
        let want = |name| format!("{name} must be larger than 0 and smaller than 1, but is {shown}");
        assert_eq!(message(LinearBeta { first: beta, ..LinearBeta::default() }.betas()), want("first"));
        assert_eq!(message(LinearBeta { last: beta, ..LinearBeta::default() }.times()), want("last"));
        assert_eq!(message(ScaledLinear { first: beta, last: 0.1, times: 10 }.times()), want("first"));
        assert_eq!(message(ScaledLinear { first: 0.1, last: beta, times: 10 }.sigmas(5, DDPM)), want("last"));
        assert_eq!(message(Cosine { cap: beta, ..cosine(10) }.times()), want("cap"));
    }
    let offset = |offset| message(Cosine { offset, ..cosine(10) }.times());
    assert_eq!(offset(-0.1), "offset must be finite and at least 0, but is -0.1");
    assert_eq!(offset(f64::NAN), "offset must be finite and at least 0, but is NaN");
}

#[test]
fn chains_without_times_or_beyond_all_numbers_are_refused() {
    let none = "times must be at least 1, but is 0";
    assert_eq!(message(LinearBeta { times: 0, ..LinearBeta::default() }.times()), none);
    assert_eq!(message(ScaledLinear { first: 0.1, last: 0.2, times: 0 }.times()), none);
    assert_eq!(message(cosine(0).times()), none);
    assert_eq!(message(Times::new(vec![])), "the number of times must be at least 1, but is 0");
    let one = LinearBeta { times: 1, ..LinearBeta::default() };
    assert_all_close(&all(&one, 1, DDPM), &[(1e-4f64 / (1.0 - 1e-4)).sqrt()], GOLDEN);
    assert_eq!(
        message(one.sigmas(2, DDPM)),
        "the number of noise levels must be 1 for a chain of a single time, but is 2"
    );
    // σ² = 10^(t+1) − 1 leaves the range of f64 at t = 308.
    let steep = LinearBeta { first: 0.9, last: 0.9, times: 1000 };
    assert_eq!(
        message(steep.times()),
        "the σ of a chain must be positive, finite and growing with t, but is inf at t = 308"
    );
    let order = "the σ of a chain must be positive, finite and growing with t, but is 1 at t = 1";
    assert_eq!(message(Times::new(vec![2.0, 1.0])), order);
}

#[test]
fn a_list_of_another_length_is_refused() {
    let list = List { sigmas: vec![3.0, 2.0, 1.0] };
    let wrong = "steps must be the length of the list of levels, but is 5 (the list has 3)";
    assert_eq!(message(list.sigmas(5, DDPM)), wrong);
}

/// By scipy 1.17: beta.ppf(1 − k/8, 0.6, 0.6), and two of other shapes.
#[test]
fn beta_quantiles_are_those_of_scipy() {
    let golden = [
        1.0,
        0.942843636377586,
        0.824319621347305,
        0.6706185042786161,
        0.5000000000000001,
        0.3293814957213838,
        0.17568037865269498,
        0.05715636362241408,
    ];
    let levels = |a, b, count| all(&BetaQuantiles { a, b, max: Some(1.0), min: Some(1e-300) }, count, DDPM);
    assert_all_close(&levels(0.6, 0.6, 9)[..8], &golden, GOLDEN);
    assert_all_close(&levels(2.0, 0.7, 5)[3..4], &[0.5975511063318193], GOLDEN);
    assert_all_close(&levels(0.4, 3.0, 5)[1..2], &[0.16954000858617171], GOLDEN);
}

#[test]
fn walks_end_where_their_schedule_says() {
    let ending = |at| Ending { levels: Box::new(List { sigmas: vec![4.0, 2.0, 1.0] }.into()), at };
    let pairs = |at| ending(at).sigmas(3, DDPM).unwrap().pairs().collect::<Vec<_>>();
    assert_eq!(pairs(Some(0.5)), [(4.0, 2.0), (2.0, 1.0), (1.0, 0.5)]);
    assert_eq!(pairs(None), [(4.0, 2.0), (2.0, 1.0)], "its own last level");
    assert_eq!(pairs(Some(1.5)), [(4.0, 2.0), (2.0, 1.5)], "levels below are left out");
    assert_eq!(pairs(Some(0.0)), [(4.0, 2.0), (2.0, 1.0), (1.0, 0.0)]);
    assert_eq!(message(ending(Some(5.0)).sigmas(3, DDPM)), "at must be from 0 to the largest level, but is 5");
    // Every sampler ends there: no last step lands on D, and what it keeps of N(0, 0) noise is that of the level.
    for name in ["ddim", "dpm", "heun", "dpm-multistep", "dpm-singlestep", "unipc", "sa", "pndm", "dpm-ancestral"] {
        let sampler: AnySampler = serde_json::from_value(serde_json::json!({"kind": name})).unwrap();
        let scheme = sampler.get().scheme(&ending(Some(0.5)).sigmas(3, DDPM).unwrap()).unwrap();
        // ε does not change along a path of an image of no variance, so that all orders are exact.
        let end = *scheme.variances(0.0, 16.0).last().unwrap();
        assert!((end - 0.25).abs() < 1e-12, "{name}: {end}");
    }
}

#[test]
fn levels_lie_within_the_ends_of_others() {
    let picked = Subsequence { spacing: Spacing::Leading, ..Subsequence::default() };
    let within = Within { levels: Box::new(karras(7.0).into()), ends: Box::new(picked.clone().into()) };
    let (got, ends) = (all(&within, 10, DDPM), all(&picked, 10, DDPM));
    assert_eq!((got[0], got[9]), (ddpm_times().sigma(900.0), ddpm_times().sigma(0.0)));
    assert_eq!(got, all(&karras(7.0), 10, (ends[9], ends[0])));
}

/// diffusers 0.42.1, whose chains are of single precision.
#[test]
fn chains_of_diffusers_have_its_numbers() {
    let close = |got: f64, want: f64| assert!(relative(got, want) < 2e-4, "{got} is not {want}");
    let laplace = Falling { law: Law::Laplace, ..Falling::default() }.betas().unwrap();
    for (t, want) in
        [(0, 0.021153757348656654), (1, 0.008747813291847706), (998, 0.15162965655326843), (999, 0.847252607345581)]
    {
        close(laplace[t], want);
    }
    let exponential = Falling::default().betas().unwrap();
    close(exponential[0], 0.011928287334740162);
    close(exponential[999], 0.011928287334740162);
    let zero = ZeroSnr::default().times().unwrap();
    for (t, want) in
        [(0.0, 0.010001329705119133), (500.0, 3.5056679248809814), (900.0, 98.50946044921875), (999.0, 4096.0)]
    {
        close(zero.sigma(t), want);
    }
    // A cosine chain comes so near to 0 that several times would pass the last.
    let cosine = ZeroSnr { beta: Box::new(cosine(1000).into()) }.times().unwrap();
    assert!(relative(cosine.range().1, 4096.0) < 1e-6);
}

#[test]
fn distilled_times_and_those_below_a_level_are_picked() {
    let distilled = Subsequence { spacing: Spacing::Distilled, ..Subsequence::default() };
    assert_eq!(all(&distilled, 4, DDPM), [999.0, 759.0, 499.0, 259.0].map(|t| ddpm_times().sigma(t)));
    // λ ≥ −4 holds of the times 0 … 888.
    let below = Subsequence { spacing: Spacing::Linspace, open: true, max: Some(4f64.exp()), ..Subsequence::default() };
    assert_eq!(all(&below, 3, DDPM), [888.0, 592.0, 296.0].map(|t| ddpm_times().sigma(t)));
}

#[test]
fn labels_between_whole_times_are_chosen() {
    let times = ddpm_times();
    let middle = (times.sigma(40.0) * times.sigma(41.0)).sqrt();
    assert!((times.time_in_log(middle) - 40.5).abs() < 1e-9 && times.time(middle) < 40.5);
    for (labels, sigma, label) in [
        (Labels::Logarithmic, middle, 40.5),
        (Labels::Nearest, middle * 1.001, 41.0),
        (Labels::Below, middle, 40.0),
        (Labels::Below, times.sigma(40.0), 40.0),
        (Labels::Nearest, 1e9, 999.0),
    ] {
        let config =
            DdpmConfig { beta: LinearBeta::default().into(), prediction: Prediction::V, label_times: None, labels };
        let got = AnyPrecondition::from(config).build().unwrap().at(sigma).label;
        assert!((got - label).abs() < 1e-9, "{labels:?}: {got}");
    }
}
