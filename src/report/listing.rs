//! Lists of samplers, schedules, processes, tasks, methods, figures and families as text.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{columns, page::flow};
use crate::numbers::{
    plan::AnySampler,
    registry::{Info, List, Parameter, plain},
    schedule::AnySchedule,
    sde::AnySde,
};

/// Formats the entries of a list, a line each, under a title, at most `room` characters wide.
pub fn table(title: &str, entries: &[&Info], room: usize) -> String {
    let facts = || entries.first().into_iter().flat_map(|info| info.facts);
    let head = [String::new(), String::new()].into_iter().chain(facts().map(|(name, _)| heading(name)));
    let row = |info: &&Info| {
        let facts = info.facts.iter().map(|(_, fact)| (*fact).to_owned());
        [info.name, info.what].map(str::to_owned).into_iter().chain(facts).chain([info.source.to_owned()]).collect()
    };
    let head: Vec<String> = head.chain(["source".to_owned()]).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(entries.iter().map(row)).collect();
    format!("{title}\n{}", columns::grid(&rows, room.saturating_sub(2)))
}

/// Returns the heading of the column `name`.
fn heading(name: &str) -> String {
    match name {
        "scores" => "scores/step".to_owned(),
        "spread" => "spread as".to_owned(),
        name => name.to_owned(),
    }
}

/// Formats an entry with its parameters, at most `room` characters wide; `form` is an example command with `{}` in
/// place of the entry.
pub fn entry(info: &Info, form: &str, room: usize) -> String {
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

/// Lists further facts: the source, the columns of the list, other names.
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

/// Returns the cells of a parameter: name, meaning, range with its unit, default.
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

/// Shortens a choice to its name if all of its parameters have their defaults.
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

/// Returns an example value that names the entry, with a parameter where it has one.
fn example(info: &Info, form: &str) -> String {
    let first = info.parameters.iter().find_map(|p| Some((p.name, info.default(p)?))).filter(|(_, v)| !v.is_object());
    let text = match (info.example, first) {
        (Some(example), _) => example.to_owned(),
        (None, Some((name, value))) => format!("{{kind: {}, {name}: {}}}", info.name, flow(&value)),
        (None, None) => info.name.to_owned(),
    };
    // A form with quotes of its own needs no others.
    if text.starts_with(['{', '[']) && !form.contains('\'') { format!("'{text}'") } else { text }
}
