//! Each sampler against the update its paper prints, in that paper's own frame and letters.
//!
//! Two chains run side by side on the same noise, ours in the σ frame and theirs as printed; each asks for the exact
//! score of a mixture of two Gaussians, in its own frame, at its own state. They are compared after every one of 1000
//! steps, so that an error of any step stays and is carried along.

use std::iter;

use crate::common::{ddpm_levels, normals, relative};
use tweedie::numbers::{
    samplers::{
        AnnealedLangevin, Churn, Ddim, Ddpm, ProbabilityFlow, Ramp, ReferenceLevel, Sampler, Simplified, Variance,
        VeAncestral, VeEulerMaruyama, VeReverseDiffusion, VpAncestral,
    },
    schedule::{Geometric, Karras, Schedule, Sigmoid},
    sigma::Sigmas,
    walk::{Step, Walk},
};

/// The largest difference allowed at any step, relative to √(1 + σ²), the size of a state at level σ.
///
/// Largest measured: 3e-13 on the variance-exploding chains with noise, 2e-14 elsewhere. A rounding error grows where a
/// chain chooses its component, and shrinks afterwards.
const ROUNDING: f64 = 1e-12;

/// Chains for each comparison, each with its own seed.
const CHAINS: u64 = 8;

// ---- images: a mixture of two Gaussians in one dimension ----

const COMPONENTS: [Component; 2] =
    [Component { weight: 0.3, mean: -0.6, variance: 0.04 }, Component { weight: 0.7, mean: 0.5, variance: 0.01 }];

struct Component {
    weight: f64,
    mean: f64,
    variance: f64,
}

/// ∂/∂x log p(x) for x = scale · X + √noise · n.
fn mixture_score(x: f64, scale: f64, noise: f64) -> f64 {
    let parts = COMPONENTS.map(|Component { weight, mean, variance }| {
        let (gap, spread) = (x - scale * mean, scale * scale * variance + noise);
        (weight.ln() - 0.5 * spread.ln() - 0.5 * gap * gap / spread, -gap / spread)
    });
    let top = parts.iter().map(|part| part.0).fold(f64::NEG_INFINITY, f64::max);
    let (sum, mass) =
        parts.iter().fold((0.0, 0.0), |(s, m), (log, score)| (s + (log - top).exp() * score, m + (log - top).exp()));
    sum / mass
}

/// s(x, σ) of x = X + σ n.
fn score_ve(x: f64, sigma: f64) -> f64 {
    mixture_score(x, 1.0, sigma * sigma)
}

/// s(x_t, t) of x_t = √ᾱ X + √(1 − ᾱ) n.
fn score_vp(x: f64, alpha_bar: f64) -> f64 {
    mixture_score(x, alpha_bar.sqrt(), 1.0 - alpha_bar)
}

/// ε_θ(x_t, t) = −√(1 − ᾱ) s(x_t, t), the noise that an ideal DDPM predicts.
fn epsilon(x: f64, alpha_bar: f64) -> f64 {
    -(1.0 - alpha_bar).sqrt() * score_vp(x, alpha_bar)
}

/// E[X | x] by Bayes' rule, component by component: no score and no Tweedie.
fn denoiser(x: f64, sigma: f64) -> f64 {
    let parts = COMPONENTS.map(|Component { weight, mean, variance }| {
        let spread = variance + sigma * sigma;
        let log = weight.ln() - 0.5 * spread.ln() - 0.5 * (x - mean).powi(2) / spread;
        (log, mean + variance / spread * (x - mean))
    });
    let top = parts.iter().map(|part| part.0).fold(f64::NEG_INFINITY, f64::max);
    let mass: f64 = parts.iter().map(|part| (part.0 - top).exp()).sum();
    parts.iter().map(|part| (part.0 - top).exp() * part.1).sum::<f64>() / mass
}

// ---- two chains side by side ----

