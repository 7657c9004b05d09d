//! Observers of a run.

use crate::{Error, models::card::Model};

/// Hears of a run as it goes, and may ask it to stop; `&()` hears nothing.
///
/// Progress bars, Ctrl-C and notes on a terminal are observers. Threads that compute call it at the same time.
pub trait Observer: Sync {
    /// A model was opened for the run.
    fn opened(&self, _model: &Model) {}

    /// A stage of the run begins, in which so many steps are expected: evaluations of single images, chunks of a table, images
    /// measured. 0 where nobody knows yet.
    fn begun(&self, _stage: &str, _steps: u64) {}

    /// More steps are expected than were said.
    fn extended(&self, _steps: u64) {}

    /// `steps` more are done.
    fn advanced(&self, _steps: u64) {}

    /// A figure of the stage under way, for whoever watches: `loss 0.0312`.
    fn figure(&self, _text: &str) {}

    /// The stage that began last is over.
    fn ended(&self) {}

    /// Receives a note for a reader of the results: one sentence, without a full stop.
    fn said(&self, _note: &str) {}

    /// A figure of many is there: `DDIM, 20 evaluations: 3.1`.
    fn measured(&self, _line: &str) {}

    /// `count` images, rows or figures are finished, and kept whatever happens to the rest.
    fn finished(&self, _count: u64) {}

    /// Whether to stop after the step under way; finished parts are kept.
    fn stops(&self) -> bool {
        false
    }
}

impl Observer for () {}

/// An error that says so where the observer asks to stop.
pub(crate) fn go_on(observer: &dyn Observer) -> Result<(), Error> {
    if observer.stops() { Err(Error::Interrupted) } else { Ok(()) }
}
