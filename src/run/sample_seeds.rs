//! Seeds of the samples of a restoration, in its first run and in runs that add samples.

/// Seeds of all samples of all images.
///
/// A first run of S samples numbers them image by image: sample s of image i has seed i S + s. A run that adds samples
/// to it begins after all seeds so far, again image by image. Finished samples thus keep their seeds, no seed serves
/// twice, and a single image gets the seeds that one longer run would have given it.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleSeeds {
    images: u64,
    /// Number of samples of each image after each run, in ascending order.
    totals: Vec<u64>,
}

impl SampleSeeds {
    /// Creates the seeds of `images` images, after runs that brought the samples of each to `totals`.
    pub fn new(images: usize, totals: Vec<u64>) -> Self {
        Self { images: images as u64, totals }
    }

    /// Returns the number of samples of each image.
    pub fn samples(&self) -> usize {
        self.totals.last().map_or(0, |total| *total as usize)
    }

    /// Returns the totals for the record of a run.
    pub fn totals(&self) -> &[u64] {
        &self.totals
    }

    /// Lists (samples before the run, samples that the run adds) for each run.
    fn runs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let before = std::iter::once(0).chain(self.totals.iter().copied());
        before.zip(&self.totals).map(|(before, after)| (before, after - before))
    }

    /// Returns the seed of a sample.
    pub fn seed(&self, image: usize, sample: usize) -> u64 {
        let (image, sample) = (image as u64, sample as u64);
        let run = self.runs().find(|(before, added)| sample < before + added);
        run.map_or(0, |(before, added)| self.images * before + image * added + (sample - before))
    }

    /// Returns image and sample of a seed; seeds beyond the last, which fill up a block, count as the last image's.
    pub fn place(&self, seed: u64) -> (usize, usize) {
        let run = self.runs().find(|(before, added)| seed < self.images * (before + added));
        let Some((before, added)) = run else { return (self.images as usize - 1, self.samples()) };
        let within = seed - self.images * before;
        ((within / added) as usize, (before + within % added) as usize)
    }
}
