//! How fast the error of each solver falls: against a fine solution on a mixture, and in exact variances.

use tweedie::numbers::{
    scheme::{Scheme, Update},
    sde::{AnySde, CsubVp, Cvp, Edm, Ou, Sde, SubVp, Table, Vp},
    sigma::Sigmas,
    solvers::{
        Deis, Dpm, DpmMultistep, DpmPlusPlus, DpmSinglestep, EulerMaruyama, Expansion, Heun, Ipndm, ReverseDiffusion,
        RungeKutta, Sa, SecondOrder, Solver, Sra1, StochasticHeun, Unipc, Variable, Variant, Width,
    },
};

use crate::common::{Line, carry_out, normals, quiet, relative, slope};

/// How far a measured order may be from the theory's.
const TOLERANCE: f64 = 0.15;

fn vp(beta_max: f64) -> AnySde {
    AnySde::Vp(Vp { beta_max, ..Vp::default() })
}

/// The levels at `count` + 1 times from `late` to `early` in equal steps.
fn levels(sde: &dyn Sde, count: usize, late: f64, early: f64) -> Sigmas {
    let time = |k: usize| late + (early - late) * k as f64 / count as f64;
    Sigmas::new((0..=count).map(|k| sde.level(time(k))).collect()).unwrap()
}

/// The state at the last level, before it is denoised.
fn undenoised(solver: &dyn Solver, sigmas: &Sigmas) -> Scheme {
    let mut scheme = solver.scheme(sigmas).unwrap();
    scheme.0.pop();
    scheme
}

/// Where forty quantiles of the golden mixture end, along VP from t = 0.9 to 0.05 in `count` steps.
fn ends(solver: &dyn Solver, count: usize) -> Vec<f64> {
    let (images, sde) = (Line::golden(), vp(20.0));
    let score = |x: f64, sigma: f64| images.score(x, sigma);
    let sigmas = levels(sde.get(), count, 0.9, 0.05);
    let scheme = undenoised(solver, &sigmas);
    let start = images.quantiles(40, sigmas.max());
    start.into_iter().map(|x| *carry_out(&scheme, x, &score, &mut quiet).last().unwrap()).collect()
}

/// Root mean square distance from `exact` for each number of steps.
fn errors(solver: &dyn Solver, counts: &[usize], exact: &[f64]) -> Vec<f64> {
    let error = |count: &usize| {
        let squares: f64 = ends(solver, *count).iter().zip(exact).map(|(a, b)| (a - b).powi(2)).sum();
        (squares / exact.len() as f64).sqrt()
    };
    counts.iter().map(error).collect()
}

