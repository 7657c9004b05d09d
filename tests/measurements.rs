//! Noise of detectors, the likelihood of photon counts, and measurements in files.

use std::io::Read;

use tch::{Device, Kind, Tensor};
use tempfile::TempDir;
use tweedie::{
    inverse::{
        detectors::{Detector, Measurement},
        likelihood::{Likelihood, PoissonLikelihood},
        operators::AnyTask,
    },
    scores::noise::{Noise, Seeded},
};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

fn number(tensor: &Tensor) -> f64 {
    f64::try_from(tensor).unwrap()
}

fn refused(detector: Detector) -> String {
    detector.measure(&Tensor::zeros([1, 1, 2, 2], F64), &[0]).unwrap_err().to_string()
}

#[test]
fn gaussian_noise_is_that_of_the_seeds() {
    let clean = Tensor::full([2, 1, 4, 4], 0.25, F64);
    let y = Detector::Gaussian { eta: 0.1 }.measure(&clean, &[3, 4]).unwrap();
    assert!(y.equal(&(&clean + Seeded(vec![3, 4]).like(&clean, 0, 1) * 0.1)));
}

/// How often each count 0 … n − 1 came.
fn histogram(counts: &Tensor, n: i64) -> Vec<f64> {
    (0..n).map(|k| number(&(counts - k as f64).abs().lt(0.5).sum(Kind::Double))).collect()
}

#[test]
fn photons_have_the_poisson_distribution() {
    const DRAWS: f64 = 40_000.0;
    let rate = 6.0 / 255.0;
    // Half of six photons for white.
    let clean = Tensor::zeros([1, 1, 200, 200], F64);
    let y = Detector::Poisson { rate }.measure(&clean, &[1]).unwrap();
    let counts = (y + 1.0) * 3.0;
    assert!(number(&(&counts - counts.round()).abs().max()) < 1e-12, "whole numbers");
    let mut chance = (-3.0f64).exp();
    let mut square = 0.0;
    for (k, seen) in histogram(&counts, 10).into_iter().enumerate() {
        square += (seen - DRAWS * chance).powi(2) / (DRAWS * chance);
        chance *= 3.0 / (k + 1) as f64;
    }
    // χ² of ten cells: above 35 once in ten thousand times.
    assert!(square < 35.0, "{square}");
}

#[test]
fn many_photons_have_mean_and_variance_alike() {
    let clean = Tensor::from_slice(&[-1.0, -1.5, 0.0, 0.6]).view([1, 4, 1, 1]).repeat([1, 1, 100, 100].as_slice());
    let y = Detector::Poisson { rate: 10.0 }.measure(&clean, &[5]).unwrap();
    let counts = ((y + 1.0) * 1275.0).flatten(2, 3).get(0);
    assert!(number(&counts.narrow(0, 0, 2).abs().max()) < 1e-9, "no light, no photon");
    for (channel, mean) in [(2, 1275.0), (3, 2040.0)] {
        let counts = counts.get(channel);
        let found = number(&counts.mean(Kind::Double));
        assert!((found - mean).abs() < 5.0 * f64::sqrt(mean / 1e4), "{found} of {mean}");
        // The variance of 10⁴ numbers is known to 1.4 %.
        let variance = number(&counts.var(true));
        assert!((variance / mean - 1.0).abs() < 5.0 * 0.014, "{variance} of {mean}");
    }
}

#[test]
fn salt_and_pepper_replace_a_share_of_the_values() {
    let clean = Tensor::full([1, 1, 200, 200], 0.25, F64);
    let y = Detector::SaltAndPepper { share: 0.1 }.measure(&clean, &[2]).unwrap();
    let count = |value: f64| number(&y.eq(value).sum(Kind::Double));
    // 2000 of 40,000 each, give or take 44.
    assert!((count(1.0) - 2000.0).abs() < 5.0 * 44.0 && (count(-1.0) - 2000.0).abs() < 5.0 * 44.0);
    assert_eq!(count(0.25) + count(1.0) + count(-1.0), 40_000.0);
}

