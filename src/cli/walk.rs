//! `tweedie walk`: prints a sampler as the paper's table.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use anyhow::{Result, bail};
use tch::Kind;
use tweedie::numbers::{
    plan::{Plan, ResolvedPlan},
    precondition::Precondition,
    samplers::{Ddim, Snr},
    schedule::{Chain, LinearBeta},
    scheme::Scheme,
    sigma::Sigmas,
    walk::Walk,
};

use super::args::{flags::ModelFlags, walk::WalkArgs};

impl WalkArgs {
    pub fn run(&self) -> Result<()> {
        let (precondition, default) = self.conventions()?;
        let plan = self.plan.over(&default)?;
        let cap = self.cap.unwrap_or(f64::INFINITY);
        if cap.is_nan() || cap <= 0.0 {
            bail!("--cap must be positive, but is {cap}");
        }
        let resolved = plan.resolve(precondition.range(), cap)?;
        if self.variances.iter().any(|v| v.is_nan() || *v <= 0.0) {
            bail!("--variances must be positive, but are {:?}", self.variances);
        }
        if let Some(data) = &self.gamma_for {
            return self.gamma(data, &resolved.sigmas);
        }
        let start = precondition.start(resolved.sigmas.max());
        let ratios: Vec<(f64, f64)> = self.variances.iter().map(|&v| (v, ratio(&resolved.scheme, v, start))).collect();
        if self.output.json {
            let record = serde_json::json!({"plan": plan, "walk": resolved.walk, "variance_ratios": ratios});
            return self.output.record(&record);
        }
        let text = match (&resolved.walk, self.csv) {
            (Some(walk), true) => csv(walk, &*precondition),
            (None, true) => {
                bail!("--csv: this sampler has no rows (σ, τ, T); without --csv its evaluations are printed")
            }
            (_, false) => prose(&resolved, &ratios),
        };
        Ok(io::stdout().write_all(text.as_bytes())?)
    }

    /// Prints γ for the variance of a pixel over a set of images, averaged over the pixels.
    fn gamma(&self, data: &str, sigmas: &Sigmas) -> Result<()> {
        let channels = self.model.as_ref().map_or(anyhow::Ok(1), |name| Ok(self.source.on_cpu(name)?.card.image[0]))?;
        let set = super::data(data, channels, "--gamma-for")?.load()?;
        if set.count() < 2 {
            bail!("--gamma-for {data}: holds {} image, but a variance takes two or more", set.count());
        }
        let all: Vec<usize> = (0..set.count()).collect();
        let pixels = set.batch(&all).to_kind(Kind::Double);
        let v = f64::try_from(pixels.var_dim([0i64].as_slice(), true, false).mean(Kind::Double))?;
        let (formula, levels) = (Snr::gamma_for(v, sigmas.max()), Snr::gamma_on(v, sigmas)?);
        self.output.say(format_args!(
            "{} images, pixels of variance v = {v:.4} in data units: γ = {formula:.4} by the formula for fine levels, \
             γ = {levels:.4} on these {}",
            set.count(),
            sigmas.iter().len()
        ));
        self.output.record(&serde_json::json!({"v": v, "gamma_formula": formula, "gamma": levels}))
    }

    /// Returns the model's conventions and plan, or DDPM's with DDIM-50 where no model is named.
    fn conventions(&self) -> Result<(Box<dyn Precondition>, Plan)> {
        if let Some(model) = &self.model {
            let model = self.source.on_cpu(model)?;
            return Ok((model.denoiser.precondition, model.card.sample));
        }
        if self.source != ModelFlags::default() {
            bail!("--set and --card change the card of a model: name MODEL");
        }
        let chain = LinearBeta::default();
        let precondition = tweedie::numbers::precondition::Ddpm::new(
            chain.times()?,
            tweedie::numbers::precondition::Prediction::default(),
        );
        let sampler = tweedie::numbers::plan::AnySampler::Ddim(Ddim::default());
        let plan = Plan { schedule: tweedie::numbers::schedule::AnySchedule::LinearBeta(chain), steps: 50, sampler };
        Ok((Box::new(precondition), plan))
    }
}

/// Returns V_K / v, the final variance over the true one, for images N(0, v).
fn ratio(scheme: &Scheme, v: f64, start: f64) -> f64 {
    scheme.variances(v, start * start).last().map_or(f64::NAN, |variance| variance / v)
}

fn prose(ResolvedPlan { walk, scheme, .. }: &ResolvedPlan, ratios: &[(f64, f64)]) -> String {
    let mut text = walk.as_ref().map_or_else(|| scheme.to_string(), ToString::to_string);
    let _ = match scheme.evaluations() {
        count if scheme.is_adaptive() => {
            write!(text, "\n{count} evaluation, and those of the steps of its own choice. ")
        }
        count => write!(text, "\n{count} evaluations. "),
    };
    text += "For images of variance v the walk ends at variance V:\n";
    for (v, ratio) in ratios {
        let _ = writeln!(text, "  v = {v:<8} V/v = {ratio:.4}");
    }
    text
}

fn csv(walk: &Walk, precondition: &dyn Precondition) -> String {
    let mut text = String::from("k,sigma,tau,temperature,tau_over_sigma2,time\n");
    for (k, step) in walk.0.iter().enumerate() {
        let (relative, time) = (step.tau / (step.sigma * step.sigma), precondition.at(step.sigma).label);
        let _ = writeln!(text, "{k},{},{},{},{relative},{time}", step.sigma, step.tau, step.temperature);
    }
    text
}
