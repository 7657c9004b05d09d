//! JSON as Python's `json` writes it, beyond the standard: bare NaN, Infinity and −Infinity, and a byte-order mark.

use serde_json::Value;

/// The names that Python gives to numbers which JSON does not have.
const NAMES: [&str; 3] = ["-Infinity", "Infinity", "NaN"];

/// Parses a text; numbers that JSON does not have become strings of these names, which [`number`] reads.
pub fn parse(text: &str) -> Result<Value, String> {
    let text = text.trim_start_matches('\u{feff}');
    serde_json::from_str(text).or_else(|e| serde_json::from_str(&quoted(text)).map_err(|_| format!("is not JSON: {e}")))
}

/// A number, or the name of one.
pub fn number(value: &Value) -> Option<f64> {
    match value {
        Value::String(name) if NAMES.contains(&name.as_str()) => name.parse().ok(),
        value => value.as_f64(),
    }
}

/// The text with every bare name in quotes.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    let (mut rest, mut inside) = (text, false);
    while let Some(c) = rest.chars().next() {
        let name = NAMES.iter().find(|name| !inside && rest.starts_with(**name));
        let length = match (name, c) {
            (Some(name), _) => name.len(),
            // A character after a backslash ends no string.
            (None, '\\') if inside => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            (None, c) => c.len_utf8(),
        };
        let (taken, left) = rest.split_at(length);
        if let Some(name) = name {
            quoted.extend(["\"", name, "\""]);
        } else {
            inside ^= c == '"';
            quoted.push_str(taken);
        }
        rest = left;
    }
    quoted
}
