//! `--sampler`, `--schedule` and `--steps`.

use clap::Args;

/// How to walk; what is left out is the model's own choice.
#[derive(Args, Debug, Default)]
pub struct PlanFlags {
    /// A name that `tweedie samplers` lists, '{kind: NAME, …}', or a .yaml file with a whole plan
    #[arg(long, value_name = "NAME|FILE.yaml")]
    pub sampler: Option<String>,
    /// The noise levels: a name that `tweedie schedules` lists, '{kind: NAME, …}', or the levels, '[80, 10, 1, 0.1]'
    #[arg(long, value_name = "NAME")]
    pub schedule: Option<String>,
    /// How many noise levels; levels that are written out count themselves
    #[arg(long, value_name = "K")]
    pub steps: Option<usize>,
}
