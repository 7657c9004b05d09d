//! How close images are to the truth, and sets of images to each other.

mod frechet;
mod lpips;
mod psnr;
mod ssim;

pub use frechet::{Moments, frechet};
pub use lpips::{Backbone, Lpips};
pub use psnr::{psnr, psnr_min_max};
pub use ssim::{Window, ssim};
