//! Tables of many images and their figures, as papers print them: any number of processes, killed and started again at will.

mod conclude;
mod definition;
mod draw;
mod evaluator;
mod row;
mod work;

pub use definition::{ExpectedLevels, ImageStore, Reduce, SeedChunk, TableExperiment, TableRow};
pub use draw::{Clipped, within_memory};