/// The worst difference between `walk`, from `start` times a normal draw, and `native`.
///
/// `native` is made anew from each chain's start and keeps its own state; asked for step k with the noise n, it returns
/// that state brought to the σ frame.
fn worst<N: FnMut(usize, f64) -> f64>(
    walk: &Walk,
    start: f64,
    score: impl Fn(f64, f64) -> f64,
    native: impl Fn(f64) -> N,
) -> f64 {
    let chain = |seed| {
        let mut normal = normals(seed);
        let mut x = start * normal();
        let mut theirs = native(x);
        let step = |(k, step): (usize, &Step)| {
            let n = normal();
            x += step.tau * score(x, step.sigma) + step.noise() * n;
            (x - theirs(k, n)).abs() / step.sigma.hypot(1.0)
        };
        // f64::max would pass over NaN.
        walk.0.iter().enumerate().map(step).fold(0.0, |a: f64, b| if a >= b { a } else { b })
    };
    (0..CHAINS).map(chain).fold(0.0, |a: f64, b| if a >= b { a } else { b })
}

fn assert_same<N: FnMut(usize, f64) -> f64>(walk: &Walk, start: f64, native: impl Fn(f64) -> N) {
    assert!(walk.0.len() >= 1000);
    let worst = worst(walk, start, score_ve, native);
    println!("worst relative difference {worst:.1e}");
    assert!(worst <= ROUNDING, "{worst:e}");
}

/// DDPM's chain, 1-based as in the paper: index 0 is the clean image, with ᾱ₀ = 1.
struct Chain {
    beta: Vec<f64>,
    alpha: Vec<f64>,
    alpha_bar: Vec<f64>,
}

/// β₁ = 10⁻⁴ … β_T = 0.02, T = 1000 [DDPM, §4], all times `factor`.
fn chain(factor: f64) -> Chain {
    let line = (0..1000).map(|t| factor * (1e-4 + f64::from(t) * (0.02 - 1e-4) / 999.0));
    let beta: Vec<f64> = iter::once(0.0).chain(line).collect();
    let alpha: Vec<f64> = beta.iter().map(|beta| 1.0 - beta).collect();
    let product = |sum: &mut f64, alpha: &f64| {
        *sum *= alpha;
        Some(*sum)
    };
    let alpha_bar = alpha.iter().scan(1.0, product).collect();
    Chain { beta, alpha, alpha_bar }
}

/// Runs `update(t, x_t, z) → x_{t−1}` of a variance-preserving chain for t = T … 1 and returns x_{t−1}/√ᾱ_{t−1}.
///
/// The papers add no noise in the last step: "z = 0 if t = 1".
fn vp<'a>(
    chain: &'a Chain,
    update: impl Fn(usize, f64, f64) -> f64 + Copy + 'a,
) -> impl Fn(f64) -> Box<dyn FnMut(usize, f64) -> f64 + 'a> {
    move |start| {
        let mut x = start * chain.alpha_bar[1000].sqrt();
        Box::new(move |k, n| {
            let t = 1000 - k;
            x = update(t, x, if t > 1 { n } else { 0.0 });
            x / chain.alpha_bar[t - 1].sqrt()
        })
    }
}

/// 1/√ᾱ_T, so that x_T ~ N(0, I).
fn vp_start() -> f64 {
    ddpm_levels().max().hypot(1.0)
}

// ---- variance-preserving samplers ----

/// [DDPM, Algorithm 2].
fn assert_is_ddpm(variance: Variance, variance_of: impl Fn(&Chain, usize) -> f64 + Copy) {
    let chain = chain(1.0);
    let update = |t: usize, x: f64, z: f64| {
        let (alpha, alpha_bar) = (chain.alpha[t], chain.alpha_bar[t]);
        let mean = 1.0 / alpha.sqrt() * (x - (1.0 - alpha) / (1.0 - alpha_bar).sqrt() * epsilon(x, alpha_bar));
        mean + variance_of(&chain, t).sqrt() * z
    };
    let walk = Ddpm { variance }.walk(&ddpm_levels()).unwrap();
    assert_same(&walk, vp_start(), vp(&chain, &update));
}

#[test]
fn ddpm_with_variance_beta_is_algorithm_2() {
    assert_is_ddpm(Variance::Beta, |chain, t| chain.beta[t]);
}

#[test]
fn ddpm_with_the_posterior_variance_is_algorithm_2() {
    assert_is_ddpm(Variance::Posterior, |chain, t| {
        (1.0 - chain.alpha_bar[t - 1]) / (1.0 - chain.alpha_bar[t]) * chain.beta[t]
    });
}

