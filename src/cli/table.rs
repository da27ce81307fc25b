//! Columns that line up, without lines around them.

/// Lays out `rows` under `head`, two spaces between columns. Columns whose cells below the head all begin with a digit
/// are numbers, and are set to the right.
pub fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].len()]).max().unwrap_or_default()
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let numeric: [bool; N] = std::array::from_fn(|column| {
        rows.iter().all(|row| {
            row[column].starts_with(|first: char| first.is_ascii_digit() || first == '-')
        })
    });
    let mut text = String::new();
    let mut line = |cells: [&str; N]| {
        let mut laid = String::new();
        for ((cell, width), numeric) in cells.into_iter().zip(widths).zip(numeric) {
            let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
            let (left, right) = if numeric {
                (pad.as_str(), "")
            } else {
                ("", pad.as_str())
            };
            laid.push_str(left);
            laid.push_str(cell);
            laid.push_str(right);
            laid.push_str("  ");
        }
        text.push_str(laid.trim_end());
        text.push('\n');
    };
    line(head);
    for row in rows {
        line(std::array::from_fn(|column| row[column].as_str()));
    }
    text
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of things, e.g. `1 request`, `2 requests` or `2 deliveries`.
pub fn counted(number: u64, thing: &str) -> String {
    let things = match thing.strip_suffix('y') {
        _ if number == 1 => thing.to_owned(),
        Some(stem) => format!("{stem}ies"),
        None => format!("{thing}s"),
    };
    format!("{} {things}", grouped(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right_and_lines_end_in_no_spaces() {
        let rows = [
            ["a".into(), "1".into(), "x".into()],
            ["longer".into(), "1,000".into(), "".into()],
        ];
        assert_eq!(
            table(["task", "n", "note"], &rows),
            "task        n  note\na           1  x\nlonger  1,000\n"
        );
    }

    #[test]
    fn thousands_are_grouped() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn one_is_singular() {
        for (number, thing, text) in [
            (1, "request", "1 request"),
            (0, "event", "0 events"),
            (1_000, "delivery", "1,000 deliveries"),
        ] {
            assert_eq!(counted(number, thing), text);
        }
    }
}
