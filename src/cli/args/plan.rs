//! Flags `--sampler`, `--schedule` and `--steps`.

use clap::Args;

/// Sampler and noise levels; the model's own are used where the flags are left out.
#[derive(Args, Debug, Default)]
pub struct PlanFlags {
    /// Sampler: a name that `tweedie samplers` lists, '{kind: NAME, …}', or a .yaml file with a whole plan
    #[arg(long, value_name = "NAME|FILE.yaml")]
    pub sampler: Option<String>,
    /// Noise levels: a name that `tweedie schedules` lists, '{kind: NAME, …}', or the levels, '[80, 10, 1, 0.1]'
    #[arg(long, value_name = "NAME")]
    pub schedule: Option<String>,
    /// Number of noise levels; a list of levels states it itself
    #[arg(long, value_name = "K")]
    pub steps: Option<usize>,
}
