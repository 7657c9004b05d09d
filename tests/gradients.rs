//! Gradients that kernels compute against those of libtorch in f64, and how they stand in its graph.

use std::sync::{Arc, Mutex};

use tch::{Device, Kind, TchError, Tensor, no_grad};
use tweedie::{
    backend::{
        autograd::{self, Saved},
        kernels::{self, ConvGeometry, ConvMethod, Direction},
    },
    models::checkpoint::safetensors::Tensors,
    networks::{
        AdmConfig, AnyNetwork, Embedding, FfdnetConfig, FfdnetLayout, Heads, NcsnppConfig, Network, Progressive,
        ProgressiveInput, RefineNetConfig, RefineStage, UNetConfig,
        layers::{Conv, Fusion, GroupNorm, Rescale},
        weights::Weights,
    },
};

/// f32 sums of some hundred products, one way and back, relative to the largest of the results; F(4×4, 3×3) goes through
/// numbers some ten times larger than its results, twice.
const LAYER: f64 = 4e-5;
/// Some twenty layers one way and back.
const NETWORK: f64 = 1e-4;

const DIRECTIONS: [Direction; 2] = [Direction::Forward, Direction::Backward];

fn random(shape: &[i64], seed: i64) -> Tensor {
    let count: i64 = shape.iter().product();
    // Uniform on −1 … 1 in the digits of multiples of √2, which no rounding of libtorch changes.
    let digits = (Tensor::arange_start(seed * 10_007, seed * 10_007 + count, (Kind::Double, Device::Cpu))
        * std::f64::consts::SQRT_2)
        .frac();
    (digits * 2.0 - 1.0).to_kind(Kind::Float).reshape(shape)
}

/// max |a − b| / max |b|.
fn apart(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (a.to_kind(Kind::Double), b.to_kind(Kind::Double));
    f64::try_from((a - &b).abs().max()).unwrap() / f64::try_from(b.abs().max()).unwrap()
}

fn leaf(x: &Tensor, kind: Kind) -> Tensor {
    x.to_kind(kind).copy().set_requires_grad(true)
}

/// The gradients of ⟨y, v⟩ by each of the inputs, v being the same for all.
fn gradients(y: &Tensor, inputs: &[Tensor], keep: bool, create: bool) -> Result<Vec<Tensor>, TchError> {
    let loss = (y * random(&y.size(), 77).to_kind(y.kind())).sum(y.kind());
    Tensor::f_run_backward(&[loss], inputs, keep, create)
}

/// A normalisation and a convolution with random parameters, in f32 and in f64, and what is around them.
#[expect(clippy::struct_excessive_bools, reason = "each may be there or not")]
struct Case {
    taps: ConvGeometry,
    shape: [i64; 4],
    outputs: i64,
    normalised: bool,
    modulated: bool,
    time_bias: bool,
    residual: bool,
    factor: f64,
}

impl Case {
    fn layers(&self, kind: Kind) -> (GroupNorm, Conv) {
        let (inputs, size) = (self.shape[1], self.taps.size);
        let gain = ((inputs * size * size) as f64).sqrt().recip();
        let named = |name: &str, tensor: Tensor| (name.to_owned(), tensor);
        let tensors: Tensors = [
            named("norm.weight", random(&[inputs], 2)),
            named("norm.bias", random(&[inputs], 3)),
            named("conv.weight", random(&[self.outputs, inputs, size, size], 4) * gain),
            named("conv.bias", random(&[self.outputs], 5)),
        ]
        .into();
        let weights = Weights::stored(tensors, Device::Cpu, kind);
        let root = weights.root();
        let conv = Conv::new(&(&root / "conv"), inputs, self.outputs, size);
        let conv = if self.taps.dilation > 1 {
            conv.dilated(self.taps.dilation)
        } else {
            conv.strided(self.taps.stride, self.taps.padding)
        };
        (GroupNorm::new(&(&root / "norm"), 2, inputs, 1e-5), conv)
    }

