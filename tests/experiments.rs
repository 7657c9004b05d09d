//! Experiments: sets with exact scores, tables of figures, and the command that makes them.

use std::fs;

use tch::{Device, Kind, Tensor};
use tweedie::{
    numbers::{
        plan::AnySampler,
        samplers::Ddim,
        schedule::{AnySchedule, Karras},
        sde::{AnySde, Vp},
        solvers::{Heun, Rk45, Unipc},
    },
    run::experiment::{
        self, Caption, MethodFigure, PointMeasure, PointStart, PointsExperiment, SamplingMethod, mean_and_spread, table,
    },
    scores::{
        denoiser::{Denoiser, Score},
        toy::{self, AnyToyData, BiasedScore, EightGaussians, Line, Moons, SwissRoll, ToyData},
    },
};

use crate::{
    cli::Place,
    common::{Line as OnTheLine, relative},
};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

fn golden() -> Line {
    Line { components: OnTheLine::golden().components }
}

fn mean(x: &Tensor) -> f64 {
    x.mean(Kind::Double).double_value(&[])
}

/// Points are drawn from the mixture whose score is used: their moments are its own.
#[test]
fn sets_are_the_mixtures_that_their_scores_belong_to() {
    let sets: [(&dyn ToyData, i64); 4] =
        [(&golden(), 1), (&EightGaussians::default(), 2), (&Moons::default(), 2), (&SwissRoll::default(), 2)];
    for (set, dimensions) in sets {
        let drawn = toy::draw(set, 40_000, 7).unwrap();
        assert_eq!(drawn.size(), [40_000, 1, 1, dimensions]);
        let components = set.components().unwrap();
        let total: f64 = components.iter().map(|component| component.weight).sum();
        for axis in 0..dimensions {
            let own = drawn.select(3, axis);
            let expected = components.iter().map(|c| c.weight / total * c.place[axis as usize]).sum::<f64>();
            let square = components
                .iter()
                .map(|c| c.weight / total * (c.place[axis as usize].powi(2) + c.deviation * c.deviation));
            let square = square.sum::<f64>();
            // Five standard errors of a mean of 40,000.
            let bound = 5.0 * (square / 40_000.0).sqrt();
            assert!((mean(&own) - expected).abs() < bound, "{set:?} axis {axis}");
            assert!(relative(mean(&own.square()), square) < 0.05, "{set:?} axis {axis}");
        }
        // Where noise hides everything, the best guess is the mean.
        let x = Tensor::zeros([1, 1, 1, dimensions], F64);
        let guess = toy::denoiser(set).unwrap().denoise(&x, 1e4);
        assert!((mean(&guess) - mean(&drawn)).abs() < 0.05);
    }
}

/// On the line W₂ is that of the sorted points; a shift of both coordinates by (a, b) costs √((a² + b²)/2) sliced.
#[test]
fn distances_are_those_of_quantiles() {
    let column = |values: &[f64]| Tensor::from_slice(values).reshape([-1, 1, 1, 1]);
    let found = toy::distance(&column(&[3.0, 0.0, 1.0]), &column(&[2.0, 1.0, 5.0]));
    assert!(relative(found, ((1.0 + 1.0 + 4.0) / 3.0f64).sqrt()) < 1e-14);
    let roll = toy::draw(&SwissRoll::default(), 500, 1).unwrap();
    let shift = Tensor::from_slice(&[0.3, -0.4]).reshape([1, 1, 1, 2]);
    // 64 directions average cos² to ½ exactly.
    assert!(relative(toy::distance(&roll, &(&roll + shift)), 0.5 / 2f64.sqrt()) < 1e-12);
}

