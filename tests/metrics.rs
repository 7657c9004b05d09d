//! Figures against closed forms.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;
use tweedie::{
    evaluation::{
        features::Features,
        metrics::{Backbone, Lpips, Moments, Window, frechet, psnr, psnr_min_max, ssim},
    },
    files::data::Images,
    models::checkpoint::safetensors::{self, Tensors},
};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

#[test]
fn the_psnr_of_a_constant_error_is_minus_twenty_log_of_it() {
    let truth = Tensor::zeros([2, 1, 4, 4], F64);
    let x = Tensor::stack(&[truth.get(0) + 0.1, truth.get(1) + 0.01], 0);
    let found = psnr(&x, &truth);
    assert!((found[0] - 20.0).abs() < 1e-9 && (found[1] - 40.0).abs() < 1e-9, "{found:?}");
}

/// The truth's range is ¼ … ¾, so that an error of 0.05 becomes one of 0.1; x reaches as far.
#[test]
fn the_min_max_psnr_is_that_of_images_from_0_to_1_whatever_their_contrast() {
    let truth = Tensor::linspace(0.25, 0.75, 64, F64).view([1, 1, 8, 8]);
    let x = truth.copy();
    let _ = x.get(0).get(0).narrow(0, 2, 4).g_add_scalar_(0.05);
    let half_are_off = -10.0 * (0.01f64 / 2.0).log10();
    let found = psnr_min_max(&x, &truth)[0];
    assert!((found - half_are_off).abs() < 1e-9, "{found} is not {half_are_off}");
    let both = Tensor::cat(&[&x * 3.0 - 7.0, &x * 0.01 + 0.5], 0);
    for same in psnr_min_max(&both, &(truth * 2.0 + 1.0).expand([2, -1, -1, -1], false)) {
        // Of 7 ± 1.5 in f64, 16 digits of the largest.
        assert!((same - half_are_off).abs() < 1e-9, "{same} is not {half_are_off}");
    }
    // One grey has no contrast: it is black, and the error of a white pixel is 1.
    let grey = Tensor::full([1, 1, 2, 2], 0.7, F64);
    let spot = Tensor::from_slice(&[0.0, 0.0, 0.0, 1.0]).view([1, 1, 2, 2]);
    assert!((psnr_min_max(&grey, &spot)[0] - 20.0 * 2f64.log10()).abs() < 1e-9);
}

