//! # tweedie
pub mod checkpoint;
pub mod data;
pub mod denoiser;
pub mod error;
pub mod images;
pub mod networks;
pub mod noise;
pub mod precondition;
mod registry;
pub mod schedule;
pub mod sigma;
pub mod train;

pub use error::Error;
