//! Inpainting: some pixels are hidden.

use tch::{Device, Kind, Tensor};

use super::{LinearOperator, Operator, Svd, Task, draw};
use crate::{
    Error,
    numbers::{registry::entry, stream},
};

/// Keeps the pixels that are seen and blanks the hidden ones: A = Aᵀ = A², ‖A‖² = 1 [Random Walks].
#[derive(Debug)]
pub struct Inpaint {
    /// True where a pixel is seen. As a Boolean it leaves the precision of the images alone.
    seen: Tensor,
}

impl Inpaint {
    /// `mask` holds 1 where a pixel is seen and 0 where it is hidden, for images of `shape` = `[channels, height,
    /// width]`: `[height, width]` for all channels alike, or one mask for each, `[channels, height, width]`.
    pub fn new(mask: &Tensor, shape: [i64; 3]) -> Result<Self, Error> {
        if !fits(&mask.size(), shape) {
            let [channels, height, width] = shape;
            let want = format!("[{height}, {width}] or [{channels}, {height}, {width}], as the images have it,");
            return Err(Error::Shape { what: "the mask", got: mask.size(), want });
        }
        let seen = mask.eq(1.0);
        if !bool::try_from(seen.logical_or(&mask.eq(0.0)).all())? {
            let want = "1 where a pixel is seen and 0 where it is hidden";
            return Err(Error::parameter("the mask", want, "something else in places"));
        }
        if !bool::try_from(seen.any())? {
            let want = "white (255) on at least one pixel, since white marks pixels that are seen";
            return Err(Error::parameter("the mask", want, "black all over: the mask hides everything"));
        }
        Ok(Self { seen })
    }

    /// Creates a mask from the seen pixels, row by row, for all channels alike.
    pub(super) fn from_pixels(seen: &[bool], shape: [i64; 3], device: Device) -> Result<Operator, Error> {
        let [_, height, width] = shape;
        let mask = Tensor::from_slice(seen).view([height, width]).to_device(device);
        Ok(Self::new(&mask, shape)?.into())
    }
}

/// Whether a mask of this size stretches over images of that shape, and over nothing larger.
fn fits(size: &[i64], [channels, height, width]: [i64; 3]) -> bool {
    match *size {
        [h, w] => [h, w] == [height, width],
        [c, h, w] | [1, c, h, w] => (c == 1 || c == channels) && [h, w] == [height, width],
        _ => false,
    }
}

impl LinearOperator for Inpaint {
    fn apply(&self, x: &Tensor) -> Tensor {
        x * &self.seen
    }

    fn adjoint(&self, y: &Tensor) -> Tensor {
        y * &self.seen
    }

    fn norm_squared(&self) -> f64 {
        1.0
    }

    fn svd(&self) -> Option<&dyn Svd> {
        Some(self)
    }

    fn tables(&self) -> Vec<(&'static str, Tensor)> {
        vec![("mask", self.seen.to_kind(Kind::Uint8))]
    }
}

impl Svd for Inpaint {
    fn coordinates(&self, x: &Tensor) -> Tensor {
        x.shallow_clone()
    }

    fn image(&self, coordinates: &Tensor) -> Tensor {
        coordinates.shallow_clone()
    }

    fn measured(&self, y: &Tensor) -> Tensor {
        y.shallow_clone()
    }

    fn singular(&self, kind: Kind) -> Tensor {
        self.seen.to_kind(kind)
    }
}

entry! {
    name: "inpaint-random",
    what: "pixels are hidden at random",
    source: "Random Walks",
    facts: { map: "linear, svd", random: "mask" },
    /// Hides pixels at random, the same in all channels [Random Walks].
    pub struct InpaintRandom {
        /// The part of the pixels that is hidden, rounded down to whole pixels.
        pub hidden: f64 = 0.75 => "0 … 1" in "of all pixels",
    }
}

impl Task for InpaintRandom {
    fn operator(&self, shape: [i64; 3], seed: u64, device: Device, _: Kind) -> Result<Operator, Error> {
        if !(0.0..=1.0).contains(&self.hidden) {
            return Err(Error::parameter("hidden", "a part between 0 and 1", self.hidden));
        }
        let count = (shape[1] * shape[2]) as usize;
        // The product of a decimal fraction may lie just below the whole number it stands for.
        let hidden = (count as f64 * self.hidden + 1e-6).floor() as usize;
        let mut seen = vec![true; count];
        for pixel in &stream::permutation(count, seed, 0, draw::MASK)[..hidden] {
            seen[*pixel] = false;
        }
        Inpaint::from_pixels(&seen, shape, device)
    }
}

entry! {
    name: "inpaint-box",
    what: "a box is hidden",
    source: "Random Walks",
    facts: { map: "linear, svd", random: "place" },
    /// Hides a box at a random place [Random Walks]: 128 × 128 of 256 × 256 pixels, 16 or more from the border.
    pub struct InpaintBox {
        /// The box's height as a part of the image's, rounded to whole pixels.
        pub height: f64 = 0.5 => "0 … 1" in "of the image",
        /// Width as a part of the image's.
        pub width: f64 = 0.5 => "0 … 1" in "of the image",
        /// Least distance from the border as a part of the image's shorter side.
        pub margin: f64 = 0.0625 => "≥ 0" in "of the shorter side",
    }
}

impl InpaintBox {
    /// `length` pixels of `side`, from a start uniform on `margin … side − margin − length`.
    fn span(side: i64, part: f64, margin: i64, u: f64) -> Result<std::ops::Range<i64>, Error> {
        let length = (part * side as f64).round() as i64;
        let room = side.saturating_sub(margin.saturating_mul(2)).saturating_sub(length);
        if length < 1 || margin < 0 || room < 0 {
            let value = format!("{length} of {side} pixels with a margin of {margin}");
            return Err(Error::parameter("the box", "at least one pixel, within the margins", value));
        }
        let start = margin + ((u * (room + 1) as f64) as i64).min(room);
        Ok(start..start + length)
    }

    /// Whether each pixel, row by row, lies in the box.
    pub(super) fn inside(&self, [_, height, width]: [i64; 3], seed: u64) -> Result<Vec<bool>, Error> {
        let margin = (self.margin * height.min(width) as f64).round() as i64;
        let mut uniform = stream::uniform(seed, 0, draw::BOX);
        let mut u = || uniform.next().unwrap_or(1.0);
        let rows = Self::span(height, self.height, margin, u())?;
        let columns = Self::span(width, self.width, margin, u())?;
        Ok((0..height * width).map(|i| rows.contains(&(i / width)) && columns.contains(&(i % width))).collect())
    }
}

impl Task for InpaintBox {
    fn operator(&self, shape: [i64; 3], seed: u64, device: Device, _: Kind) -> Result<Operator, Error> {
        let seen: Vec<bool> = self.inside(shape, seed)?.iter().map(|inside| !inside).collect();
        Inpaint::from_pixels(&seen, shape, device)
    }
}
