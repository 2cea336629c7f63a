//! Groups of parameters in a recipe: the tables `[[optimizer.groups]]`.

use super::keys::{Key, NUMBER, key};
use crate::{Error, Result};
use fixnet_nn::optim::ParamGroup;
use serde::{Deserialize, Serialize};

/// A table of `[[optimizer.groups]]`: settings of the parameters whose names match a pattern. Of several groups that match a
/// name, the first counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "described in GROUP_KEYS, from which the reference page is made")]
pub struct GroupSettings {
    #[serde(rename = "match")]
    pub pattern: String,
    #[serde(default = "one")]
    pub lr_factor: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub frozen: bool,
}

fn one() -> f64 {
    1.0
}

impl GroupSettings {
    /// Returns a group with the settings of all parameters.
    pub fn of(pattern: impl Into<String>) -> Self {
        let ParamGroup { pattern, lr_factor, weight_decay, clip_norm, frozen } = ParamGroup::of(pattern);
        Self { pattern, lr_factor, weight_decay, clip_norm, frozen }
    }
}

/// Returns the groups as the optimizer takes them.
///
/// # Errors
/// A setting is out of its range, or a frozen group has settings that only count for parameters that move.
pub(super) fn resolve(groups: &[GroupSettings]) -> Result<Vec<ParamGroup>> {
    groups.iter().enumerate().map(|(i, group)| one_group(i, group)).collect()
}

fn one_group(i: usize, group: &GroupSettings) -> Result<ParamGroup> {
    let GroupSettings { pattern, lr_factor, weight_decay, clip_norm, frozen } = group.clone();
    let wrong = |key: &str, expected: &str, found: String| {
        let reason = format!("expected {expected}, found {found} (group `{pattern}`)");
        Err(Error::Setting { key: format!("optimizer.groups[{i}].{key}"), reason })
    };
    if pattern.is_empty() {
        return wrong("match", "names of parameters, with `*` for any text", "an empty text".into());
    }
    for (key, value) in [("lr_factor", Some(lr_factor)), ("weight_decay", weight_decay)] {
        if let Some(odd) = value.filter(|v| !(0.0..f64::INFINITY).contains(v)) {
            return wrong(key, "a finite number of at least 0", odd.to_string());
        }
    }
    if let Some(odd) = clip_norm.filter(|v| !(*v > 0.0 && v.is_finite())) {
        return wrong("clip_norm", "a finite number above 0", odd.to_string());
    }
    if frozen {
        let given = [
            ("lr_factor", (lr_factor != 1.0).then_some(lr_factor)),
            ("weight_decay", weight_decay),
            ("clip_norm", clip_norm),
        ];
        if let Some((key, Some(value))) = given.into_iter().find(|(_, value)| value.is_some()) {
            return wrong(key, "none, since frozen parameters do not move", value.to_string());
        }
    }
    Ok(ParamGroup { pattern, lr_factor, weight_decay, clip_norm, frozen })
}

/// The keys of a table of `optimizer.groups`.
pub const GROUP_KEYS: &[Key] = &[
    key(
        "match",
        "",
        "a text",
        "The names of the parameters, with `*` for any text: `layer1.*`, `*.bias`. It has to be there.",
    ),
    key("lr_factor", "", NUMBER, "The factor of the learning rate; of latent weights in a twin, that of U_t."),
    key(
        "weight_decay",
        "",
        NUMBER,
        "The weight decay in place of `optimizer.weight_decay`; it counts for biases and normalizations too.",
    ),
    key(
        "clip_norm",
        "",
        "a number above 0",
        "The largest norm of the gradients of this group together. A group without it is clipped with all others.",
    ),
    key(
        "frozen",
        "",
        "true or false",
        "Whether the parameters stay as they are, the scales of quantizers too where the pattern matches their names.",
    ),
];
