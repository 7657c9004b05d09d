//! `tweedie convert`: writes a checkpoint of any family as one file that needs no other.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde_json::json;
use tch::Device;
use tweedie::{
    models::{
        card::{Card, Model},
        checkpoint::safetensors::{self, Metadata},
    },
    run::session::Session,
};

use super::args::convert::ConvertArgs;

impl ConvertArgs {
    pub fn run(&self) -> Result<()> {
        self.check()?;
        let session = Session { precision: self.precision.into(), ..Session::on(Device::Cpu) };
        let model = self.source.open(&self.model, &session, &self.terminal)?;
        if model.is_script() {
            bail!(
                "{}: is a TorchScript program: its tensors are of no use without its code; keep it and its card",
                self.model
            );
        }
        let card = card(&model)?;
        let tensors = model.parameters.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
        safetensors::write(&self.output, &tensors, &Metadata::from([("card".to_owned(), card.text()?)]))?;
        self.terminal.say(self.output.display());
        self.terminal.record(&json!({"out": self.output, "tensors": model.parameters.len(), "card": card}))
    }

    fn check(&self) -> Result<()> {
        let output = &self.output;
        if output.extension().is_none_or(|extension| extension != "safetensors") {
            bail!("{}: name a .safetensors file", output.display());
        }
        let same = |output: PathBuf| Path::new(&self.model).canonicalize().is_ok_and(|from| from == output);
        if output.canonicalize().is_ok_and(same) {
            bail!("{}: would be written over itself: name another file", output.display());
        }
        Ok(())
    }
}

/// Copies the model's card and adds the origin of the weights.
fn card(model: &Model) -> Result<Card> {
    let mut card = model.card.clone();
    if card.training.is_empty() {
        let file = model.source.file_name().unwrap_or_default().to_string_lossy();
        let assumed = if model.assumed.is_empty() { String::new() } else { format!("; assumed: {}", model.assumed) };
        card.training = format!("converted from {file} (SHA-256 {}){assumed}", model.sha256()?);
    }
    Ok(card)
}
