//! Samplers coincide where theory says they do, over random levels.

use crate::common::{body, difference, levels, relative};
use proptest::prelude::*;
use tweedie::numbers::{
    precondition::{AnyPrecondition, DdpmConfig, Labels, Prediction},
    samplers::{
        AnnealedLangevin, Churn, Consistent, Ddim, Ddpm, ProbabilityFlow, Ramp, ReferenceLevel, Sampler, Simplified,
        Variance, VeAncestral, VeEulerMaruyama, VeReverseDiffusion, VpAncestral,
    },
    schedule::{AnyChain, LinearBeta},
    sigma::{Sigmas, alpha_bar},
    walk::{GaussianPixel, PixelMoments, Step, Walk},
};

/// A few roundings. T, which may be small, is compared absolutely; σ and τ relatively.
const ROUNDING: f64 = 1e-14;

fn walk(sampler: &dyn Sampler, sigmas: &Sigmas) -> Walk {
    sampler.walk(sigmas).unwrap()
}

proptest! {
    #[test]
    fn ddpm_with_the_posterior_variance_is_ddim_with_all_the_noise(sigmas in levels()) {
        let (ddpm, ddim) = (Ddpm { variance: Variance::Posterior }, Ddim { eta: 1.0 });
        prop_assert!(difference(&walk(&ddpm, &sigmas), &walk(&ddim, &sigmas)) < ROUNDING);
    }

    #[test]
    fn ddpm_with_the_posterior_variance_is_ve_ancestral(sigmas in levels()) {
        let (ddpm, ve) = (Ddpm { variance: Variance::Posterior }, VeAncestral {});
        prop_assert!(difference(&walk(&ddpm, &sigmas), &walk(&ve, &sigmas)) < ROUNDING);
    }

    #[test]
    fn ddpm_with_variance_beta_is_vp_ancestral(sigmas in levels()) {
        prop_assert_eq!(walk(&Ddpm { variance: Variance::Beta }, &sigmas), walk(&VpAncestral {}, &sigmas));
    }

    /// α = ᾱ/ᾱ′ = (1 + σ′²)/(1 + σ²), so T = α/2.
    #[test]
    fn ddpms_temperature_is_half_of_alpha(sigmas in levels()) {
        let ddpm = walk(&Ddpm { variance: Variance::Beta }, &sigmas);
        for (step, (sigma, next)) in body(ddpm).0.iter().zip(sigmas.pairs()) {
            prop_assert!(relative(step.temperature, alpha_bar(sigma) / alpha_bar(next) / 2.0) < ROUNDING);
        }
    }

    #[test]
    fn churn_one_is_ve_reverse_diffusion(sigmas in levels()) {
        let (churn, ve) = (Churn { lambda: 1.0 }, VeReverseDiffusion {});
        prop_assert!(difference(&walk(&churn, &sigmas), &walk(&ve, &sigmas)) < ROUNDING);
    }

    #[test]
    fn churn_zero_is_the_probability_flow(sigmas in levels()) {
        prop_assert_eq!(walk(&Churn { lambda: 0.0 }, &sigmas), walk(&ProbabilityFlow {}, &sigmas));
    }

    /// T = λ²/(1 + λ²) rises to 1, and what the noise adds, 2τT = λ² (σ² − σ′²), is λ² times the reverse SDE's.
    #[test]
    fn churn_goes_from_flow_to_langevin(sigmas in levels(), lambda in 0.0f64..100.0) {
        for (step, (sigma, next)) in body(walk(&Churn { lambda }, &sigmas)).0.iter().zip(sigmas.pairs()) {
            let added = lambda * lambda * (sigma - next) * (sigma + next);
            prop_assert!((step.noise().powi(2) - added).abs() <= ROUNDING * added);
            prop_assert!(((1.0 - step.temperature) * (1.0 + lambda * lambda) - 1.0).abs() < 1e-11);
        }
    }

    /// For images of no variance T*(0) is DDPM's with the posterior variance, for unit variance T*(1) DDPM's with β.
    #[test]
    fn the_temperature_that_keeps_the_marginals_is_ddpms(sigmas in levels()) {
        for (sigma, next) in sigmas.pairs().filter(|pair| pair.1 > 0.0) {
            let tau = (sigma - next) * (sigma + next);
            let alpha = alpha_bar(sigma) / alpha_bar(next);
            prop_assert!((Consistent::temperature(sigma, next, tau, 1.0) - alpha / 2.0).abs() < ROUNDING);
            let posterior = next * next / (2.0 * sigma * sigma);
            prop_assert!((Consistent::temperature(sigma, next, tau, 0.0) - posterior).abs() < ROUNDING);
        }
    }

    /// With τ = c σ², r = σ′/σ and images of no variance, T* = 1 − c/2 − (1 − r²)/(2c).
    #[test]
    fn the_consistent_temperature_has_its_closed_form(sigma in 0.01f64..100.0, r in 0.0f64..1.0, c in 0.1f64..2.0) {
        let closed = 1.0 - c / 2.0 - (1.0 - r * r) / (2.0 * c);
        prop_assert!((Consistent::temperature(sigma, r * sigma, c * sigma * sigma, 0.0) - closed).abs() < 1e-13);
    }

    /// Var x = v + σ² after every step but the last, which adds no noise; and the mean stays where it is right.
    #[test]
    fn the_consistent_walk_keeps_the_variance_of_every_level(
        max in 1.0f64..100.0, ratio in 0.9f64..0.999, c in 0.2f64..1.0, v in 0.0f64..2.0, m in -1.0f64..1.0,
    ) {
        let sigmas = Sigmas::new((0..100).map(|k| max * f64::powi(ratio, k)).collect()).unwrap();
        // Usable where T* ≥ 0 even for v = 0 (see the closed form above).
        prop_assume!(1.0 - c / 2.0 - (1.0 - ratio * ratio) / (2.0 * c) >= 0.0);
        let (walk, images) = (walk(&Consistent { c, v }, &sigmas), GaussianPixel::prior(m, v));
        let start = PixelMoments { mean: m, variance: v + max * max };
        for (at, (_, next)) in walk.moments(&images, start).zip(sigmas.pairs()).take(99) {
            // A hundred steps of a few roundings each.
            prop_assert!(relative(at.variance, v + next * next) < 1e-13, "{} {}", at.variance, v + next * next);
            prop_assert!((at.mean - m).abs() < ROUNDING);
        }
    }

    /// DDPM keeps v + σ² for images of unit variance, and its posterior variance does for images of none.
    #[test]
    fn ddpm_keeps_the_variance_for_which_it_is_right(sigmas in levels()) {
        for (variance, v) in [(Variance::Beta, 1.0), (Variance::Posterior, 0.0)] {
            let start = PixelMoments { mean: 0.0, variance: v + sigmas.max().powi(2) };
            let walk = body(walk(&Ddpm { variance }, &sigmas));
            for (at, (_, next)) in walk.moments(&GaussianPixel::prior(0.0, v), start).zip(sigmas.pairs()) {
                prop_assert!(relative(at.variance, v + next * next) < 1e-13);
            }
        }
    }

    /// τ = σ² and T = 0, so x + τ s = x + (D − x) = D.
    #[test]
    fn the_last_step_lands_on_the_denoised_image(sigmas in levels(), eta in 0.0..=1.0, lambda in 1.0..10.0) {
        let samplers: [&dyn Sampler; 8] = [
            &Ddim { eta },
            &Ddpm { variance: Variance::Beta },
            &Ddpm { variance: Variance::Posterior },
            &VpAncestral {},
            &VeReverseDiffusion {},
            &VeAncestral {},
            &Churn { lambda },
            &AnnealedLangevin { epsilon: 1e-5, repeats: 2, reference: ReferenceLevel::Min, denoise: true },
        ];
        let denoise = Step::denoise(sigmas.min());
        for sampler in samplers {
            let last = *walk(sampler, &sigmas).0.last().unwrap();
            prop_assert_eq!((last.sigma, last.temperature), (denoise.sigma, 0.0));
            prop_assert!(relative(last.tau, denoise.tau) < ROUNDING);
        }
    }

    /// The only free numbers of a row: each σ once and in order, τ > 0, T ≥ 0, no noise at the end.
    #[test]
    fn every_walk_has_one_step_for_each_level(
        sigmas in levels(), eta in 0.0..=1.0, lambda in 0.0..10.0, t0 in 0.0..2.0,
    ) {
        let samplers: [&dyn Sampler; 10] = [
            &Ddim { eta },
            &Ddpm { variance: Variance::Beta },
            &Ddpm { variance: Variance::Posterior },
            &VpAncestral {},
            &VeReverseDiffusion {},
            &VeAncestral {},
            &VeEulerMaruyama {},
            &ProbabilityFlow {},
            &Churn { lambda },
            &Simplified { c: 0.5, t0, ramp: Ramp::Linear },
        ];
        for sampler in samplers {
            let steps = walk(sampler, &sigmas).0;
            prop_assert!(steps.iter().map(|step| step.sigma).eq(sigmas.iter()));
            prop_assert!(steps.iter().all(|step| step.tau > 0.0 && step.tau.is_finite() && step.temperature >= 0.0));
            prop_assert_eq!(steps[steps.len() - 1].noise(), 0.0);
        }
    }

    #[test]
    fn annealed_langevin_repeats_each_level(sigmas in levels(), repeats in 1usize..5) {
        let sampler = AnnealedLangevin { epsilon: 2e-5, repeats, reference: ReferenceLevel::Min, denoise: false };
        let steps = walk(&sampler, &sigmas).0;
        prop_assert_eq!(steps.len(), repeats * sigmas.iter().len());
        prop_assert!(steps.iter().enumerate().all(|(k, step)| step.sigma == sigmas.iter().nth(k / repeats).unwrap()));
    }

    #[test]
    fn a_cap_shortens_long_steps_and_leaves_the_others(sigmas in levels(), limit in 1e-6..10.0) {
        let free = walk(&Simplified { c: 0.3, t0: 0.0, ramp: Ramp::Linear }, &sigmas);
        for (capped, free) in free.clone().capped(limit).0.iter().zip(&free.0) {
            prop_assert_eq!(*capped, Step { tau: free.tau.min(limit), ..*free });
        }
    }

    /// At a fixed level the discrete walk settles at V = T (v + σ²)/(1 − a/2), a = τ/(v + σ²).
    #[test]
    fn langevin_settles_at_its_stationary_variance(
        sigma in 0.1f64..10.0, v in 0.01f64..2.0, a in 0.05f64..1.9, t in 0.0f64..2.0,
    ) {
        let width = v + sigma * sigma;
        let walk = Walk(vec![Step { sigma, tau: a * width, temperature: t }; 2000]);
        let last = walk.moments(&GaussianPixel::prior(0.0, v), PixelMoments { mean: 5.0, variance: 7.0 }).last().unwrap();
        let settled = t * width / (1.0 - a / 2.0);
        prop_assert!((last.variance - settled).abs() < 1e-12 * (1.0 + settled) && last.mean.abs() < 1e-12);
    }

    /// The posterior is where prior and likelihood balance: precision adds up, and M is the precision-weighted mean.
    #[test]
    fn the_gaussian_posterior_is_bayes_rule(
        mean in -1.0f64..1.0, variance in 0.001f64..2.0, gain in -2.0f64..2.0, measurement in -2.0f64..2.0,
        eta in 0.01f64..2.0,
    ) {
        let posterior = GaussianPixel { mean, variance, gain, measurement, eta }.posterior();
        let precision = 1.0 / variance + (gain / eta).powi(2);
        prop_assert!(relative(posterior.variance, 1.0 / precision) < 1e-12);
        let weighted = (mean / variance + gain * measurement / (eta * eta)) / precision;
        prop_assert!((posterior.mean - weighted).abs() < 1e-12);
    }

    /// Given what an ideal network of each kind returns for x = x₀ + σ ε, D is x₀.
    #[test]
    fn every_prediction_names_the_same_denoised_image(
        clean in -1.0f64..1.0, eps in -3.0f64..3.0, exponent in -2.0f64..2.1,
    ) {
        let sigma = 10f64.powf(exponent);
        let bar = alpha_bar(sigma);
        let v = bar.sqrt() * eps - (1.0 - bar).sqrt() * clean;
        for (prediction, output) in [(Prediction::Epsilon, eps), (Prediction::V, v), (Prediction::Sample, clean)] {
            let config = DdpmConfig { beta: AnyChain::LinearBeta(LinearBeta::default()), prediction, label_times: None, labels: Labels::default() };
            let scaling = AnyPrecondition::Ddpm(config).build().unwrap().at(sigma);
            let x = clean + sigma * eps;
            let denoised = x + scaling.skip_minus_one * x + scaling.out * output;
            // x itself is up to 380, so 10⁻¹⁶ of it is 10⁻¹³ of the image.
            prop_assert!((denoised - clean).abs() < 1e-12, "{prediction:?}: {denoised}");
            // The network sees √ᾱ x, of unit size, at the time of σ.
            prop_assert!(relative(scaling.input, bar.sqrt()) < ROUNDING);
            prop_assert!((0.0..=999.0).contains(&scaling.label));
        }
    }
}

