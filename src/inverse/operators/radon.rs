//! Computed tomography: sums along parallel rays.

use tch::{Device, Kind, Tensor};

use super::{LinearOperator, Operator, Task, norm};
use crate::{Error, numbers::registry::entry};

/// Parallel-beam projections of every channel: y at an angle θ and a detector d is the light within a strip of width 1.
///
/// Pixels are squares of side 1, and A holds the area that each shares with each strip, so that no light is lost or made. At
/// θ = 0 columns are summed; the rays turn counter-clockwise: a pixel x to the right of the image's middle and y above it is
/// seen at x cos θ + y sin θ, detector (count − 1)/2 being 0. A measurement is `[batch, channels, angles, detectors]`, the
/// transpose of scikit-image's sinogram. In memory A takes about 60 bytes
/// for each pixel and angle, and three times as many while it is made.
#[derive(Debug)]
pub struct Radon {
    /// A, sparse, `[angles · detectors, height · width]`.
    forward: Tensor,
    /// Aᵀ, sparse.
    backward: Tensor,
    size: [i64; 2],
    sinogram: [i64; 2],
    norm_squared: f64,
}

/// A sparse matrix: where each row begins, and its columns and values, row by row.
struct Rows {
    begin: Vec<i64>,
    columns: Vec<i64>,
    values: Vec<f64>,
}

impl Rows {
    fn tensor(&self, columns: i64) -> Tensor {
        let size = [self.begin.len() as i64 - 1, columns];
        let [begin, at] = [&self.begin, &self.columns].map(|list| Tensor::from_slice(list));
        let options = (Kind::Double, Device::Cpu);
        Tensor::sparse_csr_tensor_crow_col_value_size(&begin, &at, &Tensor::from_slice(&self.values), size, options)
    }

    fn transposed(&self, columns: usize) -> Self {
        let mut begin = vec![0; columns + 1];
        for &column in &self.columns {
            begin[column as usize + 1] += 1;
        }
        for i in 0..columns {
            begin[i + 1] += begin[i];
        }
        let (mut next, mut at, mut values) = (begin.clone(), vec![0; self.columns.len()], vec![0.0; self.values.len()]);
        for (row, span) in self.begin.windows(2).enumerate() {
            for i in span[0] as usize..span[1] as usize {
                let place = &mut next[self.columns[i] as usize];
                (at[*place as usize], values[*place as usize]) = (row as i64, self.values[i]);
                *place += 1;
            }
        }
        Self { begin, columns: at, values }
    }
}

impl Radon {
    /// Creates the operator for images of `[height, width]`, at `angles` in degrees, with so many `detectors`.
    pub fn new(
        [height, width]: [i64; 2],
        angles: &[f64],
        detectors: i64,
        device: Device,
        kind: Kind,
    ) -> Result<Self, Error> {
        let sinogram = [angles.len() as i64, detectors];
        let pixels = shares([height, width], angles, detectors);
        let rays = pixels.transposed((sinogram[0] * detectors) as usize);
        let (forward, backward) = (rays.tensor(height * width), pixels.tensor(sinogram[0] * detectors));
        let mut radon = Self { forward, backward, size: [height, width], sinogram, norm_squared: 1.0 };
        radon.norm_squared = norm::largest_eigenvalue(|x| radon.adjoint(&radon.apply(x)), [1, height, width])?;
        let place = |matrix: &Tensor| matrix.to_device(device).to_kind(kind);
        (radon.forward, radon.backward) = (place(&radon.forward), place(&radon.backward));
        Ok(radon)
    }
}