/// [Score SDE, Eq. 4]: x_{i−1} = (x_i + β_i s(x_i, i))/√(1 − β_i) + √β_i z_i.
#[test]
fn vp_ancestral_is_equation_4_of_score_sde() {
    let chain = chain(1.0);
    let update = |i: usize, x: f64, z: f64| {
        let beta = chain.beta[i];
        1.0 / (1.0 - beta).sqrt() * (x + beta * score_vp(x, chain.alpha_bar[i])) + beta.sqrt() * z
    };
    assert_same(&VpAncestral {}.walk(&ddpm_levels()).unwrap(), vp_start(), vp(&chain, &update));
}

/// [DDIM, Eq. 12 and 16]; α there is ᾱ here.
fn assert_is_ddim(eta: f64) {
    let chain = chain(1.0);
    let update = |t: usize, x: f64, z: f64| {
        let (now, then) = (chain.alpha_bar[t], chain.alpha_bar[t - 1]);
        let sigma = eta * ((1.0 - then) / (1.0 - now)).sqrt() * (1.0 - now / then).sqrt();
        let eps = epsilon(x, now);
        let predicted = (x - (1.0 - now).sqrt() * eps) / now.sqrt();
        then.sqrt() * predicted + (1.0 - then - sigma * sigma).sqrt() * eps + sigma * z
    };
    assert_same(&Ddim { eta }.walk(&ddpm_levels()).unwrap(), vp_start(), vp(&chain, &update));
}

#[test]
fn ddim_without_noise_is_equation_12() {
    assert_is_ddim(0.0);
}

#[test]
fn ddim_with_half_the_noise_is_equation_12() {
    assert_is_ddim(0.5);
}

#[test]
fn ddim_with_all_the_noise_is_equation_12() {
    assert_is_ddim(1.0);
}

// ---- variance-exploding samplers ----

/// σ_1 < … < σ_N as Score SDE has them, with σ_0 = 0 before them.
fn ve_levels() -> (Sigmas, Vec<f64>) {
    let sigmas = Geometric { max: Some(348.0), min: Some(0.01) }.sigmas(1000, (0.0, 0.0)).unwrap();
    let level = |i: i32| 0.01 * (348.0f64 / 0.01).powf(f64::from(i) / 999.0);
    (sigmas, iter::once(0.0).chain((0..1000).map(level)).collect())
}

/// Runs `update(σ_{i+1}, σ_i, x, z)` for i = N − 1 … 0; the last step is the mean alone, Score SDE's "noise removal".
fn ve<'a>(
    sigma: &'a [f64],
    update: impl Fn(f64, f64, f64, f64) -> f64 + Copy + 'a,
) -> impl Fn(f64) -> Box<dyn FnMut(usize, f64) -> f64 + 'a> {
    move |start| {
        let mut x = start;
        Box::new(move |k, n| {
            let i = sigma.len() - 2 - k;
            x = update(sigma[i + 1], sigma[i], x, if i > 0 { n } else { 0.0 });
            x
        })
    }
}

/// [Score SDE, Algorithm 2, predictor].
#[test]
fn ve_reverse_diffusion_is_score_sdes_predictor() {
    let (sigmas, sigma) = ve_levels();
    let update = |now: f64, then: f64, x: f64, z: f64| {
        let g2 = now.powi(2) - then.powi(2);
        x + g2 * score_ve(x, now) + g2.sqrt() * z
    };
    assert_same(&VeReverseDiffusion {}.walk(&sigmas).unwrap(), 348.0, ve(&sigma, &update));
}

/// [Score SDE, Appendix F].
#[test]
fn ve_ancestral_is_score_sdes_ancestral_sampling() {
    let (sigmas, sigma) = ve_levels();
    let update = |now: f64, then: f64, x: f64, z: f64| {
        let g2 = now.powi(2) - then.powi(2);
        x + g2 * score_ve(x, now) + (then.powi(2) * g2 / now.powi(2)).sqrt() * z
    };
    assert_same(&VeAncestral {}.walk(&sigmas).unwrap(), 348.0, ve(&sigma, &update));
}

