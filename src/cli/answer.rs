//! The answer to a question in SQL, printed as it comes.

use std::collections::HashSet;

use anstyle::Style;
use clap::ValueEnum;
use serde_json::Value;

use super::output::{Unwritable, is_colored, print_if_read};
use super::styles::{HEAD, PLAIN};
use super::table::Grid;
use crate::store::Cell;
use crate::text::{MAX_SHOWN, escape, escape_json, is_active};

/// How many rows of a table are read before their columns get their widths.
const ROWS: usize = 1_000;

/// The width that a column keeps on a terminal, however many there are.
const LEAST_WIDTH: usize = 8;

/// How an answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns
    Table,
    /// Comma-separated values, with a head
    Csv,
    /// An array of objects
    Json,
    /// An object a line
    Ndjson,
}

/// Where an answer is printed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Screen {
    /// Whether a person reads it.
    pub is_terminal: bool,
    /// How many columns it has; `None` for any number.
    pub width: Option<usize>,
}

/// Prints an answer.
pub struct Answer {
    format: Format,
    /// Whether text that a spreadsheet would take for a formula is made text.
    neutralize: bool,
    screen: Screen,
    columns: Vec<String>,
    /// Rows of a table whose widths are not known yet.
    waiting: Vec<Vec<Cell>>,
    grid: Option<Grid>,
    /// The last object of an array, until it is known whether another follows.
    last: Option<String>,
}

impl Answer {
    /// An answer in `format`.
    pub fn new(format: Format, neutralize: bool, screen: Screen) -> Self {
        Self {
            format,
            neutralize,
            screen,
            columns: Vec::new(),
            waiting: Vec::new(),
            grid: None,
            last: None,
        }
    }

    /// Takes the names of the columns; returns whether somebody still reads.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn begin(&mut self, columns: Vec<String>) -> Result<bool, Unwritable> {
        self.columns = match self.format {
            Format::Json | Format::Ndjson => distinct(columns),
            Format::Table | Format::Csv => columns,
        };
        match self.format {
            Format::Csv => {
                let head: Vec<Cell> = self.columns.iter().cloned().map(Cell::Text).collect();
                print_if_read(&self.csv(&head)?)
            }
            Format::Table | Format::Json | Format::Ndjson => Ok(true),
        }
    }

    /// Takes a row; returns whether somebody still reads.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn row(&mut self, row: Vec<Cell>) -> Result<bool, Unwritable> {
        match self.format {
            Format::Table => {
                self.waiting.push(row);
                match self.waiting.len() < ROWS {
                    true => Ok(true),
                    false => self.print_waiting(),
                }
            }
            Format::Csv => print_if_read(&self.csv(&row)?),
            Format::Json => {
                let object = self.object(&row);
                print_if_read(&match self.last.replace(object) {
                    Some(last) => format!("  {last},\n"),
                    None => "[\n".to_owned(),
                })
            }
            Format::Ndjson => print_if_read(&(self.object(&row) + "\n")),
        }
    }

    /// Prints what is left.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn finish(mut self) -> Result<(), Unwritable> {
        match self.format {
            Format::Table => self.print_waiting()?,
            Format::Json => print_if_read(&match &self.last {
                Some(last) => format!("  {last}\n]\n"),
                None => "[]\n".to_owned(),
            })?,
            Format::Csv | Format::Ndjson => true,
        };
        Ok(())
    }

    fn print_waiting(&mut self) -> Result<bool, Unwritable> {
        let rows = std::mem::take(&mut self.waiting);
        let heads: Vec<String> = self
            .columns
            .iter()
            .map(|head| escape(head, MAX_SHOWN))
            .collect();
        let shown: Vec<Vec<String>> = rows
            .iter()
            .map(|row| row.iter().map(show).collect())
            .collect();
        let is_first = self.grid.is_none();
        let mut grid = self.grid.take().unwrap_or_default();
        for (n, head) in heads.iter().enumerate() {
            let numbers = rows.iter().map(|row| row.get(n));
            let mut numbers = numbers.filter(|cell| !matches!(cell, Some(Cell::Null)));
            let is_number =
                |cell: Option<&Cell>| matches!(cell, Some(Cell::Integer(_) | Cell::Real(_)));
            grid.fit(n, head, !rows.is_empty() && numbers.all(is_number));
            shown.iter().for_each(|row| grid.widen(n, &row[n]));
        }
        if let Some(most) = self.screen.width {
            grid.limit(most, LEAST_WIDTH);
        }
        let mut text = String::new();
        let mut write = |cells: &[String], style: Style| {
            let cut = |(n, cell): (usize, &String)| fit(cell, grid.width(n));
            let cells: Vec<String> = cells.iter().enumerate().map(cut).collect();
            let cells = cells.iter().map(|cell| (cell.as_str(), style));
            // Writing to a string never fails.
            let _ = grid.write(&mut text, cells);
        };
        if is_first {
            let colored = is_colored(&std::io::stdout());
            write(&heads, if colored { HEAD } else { PLAIN });
        }
        shown.iter().for_each(|row| write(row, PLAIN));
        self.grid = Some(grid);
        print_if_read(&text)
    }

    fn csv(&self, row: &[Cell]) -> Result<String, Unwritable> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let fields = row.iter().map(|cell| match cell {
            Cell::Text(text) if self.neutralize && is_formula(text) => format!("'{text}"),
            cell => plain(cell),
        });
        let io = |error: csv::Error| Unwritable::from(std::io::Error::other(error));
        writer.write_record(fields).map_err(io)?;
        let bytes = writer
            .into_inner()
            .map_err(|error| Unwritable::from(std::io::Error::other(error.to_string())))?;
        let line = String::from_utf8_lossy(&bytes).into_owned();
        Ok(match self.screen.is_terminal {
            true => line
                .lines()
                .map(|line| escape(line, usize::MAX) + "\n")
                .collect(),
            false => line,
        })
    }

    fn object(&self, row: &[Cell]) -> String {
        let fields = self.columns.iter().zip(row).map(|(name, cell)| {
            let value = match cell {
                Cell::Null => Value::Null,
                Cell::Integer(number) => (*number).into(),
                Cell::Real(number) => (*number).into(),
                Cell::Text(_) | Cell::Blob(_) => plain(cell).into(),
            };
            format!("{}: {value}", Value::from(name.as_str()))
        });
        let fields: Vec<String> = fields.collect();
        escape_json(&format!("{{{}}}", fields.join(", ")))
    }
}

