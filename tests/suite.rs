//! All proofs, in one program: libtorch is linked and loaded once.

mod bounds;
mod checkpoints;
mod cli;
mod common;
mod exact;
mod gaussian_walks;
mod hostile;
mod identities;
mod information;
mod loops;
mod metrics;
mod networks;
mod operators;
mod orders;
mod originals;
mod posterior;
mod preconditions;
mod pretrained;
mod schedules;
mod sdes;
mod shipped;
mod snr;
mod torchscript;
mod training;
mod zoo;
