//! The lists of the library, a line for each entry, and one entry with all that is known of it.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use anyhow::{Result, anyhow};
use clap::Args;
use serde_json::{Value, json};
use tweedie::{
    evaluation::features::Metric,
    inverse::{restoration::AnyMethod, tasks::AnyTask},
    models::{card, zoo},
    numbers::{
        plan::AnySampler,
        registry::{Info, List, Parameter, plain},
        samplers,
        schedule::AnySchedule,
        sde::AnySde,
        solvers,
    },
    report::page::flow,
};

use super::{columns, flags::OutputFlags};

/// List the models that ship
#[derive(Args, Debug)]
pub struct Models {
    #[command(flatten)]
    output: OutputFlags,
}

impl Models {
    pub fn run(&self) -> Result<()> {
        let cards = card::cards()?;
        if self.output.json {
            return self.output.record(&cards);
        }
        let row = |card: &card::Card| {
            let [channels, height, width] = card.image;
            vec![card.name.clone(), card.about.clone(), format!("{channels}×{height}×{width}"), card.licence.clone()]
        };
        write(&columns::grid(&cards.iter().map(row).collect::<Vec<_>>(), columns::room()))
    }
}

/// Declares the command of a list, which takes the name of an entry.
macro_rules! command {
    ($(#[$doc:meta])+ $name:ident) => {
        $(#[$doc])+
        #[derive(Args, Debug)]
        pub struct $name {
            /// Print one entry with its parameters and an example
            name: Option<String>,
            #[command(flatten)]
            output: OutputFlags,
        }
    };
}

command! {
    /// List the samplers, schedules and processes, or print one
    Samplers
}

command! {
    /// List the schedules of noise levels, or print one
    Schedules
}

command! {
    /// List the tasks of `tweedie restore`, or print one
    Tasks
}

command! {
    /// List the methods of `tweedie restore`, or print one
    Methods
}

command! {
    /// List the figures of `tweedie evaluate`, or print one
    Metrics
}

command! {
    /// List the families of published checkpoints, or print one
    Families
}

/// A list, and how a command line asks for an entry `{}` of it.
type Asked = (List, &'static str);

const SAMPLERS: Asked = (AnySampler::LIST, "tweedie sample fashion-mnist --sampler {}");
const SCHEDULES: Asked = (AnySchedule::LIST, "tweedie sample fashion-mnist --schedule {}");
const PROCESSES: Asked = (AnySde::LIST, "tweedie sample fashion-mnist --sampler '{kind: euler-maruyama, sde: {}}'");
const TASKS: Asked = (AnyTask::LIST, "tweedie restore fashion-mnist --image experiments/demo --task {}");
const METHODS: Asked =
    (AnyMethod::LIST, "tweedie restore fashion-mnist --image experiments/demo --task inpaint-random --method {}");
const METRICS: Asked = (Metric::LIST, "tweedie evaluate out/samples --reference photos/ --metrics {}");
const FAMILIES: Asked = (zoo::LIST, "tweedie inspect checkpoint.pth");

impl Samplers {
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

impl Schedules {
    pub fn run(&self) -> Result<()> {
        let title = "Schedules (--schedule NAME, '{kind: NAME, max: 80}' or '[80, 10, 1]'):";
        list(&self.output, self.name.as_deref(), title, &[SCHEDULES, PROCESSES], records)
    }
}

impl Tasks {
    pub fn run(&self) -> Result<()> {
        let title = "Tasks (--task NAME, or '{kind: NAME, …}'):";
        list(&self.output, self.name.as_deref(), title, &[TASKS], rows)?;
        self.legend("map: svd means linear with known singular vectors, which some methods need")
    }

    fn legend(&self, text: &str) -> Result<()> {
        if self.name.is_some() || self.output.json {
            Ok(())
        } else {
            write(&columns::paragraphs(text, columns::prose()))
        }
    }
}

impl Methods {
    pub fn run(&self) -> Result<()> {
        let title = "Methods (--method NAME, or '{kind: NAME, …}'); cost: evaluations + gradients a level, by default:";
        list(&self.output, self.name.as_deref(), title, &[METHODS], records)?;
        if self.name.is_some() || self.output.json {
            return Ok(());
        }
        let legend = "tasks: svd means linear with known singular vectors: all but tomography, and but blurs with other \
                      borders than circular that are not separable (`tweedie tasks`)";
        write(&columns::paragraphs(legend, columns::prose()))
    }
}

impl Metrics {
    pub fn run(&self) -> Result<()> {
        let title = "Figures (--metrics NAME,NAME); features: those kept in memory:";
        list(&self.output, self.name.as_deref(), title, &[METRICS], records)
    }
}

impl Families {
    pub fn run(&self) -> Result<()> {
        list(&self.output, self.name.as_deref(), "Checkpoints that are recognised:", &[FAMILIES], records)
    }
}

/// The first of the lists, or an entry of any of them.
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

/// All of each entry.
fn records(entries: &[&Info]) -> Value {
    entries.iter().map(|info| info.json()).collect()
}

/// Name, line and source of each.
fn rows(entries: &[&Info]) -> Value {
    entries.iter().map(|info| json!([info.name, info.what, info.source])).collect()
}

fn table(title: &str, entries: &[&Info]) -> Result<()> {
    let facts = || entries.first().into_iter().flat_map(|info| info.facts);
    let head = [String::new(), String::new()].into_iter().chain(facts().map(|(name, _)| heading(name)));
    let row = |info: &&Info| {
        let facts = info.facts.iter().map(|(_, fact)| (*fact).to_owned());
        [info.name, info.what].map(str::to_owned).into_iter().chain(facts).chain([info.source.to_owned()]).collect()
    };
    let head: Vec<String> = head.chain(["source".to_owned()]).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(entries.iter().map(row)).collect();
    write(&format!("{title}\n{}", columns::grid(&rows, columns::room().saturating_sub(2))))
}

/// A column's name as its heading.
fn heading(name: &str) -> String {
    match name {
        "scores" => "scores/step".to_owned(),
        "spread" => "spread as".to_owned(),
        name => name.to_owned(),
    }
}

/// One entry, of the first list that has it.
fn print(output: &OutputFlags, name: &str, lists: &[Asked]) -> Result<()> {
    let found = lists.iter().find_map(|(list, form)| Some((list.find(name).ok()?.0, form)));
    let Some((info, form)) = found else {
        return Err(anyhow!(lists[0].0.find(name).err().unwrap_or_default()));
    };
    if output.json {
        return output.record(&info.json());
    }
    write(&entry(info, form))
}

fn entry(info: &Info, form: &str) -> String {
    let room = columns::prose();
    let mut page = format!("{}: {}\n", info.name, info.what);
    if !info.text.is_empty() {
        let _ = write!(page, "\n{}", columns::paragraphs(&plain(info.text), room));
    }
    let _ = write!(page, "\n{}", columns::grid(&about(info), room - 2));
    if !info.parameters.is_empty() {
        let head = ["", "meaning", "range", "default"].map(str::to_owned).to_vec();
        let rows = std::iter::once(head).chain(info.parameters.iter().map(|p| parameter(info, p)));
        let _ = write!(page, "\nParameters:\n{}", columns::grid(&rows.collect::<Vec<_>>(), room - 2));
    }
    let _ = writeln!(page, "\nExample:\n  {}", form.replace("{}", &example(info, form)));
    page
}

/// What is known besides: where it comes from, what the list has in columns, other names.
fn about(info: &Info) -> Vec<Vec<String>> {
    let aliases = info.aliases.iter().map(|alias| {
        let sets: Vec<_> = alias.sets.iter().map(|(key, value)| format!("{key}: {value}")).collect();
        if sets.is_empty() { alias.name.to_owned() } else { format!("{} ({})", alias.name, sets.join(", ")) }
    });
    let also = aliases.collect::<Vec<_>>().join(", ");
    let source = ("source".to_owned(), info.source.to_owned());
    let facts = info.facts.iter().map(|(name, fact)| (heading(name), (*fact).to_owned()));
    let all = std::iter::once(source).chain(facts).chain([("also called".to_owned(), also)]);
    all.filter(|(_, text)| !text.is_empty()).map(|(name, text)| vec![name, text]).collect()
}

/// Name, meaning, range with its unit, default.
fn parameter(info: &Info, p: &Parameter) -> Vec<String> {
    let meaning = plain(p.meaning).split('\n').collect::<Vec<_>>().join(" ");
    let unit = if p.unit.is_empty() { String::new() } else { format!(", {}", p.unit) };
    let default = match info.default(p) {
        Some(value) if value == json!(f64::MAX) => "unbounded".to_owned(),
        Some(value) => flow(&short(value)),
        None if p.required => "must be given".to_owned(),
        None => p.absent.to_owned(),
    };
    vec![p.name.to_owned(), meaning, format!("{}{unit}", p.range), default]
}

/// A choice with nothing but defaults by its name alone.
fn short(value: Value) -> Value {
    let known = [AnySampler::LIST, AnySchedule::LIST, AnySde::LIST];
    let default = |list: &List| {
        let info = list.find(value["kind"].as_str()?).ok()?.0;
        let mut whole = (info.defaults)();
        whole["kind"] = value["kind"].clone();
        (whole == value).then(|| value["kind"].clone())
    };
    known.iter().find_map(default).unwrap_or(value)
}

/// How the example asks for the entry: with a parameter, where it has one.
fn example(info: &Info, form: &str) -> String {
    let first = info.parameters.iter().find_map(|p| Some((p.name, info.default(p)?))).filter(|(_, v)| !v.is_object());
    let text = match (info.example, first) {
        (Some(example), _) => example.to_owned(),
        (None, Some((name, value))) => format!("{{kind: {}, {name}: {}}}", info.name, flow(&value)),
        (None, None) => info.name.to_owned(),
    };
    // A quoted form has its quotes already.
    if text.starts_with(['{', '[']) && !form.contains('\'') { format!("'{text}'") } else { text }
}

fn write(text: &str) -> Result<()> {
    Ok(io::stdout().write_all(text.as_bytes())?)
}
