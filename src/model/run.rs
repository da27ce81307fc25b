//! A run, as the API lists it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Map, Value};
use thiserror::Error;

use super::id::is_usable_id;
use super::members::{Members, plain};
use super::status::{MAX_STATUS, RunStatus};
use super::time::Timestamp;

/// Why an item cannot be mirrored.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidRun {
    /// The item is not a JSON object.
    #[error("a run is not a JSON object")]
    NotAnObject,
    /// The item has no id to store it under.
    #[error("a run has no usable `id` (a non-empty string)")]
    NoId,
    /// The item has an id that cannot be part of an address, or a long one.
    #[error("a run's `id` is not 1 to 100 letters, digits, `-`, `_`, `.` or `~`")]
    UnusableId,
    /// The item has a status that is longer than any.
    #[error("a run's `status` has more than 50 characters")]
    LongStatus,
}

/// Declares [`Run`] and all code that enumerates its optional fields from one list of them. A field marked `in meta` is
/// in the object `meta` of the API's JSON, the others are at the top level. One marked `as time` is a time. Columns have
/// the names of the fields.
macro_rules! run {
    ($($(#[doc = $doc:literal])+ $field:ident: $type:ty = $key:literal $(in $meta:ident)? $(as $form:ident)?;)+) => {
        /// One run: a typed field for every column of the mirror, and the rest in `extra`.
        ///
        /// Every field but the id may be missing or null. Times keep the API's text, so that no precision is lost, or get
        /// its documented form if they are written in another, so that they sort. A value whose type is not the
        /// documented one, or a time that is not understood, is kept in `extra`, under its own name.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Run {
            /// The run's id: 17 letters and digits at Apify; here what [`is_usable_id`] accepts.
            pub id: String,
            /// `status`; `UNKNOWN`, which is not terminal, if the item has none.
            pub status: RunStatus,
            $($(#[doc = $doc])+ pub $field: Option<$type>,)+
            /// All other fields. Nested ones stay nested (`{"meta": {"new": 1}}`).
            pub extra: Map<String, Value>,
        }

        /// The texts of a run's optional fields, as they are in its JSON.
        #[derive(Default)]
        struct Texts<'a> {
            $($field: Option<&'a RawValue>,)+
        }

        impl<'a> Texts<'a> {
            /// Takes the text of a field; returns whether there is such a field.
            fn set(&mut self, in_meta: bool, key: &str, text: &'a RawValue) -> bool {
                $(if key == $key && in_meta == run!(@in_meta $($meta)?) {
                    self.$field = Some(text);
                    return true;
                })+
                false
            }
        }

        impl Run {
            /// The columns of the optional fields, in the order of [`Run::values`].
            pub(crate) const COLUMNS: &[&str] = &[$(stringify!($field)),+];

            /// The values of the optional fields for a database, in the order of [`Run::COLUMNS`].
            pub(crate) fn values(&self) -> Vec<FieldValue<'_>> {
                vec![$(Field::to_value(&self.$field)),+]
            }

            /// A run from its stored values, in the order of [`Run::COLUMNS`].
            ///
            /// # Errors
            /// The name of the first column whose value is missing or has the wrong type.
            pub(crate) fn from_values<'a>(
                id: String,
                status: RunStatus,
                values: impl IntoIterator<Item = FieldValue<'a>>,
                extra: Map<String, Value>,
            ) -> Result<Self, &'static str> {
                let mut values = values.into_iter();
                Ok(Self {
                    id,
                    status,
                    $($field: values.next().and_then(Field::from_value).ok_or(stringify!($field))?,)+
                    extra,
                })
            }

            /// A run of which nothing else is known.
            pub(crate) fn bare(id: String, status: RunStatus) -> Self {
                Self {
                    id,
                    status,
                    $($field: None,)+
                    extra: Map::new(),
                }
            }

            /// This run, with its optional fields replaced by those that `newer` has.
            #[must_use]
            pub(crate) fn overlaid(&self, newer: &Self) -> Self {
                Self {
                    id: self.id.clone(),
                    status: self.status.clone(),
                    $($field: newer.$field.clone().or_else(|| self.$field.clone()),)+
                    extra: self.extra.clone(),
                }
            }

            /// A run from the texts of its fields, with empty `extra`; adds to `rest` those that are not of the documented type.
            ///
            /// # Errors
            /// When a text is not quite JSON.
            fn of_texts<'a>(
                id: String,
                status: RunStatus,
                texts: &Texts<'a>,
                rest: &mut Vec<(bool, Cow<'a, str>, &'a RawValue)>,
            ) -> Result<Self, serde_json::Error> {
                $(let $field = read_text(texts.$field, run!(@in_meta $($meta)?), $key, (run!(@plain $($form)?), run!(@read $($form)?)), rest)?;)+
                Ok(Self {
                    id,
                    status,
                    $($field,)+
                    extra: Map::new(),
                })
            }

            /// Removes the optional fields from the JSON objects and returns them as a run with empty `extra`.
            fn take(id: String, status: RunStatus, top: &mut Fields<'_>, meta: &mut Fields<'_>) -> Self {
                Self {
                    id,
                    status,
                    $($field: take(run!(@place top meta $($meta)?), $key, run!(@read $($form)?)),)+
                    extra: Map::new(),
                }
            }
        }
    };
    (@in_meta) => { false };
    (@in_meta meta) => { true };
    (@place $top:ident $meta:ident) => { $top };
    (@place $top:ident $meta:ident meta) => { $meta };
    (@plain) => { Field::from_plain };
    (@plain time) => { Timestamp::plain_text };
    (@read) => { Field::from_json };
    (@read time) => { Timestamp::text_from_api };
}

