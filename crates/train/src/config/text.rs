//! Settings that are texts in a recipe and types in the program: read by `FromStr`, written by `Display`. And how a recipe is
//! written whose texts have characters that command a terminal.

use crate::text::commands;
use serde::{Deserialize, Deserializer, Serializer, de::Error};
use std::fmt::Display;
use std::str::FromStr;
use toml::Value;

pub(super) fn serialize<T: Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

pub(super) fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    String::deserialize(from)?.parse().map_err(D::Error::custom)
}

/// A control character that every form of TOML texts has to escape, in this way.
const MARK: char = '\u{1}';
const MARKED: &str = "\\u0001";

/// Puts the number of each character that commands a terminal between two marks, in its place. And so of each backslash, so
/// that all that are in the TOML belong to escapes.
pub(super) fn mark(value: &mut Value) {
    match value {
        Value::String(text) => {
            let odd =
                |c: char| if commands(c) || c == '\\' { format!("{MARK}{:04x}{MARK}", u32::from(c)) } else { c.into() };
            *text = text.chars().map(odd).collect();
        }
        Value::Array(values) => values.iter_mut().for_each(mark),
        Value::Table(table) => table.iter_mut().for_each(|(_, value)| mark(value)),
        _ => {}
    }
}

/// Makes an escape of what stands between two marks in TOML.
pub(super) fn unmark(toml: &str) -> String {
    let parts = toml.split(MARKED).enumerate();
    parts.map(|(i, part)| if i % 2 == 1 { format!("\\u{part}") } else { part.into() }).collect()
}

/// Two numbers, no more: a third would be dropped without a word.
pub(super) fn two<'de, D: Deserializer<'de>>(from: D) -> Result<Option<[f64; 2]>, D::Error> {
    let numbers = Option::<Vec<f64>>::deserialize(from)?;
    let pair = |numbers: Vec<f64>| {
        let count = numbers.len();
        numbers.try_into().map_err(|_| D::Error::invalid_length(count, &"two numbers"))
    };
    numbers.map(pair).transpose()
}

/// The same for settings that may be omitted.
pub(super) mod optional {
    use super::{Deserialize, Deserializer, Display, Error, FromStr, Serializer};

    pub(in super::super) fn serialize<T: Display, S: Serializer>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => to.collect_str(value),
            None => to.serialize_none(),
        }
    }

    pub(in super::super) fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<T>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}

/// A message of the reader of TOML in words for people who do not know the types of Rust.
pub(crate) fn in_words(message: &str) -> String {
    let whole = ["usize", "u64", "u32", "u16", "u8"].iter().map(|kind| (*kind, "a whole number of 0 or more"));
    let words = whole.chain([("f64", "a number"), ("f32", "a number")]);
    words.fold(message.to_string(), |text, (kind, words)| {
        text.replace(&format!("expected {kind}"), &format!("expected {words}"))
    })
}
