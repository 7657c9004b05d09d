//! Forward processes in continuous time, dz = f(t) z dt + g(t) dw, and what they look like from the σ frame.
//!
//! ```text
//! z = α(t) x + s(t) n      f = d ln α/dt      g² = ds²/dt − 2 f s² = −s² d ln SNR/dt      SNR = α²/s²
//! ```
//!
//! [S2N, Theorem 1; SDE tutorial, §2]. In x + σ n every one of them is the same process run at another pace, with
//! σ = s/α = SNR^(−½): a network that was trained along one of them is sampled along any other.

use std::fmt;

use crate::{
    Error,
    numbers::{
        registry::{modules, one_of},
        sigma::Sigmas,
    },
};

/// The table of processes: each file, and the structs in it that are processes.
macro_rules! sde_rows {
    ($then:ident $(, $($rest:tt)+)?) => {
        $then! { $($($rest)+,)? {
            cosine: Cosine,
            ou: Ou Cou,
            table: Table,
            ve: Ve Edm FlowMatching,
            vp: Vp SubVp Cvp CsubVp,
        } }
    };
}

sde_rows!(modules);

/// A linear forward process on 0 ≤ t ≤ T.
pub trait Sde: fmt::Debug {
    /// An error if a parameter lies outside its range.
    fn check(&self) -> Result<(), Error>;

    /// α(t), the scale of the clean image; α(0) = 1.
    fn alpha(&self, t: f64) -> f64;

    /// σ(t) = s/α = SNR^(−½), which grows with t: the level in the frame x + σ n, in data units.
    fn level(&self, t: f64) -> f64;

    /// t at a level, the inverse of [`Sde::level`]; NaN beyond what the process ever reaches.
    fn time(&self, level: f64) -> f64;

    /// f(t) = d ln α/dt.
    fn drift(&self, t: f64) -> f64;

    /// g²(t).
    fn diffusion(&self, t: f64) -> f64;

    /// T.
    fn end(&self) -> f64;

    /// Standard deviation of the centred normal distribution that stands in for z at T.
    fn prior(&self) -> f64 {
        self.noise(self.end())
    }

    /// s(t), the standard deviation of the noise in z.
    fn noise(&self, t: f64) -> f64 {
        self.alpha(t) * self.level(t)
    }

    /// SNR(t) = α²/s².
    fn snr(&self, t: f64) -> f64 {
        self.level(t).powi(-2)
    }

    /// Warning for a user who picks this process.
    fn caveat(&self) -> Option<String> {
        None
    }
}

sde_rows!(one_of, {
    /// The entries that `sde:` may name.
    pub enum AnySde: Sde = "process", others: OTHERS
});

/// The configurations of score_sde.
const OTHERS: &[(&str, &str)] = &[
    ("vesde", "`ve` is that process with its levels σ² lowered by min²; the schedule `geometric` has them unlowered"),
    ("vpsde", "it is `vp`"),
    ("subvpsde", "it is `sub-vp`"),
];

/// An error unless the process is sound and comes by all of these levels, if need be after T: its formulas hold there as
/// well, and the chain of DDPM ends a little beyond the process that is its limit.
pub(crate) fn reaches(sde: &dyn Sde, sigmas: &Sigmas) -> Result<(), Error> {
    sde.check()?;
    if sde.time(sigmas.max()).is_finite() {
        return Ok(());
    }
    let value = format!("{} (at T it has come to {})", sigmas.max(), sde.level(sde.end()));
    Err(Error::parameter("the largest σ", "one that the chosen sde reaches", value))
}

/// The caveat of a process that never forgets its images [SDE tutorial; Contractive DPMs].
fn floor(sde: &dyn Sde) -> String {
    format!(
        "its signal-to-noise ratio ends at {:.3} and never falls below: starting from noise alone leaves out what images \
         still contribute at T",
        sde.snr(sde.end())
    )
}

/// `end` if it is a time later than 0.
fn positive_end(end: f64) -> Result<(), Error> {
    crate::numbers::sigma::positive("end", end).map(drop)
}

/// `end` if α is still positive there.
fn before_one(end: f64) -> Result<(), Error> {
    if 0.0 < end && end < 1.0 {
        return Ok(());
    }
    Err(Error::parameter("end", "larger than 0 and smaller than 1, where α vanishes", end))
}
