//! What each operator sees: the formula written out, what other programs make of the same image, and what is refused.

use std::f64::consts::TAU;

use serde_json::Value;
use tch::{CModule, Device, Kind, Tensor};
use tempfile::TempDir;
use tweedie::{
    files::images,
    inverse::operators::{AnyTask, Beams, Blur, Boundary, Fourier, LinearOperator, Operator, Radon},
    scores::noise::{Noise, Seeded},
};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

/// Rounding of sums of a few hundred f64 terms of order 1.
const ROUNDING: f64 = 1e-10;

fn build(json: &str, shape: [i64; 3], seed: u64) -> Operator {
    let task: AnyTask = serde_json::from_str(json).unwrap();
    task.get().operator(shape, seed, Device::Cpu, Kind::Double).unwrap()
}

fn refusal(json: &str, shape: [i64; 3]) -> String {
    let task: AnyTask = serde_json::from_str(json).unwrap();
    task.get().operator(shape, 0, Device::Cpu, Kind::Float).unwrap_err().to_string()
}

/// N(0, 1), `[1, channels, height, width]`.
fn image([channels, height, width]: [i64; 3], seed: u64) -> Tensor {
    let blank = Tensor::zeros([1, channels, height, width], (Kind::Float, Device::Cpu));
    Seeded(vec![seed]).like(&blank, 0, 0).to_kind(Kind::Double)
}

fn number(tensor: &Tensor) -> f64 {
    f64::try_from(tensor).unwrap()
}

fn largest(difference: &Tensor) -> f64 {
    number(&difference.abs().max())
}

fn total(x: &Tensor) -> f64 {
    number(&x.sum(Kind::Double))
}

/// Sides of `expected`, which a list of numbers in row order fills.
fn array(list: &Value, like: &Tensor) -> Tensor {
    let values: Vec<f64> = serde_json::from_value(list.clone()).unwrap();
    Tensor::from_slice(&values).view_as(like)
}

/// What deepinv, numpy and scikit-image made of the image of seed 5 (tests/parity/operators.py).
fn golden(operator: &str) -> Vec<Value> {
    let cases: Vec<Value> = serde_json::from_str(include_str!("golden/operators.json")).unwrap();
    cases.into_iter().filter(|case| case["operator"] == operator).collect()
}

/// Peers compute in f32 in places; the file has nine digits.
const PEERS: f64 = 1e-5;

const PHOTO: [i64; 3] = [3, 16, 12];

#[test]
fn blurs_agree_with_deepinv() {
    let x = image(PHOTO, 5);
    let cases = golden("blur");
    assert_eq!(cases.len(), 4);
    for case in cases {
        let kernel = array(&case["kernel"], &Tensor::zeros([5, 3], F64));
        let boundary: Boundary = serde_json::from_value(case["boundary"].clone()).unwrap();
        let y = Blur::new(&kernel, PHOTO, boundary, Device::Cpu, Kind::Double).unwrap().apply(&x);
        assert!(largest(&(array(&case["y"], &y) - y)) < PEERS, "{boundary:?}");
    }
}

/// What becomes of a point of light in the middle of a black image, over `size` pixels around it.
fn spread(json: &str, side: i64, size: i64) -> Tensor {
    let point = Tensor::zeros([1, 1, side, side], F64);
    let _ = point.narrow(2, side / 2, 1).narrow(3, side / 2, 1).fill_(1.0);
    let first = side / 2 - size / 2;
    build(json, [1, side, side], 0).apply(&point).get(0).get(0).narrow(0, first, size).narrow(1, first, size)
}

