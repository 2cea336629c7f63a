//! The flags that set keys of recipes, from the one table of keys: `train` takes one value of each, `compare` a list of values.

use crate::usage;
use anyhow::{Context, Result, anyhow, ensure};
use clap::{Arg, ArgMatches, Command, error::Error};
use fixnet::train::Settings;
use fixnet::train::config::{Flag, KEYS, Key, Kind, SEED_MAX, value_for, value_of};
use toml::Value;

/// The keys that have flags, with these, in the order of the table.
pub(crate) fn flags() -> impl Iterator<Item = (&'static Key, Flag)> {
    KEYS.iter().filter_map(|key| Some((key, key.flag?)))
}

/// The value that the text of a flag stands for; of a list, one of its parts, which may be a text in quotes.
pub(crate) fn value(key: &Key, flag: Flag, text: &str, part: bool) -> Value {
    match flag.kind {
        _ if key.holds_list && (!part || text.starts_with('[') || text.contains(',')) => value_for(key.name, text),
        Kind::Text if !(part && text.starts_with(['"', '\''])) => Value::from(text),
        _ => value_of(text),
    }
}

fn arg(key: &'static Key, flag: Flag, lists: bool) -> Arg {
    let help = format!("{} [{}]", key.about.trim_end_matches('.'), key.values());
    let arg = Arg::new(key.name).help(help).allow_negative_numbers(flag.kind != Kind::Text);
    match (lists, flag.plural) {
        (false, _) => arg.long(flag.name).value_name(flag.value),
        (true, None) => arg.long(flag.name).value_name(format!("{},…", flag.value)),
        (true, Some(plural)) => {
            let range = if flag.kind == Kind::Seed { "|A..B" } else { "" };
            arg.long(plural).alias(flag.name).value_name(format!("{},…{range}", flag.value))
        }
    }
}

/// The flags that were given, with their texts; with `LISTS` each is a list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flags<const LISTS: bool> {
    given: Vec<(&'static Key, Flag, String)>,
}

impl<const LISTS: bool> Flags<LISTS> {
    /// The flags that were given, with their texts.
    pub(crate) fn given(&self) -> impl Iterator<Item = (&'static Key, Flag, &str)> {
        self.given.iter().map(|(key, flag, text)| (*key, *flag, text.as_str()))
    }
}

impl Flags<false> {
    /// Sets the keys of the flags that were given and that `which` wants.
    pub(crate) fn set(&self, settings: &mut Settings, which: impl Fn(&str) -> bool) -> Result<()> {
        for (key, flag, text) in self.given().filter(|(key, ..)| which(key.name)) {
            let set = |settings: &mut Settings| {
                let seed = text.parse::<u64>().is_ok_and(|seed| seed <= SEED_MAX);
                ensure!(seed || flag.kind != Kind::Seed, "expected 0 to {SEED_MAX}, found {text}");
                settings.set(key.name, value(key, flag, text, false)).map_err(|e| anyhow!("{e} (found {text})"))
            };
            set(settings).with_context(|| format!("--{}", flag.name)).map_err(usage)?;
        }
        Ok(())
    }
}

impl<const LISTS: bool> clap::Args for Flags<LISTS> {
    fn augment_args(command: Command) -> Command {
        flags().fold(command, |command, (key, flag)| command.arg(arg(key, flag, LISTS)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<const LISTS: bool> clap::FromArgMatches for Flags<LISTS> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let text = |(key, flag): (&'static Key, Flag)| Some((key, flag, matches.get_one::<String>(key.name)?.clone()));
        Ok(Self { given: flags().filter_map(text).collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixnet::train::config::find_by_flag;

    /// A flag reads a text where the key holds one.
    #[test]
    fn every_flag_sets_a_key() {
        let mut values = Settings::default().values();
        values.extend([
            ("data.target".into(), Value::from("age")),
            ("optimizer.lr".into(), Value::from(0.1)),
            ("run.init".into(), Value::from("run")),
            ("loss.teacher".into(), Value::from("run")),
        ]);
        values.extend([("run.keep_best".into(), Value::from("loss")), ("run.patience".into(), Value::from(3))]);
        for (key, flag) in flags() {
            assert_eq!(values[key.name].is_str(), flag.kind == Kind::Text, "{}", key.name);
        }
        let read = |name: &str, text: &str, part: bool| {
            let key = find_by_flag(name).unwrap();
            value(key, key.flag.unwrap(), text, part)
        };
        assert_eq!(read("data", "'npz:a,b.npz'", true), Value::from("npz:a,b.npz"));
        assert_eq!(read("data", "1", true), Value::from("1"));
        assert_eq!(read("epochs", "3", true), Value::from(3));
        // A key that holds a list takes one without brackets.
        assert_eq!(read("class-weights", "1, 2.5", false), Value::from(vec![Value::from(1), Value::from(2.5)]));
        assert_eq!(read("class-weights", "[1, 2]", true), Value::from(vec![1, 2]));
        assert_eq!(read("class-weights", "1,2", true), Value::from(vec![1, 2]));
        assert_eq!(read("class-weights", "balanced", true), Value::from("balanced"));
    }
}
