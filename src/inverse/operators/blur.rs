//! Blur with any kernel.

use tch::{Device, Kind, Tensor};

use super::{Boundary, LinearOperator, Svd, norm};
use crate::Error;

/// Convolution of every channel with one kernel, (A x)ᵢ = Σⱼ kⱼ xᵢ₋ⱼ: a point of light becomes the kernel.
///
/// The image is first continued beyond its border; then the convolution is a product of Fourier transforms, whose cost
/// does not grow with the kernel. (DPS correlates instead: its kernels are ours turned by 180°.)
#[derive(Debug)]
pub struct Blur {
    /// `[rows, columns]`, of sum 1.
    kernel: Tensor,
    /// The Fourier transform of the kernel on the continued image, `[rows, columns / 2 + 1]`.
    spectrum: Tensor,
    /// Height and width of the images.
    size: [i64; 2],
    boundary: Boundary,
    /// Rows and columns by which the image is continued.
    reach: [i64; 2],
    norm_squared: f64,
}

impl Blur {
    /// `kernel` is `[rows, columns]`, both odd, its middle the origin; it is normalised to sum 1.
    ///
    /// `shape` is the images' `[channels, height, width]`; the kernel must reach less far than the image.
    pub fn new(
        kernel: &Tensor,
        shape: [i64; 3],
        boundary: Boundary,
        device: Device,
        kind: Kind,
    ) -> Result<Self, Error> {
        let reach = check(kernel, shape)?;
        let [_, height, width] = shape;
        // A circular convolution is circular already.
        let reach = if boundary == Boundary::Circular { [0, 0] } else { reach };
        let kernel = kernel.to_device(Device::Cpu).to_kind(Kind::Double);
        let kernel = &kernel / kernel.sum(Kind::Double);
        let spectrum = spectrum(&kernel, [height + 2 * reach[0], width + 2 * reach[1]])?;
        let mut blur = Self { kernel, spectrum, size: [height, width], boundary, reach, norm_squared: 1.0 };
        blur.norm_squared = match boundary {
            Boundary::Circular => f64::try_from(blur.spectrum.abs().square().max())?,
            _ => norm::largest_eigenvalue(|x| blur.adjoint(&blur.apply(x)), [1, height, width])?,
        };
        let complex = if kind == Kind::Double { Kind::ComplexDouble } else { Kind::ComplexFloat };
        blur.spectrum = blur.spectrum.to_device(device).to_kind(complex);
        Ok(blur)
    }
}

/// Half sizes of the kernel, after a check that it is one and fits the image.
fn check(kernel: &Tensor, [_, height, width]: [i64; 3]) -> Result<[i64; 2], Error> {
    let size = kernel.size();
    let fits = |k: i64, side: i64| k % 2 == 1 && k / 2 < side;
    if !matches!(size[..], [rows, columns] if fits(rows, height) && fits(columns, width)) {
        let want = format!("[rows, columns], both odd and at most {} and {},", 2 * height - 1, 2 * width - 1);
        return Err(Error::Shape { what: "the kernel", got: size, want });
    }
    let (sum, whole) = (f64::try_from(kernel.sum(Kind::Double))?, f64::try_from(kernel.abs().sum(Kind::Double))?);
    // A kernel of mean 0, an edge filter, sums to its rounding errors: scaled to sum 1, it would be noise.
    if !(sum.is_finite() && sum > 1e-6 * whole) {
        let want = "positive, and more than rounding beside the sum of its sizes";
        return Err(Error::parameter("the sum of the kernel", want, format!("{sum:e} of {whole:e}")));
    }
    Ok([size[0] / 2, size[1] / 2])
}

/// The Fourier transform of the kernel, wrapped around the origin of a grid of `rows` × `columns`.
fn spectrum(kernel: &Tensor, [rows, columns]: [i64; 2]) -> Result<Tensor, Error> {
    let values = Vec::<Vec<f64>>::try_from(kernel)?;
    let mut grid = vec![0.0; (rows * columns) as usize];
    for (i, line) in (-kernel.size()[0] / 2..).zip(&values) {
        for (j, value) in (-kernel.size()[1] / 2..).zip(line) {
            grid[(i.rem_euclid(rows) * columns + j.rem_euclid(columns)) as usize] += value;
        }
    }
    Ok(rfft(&Tensor::from_slice(&grid).view([rows, columns])))
}

fn rfft(x: &Tensor) -> Tensor {
    x.fft_rfft2(None::<i64>, [-2i64, -1].as_slice(), "backward")
}

/// The product of spectra, as an image of the size of `like`.
fn irfft(spectrum: &Tensor, like: &Tensor) -> Tensor {
    let size = like.size();
    spectrum.fft_irfft2(&size[size.len() - 2..], [-2i64, -1].as_slice(), "backward")
}

impl LinearOperator for Blur {
    fn apply(&self, x: &Tensor) -> Tensor {
        let [rows, columns] = self.reach;
        let (height, width) = (x.size()[2], x.size()[3]);
        let wide = self.boundary.pad(x, self.reach);
        irfft(&(rfft(&wide) * &self.spectrum), &wide).narrow(2, rows, height).narrow(3, columns, width)
    }

    fn adjoint(&self, y: &Tensor) -> Tensor {
        let wide = Boundary::Zero.pad(y, self.reach);
        self.boundary.fold(&irfft(&(rfft(&wide) * self.spectrum.conj()), &wide), self.reach)
    }

    fn norm_squared(&self) -> f64 {
        self.norm_squared
    }

    fn svd(&self) -> Option<&dyn Svd> {
        // Fourier's waves are singular vectors of a blur that goes round and round, and of no other.
        (self.boundary == Boundary::Circular).then_some(self as &dyn Svd)
    }

    fn tables(&self) -> Vec<(&'static str, Tensor)> {
        vec![("kernel", self.kernel.shallow_clone())]
    }
}

impl Svd for Blur {
    fn coordinates(&self, x: &Tensor) -> Tensor {
        rfft(x)
    }

    fn image(&self, coordinates: &Tensor) -> Tensor {
        coordinates.fft_irfft2(self.size.as_slice(), [-2i64, -1].as_slice(), "backward")
    }

    fn measured(&self, y: &Tensor) -> Tensor {
        rfft(y) * self.spectrum.conj() / self.spectrum.abs().clamp_min(f64::from(f32::MIN_POSITIVE))
    }

    fn singular(&self, kind: Kind) -> Tensor {
        self.spectrum.abs().to_kind(kind)
    }
}

/// √(shorter side / 256): how kernels made for 256 pixels shrink for smaller images.
///
/// In proportion to the side itself they would hardly reach the next pixel of a small image.
pub(super) fn shrink([_, height, width]: [i64; 3]) -> f64 {
    (height.min(width) as f64 / 256.0).sqrt()
}

/// k of a kernel that reaches from −k to k: from its `size` 2 k + 1, or else `default` as far as the image allows.
pub(super) fn reach(size: Option<i64>, default: f64, [_, height, width]: [i64; 3]) -> Result<i64, Error> {
    let most = height.min(width) - 1;
    let Some(size) = size else { return Ok((default as i64).min(most)) };
    if size < 1 || size % 2 == 0 || size / 2 > most {
        let value = format!("{size} for images of {height}x{width}; 1, 3, … {} would do", 2 * most + 1);
        return Err(Error::parameter("size", "odd and less than twice the image's shorter side", value));
    }
    Ok(size / 2)
}
