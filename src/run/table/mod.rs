//! Tables of many images and their figures, as papers print them: any number of processes, killed and started again at will.

mod conclude;
mod definition;
mod draw;
mod evaluator;
mod row;
mod work;

pub use definition::{Chunk, ExpectedLevels, Reduce, Store, TableExperiment, TableRow};
pub use draw::{Clipped, within_memory};