/// The score of z = α x errs by a vector of the length that is said.
#[test]
fn scores_err_in_the_frame_of_their_process() {
    let exact = toy::denoiser(&EightGaussians::default()).unwrap();
    let sde = AnySde::Vp(Vp::default());
    let x = Tensor::from_slice(&[0.4, -0.2]).reshape([1, 1, 1, 2]);
    let sigma: f64 = 3.0;
    let off = BiasedScore { exact: &exact, sde: &sde, error: 0.2 }.score(&x, sigma) - exact.score(&x, sigma);
    let alpha = (1.0 + sigma * sigma).sqrt().recip();
    let length = off.square().sum(Kind::Double).double_value(&[]).sqrt();
    assert!(relative(length / alpha, 0.2) < 1e-10, "{length}");
}

fn method(name: &str, sampler: AnySampler) -> SamplingMethod {
    let schedule = AnySchedule::Karras(Karras { rho: 7.0, max: None, min: None });
    SamplingMethod { name: name.to_owned(), sampler, schedule, sde: None, evaluations: None }
}

/// Along paths the orders of the table are the solvers' own; from the prior the distance falls to that of another draw.
#[test]
fn figures_on_points_are_what_they_are_called() {
    let mut experiment = PointsExperiment {
        kind: experiment::Kind::Points,
        about: "a test".to_owned(),
        // One component: between two, a few points that nearly end in the other hide the order until steps are very short.
        data: AnyToyData::Line(Line { components: vec![[1.0, 0.4, 0.3]] }),
        count: 400,
        measure: PointMeasure::Path,
        levels: vec![40, 80, 160],
        range: (0.05, 20.0),
        start: PointStart::Set,
        errors: vec![0.0],
        methods: vec![
            method("Euler", AnySampler::Ddim(Ddim { eta: 0.0 })),
            method("Heun", AnySampler::Heun(Heun::default())),
        ],
    };
    let figures = experiment.run(&()).unwrap();
    let slope = |name: &str| {
        let row: Vec<f64> = figures.iter().filter(|f| f.method == name).map(|f| f.value).collect();
        (row[0] / row[2]).ln() / 4f64.ln()
    };
    // The tolerance of orders everywhere.
    assert!((slope("Euler") - 1.0).abs() < 0.15 && (slope("Heun") - 2.0).abs() < 0.15, "{figures:?}");
    assert_eq!(experiment.floor().unwrap(), None);
    (experiment.measure, experiment.start, experiment.count) = (PointMeasure::Distance, PointStart::Prior, 4000);
    (experiment.levels, experiment.errors) = (vec![60], vec![0.0, 1.0]);
    let figures = experiment.run(&()).unwrap();
    let floor = experiment.floor().unwrap().unwrap();
    // Two draws of 4,000 lie about as far from each other as good samples do from one; with the score off, they do not.
    let heun = |name: &str| figures.iter().find(|f| f.method == name).unwrap().value;
    assert!(heun("Heun") < 3.0 * floor + 0.03, "{figures:?}, floor {floor}");
    assert!(heun("Heun, score off by 1") > 2.0 * heun("Heun"), "{figures:?}");
}

/// The most levels that a number of evaluations pays for.
#[test]
fn methods_stay_within_their_evaluations() {
    let within =
        |sampler, budget| method("m", sampler).within(budget, (0.01, 10.0)).map(|(plan, spent)| (plan.steps, spent));
    assert_eq!(within(AnySampler::Ddim(Ddim { eta: 0.0 }), 10), Some((10, 10)));
    // 2 K − 1.
    assert_eq!(within(AnySampler::Heun(Heun::default()), 10), Some((5, 9)));
    assert_eq!(within(AnySampler::Unipc(Unipc::default()), 10), Some((10, 10)));
    assert_eq!(within(AnySampler::Rk45(Rk45::default()), 10), None);
}

