//! Steps in signal-to-noise space: the (ρ, γ, δ) family, the non-Markovian family, and that every process takes them alike.

use proptest::prelude::*;
use tweedie::numbers::{
    quadrature::integral,
    samplers::{
        Beta, Convention, Ddim, ExponentialIntegrator, Fresh, Frozen, NonMarkovian, Sampler, Snr, VeReverseDiffusion,
    },
    schedule::{Karras, Schedule},
    scheme::Scheme,
    sde::{AnySde, Cosine, CsubVp, Cvp, Edm, FlowMatching, Ou, Sde, SubVp, Ve, Vp},
    sigma::Sigmas,
    walk::{GaussianPixel, PixelMoments, Step, Walk},
};

use crate::common::{Line, body, difference, levels, normals, relative, slope};

/// Rounding of a dozen f64 operations.
const ROUNDING: f64 = 1e-14;

fn walk(sampler: &dyn Sampler, sigmas: &Sigmas) -> Walk {
    sampler.walk(sigmas).unwrap()
}

/// `count` levels from `max` to `min` in equal steps of ln σ.
fn geometric(count: usize, max: f64, min: f64) -> Sigmas {
    Sigmas::new((0..count).map(|k| max * (min / max).powf(k as f64 / (count - 1) as f64)).collect()).unwrap()
}

/// EDM's own levels.
fn edm(count: usize) -> Sigmas {
    Karras { rho: 7.0, max: None, min: None }.sigmas(count, (0.002, 80.0)).unwrap()
}

/// The largest difference of two walks in σ, τ and the variance 2τT of the noise, relative to σ².
fn apart(a: &Walk, b: &Walk) -> f64 {
    let step = |(p, q): (&Step, &Step)| {
        let noise = (p.noise().powi(2) - q.noise().powi(2)).abs();
        relative(p.sigma, q.sigma).max((p.tau - q.tau).abs().max(noise) / (p.sigma * p.sigma))
    };
    assert_eq!(a.0.len(), b.0.len());
    a.0.iter().zip(&b.0).map(step).fold(0.0, f64::max)
}

