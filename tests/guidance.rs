//! Guidance against closed forms: mixtures whose components are the classes, EDM's own answers, and the program.

use std::{fs, path::Path};

use tch::{CModule, Device, Kind, Tensor};
use tempfile::TempDir;
use tweedie::{
    inverse::{
        likelihood::GaussianLikelihood,
        moment_matching::MomentMatching,
        operators::{Identity, LinearOperator},
    },
    models::card::{self, Model},
    numbers::{
        plan::Plan,
        precondition::{Edm, Precondition},
    },
    scores::{
        analytic::{Gaussian, Mixture},
        denoiser::{Denoiser, Score},
        guidance::{Answers, Beside, ClassifierFree, ClassifierGuided, Guidance, Logits, OneNetwork},
        noise::{Noise, Seeded},
        sample::sample,
    },
};

use crate::cli::Place;

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

/// Rounding of a few hundred f64 operations on numbers of order 1.
const ROUNDING: f64 = 1e-10;

/// Chances, means (of two pixels) and variances of the two classes.
const CHANCES: [f64; 2] = [0.3, 0.7];
const MEANS: [[f64; 2]; 2] = [[-1.0, 0.5], [1.5, 0.0]];
const VARIANCES: [f64; 2] = [0.3, 0.2];

const SIGMAS: [f64; 4] = [0.2, 0.7, 2.0, 20.0];

fn largest(x: &Tensor) -> f64 {
    f64::try_from(x.abs().max()).unwrap()
}

fn mixture() -> Mixture {
    let means = Tensor::from_slice(&MEANS.concat()).view([2, 1, 1, 2]);
    Mixture::new(&Tensor::from_slice(&CHANCES), &means, &Tensor::from_slice(&VARIANCES)).unwrap()
}

fn component(class: usize) -> Gaussian {
    let mean = Tensor::from_slice(&MEANS[class]).view([1, 1, 2]);
    Gaussian::new(&mean, &(Tensor::eye(2, F64) * VARIANCES[class])).unwrap()
}

/// Points where neither class is certain at the smaller levels.
fn points() -> Tensor {
    Tensor::from_slice(&[0.1, 0.2, 0.4, 0.1, -0.2, 0.6, 0.3, -0.7]).view([4, 1, 1, 2])
}

fn weight(w: f64) -> Guidance {
    Guidance::new(w, None).unwrap()
}

/// Which component x came from, by Bayes' rule.
struct Exact(Mixture);

impl Logits for Exact {
    fn logits(&self, x: &Tensor, sigma: f64) -> Tensor {
        self.0.responsibilities(x, sigma).log()
    }
}

/// The mixture, guided to a class by the exact classifier.
fn classified(class: i64, count: i64, w: f64) -> ClassifierGuided<Mixture, Exact> {
    let classes = Tensor::full([count], class, (Kind::Int64, Device::Cpu));
    ClassifierGuided { prior: mixture(), classifier: Exact(mixture()), classes, guidance: weight(w) }
}

#[test]
fn a_mixture_that_an_exact_classifier_guides_is_the_component() {
    let x = points();
    for class in 0..2 {
        let guided = classified(class as i64, 4, 1.0);
        for sigma in SIGMAS {
            let score = component(class).score(&x, sigma);
            assert!(largest(&(guided.score(&x, sigma) - score)) < ROUNDING, "class {class} at {sigma}");
            assert!(largest(&(guided.denoise(&x, sigma) - component(class).denoise(&x, sigma))) < ROUNDING);
        }
    }
    // Each image of a batch is guided to a class of its own.
    let classes = Tensor::from_slice(&[0i64, 1, 1, 0]);
    let mixed = ClassifierGuided { classes, ..classified(0, 4, 1.0) }.score(&x, 0.7);
    for (i, class) in [0, 1, 1, 0].into_iter().enumerate() {
        let own = component(class).score(&x.narrow(0, i as i64, 1), 0.7);
        assert!(largest(&(mixed.narrow(0, i as i64, 1) - own)) < ROUNDING);
    }
}

