//! Flags of guided- and improved-diffusion's programs, by which their networks are published.
//!
//! A flag becomes an entry of the card, or must agree with what the tensors say, or is named as of no effect here.

use std::{collections::BTreeMap, fmt::Display};

use serde_json::Value as Json;

use crate::{
    files::several,
    models::card::Card,
    networks::{AdmConfig, AnyNetwork, Heads},
    numbers::{
        precondition::{AnyPrecondition, DdpmConfig, Prediction},
        samplers::{Ddim, Ddpm, Variance},
        schedule::{AnyChain, AnySchedule, Cosine, LinearBeta, Spacing, Subsequence, Times},
        solvers::DdpmLearned,
    },
    scores::denoiser::Clip,
};

/// Flags that say something of the network, its chain or its walk.
const KNOWN: [&str; 18] = [
    "attention_resolutions",
    "channel_mult",
    "class_cond",
    "clip_denoised",
    "diffusion_steps",
    "image_size",
    "large_size",
    "learn_sigma",
    "noise_schedule",
    "num_channels",
    "num_head_channels",
    "num_heads",
    "num_heads_upsample",
    "predict_xstart",
    "rescale_timesteps",
    "sigma_small",
    "timestep_respacing",
    "use_ddim",
];

/// Flags of training and of memory.
const IDLE: [&str; 19] = [
    "batch_size",
    "dropout",
    "ema_rate",
    "fp16_scale_growth",
    "log_interval",
    "lr",
    "lr_anneal_steps",
    "microbatch",
    "model_path",
    "num_samples",
    "rescale_learned_sigmas",
    "resume_checkpoint",
    "save_interval",
    "schedule_sampler",
    "small_size",
    "use_checkpoint",
    "use_fp16",
    "use_kl",
    "weight_decay",
];

/// Flags by name.
#[derive(Debug, Default)]
pub(crate) struct Flags(BTreeMap<String, Json>);

impl Flags {
    /// Keeps a flag; false if these programs have none of this name, or if the network is not of their family.
    pub fn keep(&mut self, network: &Json, key: &str, value: &Json) -> bool {
        let is_flag = network["kind"] == "adm" && (KNOWN.contains(&key) || IDLE.contains(&key));
        if is_flag {
            self.0.insert(key.to_owned(), value.clone());
        }
        is_flag
    }

    /// Changes the card; a sentence names the flags that have no effect.
    pub fn apply(&self, card: &mut Card) -> Result<String, String> {
        if let AnyNetwork::Adm(network) = &mut card.network {
            self.heads(network)?;
            self.agrees(network)?;
            if let Some(side) = self.side(network, card.image[1])? {
                card.image = [card.image[0], side, side];
            }
        }
        if let AnyPrecondition::Ddpm(chain) = &mut card.precondition {
            self.chain(chain)?;
        }
        self.walk(card)?;
        let idle: Vec<String> = self.0.keys().filter(|key| IDLE.contains(&key.as_str())).cloned().collect();
        Ok(if idle.is_empty() { String::new() } else { format!("of no effect here: {}", several(&idle)) })
    }

    fn heads(&self, network: &mut AdmConfig) -> Result<(), String> {
        let (count, width) = (self.integer("num_heads")?, self.integer("num_head_channels")?);
        match (count, width.filter(|width| *width != -1)) {
            (_, Some(width)) => network.heads = Heads::Width(width),
            (Some(count), None) => network.heads = Heads::Count(count),
            (None, None) => {}
        }
        match (self.integer("num_heads_upsample")?, network.heads) {
            (Some(up), Heads::Count(count)) if up != -1 && up != count => Err(self
                .wrong("num_heads_upsample", format!("only as many heads on the way up as down, {count}, are opened"))),
            _ => Ok(()),
        }
    }

    /// Compares flags with what the tensors' shapes have told.
    fn agrees(&self, network: &AdmConfig) -> Result<(), String> {
        let AdmConfig { model_channels, block_out_channels, num_classes, in_channels, out_channels, .. } = network;
        let width = *model_channels as f64;
        let factors: Vec<f64> = block_out_channels.iter().map(|channels| *channels as f64 / width).collect();
        let channels = self.integer("num_channels")?;
        self.must("num_channels", model_channels, channels.is_none_or(|channels| channels == *model_channels))?;
        // Empty means the usual factors of that size.
        let given = self.numbers("channel_mult")?.filter(|given| !given.is_empty());
        self.must("channel_mult", list(&factors), given.is_none_or(|given| given == factors))?;
        for (key, is_so) in [("class_cond", num_classes.is_some()), ("learn_sigma", *out_channels == 2 * in_channels)] {
            self.must(key, is_so, self.switch(key)?.is_none_or(|said| said == is_so))?;
        }
        Ok(())
    }

