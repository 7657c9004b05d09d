//! `tweedie convert`: a checkpoint of any family, as one file that needs no other.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use tweedie::models::checkpoint::safetensors::{self, Metadata};

use super::Common;

/// Write a model as one .safetensors file with its card inside
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tweedie convert ffhq_10m.pt ffhq.safetensors
  tweedie convert checkpoint.pth faces.safetensors --precision bf16     # half the size")]
pub struct Convert {
    #[arg(help = super::MODEL)]
    model: String,
    /// Where it goes, .safetensors
    output: PathBuf,
    #[command(flatten)]
    common: Common,
}

impl Convert {
    pub fn run(&self) -> Result<()> {
        let Self { output, common, .. } = self;
        if output.extension().is_none_or(|extension| extension != "safetensors") {
            bail!("{}: name a .safetensors file", output.display());
        }
        if output
            .canonicalize()
            .is_ok_and(|output| Path::new(&self.model).canonicalize().is_ok_and(|from| from == output))
        {
            bail!("{}: would be written over itself: name another file", output.display());
        }
        let (model, _) = common.open(&self.model)?;
        if model.is_script() {
            bail!(
                "{}: is a TorchScript program, whose tensors are nothing without it: keep it and its card",
                self.model
            );
        }
        let mut card = model.card.clone();
        if card.training.is_empty() {
            let file = model.source.file_name().unwrap_or_default().to_string_lossy();
            let assumed =
                if model.assumed.is_empty() { String::new() } else { format!("; assumed: {}", model.assumed) };
            card.training = format!("converted from {file} (SHA-256 {}){assumed}", model.sha256()?);
        }
        let tensors = model.parameters.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
        safetensors::write(output, &tensors, &Metadata::from([("card".to_owned(), card.text()?)]))?;
        common.say(format_args!("{}", output.display()));
        common.record(&serde_json::json!({"out": output, "tensors": model.parameters.len(), "card": card}))
    }
}
