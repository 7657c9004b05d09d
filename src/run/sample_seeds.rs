//! The seeds of the samples of a restoration, in its first run and in runs that add samples.

/// The seed of each sample of each image.
///
/// A first run of S samples numbers them image by image: sample s of image i has seed i S + s. A run that adds samples to it
/// begins after all seeds so far, again image by image. So finished samples keep their seeds, no seed serves twice, and one
/// image gets the very seeds that a single longer run would have given it.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleSeeds {
    images: u64,
    /// Number of samples of each image after each run, growing.
    totals: Vec<u64>,
}

impl SampleSeeds {
    /// Creates the seeds of `images` images, after runs that brought the samples of each to `totals`.
    pub fn new(images: usize, totals: Vec<u64>) -> Self {
        Self { images: images as u64, totals }
    }

    /// Samples of each image.
    pub fn samples(&self) -> usize {
        self.totals.last().map_or(0, |total| *total as usize)
    }

    /// Totals for the record of a run.
    pub fn totals(&self) -> &[u64] {
        &self.totals
    }

    /// (samples before a run, samples it adds), for each run.
    fn runs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let before = std::iter::once(0).chain(self.totals.iter().copied());
        before.zip(&self.totals).map(|(before, after)| (before, after - before))
    }

    /// The seed of a sample.
    pub fn seed(&self, image: usize, sample: usize) -> u64 {
        let (image, sample) = (image as u64, sample as u64);
        let run = self.runs().find(|(before, added)| sample < before + added);
        run.map_or(0, |(before, added)| self.images * before + image * added + (sample - before))
    }

    /// Image and sample of a seed; seeds beyond the last count as the last image's, whose blocks they fill up.
    pub fn place(&self, seed: u64) -> (usize, usize) {
        let run = self.runs().find(|(before, added)| seed < self.images * (before + added));
        let Some((before, added)) = run else { return (self.images as usize - 1, self.samples()) };
        let within = seed - self.images * before;
        ((within / added) as usize, (before + within % added) as usize)
    }
}
