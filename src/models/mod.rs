//! Pretrained models: cards, checkpoint files, and the families that are recognised from them.

pub mod card;
pub mod checkpoint;
pub mod zoo;
