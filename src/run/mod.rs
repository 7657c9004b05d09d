//! Runs: sampling, restoring and tables from request to result, with resuming, leases and records.

pub mod blocks;
pub mod classes;
pub(crate) mod engine;
pub mod experiment;
pub mod fingerprint;
pub mod leases;
pub mod observer;
pub mod prior;
pub mod records;
pub mod released;
pub mod sample;
pub mod session;
pub mod table;

pub use engine::{OnStep, Step};
