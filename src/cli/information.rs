//! `tweedie information`: how well a network denoises at every level, and how likely images are.

use std::{fmt::Write as _, path::PathBuf};

use anyhow::Result;
use clap::Args;
use tweedie::{
    numbers::schedule::AnySchedule,
    run::information::{BitsPerDimension, FlowRequest, Information as Figures, InformationFolder, InformationRequest},
};

use super::{
    choice,
    classes::ClassFlags,
    data,
    flags::{BatchFlags, DeviceFlags, ModelFlags, OutputFlags, SeedFlag},
    thousands,
};

/// Measure how well a network denoises at every level, and with it how likely images are
///
/// MMSE(λ) = E‖x − D(x + σn, σ)‖² over λ = 1/σ², the information I(λ) = ½∫MMSE that the noisy image has of the clean one,
/// and −log₂ p in bits per dimension: for bytes b as x = (b + u)/128 − 1 with u uniform on 0…1, so that it bounds the length
/// to which they could be compressed.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tweedie information fashion-mnist --data '{kind: idx, images: t10k-images-idx3-ubyte.gz, pad: 2}' --limit 256
  tweedie information fashion-mnist --data photos/ --levels 65 --draws 4 --flow --out out/information")]
pub struct Information {
    #[arg(help = super::MODEL)]
    model: String,
    /// The images: a folder, or '{kind: idx, images: FILE, pad: 2}'
    #[arg(long, value_name = "DATA")]
    data: String,
    /// Only the first so many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// How many noise levels: the integral over them is of fourth order
    #[arg(long, value_name = "K", default_value_t = 33)]
    levels: usize,
    /// Noises for each image and level
    #[arg(long, value_name = "N", default_value_t = 1)]
    draws: u64,
    /// Where the levels lie, those of the flow too [default: geometric, over the network's own range]
    #[arg(long, value_name = "NAME")]
    schedule: Option<String>,
    /// The density of the probability flow as well: some 20 times the work
    #[arg(long)]
    flow: bool,
    /// Noise levels of the flow: four evaluations with their gradients between two of them
    #[arg(long, value_name = "K", default_value_t = 25)]
    steps: usize,
    /// Signs that estimate the flow's divergence; 0 is exact, by one gradient for each number of an image
    /// [default: 1, or 0 for images of up to 16 numbers]
    #[arg(long, value_name = "N")]
    probes: Option<u64>,
    #[command(flatten)]
    class: ClassFlags,
    /// Where information.csv, information.png and information.json go
    #[arg(long, default_value = "out/information", value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    source: ModelFlags,
    #[command(flatten)]
    device: DeviceFlags,
    #[command(flatten)]
    batch: BatchFlags,
    #[command(flatten)]
    seed: SeedFlag,
    #[command(flatten)]
    output: OutputFlags,
}

impl Information {
    pub fn run(&self) -> Result<()> {
        let request = self.request()?;
        request.check()?;
        let session = self.device.session_with(&self.batch, self.seed.seed)?;
        let model = self.source.open(&self.model, &session, &self.output)?;
        let images = data(&self.data, model.card.image[0], "--data")?;
        let figures = request.run(&model, &images, &session, &self.output.observer())?;
        self.output.say(table(&figures));
        self.output.say(summary(&figures));
        let folder =
            InformationFolder { out: self.out.clone(), origin: self.source.origin()?, data: self.data.clone() };
        let record = figures.write(&folder)?;
        self.output.say(format_args!("information.csv, .png and .json are in {}", self.out.display()));
        self.output.record(&record)
    }

    fn request(&self) -> Result<InformationRequest> {
        let default = InformationRequest::default();
        let schedule = self.schedule.as_ref().map(|text| choice::<AnySchedule>(text, "--schedule")).transpose()?;
        let flow = FlowRequest { steps: self.steps, probes: self.probes };
        flow.check()?;
        Ok(InformationRequest {
            limit: self.limit,
            levels: self.levels,
            draws: self.draws,
            schedule: schedule.unwrap_or(default.schedule),
            flow: self.flow.then_some(flow),
            classes: self.class.list()?,
        })
    }
}

/// The curve, a line for each level.
fn table(figures: &Figures) -> String {
    let mut text =
        String::from("       σ      λ = 1/σ²    ln λ   MMSE/d       ±          I/d: nats     bits   linear MMSE/d\n");
    for row in &figures.levels {
        let (mmse, linear) = (row.mmse_per_dimension, row.gaussian_mmse_per_dimension);
        let _ = writeln!(
            text,
            "{:>10.4} {:>12.4e} {:>7.3}   {:.3e}  {:.0e}  {:>12.5} {:>8.5}   {}",
            row.sigma,
            row.snr,
            row.log_snr,
            mmse.value,
            mmse.error,
            row.information_nats_per_dimension.value,
            row.information_bits_per_dimension.value,
            linear.map_or_else(|| "–".to_owned(), |linear| format!("{linear:.3e}")),
        );
    }
    text
}

/// Bits per dimension, a line for each way to find them.
fn summary(figures: &Figures) -> String {
    let BitsPerDimension { i_mmse, spread, halved, flow, flow_minus_i_mmse, gaussian } = figures.bits_per_dimension;
    let mut text = format!(
        "bits per dimension, {} images of {} numbers ({:.0} s):\n  by the squared errors (I-MMSE)  {:.4} ± {:.4}, from \
         image to image ± {spread:.2}",
        thousands(figures.images),
        thousands(figures.numbers),
        figures.seconds,
        i_mmse.value,
        i_mmse.error,
    );
    if let Some(halved) = halved {
        let _ = write!(text, "; half the levels would add {halved:+.4}");
    }
    if let (Some(flow), Some(apart)) = (flow, flow_minus_i_mmse) {
        let _ = write!(
            text,
            "\n  by the probability flow         {:.4} ± {:.4}, which is {:+.4} ± {:.4}",
            flow.value, flow.error, apart.value, apart.error
        );
    }
    if let Some(gaussian) = gaussian {
        let _ = write!(text, "\n  by a Gaussian of the same covariance  {gaussian:.4}");
    }
    text
}
