//! The CPU's kernels against libtorch in f64, and the layers that use them against layers that do not.

use std::{collections::BTreeMap, fs, process::Command, thread};

use tch::{Kind, Tensor, no_grad};
use tweedie::{
    backend::{
        kernels::{self, ConvFusion, ConvGeometry, ConvMethod, Direction, GroupMoments, HostGroupNorm, Packed},
        memory,
    },
    models::checkpoint::{safetensors, source::Source},
    networks::{
        AnyNetwork, UNetConfig,
        layers::{self, Conv, GroupNorm, Linear},
        weights::Weights,
    },
};

/// f32 sums of some hundred products of numbers of order 1, relative to the largest of the results.
const F32: f64 = 2e-6;
/// F(4×4, 3×3) goes through numbers some ten times larger than its results.
const WINOGRAD4: f64 = 2e-5;

fn random(shape: &[i64], seed: i64) -> Tensor {
    let count: i64 = shape.iter().product();
    // Uniform on −1 … 1 in the digits of multiples of √2, which no rounding of libtorch changes.
    let digits = (Tensor::arange_start(seed * 10_007, seed * 10_007 + count, (Kind::Double, tch::Device::Cpu))
        * std::f64::consts::SQRT_2)
        .frac();
    (digits * 2.0 - 1.0).to_kind(Kind::Float).reshape(shape)
}

/// max |a − b| / max |b|.
fn apart(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (a.to_kind(Kind::Double), b.to_kind(Kind::Double));
    f64::try_from((a - &b).abs().max()).unwrap() / f64::try_from(b.abs().max()).unwrap()
}

fn spread(x: &Tensor) -> Tensor {
    x.to_kind(Kind::Double).unsqueeze(-1).unsqueeze(-1)
}

/// A kernel's convolution with everything around it, and the same by libtorch in f64.
fn both(method: ConvMethod, taps: ConvGeometry, shape: [i64; 4], outputs: i64, all: bool) -> [Tensor; 2] {
    let [batch, inputs, ..] = shape;
    let x = random(&shape, 1);
    let weight = random(&[outputs, inputs, taps.size, taps.size], 2) / ((inputs * taps.size * taps.size) as f64).sqrt();
    let (bias, time_bias) = (random(&[outputs], 3), random(&[batch, outputs], 4));
    let normalised = [random(&[batch, inputs], 5), random(&[batch, inputs], 6)];
    let entered = if all {
        (x.to_kind(Kind::Double) * spread(&normalised[0]) + spread(&normalised[1])).silu()
    } else {
        x.to_kind(Kind::Double)
    };
    let ConvGeometry { stride, padding, dilation, .. } = taps;
    let double = |t: &Tensor| t.to_kind(Kind::Double);
    let sides = ([stride; 2], [padding; 2], [dilation; 2]);
    let want = entered.conv2d(&double(&weight), Some(double(&bias)), sides.0, sides.1, sides.2, 1);
    let residual = random(&want.size(), 7);
    let around = ConvFusion {
        normalised: all.then(|| normalised.each_ref()),
        bias: Some(&bias),
        time_bias: all.then_some(&time_bias),
        residual: all.then_some(&residual),
        factor: if all { 0.5f64.sqrt() } else { 1.0 },
    };
    let want = if all { (want + spread(&time_bias) + double(&residual)) * around.factor } else { want };
    [Packed::new(&weight, taps, Direction::Forward, method).convolve(&x, &around), want]
}

#[test]
fn every_convolution_is_that_of_f64_whatever_its_shape() {
    if kernels::instructions().is_none() {
        return;
    }
    for (i, side) in [1, 2, 3, 4, 5, 6, 7, 8, 9, 31].into_iter().enumerate() {
        for (inputs, outputs) in [(1, 3), (3, 33), (16, 32), (20, 70)] {
            let shape = [[1, 3][i % 2], inputs, side, [side, 2 * side + 1][i % 2]];
            for all in [false, true] {
                for (method, allowed) in
                    [(ConvMethod::Direct, F32), (ConvMethod::Winograd2, F32), (ConvMethod::Winograd4, WINOGRAD4)]
                {
                    let [got, want] = both(method, ConvGeometry::default(), shape, outputs, all);
                    let error = apart(&got, &want);
                    assert!(error < allowed, "{method:?} of {shape:?} to {outputs}: {error:e}");
                }
            }
        }
    }
}

