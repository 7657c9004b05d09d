//! `tweedie restore`: samples of the posterior from a measurement and the prior.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde_json::json;
use tch::{Kind, Tensor};
use tweedie::{
    inverse::{
        detectors::Detector,
        operators::{AnyTask, Blur, Boundary, Operator},
        restoration::{AnyMethod, Mmps},
        tasks::InpaintMask,
    },
    models::card::Model,
    run::{
        figures::FigureRequest,
        image_set::{self, ImageSet},
        measurement::{MeasurementFile, Units},
        prior::Guided,
        problem::{OperatorSource, Problem},
        released::Released,
        restore::{Restoration, RestorationCost},
        restored::{RestorationFolder, RestoredFolder},
        session::Session,
    },
};

use super::{
    args::restore::{ProblemFlags, RestoreArgs, ResultFlags},
    choice, command, data,
};

impl RestoreArgs {
    pub fn run(&self) -> Result<()> {
        let session = self.device.session_with(&self.batch, self.seed.seed)?;
        let model = self.source.open(&self.model, &session, &self.output)?;
        let guided = self.guidance.request()?.apply(model, &session)?;
        let released = self.config.as_deref().map(|path| released(path, &guided.model)).transpose()?;
        let problem = self.problem(released.as_ref(), &guided.model, &session)?;
        let noise = problem.noise();
        let restoration = self.restoration(&guided, problem, released.as_ref(), &session)?;
        self.output.say(self.announcement(noise, &restoration.cost()?));
        let restored = restoration.write(&self.folder()?, &self.output.observer())?;
        self.output.say(&restored.table);
        self.output.say(places(&restored));
        self.output.record(&restored)
    }

    fn restoration<'a>(
        &self,
        guided: &'a Guided,
        problem: Problem<'a>,
        released: Option<&Released>,
        session: &Session,
    ) -> Result<Restoration<'a>> {
        let restoration = Restoration::new(guided, problem).session(session).samples(self.samples);
        let restoration = restoration.classes(self.class.list()?).figures(self.results.figures());
        let restoration = match released {
            Some(released) => restoration.released(released)?,
            None => restoration.method(self.method()?),
        };
        let plan = self.plan.over(&restoration.default_plan())?;
        let restoration = match &self.baseline {
            Some(text) => restoration.baseline(fitted(text, &guided.model)?),
            None => restoration,
        };
        Ok(if self.plan.names_sampler() {
            restoration.sampler(plan.sampler.clone()).plan(plan)
        } else {
            restoration.plan(plan)
        })
    }

    fn method(&self) -> Result<AnyMethod> {
        self.method.as_deref().map_or_else(|| Ok(Mmps::default().into()), |method| choice(method, "--method"))
    }

    fn problem<'a>(&self, released: Option<&Released>, model: &Model, session: &Session) -> Result<Problem<'a>> {
        let asked = released.and_then(|released| Some((released, released.problem.as_ref()?)));
        let noise = asked.map_or(self.problem.noise.unwrap_or(0.05), |(_, problem)| problem.eta / 2.0);
        if let Some(path) = &self.problem.measurement {
            return self.problem.measured(path, model, session);
        }
        let folder = asked.map(|(released, _)| released.images.display().to_string());
        let image = self.problem.image.clone().or(folder).unwrap_or_default();
        let ImageSet { names, images, depth, notes } = self.problem.images(&image, model)?;
        for note in notes {
            self.output.say(format_args!("note: {note}"));
        }
        let size = images.size();
        let shape = [size[1], size[2], size[3]];
        let source = self.problem.source(asked.map(|(_, problem)| &problem.task), shape, session)?;
        let problem = match &self.problem.detector {
            Some(text) => Problem::detected(source, &images, choice::<Detector>(text, "--detector")?, session.seed)?,
            None => Problem::new(source, &images, noise, session.seed)?,
        };
        Ok(problem.depth(depth).named(names)?)
    }

    fn folder(&self) -> Result<RestorationFolder> {
        Ok(RestorationFolder {
            out: self.out.clone(),
            states: self.results.states,
            animate: self.results.animate,
            overwrite: self.results.overwrite,
            command: command(),
            origin: self.source.origin()?,
        })
    }

    fn announcement(&self, noise: f64, cost: &RestorationCost) -> String {
        let default = if self.config.is_some() { "walk" } else { "mmps" };
        let method = self.method.as_deref().unwrap_or(default);
        let evaluations =
            if cost.adaptive { "as many evaluations as need be".to_owned() } else { cost.guided.to_string() };
        let gradients = match cost.effort.gradients {
            0 => String::new(),
            gradients => format!(" and {gradients} gradients through the network"),
        };
        let eta = 2.0 * noise;
        format!(
            "η = {noise} for pixels 0 … 1 ({eta} in data units −1 … 1), {method}, {evaluations} a sample{gradients}"
        )
    }
}

