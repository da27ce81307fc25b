//! Instants, to the millisecond.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::members::plain;

/// The first and the last instant that can be read and written: the beginning of year 0, and nearly the end of year 9999, where
/// the text of times still sorts, and what jiff can express ends.
const FIRST: i64 = -62_167_219_200_000;
const LAST: i64 = 253_402_207_200_000;

/// An instant in milliseconds since the Unix epoch, the precision of the API's times.
///
/// `Display` writes the API's format, `2019-11-30T07:34:24.202Z`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The instant `millis` milliseconds after the Unix epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Parses an ISO 8601 time with an offset or `Z`; `None` if `text` is not one, or lies beyond what `Display` can write.
    pub fn parse(text: &str) -> Option<Self> {
        let slowly = || Some(text.parse::<jiff::Timestamp>().ok()?.as_millisecond());
        Self::checked(Self::documented(text).or_else(slowly)?)
    }

    /// The milliseconds of a time in exactly the API's form, `2019-11-30T07:34:24.202Z`, which nearly all have; `None` for others.
    fn documented(text: &str) -> Option<i64> {
        const FORM: &[u8; 24] = b"0000-00-00T00:00:00.000Z";
        let text: &[u8; 24] = text.as_bytes().try_into().ok()?;
        let has_form =
            |(byte, form): (&u8, &u8)| byte == form || (*form == b'0' && byte.is_ascii_digit());
        if !text.iter().zip(FORM).all(has_form) {
            return None;
        }
        let number = |from: usize, to: usize| {
            let digits = text[from..to].iter();
            digits.fold(0_i16, |number, digit| number * 10 + i16::from(digit - b'0'))
        };
        let small = |from: usize| i8::try_from(number(from, from + 2)).ok();
        let date = jiff::civil::Date::new(number(0, 4), small(5)?, small(8)?).ok()?;
        let nanos = i32::from(number(20, 23)) * 1_000_000;
        let time = jiff::civil::Time::new(small(11)?, small(14)?, small(17)?, nanos).ok()?;
        let at = jiff::tz::Offset::UTC.to_timestamp(date.to_datetime(time));
        Some(at.ok()?.as_millisecond())
    }

    /// The instant `millis` milliseconds after the Unix epoch, if `Display` can write it.
    fn checked(millis: i64) -> Option<Self> {
        (FIRST..=LAST).contains(&millis).then_some(Self(millis))
    }

    /// Reads a time that the API gives in another form than it documents, where only one instant can be meant: without a
    /// zone (it is UTC then), with a space for the `T`, in lower case, or as milliseconds or seconds since the Unix epoch
    /// (13 or 10 digits), also as text.
    pub fn from_api(value: &Value) -> Option<Self> {
        if let Some(number) = value.as_f64() {
            return Self::from_epoch(&format!("{number:.0}")).filter(|_| number.fract() == 0.0);
        }
        let text = value.as_str()?.trim();
        let has_time = text.contains([':', 'T', 't']);
        let in_utc = || {
            let text: jiff::civil::DateTime = text.parse().ok().filter(|_| has_time)?;
            let at = jiff::tz::Offset::UTC.to_timestamp(text).ok()?;
            Self::checked(at.as_millisecond())
        };
        Self::parse(text)
            .or_else(in_utc)
            .or_else(|| Self::from_epoch(text))
    }

    /// The text of a time that the API gives: as it is where that is a form of the documented one, which sorts,
    /// otherwise in the documented form; `None` if [`Timestamp::from_api`] does not understand it.
    pub fn text_from_api(value: &Value) -> Option<String> {
        let at = Self::from_api(value)?;
        let text = value.as_str().filter(|text| is_documented_form(text));
        Some(text.map_or_else(|| at.to_string(), str::to_owned))
    }

    /// The text of a JSON string, with its quotes, where it is a time in the documented form as it is.
    pub(crate) fn plain_text(json: &str) -> Option<String> {
        let text = plain(json).filter(|text| is_documented_form(text))?;
        Self::parse(text).map(|_| text.to_owned())
    }

    /// Milliseconds since the Unix epoch, in 13 digits, or seconds, in 10.
    fn from_epoch(digits: &str) -> Option<Self> {
        let unit = match digits.len() {
            13 => 1,
            10 => 1_000,
            _ => return None,
        };
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        let number: i64 = digits.parse().ok().filter(|_| is_number)?;
        Self::checked(number.checked_mul(unit)?)
    }

    /// Reads the local clock.
    pub fn now() -> Self {
        Self(jiff::Timestamp::now().as_millisecond())
    }

    /// The time from `earlier` to `self`; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The instant `wait` earlier, saturating.
    pub fn minus(self, wait: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// The instant `wait` later, saturating.
    pub fn plus(self, wait: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)),
        )
    }
}

