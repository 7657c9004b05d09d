//! Reader of the configurations released with the paper [Random Walks], in their original form (`vp_inpainting.yaml`,
//! `ve_uncond_pretrainedSchedule.yaml`, …).
//!
//! ```text
//! τ = c σ², with a measurement min(c σ², η²)    T from T₀ to 1, no noise on the last step    x₀ ~ N(0, I)
//! ```
//!
//! A file for a variance-preserving network (`vp`) uses pixels of −1 … 1, our data units; a file for a
//! variance-exploding network (`ve`) uses pixels of 0 … 1, where η, σ and x are half of their values in data units. All
//! values read here are converted to data units, the first state too: N(0, I) of 0 … 1 is N(−1, 4 I). Other walks in
//! this crate begin at the deviation of the first level instead; free walks forget the difference in their first steps.
//!
//! The walk is the released one, with these differences: its levels are not moved to the nearest of a million points,
//! and the network's time label comes from interpolation (see [`crate::numbers::schedule::Sigmoid`]); a ve network
//! receives the level itself, which differs by 10⁻⁴; noise and masks come from seeds. The released program reads the
//! weights of a ve network, not their average (`--set weights=raw` does so here); it resizes images to the network's
//! size, and stretches both images to 0 … 1 before it measures their PSNR, which is not done here.

use std::{
    fmt::Display,
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::IgnoredAny};
use tch::Tensor;

use crate::{
    Error,
    inverse::{
        likelihood::{GaussianLikelihood, StepLimit},
        operators::{self, AnyTask, DownsampleKernel, InpaintBox, InpaintRandom, SuperResolution},
    },
    models::card::Card,
    networks::AnyNetwork,
    numbers::{
        plan::{AnySampler, Plan},
        samplers::{Ramp, Simplified},
        schedule::{AnySchedule, Chain, Geometric, Linear, LinearBeta, Sigmoid},
    },
    scores::noise::Noise,
};

/// Contents of a released configuration, in data units.
#[derive(Clone, Debug, PartialEq)]
pub struct Released {
    /// Plan of the walk: levels, K, c and T₀.
    pub plan: Plan,
    /// Distribution of the first state.
    pub start: Start,
    /// Problem that each image poses; `None` where images are drawn freely.
    pub problem: Option<PublishedProblem>,
    /// Network for which the file was written.
    pub network: Expected,
    /// Path of the network's file.
    pub model: PathBuf,
    /// Folder of the images to restore.
    pub images: PathBuf,
    /// Folder of the results.
    pub results: PathBuf,
}

/// Normal distribution N(mean, deviation² I) of first states.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Start {
    /// Mean of every pixel.
    pub mean: f64,
    /// Standard deviation of every pixel.
    pub deviation: f64,
}

impl Start {
    /// Creates first states in the shape of `like`, from the noise that every walk uses for its first state.
    pub fn states(&self, like: &Tensor, noise: &dyn Noise) -> Tensor {
        noise.like(like, 0, 0) * self.deviation + self.mean
    }
}

/// A problem y = A x + η n whose likelihood is exact at every level.
#[derive(Clone, Debug, PartialEq)]
pub struct PublishedProblem {
    /// Task that gives A.
    pub task: AnyTask,
    /// η in data units.
    pub eta: f64,
}

impl PublishedProblem {
    /// Limit of the step: τ ≤ η², whatever ‖A‖ is.
    pub const LIMIT: StepLimit = StepLimit::Paper;

    /// Creates the likelihood of a measurement that `operator` made of images of `shape`.
    pub fn likelihood(
        &self,
        operator: impl Into<operators::Operator>,
        measurement: Tensor,
        shape: [i64; 3],
    ) -> Result<GaussianLikelihood, Error> {
        Ok(GaussianLikelihood::new(operator, measurement, self.eta, shape)?.with_limit(Self::LIMIT))
    }
}

/// Network that the file describes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expected {
    /// Kind of the perturbation.
    pub perturbation: Perturbation,
    /// Height and width of the images.
    pub side: i64,
    /// Number of channels of the network's finest level.
    pub width: i64,
}

/// Kind of the perturbation, `noise_perturbation_type` in the file.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Perturbation {
    /// Variance-preserving: ADM.
    Vp,
    /// Variance-exploding: NCSN++.
    Ve,
}

