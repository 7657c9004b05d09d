//! Runs: sampling, restoring and tables from request to result, with resuming, leases and records.

pub mod bench;
pub mod blocks;
pub mod classes;
pub mod denoise;
pub(crate) mod engine;
pub mod evaluate;
pub mod experiment;
pub mod fingerprint;
pub mod information;
pub mod leases;
pub mod observer;
pub mod prior;
pub mod records;
pub mod released;
pub mod sample;
pub mod session;
pub mod table;
pub mod train;

pub use engine::{OnStep, Step};