/// D(x, σ) + (1 + w) (D(x, σ | y) − D(x, σ)) of pixel `i`, by Bayes' rule in plain numbers.
fn by_hand(x: [f64; 2], i: usize, sigma: f64, w: f64) -> f64 {
    let total = |j: usize| VARIANCES[j] + sigma * sigma;
    let density = |j: usize| {
        let distance: f64 = (0..2).map(|k| (x[k] - MEANS[j][k]).powi(2)).sum();
        CHANCES[j] / total(j) * (-distance / (2.0 * total(j))).exp()
    };
    let denoised = |j: usize| (VARIANCES[j] * x[i] + sigma * sigma * MEANS[j][i]) / total(j);
    let whole = (density(0) * denoised(0) + density(1) * denoised(1)) / (density(0) + density(1));
    whole + (1.0 + w) * (denoised(1) - whole)
}

#[test]
fn classifier_free_guidance_is_its_formula_and_what_a_classifier_would_do() {
    let x = points();
    for w in [-1.0, 0.0, 1.0, 3.0] {
        let free = ClassifierFree { answers: (component(1), mixture()), guidance: weight(w) };
        // The classifier's w counts from the denoiser that it guides, which knows no class here.
        let classifier = classified(1, 4, 1.0 + w);
        for sigma in SIGMAS {
            let guided = free.denoise(&x, sigma);
            for (row, i) in [(0, 0), (1, 1), (2, 0), (3, 1)] {
                let point = [0, 1].map(|k| x.double_value(&[row, 0, 0, k]));
                let error = guided.double_value(&[row, 0, 0, i as i64]) - by_hand(point, i, sigma, w);
                assert!(error.abs() < ROUNDING, "w = {w} at {sigma}: {error}");
            }
            assert!(largest(&(guided - classifier.denoise(&x, sigma))) < ROUNDING, "w = {w} at {sigma}");
        }
    }
}

/// An answer that nobody may ask for.
struct Unasked;

impl Denoiser for Unasked {
    fn denoise(&self, _: &Tensor, _: f64) -> Tensor {
        panic!("asked")
    }
}

#[test]
fn what_guidance_does_not_need_is_not_asked_for() {
    let x = points();
    let unguided = ClassifierFree { answers: (component(0), Unasked), guidance: weight(0.0) };
    assert_eq!(unguided.residual(&x, 0.7), component(0).residual(&x, 0.7));
    let free = ClassifierFree { answers: (Unasked, mixture()), guidance: weight(-1.0) };
    assert_eq!(free.residual(&x, 0.7), mixture().residual(&x, 0.7));
    // Outside its interval, w is 0.
    let guidance = Guidance::new(5.0, Some([0.3, 0.7])).unwrap();
    assert_eq!([0.2, 0.3, 0.31, 0.7, 0.71].map(|sigma| guidance.at(sigma)), [0.0, 0.0, 5.0, 5.0, 0.0]);
    assert_eq!([0.3, 0.5].map(|sigma| guidance.answers(sigma)), [1, 2]);
    let within = ClassifierFree { answers: (component(0), Unasked), guidance };
    assert_eq!(within.residual(&x, 0.8), component(0).residual(&x, 0.8));
    for (w, range) in
        [(f64::NAN, None), (1.0, Some([0.5, 0.5])), (1.0, Some([-1.0, 1.0])), (1.0, Some([0.0, f64::NAN]))]
    {
        assert!(Guidance::new(w, range).is_err());
    }
}

/// Two pixels each of so many images.
const DRAWN: u64 = 2000;

#[test]
fn both_ways_of_guiding_draw_images_of_the_class() {
    let noise = Seeded((0..DRAWN).collect());
    let resolved = Plan::ddim().resolve((0.002, 80.0), f64::INFINITY).unwrap();
    let start = noise.like(&Tensor::zeros([DRAWN as i64, 1, 1, 2], F64), 0, 0) * resolved.sigmas.max();
    let free = ClassifierFree { answers: (component(1), mixture()), guidance: weight(0.0) };
    let classifier = classified(1, DRAWN as i64, 1.0);
    for score in [&free as &dyn Score, &classifier] {
        let drawn = sample(&resolved.scheme, start.shallow_clone(), score, &noise).last().unwrap();
        let kept = resolved.scheme.variances(VARIANCES[1], resolved.sigmas.max().powi(2));
        let variance = kept[kept.len() - 1];
        for pixel in 0..2 {
            let values = drawn.select(3, pixel);
            let mean = f64::try_from(values.mean(Kind::Double)).unwrap();
            let spread = f64::try_from(values.var(true)).unwrap();
            let count = DRAWN as f64;
            // Four standard errors; of σ_max = 80 the start knows nothing of the mean but for a part in 80.
            let bound = 4.0 * (variance / count).sqrt() + 0.02;
            assert!((mean - MEANS[1][pixel as usize]).abs() < bound, "mean {mean}");
            assert!((spread / variance - 1.0).abs() < 4.0 * (2.0 / count).sqrt(), "variance {spread} of {variance}");
        }
    }
}

