//! Errors.

use std::path::{Path, PathBuf};

/// The crate's one error: a sentence that names the place and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Noise levels out of order.
    #[error("noise levels must be finite, positive and strictly decreasing, but level {index} is {value}")]
    Levels {
        /// The first offending position.
        index: usize,
        /// The value.
        value: f64,
    },
    /// A number outside its range.
    #[error("{name} must be {want}, but is {value}")]
    Parameter {
        /// Name of the parameter.
        name: &'static str,
        /// Allowed values.
        want: &'static str,
        /// The value.
        value: String,
    },
    /// A file that cannot be read, or does not hold what it should.
    #[error("{}: {cause}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Why, and what to do.
        cause: String,
    },
    /// A walk that is not what its experiment says.
    #[error("{what} must be {want}, but is {got}")]
    Walk {
        /// Subject of the statement.
        what: &'static str,
        /// Value stated by the experiment.
        want: String,
        /// Value computed from the plan.
        got: String,
    },
    /// Tensors that a file lacks, has too many of, or has in another shape.
    #[error("the weights do not fit the network: {}", .0.join("; "))]
    Keys(Vec<String>),
    /// Tensors whose shapes do not go together.
    #[error("{what} has shape {got:?}, but {want} is wanted")]
    Shape {
        /// Name of the tensor.
        what: &'static str,
        /// Shape of the tensor.
        got: Vec<i64>,
        /// The shape that would do.
        want: String,
    },
    /// A network returned NaN or infinity.
    #[error(
        "the score is not finite from evaluation {evaluation} on (σ = {sigma:.6}) for seed {}: compute in f32, or take shorter steps",
        list(seeds)
    )]
    NotFinite {
        /// The first offending evaluation of the score, counted from 0.
        evaluation: usize,
        /// The noise level asked for there.
        sigma: f64,
        /// The seeds of the images that were lost.
        seeds: Vec<u64>,
    },
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// A callback asked to stop where the state is: a run ends with it, and this never leaves the library.
    #[error("stopped by the caller")]
    Stopped,
    /// CUDA was asked for, and is not there.
    #[error("`device` cuda: {0}; `device` cpu works everywhere")]
    Cuda(String),
    /// A request that makes no sense, with the remedy.
    #[error("{0}")]
    Request(String),
    /// An error, and where it happened: the row of a table, the folder of a run.
    #[error("{place}: {cause}")]
    Within {
        /// Place of the error.
        place: String,
        /// The error itself.
        cause: Box<Error>,
    },
    /// A failure inside libtorch.
    #[error("libtorch: {}", first_line(.0))]
    Torch(#[from] tch::TchError),
}

impl Error {
    /// An error about a file.
    pub fn file(path: impl AsRef<Path>, cause: impl ToString) -> Self {
        Self::File { path: path.as_ref().to_owned(), cause: cause.to_string() }
    }

    /// A request that makes no sense, with the remedy.
    pub fn request(sentence: impl ToString) -> Self {
        Self::Request(sentence.to_string())
    }

    /// The error, with its place in front.
    #[must_use]
    pub fn within(self, place: impl ToString) -> Self {
        Self::Within { place: place.to_string(), cause: Box::new(self) }
    }

    /// Whether the error is a request to stop.
    pub fn is_interruption(&self) -> bool {
        match self {
            Self::Interrupted => true,
            Self::Within { cause, .. } => cause.is_interruption(),
            _ => false,
        }
    }

    /// An error about a number: `name` must be `want`.
    pub fn parameter(name: &'static str, want: &'static str, value: impl ToString) -> Self {
        Self::Parameter { name, want, value: value.to_string() }
    }
}

fn list(seeds: &[u64]) -> String {
    seeds.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// libtorch appends its C++ stack to every message.
fn first_line(error: &tch::TchError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// Says where an error happened.
pub(crate) trait Within<T> {
    /// See [`Error::within`].
    fn within(self, place: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> Within<T> for Result<T, Error> {
    fn within(self, place: impl FnOnce() -> String) -> Self {
        self.map_err(|cause| cause.within(place()))
    }
}
