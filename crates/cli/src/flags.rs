//! The flags that set keys of recipes. There is one list: `train` takes one value of each, `compare` a list of values.

use crate::recipe::{Recipe, SEED_MAX, value};
use crate::usage;
use anyhow::{Context, Result, anyhow, ensure};
use clap::{Arg, ArgMatches, Command, error::Error};
use toml::Value;

/// What the text of a flag stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// A text as it is.
    Text,
    /// A TOML value.
    Number,
    /// A seed, or in lists also a range of seeds.
    Seed,
}

/// A flag of `train` and `compare`.
#[derive(Debug)]
pub(crate) struct Flag {
    /// The key that it sets; with `-` for `_` the name of the flag.
    pub(crate) key: &'static str,
    /// The name of the flag where it takes a list, if that is another one.
    pub(crate) plural: Option<&'static str>,
    pub(crate) kind: Kind,
    value: &'static str,
    help: &'static str,
}

const fn flag(key: &'static str, kind: Kind, value: &'static str, help: &'static str) -> Flag {
    Flag { key, plural: None, kind, value, help }
}

const fn listed(key: &'static str, plural: &'static str, kind: Kind, value: &'static str, help: &'static str) -> Flag {
    Flag { key, plural: Some(plural), kind, value, help }
}

/// All of them, in the order of the help.
pub(crate) const FLAGS: [Flag; 16] = [
    flag("bits", Kind::Text, "W/A/G", "Bits of weights/activations/gradients, 1 to 8 or 32 for float, e.g. 4/4/4"),
    flag("epochs", Kind::Number, "EPOCHS", "Passes over the training images"),
    flag("batch_size", Kind::Number, "BATCH_SIZE", "Images per step"),
    flag("lr", Kind::Number, "LR", "First learning rate"),
    listed("seed", "seeds", Kind::Seed, "SEED", "Seed of all randomness"),
    flag(
        "data",
        Kind::Text,
        "KIND:PATH",
        "digits, photo-digits[:seen], mnist:PATH, cifar10:PATH, cifar100:PATH, folder:PATH (PNG, JPEG) or npz:PATH",
    ),
    flag(
        "validation",
        Kind::Number,
        "SHARE",
        "Set this share of the training images apart and evaluate on it after each epoch",
    ),
    flag(
        "model",
        Kind::Text,
        "MODEL",
        "The model: mlp, mlp:512-512, lenet, resnet8, resnet20, resnet32, resnet44, resnet56, resnet18, or for large images \
         resnet18-imagenet, resnet34-imagenet, resnet50-imagenet",
    ),
    flag(
        "scheme",
        Kind::Text,
        "SCHEME",
        "How weights and activations are quantized: lbt, or trs (no scale behind the product)",
    ),
    flag(
        "weight_scales",
        Kind::Text,
        "tensor|channel",
        "One scale per weight tensor (tensor), or one per output channel (channel)",
    ),
    flag("scales", Kind::Text, "learned|fixed", "Whether the scales of quantizers are learned or fixed"),
    listed(
        "gradient_rule",
        "gradient-rules",
        Kind::Text,
        "RULE",
        "How gradient quantizers choose their interval: lbt[:ALPHA:BETA], min-max, fixed:GAMMA, mse[:EVERY], dsgc[:EVERY]",
    ),
    flag("gradient_rounding", Kind::Text, "stochastic|nearest", "How gradients are rounded: stochastic or nearest"),
    listed(
        "optimizer",
        "optimizers",
        Kind::Text,
        "OPTIMIZER",
        "sgd, adam, adamw, nadam, adamax, rmsprop or adagrad; with a t at the end, transition-rate scheduling (sgdt, …). One \
         of another update rule than the recipe's comes with its usual learning rate and settings",
    ),
    flag("edges", Kind::Number, "EDGES", "Bits of the first convolution and the classifier, 32 for float"),
    flag(
        "init",
        Kind::Text,
        "CHECKPOINT",
        "Start from the weights of another run or checkpoint: a folder or a safetensors file",
    ),
];

impl Flag {
    /// The name of the flag.
    pub(crate) fn name(&self) -> String {
        self.key.replace('_', "-")
    }

    /// The value that a text stands for; of a list, one of its parts, which may be a text in quotes.
    pub(crate) fn value(&self, text: &str, part: bool) -> Value {
        match self.kind {
            Kind::Text if !(part && text.starts_with(['"', '\''])) => Value::from(text),
            _ => value(text),
        }
    }

    fn arg(&self, lists: bool) -> Arg {
        let arg = Arg::new(self.key).help(self.help).allow_negative_numbers(self.kind != Kind::Text);
        match (lists, self.plural) {
            (false, _) => arg.long(self.name()).value_name(self.value),
            (true, None) => arg.long(self.name()).value_name(format!("{},…", self.value)),
            (true, Some(plural)) => {
                let range = if self.kind == Kind::Seed { "|A..B" } else { "" };
                arg.long(plural).alias(self.name()).value_name(format!("{},…{range}", self.value))
            }
        }
    }
}

/// The flags that were given, with their texts; with `LISTS` each is a list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flags<const LISTS: bool> {
    given: Vec<(&'static Flag, String)>,
}

impl<const LISTS: bool> Flags<LISTS> {
    /// The flags that were given, with their texts.
    pub(crate) fn given(&self) -> impl Iterator<Item = (&'static Flag, &str)> {
        self.given.iter().map(|(flag, text)| (*flag, text.as_str()))
    }
}

impl Flags<false> {
    /// Sets the keys of the flags that were given and that `which` wants.
    pub(crate) fn set(&self, recipe: &mut Recipe, which: impl Fn(&str) -> bool) -> Result<()> {
        for (flag, text) in self.given().filter(|(flag, _)| which(flag.key)) {
            let set = |recipe: &mut Recipe| {
                let seed = text.parse::<u64>().is_ok_and(|seed| seed <= SEED_MAX);
                ensure!(seed || flag.kind != Kind::Seed, "expected 0 to {SEED_MAX}, found {text}");
                recipe.set_value(flag.key, flag.value(text, false)).map_err(|e| anyhow!("{e} (found {text})"))
            };
            set(recipe).with_context(|| format!("--{}", flag.name())).map_err(usage)?;
        }
        Ok(())
    }
}

impl<const LISTS: bool> clap::Args for Flags<LISTS> {
    fn augment_args(command: Command) -> Command {
        FLAGS.iter().fold(command, |command, flag| command.arg(flag.arg(LISTS)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<const LISTS: bool> clap::FromArgMatches for Flags<LISTS> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let text = |flag: &'static Flag| Some((flag, matches.get_one::<String>(flag.key)?.clone()));
        Ok(Self { given: FLAGS.iter().filter_map(text).collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A flag sets a key of recipes, with a text where the key holds one.
    #[test]
    fn every_flag_sets_a_key() {
        let mut keys = toml::Table::try_from(Recipe::default()).unwrap();
        keys.extend([("lr".into(), Value::from(0.1)), ("init".into(), Value::from("run"))]);
        for flag in &FLAGS {
            assert_eq!(keys[flag.key].is_str(), flag.kind == Kind::Text, "{}", flag.key);
        }
        assert_eq!(FLAGS[5].value("'npz:a,b.npz'", true), Value::from("npz:a,b.npz"));
        assert_eq!(FLAGS[5].value("1", true), Value::from("1"));
        assert_eq!(FLAGS[1].value("3", true), Value::from(3));
    }
}