/// dx = −g² s dt + g dw̄ with g = σ(t) √(2 ln(σ_max/σ_min)), σ(t) = σ_min (σ_max/σ_min)^t [Score SDE, Eq. 6, 30],
/// dt = −1/N from t = 1 on.
#[test]
fn ve_euler_maruyama_is_euler_maruyama_on_the_ve_sde() {
    let (sigmas, _) = ve_levels();
    let native = |start: f64| {
        let mut x = start;
        move |k: usize, n: f64| {
            let (t, dt): (f64, f64) = (1.0 - k as f64 / 999.0, -1.0 / 1000.0);
            let sigma = 0.01 * (348.0f64 / 0.01).powf(t);
            let diffusion = sigma * (2.0 * (348.0f64.ln() - 0.01f64.ln())).sqrt();
            let drift = -diffusion.powi(2) * score_ve(x, sigma);
            let mean = x + drift * dt;
            x = if k < 999 { mean + diffusion * (-dt).sqrt() * n } else { mean };
            x
        }
    };
    assert_same(&VeEulerMaruyama {}.walk(&sigmas).unwrap(), 348.0, native);
}

/// Printed as 1.0095.
#[test]
fn ve_euler_maruyama_takes_slightly_longer_steps_than_reverse_diffusion() {
    let (sigmas, _) = ve_levels();
    let (euler, reverse) = (VeEulerMaruyama {}.walk(&sigmas).unwrap(), VeReverseDiffusion {}.walk(&sigmas).unwrap());
    for (a, b) in euler.0.iter().zip(&reverse.0).take(999) {
        assert!((a.tau / b.tau - 1.0095).abs() <= 0.5e-4);
    }
}

/// [Score SDE, Eq. 13] for dx = g dw, with g² dt = d(σ²): x_i = x_{i+1} + ½ (σ²_{i+1} − σ²_i) s.
#[test]
fn probability_flow_is_eulers_method_in_sigma_squared() {
    let (sigmas, sigma) = ve_levels();
    let update = |now: f64, then: f64, x: f64, _: f64| x + 0.5 * (now.powi(2) - then.powi(2)) * score_ve(x, now);
    assert_same(&ProbabilityFlow {}.walk(&sigmas).unwrap(), 348.0, ve(&sigma, &update));
}

/// [EDM, Algorithm 1] without its correction, σ(t) = t, s(t) = 1: d = (x − D(x; t))/t, x ← x + (t′ − t) d.
#[test]
fn ddim_without_noise_is_edms_euler_step() {
    let sigmas = Karras { rho: 7.0, max: Some(80.0), min: Some(0.002) }.sigmas(1000, (0.0, 0.0)).unwrap();
    let (high, low) = (80f64.powf(1.0 / 7.0), 0.002f64.powf(1.0 / 7.0));
    let mut t: Vec<f64> = (0..1000).map(|i| (high + f64::from(i) / 999.0 * (low - high)).powi(7)).collect();
    t.push(0.0);
    let native = |start: f64| {
        let (mut x, t) = (start, &t);
        move |i: usize, _: f64| {
            let d = (x - denoiser(x, t[i])) / t[i];
            x += (t[i + 1] - t[i]) * d;
            x
        }
    };
    assert_same(&Ddim { eta: 0.0 }.walk(&sigmas).unwrap(), 80.0, native);
}

/// dx = −(1 + λ²)/2 g² s dt + λ g dw̄ by Euler and Maruyama with g² dt = σ² − σ′²; the last step is the mean alone, and
/// goes no further than to the denoised image.
fn assert_is_churn(lambda: f64) {
    let (sigmas, sigma) = ve_levels();
    let update = |now: f64, then: f64, x: f64, z: f64| {
        let g2 = now.powi(2) - then.powi(2);
        let drift = (1.0 + lambda * lambda) / 2.0 * g2 * score_ve(x, now);
        if then == 0.0 && lambda > 1.0 { denoiser(x, now) } else { x + drift + lambda * g2.sqrt() * z }
    };
    assert_same(&Churn { lambda }.walk(&sigmas).unwrap(), 348.0, ve(&sigma, &update));
}

#[test]
fn churn_is_the_family_of_reverse_sdes() {
    for lambda in [0.0, 0.5, 1.0, 2.0] {
        assert_is_churn(lambda);
    }
}

