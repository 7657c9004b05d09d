//! Inception, its resizes, and distances of sets of features, against the packages that people use.

use std::{collections::BTreeMap, fs, time::Instant};

use serde_json::Value;
use tch::{Device, Kind, Tensor};
use tweedie::{
    evaluation::{
        features::{Probe, Resize},
        metrics::{
            InceptionScore, Moments, Neighbourhood, Spread, Statistics, bootstrap, cmmd, extrapolated, frechet,
            kernel_distance, kid, mind, neighbours,
        },
    },
    files::preprocessing::Preprocessing,
    models::checkpoint::safetensors::Tensors,
    networks::{EfficientNet, Inception, weights::Weights},
};

use crate::metrics::uniform;

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

fn golden() -> Value {
    serde_json::from_slice(&fs::read("tests/golden/features.json").unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect()
}

/// Bytes, as `tests/parity/features.py` has them.
pub fn pixels(seed: u64, shape: &[i64]) -> Tensor {
    (uniform(seed, shape.iter().product()) * 256.0).floor().to_kind(Kind::Uint8).view(shape)
}

/// A parameter of `tests/parity/features.py`.
fn value(name: &str, seed: u64, shape: &[i64]) -> Tensor {
    let u = uniform(seed, shape.iter().product());
    let u = match shape {
        [_, rest @ ..] if !rest.is_empty() => (u - 0.5) * (24.0 / rest.iter().product::<i64>() as f64).sqrt(),
        _ if name.ends_with("weight") || name.ends_with("running_var") => u * 0.5 + 0.75,
        _ => (u - 0.5) * 0.2,
    };
    u.to_kind(Kind::Float).view(shape)
}

/// The weights of `tests/parity/features.py`: the k-th name in alphabetical order has the numbers of seed 1000 + k.
pub fn weights<T>(network: impl Fn(&Weights) -> T) -> Tensors {
    let fresh = Weights::fresh(0, Device::Cpu, Kind::Float);
    network(&fresh);
    let names: BTreeMap<String, Vec<i64>> =
        fresh.finish().unwrap().into_iter().map(|(name, tensor)| (name, tensor.size())).collect();
    (1000..).zip(names).map(|(seed, (name, shape))| (name.clone(), value(&name, seed, &shape))).collect()
}

/// Thirteen numbers of many, and their mean.
fn some(x: &Tensor) -> Vec<f64> {
    let flat = Vec::<f64>::try_from(x.to_kind(Kind::Double).flatten(0, -1)).unwrap();
    let chosen = (0..13).map(|k| flat[(k * 7919 + 13) % flat.len()]);
    chosen.chain([flat.iter().sum::<f64>() / flat.len() as f64]).collect()
}

/// Numbers that differ by less than `tolerance` of the largest.
fn assert_near(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    let largest = expected.iter().fold(0.0, |a: f64, b| a.max(b.abs()));
    let worst = found.iter().zip(expected).fold(0.0, |worst: f64, (a, b)| worst.max((a - b).abs())) / largest;
    assert!(found.len() == expected.len() && worst < tolerance, "{what}: {worst:e}: {found:?}, not {expected:?}");
}

#[test]
fn inception_is_that_of_pytorch_fid_and_torch_fidelity() {
    let weights = Weights::stored(weights(Inception::new), Device::Cpu, Kind::Float);
    let inception = Inception::new(&weights);
    weights.finish().unwrap();
    let images = pixels(7, &[2, 3, 32, 32]);
    let golden = golden();
    for (way, name) in [(Resize::Pytorch, "pytorch-fid"), (Resize::Tf1, "torch-fidelity")] {
        let found = tch::no_grad(|| inception.forward(&way.forward(&images)));
        let logits = [inception.logits_without_bias(found.features()), inception.logits(found.features())];
        let all = found.means.iter().chain(&logits).chain([&found.spatial]);
        for (expected, found) in golden[name].as_array().unwrap().iter().zip(all) {
            // f32 through 94 convolutions, whose normalisations are multiplied into them here.
            assert_near(&some(found), &numbers(expected), 1e-4, name);
        }
    }
}

/// A mean over pixels in its place: what it is given is 299×299 in 0 … 255, whichever way they came there.
#[test]
fn nvidias_program_is_given_resized_pixels_and_asked_for_features() {
    let images = pixels(7, &[2, 3, 32, 32]);
    for (name, way) in Resize::ALL {
        let network = "inception:tests/golden/inception-program.pt";
        let probe = Probe::open(network, Some(way), None, Device::Cpu).unwrap();
        assert!(probe.is_fid() && probe.resize == Some(way));
        let found = probe.take(&images).unwrap().features;
        let mut expected = way.pixels(&images, 299);
        if way == Resize::Pytorch {
            // x / 127.5 − 1, told in the scale of (y − 128) / 128.
            expected *= 128.0 / 127.5;
        }
        let apart = (found - expected.mean_dim([2i64, 3].as_slice(), false, None)).abs().max();
        // Sums of 89,401 numbers of f32 up to 255, in another order.
        assert!(f64::try_from(apart).unwrap() < 1e-2, "{name}");
    }
    let told = Probe::open("inception:tests/golden/inception-program.pt", None, Some(64), Device::Cpu).unwrap_err();
    assert!(told.to_string().contains("2048 for a TorchScript program"), "{told}");
}

#[test]
fn efficientnet_is_that_of_its_package() {
    let weights = Weights::stored(weights(EfficientNet::new), Device::Cpu, Kind::Float);
    let network = EfficientNet::new(&weights);
    weights.finish().unwrap();
    let pixels = pixels(7, &[2, 3, 224, 224]).to_kind(Kind::Float);
    let features = tch::no_grad(|| network.features(&pixels));
    let golden = golden();
    for (found, expected) in [features.shallow_clone(), network.logits(&features)].iter().zip([0, 1]) {
        // f32 through 49 convolutions.
        assert_near(&some(found), &numbers(&golden["efficientnet-lite0"][expected]), 1e-4, "EfficientNet-Lite0");
    }
}

#[test]
fn resizes_are_those_of_their_packages() {
    for case in golden()["resize"].as_array().unwrap() {
        let size: Vec<i64> = case["size"].as_array().unwrap().iter().map(|n| n.as_i64().unwrap()).collect();
        let image = pixels(8, &size).unsqueeze(0);
        for (name, way) in Resize::ALL {
            let expected = numbers(&case[if name == "adm" { "tf1" } else { name }]);
            // Two roundings of f32 in 255; bilinear sums in another order lose as much.
            assert_near(&some(&way.pixels(&image, 299)), &expected, 1e-6, name);
            assert_eq!((Resize::parse(name).unwrap(), way.name()), (way, name));
        }
    }
    assert!(Resize::parse("bilinear").is_err());
}

/// Bytes that Pillow's fixed point rounds otherwise are one apart, and few.
#[test]
fn photographs_become_squares_as_ddim_and_ncsnv2_made_them() {
    let cases = [
        ("celeba", Preprocessing::CelebaDdim, 60, [218, 178]),
        ("ncsnv2", Preprocessing::CelebaNcsnv2, 60, [218, 178]),
        ("lsun", Preprocessing::LsunDdim, 61, [101, 150]),
    ];
    for (name, recipe, seed, [height, width]) in cases {
        let image = pixels(seed, &[height, width, 3]).permute([2, 0, 1]);
        let found = some(&recipe.apply(&image, 64).unwrap());
        let expected = numbers(&golden()["recipes"][name]);
        let apart = found[..13].iter().zip(&expected).fold(0.0, |worst: f64, (a, b)| worst.max((a - b).abs()));
        assert!(apart <= 1.0 && (found[13] - expected[13]).abs() < 0.01, "{name}: {found:?} is not {expected:?}");
    }
}

/// TensorFlow's ways on images whose result is known: one colour stays, and a ramp of columns halves.
#[test]
fn score_sdes_recipes_take_the_middle() {
    let ramp = Tensor::arange(200, (Kind::Uint8, Device::Cpu)).view([1, 1, 200]).expand([3, 160, 200], false);
    let celeba = Preprocessing::CelebaScoreSde.apply(&ramp, 70).unwrap();
    // Columns 30 … 169 two by two: the low pass of a straight line is the line, at 30.5 + 2 i.
    assert_eq!(
        celeba.narrow(2, 10, 50),
        (Tensor::arange(50, (Kind::Uint8, Device::Cpu)) * 2 + 50).expand([3, 70, 50], false)
    );
    // 160×200 to 128×160, of which columns 16 … 143 stay: i stands at 1.25 (i + 16) + 0.125.
    let lsun = Preprocessing::LsunScoreSde.apply(&ramp, 128).unwrap();
    assert_eq!((lsun.size(), lsun.int64_value(&[0, 64, 64])), (vec![3, 128, 128], 100));
    let square = Preprocessing::LsunScoreSde.apply(&ramp, 80).unwrap();
    // Columns 20 … 179 two by two.
    assert_eq!(square.int64_value(&[1, 40, 40]), 100);
    // The middle as it is: rows 40 … 119, columns 60 … 139.
    assert_eq!(Preprocessing::Middle.apply(&ramp, 80).unwrap(), ramp.narrow(1, 40, 80).narrow(2, 60, 80));
    assert!(Preprocessing::Middle.apply(&ramp, 161).unwrap_err().to_string().contains("at least 161 pixels"));
    let small = Tensor::zeros([3, 100, 200], (Kind::Uint8, Device::Cpu));
    assert!(Preprocessing::CelebaScoreSde.apply(&small, 64).unwrap_err().to_string().contains("at least 140 pixels"));
    assert!(Preprocessing::CelebaDdim.apply(&small, 64).unwrap_err().to_string().contains("[3, 218, 178]"));
}

/// An image of 299×299 is left as it is, and each way has its own scale.
#[test]
fn resizing_to_the_same_size_changes_nothing() {
    let image = pixels(9, &[1, 3, 299, 299]);
    for (name, way) in Resize::ALL {
        let apart = (way.pixels(&image, 299) - image.to_kind(Kind::Float)).abs().max();
        // x / 255 · 255 is rounded twice.
        assert!(f64::try_from(apart).unwrap() < 1e-4, "{name}");
    }
    let white = Tensor::full([1, 3, 299, 299], 255, (Kind::Uint8, Device::Cpu));
    let of = |way: Resize| f64::try_from(way.forward(&white).max()).unwrap();
    assert!((of(Resize::Pytorch) - 1.0).abs() < 1e-6 && (of(Resize::Clean) - 127.0 / 128.0).abs() < 1e-6);
}

/// The sets of `tests/parity/features.py`.
fn sets() -> (Tensor, Tensor) {
    let x = (uniform(1, 4800) + uniform(2, 4800) - 1.0).view([300, 16]);
    let y = (uniform(3, 4000) + uniform(4, 4000) - 1.0).view([250, 16]);
    let mix = (uniform(5, 256) - 0.5).view([16, 16]);
    (x.matmul(&mix), (y * 0.8).matmul(&mix) + 0.1)
}

fn statistics(features: &Tensor) -> Statistics {
    Moments::from_features(features).statistics().unwrap()
}

#[test]
fn distances_of_features_are_those_of_their_packages() {
    let (x, y) = sets();
    let golden = &golden()["distances"];
    let near = |found: f64, name: &Value, tolerance: f64| {
        let expected = name.as_f64().unwrap();
        assert!((found / expected - 1.0).abs() < tolerance, "{found} is not {expected}");
    };
    near(statistics(&x).distance(&statistics(&y)).unwrap(), &golden["frechet"], 1e-9);
    // scipy's root of a singular matrix is not exact: √ of a rounding of 1e-16.
    near(statistics(&x.narrow(0, 0, 10)).distance(&statistics(&y)).unwrap(), &golden["frechet_of_ten"], 1e-6);
    let x250 = x.narrow(0, 0, 250);
    near(kernel_distance(&x250, &y).unwrap(), &golden["kid"], 1e-10);
    near(kid(&x250, &y, 3, 1000, 0).unwrap().mean, &golden["kid_clean"], 1e-10);
    let [own, others] = [&x, &y].map(|set| Neighbourhood::new(set).unwrap());
    let three = neighbours(&own, &others, 3).unwrap();
    // Shares of f32 there.
    near(three.precision, &golden["precision"], 1e-7);
    near(three.recall, &golden["recall"], 1e-7);
    let five = neighbours(&own, &others, 5).unwrap();
    for (found, name) in
        [(five.precision, "precision"), (five.recall, "recall"), (five.density, "density"), (five.coverage, "coverage")]
    {
        near(found, &golden["prdc"][name], 1e-12);
    }
    let expected = numbers(&golden["inception_score"]);
    let logits = (uniform(6, 2000) * 6.0).view([200, 10]);
    for batch in [200, 7] {
        let mut score = InceptionScore::new(200, 4);
        for piece in logits.split(batch, 0) {
            score.push(&piece).unwrap();
        }
        let found = score.value().unwrap();
        assert_near(&[found.mean, found.deviation], &expected, 1e-12, "Inception Score");
    }
}

/// Features on orthogonal axes: one set in the first three of eight, the other in the last two, or in all but one of them.
#[test]
fn singular_covariances_have_the_distance_of_what_they_span() {
    let axes = |variances: [f64; 8]| Statistics {
        count: None,
        mean: Tensor::zeros([8], F64),
        covariance: Tensor::from_slice(&variances).diag(0),
    };
    let a = axes([4.0, 9.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    let b = axes([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 16.0, 25.0]);
    let c = axes([1.0, 4.0, 9.0, 1.0, 1.0, 1.0, 1.0, 0.0]);
    for (x, y, expected) in [(&a, &b, 55.0), (&a, &c, 1.0 + 1.0 + 4.0 + 4.0), (&a, &a, 0.0), (&b, &b, 0.0)] {
        for found in [x.distance(y).unwrap(), y.distance(x).unwrap()] {
            assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
        }
    }
    // The same, turned: the zeros are roundings.
    let turn = Tensor::linalg_qr(&uniform(11, 64).view([8, 8]), "reduced").0;
    let turned = |of: &Statistics| {
        let covariance = turn.matmul(&of.covariance).matmul(&turn.tr());
        Statistics { count: None, mean: of.mean.shallow_clone(), covariance: (&covariance + covariance.tr()) / 2.0 }
    };
    let [a, b, c] = [&a, &b, &c].map(turned);
    for (x, y, expected) in [(&a, &c, 10.0), (&a, &a, 0.0), (&a, &b, 55.0)] {
        for found in [x.distance(y).unwrap(), y.distance(x).unwrap()] {
            // √ of a rounding of 1e-16 · 100, where a set has more directions than the other.
            assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
        }
    }
    let black = axes([0.0; 8]);
    assert!((black.distance(&a).unwrap() - 14.0).abs() < 1e-12 && black.distance(&black).unwrap() == 0.0);
}

/// Fewer vectors than features: the count says so, and the answer is that of the general way.
#[test]
fn few_images_have_the_same_distance_by_a_shorter_way() {
    let (x, y) = (uniform(31, 10 * 40).view([10, 40]), uniform(32, 300 * 40).view([300, 40]));
    let known = |features: &Tensor| statistics(features);
    let unknown = |features: &Tensor| Statistics { count: None, ..statistics(features) };
    // Two of them the same: of rank 8, not 9.
    let twice = Tensor::cat(&[&x.narrow(0, 0, 9), &x.narrow(0, 0, 1)], 0);
    for few in [&x, &twice] {
        let (short, long) = (known(few).distance(&known(&y)).unwrap(), unknown(few).distance(&unknown(&y)).unwrap());
        // By factors of `few` in both, once found in 9 dimensions, once in 40.
        assert!((short / long - 1.0).abs() < 1e-9, "{short} is not {long}");
        let itself = known(few).distance(&known(few)).unwrap();
        assert!(itself.abs() < 1e-10, "{itself}");
    }
}

/// Blocks of 16 by one process, and by three that take every third block.
#[test]
fn partial_sums_merge_to_the_same_bits_whoever_made_them() {
    let x = sets().0;
    let blocks: Vec<Moments> = x.split(16, 0).iter().map(Moments::from_features).collect();
    let mut alone = Moments::new(16);
    for block in x.split(16, 0) {
        alone.push(&block);
    }
    let mut merged = Moments::new(16);
    let rank = |rank: usize| blocks.iter().enumerate().filter(move |(k, _)| k % 3 == rank);
    let mut of_ranks: Vec<(usize, &Moments)> = (0..3).flat_map(rank).collect();
    of_ranks.sort_by_key(|(k, _)| *k);
    for (_, block) in of_ranks {
        merged.merge(block);
    }
    assert_eq!(merged.mean(), alone.mean());
    assert_eq!(merged.covariance(), alone.covariance());
    assert_eq!(
        frechet(&merged, &Moments::from_features(&sets().1)).unwrap(),
        frechet(&alone, &Moments::from_features(&sets().1)).unwrap()
    );
}

/// 1/n of a set's excess is what n more images take away: the line ends nearer to the truth, here 0, than any of its points.
#[test]
fn the_extrapolated_distance_of_equal_distributions_is_nearer_to_nought() {
    let all = (uniform(21, 32000) + uniform(22, 32000) + uniform(23, 32000)).view([4000, 8]);
    let reference = statistics(&all.narrow(0, 2000, 2000));
    let x = all.narrow(0, 0, 1000);
    let whole = statistics(&x).distance(&reference).unwrap();
    let line = extrapolated(&x, &reference, 0).unwrap();
    assert!(whole > 0.0 && line.abs() < whole / 2.0, "{line}, {whole}");
    let spread = bootstrap(&x, &reference, 20, 0).unwrap();
    assert!(spread.deviation > 0.0 && spread.deviation < whole && spread.mean > whole, "{spread:?}, {whole}");
    assert_eq!(bootstrap(&x, &reference, 20, 0).unwrap(), spread);
    assert_eq!(Spread::from_values(&[1.0, 3.0]), Spread { mean: 2.0, deviation: 1.0 });
}

/// Sets of one direction each, at right angles: 1000 (1 + 1 − 2 exp(−2/(2 · 10²))).
/// On a line it is 3 W₂², by the order of numbers; in more dimensions a shift by v is 3 |v|² on average over directions.
#[test]
fn mind_is_three_times_the_sliced_distance() {
    let line = |values: &[f64]| Tensor::from_slice(values).unsqueeze(1);
    // Sorted: 0 − 1, 2 − 4, 5 − 4.5.
    let found = mind(&line(&[5.0, 0.0, 2.0]), &line(&[4.0, 4.5, 1.0]), 7).unwrap();
    assert!((found - (1.0 + 4.0 + 0.25)).abs() < 1e-12, "{found}");
    let (x, y) = sets();
    let shift = Tensor::from_slice(&[0.5, -0.25].repeat(8)).view([1, 16]);
    let found = mind(&x, &(&x + &shift), 7).unwrap();
    let expected = 3.0 * f64::try_from(shift.square().sum(Kind::Double)).unwrap();
    // Of 1000 directions ⟨u, v⟩² has the relative deviation √(2/1000) of its mean: four of them.
    assert!((found / expected - 1.0).abs() < 0.18, "{found} is not {expected}");
    assert_eq!(mind(&x, &x, 7).unwrap(), 0.0);
    // Of the larger set as many are drawn as the smaller one has; the same by the same seed, and symmetric but for that.
    assert_eq!(mind(&x, &y, 7).unwrap(), mind(&x, &y, 7).unwrap());
    let x250 = x.narrow(0, 0, 250);
    assert_eq!(mind(&x250, &y, 7).unwrap(), mind(&y, &x250, 7).unwrap());
}

#[test]
fn cmmd_of_two_directions_is_the_closed_form() {
    let axis = |i: i64, length: f64| Tensor::eye(3, F64).narrow(0, i, 1) * length;
    let (x, y) = (Tensor::cat(&[axis(0, 1.0), axis(0, 7.0)], 0), axis(1, 0.1));
    let expected = 2000.0 * (1.0 - (-0.01f64).exp());
    assert!((cmmd(&x, &y).unwrap() - expected).abs() < 1e-10 && cmmd(&x, &x).unwrap().abs() < 1e-10);
}

/// The unbiased kernel distance of a set of features from another of the same distribution is nought in the mean.
#[test]
fn the_kernel_distance_is_unbiased() {
    let draw = |seed| uniform(seed, 400).view([50, 8]);
    let values: Vec<f64> = (0..200).map(|k| kernel_distance(&draw(2 * k), &draw(2 * k + 1)).unwrap()).collect();
    let spread = Spread::from_values(&values);
    // Three standard errors.
    assert!(spread.mean.abs() < 3.0 * spread.deviation / 200f64.sqrt(), "{spread:?}");
    assert!(values.iter().any(|value| *value < 0.0));
}

/// Nought by nought: too few images are told, and are no panic.
#[test]
fn too_few_features_are_told() {
    let one = Tensor::ones([1, 4], F64);
    let told = |error: tweedie::Error| assert!(error.to_string().contains("the number of images"), "{error}");
    told(Moments::from_features(&one).statistics().unwrap_err());
    told(kid(&one, &one, 1, 10, 0).unwrap_err());
    told(Neighbourhood::new(&one).unwrap_err());
    told(InceptionScore::new(0, 10).value().unwrap_err());
    let other = statistics(&sets().0);
    let told = statistics(&Tensor::eye(4, F64)).distance(&other).unwrap_err().to_string();
    assert!(told.contains("[16]") && told.contains("4 features"), "{told}");
}

/// Statistics and eigenvalues of 2048 features. `cargo test -- --ignored` prints how long they take.
#[test]
#[ignore = "a measurement"]
fn statistics_of_2048_features_take_seconds() {
    for count in [10_000, 1_000] {
        let reference = Moments::from_features(&Tensor::rand([4096, 2048], F64)).statistics().unwrap();
        let features = Tensor::rand([count, 2048], (Kind::Float, Device::Cpu));
        let start = Instant::now();
        let mut moments = Moments::new(2048);
        for batch in features.split(250, 0) {
            moments.push(&batch);
        }
        let statistics = moments.statistics().unwrap();
        let summed = start.elapsed().as_secs_f64();
        let distance = statistics.distance(&reference).unwrap();
        println!("{count}: sums {summed:.2} s, all {:.2} s, {distance}", start.elapsed().as_secs_f64());
    }
}
