//! `tweedie models`, `samplers`, `tasks` and `methods`: what there is, a line each.

use std::io::{self, Write};

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use tweedie::models::card;

use super::flags::OutputFlags;

/// Name, what it does, where it comes from.
type Row = (&'static str, &'static str, &'static str);

/// Name, what it does, scores asked for in a step, order (of weak convergence, where random), whether random, source.
type Method = (&'static str, &'static str, &'static str, &'static str, &'static str, &'static str);

/// Each step is a row (σ, τ, T) of the paper's table.
const ROWS: [Method; 14] = [
    ("annealed-langevin", "τ = ε σ²/(2 σ_min²), T = 1, each level many times", "1", "–", "yes", "NCSN, Algorithm 1"),
    ("churn", "τ = (1+λ²)/2 (σ²−σ′²), T = λ²/(1+λ²)", "1", "1", "yes", "Random Walks"),
    ("consistent", "τ = c σ², T*(v) keeps the variance exactly", "1", "–", "yes", "Random Walks"),
    ("ddim", "η = 0 deterministic … 1 ancestral", "1", "1", "if η > 0", "DDIM, Eq. 12"),
    ("ddpm", "τ = σ²−σ′², variance beta or posterior", "1", "1", "yes", "DDPM, Algorithm 2"),
    ("exponential-integrator", "epsilon, score or denoised frozen; ρ", "1", "1", "if ρ > 0", "SDE tutorial, §4"),
    ("non-markovian", "D + √(σ′²−b²) ε + b n, any b ≤ σ′", "1", "1", "if b > 0", "S2N, Theorem 4"),
    ("probability-flow", "τ = (σ²−σ′²)/2, T = 0", "1", "1", "no", "Score SDE, Eq. 13"),
    ("simplified", "τ = c σ², T from t0 to 1; the paper's own walk", "1", "–", "yes", "Random Walks"),
    ("snr", "powers γ, δ of the SNR frozen; ρ", "1", "1", "if ρ > 0", "S2N, Eq. 7"),
    ("ve-ancestral", "τ = σ²−σ′², T = σ′²/(2σ²)", "1", "1", "yes", "Score SDE, Appendix F"),
    ("ve-euler-maruyama", "τ = 2 ln(σ_max/σ_min) σ²/K, T = ½", "1", "1", "yes", "Score SDE, §2.4"),
    ("ve-reverse-diffusion", "τ = σ²−σ′², T = ½", "1", "1", "yes", "Score SDE, Appendix E"),
    ("vp-ancestral", "DDPM with variance beta", "1", "1", "yes", "Score SDE, Eq. 4"),
];

const SOLVERS: [Method; 13] = [
    ("deis", "ε a polynomial of t or σ; order 1 … 4", "1", "= order", "no", "Zhang & Chen 2023"),
    ("dpm", "ε expanded in ln σ; order 1 … 3", "= order", "= order", "no", "Lu et al. 2022a"),
    ("dpm-plus-plus", "D expanded in ln σ; variant 2m, 2s, sde-2m", "1 (2s: 2)", "2", "if sde-2m", "Lu et al. 2022b"),
    ("euler-maruyama", "in the time of any sde; ρ", "1", "1", "if ρ > 0", "SDE tutorial, §4"),
    ("heun", "dx/dσ = ε, with churn", "2", "2", "if churn > 0", "EDM, Algorithm 2"),
    ("ipndm", "Adams–Bashforth's weights; order 1 … 4", "1", "= order", "no", "Zhang & Chen 2023"),
    (
        "predictor-corrector",
        "any sampler, and Langevin steps of given snr",
        "1 + 1",
        "–",
        "yes",
        "Score SDE, Algorithm 4",
    ),
    ("reverse-diffusion", "Score SDE's predictor, of any sde", "1", "1", "yes", "Score SDE, Eq. 46"),
    ("rk45", "the flow in steps that an error estimate chooses", "own choice", "5", "no", "Score SDE, §4.3"),
    ("runge-kutta", "the flow in the time of any sde; order 1, 2, 4", "= order", "= order", "no", "Score SDE, §4.3"),
    ("sra1", "in the time of any sde; strong order 1.5", "2", "2", "yes", "Rößler 2010"),
    ("stochastic-heun", "in the time of any sde", "2", "2", "yes", "SDE tutorial, §4"),
    ("unipc", "predicts and corrects; order 1 … 3, width bh1, bh2", "1", "= order + 1", "no", "Zhao et al. 2023"),
];

const SCHEDULES: [Row; 12] = [
    ("betas", "a chain written out: {kind: betas, betas: […]}", ""),
    ("cosine", "squared-cosine chain", "Nichol & Dhariwal 2021, Eq. 17"),
    ("geometric", "σ = max (min/max)^u", "NCSN, §4.3"),
    ("in-time", "equal steps in the time of any sde", "S2N, Theorem 5"),
    ("karras", "linear in σ^(1/ρ), ρ = 7", "EDM, Eq. 5"),
    ("linear", "linear in σ", "Random Walks, Fig. 1"),
    ("linear-beta", "the chain of DDPM (“pretrained”)", "DDPM, §4"),
    ("list", "levels written out: {kind: list, sigmas: […]}", ""),
    ("scaled-linear", "chain linear in √β", "Rombach et al. 2022"),
    ("sigmoid", "a piece of the logistic curve", "Random Walks"),
    ("sigmoid-beta", "chain whose β follows the logistic curve", "diffusers"),
    ("subsequence", "whole times: uniform, quadratic, respaced", "DDIM, App. D.2"),
];

const SDES: [Row; 11] = [
    ("cosine", "α = cos(πt/2), s = sin(πt/2)", "VDM"),
    ("cou", "dz = θ z dt + g dw: contractive; its SNR has a floor", "SDE tutorial, §2"),
    ("csub-vp", "contractive, with the levels of sub-vp", "SDE tutorial, §2"),
    ("cvp", "contractive; its SNR has a floor", "SDE tutorial, §2"),
    ("edm", "α = 1, σ = t", "EDM, §3"),
    ("flow-matching", "z = (1 − t) x + t n", "Lipman et al. 2023"),
    ("ou", "dz = −θ z dt + g dw", "SDE tutorial, §2"),
    ("sub-vp", "β linear in t, s = 1 − exp(−B)", "Score SDE, Eq. 29"),
    ("table", "rows [t, α, s] of any other", ""),
    ("ve", "α = 1, σ geometric in t", "SDE tutorial, §2"),
    ("vp", "β linear in t, s² = 1 − exp(−B)", "Score SDE, Eq. 11"),
];

/// The methods as JSON, each with its fields by name.
fn fields(methods: &[Method]) -> Value {
    let entry = |(name, what, scores, order, random, source): &Method| json!({"name": name, "what": what, "scores": scores, "order": order, "random": random, "source": source});
    methods.iter().map(entry).collect()
}

fn table(title: &str, methods: &[Method]) -> Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{title}\n  {:<24}{:<52}{:<13}{:<13}{:<13}source", "", "", "scores/step", "order", "random")?;
    for (name, what, scores, order, random, source) in methods {
        writeln!(out, "  {name:<24}{what:<52}{scores:<13}{order:<13}{random:<13}{source}")?;
    }
    Ok(())
}

