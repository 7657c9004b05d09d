//! `--class` and `--guidance`: of which classes images are, and how far towards them they go.

use anyhow::{Result, bail};
use tweedie::run::{classes::ClassList, prior::GuidanceRequest};

use super::args::classes::{ClassFlags, GuidanceFlags};

impl ClassFlags {
    /// The classes over which images go in turn.
    pub fn list(&self) -> Result<Option<ClassList>> {
        Ok(self.class.as_deref().map(str::parse).transpose()?)
    }
}

impl GuidanceFlags {
    /// The request of the flags.
    pub fn request(&self) -> Result<GuidanceRequest> {
        let range = match *self.guidance_range {
            [] => None,
            [low, high] => Some([low, high]),
            _ => bail!("--guidance-range: is not of the form LOW,HIGH, as 0.3,5"),
        };
        Ok(GuidanceRequest {
            weight: self.guidance,
            range,
            unconditional: self.unconditional.clone(),
            classifier: self.classifier.clone(),
        })
    }
}