#[test]
fn direct_convolutions_have_any_taps() {
    if kernels::instructions().is_none() {
        return;
    }
    for (size, stride, padding, dilation) in
        [(1, 1, 0, 1), (1, 2, 0, 1), (3, 2, 0, 1), (3, 2, 1, 1), (3, 1, 2, 2), (3, 1, 4, 4), (5, 1, 2, 1), (3, 1, 0, 1)]
    {
        let taps = ConvGeometry { size, stride, padding, dilation };
        for all in [false, true] {
            let [got, want] = both(ConvMethod::Direct, taps, [2, 17, 9, 31], 35, all);
            assert!(apart(&got, &want) < F32, "{taps:?}");
        }
    }
}

/// Also where the mean is a hundred deviations away: there f32 itself gives x up to 10⁻⁵ deviations.
#[test]
fn group_normalisation_is_that_of_f64() {
    if kernels::instructions().is_none() {
        return;
    }
    for (side, channels, groups, mean, allowed) in [
        (1, 32, 4, 0.0, F32),
        (5, 24, 8, 3.0, F32),
        (9, 96, 32, 0.0, F32),
        (31, 20, 1, 0.0, F32),
        (20, 12, 12, 100.0, 5e-5),
    ] {
        let x = random(&[3, channels, side, side + 1], 1) + mean;
        let (weight, bias) = (random(&[channels], 2), random(&[channels], 3));
        let modulation = random(&[3, 2 * channels], 4);
        let double = |t: &Tensor| t.to_kind(Kind::Double);
        let normed = double(&x).group_norm(groups, Some(&double(&weight)), Some(&double(&bias)), 1e-5, true);
        let norm = HostGroupNorm { weight: &weight, bias: &bias, modulation: None, groups, epsilon: 1e-5, silu: false };
        assert!(apart(&norm.apply(&x, &norm.moments(&x)), &normed) < allowed, "{side} {channels} {groups}");
        let halves = spread(&modulation).chunk(2, 1);
        let want = (normed * (&halves[0] + 1.0) + &halves[1]).silu();
        let norm = HostGroupNorm { modulation: Some(&modulation), silu: true, ..norm };
        assert!(apart(&norm.apply(&x, &norm.moments(&x)), &want) < allowed, "{side} {channels} {groups}, modulated");
    }
}

/// Of as many keys and as wide as fill no panel, and of queries, keys and values that lie between others.
#[test]
fn attention_is_that_of_f64() {
    if kernels::instructions().is_none() {
        return;
    }
    for (queries, keys, heads, width) in
        [(1, 1, 1, 1), (5, 3, 2, 8), (64, 64, 4, 16), (100, 37, 1, 70), (37, 100, 3, 33), (256, 256, 1, 256)]
    {
        // Scores of order 1: a larger one loses as many more digits of its exponential.
        let all = random(&[2, keys.max(queries), heads, 3, width], 1);
        let [query, key, value] = [(0, queries), (1, keys), (2, keys)].map(|(i, n)| all.select(3, i).narrow(1, 0, n));
        let [q, k, v] = [&query, &key, &value].map(|x| x.to_kind(Kind::Double).transpose(1, 2));
        let scores = q.matmul(&k.transpose(2, 3)) / (width as f64).sqrt();
        let want = scores.softmax(3, Kind::Double).matmul(&v).transpose(1, 2).flatten(2, 3);
        let error = apart(&kernels::attend(&query, &key, &value), &want);
        assert!(error < F32, "{queries} by {keys}, {heads} heads of {width}: {error:e}");
        // The numbers of a head apart from each other.
        let [query, key, value] = [query, key, value].map(|x| x.transpose(1, 3).contiguous().transpose(1, 3));
        assert!(apart(&kernels::attend(&query, &key, &value), &want) < F32, "{queries} by {keys}, transposed");
    }
    // Scores whose exponentials have no f32, of which one is far above the others.
    let (query, key) = (random(&[1, 20, 1, 24], 2) * 1e3, random(&[1, 40, 1, 24], 3) * 1e3);
    let mixed = kernels::attend(&query, &key, &key);
    let [q, k] = [&query, &key].map(|x| x.to_kind(Kind::Double).transpose(1, 2));
    let chosen = (q.matmul(&k.transpose(2, 3)) / 24f64.sqrt()).softmax(3, Kind::Double).matmul(&k);
    assert!(apart(&mixed, &chosen.transpose(1, 2).flatten(2, 3)) < F32);
    let no = key.full_like(f64::NAN);
    assert!(bool::try_from(kernels::attend(&query, &no, &key).isnan().all()).unwrap(), "no number stays none");
}

