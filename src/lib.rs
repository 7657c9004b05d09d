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
//! | wing | what it holds |
//! | --- | --- |
//! | [`numbers`] | noise levels, walks, samplers, solvers, processes, preconditioning: f64, no tensor |
//! | [`scores`] | D and the score, closed forms, guidance, the loop and its noise, likelihood and information |
//! | [`networks`] | architectures |
//! | [`models`] | cards, checkpoints, published families |
//! | [`inverse`] | operators, detectors, likelihoods of y = A(x) + noise, methods that restore |
//! | [`evaluation`] | networks of features, and the figures of sets of images |
//! | [`training`] | losses, optimizer, checkpoints that resume |
//! | [`run`] | sampling, restoring, tables: from request to result |
//! | [`files`], [`report`] | images, arrays, data; sheets, pages, plots |
//!
//! # Example
//!
//! ```no_run
//! use tch::{Device, Kind, Tensor};
//! use tweedie::{
//!     numbers::{
//!         samplers::{Ddim, Sampler},
//!         schedule::{Karras, Schedule},
//!     },
//!     scores::{
//!         analytic::Gaussian,
//!         noise::{Noise, Seeded},
//!         sample::sample,
//!     },
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
//! let drawn = sample(&walk, start, &images, &noise).last();
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

#[doc(hidden)]
pub mod backend;
pub mod error;
pub mod evaluation;
pub mod files;
pub mod inverse;
pub mod models;
pub mod networks;
pub mod numbers;
pub mod report;
pub mod run;
pub mod scores;
pub mod training;

pub use error::Error;
pub use models::card::Model;
pub use run::{observer::Observer, session::Session};
pub use tch;