/// For A = 1 the formula of matched moments is D + J σ² (y − D)/(η² + J σ²), J being that of the guided denoiser.
#[test]
fn matched_moments_follow_a_guided_denoiser() {
    let (sigma, eta, x) = (0.6, 0.3, points());
    let measurement = &x * 0.5 + 0.2;
    let likelihood = || {
        let operator: Box<dyn LinearOperator> = Box::new(Identity {});
        GaussianLikelihood::new(operator, measurement.shallow_clone(), eta, [1, 1, 2]).unwrap()
    };
    let posterior = |prior: &dyn Denoiser| {
        MomentMatching { prior, likelihood: likelihood().linear("mmps").unwrap(), iterations: 2 }.denoise(&x, sigma)
    };
    let w = 0.5;
    let jacobian = |j: usize| VARIANCES[j] / (VARIANCES[j] + sigma * sigma);
    let steep = (jacobian(0) + (1.0 + w) * (jacobian(1) - jacobian(0))) * sigma * sigma;
    let free = ClassifierFree { answers: (component(1), component(0)), guidance: weight(w) };
    let denoised = free.denoise(&x, sigma);
    let expected = &denoised + (&measurement - &denoised) * (steep / (eta * eta + steep));
    assert!(largest(&(posterior(&free) - expected)) < ROUNDING);
    // The curvature of log p is part of the Jacobian: the guided mixture is the component, and so is its posterior.
    let guided = posterior(&classified(1, 4, 1.0));
    assert!(largest(&(guided - posterior(&component(1)))) < ROUNDING);
}

/// Traces forward(x, label) and writes it to a file.
fn export(place: &Path, shape: [i64; 4], program: impl Fn(&Tensor, &Tensor) -> Tensor) {
    let options = (Kind::Float, Device::Cpu);
    let inputs = [Tensor::ones(shape, options) * 0.1, Tensor::ones([shape[0]], options) * 0.1];
    let mut traced = |inputs: &[Tensor]| vec![program(&inputs[0], &inputs[1])];
    let module = CModule::create_by_tracing("Program", "forward", &inputs, &mut traced).unwrap();
    module.save(place).unwrap();
}

/// −‖x − mⱼ‖²/(2(v + σ²)) for two classes of one variance, from EDM's input x/√(σ² + ¼) and label ln(σ)/4.
fn two_classes(x: &Tensor, label: &Tensor) -> Tensor {
    let square = (label * 8.0).exp().reshape([-1, 1]);
    let x = x.flatten(1, -1) * (&square + 0.25).sqrt();
    let logit = |mean: [f64; 2]| {
        // Numbers alone: what a tensor holds that was not made of the inputs is lost in tracing.
        let along = |k: usize| (x.narrow(1, k as i64, 1) - mean[k]).square();
        (along(0) + along(1)) / ((&square + VARIANCES[0]) * -2.0)
    };
    Tensor::cat(&MEANS.map(logit), 1)
}

