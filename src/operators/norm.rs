//! The norm of an operator that is only known by what it does.

use tch::{Kind, Tensor};

use crate::{Error, noise::stream};

/// A Ritz pair this exact, relative to its value, ends the iteration.
const TOLERANCE: f64 = 1e-8;

/// No image needs more steps: the Ritz value's error falls at least as fast as 1 / steps².
const STEPS: usize = 200;

/// The largest eigenvalue of `normal` = AᵀA on images of `size` = `[height, width]`, one channel, in f64.
///
/// Lanczos' iteration with full reorthogonalisation: the power iteration's best use of the same products [Golub & Van
/// Loan, §10.1].
pub(super) fn largest_eigenvalue(normal: impl Fn(&Tensor) -> Tensor, size: [i64; 2]) -> Result<f64, Error> {
    let count = (size[0] * size[1]) as usize;
    // All positive, and so not orthogonal to the largest eigenvector of a kernel without negative values.
    let start: Vec<f64> = stream::uniform(0, 0, 0).take(count).collect();
    let mut vector = Tensor::from_slice(&start);
    vector = &vector / vector.norm();
    let mut basis = vector.unsqueeze(0);
    let (mut diagonal, mut beside) = (Vec::new(), Vec::new());
    loop {
        let mut next = normal(&vector.view([1, 1, size[0], size[1]])).flatten(0, -1);
        diagonal.push(f64::try_from(next.dot(&vector))?);
        // Twice is enough, as Kahan and Parlett found.
        for _ in 0..2 {
            next = &next - basis.tr().mv(&basis.mv(&next));
        }
        let length = f64::try_from(next.norm())?;
        let (value, residual) = top(&diagonal, &beside, length)?;
        if residual <= TOLERANCE * value || diagonal.len() == STEPS.min(count) {
            return Ok(value);
        }
        beside.push(length);
        vector = next / length;
        basis = Tensor::cat(&[&basis, &vector.unsqueeze(0)], 0);
    }
}

/// The largest eigenvalue of a tridiagonal matrix, and how far the Ritz vector that goes with it is from exact.
fn top(diagonal: &[f64], beside: &[f64], length: f64) -> Result<(f64, f64), Error> {
    let n = diagonal.len() as i64;
    let mut matrix = Tensor::zeros([n, n], (Kind::Double, tch::Device::Cpu));
    matrix += Tensor::from_slice(diagonal).diag(0);
    matrix += Tensor::from_slice(beside).diag(-1);
    let (values, vectors) = matrix.f_linalg_eigh("L")?;
    Ok((values.double_value(&[n - 1]), length * vectors.double_value(&[n - 1, n - 1]).abs()))
}
