//! The bounds against what a sampler with a wrong start and a wrong score really does, exactly, on normal distributions.

use tweedie::numbers::{
    bounds::{Normal, total_variation, wasserstein},
    quadrature::integral,
    sde::{Cvp, Ou, Sde, SubVp, Vp},
};

/// What the reverse SDE makes of noise when its score is the exact one of N(m, s²) plus a constant error.
///
/// Mean and variance obey linear equations, integrated here by RK4 in 4000 steps.
fn reached(sde: &dyn Sde, images: Normal, error: f64) -> Normal {
    let marginal = |t: f64| {
        let alpha = sde.alpha(t);
        (alpha * images.mean, (alpha * images.deviation).powi(2) + if t > 0.0 { sde.noise(t).powi(2) } else { 0.0 })
    };
    let slope = |t: f64, [mean, variance]: [f64; 2]| {
        let ((m, v), f, g) = (marginal(t), sde.drift(t), sde.diffusion(t));
        [-f * mean - g * (mean - m) / v + g * error, -2.0 * f * variance - 2.0 * g * variance / v + g]
    };
    let (count, end) = (4000, sde.end());
    let h = end / f64::from(count);
    let mut state = [0.0, sde.prior().powi(2)];
    for k in 0..count {
        let t = end - h * f64::from(k);
        let add = |state: [f64; 2], k: [f64; 2], h: f64| [state[0] + h * k[0], state[1] + h * k[1]];
        let k1 = slope(t, state);
        let k2 = slope(t - h / 2.0, add(state, k1, h / 2.0));
        let k3 = slope(t - h / 2.0, add(state, k2, h / 2.0));
        let k4 = slope((t - h).max(0.0), add(state, k3, h));
        for (i, s) in state.iter_mut().enumerate() {
            *s += h / 6.0 * (k1[i] + 2.0 * k2[i] + 2.0 * k3[i] + k4[i]);
        }
    }
    Normal { mean: state[0], deviation: state[1].sqrt() }
}

/// p_T.
fn last(sde: &dyn Sde, images: Normal) -> Normal {
    let t = sde.end();
    Normal { mean: sde.alpha(t) * images.mean, deviation: (sde.alpha(t) * images.deviation).hypot(sde.noise(t)) }
}

fn noise(sde: &dyn Sde) -> Normal {
    Normal { mean: 0.0, deviation: sde.prior() }
}

const IMAGES: Normal = Normal { mean: 1.0, deviation: 0.5 };

#[test]
fn distances_of_normal_distributions_are_the_integrals_that_define_them() {
    let density = |n: Normal, x: f64| (-((x - n.mean) / n.deviation).powi(2) / 2.0).exp() / n.deviation;
    for (mean, deviation) in [(0.0, 1.0), (1.5, 0.5), (-0.3, 2.0), (0.7, 0.9999999), (0.0, 1.3)] {
        let (a, b) = (Normal { mean: 0.2, deviation: 1.0 }, Normal { mean, deviation });
        let pieces = |f: &dyn Fn(f64) -> f64| -> f64 {
            (0..4000).map(|i| integral(f, f64::from(i) / 100.0 - 20.0, f64::from(i + 1) / 100.0 - 20.0)).sum()
        };
        let norm = (2.0 * std::f64::consts::PI).sqrt();
        let area = pieces(&|x| (density(a, x) - density(b, x)).abs()) / (2.0 * norm);
        // The integrand has a kink in two of the pieces, of width 10⁻².
        assert!((a.total_variation(&b) - area).abs() < 1e-5, "{b:?}: {} and {area}", a.total_variation(&b));
        assert!((a.total_variation(&b) - b.total_variation(&a)).abs() < 1e-9);
        // Where b's density has vanished its logarithm is taken from the formula.
        let log = |n: Normal, x: f64| -((x - n.mean) / n.deviation).powi(2) / 2.0 - n.deviation.ln();
        let divergence = pieces(&|x| density(a, x) * (log(a, x) - log(b, x))) / norm;
        assert!((a.divergence(&b) - divergence).abs() < 1e-9);
    }
    let apart = Normal { mean: 3.0, deviation: 1.0 }.wasserstein(&Normal { mean: 0.0, deviation: 5.0 });
    assert!((apart - 5.0).abs() < 1e-15);
}

