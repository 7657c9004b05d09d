//! Runs of sampling, restoring and tables, from request to result, with resuming, leases and records.

pub mod bench;
pub mod blocks;
pub mod check;
pub mod classes;
pub mod comparison;
pub mod denoise;
pub(crate) mod engine;
pub mod evaluate;
pub mod experiment;
mod figure_table;
pub mod figures;
pub mod fingerprint;
pub mod image_set;
pub mod information;
pub mod leases;
pub mod measurement;
pub mod observer;
pub mod prior;
pub mod problem;
pub mod records;
pub mod released;
pub mod report;
pub mod request;
pub mod restore;
pub mod restored;
pub mod sample;
pub mod sample_seeds;
pub mod session;
pub mod table;
pub mod train;

pub use engine::{OnStep, SamplingStep};
