//! `fixnet recipes`: the built-in recipes, to read and to start one's own from.

use crate::out::{say, write};
use crate::usage;
use anyhow::{Result, anyhow};
use fixnet::train::Settings;
use fixnet::train::config::{self, BUILT_IN, names};
use serde_json::json;
use std::process::ExitCode;

/// Arguments of `fixnet recipes`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print this recipe
    name: Option<String>,
    /// Print all keys of a recipe: their meaning, values, defaults and flags
    #[arg(long, conflicts_with_all = ["name", "json"])]
    keys: bool,
    /// Print JSON, with all settings
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    if args.keys {
        write(config::reference().as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let wanted = |name: &str| args.name.as_deref().is_none_or(|n| n == name);
    let found: Vec<_> = BUILT_IN.iter().filter(|(name, _)| wanted(name)).collect();
    if found.is_empty() {
        let name = args.name.as_deref().unwrap_or_default();
        return Err(usage(anyhow!("recipe `{name}`: expected one of {}", names())));
    }
    if args.json {
        let all: Result<Vec<Settings>> = found.iter().map(|(name, _)| Ok(Settings::find(name)?)).collect();
        match (&all?[..], &args.name) {
            ([one], Some(_)) => say!("{}", json!(one)),
            (all, _) => say!("{}", json!(all)),
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let ([(_, text)], Some(_)) = (&found[..], &args.name) {
        write(text.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    for (name, text) in found {
        // A recipe begins with a comment that says what it is.
        let about: Vec<&str> = text.lines().map_while(|l| l.strip_prefix("# ")).collect();
        say!("{name:<18}  {}", about.join(" "));
    }
    Ok(ExitCode::SUCCESS)
}
