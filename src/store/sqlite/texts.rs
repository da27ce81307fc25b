//! Text in columns that somebody else may have written, so that it may be none.

use rusqlite::Row;
use rusqlite::types::ValueRef;

/// A text, or its bytes where that is no text.
pub type Text = Result<String, Vec<u8>>;

/// Reads a column of text.
pub fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<Text> {
    let bytes = row.get_ref(column)?.as_bytes()?.to_vec();
    Ok(String::from_utf8(bytes).map_err(|error| error.into_bytes()))
}

/// The same; `None` for null.
pub fn text_or_null(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Text>> {
    match row.get_ref(column)? {
        ValueRef::Null => Ok(None),
        _ => text(row, column).map(Some),
    }
}