impl ProblemFlags {
    fn measured<'a>(&self, path: &Path, model: &Model, session: &Session) -> Result<Problem<'a>> {
        let file = MeasurementFile::read(path)?;
        let build = |shape| self.source(None, shape, session).map_err(tweedie::Error::request);
        let shape = file.image_shape(model.card.image, model.card.network.is_local(), build)?;
        let source = match file.source(session)? {
            Some(_) if self.task.is_some() || self.mask.is_some() || self.kernel.is_some() => {
                bail!("{}: says itself how it was measured: leave --task, --mask and --kernel out", path.display());
            }
            Some(source) => source,
            None => self.source(None, shape, session)?,
        };
        let units = self.units.as_deref().map(|units| if units == "0-1" { Units::Unit } else { Units::Data });
        let noise = self.noise.or(file.noise()).unwrap_or(0.05);
        Ok(file.problem(source, units, noise, shape)?)
    }

    fn images(&self, image: &str, model: &Model) -> Result<ImageSet> {
        if image.starts_with('{') {
            return Ok(ImageSet::from_data(&data(image, model.card.image[0], "--image")?, self.limit, model)?);
        }
        Ok(ImageSet::read(Path::new(image), self.limit, model)?)
    }

    /// Creates the operator of --mask, --kernel, a configuration or --task.
    fn source<'a>(
        &self,
        configured: Option<&AnyTask>,
        shape: [i64; 3],
        session: &Session,
    ) -> Result<OperatorSource<'a>> {
        let (mask, kernel) = (&self.mask, &self.kernel);
        let description = json!({"mask": mask, "kernel": kernel});
        if let Some(file) = mask.clone() {
            let task = InpaintMask { file }.into();
            return Ok(OperatorSource::task(&task, shape, session)?.described(description));
        }
        if let Some(path) = kernel {
            return Ok(blur(path, shape, session)?.described(description));
        }
        let task = self.task.as_deref().map(|task| choice::<AnyTask>(task, "--task")).transpose()?;
        match configured.or(task.as_ref()) {
            Some(task) => Ok(OperatorSource::task(task, shape, session)?),
            None => bail!("--task: none was given (`tweedie tasks` lists them)"),
        }
    }
}

impl ResultFlags {
    fn figures(&self) -> FigureRequest {
        let lpips = self.lpips.clone().and_then(|files| <[PathBuf; 2]>::try_from(files).ok());
        FigureRequest { min_max: self.min_max, lpips, features: self.features.clone() }
    }
}

/// Creates the blur with the kernel in a file.
fn blur<'a>(path: &Path, shape: [i64; 3], session: &Session) -> Result<OperatorSource<'a>> {
    let (kernel, path, device) = (image_set::kernel(path)?, path.to_owned(), session.device);
    let build = move || {
        let blur = Blur::new(&kernel, shape, Boundary::Reflect, device, Kind::Float);
        blur.map(Operator::from).map_err(|e| tweedie::Error::file(&path, e))
    };
    Ok(OperatorSource::built(build)?)
}

/// Loads the images to which the baseline is fitted.
fn fitted(text: &str, model: &Model) -> Result<Tensor> {
    let images = data(text, model.card.image[0], "--baseline")?.load()?;
    Ok(images.batch(&(0..images.count()).collect::<Vec<_>>()))
}

/// Reads a released configuration, and checks that it restores images with a network like `model`.
fn released(path: &Path, model: &Model) -> Result<Released> {
    let released = Released::read(path)?;
    if released.problem.is_none() {
        bail!("{}: draws images freely: it is for `tweedie sample`", path.display());
    }
    released.network.check(&model.card)?;
    Ok(released)
}

fn places(restored: &RestoredFolder) -> String {
    let (out, sheet, page) = (restored.out.display(), restored.sheet.display(), restored.page.display());
    format!("pictures in {out}, all on one sheet in {sheet}, and to look at in {page}")
}
