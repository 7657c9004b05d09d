//! `tweedie information`: the denoising error of a network at every level, and the likelihood of images.

use std::fmt::Write as _;

use anyhow::Result;
use tweedie::{
    numbers::schedule::AnySchedule,
    run::information::{BitsPerDimension, FlowRequest, Information, InformationFolder, InformationRequest},
};

use super::{args::information::InformationArgs, choice, data, thousands};

impl InformationArgs {
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

/// Formats the curve, a line for each level.
fn table(figures: &Information) -> String {
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

/// Formats the bits per dimension, a line for each estimate.
fn summary(figures: &Information) -> String {
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
