//! What a set of images leaves behind once its features have gone by.

use std::{
    collections::{HashSet, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
};

use tch::{Device, Kind, Tensor};

use super::{Probe, Taken};
use crate::{
    Error,
    data::{Chunk, Reader},
    images,
    metrics::{InceptionScore, Moments},
};

/// What is to be kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// Moments of the spatial features, for sFID.
    pub spatial: bool,
    /// The Inception Score, in so many parts.
    pub score: Option<usize>,
    /// All features, for distances by kernels and neighbours: 8 kB an image for Inception's.
    pub features: bool,
}

/// Of a set of images: sums, whose size does not depend on the number of images, and features only where they are wanted.
#[derive(Debug)]
pub struct Collected {
    /// Of the features.
    pub moments: Moments,
    /// Of the spatial features.
    pub spatial: Option<Moments>,
    /// Of the logits.
    pub score: Option<InceptionScore>,
    /// `[count, dimensions]`, f32.
    pub features: Option<Tensor>,
    /// How many images were classified as labelled.
    pub right: Option<i64>,
    /// `[channels, height, width]`.
    pub size: Vec<i64>,
    /// How many images come from JPEG files.
    pub jpegs: usize,
    /// How many images are the same, pixel by pixel, as one before.
    pub duplicates: usize,
}

/// Passes the first `count` images of a set through a network, `batch` at a time; `progress` hears of every batch.
pub fn collect(
    probe: &Probe,
    reader: &mut Reader,
    (count, batch): (usize, usize),
    wanted: Wanted,
    progress: &mut dyn FnMut(usize) -> Result<(), Error>,
) -> Result<Collected, Error> {
    let count = count.min(reader.count());
    let mut collector = Collector { wanted, count, found: None, seen: HashSet::new(), rows: Vec::new() };
    for start in (0..count).step_by(batch.max(1)) {
        let chunk = reader.read(start..(start + batch.max(1)).min(count))?;
        collector.add(&chunk, &probe.take(&chunk.images.pixels)?)?;
        progress(chunk.images.count())?;
    }
    collector.finish()
}

struct Collector {
    wanted: Wanted,
    count: usize,
    found: Option<Collected>,
    seen: HashSet<u64>,
    rows: Vec<Tensor>,
}

impl Collector {
    fn add(&mut self, chunk: &Chunk, taken: &Taken) -> Result<(), Error> {
        let duplicates = self.duplicates(&chunk.images.pixels)?;
        let found = match &mut self.found {
            Some(found) => found,
            empty => empty.insert(self.wanted.start(self.count, &chunk.images.pixels, taken)?),
        };
        found.jpegs += chunk.jpegs;
        found.duplicates += duplicates;
        found.moments.push(&taken.features);
        if let (Some(moments), Some(spatial)) = (&mut found.spatial, &taken.spatial) {
            moments.push(spatial);
        }
        if let (Some(score), Some(logits)) = (&mut found.score, &taken.logits) {
            score.push(&logits.to_device(Device::Cpu))?;
        }
        if let (Some(labels), Some(logits)) = (&chunk.images.labels, &taken.logits) {
            let classes = logits.argmax(1, false).to_device(Device::Cpu);
            *found.right.get_or_insert(0) += i64::try_from(classes.eq_tensor(labels).sum(Kind::Int64))?;
        }
        if self.wanted.features {
            self.rows.push(taken.features.to_device(Device::Cpu).to_kind(Kind::Float));
        }
        Ok(())
    }

    fn duplicates(&mut self, pixels: &Tensor) -> Result<usize, Error> {
        let count = pixels.size()[0] as usize;
        let bytes = images::bytes(pixels)?;
        let new = bytes.chunks_exact((bytes.len() / count.max(1)).max(1)).filter(|image| {
            let mut hash = DefaultHasher::new();
            image.hash(&mut hash);
            self.seen.insert(hash.finish())
        });
        Ok(count - new.count())
    }

    fn finish(self) -> Result<Collected, Error> {
        let mut found = self.found.ok_or_else(|| Error::parameter("the number of images", "at least 1", 0))?;
        found.features = self.wanted.features.then(|| Tensor::cat(&self.rows, 0));
        Ok(found)
    }
}

impl Wanted {
    /// Nothing yet of `count` images, of which these are the first.
    fn start(self, count: usize, pixels: &Tensor, taken: &Taken) -> Result<Collected, Error> {
        let lacking = |what| Error::parameter("--metrics", what, "asked of another network");
        let spatial = match (&taken.spatial, self.spatial) {
            (Some(spatial), true) => Some(Moments::new(spatial.size()[1])),
            (None, true) => return Err(lacking("without sfid unless the network is Inception's state dict")),
            _ => None,
        };
        if self.score.is_some() && taken.logits.is_none() {
            return Err(lacking("without is unless the network has logits"));
        }
        Ok(Collected {
            moments: Moments::new(taken.features.size()[1]),
            spatial,
            score: self.score.map(|parts| InceptionScore::new(count, parts)),
            features: None,
            right: None,
            size: pixels.size()[1..].to_vec(),
            jpegs: 0,
            duplicates: 0,
        })
    }
}
