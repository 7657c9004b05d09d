//! Learned perceptual similarity [Zhang et al. 2018], version 0.1.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use crate::{
    Error,
    models::checkpoint::{safetensors::Tensors, state_dict},
    networks::{
        layers::Conv,
        weights::{Init, Weights},
    },
};

/// The networks of torchvision whose features are compared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Backbone {
    /// Five convolutions [Krizhevsky 2014].
    AlexNet,
    /// Thirteen convolutions [Simonyan & Zisserman 2015].
    Vgg16,
}

/// A convolution: its place in the network's list of layers, its channels, and the side of its taps.
type Layer = (usize, i64, i64);

impl Backbone {
    /// Name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::AlexNet => "AlexNet",
            Self::Vgg16 => "VGG16",
        }
    }

    /// The files in which its weights, and the weights of its features, are published.
    fn published(self) -> (&'static str, &'static str) {
        match self {
            Self::AlexNet => ("alexnet-owt-7be5be79.pth", "weights/v0.1/alex.pth"),
            Self::Vgg16 => ("vgg16-397923af.pth", "weights/v0.1/vgg.pth"),
        }
    }

    /// The convolutions up to each of the five features, and whether the largest of neighbours are taken before them.
    fn stages(self) -> [(bool, &'static [Layer]); 5] {
        match self {
            Self::AlexNet => [
                (false, &[(0, 64, 11)]),
                (true, &[(3, 192, 5)]),
                (true, &[(6, 384, 3)]),
                (false, &[(8, 256, 3)]),
                (false, &[(10, 256, 3)]),
            ],
            Self::Vgg16 => [
                (false, &[(0, 64, 3), (2, 64, 3)]),
                (true, &[(5, 128, 3), (7, 128, 3)]),
                (true, &[(10, 256, 3), (12, 256, 3), (14, 256, 3)]),
                (true, &[(17, 512, 3), (19, 512, 3), (21, 512, 3)]),
                (true, &[(24, 512, 3), (26, 512, 3), (28, 512, 3)]),
            ],
        }
    }

    /// Pixels along a side of the maxima. They lie two apart.
    fn pool(self) -> i64 {
        match self {
            Self::AlexNet => 3,
            Self::Vgg16 => 2,
        }
    }

    /// The shortest side of an image that leaves a pixel of the last feature.
    fn shortest(self) -> i64 {
        match self {
            Self::AlexNet => 31,
            Self::Vgg16 => 16,
        }
    }

    /// Backbone of a file with this many convolutions: VGG16 has one at place 17.
    fn detect(tensors: &Tensors) -> Self {
        if tensors.contains_key("17.weight") { Self::Vgg16 } else { Self::AlexNet }
    }
}

/// Convolutions, each followed by a ReLU, with the weight of each of their last channels, `[1, channels, 1, 1]`.
#[derive(Debug)]
struct FeatureStage {
    pool: bool,
    convolutions: Vec<Conv>,
    weight: Tensor,
}

/// A backbone, and how much each of its channels counts.
#[derive(Debug)]
pub struct Lpips {
    backbone: Backbone,
    stages: Vec<FeatureStage>,
    device: Device,
}

impl Lpips {
    /// Opens the weights of a backbone as torchvision publishes them (`features.0.weight`, …; what classifies is passed
    /// over), and those of its features as the package `lpips` has them (`lin0.model.1.weight`, …); computes on `device`.
    pub fn open(backbone: &Path, linear: &Path, device: Device) -> Result<Self, Error> {
        let features = features(backbone)?;
        let kind = Backbone::detect(&features);
        let ((file, linears), name) = (kind.published(), kind.name());
        let convolutions = convolutions(kind, features, device).map_err(|e| {
            let want = "torchvision's AlexNet (alexnet-owt-7be5be79.pth) or VGG16 (vgg16-397923af.pth) is wanted";
            Error::file(backbone, format!("is not {file} ({}): {want}", brief(&e)))
        })?;
        let weights = channels(kind, state_dict(linear, |_| true)?, device).map_err(|e| {
            let want = format!("the linear layers of LPIPS for {name} are wanted, {linears} of the package lpips");
            Error::file(linear, format!("does not go with {} ({}): {want}", backbone.display(), brief(&e)))
        })?;
        let stage = |(((pool, _), convolutions), weight)| FeatureStage { pool, convolutions, weight };
        let stages = kind.stages().into_iter().zip(convolutions).zip(weights).map(stage).collect();
        Ok(Self { backbone: kind, stages, device })
    }

    /// Backbone whose features it compares.
    pub fn backbone(&self) -> Backbone {
        self.backbone
    }