proptest! {
    #[test]
    fn without_powers_the_flow_is_ddim(sigmas in levels()) {
        let (flow, ddim) = (walk(&Snr::default(), &sigmas), walk(&Ddim::default(), &sigmas));
        prop_assert!(apart(&flow, &ddim) < ROUNDING);
    }

    /// Eq. 8, the ancestral step of VDM: mean (α_s/α_t)(z − (1 − r) s_t ε), variance s_s² (1 − r).
    #[test]
    fn half_a_power_and_a_scaled_delta_of_one_is_the_ancestral_step(sigmas in levels()) {
        let vdm = Snr { rho: 1.0, gamma: 0.5, delta: 1.0, fresh: Fresh::Scaled, ..Snr::default() };
        let vdm = body(walk(&vdm, &sigmas));
        let ancestral = body(walk(&NonMarkovian::default(), &sigmas));
        prop_assert!(apart(&vdm, &ancestral) < ROUNDING);
        for (step, (sigma, next)) in vdm.0.iter().zip(sigmas.pairs()) {
            let r = (next / sigma).powi(2);
            prop_assert!((step.tau / (sigma * sigma) - (1.0 - r)).abs() < ROUNDING);
            prop_assert!((step.noise().powi(2) - next * next * (1.0 - r)).abs() < ROUNDING * sigma * sigma);
        }
    }

    /// γ = ½ with δ = 0 has the mean of DDPM and the variance of VE's reverse diffusion.
    #[test]
    fn half_a_power_alone_is_reverse_diffusion(sigmas in levels()) {
        let half = body(walk(&Snr { rho: 1.0, gamma: 0.5, ..Snr::default() }, &sigmas));
        let reverse = body(walk(&VeReverseDiffusion {}, &sigmas));
        prop_assert!(apart(&half, &reverse) < ROUNDING);
    }

    #[test]
    fn conventions_are_other_names_for_the_same_gamma(sigmas in levels(), rho in 0.0..2.0, gamma in -0.4..1.0) {
        let named = |gamma, convention| walk(&Snr { rho, gamma, convention, ..Snr::default() }, &sigmas);
        let ours = named(gamma, Convention::Snr);
        prop_assert!(difference(&ours, &named(2.0 * gamma, Convention::Noise)) < ROUNDING);
        prop_assert!(difference(&ours, &named(-gamma, Convention::Opposite)) < ROUNDING);
        let (plain, times) = (body(named(0.0, Convention::Snr)), body(named(0.1, Convention::Multiplier)));
        for (plain, times) in plain.0.iter().zip(&times.0) {
            prop_assert!(relative(times.tau, 0.9 * plain.tau) < ROUNDING);
            prop_assert!(relative(times.noise(), plain.noise()) < ROUNDING);
        }
    }

    /// At γ = −½ and δ = −1 the powers become logarithms, and nothing jumps.
    #[test]
    fn the_limits_are_taken_continuously(sigmas in levels(), rho in 0.1..2.0, near in 1e-12..1e-6) {
        let at = |gamma, delta| walk(&Snr { rho, gamma, delta, ..Snr::default() }, &sigmas);
        let limit = at(-0.5, -1.0);
        for (step, (sigma, next)) in body(limit.clone()).0.iter().zip(sigmas.pairs()) {
            let log = 2.0 * (sigma / next).ln();
            // Neighbours differ by a thousandth at least, so that rounding their quotient costs the logarithm three digits.
            prop_assert!(relative(step.tau, sigma * sigma * (1.0 + rho * rho) * log / 2.0) < 1e-12);
            prop_assert!(relative(step.noise().powi(2), rho * rho * sigma * sigma * log) < 1e-12);
        }
        // A power p changes −ln r = L ≤ 2.2 by p L²/2, relative to L by about p; and rounding.
        prop_assert!(apart(&at(-0.5 + near, -1.0 + near), &limit) < 10.0 * near * (1.0 + rho * rho) + 1e-13);
    }

    /// β² = η² s_s² (1 − r) is DDIM, the paper's Theorem 4 in its Markovian case included.
    #[test]
    fn the_bridges_of_ddim_are_ddim(sigmas in levels(), eta in 0.0..=1.0) {
        let bridge = walk(&NonMarkovian { beta: Beta::Ddim { eta } }, &sigmas);
        let ddim = walk(&Ddim { eta }, &sigmas);
        prop_assert!(apart(&bridge, &ddim) < ROUNDING);
    }

    /// For a known image, D = x, each β leaves exactly N(x, σ′²).
    #[test]
    fn every_bridge_keeps_the_marginals_of_a_known_image(
        sigmas in levels(), share in prop::collection::vec(0.0..=1.0, 40), image in -1.0..1.0f64, rho in 0.0..2.0,
    ) {
        let shares = share[..sigmas.iter().len() - 1].to_vec();
        let start = PixelMoments { mean: image + 3.0 * sigmas.max(), variance: sigmas.max().powi(2) };
        for beta in [Beta::Shares { shares }, Beta::Frozen { rho }, Beta::Ddim { eta: 0.3 }] {
            let walk = walk(&NonMarkovian { beta }, &sigmas);
            for (at, (_, next)) in walk.moments(&GaussianPixel::prior(image, 0.0), start).zip(sigmas.pairs()) {
                // Where next is 0 the variance is what rounding left of σ².
                prop_assert!((at.variance - next * next).abs() <= 1e-12 * sigmas.max().powi(2));
                prop_assert!(next == 0.0 || relative(at.variance, next * next) < 1e-12);
            }
        }
    }

    /// One loop serves rows and schemes: the same variances, whoever computes them.
    #[test]
    fn a_walk_is_a_scheme(sigmas in levels(), rho in 0.0..2.0, v in 0.001..2.0, gamma in -0.4..1.0) {
        let walk = walk(&Snr { rho, gamma, ..Snr::default() }, &sigmas);
        let variance = v + sigmas.max().powi(2);
        let scheme = Scheme::from(&walk).variances(v, variance);
        let images = GaussianPixel::prior(0.5, v);
        let rows = walk.moments(&images, PixelMoments { mean: 0.0, variance });
        let (mut before, mut rounding) = (variance, 0.0);
        for ((row, scheme), step) in rows.zip(scheme).zip(&walk.0) {
            // A step that takes all variance away leaves its rounding, which long steps with much noise make grow again.
            let pull = step.tau / (v + step.sigma * step.sigma);
            rounding = (1.0 - pull).powi(2) * rounding + ROUNDING * ((1.0 + pull).powi(2) * before + row.variance);
            prop_assert!((row.variance - scheme).abs() <= rounding);
            before = row.variance;
        }
    }
}

