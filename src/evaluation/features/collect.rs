//! Sums over a set of images, collected as its features go by.

use std::{
    collections::{HashSet, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    path::Path,
};

use tch::{Device, Kind, Tensor};

use super::{Probe, Taken, statistics::save};
use crate::{
    Error,
    evaluation::metrics::{InceptionScore, Moments},
    files::{
        data::{ImageChunk, Reader},
        images,
    },
};

/// Choice of the sums to keep.
#[derive(Clone, Copy, Debug, Default)]
pub struct CollectOptions {
    /// Moments of the spatial features, for sFID.
    pub spatial: bool,
    /// The Inception Score, in so many parts.
    pub score: Option<usize>,
    /// All features, for distances by kernels and neighbours: 8 kB an image for Inception's.
    pub features: bool,
}

/// Sums over a set of images, whose size does not depend on the number of images, and features only where they are
/// wanted.
#[derive(Debug)]
pub struct Collected {
    /// Moments of the features.
    pub moments: Moments,
    /// Moments of the spatial features.
    pub spatial: Option<Moments>,
    /// Inception Score of the logits.
    pub score: Option<InceptionScore>,
    /// `[count, dimensions]`, f32.
    pub features: Option<Tensor>,
    /// Number of images classified as labelled.
    pub right: Option<i64>,
    /// `[channels, height, width]` of the first images.
    pub size: Vec<i64>,
    /// Whether there are images of other sizes.
    pub mixed: bool,
    /// Number of images from JPEG files.
    pub jpegs: usize,
    /// Number of images whose EXIF says that they are to be turned.
    pub oriented: usize,
    /// Number of images of more than 8 bits, which were rounded.
    pub rounded: usize,
    /// Number of images that repeat an earlier one, pixel by pixel.
    pub duplicates: usize,
}

impl Collected {
    /// Writes what the Fréchet distances of these images need, as [`super::save_statistics`] does.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let spatial = self.spatial.as_ref().map(Moments::statistics).transpose()?;
        save(path, &self.moments.statistics()?, spatial.as_ref())
    }
}

/// Hears how many images went by.
pub type Progress<'a> = dyn FnMut(usize) -> Result<(), Error> + 'a;

/// Passes the first `count` images of a set through a network, `batch` at a time; `progress` hears of every batch.
pub fn collect(
    probe: &Probe,
    reader: &mut Reader,
    (count, batch): (usize, usize),
    wanted: CollectOptions,
    progress: &mut Progress,
) -> Result<Collected, Error> {
    let count = count.min(reader.count());
    let mut collector = Collector::new(wanted, count);
    for start in (0..count).step_by(batch.max(1)) {
        let chunks = reader.chunks(start..(start + batch.max(1)).min(count))?;
        let pixels: Vec<&Tensor> = chunks.iter().map(|chunk| &chunk.images.pixels).collect();
        collector.add(&Met::from_chunks(&chunks)?, &probe.take_all(&pixels)?)?;
        progress(chunks.iter().map(|chunk| chunk.images.count()).sum())?;
    }
    collector.finish()
}

/// Facts about a batch of images besides its features.
#[derive(Debug)]
pub struct Met {
    /// `[channels, height, width]` of the first.
    pub size: Vec<i64>,
    /// Whether there are images of other sizes.
    pub mixed: bool,
    /// A digest of each image's pixels: equal images have equal digests.
    pub digests: Vec<u64>,
    /// The class of each, where it is known.
    pub labels: Option<Tensor>,
    /// Number of images from JPEG files.
    pub jpegs: usize,
    /// Number of images whose EXIF says that they are to be turned.
    pub oriented: usize,
    /// Number of images of more than 8 bits, which were rounded.
    pub rounded: usize,
}

