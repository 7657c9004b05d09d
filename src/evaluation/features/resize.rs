//! Resizing of images to the size with which a network was trained: figures of different methods cannot be compared.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::{
    Error,
    files::resample::{ResampleKernel, resample},
    networks::INCEPTION_SIDE,
};

/// A way from bytes of any size to Inception's input.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resize {
    /// Bilinear between the centres of pixels, without a low pass; x / 127.5 − 1 (pytorch-fid).
    Pytorch,
    /// Bilinear between corners, without a low pass; (x − 128) / 128 (TensorFlow 1, torch-fidelity, EDM).
    Tf1,
    /// Bicubic with a low pass, in f32, held within 0 … 255; (x − 128) / 128 (clean-fid, as Pillow has it).
    Clean,
    /// As `tf1`: ADM's evaluator feeds TensorFlow's graph.
    Adm,
}

impl Resize {
    /// All of them, with the names that the command line takes.
    pub const ALL: [(&'static str, Self); 4] =
        [("pytorch", Self::Pytorch), ("tf1", Self::Tf1), ("clean", Self::Clean), ("adm", Self::Adm)];

    /// The name in the command line and in records.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, way)| *way == self).map_or("", |(name, _)| name)
    }

    /// The way that has this name.
    pub fn parse(name: &str) -> Result<Self, Error> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name);
        found.map(|(_, way)| *way).ok_or_else(|| Error::parameter("`resize`", "pytorch, tf1, clean or adm", name))
    }

    /// Bytes `[batch, 3, height, width]` to `side`×`side`, still in 0 … 255.
    pub fn pixels(self, bytes: &Tensor, side: i64) -> Tensor {
        let x = bytes.to_kind(Kind::Float);
        match self {
            // Dividing first, as the authors' program does, keeps its roundings.
            Self::Pytorch => (x / 255.0).upsample_bilinear2d([side, side], false, None, None) * 255.0,
            Self::Tf1 | Self::Adm => between_corners(&between_corners(&x, 3, side), 2, side),
            Self::Clean => {
                resample(&x, [side; 2], ResampleKernel::Bicubic, |x| x.to_kind(Kind::Float)).clamp(0.0, 255.0)
            }
        }
    }

    /// Input of Inception, 299×299 in −1 … 1.
    pub fn forward(self, bytes: &Tensor) -> Tensor {
        let x = self.pixels(bytes, INCEPTION_SIDE);
        match self {
            Self::Pytorch => x / 127.5 - 1.0,
            _ => (x - 128.0) / 128.0,
        }
    }
}

/// Pixel i lies at i · size / side, between ⌊·⌋ and the next: TensorFlow's ResizeBilinear before half-pixel centres.
fn between_corners(x: &Tensor, dimension: i64, side: i64) -> Tensor {
    let size = x.size()[dimension as usize];
    let scale = size as f32 / side as f32;
    let places: Vec<f32> = (0..side).map(|i| i as f32 * scale).collect();
    let low: Vec<i64> = places.iter().map(|place| *place as i64).collect();
    let high: Vec<i64> = low.iter().map(|low| (low + 1).min(size - 1)).collect();
    let part: Vec<f32> = places.iter().zip(&low).map(|(place, low)| place - *low as f32).collect();
    let at = |places: &[i64]| x.index_select(dimension, &Tensor::from_slice(places).to_device(x.device()));
    let part = Tensor::from_slice(&part).to_device(x.device());
    let part = if dimension == 2 { part.unsqueeze(1) } else { part };
    let (low, high) = (at(&low), at(&high));
    &low + (high - &low) * part
}