#[test]
fn noise_is_a_function_of_image_and_seed_alone() {
    let clean = Seeded(vec![8, 9]).like(&Tensor::zeros([2, 3, 5, 5], (Kind::Float, Device::Cpu)), 0, 0) * 0.3;
    for detector in
        [Detector::Gaussian { eta: 0.1 }, Detector::Poisson { rate: 1.0 }, Detector::SaltAndPepper { share: 0.3 }]
    {
        let both = detector.measure(&clean, &[1, 2]).unwrap();
        assert_eq!(both.kind(), Kind::Float);
        assert!(both.narrow(0, 1, 1).equal(&detector.measure(&clean.narrow(0, 1, 1), &[2]).unwrap()), "{detector:?}");
        assert!(!both.equal(&detector.measure(&clean, &[1, 3]).unwrap()), "{detector:?}");
        let json = serde_json::to_string(&detector).unwrap();
        assert_eq!(serde_json::from_str::<Detector>(&json).unwrap(), detector);
    }
    assert!(serde_json::from_str::<Detector>(r#"{"kind": "gaussian", "sigma": 1}"#).is_err());
}

#[test]
fn noise_that_is_none_is_refused() {
    assert_eq!(refused(Detector::Gaussian { eta: -1.0 }), "eta must be 0 or positive, but is -1");
    assert_eq!(refused(Detector::Poisson { rate: 0.0 }), "rate must be positive and at most 10000, but is 0");
    assert_eq!(refused(Detector::SaltAndPepper { share: f64::NAN }), "share must be between 0 and 1, but is NaN");
    let two = Detector::Gaussian { eta: 1.0 }.measure(&Tensor::zeros([1, 1, 2, 2], F64), &[0, 1]);
    assert!(two.unwrap_err().to_string().contains("one image for each of 2 seeds"));
}

fn likelihood(task: &str, y: &Tensor, rate: f64, shape: [i64; 3]) -> Result<PoissonLikelihood, String> {
    let task: AnyTask = serde_json::from_str(task).unwrap();
    let operator = task.get().operator(shape, 0, Device::Cpu, Kind::Double).unwrap();
    PoissonLikelihood::new(operator, y, rate, shape).map_err(|e| e.to_string())
}

/// x that is dark in places, so that λ lies on both sides of N/2 and below 0.
fn dark(seed: u64, shape: [i64; 3]) -> Tensor {
    let [channels, height, width] = shape;
    Seeded(vec![seed]).like(&Tensor::zeros([1, channels, height, width], F64), 0, 0) * 0.8 - 0.6
}

#[test]
fn the_score_of_photon_counts_is_the_slope_of_their_likelihood() {
    let shape = [2, 8, 8];
    for task in [
        r#"{"kind": "identity"}"#,
        r#"{"kind": "deblur-uniform", "size": 3}"#,
        r#"{"kind": "high-dynamic-range", "scale": 1.5}"#,
    ] {
        let operator: AnyTask = serde_json::from_str(task).unwrap();
        let operator = operator.get().operator(shape, 0, Device::Cpu, Kind::Double).unwrap();
        let y = Detector::Poisson { rate: 0.1 }.measure(&operator.apply(&dark(1, shape)), &[4]).unwrap();
        let likelihood = likelihood(task, &y, 0.1, shape).unwrap();
        let (x, d) = (dark(2, shape), dark(3, shape));
        let h = 1e-6;
        let slope = (likelihood.log_density(&(&x + &d * h)) - likelihood.log_density(&(&x - &d * h))) / (2.0 * h);
        let told = (likelihood.score(&x) * d).sum(Kind::Double);
        // Differences of sums of a few hundred logarithms over 2e-6.
        assert!(number(&(slope.get(0) - &told)).abs() < 1e-6 * number(&told.abs()).max(100.0), "{task}");
    }
}

/// N/λ − 1 where λ ≥ N/2, and its tangent below.
#[test]
fn the_score_of_photon_counts_is_that_of_the_textbook() {
    let (rate, white) = (0.1, 25.5);
    let counts = [0.0, 0.0, 3.0, 3.0, 3.0, 1.0];
    let lights = [2.0, -1.0, 6.0, 1.6, 0.5, -0.5];
    let expected = [-1.0, -1.0, 0.5 - 1.0, 3.0 / 1.6 - 1.0, 2.0 - 1.0 + 4.0 / 3.0, 2.0 - 1.0 + 4.0];
    let unit = |values: [f64; 6]| Tensor::from_slice(&values.map(|v| 2.0 * v / white - 1.0)).view([1, 1, 1, 6]);
    let likelihood = likelihood(r#"{"kind": "identity"}"#, &unit(counts), rate, [1, 1, 6]).unwrap();
    let score = likelihood.score(&unit(lights)) / (0.5 * white);
    let gap = (score.flatten(0, -1) - Tensor::from_slice(&expected)).abs().max();
    assert!(number(&gap) < 1e-9);
    // The steepest slope is that of the single photon, (g/2)² 4/N.
    assert!((likelihood.step_limit() - 1.0 / (white * white)).abs() < 1e-9);
}

#[test]
fn photon_counts_that_are_none_are_refused() {
    let dark = Tensor::full([1, 1, 2, 2], -1.1, F64);
    let refused = |y: &Tensor, rate: f64| likelihood(r#"{"kind": "identity"}"#, y, rate, [1, 2, 2]).unwrap_err();
    assert_eq!(refused(&dark, 1.0), "the measurement must be at least −1, where no photon came, but is -1.1");
    assert_eq!(refused(&(&dark + 1.0), 0.0), "the rate of photons must be positive, but is 0");
    assert!(refused(&Tensor::zeros([1, 1, 2, 3], F64), 1.0).starts_with("the measurement has shape [1, 1, 2, 3]"));
}

#[test]
fn a_measurement_is_read_back_from_its_archive() {
    let place = TempDir::new().unwrap();
    let path = place.path().join("y.npz");
    let shape = [3, 8, 8];
    let json = r#"{"kind":"inpaint-random","hidden":0.5}"#;
    let task: AnyTask = serde_json::from_str(json).unwrap();
    let operator = task.get().operator(shape, 7, Device::Cpu, Kind::Float).unwrap();
    let y = operator.apply(&dark(1, shape).to_kind(Kind::Float));
    let measurement = Measurement { y: &y, task: json, operator: &operator, shape, eta: 0.1, seed: 7 };
    measurement.write_npz(&path).unwrap();
    let arrays = Tensor::read_npz(&path).unwrap();
    let get = |name: &str| &arrays.iter().find(|(of, _)| of == name).unwrap_or_else(|| panic!("no {name}")).1;
    assert!(get("y").equal(&y));
    assert_eq!((get("eta").size(), number(get("eta")), number(get("eta_unit"))), (vec![], 0.1, 0.05));
    assert_eq!((number(get("seed")), Vec::<i64>::try_from(get("shape")).unwrap()), (7.0, shape.to_vec()));
    assert_eq!(String::from_utf8(Vec::<u8>::try_from(get("task")).unwrap()).unwrap(), json);
    let mask = get("operator_mask");
    assert_eq!((mask.kind(), number(&mask.sum(Kind::Double))), (Kind::Uint8, 32.0));
    let once = std::fs::read(&path).unwrap();
    measurement.write_npz(&path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), once, "the same bytes each time");
    let mut archive = zip::ZipArchive::new(std::fs::File::open(&path).unwrap()).unwrap();
    let mut header = [0; 128];
    archive.by_name("eta.npy").unwrap().read_exact(&mut header).unwrap();
    assert!(header.starts_with(b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f8', 'fortran_order': False, 'shape': (), }"));
}

#[test]
fn the_arrays_of_an_operator_define_it() {
    let shape = [3, 8, 8];
    let x = dark(2, shape);
    let build = |json: &str| {
        let task: AnyTask = serde_json::from_str(json).unwrap();
        let operator = task.get().operator(shape, 7, Device::Cpu, Kind::Double).unwrap();
        let tables = operator.linear().unwrap().tables();
        (operator.apply(&x), tables)
    };
    let gap = |a: Tensor, b: &Tensor| number(&(a - b).abs().max());
    let (y, tables) = build(r#"{"kind": "super-resolution", "factor": 2}"#);
    assert!(gap(tables[0].1.matmul(&x).matmul(&tables[1].1.tr()), &y) < 1e-12);
    let (y, tables) = build(r#"{"kind": "colorization", "grey": "luma"}"#);
    assert!(gap(x.permute([0, 2, 3, 1]).matmul(&tables[0].1).unsqueeze(1), &y) < 1e-12);
    let (y, tables) = build(r#"{"kind": "tomography", "angles": 4}"#);
    let [pointers, indices, data] = [0, 1, 2].map(|i| &tables[i].1);
    let size = [y.size()[2] * y.size()[3], 64];
    let matrix = Tensor::sparse_csr_tensor_crow_col_value_size(pointers, indices, data, size, F64);
    assert!(gap(matrix.matmul(&x.flatten(2, 3).get(0).tr()).tr().contiguous().view_as(&y), &y) < 1e-12);
}
