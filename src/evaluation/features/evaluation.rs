//! Evaluation of a set of images: the network of features and its figures.

use std::{
    cell::OnceCell,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use super::{CollectOptions, Collected, Probe, Progress, Published, Resize, collect};
use crate::{
    Error,
    evaluation::metrics::{
        Moments, NEAREST, Neighbourhood, Statistics, bootstrap, cmmd, extrapolated, kid, mind, neighbours,
    },
    files::{
        data::{AnyData, Reader, Sizes, located},
        npz,
    },
    numbers::registry::{Alias, Info, List},
};

/// Declares the figures: a row has the name, other names, a line, the source, and what each figure needs.
macro_rules! figures {
    ($($(#[doc = $doc:literal])+ $metric:ident: $name:literal [$($alias:literal),*], $what:literal, $source:literal, $needs:literal;)+) => {
        /// Figures of a set of images.
        #[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
        pub enum Metric {
            $($(#[doc = $doc])+ #[serde(rename = $name $(, alias = $alias)*)] $metric),+
        }

        impl Metric {
            /// All of them.
            pub const LIST: List = List {
                noun: "metric",
                entries: &[$(&Info {
                    text: concat!($($doc, "\n"),+),
                    facts: &[("features", $needs)],
                    aliases: &[$(Alias { name: $alias, sets: &[] }),*],
                    ..Info::new($name, $what, $source)
                }),+],
                others: &[],
                sequence: None,
            };

            /// The metric that has this name or alias.
            fn named(name: &str) -> Option<Self> {
                match name {
                    $($name $(| $alias)* => Some(Self::$metric),)+
                    _ => None,
                }
            }
        }
    };
}

figures! {
    /// The Fréchet distance.
    Frechet: "frechet" ["fid"], "distance of two normal distributions", "Heusel et al. 2017", "mean, covariance";
    /// The kernel distance, over subsets.
    Kid: "kid" [], "kernel distance, the mean over subsets", "Bińkowski et al. 2018", "all kept";
    /// The Inception Score, over parts.
    Is: "is" [], "Inception Score, the mean over parts", "Salimans et al. 2016", "none: logits";
    /// Precision and recall (k = 3), density and coverage (k = 5).
    Prdc: "prdc" [], "precision, recall, density, coverage", "Kynkäänniemi 2019, Naeem 2020", "all kept";
    /// The Fréchet distance in spatial features.
    Sfid: "sfid" [], "Fréchet distance in spatial features", "Nash et al. 2021", "mean, covariance";
    /// The Fréchet distance of infinitely many images, extrapolated.
    Infinity: "infinity" [], "Fréchet distance of infinitely many images", "Chong & Forsyth 2020", "all kept";
    /// The mean discrepancy of features of length one, such as CLIP's.
    Cmmd: "cmmd" [], "mean discrepancy of features of length one", "Jayasumana et al. 2024", "all kept";
    /// The sliced Wasserstein distance.
    Mind: "mind" [], "sliced Wasserstein distance", "Berthet et al. 2026", "all kept";
}

impl Metric {
    /// The metric that has this name.
    pub fn parse(name: &str) -> Result<Self, Error> {
        let found = Self::named(name);
        found.ok_or_else(|| {
            Error::parameter("a metric", "frechet (or fid), kid, is, prdc, sfid, infinity, cmmd or mind", name)
        })
    }

    /// Whether mean and covariance of the reference are not enough.
    fn needs_features(self) -> bool {
        matches!(self, Self::Kid | Self::Prdc | Self::Cmmd | Self::Mind)
    }
}

/// A feature network, and figures that it gives.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// The network, as [`Probe::open`] takes it.
    pub network: String,
    /// Resizing to the network's size.
    #[serde(default)]
    pub resize: Option<Resize>,
    /// Number of Inception's features.
    #[serde(default)]
    pub features: Option<i64>,
    /// The figures, the first of which heads a table.
    #[serde(default = "frechet")]
    pub metrics: Vec<Metric>,
    /// Sets drawn with replacement for the spread of the Fréchet distance; fewer than 2 draw none, and keep no features.
    #[serde(default = "ten")]
    pub bootstrap: u64,
    /// Subsets for KID.
    #[serde(default = "hundred")]
    pub subsets: u64,
    /// Images in a subset for KID.
    #[serde(default = "thousand")]
    pub subset_size: i64,
    /// Parts for the Inception Score.
    #[serde(default = "parts")]
    pub parts: usize,
    /// Whether images of files are turned as their EXIF says. Published programs measure them as their pixels lie.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exif: bool,
    /// Seed of all that is drawn at random.
    #[serde(default)]
    pub seed: u64,
}

fn frechet() -> Vec<Metric> {
    vec![Metric::Frechet]
}

fn ten() -> u64 {
    10
}

fn hundred() -> u64 {
    100
}

fn thousand() -> i64 {
    1000
}

fn parts() -> usize {
    10
}

/// The images that others should resemble, as files and the command line name them.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Target {
    /// A .npz file of statistics or features, or what [`AnyData::at`] takes.
    File(PathBuf),
    /// Anything else.
    Data(AnyData),
}

impl Target {
    /// The target with its file in `folder`, where it is not at its own path but there.
    #[must_use]
    pub fn located(&self, folder: Option<&Path>) -> Self {
        match self {
            Self::File(path) => Self::File(located(path, folder)),
            Self::Data(data) => Self::Data(data.located(folder)),
        }
    }

    /// Name in messages.
    fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Data(_) => "the reference".to_owned(),
        }
    }

    /// The archive that may hold statistics.
    pub fn archive(&self) -> Option<&Path> {
        match self {
            Self::File(path) | Self::Data(AnyData::Npz(crate::files::data::Npz { path })) => {
                Some(path.as_path()).filter(|path| path.extension().is_some_and(|ending| ending == "npz"))
            }
            Self::Data(_) => None,
        }
    }

    /// Images of the target, read with so many channels where the file does not say.
    pub fn data(&self, channels: i64) -> AnyData {
        match self {
            Self::File(path) => AnyData::at(path, channels),
            Self::Data(data) => data.clone(),
        }
    }
}

/// Statistics of the images that others should resemble.
#[derive(Debug)]
pub struct Reference {
    /// Statistics of the features.
    pub statistics: Statistics,
    /// Statistics of the spatial features.
    pub spatial: Option<Statistics>,
    /// The features themselves.
    pub features: Option<Tensor>,
    /// The reference's images, where there were any.
    pub images: Option<Collected>,
    /// Neighbourhoods of the features, computed when they are first asked for.
    neighbourhood: OnceCell<Neighbourhood>,
}

/// A figure with all that it has to be called by.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// Key in records.
    pub key: &'static str,
    /// Name in tables.
    pub name: String,
    /// The figure.
    pub value: f64,
    /// The standard deviation of the value.
    pub spread: Option<f64>,
    /// The items over which the deviation was taken.
    pub spread_of: Option<String>,
}

