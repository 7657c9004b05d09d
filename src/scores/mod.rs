//! Scores and denoisers, the loop that samples from them, its noise, and what they say about information.

pub mod analytic;
pub mod denoiser;
pub mod guidance;
pub mod information;
pub mod noise;
pub mod sample;
pub mod tiled;
pub mod toy;
