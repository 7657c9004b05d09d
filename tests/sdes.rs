//! Forward processes against the golden table, against their own definitions, and against each other.

use tweedie::numbers::{
    quadrature::integral,
    sde::{AnySde, Cosine, Cou, CsubVp, Cvp, Edm, FlowMatching, Ou, Sde, SubVp, Table, Ve, Vp},
};

use crate::common::{Line, relative};

/// Every process at the defaults of the golden table.
fn all() -> [(&'static str, Box<dyn Sde>); 10] {
    [
        ("vp", Box::new(Vp::default())),
        ("sub-vp", Box::new(SubVp::default())),
        ("ve", Box::new(Ve::default())),
        ("ou", Box::new(Ou::default())),
        ("cou", Box::new(Cou::default())),
        ("cvp", Box::new(Cvp::default())),
        ("csub-vp", Box::new(CsubVp::default())),
        ("edm", Box::new(Edm::default())),
        ("cosine", Box::new(Cosine::default())),
        ("flow-matching", Box::new(FlowMatching::default())),
    ]
}

/// t, α, s, f, g², SNR, worked out independently in the notes on the paper, to ten digits.
const GOLDEN: [(&str, [f64; 6]); 20] = [
    ("vp", [0.3, 0.6295500003, 0.7769599713, -3.035, 6.07, 0.6565429884]),
    ("vp", [0.8, 0.03979555724, 0.9992078431, -8.01, 16.02, 0.001586198417]),
    ("sub-vp", [0.3, 0.6295500003, 0.6036667971, -3.035, 5.116524353, 1.087591684]),
    ("sub-vp", [0.8, 0.03979555724, 0.9984163136, -8.01, 16.01995982, 0.001588714442]),
    ("ve", [0.3, 1.0, 0.1283443419, 0.0, 0.2822984519, 60.70808667]),
    ("ve", [0.8, 1.0, 9.102815522, 0.0, 1411.492259, 0.01206836724]),
    ("ou", [1.5, 0.2231301601, 0.97478866, -1.0, 2.0, 0.05239569649]),
    ("ou", [4.0, 0.01831563889, 0.9998322546, -1.0, 2.0, 0.0003355752008]),
    ("cou", [0.9, 1.568312185, 1.208140352, 0.5, 1.0, 1.68511775]),
    ("cou", [2.4, 3.320116923, 3.165940047, 0.5, 1.0, 1.099768772]),
    ("cvp", [0.3, 1.198744789, 0.6610514871, 1.2035, 2.407, 3.288386762]),
    ("cvp", [0.8, 3.605282028, 3.463821372, 3.201, 6.402, 1.083346818]),
    ("csub-vp", [0.3, 1.198744789, 0.4369890686, 1.2035, 2.563304763, 7.525100737]),
    ("csub-vp", [0.8, 3.605282028, 11.9980585, 3.201, 1075.212857, 0.09029351027]),
    ("edm", [24.0, 1.0, 24.0, 0.0, 48.0, 0.001736111111]),
    ("edm", [64.0, 1.0, 64.0, 0.0, 128.0, 0.000244140625]),
    ("cosine", [0.3, 0.8910065242, 0.4539904997, -0.8003607045, 1.600721409, 3.851839996]),
    ("cosine", [0.8, 0.3090169944, 0.9510565163, -4.834413995, 9.66882799, 0.105572809]),
    ("flow-matching", [0.3, 0.7, 0.3, -1.428571429, 0.8571428571, 5.444444444]),
    ("flow-matching", [0.8, 0.2, 0.8, -5.0, 8.0, 0.0625]),
];

#[test]
fn every_process_has_its_golden_values() {
    for (name, [t, alpha, noise, drift, diffusion, snr]) in GOLDEN {
        let all = all();
        let (_, sde) = all.iter().find(|(known, _)| *known == name).unwrap();
        let found = [sde.alpha(t), sde.noise(t), sde.drift(t), sde.diffusion(t), sde.snr(t)];
        for (found, expected) in found.into_iter().zip([alpha, noise, drift, diffusion, snr]) {
            assert!(relative(found, expected) < 1e-9, "{name} at {t}: {found} and {expected}");
        }
    }
}

/// Thirty times from near 0 to T.
fn times(sde: &dyn Sde) -> impl Iterator<Item = f64> {
    let end = sde.end();
    (1..=30).map(move |k| end * f64::from(k) / 30.0)
}

#[test]
fn time_is_the_inverse_of_the_level_over_the_whole_range() {
    for (name, sde) in all() {
        // From levels that are all but nothing on.
        for t in times(&*sde).chain([1e-9, 1e-6, 1e-3].map(|part| part * sde.end())) {
            let back = sde.time(sde.level(t));
            // CVP's level is within 2e-2 of its limit 1 at T, which costs the inverse two digits there.
            assert!(relative(back, t) < 1e-10, "{name}: {t} comes back as {back}");
        }
    }
}

/// f = d ln α/dt and g² = −s² d ln SNR/dt, by central differences.
#[test]
fn coefficients_are_the_derivatives_of_alpha_and_of_the_level() {
    for (name, sde) in all() {
        for t in times(&*sde).take(29) {
            let h = 1e-5 * t;
            let slope = |f: &dyn Fn(f64) -> f64| (f(t + h) - f(t - h)) / (2.0 * h);
            let drift = slope(&|t| sde.alpha(t).ln());
            let diffusion = 2.0 * sde.noise(t).powi(2) * slope(&|t| sde.level(t).ln());
            // Differences of step 1e-5 err by 1e-10 in truncation, and by 1e-16/1e-5 = 1e-11 in rounding.
            assert!((drift - sde.drift(t)).abs() < 1e-7 * (1.0 + drift.abs()), "{name} at {t}");
            assert!(relative(diffusion, sde.diffusion(t)) < 1e-7, "{name} at {t}");
            assert!(sde.diffusion(t) > 0.0);
        }
    }
}

/// dV/dt = 2 f V + g² carries the variance of an image to that of z: α² v + s².
#[test]
fn the_moment_equation_ends_at_the_closed_form() {
    for (name, sde) in all() {
        let (from, to, v) = (0.1 * sde.end(), 0.8 * sde.end(), 0.3);
        let closed = |t: f64| sde.alpha(t).powi(2) * v + sde.noise(t).powi(2);
        // Divided by α² the equation is a plain integral: V/α² grows by ∫ g²/α². Twenty pieces of a rule of order 40.
        let edge = |i: u32| from + (to - from) * f64::from(i) / 20.0;
        let rate = |t: f64| sde.diffusion(t) / sde.alpha(t).powi(2);
        let grown: f64 = (0..20).map(|i| integral(rate, edge(i), edge(i + 1))).sum();
        let found = sde.alpha(to).powi(2) * (closed(from) / sde.alpha(from).powi(2) + grown);
        assert!(relative(found, closed(to)) < 1e-10, "{name}: {found} and {}", closed(to));
    }
}

/// p_CsubVP(t, z) = F⁻¹ p_VE(τ, z/F) on the line, with the chain rule's 1/F in the score [SDE tutorial, §1].
#[test]
fn a_score_of_the_exploding_process_serves_the_contractive_one() {
    let (ve, contractive, images) = (Ve::default(), CsubVp::default(), Line::golden());
    for t in times(&contractive) {
        let total = 2.0 * contractive.alpha(t).ln();
        let f = (total / 2.0).exp();
        let g = f - 1.0 / f;
        let tau = (1.0 + (g / ve.min).powi(2)).ln() / (2.0 * (ve.max / ve.min).ln());
        assert!(relative(ve.time(contractive.level(t)), tau) < 1e-10);
        for z in [-3.0, 0.1, 2.0] {
            // The marginal of z has components N(α m, α² d² + s²): its score, straight from the definition.
            let (alpha, noise) = (contractive.alpha(t), contractive.noise(t));
            let scaled = images.components.iter().map(|[w, m, d]| [*w, alpha * m, alpha * d]).collect();
            let own = Line { components: scaled }.score(z, noise);
            let reused = images.score(z / f, ve.level(tau)) / f;
            assert!((own - reused).abs() < 1e-9 * (1.0 + own.abs()), "{t}: {own} and {reused}");
        }
    }
}

#[test]
fn only_those_that_never_forget_the_image_say_so() {
    for (name, sde) in all() {
        let told = sde.caveat();
        assert_eq!(told.is_some(), name == "cou" || name == "cvp", "{name}: {told:?}");
    }
    let told = Cvp::default().caveat().unwrap();
    assert!(told.contains("ends at 1.019"), "{told}");
}

/// A table of another process is that process, as finely as it was written down.
#[test]
fn a_table_is_what_was_tabulated() {
    let vp = Vp::default();
    let rows = (1..=1000).map(|k| f64::from(k) / 1000.0).map(|t| [t, vp.alpha(t), vp.noise(t)]).collect();
    let table = Table { rows };
    table.check().unwrap();
    for t in [0.0123, 0.3, 0.77777, 0.9999] {
        assert!(relative(table.time(table.level(t)), t) < 1e-10);
        // Between rows that are 10⁻³ apart, linear in t: h²/8 of a second derivative of at most 20, then 1/t².
        assert!(relative(table.alpha(t), vp.alpha(t)) < 1e-5 && relative(table.level(t), vp.level(t)) < 1e-3);
        // Slopes are those of the interval, up to 10⁻³/2 from where they are wanted: f changes by 9.95 per unit of time, and
        // d ln σ/dt, about 1/(2t) near 0, by its own part of 10⁻³/(2t).
        assert!((table.drift(t) - vp.drift(t)).abs() < 5e-3, "{t}");
        assert!(relative(table.diffusion(t), vp.diffusion(t)) < 5e-4 / t + 5e-3, "{t}");
    }
    assert!(relative(table.end(), 1.0) < 1e-15);
}

#[test]
fn what_is_no_process_is_refused_by_name() {
    let refusal = |sde: &dyn Sde| sde.check().unwrap_err().to_string();
    assert_eq!(refusal(&Ou { theta: 0.0, ..Ou::default() }), "theta must be finite and positive, but is 0");
    assert_eq!(refusal(&Ve { max: 0.001, ..Ve::default() }), "max must be finite and larger than min, but is 0.001");
    let falling = Vp { beta_min: 20.0, beta_max: 1.0, end: 1.0 };
    assert_eq!(refusal(&falling), "beta_max must be positive, finite and not smaller than beta_min, but is 1");
    let late = FlowMatching { end: 1.0 };
    assert_eq!(refusal(&late), "end must be larger than 0 and smaller than 1, where α vanishes, but is 1");
    assert_eq!(refusal(&Table { rows: vec![] }), "rows must be at least two lists [t, α, s], but is 0");
    let back = Table { rows: vec![[0.0, 1.0, 0.1], [1.0, 0.5, 0.01]] };
    let want = "rows must be in the order of time, with a growing s/α, but is [0.0, 1.0, 0.1] before [1.0, 0.5, 0.01]";
    assert_eq!(refusal(&back), want);
    assert!(refusal(&Table { rows: vec![[0.0, 1.0, 0.0], [1.0, 0.5, 0.01]] }).starts_with("rows must be finite"));
}

#[test]
fn a_process_is_named_in_yaml_with_the_parameters_that_differ() {
    let named: AnySde = serde_json::from_str(r#"{"kind": "csub-vp", "beta_max": 6.0}"#).unwrap();
    assert_eq!(named, AnySde::CsubVp(CsubVp { beta_max: 6.0, ..CsubVp::default() }));
}
