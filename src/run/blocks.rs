//! Seeds in aligned blocks, which make an image independent of order, interruption and the number of processes.

use std::{collections::BTreeSet, ops::Range};

use crate::Error;

/// Seeds k·B … (k + 1)·B − 1, which are computed together, and the positions of the wanted ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// All seeds of the block.
    pub seeds: Vec<u64>,
    /// Positions in `seeds` of the images to keep.
    pub wanted: Vec<usize>,
}

/// Returns the blocks of size `batch` that cover `seeds`.
///
/// A block is computed whole even where few of its seeds are wanted: the rounding of a network depends on the batch
/// size, so only then does each seed have the same bits in every run.
pub fn blocks(seeds: &BTreeSet<u64>, batch: u64) -> Vec<Block> {
    let starts: BTreeSet<u64> = seeds.iter().map(|seed| seed / batch * batch).collect();
    let block = |start: u64| {
        let all: Range<u64> = start..start + batch;
        let wanted = all.clone().enumerate().filter(|(_, seed)| seeds.contains(seed)).map(|(i, _)| i).collect();
        Block { seeds: all.collect(), wanted }
    };
    starts.into_iter().map(block).collect()
}

/// Parses seeds in the form of the command line: `0-63`, `7`, `0-3,8,10-11`.
pub fn parse(text: &str) -> Result<BTreeSet<u64>, Error> {
    let wrong = || Error::parameter("seeds", "like 0-63 or 0-3,8", text);
    let mut seeds = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u64, u64) =
            (first.trim().parse().map_err(|_| wrong())?, last.trim().parse().map_err(|_| wrong())?);
        if first > last || last - first >= 100_000_000 || last > u64::MAX / 2 {
            return Err(wrong());
        }
        seeds.extend(first..=last);
    }
    Ok(seeds)
}