/// The processes of the paper at their defaults, with a late and an early time inside each.
fn processes() -> [(Box<dyn Sde>, f64, f64); 9] {
    [
        (Box::new(Vp::default()), 0.8, 0.6),
        (Box::new(SubVp::default()), 0.8, 0.6),
        (Box::new(Ve::default()), 0.8, 0.6),
        (Box::new(Ou::default()), 4.0, 3.0),
        (Box::new(Cvp::default()), 0.8, 0.6),
        (Box::new(CsubVp::default()), 0.8, 0.6),
        (Box::new(Edm::default()), 64.0, 24.0),
        (Box::new(Cosine::default()), 0.8, 0.6),
        (Box::new(FlowMatching::default()), 0.8, 0.6),
    ]
}

/// Theorem 3 with its harmless factors: ½ (1 + ρ²) ∫ g²/(α² σ) (σ/σ_t)^(2γ) dt and ρ² ∫ g²/α² (σ/σ_t)^(2δ) dt, by
/// quadrature over each process's own time and coefficients.
#[test]
fn a_step_is_the_exact_inference_formula_with_its_powers_frozen() {
    for (sde, late, early) in processes() {
        let (sigma, next) = (sde.level(late), sde.level(early));
        let sigmas = Sigmas::new(vec![sigma, next]).unwrap();
        for (rho, gamma, delta) in [(0.0, 0.0, 0.0), (0.0, 0.026, 0.0), (1.0, 0.1, 0.2), (0.7, -0.5, -1.0)] {
            let step = walk(&Snr { rho, gamma, delta, ..Snr::default() }, &sigmas).0[0];
            let piece = |i: u32| early + (late - early) * f64::from(i) / 10.0;
            let total = |f: &dyn Fn(f64) -> f64| (0..10).map(|i| integral(f, piece(i), piece(i + 1))).sum::<f64>();
            let rate = |t: f64| sde.diffusion(t) / sde.alpha(t).powi(2);
            let share = |t: f64, power: f64| (sde.level(t) / sigma).powf(2.0 * power);
            let drift = total(&|t| (1.0 + rho * rho) / 2.0 * rate(t) / sde.level(t) * share(t, gamma));
            let noise = rho * rho * total(&|t| rate(t) * share(t, delta));
            assert!(relative(step.tau / sigma, drift) < 1e-10, "{sde:?}: {} and {drift}", step.tau / sigma);
            assert!(relative(step.noise().powi(2), noise) < 1e-10, "{sde:?}");
        }
    }
}

/// z_s written in each process's own α and s, against the walk of the σ frame: the same D on the same levels.
#[test]
fn on_equal_levels_every_process_takes_the_same_path_in_signal_to_noise_space() {
    let (rho, gamma, delta) = (1.0, 0.1, 0.2);
    let images = Line::golden();
    let denoise = |y: f64, sigma: f64| y + sigma * sigma * images.score(y, sigma);
    let sigmas = Sigmas::new((0..11).map(|k| (0.05 * 1200f64.powf(f64::from(k) / 10.0)).powf(-0.5)).collect()).unwrap();
    let sampler = Snr { rho, gamma, delta, ..Snr::default() };
    let steps = walk(&sampler, &sigmas);
    let sdes: [&dyn Sde; 7] = [
        &Vp::default(),
        &SubVp::default(),
        &CsubVp::default(),
        &Edm::default(),
        &Ve::default(),
        &Cosine::default(),
        &FlowMatching::default(),
    ];
    for sde in sdes {
        let (mut normal, mut ours) = (normals(3), 2.0);
        let mut theirs = ours * sde.alpha(sde.time(sigmas.max()));
        for (step, (sigma, next)) in steps.0.iter().zip(sigmas.pairs()).take(10) {
            let (late, early) = (sde.time(sigma), sde.time(next));
            let (alpha, noise) = (sde.alpha(late), sde.noise(late));
            let clean = denoise(theirs / alpha, noise / alpha);
            assert!((clean - denoise(ours, sigma)).abs() < 1e-10, "{sde:?} at {sigma}: {clean}");
            let ratio = sde.snr(late) / sde.snr(early);
            let phi = (1.0 - ratio.powf(0.5 + gamma)) / (1.0 + 2.0 * gamma);
            let psi = (1.0 - ratio.powf(1.0 + delta)) / (1.0 + delta);
            let (epsilon, fresh) = ((theirs - alpha * clean) / noise, normal());
            let drift = (1.0 + rho * rho) * noise * phi * epsilon;
            theirs = sde.alpha(early) / alpha * (theirs - drift + rho * noise * psi.sqrt() * fresh);
            ours += step.tau * images.score(ours, sigma) + step.noise() * fresh;
        }
    }
}