    /// y, and the gradients of all that is around it.
    fn run(&self, kind: Kind) -> (Tensor, Vec<Tensor>) {
        let (norm, conv) = self.layers(kind);
        let [batch, inputs, ..] = self.shape;
        // Means that are not 0, as those of real images.
        let x = leaf(&(random(&self.shape, 1) + 0.5), kind);
        let modulation = self.modulated.then(|| leaf(&random(&[batch, 2 * inputs], 6), kind));
        let time_bias = self.time_bias.then(|| leaf(&random(&[batch, self.outputs], 7), kind));
        let size = no_grad(|| conv.forward(&x)).size();
        let residual = self.residual.then(|| leaf(&random(&size, 8), kind));
        let y = conv.within(
            &x,
            &Fusion {
                norm: self.normalised.then_some(&norm),
                modulation: modulation.as_ref(),
                time_bias: time_bias.as_ref(),
                residual: residual.as_ref(),
                factor: self.factor,
            },
        );
        let inputs: Vec<Tensor> = [Some(x), modulation, time_bias, residual].into_iter().flatten().collect();
        let found = gradients(&y, &inputs, false, false).unwrap();
        (y.detach(), found)
    }

    fn check(&self) {
        let (got, want) = (self.run(Kind::Float), self.run(Kind::Double));
        assert!(apart(&got.0, &want.0) < LAYER, "{:?} of {:?}", self.taps, self.shape);
        for (i, (got, want)) in got.1.iter().zip(&want.1).enumerate() {
            let error = apart(got, want);
            let Self { taps, shape, normalised, modulated, factor, .. } = self;
            assert!(
                error < LAYER,
                "gradient {i} of {taps:?} of {shape:?}, {normalised} {modulated} {factor}: {error:e}"
            );
        }
    }
}

#[test]
fn every_layer_has_the_gradients_of_f64() {
    let mut methods = Vec::new();
    for (i, side) in [1, 2, 3, 4, 5, 8, 9, 13, 35].into_iter().enumerate() {
        for (inputs, outputs) in [(4, 3), (16, 32), (20, 70)] {
            let shape = [[1, 3][i % 2], inputs, side, [side, 2 * side + 1][i % 2]];
            methods.extend(
                DIRECTIONS
                    .map(|direction| (direction, ConvMethod::cheapest(ConvGeometry::default(), direction, &shape))),
            );
            for bits in 0..16 {
                let on = |bit: i32| bits >> bit & 1 == 1;
                // One pixel, normalised alone, has no gradient to be relative to.
                let normalised = on(0) && side > 1;
                let modulated = normalised && on(1);
                let factor = if on(2) { 0.5f64.sqrt() } else { 1.0 };
                let (time_bias, residual) = (on(3), on(3) != on(2));
                Case {
                    taps: ConvGeometry::default(),
                    shape,
                    outputs,
                    normalised,
                    modulated,
                    time_bias,
                    residual,
                    factor,
                }
                .check();
            }
        }
    }
    for method in [ConvMethod::Direct, ConvMethod::Winograd2, ConvMethod::Winograd4] {
        for direction in DIRECTIONS {
            assert!(methods.contains(&(direction, method)), "{method:?}, {direction:?} is not among them");
        }
    }
}

#[test]
fn convolutions_of_any_taps_have_the_gradients_of_f64() {
    for (size, stride, padding, dilation) in [
        (1, 1, 0, 1),
        (1, 2, 0, 1),
        (3, 2, 0, 1),
        (3, 2, 1, 1),
        (3, 1, 2, 2),
        (3, 1, 4, 4),
        (5, 1, 2, 1),
        (3, 1, 0, 1),
        (3, 1, 2, 1),
        // More padding than taps reach.
        (1, 1, 1, 1),
    ] {
        for (normalised, factor) in [(false, 1.0), (true, 0.7)] {
            let taps = ConvGeometry { size, stride, padding, dilation };
            let shape = [2, 18, 9, 32];
            Case {
                taps,
                shape,
                outputs: 35,
                normalised,
                modulated: normalised,
                time_bias: true,
                residual: true,
                factor,
            }
            .check();
        }
    }
}

