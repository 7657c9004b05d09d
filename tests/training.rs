//! The training template: its weights, its noise levels, and what it converges to.

use tch::{Device, Kind, Tensor};
use tweedie::{
    numbers::{
        precondition::{Ddpm, Prediction},
        schedule::{Chain, LinearBeta},
        stream,
    },
    scores::noise::{Noise, Seeded},
    training::{
        Discrete, Lognormal, Loguniform, NoiseDistribution, Optimizer, OptimizerConfig, Trainer, Training, Uniform,
        Weight,
    },
};

fn ddpm() -> Ddpm {
    Ddpm::new(LinearBeta::default().times().unwrap(), Prediction::Epsilon)
}

/// σ⁻⁴‖X − D‖² = ‖s + N/σ‖² and σ⁻²‖X − D‖² = ‖σ s + N‖² = ‖ε − N‖², with D = x + σ² s [Random Walks].
#[test]
fn the_weights_are_those_of_the_papers_losses() {
    for sigma in [0.01, 0.5, 3.0, 100.0] {
        let (clean, noise, score): (f64, f64, f64) = (0.4, -1.1, 0.37 / sigma);
        let denoised = clean + sigma * noise + sigma * sigma * score;
        let error = (clean - denoised).powi(2);
        let matching = Weight { power: 4.0, floor: 0.0 }.at(sigma) * error;
        let simple = Weight { power: 2.0, floor: 0.0 }.at(sigma) * error;
        let close = |a: f64, b: f64| (a - b).abs() < 1e-11 * b.abs();
        assert!(close(matching, (score + noise / sigma).powi(2)));
        assert!(close(simple, (sigma * score + noise).powi(2)));
        // ‖F − v‖² of a network that predicts v: D = ᾱ x − √(1−ᾱ) F.
        let alpha_bar: f64 = 1.0 / (1.0 + sigma * sigma);
        let x = clean + sigma * noise;
        let output = (alpha_bar * x - denoised) / (alpha_bar.sqrt() * sigma * alpha_bar.sqrt());
        let output = output * alpha_bar.sqrt();
        let v = alpha_bar.sqrt() * noise - (1.0 - alpha_bar).sqrt() * clean;
        let floor = Weight { power: 2.0, floor: 1.0 }.at(sigma) * error;
        assert!(close(floor, (output - v).powi(2)), "σ = {sigma}");
    }
}

#[test]
fn noise_levels_are_drawn_where_they_should_be() {
    let (ddpm, levels) = (ddpm(), LinearBeta::default().times().unwrap());
    let (min, max) = levels.range();
    let close = |a: f64, b: f64| (a - b).abs() < 1e-12 * b;
    assert!(
        close(Uniform {}.sigma(1.0, 0.0, &ddpm), max)
            && close(Uniform {}.sigma(0.5, 0.0, &ddpm), f64::midpoint(min, max))
    );
    assert!(close(Loguniform {}.sigma(0.5, 0.0, &ddpm), (min * max).sqrt()));
    assert!(close(Lognormal { mean: -1.2, std: 1.2 }.sigma(0.3, 0.5, &ddpm), (-0.6f64).exp()));
    // u in (t/1000, (t+1)/1000] is time t.
    for (u, t) in [(1e-9, 0), (0.001, 0), (0.0010001, 1), (0.5, 499), (1.0, 999)] {
        assert!(close(Discrete {}.sigma(u, 0.0, &ddpm), levels.levels()[t]), "u = {u}");
    }
}

/// The best linear denoiser D = g x of X ~ N(0, v) is Wiener's, g = v/(v + σ²); AdamW on the template's loss finds it.
#[test]
fn a_linear_denoiser_learns_the_wiener_gain() {
    let (v, sigma) = (0.25f64, 0.7f64);
    let gain = Tensor::zeros([1], (Kind::Float, Device::Cpu));
    let config: OptimizerConfig = serde_yaml::from_str("{rate: 0.02, ema: 0.98, clip: 100.0}").unwrap();
    let mut optimizer = Optimizer::new(config, vec![("gain".to_owned(), gain.shallow_clone())]);
    let weight = Weight { power: 2.0, floor: 0.0 }.at(sigma);
    let shape = Tensor::zeros([1, 20_000], (Kind::Float, Device::Cpu));
    for step in 0..300 {
        let clean = Seeded(vec![1]).like(&shape, step, 0) * v.sqrt();
        let x = &clean + Seeded(vec![1]).like(&shape, step, 1) * sigma;
        let loss = ((x * &gain - clean).square() * weight).mean(Kind::Float);
        optimizer.step(&loss, 0.02).unwrap();
    }
    let learnt = optimizer.average().next().unwrap().1.double_value(&[0]);
    let wiener = v / (v + sigma * sigma);
    // The average of 50 steps of 20 000 samples each leaves a standard error of about 1e-3.
    assert!((learnt - wiener).abs() < 5e-3, "{learnt} is not {wiener}");
}

