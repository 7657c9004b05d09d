//! Tables of many images and their figures, as in papers; any number of processes, which may be killed and restarted at
//! any time, compute a table together.

mod conclude;
mod definition;
mod draw;
mod evaluator;
mod row;
mod work;

pub use definition::{ExpectedLevels, ImageStore, Reduce, SeedChunk, TableExperiment, TableRow};
pub use draw::within_memory;
