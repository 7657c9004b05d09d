//! All proofs, in one program: libtorch is linked and loaded once.

mod checkpoints;
mod cli;
mod common;
mod exact;
mod gaussian_walks;
mod hostile;
mod identities;
mod metrics;
mod networks;
mod operators;
mod originals;
mod posterior;
mod preconditions;
mod pretrained;
mod schedules;
mod shipped;
mod torchscript;
mod training;
mod zoo;
