//! The CPU's kernels beside libtorch's own: `cargo bench --bench kernels`, which compares with the run before.
//!
//! One thread, f32, the shapes of a 32×32 network; F(m) is Winograd's F(m×m, 3×3).

use criterion::{BenchmarkId, Criterion};
use tch::{Device, Kind, Tensor};
use tweedie::backend::kernels::{
    ConvFusion, ConvGeometry, ConvMethod, Direction, HostGroupNorm, Packed, attend, instructions,
};

fn random(shape: &[i64]) -> Tensor {
    Tensor::randn(shape, (Kind::Float, Device::Cpu))
}

/// Channels side by side, as the kernels and the fastest of libtorch's have them.
fn image(shape: [i64; 4]) -> Tensor {
    let [batch, channels, height, width] = shape;
    random(&[batch, height, width, channels]).permute([0, 3, 1, 2])
}

fn convolutions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("convolution");
    for [batch, inputs, side, outputs] in [[1, 128, 32, 128], [1, 256, 16, 256], [1, 256, 8, 256], [4, 512, 16, 256]] {
        let (x, weight) = (image([batch, inputs, side, side]), random(&[outputs, inputs, 3, 3]));
        let name = format!("{batch}x{inputs}x{side}x{side} to {outputs}");
        group.bench_function(BenchmarkId::new("libtorch", &name), |bench| {
            bench.iter(|| x.conv2d(&weight, None::<Tensor>, 1, 1, 1, 1));
        });
        for (label, method) in
            [("F(4)", ConvMethod::Winograd4), ("F(2)", ConvMethod::Winograd2), ("direct", ConvMethod::Direct)]
        {
            let packed = Packed::new(&weight, ConvGeometry::default(), Direction::Forward, method);
            group.bench_function(BenchmarkId::new(label, &name), |bench| {
                bench.iter(|| packed.convolve(&x, &ConvFusion::default()));
            });
        }
    }
    group.finish();
}

fn normalisations(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("GroupNorm and SiLU");
    let x = image([4, 256, 16, 16]);
    let [weight, bias] = [0, 1].map(|_| random(&[256]));
    group.bench_function("libtorch", |bench| {
        bench.iter(|| x.group_norm(32, Some(&weight), Some(&bias), 1e-5, true).silu());
    });
    let norm = HostGroupNorm { weight: &weight, bias: &bias, modulation: None, groups: 32, epsilon: 1e-5, silu: true };
    group.bench_function("kernels", |bench| bench.iter(|| norm.apply(&x, &norm.moments(&x))));
    group.finish();
}

/// Of 16×16 pixels, as ddpm-cifar10 (one head) and EDM (four) attend.
fn attention(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("attention");
    for heads in [1, 4] {
        let [query, key, value] = [0, 1, 2].map(|_| random(&[4, 256, heads, 256 / heads]));
        group.bench_function(BenchmarkId::new("libtorch", heads), |bench| {
            let [query, key, value] = [&query, &key, &value].map(|x| x.transpose(1, 2));
            bench.iter(|| {
                let mask = None::<&Tensor>;
                Tensor::scaled_dot_product_attention(&query, &key, &value, mask, 0.0, false, None, false)
            });
        });
        group.bench_function(BenchmarkId::new("kernels", heads), |bench| bench.iter(|| attend(&query, &key, &value)));
    }
    group.finish();
}

fn products(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("linear layer");
    let (x, weight, bias) = (random(&[1024, 256]), random(&[256, 256]), random(&[256]));
    group.bench_function("libtorch", |bench| bench.iter(|| x.linear(&weight, Some(&bias))));
    let packed = Packed::new(&weight, ConvGeometry::SINGLE, Direction::Forward, ConvMethod::Direct);
    let around = ConvFusion { bias: Some(&bias), ..ConvFusion::default() };
    let pixels = x.view([1, 1024, 1, 256]).permute([0, 3, 1, 2]);
    group.bench_function("kernels", |bench| bench.iter(|| packed.convolve(&pixels, &around)));
    group.finish();
}

fn all(criterion: &mut Criterion) {
    assert!(instructions().is_some(), "this CPU has neither AVX-512 nor AVX2, or TWEEDIE_KERNELS says none");
    tch::set_num_threads(1);
    let _guard = tch::no_grad_guard();
    convolutions(criterion);
    normalisations(criterion);
    attention(criterion);
    products(criterion);
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    all(&mut criterion);
    criterion.final_summary();
}