fn print(output: &OutputFlags, title: &str, rows: &[Row]) -> Result<()> {
    if output.json {
        let names: Vec<_> = rows.iter().map(|(name, what, source)| [name, what, source]).collect();
        return output.record(&names);
    }
    let mut out = io::stdout();
    writeln!(out, "{title}")?;
    for (name, what, source) in rows {
        writeln!(out, "  {name:<24}{what:<54}{source}")?;
    }
    Ok(())
}

/// List the models that ship
#[derive(Args, Debug)]
pub struct Models {
    #[command(flatten)]
    output: OutputFlags,
}

impl Models {
    pub fn run(&self) -> Result<()> {
        let cards = card::cards()?;
        if self.output.json {
            return self.output.record(&cards);
        }
        for card in cards {
            let [channels, height, width] = card.image;
            writeln!(
                io::stdout(),
                "  {:<22}{:<52}{channels}×{height}×{width}, {}",
                card.name,
                card.about,
                card.licence
            )?;
        }
        Ok(())
    }
}

/// List the samplers and schedules
#[derive(Args, Debug)]
pub struct Samplers {
    #[command(flatten)]
    output: OutputFlags,
}

impl Samplers {
    pub fn run(&self) -> Result<()> {
        if self.output.json {
            return self.output.record(&json!({
                "rows": fields(&ROWS), "solvers": fields(&SOLVERS), "schedules": SCHEDULES, "processes": SDES,
            }));
        }
        table("Samplers (--sampler NAME, or '{kind: NAME, eta: 0.5}'); each step is a row (σ, τ, T):", &ROWS)?;
        table("\nSolvers (--sampler as well); several scores a step, or memory of earlier ones:", &SOLVERS)?;
        print(&self.output, "\nSchedules (--schedule NAME, or '{kind: NAME, max: 80}'):", &SCHEDULES)?;
        print(&self.output, "\nProcesses (sde: {kind: NAME} in samplers and schedules that go in time):", &SDES)
    }
}

/// List the tasks of `tweedie restore`
#[derive(Args, Debug)]
pub struct Tasks {
    #[command(flatten)]
    output: OutputFlags,
}

