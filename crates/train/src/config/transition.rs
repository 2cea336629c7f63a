//! Transition-rate scheduling in a recipe: the table `[transition]`, or one word in its place.

use super::schedule_kind::ScheduleKind;
use super::text;
use fixnet_nn::optim::Scope;
use fixnet_quant::TalrRule;
use serde::{Deserialize, Serialize};

/// The table `[transition]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "described in KEYS, from which the reference page is made")]
pub struct TransitionSettings {
    pub factor: f64,
    pub momentum: f64,
    #[serde(with = "text::optional", skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup: Option<f64>,
    #[serde(with = "text")]
    pub scope: Scope,
    #[serde(with = "text")]
    pub rule: TalrRule,
    pub gain: f64,
}

impl Default for TransitionSettings {
    fn default() -> Self {
        Self {
            factor: 5e-3,
            momentum: 0.99,
            schedule: None,
            warmup: None,
            scope: Scope::Model,
            rule: TalrRule::Auto,
            gain: 1.0,
        }
    }
}

/// The table `[transition]`, or the name of a rule, with which all other keys have their defaults.
pub(super) fn word_or_table<'de, D: serde::Deserializer<'de>>(
    from: D,
) -> std::result::Result<TransitionSettings, D::Error> {
    struct WordOrTable;
    impl<'de> serde::de::Visitor<'de> for WordOrTable {
        type Value = TransitionSettings;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a table, or the name of a rule: auto or paper")
        }
        fn visit_str<E: serde::de::Error>(self, rule: &str) -> std::result::Result<Self::Value, E> {
            let rule = rule.parse().map_err(E::custom)?;
            Ok(TransitionSettings { rule, ..TransitionSettings::default() })
        }
        fn visit_map<A: serde::de::MapAccess<'de>>(self, table: A) -> std::result::Result<Self::Value, A::Error> {
            TransitionSettings::deserialize(serde::de::value::MapAccessDeserializer::new(table))
        }
    }
    from.deserialize_any(WordOrTable)
}