#[test]
fn linear_layers_are_those_of_f64() {
    let made = |kind| {
        let named = |name: &str, tensor: Tensor| (name.to_owned(), tensor);
        let tensors = [
            named("plain.weight", random(&[70, 33], 1)),
            named("plain.bias", random(&[70], 2)),
            named("row.weight", random(&[40, 33, 1], 3)),
            named("row.bias", random(&[40], 4)),
        ];
        let weights = Weights::stored(tensors.into(), tch::Device::Cpu, kind);
        let root = weights.root();
        [Linear::new(&(&root / "plain"), 33, 70), Linear::convolution(&(&root / "row"), 33, 40)]
    };
    for shape in [&[1, 33][..], &[5, 33], &[2, 150, 33], &[2, 3, 4, 33]] {
        let x = random(shape, 5);
        // Also where the features are not side by side.
        for x in [x.shallow_clone(), x.transpose(0, -1).contiguous().transpose(0, -1)] {
            for (single, double) in made(Kind::Float).into_iter().zip(made(Kind::Double)) {
                let (got, want) = (single.forward(&x), double.forward(&x.to_kind(Kind::Double)));
                assert_eq!(got.size(), want.size());
                assert!(apart(&got, &want) < F32, "{shape:?}");
            }
        }
    }
}

/// Of each image alone, and with three threads, what `compute` makes of all has the same bits.
fn check_bits(what: &str, x: &Tensor, compute: impl Fn(&Tensor) -> Tensor) {
    let all = compute(x);
    for i in 0..x.size()[0] {
        assert_eq!(compute(&x.narrow(0, i, 1)), all.narrow(0, i, 1), "{what}, image {i}");
    }
    let before = tch::get_num_threads();
    tch::set_num_threads(3);
    let by_three = compute(x);
    tch::set_num_threads(before);
    assert_eq!(by_three, all, "{what} with three threads");
}

#[test]
fn no_bit_depends_on_the_rest_of_the_batch_or_on_the_threads() {
    if kernels::instructions().is_none() {
        return;
    }
    let (x, weight) = (random(&[5, 24, 18, 10], 1), random(&[40, 24, 3, 3], 2));
    let (gain, bias) = (random(&[24], 3), random(&[24], 4));
    for method in [ConvMethod::Direct, ConvMethod::Winograd2, ConvMethod::Winograd4] {
        let packed = Packed::new(&weight, ConvGeometry::default(), Direction::Forward, method);
        let norm = HostGroupNorm { weight: &gain, bias: &bias, modulation: None, groups: 8, epsilon: 1e-5, silu: true };
        check_bits(&format!("{method:?}"), &x, |x| {
            let normalised = Some(norm.moments(x));
            let normalised = normalised.as_ref().map(GroupMoments::affine);
            packed.convolve(x, &ConvFusion { normalised, ..ConvFusion::default() })
        });
    }
    check_bits("attention", &random(&[5, 180, 2, 3, 24], 5), |x| {
        kernels::attend(&x.select(3, 0), &x.select(3, 1), &x.select(3, 2))
    });
}