impl Evaluation {
    /// The network; its file is in `folder` where it is not where it is named.
    pub fn open(&self, folder: Option<&Path>, device: Device) -> Result<Probe, Error> {
        let network = match self.network.split_once(':') {
            Some((kind, path)) => format!("{kind}:{}", located(Path::new(path), folder).display()),
            None => located(Path::new(&self.network), folder).display().to_string(),
        };
        Probe::open(&network, self.resize, self.features, device)
    }

    fn has(&self, metric: Metric) -> bool {
        self.metrics.contains(&metric)
    }

    fn needs_features(&self) -> bool {
        self.metrics.iter().any(|metric| metric.needs_features())
    }

    /// Least number of images for its figures.
    pub fn fewest(&self) -> u64 {
        let parts = if self.has(Metric::Is) { self.parts as u64 } else { 0 };
        parts.max(if self.has(Metric::Prdc) { NEAREST as u64 + 1 } else { 2 })
    }

    /// Refuses parts of fewer images than there are parts, and subsets of which no distance is defined.
    pub fn enough(&self, images: usize) -> Result<(), Error> {
        let parts = self.parts;
        if self.has(Metric::Is) && !(1..=images).contains(&parts) {
            return Err(Error::request(format!(
                "the Inception Score of {images} images cannot be the mean over {parts} parts of them: `parts` of 1 to \
                 {images} are wanted"
            )));
        }
        if self.has(Metric::Kid) && self.subset_size < 2 {
            return Err(Error::parameter("`subset_size`", "at least 2", self.subset_size));
        }
        Ok(())
    }