impl Perturbation {
    /// Returns the size of the file's unit in our data units.
    fn unit(self) -> f64 {
        match self {
            Self::Vp => 1.0,
            Self::Ve => 2.0,
        }
    }
}

impl Expected {
    /// Fails unless the card describes such a network.
    pub fn check(&self, card: &Card) -> Result<(), Error> {
        let Self { perturbation, side, width } = *self;
        let (architecture, found) = match (perturbation, &card.network) {
            (Perturbation::Vp, AnyNetwork::Adm(config)) => ("ADM", config.model_channels == width),
            (Perturbation::Vp, _) => ("ADM", false),
            (Perturbation::Ve, AnyNetwork::Ncsnpp(config)) => {
                ("NCSN++", config.block_out_channels.first() == Some(&width))
            }
            (Perturbation::Ve, _) => ("NCSN++", false),
        };
        if found && card.image[1..] == [side, side] {
            return Ok(());
        }
        let cause = format!(
            "is not the network that the configuration was written for: an {architecture} of width {width} for images of \
             {side}×{side}"
        );
        Err(Error::file(&card.name, cause))
    }
}

impl Released {
    /// Reads the file at `path`.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::from_file(crate::files::yaml::read(path)?, path)
    }

    /// Parses the text of a file; `path` is used in messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        Self::from_file(crate::files::yaml::parse(text, path)?, path)
    }

    fn from_file(file: File, path: &Path) -> Result<Self, Error> {
        file.released().map_err(|cause| Error::file(path, cause))
    }
}

/// A value with its line and column.
type Placed<T> = serde_yaml::Spanned<T>;

/// Returns the value, or a message with its place unless `holds`.
fn must<T: Copy + Display>(name: &str, value: &Placed<T>, want: &str, holds: bool) -> Result<T, String> {
    if holds {
        return Ok(value.value);
    }
    Err(at(value, format!("{name} must be {want}, but is {}", value.value)))
}

/// Formats a message about a value, with the place that the parser reports.
fn at<T>(value: &Placed<T>, sentence: impl Display) -> String {
    format!("line {} column {}: {sentence}", value.referenced.line(), value.referenced.column())
}

fn positive(name: &str, value: &Placed<f64>) -> Result<f64, String> {
    must(name, value, "positive", value.value.is_finite() && value.value > 0.0)
}

/// Declares a section of the file: fields that are read, and known fields that do not affect the walk.
macro_rules! section {
    ($name:ident { $($field:ident: $type:ty),* $(,)? } unread { $($unread:ident),* $(,)? }) => {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct $name {
            $($field: $type,)*
            $(
                #[serde(default)]
                #[allow(dead_code, reason = "known, and not used")]
                $unread: IgnoredAny,
            )*
        }
    };
}

section!(File {
    machinesetup: Machine,
    data: Data,
    langevin_hyperparam: Langevin,
    measurement: Measurement,
    model: Net,
    vp_diffusion: Option<VpDiffusion>,
    imagedetail: Option<Detail>,
} unread { training, sampling, eval, optim, seed });

section!(Machine { save_dir: PathBuf } unread { gpu_idx });

section!(Data { root: PathBuf } unread { name });

section!(Langevin {
    schedule: Option<ScheduleKind>,
    num_iters: Placed<usize>,
    temperature: Placed<f64>,
    scaling_constant_of_step_size: Placed<f64>,
} unread { save_image });

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ScheduleKind {
    Denoiser,
    Sigmoid,
    Linear,
}

section!(Measurement { operator: Operator, noise: Disturbance, mask_opt: Option<Hiding> } unread {});

section!(Operator { name: Placed<Degradation>, scale_factor: Option<Placed<i64>> } unread { in_shape });

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Degradation {
    Uncondition,
    Inpainting,
    SuperResolution,
}

section!(Disturbance { name: Law, sigma: Placed<f64> } unread {});

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Law {
    Gaussian,
}

section!(Hiding {
    mask_type: Placed<Hidden>,
    mask_len_range: Option<Placed<[i64; 2]>>,
    mask_prob_range: Option<Placed<[f64; 2]>>,
    image_size: Placed<i64>,
} unread {});

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Hidden {
    Random,
    Box,
}

