//! Animations of walks: animated PNG files, which every browser plays without loss of colour.

use std::path::Path;

use png::{BitDepth, ColorType, Encoder, EncodingError};
use tch::Tensor;

use crate::{Error, files::images};

/// Approximate number of frames of a walk, however many steps it has.
pub const FRAMES: usize = 25;

/// Duration of a frame, in milliseconds.
const EACH: u16 = 80;
/// Duration of the last frame, long enough to look at it.
const LAST: u16 = 2000;

/// Chooses the indices of the shown states among `states`: at most [`FRAMES`], evenly spaced, with the first and the
/// last.
pub fn chosen(states: usize) -> Vec<usize> {
    let count = states.min(FRAMES);
    (0..count).map(|i| i * (states - 1) / (count - 1).max(1)).collect()
}

/// Recorder of the frames of a walk: however many states there are, it keeps about [`FRAMES`], evenly spaced, and the
/// last.
#[derive(Debug, Default)]
pub struct FrameRecorder {
    kept: Vec<Tensor>,
    last: Option<Tensor>,
    /// log₂ of the interval between two kept states.
    doublings: u32,
    taken: usize,
}

impl FrameRecorder {
    /// Receives the next state, `[channels, height, width]`.
    pub fn take(&mut self, state: &Tensor) {
        let frame = state.to_device(tch::Device::Cpu);
        if self.taken.is_multiple_of(1 << self.doublings) {
            self.kept.push(frame.copy());
        }
        self.last = Some(frame.copy());
        self.taken += 1;
        if self.kept.len() > 2 * FRAMES {
            let mut keep = false;
            self.kept.retain(|_| {
                keep = !keep;
                keep
            });
            self.doublings += 1;
        }
    }

    /// Returns the frames in order.
    pub fn frames(&self) -> Vec<Tensor> {
        let shown = chosen(self.kept.len()).into_iter().map(|i| self.kept[i].shallow_clone());
        shown.chain(self.last.as_ref().map(Tensor::shallow_clone)).collect()
    }
}

/// Writes frames `[channels, height, width]` (1 or 3 channels) in data units −1 … 1, whole or not at all; the animation
/// repeats endlessly.
///
/// A program that does not support animated PNG shows the last frame.
pub fn write(path: &Path, frames: &[Tensor]) -> Result<(), Error> {
    let first = frames.first().map(Tensor::size).unwrap_or_default();
    let other = frames.iter().map(Tensor::size).find(|size| *size != first || size.len() != 3);
    let colour = match (first.as_slice(), other) {
        ([1, ..], None) => ColorType::Grayscale,
        ([3, ..], None) => ColorType::Rgb,
        (_, other) => {
            let want = format!("[1 or 3, height, width] of one size, that of the first, {first:?},");
            return Err(Error::Shape { what: "a frame", got: other.unwrap_or(first), want });
        }
    };
    let bytes = |frame: &Tensor| images::bytes(&images::to_bytes(frame).permute([1, 2, 0]));
    let frames = frames.iter().map(bytes).collect::<Result<Vec<_>, _>>()?;
    let file = encoded((first[2] as u32, first[1] as u32), colour, &frames)
        .map_err(|e| Error::file(path, format!("cannot be encoded: {e}")))?;
    images::write_whole(path, &file)
}

fn encoded((width, height): (u32, u32), colour: ColorType, frames: &[Vec<u8>]) -> Result<Vec<u8>, EncodingError> {
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, width, height);
    encoder.set_color(colour);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_animated(frames.len() as u32, 0)?;
    encoder.set_sep_def_img(true)?;
    encoder.set_frame_delay(EACH, 1000)?;
    let mut writer = encoder.write_header()?;
    for (i, frame) in frames.last().into_iter().chain(frames).enumerate() {
        if i == frames.len() {
            writer.set_frame_delay(LAST, 1000)?;
        }
        writer.write_image_data(frame)?;
    }
    writer.finish()?;
    Ok(file)
}