#[test]
fn a_single_level_is_one_step_to_the_denoised_image() {
    let one = Sigmas::new(vec![0.5]).unwrap();
    for sampler in [&Ddim { eta: 1.0 } as &dyn Sampler, &VpAncestral {}, &VeReverseDiffusion {}, &VeAncestral {}] {
        assert_eq!(walk(sampler, &one), Walk(vec![Step::denoise(0.5)]));
    }
    let simplified = Simplified { c: 0.5, t0: 0.3, ramp: Ramp::Linear };
    assert_eq!(walk(&simplified, &one), Walk(vec![Step { sigma: 0.5, tau: 0.125, temperature: 0.0 }]));
}

fn refusal(sampler: &dyn Sampler) -> String {
    sampler.walk(&Sigmas::new(vec![2.0, 1.0, 0.5]).unwrap()).unwrap_err().to_string()
}

#[test]
fn parameters_outside_their_range_are_refused_by_name() {
    let zero = "must be finite and at least 0, but is";
    let positive = "must be finite and positive, but is";
    let langevin =
        |epsilon, repeats| AnnealedLangevin { epsilon, repeats, reference: ReferenceLevel::Min, denoise: false };
    let simplified = |c, t0| Simplified { c, t0, ramp: Ramp::Linear };
    assert_eq!(refusal(&Ddim { eta: -0.1 }), format!("eta {zero} -0.1"));
    assert_eq!(refusal(&Ddim { eta: f64::NAN }), format!("eta {zero} NaN"));
    assert_eq!(refusal(&Ddim { eta: 1.5 }), "eta must be at most 1, but is 1.5");
    assert_eq!(refusal(&Churn { lambda: -1.0 }), format!("lambda {zero} -1"));
    assert_eq!(refusal(&Churn { lambda: f64::INFINITY }), format!("lambda {zero} inf"));
    assert_eq!(refusal(&langevin(0.0, 1)), format!("epsilon {positive} 0"));
    assert_eq!(refusal(&langevin(1e-5, 0)), "repeats must be at least 1, but is 0");
    assert_eq!(refusal(&langevin(1e-5, 9_000_000)), "the number of steps must be at most 10000000, but is 27000000");
    assert_eq!(refusal(&simplified(f64::NAN, 0.0)), format!("c {positive} NaN"));
    assert_eq!(refusal(&simplified(0.5, -1.0)), format!("t0 {zero} -1"));
    assert_eq!(refusal(&Consistent { c: 0.0, v: 1.0 }), format!("c {positive} 0"));
    assert_eq!(refusal(&Consistent { c: 0.5, v: f64::NAN }), format!("v {zero} NaN"));
    let want = "such that T*(v) ≥ 0 at every level (take more steps, or another c below 2)";
    assert_eq!(
        refusal(&Consistent { c: 0.1, v: 0.0 }),
        format!("c must be {want}, but is 0.1: T* = -2.800 at σ = 2.0000")
    );
}

#[test]
fn steps_that_leave_the_range_of_numbers_are_refused() {
    let want = "every step must be positive and finite (choose milder parameters), but is";
    assert!(refusal(&Churn { lambda: 1e200 }).starts_with(want), "{}", refusal(&Churn { lambda: 1e200 }));
    let vast = Sigmas::new(vec![1e200, 1.0]).unwrap();
    let refusal = VeReverseDiffusion {}.walk(&vast).unwrap_err().to_string();
    assert_eq!(refusal, format!("{want} τ = inf, T = 0.5 at σ = {}", 1e200));
    let one = VeEulerMaruyama {}.walk(&Sigmas::new(vec![1.0]).unwrap()).unwrap_err().to_string();
    assert_eq!(one, "steps must be at least 2 for a sampler that needs a range of levels, but is 1");
}
