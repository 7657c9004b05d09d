//! YAML files, with faults reported by line, column and the nearest valid word.

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::{Error, numbers::registry::closest};

/// The value that `text` states; `path` is for messages.
pub fn parse<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T, Error> {
    serde_yaml::from_str(text).map_err(|e| Error::file(path, sentence(&e.to_string())))
}

/// The value in the file at `path`.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    parse(&super::read_text(path)?, path)
}

/// The parser's first line, which names line and column, and the valid word nearest to the wrong one.
fn sentence(message: &str) -> String {
    let first = message.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    match nearest(&first) {
        Some(word) => format!("{first} (did you mean `{word}`?)"),
        None => first,
    }
}

/// Messages read "unknown field `a`, expected one of `b`, `c`": the expected word nearest to the unknown one.
fn nearest(message: &str) -> Option<&str> {
    let (unknown, expected) = message.split_once("expected")?;
    let wrong = unknown.split('`').nth(1)?;
    let words = expected.split(|c: char| c == '`' || c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
    closest(wrong, words, 1 + wrong.len() / 3)
}
