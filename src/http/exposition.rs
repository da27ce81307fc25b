//! The text format of Prometheus, version 0.0.4.
//!
//! Written by hand: `prometheus-client` writes OpenMetrics, which differs in the names of counters, and `prometheus` and
//! `metrics` keep registries of their own, where most of what is shown here is read from the database when it is asked for.

use std::fmt::{Display, Write};

use crate::measure::Distribution;
use crate::model::Timestamp;
use crate::text::escape;

/// The media type of this format.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The most characters of a label's value.
const MAX_LABEL: usize = 300;

/// Labels with their values.
pub type Labels<'a> = [(&'static str, &'a str)];

/// The type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only ever grows, from 0 on when the process starts.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Metrics as text, written family by family.
#[derive(Debug, Default)]
pub struct Exposition(String);

/// A family of samples that differ in their labels.
#[derive(Debug)]
pub struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Exposition {
    /// Begins the family `name`, all of whose samples must follow. `help` is one line without backslashes.
    pub fn family(&mut self, kind: Kind, name: &'static str, help: &'static str) -> Family<'_> {
        let kind = kind.name();
        write(
            &mut self.0,
            format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"),
        );
        Family {
            text: &mut self.0,
            name,
        }
    }

    /// The text.
    pub fn finish(self) -> String {
        self.0
    }
}

impl Family<'_> {
    /// Adds a sample. Each must have other labels.
    pub fn sample(&mut self, labels: &Labels<'_>, value: impl Display) {
        self.line("", labels, None, value);
    }

    /// Adds a sample that is an instant, in seconds since the Unix epoch.
    pub fn time(&mut self, labels: &Labels<'_>, at: Timestamp) {
        self.sample(labels, at.as_millis() as f64 / 1_000.0);
    }

    /// Adds the samples of a histogram.
    pub fn histogram(&mut self, labels: &Labels<'_>, counted: &Distribution) {
        for (bound, count) in &counted.at_most {
            self.line("_bucket", labels, Some(&bound.to_string()), count);
        }
        self.line("_bucket", labels, Some("+Inf"), counted.count);
        self.line("_sum", labels, None, counted.sum);
        self.line("_count", labels, None, counted.count);
    }

    fn line(
        &mut self,
        suffix: &str,
        labels: &Labels<'_>,
        bound: Option<&str>,
        value: impl Display,
    ) {
        let labels = labels
            .iter()
            .copied()
            .chain(bound.map(|bound| ("le", bound)));
        let labels: Vec<String> = labels
            .map(|(name, value)| format!("{name}=\"{}\"", quoted(value)))
            .collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        write(
            self.text,
            format_args!("{}{suffix}{labels} {value}\n", self.name),
        );
    }
}

/// The value of a label, which others may have written, for between quotes.
fn quoted(value: &str) -> String {
    let value = escape(value, MAX_LABEL);
    value.replace('\\', r"\\").replace('"', r#"\""#)
}

fn write(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string never fails.
    let _ = text.write_fmt(arguments);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_in_the_text_format() {
        let mut text = Exposition::default();
        let mut counter = text.family(Kind::Counter, "a_total", "How many.");
        counter.sample(&[], u64::MAX);
        counter.sample(&[("b", "c"), ("d", "e f")], 0);
        text.family(Kind::Gauge, "empty", "None.");
        let mut gauge = text.family(Kind::Gauge, "at_seconds", "When.");
        gauge.time(
            &[("what", "\"\\\n\u{1b}\u{202e}ü")],
            Timestamp::from_millis(1_767_323_045_678),
        );
        let counted = Distribution {
            at_most: vec![(0.25, 2), (10.0, 3)],
            count: 4,
            sum: 61.5,
        };
        text.family(Kind::Histogram, "took_seconds", "How long.")
            .histogram(&[("b", "c")], &counted);
        insta::assert_snapshot!(text.finish(), @r#"
        # HELP a_total How many.
        # TYPE a_total counter
        a_total 18446744073709551615
        a_total{b="c",d="e f"} 0
        # HELP empty None.
        # TYPE empty gauge
        # HELP at_seconds When.
        # TYPE at_seconds gauge
        at_seconds{what="\"\\\\n\\u{1b}\\u{202e}ü"} 1767323045.678
        # HELP took_seconds How long.
        # TYPE took_seconds histogram
        took_seconds_bucket{b="c",le="0.25"} 2
        took_seconds_bucket{b="c",le="10"} 3
        took_seconds_bucket{b="c",le="+Inf"} 4
        took_seconds_sum{b="c"} 61.5
        took_seconds_count{b="c"} 4
        "#);
    }

    #[test]
    fn a_long_label_is_cut() {
        let mut text = Exposition::default();
        text.family(Kind::Gauge, "a", "b.")
            .sample(&[("c", &"x".repeat(MAX_LABEL + 1))], 1);
        let text = text.finish();
        assert!(text.contains("xxx…\""), "{text}");
    }
}
