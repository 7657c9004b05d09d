//! The Inception Score [Salimans et al. 2016].

use tch::{Kind, Tensor};

use super::spread::Spread;
use crate::Error;

/// exp E\[KL(p(class | x) ‖ p(class))\] of each of several parts of a set, summed as its images come.
///
/// E\[KL\] = E\[Σ p log p\] − Σ q log q with q = E\[p\], so that nothing has to be kept.
#[derive(Debug)]
pub struct InceptionScore {
    count: usize,
    seen: usize,
    /// Number of images, Σ p and Σ p log p of each part.
    parts: Vec<(f64, Option<Tensor>, f64)>,
}

impl InceptionScore {
    /// Creates the score of `count` images in `parts` parts, each of images that follow one another; published figures
    /// are of 10.
    pub fn new(count: usize, parts: usize) -> Self {
        let parts = parts.clamp(1, count.max(1));
        Self { count, seen: 0, parts: (0..parts).map(|_| (0.0, None, 0.0)).collect() }
    }

    /// Adds logits, `[batch, classes]`.
    pub fn push(&mut self, logits: &Tensor) -> Result<(), Error> {
        let logits = logits.to_kind(Kind::Double);
        let (p, log) = (logits.softmax(1, Kind::Double), logits.log_softmax(1, Kind::Double));
        let terms = (&p * log).sum_dim_intlist([1i64].as_slice(), false, None);
        for i in 0..logits.size()[0] {
            // Part k ends before ⌊(k + 1) n / parts⌋.
            let part = ((self.seen + 1) * self.parts.len()).div_ceil(self.count.max(1)).clamp(1, self.parts.len()) - 1;
            let (count, sum, entropy) = &mut self.parts[part];
            *count += 1.0;
            *sum = Some(sum.take().map_or_else(|| p.get(i), |sum| sum + p.get(i)));
            *entropy += f64::try_from(terms.get(i))?;
            self.seen += 1;
        }
        Ok(())
    }

    /// Mean and spread over the parts.
    pub fn value(&self) -> Result<Spread, Error> {
        let score = |(count, sum, entropy): &(f64, Option<Tensor>, f64)| {
            let q = sum.as_ref().map(|sum| sum / *count)?;
            // A class that no image has counts for nothing, and 0 log 0 is 0.
            let of_all = f64::try_from(q.xlogy(&q).sum(Kind::Double)).ok()?;
            Some((entropy / count - of_all).exp())
        };
        let scores: Vec<f64> = self.parts.iter().filter_map(score).collect();
        if scores.is_empty() {
            return Err(Error::parameter("the number of images", "at least 1", 0));
        }
        Ok(Spread::from_values(&scores))
    }
}