run! {
    /// `actorTaskId`.
    task_id: String = "actorTaskId";
    /// `actId`.
    act_id: String = "actId";
    /// `userId`.
    user_id: String = "userId";
    /// `startedAt`.
    started_at: String = "startedAt" as time;
    /// `finishedAt`.
    finished_at: String = "finishedAt" as time;
    /// `buildId`.
    build_id: String = "buildId";
    /// `buildNumber`.
    build_number: String = "buildNumber";
    /// `buildNumberInt`.
    build_number_int: i64 = "buildNumberInt";
    /// `meta.origin`.
    origin: String = "origin" in meta;
    /// `meta.clientIp`.
    client_ip: String = "clientIp" in meta;
    /// `meta.userAgent`.
    user_agent: String = "userAgent" in meta;
    /// `meta.scheduleId`.
    schedule_id: String = "scheduleId" in meta;
    /// `meta.scheduledAt`.
    scheduled_at: String = "scheduledAt" in meta as time;
    /// `usageTotalUsd`, in US dollars.
    usage_total_usd: f64 = "usageTotalUsd";
    /// `defaultKeyValueStoreId`.
    default_key_value_store_id: String = "defaultKeyValueStoreId";
    /// `defaultDatasetId`.
    default_dataset_id: String = "defaultDatasetId";
    /// `defaultRequestQueueId`.
    default_request_queue_id: String = "defaultRequestQueueId";
}

/// What is left of a JSON object. Nothing of it is copied before it is known to be kept.
type Fields<'a> = BTreeMap<&'a str, &'a Value>;

/// The value of one column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum FieldValue<'a> {
    /// No value.
    Null,
    /// Text.
    Text(Cow<'a, str>),
    /// A whole number.
    Integer(i64),
    /// A floating-point number.
    Real(f64),
}

/// A type of a run's fields.
trait Field: Sized {
    fn from_json(value: &Value) -> Option<Self>;

    /// The same from the text of a value in its usual form; `None` for others.
    fn from_plain(_: &str) -> Option<Self> {
        None
    }

    fn to_value(field: &Option<Self>) -> FieldValue<'_>;

    /// `None` if the value has another type.
    fn from_value(value: FieldValue<'_>) -> Option<Option<Self>>;
}

impl Field for String {
    fn from_json(value: &Value) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }

    fn from_plain(text: &str) -> Option<Self> {
        plain(text).map(str::to_owned)
    }

    fn to_value(field: &Option<Self>) -> FieldValue<'_> {
        let text = |text| FieldValue::Text(Cow::Borrowed(text));
        field.as_deref().map_or(FieldValue::Null, text)
    }

    fn from_value(value: FieldValue<'_>) -> Option<Option<Self>> {
        match value {
            FieldValue::Null => Some(None),
            FieldValue::Text(text) => Some(Some(text.into_owned())),
            FieldValue::Integer(_) | FieldValue::Real(_) => None,
        }
    }
}

impl Field for i64 {
    fn from_json(value: &Value) -> Option<Self> {
        value.as_i64()
    }

    fn to_value(field: &Option<Self>) -> FieldValue<'_> {
        field.map_or(FieldValue::Null, FieldValue::Integer)
    }

    fn from_value(value: FieldValue<'_>) -> Option<Option<Self>> {
        match value {
            FieldValue::Null => Some(None),
            FieldValue::Integer(number) => Some(Some(number)),
            FieldValue::Text(_) | FieldValue::Real(_) => None,
        }
    }
}

impl Field for f64 {
    fn from_json(value: &Value) -> Option<Self> {
        value.as_f64()
    }

    fn to_value(field: &Option<Self>) -> FieldValue<'_> {
        field.map_or(FieldValue::Null, FieldValue::Real)
    }

    fn from_value(value: FieldValue<'_>) -> Option<Option<Self>> {
        match value {
            FieldValue::Null => Some(None),
            FieldValue::Real(number) => Some(Some(number)),
            FieldValue::Text(_) | FieldValue::Integer(_) => None,
        }
    }
}

