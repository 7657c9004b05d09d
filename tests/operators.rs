//! Every operator against its own matrix, against autograd, and against the sums written out by hand.

use tch::{Device, Kind, Tensor};
use tweedie::{
    inverse::operators::{
        AnyTask, Blur, Boundary, DeblurGaussian, DeblurMotion, Inpaint, InpaintBox, InpaintRandom, LinearOperator,
        Operator, SuperResolution, Task,
    },
    numbers::registry::Info,
};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

/// Rounding of sums of a few hundred f64 terms of order 1.
const ROUNDING: f64 = 1e-10;

/// The Lanczos iteration stops when eight steps change 1e-10 or less; what is left is a few times that.
const LANCZOS: f64 = 1e-8;

const BOUNDARIES: [Boundary; 3] = [Boundary::Reflect, Boundary::Zero, Boundary::Circular];

const TASKS: &[&str] = &[
    r#"{"kind": "identity"}"#,
    r#"{"kind": "inpaint-random"}"#,
    r#"{"kind": "inpaint-random", "hidden": 0.3}"#,
    r#"{"kind": "inpaint-box"}"#,
    r#"{"kind": "inpaint-box", "height": 0.25, "width": 0.7, "margin": 0}"#,
    r#"{"kind": "deblur-gaussian"}"#,
    r#"{"kind": "deblur-gaussian", "std": 2.5, "size": 15}"#,
    r#"{"kind": "deblur-gaussian", "std": 0.8, "size": 3, "boundary": "zero"}"#,
    r#"{"kind": "deblur-gaussian", "std": 1.3, "boundary": "circular"}"#,
    r#"{"kind": "deblur-motion"}"#,
    r#"{"kind": "deblur-motion", "size": 15, "intensity": 1, "seed": 5}"#,
    r#"{"kind": "deblur-motion", "size": 5, "intensity": 0, "boundary": "zero"}"#,
    r#"{"kind": "deblur-motion", "size": 15, "boundary": "circular"}"#,
    r#"{"kind": "super-resolution"}"#,
    r#"{"kind": "super-resolution", "factor": 2}"#,
    r#"{"kind": "super-resolution", "factor": 1}"#,
    r#"{"kind": "super-resolution", "factor": 2, "kernel": "mean"}"#,
    r#"{"kind": "super-resolution", "factor": 4, "kernel": "mean"}"#,
    r#"{"kind": "super-resolution", "factor": 4, "kernel": "stride"}"#,
    r#"{"kind": "inpaint-extreme"}"#,
    r#"{"kind": "inpaint-extreme", "height": 0.25, "width": 0.7, "margin": 0}"#,
    r#"{"kind": "inpaint-half"}"#,
    r#"{"kind": "inpaint-half", "hidden": "top"}"#,
    r#"{"kind": "deblur-uniform"}"#,
    r#"{"kind": "deblur-uniform", "size": 5, "boundary": "zero"}"#,
    r#"{"kind": "deblur-uniform", "size": 15, "boundary": "circular"}"#,
    r#"{"kind": "deblur-anisotropic"}"#,
    r#"{"kind": "deblur-anisotropic", "std": [2.0, 0.7], "size": 7, "angle": 90, "boundary": "zero"}"#,
    r#"{"kind": "deblur-anisotropic", "std": [2.0, 0.7], "size": 7, "angle": 30}"#,
    r#"{"kind": "deblur-anisotropic", "std": [2.0, 0.7], "size": 7, "angle": -30, "boundary": "circular"}"#,
    r#"{"kind": "colorization"}"#,
    r#"{"kind": "colorization", "grey": "luma"}"#,
    r#"{"kind": "compressed-sensing"}"#,
    r#"{"kind": "compressed-sensing", "kept": 1}"#,
    r#"{"kind": "mri-cartesian", "acceleration": 2, "center": 0.25}"#,
    r#"{"kind": "mri-cartesian"}"#,
    r#"{"kind": "mri-radial"}"#,
    r#"{"kind": "mri-radial", "spokes": 3}"#,
    r#"{"kind": "tomography"}"#,
    r#"{"kind": "tomography", "angles": 3, "detectors": 7}"#,
    r#"{"kind": "compose", "tasks": [{"kind": "deblur-gaussian"}, {"kind": "super-resolution", "factor": 2}]}"#,
    r#"{"kind": "compose", "tasks": [{"kind": "colorization"}, {"kind": "inpaint-random"}, {"kind": "mri-radial"}]}"#,
    r#"{"kind": "compose", "tasks": [{"kind": "identity"}]}"#,
];