/// Section 4's table: what N(0, ½²) becomes on EDM's levels from N(0, 80²).
#[test]
fn standard_deviations_at_the_end_are_golden() {
    let end = |sampler: &Snr, count: usize| {
        let start = PixelMoments { mean: 0.0, variance: 6400.0 };
        walk(sampler, &edm(count)).moments(&GaussianPixel::prior(0.0, 0.25), start).last().unwrap().variance.sqrt()
    };
    let flow = [
        (18, [0.364699349, 0.423031436, 0.455776422, 0.487510004]),
        (36, [0.432052506, 0.460996216, 0.476577513, 0.491287037]),
        (79, [0.468964078, 0.482098039, 0.489030872, 0.495493465]),
    ];
    for (count, golden) in flow {
        for (gamma, golden) in [-0.05, 0.0, 0.026, 0.05].into_iter().zip(golden) {
            let found = end(&Snr::flow(gamma), count);
            assert!((found - golden).abs() < 1e-9, "γ = {gamma}, N = {count}: {found} and {golden}");
        }
    }
    let stochastic = [
        (18, [0.509970230, 0.367845599, 0.557288527, 0.503069188, 0.520930012]),
        (36, [0.498867090, 0.425566786, 0.511278241, 0.497626540, 0.501866026]),
        (79, [0.498301114, 0.463675609, 0.500932161, 0.498081237, 0.498940014]),
    ];
    let settings = [
        (0.0, 0.0, Fresh::Power),
        (0.5, 1.0, Fresh::Scaled),
        (0.5, 1.0, Fresh::Power),
        (0.2, 0.2, Fresh::Scaled),
        (0.2, 0.4, Fresh::Power),
    ];
    for (count, golden) in stochastic {
        for ((gamma, delta, fresh), golden) in settings.into_iter().zip(golden) {
            let found = end(&Snr { rho: 1.0, gamma, delta, fresh, ..Snr::default() }, count);
            assert!((found - golden).abs() < 1e-9, "({gamma}, {delta}), N = {count}: {found} and {golden}");
        }
    }
}

/// Figure 1's shape without Monte Carlo: a small positive γ is best, a large one is worse than none.
#[test]
fn the_sweep_of_gamma_on_a_mixture_is_golden() {
    let gammas = [-0.05, 0.0, 0.02, 0.026, 0.03, 0.04, 0.05, 0.06, 0.1, 0.2, 0.5];
    let golden = [
        (
            18,
            [
                0.358612, 0.230935, 0.181480, 0.167206, 0.157933, 0.136024, 0.117096, 0.103484, 0.137950, 0.362546,
                1.050033,
            ],
        ),
        (
            35,
            [
                0.201253, 0.132450, 0.104917, 0.096804, 0.091474, 0.078597, 0.066868, 0.057414, 0.071558, 0.199284,
                0.526682,
            ],
        ),
        (
            79,
            [
                0.102078, 0.067430, 0.053249, 0.049009, 0.046201, 0.039318, 0.032849, 0.027322, 0.032640, 0.100513,
                0.265868,
            ],
        ),
    ];
    let images = Line::golden();
    // The golden values take 20,000 quantiles; the error of the rule falls faster than the tolerance with 2,000.
    let (start, target) = (images.quantiles(20_000, 80.0), images.quantiles(20_000, 0.0));
    for (count, golden) in golden {
        let mut found = Vec::new();
        for gamma in gammas {
            let steps = walk(&Snr::flow(gamma), &edm(count));
            let follow = |x: f64| steps.0.iter().fold(x, |x, step| x + step.tau * images.score(x, step.sigma));
            let mut ends: Vec<f64> = start.iter().map(|x| follow(*x)).collect();
            ends.sort_by(f64::total_cmp);
            let squares = ends.iter().zip(&target).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
            found.push((squares / ends.len() as f64).sqrt());
        }
        for (found, golden) in found.iter().zip(golden) {
            assert!((found - golden).abs() < 1e-5, "N = {count}: {found} and {golden}");
        }
        assert!(found[3] <= 0.75 * found[1], "γ = 0.026 helps by a quarter at least");
    }
}

