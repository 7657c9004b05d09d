//! Computed tomography: sums along parallel rays.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::{LinearOperator, Operator, Task, norm};
use crate::{Error, numbers::registry::entry};

/// Parallel-beam projections of every channel: y at an angle θ and a detector d is the light within a strip of width 1.
///
/// Pixels are squares of side 1, and A holds the area that each shares with each strip, so that no light is lost or made. At
/// θ = 0 columns are summed; the rays turn counter-clockwise: a pixel x to the right of the image's middle and y above it is
/// seen at x cos θ + y sin θ, detector (count − 1)/2 being 0. A measurement is `[batch, channels, angles, detectors]`, the
/// transpose of scikit-image's sinogram. In memory A takes about 60 bytes for each pixel and angle, and three times as many
/// while it is made.
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

/// Parallel beams around an axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Beams {
    /// θ, in degrees.
    pub angles: Vec<f64>,
    /// Number of detectors.
    pub detectors: i64,
    /// Row and column of the axis, pixels from the image's first; the image's middle if left out.
    ///
    /// An axis that is given projects on that point between the detectors which is nearest to their middle, the higher of two,
    /// and for which at 0° columns of pixels and detectors coincide.
    pub axis: Option<[f64; 2]>,
}

impl Beams {
    /// Row and column of the axis, and where it projects.
    fn axis(&self, [height, width]: [i64; 2]) -> ([f64; 2], f64) {
        let middle = |count: i64| 0.5 * (count - 1) as f64;
        let detector = middle(self.detectors);
        match self.axis {
            None => ([middle(height), middle(width)], detector),
            Some(axis) => (axis, axis[1] + (detector - axis[1] + 0.5).floor()),
        }
    }
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
    /// Creates the operator for images of `[height, width]`.
    pub fn new([height, width]: [i64; 2], beams: &Beams, device: Device, kind: Kind) -> Result<Self, Error> {
        let sinogram = [beams.angles.len() as i64, beams.detectors];
        let pixels = shares([height, width], beams);
        let rays = pixels.transposed((sinogram[0] * sinogram[1]) as usize);
        let (forward, backward) = (rays.tensor(height * width), pixels.tensor(sinogram[0] * sinogram[1]));
        let mut radon = Self { forward, backward, size: [height, width], sinogram, norm_squared: 1.0 };
        radon.norm_squared = norm::largest_eigenvalue(|x| radon.adjoint(&radon.apply(x)), [1, height, width])?;
        let place = |matrix: &Tensor| matrix.to_device(device).to_kind(kind);
        (radon.forward, radon.backward) = (place(&radon.forward), place(&radon.backward));
        Ok(radon)
    }
}

