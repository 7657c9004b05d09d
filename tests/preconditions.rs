//! How networks are told of σ, and what is made of their answers: against the closed forms of their papers.

use tweedie::numbers::precondition::{
    AnyPrecondition, Edm, Iddpm, IddpmConfig, Levels, LevelsConfig, Plain, Precondition, Quantity, Scaling, SubVp, Vp,
};

/// f64 rounding through a logarithm and a root.
const ROUNDING: f64 = 1e-9;

fn close(a: f64, b: f64, tolerance: f64) {
    assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "{a} {b}");
}

/// x_t = m x₀ + s n with m = exp(−t²β_d/4 − tβ_min/2) and s = √(1 − m²) for VP, 1 − m² for sub-VP [Score SDE, Eqs. 29 and
/// 33]: in x = x_t/m, σ = s/m; the network is given x_t and 999 t.
#[test]
fn continuous_chains_are_told_their_own_time() {
    let vp = Vp::default();
    for t in [1e-3, 0.01, 0.1, 0.5, 0.9, 1.0] {
        let m = f64::exp(-t * t * 19.9 / 4.0 - t * 0.1 / 2.0);
        let at = vp.at((1.0 - m * m).sqrt() / m);
        close(at.label, 999.0 * t, ROUNDING);
        close(at.input, m, ROUNDING);
        let at = SubVp(vp).at((1.0 - m * m) / m);
        close(at.label, 999.0 * t, 1e-6); // at small t, 1 − m² has lost digits already
        close(at.input, m, ROUNDING);
        assert!(at.skip_minus_one == 0.0 && at.out == -(1.0 - m * m) / m);
    }
    // EDM's VPPrecond stands for a chain of M times: c_noise = (M − 1) t.
    let quarter = Vp { times: 251.0, ..vp };
    close(quarter.at(1.7).label, vp.at(1.7).label * 250.0 / 999.0, ROUNDING);
    // What score_sde's own code told the network of its tests.
    close(vp.at(1.746_932_960_998_237_6).label, 369.63, 1e-9);
}

/// Input and target have unit variance where images have variance s² [EDM, App. B.6]: c_in²(σ² + s²) = 1, and
/// c_out² = (1 − c_skip)² s² + c_skip² σ².
#[test]
fn edms_numbers_keep_input_and_target_at_unit_variance() {
    let edm = Edm::default();
    for sigma in [0.002, 0.1, 0.5, 3.0, 80.0] {
        let Scaling { skip_minus_one, out, input, label } = edm.at(sigma);
        close(input * input * (sigma * sigma + 0.25), 1.0, ROUNDING);
        let skip = 1.0 + skip_minus_one;
        close(out * out, skip_minus_one * skip_minus_one * 0.25 + skip * skip * sigma * sigma, ROUNDING);
        close(4.0 * label, sigma.ln(), ROUNDING);
    }
}

/// Tweedie's formula and the two others that say the same of a Gaussian prior of variance v: D = x v/(v + σ²).
#[test]
fn plain_networks_are_told_sigma_and_mean_one_denoiser() {
    let (v, x) = (0.25, 1.7);
    for sigma in [0.01, 0.3, 2.0, 50.0] {
        let clean = x * v / (v + sigma * sigma);
        for (predicts, answer) in [
            (Quantity::Denoised, clean),
            (Quantity::Noise, (x - clean) / sigma),
            (Quantity::Score, (clean - x) / (sigma * sigma)),
        ] {
            let plain = Plain { predicts, range: [0.01, 80.0] };
            let Scaling { skip_minus_one, out, input, label } = plain.at(sigma);
            assert!((input, label) == (1.0, sigma));
            close((1.0 + skip_minus_one) * x + out * answer, clean, ROUNDING);
        }
    }
}

#[test]
fn levels_are_told_by_the_number_of_the_nearest() {
    let config = LevelsConfig { range: [0.02, 2.0], count: 10, score: false };
    let levels = Levels::new(&config).unwrap();
    let score = Levels::new(&LevelsConfig { score: true, ..config }).unwrap();
    let sigma = |i: f64| 2.0 * 0.01f64.powf(i / 9.0);
    for i in 0..10 {
        let i = f64::from(i);
        for near in [sigma(i), sigma(i + 0.49).max(0.02), sigma(i - 0.49).min(2.0)] {
            let at = levels.at(near);
            assert!((at.label, at.out, at.input) == (i, near, 1.0), "{i} {near} {at:?}");
            // D = x + σ² s in pixels of 0 … 1, where σ is half as large, is x + (σ/2)² · 2 s in ours.
            close(score.at(near).out, near * sigma(i) / 2.0, ROUNDING);
        }
    }
    assert!(levels.at(50.0).label == 0.0 && levels.at(1e-4).label == 9.0);
}

/// The ends of the chain that EDM's own class computes, and a label for each of its levels.
///
/// That class adds 1 to u² in f32: at the lower end, where u² is 4e-5, nothing below 6e-8 of it is left.
#[test]
fn the_chain_of_improved_diffusion_is_edms() {
    let iddpm = Iddpm::new(&IddpmConfig::default()).unwrap();
    let (min, max) = iddpm.range();
    close(min / 0.006_422_337_144_613_266, 1.0, 1e-3);
    close(max / 20_291.169_921_875, 1.0, 1e-3);
    assert!(iddpm.at(max * 2.0).label == 999.0 && iddpm.at(max).label == 999.0);
    assert!(iddpm.at(min).label == 0.0);
    assert!(iddpm.at(min / 10.0).label == -1.0, "EDM's nearest level is u_M = 0 then");
}

#[test]
fn impossible_conventions_are_refused() {
    let complaint = |text: &str| {
        let precondition: AnyPrecondition = tweedie::files::yaml::parse(text, std::path::Path::new("card")).unwrap();
        precondition.build().unwrap_err().to_string()
    };
    let range = complaint("{kind: ve, range: [2, 1]}");
    assert!(range.contains("range") && range.contains("the smaller and positive one first"), "{range}");
    assert!(complaint("{kind: edm, sigma_data: 0, range: [0.1, 1]}").contains("sigma_data"));
    assert!(complaint("{kind: vp, beta_min: 0.1, beta_d: 19.9, epsilon: 2}").contains("epsilon"));
    assert!(complaint("{kind: sub-vp, beta_min: 0.1, beta_d: -1, epsilon: 0.001}").contains("beta_d"));
    assert!(complaint("{kind: levels, range: [0.02, 2], count: 0}").contains("at least 1"));
    assert!(complaint("{kind: plain, predicts: score, range: [0, 2]}").contains("range"));
    assert!(complaint("{kind: iddpm, c1: 0.001, c2: 0.008, times: 0}").contains("at least 1"));
}
