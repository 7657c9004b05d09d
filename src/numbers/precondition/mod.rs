//! Preconditioning [EDM, §5]: four numbers for each σ make a denoiser of a network with its own conventions.

mod consistency;
mod ddpm;
mod edm;
mod flow;
mod iddpm;
mod levels;
mod plain;
mod ve;
mod vp;

use std::fmt;

pub use consistency::Consistency;
pub use ddpm::{Ddpm, DdpmConfig, Labels, Prediction};
pub use edm::Edm;
pub use flow::{Flow, Target};
pub use iddpm::{Iddpm, IddpmConfig};
pub use levels::{Levels, LevelsConfig};
pub use plain::{Plain, Quantity};
use serde::{Deserialize, Serialize};
pub use ve::Ve;
pub use vp::{SubVp, Vp};

use crate::{Error, numbers::sigma::Times};

/// D(x, σ) = skip · x + out · F(input · x, label).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scaling {
    /// c_skip − 1, kept so that D − x loses no digits at small σ.
    pub skip_minus_one: f64,
    /// c_out.
    pub out: f64,
    /// c_in.
    pub input: f64,
    /// c_noise, the network's label for σ.
    pub label: f64,
}

/// A family of checkpoints, reduced to four numbers for each σ.
pub trait Precondition: fmt::Debug + Send + Sync {
    /// The scaling at σ.
    fn at(&self, sigma: f64) -> Scaling;

    /// The smallest and the largest σ that the network was trained for, in data units.
    fn range(&self) -> (f64, f64);

    /// The standard deviation of x at a large σ, from which sampling starts: σ for images of no variance.
    fn start(&self, sigma: f64) -> f64 {
        sigma
    }

    /// The trained level of each discrete time, if the network knows discrete times.
    fn times(&self) -> Option<&Times> {
        None
    }
}

/// The ends of an interval of levels.
fn interval([min, max]: [f64; 2]) -> Result<(f64, f64), Error> {
    if 0.0 < min && min < max && max < f64::INFINITY {
        return Ok((min, max));
    }
    Err(Error::parameter("range", "two finite levels, the smaller and positive one first", format!("{min} … {max}")))
}

/// Declares the choice of all preconditionings: each variant, its struct in files, and what is made of that.
macro_rules! choices {
    ($($variant:ident($config:ident): $built:expr),+ $(,)?) => {
        /// The entries that `precondition:` may name.
        #[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
        #[serde(tag = "kind", rename_all = "kebab-case")]
        pub enum AnyPrecondition {
            $(#[doc = concat!("See [`", stringify!($variant), "`].")] $variant($config)),+
        }

        impl AnyPrecondition {
            /// The chosen preconditioning, its tables made.
            pub fn build(&self) -> Result<Box<dyn Precondition>, Error> {
                Ok(match self { $(Self::$variant(config) => Box::new($built(config)?)),+ })
            }
        }

        $(impl From<$config> for AnyPrecondition {
            fn from(chosen: $config) -> Self {
                Self::$variant(chosen)
            }
        })+
    };
}

choices! {
    Consistency(Consistency): Consistency::checked,
    Ddpm(DdpmConfig): Ddpm::from_config,
    Edm(Edm): Edm::checked,
    Flow(Flow): Flow::checked,
    Iddpm(IddpmConfig): Iddpm::new,
    Levels(LevelsConfig): Levels::new,
    Plain(Plain): Plain::checked,
    SubVp(SubVp): SubVp::checked,
    Ve(Ve): Ve::checked,
    Vp(Vp): Vp::checked,
}