/// The area that each pixel shares with each strip, pixel by pixel.
fn shares([height, width]: [i64; 2], beams: &Beams) -> Rows {
    let ([axis_row, axis_column], axis_detector) = beams.axis([height, width]);
    let detectors = beams.detectors;
    let turns: Vec<(f64, f64)> = beams.angles.iter().map(|angle| libm::sincos(angle.to_radians())).collect();
    let mut rows = Rows { begin: vec![0], columns: Vec::new(), values: Vec::new() };
    for (row, column) in (0..height).flat_map(|row| (0..width).map(move |column| (row, column))) {
        let (x, y) = (column as f64 - axis_column, axis_row - row as f64);
        for (angle, (sine, cosine)) in turns.iter().enumerate() {
            let middle = x * cosine + y * sine + axis_detector;
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
    /// Parallel-beam tomography: the light within strips of width 1, pixels being squares of side 1.
    ///
    /// A measurement has the shape [angles, detectors] and the unit pixel value × pixel side; with `units: 0-1` its pixels are
    /// 0 … 1, as in other packages. At θ = 0 columns are summed, the first detector on the left; the rays turn
    /// counter-clockwise: a pixel x to the right of the axis and y above it is seen at x cos θ + y sin θ from it. Sinograms of
    /// N × N pixels from
    ///
    /// ```text
    /// astra                  as they come: parallel, detectors of width 1
    /// scikit-image           transposed, axis: N // 2
    /// ODL                    angles: n, first: 90/n; the picture comes out turned: rot90(x, -1)
    /// deepinv, circle=True   transposed, times the norm if normalize=True
    /// deepinv, circle=False  the same; axis: N // 2, less 1/2 if ceil(sqrt(2) N) is even
    /// ```
    pub struct Tomography {
        /// Number of angles, spread evenly over 180°, or a list of them in degrees; if left out half as many as the image's
        /// shorter side has pixels.
        pub angles: Option<Angles> = None => "≥ 1, or a list" in "degrees" or "half of the shorter side",
        /// The first of a number of angles.
        pub first: Option<f64> = None => "any number" in "degrees" or "0",
        /// Number of detectors, one pixel wide; if left out so many that the whole image is seen from every side.
        pub detectors: Option<i64> = None => "≥ 1" in "pixels" or "as many as see the whole image",
        /// Row and column of the axis of rotation, counted in pixels from 0, or one number for both.
        ///
        /// It meets the detectors at the point nearest to their middle at which columns of pixels and detectors coincide.
        pub axis: Option<Axis> = None => "a number, or [row, column]" in "pixels" or "the middle",
    }
}

/// Angles of a tomography.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged, expecting = "angles must be a whole number, or a list of degrees")]
pub enum Angles {
    /// So many, spread evenly over 180°.
    Count(i64),
    /// These, in degrees.
    Degrees(Vec<f64>),
}

/// Axis of rotation, counted in pixels from 0.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged, expecting = "axis must be a number, or [row, column]")]
pub enum Axis {
    /// The same row as column.
    Both(f64),
    /// Row and column.
    Each([f64; 2]),
}

/// No matrix may have more entries: 2 GB of them.
const ENTRIES: i64 = 1 << 26;

impl Tomography {
    /// θ in degrees.
    fn degrees(&self, [height, width]: [i64; 2]) -> Result<Vec<f64>, Error> {
        let usual = Angles::Count((height.min(width) / 2).max(1));
        let most = ENTRIES / (3 * height * width);
        let (angles, first) = (self.angles.as_ref().unwrap_or(&usual), self.first.unwrap_or(0.0));
        let count = match angles {
            Angles::Count(count) => *count,
            Angles::Degrees(degrees) => degrees.len() as i64,
        };
        if !(1..=most).contains(&count) {
            let value = format!("{count} for images of {height}x{width}; at most {most} would do");
            return Err(Error::parameter("angles", "at least 1, and few enough to be held in memory", value));
        }
        let degrees = match angles {
            Angles::Count(count) => (0..*count).map(|i| first + 180.0 * i as f64 / *count as f64).collect(),
            Angles::Degrees(_) if self.first.is_some() => {
                return Err(Error::parameter("first", "left out where angles are listed", first));
            }
            Angles::Degrees(degrees) => degrees.clone(),
        };
        match degrees.iter().find(|angle| !angle.is_finite()) {
            Some(angle) => Err(Error::parameter("angles", "finite", angle)),
            None => Ok(degrees),
        }
    }

    /// Row and column of the axis, within the image or its surroundings.
    fn axis(&self, size: [i64; 2]) -> Result<Option<[f64; 2]>, Error> {
        let axis = match self.axis {
            None => return Ok(None),
            Some(Axis::Both(axis)) => [axis, axis],
            Some(Axis::Each(axis)) => axis,
        };
        let [height, width] = size;
        let beside = size.into_iter().zip(axis).any(|(side, at)| !(-1.0..=side as f64).contains(&at));
        if beside {
            let value = format!("{axis:?} for images of {height}x{width}");
            return Err(Error::parameter("axis", "a row and a column of the image, counted from 0", value));
        }
        Ok(Some(axis))
    }
}

impl Task for Tomography {
    fn operator(&self, [_, height, width]: [i64; 3], _: u64, device: Device, kind: Kind) -> Result<Operator, Error> {
        let size = [height, width];
        let detectors = self.detectors.unwrap_or(((height * height + width * width) as f64).sqrt().ceil() as i64);
        if !(1..=4 * (height + width)).contains(&detectors) {
            let value = format!("{detectors} for images of {height}x{width}");
            return Err(Error::parameter("detectors", "at least 1, and not far more than the image is wide", value));
        }
        let beams = Beams { angles: self.degrees(size)?, detectors, axis: self.axis(size)? };
        Ok(Radon::new(size, &beams, device, kind)?.into())
    }
}
