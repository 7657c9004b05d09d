//! Figures against closed forms.

use tch::{Device, Kind, Tensor};
use tweedie::metrics::{Moments, frechet, psnr};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

#[test]
fn the_psnr_of_a_constant_error_is_minus_twenty_log_of_it() {
    let truth = Tensor::zeros([2, 1, 4, 4], F64);
    let x = Tensor::stack(&[truth.get(0) + 0.1, truth.get(1) + 0.01], 0);
    let found = psnr(&x, &truth);
    assert!((found[0] - 20.0).abs() < 1e-9 && (found[1] - 40.0).abs() < 1e-9, "{found:?}");
}

fn moments(features: &Tensor, batch: i64) -> Moments {
    let mut moments = Moments::new(features.size()[1]);
    for piece in features.split(batch, 0) {
        moments.push(&piece);
    }
    moments
}

/// Features whose sample mean and covariance are exactly `mean` and diag(`variances`): ±√(v (n−1)/2) along each axis.
fn exact(mean: [f64; 2], variances: [f64; 2]) -> Moments {
    let n = 4.0f64;
    let [a, b] = variances.map(|v| (v * (n - 1.0) / 2.0).sqrt());
    let points = [a, 0.0, -a, 0.0, 0.0, b, 0.0, -b];
    moments(&(Tensor::from_slice(&points).view([4, 2]) + Tensor::from_slice(&mean)), 4)
}

#[test]
fn the_distance_of_two_gaussians_is_the_closed_form() {
    let (a, b) = (exact([0.0, 1.0], [4.0, 0.25]), exact([3.0, 1.0], [1.0, 0.0]));
    // 3² + (2 − 1)² + (½ − 0)²; the second covariance is singular.
    let distance = frechet(&a, &b).unwrap();
    assert!((distance - 10.25).abs() < 1e-7, "{distance}: √ of a rounding of 1e-16 is 1e-8");
    assert!(frechet(&a, &a).unwrap().abs() < 1e-7);
}

#[test]
fn covariances_that_do_not_commute_agree_with_the_trace_formula() {
    tch::manual_seed(3);
    let (x, y) = (Tensor::randn([200, 3], F64), Tensor::randn([200, 3], F64).matmul(&Tensor::randn([3, 3], F64)));
    let (a, b) = (moments(&x, 200), moments(&y, 200));
    // tr (C₁ C₂)^½ from the eigenvalues of the unsymmetric product.
    let eigenvalues = a.covariance().matmul(&b.covariance()).linalg_eigvals().real();
    let trace = a.covariance().trace() + b.covariance().trace() - eigenvalues.sqrt().sum(Kind::Double) * 2.0;
    let expected = f64::try_from((a.mean() - b.mean()).square().sum(Kind::Double) + trace).unwrap();
    assert!((frechet(&a, &b).unwrap() - expected).abs() < 1e-9);
}

#[test]
fn moments_do_not_depend_on_the_batches() {
    tch::manual_seed(4);
    let x = Tensor::randn([101, 4], F64) + 5.0;
    let (whole, pieces) = (moments(&x, 101), moments(&x, 7));
    let difference = (whole.covariance() - pieces.covariance()).abs().max();
    assert!(f64::try_from(difference).unwrap() < 1e-11);
    assert!((whole.count() - 101.0).abs() < 1e-12);
}

#[test]
fn one_image_has_no_distance() {
    let one = moments(&Tensor::ones([1, 2], F64), 1);
    assert_eq!(frechet(&one, &one).unwrap_err().to_string(), "the number of images must be at least 2, but is 1");
}
