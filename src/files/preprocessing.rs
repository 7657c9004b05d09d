//! Preprocessing of larger photographs into reference sets, as published programs do it.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::{
    Error,
    files::resample::{ResampleKernel, resample},
};

/// A program's way from a photograph to a square.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preprocessing {
    /// CelebA's 178×218, its 128×128 around (121, 89), bilinear in bytes (DDIM; by Pillow).
    CelebaDdim,
    /// CelebA's middle 140×140, bilinear in bytes (NCSNv2; by Pillow).
    CelebaNcsnv2,
    /// CelebA's middle 140×140, bilinear (Score SDE; by TensorFlow).
    CelebaScoreSde,
    /// The shorter side bilinear in bytes, then the middle (DDIM's LSUN; by Pillow).
    LsunDdim,
    /// At 128 pixels the shorter side is resized bilinearly, then the middle is cut out; else the middle square is
    /// resized bicubically (Score SDE's LSUN; by TensorFlow).
    LsunScoreSde,
    /// The middle as it is, whatever the size around it.
    Middle,
}

impl Preprocessing {
    /// Bytes `[channels, height, width]` to `[channels, side, side]`.
    pub fn apply(self, image: &Tensor, side: i64) -> Result<Tensor, Error> {
        let (height, width) = (image.size()[1], image.size()[2]);
        let least = match self {
            Self::CelebaDdim if (height, width) != (218, 178) => {
                return Err(Error::Shape {
                    what: "an image of CelebA",
                    got: image.size(),
                    want: "[3, 218, 178]".into(),
                });
            }
            Self::CelebaNcsnv2 | Self::CelebaScoreSde => 140,
            Self::Middle => side,
            _ => 1,
        };
        if height.min(width) < least || side < 1 {
            let want = format!("at least {least} pixels a side");
            return Err(Error::Shape { what: "an image", got: image.size(), want });
        }
        Ok(match self {
            Self::CelebaDdim => pillow(&cut(image, [57, 25], [128; 2]), [side; 2]),
            Self::CelebaNcsnv2 => pillow(&middle(image, 140), [side; 2]),
            Self::LsunDdim => {
                // The longer side is rounded down; the margin before the middle to the nearest even number.
                let long = |long: i64, short: i64| if long == short { side } else { side * long / short };
                let [height, width] =
                    if height < width { [side, long(width, height)] } else { [long(height, width), side] };
                let start = [height, width].map(|length| ((length - side) as f64 / 2.0).round_ties_even() as i64);
                cut(&pillow(image, [height, width]), start, [side; 2])
            }
            Self::Middle => middle(image, side),
            Self::CelebaScoreSde => tensorflow(&middle(image, 140), [side; 2], ResampleKernel::Bilinear),
            Self::LsunScoreSde if side == 128 => {
                let ratio = side as f64 / height.min(width) as f64;
                let size = [height, width].map(|length| (length as f64 * ratio).round_ties_even() as i64);
                middle(&tensorflow(image, size, ResampleKernel::Bilinear), side)
            }
            Self::LsunScoreSde => {
                let crop = height.min(width);
                tensorflow(&middle(image, crop), [side; 2], ResampleKernel::Bicubic)
            }
        })
    }
}

fn cut(image: &Tensor, [top, left]: [i64; 2], [height, width]: [i64; 2]) -> Tensor {
    image.narrow(1, top, height).narrow(2, left, width)
}

/// The middle `side`×`side`, nearer to the first row and column where it cannot be in the middle.
fn middle(image: &Tensor, side: i64) -> Tensor {
    let size = image.size();
    cut(image, [(size[1] - side) / 2, (size[2] - side) / 2], [side; 2])
}

/// Pillow's bilinear: bytes after each pass.
fn pillow(image: &Tensor, size: [i64; 2]) -> Tensor {
    let bytes = |x: Tensor| (x + 0.5).floor().clamp(0.0, 255.0);
    resample(image, size, ResampleKernel::Bilinear, bytes).to_kind(Kind::Uint8)
}

/// TensorFlow's, of which Score SDE keeps the whole part of 255 x.
fn tensorflow(image: &Tensor, size: [i64; 2], kernel: ResampleKernel) -> Tensor {
    let resized = resample(image, size, kernel, |x| x.to_kind(Kind::Float));
    resized.clamp(0.0, 255.0).floor().to_kind(Kind::Uint8)
}
