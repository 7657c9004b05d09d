//! Evaluation of images: networks of features, and the figures computed from them.

pub mod features;
pub mod metrics;
