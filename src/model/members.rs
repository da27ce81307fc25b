//! The members of a JSON object as text, in order, without a copy.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Keys and the texts of their values. A key may occur more than once; the last one counts.
pub(super) struct Members<'a>(pub Vec<(Cow<'a, str>, &'a RawValue)>);

/// A key, copied only if it is written with escapes.
struct Key<'a>(Cow<'a, str>);

/// The content of a JSON string that is written without escapes; `None` for all others, and for what is no string.
pub(super) fn plain(json: &str) -> Option<&str> {
    let content = json.strip_prefix('"')?.strip_suffix('"')?;
    (!content.contains('\\')).then_some(content)
}

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        deserializer.deserialize_str(Keys)
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// What a run of the API has.
        const USUAL: usize = 24;
        struct Objects;
        impl<'de> Visitor<'de> for Objects {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(USUAL);
                while let Some((Key(key), text)) = map.next_entry()? {
                    members.push((key, text));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Objects)
    }
}
