//! Colours, for where people read. Text is written with its colours; [`super::output`] takes them out where it is not shown
//! to a person, or `--color` or NO_COLOR say so.

use std::fmt;

use anstyle::{AnsiColor, Style};

use crate::store::{Condition, DeliveryState, SinkState};

/// The heads of tables.
pub const HEAD: Style = Style::new().bold();
/// What is as it should be.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// What needs somebody.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// What may need somebody, or passes.
pub const ODD: Style = AnsiColor::Yellow.on_default();
/// What is beside the point.
pub const DIM: Style = Style::new().dimmed();
/// What is like the text around it.
pub const PLAIN: Style = Style::new();

/// `text` in `style`.
pub fn styled(style: Style, text: impl fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// The style of a feed's condition.
pub fn of_condition(condition: Condition) -> Style {
    match condition {
        Condition::Ok => GOOD,
        Condition::FirstSync => ODD,
        Condition::Failing | Condition::NotFound | Condition::Forbidden => BAD,
    }
}

/// The style of a sink's state.
pub fn of_sink(state: SinkState) -> Style {
    match state {
        SinkState::Ok => GOOD,
        SinkState::CatchingUp => ODD,
        SinkState::Failing => BAD,
        SinkState::Removed => DIM,
    }
}

/// The style of a delivery's state.
pub fn of_delivery(state: DeliveryState) -> Style {
    match state {
        DeliveryState::Dead => BAD,
        DeliveryState::Retrying => ODD,
        DeliveryState::Waiting => PLAIN,
    }
}
