//! The flags of `tweedie walk`.

use clap::Args;

use super::{
    flags::{ModelFlags, OutputFlags},
    plan::PlanFlags,
};

/// Print a sampler as the paper's table (k, σ, τ, T), and its result for a Gaussian prior
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tweedie walk --sampler ddpm --schedule linear-beta --steps 1000
  tweedie walk fashion-mnist --csv > walk.csv
  tweedie walk --sampler '{kind: simplified, c: 0.7, t0: 0.1}' --schedule sigmoid --steps 100")]
pub struct WalkArgs {
    /// Model of the σ range and times [default: DDPM's chain of 1000]
    pub model: Option<String>,
    #[command(flatten)]
    pub plan: PlanFlags,
    /// Largest τ, as a likelihood with noise η limits it: η²/‖A‖², in squared data units
    #[arg(long, value_name = "LIMIT")]
    pub cap: Option<f64>,
    /// Variances of the Gaussian priors to report on
    #[arg(long, value_name = "V", value_delimiter = ',', default_values_t = [1.0, 0.25, 0.05, 0.01, 0.001, 1e-4])]
    pub variances: Vec<f64>,
    /// Print the γ of the snr sampler with which the flow keeps the variance of these images on these levels: DIR (of a
    /// network's own samples, say) or '{kind: idx, …}'
    #[arg(long, value_name = "DATA")]
    pub gamma_for: Option<String>,
    /// Print comma-separated values: k,sigma,tau,temperature,tau_over_sigma2,time
    #[arg(long)]
    pub csv: bool,
    #[command(flatten)]
    pub source: ModelFlags,
    #[command(flatten)]
    pub output: OutputFlags,
}
