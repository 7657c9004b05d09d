//! A model as a prior: its denoiser for given classes, with guidance towards them.

use std::{
    fmt,
    ops::Div,
    path::{Path, PathBuf},
};

use serde::Serialize;
use serde_json::{Value, json};
use tch::Tensor;

use super::session::Session;
use crate::{
    Error,
    error::Within,
    models::card::{self, Model, sha256_of},
    networks::ScriptClassifier,
    scores::{
        denoiser::{Denoiser, ForClasses},
        guidance::{Beside, ClassifierFree, ClassifierGuided, Guidance, OneNetwork},
    },
};

/// Strength of guidance towards classes, and the network that provides it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GuidanceRequest {
    /// Weight w, which adds w ∇ log p(class | x) to the score; `None` means no guidance.
    pub weight: Option<f64>,
    /// Range (low, high]: guidance acts only where low < σ ≤ high, in data units.
    pub range: Option<[f64; 2]>,
    /// Model that gives the answers without a class, in place of the network's own null class.
    pub unconditional: Option<String>,
    /// Path of a TorchScript program forward(x, label) → logits that gives p(class | x).
    pub classifier: Option<PathBuf>,
}

/// A model with its guidance, owned.
#[derive(Debug)]
pub struct Guided {
    /// The model.
    pub model: Model,
    guidance: Guidance,
    guide: Option<Guide>,
}

/// A model as a prior, with its guidance, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Prior<'a> {
    /// The model.
    pub model: &'a Model,
    guidance: Guidance,
    guide: Option<&'a Guide>,
}

/// Source of p(class | x).
#[derive(Debug)]
enum Guide {
    /// The network itself, with the number of its null class.
    NullClass(i64),
    /// Another model for the answers without a class, with the number of its null class, if it has classes.
    Unconditional(Box<Model>, Option<i64>),
    /// A classifier of noisy images.
    Classifier { classifier: ScriptClassifier, sha256: String },
}

/// Evaluations and gradients that one image costs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Cost {
    /// Evaluations of networks.
    pub evaluations: usize,
    /// Gradients of a classifier.
    pub gradients: usize,
}

impl From<Model> for Guided {
    /// Wraps the model without guidance.
    fn from(model: Model) -> Self {
        Self { model, guidance: Guidance::default(), guide: None }
    }
}

impl<'a> From<&'a Model> for Prior<'a> {
    /// Wraps the model without guidance.
    fn from(model: &'a Model) -> Self {
        Self { model, guidance: Guidance::default(), guide: None }
    }
}

impl<'a> From<&'a Guided> for Prior<'a> {
    fn from(Guided { model, guidance, guide }: &'a Guided) -> Self {
        Self { model, guidance: *guidance, guide: guide.as_ref() }
    }
}

impl GuidanceRequest {
    /// Creates the guided model; the guiding network is opened on the device and in the precision of `session`.
    pub fn apply(&self, model: Model, session: &Session) -> Result<Guided, Error> {
        let guidance = Guidance::new(self.weight.unwrap_or(0.0), self.range)?;
        let guide = self.guide(&model, session)?;
        Ok(Guided { model, guidance, guide })
    }

    fn guide(&self, model: &Model, session: &Session) -> Result<Option<Guide>, Error> {
        if let Some(path) = &self.classifier {
            return classifier(path, model, session).map(Some);
        }
        if self.weight.is_none_or(|weight| weight == 0.0) {
            return Ok(None);
        }
        let (name, network) = (&model.card.name, &model.denoiser.network);
        if network.classes().is_none() {
            let cause = format!("`guidance`: {name} knows no classes, so that it takes a `classifier` to guide it");
            return Err(Error::request(cause));
        }
        if let Some(other) = &self.unconditional {
            return unconditional(other, model, session).within(|| "`unconditional`".to_owned()).map(Some);
        }
        network.null_class().map(|null| Some(Guide::NullClass(null))).ok_or_else(|| no_null_class(name))
    }
}

fn no_null_class(name: &str) -> Error {
    Error::request(format!(
        "`guidance`: {name} has no null class, so far as its file tells: compare it with another model (`unconditional` \
         MODEL), or say which number stood for no class in training (`set` null_class=N)"
    ))
}

fn classifier(path: &Path, model: &Model, session: &Session) -> Result<Guide, Error> {
    let classifier = card::classifier(path, model.card.image, session.device, session.kind()?)?;
    Ok(Guide::Classifier { classifier, sha256: sha256_of(path)? })
}

