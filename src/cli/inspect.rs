//! `tweedie inspect`: all that is known of a model.

use std::io::{self, Write};

use anyhow::Result;
use clap::Args;

use super::{Common, thousands};

/// Show a model's architecture, conventions, parameters and hash
#[derive(Args, Debug)]
pub struct Inspect {
    /// A card's name, a card (.yaml), a .safetensors file with a card inside, or a published checkpoint (.pth, .pt, .ckpt, .pkl)
    model: String,
    /// List every tensor with its shape
    #[arg(long)]
    tensors: bool,
    #[command(flatten)]
    common: Common,
}

impl Inspect {
    pub fn run(&self) -> Result<()> {
        let device = self.common.device()?;
        let model = tweedie::card::Model::open_with(
            &self.model,
            self.common.card.as_deref(),
            &self.common.set,
            device,
            self.common.kind(device)?,
        )?;
        let (min, max) = model.range();
        if self.common.json {
            let tensors: Vec<_> = model.parameters.iter().map(|(name, t)| (name, t.size())).collect();
            return self.common.record(&serde_json::json!({
                "card": model.card, "source": model.source, "assumed": model.assumed, "sha256": model.sha256()?,
                "parameters": model.count(), "sigma": [min, max], "tensors": tensors,
            }));
        }
        let mut out = io::stdout();
        writeln!(out, "{}", model.card.text()?.trim_end())?;
        writeln!(out, "---")?;
        writeln!(out, "weights: {}", model.source.display())?;
        if !model.assumed.is_empty() {
            writeln!(out, "assumed: {}", model.assumed)?;
        }
        writeln!(out, "sha256: {}", model.sha256()?)?;
        let tensors = model.parameters.len();
        writeln!(out, "parameters: {} in {tensors} tensors, all used, none left over", thousands(model.count()))?;
        writeln!(out, "trained for: σ from {min:.6} to {max:.4}")?;
        for (name, tensor) in model.parameters.iter().filter(|_| self.tensors) {
            writeln!(out, "  {name} {:?}", tensor.size())?;
        }
        Ok(())
    }
}
