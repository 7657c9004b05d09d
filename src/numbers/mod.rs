//! Numbers only, in f64: noise levels, walks, solvers, processes, preconditioning. No tensor, no file.

pub mod bounds;
pub mod plan;
pub mod precondition;
pub mod quadrature;
pub mod registry;
pub mod samplers;
pub mod schedule;
pub mod scheme;
pub mod sde;
pub mod sigma;
pub mod solvers;
pub mod stream;
pub mod walk;
