//! Continuations of an image beyond its border.

use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Continuation of an image beyond its border.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Boundary {
    /// Mirrored about the outermost pixels: c b | a b c | b a.
    #[default]
    Reflect,
    /// Black: 0 0 | a b c | 0 0, where 0 is the middle of the pixel range −1 … 1.
    Zero,
    /// Repeated: b c | a b c | a b.
    Circular,
}

impl Boundary {
    /// Number of the pixel of 0 … n − 1 that stands in for pixel `i`; `None` where it is zero.
    pub(super) fn source(self, i: i64, n: i64) -> Option<i64> {
        match self {
            Self::Reflect => {
                let period = (2 * (n - 1)).max(1);
                let i = i.rem_euclid(period);
                Some(i.min(period - i))
            }
            Self::Zero => (0..n).contains(&i).then_some(i),
            Self::Circular => Some(i.rem_euclid(n)),
        }
    }

    /// `x` with `rows` more at top and bottom and `columns` more at either side.
    pub(super) fn pad(self, x: &Tensor, [rows, columns]: [i64; 2]) -> Tensor {
        let mode = match self {
            Self::Reflect => "reflect",
            Self::Zero => "constant",
            Self::Circular => "circular",
        };
        x.pad([columns, columns, rows, rows].as_slice(), mode, None)
    }

    /// The adjoint of [`pad`](Self::pad): what was copied out to the border is added back to where it came from.
    pub(super) fn fold(self, y: &Tensor, [rows, columns]: [i64; 2]) -> Tensor {
        self.fold_along(&self.fold_along(y, 2, rows), 3, columns)
    }

    fn fold_along(self, y: &Tensor, dim: i64, reach: i64) -> Tensor {
        let n = y.size()[dim as usize] - 2 * reach;
        let (before, after) = (y.narrow(dim, 0, reach), y.narrow(dim, n + reach, reach));
        let middle = y.narrow(dim, reach, n).copy();
        let add = |from: i64, border: &Tensor| {
            let _ = middle.narrow(dim, from, reach).g_add_(border);
        };
        match self {
            Self::Reflect => {
                add(1, &before.flip([dim].as_slice()));
                add(n - 1 - reach, &after.flip([dim].as_slice()));
            }
            Self::Zero => {}
            Self::Circular => {
                add(n - reach, &before);
                add(0, &after);
            }
        }
        middle
    }
}
