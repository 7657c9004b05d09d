//! Lists of the library with a line for each entry, and single entries in full.

use std::io::{self, IsTerminal, Write};

use anyhow::{Result, anyhow};
use serde_json::{Value, json};
use tweedie::{
    evaluation::features::Metric,
    inverse::{
        restoration::AnyMethod,
        tasks::{self, AnyTask},
    },
    models::{card, zoo},
    numbers::{
        plan::AnySampler,
        registry::{Info, List},
        samplers,
        schedule::AnySchedule,
        sde::AnySde,
        solvers,
    },
    report::{columns, listing},
};

use super::args::{
    flags::OutputFlags,
    lists::{FamiliesArgs, MethodsArgs, MetricsArgs, ModelsArgs, SamplersArgs, SchedulesArgs, TasksArgs},
};

impl ModelsArgs {
    pub fn run(&self) -> Result<()> {
        let cards = card::cards()?;
        if self.output.json {
            return self.output.record(&cards);
        }
        let row = |card: &card::Card| {
            let [channels, height, width] = card.image;
            vec![card.name.clone(), card.about.clone(), format!("{channels}×{height}×{width}"), card.licence.clone()]
        };
        write(&columns::grid(&cards.iter().map(row).collect::<Vec<_>>(), room()))
    }
}

/// A list, and an example command that uses its entry `{}`.
type Asked = (List, &'static str);

const SAMPLERS: Asked = (AnySampler::LIST, "tweedie sample fashion-mnist --sampler {}");
const SCHEDULES: Asked = (AnySchedule::LIST, "tweedie sample fashion-mnist --schedule {}");
const PROCESSES: Asked = (AnySde::LIST, "tweedie sample fashion-mnist --sampler '{kind: euler-maruyama, sde: {}}'");
const TASKS: Asked = (AnyTask::LIST, "tweedie restore fashion-mnist --image experiments/demo --task {}");
const METHODS: Asked =
    (AnyMethod::LIST, "tweedie restore fashion-mnist --image experiments/demo --task inpaint-random --method {}");
const METRICS: Asked = (Metric::LIST, "tweedie evaluate out/samples --reference photos/ --metrics {}");
const FAMILIES: Asked = (zoo::LIST, "tweedie inspect checkpoint.pth");

impl SamplersArgs {
    pub fn run(&self) -> Result<()> {
        if let Some(name) = &self.name {
            return print(&self.output, name, &[SAMPLERS, SCHEDULES, PROCESSES]);
        }
        if self.output.json {
            return self.output.record(&json!({
                "rows": records(samplers::ENTRIES), "solvers": records(solvers::ENTRIES),
                "schedules": rows(AnySchedule::LIST.entries), "processes": rows(AnySde::LIST.entries),
            }));
        }
        table(
            "Samplers (--sampler NAME, or '{kind: NAME, eta: 0.5}'); each step is a row (σ, τ, T):",
            samplers::ENTRIES,
        )?;
        table("\nSolvers (--sampler as well); several scores a step, or memory of earlier ones:", solvers::ENTRIES)?;
        table("\nSchedules (--schedule NAME, '{kind: NAME, max: 80}' or '[80, 10, 1]'):", AnySchedule::LIST.entries)?;
        table("\nProcesses (sde: NAME in samplers and schedules that go in time):", AnySde::LIST.entries)
    }
}

impl SchedulesArgs {
    pub fn run(&self) -> Result<()> {
        let title = "Schedules (--schedule NAME, '{kind: NAME, max: 80}' or '[80, 10, 1]'):";
        list(&self.output, self.name.as_deref(), title, &[SCHEDULES, PROCESSES], records)
    }
}

impl TasksArgs {
    pub fn run(&self) -> Result<()> {
        let title = "Tasks (--task NAME, or '{kind: NAME, …}'):";
        list(&self.output, self.name.as_deref(), title, &[TASKS], rows)?;
        self.legend("map: svd means linear with known singular vectors, which some methods need")
    }

    fn legend(&self, text: &str) -> Result<()> {
        if self.name.is_some() || self.output.json { Ok(()) } else { write(&columns::paragraphs(text, prose())) }
    }
}

impl MethodsArgs {
    pub fn run(&self) -> Result<()> {
        let title = "Methods (--method NAME, or '{kind: NAME, …}'); cost: evaluations + gradients a level, by default:";
        list(&self.output, self.name.as_deref(), title, &[METHODS], records)?;
        if self.name.is_some() || self.output.json {
            return Ok(());
        }
        let known = tasks::decomposed();
        let legend = format!("tasks: svd means linear with known singular vectors, which these have: {known}");
        write(&columns::paragraphs(&legend, prose()))
    }
}

impl MetricsArgs {
    pub fn run(&self) -> Result<()> {
        let title = "Figures (--metrics NAME,NAME); features: those kept in memory:";
        list(&self.output, self.name.as_deref(), title, &[METRICS], records)
    }
}

impl FamiliesArgs {
    pub fn run(&self) -> Result<()> {
        list(&self.output, self.name.as_deref(), "Checkpoints that are recognised:", &[FAMILIES], records)
    }
}

/// Prints the first of the lists, or the entry `name` of any of them.
fn list(
    output: &OutputFlags,
    name: Option<&str>,
    title: &str,
    lists: &[Asked],
    json: fn(&[&Info]) -> Value,
) -> Result<()> {
    match name {
        Some(name) => print(output, name, lists),
        None if output.json => output.record(&json(lists[0].0.entries)),
        None => table(title, lists[0].0.entries),
    }
}

/// Converts the entries to JSON in full.
fn records(entries: &[&Info]) -> Value {
    entries.iter().map(|info| info.json()).collect()
}

/// Converts the name, the line and the source of each entry to JSON.
fn rows(entries: &[&Info]) -> Value {
    entries.iter().map(|info| json!([info.name, info.what, info.source])).collect()
}

fn table(title: &str, entries: &[&Info]) -> Result<()> {
    write(&listing::table(title, entries, room()))
}

/// Prints the entry from the first list that has it.
fn print(output: &OutputFlags, name: &str, lists: &[Asked]) -> Result<()> {
    let found = lists.iter().find_map(|(list, form)| Some((list.find(name).ok()?.0, form)));
    let Some((info, form)) = found else {
        return Err(anyhow!(lists[0].0.find(name).err().unwrap_or_default()));
    };
    if output.json {
        return output.record(&info.json());
    }
    write(&listing::entry(info, form, prose()))
}

/// Maximum width of prose, in columns, for easy reading.
const WIDEST: usize = 100;

/// Returns the width for text: the terminal's, or no bound where a file or another program receives the text.
pub fn room() -> usize {
    let terminal = || terminal_size::terminal_size().map_or(80, |(width, _)| usize::from(width.0));
    if io::stdout().is_terminal() { terminal() } else { usize::MAX }
}

/// Returns the width for prose, which is at most [`WIDEST`].
pub fn prose() -> usize {
    room().min(WIDEST)
}

fn write(text: &str) -> Result<()> {
    Ok(io::stdout().write_all(text.as_bytes())?)
}
