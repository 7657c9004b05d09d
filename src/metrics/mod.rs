//! How close images are to the truth, and sets of images to each other.

mod frechet;
mod psnr;

pub use frechet::{Moments, frechet};
pub use psnr::psnr;