/// Gradients of parameters are recorded by libtorch alone, so a layer whose parameters have one computes without kernels.
#[test]
fn layers_with_kernels_compute_what_layers_without_do() {
    let weights = Weights::fresh(3, tch::Device::Cpu, Kind::Float);
    let root = weights.root();
    let (norm, conv) = (GroupNorm::new(&(&root / "norm"), 8, 32, 1e-6), Conv::new(&(&root / "conv"), 32, 48, 3));
    let (modulation, time_bias) = (random(&[2, 64], 1), random(&[2, 48], 2));
    let parameters = weights.finish().unwrap();
    let record = |wanted| {
        for (_, tensor) in &parameters {
            let _ = tensor.set_requires_grad(wanted);
        }
    };
    for side in [4, 9, 16] {
        let (x, residual) = (random(&[2, 32, side, side], 3), random(&[2, 48, side, side], 4));
        let around = layers::Fusion {
            norm: Some(&norm),
            modulation: Some(&modulation),
            time_bias: Some(&time_bias),
            residual: Some(&residual),
            factor: 0.7,
        };
        let fast = conv.within(&x, &around);
        record(true);
        let plain = conv.within(&x, &around);
        record(false);
        assert!(plain.requires_grad(), "the plain path records gradients");
        assert!(apart(&fast, &plain.detach()) < WINOGRAD4, "{side}");
    }
}

#[test]
fn weights_that_change_are_packed_again() {
    let weights = Weights::fresh(4, tch::Device::Cpu, Kind::Float);
    let conv = Conv::new(&weights.root(), 16, 16, 3);
    let x = random(&[1, 16, 12, 12], 1);
    let before = conv.forward(&x);
    let parameters = weights.finish().unwrap();
    no_grad(|| parameters.iter().for_each(|(_, tensor)| drop(tensor.shallow_clone().g_mul_scalar_(2.0))));
    assert!(apart(&conv.forward(&x), &(before * 2.0)) < WINOGRAD4);
}

/// Whole networks: the error of F(4×4, 3×3) does not pile up beyond what the zoo's tests allow.
#[test]
fn a_network_with_kernels_is_2e_5_from_one_without() {
    let config = AnyNetwork::Unet(UNetConfig {
        block_out_channels: vec![32, 64],
        attention_levels: vec![1],
        norm_num_groups: 8,
        ..UNetConfig::default()
    });
    let weights = Weights::fresh(5, tch::Device::Cpu, Kind::Float);
    let network = config.build(&weights).unwrap();
    let (x, label) = (random(&[2, 3, 32, 32], 1), Tensor::from_slice(&[10f32, 700.0]));
    // Fresh networks end in zero maps: every parameter is moved away from them.
    let parameters = weights.finish().unwrap();
    for (i, (_, tensor)) in parameters.iter().enumerate() {
        no_grad(|| drop(tensor.shallow_clone().g_add_(&(random(&tensor.size(), 20 + i as i64) * 0.05))));
    }
    let fast = network.forward(&x, &label, None);
    for (_, tensor) in &parameters {
        let _ = tensor.set_requires_grad(true);
    }
    let plain = network.forward(&x, &label, None).detach();
    assert!(apart(&fast, &plain) < 2e-5, "{:e}", apart(&fast, &plain));
}

/// The choice is made once in a process, so other processes are asked: the kernels' and the zoo's tests pass with the
/// narrower instructions, and the zoo's with none.
#[test]
fn the_same_holds_for_avx2_and_for_libtorch_alone() {
    if kernels::instructions() != Some("avx512") {
        return;
    }
    for (instructions, tests) in [
        ("avx2", "kernels::"),
        ("avx2", "gradients::"),
        ("avx2", "networks::"),
        ("none", "networks::"),
        ("none", "zoo::"),
    ] {
        let mut again = Command::new(std::env::current_exe().unwrap());
        let output = again.arg(tests).env("TWEEDIE_KERNELS", instructions).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("test result: ok"), "{instructions} {tests}:\n{text}");
    }
}

