//! Text in columns and paragraphs of a given width.

/// Spaces between two columns.
const GAP: usize = 2;

/// Formats rows in columns, indented by two; the widest columns are wrapped until all fit into `room`.
pub fn grid(rows: &[Vec<String>], room: usize) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let most = |width: fn(&str) -> usize| -> Vec<usize> {
        let column = |c: usize| rows.iter().filter_map(|row| row.get(c)).map(|cell| width(cell)).max().unwrap_or(0);
        (0..count).map(column).collect()
    };
    let (mut widths, least) = (most(width), most(longest_word));
    while widths.iter().map(|width| width + GAP).sum::<usize>() > room {
        let widest = (0..count).filter(|&c| widths[c] > least[c]).max_by_key(|&c| widths[c]);
        let Some(widest) = widest else { break };
        widths[widest] -= 1;
    }
    rows.iter().map(|row| line(row, &widths)).collect()
}

/// Formats a row over as many lines as its longest cell takes.
fn line(row: &[String], widths: &[usize]) -> String {
    let cells: Vec<Vec<String>> = row.iter().zip(widths).map(|(cell, &width)| wrapped(cell, width)).collect();
    let height = cells.iter().map(Vec::len).max().unwrap_or(0);
    let cell = |(lines, &width): (&Vec<String>, &usize), i: usize| padded(lines.get(i).map_or("", |line| line), width);
    let text = |i: usize| cells.iter().zip(widths).map(|column| cell(column, i)).collect::<Vec<_>>().join("  ");
    (0..height).flat_map(|i| ["  ".to_owned() + text(i).trim_end(), "\n".to_owned()]).collect()
}

/// Wraps the paragraphs of a documentation text; lines that begin with four spaces stay as they are.
pub fn paragraphs(text: &str, room: usize) -> String {
    let (mut lines, mut paragraph) = (Vec::new(), String::new());
    let mut end = |paragraph: &mut String, line: Option<&str>| {
        lines.extend(wrapped(&std::mem::take(paragraph), room - 2).into_iter().filter(|line| !line.is_empty()));
        lines.extend(line.map(str::to_owned));
    };
    for line in text.lines() {
        if line.is_empty() || line.starts_with("    ") {
            end(&mut paragraph, Some(line.trim_start_matches("  ")));
        } else {
            paragraph += if paragraph.is_empty() { "" } else { " " };
            paragraph += line;
        }
    }
    end(&mut paragraph, None);
    lines.iter().map(|line| format!("  {line}").trim_end().to_owned() + "\n").collect()
}

/// Splits the text into lines of at most `room` columns.
fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        let line = &mut lines[last];
        if line.is_empty() {
            line.push_str(word);
        } else if width(line) + 1 + width(word) <= room {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

fn padded(text: &str, room: usize) -> String {
    text.to_owned() + &" ".repeat(room.saturating_sub(width(text)))
}

fn longest_word(text: &str) -> usize {
    text.split_whitespace().map(width).max().unwrap_or(0)
}

/// Counts the columns that the text takes; combining accents take none.
fn width(text: &str) -> usize {
    text.chars().filter(|c| !('\u{300}'..='\u{36f}').contains(c)).count()
}
