//! Inverse problems y = A(x) + noise: operators, detectors, likelihoods, and the methods that restore.

pub mod detectors;
mod exact;
pub mod likelihood;
pub mod moment_matching;
pub mod operators;
pub mod restoration;
pub mod tasks;
