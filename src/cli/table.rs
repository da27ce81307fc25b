//! Text in aligned columns, and numbers for people.

use std::fmt;

use indicatif::HumanCount;
use unicode_width::UnicodeWidthStr;

use crate::text::{MAX_SHOWN, escape};

/// The space between two columns.
const BETWEEN: &str = "  ";

/// A table with a row for each of some items, without lines around its cells. Its `Display` writes a head and the rows,
/// a line each and without spaces at the end; or nothing where there are no items. Cells are escaped.
///
/// Columns whose cells all begin with a digit or are `-` hold numbers and are aligned to the right, others to the left.
pub struct Table<'a, T> {
    items: &'a [T],
    columns: Vec<Column>,
}

struct Column {
    head: &'static str,
    cells: Vec<String>,
}

impl<'a, T> Table<'a, T> {
    /// A table of `items`, without columns yet.
    pub fn of(items: &'a [T]) -> Self {
        Self {
            items,
            columns: Vec::new(),
        }
    }

    /// Adds a column to the right, with the text of `cell` for each item.
    #[must_use]
    pub fn column<C: fmt::Display>(
        mut self,
        head: &'static str,
        cell: impl Fn(&'a T) -> C,
    ) -> Self {
        let cells = self.items.iter().map(|item| escape(cell(item), MAX_SHOWN));
        self.columns.push(Column {
            head,
            cells: cells.collect(),
        });
        self
    }
}

impl Column {
    /// The width of the widest cell, head included, as a terminal shows it.
    fn width(&self) -> usize {
        let cells = self.cells.iter().map(|cell| cell.width());
        cells.fold(self.head.width(), usize::max)
    }

    fn is_numeric(&self) -> bool {
        let is_number = |cell: &String| cell.starts_with(|c: char| c.is_ascii_digit() || c == '-');
        self.cells.iter().all(is_number)
    }

    /// The head and the cells, all of one width.
    fn aligned(&self) -> Vec<String> {
        let (width, numeric) = (self.width(), self.is_numeric());
        let align = |text: &str| {
            let padding = " ".repeat(width - text.width());
            if numeric {
                padding + text
            } else {
                text.to_owned() + &padding
            }
        };
        let cells = self.cells.iter().map(String::as_str);
        std::iter::once(self.head).chain(cells).map(align).collect()
    }
}

impl<T> fmt::Display for Table<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.items.is_empty() {
            return Ok(());
        }
        let columns: Vec<Vec<String>> = self.columns.iter().map(Column::aligned).collect();
        for line in 0..=self.items.len() {
            let cells: Vec<&str> = columns.iter().map(|column| column[line].as_str()).collect();
            writeln!(f, "{}", cells.join(BETWEEN).trim_end())?;
        }
        Ok(())
    }
}

/// A number with its thousands grouped, or `-` where there is none.
pub fn count_or_dash(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| HumanCount(number).to_string())
}

/// A number of things, e.g. `1 request`, `2 requests` or `2 deliveries`.
pub fn counted(number: u64, thing: &str) -> String {
    let things = match thing.strip_suffix('y') {
        _ if number == 1 => thing.to_owned(),
        Some(stem) => format!("{stem}ies"),
        None => format!("{thing}s"),
    };
    format!("{} {things}", HumanCount(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;

    #[test]
    fn numbers_are_aligned_to_the_right_and_no_line_ends_in_spaces() {
        let items = [("a", "1", "x"), ("longer", "1,000", "")];
        let table = Table::of(&items)
            .column("task", |item| item.0)
            .column("n", |item| item.1)
            .column("note", |item| item.2);
        assert_eq!(
            table.to_string(),
            "task        n  note\na           1  x\nlonger  1,000\n"
        );
    }

    #[test]
    fn columns_are_as_wide_as_a_terminal_shows_them() {
        // A name in decomposed characters, and one in characters that take two columns each.
        let items = [("e\u{301}te\u{301}", 1), ("日本語", 22), ("plain", 333)];
        let table = Table::of(&items)
            .column("task", |item| item.0)
            .column("n", |item| item.1);
        assert_snapshot!(table.to_string().replace('\u{301}', ""), @r"
        task      n
        ete       1
        日本語   22
        plain   333
        ");
    }

    #[test]
    fn a_cell_stays_in_its_place() {
        let items = ["a\nb", "\u{1b}[2J\u{202e}c"];
        let table = Table::of(&items).column("task", |item| item);
        assert_eq!(table.to_string(), "task\na\\nb\n\\u{1b}[2J\\u{202e}c\n");
    }

    #[test]
    fn a_table_without_rows_is_empty() {
        let table = Table::of(&[] as &[u64]).column("n", u64::to_string);
        assert_eq!(table.to_string(), "");
    }

    #[test]
    fn thousands_are_grouped_and_one_is_singular() {
        for (number, thing, text) in [
            (1, "request", "1 request"),
            (0, "event", "0 events"),
            (999, "event", "999 events"),
            (1_000, "delivery", "1,000 deliveries"),
            (1_234_567, "run", "1,234,567 runs"),
        ] {
            assert_eq!(counted(number, thing), text);
        }
        assert_eq!(count_or_dash(Some(1_234)), "1,234");
        assert_eq!(count_or_dash(None), "-");
    }
}