    /// Sums to keep of a set that is, or is not, compared with a reference.
    pub fn wanted(&self, compared: bool) -> CollectOptions {
        let spread = self.has(Metric::Infinity) || (self.has(Metric::Frechet) && self.bootstrap > 1);
        CollectOptions {
            spatial: self.has(Metric::Sfid),
            score: self.has(Metric::Is).then_some(self.parts),
            features: compared && (spread || self.needs_features()),
        }
    }

    /// Reads the reference's statistics, if `target` holds any and they are enough, or else measures its images.
    pub fn reference(
        &self,
        probe: &Probe,
        target: &Target,
        batch: usize,
        progress: &mut Progress,
    ) -> Result<Reference, Error> {
        let published = target.archive().map(Published::read).transpose()?.flatten();
        // ADM's files hold statistics of the whole set, and some of its images for precision and recall.
        let has_images = || -> Result<bool, Error> {
            let Some(path) = target.archive() else { return Ok(false) };
            Ok(npz::names(path)?.iter().any(|name| name == "arr_0"))
        };
        let reference = match published {
            Some(found) if !(self.needs_features() && found.features.is_none() && has_images()?) => {
                let Published { statistics, spatial, features } = found;
                Reference { statistics, spatial, features, images: None, neighbourhood: OnceCell::new() }
            }
            published => self.measured(probe, target, published, batch, progress)?,
        };
        fits(probe, target, &reference.statistics)?;
        if self.needs_features() && reference.features.is_none() {
            let why =
                "kid, prdc, cmmd and mind need the images of the reference: its mean and covariance are not enough";
            return Err(Error::file(target.name(), why));
        }
        if self.has(Metric::Sfid) && reference.spatial.is_none() {
            let why = "sfid needs mu_s and sigma_s, as ADM's files have them, or the images of the reference";
            return Err(Error::file(target.name(), why));
        }
        Ok(reference)
    }

    /// Refuses a reference that is not there, or is of other features, before anything is measured.
    pub fn check(&self, probe: &Probe, target: &Target) -> Result<(), Error> {
        match target.archive().map(Published::read).transpose()?.flatten() {
            Some(published) => fits(probe, target, &published.statistics),
            None => self.reader(probe, target).map(drop),
        }
    }

    /// Images of `target` as they are measured.
    pub fn reader(&self, probe: &Probe, target: &Target) -> Result<Reader, Error> {
        // Figures of images that were resized differently cannot be compared: many sizes need a way that is named.
        let sizes = match (self.resize, probe.resize) {
            (Some(_), _) => Sizes::Any,
            (None, Some(_)) => Sizes::One(": `resize` names a way for images of many sizes"),
            (None, None) => Sizes::One(""),
        };
        Ok(target.data(probe.channels()).reader()?.turned(self.exif).sized(sizes))
    }