impl Met {
    /// The facts of images that were read.
    pub fn from_chunks(chunks: &[ImageChunk]) -> Result<Self, Error> {
        let size = chunks.first().map_or_else(Vec::new, |chunk| chunk.images.pixels.size()[1..].to_vec());
        let mixed = chunks.len() > 1;
        let mut met = Self { size, mixed, digests: Vec::new(), labels: None, jpegs: 0, oriented: 0, rounded: 0 };
        let mut labels = Vec::new();
        for ImageChunk { images, jpegs, oriented, rounded } in chunks {
            let drawn = Self::drawn(&images.pixels)?;
            met.digests.extend(drawn.digests);
            met.jpegs += jpegs;
            met.oriented += oriented;
            met.rounded += rounded;
            labels.extend(&images.labels);
        }
        met.labels = (!labels.is_empty()).then(|| Tensor::cat(&labels, 0));
        Ok(met)
    }

    /// Creates the facts of bytes `[count, channels, height, width]` that come from no file.
    pub fn drawn(pixels: &Tensor) -> Result<Self, Error> {
        let (count, bytes) = (pixels.size()[0] as usize, images::bytes(pixels)?);
        let digest = |image: &[u8]| {
            let mut hash = DefaultHasher::new();
            image.hash(&mut hash);
            hash.finish()
        };
        let digests = bytes.chunks_exact((bytes.len() / count.max(1)).max(1)).map(digest).collect();
        Ok(Self {
            size: pixels.size()[1..].to_vec(),
            mixed: false,
            digests,
            labels: None,
            jpegs: 0,
            oriented: 0,
            rounded: 0,
        })
    }
}

/// Sums up batch after batch; what comes of it does not depend on how images are cut into batches, but for roundings.
#[derive(Debug)]
pub struct Collector {
    wanted: CollectOptions,
    count: usize,
    found: Option<Collected>,
    seen: HashSet<u64>,
    rows: Vec<Tensor>,
}

impl Collector {
    /// A collector for `count` images.
    pub fn new(wanted: CollectOptions, count: usize) -> Self {
        Self { wanted, count, found: None, seen: HashSet::new(), rows: Vec::new() }
    }

    /// Adds a batch and what a network made of it.
    pub fn add(&mut self, met: &Met, taken: &Taken) -> Result<(), Error> {
        let duplicates = met.digests.iter().filter(|digest| !self.seen.insert(**digest)).count();
        let found = match &mut self.found {
            Some(found) => found,
            empty => empty.insert(self.wanted.start(self.count, &met.size, taken)?),
        };
        found.mixed |= met.mixed || met.size != found.size;
        found.jpegs += met.jpegs;
        found.oriented += met.oriented;
        found.rounded += met.rounded;
        found.duplicates += duplicates;
        found.moments.push(&taken.features);
        if let (Some(moments), Some(spatial)) = (&mut found.spatial, &taken.spatial) {
            moments.push(spatial);
        }
        if let (Some(score), Some(logits)) = (&mut found.score, &taken.logits) {
            score.push(&logits.to_device(Device::Cpu))?;
        }
        if let (Some(labels), Some(logits)) = (&met.labels, &taken.logits) {
            let classes = logits.argmax(1, false).to_device(Device::Cpu);
            *found.right.get_or_insert(0) += i64::try_from(classes.eq_tensor(labels).sum(Kind::Int64))?;
        }
        if self.wanted.features {
            self.rows.push(taken.features.to_device(Device::Cpu).to_kind(Kind::Float));
        }
        Ok(())
    }

    /// All of it.
    pub fn finish(self) -> Result<Collected, Error> {
        let mut found = self.found.ok_or_else(|| Error::parameter("the number of images", "at least 1", 0))?;
        found.features = self.wanted.features.then(|| Tensor::cat(&self.rows, 0));
        Ok(found)
    }
}

impl CollectOptions {
    /// Nothing yet of `count` images of this size, of which these features are the first.
    fn start(self, count: usize, size: &[i64], taken: &Taken) -> Result<Collected, Error> {
        let lacking = |what| Error::parameter("`metrics`", what, "asked of another network");
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
            size: size.to_vec(),
            mixed: false,
            jpegs: 0,
            oriented: 0,
            rounded: 0,
            duplicates: 0,
        })
    }
}