#[test]
fn a_traced_classifier_gives_the_closed_form_of_its_gradient() {
    let place = TempDir::new().unwrap();
    let file = place.path().join("classifier.pt");
    export(&file, [3, 1, 1, 2], two_classes);
    let classifier = card::classifier(&file, [1, 1, 2], Device::Cpu, Kind::Float).unwrap();
    assert_eq!(classifier.classes(), 2);
    let precondition: &dyn Precondition = &Edm::default();
    let x = points().to_kind(Kind::Float);
    // An image of which nothing is known keeps its place, so that the answer is σ² ∇ log p.
    let options = (Kind::Float, Device::Cpu);
    let nothing = Gaussian::new(&Tensor::zeros([1, 1, 2], options), &(Tensor::eye(2, options) * 1e30));
    let nothing = nothing.unwrap();
    for sigma in SIGMAS {
        let guided = ClassifierGuided {
            prior: &nothing,
            classifier: Beside { classifier: &classifier, precondition },
            classes: Tensor::from_slice(&[1i64; 4]),
            guidance: weight(1.0),
        };
        let gradient = guided.residual(&x, sigma) / (sigma * sigma);
        let total = VARIANCES[0] + sigma * sigma;
        let mut expected = Vec::new();
        for row in 0..4 {
            let density = |mean: [f64; 2]| {
                let distance: f64 = (0..2).map(|k| (x.double_value(&[row, 0, 0, k]) - mean[k as usize]).powi(2)).sum();
                (-distance / (2.0 * total)).exp()
            };
            let other = density(MEANS[0]) / (density(MEANS[0]) + density(MEANS[1]));
            // ∇ log p₁ = p₀ (m₁ − m₀)/(v + σ²).
            expected.extend((0..2).map(|k| other * (MEANS[1][k] - MEANS[0][k]) / total));
        }
        let error = largest(&(gradient.to_kind(Kind::Double) - Tensor::from_slice(&expected).view([4, 1, 1, 2])));
        let scale = expected.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
        // f32: logits of some units, and a chance made of their difference.
        assert!(error < 1e-5 * scale, "{error} of {scale} at {sigma}");
    }
}

/// ∂/∂x of the program's gradient is taken through the program as well, the first time and when it has been optimised.
#[test]
fn matched_moments_follow_a_traced_classifier() {
    let (place, options) = (TempDir::new().unwrap(), (Kind::Float, Device::Cpu));
    let file = place.path().join("classifier.pt");
    export(&file, [3, 1, 1, 2], two_classes);
    let classifier = card::classifier(&file, [1, 1, 2], Device::Cpu, Kind::Float).unwrap();
    let means = Tensor::from_slice(&MEANS.concat()).view([2, 1, 1, 2]).to_kind(Kind::Float);
    let variances = Tensor::ones([2], options) * VARIANCES[0];
    let guided = ClassifierGuided {
        prior: Mixture::new(&Tensor::ones([2], options), &means, &variances).unwrap(),
        classifier: Beside { classifier: &classifier, precondition: &Edm::default() },
        classes: Tensor::from_slice(&[1i64; 4]),
        guidance: weight(1.0),
    };
    let class = Gaussian::new(&means.get(1), &(Tensor::eye(2, options) * VARIANCES[0])).unwrap();
    let x = points().to_kind(Kind::Float);
    for sigma in [2.0, 0.9, 0.5, 0.3] {
        let operator: Box<dyn LinearOperator> = Box::new(Identity {});
        let likelihood = &GaussianLikelihood::new(operator, &x * 0.5 + 0.2, 0.3, [1, 1, 2]).unwrap();
        let [one, other] = [&guided as &dyn Denoiser, &class].map(|prior| {
            MomentMatching { prior, likelihood: likelihood.linear("mmps").unwrap(), iterations: 2 }.denoise(&x, sigma)
        });
        // f32: second derivatives that cancel.
        assert!(largest(&(one - other)) < 1e-4, "at {sigma}");
    }
}

const ZOO: &str = "tests/golden/zoo";

fn zoo(name: &str) -> String {
    fs::canonicalize(Path::new(ZOO).join(name)).unwrap().to_str().unwrap().to_owned()
}

fn open(name: &str, settings: &[&str]) -> Model {
    let settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
    let path = zoo(&format!("{name}/network-snapshot.pkl"));
    Model::open_with(&path, None, &settings, Device::Cpu, Kind::Float).unwrap()
}

fn golden(name: &str, file: &str) -> Tensor {
    Tensor::read_npy(Path::new(ZOO).join(name).join(file)).unwrap()
}

