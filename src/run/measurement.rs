//! Measurements of one's own: arrays, pictures, and the archives that restorations write.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tch::{Kind, Tensor};

use super::{
    image_set::stem,
    problem::{OperatorSource, Problem},
    session::Session,
};
use crate::{
    Error,
    files::{depth::Depth, images, npz},
    inverse::operators::{AnyTask, Blur, Boundary, Inpaint, Operator},
};

/// Units of the pixels that a measurement is of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Units {
    /// 0 … 1.
    Unit,
    /// −1 … 1: data units.
    Data,
}

/// A measurement in a file.
#[derive(Debug)]
pub struct MeasurementFile {
    path: PathBuf,
    contents: Contents,
}

#[derive(Debug)]
enum Contents {
    /// Its channels are those that the operator makes.
    Picture,
    /// Real numbers, of any shape; units, where the file's type says them.
    Array(Tensor, Option<Units>),
    Archive(Archive),
}

/// What [`Measurement::write_npz`](crate::inverse::detectors::Measurement::write_npz) has written.
#[derive(Debug)]
struct Archive {
    y: Tensor,
    task: Value,
    mask: Option<Tensor>,
    kernel: Option<Tensor>,
    noise: f64,
    seed: u64,
    shape: [i64; 3],
}

impl MeasurementFile {
    /// Reads a measurement: `.npz` of a restoration, `.npy`, or a picture.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let contents = match ending {
            "npz" => Contents::Archive(Archive::read(path)?),
            "npy" => array(images::read_npy(path)?),
            _ => Contents::Picture,
        };
        Ok(Self { path: path.to_owned(), contents })
    }

    /// η for pixels 0 … 1, where the file says it.
    pub fn noise(&self) -> Option<f64> {
        self.archive().map(|archive| archive.noise)
    }

    /// Shape of the images, `[channels, height, width]`, where the file says it.
    pub fn shape(&self) -> Option<[i64; 3]> {
        self.archive().map(|archive| archive.shape)
    }

    /// Returns the shape of the images behind the measurement, of a network of `shape`, or of any size if it is `local`: then the
    /// one of which `source` makes the measurement, if the measurement is an image.
    pub fn image_shape<'a>(
        &self,
        [channels, height, width]: [i64; 3],
        local: bool,
        source: impl Fn([i64; 3]) -> Result<OperatorSource<'a>, Error>,
    ) -> Result<[i64; 3], Error> {
        let own = [channels, height, width];
        if let Some(shape) = self.shape() {
            return Ok(shape);
        }
        let size = match &self.contents {
            Contents::Picture if local => images::read(&self.path, 1)?.size(),
            Contents::Array(y, _) if local && y.dim() >= 2 => y.size(),
            _ => return Ok(own),
        };
        let &[.., rows, columns] = size.as_slice() else { return Ok(own) };
        let seen = |[rows, columns]: [i64; 2]| -> Option<[i64; 2]> {
            let shape = [channels, rows, columns];
            match source(shape).ok()?.measured_shape(shape).ok()?[..] {
                [_, _, rows, columns] => Some([rows, columns]),
                _ => None,
            }
        };
        // Of the size of the measurement itself, or so many times larger that a reduced picture is as large.
        let same = [rows, columns];
        let enlarged = (1..=16).map(|factor| [rows * factor, columns * factor]);
        let fitting = enlarged.into_iter().find(|image| seen(*image) == Some(same));
        Ok(fitting.map_or(own, |[rows, columns]| [channels, rows, columns]))
    }

    fn archive(&self) -> Option<&Archive> {
        match &self.contents {
            Contents::Archive(archive) => Some(archive),
            _ => None,
        }
    }

    /// Creates the operator that the file names; none where it names none.
    pub fn source<'a>(&self, session: &Session) -> Result<Option<OperatorSource<'a>>, Error> {
        let at = |e: Error| Error::file(&self.path, e);
        self.archive().map(|archive| archive.source(session).map_err(at)).transpose()
    }

    /// Creates the problem of restoring images of `shape` that `source` has measured with the noise η = `noise` for pixels
    /// 0 … 1; `units` are those of the file where it does not say.
    pub fn problem(
        self,
        source: OperatorSource<'_>,
        units: Option<Units>,
        noise: f64,
        shape: [i64; 3],
    ) -> Result<Problem<'_>, Error> {
        let Self { path, contents } = self;
        let at = |e: Error| Error::file(&path, e);
        let want = source.measured_shape(shape)?;
        let (y, known, depth) = match contents {
            Contents::Picture => {
                let (y, depth) = picture(&path, &want)?;
                (y, Some(Units::Unit), depth)
            }
            Contents::Array(y, known) => (fitted(&y, &want).map_err(at)?, known, Depth::default()),
            Contents::Archive(archive) => (archive.y, Some(Units::Data), Depth::default()),
        };
        let units = match (units, known) {
            (Some(units), Some(known)) if units != known => {
                let cause = format!("is of pixels {} by its type: leave `units` out", known.range());
                return Err(Error::file(&path, cause));
            }
            (units, known) => units.or(known),
        };
        let y = y.to_kind(Kind::Float);
        let note = if units.is_some() { None } else { Some(assumed(&source, &y, shape)?) };
        let y = match units {
            Some(Units::Unit) => source.in_data_units(&y, shape).map_err(at)?,
            _ => y,
        };
        let names = if y.size()[0] == 1 { vec![stem(&path)] } else { Problem::numbers(y.size()[0]) };
        Problem::measured(source, &y, noise, shape).map_err(at)?.depth(depth).noting(note).named(names)
    }
}

