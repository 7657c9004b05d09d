//! `--class` and `--guidance`: the classes of images, and the strength of the guidance towards them.

use anyhow::{Result, bail};
use tweedie::run::{classes::ClassList, prior::GuidanceRequest};

use super::args::classes::{ClassFlags, GuidanceFlags};

impl ClassFlags {
    /// Parses the classes that images take in turn.
    pub fn list(&self) -> Result<Option<ClassList>> {
        Ok(self.class.as_deref().map(str::parse).transpose()?)
    }
}

impl GuidanceFlags {
    /// Creates the guidance request of the flags.
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
