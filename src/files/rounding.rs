//! Rounding of numbers to bytes, as published programs do it: it moves FID in its third digit and beyond.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::files::images;

/// Rounding of a pixel x, −1 … 1, that lies between two bytes.
///
/// Each is computed in f32, in the order of operations of the program that it is named after. ⌊·⌋ of what is held within
/// 0 … 255 is a cast to bytes there.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rounding {
    /// The nearest of 127.5 (x + 1): this program's own.
    #[default]
    Nearest,
    /// ⌊127.5 x + 128⌋ [EDM, generate.py].
    Edm,
    /// ⌊127.5 (x + 1)⌋ [guided-diffusion, image_sample.py].
    Adm,
    /// ⌊255 u⌋ with u = (x + 1)/2 [score_sde, run_lib.py].
    ScoreSde,
    /// ⌊255 u + ½⌋ with u = (x + 1)/2 [torchvision, save_image; DDIM].
    Torchvision,
    /// The nearest of 255 u with u = x/2 + ½ held within 0 … 1: diffusers.
    Diffusers,
}

impl Rounding {
    /// Bytes of pixels −1 … 1, of any shape.
    pub fn bytes(self, x: &Tensor) -> Tensor {
        let unit = || images::to_unit(x);
        let held = |x: Tensor| x.clamp(0.0, 255.0).to_kind(Kind::Uint8);
        match self {
            Self::Nearest => images::to_bytes(x),
            Self::Edm => held(x * 127.5 + 128.0),
            Self::Adm => held((x + 1.0) * 127.5),
            Self::ScoreSde => held(unit() * 255.0),
            Self::Torchvision => held(unit() * 255.0 + 0.5),
            Self::Diffusers => held(((x / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round()),
        }
    }
}
