//! The reference page of all keys of a recipe, made from their table: `docs/reference/recipe.md` and `fixnet recipes --keys`.

use super::groups::{GROUP_KEYS, GroupSettings};
use super::keys::{KEYS, Key};
use super::settings::Settings;
use std::fmt::Write;
use toml::Value;

const OMITTED: &str = "the optimizer's usual one";

/// Returns the reference page of all keys, in Markdown.
pub fn reference() -> String {
    let mut page = String::from(
        "# Recipes\n\nA recipe is a TOML file with everything that a run depends on. Keys that are omitted have the default. \
         `fixnet recipes` lists the built-in recipes, `fixnet recipes NAME` prints one, and `fixnet recipes --keys` prints this \
         page. A flag of `fixnet train` sets its key; `--set TABLE.KEY=VALUE` sets any key.\n",
    );
    let defaults = Settings::default().values();
    let group = Value::try_from(GroupSettings::of("")).ok();
    let mut table = None;
    for (i, key) in KEYS.iter().enumerate() {
        let (outer, inner) = key.name.split_once('.').map_or(("", key.name), |(outer, inner)| (outer, inner));
        if table != Some(outer) {
            heading(&mut page, if outer.is_empty() { "At the top".into() } else { format!("`[{outer}]`") });
            table = Some(outer);
        }
        let default = match defaults.get(key.name) {
            Some(Value::String(text)) if text.is_empty() => "none".into(),
            Some(value) => format!("`{value}`"),
            None if outer == "optimizer" && !["clip_norm", "groups", "own"].contains(&inner) => OMITTED.into(),
            None => "none".into(),
        };
        row(&mut page, key, inner, &default);
        let is_last = KEYS.get(i + 1).is_none_or(|next| !next.name.starts_with(&format!("{outer}.")));
        if outer == "optimizer" && is_last {
            heading(&mut page, "`[[optimizer.groups]]`".into());
            for key in GROUP_KEYS {
                let default = match group.as_ref().and_then(|group| group.get(key.name)) {
                    Some(value) if key.name != "match" => format!("`{value}`"),
                    _ if key.name == "frozen" => "`false`".into(),
                    _ => "none".into(),
                };
                row(&mut page, key, key.name, &default);
            }
        }
    }
    page
}

fn heading(page: &mut String, heading: String) {
    let _ = write!(page, "\n## {heading}\n\n| key | flag | default | values | meaning |\n|---|---|---|---|---|\n");
}

fn row(page: &mut String, key: &Key, name: &str, default: &str) {
    let flag = key.flag.map_or(String::new(), |flag| format!("`--{}`", flag.name));
    let idle = match key.ineffective {
        "" => String::new(),
        words => format!(" No effect where {words}."),
    };
    let values = key.values().replace('|', "\\|");
    let _ = writeln!(page, "| `{name}` | {flag} | {default} | {values} | {}{idle} |", key.about);
}