/// Numbers in [0, 1) on a grid of 2⁻²⁴, splitmix64 of seed 2³² + i, as `tests/parity/metrics.py` has them.
pub fn uniform(seed: u64, count: i64) -> Tensor {
    let number = |i: i64| {
        let mut z = (i as u64).wrapping_add(seed << 32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f64 / f64::from(1 << 24)
    };
    Tensor::from_slice(&(0..count).map(number).collect::<Vec<f64>>())
}

/// The images of `tests/parity/metrics.py`, `[1, channels, height, width]`, in the unit range: with noise, and the truth.
fn pair(size: [i64; 3]) -> (Tensor, Tensor) {
    let along = |axis: usize| {
        let mut shape = [1i64; 3];
        shape[axis] = -1;
        Tensor::arange(size[axis], F64).view(shape)
    };
    let (c, i, j) = (along(0), along(1), along(2));
    let truth = (((c + 1.0) * 0.3 * i + &j * 0.2).sin() * (j * 0.25).cos() * 0.4 + 0.5).unsqueeze(0);
    let noise = uniform(1, truth.numel() as i64).view_as(&truth);
    (&truth * 0.8 + noise * 0.2, truth)
}

fn golden() -> Value {
    serde_json::from_slice(&fs::read("tests/golden/metrics.json").unwrap()).unwrap()
}

fn size(case: &Value) -> Vec<i64> {
    case["size"].as_array().unwrap().iter().map(|n| n.as_i64().unwrap()).collect()
}

#[test]
fn ssim_in_both_conventions_is_scikit_images() {
    for case in golden()["ssim"].as_array().unwrap() {
        let (x, truth) = pair(size(case).try_into().unwrap());
        for (window, name) in [(Window::Gaussian, "gaussian"), (Window::Uniform, "uniform")] {
            let (found, expected) = (ssim(&x, &truth, window).unwrap()[0], case[name].as_f64().unwrap());
            // Differences of squares of numbers below 1 lose a few of f64's digits, in another order there.
            assert!((found / expected - 1.0).abs() < 1e-11, "{name}: {found} is not {expected}");
            assert!((ssim(&truth, &truth, window).unwrap()[0] - 1.0).abs() < 1e-12);
        }
    }
}

#[test]
fn ssim_is_of_each_image_and_wants_a_whole_window() {
    let (x, truth) = pair([3, 24, 31]);
    let batch = ssim(&Tensor::cat(&[&x, &truth], 0), &truth.expand([2, -1, -1, -1], false), Window::Gaussian).unwrap();
    assert!((batch[0] - ssim(&x, &truth, Window::Gaussian).unwrap()[0]).abs() < 1e-12 && batch[1] > 1.0 - 1e-12);
    let small = Tensor::zeros([1, 1, 10, 20], F64);
    assert!(ssim(&small, &small, Window::Uniform).is_ok());
    let told = ssim(&small, &small, Window::Gaussian).unwrap_err().to_string();
    assert!(told.contains("[1, 1, 10, 20]") && told.contains("sides of 11 pixels or more"), "{told}");
}

/// Place in torchvision's list, inputs, outputs and side of the convolutions of a backbone.
fn convolutions(net: &str) -> Vec<(usize, [i64; 4])> {
    let (places, outputs, sides): (&[usize], &[i64], &[i64]) = match net {
        "alex" => (&[0, 3, 6, 8, 10], &[64, 192, 384, 256, 256], &[11, 5, 3, 3, 3]),
        _ => (
            &[0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28],
            &[64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512],
            &[3; 13],
        ),
    };
    let inputs = [3].iter().chain(outputs);
    let shape = |((&place, &out), (&of, &side))| (place, [out, of, side, side]);
    places.iter().zip(outputs).zip(inputs.zip(sides)).map(shape).collect()
}

/// The weights of `tests/parity/metrics.py`: of a backbone as torchvision names them, and of its features.
pub fn weights(net: &str) -> (Tensors, Tensors) {
    let mut backbone = BTreeMap::from([("classifier.1.weight".to_owned(), Tensor::zeros([2, 2], F64))]);
    for (k, (place, shape)) in (0u64..).zip(convolutions(net)) {
        let gain = 2.0 * (6.0 / shape[1..].iter().product::<i64>() as f64).sqrt();
        let weight = (uniform(100 + k, shape.iter().product()) - 0.5) * gain;
        let bias = (uniform(200 + k, shape[0]) - 0.5) * 0.1;
        backbone.insert(format!("features.{place}.weight"), weight.view(shape).to_kind(Kind::Float));
        backbone.insert(format!("features.{place}.bias"), bias.to_kind(Kind::Float));
    }
    let widths = if net == "alex" { [64, 192, 384, 256, 256] } else { [64, 128, 256, 512, 512] };
    let linear = |(k, width): (u64, i64)| {
        let weight = uniform(300 + k, width).view([1, width, 1, 1]).to_kind(Kind::Float);
        (format!("lin{k}.model.1.weight"), weight)
    };
    (backbone, (0..).zip(widths).map(linear).collect())
}

fn save(path: &Path, tensors: &Tensors) {
    safetensors::write(path, tensors, &BTreeMap::new()).unwrap();
}

#[test]
fn lpips_is_that_of_its_authors_package() {
    let folder = TempDir::new().unwrap();
    let [backbone, linear] = ["backbone.safetensors", "linear.safetensors"].map(|name| folder.path().join(name));
    for (net, kind) in [("alex", Backbone::AlexNet), ("vgg", Backbone::Vgg16)] {
        let (features, channels) = weights(net);
        save(&backbone, &features);
        save(&linear, &channels);
        let lpips = Lpips::open(&backbone, &linear, Device::Cpu).unwrap();
        assert_eq!(lpips.backbone(), kind);
        let case = &golden()["lpips"][net];
        let (height, width) = (size(case)[0], size(case)[1]);
        let (x, truth) = pair([3, height, width]);
        let (x, truth) = (x * 2.0 - 1.0, truth * 2.0 - 1.0);
        let grey = (x.narrow(1, 0, 1), truth.narrow(1, 0, 1));
        for ((x, truth), name) in [((x, truth), "colour"), (grey, "grey")] {
            let expected = case[name].as_f64().unwrap();
            let found = lpips.distance(&x, &truth).unwrap()[0];
            // The package's constants of normalisation are rounded to f32.
            assert!((found / expected - 1.0).abs() < 1e-7, "{net} {name}: {found} is not {expected}");
            let rounded = lpips.distance(&x.to_kind(Kind::Float), &truth.to_kind(Kind::Float)).unwrap()[0];
            // f32 has 24 bits, and up to 5000 terms go into a sum.
            assert!((rounded / expected - 1.0).abs() < 1e-5, "{net} {name}: {rounded} is not {expected}");
            assert_eq!(lpips.distance(&truth, &truth).unwrap(), [0.0]);
        }
    }
}

#[test]
fn lpips_says_which_file_is_wanted() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str| folder.path().join(name);
    let (backbone, linear) = weights("alex");
    let plain = backbone.iter().map(|(name, x)| (name.replace("features.", ""), x.shallow_clone())).collect();
    save(&file("plain.safetensors"), &plain);
    save(&file("linear.safetensors"), &linear);
    let open = |backbone: &str, linear: &str| Lpips::open(&file(backbone), &file(linear), Device::Cpu);
    // What torch.save of a list of layers alone gives, and torch.save's own file of linear weights.
    fs::copy("tests/golden/lpips-alex.pth", file("linear.pth")).unwrap();
    let (x, truth) = pair([1, 33, 31]);
    let distance = |linear| open("plain.safetensors", linear).unwrap().distance(&x, &truth).unwrap();
    assert_eq!(distance("linear.safetensors"), distance("linear.pth"));
    let told = |backbone, linear| open(backbone, linear).unwrap_err().to_string();
    let swapped = told("linear.pth", "plain.safetensors");
    assert!(swapped.contains("linear.pth: ") && swapped.contains("alexnet-owt-7be5be79.pth"), "{swapped}");
    let other = told("plain.safetensors", "plain.safetensors");
    assert!(other.contains("LPIPS for AlexNet") && other.contains("weights/v0.1/alex.pth"), "{other}");
    assert!(told("nowhere.pth", "linear.pth").contains("nowhere.pth: cannot be read"));
    let lpips = open("plain.safetensors", "linear.pth").unwrap();
    let small = Tensor::zeros([1, 3, 30, 64], F64);
    let told = lpips.distance(&small, &small).unwrap_err().to_string();
    assert!(told.contains("[1, 3, 30, 64]") && told.contains("31 pixels or more for AlexNet"), "{told}");
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

#[test]
fn the_distance_in_features_is_that_of_their_directions() {
    let network = Features::open("fashion-classifier", Device::Cpu).unwrap();
    let bytes = (Tensor::arange(3 * 1024, F64) * 0.37).sin() * 127.0 + 128.0;
    let images = Images { pixels: bytes.to_kind(Kind::Uint8).view([3, 1, 32, 32]), labels: None };
    let found = network.distance(&images.batch(&[1, 0]), &images.batch(&[2, 0])).unwrap();
    let direction = |i: usize| {
        let one = Images { pixels: images.pixels.narrow(0, i as i64, 1), labels: None };
        let features = network.measure(&one).unwrap().0.mean();
        &features / features.norm()
    };
    let expected = f64::try_from((direction(1) - direction(2)).square().sum(Kind::Double)).unwrap();
    assert!(expected > 1e-4 && (found[0] - expected).abs() < 1e-5, "{found:?} is not {expected} (f32)");
    assert_eq!(found[1], 0.0);
    let told = network.distance(&Tensor::zeros([1, 1, 28, 28], F64), &Tensor::zeros([1, 1, 28, 28], F64)).unwrap_err();
    assert!(told.to_string().contains("fashion-classifier"), "{told}");
}
