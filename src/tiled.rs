//! Denoisers for images larger than those of their network.

use std::fmt;

use tch::{Kind, Tensor};

use crate::denoiser::Denoiser;

/// D of a large image, from overlapping tiles of the network's own size.
///
/// ```text
/// D(x) = Σ w D(tile) / Σ w,   w falling linearly to the tile's border over the overlap
/// ```
///
/// so that no tile's border shows. Tiles are denoised one after the other, and memory beside the image is that of one tile;
/// what a tile does not see it cannot know.
pub struct Tiled<D> {
    prior: D,
    tile: [i64; 2],
    overlap: i64,
}

impl<D> fmt::Debug for Tiled<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tiled").field("tile", &self.tile).field("overlap", &self.overlap).finish_non_exhaustive()
    }
}

impl<D: Denoiser> Tiled<D> {
    /// Tiles of `tile` = `[height, width]`, which overlap by a quarter of their shorter side or more.
    pub fn new(prior: D, tile: [i64; 2]) -> Self {
        Self { prior, tile, overlap: tile[0].min(tile[1]) / 4 }
    }

    /// Where tiles begin along a side of `n` pixels: as few as overlap enough, evenly spread.
    fn places(&self, n: i64, tile: i64) -> Vec<i64> {
        let room = (n - tile).max(0);
        let steps = (room as f64 / (tile - self.overlap).max(1) as f64).ceil() as i64;
        (0..=steps).map(|i| if steps == 0 { 0 } else { (room * i + steps / 2) / steps }).collect()
    }

    /// The weights of a tile's pixels along a side, from 1/(overlap + 1) at the border to 1.
    fn ramp(&self, tile: i64, like: &Tensor) -> Tensor {
        let at = Tensor::arange(tile, (like.kind(), like.device()));
        let to_border = at.minimum(&(-&at + (tile - 1) as f64)) + 1.0;
        (to_border / (self.overlap + 1) as f64).clamp_max(1.0)
    }
}

impl<D: Denoiser> Denoiser for Tiled<D> {
    fn denoise(&self, x: &Tensor, sigma: f64) -> Tensor {
        x + self.residual(x, sigma)
    }

    fn residual(&self, x: &Tensor, sigma: f64) -> Tensor {
        let (size, [height, width]) = (x.size(), self.tile);
        if size[2..] == self.tile {
            return self.prior.residual(x, sigma);
        }
        let weight = self.ramp(height, x).unsqueeze(1) * self.ramp(width, x).unsqueeze(0);
        let mut total = x.zeros_like();
        let weights = Tensor::zeros(&size[2..], (Kind::Float, x.device()));
        for top in self.places(size[2], height) {
            for left in self.places(size[3], width) {
                let of =
                    |image: &Tensor, dims: [i64; 2]| image.narrow(dims[0], top, height).narrow(dims[1], left, width);
                let part = self.prior.residual(&of(x, [2, 3]).contiguous(), sigma) * &weight;
                let right = [left, size[3] - left - width, top, size[2] - top - height];
                if part.requires_grad() {
                    total += part.constant_pad_nd(right);
                } else {
                    let _ = of(&total, [2, 3]).g_add_(&part);
                }
                let _ = of(&weights, [0, 1]).g_add_(&weight);
            }
        }
        total / weights
    }
}