    /// Measures the reference's images; statistics that were published beside them count for more, since they may be of
    /// more images.
    fn measured(
        &self,
        probe: &Probe,
        target: &Target,
        published: Option<Published>,
        batch: usize,
        progress: &mut Progress,
    ) -> Result<Reference, Error> {
        let mut reader = self.reader(probe, target)?;
        let wanted = CollectOptions { score: None, features: self.needs_features(), ..self.wanted(true) };
        let count = reader.count();
        let mut images = collect(probe, &mut reader, (count, batch), wanted, progress)?;
        let spatial = images.spatial.as_ref().map(Moments::statistics).transpose()?;
        let (statistics, spatial) = match published {
            Some(published) => (published.statistics, published.spatial.or(spatial)),
            None => (images.moments.statistics()?, spatial),
        };
        let features = images.features.take();
        Ok(Reference { statistics, spatial, features, images: Some(images), neighbourhood: OnceCell::new() })
    }

    /// All figures, each under its own name; without a reference, those that need none.
    pub fn figures(
        &self,
        probe: &Probe,
        images: &Collected,
        reference: Option<&Reference>,
    ) -> Result<Vec<Figure>, Error> {
        let mut figures = Vec::new();
        for metric in &self.metrics {
            match (metric, reference) {
                (Metric::Is, _) => figures.push(self.score(probe, images)?),
                (_, None) => {}
                (Metric::Prdc, Some(reference)) => figures.extend(prdc(probe, images, reference)?),
                (Metric::Frechet, Some(reference)) => figures.push(self.frechet(probe, images, reference)?),
                (Metric::Sfid, Some(reference)) => figures.push(sfid(images, reference)?),
                (Metric::Kid, Some(reference)) => figures.push(self.kid(probe, images, reference)?),
                (Metric::Infinity, Some(reference)) => figures.push(self.infinity(probe, images, reference)?),
                (Metric::Cmmd, Some(reference)) => {
                    let value = cmmd(kept(images.features.as_ref())?, kept(reference.features.as_ref())?)?;
                    figures.push(figure("cmmd", &format!("CMMD's formula in {}", probe.name), value));
                }
                (Metric::Mind, Some(reference)) => {
                    let value = mind(kept(images.features.as_ref())?, kept(reference.features.as_ref())?, self.seed)?;
                    figures.push(figure("mind", &format!("MIND in {}", probe.name), value));
                }
            }
        }
        Ok(figures)
    }

    fn frechet(&self, probe: &Probe, images: &Collected, reference: &Reference) -> Result<Figure, Error> {
        let value = images.moments.statistics()?.distance(&reference.statistics)?;
        let found = figure("frechet", &title(probe, images), value);
        Ok(match &images.features {
            Some(features) if self.bootstrap > 1 => {
                let spread = bootstrap(features, &reference.statistics, self.bootstrap, self.seed)?.deviation;
                found.with(spread, format!("bootstrap of {}", self.bootstrap))
            }
            _ => found,
        })
    }

    fn infinity(&self, probe: &Probe, images: &Collected, reference: &Reference) -> Result<Figure, Error> {
        let value = extrapolated(kept(images.features.as_ref())?, &reference.statistics, self.seed)?;
        Ok(figure("infinity", &format!("{}, extrapolated to infinitely many images", title(probe, images)), value))
    }

    fn kid(&self, probe: &Probe, images: &Collected, reference: &Reference) -> Result<Figure, Error> {
        let [own, others] = [kept(images.features.as_ref())?, kept(reference.features.as_ref())?];
        let found = kid(own, others, self.subsets, self.subset_size, self.seed)?;
        let name = if probe.is_fid() { "KID".to_owned() } else { format!("kernel distance in {}", probe.name) };
        let figure = figure("kid", &name, found.mean);
        // Subsets that are both whole sets are all the same.
        let (own, others) = (own.size()[0], others.size()[0]);
        if own == others && self.subset_size >= own {
            return Ok(figure);
        }
        Ok(figure.with(found.deviation, format!("{} subsets", self.subsets)))
    }

