//! `tweedie models`, `samplers` and `tasks`: what there is, a line each.

use std::io::{self, Write};

use anyhow::Result;
use clap::Args;
use tweedie::card;

use super::Common;

/// Name, what it does, where it comes from.
type Row = (&'static str, &'static str, &'static str);

const SAMPLERS: [Row; 11] = [
    ("annealed-langevin", "τ = ε σ²/(2 σ_min²), T = 1, each level many times", "NCSN, Algorithm 1"),
    ("churn", "τ = (1+λ²)/2 (σ²−σ′²), T = λ²/(1+λ²)", "Random Walks"),
    ("consistent", "τ = c σ², T*(v) keeps the variance exactly", "Random Walks"),
    ("ddim", "η = 0 deterministic … 1 ancestral", "DDIM, Eq. 12"),
    ("ddpm", "τ = σ²−σ′², variance beta or posterior", "DDPM, Algorithm 2"),
    ("probability-flow", "τ = (σ²−σ′²)/2, T = 0", "Score SDE, Eq. 13"),
    ("simplified", "τ = c σ², T from t0 to 1; the paper's own walk", "Random Walks"),
    ("ve-ancestral", "τ = σ²−σ′², T = σ′²/(2σ²)", "Score SDE, Eq. 46"),
    ("ve-euler-maruyama", "τ = 2 ln(σ_max/σ_min) σ²/K, T = ½", "Score SDE, §2.4"),
    ("ve-reverse-diffusion", "τ = σ²−σ′², T = ½", "Score SDE, Eq. 47"),
    ("vp-ancestral", "DDPM with variance beta", "Score SDE, Eq. 4"),
];

const SCHEDULES: [Row; 10] = [
    ("betas", "a chain written out: {kind: betas, betas: […]}", ""),
    ("cosine", "squared-cosine chain", "Nichol & Dhariwal 2021, Eq. 17"),
    ("geometric", "σ = max (min/max)^u", "NCSN, §4.3"),
    ("karras", "linear in σ^(1/ρ), ρ = 7", "EDM, Eq. 5"),
    ("linear", "linear in σ", "Random Walks, Fig. 1"),
    ("linear-beta", "the chain of DDPM (“pretrained”)", "DDPM, §4"),
    ("list", "levels written out: {kind: list, sigmas: […]}", ""),
    ("scaled-linear", "chain linear in √β", "Rombach et al. 2022"),
    ("sigmoid", "a piece of the logistic curve", "Random Walks"),
    ("sigmoid-beta", "chain whose β follows the logistic curve", "diffusers"),
];

fn print(common: &Common, title: &str, rows: &[Row]) -> Result<()> {
    if common.json {
        let names: Vec<_> = rows.iter().map(|(name, what, source)| [name, what, source]).collect();
        return common.record(&names);
    }
    let mut out = io::stdout();
    writeln!(out, "{title}")?;
    for (name, what, source) in rows {
        writeln!(out, "  {name:<22}{what:<52}{source}")?;
    }
    Ok(())
}

/// List the models that ship
#[derive(Args, Debug)]
pub struct Models {
    #[command(flatten)]
    common: Common,
}

impl Models {
    pub fn run(&self) -> Result<()> {
        let cards = card::cards()?;
        if self.common.json {
            return self.common.record(&cards);
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
    common: Common,
}

impl Samplers {
    pub fn run(&self) -> Result<()> {
        print(&self.common, "Samplers (--sampler NAME, or '{kind: NAME, eta: 0.5}'):", &SAMPLERS)?;
        print(&self.common, "\nSchedules (--schedule NAME, or '{kind: NAME, max: 80}'):", &SCHEDULES)
    }
}

/// List the tasks of `tweedie restore`
#[derive(Args, Debug)]
pub struct Tasks {
    #[command(flatten)]
    common: Common,
}

const TASKS: [Row; 6] = [
    ("identity", "nothing but noise: A = I", ""),
    ("inpaint-box", "a box is hidden", "Random Walks"),
    ("inpaint-random", "pixels are hidden at random; hidden: 0.75", "Random Walks"),
    ("deblur-gaussian", "a Gaussian kernel", "DPS"),
    ("deblur-motion", "the path of a shaken camera", "DPS"),
    ("super-resolution", "factor: 4; kernel: bicubic or mean", "Random Walks"),
];

impl Tasks {
    pub fn run(&self) -> Result<()> {
        print(&self.common, "Tasks (--task NAME, or '{kind: NAME, …}'):", &TASKS)
    }
}