/// How fast |V_K − v − σ_min²| falls with the number of levels from `max` to `min`.
fn fall(sampler: &Snr, v: f64, counts: &[usize], (max, min): (f64, f64)) -> f64 {
    let error = |count: &usize| {
        let start = PixelMoments { mean: 0.0, variance: v + max * max };
        let steps = body(walk(sampler, &geometric(*count, max, min)));
        let end = steps.moments(&GaussianPixel::prior(0.0, v), start).last().unwrap().variance;
        (end - v - min * min).abs()
    };
    slope(counts, &counts.iter().map(error).collect::<Vec<_>>())
}

#[test]
fn marginals_are_kept_to_first_order_and_to_second_on_the_ridge() {
    let counts = [1600, 3200, 6400, 12_800];
    let settings =
        [(0.0, 0.0, 0.0), (0.0, 0.2, 0.0), (0.5, 0.1, 0.0), (1.0, 0.5, 0.0), (1.0, 0.1, 0.5), (2.0, 0.0, 0.3)];
    for v in [0.01, 0.25, 4.0] {
        for (rho, gamma, delta) in settings {
            let measured = fall(&Snr { rho, gamma, delta, ..Snr::default() }, v, &counts, (80.0, 0.002));
            assert!(measured >= 0.95, "({rho}, {gamma}, {delta}) at v = {v}: slope {measured}");
        }
        for (rho, gamma) in [(1.0, 0.1), (1.0, 0.3), (2.0, 0.2)] {
            let ridge = Snr { rho, gamma, delta: Snr::ridge(rho, gamma), ..Snr::default() };
            // The ends leave h (σ_min² − v²/σ_max²) of first order, so they have to lie far out.
            let fall = |sampler: &Snr| fall(sampler, v, &counts, (1e4, 1e-5));
            let (on, off) = (fall(&ridge), fall(&Snr { delta: 0.0, ..ridge }));
            assert!(on >= 1.8 && off < 1.2, "ρ = {rho}, γ = {gamma}, v = {v}: {on} on the ridge, {off} off it");
        }
    }
}

/// The formula against the root that bisection finds on 200 levels.
#[test]
fn the_gamma_for_a_variance_is_where_the_variance_is_kept() {
    let golden = [(2.0, 0.0664), (0.5, 0.0483), (0.1, 0.0366), (0.02, 0.0295), (0.01, 0.0272)];
    for (s, golden) in golden {
        let (formula, root) = (Snr::gamma_for(s * s, 80.0), Snr::gamma_on(s * s, &geometric(200, 80.0, 1e-4)).unwrap());
        assert!(relative(formula, root) < 0.03, "s = {s}: {formula} and {root}");
        assert!((root - golden).abs() < 2e-4, "s = {s}: {root} and {golden}");
    }
}

/// As levels grow denser, DDIM's η is the reverse SDE's ρ: what tells their steps apart falls in proportion to the step.
#[test]
fn bridges_become_the_reverse_sde() {
    let counts = [100, 200, 400, 800];
    for eta in [0.3, 1.0] {
        let bridge = NonMarkovian { beta: Beta::Ddim { eta } };
        let gap = |count: &usize| {
            let sigmas = geometric(*count, 10.0, 0.1);
            let (a, b) = (body(walk(&bridge, &sigmas)), body(walk(&Snr { rho: eta, ..Snr::default() }, &sigmas)));
            // Relative to what a step does, so that shorter steps do not count as agreement.
            let step = |(p, q): (&Step, &Step)| relative(p.tau, q.tau).max(relative(p.noise(), q.noise()));
            a.0.iter().zip(&b.0).map(step).fold(0.0, f64::max)
        };
        let measured = slope(&counts, &counts.iter().map(gap).collect::<Vec<_>>());
        assert!((measured - 1.0).abs() < 0.1, "η = {eta}: {measured}");
    }
}