section!(Detail { image_size: Placed<i64>, centered: Placed<bool> } unread { num_channels });

section!(VpDiffusion {
    steps: Placed<usize>,
    beta_at_clean: Placed<f64>,
    noise_schedule: BetaSchedule,
    model_mean_type: MeanType,
} unread { sampler, timestep_respacing, model_var_type, dynamic_threshold, clip_denoised, rescale_timesteps });

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum BetaSchedule {
    Linear,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum MeanType {
    Epsilon,
}

section!(Net {
    pretrained_check_point: PathBuf,
    noise_perturbation_type: Placed<Perturbation>,
    image_size: Option<Placed<i64>>,
    num_channels: Option<i64>,
    nf: Option<i64>,
    sigma_max: Option<Placed<f64>>,
    sigma_min: Option<Placed<f64>>,
} unread {
    // These fields belong to ADM; the card gives those that the file of weights does not show.
    num_res_blocks, channel_mult, learn_sigma, class_cond, use_checkpoint, attention_resolutions, num_heads,
    num_head_channels, num_heads_upsample, use_scale_shift_norm, dropout, resblock_updown, use_fp16,
    use_new_attention_order,
    // These fields belong to NCSN++.
    name, pretrained_model, beta_min, beta_max, scale_by_sigma, ema_rate, normalization, nonlinearity, ch_mult,
    attn_resolutions, resamp_with_conv, conditional, fir, fir_kernel, skip_rescale, resblock_type, progressive,
    progressive_input, progressive_combine, attention_type, init_scale, fourier_scale, conv_size, embedding_type,
});

/// Last β of the chain, which the released program fixes.
const LAST_BETA: f64 = 0.02;
/// Number of times of the chain, which the released program prescribes.
const TIMES: usize = 1000;
/// Number of pixels between a hidden box and the border, in an image of any size.
const MARGIN: f64 = 16.0;

impl File {
    fn released(self) -> Result<Released, String> {
        let perturbation = self.model.noise_perturbation_type.value;
        let walk = &self.langevin_hyperparam;
        let c = positive("scaling_constant_of_step_size", &walk.scaling_constant_of_step_size)?;
        let t0 = walk.temperature.value;
        must("temperature", &walk.temperature, "0 or larger", t0.is_finite() && t0 >= 0.0)?;
        let steps = must("num_iters", &walk.num_iters, "1 or larger", walk.num_iters.value > 0)?;
        let sampler = AnySampler::Simplified(Simplified { c, t0, ramp: Ramp::Linear });
        let start = match perturbation {
            Perturbation::Vp => Start { mean: 0.0, deviation: 1.0 },
            Perturbation::Ve => Start { mean: -1.0, deviation: 2.0 },
        };
        let network = self.network(perturbation)?;
        Ok(Released {
            plan: Plan { schedule: self.schedule(perturbation)?, steps, sampler },
            start,
            problem: self.measurement.problem(perturbation, network.side)?,
            network,
            model: self.model.pretrained_check_point,
            images: self.data.root,
            results: self.machinesetup.save_dir,
        })
    }

    fn network(&self, perturbation: Perturbation) -> Result<Expected, String> {
        let named = |name: &str| missing(&self.model.noise_perturbation_type, name);
        let (side, width) = match perturbation {
            Perturbation::Vp => (&self.model.image_size, self.model.num_channels.ok_or_else(|| named("num_channels"))?),
            Perturbation::Ve => {
                let detail = self.imagedetail.as_ref().ok_or_else(|| named("imagedetail"))?;
                must("centered", &detail.centered, "false", !detail.centered.value)?;
                (&Some(detail.image_size.clone()), self.model.nf.ok_or_else(|| named("nf"))?)
            }
        };
        let side = side.as_ref().ok_or_else(|| named("image_size"))?;
        let side = must("image_size", side, "positive", side.value > 0)?;
        Ok(Expected { perturbation, side, width })
    }

    fn schedule(&self, perturbation: Perturbation) -> Result<AnySchedule, String> {
        let kind = &self.model.noise_perturbation_type;
        if perturbation == Perturbation::Ve {
            let end = |name: &str, level: &Option<Placed<f64>>| {
                let level = level.as_ref().ok_or_else(|| missing(kind, name))?;
                Ok::<_, String>(Some(perturbation.unit() * positive(name, level)?))
            };
            let (max, min) = (end("sigma_max", &self.model.sigma_max)?, end("sigma_min", &self.model.sigma_min)?);
            return Ok(AnySchedule::Geometric(Geometric { max, min }));
        }
        let chain = self.vp_diffusion.as_ref().ok_or_else(|| missing(kind, "vp_diffusion"))?.chain()?;
        let times = chain.times().map_err(|error| error.to_string())?;
        let (max, min) = (Some(times.sigma(times.last())), Some(times.sigma(0.0)));
        Ok(match self.langevin_hyperparam.schedule.ok_or_else(|| missing(kind, "schedule"))? {
            ScheduleKind::Denoiser => AnySchedule::LinearBeta(chain),
            ScheduleKind::Sigmoid => AnySchedule::Sigmoid(Sigmoid { start: 0.0, end: 3.0, tau: 0.3, max, min }),
            ScheduleKind::Linear => AnySchedule::Linear(Linear { max, min }),
        })
    }
}

/// Formats a message that names the setting which a network of this kind lacks.
fn missing(kind: &Placed<Perturbation>, name: &str) -> String {
    let network = format!("{:?}", kind.value).to_lowercase();
    at(kind, format!("{network} networks need {name}, which is missing"))
}

impl VpDiffusion {
    fn chain(&self) -> Result<LinearBeta, String> {
        let Self { noise_schedule: BetaSchedule::Linear, model_mean_type: MeanType::Epsilon, .. } = self;
        let times = must("steps", &self.steps, "1000", self.steps.value == TIMES)?;
        let first = self.beta_at_clean.value;
        must("beta_at_clean", &self.beta_at_clean, "between 0 and 0.02", first > 0.0 && first < LAST_BETA)?;
        Ok(LinearBeta { first, last: LAST_BETA, times })
    }
}

impl Measurement {
    fn problem(&self, perturbation: Perturbation, side: i64) -> Result<Option<PublishedProblem>, String> {
        let Disturbance { name: Law::Gaussian, sigma } = &self.noise;
        let name = &self.operator.name;
        let task = match name.value {
            Degradation::Uncondition => return Ok(None),
            Degradation::Inpainting => {
                let mask = self.mask_opt.as_ref();
                mask.ok_or_else(|| at(name, "inpainting needs mask_opt, which is missing"))?.task(side)?
            }
            Degradation::SuperResolution => {
                let factor = self.operator.scale_factor.as_ref();
                let factor = factor.ok_or_else(|| at(name, "super_resolution needs scale_factor, which is missing"))?;
                let factor = must("scale_factor", factor, "1 or larger", factor.value > 0)?;
                AnyTask::SuperResolution(SuperResolution { factor, kernel: DownsampleKernel::Bicubic })
            }
        };
        Ok(Some(PublishedProblem { task, eta: perturbation.unit() * positive("sigma", sigma)? }))
    }
}

impl Hiding {
    fn task(&self, side: i64) -> Result<AnyTask, String> {
        let size = must("image_size", &self.image_size, "that of the network", self.image_size.value == side)? as f64;
        let missing = |name| at(&self.mask_type, format!("this mask needs {name}, which is missing"));
        match self.mask_type.value {
            Hidden::Random => {
                let range = self.mask_prob_range.as_ref().ok_or_else(|| missing("mask_prob_range"))?;
                let [hidden, most] = range.value;
                let holds = hidden == most && (0.0..=1.0).contains(&hidden);
                let refusal = || at(range, "mask_prob_range must be one part of 0 … 1, given twice");
                if holds { Ok(AnyTask::InpaintRandom(InpaintRandom { hidden })) } else { Err(refusal()) }
            }
            Hidden::Box => {
                let range = self.mask_len_range.as_ref().ok_or_else(|| missing("mask_len_range"))?;
                let [length, end] = range.value;
                let part = length as f64 / size;
                let hidden = InpaintBox { height: part, width: part, margin: MARGIN / size };
                let refusal = || at(range, "mask_len_range must be a length and the next, as 128 and 129");
                // The released program draws lengths below the second number, so one length is possible here.
                if length > 0 && end == length + 1 { Ok(AnyTask::InpaintBox(hidden)) } else { Err(refusal()) }
            }
        }
    }
}
