//! What walks make of Gaussian images, exactly: the published runs' variances, digit by digit.
//!
//! Every number was computed elsewhere, in float64, from the released algorithm: state N(0, 1) at the start, τ = c σ²,
//! T from T₀ to 1 in equal steps, no noise in the last step. Moving the levels to the released grid of a million points
//! is *not* part of the numbers (it would turn the last 1.3562 of the sigmoid run into 1.3563).

use crate::common::{ddpm_levels, relative};
use tweedie::numbers::{
    samplers::{Ddim, Ddpm, Ramp, Sampler, Simplified, Variance, VeReverseDiffusion},
    schedule::{Geometric, LinearBeta, Schedule, Sigmoid},
    sigma::Sigmas,
    walk::{GaussianPixel, PixelMoments, Walk},
};

/// v of the table's columns.
const VARIANCES: [f64; 6] = [1.0, 0.25, 0.05, 0.01, 0.001, 1e-4];
/// The released start, x ~ N(0, I) whatever the first level.
const RELEASED: PixelMoments = PixelMoments { mean: 0.0, variance: 1.0 };
/// m of the table's images.
const MEAN: f64 = 0.3;
/// The models' levels, (smallest, largest).
const VP: (f64, f64) = (0.010000500037502575, 157.40728081040757);
const VE: (f64, f64) = (0.01, 348.0);
/// Half a unit of a fourth and of a third printed decimal, and a few roundings.
const FOUR: f64 = 0.500_001e-4;
const THREE: f64 = 0.500_001e-3;

fn pretrained(levels: usize) -> Sigmas {
    LinearBeta::default().sigmas(levels, VP).unwrap()
}

fn sigmoid(tau: f64, levels: usize) -> Sigmas {
    Sigmoid { start: 0.0, end: 3.0, tau, max: None, min: None }.sigmas(levels, VP).unwrap()
}

fn geometric(levels: usize) -> Sigmas {
    Geometric::default().sigmas(levels, VE).unwrap()
}

fn simplified(c: f64, t0: f64, sigmas: &Sigmas) -> Walk {
    Simplified { c, t0, ramp: Ramp::Linear }.walk(sigmas).unwrap()
}

fn last(walk: &Walk, of: &GaussianPixel, start: PixelMoments) -> PixelMoments {
    walk.moments(of, start).last().unwrap()
}

/// The start of the samplers whose first level is a state of its own. Their contraction is σ₀²/v only, so that a mean
/// of 0 would still be seen at the end; it starts where it belongs.
fn wide(variance: f64) -> PixelMoments {
    PixelMoments { mean: MEAN, variance }
}

/// V_K/v in every column, and the mean where it belongs.
fn assert_unconditional(walk: &Walk, start: PixelMoments, printed: [f64; 6]) {
    for (v, printed) in VARIANCES.into_iter().zip(printed) {
        let end = last(walk, &GaussianPixel::prior(MEAN, v), start);
        let ratio = end.variance / v;
        assert!((ratio - printed).abs() <= FOUR, "v = {v}: {ratio} is not {printed}");
        // Published as "< 1e-14"; a walk of 10 000 steps rounds its mean as often.
        assert!((end.mean - MEAN).abs() < 1e-13, "v = {v}: mean {}", end.mean);
    }
}

// ---- the table of unconditional runs ----

#[test]
fn the_papers_vp_run_on_the_pretrained_levels() {
    let walk = simplified(0.4, 0.4, &pretrained(1000));
    assert_unconditional(&walk, RELEASED, [1.0206, 1.0699, 1.1516, 1.2938, 1.7795, 3.5611]);
}

#[test]
fn the_papers_vp_run_on_a_hundred_sigmoid_levels() {
    let walk = simplified(0.7, 0.1, &sigmoid(0.3, 100));
    assert_unconditional(&walk, RELEASED, [0.8771, 0.9530, 1.0410, 1.1276, 1.2371, 1.3562]);
}

#[test]
fn the_papers_ve_run() {
    let walk = simplified(0.16, 0.4, &geometric(1000));
    assert_unconditional(&walk, RELEASED, [0.8896, 0.9319, 0.9801, 1.0281, 1.1398, 1.8892]);
}

/// The first version of the paper took 10 000 steps; its levels lie at fractional times.
#[test]
fn the_first_versions_vp_run_on_the_pretrained_levels() {
    let walk = simplified(0.08, 0.85, &pretrained(10_000));
    assert_unconditional(&walk, RELEASED, [1.0246, 1.0466, 1.0879, 1.1658, 1.4715, 3.0672]);
}

