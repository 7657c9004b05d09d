//! `--guidance`: how far towards their classes images go.

use std::{fmt, ops::Div, path::PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};
use tch::{Device, Tensor};
use tweedie::{
    models::card::{self, Model},
    networks::ScriptClassifier,
    scores::{
        denoiser::{Denoiser, OfClass},
        guidance::{Beside, ClassifierFree, ClassifierGuided, Guidance, OneNetwork},
    },
};

use super::{Common, sample::digest};

/// For all that knows classes.
#[derive(Args, Debug, Default)]
pub struct GuidanceArgs {
    /// Adds W ∇ log p(class | x) to the score. p is what the network's answers with and without the class imply: other
    /// programs' guidance scale is 1 + W, and −1 leaves only the answer without [default: 0]
    #[arg(long, value_name = "W", allow_negative_numbers = true, help_heading = "Classes")]
    guidance: Option<f64>,
    /// Guides only where LOW < σ ≤ HIGH, in data units (−1 … 1)
    #[arg(
        long,
        value_name = "LOW,HIGH",
        value_delimiter = ',',
        num_args = 1,
        requires = "guidance",
        help_heading = "Classes"
    )]
    guidance_range: Vec<f64>,
    /// Takes the answers without the class from this model, in place of the network's own for its null class
    #[arg(long, value_name = "MODEL", requires = "guidance", conflicts_with = "classifier", help_heading = "Classes")]
    unconditional: Option<String>,
    /// Takes p from this TorchScript program: forward(x, label) → logits, told of x and σ what the network is told
    #[arg(long, value_name = "FILE.pt", requires = "guidance", help_heading = "Classes")]
    classifier: Option<PathBuf>,
}

/// A model, and what guides it.
pub struct Prior {
    /// The model.
    pub model: Model,
    guidance: Guidance,
    guide: Option<Guide>,
}

/// Who knows p(class | x).
enum Guide {
    /// The network itself, which has this number for no class.
    NullClass(i64),
    /// The network, compared with another and with the number that this has for no class, if it has classes.
    Unconditional(Box<Model>, Option<i64>),
    /// A classifier.
    Classifier { classifier: ScriptClassifier, sha256: String },
}

/// What one image costs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Evaluations of networks.
    pub evaluations: usize,
    /// Gradients of a classifier.
    pub gradients: usize,
}

impl GuidanceArgs {
    /// The model as the flags guide it.
    pub fn over(&self, model: Model, common: &Common, device: Device) -> Result<Prior> {
        let range = match *self.guidance_range {
            [] => None,
            [low, high] => Some([low, high]),
            _ => bail!("--guidance-range: is not of the form LOW,HIGH, as 0.3,5"),
        };
        let guidance = Guidance::new(self.guidance.unwrap_or(0.0), range)?;
        let guide = self.guide(&model, common, device)?;
        Ok(Prior { model, guidance, guide })
    }

    fn guide(&self, model: &Model, common: &Common, device: Device) -> Result<Option<Guide>> {
        if let Some(path) = &self.classifier {
            let classifier = card::classifier(path, model.card.image, device, common.kind(device)?)?;
            return Ok(Some(Guide::Classifier { classifier, sha256: digest(path)? }));
        }
        if self.guidance.is_none_or(|weight| weight == 0.0) {
            return Ok(None);
        }
        let (name, network) = (&model.card.name, &model.denoiser.network);
        if network.classes().is_none() {
            bail!("--guidance: {name} knows no classes, so that it takes a --classifier to guide it");
        }
        if let Some(other) = &self.unconditional {
            return unconditional(other, model, common, device).context("--unconditional").map(Some);
        }
        match network.null_class() {
            Some(null) => Ok(Some(Guide::NullClass(null))),
            None => bail!(
                "--guidance: {name} has no null class, so far as its file tells: compare it with another model \
                 (--unconditional MODEL), or say which number stood for no class in training (--set null_class=N)"
            ),
        }
    }
}

/// Another model of the same images, which can do without a class.
fn unconditional(name: &str, model: &Model, common: &Common, device: Device) -> Result<Guide> {
    let other = common.load(name, None, &[], device)?;
    let (ours, theirs) = (model.card.image, other.card.image);
    if ours != theirs {
        bail!("{name}: makes images of {theirs:?}, but {} of {ours:?}", model.card.name);
    }
    let network = &other.denoiser.network;
    let null = network.null_class();
    if network.classes().is_some() && null.is_none() {
        bail!("{name}: has to be told a class, and has none for no class: name a model without classes");
    }
    Ok(Guide::Unconditional(Box::new(other), null))
}