    /// The side of the images: as it is said, or as it follows from the finest resolution that attends.
    fn side(&self, network: &AdmConfig, now: i64) -> Result<Option<i64>, String> {
        let said = self.integer("image_size")?.or(self.integer("large_size")?);
        let Some(resolutions) = self.numbers("attention_resolutions")? else { return Ok(said) };
        let finest = resolutions.iter().copied().fold(0.0, f64::max) as i64;
        let inferred = network.attention_levels.first().map(|level| finest << (*level).min(16));
        let side = said.or(inferred).unwrap_or(now);
        let attends =
            |level: &usize| resolutions.iter().any(|at| *at > 0.0 && side / (*at as i64).max(1) == 1 << level);
        let levels: Vec<usize> = (0..network.block_out_channels.len()).filter(attends).collect();
        let found: Vec<f64> = network.attention_levels.iter().map(|level| (side >> level) as f64).collect();
        self.must(
            "attention_resolutions",
            format!("{} of {side}×{side}", list(&found)),
            levels == network.attention_levels,
        )?;
        Ok(Some(side))
    }

    fn chain(&self, config: &mut DdpmConfig) -> Result<(), String> {
        let now = config.beta.get().times().map_or(1000, |times| times.levels().len());
        let times = self.count("diffusion_steps")?.unwrap_or(now);
        let name = self.text("noise_schedule").or_else(|| match &config.beta {
            _ if !self.0.contains_key("diffusion_steps") => None,
            AnyChain::Cosine(_) => Some("cosine".to_owned()),
            _ => Some("linear".to_owned()),
        });
        // β between 0.0001 and 0.02 at 1000 times, and in proportion at other numbers.
        let scale = 1000.0 / times as f64;
        config.beta = match name.as_deref() {
            None => config.beta.clone(),
            Some("linear") => AnyChain::LinearBeta(LinearBeta { first: scale * 1e-4, last: scale * 0.02, times }),
            Some("cosine") => AnyChain::Cosine(Cosine { times, ..Cosine::default() }),
            Some(_) => return Err(self.wrong("noise_schedule", "linear or cosine is wanted")),
        };
        if let Some(sample) = self.switch("predict_xstart")? {
            config.prediction = if sample { Prediction::Sample } else { Prediction::Epsilon };
        }
        if let Some(rescaled) = self.switch("rescale_timesteps")? {
            config.label_times = rescaled.then_some(1000.0);
        }
        Ok(())
    }

    /// The walk of `sample`: its times, its steps, and whether it is clipped.
    fn walk(&self, card: &mut Card) -> Result<(), String> {
        if let Some(clips) = self.switch("clip_denoised")? {
            card.clip = clips.then_some(Clip::Limit(1.0));
        }
        match (self.switch("use_ddim")?, self.switch("sigma_small")?) {
            (Some(true), _) => card.sample.sampler = Ddim { eta: 0.0 }.into(),
            // A network that has learned its variance samples with it, whatever is said of fixed ones.
            (Some(false), _) | (None, Some(_)) if learned(card) => card.sample.sampler = DdpmLearned {}.into(),
            (Some(false), small) | (None, small @ Some(_)) => {
                let variance = if small == Some(true) { Variance::Posterior } else { Variance::Beta };
                card.sample.sampler = Ddpm { variance }.into();
            }
            (None, None) => {}
        }
        let AnyPrecondition::Ddpm(DdpmConfig { beta, .. }) = &card.precondition else { return Ok(()) };
        if let Some((schedule, steps)) = self.respaced(beta)? {
            (card.sample.schedule, card.sample.steps) = (schedule, steps);
        }
        Ok(())
    }