// ---- Langevin dynamics ----

/// [NCSN, Algorithm 1]: α_i = ε σ_i²/σ_ref², x ← x + α_i/2 s(x, σ_i) + √α_i z, T = 100 times at each of L = 10 levels;
/// the paper starts from uniform noise, here it is N(0, σ_1²). Ends with a denoising step when `denoise`.
fn assert_is_ncsn(reference: ReferenceLevel, level: impl Fn(&[f64]) -> f64, denoise: bool) {
    let sigmas = Geometric { max: Some(1.0), min: Some(0.01) }.sigmas(10, (0.0, 0.0)).unwrap();
    let sigma: Vec<f64> = (0..10).map(|i| 0.01f64.powf(f64::from(i) / 9.0)).collect();
    let reference_level = level(&sigma);
    let native = |start: f64| {
        let (mut x, sigma) = (start, &sigma);
        move |k: usize, z: f64| {
            if k == 1000 {
                return denoiser(x, sigma[9]);
            }
            let alpha = 2e-5 * sigma[k / 100].powi(2) / reference_level.powi(2);
            x += alpha / 2.0 * score_ve(x, sigma[k / 100]) + alpha.sqrt() * z;
            x
        }
    };
    let walk = AnnealedLangevin { epsilon: 2e-5, repeats: 100, reference, denoise }.walk(&sigmas).unwrap();
    assert_eq!(walk.0.len(), 1000 + usize::from(denoise));
    assert_same(&walk, 1.0, native);
}

#[test]
fn annealed_langevin_is_ncsns_algorithm_1() {
    assert_is_ncsn(ReferenceLevel::Min, |sigma| sigma[9], false);
}

#[test]
fn annealed_langevin_may_end_on_the_denoised_image() {
    assert_is_ncsn(ReferenceLevel::Min, |sigma| sigma[9], true);
}

/// Table 1 of the random-walk paper divides by the largest level.
#[test]
fn annealed_langevin_knows_the_literal_table() {
    assert_is_ncsn(ReferenceLevel::Max, |sigma| sigma[0], false);
}

/// The code released with NCSN: step_size = step_lr (σ/σ_L)², x += step_size s + √(2 step_size) z.
#[test]
fn annealed_langevin_with_twice_epsilon_is_ncsns_released_code() {
    let sigmas = Geometric { max: Some(1.0), min: Some(0.01) }.sigmas(10, (0.0, 0.0)).unwrap();
    let native = |start: f64| {
        let mut x = start;
        move |k: usize, z: f64| {
            let sigma = 0.01f64.powf((k / 100) as f64 / 9.0);
            let step_size = 2e-5 * (sigma / 0.01).powi(2);
            x += step_size * score_ve(x, sigma) + z * (step_size * 2.0).sqrt();
            x
        }
    };
    let sampler = AnnealedLangevin { epsilon: 4e-5, repeats: 100, reference: ReferenceLevel::Min, denoise: false };
    assert_same(&sampler.walk(&sigmas).unwrap(), 1.0, native);
}

// ---- the random-walk paper's own ----

/// The released loop, with a network that predicts ε from √ᾱ x: s = −(1/√(1 − ᾱ)) ε √ᾱ, τ = c σ²,
/// T = linspace(T₀, 1, K), x ← x + τ s + √(2 τ T) n, no noise at k = K − 1.
#[test]
fn the_simplified_walk_is_the_released_loop() {
    let sigmas = ddpm_levels();
    let level: Vec<f64> = sigmas.iter().collect();
    let (c, t0) = (0.4, 0.4);
    let native = |start: f64| {
        let (mut x, level) = (start, &level);
        move |k: usize, n: f64| {
            let alpha_bar = 1.0 / (1.0 + level[k].powi(2));
            let eps = epsilon(alpha_bar.sqrt() * x, alpha_bar);
            let score = -(1.0 / (1.0 - alpha_bar).sqrt()) * eps * alpha_bar.sqrt();
            let (tau, temperature) = (c * level[k].powi(2), t0 + k as f64 * (1.0 - t0) / 999.0);
            x += tau * score + if k < 999 { (2.0 * tau * temperature).sqrt() * n } else { 0.0 };
            x
        }
    };
    assert_same(&Simplified { c, t0, ramp: Ramp::Linear }.walk(&sigmas).unwrap(), 1.0, native);
}

