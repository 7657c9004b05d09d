//! Results as one page that a browser shows without a network connection: it contains its pictures, and compares pairs
//! of them under a slider.

use std::{fmt::Write as _, fs, path::PathBuf};

use serde_json::Value;

use crate::Error;

/// Maximum size of the pictures in a page, in bytes; further pictures are left out, and the page says so.
pub const MOST_BYTES: usize = 24 << 20;

/// Maximum side of a picture, in pixels, whose pixels are shown as squares.
const SMALL: u32 = 128;

const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/compare.js");

/// A page of results. All texts are plain: HTML's special characters are escaped.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Heading.
    pub title: String,
    /// Sentence below the heading.
    pub about: String,
    /// Command that makes everything on the page again.
    pub command: String,
    /// Settings of the run: names and values.
    pub settings: Vec<(String, String)>,
    /// Figures.
    pub table: Table,
    /// Pictures.
    pub cases: Vec<Case>,
}

/// Table of figures; the first column names the rows, and the last of several rows is their summary.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Headings of the columns.
    pub headings: Vec<String>,
    /// Rows, each with as many cells as there are headings.
    pub rows: Vec<Vec<String>>,
    /// Meaning of the figures.
    pub note: String,
}

/// Pictures that belong together.
#[derive(Clone, Debug, Default)]
pub struct Case {
    /// Subject of the pictures; may be empty.
    pub name: String,
    /// Figures of the subject; may be empty.
    pub about: String,
    /// PNG files.
    pub pictures: Vec<Picture>,
    /// Index pairs of pictures to show before and after a slider.
    pub compared: Vec<(usize, usize)>,
}

/// A PNG file with its caption.
#[derive(Clone, Debug)]
pub struct Picture {
    /// Caption below the picture.
    pub label: String,
    /// File of the picture, which becomes part of the page.
    pub file: PathBuf,
}

impl Page {
    /// Renders the page as HTML. Pictures beyond [`MOST_BYTES`] are left out.
    pub fn html(&self) -> Result<String, Error> {
        let mut room = Room { left: MOST_BYTES, omitted: 0 };
        let mut cases = String::new();
        for (i, case) in self.cases.iter().enumerate() {
            cases += &case.html(i, &mut room)?;
        }
        if room.omitted > 0 {
            let most = MOST_BYTES >> 20;
            let _ =
                write!(cases, "<p class=faint>{} more pictures would make it more than {most} MB.</p>", room.omitted);
        }
        let (table, settings) = (self.table.html(), self.settings());
        let main = format!("{table}<section>\n<h2>Pictures</h2>\n{cases}</section>\n{settings}");
        Ok(document([&self.title, &self.about, &self.command], &main))
    }

    fn settings(&self) -> String {
        let entry =
            |(name, value): &(String, String)| format!("<dt>{}</dt><dd>{}</dd>\n", escaped(name), escaped(value));
        let entries: String = self.settings.iter().map(entry).collect();
        format!("<section>\n<h2>Settings</h2>\n<dl>\n{entries}</dl>\n</section>\n")
    }
}

/// Renders a whole page around its `main` part.
fn document([title, about, command]: [&str; 3], main: &str) -> String {
    let (title, about, command) = (escaped(title), escaped(about), escaped(command));
    format!(
        "<!DOCTYPE html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n\
         <meta name=viewport content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=Content-Security-Policy content=\"default-src 'none'; img-src data:; \
         style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n\
         <p class=faint>{about}</p>\n<pre><code>{command}</code></pre>\n</header>\n<main>\n{main}</main>\n\
         <script>\n{SCRIPT}</script>\n</body>\n</html>\n"
    )
}

/// Several results on one page.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Heading.
    pub title: String,
    /// Sentence below the heading.
    pub about: String,
    /// Command that makes the page again.
    pub command: String,
    /// The results.
    pub chapters: Vec<Chapter>,
}

/// One of several results on a page.
#[derive(Clone, Debug, Default)]
pub struct Chapter {
    /// The question that the chapter answers.
    pub title: String,
    /// Source of the chapter.
    pub about: String,
    /// Command that makes the result again.
    pub command: String,
    /// Figures.
    pub table: Table,
    /// Pictures.
    pub cases: Vec<Case>,
}

impl Report {
    /// Renders the page as HTML. Pictures beyond [`MOST_BYTES`] are left out.
    pub fn html(&self) -> Result<String, Error> {
        let mut room = Room { left: MOST_BYTES, omitted: 0 };
        let (mut main, mut number) = (String::new(), 0);
        for chapter in &self.chapters {
            let (title, command) = (escaped(&chapter.title), escaped(&chapter.command));
            let about = paragraph(&chapter.about);
            let _ =
                write!(main, "<section class=chapter>\n<h2>{title}</h2>\n{about}<pre><code>{command}</code></pre>\n");
            main += &chapter.table.body();
            for case in &chapter.cases {
                main += &case.html(number, &mut room)?;
                number += 1;
            }
            main += "</section>\n";
        }
        Ok(document([&self.title, &self.about, &self.command], &main))
    }
}

impl Table {
    /// Parses the first table of a text in Markdown.
    pub fn of_markdown(text: &str) -> Self {
        let lines = text.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
        let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        let mut rows: Vec<Vec<String>> = lines.map(cells).collect();
        let headings = if rows.is_empty() { Vec::new() } else { rows.remove(0) };
        // The line of dashes below the headings is no row.
        rows.drain(..rows.len().min(1));
        Self { headings, rows, note: String::new() }
    }

