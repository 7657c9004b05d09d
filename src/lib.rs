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
//! # Uses
//!
//! Open a checkpoint and sample; each seed is one image:
//!
//! ```
//! use tweedie::Model;
//!
//! let model = Model::open("fashion-mnist")?;
//! let images = model.sample(0..4)?;
//! # assert_eq!(images.size(), [4, 1, 32, 32]);
//! # // Clothes on black: less than the noise that they began as, σ = 40, and not one grey.
//! # let spread = images.std(true).double_value(&[]);
//! # assert!((0.3..0.9).contains(&spread), "{spread}");
//! # Ok::<(), tweedie::Error>(())
//! ```
//!
//! Restore an image, by any operator and any method:
//!
//! ```
//! use std::path::Path;
//!
//! use tweedie::{
//!     Model, Session,
//!     files::images,
//!     inverse::{operators::*, restoration::Mmps},
//!     tch::Kind,
//! };
//!
//! let model = Model::open("fashion-mnist")?;
//! let device = Session::from_model(&model).device;
//! let photo = images::read(Path::new("experiments/demo/dress.png"), 1)?.to_device(device).unsqueeze(0);
//! let x = images::from_bytes(&photo);
//! // y = A x + n: three quarters of the pixels are hidden, and η = 0.05 for pixels 0 … 1 is 0.1 for −1 … 1.
//! let operator = InpaintRandom { hidden: 0.75 }.operator(model.card.image, 0, device, Kind::Float)?;
//! let y = operator.apply(&x) + x.randn_like() * 0.1;
//! let restored = model.restore(&y, operator, 0.05)?.method(Mmps::default()).samples(4).run(&())?;
//! let (mean, std) = (&restored.images[0].mean, &restored.images[0].std);
//! # let error = |image: &tweedie::tch::Tensor| (image - x.get(0)).square().mean(Kind::Float).double_value(&[]);
//! # assert!(error(&mean.to_device(device)) < 0.1 * error(&y.get(0)), "ten dB nearer than the measurement");
//! # // Of a posterior's samples, a tenth of the squared spread is as likely as ten times it.
//! # let spread = std.square().mean(Kind::Float).double_value(&[]) / error(&mean.to_device(device));
//! # assert!((0.1..10.0).contains(&spread), "{spread}");
//! # Ok::<(), tweedie::Error>(())
//! ```
//!
//! Use one's own network, a closure or a type, in any sampler:
//!
//! ```
//! use tweedie::{
//!     Model,
//!     networks::FnNetwork,
//!     numbers::{precondition::*, solvers::Heun},
//!     run::sample::Sampling,
//!     tch::Tensor,
//! };
//!
//! // D(x, σ) = x/(1 + σ²), the denoiser of images whose pixels are N(0, 1).
//! let network = FnNetwork(|x: &Tensor, sigma: &Tensor| x / (sigma.square() + 1.0).view([-1, 1, 1, 1]));
//! let precondition = Plain { predicts: Quantity::Denoised, range: [0.002, 80.0] };
//! let model = Model::own("white noise", [1, 8, 8], precondition, network, Vec::new())?;
//! let images = Sampling::new(&model).sampler(Heun::default()).steps(18).seeds(0..64).run(&())?.images;
//! # // 4,096 pixels: their variance is known to 2.2 %, and Heun's bias is less.
//! # let variance = images.var(true).double_value(&[]);
//! # assert!((variance - 1.0).abs() < 0.07, "{variance}");
//! # Ok::<(), tweedie::Error>(())
//! ```
//!
//! Write one's own sampler, and one's own operator:
//!
//! ```
//! use tweedie::{
//!     Error, Model,
//!     inverse::operators::LinearOperator,
//!     numbers::{samplers::Sampler, sigma::Sigmas, walk::*},
//!     run::sample::Sampling,
//!     tch::Tensor,
//! };
//!
//! /// Euler's steps in σ: x ← x + τ s(x, σ) with τ = σ(σ − σ′).
//! struct Euler;
//!
//! impl Sampler for Euler {
//!     fn walk(&self, sigmas: &Sigmas) -> Result<Walk, Error> {
//!         let step = |(sigma, next)| Step { sigma, tau: sigma * (sigma - next), temperature: 0.0 };
//!         Ok(Walk(sigmas.pairs().map(step).collect()))
//!     }
//! }
//!
//! /// The mirror image: A = Aᵀ = A⁻¹.
//! #[derive(Debug)]
//! struct Mirror;
//!
//! impl LinearOperator for Mirror {
//!     fn apply(&self, x: &Tensor) -> Tensor {
//!         x.flip([3])
//!     }
//!
//!     fn adjoint(&self, y: &Tensor) -> Tensor {
//!         y.flip([3])
//!     }
//!
//!     fn norm_squared(&self) -> f64 {
//!         1.0
//!     }
//! }
//!
//! let model = Model::open("fashion-mnist")?;
//! let images = Sampling::new(&model).solver(&Euler).steps(10).seeds(0..2).run(&())?.images;
//! let restored = model.restore(&images.flip([3]), Mirror, 0.01)?.samples(1).run(&())?;
//! # // The model's own sampler, DDIM without noise, is the same method.
//! # let listed = Sampling::new(&model).steps(10).seeds(0..2).run(&())?.images;
//! # let apart = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
//! # assert!(apart(&images, &listed) < 1e-4, "{}", apart(&images, &listed));
//! # // Five standard deviations of the noise, 0.02 in data units.
//! # let apart = apart(&restored.images[1].mean, &images.get(1));
//! # assert!(apart < 0.1, "{apart}");
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