#[test]
fn normalisations_alone_have_the_gradients_of_f64() {
    let case = |channels| Case {
        taps: ConvGeometry::default(),
        shape: [2, channels, 7, 10],
        outputs: 1,
        normalised: true,
        modulated: true,
        time_bias: false,
        residual: false,
        factor: 1.0,
    };
    for channels in [6, 8, 34] {
        let found = [Kind::Float, Kind::Double].map(|kind| {
            let (norm, _) = case(channels).layers(kind);
            let x = leaf(&(random(&[2, channels, 7, 10], 1) + 3.0), kind);
            let modulation = leaf(&random(&[2, 2 * channels], 6), kind);
            let plain = gradients(&norm.forward(&x), &[x.shallow_clone()], false, false).unwrap();
            let silu = gradients(&norm.silu(&x, None), &[x.shallow_clone()], false, false).unwrap();
            let modulated = gradients(&norm.silu(&x, Some(&modulation)), &[x, modulation], false, false).unwrap();
            [plain, silu, modulated].into_iter().flatten().collect::<Vec<Tensor>>()
        });
        for (i, (got, want)) in found[0].iter().zip(&found[1]).enumerate() {
            assert!(apart(got, want) < LAYER, "{i} of {channels}: {:e}", apart(got, want));
        }
    }
}

#[test]
fn halved_and_doubled_images_have_the_gradients_of_f64() {
    for resize in [Rescale::Halve, Rescale::Double] {
        let [got, want] = [Kind::Float, Kind::Double].map(|kind| {
            let x = leaf(&random(&[2, 5, 6, 8], 1), kind);
            gradients(&resize.apply(&x), &[x], false, false).unwrap().remove(0)
        });
        assert!(apart(&got, &want) < 1e-7, "{resize:?}");
    }
}

/// One small network of each architecture that has gradients, and the label and shape of its images.
fn networks() -> [(AnyNetwork, [i64; 4], f32); 7] {
    let adm = |resblock_updown, use_scale_shift_norm| {
        AnyNetwork::Adm(AdmConfig {
            in_channels: 3,
            out_channels: 6,
            model_channels: 32,
            block_out_channels: vec![32, 64],
            num_res_blocks: 1,
            attention_levels: vec![1],
            middle_attention: true,
            heads: Heads::Width(16),
            use_new_attention_order: false,
            use_scale_shift_norm,
            resblock_updown,
            num_classes: None,
            null_class: None,
            min_channels_per_group: 1,
            patch: 1,
        })
    };
    let unet = UNetConfig {
        block_out_channels: vec![32, 64],
        attention_levels: vec![1],
        norm_num_groups: 8,
        ..UNetConfig::default()
    };
    let ncsnpp = NcsnppConfig {
        in_channels: 3,
        model_channels: 16,
        block_out_channels: vec![16, 32],
        num_res_blocks: 1,
        attention_levels: vec![1],
        attention_head_dim: None,
        diffusers_groups: false,
        embedding: Embedding::Fourier,
        embedding_features: 32,
        progressive_input: ProgressiveInput::Residual,
        progressive: Progressive::OutputSkip,
        fir: true,
        skip_rescale: true,
        num_classes: None,
        null_class: None,
    };
    let stage =
        |name, halves, dilation| RefineStage { name, refine: name, width: 8, refine_width: 8, halves, dilation };
    let refinenet = RefineNetConfig {
        in_channels: 3,
        stages: vec![stage(1, false, 1), stage(2, true, 1), stage(3, false, 2)],
        num_levels: None,
    };
    let ffdnet = FfdnetConfig { in_channels: 3, width: 16, layers: 5, layout: FfdnetLayout::Kair };
    [
        (AnyNetwork::Unet(unet), [2, 3, 32, 32], 500.0),
        (adm(true, true), [2, 3, 32, 32], 500.0),
        (adm(false, false), [1, 3, 16, 24], 20.0),
        (AnyNetwork::Ncsnpp(ncsnpp.clone()), [2, 3, 16, 16], 0.5),
        (AnyNetwork::Ncsnpp(NcsnppConfig { fir: false, ..ncsnpp }), [2, 3, 16, 16], 0.5),
        (AnyNetwork::RefineNet(refinenet), [2, 3, 16, 16], 1.0),
        (AnyNetwork::Ffdnet(ffdnet), [2, 3, 17, 30], 0.3),
    ]
}

