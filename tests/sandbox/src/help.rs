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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_in_it_once() {
        let text = text();
        for (_, table) in fault::catalogue() {
            for entry in table {
                let lines = text.lines().filter(|line| line.trim_start().starts_with(entry.name));
                let exact = lines.filter(|line| {
                    let rest = &line.trim_start()[entry.name.len()..];
                    rest.is_empty() || rest.starts_with([' ', '['])
                });
                assert_eq!(exact.count(), 1, "{}", entry.name);
            }
        }
    }
}
