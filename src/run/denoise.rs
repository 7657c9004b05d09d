//! One evaluation of D(x, σ), in the pixel range of the program that trained the network.

use std::path::{Path, PathBuf};

use serde::Serialize;
use tch::{Device, Kind, Tensor};

use super::{
    classes::{ClassList, Classes},
    observer::{Observer, go_on},
    prior::Prior,
    session::Session,
};
use crate::{
    Error,
    error::Within,
    files::{depth::Depth, images, npz},
    models::card::{Card, Model},
};

/// A request to denoise images once: D(x, σ) = E\[clean | x\] for x = clean + σ n.
#[derive(Clone, Debug)]
pub struct DenoiseRequest {
    sigma: f64,
    classes: Option<ClassList>,
}

/// Result of denoising the images of a file.
#[derive(Clone, Debug, Serialize)]
pub struct Denoised {
    /// Number of images.
    pub images: i64,
    /// σ, in the pixel range of the program that trained the network.
    pub sigma: f64,
    /// Path of the written file.
    pub out: PathBuf,
    /// Values of black and white in that program.
    #[serde(skip)]
    pub pixels: [f64; 2],
}

impl DenoiseRequest {
    /// Creates a request for this σ, in the pixel range of the program that trained the network.
    pub fn new(sigma: f64) -> Result<Self, Error> {
        if !(sigma.is_finite() && sigma > 0.0) {
            return Err(Error::parameter("`sigma`", "positive", sigma));
        }
        Ok(Self { sigma, classes: None })
    }

    /// Sets the classes that images take in turn, for networks with classes.
    #[must_use]
    pub fn classes(self, classes: impl Into<Option<ClassList>>) -> Self {
        Self { classes: classes.into(), ..self }
    }

    /// Computes D(x, σ) of `[batch, channels, height, width]` in data units, on the CPU.
    pub fn denoise<'a>(&self, prior: impl Into<Prior<'a>>, x: &Tensor) -> Result<Tensor, Error> {
        let prior = prior.into();
        let classes = Classes::new(self.classes.as_ref(), &prior)?.rows(0..x.size()[0] as u64);
        let state = x.to_device(Session::from_model(prior.model).device);
        let sigma = Pixels(prior.model.card.pixels).scale() * self.sigma;
        Ok(tch::no_grad(|| prior.denoiser(classes.as_deref()).denoise(&state, sigma)).to_device(Device::Cpu))
    }

    /// Denoises the images of a file into another: .npy (f32, in the pixel range of the program that trained the
    /// network) or an image.
    pub fn write<'a>(
        &self,
        prior: impl Into<Prior<'a>>,
        (input, out): (&Path, &Path),
        observer: &dyn Observer,
    ) -> Result<Denoised, Error> {
        let prior = prior.into();
        let pixels = Pixels(prior.model.card.pixels);
        Classes::new(self.classes.as_ref(), &prior)?;
        let (x, depth) = read(input, prior.model, pixels)?;
        go_on(observer)?;
        let denoised = self.denoise(prior, &x)?;
        images::finite(&denoised, input).within(|| "the network's answer".to_owned())?;
        go_on(observer)?;
        write(out, &denoised, (pixels, depth))?;
        self.range_note(prior.model, pixels).iter().for_each(|note| observer.said(note));
        Ok(Denoised { images: x.size()[0], sigma: self.sigma, out: out.to_owned(), pixels: pixels.0 })
    }

    /// Returns a note with the network's training range if σ is outside it.
    fn range_note(&self, model: &Model, pixels: Pixels) -> Option<String> {
        let ((min, max), sigma) = (model.range(), pixels.scale() * self.sigma);
        let (least, most) = (min / pixels.scale(), max / pixels.scale());
        let outside = sigma < min || sigma > max;
        outside.then(|| format!("the network was trained for σ from {least:.4} to {most:.4}"))
    }
}

/// Reads the images, in −1 … 1, and their depth.
fn read(input: &Path, model: &Model, pixels: Pixels) -> Result<(Tensor, Depth), Error> {
    let (x, depth) = if is_npy(input) {
        (pixels.read(&npz::read_npy(input)?.to_kind(Kind::Float)), Depth::default())
    } else {
        let (x, depth) = images::read_units(input, Some(model.card.image[0]))?;
        (x.unsqueeze(0), depth)
    };
    let size = x.size();
    let &[_, channels, height, width] = size.as_slice() else {
        return Err(Error::file(input, format!("is {size:?}, but [batch, channels, height, width] is wanted")));
    };
    images::finite(&x, input)?;
    model.denoiser.network.check([channels, height, width]).within(|| input.display().to_string())?;
    Ok((x, depth))
}

fn write(out: &Path, x: &Tensor, (pixels, depth): (Pixels, Depth)) -> Result<(), Error> {
    if is_npy(out) {
        return images::write_npy(out, &pixels.write(x));
    }
    match x.size()[0] {
        1 => images::write(out, &x.get(0), depth),
        count => Err(Error::file(out, format!("{count} images do not fit one picture: write .npy"))),
    }
}

/// Values of black and white in the program that trained the network.
#[derive(Clone, Copy, Debug)]
struct Pixels([f64; 2]);

impl Pixels {
    /// Returns the width of −1 … 1 divided by the width of this range.
    fn scale(self) -> f64 {
        2.0 / (self.0[1] - self.0[0])
    }

    /// Maps pixels of this range to −1 … 1.
    fn read(self, x: &Tensor) -> Tensor {
        if self.0 == Card::PIXELS { x.shallow_clone() } else { (x - self.0[0]) * self.scale() - 1.0 }
    }

    /// Maps −1 … 1 to pixels of this range.
    fn write(self, x: &Tensor) -> Tensor {
        if self.0 == Card::PIXELS { x.shallow_clone() } else { (x + 1.0) / self.scale() + self.0[0] }
    }
}

fn is_npy(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "npy")
}
