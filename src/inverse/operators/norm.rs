//! The norm of an operator that is only known by what it does.

use tch::{Device, Kind, Tensor};

use crate::{Error, numbers::stream};

/// The iteration ends when eight more steps change the value by no more than this part of it.
const TOLERANCE: f64 = 1e-10;

/// No image needs more steps: even without any gap below it the value's error falls as 1 / steps².
const STEPS: usize = 400;

/// The largest eigenvalue of `normal` = AᵀA on images of `shape` = `[channels, height, width]`, in f64.
///
/// One channel will do where all are treated alike.
///
/// Lanczos' iteration makes the best use of the products that the power iteration would need as well. Its vectors need
/// not stay orthogonal, since what is lost then only repeats eigenvalues [Golub & Van Loan, §10.3].
pub fn largest_eigenvalue(normal: impl Fn(&Tensor) -> Tensor, shape: [i64; 3]) -> Result<f64, Error> {
    let mut vector = start(shape);
    let mut before = vector.zeros_like();
    let (mut diagonal, mut beside) = (Vec::new(), Vec::new());
    let (mut length, mut value) = (0.0, 0.0);
    for step in 1..=STEPS {
        let product = normal(&vector);
        let along = f64::try_from((&product * &vector).sum(Kind::Double))?;
        let next = product - &vector * along - before * length;
        length = f64::try_from(next.norm())?;
        diagonal.push(along);
        let exhausted = length <= TOLERANCE * along;
        if exhausted || step % 8 == 0 {
            let last = std::mem::replace(&mut value, top(&diagonal, &beside)?);
            if exhausted || value - last <= TOLERANCE * value {
                break;
            }
        }
        beside.push(length);
        before = std::mem::replace(&mut vector, next / length);
    }
    Ok(value)
}

/// A unit vector, `[1, channels, height, width]`.
///
/// All positive, and so not orthogonal to the first eigenvector of a kernel without negative values.
fn start([channels, height, width]: [i64; 3]) -> Tensor {
    let values: Vec<f64> = stream::uniform(0, 0, 0).take((channels * height * width) as usize).collect();
    let vector = Tensor::from_slice(&values).view([1, channels, height, width]);
    &vector / vector.norm()
}

/// The largest eigenvalue of a symmetric tridiagonal matrix.
fn top(diagonal: &[f64], beside: &[f64]) -> Result<f64, Error> {
    let n = diagonal.len() as i64;
    let mut matrix = Tensor::zeros([n, n], (Kind::Double, Device::Cpu));
    matrix += Tensor::from_slice(diagonal).diag(0);
    matrix += Tensor::from_slice(beside).diag(-1);
    Ok(f64::try_from(matrix.f_linalg_eigvalsh("L")?.max())?)
}