#[test]
fn tables_have_a_row_for_each_method_and_say_what_is_missing() {
    let figure = |method: &str, at, value, spread| MethodFigure {
        method: method.to_owned(),
        at,
        value,
        spread,
        evaluations: at,
    };
    let figures = [figure("a", 5, 12.345, Some(0.1)), figure("a", 10, 3.0864, None), figure("b", 10, 4.2e-5, None)];
    let caption = Caption { title: "t", columns: "evaluations", value: "A distance", floor: Some(0.5), order: true };
    let text = table(&figures, &caption);
    let wanted = "| evaluations | 5 | 10 | order |\n| --- | --- | --- | --- |\n| a | 12.3 ± 0.100 | 3.09 | 2.00 |\n\
                  | b | – | 4.20e-5 | – |\n\nA distance. As many of the set itself: 0.500.\n";
    assert_eq!(text, wanted);
    assert_eq!(mean_and_spread(&[1.0, 3.0]), (2.0, Some(2f64.sqrt())));
    assert_eq!(mean_and_spread(&[4.0]), (4.0, None));
}

/// Images are drawn by the shipped network, measured, and not drawn again.
#[test]
fn run_makes_a_table_a_plot_and_figures() {
    let place = Place::new();
    let demo = fs::canonicalize("experiments/demo").unwrap();
    let reference = format!("{{kind: folder, path: {}, channels: 1}}", demo.display());
    let text = format!(
        "{{kind: distance, about: A test, model: fashion-mnist, images: 2, blocks: 2, reference: {reference},
           floor: {reference}, network: fashion-classifier, evaluations: [1, 2],
           methods: [{{name: \"DDIM, η = 0\", sampler: {{kind: ddim, eta: 0.0}}, schedule: {{kind: karras, max: 40}}}},
                     {{name: Heun, sampler: {{kind: heun}}, schedule: {{kind: karras, max: 40}}}}]}}"
    );
    fs::write(place.path("small.yaml"), text).unwrap();
    let flags = ["run", "small.yaml", "--results", "results", "--out", "drawn"];
    let said = place.succeed(&flags);
    assert!(said.contains("| DDIM, η = 0 |") && said.contains("table and plot in results/small.md"), "{said}");
    let written = |name: &str| fs::read(place.path(&format!("results/{name}"))).unwrap();
    let figures: Vec<MethodFigure> = serde_json::from_slice(&written("small.json")).unwrap();
    let at: Vec<_> = figures.iter().map(|f| (f.method.as_str(), f.at, f.evaluations)).collect();
    assert_eq!(at, [("DDIM, η = 0", 1, 1), ("DDIM, η = 0", 2, 2), ("Heun", 1, 1), ("Heun", 2, 1)]);
    assert!(figures.iter().all(|f| f.value > 0.0 && f.spread.is_some()));
    assert!(String::from_utf8(written("small.md")).unwrap().starts_with("# A test\n\n`tweedie run small.yaml`"));
    assert!(place.path("drawn/small/DDIM--η-=-0/2/000003.png").exists());
    let drawn = fs::metadata(place.path("drawn/small/Heun/1/000000.png")).unwrap().modified().unwrap();
    let before = written("small.json");
    place.succeed(&flags);
    assert_eq!(fs::metadata(place.path("drawn/small/Heun/1/000000.png")).unwrap().modified().unwrap(), drawn);
    assert_eq!(written("small.json"), before);
}

#[test]
fn slips_in_an_experiment_are_told() {
    let place = Place::new();
    let told = |text: &str| {
        fs::write(place.path("slip.yaml"), text).unwrap();
        let output = place.run(&["run", "slip.yaml"]);
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    let kind = told("kind: point\nabout: x\n");
    assert!(kind.starts_with("error: slip.yaml: line 1 column") && kind.contains("did you mean `points`"), "{kind}");
    let key = told("kind: points\nabout: x\nlevel: [3]\n");
    assert!(key.starts_with("error: slip.yaml: line 3 column") && key.contains("did you mean `levels`"), "{key}");
    let set = told("kind: points\nabout: x\ndata: {kind: swiss-rol}\n");
    assert!(set.contains("did you mean `swiss-roll`"), "{set}");
}
