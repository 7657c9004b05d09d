//! Magnetic resonance imaging: some of the image's spatial frequencies are seen.

use std::f64::consts::PI;

use tch::{Device, Kind, Tensor};

use super::{LinearOperator, Operator, Svd, Task, draw};
use crate::{
    Error,
    numbers::{registry::entry, stream},
};

const PLANE: [i64; 2] = [-2, -1];

/// A x = M F x: the unitary 2-D Fourier transform of every channel, of which a mask M is seen.
///
/// Frequency 0 is in the middle, at (height / 2, width / 2), and the image's origin is its middle pixel, as in fastMRI. A
/// measurement is `[batch, 2 channels, height, width]`: the real part of each channel, then its imaginary part. Images are
/// real, so a frequency that is seen determines its opposite as well: AᵀA multiplies the spectrum by the mean of the mask
/// at the two, s² ∈ {0, ½, 1}, and F is V.
#[derive(Debug)]
pub struct Fourier {
    /// True where a frequency is seen, `[height, width]`.
    seen: Tensor,
    /// s, `[height, width]`.
    singular: Tensor,
    norm_squared: f64,
}

impl Fourier {
    /// `mask` is `[height, width]`, as the images have it: 1 where a frequency is seen, 0 elsewhere.
    pub fn new(mask: &Tensor, [_, height, width]: [i64; 3], device: Device, kind: Kind) -> Result<Self, Error> {
        if mask.size() != [height, width] {
            let want = format!("[{height}, {width}], as the images have it,");
            return Err(Error::Shape { what: "the mask of frequencies", got: mask.size(), want });
        }
        let seen = mask.to_device(Device::Cpu).ne(0.0);
        if !bool::try_from(seen.any())? {
            return Err(Error::parameter("the mask of frequencies", "1 at one of them at least", "0 at all"));
        }
        let both = seen.to_kind(Kind::Double) + opposite(&seen).to_kind(Kind::Double);
        let singular = (both / 2.0).sqrt();
        let norm_squared = f64::try_from(singular.max())?.powi(2);
        Ok(Self { seen: seen.to_device(device), singular: singular.to_device(device).to_kind(kind), norm_squared })
    }
}

/// The mask with each frequency's place taken by its negative.
fn opposite(mask: &Tensor) -> Tensor {
    let turned = |n: i64| {
        let places: Vec<i64> = (0..n).map(|i| (2 * (n / 2) - i).rem_euclid(n)).collect();
        Tensor::from_slice(&places)
    };
    mask.index_select(0, &turned(mask.size()[0])).index_select(1, &turned(mask.size()[1]))
}

/// F x, complex.
pub(super) fn transform(x: &Tensor) -> Tensor {
    x.fft_ifftshift(PLANE.as_slice()).fft_fft2(None::<i64>, PLANE.as_slice(), "ortho").fft_fftshift(PLANE.as_slice())
}

/// The real part of F⁻¹ c.
fn inverse(c: &Tensor) -> Tensor {
    let c = c.fft_ifftshift(PLANE.as_slice()).fft_ifft2(None::<i64>, PLANE.as_slice(), "ortho");
    c.fft_fftshift(PLANE.as_slice()).real().contiguous()
}

impl LinearOperator for Fourier {
    fn apply(&self, x: &Tensor) -> Tensor {
        (transform(x) * &self.seen).view_as_real().permute([0, 1, 4, 2, 3]).flatten(1, 2)
    }

    fn adjoint(&self, y: &Tensor) -> Tensor {
        let parts = y.unflatten(1, [-1, 2]).permute([0, 1, 3, 4, 2]).contiguous();
        inverse(&(parts.view_as_complex() * &self.seen))
    }

    fn norm_squared(&self) -> f64 {
        self.norm_squared
    }

    fn svd(&self) -> Option<&dyn Svd> {
        Some(self)
    }

    fn tables(&self) -> Vec<(&'static str, Tensor)> {
        vec![("mask", self.seen.to_kind(Kind::Uint8))]
    }

    /// What a scanner reads is never exactly 0: such frequencies were not read, and the mask is another.
    fn check(&self, y: &Tensor) -> Result<(), Error> {
        let read = y.ne(0.0).sum_dim_intlist([0i64, 1].as_slice(), false, Kind::Int64).gt(0);
        let lost = i64::try_from(self.seen.logical_and(&read.logical_not()).sum(Kind::Int64))?;
        if lost == 0 {
            return Ok(());
        }
        let all = i64::try_from(self.seen.sum(Kind::Int64))?;
        let value = format!("0 at {lost} of its {all}: give the mask of the scan, as '{{kind: mri-mask, mask: FILE}}'");
        Err(Error::parameter("the measurement", "other than exactly 0 at every frequency that the mask shows", value))
    }
}

impl Svd for Fourier {
    fn coordinates(&self, x: &Tensor) -> Tensor {
        transform(x)
    }

    fn image(&self, coordinates: &Tensor) -> Tensor {
        inverse(coordinates)
    }

    fn measured(&self, y: &Tensor) -> Tensor {
        // Uᵀ y = s⁻¹ Vᵀ Aᵀ y: the part of the noise that no real image explains falls out.
        transform(&self.adjoint(y)) / self.singular.where_scalarother(&self.singular.ne(0.0), 1.0)
    }