#[test]
fn turned_gaussians_agree_with_deepinv() {
    let cases = golden("anisotropic");
    assert_eq!(cases.len(), 4);
    for case in cases {
        let json =
            format!(r#"{{"kind": "deblur-anisotropic", "std": [2.0, 0.7], "size": 9, "angle": {}}}"#, case["angle"]);
        let kernel = spread(&json, 32, 9);
        assert!(largest(&(array(&case["kernel"], &kernel) - kernel)) < PEERS, "{}", case["angle"]);
    }
}

#[test]
fn right_angles_and_all_others_meet() {
    for (near, exact) in [(1e-9, 0.0), (90.000000001, 90.0), (179.999999999, 180.0), (-90.000000001, -90.0)] {
        let json = |angle: f64| {
            format!(r#"{{"kind": "deblur-anisotropic", "std": [3.0, 0.6], "size": 9, "angle": {angle:?}}}"#)
        };
        // 1e-9 degrees turn the outermost tap by 1e-10 pixels.
        assert!(largest(&(spread(&json(near), 32, 9) - spread(&json(exact), 32, 9))) < 1e-9);
    }
    let default = spread(r#"{"kind": "deblur-anisotropic"}"#, 256, 9);
    let papers = spread(r#"{"kind": "deblur-anisotropic", "std": [20.0, 1.0], "size": 9}"#, 256, 9);
    assert!(largest(&(default - papers)) < 1e-15);
}

#[test]
fn the_uniform_blur_is_a_mean() {
    let kernel = spread(r#"{"kind": "deblur-uniform", "size": 5}"#, 32, 7);
    let inside = kernel.narrow(0, 1, 5).narrow(1, 1, 5);
    assert!(largest(&(&inside - 0.04)) < 1e-15 && (total(&kernel) - 1.0).abs() < 1e-14);
    let default = spread(r#"{"kind": "deblur-uniform"}"#, 256, 9);
    assert!(largest(&(default - 1.0 / 81.0)) < 1e-15, "9 × 9 for 256 pixels, as in DDRM");
}

#[test]
fn bicubic_super_resolution_agrees_with_deepinv() {
    let x = image(PHOTO, 5);
    for case in golden("bicubic") {
        let y = build(&format!(r#"{{"kind": "super-resolution", "factor": {}}}"#, case["factor"]), PHOTO, 0).apply(&x);
        assert!(largest(&(array(&case["y"], &y) - y)) < PEERS, "{}", case["factor"]);
    }
}

#[test]
fn strided_super_resolution_picks_every_pixel_at_multiples_of_the_factor() {
    let x = image([3, 32, 16], 1);
    for factor in [2, 4, 8, 16] {
        let json = format!(r#"{{"kind": "super-resolution", "factor": {factor}, "kernel": "stride"}}"#);
        let operator = build(&json, [3, 32, 16], 0);
        assert!(operator.apply(&x).equal(&x.slice(2, 0, None, factor).slice(3, 0, None, factor)));
        assert!((operator.norm_squared() - 1.0).abs() < 1e-14);
    }
}

#[test]
fn luma_agrees_with_deepinv_and_the_mean_is_one() {
    let x = image(PHOTO, 5);
    let y = build(r#"{"kind": "colorization", "grey": "luma"}"#, PHOTO, 0).apply(&x);
    assert!(largest(&(array(&golden("luma")[0]["y"], &y) - y)) < PEERS);
    let mean = build(r#"{"kind": "colorization"}"#, PHOTO, 0);
    assert!(largest(&(mean.apply(&x) - x.mean_dim([1i64].as_slice(), true, None))) < ROUNDING);
    assert!((mean.norm_squared() - 1.0 / 3.0).abs() < 1e-15);
}

#[test]
fn the_extreme_task_sees_what_the_box_hides() {
    let ones = Tensor::ones([1, 3, 32, 24], F64);
    for seed in 0..8 {
        let hidden = build(r#"{"kind": "inpaint-box", "width": 0.25}"#, [3, 32, 24], seed).apply(&ones);
        let seen = build(r#"{"kind": "inpaint-extreme", "width": 0.25}"#, [3, 32, 24], seed).apply(&ones);
        assert!((hidden + &seen).equal(&ones));
        assert!((total(&seen) - f64::from(3 * 16 * 6)).abs() < 0.5);
    }
}

#[test]
fn half_an_image_is_hidden_and_a_middle_line_is_seen() {
    let seen = |side: &str, shape: [i64; 3]| {
        let ones = Tensor::ones([1, shape[0], shape[1], shape[2]], F64);
        build(&format!(r#"{{"kind": "inpaint-half", "hidden": "{side}"}}"#), shape, 0).apply(&ones).get(0).get(0)
    };
    for shape in [[1, 6, 8], [1, 5, 7]] {
        let [_, height, width] = shape;
        let ones = |rows: i64, columns: i64| f64::from(i32::try_from(rows * columns).unwrap());
        for (side, dim, first, n) in [("left", 1, 0, width), ("right", 1, width - width / 2, width)] {
            let mask = seen(side, shape);
            assert_eq!(total(&mask), ones(height, width - width / 2), "{side}");
            assert_eq!(total(&mask.narrow(dim, first, n / 2)), 0.0, "{side}");
        }
        for (side, first) in [("top", 0), ("bottom", height - height / 2)] {
            let mask = seen(side, shape);
            assert_eq!(total(&mask), ones(height - height / 2, width), "{side}");
            assert_eq!(total(&mask.narrow(0, first, height / 2)), 0.0, "{side}");
        }
    }
}

#[test]
fn a_mask_file_is_a_task() {
    let place = TempDir::new().unwrap();
    let file = place.path().join("mask.png");
    let grey = (Tensor::arange(6 * 4, F64) * 10.0 + 5.0).view([1, 6, 4]);
    images::write_png(&file, &grey.to_kind(Kind::Uint8)).unwrap();
    let json = format!(r#"{{"kind": "inpaint-mask", "file": {:?}}}"#, file.to_str().unwrap());
    let x = image([3, 6, 4], 2);
    let expected = &x * grey.ge(128.0);
    assert!(build(&json, [3, 6, 4], 0).apply(&x).equal(&expected));
    let told = refusal(&json, [3, 4, 6]);
    assert!(told.contains("mask.png: the mask has shape [6, 4], but [4, 6]"), "{told}");
    assert!(refusal(r#"{"kind": "inpaint-mask", "file": "none.png"}"#, [1, 8, 8]).starts_with("none.png: "));
}

/// Masks as NumPy stores them: yes and no, 0 and 1 of any type, or bytes of a picture.
#[test]
fn a_mask_is_an_array_as_well() {
    let place = TempDir::new().unwrap();
    let x = image([3, 2, 3], 2);
    let seen = Tensor::from_slice(&[1.0, 0.0, 0.0, 1.0, 1.0, 0.0]).view([2, 3]);
    let build = |descr: &str, order: &str, shape: &str, data: &[u8]| {
        let file = place.path().join("mask.npy");
        let header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
        let length = (header.len() as u16).to_le_bytes();
        std::fs::write(&file, [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), data].concat()).unwrap();
        format!(r#"{{"kind": "inpaint-mask", "file": {:?}}}"#, file.to_str().unwrap())
    };
    let reals: Vec<u8> = [1f32, 0.0, 0.0, 1.0, 1.0, 0.0].iter().flat_map(|value| value.to_be_bytes()).collect();
    for (descr, order, shape, data) in [
        ("|b1", "False", "(2, 3)", &[1u8, 0, 0, 1, 1, 0][..]),
        ("|u1", "False", "(1, 2, 3)", &[1, 0, 0, 1, 1, 0]),
        ("|u1", "False", "(2, 3)", &[255, 127, 0, 128, 200, 3]),
        ("|b1", "True", "(2, 3)", &[1, 1, 0, 1, 0, 0]),
        (">f4", "False", "(2, 3)", &reals),
    ] {
        let json = build(descr, order, shape, data);
        assert!(self::build(&json, [3, 2, 3], 0).apply(&x).equal(&(&x * &seen)), "{descr} {order} {shape}");
    }
    let half: Vec<u8> = [0.5f32; 6].iter().flat_map(|value| value.to_le_bytes()).collect();
    let told = refusal(&build("<f4", "False", "(2, 3)", &half), [3, 2, 3]);
    assert!(told.contains("mask.npy: holds other numbers than 0 (hidden) and 1"), "{told}");
    let told = refusal(&build("|b1", "False", "(2, 1, 3)", &[0; 6]), [3, 2, 3]);
    assert!(told.contains("is [2, 1, 3]: one mask, [height, width], is wanted"), "{told}");
}

#[test]
fn compressed_measurements_are_orthonormal_and_follow_the_seed() {
    let shape = [2, 9, 10];
    let Operator::Linear(operator) = build(r#"{"kind": "compressed-sensing", "kept": 0.3}"#, shape, 4) else {
        panic!("not linear")
    };
    let y = image([2, 1, 27], 3);
    assert_eq!(operator.apply(&image(shape, 1)).size(), [1, 2, 1, 27]);
    assert!(largest(&(operator.apply(&operator.adjoint(&y)) - &y)) < ROUNDING, "A Aᵀ = I");
    let seen = |seed| build(r#"{"kind": "compressed-sensing", "kept": 0.3}"#, shape, seed).apply(&image(shape, 1));
    assert!(seen(4).equal(&seen(4)) && !seen(4).equal(&seen(5)));
    // Signs hide any structure: a constant image spreads over all coefficients alike, 1 of 1 in each on average.
    let flat =
        build(r#"{"kind": "compressed-sensing", "kept": 1}"#, [1, 32, 32], 1).apply(&Tensor::ones([1, 1, 32, 32], F64));
    // The largest of 1024 standard normal numbers exceeds 5 once in 1700 times.
    assert!(largest(&flat) < 5.0 && (total(&flat.square()) - 1024.0).abs() < 1e-9);
}

/// Every other `[real, imaginary]` channel of a measurement by its definition: Σ x exp(−2πi k·r/n)/√N about the middle.
#[test]
fn magnetic_resonance_is_the_fourier_sum_written_out() {
    for shape in [[2, 4, 6], [1, 5, 3]] {
        let [channels, height, width] = shape;
        let x = image(shape, 6);
        let all = Tensor::ones([height, width], F64);
        let y = Fourier::new(&all, shape, Device::Cpu, Kind::Double).unwrap().apply(&x);
        for (c, k, l) in (0..channels).flat_map(|c| (0..height).flat_map(move |k| (0..width).map(move |l| (c, k, l)))) {
            let (mut real, mut imaginary) = (0.0, 0.0);
            for (i, j) in (0..height).flat_map(|i| (0..width).map(move |j| (i, j))) {
                let part = |k: i64, i: i64, n: i64| ((k - n / 2) * (i - n / 2)) as f64 / n as f64;
                let angle = -TAU * (part(k, i, height) + part(l, j, width));
                let value = x.double_value(&[0, c, i, j]) / ((height * width) as f64).sqrt();
                real += value * angle.cos();
                imaginary += value * angle.sin();
            }
            let gap = [real - y.double_value(&[0, 2 * c, k, l]), imaginary - y.double_value(&[0, 2 * c + 1, k, l])];
            assert!(gap.iter().all(|gap| gap.abs() < ROUNDING), "{shape:?} {c} {k} {l}: {gap:?}");
        }
    }
}

#[test]
fn magnetic_resonance_agrees_with_deepinv() {
    let x = image(PHOTO, 5);
    let cases = golden("mri");
    assert_eq!(cases.len(), 3);
    for case in cases {
        let mask = array(&case["mask"], &Tensor::zeros([16, 12], F64));
        let y = Fourier::new(&mask, PHOTO, Device::Cpu, Kind::Double).unwrap().apply(&x);
        let y = y.narrow(1, 2 * case["channel"].as_i64().unwrap(), 2);
        assert!(largest(&(array(&case["y"], &y) - y)) < PEERS);
    }
}

/// Which frequencies a task sees.
fn frequencies(json: &str, shape: [i64; 3], seed: u64) -> Tensor {
    let Operator::Linear(operator) = build(json, shape, seed) else { panic!("not linear") };
    operator.tables().remove(0).1.to_kind(Kind::Double)
}

#[test]
fn cartesian_masks_have_whole_columns_a_full_middle_and_as_many_as_asked_for() {
    let json = r#"{"kind": "mri-cartesian", "acceleration": 8, "center": 0.04}"#;
    let mut often = Tensor::zeros([320], F64);
    for seed in 0..50 {
        let mask = frequencies(json, [1, 16, 320], seed);
        assert!(mask.equal(&mask.narrow(0, 0, 1).expand_as(&mask)), "whole columns");
        assert!((total(&mask.get(0)) - 40.0).abs() < 0.5);
        assert!((total(&mask.get(0).narrow(0, 154, 13)) - 13.0).abs() < 0.5, "0.04 × 320 around 160");
        often += mask.get(0);
    }
    // Each other column is seen in 27 of 307 draws: 4.4 ± 2 times in 50.
    let others = Tensor::cat(&[often.narrow(0, 0, 154), often.narrow(0, 167, 153)], 0);
    assert!(number(&others.max()) < 4.4 + 6.0 * 2.0);
}

#[test]
fn spokes_go_through_the_middle_from_border_to_border() {
    let mask = frequencies(r#"{"kind": "mri-radial", "spokes": 2}"#, [1, 16, 12], 0);
    let cross = Tensor::zeros([16, 12], F64);
    let _ = cross.narrow(0, 8, 1).fill_(1.0);
    let _ = cross.narrow(1, 6, 1).fill_(1.0);
    assert!(mask.equal(&cross));
    let many = frequencies(r#"{"kind": "mri-radial", "spokes": 64}"#, [1, 16, 12], 0);
    assert!(largest(&(many - 1.0)) < 0.5, "enough spokes see everything");
}

#[test]
fn noise_that_no_real_image_explains_falls_out() {
    let shape = [1, 6, 5];
    let Operator::Linear(operator) = build(r#"{"kind": "mri-cartesian", "acceleration": 1.5}"#, shape, 1) else {
        panic!("not linear")
    };
    let svd = operator.svd().unwrap();
    let y = image([2, 6, 5], 4);
    let s = svd.singular(Kind::Double);
    let expected = svd.coordinates(&operator.adjoint(&y));
    assert!(largest(&(svd.measured(&y) * &s - expected).abs()) < ROUNDING, "V S Uᵀ y = Aᵀ y");
}

#[test]
fn no_light_is_lost_on_the_way_to_the_detectors() {
    let x = image([2, 9, 14], 3);
    let y = build(r#"{"kind": "tomography", "angles": 7}"#, [2, 9, 14], 0).apply(&x);
    assert_eq!(y.size(), [1, 2, 7, 17]);
    let seen = y.sum_dim_intlist([3i64].as_slice(), false, None);
    let all = x.flatten(2, 3).sum_dim_intlist([2i64].as_slice(), true, None);
    assert!(largest(&(seen - all)) < ROUNDING);
}

#[test]
fn rays_at_right_angles_sum_columns_and_rows() {
    let x = image([1, 9, 9], 4);
    let y = Radon::new(
        [9, 9],
        &Beams { angles: vec![0.0, 90.0, 180.0], detectors: 9, axis: None },
        Device::Cpu,
        Kind::Double,
    )
    .unwrap()
    .apply(&x)
    .get(0)
    .get(0);
    let along = |dim: i64| x.get(0).get(0).sum_dim_intlist([dim].as_slice(), false, None);
    // sin 180° is 1e-16, and so is what a pixel's shadow reaches into the next strip.
    assert!(largest(&(y.get(0) - along(0))) < ROUNDING);
    assert!(largest(&(y.get(1) - along(1).flip([0i64].as_slice()))) < ROUNDING, "upwards is to the right");
    assert!(largest(&(y.get(2) - along(0).flip([0i64].as_slice()))) < ROUNDING);
}

/// A disc of radius r has the projection 2 √(r² − t²) at every angle.
#[test]
fn a_disc_looks_the_same_from_every_side() {
    let (side, fine, radius) = (64, 8, 24.0);
    let at = (Tensor::arange(side * fine, F64) + 0.5) / fine as f64 - 0.5 * side as f64;
    let disc = (at.unsqueeze(0).square() + at.unsqueeze(1).square()).lt(radius * radius).to_kind(Kind::Double);
    let disc = disc.unsqueeze(0).unsqueeze(0);
    let disc =
        disc.avg_pool2d([fine, fine].as_slice(), [fine, fine].as_slice(), [0i64, 0].as_slice(), false, true, None);
    let y = build(r#"{"kind": "tomography", "angles": 13, "detectors": 64}"#, [1, side, side], 0).apply(&disc);
    let t = Tensor::arange(side, F64) - 31.5;
    let chord = (-t.square() + radius * radius).clamp_min(0.0).sqrt() * 2.0;
    // The pixels at a chord's two ends spread their light evenly: of each at most a quarter is counted elsewhere. At the rim
    // itself the chord changes by its own size within a strip.
    let inside = t.abs().lt(radius - 4.0);
    assert!(largest(&((&y - &chord) * inside)) < 0.5);
    assert!(number(&(y - chord).abs().mean(Kind::Double)) < 0.15);
}

/// scikit-image turns the picture by interpolation and sums columns; the operator shares squares among strips.
#[test]
fn the_phantom_is_projected_as_scikit_image_does_within_discretisation() {
    let case = &golden("radon")[0];
    let x = array(&case["x"], &Tensor::zeros([1, 1, 63, 63], F64));
    let y = build(r#"{"kind": "tomography", "angles": 12, "detectors": 63}"#, [1, 63, 63], 0).apply(&x);
    let theirs = array(&case["y"], &y);
    let root = |x: &Tensor| number(&x.square().mean(Kind::Double).sqrt());
    let (error, size) = (root(&(&y - &theirs)), root(&theirs));
    assert!(error < 0.02 * size, "{error} of {size}");
    // At 0° and 90° nothing is interpolated.
    for angle in [0, 6] {
        assert!(largest(&(y.select(2, angle) - theirs.select(2, angle))) < 63.0 * 1e-4, "as rounded in the file");
    }
}

fn root_mean_square(x: &Tensor) -> f64 {
    number(&x.square().mean(Kind::Double)).sqrt()
}

#[test]
fn magnitudes_agree_with_numpy_and_keep_the_length() {
    let x = image(PHOTO, 5);
    let operator = build(r#"{"kind": "phase-retrieval"}"#, PHOTO, 0);
    let y = operator.apply(&x);
    assert_eq!(y.size(), [1, 3, 24, 18]);
    assert!(largest(&(array(&golden("phase-retrieval")[0]["y"], &y) - &y)) < 1e-8);
    assert!((total(&y.square()) - total(&x.square())).abs() < 1e-9, "Parseval");
    for twin in [-&x, x.flip([2i64, 3].as_slice())] {
        assert!(largest(&(operator.apply(&twin) - &y)) < ROUNDING, "cannot be told apart");
    }
    assert!(operator.linear().is_none());
}

#[test]
fn bright_and_dark_are_cut_off() {
    let x = Tensor::from_slice(&[-2.0, -0.6, -0.4, 0.0, 0.3, 0.5, 0.9]).view([1, 1, 1, 7]);
    let expected = Tensor::from_slice(&[-1.0, -1.0, -0.8, 0.0, 0.6, 1.0, 1.0]).view([1, 1, 1, 7]);
    assert!(largest(&(build(r#"{"kind": "high-dynamic-range"}"#, [1, 1, 7], 0).apply(&x) - expected)) < 1e-15);
}

/// Traces forward(x) and writes it to a file.
fn export(place: &TempDir, program: impl Fn(&Tensor) -> Tensor) -> String {
    let mut traced = |inputs: &[Tensor]| vec![program(&inputs[0])];
    let inputs = [Tensor::ones([2, 1, 6, 4], (Kind::Float, Device::Cpu))];
    let module = CModule::create_by_tracing("Program", "forward", &inputs, &mut traced).unwrap();
    let path = place.path().join("program.pt");
    module.save(&path).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_program_is_an_operator() {
    let place = TempDir::new().unwrap();
    let file = export(&place, |x| (x * 0.5).tanh());
    let json = format!(r#"{{"kind": "torchscript", "file": {file:?}, "norm": 0.5}}"#);
    let operator = build(&json, [1, 6, 4], 0);
    let x = image([1, 6, 4], 3);
    assert!(largest(&(operator.apply(&x) - (&x * 0.5).tanh())) < 1e-15);
    assert!((operator.norm_squared() - 0.25).abs() < 1e-15);
    let e = image([1, 6, 4], 4);
    let expected: Tensor = &e * 0.5 * (1.0 - (&x * 0.5).tanh().square());
    assert!(largest(&(operator.pull(&x, |_| e.shallow_clone()) - expected)) < ROUNDING, "its gradient");
    let blind = export(&place, |x| x.sum(Kind::Float));
    let json = format!(r#"{{"kind": "torchscript", "file": {blind:?}, "norm": 1}}"#);
    assert!(refusal(&json, [1, 6, 4]).contains("must be a measurement for each image, but is []"));
    let json = json.replace("\"norm\": 1", "\"norm\": 0");
    assert!(refusal(&json, [1, 6, 4]).ends_with("norm must be a positive bound of ‖∂A/∂x‖, but is 0"));
    let told = refusal(r#"{"kind": "torchscript", "file": "Cargo.toml", "norm": 1}"#, [1, 6, 4]);
    assert!(told.starts_with("Cargo.toml: is no TorchScript program"), "{told}");
}

/// ⟨e, (A(x + h d) − A(x − h d))/2h⟩ = ⟨(∂A/∂x)ᵀ e, d⟩, and ‖(∂A/∂x) d‖ ≤ ‖A‖ ‖d‖.
#[test]
fn the_gradients_of_nonlinear_tasks_are_those_of_finite_differences() {
    let tasks = [
        r#"{"kind": "phase-retrieval"}"#,
        r#"{"kind": "phase-retrieval", "oversampling": 2}"#,
        r#"{"kind": "high-dynamic-range"}"#,
        r#"{"kind": "compose", "tasks": [{"kind": "deblur-uniform"}, {"kind": "high-dynamic-range", "scale": 3}]}"#,
        r#"{"kind": "compose", "tasks": [{"kind": "phase-retrieval"}, {"kind": "super-resolution", "factor": 2}]}"#,
    ];
    for json in tasks {
        let operator = build(json, [3, 8, 12], 0);
        let (x, d) = (image([3, 8, 12], 1) * 0.3, image([3, 8, 12], 2));
        // No pixel crosses the corner of a clip within 1e-7; the error is of order h² and rounding over h.
        let h = 1e-7;
        let slope = (operator.apply(&(&x + &d * h)) - operator.apply(&(&x - &d * h))) / (2.0 * h);
        let e = slope.sin() + 0.5;
        let pulled = operator.pull(&x, |_| e.shallow_clone());
        let gap = total(&(&e * &slope)) - total(&(pulled * &d));
        assert!(gap.abs() < 1e-5 * total(&slope.square()), "{json}: {gap:e}");
        assert!(total(&slope.square()) <= operator.norm_squared() * total(&d.square()) * (1.0 + 1e-6), "{json}");
    }
}

#[test]
fn single_precision_agrees_in_nonlinear_tasks() {
    for json in [r#"{"kind": "phase-retrieval"}"#, r#"{"kind": "high-dynamic-range"}"#] {
        let x = image(PHOTO, 5);
        let task: AnyTask = serde_json::from_str(json).unwrap();
        let single = task.get().operator(PHOTO, 0, Device::Cpu, Kind::Float).unwrap().apply(&x.to_kind(Kind::Float));
        assert_eq!(single.kind(), Kind::Float);
        assert!(root_mean_square(&(single - build(json, PHOTO, 0).apply(&x))) < 1e-6);
    }
}

#[test]
fn composed_tasks_happen_one_after_the_other_with_seeds_of_their_own() {
    let shape = [3, 8, 8];
    let json = r#"{"kind": "compose", "tasks":
        [{"kind": "colorization"}, {"kind": "inpaint-random", "hidden": 0.5}, {"kind": "inpaint-random", "hidden": 0.5}]}"#;
    let x = image(shape, 9);
    let grey = build(r#"{"kind": "colorization"}"#, shape, 3).apply(&x);
    let once = |seed| build(r#"{"kind": "inpaint-random", "hidden": 0.5}"#, [1, 8, 8], seed);
    let expected = once(5).apply(&once(4).apply(&grey));
    let y = build(json, shape, 3).apply(&x);
    assert!(y.equal(&expected));
    assert!(total(&y.ne(0.0).to_kind(Kind::Double)) < 28.0, "two masks that differ leave about a quarter of 64");
}

#[test]
fn what_cannot_be_built_is_refused_in_one_sentence() {
    let cases = [
        (r#"{"kind": "inpaint-extreme", "height": 2}"#, "the box must be at least one pixel, within the margins"),
        (r#"{"kind": "deblur-uniform", "size": 4}"#, "size must be odd and less than twice the image's shorter side"),
        (r#"{"kind": "deblur-anisotropic", "std": [1, -1]}"#, "std must be two positive numbers, but is -1"),
        (
            r#"{"kind": "super-resolution", "factor": 3, "kernel": "stride"}"#,
            "factor must be a whole number that divides the image's height and width, but is 3 for images of 28x30",
        ),
        (
            r#"{"kind": "colorization", "grey": "luma"}"#,
            "grey must be mean, or luma for images of red, green and blue, but is luma for images of 1 channels",
        ),
        (
            r#"{"kind": "compressed-sensing", "kept": 0.0001}"#,
            "kept must be a part between 0 and 1 that leaves at least one measurement, but is 0.0001 for images of 28x30",
        ),
        (r#"{"kind": "compressed-sensing", "kept": 1.5}"#, "kept must be a part between 0 and 1"),
        (r#"{"kind": "mri-cartesian", "acceleration": 0.5}"#, "acceleration must be at least 1, but is 0.5"),
        (
            r#"{"kind": "mri-cartesian", "center": 0.5}"#,
            "center must be a part of the columns that are seen, but is 0.5 of 30 columns, of which 8 are seen",
        ),
        (
            r#"{"kind": "mri-radial", "spokes": 0}"#,
            "spokes must be at least 1 and at most four times the image's longer side, but is 0",
        ),
        (
            r#"{"kind": "tomography", "angles": 0}"#,
            "angles must be at least 1, and few enough to be held in memory, but is 0 for images of 28x30; \
             at most 26630 would do",
        ),
        (
            r#"{"kind": "tomography", "detectors": 0}"#,
            "detectors must be at least 1, and not far more than the image is wide, but is 0 for images of 28x30",
        ),
        (r#"{"kind": "phase-retrieval", "oversampling": 0.5}"#, "oversampling must be between 1 and 16, but is 0.5"),
        (r#"{"kind": "high-dynamic-range", "scale": 0}"#, "scale must be positive, but is 0"),
        (r#"{"kind": "compose", "tasks": []}"#, "tasks must be a list of at least one task, but is empty"),
        (
            r#"{"kind": "compose", "tasks": [{"kind": "super-resolution", "factor": 2}, {"kind": "super-resolution"}]}"#,
            "factor must be a whole number that divides the image's height and width, but is 4 for images of 14x15",
        ),
    ];
    for (json, message) in cases {
        let told = refusal(json, [1, 28, 30]);
        assert!(told.starts_with(message) && told.lines().count() == 1, "{told}");
    }
    let none = Fourier::new(&Tensor::zeros([4, 4], F64), [1, 4, 4], Device::Cpu, Kind::Double).unwrap_err().to_string();
    assert_eq!(none, "the mask of frequencies must be 1 at one of them at least, but is 0 at all");
    let other =
        Fourier::new(&Tensor::zeros([4, 5], F64), [1, 4, 4], Device::Cpu, Kind::Double).unwrap_err().to_string();
    assert!(other.starts_with("the mask of frequencies has shape [4, 5], but [4, 4]"), "{other}");
}