    fn score(&self, probe: &Probe, images: &Collected) -> Result<Figure, Error> {
        let score = images.score.as_ref().ok_or_else(|| lacking("is", "logits"))?;
        let found = score.value()?;
        let own = || format!("Inception Score's formula by the classes of {} (not IS)", probe.name);
        let name = if probe.is_inception() { "Inception Score".to_owned() } else { own() };
        Ok(figure("is", &name, found.mean).with(found.deviation, format!("{} parts in order", self.parts)))
    }

    /// Warnings of anything that makes figures wrong or incomparable.
    pub fn warnings(&self, probe: &Probe, images: &Collected, reference: Option<&Reference>) -> Vec<String> {
        let mut warnings = self.of_images(probe, images);
        warnings.extend(self.of_files(probe, images, reference.and_then(|reference| reference.images.as_ref())));
        if let Some(reference) = reference {
            warnings.extend(self.of_distance(probe, images, reference));
        }
        warnings
    }

    fn of_images(&self, probe: &Probe, images: &Collected) -> Vec<String> {
        let mut warnings = Vec::new();
        let (same, count, parts) = (images.duplicates, images.moments.count() as usize, self.parts);
        if same > 0 {
            warnings.push(format!(
                "{same} of {count} images are the same as one before: was a run resumed with the same seeds?"
            ));
        }
        if probe.is_inception() && self.has(Metric::Is) && (count, parts) != (PUBLISHED, 10) {
            warnings.push(format!(
                "published Inception Scores are of 10 parts of 5,000 images; this is of {parts} of {count}, and fewer give less"
            ));
        }
        warnings
    }

    /// Files of both sets that are turned or resized one by one.
    fn of_files(&self, probe: &Probe, images: &Collected, others: Option<&Collected>) -> Vec<String> {
        let mut warnings = Vec::new();
        let oriented = images.oriented + others.map_or(0, |others| others.oriented);
        if oriented > 0 && !self.exif {
            let are = if oriented == 1 { "1 image is" } else { &format!("{oriented} images are") };
            warnings.push(format!(
                "{are} to be turned by EXIF, and measured as the pixels lie, as published programs do: `exif` turns them"
            ));
        }
        let rounded = images.rounded + others.map_or(0, |others| others.rounded);
        if rounded > 0 {
            let have = if rounded == 1 { "1 image has" } else { &format!("{rounded} images have") };
            warnings.push(format!(
                "{have} more than 8 bits: the nearest bytes are measured, where Pillow takes the upper 8 bits of colours and clips grey"
            ));
        }
        if images.mixed || others.is_some_and(|others| others.mixed) {
            let way = probe.resize.map_or("", Resize::name);
            warnings.push(format!("images are of many sizes: each is resized to the network's by {way} on its own"));
        }
        warnings
    }

    fn of_distance(&self, probe: &Probe, images: &Collected, reference: &Reference) -> Vec<String> {
        let mut warnings = Vec::new();
        let (count, dimensions) = (images.moments.count() as usize, images.moments.mean().size()[0] as usize);
        if count <= dimensions && (self.has(Metric::Frechet) || self.has(Metric::Infinity)) {
            warnings.push(format!(
                "{count} images for {dimensions} features: their covariance is singular, and a distance mostly bias"
            ));
        }
        if probe.is_fid() && self.has(Metric::Frechet) && count != PUBLISHED {
            warnings.push(format!("published FIDs are of 50,000 images; these are {count}, and fewer give more"));
        }
        warnings.extend(self.whole_subsets(images, reference));
        warnings.extend(reference.images.iter().flat_map(|others| unlike(images, others)));
        warnings
    }
}

impl Evaluation {
    /// A warning if KID's subsets hold a whole set, whose part in their spread is then missing.
    fn whole_subsets(&self, images: &Collected, reference: &Reference) -> Option<String> {
        let (own, others) = (images.features.as_ref()?.size()[0], reference.features.as_ref()?.size()[0]);
        let (smaller, size) = (own.min(others), self.subset_size);
        (self.has(Metric::Kid) && size >= smaller).then(|| {
            let spread = if own == others { "there is no spread" } else { "their spread is too small" };
            format!(
                "KID's subsets of {size} hold all {smaller} images of a set, so that {spread}: `subset_size` must be smaller"
            )
        })
    }
}