    fn singular(&self, kind: Kind) -> Tensor {
        self.singular.to_kind(kind)
    }
}

entry! {
    name: "mri-cartesian",
    what: "columns of frequencies",
    source: "fastMRI",
    facts: { map: "linear, svd", random: "columns" },
    aliases: ["mri"],
    /// Whole columns of frequencies at random, the lowest of them without a gap, as a scanner reads one line after another.
    ///
    /// A measurement is k-space by the unitary transform, frequency 0 and the image's origin in the middle, at row height // 2
    /// and column width // 2, as in fastMRI: a complex array of the image's shape, or [2 × channels, height, width], the real
    /// part of each channel and then its imaginary part. Its images are real, −1 … 1 (`units: 0-1` for 0 … 1).
    ///
    /// ```text
    /// fastMRI            as it comes: complex k-space of one coil, centred
    /// sigpy              sigpy.fft(x), as it comes
    /// numpy              fftshift(fft2(ifftshift(x), norm="ortho"))
    /// deepinv            MRI().A(x): [1, 2, height, width], real and imaginary part, as it comes
    /// ```
    ///
    /// The columns of a scan of one's own are given by a mask: the task `mri-mask`.
    pub struct MriCartesian {
        /// Number of columns over the number of seen columns.
        pub acceleration: f64 = 4.0 => "≥ 1",
        /// The part of all columns that is seen in the middle without a gap, as in fastMRI.
        pub center: f64 = 0.08 => "0 … 1" in "of all columns",
    }
}

impl MriCartesian {
    /// Whether each of `width` columns is seen.
    fn columns(&self, width: i64, seed: u64) -> Result<Vec<bool>, Error> {
        if !self.acceleration.is_finite() || self.acceleration < 1.0 {
            return Err(Error::parameter("acceleration", "at least 1", self.acceleration));
        }
        let total = (width as f64 / self.acceleration).round().max(1.0) as i64;
        let middle = (width as f64 * self.center).round_ties_even().max(1.0) as i64;
        if !(0.0..=1.0).contains(&self.center) || middle > total {
            let value = format!("{} of {width} columns, of which {total} are seen", self.center);
            return Err(Error::parameter("center", "a part of the columns that are seen", value));
        }
        let first = (width - middle + 1) / 2;
        let mut seen: Vec<bool> = (0..width).map(|i| (first..first + middle).contains(&i)).collect();
        let order = stream::permutation(width as usize, seed, 0, draw::LINES);
        let others: Vec<usize> = order.into_iter().filter(|&i| !seen[i]).take((total - middle) as usize).collect();
        for i in others {
            seen[i] = true;
        }
        Ok(seen)
    }
}

impl Task for MriCartesian {
    fn operator(&self, shape: [i64; 3], seed: u64, device: Device, kind: Kind) -> Result<Operator, Error> {
        let columns = Tensor::from_slice(&self.columns(shape[2], seed)?);
        let mask = columns.unsqueeze(0).expand([shape[1], shape[2]], false);
        Ok(Fourier::new(&mask, shape, device, kind)?.into())
    }
}

entry! {
    name: "mri-radial",
    what: "frequencies on spokes through 0",
    source: "",
    facts: { map: "linear, svd", random: "no" },
    /// Frequencies along straight lines through 0, at equal angles.
    pub struct MriRadial {
        /// Number of lines; if left out a quarter of the shorter side.
        pub spokes: Option<i64> = None => "≥ 1" or "a quarter of the shorter side",
    }
}

impl MriRadial {
    /// The frequencies nearest to points on each line, half a step apart from border to border.
    fn points([height, width]: [i64; 2], spokes: i64) -> Vec<i64> {
        let (middle, reach) = ([height / 2, width / 2], height + width);
        let point = |spoke: i64, step: i64| {
            let (sine, cosine) = libm::sincos(PI * spoke as f64 / spokes as f64);
            let at = |origin: i64, part: f64| origin + (0.5 * step as f64 * part).round() as i64;
            let (row, column) = (at(middle[0], sine), at(middle[1], cosine));
            ((0..height).contains(&row) && (0..width).contains(&column)).then_some(row * width + column)
        };
        (0..spokes).flat_map(|spoke| (-reach..=reach).filter_map(move |step| point(spoke, step))).collect()
    }
}

impl Task for MriRadial {
    fn operator(&self, shape: [i64; 3], _: u64, device: Device, kind: Kind) -> Result<Operator, Error> {
        let [_, height, width] = shape;
        let spokes = self.spokes.unwrap_or(height.min(width) / 4).max(i64::from(self.spokes.is_none()));
        let most = 4 * height.max(width);
        if !(1..=most).contains(&spokes) {
            return Err(Error::parameter(
                "spokes",
                "at least 1 and at most four times the image's longer side",
                spokes,
            ));
        }
        let points = Tensor::from_slice(&Self::points([height, width], spokes));
        let mask = Tensor::zeros([height * width], (Kind::Double, Device::Cpu)).index_fill(0, &points, 1.0);
        Ok(Fourier::new(&mask.view([height, width]), shape, device, kind)?.into())
    }
}
