//! Denoisers for images larger than those of their network.

use std::fmt;

use tch::Tensor;

use crate::scores::denoiser::Denoiser;

/// D of a large image, from overlapping tiles of the network's own size.
///
/// ```text
/// D(x) = Σ w D(tile) / Σ w,   w = 0 near a border between tiles, then rising linearly to 1
/// ```
///
/// Tiles overlap by a quarter of their shorter side. Of that the outer three eighths, where a network sees the tile's border,
/// count for nothing, and one tile fades into the next over the quarter between: 24 and 16 pixels for tiles of 256. A network
/// whose pixels know no more than 24 pixels around them, as FFDNet's do, so gives what it gives for the whole image; tiles
/// begin at multiples of 8 pixels for those that halve their images. Others leave no edge, but what a tile does not see it
/// cannot know. Tiles are denoised one after the other, and memory beside the image is that of one tile.
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
    /// Tiles of `tile` = `[height, width]`; they overlap by a quarter of their shorter side, or more where sides do not divide.
    pub fn new(prior: D, tile: [i64; 2]) -> Self {
        Self { prior, tile, overlap: tile[0].min(tile[1]) / 4 }
    }

    /// Positions of the tiles along a side of `n` pixels: as few as overlap enough, evenly spread, at multiples of
    /// [`grain`] but for the last.
    fn places(&self, n: i64, tile: i64) -> Vec<i64> {
        let (room, grain) = ((n - tile).max(0), grain(tile));
        let most = ((tile - self.overlap) / grain * grain).max(1);
        let steps = ceil(room, most);
        let pace = ceil(ceil(room, steps.max(1)), grain) * grain;
        (0..=steps).map(|i| (i * pace).min(room)).collect()
    }

    /// The weights along a side of `n` pixels of the tile that begins at `first`: 1 but near a border that is not the image's.
    fn ramp(&self, (first, tile, n): (i64, i64, i64), like: &Tensor) -> Tensor {
        let at = Tensor::arange(tile, (like.kind(), like.device()));
        let unused = self.overlap * 3 / 8;
        let fade = (self.overlap - 2 * unused + 1) as f64;
        let rise = |to_border: &Tensor| ((to_border + (1 - unused) as f64) / fade).clamp(0.0, 1.0);
        let before = if first == 0 { at.ones_like() } else { rise(&at) };
        let after = if first + tile == n { at.ones_like() } else { rise(&(-&at + (tile - 1) as f64)) };
        before.minimum(&after)
    }
}

/// Networks that halve their images up to three times know where pixels lie within blocks of 8; tiles below 128 pixels, which
/// would overlap too much by then, begin at multiples of a sixteenth of their side or less.
fn grain(tile: i64) -> i64 {
    1 << (tile / 16).clamp(1, 8).ilog2()
}

fn ceil(n: i64, by: i64) -> i64 {
    (n + by - 1) / by
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
        let mut total = x.zeros_like();
        let weights = Tensor::zeros(&size[2..], (x.kind(), x.device()));
        for top in self.places(size[2], height) {
            for left in self.places(size[3], width) {
                let tile =
                    |image: &Tensor, dims: [i64; 2]| image.narrow(dims[0], top, height).narrow(dims[1], left, width);
                let weight = self.ramp((top, height, size[2]), x).unsqueeze(1) * self.ramp((left, width, size[3]), x);
                let part = self.prior.residual(&tile(x, [2, 3]).contiguous(), sigma) * &weight;
                let right = [left, size[3] - left - width, top, size[2] - top - height];
                if part.requires_grad() {
                    total += part.constant_pad_nd(right);
                } else {
                    let _ = tile(&total, [2, 3]).g_add_(&part);
                }
                let _ = tile(&weights, [0, 1]).g_add_(&weight);
            }
        }
        total / weights
    }
}
