//! Whole numbers of JSON as tools write them: some write 640.0 for 640, and true for 1.

use serde::Deserializer;
use serde::de::{Error, Unexpected, Visitor};
use std::fmt;

/// The largest number up to which each whole number is an `f64`.
const MOST: f64 = 9_007_199_254_740_992.0;

/// Reads a whole number of at least 0, with or without `.0`.
pub(super) fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer.deserialize_any(Whole { flag: false })
}

/// Reads the length of an image in pixels.
pub(super) fn pixels<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let number = whole(deserializer)?;
    usize::try_from(number).map_err(|_| D::Error::invalid_value(Unexpected::Unsigned(number), &"a number of pixels"))
}

/// Reads a flag, as a whole number or as `true` or `false`.
pub(super) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer.deserialize_any(Whole { flag: true })
}

struct Whole {
    flag: bool,
}

impl Visitor<'_> for Whole {
    type Value = u64;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(if self.flag { "0, 1, true or false" } else { "a whole number of at least 0" })
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<u64, E> {
        Ok(number)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<u64, E> {
        match (0.0..=MOST).contains(&number) && number.fract() == 0.0 {
            true => Ok(number as u64),
            false => Err(E::invalid_value(Unexpected::Float(number), &self)),
        }
    }

    fn visit_bool<E: Error>(self, on: bool) -> Result<u64, E> {
        match self.flag {
            true => Ok(on.into()),
            false => Err(E::invalid_type(Unexpected::Bool(on), &self)),
        }
    }
}
