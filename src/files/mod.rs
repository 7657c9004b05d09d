//! Files: images, NumPy arrays and archives, sets of images, YAML.

pub mod archive;
pub mod data;
pub mod images;
pub mod npz;
pub mod preprocessing;
pub mod resample;
pub mod rounding;
pub mod yaml;
