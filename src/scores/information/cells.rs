//! Bytes as cells of the line, so that their probability is an integral of a density.

use tch::{Kind, Tensor};

use crate::numbers::stream;

/// Marks the draws u of [`Cells::dequantise`]; levels are numbered from 0.
const UNIFORM: u64 = u64::MAX;

/// A byte b is any number of the cell (b … b + 1)/w + `lowest`, all equally likely [Theis et al. 2016].
///
/// ```text
/// x = (b + u)/w + lowest,  u uniform on 0 … 1
/// −log₂ P(bytes) ≤ E[−log₂ p(x)] + d log₂ w
/// ```
///
/// so that bits per dimension are nats/(d ln 2) + log₂ w, whatever the range: 7 for pixels of −1 … 1, 8 for 0 … 1.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Cells {
    /// w, the number of cells for one unit of x.
    pub per_unit: f64,
    /// Begin of the cell of 0.
    pub lowest: f64,
}

impl Default for Cells {
    /// x = (b + u)/128 − 1, which fills −1 … 1; 7 bits of offset. Published figures have it so [Score SDE, Appendix D].
    fn default() -> Self {
        Self { per_unit: 128.0, lowest: -1.0 }
    }
}

impl Cells {
    /// x for bytes `[batch, channels, height, width]`, f32; u is a pure function of each image's seed.
    pub fn dequantise(&self, bytes: &Tensor, seeds: &[u64]) -> Tensor {
        let size = bytes.size();
        let each = size[1..].iter().product::<i64>() as usize;
        let uniform = |&seed: &u64| stream::uniform(seed, UNIFORM, 0).take(each).map(|u| u as f32);
        let u = Tensor::from_slice(&seeds.iter().flat_map(uniform).collect::<Vec<_>>());
        (bytes.to_kind(Kind::Float) + u.view(size.as_slice())) / self.per_unit + self.lowest
    }

    /// The variance that u adds to every number: 1/(12 w²).
    pub fn variance(&self) -> f64 {
        1.0 / (12.0 * self.per_unit * self.per_unit)
    }

    /// Bits per dimension of `nats` for d = `numbers` numbers.
    pub fn bits(&self, nats: f64, numbers: usize) -> f64 {
        nats / (numbers as f64 * std::f64::consts::LN_2) + self.per_unit.log2()
    }
}