/// The same, given y = h x + η e: τ = min(c σ², η²), and − (τ/η²) h (h x − y) at the old x.
#[test]
fn the_capped_walk_on_the_posterior_score_is_the_released_conditional_loop() {
    let (c, eta, h, y) = (0.77683, 0.2, 0.8, 0.3);
    let sigmas = Sigmoid { start: 0.0, end: 3.0, tau: 0.3, max: Some(157.4), min: Some(0.01) };
    let sigmas = sigmas.sigmas(1000, (0.0, 0.0)).unwrap();
    let level: Vec<f64> = sigmas.iter().collect();
    let native = |start: f64| {
        let (mut x, level) = (start, &level);
        move |k: usize, n: f64| {
            let (tau, temperature) = ((c * level[k].powi(2)).min(eta * eta), k as f64 / 999.0);
            let gradient = h * (h * x - y);
            x += tau * score_ve(x, level[k]) + if k < 999 { (2.0 * tau * temperature).sqrt() * n } else { 0.0 };
            x -= tau / (eta * eta) * gradient;
            x
        }
    };
    let walk = Simplified { c, t0: 0.0, ramp: Ramp::Linear }.walk(&sigmas).unwrap().capped(eta * eta);
    let posterior = |x: f64, sigma: f64| score_ve(x, sigma) + h * (y - h * x) / (eta * eta);
    let worst = worst(&walk, 1.0, posterior, native);
    assert!(worst <= ROUNDING, "{worst:e}");
}

// ---- what is not a row ----

/// x ← (2 − √(1 − β)) x + β s + √β z [Score SDE, Appendix E].
fn reverse_diffusion(chain: &Chain) -> impl Fn(usize, f64, f64) -> f64 + '_ {
    move |i, x, z| {
        let beta = chain.beta[i];
        (2.0 - (1.0 - beta).sqrt()) * x + beta * score_vp(x, chain.alpha_bar[i]) + beta.sqrt() * z
    }
}

/// A row leaves a state that is its own denoised image where it is; this update does not, by (1 − √(1 − β))².
#[test]
fn vp_reverse_diffusion_moves_a_clean_image_and_so_is_no_row() {
    for factor in [1.0, 0.5] {
        let chain = chain(factor);
        for t in 2..=1000 {
            let (root, clean) = ((1.0 - chain.beta[t]).sqrt(), 0.7);
            // A point mass at `clean` has s = 0 at its own image √ᾱ clean.
            let x = (2.0 - root) * chain.alpha_bar[t].sqrt() * clean;
            let moved = x / chain.alpha_bar[t - 1].sqrt() / clean;
            assert!((1.0 - moved - (1.0 - root).powi(2)).abs() < 1e-14, "t = {t}");
        }
        let last = (1.0 - (1.0 - chain.beta[1000]).sqrt()).powi(2);
        assert!(relative(last, chain.beta[1000].powi(2) / 4.0) < 0.02, "of order β²");
    }
}

/// One step from the same state; the difference to the ancestral step falls by 4 where β falls by 2.
#[test]
fn vp_reverse_diffusion_differs_from_vp_ancestral_at_order_beta_squared() {
    let difference = |factor: f64, t: usize| {
        let chain = chain(factor);
        let (x, beta, alpha_bar) = (0.9, chain.beta[t], 0.5);
        let score = score_vp(x, alpha_bar);
        (2.0 - (1.0 - beta).sqrt()) * x + beta * score - (x + beta * score) / (1.0 - beta).sqrt()
    };
    for t in [200, 500, 1000] {
        let ratio = difference(1.0, t) / difference(0.5, t);
        // The next order changes the ratio by about β.
        assert!((ratio - 4.0).abs() < 0.1, "t = {t}: {ratio}");
    }
}

