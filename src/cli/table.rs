//! Tables of generated images, beside what papers print.

use std::fmt::Write as _;

use tweedie::{generation::Generation, records::Record};

/// A line for each record: what is published, what was measured, and what it cost.
pub fn markdown(of: &Generation, records: &[Record]) -> String {
    let mut text = String::from("| row | published | measured | difference | N | evaluations | s an image |\n");
    text += "| --- | --- | --- | --- | --- | --- | --- |\n";
    for record in records {
        let _ = writeln!(text, "| {} |", cells(of, record).join(" | "));
    }
    text
}

/// The cells of a record.
fn cells(of: &Generation, record: &Record) -> Vec<String> {
    let measured = record.figures.values().next();
    let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}"));
    let spread = |spread: Option<f64>| spread.map_or_else(String::new, |spread| format!(" ± {spread:.2}"));
    let ours = measured.map_or_else(|| "–".to_owned(), |(value, of)| format!("{value:.3}{}", spread(*of)));
    let row = of.rows.iter().find(|row| row.name == record.row);
    let (published, given) = row.map_or((record.published, None), |row| (row.published, row.spread));
    vec![
        record.row.clone(),
        number(published) + &spread(given),
        ours,
        number(measured.and_then(|(value, _)| Some(value - published?))),
        format!("{} × {}", record.identity["repeats"], record.identity["images"]),
        format!("{:.0}", record.evaluations),
        format!("{:.3}", record.seconds),
    ]
}