/// The network in f32 and in f64, no parameter of which is 0, and its parameters in f32.
fn built(config: &AnyNetwork) -> ([Box<dyn Network>; 2], Vec<Tensor>) {
    let weights = Weights::fresh(5, Device::Cpu, Kind::Float);
    config.build(&weights).unwrap();
    let tensors: Tensors = weights.finish().unwrap().into_iter().collect();
    for (i, tensor) in tensors.values().enumerate() {
        no_grad(|| drop(tensor.shallow_clone().g_add_(&(random(&tensor.size(), 20 + i as i64) * 0.05))));
    }
    let network = |kind| {
        let weights =
            Weights::stored(tensors.iter().map(|(name, t)| (name.clone(), t.copy())).collect(), Device::Cpu, kind);
        let network = config.build(&weights).unwrap();
        (network, weights.finish().unwrap())
    };
    let ((fast, parameters), (double, _)) = (network(Kind::Float), network(Kind::Double));
    ([fast, double], parameters.into_iter().map(|(_, tensor)| tensor).collect())
}

#[test]
fn every_network_has_the_gradients_of_f64_with_kernels_and_without() {
    for (config, shape, label) in networks() {
        let ([single, double], parameters) = built(&config);
        let label = Tensor::full([shape[0]], f64::from(label), (Kind::Float, Device::Cpu));
        let found = |network: &dyn Network, kind| {
            let x = leaf(&random(&shape, 1), kind);
            let y = network.forward(&x, &label, None);
            (gradients(&y, &[x], false, false).unwrap().remove(0), y.detach())
        };
        let (want, y) = found(&*double, Kind::Double);
        let fast = found(&*single, Kind::Float);
        // As in training: parameters with gradients are left to libtorch.
        for tensor in &parameters {
            let _ = tensor.set_requires_grad(true);
        }
        let plain = found(&*single, Kind::Float);
        for (name, (gradient, value)) in [("kernels", fast), ("libtorch", plain)] {
            let errors = [apart(&gradient, &want), apart(&value, &y)];
            assert!(errors.iter().all(|error| *error < NETWORK), "{name} of {config:?}: {errors:?}");
        }
    }
}

#[test]
fn no_bit_of_a_gradient_depends_on_the_rest_of_the_batch() {
    if kernels::instructions().is_none() {
        return;
    }
    let case = Case {
        taps: ConvGeometry::default(),
        shape: [3, 16, 18, 10],
        outputs: 40,
        normalised: true,
        modulated: false,
        time_bias: false,
        residual: false,
        factor: 1.0,
    };
    let (norm, conv) = case.layers(Kind::Float);
    let v = random(&[3, 40, 18, 10], 9);
    let gradient = |x: &Tensor, v: &Tensor| {
        let x = leaf(x, Kind::Float);
        let y = conv.within(&x, &Fusion { norm: Some(&norm), ..Fusion::default() });
        Tensor::run_backward(&[(y * v).sum(Kind::Float)], &[x], false, false).remove(0)
    };
    let x = random(&case.shape, 1);
    let all = gradient(&x, &v);
    for i in 0..3 {
        assert_eq!(gradient(&x.narrow(0, i, 1), &v.narrow(0, i, 1)), all.narrow(0, i, 1), "image {i}");
    }
}

/// x³, whose gradient the closure knows.
fn cube(x: &Tensor) -> Tensor {
    let (y, saved) = (no_grad(|| x.pow_tensor_scalar(3)), Saved::new(x));
    autograd::record(&[x], y, move |gradient| Ok(vec![Some(saved.get()?.square() * 3.0 * gradient)]))
}

fn numbers(values: &[f64]) -> Tensor {
    Tensor::from_slice(values).set_requires_grad(true)
}

fn refusal(answer: Result<Vec<Tensor>, TchError>) -> String {
    answer.unwrap_err().to_string()
}

#[test]
fn a_recorded_function_has_the_gradient_that_its_closure_tells() {
    let x = numbers(&[1.0, -2.0]);
    let y = (cube(&(&x * 2.0)) * 5.0).sum(Kind::Double);
    assert!(y.requires_grad());
    // d 5 (2x)³/dx = 120 x².
    assert_eq!(Tensor::run_backward(&[y], &[&x], false, false)[0], Tensor::from_slice(&[120.0, 480.0]));
    assert!(!no_grad(|| cube(&x)).requires_grad(), "nothing is recorded where nobody asks");
    assert!(!cube(&x.detach()).requires_grad(), "nor of what has no gradient");
}

#[test]
fn a_kept_graph_answers_again_and_another_does_not() {
    let x = numbers(&[3.0]);
    let y = cube(&x).sum(Kind::Double);
    for _ in 0..2 {
        assert_eq!(Tensor::run_backward(&[&y], &[&x], true, false)[0], Tensor::from_slice(&[27.0]));
    }
    Tensor::run_backward(&[&y], &[&x], false, false);
    let words = refusal(Tensor::f_run_backward(&[&y], &[&x], false, false));
    assert!(words.contains("a second time"), "{words}");
}

