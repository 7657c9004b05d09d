//! Numbers by which files of pictures hold pixels.

use tch::{Kind, Tensor};

/// Range of the numbers of a picture.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Depth {
    /// Bytes, 0 … 255.
    #[default]
    Eight,
    /// Whole numbers 0 … 65535.
    Sixteen,
    /// Real numbers 0 … 1. Pictures that have no real numbers are written with 16 bits.
    Real,
}

impl Depth {
    /// The number of white.
    pub fn white(self) -> f64 {
        match self {
            Self::Eight => 255.0,
            Self::Sixteen => 65_535.0,
            Self::Real => 1.0,
        }
    }

    /// Data units to the nearest numbers of a PNG, held within black and white: bytes, or i32 for 16 bits.
    pub fn pixels(self, x: &Tensor) -> Tensor {
        let (half, kind) = match self {
            Self::Eight => (127.5, Kind::Uint8),
            Self::Sixteen | Self::Real => (32_767.5, Kind::Int),
        };
        ((x + 1.0) * half).round().clamp(0.0, 2.0 * half).to_kind(kind)
    }

    /// x in data units as a PNG holds it: clipped and rounded.
    pub fn written(self, x: &Tensor) -> Tensor {
        let half = if self == Self::Eight { 127.5 } else { 32_767.5 };
        self.pixels(x).to_kind(Kind::Float) / half - 1.0
    }
}
