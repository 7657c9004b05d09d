//! The exact denoisers against Bayes' rule worked out by hand, and against each other.

use tch::{Device, Kind, Tensor};
use tweedie::{
    inverse::operators::{Inpaint, LinearOperator},
    scores::{
        analytic::{DataSet, Gaussian, Mixture},
        denoiser::{Denoiser, Score},
    },
};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

/// Rounding of a few hundred f64 operations on numbers of order 1.
const ROUNDING: f64 = 1e-10;

fn largest(difference: &Tensor) -> f64 {
    f64::try_from(difference.abs().max()).unwrap()
}

fn images(values: &[f64], shape: [i64; 4]) -> Tensor {
    Tensor::from_slice(values).view(shape)
}

#[test]
fn the_gaussian_denoiser_solves_the_normal_equations() {
    tch::manual_seed(1);
    let root = Tensor::randn([4, 4], F64);
    let (covariance, mean) = (root.matmul(&root.tr()), Tensor::randn([1, 2, 2], F64));
    let x = Tensor::randn([3, 1, 2, 2], F64);
    let denoised = Gaussian::new(&mean, &covariance).unwrap().denoise(&x, 0.7);
    // (C + σ²I) C⁻¹ (D − m) = x − m
    let system = &covariance + Tensor::eye(4, F64) * 0.49;
    let left = (denoised - &mean).flatten(1, -1).matmul(&covariance.inverse()).matmul(&system);
    assert!(largest(&(left - (x - &mean).flatten(1, -1))) < 1e-8, "the inverse of C costs two more digits");
}

#[test]
fn a_fitted_gaussian_has_the_mean_and_covariance_of_its_images() {
    tch::manual_seed(2);
    let data = Tensor::randn([50, 1, 2, 3], F64);
    let fitted = Gaussian::fit(&data).unwrap();
    let (basis, variances) = fitted.spectrum();
    let covariance = (basis * variances).matmul(&basis.tr());
    let expected = data.flatten(1, -1).tr().cov(0, None::<&Tensor>, None::<&Tensor>);
    assert!(largest(&(covariance - expected)) < ROUNDING);
}

#[test]
fn one_component_is_the_gaussian() {
    let x = images(&[0.3, -1.2, 2.0, 0.1], [2, 1, 1, 2]);
    let mean = images(&[0.5, -0.5], [1, 1, 1, 2]);
    let mixture = Mixture::new(&Tensor::ones([1], F64), &mean, &Tensor::from_slice(&[0.25])).unwrap().denoise(&x, 0.8);
    let gaussian = Gaussian::new(&mean.get(0), &(Tensor::eye(2, F64) * 0.25)).unwrap().denoise(&x, 0.8);
    assert!(largest(&(mixture - gaussian)) < ROUNDING);
}

/// log f_σ(x) of a mixture, differentiated by hand-made central differences.
#[test]
fn the_mixture_score_is_the_gradient_of_its_log_density() {
    let (weights, means, variances) = ([0.3, 0.7], [[-1.0, 0.5], [1.5, 0.0]], [0.2, 0.05]);
    let sigma: f64 = 0.4;
    let log_density = |p: [f64; 2]| {
        let component = |j: usize| {
            let total: f64 = variances[j] + sigma * sigma;
            let distance: f64 = (0..2).map(|i| (p[i] - means[j][i]).powi(2)).sum();
            weights[j] / total * (-distance / (2.0 * total)).exp()
        };
        (component(0) + component(1)).ln()
    };
    let mixture = Mixture::new(
        &Tensor::from_slice(&weights),
        &images(&means.concat(), [2, 1, 1, 2]),
        &Tensor::from_slice(&variances),
    )
    .unwrap();
    for p in [[0.0, 0.0], [0.2, 0.3], [-1.1, 0.9], [2.0, -1.0]] {
        let score = mixture.score(&images(&p, [1, 1, 1, 2]), sigma);
        for i in 0..2 {
            let (mut up, mut down) = (p, p);
            (up[i], down[i]) = (p[i] + 1e-5, p[i] - 1e-5);
            let slope = (log_density(up) - log_density(down)) / 2e-5;
            // Central differences of step 1e-5 err by about 1e-10 in truncation and 1e-11 in rounding.
            assert!((score.double_value(&[0, 0, 0, i as i64]) - slope).abs() < 1e-8);
        }
    }
}

#[test]
fn a_finite_data_set_is_denoised_by_its_softmax() {
    let data = [[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]];
    let set = DataSet::new(&images(&data.concat(), [3, 1, 1, 2])).unwrap();
    let (x, sigma): ([f64; 2], f64) = ([0.4, 0.3], 0.5);
    let weight = |p: [f64; 2]| (-((x[0] - p[0]).powi(2) + (x[1] - p[1]).powi(2)) / (2.0 * sigma * sigma)).exp();
    let total: f64 = data.iter().map(|&p| weight(p)).sum();
    let denoised = set.denoise(&images(&x, [1, 1, 1, 2]), sigma);
    for i in 0..2 {
        let expected: f64 = data.iter().map(|&p| weight(p) * p[i]).sum::<f64>() / total;
        assert!((denoised.double_value(&[0, 0, 0, i as i64]) - expected).abs() < ROUNDING);
    }
    let nearest = set.denoise(&images(&x, [1, 1, 1, 2]), 1e-3);
    assert!(largest(&(nearest - images(&[0.0, 0.0], [1, 1, 1, 2]))) < ROUNDING, "at small σ: the nearest image");
}

/// The estimate from pixels that are all seen is the denoiser at σ = η; from some of them it is the textbook's
/// m + C₂₁ (C₁₁ + η²)⁻¹ (y₁ − m₁), here with one pixel of two seen.
#[test]
fn the_linear_estimate_is_the_conditional_mean() {
    let (mean, covariance) = (images(&[0.5, -0.5], [1, 1, 1, 2]).get(0), [[0.5, 0.3], [0.3, 0.4]]);
    let prior = Gaussian::new(&mean, &Tensor::from_slice(&covariance.concat()).view([2, 2])).unwrap();
    let (y, eta) = (images(&[1.0, 0.7, -0.2, 0.1], [2, 1, 1, 2]), 0.3);
    let seen = |mask: [f64; 2]| Inpaint::new(&Tensor::from_slice(&mask).view([1, 2]), [1, 1, 2]).unwrap();
    let all = prior.posterior_mean(&seen([1.0, 1.0]), &y, eta).unwrap();
    assert!(largest(&(all - prior.denoise(&y, eta))) < ROUNDING);
    let first = seen([1.0, 0.0]);
    let some = prior.posterior_mean(&first, &first.apply(&y), eta).unwrap();
    for (i, value) in [1.0, -0.2].into_iter().enumerate() {
        let surprise = (value - 0.5) / (0.5 + eta * eta);
        let expected = [0.5 + 0.5 * surprise, -0.5 + 0.3 * surprise];
        for (j, expected) in expected.into_iter().enumerate() {
            assert!((some.double_value(&[i as i64, 0, 0, j as i64]) - expected).abs() < ROUNDING);
        }
    }
}