impl From<Model> for Prior {
    /// The model as it is.
    fn from(model: Model) -> Self {
        Self { model, guidance: Guidance::default(), guide: None }
    }
}

impl Prior {
    /// How many classes there are to choose from, if any; that which stands for none is not among them.
    pub fn classes(&self) -> Option<i64> {
        let network = &self.model.denoiser.network;
        let null = network.null_class();
        let own = network.classes().map(|count| count - i64::from(null == Some(count - 1)));
        let told = match &self.guide {
            Some(Guide::Classifier { classifier, .. }) => Some(classifier.classes()),
            _ => None,
        };
        own.into_iter().chain(told).min()
    }

    /// D(x, σ) of images of these classes, one for each of a batch.
    pub fn of(&self, classes: Option<&[i64]>) -> Box<dyn Denoiser + '_> {
        let Self { model, guidance, guide } = self;
        let (guidance, conditional) = (*guidance, self.told(classes));
        match (guide, classes) {
            (Some(Guide::NullClass(null)), Some(classes)) => {
                Box::new(ClassifierFree { answers: OneNetwork::new(&model.denoiser, classes, *null), guidance })
            }
            (Some(Guide::Unconditional(other, null)), Some(classes)) => {
                let none = null.map(|null| vec![null; classes.len()]);
                Box::new(ClassifierFree { answers: (conditional, other.denoiser.of(none.as_deref())), guidance })
            }
            (Some(Guide::Classifier { classifier, .. }), Some(classes)) => {
                let precondition = &*model.denoiser.precondition;
                let (classifier, classes) = (Beside { classifier, precondition }, Tensor::from_slice(classes));
                Box::new(ClassifierGuided { prior: conditional, classifier, classes, guidance })
            }
            _ => Box::new(conditional),
        }
    }

    /// Without guidance; classes that a classifier alone knows are not for the network.
    fn told(&self, classes: Option<&[i64]>) -> OfClass<'_> {
        let denoiser = &self.model.denoiser;
        denoiser.of(classes.filter(|_| denoiser.network.classes().is_some()))
    }

    /// Another with the same parameters, for a thread of its own: they are shared, not copied.
    pub fn replica(&self) -> Result<Self> {
        let guide = match &self.guide {
            None => None,
            Some(Guide::NullClass(null)) => Some(Guide::NullClass(*null)),
            Some(Guide::Unconditional(other, null)) => Some(Guide::Unconditional(Box::new(other.replica()?), *null)),
            Some(Guide::Classifier { classifier, sha256 }) => {
                Some(Guide::Classifier { classifier: classifier.clone(), sha256: sha256.clone() })
            }
        };
        Ok(Self { model: self.model.replica()?, guidance: self.guidance, guide })
    }

    /// What it costs to ask for scores at these σ.
    pub fn cost(&self, sigmas: impl Iterator<Item = f64>) -> Cost {
        let each = |sigma: f64| match &self.guide {
            None => Cost { evaluations: 1, gradients: 0 },
            Some(Guide::Classifier { .. }) => {
                Cost { evaluations: 1, gradients: usize::from(self.guidance.at(sigma) != 0.0) }
            }
            Some(_) => Cost { evaluations: self.guidance.answers(sigma), gradients: 0 },
        };
        sigmas.map(each).fold(Cost { evaluations: 0, gradients: 0 }, |total, one| Cost {
            evaluations: total.evaluations + one.evaluations,
            gradients: total.gradients + one.gradients,
        })
    }

    /// For the record of a run; none without guidance.
    pub fn record(&self) -> Result<Option<Value>> {
        let by = match &self.guide {
            None => return Ok(None),
            Some(Guide::NullClass(none)) => json!({"null_class": none}),
            Some(Guide::Unconditional(other, none)) => {
                json!({"unconditional": other.card.name, "sha256": other.sha256()?, "null_class": none})
            }
            Some(Guide::Classifier { sha256, .. }) => json!({"classifier": sha256}),
        };
        Ok(Some(json!({"how": self.guidance, "by": by})))
    }
}

impl Div<usize> for Cost {
    type Output = Self;

    /// For each of so many images, rounded up.
    fn div(self, images: usize) -> Self {
        let each = |total: usize| total.div_ceil(images.max(1));
        Self { evaluations: each(self.evaluations), gradients: each(self.gradients) }
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} evaluations", self.evaluations)?;
        if self.gradients > 0 {
            write!(f, " and {} gradients of the classifier", self.gradients)?;
        }
        Ok(())
    }
}
