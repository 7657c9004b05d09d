//! Score-based diffusion as random walks: sample from, and restore images with, any pretrained score network.
//!
//! Every state is x = clean + σ n, n ~ N(0, I), whatever frame the network was trained in. Tweedie's formula turns the
//! network's best guess of the clean image, D(x, σ) = E\[clean | x\], into the score, and every sampler is a walk:
//!
//! ```text
//! s(x, σ) = (D(x, σ) − x) / σ²
//! x ← x + τ s(x, σ) + √(2 τ T) n
//! ```
//!
//! # From numbers to images
//!
//! | what | where | knows |
//! | --- | --- | --- |
//! | noise levels σ, and the chains of variance-preserving models | [`schedule`], [`sigma`] | numbers |
//! | forward processes in time, seen from the σ frame | [`sde`] | numbers |
//! | samplers as rows (σ, τ, T); what a Gaussian becomes | [`samplers`], [`walk`], [`plan`] | numbers |
//! | solvers: several scores a step, or memory | [`solvers`], [`scheme`] | numbers |
//! | how wrong they can be | [`bounds`] | numbers |
//! | how a raw network becomes D | [`precondition`] | numbers |
//! | D, the score, Tweedie; closed forms | [`denoiser`], [`exact`] | tensors |
//! | likelihood and posterior of y = A x + η n | [`likelihood`], [`moments`], [`operators`] | tensors |
//! | how likely images are; mutual information | [`information`] | tensors |
//! | the loop, and its noise | [`mod@follow`], [`noise`] | tensors |
//! | architectures, training | [`networks`], [`train`] | tensors |
//! | what a file may name as a task; measurements with noise, as files | [`tasks`], [`measure`], [`npz`] | files |
//! | sets of points with exact scores | [`points`] | tensors |
//! | experiments: methods beside each other | [`experiment`] | files |
//! | tables of many images, by many processes; records | [`generation`], [`claims`], [`records`], [`rounding`], [`archive`] | files |
//! | the paper's released configurations | [`published`] | files |
//! | cards, checkpoints, published families, images | [`card`], [`checkpoint`], [`zoo`], [`images`] | files |
//! | how sets of images are compared: [`features`], [`metrics`]; how they were prepared: [`recipe`], [`resample`] | [`data`] | files |
//! | what a person looks at: sheets, pages, moving pictures | [`sheet`], [`page`], [`animation`] | files |
//!
//! # Example
//!
//! ```no_run
//! use tch::{Device, Kind, Tensor};
//! use tweedie::{
//!     exact::Gaussian,
//!     follow::follow,
//!     noise::{Noise, Seeded},
//!     samplers::{Ddim, Sampler},
//!     schedule::{Karras, Schedule},
//! };
//!
//! // Images whose pixels are N(0.5, 0.04), with their exact denoiser in place of a network.
//! let options = (Kind::Double, Device::Cpu);
//! let images = Gaussian::new(&Tensor::full([1, 8, 8], 0.5, options), &(Tensor::eye(64, options) * 0.04))?;
//! let sigmas = Karras { rho: 7.0, max: None, min: None }.sigmas(30, (0.01, 40.0))?;
//! let walk = Ddim { eta: 0.0 }.walk(&sigmas)?;
//! // Four seeds, four images.
//! let noise = Seeded(vec![0, 1, 2, 3]);
//! let start = noise.like(&Tensor::zeros([4, 1, 8, 8], options), 0, 0) * sigmas.max();
//! let drawn = follow(&walk, start, &images, &noise).last();
//! # Ok::<(), tweedie::Error>(())
//! ```
//!
//! # Sources
//!
//! Formulas name the paper that they come from:
//! Random Walks, *Random Walks with Tweedie: A Unified View of Score-Based Diffusion Models*, arXiv 2411.18702;
//! S2N, *Connective Viewpoints of Signal-to-Noise Diffusion Models*, arXiv 2408.04221;
//! SDE tutorial, *Score-based Diffusion Models via Stochastic Differential Equations*, arXiv 2402.07487;
//! Contractive DPMs, arXiv 2401.13115; NCSN, Song & Ermon 2019; DDPM, Ho et al. 2020; DDIM, Song et al. 2021; Score SDE, Song et al. 2021;
//! EDM, Karras et al. 2022; DPS, Chung et al. 2023.

pub mod animation;
pub mod archive;
pub mod arrival;
pub mod autograd;
pub mod blocks;
pub mod bounds;
pub mod card;
pub mod checkpoint;
pub mod claims;
pub mod cuda;
pub mod data;
pub mod denoiser;
pub mod error;
pub mod exact;
pub mod experiment;
pub mod features;
pub mod follow;
pub mod generation;
pub mod guidance;
pub mod images;
pub mod information;
pub mod kernels;
pub mod libtorch;
pub mod likelihood;
pub mod measure;
pub mod memory;
pub mod metrics;
pub mod moments;
pub mod networks;
pub mod noise;
pub mod npz;
pub mod operators;
pub mod page;
pub mod plan;
pub mod points;
pub mod precondition;
pub mod published;
pub mod quadrature;
pub mod recipe;
pub mod records;
mod registry;
pub mod resample;
pub mod restoration;
pub mod rounding;
pub mod samplers;
pub mod schedule;
pub mod scheme;
pub mod sde;
pub mod sheet;
pub mod sigma;
pub mod solvers;
pub mod tasks;
pub mod tiled;
pub mod train;
pub mod walk;
pub mod yaml;
pub mod zoo;

pub use error::Error;