    /// Σ over the features f of mean over pixels of Σ_c w_c (f̂_c(x) − f̂_c(truth))², f̂ = f / ‖f‖ over the channels, for each
    /// image of a batch, `[batch, 1 or 3, height, width]`, in data units −1 … 1 [Zhang et al. 2018, Eq. 1].
    ///
    /// A grey image is taken for one of three equal colours. It computes in the kind of `x`.
    pub fn distance(&self, x: &Tensor, truth: &Tensor) -> Result<Vec<f64>, Error> {
        let (size, shortest) = (x.size(), self.backbone.shortest());
        let fits = size.len() == 4 && matches!(size[1], 1 | 3) && size[2].min(size[3]) >= shortest;
        if !fits || size != truth.size() {
            let (name, other) = (self.backbone.name(), truth.size());
            let want = format!(
                "that of the other, {other:?}, grey or of three colours, of {shortest} pixels or more for {name},"
            );
            return Err(Error::Shape { what: "an image for LPIPS", got: size, want });
        }
        Ok(Vec::try_from(tch::no_grad(|| self.compare(&scaled(x, self.device), &scaled(truth, self.device))))?)
    }

    /// `[batch]`, of scaled images.
    fn compare(&self, x: &Tensor, truth: &Tensor) -> Tensor {
        let (mut x, mut truth) = (x.shallow_clone(), truth.shallow_clone());
        let mut total = Tensor::zeros([x.size()[0]], (Kind::Double, self.device));
        for stage in &self.stages {
            (x, truth) = (self.forward(stage, x), self.forward(stage, truth));
            let weighed = (normed(&x) - normed(&truth)).square() * stage.weight.to_kind(x.kind());
            let sum = weighed.sum_dim_intlist([1i64].as_slice(), false, None);
            total += sum.mean_dim([1i64, 2].as_slice(), false, None).to_kind(Kind::Double);
        }
        total
    }

    fn forward(&self, stage: &FeatureStage, x: Tensor) -> Tensor {
        let side = self.backbone.pool();
        let x = if stage.pool { x.max_pool2d([side; 2], [2, 2], [0, 0], [1, 1], false) } else { x };
        stage.convolutions.iter().fold(x, |x, convolution| convolution.forward(&x).relu())
    }
}

/// The features' weights by their place: torchvision's `features.0.weight`, and a list of layers alone, are `0.weight`.
fn features(path: &Path) -> Result<Tensors, Error> {
    let tensors = state_dict(path, |name| !name.starts_with("classifier."))?;
    let place = |name: String| name.strip_prefix("features.").map(ToOwned::to_owned).unwrap_or(name);
    Ok(tensors.into_iter().map(|(name, tensor)| (place(name), tensor)).collect())
}

/// The convolutions of each stage.
fn convolutions(kind: Backbone, tensors: Tensors, device: Device) -> Result<Vec<Vec<Conv>>, Error> {
    let weights = Weights::stored(tensors, device, Kind::Float);
    let mut inputs = 3;
    let mut convolution = |&(place, outputs, side): &Layer| {
        let convolution = Conv::new(&(&weights.root() / place), inputs, outputs, side);
        inputs = outputs;
        // AlexNet's first moves by four pixels at a time.
        if side == 11 { convolution.strided(4, 2) } else { convolution }
    };
    let stages = kind.stages().map(|(_, layers)| layers.iter().map(&mut convolution).collect());
    weights.finish()?;
    Ok(stages.into())
}

/// The weight of each channel of the five features, `[1, channels, 1, 1]`.
fn channels(kind: Backbone, tensors: Tensors, device: Device) -> Result<Vec<Tensor>, Error> {
    let weights = Weights::stored(tensors, device, Kind::Float);
    let channels_of = |(i, (_, layers)): (usize, (bool, &[Layer]))| {
        let count = layers.last().map_or(0, |layer| layer.1);
        weights.root().tensor(&format!("lin{i}.model.1.weight"), &[1, count, 1, 1], Init::Constant(0.0))
    };
    let channels = kind.stages().into_iter().enumerate().map(channels_of).collect();
    weights.finish()?;
    Ok(channels)
}

/// The first of what does not fit.
fn brief(error: &Error) -> String {
    match error {
        Error::Keys(problems) => problems.first().cloned().unwrap_or_default(),
        other => other.to_string(),
    }
}

/// Three channels as the backbones were trained with: (x − shift) / scale, of pixels −1 … 1.
fn scaled(x: &Tensor, device: Device) -> Tensor {
    let constants = |values: [f64; 3]| Tensor::from_slice(&values).to_kind(x.kind()).to_device(device).view([3, 1, 1]);
    let x = x.to_device(device).expand([-1, 3, -1, -1], false);
    (x - constants([-0.030, -0.088, -0.188])) / constants([0.458, 0.448, 0.450])
}

/// f / (‖f‖ + 10⁻¹⁰) over the channels.
fn normed(feature: &Tensor) -> Tensor {
    feature / (feature.square().sum_dim_intlist([1i64].as_slice(), true, None).sqrt() + 1e-10)
}