/// Kilobytes in memory of the map that holds this address.
fn resident(address: usize) -> usize {
    let maps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut lines = maps.lines();
    let number = |text: &str| usize::from_str_radix(text, 16).ok();
    let holds = |line: &str| {
        let (start, end) = line.split_once(' ').and_then(|(range, _)| range.split_once('-'))?;
        Some((number(start)?..number(end)?).contains(&address))
    };
    lines.find(|line| holds(line) == Some(true)).unwrap();
    let line = lines.find(|line| line.starts_with("Rss:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Packed weights leave the pages of their file, which gives the same numbers again; what was written to stays as it is.
#[test]
fn packed_weights_leave_their_file_and_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weights.safetensors");
    let weight = random(&[256, 256, 3, 3], 41);
    let stored = BTreeMap::from([("weight".to_owned(), weight.copy())]);
    // Only what lies at a multiple of 64 bytes is used as it lies there.
    let opened = |pad: usize| {
        let metadata = BTreeMap::from([("pad".to_owned(), "-".repeat(pad))]);
        safetensors::write(&file, &stored, &metadata).unwrap();
        let source = Source::open(&file).unwrap();
        let view = source.view(&safetensors::index(&source).unwrap().0["weight"]).unwrap();
        view.map(|view| (source, view))
    };
    let (_source, view) = (0..64).find_map(opened).unwrap();
    let pack = || Packed::new(&view, ConvGeometry::default(), Direction::Forward, ConvMethod::Winograd2);
    assert_eq!(view, weight);
    let (before, _) = (resident(view.data_ptr() as usize), pack());
    if kernels::instructions().is_some() {
        let after = resident(view.data_ptr() as usize);
        assert!(before > 2000 && after < 100, "{before} kB, then {after}");
    }
    assert_eq!(view, weight);
    let _ = no_grad(|| view.shallow_clone().g_mul_scalar_(2.0));
    pack();
    assert_eq!(view, weight * 2.0);
}

/// What tensors left serves the next, larger and smaller ones, without being cleared.
#[test]
fn large_blocks_stay_and_join_their_neighbours() {
    memory::keep_blocks();
    let made = |size: i64, value: f64| Tensor::full([size], value, (Kind::Float, tch::Device::Cpu));
    let kept = |turn: i64| {
        let size = 1_000_003 + 1024 * turn;
        let both = (made(size, 3.0), made(size, 3.0));
        drop(made(3 * size, 3.0));
        drop(both);
        drop(made(size, 3.0));
        // Rounded to whole pages, a block may be longer than its numbers.
        let again = Tensor::empty([2 * size], (Kind::Float, tch::Device::Cpu));
        i64::try_from(again.eq(3.0).sum(Kind::Int64)).unwrap() > 2 * size - 4096
    };
    // Tests beside this one may take the place.
    assert!((0..20).any(kept));
}

#[test]
fn no_large_block_is_two_tensors() {
    memory::keep_blocks();
    let make = |size: i64| Tensor::full([size], size as f64, (Kind::Float, tch::Device::Cpu));
    let work = |first: i64| {
        let mut held = Vec::new();
        for turn in 0..60 {
            held.push(make(300_000 + 7_919 * ((first + turn * turn) % 23)));
            if turn % 3 == 2 {
                let tensor = held.remove((turn as usize * 5) % held.len());
                assert_eq!(
                    f64::try_from(tensor.to_kind(Kind::Double).mean(Kind::Double)).unwrap(),
                    tensor.numel() as f64
                );
            }
        }
        assert!(held.iter().all(|tensor| f64::try_from(tensor.min()).unwrap() == tensor.numel() as f64));
    };
    thread::scope(|scope| (0..4).for_each(|i| drop(scope.spawn(move || work(i)))));
}