const TASKS: [Row; 20] = [
    ("identity", "nothing but noise: A = I", ""),
    ("inpaint-box", "a box is hidden", "Random Walks"),
    ("inpaint-extreme", "all but a box is hidden", "Random Walks"),
    ("inpaint-half", "hidden: left, right, top or bottom", ""),
    ("inpaint-mask", "file: a picture, white where pixels are seen", ""),
    ("inpaint-random", "pixels are hidden at random; hidden: 0.75", "Random Walks"),
    ("deblur-anisotropic", "two std: [20, 1]; angle: 0, in degrees", "DDRM"),
    ("deblur-gaussian", "a Gaussian kernel", "DPS"),
    ("deblur-motion", "the path of a shaken camera", "DPS"),
    ("deblur-uniform", "the mean of size × size pixels", "DDRM"),
    ("super-resolution", "factor: 4; kernel: bicubic, mean or stride", "Random Walks"),
    ("colorization", "grey: mean or luma", "DDRM"),
    ("compressed-sensing", "random orthonormal measurements; kept: 0.25", "DDRM"),
    ("mri-cartesian", "columns of frequencies; acceleration: 4; center: 0.08", "fastMRI"),
    ("mri-radial", "frequencies on spokes through 0", ""),
    ("tomography", "sums along parallel rays; angles, detectors", ""),
    ("phase-retrieval", "magnitudes of the spectrum; oversampling: 1.5", "DPS"),
    ("high-dynamic-range", "c x held within −1 … 1; scale: 2", "DAPS"),
    ("torchscript", "file: forward(x); norm: a bound of ‖∂A/∂x‖", ""),
    ("compose", "one after another; tasks: [{kind: …}, …]", ""),
];

impl Tasks {
    pub fn run(&self) -> Result<()> {
        print(&self.output, "Tasks (--task NAME, or '{kind: NAME, …}'):", &TASKS)
    }
}

/// Name, what it does, evaluations and gradients a level, for which tasks, what its samples spread as, source.
const METHODS: [Method; 17] = [
    ("annealed", "likelihood as broad as the level's noise", "1", "any", "posterior", "Jalal et al. 2021"),
    ("daps", "flow, Langevin steps on the clean image, noise again", "5", "any", "posterior", "Zhang et al. 2024"),
    ("ddnm", "D made to fit where y tells, DDNM+", "1", "svd", "narrower", "Wang et al. 2023"),
    ("ddrm", "steps in A's singular vectors", "1", "svd", "narrower", "Kawar et al. 2022"),
    ("diffpir", "D and y weighed, then noise again", "1", "linear", "narrower", "Zhu et al. 2023"),
    ("dpir", "half-quadratic splitting, σ falling", "1", "linear", "one image", "Zhang et al. 2021"),
    ("dps", "ancestral step, then against ∇‖y − A D‖", "1 + 1", "any", "of scale", "Chung et al. 2023"),
    ("mcg", "dps, then projection", "1 + 1", "linear", "of scale", "Chung et al. 2022"),
    (
        "mmps",
        "E[X | x, y] by moments through the Jacobian; default",
        "1 + 3",
        "linear",
        "posterior",
        "Rozet et al. 2024",
    ),
    ("pigdm", "E[X | x, y] with independent pixels, ΠGDM", "1 + 1", "linear", "near it", "Song et al. 2023"),
    ("pnp-admm", "ADMM with D for the prior, σ fixed", "1", "linear", "one image", "Venkatakrishnan et al. 2013"),
    ("projection", "ancestral step, then made to fit y", "1", "linear", "narrower", "Score SDE, §5"),
    ("red-diff", "Adam's steps to one image", "1", "any", "one image", "Mardani et al. 2023"),
    ("repaint", "what is seen put in place, steps taken again", "10", "svd", "near it", "Lugmayr et al. 2022"),
    ("smc", "weighed particles; exact with many", "16 + 16", "any", "posterior", "Wu et al. 2023"),
    ("split-gibbs", "image and copy drawn in turn, PnP-DM", "10", "linear", "posterior", "Wu et al. 2024"),
    ("walk", "exact likelihood at every level, short steps", "1", "any", "posterior", "Random Walks"),
];

/// List the methods of `tweedie restore`
#[derive(Args, Debug)]
pub struct Methods {
    #[command(flatten)]
    output: OutputFlags,
}

impl Methods {
    pub fn run(&self) -> Result<()> {
        if self.output.json {
            let entry = |(name, what, cost, tasks, spread, source): &Method| json!({"name": name, "what": what, "cost": cost, "tasks": tasks, "spread": spread, "source": source});
            return self.output.record(&METHODS.iter().map(entry).collect::<Value>());
        }
        let mut out = io::stdout();
        writeln!(out, "Methods (--method NAME, or '{{kind: NAME, …}}'); evaluations + gradients a level by default:")?;
        writeln!(out, "  {:<13}{:<54}{:<9}{:<8}{:<11}source", "", "", "cost", "tasks", "spread as")?;
        for (name, what, cost, tasks, spread, source) in &METHODS {
            writeln!(out, "  {name:<13}{what:<54}{cost:<9}{tasks:<8}{spread:<11}{source}")?;
        }
        writeln!(
            out,
            "tasks: svd means linear with known singular vectors: all but blurs with other borders than circular"
        )?;
        Ok(())
    }
}
