//! `tweedie inspect`: shows all that is known of a model.

use std::{
    io::{self, Write},
    time::Instant,
};

use anyhow::Result;

use super::{args::inspect::InspectArgs, thousands};

impl InspectArgs {
    pub fn run(&self) -> Result<()> {
        let start = Instant::now();
        let model = self.source.on_cpu(&self.model)?;
        let seconds = start.elapsed().as_secs_f64();
        let (min, max) = model.range();
        if self.output.json {
            let tensors: Vec<_> = model.parameters.iter().map(|(name, t)| (name, t.size())).collect();
            return self.output.record(&serde_json::json!({
                "card": model.card, "source": model.source, "assumed": model.assumed, "sha256": model.sha256()?,
                "parameters": model.count(), "sigma": [min, max], "tensors": tensors, "load_seconds": seconds,
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
        let kind = if model.is_script() { "a TorchScript program" } else { "tensors alone" };
        writeln!(out, "opened in {seconds:.2} s: {kind}")?;
        writeln!(out, "trained for: σ from {min:.6} to {max:.4}")?;
        for (name, tensor) in model.parameters.iter().filter(|_| self.tensors) {
            writeln!(out, "  {name} {:?}", tensor.size())?;
        }
        Ok(())
    }
}