#[test]
fn the_first_versions_ve_run() {
    let walk = simplified(0.02, 0.6, &geometric(10_000));
    assert_unconditional(&walk, RELEASED, [0.9392, 0.9669, 0.9989, 1.0334, 1.1485, 2.0756]);
}

/// x_T ~ N(0, I) is N(0, 1 + σ₀²) in the σ frame.
#[test]
fn ddpm_with_variance_beta() {
    let walk = Ddpm { variance: Variance::Beta }.walk(&ddpm_levels()).unwrap();
    assert_unconditional(
        &walk,
        wide(1.0 + ddpm_levels().max().powi(2)),
        [0.9999, 1.0030, 1.0084, 1.0154, 0.9988, 0.7050],
    );
}

#[test]
fn ddpm_with_the_posterior_variance() {
    let walk = Ddpm { variance: Variance::Posterior }.walk(&ddpm_levels()).unwrap();
    assert_unconditional(
        &walk,
        wide(1.0 + ddpm_levels().max().powi(2)),
        [0.9911, 0.9845, 0.9671, 0.9276, 0.7794, 0.4305],
    );
}

#[test]
fn ve_reverse_diffusion() {
    let walk = VeReverseDiffusion {}.walk(&geometric(1000)).unwrap();
    assert_unconditional(&walk, wide(348.0 * 348.0), [1.0104, 1.0101, 1.0085, 1.0006, 0.9195, 0.5079]);
}

#[test]
fn ddim_without_noise() {
    let walk = Ddim { eta: 0.0 }.walk(&ddpm_levels()).unwrap();
    assert_unconditional(
        &walk,
        wide(1.0 + ddpm_levels().max().powi(2)),
        [0.9963, 0.9940, 0.9868, 0.9667, 0.8557, 0.4700],
    );
}

/// The paper's walks start from N(0, 1), not from N(0, 1 + σ₀²); large steps at large σ forget which.
#[test]
fn the_simplified_walks_forget_their_start() {
    for (c, t0, sigmas) in [(0.4, 0.4, pretrained(1000)), (0.16, 0.4, geometric(1000)), (0.7, 0.1, sigmoid(0.3, 100))] {
        let walk = simplified(c, t0, &sigmas);
        for v in VARIANCES {
            let wide = PixelMoments { mean: 0.0, variance: 1.0 + sigmas.max().powi(2) };
            let (a, b) = (
                last(&walk, &GaussianPixel::prior(0.0, v), RELEASED),
                last(&walk, &GaussianPixel::prior(0.0, v), wide),
            );
            assert!(relative(a.variance, b.variance) < 1e-10, "v = {v}");
        }
    }
}

/// Printed as 1.72.
#[test]
fn a_small_c_disperses_too_widely_at_a_fixed_number_of_steps() {
    let walk = simplified(0.05, 1.0, &pretrained(1000));
    let ratio = last(&walk, &GaussianPixel::prior(0.0, 0.05), RELEASED).variance / 0.05;
    assert!((ratio - 1.72).abs() <= 0.5e-2, "{ratio}");
}

// ---- the table of conditional runs ----

/// One pixel of the paper's tasks: η = 0.2, v = 0.25, m = 0.3, y = 0.3 h + 0.5.
fn pixel(gain: f64) -> GaussianPixel {
    GaussianPixel { mean: 0.3, variance: 0.25, gain, measurement: 0.3 * gain + 0.5, eta: 0.2 }
}

/// V_K/V_post, and the error of the mean in posterior standard deviations, under the paper's cap τ ≤ η².
fn against_posterior(walk: Walk, gain: f64) -> (f64, f64) {
    let (pixel, walk) = (pixel(gain), walk.capped(0.2 * 0.2));
    let (end, posterior) = (last(&walk, &pixel, RELEASED), pixel.posterior());
    (end.variance / posterior.variance, (end.mean - posterior.mean) / posterior.variance.sqrt())
}

fn assert_conditional(walk: &Walk, printed: &[(f64, f64)]) {
    for &(gain, printed) in printed {
        let (ratio, _) = against_posterior(walk.clone(), gain);
        assert!((ratio - printed).abs() <= THREE, "h = {gain}: {ratio} is not {printed}");
    }
}