    /// The times that `timestep_respacing` picks, and how many: `250`, `ddim25`, or a number for each of equal sections.
    fn respaced(&self, beta: &AnyChain) -> Result<Option<(AnySchedule, usize)>, String> {
        let Some(text) = self.text("timestep_respacing").filter(|text| !text.is_empty()) else { return Ok(None) };
        let all = beta.get().times().map_err(|e| e.to_string())?.levels().len();
        let wrong = || {
            self.wrong("timestep_respacing", format!("a number, ddimN or a list of numbers for {all} times is wanted"))
        };
        let spaced =
            |spacing, steps| (Subsequence { beta: beta.clone(), spacing, ..Subsequence::default() }.into(), steps);
        let listed = |mut times: Vec<f64>| {
            times.dedup();
            times.reverse();
            let steps = times.len();
            (Times { times, beta: beta.clone() }.into(), steps)
        };
        if let Some(steps) = text.strip_prefix("ddim") {
            let steps: usize = steps.parse().map_err(|_| wrong())?;
            let stride = (1..all).find(|stride| all.div_ceil(*stride) == steps).ok_or_else(wrong)?;
            let divides = stride * steps == all;
            let times = || (0..all).step_by(stride).map(|t| t as f64).collect();
            return Ok(Some(if divides { spaced(Spacing::Uniform, steps) } else { listed(times()) }));
        }
        let counts: Option<Vec<usize>> = text.split(',').map(|count| count.trim().parse().ok()).collect();
        match counts.as_deref() {
            Some(&[steps]) if (2..=all).contains(&steps) => Ok(Some(spaced(Spacing::Respaced, steps))),
            Some(counts) => Ok(Some(listed(sections(counts, all).ok_or_else(wrong)?))),
            None => Err(wrong()),
        }
    }

    fn must(&self, key: &str, found: impl Display, agrees: bool) -> Result<(), String> {
        if agrees { Ok(()) } else { Err(self.wrong(key, format!("by the tensors it is {found}"))) }
    }

    fn wrong(&self, key: &str, cause: impl Display) -> String {
        format!("{key}={}: {cause}", self.text(key).unwrap_or_default())
    }

    /// A value as it was written; none where it is not given.
    fn text(&self, key: &str) -> Option<String> {
        self.0.get(key).map(|value| match value {
            Json::Null => String::new(),
            Json::String(text) => text.clone(),
            value => value.to_string(),
        })
    }

    fn integer(&self, key: &str) -> Result<Option<i64>, String> {
        let read = |value: &Json| {
            let number = value.as_i64().filter(|number| *number == -1 || (1..1 << 20).contains(number));
            number.ok_or_else(|| self.wrong(key, "a positive number is wanted"))
        };
        self.0.get(key).map(read).transpose()
    }

    fn count(&self, key: &str) -> Result<Option<usize>, String> {
        Ok(self.integer(key)?.and_then(|number| usize::try_from(number).ok()))
    }

    /// Yes or no, as Python's programs spell it.
    fn switch(&self, key: &str) -> Result<Option<bool>, String> {
        let Some(text) = self.text(key) else { return Ok(None) };
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "t" | "y" | "1" => Ok(Some(true)),
            "false" | "no" | "f" | "n" | "0" => Ok(Some(false)),
            _ => Err(self.wrong(key, "True or False is wanted")),
        }
    }

    /// Numbers with commas between them, or a list of YAML.
    fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>, String> {
        let Some(text) = self.text(key) else { return Ok(None) };
        let within = text.trim_matches(|c: char| "[]() ".contains(c)).trim_end_matches(',');
        if within.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let numbers: Result<Vec<f64>, _> = within.split(',').map(|number| number.trim().parse()).collect();
        numbers.map(Some).map_err(|_| self.wrong(key, "numbers with commas between them are wanted"))
    }
}

/// Times from sections of equal length, so many evenly from each, as guided-diffusion's `space_timesteps` picks them.
fn sections(counts: &[usize], all: usize) -> Option<Vec<f64>> {
    let (size, longer) = (all / counts.len(), all % counts.len());
    let (mut times, mut start) = (Vec::new(), 0);
    for (i, &count) in counts.iter().enumerate() {
        let size = size + usize::from(i < longer);
        if count == 0 || count > size {
            return None;
        }
        let stride = if count > 1 { (size - 1) as f64 / (count - 1) as f64 } else { 1.0 };
        times.extend((0..count).map(|k| start as f64 + (k as f64 * stride).round_ties_even()));
        start += size;
    }
    Some(times)
}

/// Whether the network says the variance of its steps.
fn learned(card: &Card) -> bool {
    matches!(&card.network, AnyNetwork::Adm(network) if network.out_channels == 2 * network.in_channels)
}

fn list(numbers: &[f64]) -> String {
    numbers.iter().map(f64::to_string).collect::<Vec<_>>().join(",")
}
