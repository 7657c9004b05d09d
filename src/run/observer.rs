//! Observers of a run.

use crate::{Error, models::card::Model};

/// An observer is notified of the progress of a run, and may ask it to stop; `&()` ignores all notifications.
///
/// Progress bars, Ctrl-C and notes on a terminal are observers. Computing threads call an observer concurrently.
pub trait Observer: Sync {
    /// Called when a model was opened for the run.
    fn opened(&self, _model: &Model) {}

    /// Called when a stage of the run begins; `steps` is the expected number of evaluations of single images, chunks of
    /// a table or images measured, and 0 where it is unknown.
    fn begun(&self, _stage: &str, _steps: u64) {}

    /// Called when the stage takes `steps` more steps than announced.
    fn extended(&self, _steps: u64) {}

    /// Called when `steps` more steps are done.
    fn advanced(&self, _steps: u64) {}

    /// Receives a figure of the stage under way, for display: `loss 0.0312`.
    fn figure(&self, _text: &str) {}

    /// Called when the stage that began last is over.
    fn ended(&self) {}

    /// Receives a note for a reader of the results: one sentence, without a full stop.
    fn said(&self, _note: &str) {}

    /// Receives a line for one finished figure of many: `DDIM, 20 evaluations: 3.1`.
    fn measured(&self, _line: &str) {}

    /// Called when `count` images, rows or figures are finished; they are kept whatever happens to the rest.
    fn finished(&self, _count: u64) {}

    /// Reports whether to stop after the step under way; finished parts are kept.
    fn stops(&self) -> bool {
        false
    }
}

impl Observer for () {}

/// Fails with [`Error::Interrupted`] if the observer asks to stop.
pub(crate) fn go_on(observer: &dyn Observer) -> Result<(), Error> {
    if observer.stops() { Err(Error::Interrupted) } else { Ok(()) }
}
