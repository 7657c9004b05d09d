//! Runs: sampling, restoring and tables from request to result, with resuming, leases and records.

pub mod blocks;
pub mod experiment;
pub mod leases;
pub mod records;
pub mod released;
pub mod table;