/// Opens another model of images of the same size that needs no class.
fn unconditional(name: &str, model: &Model, session: &Session) -> Result<Guide, Error> {
    let other = session.open(name)?;
    let (ours, theirs) = (model.card.image, other.card.image);
    if ours != theirs {
        let cause = format!("{name}: makes images of {theirs:?}, but {} of {ours:?}", model.card.name);
        return Err(Error::request(cause));
    }
    let network = &other.denoiser.network;
    let null = network.null_class();
    if network.classes().is_some() && null.is_none() {
        let cause =
            format!("{name}: needs a class with each image and has no null class: name a model without classes");
        return Err(Error::request(cause));
    }
    Ok(Guide::Unconditional(Box::new(other), null))
}

impl<'a> Prior<'a> {
    /// Returns the number of classes to choose from, without the null class; `None` for a network without classes.
    pub fn classes(&self) -> Option<i64> {
        let network = &self.model.denoiser.network;
        let null = network.null_class();
        let own = network.classes().map(|count| count - i64::from(null == Some(count - 1)));
        let guides = match self.guide {
            Some(Guide::Classifier { classifier, .. }) => Some(classifier.classes()),
            _ => None,
        };
        own.into_iter().chain(guides).min()
    }

    /// Returns the number of the null class; `None` without one, and where a classifier guides, which needs a class.
    pub fn null_class(&self) -> Option<i64> {
        self.model.denoiser.network.null_class().filter(|_| !self.is_guided_by_classifier())
    }

    /// Reports whether a classifier guides.
    pub(crate) fn is_guided_by_classifier(&self) -> bool {
        matches!(self.guide, Some(Guide::Classifier { .. }))
    }

    /// Creates the denoiser D(x, σ) for a batch of images, with one class for each.
    pub fn denoiser(&self, classes: Option<&[i64]>) -> Box<dyn Denoiser + 'a> {
        let Self { model, guidance, guide } = *self;
        let conditional = self.conditional(classes);
        match (guide, classes) {
            (Some(Guide::NullClass(null)), Some(classes)) => {
                Box::new(ClassifierFree { answers: OneNetwork::new(&model.denoiser, classes, *null), guidance })
            }
            (Some(Guide::Unconditional(other, null)), Some(classes)) => {
                let none = null.map(|null| vec![null; classes.len()]);
                Box::new(ClassifierFree {
                    answers: (conditional, other.denoiser.for_classes(none.as_deref())),
                    guidance,
                })
            }
            (Some(Guide::Classifier { classifier, .. }), Some(classes)) => {
                let precondition = &*model.denoiser.precondition;
                let (classifier, classes) = (Beside { classifier, precondition }, Tensor::from_slice(classes));
                Box::new(ClassifierGuided { prior: conditional, classifier, classes, guidance })
            }
            _ => Box::new(conditional),
        }
    }

    /// Creates the denoiser without guidance; a network without classes does not receive the classifier's classes.
    fn conditional(&self, classes: Option<&[i64]>) -> ForClasses<'a> {
        let denoiser = &self.model.denoiser;
        denoiser.for_classes(classes.filter(|_| denoiser.network.classes().is_some()))
    }

    /// Creates a replica for another thread; the parameters are shared, not copied.
    pub fn replica(&self) -> Result<Guided, Error> {
        let guide = match self.guide {
            None => None,
            Some(Guide::NullClass(null)) => Some(Guide::NullClass(*null)),
            Some(Guide::Unconditional(other, null)) => Some(Guide::Unconditional(Box::new(other.replica()?), *null)),
            Some(Guide::Classifier { classifier, sha256 }) => {
                Some(Guide::Classifier { classifier: classifier.clone(), sha256: sha256.clone() })
            }
        };
        Ok(Guided { model: self.model.replica()?, guidance: self.guidance, guide })
    }

    /// Counts the evaluations and gradients of scores at these σ.
    pub fn cost(&self, sigmas: impl Iterator<Item = f64>) -> Cost {
        let each = |sigma: f64| match self.guide {
            None => Cost { evaluations: 1, gradients: 0 },
            Some(Guide::Classifier { .. }) => {
                Cost { evaluations: 1, gradients: usize::from(self.guidance.at(sigma) != 0.0) }
            }
            Some(_) => Cost { evaluations: self.guidance.answers(sigma), gradients: 0 },
        };
        sigmas.map(each).fold(Cost::default(), |total, one| Cost {
            evaluations: total.evaluations + one.evaluations,
            gradients: total.gradients + one.gradients,
        })
    }

    /// Returns the guidance for the record of a run; `None` without guidance.
    pub fn record(&self) -> Result<Option<Value>, Error> {
        let by = match self.guide {
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

    /// Computes the cost for each of `images`, rounded up.
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
