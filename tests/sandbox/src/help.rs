//! The text of `--help`. The list of faults comes from their tables.

use std::fmt::Write;

use crate::fault::{self, Entry};

const TOP: &str = include_str!("help.txt");
/// Where the explanations of the faults begin.
const COLUMN: usize = 26;

pub fn text() -> String {
    let mut text = TOP.to_owned();
    for (heading, table) in fault::catalogue() {
        let _ = writeln!(text, "\n  {heading}");
        for entry in table {
            add(&mut text, entry);
        }
    }
    text
}

fn add(text: &mut String, entry: &Entry) {
    let usage = format!("{}{}", entry.name, entry.takes.usage());
    // A long list of words gets a line of its own.
    let gap = if usage.len() < COLUMN { COLUMN - usage.len() } else { 0 };
    let break_line = if gap == 0 { format!("\n{:1$}", "", COLUMN + 4) } else { " ".repeat(gap) };
    let _ = writeln!(text, "    {usage}{break_line}{}", entry.help);
}