/// Statistics of other features cannot be compared with.
fn fits(probe: &Probe, target: &Target, statistics: &Statistics) -> Result<(), Error> {
    let dimensions = statistics.dimensions();
    match probe.dimensions().filter(|own| *own != dimensions) {
        None => Ok(()),
        Some(own) => {
            let why = format!("holds statistics of {dimensions} features, but {} gives {own}", probe.name);
            Err(Error::file(target.name(), why))
        }
    }
}

/// N of nearly every FID that is published.
const PUBLISHED: usize = 50_000;

impl Figure {
    fn with(self, spread: f64, spread_of: String) -> Self {
        Self { spread: Some(spread), spread_of: Some(spread_of), ..self }
    }
}

fn figure(key: &'static str, name: &str, value: f64) -> Figure {
    Figure { key, name: name.to_owned(), value, spread: None, spread_of: None }
}

fn sfid(images: &Collected, reference: &Reference) -> Result<Figure, Error> {
    let (Some(own), Some(others)) = (&images.spatial, &reference.spatial) else {
        return Err(lacking("sfid", "spatial features, which only Inception's state dict gives"));
    };
    Ok(figure("sfid", "sFID", own.statistics()?.distance(others)?))
}

fn prdc(probe: &Probe, images: &Collected, reference: &Reference) -> Result<[Figure; 4], Error> {
    let own = Neighbourhood::new(kept(images.features.as_ref())?)?;
    if reference.neighbourhood.get().is_none() {
        let _ = reference.neighbourhood.set(Neighbourhood::new(kept(reference.features.as_ref())?)?);
    }
    let others = reference.neighbourhood.get().ok_or_else(|| lacking("prdc", "neighbours"))?;
    let (three, five) = (neighbours(&own, others, 3)?, neighbours(&own, others, 5)?);
    let at = |key, k, value| figure(key, &format!("{key} (k = {k}) in {}", probe.name), value);
    Ok([
        at("precision", 3, three.precision),
        at("recall", 3, three.recall),
        at("density", 5, five.density),
        at("coverage", 5, five.coverage),
    ])
}

/// Differences between images and the reference's that are seen before anything is measured.
fn unlike(images: &Collected, others: &Collected) -> Vec<String> {
    let mut warnings = Vec::new();
    if images.size != others.size && !images.mixed && !others.mixed {
        let (own, other) = (&images.size, &others.size);
        warnings.push(format!(
            "images are {own:?}, those of the reference {other:?}: resized differently, both look different"
        ));
    }
    let share = |set: &Collected| set.jpegs as f64 / set.moments.count().max(1.0);
    let (own, other) = (share(images), share(others));
    if (own - other).abs() > 0.01 {
        warnings.push(format!(
            "{:.0} % of the images are JPEG, and {:.0} % of the reference: its losses alone make a distance",
            100.0 * own,
            100.0 * other
        ));
    }
    warnings
}

/// FID is the name of one distance only.
fn title(probe: &Probe, images: &Collected) -> String {
    if probe.is_fid() {
        return format!("FID ({})", probe.resize.map_or("", Resize::name));
    }
    let dimensions = images.moments.mean().size()[0];
    format!("Fréchet distance in the {dimensions} features of {} (not FID)", probe.name)
}

fn kept(features: Option<&Tensor>) -> Result<&Tensor, Error> {
    features.ok_or_else(|| lacking("this metric", "features, which were not kept"))
}

fn lacking(metric: &'static str, what: &str) -> Error {
    Error::parameter(metric, "measured by a network with the features that it needs", what)
}