#[test]
fn the_papers_vp_inpainting() {
    let walk = simplified(0.77683, 0.0, &sigmoid(0.3, 750));
    assert_conditional(&walk, &[(1.0, 0.934), (0.0, 0.878)]);
    // Printed as +0.00.
    assert!(against_posterior(walk.clone(), 1.0).1.abs() <= 0.5e-2);
    assert_eq!(walk.0.iter().filter(|step| step.tau > 0.04).count(), 541);
}

#[test]
fn the_papers_vp_super_resolution() {
    let walk = simplified(0.15651, 0.0, &sigmoid(0.3, 750));
    assert_conditional(&walk, &[(0.25, 0.842)]);
    // Printed as +0.12.
    assert!((against_posterior(walk, 0.25).1 - 0.12).abs() <= 0.5e-2);
}

#[test]
fn the_papers_ve_inpainting() {
    assert_conditional(&simplified(0.29487, 0.0, &geometric(1000)), &[(1.0, 0.900), (0.0, 0.842)]);
}

/// The first version took τ = 0.5 for the sigmoid, and T = 1 throughout.
#[test]
fn the_first_versions_vp_inpainting() {
    assert_conditional(&simplified(0.38, 1.0, &sigmoid(0.5, 10_000)), &[(1.0, 1.007), (0.0, 1.027)]);
}

#[test]
fn the_first_versions_ve_inpainting() {
    assert_conditional(&simplified(0.05579, 1.0, &geometric(10_000)), &[(1.0, 1.001), (0.0, 1.020)]);
}

/// Under the cap a hidden pixel never grows as wide as σ: std 1.0 at σ = 157, 1.69 at 24, at most 2.4 (at σ = 3.6).
#[test]
fn hidden_pixels_stay_far_narrower_than_their_level() {
    let walk = simplified(0.77683, 0.0, &sigmoid(0.3, 750)).capped(0.04);
    let spread: Vec<(f64, f64)> = walk
        .0
        .iter()
        .zip(walk.moments(&pixel(0.0), RELEASED))
        .map(|(step, at)| (step.sigma, at.variance.sqrt()))
        .collect();
    let at = |sigma: f64| spread.iter().min_by(|a, b| (a.0 - sigma).abs().total_cmp(&(b.0 - sigma).abs())).unwrap().1;
    assert!((at(157.0) - 1.0).abs() <= 0.05 && (at(24.0) - 1.69).abs() <= 0.5e-2, "{} {}", at(157.0), at(24.0));
    let widest = spread.iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    // The top is flat: levels there are 0.05 apart, and their widths differ in the fifth digit.
    assert!((widest.1 - 2.4).abs() <= 0.05 && (widest.0 - 3.6).abs() <= 0.1, "{widest:?}");
}

// ---- convergence to the posterior ----

fn converging(levels: usize, c: f64) -> [f64; 3] {
    let sigmas = Geometric::default().sigmas(levels, (1e-3, 50.0)).unwrap();
    [1.0, 0.25, 0.0].map(|gain| against_posterior(simplified(c, 1.0, &sigmas), gain).0)
}

#[test]
fn the_walk_converges_to_the_posterior_as_published() {
    let published = [
        (1_000, 0.2, [1.0065, 1.0336, 1.0627]),
        (4_000, 0.1, [1.0019, 1.0154, 1.0292]),
        (16_000, 0.05, [1.0006, 1.0073, 1.0141]),
        (64_000, 0.025, [1.0002, 1.0036, 1.0069]),
        (256_000, 0.0125, [1.0001, 1.0018, 1.0034]),
    ];
    for (levels, c, printed) in published {
        for (ratio, printed) in converging(levels, c).into_iter().zip(printed) {
            assert!((ratio - printed).abs() <= FOUR, "K = {levels}, c = {c}: {ratio} is not {printed}");
        }
    }
}

/// The error is O(c) once K ~ 1/c²: halving c and taking four times the steps halves it.
#[test]
fn the_error_halves_where_c_halves_and_the_steps_are_four_times_as_many() {
    let (coarse, fine) = (converging(16_000, 0.05), converging(64_000, 0.025));
    // For h = 0 and ¼; at h = 1 the error of 6e-4 still holds a part that falls faster.
    for (coarse, fine) in coarse.into_iter().zip(fine).skip(1) {
        let ratio = (coarse - 1.0) / (fine - 1.0);
        assert!((ratio - 2.0).abs() < 0.1, "{ratio}");
    }
}
