//! # tweedie
pub mod blocks;
pub mod card;
pub mod checkpoint;
pub mod data;
pub mod denoiser;
pub mod error;
pub mod exact;
pub mod images;
pub mod libtorch;
pub mod likelihood;
pub mod metrics;
pub mod networks;
pub mod noise;
pub mod operators;
pub mod plan;
pub mod precondition;
mod registry;
pub mod samplers;
pub mod schedule;
pub mod sheet;
pub mod sigma;
pub mod solvers;
pub mod train;
pub mod walk;
pub mod yaml;

pub use error::Error;