/// Carried along DDPM's own chain the difference is of the order of a per cent: ten orders above [`ROUNDING`].
#[test]
fn vp_reverse_diffusion_strays_from_vp_ancestral_by_about_a_per_cent() {
    let chain = chain(1.0);
    let update = reverse_diffusion(&chain);
    let walk = VpAncestral {}.walk(&ddpm_levels()).unwrap();
    let worst = worst(&walk, vp_start(), score_ve, vp(&chain, &update));
    println!("worst relative difference {worst:.4}");
    assert!((0.003..0.05).contains(&worst), "{worst}");
}

// ---- Table 1 ----

/// τ = (1 − α)/ᾱ as printed, = 1/ᾱ_t − 1/ᾱ_{t−1} = σ² − σ′². 1 − α keeps 10⁻¹⁶/β ≤ 10⁻¹² of itself.
#[test]
fn ddpms_step_is_the_difference_of_squared_levels_and_one_minus_alpha_over_alpha_bar() {
    let (sigmas, chain) = (ddpm_levels(), chain(1.0));
    let walk = Ddpm { variance: Variance::Beta }.walk(&sigmas).unwrap();
    for (k, (step, (sigma, next))) in walk.0.iter().zip(sigmas.pairs()).enumerate() {
        let t = 1000 - k;
        assert!(relative(step.tau, (1.0 - chain.alpha[t]) / chain.alpha_bar[t]) < 2e-12, "t = {t}");
        // σ² − σ′² itself loses up to 10² roundings where neighbours are close.
        assert!(relative(step.tau, sigma * sigma - next * next) < 1e-13, "t = {t}");
        assert!(relative(sigma, ((1.0 - chain.alpha_bar[t]) / chain.alpha_bar[t]).sqrt()) < 2e-12, "t = {t}");
    }
}

/// T = σ′²_t α_t/(2 − 2α_t) as printed, for both variances; 0 in the last step, which adds no noise.
#[test]
fn ddpms_temperatures_are_table_1s() {
    let (sigmas, chain) = (ddpm_levels(), chain(1.0));
    let beta = Ddpm { variance: Variance::Beta }.walk(&sigmas).unwrap();
    let posterior = Ddpm { variance: Variance::Posterior }.walk(&sigmas).unwrap();
    for t in 2..=1000 {
        let (alpha, alpha_bar, before) = (chain.alpha[t], chain.alpha_bar[t], chain.alpha_bar[t - 1]);
        let printed = |variance: f64| variance * alpha / (2.0 - 2.0 * alpha);
        assert!(relative(beta.0[1000 - t].temperature, printed(chain.beta[t])) < 2e-12, "t = {t}");
        let posterior_variance = (1.0 - before) / (1.0 - alpha_bar) * chain.beta[t];
        assert!(relative(posterior.0[1000 - t].temperature, printed(posterior_variance)) < 5e-12, "t = {t}");
    }
    assert_eq!((beta.0[999].temperature, posterior.0[999].temperature), (0.0, 0.0));
}

/// Half a unit of the last printed digit, t counted from 0.
#[test]
fn ddpms_rows_have_the_published_digits() {
    let row = |variance, t: usize| Ddpm { variance }.walk(&ddpm_levels()).unwrap().0[999 - t];
    let relative_steps =
        [(999, 0.0200, 4), (500, 0.0109, 4), (100, 0.01995, 5), (10, 0.136, 3), (1, 0.545, 3), (0, 1.0, 15)];
    for (t, printed, digits) in relative_steps {
        let step = row(Variance::Beta, t);
        let value = step.tau / step.sigma.powi(2);
        assert!((value - printed).abs() <= 0.5 * 10f64.powi(-digits), "t = {t}: {value}");
    }
    // At t = 0 the formula α/2 gives 0.49995, but the last step adds no noise; t = 1 has 0.49994.
    let temperatures = [
        (Variance::Beta, 999, 0.49, 2),
        (Variance::Beta, 1, 0.49994, 5),
        (Variance::Posterior, 999, 0.490, 3),
        (Variance::Posterior, 500, 0.4945, 4),
        (Variance::Posterior, 1, 0.227, 3),
        (Variance::Posterior, 0, 0.0, 15),
    ];
    for (variance, t, printed, digits) in temperatures {
        let value = row(variance, t).temperature;
        assert!((value - printed).abs() <= 0.5 * 10f64.powi(-digits), "t = {t}: {value}");
    }
}
