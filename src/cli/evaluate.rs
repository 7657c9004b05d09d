//! `tweedie evaluate`: the distance of a set of images from another.

use anyhow::Result;
use tweedie::{
    evaluation::features::{Evaluation, Figure, Metric, Resize},
    run::{
        evaluate::{Evaluated, EvaluationRequest},
        session::Session,
    },
};

use super::{args::evaluate::EvaluateArgs, target, thousands, with_flags};

impl EvaluateArgs {
    pub fn run(&self) -> Result<()> {
        let session = Session { batch: Some(self.batch), ..self.place.session()? };
        let evaluated = self.request()?.run(&session, &self.output.observer())?;
        for warning in &evaluated.warnings {
            eprintln!("warning: {}", with_flags(warning, "evaluate"));
        }
        for line in lines(&evaluated) {
            self.output.say(line);
        }
        self.output.record(&evaluated.record())
    }

    fn request(&self) -> Result<EvaluationRequest> {
        Ok(EvaluationRequest {
            evaluation: self.evaluation()?,
            images: target(&self.images, "IMAGES")?,
            reference: self.reference.as_ref().map(|text| target(text, "--reference")).transpose()?,
            limit: self.limit,
            expect: self.expect,
            save_statistics: self.save_statistics.clone(),
        })
    }

    fn evaluation(&self) -> Result<Evaluation> {
        Ok(Evaluation {
            network: self.network.clone(),
            resize: self.resize.as_deref().map(Resize::parse).transpose()?,
            features: self.features,
            metrics: self.metrics.iter().map(|name| Metric::parse(name)).collect::<Result<_, _>>()?,
            bootstrap: self.bootstrap,
            subsets: self.subsets,
            subset_size: self.subset_size,
            parts: self.parts,
            exif: self.exif,
            seed: self.seed.seed,
        })
    }
}

/// Formats the figures, each under its own name.
fn lines(evaluated: &Evaluated) -> Vec<String> {
    let Evaluated { network, images, accuracy, figures, reference, compared, .. } = evaluated;
    let all = thousands(*images);
    let accuracy_of = |share: f64| format!("accuracy of {network}: {:.2} % of {all} images", 100.0 * share);
    let mut lines: Vec<String> = accuracy.map(accuracy_of).into_iter().chain(figures.iter().map(figure)).collect();
    if *compared {
        let others = reference.map(|others| thousands(others as usize));
        let others = others.unwrap_or("statistics of an unknown number".to_owned());
        lines.push(format!("{all} images against {others}; figures depend on both numbers"));
    } else if lines.is_empty() {
        lines.push(format!("{all} images; --reference DATA tells how far they lie from others"));
    }
    lines
}

fn figure(Figure { name, value, spread, spread_of, .. }: &Figure) -> String {
    let spread = spread.zip(spread_of.as_ref()).map(|(spread, what)| format!(" ± {spread:.4} ({what})"));
    // Adding 0 makes 0 of −0.
    let value = (value * 1e4).round() / 1e4 + 0.0;
    format!("{name}: {value:.4}{}", spread.unwrap_or_default())
}