/// A cell of a table.
fn show(cell: &Cell) -> String {
    match cell {
        Cell::Null => "-".to_owned(),
        Cell::Text(text) => escape(text, MAX_SHOWN),
        cell => escape(plain(cell), MAX_SHOWN),
    }
}

/// A cell as text; bytes in hexadecimal digits.
fn plain(cell: &Cell) -> String {
    match cell {
        Cell::Null => String::new(),
        Cell::Integer(number) => number.to_string(),
        Cell::Real(number) => number.to_string(),
        Cell::Text(text) => text.clone(),
        Cell::Blob(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// Whether a spreadsheet takes text for a formula.
fn is_formula(text: &str) -> bool {
    text.starts_with(['=', '+', '-', '@', '\t', '\r'])
}

/// `cell` in at most `width` columns.
fn fit(cell: &str, width: usize) -> String {
    use unicode_width::UnicodeWidthChar;
    debug_assert!(!cell.contains(is_active));
    let mut taken = 0;
    let mut end = 0;
    for (at, c) in cell.char_indices() {
        taken += c.width().unwrap_or(0);
        if taken > width {
            return format!("{}…", &cell[..end]);
        }
        // Room for the ellipsis.
        if taken < width {
            end = at + c.len_utf8();
        }
    }
    cell.to_owned()
}

/// The names, numbered where one comes again: an object has each key once.
fn distinct(names: Vec<String>) -> Vec<String> {
    let mut known = HashSet::new();
    let rename = |name: String| {
        let numbered = (2..).map(|n| format!("{name}_{n}"));
        let mut candidates = std::iter::once(name.clone()).chain(numbered);
        // There are as many candidates as wanted.
        let free = candidates.find(|candidate| known.insert(candidate.clone()));
        free.unwrap_or(name)
    };
    names.into_iter().map(rename).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Cell {
        Cell::Text(text.to_owned())
    }

    #[test]
    fn objects_have_every_column_once_and_no_active_characters() {
        let mut answer = Answer::new(Format::Ndjson, false, Screen::default());
        answer
            .begin(["a", "a", "b\"", "a_2"].map(str::to_owned).to_vec())
            .unwrap();
        let row = [
            Cell::Integer(1),
            Cell::Null,
            text("\u{1b}\u{202e}"),
            Cell::Real(f64::INFINITY),
        ];
        assert_eq!(
            answer.object(&row),
            r#"{"a": 1, "a_2": null, "b\"": "\u001b\u202e", "a_2_2": null}"#
        );
    }

    #[test]
    fn values_are_quoted_where_needed_and_formulas_neutralized_on_request() {
        let row = [
            text("=1+1"),
            text("a,\"b\"\nc"),
            Cell::Null,
            Cell::Real(-0.5),
            Cell::Blob(vec![0, 255]),
        ];
        let csv = |neutralize| {
            let answer = Answer::new(Format::Csv, neutralize, Screen::default());
            answer.csv(&row).unwrap()
        };
        assert_eq!(csv(false), "=1+1,\"a,\"\"b\"\"\nc\",,-0.5,00ff\n");
        assert_eq!(csv(true), "'=1+1,\"a,\"\"b\"\"\nc\",,-0.5,00ff\n");
        for formula in ["+1", "-1", "@x", "\tx", "\rx"] {
            assert!(is_formula(formula), "{formula:?}");
        }
        let screen = Screen {
            is_terminal: true,
            width: None,
        };
        let answer = Answer::new(Format::Csv, false, screen);
        assert_eq!(answer.csv(&[text("\u{1b}[2J")]).unwrap(), "\\u{1b}[2J\n");
    }

    #[test]
    fn cells_fit_their_column() {
        for (cell, width, fitted) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("日本語", 6, "日本語"),
            ("日本語", 5, "日本…"),
            ("日本語", 4, "日…"),
        ] {
            assert_eq!(fit(cell, width), fitted);
        }
    }
}