/// `unconditional.npy` is what EDM's program answers to no class labels, which is what it answers to zeros.
#[test]
fn the_null_class_of_edm_is_a_vector_of_zeros() {
    // One was trained with a label_dropout, the other was not.
    for (name, settings, null) in [("edm-classes", &[][..], 4), ("edm-adm", &["null_class=5"], 5)] {
        let model = open(name, settings);
        assert_eq!(model.denoiser.network.null_class(), Some(null));
        let (z, expected) = (golden(name, "z.npy"), golden(name, "unconditional.npy"));
        let answer = |classes: &[i64]| tch::no_grad(|| model.denoiser.for_classes(Some(classes)).denoise(&z, 0.9));
        let error = |answer: Tensor| largest(&(answer - &expected));
        // Two implementations in f32.
        assert!(error(answer(&[null, null])) < 1e-4 * largest(&expected), "{name}");
        assert!(error(answer(&[1, 3])) > 0.1, "{name}: a class makes a difference");
    }
    assert_eq!(open("edm-adm", &[]).denoiser.network.null_class(), None);
    let wrong = Model::open_with(
        &zoo("edm-adm/network-snapshot.pkl"),
        None,
        &["null_class=6".to_owned()],
        Device::Cpu,
        Kind::Float,
    );
    let told = wrong.unwrap_err().to_string();
    assert_eq!(
        told,
        "null_class must be one of the network's classes, or how many there are for no class at all, but is 6"
    );
}

#[test]
fn one_pass_of_twice_the_batch_gives_both_answers_whoever_else_is_in_the_batch() {
    let model = open("edm-classes", &[]);
    let z = Tensor::cat(&[golden("edm-classes", "z.npy"), golden("edm-classes", "denoised.npy")], 0);
    let classes = [0, 3, 1, 1];
    let guided = |z: &Tensor, classes: &[i64]| {
        let answers = OneNetwork::new(&model.denoiser, classes, 4);
        tch::no_grad(|| ClassifierFree { answers, guidance: weight(2.0) }.denoise(z, 0.9))
    };
    let all = guided(&z, &classes);
    for (i, class) in classes.into_iter().enumerate() {
        let alone = guided(&z.narrow(0, i as i64, 1), &[class]);
        // f32, and another order of sums.
        assert!(largest(&(all.narrow(0, i as i64, 1) - &alone)) < 1e-5 * largest(&alone));
    }
    let answers = OneNetwork::new(&model.denoiser, &classes, 4);
    let [conditional, unconditional] = tch::no_grad(|| answers.both(&z, 0.9));
    let apart = tch::no_grad(|| [answers.conditional(&z, 0.9), answers.unconditional(&z, 0.9)]);
    assert!(largest(&(conditional - &apart[0])) < 1e-5 && largest(&(unconditional - &apart[1])) < 1e-5);
}

#[test]
fn the_program_guides_by_the_null_class() {
    let place = Place::new();
    let file = zoo("edm-classes/network-snapshot.pkl");
    let sample = |flags: &[&str], out: &str| {
        let fixed = ["sample", &file, "--steps", "3", "--seeds", "0-3", "--batch", "2", "--json", "--out", out];
        let record = place.succeed(&[&fixed[..], flags].concat());
        let record: serde_json::Value = serde_json::from_str(&record).unwrap();
        record["evaluations"].as_u64().unwrap()
    };
    let evaluations = sample(&["--class", "0-3"], "plain");
    assert_eq!(sample(&["--class", "0-3", "--guidance", "0"], "zero"), evaluations);
    assert_eq!(sample(&["--class", "0-3", "--guidance", "2"], "two"), 2 * evaluations);
    assert_eq!(sample(&["--class", "0-3", "--guidance", "-1"], "none"), evaluations);
    assert_eq!(sample(&["--class", "2", "--guidance", "-1"], "any"), evaluations);
    assert_eq!(sample(&["--class", "none"], "null"), evaluations);
    assert_eq!(sample(&["--class", "none,3"], "both"), evaluations);
    let range = ["--class", "0-3", "--guidance", "2", "--guidance-range"];
    assert_eq!(sample(&[&range[..], &["0,1e-4"]].concat(), "nowhere"), evaluations);
    // Three levels from 80 to 0.002: one of them is within.
    assert_eq!(sample(&[&range[..], &["0.1,10"]].concat(), "middle"), evaluations + 1);
    let images = |out: &str| place.images(out);
    assert!(images("plain") == images("zero") && images("plain") == images("nowhere"), "bit for bit");
    assert!(images("none") == images("any"), "without the class, it makes no difference");
    assert!(images("none") == images("null"), "W = −1 and the null class are one answer");
    let (both, null, plain) = (images("both"), images("null"), images("plain"));
    assert!(both["000000.png"] == null["000000.png"] && both["000003.png"] == plain["000003.png"]);
    assert!(both["000001.png"] != null["000001.png"], "seeds take their classes in turn");
    for (one, other) in [("plain", "two"), ("plain", "none"), ("two", "middle"), ("plain", "middle")] {
        assert!(images(one) != images(other), "{one} and {other}");
    }
    // Other guidance is another run, and so is none.
    let fixed = ["sample", &file, "--steps", "3", "--seeds", "0", "--batch", "2", "--class", "0-3"];
    for (flags, out) in [(&["--guidance", "3"][..], "two"), (&["--guidance", "2"], "plain"), (&[], "two")] {
        let complaint = place.complaint(&[&fixed[..], flags, &["--out", out]].concat());
        let told = format!("{out}: holds the images of another run (guidance was");
        assert!(complaint.starts_with(&told), "{complaint}");
    }
}

