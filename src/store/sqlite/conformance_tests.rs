//! SQLite under the tests of every store: in memory, and on a file with its threads.

use super::reader::SqliteReader;
use super::writer::SqliteStore;
use crate::store::conformance::mirror::Mirror;
use crate::store::conformance::suite;

suite!(
    in_memory,
    crate::store::sqlite::conformance_tests::open_in_memory
);
suite!(
    on_a_file,
    crate::store::sqlite::conformance_tests::open_file
);

fn open_in_memory() -> Mirror {
    let (store, reader) = SqliteStore::in_memory().unwrap();
    Mirror::new(store, reader, None)
}

fn open_file() -> Mirror {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("runs.db");
    let (store, _) = SqliteStore::open(&path).unwrap();
    let reader = SqliteReader::open(&path).unwrap();
    Mirror::new(store, reader, Some(home))
}