/// A solver, its order, and how many steps to measure it with.
type Case = (&'static str, Box<dyn Solver>, f64, [usize; 3]);

#[test]
fn deterministic_solvers_have_their_order() {
    let in_time = |order| RungeKutta { order, sde: vp(20.0) };
    let in_sigma = |order| RungeKutta { order, ..RungeKutta::default() };
    let deis = |order, variable| Deis { order, variable, ..Deis::default() };
    let multistep = |order, expansion, second| DpmMultistep { order, expansion, second, ..DpmMultistep::default() };
    let (midpoint, heun) = (SecondOrder::Midpoint, SecondOrder::Heun);
    let cases: [Case; 31] = [
        ("Euler in t", Box::new(in_time(1)), 1.0, [200, 400, 800]),
        ("Heun in t", Box::new(in_time(2)), 2.0, [100, 200, 400]),
        ("RK4 in t", Box::new(in_time(4)), 4.0, [50, 100, 200]),
        ("DDIM", Box::new(Dpm { order: 1 }), 1.0, [100, 200, 400]),
        ("Euler in σ", Box::new(in_sigma(1)), 1.0, [100, 200, 400]),
        ("Heun in σ", Box::new(in_sigma(2)), 2.0, [100, 200, 400]),
        ("EDM's Heun", Box::new(Heun::default()), 2.0, [100, 200, 400]),
        ("DPM-2", Box::new(Dpm { order: 2 }), 2.0, [50, 100, 200]),
        ("DPM-3", Box::new(Dpm { order: 3 }), 3.0, [50, 100, 200]),
        ("++2M", Box::new(DpmPlusPlus { variant: Variant::Multistep }), 2.0, [100, 200, 400]),
        ("++2S", Box::new(DpmPlusPlus { variant: Variant::Singlestep }), 2.0, [50, 100, 200]),
        ("AB2 in σ", Box::new(deis(2, Variable::Sigma)), 2.0, [100, 200, 400]),
        ("DEIS tAB2", Box::new(deis(2, Variable::Time)), 2.0, [100, 200, 400]),
        ("DEIS tAB3", Box::new(deis(3, Variable::Time)), 3.0, [200, 400, 800]),
        ("DEIS ρAB3", Box::new(deis(3, Variable::Sigma)), 3.0, [200, 400, 800]),
        ("UniPC-1", Box::new(Unipc { order: 1, width: Width::Bh1, ..Unipc::default() }), 2.0, [100, 200, 400]),
        ("UniPC-2, bh1", Box::new(Unipc { order: 2, width: Width::Bh1, ..Unipc::default() }), 3.0, [200, 400, 800]),
        ("UniPC-2, bh2", Box::new(Unipc { order: 2, width: Width::Bh2, ..Unipc::default() }), 3.0, [200, 400, 800]),
        ("UniPC-3", Box::new(Unipc { order: 3, width: Width::Bh2, ..Unipc::default() }), 4.0, [200, 400, 800]),
        ("UniPC-2 of ε", Box::new(Unipc { noise: true, ..Unipc::default() }), 3.0, [200, 400, 800]),
        ("++M2, heun", Box::new(multistep(2, Expansion::Denoised, heun)), 2.0, [100, 200, 400]),
        // The authors' program and diffusers give v″ half its weight.
        ("++M3", Box::new(multistep(3, Expansion::Denoised, midpoint)), 2.0, [200, 400, 800]),
        ("DPM M2", Box::new(multistep(2, Expansion::Noise, midpoint)), 2.0, [100, 200, 400]),
        ("DPM M2, heun", Box::new(multistep(2, Expansion::Noise, heun)), 2.0, [100, 200, 400]),
        ("DPM M3", Box::new(multistep(3, Expansion::Noise, midpoint)), 2.0, [200, 400, 800]),
        ("++S2", Box::new(DpmSinglestep::default()), 2.0, [100, 200, 400]),
        ("++S3", Box::new(DpmSinglestep { order: 3, second: heun, ..Default::default() }), 3.0, [101, 203, 407]),
        ("DPM S2", Box::new(DpmSinglestep { expansion: Expansion::Noise, ..Default::default() }), 2.0, [100, 200, 400]),
        ("DEIS ln ρAB2", Box::new(deis(2, Variable::LogSigma)), 2.0, [100, 200, 400]),
        ("DEIS ln ρAB3", Box::new(deis(3, Variable::LogSigma)), 3.0, [200, 400, 800]),
        ("SA-2", Box::new(Sa { tau: 0.0, ..Sa::default() }), 2.0, [100, 200, 400]),
    ];
    // At 1600 steps the error of RK4 is below 1e-11 already.
    let exact = ends(&in_time(4), 1600);
    let mut missed = Vec::new();
    for (name, solver, order, counts) in cases {
        let errors = errors(&*solver, &counts, &exact);
        let measured = slope(&counts, &errors);
        if (measured - order).abs() > TOLERANCE {
            missed.push(format!("{name}: {measured:.3}, wanted {order} ({errors:?})"));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

/// On equal steps of σ the weights of order p integrate every polynomial of degree p − 1 through the last p slopes exactly:
/// Σⱼ wⱼ (−j)ᵏ = ∫₀¹ tᵏ dt.
#[test]
fn ipndm_takes_the_weights_of_adams_and_bashforth() {
    let sigmas = Sigmas::new((0..8).map(|k| 3.0 - 0.25 * f64::from(k)).collect()).unwrap();
    for order in 1..=4 {
        let scheme = Ipndm { order }.scheme(&sigmas).unwrap();
        for (step, hop) in scheme.0.iter().filter_map(Update::hop).take(7).enumerate() {
            assert_eq!(hop.next.values.len(), order.min(step + 1), "the first steps know less");
            for k in 0..hop.next.values.len() as i32 {
                let terms = hop.next.values.iter().enumerate().map(|(j, w)| w / -0.25 * (-(j as f64)).powi(k));
                assert!((terms.sum::<f64>() - 1.0 / f64::from(k + 1)).abs() < 1e-13, "order {order}, degree {k}");
            }
        }
    }
}

/// |V_K − V| for N(0, 0.49) in N steps of a process from `late` to `early`, exactly.
fn weak_errors(make: &dyn Fn(AnySde) -> Box<dyn Solver>, sde: &AnySde, late: f64, early: f64) -> Vec<f64> {
    let v = 0.49;
    let error = |count: &usize| {
        let sigmas = levels(sde.get(), *count, late, early);
        let scheme = undenoised(&*make(sde.clone()), &sigmas);
        let end = *scheme.variances(v, v + sigmas.max().powi(2)).last().unwrap();
        (end - v - sigmas.min().powi(2)).abs()
    };
    COUNTS.iter().map(error).collect()
}

const COUNTS: [usize; 4] = [128, 256, 512, 1024];

type Make = fn(AnySde) -> Box<dyn Solver>;

#[test]
fn stochastic_solvers_have_their_weak_order() {
    let solvers: [(&str, f64, Make); 4] = [
        ("Euler–Maruyama", 1.0, |sde| Box::new(EulerMaruyama { rho: 1.0, sde })),
        ("stochastic Heun", 2.0, |sde| Box::new(StochasticHeun { rho: 1.0, sde })),
        ("SRA1", 2.0, |sde| Box::new(Sra1 { rho: 1.0, sde })),
        ("reverse diffusion", 1.0, |sde| Box::new(ReverseDiffusion { sde })),
    ];
    let sdes = [
        (vp(8.0), 1.0, 0.05),
        (AnySde::Ou(Ou::default()), 3.0, 0.05),
        (AnySde::SubVp(SubVp { beta_max: 8.0, ..SubVp::default() }), 1.0, 0.05),
        (AnySde::CsubVp(CsubVp { beta_max: 4.0, ..CsubVp::default() }), 1.0, 0.05),
        (AnySde::Edm(Edm { end: 10.0 }), 10.0, 0.5),
    ];
    let mut missed = Vec::new();
    for (sde, late, early) in &sdes {
        for (name, order, make) in &solvers {
            let errors = weak_errors(make, sde, *late, *early);
            let measured = slope(&COUNTS, &errors);
            if (measured - order).abs() > TOLERANCE {
                missed.push(format!("{name} on {sde:?}: {measured:.3}, wanted {order} ({errors:?})"));
            }
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

/// Brownian paths on the finest grid, and what any coarser grid sees of them.
struct Paths {
    h: f64,
    /// I₁ and I₁₀ of each fine step.
    fine: Vec<(f64, f64)>,
}

impl Paths {
    fn new(seed: u64, count: usize, length: f64) -> Self {
        let (h, mut normal) = (length / count as f64, normals(seed));
        let pair = |_| {
            let (a, b) = (normal(), normal());
            let whole = h.sqrt() * a;
            (whole, h / 2.0 * (whole + h.sqrt() * b / 3f64.sqrt()))
        };
        Self { h, fine: (0..count).map(pair).collect() }
    }

    /// The two draws that give coarse step k, of `each` fine steps, its own I₁ and I₁₀.
    fn draws(&self, k: usize, each: usize) -> [f64; 2] {
        let (mut whole, mut area) = (0.0, 0.0);
        for (increment, own) in &self.fine[k * each..(k + 1) * each] {
            area += own + whole * self.h;
            whole += increment;
        }
        let h = self.h * each as f64;
        [whole / h.sqrt(), (2.0 * area / h - whole) * 3f64.sqrt() / h.sqrt()]
    }
}

/// Mean distance at the end from the same path on the finest grid, on the golden mixture along VP with β from 0.1 to 8.
fn strong_errors(solver: &dyn Solver, counts: &[usize]) -> Vec<f64> {
    const FINEST: usize = 2048;
    let (images, sde) = (Line::golden(), vp(8.0));
    let score = |x: f64, sigma: f64| images.score(x, sigma);
    let (late, early) = (1.0, 0.05);
    let reference = undenoised(&Sra1 { rho: 1.0, sde: sde.clone() }, &levels(sde.get(), FINEST, late, early));
    let schemes: Vec<Scheme> =
        counts.iter().map(|count| undenoised(solver, &levels(sde.get(), *count, late, early))).collect();
    let start = images.quantiles(100, sde.get().level(late));
    let mut errors = vec![0.0; counts.len()];
    for (seed, x) in start.iter().enumerate() {
        let paths = Paths::new(seed as u64, FINEST, late - early);
        let end = |scheme: &Scheme, count: usize| {
            let mut noise = |k: usize, i: usize| paths.draws(k, FINEST / count)[i];
            *carry_out(scheme, *x, &score, &mut noise).last().unwrap()
        };
        let exact = end(&reference, FINEST);
        for ((error, scheme), count) in errors.iter_mut().zip(&schemes).zip(counts) {
            *error += (end(scheme, *count) - exact).abs() / start.len() as f64;
        }
    }
    errors
}

#[test]
fn stochastic_solvers_have_their_strong_order() {
    let counts = [64, 128, 256, 512];
    let euler = strong_errors(&EulerMaruyama { rho: 1.0, sde: vp(8.0) }, &counts);
    let measured = slope(&counts, &euler);
    assert!((measured - 1.0).abs() < TOLERANCE, "Euler–Maruyama: {measured} ({euler:?})");
    let sra = strong_errors(&Sra1 { rho: 1.0, sde: vp(8.0) }, &counts);
    let measured = slope(&counts, &sra);
    assert!(measured >= 1.3 && sra[3] < euler[3] / 5.0, "SRA1: {measured} ({sra:?})");
}

/// With ρ = 0 nothing is random, and the stochastic methods are those for the flow.
#[test]
fn without_noise_the_stochastic_methods_are_the_deterministic_ones() {
    let sigmas = levels(vp(20.0).get(), 10, 0.9, 0.05);
    let images = Line::golden();
    let score = |x: f64, sigma: f64| images.score(x, sigma);
    let states = |solver: &dyn Solver| {
        let mut random = |_: usize, _: usize| f64::NAN;
        carry_out(&solver.scheme(&sigmas).unwrap(), 50.0, &score, &mut random)
    };
    let flow = |order| states(&RungeKutta { order, sde: vp(20.0) });
    let apart = |a: Vec<f64>, b: Vec<f64>| a.iter().zip(&b).map(|(a, b)| relative(*a, *b)).fold(0.0, f64::max);
    // Times of stages are computed in two ways, which round differently.
    assert!(apart(states(&EulerMaruyama { rho: 0.0, sde: vp(20.0) }), flow(1)) < 1e-12);
    assert!(apart(states(&StochasticHeun { rho: 0.0, sde: vp(20.0) }), flow(2)) < 1e-12);
}

/// x ← (2 − √(1 − β)) x + β s + √β n, in the frame of the chain, for β of any size.
#[test]
fn reverse_diffusion_is_the_published_predictor() {
    let vp = Vp::default();
    let sigmas = levels(&vp, 50, 1.0, 0.001);
    let scheme = ReverseDiffusion { sde: AnySde::Vp(vp) }.scheme(&sigmas).unwrap();
    let images = Line::golden();
    let score = |x: f64, sigma: f64| images.score(x, sigma);
    let mut normal = normals(1);
    let noise: Vec<f64> = (0..50).map(|_| normal()).collect();
    let ours = carry_out(&scheme, 1.3 / vp.alpha(1.0), &score, &mut |k, _| noise[k]);
    let mut z = 1.3;
    for (k, (sigma, next)) in sigmas.pairs().enumerate().take(50) {
        let scale = |sigma: f64| 1.0 / (1.0 + sigma * sigma).sqrt();
        let beta = 1.0 - (scale(sigma) / scale(next)).powi(2);
        let score = images.score(z / scale(sigma), sigma) / scale(sigma);
        z = (2.0 - (1.0 - beta).sqrt()) * z + beta * score + beta.sqrt() * noise[k];
        assert!(relative(ours[k] * scale(next), z) < 1e-10, "step {k}");
    }
}

/// Section 4's golden value for EDM's Heun: the standard deviation of N(0, ½²) from N(0, 80²).
#[test]
fn heun_leaves_its_golden_standard_deviation() {
    use tweedie::numbers::schedule::{Karras, Schedule};
    for (count, golden) in [(18, 0.527624637), (40, 0.504876865)] {
        let sigmas = Karras { rho: 7.0, max: None, min: None }.sigmas(count, (0.002, 80.0)).unwrap();
        let scheme = Heun::default().scheme(&sigmas).unwrap();
        assert_eq!(scheme.evaluations(), 2 * count - 1);
        let found = scheme.variances(0.25, 6400.0).last().unwrap().sqrt();
        assert!((found - golden).abs() < 1e-9, "{found}");
    }
}

/// Churn adds exactly σ̂² − σ² before each step, within its bounds only.
#[test]
fn churn_lifts_the_level_by_the_published_noise() {
    let sigmas = Sigmas::new(vec![10.0, 1.0, 0.1]).unwrap();
    let heun = Heun { churn: 0.6, churn_min: 0.5, churn_max: 5.0, churn_noise: 1.003 };
    let scheme = heun.scheme(&sigmas).unwrap();
    let first = |step: &Update| step.hop().unwrap().stages[0].clone();
    let lifted = |step: &Update| (first(step).sigma, first(step).at.noise);
    assert_eq!(lifted(&scheme.0[0]), (10.0, vec![]));
    let (sigma, noise) = lifted(&scheme.0[1]);
    assert!(relative(sigma, 1.2) < 1e-15 && relative(noise[0], 1.003 * 0.44f64.sqrt()) < 1e-14);
    assert_eq!(lifted(&scheme.0[2]), (0.1, vec![]));
    let most = Heun { churn: 1e9, ..Heun::default() }.scheme(&sigmas).unwrap();
    assert!(relative(first(&most.0[0]).sigma, 10.0 * 2f64.sqrt()) < 1e-15);
}

#[test]
fn each_solver_asks_for_as_many_scores_as_it_says() {
    let sigmas = levels(vp(20.0).get(), 9, 0.9, 0.05);
    let count = |solver: &dyn Solver| solver.scheme(&sigmas).unwrap().evaluations();
    // Ten levels, nine steps and the denoising at the end.
    assert_eq!(count(&RungeKutta { order: 4, sde: vp(20.0) }), 37);
    assert_eq!(count(&Dpm { order: 3 }), 28);
    assert_eq!(count(&Dpm { order: 2 }), 19);
    assert_eq!(count(&Sra1 { rho: 1.0, sde: vp(20.0) }), 19);
    let once: [&dyn Solver; 5] = [
        &DpmPlusPlus::default(),
        &Unipc::default(),
        &Deis::default(),
        &Ipndm::default(),
        &EulerMaruyama { rho: 1.0, sde: vp(20.0) },
    ];
    for solver in once {
        assert_eq!(count(solver), 10);
    }
}

#[test]
fn orders_that_do_not_exist_are_refused() {
    let sigmas = Sigmas::new(vec![2.0, 1.0]).unwrap();
    let refusal = |solver: &dyn Solver| solver.scheme(&sigmas).unwrap_err().to_string();
    assert_eq!(refusal(&Dpm { order: 4 }), "order must be 1, 2 or 3, but is 4");
    assert_eq!(
        refusal(&Unipc { order: 0, width: Width::Bh2, ..Unipc::default() }),
        "order must be 1, 2 or 3, but is 0"
    );
    assert_eq!(refusal(&Ipndm { order: 5 }), "order must be 1, 2, 3 or 4, but is 5");
    let narrow = RungeKutta { order: 4, sde: AnySde::Table(Table { rows: vec![[0.0, 1.0, 0.1], [1.0, 1.0, 1.0]] }) };
    let want = "the largest σ must be one that the chosen sde reaches, but is 2 (at T it has come to 1)";
    assert_eq!(refusal(&narrow), want);
    let forgets_nothing = RungeKutta { order: 4, sde: AnySde::Cvp(Cvp::default()) };
    assert!(refusal(&forgets_nothing).contains("reaches, but is 2 (at T it has come to 0.99"));
    let wild = EulerMaruyama { rho: f64::INFINITY, sde: vp(20.0) };
    assert_eq!(refusal(&wild), "rho must be finite and at least 0, but is inf");
}