#[test]
fn guided_images_do_not_depend_on_the_block_size_if_they_must_not() {
    let place = Place::new();
    let file = zoo("edm-classes/network-snapshot.pkl");
    for batch in ["1", "3"] {
        let fixed = ["sample", &file, "--steps", "2", "--seeds", "0-2", "--class", "0-3", "--guidance", "1.5"];
        place.succeed(&[&fixed[..], &["--deterministic", "--batch", batch, "--out", batch]].concat());
    }
    assert!(place.images("1") == place.images("3"));
}

/// w = −1 is the other model alone, and `denoise` is the formula.
#[test]
fn the_program_guides_by_another_model() {
    let place = Place::new();
    let (file, other) = (zoo("edm-classes/network-snapshot.pkl"), zoo("edm-ddpmpp/network-snapshot.pkl"));
    let fixed = ["--steps", "2", "--seeds", "0-1", "--batch", "2", "--out"];
    let guided = ["sample", &file, "--class", "1", "--unconditional", &other, "--guidance"];
    place.succeed(&[&guided[..], &["-1"], &fixed, &["none"]].concat());
    place.succeed(&[&["sample", other.as_str()][..], &fixed, &["other"]].concat());
    assert!(place.images("none") == place.images("other"));
    let z = zoo("edm-classes/z.npy");
    let denoise = ["denoise", &file, "--sigma", "0.9", "--class", "1,3", "--guidance", "2", &z, "clean.npy"];
    place.succeed(&[&denoise[..], &["--unconditional", &other]].concat());
    let conditional = golden("edm-classes", "denoised.npy");
    let z = golden("edm-classes", "z.npy");
    let unconditional = tch::no_grad(|| open("edm-ddpmpp", &[]).denoiser.denoise(&z, 0.9));
    let expected = &unconditional + (conditional - &unconditional) * 3.0;
    let clean = Tensor::read_npy(place.path("clean.npy")).unwrap();
    // Three times what two implementations in f32 differ by.
    assert!(largest(&(clean - &expected)) < 3e-4 * largest(&expected));
}