/// Those, and by its name alone every linear task that the library lists and that needs no parameter.
fn tasks() -> Vec<String> {
    let linear = |info: &&&Info| info.facts.iter().any(|(_, fact)| fact.starts_with("linear"));
    let listed = AnyTask::LIST.entries.iter().filter(|info| info.required().next().is_none()).filter(linear);
    let listed = listed.map(|info| format!(r#"{{"kind": "{}"}}"#, info.name));
    let written = TASKS.iter().map(|json| (*json).to_owned());
    written.chain(listed.filter(|json| !TASKS.contains(&json.as_str()))).collect()
}

/// Tasks that are not linear, or want a file of the images' size: tested in `forward.rs` and `measured.rs`.
const OTHERS: &[&str] = &[
    r#"{"kind": "phase-retrieval"}"#,
    r#"{"kind": "high-dynamic-range"}"#,
    r#"{"kind": "torchscript", "file": "program.pt", "norm": 1}"#,
    r#"{"kind": "inpaint-mask", "file": "mask.png"}"#,
    r#"{"kind": "mri-mask", "mask": "mask.npy"}"#,
];

/// Whether a task is one for images of this shape.
fn accepts(json: &str, [channels, ..]: [i64; 3]) -> bool {
    channels == 3 || !json.contains("luma")
}

const SHAPES: [[i64; 3]; 3] = [[1, 8, 8], [3, 8, 12], [1, 16, 16]];

struct Case {
    name: String,
    shape: [i64; 3],
    operator: Box<dyn LinearOperator>,
}

fn task(json: &str) -> AnyTask {
    serde_json::from_str(json).unwrap()
}

fn build(json: &str, shape: [i64; 3], kind: Kind) -> Box<dyn LinearOperator> {
    linear(task(json).get().operator(shape, 7, Device::Cpu, kind).unwrap())
}

fn linear(operator: Operator) -> Box<dyn LinearOperator> {
    match operator {
        Operator::Linear(linear) => linear,
        Operator::Nonlinear(other) => panic!("{other:?} is not linear"),
    }
}

fn normal(size: &[i64], seed: i64) -> Tensor {
    tch::manual_seed(seed);
    Tensor::randn(size, F64)
}

/// Not symmetric in any way, partly negative, and of positive sum.
fn odd_kernel() -> Tensor {
    normal(&[3, 5], 3) + 0.5
}

/// All tasks at all shapes, and what only the constructors can build.
fn cases() -> Vec<Case> {
    let tasks = tasks().into_iter().flat_map(|json| {
        let shapes = SHAPES.into_iter().filter(|shape| accepts(&json, *shape));
        let operator = |shape| build(&json, shape, Kind::Double);
        let case = |shape| Case { name: format!("{json} {shape:?}"), shape, operator: operator(shape) };
        shapes.map(case).collect::<Vec<_>>()
    });
    let shape = [2, 8, 9];
    let blurs = BOUNDARIES.iter().map(|boundary| Case {
        name: format!("any kernel, {boundary:?}"),
        shape,
        operator: Box::new(Blur::new(&odd_kernel(), shape, *boundary, Device::Cpu, Kind::Double).unwrap()),
    });
    let mask = normal(&shape, 4).gt(0.0);
    let each =
        Case { name: "a mask for each channel".into(), shape, operator: Box::new(Inpaint::new(&mask, shape).unwrap()) };
    tasks.chain(blurs).chain([each]).collect()
}

fn batch([channels, height, width]: [i64; 3], count: i64, seed: i64) -> Tensor {
    normal(&[count, channels, height, width], seed)
}

fn number(tensor: &Tensor) -> f64 {
    f64::try_from(tensor).unwrap()
}

fn largest(difference: &Tensor) -> f64 {
    number(&difference.abs().max())
}

/// A, `[measurements, pixels]`, column by column.
fn columns(operator: &dyn LinearOperator, [channels, height, width]: [i64; 3]) -> Tensor {
    let n = channels * height * width;
    operator.apply(&Tensor::eye(n, F64).view([n, channels, height, width])).flatten(1, -1).tr()
}

/// The matrix whose rows are what the adjoint makes of each unit measurement.
fn rows(operator: &dyn LinearOperator, shape: [i64; 3]) -> Tensor {
    let size = operator.apply(&batch(shape, 1, 0)).size();
    let m = size[1..].iter().product::<i64>();
    let units = [&[m], &size[1..]].concat();
    operator.adjoint(&Tensor::eye(m, F64).view(units.as_slice())).flatten(1, -1)
}

#[test]
fn every_task_of_the_list_is_tested() {
    let tested: Vec<String> = OTHERS.iter().map(|json| (*json).to_owned()).chain(tasks()).collect();
    for info in AnyTask::LIST.entries {
        let kind = format!(r#""kind": "{}""#, info.name);
        assert!(
            tested.iter().any(|json| json.starts_with(&format!("{{{kind}"))),
            "{} is in no list of tests",
            info.name
        );
    }
}

#[test]
fn the_adjoint_satisfies_its_definition() {
    for Case { name, shape, operator } in cases() {
        let x = batch(shape, 3, 1);
        let forward = operator.apply(&x);
        let y = normal(&forward.size(), 2);
        let gap = number(&(&forward * &y).sum(Kind::Double)) - number(&(&x * operator.adjoint(&y)).sum(Kind::Double));
        assert!(gap.abs() < ROUNDING, "{name}: ⟨Ax, y⟩ − ⟨x, Aᵀy⟩ = {gap:e}");
    }
}

#[test]
fn the_matrix_of_the_adjoint_is_the_transpose() {
    for Case { name, shape, operator } in cases() {
        let gap = largest(&(columns(&*operator, shape) - rows(&*operator, shape)));
        assert!(gap < ROUNDING, "{name}: {gap:e}");
    }
}

#[test]
fn the_norm_is_the_largest_singular_value_of_the_matrix() {
    for Case { name, shape, operator } in cases() {
        let matrix = columns(&*operator, shape);
        let exact = number(&matrix.tr().matmul(&matrix).linalg_eigvalsh("L").max());
        let gap = (operator.norm_squared() / exact - 1.0).abs();
        assert!(gap < LANCZOS, "{name}: ‖A‖² = {exact}, relative error {gap:e}");
    }
}

#[test]
fn the_adjoint_is_the_gradient_that_autograd_finds() {
    for Case { name, shape, operator } in cases() {
        let x = batch(shape, 2, 3).set_requires_grad(true);
        let y = normal(&operator.apply(&x).size(), 4);
        let loss = (&y - operator.apply(&x)).square().sum(Kind::Double) * 0.5;
        let gradient = &Tensor::run_backward(&[loss], &[&x], false, false)[0];
        let ours = operator.adjoint(&(operator.apply(&x.detach()) - &y));
        assert!(largest(&(gradient - ours)) < ROUNDING, "{name}");
    }
}

/// ‖a − b‖ over coordinates that may be complex.
fn apart(a: &Tensor, b: &Tensor) -> f64 {
    largest(&(a - b).abs())
}

#[test]
fn singular_vectors_turn_the_operator_into_a_multiplication() {
    let mut decomposed = 0;
    for Case { name, shape, operator } in cases() {
        let Some(svd) = operator.svd() else { continue };
        decomposed += 1;
        let x = batch(shape, 2, 11);
        let (c, s) = (svd.coordinates(&x), svd.singular(Kind::Double));
        assert!(largest(&(svd.image(&c) - &x)) < ROUNDING, "{name}: V Vᵀ = I");
        assert!(number(&s.min()) >= 0.0, "{name}");
        let normal = svd.coordinates(&operator.adjoint(&operator.apply(&x)));
        assert!(apart(&normal, &(&c * s.square())) < ROUNDING, "{name}: Vᵀ AᵀA = s² Vᵀ");
        let seen = s.gt(LANCZOS);
        assert!(
            apart(&(svd.measured(&operator.apply(&x)) * &seen), &(&c * &s * &seen)) < ROUNDING,
            "{name}: Uᵀ A = s Vᵀ"
        );
    }
    assert!(decomposed > 40, "{decomposed}");
}

/// Conjugate gradients end when the error has fallen a million times.
const CONJUGATE: f64 = 1e-5;

#[test]
fn regularised_systems_are_solved() {
    for Case { name, shape, operator } in cases() {
        let right = batch(shape, 2, 12);
        for part in [0.01, 1.0, 100.0] {
            // Sums along rays are large: 200 steps are enough for conditions of up to a few thousand.
            let weight = part * operator.norm_squared().max(1.0);
            let x = operator.regularised(&right, weight);
            let gap = largest(&(operator.adjoint(&operator.apply(&x)) + &x * weight - &right));
            let most = if operator.svd().is_some() { ROUNDING } else { CONJUGATE };
            assert!(gap < most, "{name}, weight {weight}: {gap:e}");
        }
    }
}

#[test]
fn the_pseudo_inverse_is_that_of_the_matrix() {
    for Case { name, shape, operator } in cases() {
        let matrix = columns(&*operator, shape);
        let x = batch(shape, 1, 13);
        let y = operator.apply(&x);
        let expected = matrix.linalg_pinv(1e-6, false).matmul(&y.flatten(0, -1));
        let ours = operator.pseudo_inverse(&y);
        if operator.svd().is_some() {
            // Of a blur whose smallest s is 1e-4 of the largest, rounding comes back 1e4 times as large.
            assert!(largest(&(ours.flatten(0, -1) - expected)) < 1e-6, "{name}");
        } else {
            let gap = largest(&(operator.apply(&ours) - &y)) / largest(&y);
            assert!(gap < 0.02, "{name}: what is nearly hidden is left at 0, and the rest fits: {gap:e}");
        }
    }
}

#[test]
fn each_image_of_a_batch_is_treated_alone() {
    for Case { name, shape, operator } in cases() {
        let x = batch(shape, 3, 5);
        let alone = operator.apply(&x.narrow(0, 1, 1));
        assert!(largest(&(operator.apply(&x).narrow(0, 1, 1) - alone)) < ROUNDING, "{name}");
    }
}

#[test]
fn single_precision_agrees_with_double() {
    for json in TASKS {
        let shape = [3, 8, 12];
        let (double, single) = (build(json, shape, Kind::Double), build(json, shape, Kind::Float));
        let x = batch(shape, 2, 6);
        let y = double.apply(&x);
        let (y32, x32) = (single.apply(&x.to_kind(Kind::Float)), single.adjoint(&y.to_kind(Kind::Float)));
        assert_eq!((y32.kind(), x32.kind()), (Kind::Float, Kind::Float), "{json}");
        // Sums of up to a hundred f32 terms of order 1, each exact to 6e-8.
        assert!(largest(&(&y - y32)) < 1e-5, "{json}");
        assert!(largest(&(double.adjoint(&y) - x32)) < 1e-5, "{json}");
        assert!((double.norm_squared() - single.norm_squared()).abs() < 1e-12, "{json}: the norm is always f64");
    }
}

#[test]
fn blur_and_super_resolution_leave_a_grey_image_grey() {
    let averaging = |json: &&&str| {
        (json.contains("deblur") || json.contains("super-resolution")) && !json.contains(r#""boundary": "zero""#)
    };
    for json in TASKS.iter().filter(averaging) {
        for shape in SHAPES {
            let grey = Tensor::full([1, shape[0], shape[1], shape[2]], 0.7, F64);
            let seen = build(json, shape, Kind::Double).apply(&grey);
            assert!(largest(&(seen - 0.7)) < ROUNDING, "{json} {shape:?}");
        }
    }
}

/// (A x)ₐᵦ = Σ kᵢⱼ x at (a − i, b − j), i and j counted from the kernel's middle, pixel by pixel.
fn convolved(kernel: &Tensor, x: &Tensor, boundary: Boundary) -> Tensor {
    let (size, k) = (x.size(), kernel.size());
    let inside = |i: i64, n: i64| match boundary {
        Boundary::Reflect if i < 0 => Some(-i),
        Boundary::Reflect if i >= n => Some(2 * (n - 1) - i),
        Boundary::Circular => Some((i + 2 * n) % n),
        _ => (0..n).contains(&i).then_some(i),
    };
    let y = x.zeros_like();
    for (a, b) in (0..size[2]).flat_map(|a| (0..size[3]).map(move |b| (a, b))) {
        for (i, j) in (0..k[0]).flat_map(|i| (0..k[1]).map(move |j| (i, j))) {
            let (row, column) = (inside(a - (i - k[0] / 2), size[2]), inside(b - (j - k[1] / 2), size[3]));
            if let (Some(row), Some(column)) = (row, column) {
                let light = x.select(2, row).select(2, column) * kernel.double_value(&[i, j]);
                let _ = y.select(2, a).select(2, b).g_add_(&light);
            }
        }
    }
    y
}

#[test]
fn blur_is_the_convolution_written_out() {
    let (shape, kernel) = ([2, 6, 7], odd_kernel());
    let x = batch(shape, 1, 8);
    for boundary in BOUNDARIES {
        let operator = Blur::new(&kernel, shape, boundary, Device::Cpu, Kind::Double).unwrap();
        let expected = convolved(&(&kernel / kernel.sum(Kind::Double)), &x, boundary);
        assert!(largest(&(operator.apply(&x) - expected)) < ROUNDING, "{boundary:?}");
    }
}

/// exp(−(i² + j²)/2s²) over `size` × `size` pixels, normalised.
fn gaussian(size: i64, std: f64) -> Tensor {
    let d = Tensor::arange(size, F64) - (size / 2) as f64;
    let line = (d.square() / (-2.0 * std * std)).exp();
    let kernel = line.unsqueeze(1) * line.unsqueeze(0);
    &kernel / kernel.sum(Kind::Double)
}

#[test]
fn the_gaussian_blur_is_a_convolution_with_a_gaussian() {
    let shape = [1, 8, 7];
    let x = batch(shape, 1, 9);
    for boundary in BOUNDARIES {
        let config = DeblurGaussian { std: Some(1.4), size: Some(9), boundary };
        let operator = linear(config.operator(shape, 0, Device::Cpu, Kind::Double).unwrap());
        let expected = convolved(&gaussian(9, 1.4), &x, boundary);
        assert!(largest(&(operator.apply(&x) - expected)) < ROUNDING, "{boundary:?}");
        // The same by Fourier transforms, with the norm by another route.
        let other = Blur::new(&gaussian(9, 1.4), shape, boundary, Device::Cpu, Kind::Double).unwrap();
        assert!(largest(&(operator.apply(&x) - other.apply(&x))) < ROUNDING, "{boundary:?}");
        assert!((operator.norm_squared() / other.norm_squared() - 1.0).abs() < LANCZOS, "{boundary:?}");
    }
}

/// What becomes of a point of light in the middle of a black image.
fn spread(task: &dyn Task, side: i64, seed: u64) -> Tensor {
    let point = Tensor::zeros([1, 1, side, side], F64);
    let _ = point.narrow(2, side / 2, 1).narrow(3, side / 2, 1).fill_(1.0);
    task.operator([1, side, side], seed, Device::Cpu, Kind::Double).unwrap().apply(&point).get(0).get(0)
}

#[test]
fn the_default_gaussian_blur_is_the_papers_at_256_pixels() {
    let default = spread(&DeblurGaussian::default(), 256, 0);
    let papers = DeblurGaussian { std: Some(3.0), size: Some(61), ..DeblurGaussian::default() };
    assert!(largest(&(&default - spread(&papers, 256, 0))) < 1e-15);
    // Cut at 4 s = 12 pixels, as scipy's filter, from which DPS takes its kernel, cuts it.
    let expected = gaussian(25, 3.0);
    assert!(largest(&(default.narrow(0, 116, 25).narrow(1, 116, 25) - expected)) < 1e-15);
}

/// Sum, mean and covariance (rr, rc, cc) of the light in an image.
fn light(image: &Tensor) -> (f64, [f64; 2], [f64; 3]) {
    let at = Tensor::arange(image.size()[0], F64);
    let mean = |weight: &Tensor| number(&(image * weight).sum(Kind::Double));
    let (r, c) = (at.unsqueeze(1), at.unsqueeze(0));
    let [row, column] = [mean(&r), mean(&c)];
    let (r, c) = (r - row, c - column);
    (mean(&Tensor::ones([1, 1], F64)), [row, column], [mean(&r.square()), mean(&(&r * &c)), mean(&c.square())])
}

/// The variances of the light along its longest and its shortest direction.
fn axes([rr, rc, cc]: [f64; 3]) -> (f64, f64) {
    let (middle, half) = (f64::midpoint(rr, cc), (rr - cc).hypot(2.0 * rc) / 2.0);
    (middle + half, middle - half)
}

#[test]
fn a_steady_hand_draws_a_straight_line_and_an_unsteady_one_does_not() {
    let shaken = |intensity: f64, seed: u64| {
        let task = DeblurMotion { size: Some(31), intensity, boundary: Boundary::Circular, ..DeblurMotion::default() };
        let (sum, [row, column], covariance) = light(&spread(&task, 64, seed));
        assert!((sum - 1.0).abs() < ROUNDING, "all light arrives");
        // Sharing a point among four pixels moves no light on the whole.
        assert!((row - 32.0).abs() < ROUNDING && (column - 32.0).abs() < ROUNDING, "the trace is centred");
        axes(covariance)
    };
    let mut crooked = 0;
    for seed in 0..20 {
        let (along, across) = shaken(0.0, seed);
        // A line to 3/4 of 15 pixels or more has a variance of at least 11.25²/3; one pixel's share at most 1/4.
        assert!(along > 42.0 && across < 0.26, "seed {seed}: {along}, {across}");
        crooked += usize::from(shaken(1.0, seed).1 > 1.0);
    }
    assert!(crooked >= 15, "only {crooked} of 20 unsteady traces leave their line by a pixel");
}

#[test]
fn the_trace_follows_the_seed_unless_it_is_fixed() {
    let free = DeblurMotion::default();
    assert!(spread(&free, 32, 1).equal(&spread(&free, 32, 1)));
    assert!(largest(&(spread(&free, 32, 1) - spread(&free, 32, 2))) > 1e-3);
    let fixed = DeblurMotion { seed: Some(1), ..free.clone() };
    assert!(spread(&fixed, 32, 2).equal(&spread(&free, 32, 1)));
    assert!(number(&spread(&free, 32, 1).min()) > -1e-15, "light is not negative");
}

/// A 1 = 1, so ‖A‖ ≥ 1; and ‖A‖² ≤ ‖A‖∞ ‖A‖₁, the largest row sum, 1, times the largest column sum.
#[test]
fn the_norm_of_a_larger_blur_lies_between_its_bounds() {
    for boundary in [Boundary::Reflect, Boundary::Circular] {
        let task = DeblurMotion { boundary, ..DeblurMotion::default() };
        let operator = linear(task.operator([1, 64, 64], 3, Device::Cpu, Kind::Double).unwrap());
        let most = number(&operator.adjoint(&Tensor::ones([1, 1, 64, 64], F64)).max());
        let norm = operator.norm_squared();
        assert!(norm > 1.0 - LANCZOS && norm < most + LANCZOS, "{boundary:?}: {norm} of at most {most}");
    }
}

/// R of one line: images of `n` × f pixels whose columns are alike, seen through the operator.
fn line(n: i64, f: i64, kernel: &str) -> Tensor {
    let json = format!(r#"{{"kind": "super-resolution", "factor": {f}, "kernel": "{kernel}"}}"#);
    let units = Tensor::eye(n, F64).view([n, 1, n, 1]).repeat([1, 1, 1, f].as_slice());
    build(&json, [1, n, f], Kind::Double).apply(&units).view([n, n / f]).tr()
}

/// The paper's operator at factor 4: taps of output i on the pixels 4i − 6 … 4i + 9 [Random Walks].
#[test]
fn bicubic_super_resolution_has_the_taps_of_the_released_code() {
    const HALF: [f64; 8] =
        [-0.00170898, -0.01098633, -0.01831055, -0.01196289, 0.02270508, 0.09741211, 0.18188477, 0.2409668];
    let taps: Vec<f64> = HALF.iter().chain(HALF.iter().rev()).copied().collect();
    let matrix = line(64, 4, "bicubic");
    let expected = |i: i64| {
        let mut row = vec![0.0; 64];
        for (j, tap) in (4 * i - 6..).zip(&taps) {
            // −1 → 0, −2 → 1, 64 → 63.
            let j = if j < 0 {
                -1 - j
            } else if j > 63 {
                127 - j
            } else {
                j
            };
            row[j as usize] += tap;
        }
        Tensor::from_slice(&row)
    };
    for i in 0..16 {
        // The taps are printed to eight digits; at the border two may fall on one pixel.
        assert!(largest(&(matrix.get(i) - expected(i))) < 1.1e-8, "row {i}");
    }
}

#[test]
fn the_singular_values_of_bicubic_super_resolution_are_those_of_the_notes() {
    let matrix = line(256, 4, "bicubic");
    assert!(largest(&(matrix.sum_dim_intlist([1i64].as_slice(), false, None) - 1.0)) < 1e-14, "rows sum to 1");
    let values = matrix.matmul(&matrix.tr()).linalg_eigvalsh("L").sqrt();
    assert!((number(&values.min()) - 0.3485).abs() < 5e-5 && (number(&values.max()) - 0.5).abs() < 1e-12);
    let operator = build(r#"{"kind": "super-resolution"}"#, [3, 256, 256], Kind::Double);
    assert!((operator.norm_squared() - 1.0 / 16.0).abs() < 1e-14);
}

#[test]
fn block_means_are_means_and_their_norm_is_one_over_the_factor_squared() {
    let operator = build(r#"{"kind": "super-resolution", "factor": 2, "kernel": "mean"}"#, [3, 8, 12], Kind::Double);
    let x = batch([3, 8, 12], 2, 10);
    let means = x.avg_pool2d([2i64, 2].as_slice(), [2i64, 2].as_slice(), [0i64, 0].as_slice(), false, true, None);
    assert!(largest(&(operator.apply(&x) - means)) < ROUNDING);
    assert!((operator.norm_squared() - 0.25).abs() < 1e-15);
}

/// 1 where a pixel is seen, `[channels, height, width]`.
fn seen(task: &dyn Task, shape: [i64; 3], seed: u64) -> Tensor {
    let ones = Tensor::ones([1, shape[0], shape[1], shape[2]], F64);
    task.operator(shape, seed, Device::Cpu, Kind::Double).unwrap().apply(&ones).get(0)
}

#[test]
fn hiding_92_percent_of_256_by_256_pixels_leaves_5243_in_every_channel() {
    let mask = seen(&InpaintRandom { hidden: 0.92 }, [3, 256, 256], 11);
    assert!((number(&mask.get(0).sum(Kind::Double)) - 5243.0).abs() < 0.5);
    assert!(mask.get(1).equal(&mask.get(0)) && mask.get(2).equal(&mask.get(0)), "one mask for all channels");
    let other = seen(&InpaintRandom { hidden: 0.92 }, [1, 256, 256], 12).get(0);
    // Two independent masks share 8 % of 5243 = 419 pixels, give or take 19.
    let shared = number(&(other * mask.get(0)).sum(Kind::Double));
    assert!((shared - 419.0).abs() < 4.0 * 19.0, "{shared} pixels in common");
}

#[test]
fn a_decimal_part_of_the_pixels_is_rounded_down_as_in_decimals() {
    // 0.29 × 100 is 28.999… in f64.
    let count = number(&seen(&InpaintRandom { hidden: 0.29 }, [1, 10, 10], 0).sum(Kind::Double));
    assert!((count - 71.0).abs() < 0.5);
}

/// First pixel and length of the hidden part in each direction, if the hidden pixels are a box.
fn hidden_box(mask: &Tensor) -> [(i64, i64); 2] {
    let hidden: Tensor = 1.0 - mask.get(0);
    let span = |dim: i64| {
        let along = Vec::<i64>::try_from(hidden.amax([dim].as_slice(), false).nonzero().view([-1])).unwrap();
        (along[0], along[along.len() - 1] - along[0] + 1)
    };
    let [rows, columns] = [span(1), span(0)];
    let area = number(&hidden.sum(Kind::Double));
    assert!((area - (rows.1 * columns.1) as f64).abs() < 0.5, "the hidden pixels are no box");
    [rows, columns]
}

#[test]
fn the_box_hides_128_by_128_pixels_anywhere_but_near_the_border() {
    let boxes = |seed| hidden_box(&seen(&InpaintBox::default(), [1, 256, 256], seed));
    let starts: Vec<i64> = (0..200)
        .flat_map(boxes)
        .map(|(start, length)| {
            assert_eq!(length, 128);
            assert!((16..=112).contains(&start), "{start}");
            start
        })
        .collect();
    // Uniform on 16 … 112: mean 64, standard deviation 28; the mean of 400 is exact to 1.4.
    let mean = starts.iter().sum::<i64>() as f64 / starts.len() as f64;
    assert!((mean - 64.0).abs() < 4.0 * 1.4, "{mean}");
    let (least, most) = (starts.iter().min().unwrap(), starts.iter().max().unwrap());
    assert!(*least <= 18 && *most >= 110, "400 draws reach from {least} to {most}");
}

#[test]
fn the_box_scales_with_the_image() {
    let [rows, columns] = hidden_box(&seen(&InpaintBox { height: 0.25, width: 0.75, margin: 0.0 }, [1, 32, 16], 3));
    assert_eq!((rows.1, columns.1), (8, 12));
}

fn refusal(json: &str, shape: [i64; 3]) -> String {
    task(json).get().operator(shape, 0, Device::Cpu, Kind::Float).unwrap_err().to_string()
}

#[test]
fn what_cannot_be_built_is_refused_in_one_sentence() {
    let cases = [
        (
            r#"{"kind": "inpaint-random", "hidden": 1}"#,
            "the mask must be white (255) on at least one pixel, since white marks pixels that are seen, \
             but is black all over: the mask hides everything",
        ),
        (r#"{"kind": "inpaint-random", "hidden": 1.5}"#, "hidden must be a part between 0 and 1, but is 1.5"),
        (
            r#"{"kind": "inpaint-box", "height": 0.9}"#,
            "the box must be at least one pixel, within the margins, but is 25 of 28 pixels with a margin of 2",
        ),
        (
            r#"{"kind": "deblur-gaussian", "size": 61}"#,
            "size must be odd and less than twice the image's shorter side, \
             but is 61 for images of 28x30; 1, 3, … 55 would do",
        ),
        (
            r#"{"kind": "deblur-motion", "size": 8}"#,
            "size must be odd and less than twice the image's shorter side, \
             but is 8 for images of 28x30; 1, 3, … 55 would do",
        ),
        (r#"{"kind": "deblur-gaussian", "std": 0}"#, "std must be positive, but is 0"),
        (r#"{"kind": "deblur-motion", "intensity": 2}"#, "intensity must be between 0 and 1, but is 2"),
        (
            r#"{"kind": "super-resolution"}"#,
            "factor must be a whole number that divides the image's height and width, but is 4 for images of 28x30",
        ),
        (
            r#"{"kind": "super-resolution", "factor": 0}"#,
            "factor must be a whole number that divides the image's height and width, but is 0 for images of 28x30",
        ),
    ];
    for (json, message) in cases {
        assert_eq!(refusal(json, [1, 28, 30]), message);
    }
}

#[test]
fn masks_that_are_none_are_refused() {
    let refusal = |mask: &Tensor| Inpaint::new(mask, [3, 4, 5]).unwrap_err().to_string();
    assert_eq!(
        refusal(&Tensor::ones([5, 4], F64)),
        "the mask has shape [5, 4], but [4, 5] or [3, 4, 5], as the images have it, is wanted"
    );
    assert!(refusal(&Tensor::ones([2, 4, 5], F64)).starts_with("the mask has shape [2, 4, 5]"));
    assert!(refusal(&Tensor::ones([2, 3, 4, 5], F64)).starts_with("the mask has shape [2, 3, 4, 5]"));
    assert_eq!(
        refusal(&Tensor::full([4, 5], 0.5, F64)),
        "the mask must be 1 where a pixel is seen and 0 where it is hidden, but is something else in places"
    );
    assert!(refusal(&Tensor::full([4, 5], f64::NAN, F64)).contains("something else in places"));
    assert!(refusal(&Tensor::zeros([1, 4, 5], F64)).ends_with("the mask hides everything"));
    for size in [&[4, 5][..], &[1, 4, 5], &[3, 4, 5], &[1, 1, 4, 5], &[1, 3, 4, 5]] {
        assert!(Inpaint::new(&Tensor::ones(size, (Kind::Uint8, Device::Cpu)), [3, 4, 5]).is_ok(), "{size:?}");
    }
}

#[test]
fn kernels_that_are_none_are_refused() {
    let refusal = |kernel: &Tensor| {
        Blur::new(kernel, [1, 4, 5], Boundary::Reflect, Device::Cpu, Kind::Float).unwrap_err().to_string()
    };
    let odd = "but [rows, columns], both odd and at most 7 and 9, is wanted";
    for size in [&[2, 3][..], &[3], &[9, 3], &[3, 11], &[1, 3, 3]] {
        assert_eq!(refusal(&Tensor::ones(size, F64)), format!("the kernel has shape {size:?}, {odd}"));
    }
    assert!(Blur::new(&Tensor::ones([7, 9], F64), [1, 4, 5], Boundary::Reflect, Device::Cpu, Kind::Float).is_ok());
    let sum = "the sum of the kernel must be positive, and more than rounding beside the sum of its sizes, but is";
    assert_eq!(refusal(&Tensor::zeros([3, 3], F64)), format!("{sum} 0e0 of 0e0"));
    assert_eq!(refusal(&Tensor::full([3, 3], f64::NAN, F64)), format!("{sum} NaN of NaN"));
    // An edge filter of mean 0, whose sum is the rounding of its numbers.
    let edge = Tensor::from_slice(&[0.1, 0.2, -0.3, 0.7, -1.4, 0.7, 0.1, -0.3, 0.2]).view([3, 3]);
    assert!(edge.sum(Kind::Double).double_value(&[]) != 0.0, "not nothing");
    assert!(refusal(&edge).starts_with(sum), "{}", refusal(&edge));
}

#[test]
fn a_task_survives_the_way_through_a_file_and_unknown_keys_do_not() {
    for json in TASKS.iter().chain(OTHERS) {
        let task = task(json);
        assert_eq!(serde_json::from_str::<AnyTask>(&serde_json::to_string(&task).unwrap()).unwrap(), task);
        let misspelt = json.replacen('}', r#", "hiden": 0.5}"#, 1);
        assert!(serde_json::from_str::<AnyTask>(&misspelt).is_err(), "{misspelt}");
    }
    assert_eq!(task(r#"{"kind": "super-resolution"}"#), AnyTask::SuperResolution(SuperResolution::default()));
    assert_eq!(task(r#"{"kind": "deblur-motion"}"#), AnyTask::DeblurMotion(DeblurMotion::default()));
    assert_eq!(task(r#"{"kind": "inpaint-box"}"#), AnyTask::InpaintBox(InpaintBox::default()));
    assert_eq!(task(r#"{"kind": "inpaint-random"}"#), AnyTask::InpaintRandom(InpaintRandom::default()));
}