/// With D frozen, e = x − D obeys de = (1 + ρ²) e dσ/σ and gathers ρ² ∫ (σ′/u)^(2+2ρ²) d(u²) of variance.
#[test]
fn frozen_bridges_integrate_the_reverse_sde_exactly() {
    let (sigma, next) = (2.0f64, 0.7f64);
    let sigmas = Sigmas::new(vec![sigma, next]).unwrap();
    for rho in [0.3f64, 1.0, 1.7] {
        let step = walk(&NonMarkovian { beta: Beta::Frozen { rho } }, &sigmas).0[0];
        let power = 1.0 + rho * rho;
        assert!(relative(1.0 - step.tau / (sigma * sigma), (next / sigma).powf(power)) < 1e-13);
        let fresh = integral(|u| rho * rho * 2.0 * u * (next / u).powf(2.0 * power), next, sigma);
        assert!(relative(step.noise().powi(2), fresh) < 1e-9);
    }
}

/// Ornstein and Uhlenbeck's process with θ = 1 and g² = 2 [SDE tutorial, §4]: z ← eʰ z + 2 (eʰ − 1) s + √(e²ʰ − 1) n.
#[test]
fn the_integrator_with_a_frozen_score_is_the_textbooks() {
    let ou = Ou::default();
    let (t, s) = (3.0, 2.6);
    let h: f64 = t - s;
    let sigmas = Sigmas::new(vec![ou.level(t), ou.level(s)]).unwrap();
    let sampler = ExponentialIntegrator { frozen: Frozen::Score, rho: 1.0, sde: AnySde::Ou(ou) };
    let step = walk(&sampler, &sigmas).0[0];
    // y = z/α; ∇ log p(z) = (score of y)/α: y ← y + 2 (eʰ − 1)/(α_t α_s) · score + …
    assert!(relative(step.tau, 2.0 * h.exp_m1() / (ou.alpha(t) * ou.alpha(s))) < 1e-12);
    assert!(relative(step.noise(), (2.0 * h).exp_m1().sqrt() / ou.alpha(s)) < 1e-12);
    // Without a scale in the way, the frozen score is γ = ½.
    let ve = ExponentialIntegrator { sde: AnySde::Ve(Ve::default()), ..sampler };
    let sigmas = edm(20);
    let sigmas = Sigmas::new(sigmas.iter().filter(|sigma| *sigma < 50.0).collect()).unwrap();
    assert!(apart(&walk(&ve, &sigmas), &walk(&Snr { rho: 1.0, gamma: 0.5, ..Snr::default() }, &sigmas)) < 1e-12);
}

#[test]
fn parameters_outside_their_range_are_refused_by_name() {
    let sigmas = Sigmas::new(vec![2.0, 1.0, 0.5]).unwrap();
    let refusal = |sampler: &dyn Sampler| sampler.walk(&sigmas).unwrap_err().to_string();
    let snr = Snr::default();
    assert_eq!(refusal(&Snr { rho: -1.0, ..snr }), "rho must be finite and at least 0, but is -1");
    assert_eq!(refusal(&Snr { gamma: f64::NAN, ..snr }), "gamma must be finite, but is NaN");
    let bridge = |beta| NonMarkovian { beta };
    assert_eq!(refusal(&bridge(Beta::Ddim { eta: 1.5 })), "eta must be at most 1, but is 1.5");
    let shares = |shares: &[f64]| bridge(Beta::Shares { shares: shares.to_vec() });
    let want = "the number of shares must be one less than that of the levels, but is 1 (the levels need 2)";
    assert_eq!(refusal(&shares(&[0.5])), want);
    assert_eq!(refusal(&shares(&[0.5, 1.5])), "every share must be between 0 and 1, but is 1.5");
    let cvp = ExponentialIntegrator { frozen: Frozen::Score, rho: 1.0, sde: AnySde::Cvp(Cvp::default()) };
    assert!(refusal(&cvp).starts_with("the largest σ must be one that the chosen sde reaches, but is 2"));
    let none = Snr::gamma_on(f64::NAN, &sigmas).unwrap_err().to_string();
    assert!(none.starts_with("the variance of the images must be such that some γ"), "{none}");
}