impl Run {
    /// Parses one item of a list, or the answer to a single read.
    ///
    /// # Errors
    /// When the item is not an object, has no usable id, or has a status that is longer than any.
    pub fn from_json(item: &Value) -> Result<Self, InvalidRun> {
        let mut rest = fields(item).ok_or(InvalidRun::NotAnObject)?;
        let id = take(&mut rest, "id", String::from_json)
            .filter(|id| !id.is_empty())
            .ok_or(InvalidRun::NoId)?;
        if !is_usable_id(&id) {
            return Err(InvalidRun::UnusableId);
        }
        let status = take(&mut rest, "status", String::from_json);
        let status = status.unwrap_or_else(|| "UNKNOWN".to_owned());
        if status.chars().nth(MAX_STATUS).is_some() {
            return Err(InvalidRun::LongStatus);
        }
        let status = RunStatus::from_api(&status);
        let inner = rest.get("meta").copied();
        if inner.is_some_and(|meta| meta.is_object() || meta.is_null()) {
            rest.remove("meta");
        }
        let mut meta = inner.and_then(fields).unwrap_or_default();
        let run = Self::take(id, status, &mut rest, &mut meta);
        let mut extra = copied(rest);
        if !meta.is_empty() {
            extra.insert("meta".to_owned(), Value::Object(copied(meta)));
        }
        Ok(Self { extra, ..run })
    }

    /// The same from text, without a tree of values in between, which takes a third of the time; `None` where only the tree tells
    /// what is wrong.
    pub fn from_text(item: &str) -> Option<Self> {
        let (mut texts, mut rest) = (Texts::default(), Vec::new());
        let [mut id, mut status, mut meta] = [None; 3];
        for (key, text) in serde_json::from_str::<Members<'_>>(item).ok()?.0 {
            match &*key {
                "id" => id = Some(text),
                "status" => status = Some(text),
                "meta" => meta = Some(text),
                _ if texts.set(false, &key, text) => {}
                _ => rest.push((false, key, text)),
            }
        }
        let meta = meta.filter(|meta| meta.get() != "null");
        if let Some(meta) = meta {
            for (key, text) in serde_json::from_str::<Members<'_>>(meta.get()).ok()?.0 {
                if !texts.set(true, &key, text) {
                    rest.push((true, key, text));
                }
            }
        }
        let id: String = serde_json::from_str(id?.get()).ok()?;
        let status: String = serde_json::from_str(status?.get()).ok()?;
        let is_usable = is_usable_id(&id) && status.chars().nth(MAX_STATUS).is_none();
        let status = RunStatus::from_api(is_usable.then_some(&status)?);
        let run = Self::of_texts(id, status, &texts, &mut rest).ok()?;
        let (mut extra, mut inner) = (Map::new(), Map::new());
        for (in_meta, key, text) in rest {
            let place = if in_meta { &mut inner } else { &mut extra };
            place.insert(key.into_owned(), serde_json::from_str(text.get()).ok()?);
        }
        if !inner.is_empty() {
            extra.insert("meta".to_owned(), Value::Object(inner));
        }
        Some(Self { extra, ..run })
    }

    /// From `startedAt` to `finishedAt`; `None` if one of them is missing or unreadable, or the end lies before the start.
    pub fn duration(&self) -> Option<Duration> {
        let finished = self.finished_at.as_deref().and_then(Timestamp::parse)?;
        let started = self.started().filter(|started| *started <= finished)?;
        Some(finished.since(started))
    }

    /// `startedAt` as an instant; `None` if it is missing or unreadable.
    pub fn started(&self) -> Option<Timestamp> {
        self.started_at.as_deref().and_then(Timestamp::parse)
    }

    /// `finishedAt` as an instant; `None` if it is missing or unreadable.
    pub fn finished(&self) -> Option<Timestamp> {
        self.finished_at.as_deref().and_then(Timestamp::parse)
    }
}

/// The value of a field from its text: as `plain` reads it, which is quick, or else `read`. One that is not of the documented type goes to `rest`.
fn read_text<'a, T>(
    text: Option<&'a RawValue>,
    in_meta: bool,
    key: &'static str,
    (plain, read): (impl Fn(&str) -> Option<T>, impl Fn(&Value) -> Option<T>),
    rest: &mut Vec<(bool, Cow<'a, str>, &'a RawValue)>,
) -> Result<Option<T>, serde_json::Error> {
    let Some(text) = text.filter(|text| text.get() != "null") else {
        return Ok(None);
    };
    if let Some(value) = plain(text.get()) {
        return Ok(Some(value));
    }
    let value = read(&serde_json::from_str(text.get())?);
    if value.is_none() {
        rest.push((in_meta, Cow::Borrowed(key), text));
    }
    Ok(value)
}

/// The fields of a JSON object; `None` if `json` is none.
fn fields(json: &Value) -> Option<Fields<'_>> {
    let fields = json.as_object()?.iter();
    Some(fields.map(|(key, value)| (key.as_str(), value)).collect())
}

fn copied(fields: Fields<'_>) -> Map<String, Value> {
    let fields = fields.into_iter();
    fields
        .map(|(key, value)| (key.to_owned(), value.clone()))
        .collect()
}

/// Removes a field from `from` and returns it, if it has the documented type. A null is removed, other values stay.
fn take<T>(from: &mut Fields<'_>, key: &str, read: impl Fn(&Value) -> Option<T>) -> Option<T> {
    let value = from.get(key)?;
    let taken = read(value);
    if taken.is_some() || value.is_null() {
        from.remove(key);
    }
    taken
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