/// The area that each pixel shares with each strip, pixel by pixel.
fn shares([height, width]: [i64; 2], angles: &[f64], detectors: i64) -> Rows {
    let turns: Vec<(f64, f64)> = angles.iter().map(|angle| libm::sincos(angle.to_radians())).collect();
    let mut rows = Rows { begin: vec![0], columns: Vec::new(), values: Vec::new() };
    for (row, column) in (0..height).flat_map(|row| (0..width).map(move |column| (row, column))) {
        let (x, y) = (column as f64 - 0.5 * (width - 1) as f64, 0.5 * (height - 1) as f64 - row as f64);
        for (angle, (sine, cosine)) in turns.iter().enumerate() {
            let middle = x * cosine + y * sine + 0.5 * (detectors - 1) as f64;
            let half = 0.5 * (sine.abs() + cosine.abs());
            let (first, last) = ((middle - half).round() as i64, (middle + half).round() as i64);
            for detector in first.max(0)..=last.min(detectors - 1) {
                let below = |edge: f64| shadow(detector as f64 + edge - middle, sine.abs(), cosine.abs());
                let share = below(0.5) - below(-0.5);
                if share > 0.0 {
                    rows.columns.push(angle as i64 * detectors + detector);
                    rows.values.push(share);
                }
            }
        }
        rows.begin.push(rows.columns.len() as i64);
    }
    rows
}

/// The part of a unit square's shadow that lies below t; the shadow of a square turned by θ is a trapezium, the convolution of
/// intervals of length |sin θ| and |cos θ|.
fn shadow(t: f64, sine: f64, cosine: f64) -> f64 {
    let (short, long) = (sine.min(cosine), sine.max(cosine));
    let upper = if t <= 0.0 {
        let depth = (t + 0.5 * (long + short)).max(0.0);
        if depth < short { depth * depth / (2.0 * short * long) } else { 0.5 + t / long }
    } else {
        1.0 - shadow(-t, sine, cosine)
    };
    upper.clamp(0.0, 1.0)
}

impl LinearOperator for Radon {
    fn apply(&self, x: &Tensor) -> Tensor {
        multiplied(&self.forward, x, self.sinogram)
    }

    fn adjoint(&self, y: &Tensor) -> Tensor {
        multiplied(&self.backward, y, self.size)
    }

    fn norm_squared(&self) -> f64 {
        self.norm_squared
    }

    fn tables(&self) -> Vec<(&'static str, Tensor)> {
        let indices = (self.forward.crow_indices(), self.forward.col_indices(), self.forward.values());
        vec![("indptr", indices.0), ("indices", indices.1), ("data", indices.2)]
    }
}

/// The product of a sparse matrix with every channel of every image, as images of another size.
fn multiplied(matrix: &Tensor, x: &Tensor, size: [i64; 2]) -> Tensor {
    let (batch, channels) = (x.size()[0], x.size()[1]);
    let columns = x.flatten(2, 3).flatten(0, 1).tr().contiguous();
    matrix.matmul(&columns).tr().contiguous().view([batch, channels, size[0], size[1]])
}

entry! {
    name: "tomography",
    what: "sums along parallel rays",
    source: "",
    facts: { map: "linear", random: "no" },
    /// Parallel-beam tomography with angles spread evenly over 180°, the first 0.
    pub struct Tomography {
        /// Number of angles; if left out half as many as the image's shorter side has pixels.
        pub angles: Option<i64> = None => "≥ 1" or "half of the shorter side",
        /// Number of detectors, one pixel wide; if left out so many that the whole image is seen from every side.
        pub detectors: Option<i64> = None => "≥ 1" in "pixels" or "as many as see the whole image",
    }
}

/// No matrix may have more entries: 2 GB of them.
const ENTRIES: i64 = 1 << 26;

impl Task for Tomography {
    fn operator(&self, [_, height, width]: [i64; 3], _: u64, device: Device, kind: Kind) -> Result<Operator, Error> {
        let angles = self.angles.unwrap_or((height.min(width) / 2).max(1));
        let most = ENTRIES / (3 * height * width);
        if !(1..=most).contains(&angles) {
            let value = format!("{angles} for images of {height}x{width}; at most {most} would do");
            return Err(Error::parameter("angles", "at least 1, and few enough to be held in memory", value));
        }
        let detectors = self.detectors.unwrap_or(((height * height + width * width) as f64).sqrt().ceil() as i64);
        if !(1..=4 * (height + width)).contains(&detectors) {
            let value = format!("{detectors} for images of {height}x{width}");
            return Err(Error::parameter("detectors", "at least 1, and not far more than the image is wide", value));
        }
        let degrees: Vec<f64> = (0..angles).map(|i| 180.0 * i as f64 / angles as f64).collect();
        Ok(Radon::new([height, width], &degrees, detectors, device, kind)?.into())
    }
}
