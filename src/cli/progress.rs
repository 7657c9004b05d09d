//! Progress on standard error: a bar on a terminal, one line a minute elsewhere.

use std::{
    env, fmt,
    io::{self, IsTerminal, Write},
    sync::{Mutex, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use tweedie::{
    models::card::Model,
    run::{observer::Observer, session::Session},
};

use super::{INTERRUPTED, args::flags::OutputFlags};

/// Time between two lines of a log.
const EVERY: Duration = Duration::from_secs(60);

/// Observer that shows the progress of a run on a terminal or in a log.
#[derive(Debug)]
pub struct Terminal {
    output: OutputFlags,
    bar: ProgressBar,
    lines: Mutex<Option<Lines>>,
}

/// State of the plain log lines about a stage.
#[derive(Debug)]
struct Lines {
    stage: String,
    began: Instant,
    last: Instant,
}

impl Terminal {
    /// Creates an observer that shows nothing before the first stage begins.
    pub fn new(output: &OutputFlags) -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
        Self { output: output.clone(), bar, lines: Mutex::new(None) }
    }

    /// Writes a line if the last one is a minute old.
    fn line(&self) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(lines) = lines.as_mut().filter(|lines| lines.last.elapsed() >= EVERY) else { return };
        lines.last = Instant::now();
        let (done, all) = (self.bar.position(), self.bar.length().unwrap_or(0));
        let _ = writeln!(io::stderr(), "{}", sentence(&lines.stage, done, all, lines.began.elapsed()));
    }
}

impl Observer for Terminal {
    fn opened(&self, model: &Model) {
        self.bar.suspend(|| self.output.introduce(model, &Session::from_model(model)));
    }

    fn measured(&self, line: &str) {
        self.bar.suspend(|| self.output.say(line));
    }

    fn begun(&self, stage: &str, steps: u64) {
        self.bar.reset();
        self.bar.set_length(steps);
        self.bar.set_style(style(unit(stage)));
        self.bar.set_prefix(stage.to_owned());
        if self.output.quiet {
            return;
        }
        if io::stderr().is_terminal() {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        } else {
            let now = Instant::now();
            let lines = Lines { stage: stage.to_owned(), began: now, last: now };
            *self.lines.lock().unwrap_or_else(PoisonError::into_inner) = Some(lines);
        }
    }

    fn extended(&self, steps: u64) {
        self.bar.inc_length(steps);
    }

    fn advanced(&self, steps: u64) {
        self.bar.inc(steps);
        self.line();
    }

    fn figure(&self, text: &str) {
        self.bar.set_message(text.to_owned());
    }

    fn ended(&self) {
        self.bar.finish_and_clear();
        *self.lines.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn said(&self, note: &str) {
        let command = env::args().nth(1).unwrap_or_default();
        self.bar.suspend(|| self.output.say(format_args!("note: {}", super::with_flags(note, &command))));
    }

    fn stops(&self) -> bool {
        INTERRUPTED.load(Ordering::Relaxed)
    }
}

/// Returns the name of the steps that a stage counts.
fn unit(stage: &str) -> &'static str {
    match stage {
        "sampling" | "restoring" => "evaluations",
        "measuring" => "images",
        _ => "steps",
    }
}

/// Returns the style of the bar: `sampling ▬▬▬▬ 1200/3500 evaluations, 52.3/s, 44 s left`.
fn style(unit: &'static str) -> ProgressStyle {
    let rate = |state: &ProgressState, out: &mut dyn fmt::Write| {
        let _ = write!(out, "{:.1}/s", state.per_sec());
    };
    let left = |state: &ProgressState, out: &mut dyn fmt::Write| {
        let _ = write!(out, "{}", duration(state.eta()));
    };
    let template = format!("{{prefix}} {{bar:30}} {{pos}}/{{len}} {unit}, {{rate:.dim}}, {{left}} left {{msg}}");
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.with_key("rate", rate).with_key("left", left)
}

/// Formats a log line: "sampling: 1200 of 3500 evaluations, 12 min left".
fn sentence(stage: &str, done: u64, all: u64, spent: Duration) -> String {
    let unit = unit(stage);
    if all == 0 || done == 0 {
        return format!("{stage}: {done} {unit} in {}", duration(spent));
    }
    let left = spent.mul_f64(all.saturating_sub(done) as f64 / done as f64);
    format!("{stage}: {done} of {all} {unit}, {} left", duration(left))
}

/// Formats a duration as 44 s, 12 min or 3.5 h.
fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        ..90.0 => format!("{seconds:.0} s"),
        ..5400.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}
