//! Metrics: distances of images from the truth, and of sets of images from each other.

mod cmmd;
mod frechet;
mod inception_score;
mod kid;
mod lpips;
mod mind;
mod neighbours;
mod psnr;
mod spread;
mod ssim;

pub use cmmd::cmmd;
pub use frechet::{Factored, Moments, Statistics, frechet};
pub use inception_score::InceptionScore;
pub use kid::{kernel_distance, kid};
pub use lpips::{Backbone, Lpips};
pub use mind::mind;
pub use neighbours::{NEAREST, Neighbourhood, Neighbours, neighbours};
pub use psnr::{psnr, psnr_min_max};
pub use spread::{Spread, bootstrap, extrapolated};
pub use ssim::{Window, ssim};