/// Section 6's table for Ornstein and Uhlenbeck's process: how far p_T is from noise, and what comes of starting there.
#[test]
fn the_cost_of_starting_from_noise_is_golden() {
    let distances = [3.767e-2, 4.642e-3, 6.207e-4, 8.385e-5, 1.134e-5];
    let variations = [0.15126, 0.05421, 0.01987, 0.00731, 0.00269];
    for ((end, distance), variation) in (1..=5).zip(distances).zip(variations) {
        let ou = Ou { end: f64::from(end), ..Ou::default() };
        let start = last(&ou, IMAGES).total_variation(&noise(&ou));
        assert!((start - variation).abs() < 1e-5, "T = {end}: {start} and {variation}");
        // E|x|² = 1.25; the corollary's bound on the same.
        assert!(start <= (-f64::from(end)).exp() * (1.25f64 / 2.0).sqrt());
        let found = reached(&ou, IMAGES, 0.0).wasserstein(&IMAGES);
        // The golden values are those of 20,000 Euler steps.
        assert!((found - distance).abs() < 0.01 * distance + 1e-6, "T = {end}: {found} and {distance}");
    }
}

#[test]
fn a_score_that_errs_by_a_constant_costs_its_golden_variation_and_less_than_the_bound() {
    let ou = Ou { end: 4.0, ..Ou::default() };
    let start = last(&ou, IMAGES).total_variation(&noise(&ou));
    for (error, measured, bound) in [(0.1, 0.0598, 0.1487), (0.3, 0.1782, 0.4316)] {
        let found = reached(&ou, IMAGES, error).total_variation(&IMAGES);
        assert!((found - measured).abs() < 5e-4, "{found} and {measured}");
        assert!((total_variation(&ou, start, error, 1.0) - bound).abs() < 1e-4);
    }
}

/// Over a grid of processes, images and errors no measured distance is above its bound.
#[test]
fn bounds_hold_over_a_grid() {
    let mut closest = f64::INFINITY;
    for deviation in [0.3, 0.8, 1.0, 2.0] {
        for mean in [0.0, 1.0] {
            let images = Normal { mean, deviation };
            let sdes: [&dyn Sde; 6] = [
                &Ou { end: 1.0, ..Ou::default() },
                &Ou { end: 3.0, ..Ou::default() },
                &Vp { beta_max: 8.0, ..Vp::default() },
                &Vp::default(),
                &SubVp { beta_max: 8.0, ..SubVp::default() },
                &Cvp { beta_max: 4.0, ..Cvp::default() },
            ];
            for sde in sdes {
                let (at_end, noise) = (last(sde, images), noise(sde));
                for error in [0.0, 0.01, 0.1, 0.5] {
                    let found = reached(sde, images, error);
                    let bound = total_variation(sde, at_end.total_variation(&noise), error, 1.0);
                    let measured = found.total_variation(&images);
                    assert!(measured <= bound + 1e-9, "TV on {sde:?}, {images:?}, {error}: {measured} > {bound}");
                    let steepest = |t: f64| -1.0 / ((sde.alpha(t) * deviation).hypot(sde.noise(t))).powi(2);
                    let start = at_end.wasserstein(&noise);
                    let best = [0.05, 0.1, 0.25, 0.5, 1.0].map(|h| wasserstein(sde, start, error, &steepest, h));
                    let measured = found.wasserstein(&images);
                    for bound in best {
                        assert!(measured <= bound + 1e-9, "W₂ on {sde:?}, {images:?}, {error}: {measured} > {bound}");
                        if error > 0.0 {
                            closest = closest.min(bound / measured);
                        }
                    }
                }
            }
        }
    }
    // Bounds that were never near would prove nothing: with the exact L(t) the coupling argument loses little.
    assert!(closest < 3.0, "the tightest is {closest:.2} times what was measured");
}