/// Whether `text` is written as `2019-11-30T07:34:24Z`, with or without a fraction.
fn is_documented_form(text: &str) -> bool {
    const FORM: &[u8] = b"0000-00-00T00:00:00";
    let has_form = |(byte, form): (u8, &u8)| match form {
        b'0' => byte.is_ascii_digit(),
        _ => byte == *form,
    };
    let (Some(seconds), Some(rest)) = (text.get(..FORM.len()), text.get(FORM.len()..)) else {
        return false;
    };
    let fraction = rest
        .strip_suffix('Z')
        .map(|rest| rest.strip_prefix('.').unwrap_or(rest));
    seconds.bytes().zip(FORM).all(has_form)
        && fraction.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The current time, by two clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// The local clock, for times that are stored or compared with stored ones. It can be set at any time.
    pub wall: Timestamp,
    /// Monotonic time since a fixed instant in this process, for waits and deadlines.
    pub uptime: Duration,
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Arithmetic can lead beyond what can be written, and whatever is written has to be read again.
        match jiff::Timestamp::from_millisecond(self.0.clamp(FIRST, LAST)) {
            Ok(at) => write!(f, "{at:.3}"),
            Err(_) => Err(fmt::Error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The quick way to read a time reads what the library reads.
    #[test]
    fn times_in_the_usual_form_are_those_that_the_library_reads() {
        let mut read = 0;
        for text in [
            "2019-11-30T07:34:24.202Z",
            "1970-01-01T00:00:00.000Z",
            "1969-12-31T23:59:59.999Z",
            "2024-02-29T12:00:00.001Z",
            "0000-01-01T00:00:00.000Z",
            "9999-12-30T22:00:00.000Z",
            "2023-02-29T12:00:00.001Z",
            "2019-13-01T00:00:00.000Z",
            "2019-00-10T00:00:00.000Z",
            "2019-11-31T00:00:00.000Z",
            "2019-11-30T24:00:00.000Z",
            "2019-11-30T23:60:00.000Z",
            "2016-12-31T23:59:60.000Z",
            "2019-11-30 07:34:24.202Z",
            "2019-11-30T07:34:24.20zZ",
            "2019-11-30T07:34:24.2020",
        ] {
            let library = text.parse::<jiff::Timestamp>().ok();
            let library = library.map(|at| at.as_millisecond());
            if let Some(quick) = Timestamp::documented(text) {
                assert_eq!(Some(quick), library, "{text}");
                read += 1;
            }
            let checked = library.and_then(Timestamp::checked);
            assert_eq!(Timestamp::parse(text), checked, "{text}");
        }
        assert_eq!(read, 6);
    }

    #[test]
    fn the_apis_format_survives_a_round_trip() {
        let text = "2019-11-30T07:34:24.202Z";
        let at = Timestamp::parse(text).unwrap();
        assert_eq!(at.to_string(), text);
        assert_eq!(
            Timestamp::from_millis(0).to_string(),
            "1970-01-01T00:00:00.000Z"
        );
    }

    #[test]
    fn offsets_are_parsed_and_other_text_is_not() {
        assert_eq!(
            Timestamp::parse("2019-11-30T09:34:24.202+02:00"),
            Timestamp::parse("2019-11-30T07:34:24.202Z")
        );
        for nonsense in ["", "yesterday", "2019-13-01T00:00:00Z", "2019-11-30"] {
            assert_eq!(Timestamp::parse(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn other_forms_of_a_time_are_understood_where_one_instant_can_be_meant() {
        let form = "2019-11-30T07:34:24.202Z";
        for (value, text) in [
            (json!("2019-11-30T07:34:24.202Z"), form),
            (
                json!("2019-11-30T07:34:24.2025Z"),
                "2019-11-30T07:34:24.2025Z",
            ),
            (json!("2019-11-30T07:34:24Z"), "2019-11-30T07:34:24Z"),
            (json!("2019-11-30T07:34:24.202"), form),
            (json!("2019-11-30 07:34:24.202"), form),
            (json!("2019-11-30 07:34:24.202Z"), form),
            (json!("2019-11-30t07:34:24.202z"), form),
            (json!("2019-11-30T07:34:24.202z"), form),
            (json!("2019-11-30T09:34:24.202+02:00"), form),
            (json!("2019-11-30T09:34:24.202+0200"), form),
            (json!("20191130T073424.202Z"), form),
            (json!("+002019-11-30T07:34:24.202Z"), form),
            (json!(" 2019-11-30T07:34:24.202Z "), form),
            (json!(1_575_099_264_202_i64), form),
            (json!(1_575_099_264_202.0), form),
            (json!("1575099264202"), form),
            (json!(1_575_099_264), "2019-11-30T07:34:24.000Z"),
            (json!("1575099264"), "2019-11-30T07:34:24.000Z"),
        ] {
            let understood = Timestamp::text_from_api(&value);
            assert_eq!(understood.as_deref(), Some(text), "{value}");
            assert_eq!(
                Timestamp::from_api(&value),
                Timestamp::parse(text),
                "{value}"
            );
        }
        for value in [
            json!(null),
            json!(true),
            json!([form]),
            json!(""),
            json!("soon"),
            json!("2019-11-30"),
            json!("07:34:24"),
            json!("30.11.2019 07:34"),
            json!("2019-13-30T07:34:24Z"),
            json!(157_509_926),
            json!(-1_575_099_264_202_i64),
            json!("-157509926420"),
            json!("+575099264202"),
            json!(1_575_099_264_202.5),
            json!(15_750_992_642_020_i64),
        ] {
            assert_eq!(Timestamp::text_from_api(&value), None, "{value}");
        }
    }

    #[test]
    fn whatever_is_written_can_be_read_and_sorts() {
        let mut texts = Vec::new();
        for millis in [
            i64::MIN,
            FIRST - 1,
            FIRST,
            0,
            LAST - 1,
            LAST,
            LAST + 1,
            i64::MAX,
        ] {
            let text = Timestamp::from_millis(millis).to_string();
            let read = Timestamp::parse(&text).map(Timestamp::as_millis);
            assert_eq!(read, Some(millis.clamp(FIRST, LAST)), "{text}");
            texts.push(text);
        }
        assert!(texts.is_sorted(), "{texts:?}");
        assert_eq!(texts[7], "9999-12-30T22:00:00.000Z");
        for beyond in [
            "9999-12-30T22:00:00.999Z",
            "9999-12-31T23:59:59Z",
            "-000001-12-31T23:59:59Z",
        ] {
            assert_eq!(Timestamp::parse(beyond), None, "{beyond}");
            assert_eq!(Timestamp::from_api(&json!(beyond)), None, "{beyond}");
            let local = beyond.trim_end_matches('Z');
            assert_eq!(Timestamp::from_api(&json!(local)), None, "{local}");
        }
    }

    #[test]
    fn arithmetic_saturates() {
        let early = Timestamp::from_millis(1_000);
        let late = Timestamp::from_millis(3_500);
        assert_eq!(late.since(early), Duration::from_millis(2_500));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(
            early.plus(Duration::from_secs(2)),
            Timestamp::from_millis(3_000)
        );
        assert_eq!(early.plus(Duration::MAX), Timestamp::from_millis(i64::MAX));
        assert_eq!(
            late.minus(Duration::from_secs(2)),
            Timestamp::from_millis(1_500)
        );
    }
}