/// Two steps of AdamW, by its paper's Algorithm 2 written out for one number.
#[test]
fn the_optimizer_takes_adamws_steps() {
    let (rate, decay, beta1, beta2, epsilon) = (0.1, 0.01, 0.9, 0.999, 1e-8);
    let leaf = Tensor::from_slice(&[2.0f32]);
    let text = format!("{{rate: {rate}, weight_decay: {decay}, ema: 0.5, clip: 1000.0}}");
    let config: OptimizerConfig = serde_yaml::from_str(&text).unwrap();
    let mut optimizer = Optimizer::new(config, vec![("w".to_owned(), leaf.shallow_clone())]);
    let (mut w, mut first, mut second, mut average) = (2.0f64, 0.0, 0.0, 2.0f64);
    for t in 1..=2 {
        optimizer.step(&leaf.square().sum(Kind::Float), rate).unwrap();
        let gradient = 2.0 * w;
        first = beta1 * first + (1.0 - beta1) * gradient;
        second = beta2 * second + (1.0 - beta2) * gradient * gradient;
        let step = first / (1.0 - beta1.powi(t)) / ((second / (1.0 - beta2.powi(t))).sqrt() + epsilon);
        w = w * (1.0 - rate * decay) - rate * step;
        let memory = f64::min(0.5, (1.0 + f64::from(t)) / (10.0 + f64::from(t)));
        average = memory * average + (1.0 - memory) * w;
        // f32 arithmetic on numbers of order 1.
        assert!((leaf.double_value(&[0]) - w).abs() < 1e-5);
        assert!((optimizer.average().next().unwrap().1.double_value(&[0]) - average).abs() < 1e-5);
    }
}

const DENOISER: &str = "{kind: denoise, \
    network: {kind: unet, in_channels: 1, block_out_channels: [8, 8], layers_per_block: 1, norm_num_groups: 4}, \
    precondition: {kind: ddpm, beta: {kind: linear-beta}, prediction: v}, \
    sigma: {kind: lognormal, mean: -0.5, std: 1.0}}";
const CLASSIFIER: &str = "{kind: classify, network: {in_channels: 1, widths: [8], features: 4, classes: 2}}";

/// A run of three steps of seven images, on 12 random images of 8 × 8 pixels.
fn run(objective: &str, micro_batch: &str, place: &std::path::Path) -> Training {
    let file = |name: &str, header: &[u8], count: usize, most: f64| {
        let bytes = stream::uniform(5, 0, 0).take(count).map(|u| (u * most) as u8);
        let path = place.join(name);
        std::fs::write(&path, header.iter().copied().chain(bytes).collect::<Vec<u8>>()).unwrap();
        path.display().to_string()
    };
    let images = file("images", &[0, 0, 8, 3, 0, 0, 0, 12, 0, 0, 0, 8, 0, 0, 0, 8], 12 * 64, 255.0);
    let labels = file("labels", &[0, 0, 8, 1, 0, 0, 0, 12], 12, 1.99);
    let text = format!(
        "{{objective: {objective}, data: {{kind: idx, images: {images}, labels: {labels}}}, batch: 7, \
         micro_batch: {micro_batch}, steps: 3, optimizer: {{rate: 0.01, epsilon: 0.001, ema: 0.5}}, checkpoint_every: 9, out: x}}"
    );
    serde_yaml::from_str(&text).unwrap()
}

/// The averaged weights and the last loss after those three steps.
fn trained(objective: &str, micro_batch: &str, threads: usize) -> (Vec<Tensor>, f64) {
    let place = tempfile::tempdir().unwrap();
    let config = run(objective, micro_batch, place.path());
    let mut trainer = Trainer::new(config, Device::Cpu, Kind::Float, threads).unwrap();
    let loss = (0..3).map(|_| trainer.advance().unwrap()).last().unwrap();
    (trainer.average().into_values().collect(), f64::try_from(loss).unwrap())
}

/// Who computes a micro-batch does not change a bit.
#[test]
fn training_does_not_depend_on_the_number_of_threads() {
    let (alone, loss) = trained(DENOISER, "2", 1);
    for threads in [2, 3, 8] {
        let (together, same) = trained(DENOISER, "2", threads);
        assert!(alone == together && loss == same, "{threads} threads");
    }
}

/// The gradient of a mean is the mean of gradients, here of 3, 3 and 1 images.
#[test]
fn micro_batches_average_to_the_step_of_the_whole_batch() {
    let ((whole, loss), (parts, same)) = (trained(CLASSIFIER, "null", 1), trained(CLASSIFIER, "3", 2));
    // Losses of order 1 in f32.
    assert!((loss - same).abs() < 1e-5, "{loss} and {same}");
    // Rounding of gradients, 1e-7, over ε, times three steps of the rate.
    for (whole, parts) in whole.iter().zip(&parts) {
        assert!(f64::try_from((whole - parts).abs().max()).unwrap() < 1e-5);
    }
}

/// A run that begins with a model has its weights to the bit, and refuses those of another architecture by name.
#[test]
fn training_begins_with_the_weights_that_it_is_given() {
    let place = tempfile::tempdir().unwrap();
    let config = run(DENOISER, "null", place.path());
    let mut first = Trainer::new(config.clone(), Device::Cpu, Kind::Float, 1).unwrap();
    let _ = first.advance().unwrap();
    let model = place.path().join("model.safetensors");
    first.export(&model, "a card").unwrap();
    let begun = |objective: &str| {
        let config = Training { init: Some(model.clone()), ..run(objective, "null", place.path()) };
        Trainer::new(config, Device::Cpu, Kind::Float, 1)
    };
    let second = begun(DENOISER).unwrap();
    assert!(second.average() == first.average() && second.step() == 0);
    let other = begun(&DENOISER.replace("[8, 8]", "[8, 16]")).unwrap_err().to_string();
    assert!(other.contains("model.safetensors") && other.contains("is [8"), "{other}");
}
