//! `tweedie denoise`: evaluates D(x, σ) once.

use anyhow::Result;
use tweedie::{models::card::Card, run::denoise::DenoiseRequest};

use super::args::denoise::DenoiseArgs;

impl DenoiseArgs {
    pub fn run(&self) -> Result<()> {
        let request = DenoiseRequest::new(self.sigma)?.classes(self.class.list()?);
        let (session, terminal) = (self.device.session()?, &self.terminal);
        let model = self.source.open(&self.model, &session, terminal)?;
        let guided = self.guidance.request()?.apply(model, &session)?;
        let denoised = request.write(&guided, (&self.input, &self.output), &terminal.observer())?;
        if denoised.pixels != Card::PIXELS {
            let [black, white] = denoised.pixels;
            terminal.say(format_args!("pixels of {black} … {white}, as the program that trained it had them"));
        }
        let images = if denoised.images == 1 { "image" } else { "images" };
        terminal.say(format_args!("{} {images} in {}", denoised.images, self.output.display()));
        terminal.record(&denoised)
    }
}