#[test]
fn the_program_guides_by_a_classifier() {
    let place = Place::new();
    // Class 1 is bright.
    let bright = |x: &Tensor, _: &Tensor| {
        let mean = x.flatten(1, -1).mean_dim([1i64].as_slice(), true, None::<Kind>) * 40.0;
        Tensor::cat(&[-&mean, mean], 1)
    };
    export(&place.path("bright.pt"), [2, 1, 8, 8], bright);
    let fixed = ["sample", "tiny.safetensors", "--steps", "6", "--seeds", "0-3", "--batch", "4"];
    let classifier = ["--classifier", "bright.pt", "--guidance", "1", "--class"];
    place.succeed(&[&fixed[..], &["--out", "plain"]].concat());
    let said = place.succeed(&[&fixed[..], &classifier, &["1", "--out", "bright"]].concat());
    assert!(said.contains("6 evaluations and 6 gradients of the classifier each"), "{said}");
    place.succeed(&[&fixed[..], &classifier, &["0", "--out", "dark"]].concat());
    let mean = |out: &str| {
        let pixels = |seed: u64| tweedie::files::images::read(&place.path(&format!("{out}/{seed:06}.png")), 1).unwrap();
        (0..4).map(|seed| f64::try_from(pixels(seed).to_kind(Kind::Double).mean(Kind::Double)).unwrap()).sum::<f64>()
    };
    let (dark, plain, bright) = (mean("dark"), mean("plain"), mean("bright"));
    assert!(dark < plain && plain < bright, "{dark}, {plain}, {bright}");
    // A posterior by matched moments, guided.
    let photo = Tensor::full([1, 8, 8], 100, (Kind::Uint8, Device::Cpu));
    tweedie::files::images::write_png(&place.path("photo.png"), &photo).unwrap();
    let restore = ["restore", "tiny.safetensors", "--image", "photo.png", "--task", "inpaint-random", "--samples", "2"];
    let said = place.succeed(&[&restore[..], &["--steps", "3", "--out", "restored"], &classifier, &["1"]].concat());
    assert!(said.contains("3 evaluations and 3 gradients of the classifier a sample"), "{said}");
}

#[test]
fn guidance_that_cannot_be_is_refused_in_a_sentence() {
    let place = Place::new();
    let (adm, song) = (zoo("edm-adm/network-snapshot.pkl"), zoo("edm-classes/network-snapshot.pkl"));
    let complaint = |model: &str, flags: &[&str]| {
        place.complaint(&[&["sample", model, "--seeds", "0", "--guidance"], flags].concat())
    };
    let told = complaint(&adm, &["2", "--class", "1"]);
    let remedy = "(--unconditional MODEL), or say which number stood for no class in training (--set null_class=N)";
    assert!(told.contains("has no null class, so far as its file tells") && told.ends_with(remedy), "{told}");
    let told = complaint("tiny.safetensors", &["2"]);
    assert_eq!(told, "--guidance: tiny knows no classes, so that it takes a --classifier to guide it");
    let told = complaint(&song, &["2", "--class", "1", "--unconditional", "tiny.safetensors"]);
    assert!(
        told.contains("tiny.safetensors: makes images of [1, 8, 8], but") && told.contains("[3, 16, 16]"),
        "{told}"
    );
    let told = complaint(&song, &["2", "--class", "1", "--unconditional", &adm]);
    assert!(told.starts_with("--unconditional: ") && told.ends_with("name a model without classes"), "{told}");
    let told = complaint(&song, &["2", "--class", "1", "--guidance-range", "3"]);
    assert_eq!(told, "--guidance-range: is not of the form LOW,HIGH, as 0.3,5");
    let told = complaint(&song, &["2", "--class", "1", "--guidance-range", "3,1"]);
    assert!(told.starts_with("the range of guidance must be two finite levels"), "{told}");
    assert!(complaint(&song, &["2"]).ends_with("choose with --class, for instance --class 0-3, or --class none"));
    let told = complaint(&adm, &["0", "--class", "none"]);
    assert!(told.starts_with("--class none: network-snapshot has no null class, so far as its file tells"), "{told}");
    let told = complaint("tiny.safetensors", &["2", "--classifier", "tiny.safetensors"]);
    assert!(told.starts_with("tiny.safetensors: is no TorchScript program"), "{told}");
    export(&place.path("image.pt"), [2, 1, 8, 8], |x, label| x * label.reshape([-1, 1, 1, 1]));
    let told = complaint("tiny.safetensors", &["2", "--classifier", "image.pt", "--class", "0"]);
    assert!(told.contains("makes [1, 1, 8, 8] of [1, 1, 8, 8], but [1, classes] is wanted"), "{told}");
    export(&place.path("ten.pt"), [2, 1, 8, 8], |x, label| x.flatten(1, -1).narrow(1, 0, 10) * label.reshape([-1, 1]));
    let told = complaint("tiny.safetensors", &["2", "--classifier", "ten.pt", "--class", "10"]);
    assert_eq!(told, "--class 10: tiny knows the classes 0 to 9");
}
