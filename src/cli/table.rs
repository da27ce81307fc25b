//! Text in aligned columns, and numbers for people.

use std::fmt;

use anstyle::Style;
use indicatif::HumanCount;
use unicode_width::UnicodeWidthStr;

use super::styles::{HEAD, PLAIN, styled};
use crate::store::TaskStatus;
use crate::text::{MAX_SHOWN, escape};

/// The space between two columns.
const BETWEEN: &str = "  ";

/// A table with a row for each of some items, without lines around its cells. Its `Display` writes a head and the rows,
/// a line each and without spaces at the end; or nothing where there are no items. Cells are escaped; heads and some cells
/// have colours.
///
/// Columns whose cells all begin with a digit or are `-` hold numbers and are aligned to the right, others to the left.
pub struct Table<'a, T> {
    items: &'a [T],
    columns: Vec<Column>,
}

struct Column {
    head: &'static str,
    cells: Vec<(String, Style)>,
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
    pub fn column<C: fmt::Display>(self, head: &'static str, cell: impl Fn(&'a T) -> C) -> Self {
        self.styled(head, cell, |_| PLAIN)
    }

    /// Adds a column to the right whose cells have the `style` of their item.
    #[must_use]
    pub fn styled<C: fmt::Display>(
        mut self,
        head: &'static str,
        cell: impl Fn(&'a T) -> C,
        style: impl Fn(&'a T) -> Style,
    ) -> Self {
        let cells = self.items.iter();
        let cells = cells.map(|item| (escape(cell(item), MAX_SHOWN), style(item)));
        self.columns.push(Column {
            head,
            cells: cells.collect(),
        });
        self
    }
}

impl<T> fmt::Display for Table<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.items.is_empty() {
            return Ok(());
        }
        let mut grid = Grid::default();
        for (n, Column { head, cells }) in self.columns.iter().enumerate() {
            let is_number = |(cell, _): &(String, Style)| {
                cell.starts_with(|c: char| c.is_ascii_digit() || c == '-')
            };
            grid.fit(n, head, cells.iter().all(is_number));
            cells.iter().for_each(|(cell, _)| grid.widen(n, cell));
        }
        grid.write(f, self.columns.iter().map(|column| (column.head, HEAD)))?;
        for line in 0..self.items.len() {
            let cells = self.columns.iter().map(|column| &column.cells[line]);
            grid.write(f, cells.map(|(cell, style)| (cell.as_str(), *style)))?;
        }
        Ok(())
    }
}

/// The widths of columns, as a terminal shows them.
#[derive(Clone, Debug, Default)]
pub struct Grid {
    columns: Vec<(usize, bool)>,
}

impl Grid {
    /// Makes the column `n`, one after those that there are or one of them, at least as wide as `head`; `numeric` columns
    /// are aligned to the right.
    pub fn fit(&mut self, n: usize, head: &str, numeric: bool) {
        if self.columns.len() <= n {
            self.columns.resize(n + 1, (0, numeric));
        }
        self.columns[n].1 = numeric;
        self.widen(n, head);
    }

    /// Makes the column `n` at least as wide as `cell`.
    pub fn widen(&mut self, n: usize, cell: &str) {
        if let Some((width, _)) = self.columns.get_mut(n) {
            *width = cell.width().max(*width);
        }
    }

    /// Makes the widest columns narrower, as far as all of them together take more than `most`; none gets narrower than
    /// `least`.
    pub fn limit(&mut self, most: usize, least: usize) {
        let between = BETWEEN.len() * self.columns.len().saturating_sub(1);
        loop {
            let all = self.columns.iter().map(|(width, _)| *width);
            let (taken, widest) = (all.clone().sum::<usize>() + between, all.max().unwrap_or(0));
            if taken <= most || widest <= least {
                return;
            }
            let widest = self
                .columns
                .iter_mut()
                .filter(|(width, _)| *width == widest);
            widest.for_each(|(width, _)| *width -= 1);
        }
    }

    /// The width of the column `n`.
    pub fn width(&self, n: usize) -> usize {
        self.columns.get(n).map_or(0, |(width, _)| *width)
    }

    /// Writes a line of cells, each in its style, without spaces at its end.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn write<'a>(
        &self,
        to: &mut impl fmt::Write,
        cells: impl Iterator<Item = (&'a str, Style)>,
    ) -> fmt::Result {
        let align = |((cell, style), (width, numeric)): ((&str, Style), &(usize, bool))| {
            let padding = " ".repeat(width.saturating_sub(cell.width()));
            // An empty cell in colours would keep the spaces before it.
            let cell = match cell {
                "" => String::new(),
                cell => styled(style, cell),
            };
            if *numeric {
                padding + &cell
            } else {
                cell + &padding
            }
        };
        let cells: Vec<String> = cells.zip(&self.columns).map(align).collect();
        writeln!(to, "{}", cells.join(BETWEEN).trim_end())
    }
}

/// The name of a task, as `username~name`; its id where it has none.
pub fn task_label(task: &TaskStatus) -> String {
    match (&task.username, &task.name) {
        (Some(username), Some(name)) => format!("{username}~{name}"),
        _ => task.id.clone(),
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
    use super::super::output::plain;
    use super::super::styles::BAD;
    use super::*;
    use insta::assert_snapshot;

    fn shown<T>(table: &Table<'_, T>) -> String {
        plain(&table.to_string())
    }

    #[test]
    fn colours_take_no_width() {
        let items = [("a", 1), ("longer", 20)];
        let table = Table::of(&items)
            .styled("task", |item| item.0, |_| BAD)
            .styled(
                "n",
                |item| item.1,
                |item| if item.1 > 1 { BAD } else { PLAIN },
            );
        assert_eq!(shown(&table), "task     n\na        1\nlonger  20\n");
        let colored = "\u{1b}[1m\u{1b}[31ma\u{1b}[0m        1\n";
        assert!(
            table.to_string().contains(colored),
            "{:?}",
            table.to_string()
        );
    }

    #[test]
    fn numbers_are_aligned_to_the_right_and_no_line_ends_in_spaces() {
        let items = [("a", "1", "x"), ("longer", "1,000", "")];
        let table = Table::of(&items)
            .column("task", |item| item.0)
            .column("n", |item| item.1)
            .column("note", |item| item.2);
        assert_eq!(
            shown(&table),
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
        assert_snapshot!(shown(&table).replace('\u{301}', ""), @r"
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
        assert_eq!(shown(&table), "task\na\\nb\n\\u{1b}[2J\\u{202e}c\n");
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
