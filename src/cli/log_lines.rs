//! What a line of the log looks like, as text for people or as JSON for programs. Whatever a field or a message holds, a
//! line stays one line of bounded length, without active characters.

use std::fmt::{self, Debug};

use anstyle::Style;
use serde::{Serialize, Serializer};
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::styles::{DIM, styled};
use crate::model::Timestamp;
use crate::text::{MAX_SHOWN, cut, escape, escape_json};

/// The name that `tracing` gives to the message of an event.
const MESSAGE: &str = "message";

/// The style of the names of fields.
const NAME: Style = Style::new().italic();

/// Writes a field of a line for people: a message as it is, others with their names.
pub fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> fmt::Result {
    let shown = escape(format_args!("{value:?}"), MAX_SHOWN);
    match field.name() {
        MESSAGE => writer.write_str(&shown),
        name if writer.has_ansi_escapes() => {
            let (name, equals) = (styled(NAME, name), styled(DIM, "="));
            write!(writer, "{name}{equals}{shown}")
        }
        name => write!(writer, "{name}={shown}"),
    }
}

/// The priority of a line, as the journal reads it (`sd-daemon(3)`).
pub fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        Level::DEBUG | Level::TRACE => "<7>",
    }
}

/// Writes a line for the journal: priority, message and fields. The journal adds the time.
pub struct JournalLines;

impl<S, N> FormatEvent<S, N> for JournalLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        writer.write_str(priority(*event.metadata().level()))?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// Writes a line for programs: a JSON object with time, level, message, fields and target.
pub struct JsonLines {
    /// Whether the journal reads it, and wants a priority before it, which it removes.
    pub in_journal: bool,
}

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let mut line = JsonLine::default();
        line.add("timestamp", Timestamp::now().to_string());
        line.add("level", metadata.level().as_str());
        event.record(&mut line);
        line.add("target", metadata.target());
        let json = serde_json::to_string(&line).map_err(|_| fmt::Error)?;
        if self.in_journal {
            writer.write_str(priority(*metadata.level()))?;
        }
        writeln!(writer, "{}", escape_json(&json))
    }
}

/// The members of one line, in order.
#[derive(Default)]
struct JsonLine(Vec<(&'static str, Value)>);

impl JsonLine {
    fn add(&mut self, name: &'static str, value: impl Into<Value>) {
        self.0.push((name, value.into()));
    }
}

impl Serialize for JsonLine {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl Visit for JsonLine {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field.name(), cut(format_args!("{value:?}"), MAX_SHOWN));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), cut(value, MAX_SHOWN));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field.name(), value);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::super::logging::{journal, json, text};
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    /// A log in memory.
    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Memory {
        fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(line)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    const HOSTILE: &str = "a\n<0>b\u{1b}[2J\u{9b}\u{7f}\u{202e}\u{2028}\u{e0041}";

    /// Where lines go.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Form {
        Text,
        Colored,
        Json,
        Journal,
        JsonInJournal,
    }

    /// What hostile fields and a hostile message become.
    fn logged(form: Form) -> String {
        let memory = Memory::default();
        let writer = memory.clone();
        let registry = tracing_subscriber::registry();
        let log = || {
            let long = "x".repeat(5 << 20);
            tracing::info!(
                task = HOSTILE, run = %HOSTILE, debug = ?Some(HOSTILE), n = 7_u64, f = 0.5, b = true, long,
                "message {HOSTILE} {long}"
            );
        };
        let writer = move || writer.clone();
        match form {
            Form::Text | Form::Colored => {
                let lines = text(writer, form == Form::Colored);
                tracing::subscriber::with_default(registry.with(lines), log);
            }
            Form::Json | Form::JsonInJournal => {
                let lines = json(writer, form == Form::JsonInJournal);
                tracing::subscriber::with_default(registry.with(lines), log);
            }
            Form::Journal => {
                tracing::subscriber::with_default(registry.with(journal(writer)), log);
            }
        }
        let bytes = memory.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_line_for_people_stays_one_inert_line() {
        let line = logged(Form::Text);
        let rest = line.strip_suffix('\n').unwrap();
        assert!(!rest.chars().any(crate::text::is_active), "{rest:?}");
        assert!(rest.chars().count() < 6_000);
        let shown = r"a\n<0>b\u{1b}[2J\u{9b}\u{7f}\u{202e}\u{2028}\u{e0041}";
        for part in [
            format!(" INFO message {shown} xxx"),
            format!(
                "… task=\"{shown}\" run={shown} debug=Some(\"{shown}\") n=7 f=0.5 b=true long=\"xxx"
            ),
        ] {
            assert!(rest.contains(&part), "{part} is not in {rest}");
        }
    }

    #[test]
    fn colours_are_ours_alone() {
        let line = logged(Form::Colored);
        let plain = line.replace("\u{1b}[0m", "").replace("\u{1b}[2m", "");
        let plain = plain.replace("\u{1b}[3m", "").replace("\u{1b}[32m", "");
        let rest = plain.strip_suffix('\n').unwrap();
        assert!(!rest.chars().any(crate::text::is_active), "{rest:?}");
    }

    #[test]
    fn a_line_for_programs_holds_every_value_up_to_a_length() {
        let line = logged(Form::Json);
        let rest = line.strip_suffix('\n').unwrap();
        assert!(!rest.chars().any(crate::text::is_active), "{rest:?}");
        let value: Value = serde_json::from_str(rest).unwrap();
        assert_eq!(
            (&value["level"], &value["task"]),
            (&"INFO".into(), &HOSTILE.into())
        );
        assert_eq!(
            (&value["n"], &value["f"], &value["b"]),
            (&7.into(), &0.5.into(), &true.into())
        );
        for long in ["message", "long"] {
            assert_eq!(value[long].as_str().unwrap().chars().count(), MAX_SHOWN);
        }
        let order = ["timestamp", "level", "message", "task", "target"];
        let places = order.map(|name| rest.find(&format!("\"{name}\":")).unwrap());
        assert!(places.is_sorted(), "{rest}");
    }

    #[test]
    fn lines_for_the_journal_begin_with_a_priority_and_have_no_time() {
        let line = logged(Form::Journal);
        assert!(line.starts_with(r"<6>message a\n<0>b\u{1b}"), "{line}");
        assert_eq!(line.matches('\n').count(), 1);
        assert_eq!(logged(Form::JsonInJournal).find('{'), Some("<6>".len()));
    }
}