impl Units {
    fn range(self) -> &'static str {
        match self {
            Self::Unit => "0 … 1",
            Self::Data => "−1 … 1",
        }
    }
}

impl Archive {
    fn read(path: &Path) -> Result<Self, Error> {
        let mut arrays = npz::read(path, |_| true)?;
        let lacks = |name: &str| {
            let cause =
                format!("has no array `{name}`, as the measurement.npz of a restoration has it: give y as .npy");
            Error::file(path, cause)
        };
        let mut take = |name: &str| arrays.remove(name).ok_or_else(|| lacks(name));
        let (y, task, eta) = (take("y")?, take("task")?, take("eta")?);
        let (seed, shape) = (take("seed")?, take("shape")?);
        let (mask, kernel) = (take("operator_mask").ok(), take("operator_kernel").ok());
        let broken = || Error::file(path, "its task, η, seed or shape is not as a restoration writes it");
        let task = Vec::<u8>::try_from(task.to_kind(Kind::Uint8)).map_err(|_| broken())?;
        let shape = Vec::<i64>::try_from(shape).map_err(|_| broken())?;
        Ok(Self {
            y,
            task: serde_json::from_slice(&task).map_err(|_| broken())?,
            mask,
            kernel,
            noise: f64::try_from(eta).map_err(|_| broken())? / 2.0,
            seed: i64::try_from(seed).map_err(|_| broken())? as u64,
            shape: shape.try_into().map_err(|_| broken())?,
        })
    }

    /// The operator of the task, with its own seed; a mask or a kernel from a file is that of the archive.
    fn source<'a>(&self, session: &Session) -> Result<OperatorSource<'a>, Error> {
        let (shape, device, task) = (self.shape, session.device, self.task.clone());
        if self.task.get("kind").is_some() {
            let task: AnyTask = serde_json::from_value(task).map_err(Error::request)?;
            return OperatorSource::task(&task, shape, &Session { seed: self.seed, ..session.clone() });
        }
        let source = match (&self.mask, &self.kernel) {
            (Some(mask), _) => {
                let mask = mask.to_device(device);
                OperatorSource::built(move || Inpaint::new(&mask, shape).map(Operator::from))?
            }
            (None, Some(kernel)) => {
                let kernel = kernel.shallow_clone();
                let build = move || Blur::new(&kernel, shape, Boundary::Reflect, device, Kind::Float);
                OperatorSource::built(move || build().map(Operator::from))?
            }
            (None, None) => return Err(Error::request("is of an operator of a program's own: only that can make it")),
        };
        Ok(source.described(task))
    }
}

/// Numbers of a file; bytes are pixels, and complex numbers k-space: the real part of each channel, then its imaginary part.
fn array(y: Tensor) -> Contents {
    match y.kind() {
        Kind::Uint8 => Contents::Array(y.to_kind(Kind::Float) / 255.0, Some(Units::Unit)),
        Kind::ComplexFloat | Kind::ComplexDouble => {
            let parts = y.view_as_real();
            let parts = if parts.dim() == 3 { parts.unsqueeze(0) } else { parts };
            let plane = parts.dim() - 3;
            Contents::Array(parts.movedim_int(-1, plane as i64).flatten(plane as i64 - 1, plane as i64), None)
        }
        _ => Contents::Array(y, None),
    }
}

/// A picture in units 0 … 1, with the channels of the measurement, and its depth.
fn picture(path: &Path, want: &[i64]) -> Result<(Tensor, Depth), Error> {
    let channels = if want.len() == 4 && want[1] == 1 { 1 } else { 3 };
    let (x, depth) = images::read_units(path, Some(channels))?;
    let y = fitted(&images::to_unit(&x.unsqueeze(0)), want).map_err(|e| Error::file(path, e))?;
    Ok((y, depth))
}

/// y in the shape of a measurement, `[1, …]`: dimensions of one entry before the others may be there or not.
fn fitted(y: &Tensor, want: &[i64]) -> Result<Tensor, Error> {
    let core = |size: &[i64]| size.iter().copied().skip_while(|side| *side == 1).collect::<Vec<_>>();
    let (got, wanted) = (core(&y.size()), core(want));
    if got == wanted {
        return Ok(y.f_reshape(want)?);
    }
    let mut turned = got.clone();
    let last = turned.len();
    if last >= 2 {
        turned.swap(last - 2, last - 1);
    }
    let hint = if turned == wanted { " (it is the transpose of that)" } else { "" };
    let want = format!("{want:?}{hint}");
    Err(Error::Shape { what: "the measurement", got: y.size(), want })
}

/// The note that a measurement is taken in data units, with a hint where it looks like one of pixels 0 … 1.
fn assumed(source: &OperatorSource, y: &Tensor, shape: [i64; 3]) -> Result<String, Error> {
    let note = "the measurement is taken to be of pixels −1 … 1";
    let bright = source.bright(shape)?;
    let is_average = bright.as_ref().is_some_and(|bright| f64::try_from(bright.min()).is_ok_and(|least| least >= 0.0));
    let least = f64::try_from(y.min())?;
    let hint = if is_average && least >= 0.0 {
        ", although no value of it is negative: `units` 0-1 is for pixels 0 … 1"
    } else if is_average && least < 0.0 {
        ", as its negative values say"
    } else {
        " (`units` 0-1 is for pixels 0 … 1)"
    };
    Ok(format!("{note}{hint}"))
}