    /// Renders the table under a heading of its own; empty without rows.
    fn html(&self) -> String {
        if self.rows.is_empty() {
            String::new()
        } else {
            format!("<section>\n<h2>Figures</h2>\n{}</section>\n", self.body())
        }
    }

    fn body(&self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let heading = |text: &String| format!("<th scope=col>{}</th>", escaped(text));
        let headings: String = self.headings.iter().map(heading).collect();
        let row = |row: &Vec<String>| {
            let cell = |(i, text): (usize, &String)| match i {
                0 => format!("<th scope=row>{}</th>", escaped(text)),
                _ => format!("<td>{}</td>", escaped(text)),
            };
            format!("<tr>{}</tr>\n", row.iter().enumerate().map(cell).collect::<String>())
        };
        let rows: String = self.rows.iter().map(row).collect();
        format!(
            "<div class=scroll role=region aria-label=Figures tabindex=0>\n<table>\n\
             <thead><tr>{headings}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n</div>\n<p class=faint>{}</p>\n",
            escaped(&self.note)
        )
    }
}

/// Bytes that a page still has for pictures, and the number of pictures for which there was no room.
struct Room {
    left: usize,
    omitted: usize,
}

impl Case {
    fn html(&self, number: usize, room: &mut Room) -> Result<String, Error> {
        let mut figures = String::new();
        let mut sizes = Vec::new();
        for (i, picture) in self.pictures.iter().enumerate() {
            let bytes =
                fs::read(&picture.file).map_err(|e| Error::file(&picture.file, format!("cannot be read: {e}")))?;
            let size = size(&bytes).ok_or_else(|| Error::file(&picture.file, "is no PNG"))?;
            let fits = bytes.len() <= room.left;
            sizes.push(fits.then_some(size));
            if fits {
                room.left -= bytes.len();
                figures += &picture.html(&format!("p{number}-{i}"), &self.name, size, &bytes);
            } else {
                room.omitted += 1;
            }
        }
        if figures.is_empty() {
            return Ok(String::new());
        }
        let stage = |&(before, after): &(usize, usize)| {
            let (size, _) = ((*sizes.get(before)?)?, (*sizes.get(after)?)?);
            Some(self.stage(number, (before, after), size))
        };
        let stages: String = self.compared.iter().filter_map(stage).collect();
        let (name, about) = (heading(&self.name), paragraph(&self.about));
        let compared = if stages.is_empty() { stages } else { format!("<div class=compare hidden>\n{stages}</div>\n") };
        Ok(format!("<article class=case>\n{name}{about}{compared}<div class=strip>\n{figures}</div>\n</article>\n"))
    }

    /// Renders a stage for two pictures, one above the other, with the size of the first; the page's script fills them
    /// in.
    fn stage(&self, number: usize, (before, after): (usize, usize), (width, height): (u32, u32)) -> String {
        let [first, second] = [before, after].map(|i| escaped(&self.pictures[i].label));
        let name = escaped(&self.name);
        format!(
            "<figure>\n<div class=stage style=\"aspect-ratio: {width} / {height}\">\
             <img class=before data-of=p{number}-{before} alt=\"\"><img class=after data-of=p{number}-{after} alt=\"\">\
             <span class=grip aria-hidden=true>↔</span>\
             <input type=range min=0 max=100 value=50 aria-label=\"{name}: how far the {first} reaches over the {second}\">\
             </div>\n<figcaption><span>{first}</span><span>{second}</span></figcaption>\n</figure>\n"
        )
    }
}

impl Picture {
    fn html(&self, id: &str, heading: &str, (width, height): (u32, u32), bytes: &[u8]) -> String {
        let label = escaped(&self.label);
        let alt = escaped(format!("{heading} {}", self.label).trim());
        let small = if width.max(height) <= SMALL { " class=small" } else { "" };
        format!(
            "<figure><img id={id}{small} width={width} height={height} alt=\"{alt}\" src=\"data:image/png;base64,{}\">\
             <figcaption>{label}</figcaption></figure>\n",
            base64(bytes)
        )
    }
}

/// Converts a record to the settings of a page: names and values as YAML in one line; empty values are left out.
pub fn entries(record: &Value) -> Vec<(String, String)> {
    let entry =
        |(name, value): (&String, &Value)| Some((name.clone(), flow(value))).filter(|(_, text)| !text.is_empty());
    record.as_object().into_iter().flatten().filter_map(entry).collect()
}

/// Formats a value as YAML in one line.
pub fn flow(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(values) if values.is_empty() => String::new(),
        Value::Array(values) => format!("[{}]", values.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let stated = map.iter().filter(|(_, value)| !value.is_null());
            let pairs: Vec<String> = stated.map(|(key, value)| format!("{key}: {}", flow(value))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
        other => other.to_string(),
    }
}

fn heading(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("<h3>{}</h3>\n", escaped(text)) }
}

fn paragraph(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("<p class=faint>{}</p>\n", escaped(text)) }
}

/// Reads width and height from the first chunk of a PNG file.
fn size(png: &[u8]) -> Option<(u32, u32)> {
    let number = |at: usize| Some(u32::from_be_bytes(png.get(at..at + 4)?.try_into().ok()?));
    png.starts_with(b"\x89PNG\r\n\x1a\n").then_some(())?;
    Some((number(16)?, number(20)?))
}

/// Escapes text for HTML, also within double quotes.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Encodes bytes in Base64: three bytes become four characters, and missing characters at the end become `=` [RFC 4648,
/// §4].
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let word = (0..3).fold(0, |word, i| word << 8 | u32::from(three.get(i).copied().unwrap_or(0)));
        for i in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * i) & 63) as usize];
            text.push(if i <= three.len() { digit.into() } else { '=' });
        }
    }
    text
}