#[test]
fn gradients_of_gradients_are_refused() {
    let x = numbers(&[3.0]);
    let words = refusal(Tensor::f_run_backward(&[cube(&x).sum(Kind::Double)], &[&x], true, true));
    assert!(words.contains("cannot be differentiated again: --exact"), "{words}");
}

#[test]
fn what_changes_in_place_is_noticed() {
    let x = numbers(&[3.0]);
    let mut inner = &x * 1.0;
    let y = cube(&inner);
    let _ = inner.g_add_scalar_(1.0);
    let words = refusal(Tensor::f_run_backward(&[y.sum(Kind::Double)], &[&x], false, false));
    assert!(words.contains("[1] that a gradient needs was changed in place"), "{words}");
    // A result that changes is none of the closure's business.
    let mut y = cube(&x);
    let _ = y.g_mul_scalar_(2.0);
    assert_eq!(Tensor::run_backward(&[y.sum(Kind::Double)], &[&x], false, false)[0], Tensor::from_slice(&[54.0]));
}

#[test]
fn the_words_of_closures_that_fail_arrive() {
    let x = numbers(&[3.0]);
    let asked = |closure: fn(Tensor) -> autograd::Gradients| {
        let y = autograd::record(&[&x], x.detach().copy(), closure);
        refusal(Tensor::f_run_backward(&[y.sum(Kind::Double)], &[&x], false, false))
    };
    assert!(asked(|_| Err("no way back".to_owned())).contains("no way back"));
    assert!(asked(|_| panic!("out of {}", "tune")).contains("out of tune"));
    assert!(asked(|_| Ok(vec![])).contains("0 gradients of 1 inputs"));
    // More words than there is room for.
    assert!(asked(|_| Err("x".repeat(5000))).contains(&"x".repeat(1000)));
    // A gradient of another shape is libtorch's to refuse.
    let x = numbers(&[3.0, 1.0]);
    let y = autograd::record(&[&x], x.detach().copy(), |_| Ok(vec![Some(numbers(&[1.0, 2.0, 3.0]))]));
    assert!(refusal(Tensor::f_run_backward(&[y.sum(Kind::Double)], &[&x], false, false)).contains("shape"));
}

#[test]
fn a_gradient_that_is_none_is_none_further_back() {
    let x = numbers(&[3.0]);
    let inner = cube(&x);
    let blocked = autograd::record(&[&inner], inner.detach().copy(), |_| Ok(vec![None]));
    let y = (blocked + &x * 2.0).sum(Kind::Double);
    assert_eq!(Tensor::run_backward(&[y], &[&x], false, false)[0], Tensor::from_slice(&[2.0]));
}

/// What a closure holds is dropped on the way back, before what lies further back is asked.
#[test]
fn memory_is_freed_as_gradients_go_back() {
    let x = numbers(&[1.0]);
    let held: Vec<Arc<()>> = (0..3).map(|_| Arc::new(())).collect();
    let counts = Arc::new(Mutex::new(Vec::new()));
    let step = |x: &Tensor, i: usize| {
        let (mine, all, counts) = (held[i].clone(), held.clone(), counts.clone());
        let watched: Vec<_> = all.iter().map(Arc::downgrade).collect();
        drop(all);
        autograd::record(&[x], x.detach() * 2.0, move |gradient| {
            let _ = &mine;
            counts.lock().unwrap().push(watched.iter().map(std::sync::Weak::strong_count).sum::<usize>());
            Ok(vec![Some(gradient * 2.0)])
        })
    };
    let y = step(&step(&step(&x, 0), 1), 2).sum(Kind::Double);
    assert_eq!(Tensor::run_backward(&[&y], &[&x], false, false)[0], Tensor::from_slice(&[8.0]));
    // Three here and three in closures; one fewer at each further step.
    assert_eq!(*counts.lock().unwrap(), [6, 5, 4]);
    let dropped = step(&x, 0);
    assert_eq!(Arc::strong_count(&held[0]), 2);
    drop(dropped);
    assert_eq!(Arc::strong_count(&held[0]), 1, "without being asked for a gradient");
}
