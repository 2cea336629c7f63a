//! `fixnet reference`: the generated pages of `docs/reference`. Commands are described by the command line itself, exit codes and
//! keys of recipes by their lists. A test compares the pages in the repository with these.

use crate::exit::CODES;
use crate::out::say;
use anyhow::{Context, Result};
use clap::{Arg, ArgAction, Command, CommandFactory};
use fixnet::train::{config, networks};
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `fixnet reference`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder of the pages: docs/reference of a clone
    folder: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    for (name, page) in pages().into_iter().chain([("networks.md", networks_page()?)]) {
        let path = args.folder.join(name);
        fixnet::files::write(&path, page.as_bytes()).with_context(|| path.display().to_string())?;
        say!("{}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// The page of all networks: their first training steps, taken now.
fn networks_page() -> Result<String> {
    let scratch = std::env::temp_dir().join(format!("fixnet-reference-{}", std::process::id()));
    fixnet::files::create_folder(&scratch).with_context(|| scratch.display().to_string())?;
    let rows = networks::rows(&scratch);
    std::fs::remove_dir_all(&scratch).with_context(|| scratch.display().to_string())?;
    Ok(networks::page(&rows?))
}

/// The other pages by the names of their files.
fn pages() -> [(&'static str, String); 3] {
    [
        ("commands.md", commands(&crate::Cli::command())),
        ("exit-codes.md", exit_codes()),
        ("recipe.md", config::reference()),
    ]
}

fn exit_codes() -> String {
    let mut page = String::from(
        "# Exit codes\n\nThe same for every command. Messages go to the standard error, results to the standard output.\n\n\
         | code | meaning |\n|---|---|\n",
    );
    for (code, meaning) in CODES {
        let _ = writeln!(page, "| {code} | {meaning} |");
    }
    page.push_str(
        "\nA second Ctrl-C ends the process at once, with the same code. What was trained since the last checkpoint is then lost.\n",
    );
    page
}

/// The page of all commands that are not hidden.
fn commands(all: &Command) -> String {
    let mut page = String::from(
        "# Commands\n\n`fixnet COMMAND --help` prints what this page says of a command. Values in brackets may be omitted. Exit codes \
         have [a page of their own](exit-codes.md).\n",
    );
    let shown = || all.get_subcommands().filter(|command| !command.is_hide_set());
    page.push_str("\n| command | what it does |\n|---|---|\n");
    for command in shown() {
        let (name, about) = (command.get_name(), command.get_about().map(ToString::to_string).unwrap_or_default());
        let _ = writeln!(page, "| [`{name}`](#{name}) | {} |", cell(&about));
    }
    for command in shown() {
        section(&mut page, command.clone());
    }
    page
}

fn section(page: &mut String, command: Command) {
    // Of a command alone, clap completes what its help shows.
    let name = command.get_name().to_string();
    let mut command = command.bin_name(format!("fixnet {name}")).color(clap::ColorChoice::Never);
    command.build();
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim();
    let _ = write!(page, "\n## {name}\n\n");
    if let Some(about) = command.get_about() {
        let _ = writeln!(page, "{}.", escaped(about.to_string().trim_end_matches('.')));
    }
    let _ = write!(page, "\n    {usage}\n");
    let shown: Vec<&Arg> =
        command.get_arguments().filter(|arg| !arg.is_hide_set() && arg.get_id().as_str() != "help").collect();
    if !shown.is_empty() {
        page.push_str("\n| argument | meaning |\n|---|---|\n");
    }
    for arg in shown {
        let _ = writeln!(page, "| `{}` | {} |", written(arg).replace('|', "\\|"), cell(&meaning(arg)));
    }
    if let Some(after) = command.get_after_help() {
        examples(page, &after.to_string());
    }
}

/// How an argument is written on the command line.
fn written(arg: &Arg) -> String {
    let names: Vec<&str> = arg.get_value_names().unwrap_or_default().iter().map(|name| name.as_str()).collect();
    let several = match arg.get_num_args() {
        Some(range) if range.max_values() > 1 && names.len() < 2 => "...",
        _ => "",
    };
    let optional = arg.get_num_args().is_some_and(|range| range.min_values() == 0);
    let value = format!("{}{several}", names.join(" "));
    let flag = arg.get_long().map(|long| format!("--{long}"));
    let takes_value = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append) && !value.is_empty();
    match flag {
        None if arg.is_required_set() => value,
        None => format!("[{value}]"),
        Some(flag) if !takes_value => flag,
        Some(flag) if optional => format!("{flag} [{value}]"),
        Some(flag) => format!("{flag} {value}"),
    }
}

/// What the help says of an argument, with its values.
fn meaning(arg: &Arg) -> String {
    let mut text = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let values: Vec<String> = arg.get_possible_values().iter().map(|value| value.get_name().to_string()).collect();
    let flag = matches!(arg.get_action(), ArgAction::SetTrue | ArgAction::SetFalse);
    if !values.is_empty() && !flag {
        let _ = write!(text, " [possible values: {}]", values.join(", "));
    }
    let defaults: Vec<String> =
        arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    if !defaults.is_empty() && !flag {
        let _ = write!(text, " [default: {}]", defaults.join(" "));
    }
    text
}

/// The text after a help: lines that are indented are commands or files, the others are prose.
fn examples(page: &mut String, text: &str) {
    let mut was_code = false;
    page.push('\n');
    for line in text.lines() {
        let code = line.starts_with("  ");
        if code != was_code && !line.is_empty() && !page.ends_with("\n\n") {
            page.push('\n');
        }
        match (code, line.is_empty()) {
            (_, true) => page.push('\n'),
            (true, _) => drop(writeln!(page, "    {}", &line[2..])),
            (false, _) => drop(writeln!(page, "{}", escaped(line))),
        }
        was_code = code;
    }
}

fn cell(text: &str) -> String {
    escaped(text).replace('|', "\\|").replace('\n', " ")
}

/// A text of the help, in which nothing but code in backticks is markup.
fn escaped(text: &str) -> String {
    let parts = text.split('`').enumerate().map(|(i, part)| match i % 2 {
        0 => part.replace('<', "\\<").replace('*', "\\*").replace('_', "\\_").replace('[', "\\[").replace(']', "\\]"),
        _ => part.to_string(),
    });
    parts.collect::<Vec<_>>().join("`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_pages_of_the_repository_are_these() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference");
        for (name, page) in pages() {
            let found = std::fs::read_to_string(folder.join(name)).unwrap();
            assert!(
                found == page,
                "docs/reference/{name} is not up to date; run: cargo run -- reference docs/reference"
            );
        }
    }

    /// Every network of the registry, at every task and all bits: each cell is a training step that was taken now.
    #[test]
    fn the_table_of_networks_is_what_their_steps_say() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/networks.md");
        let (found, page) = (std::fs::read_to_string(path).unwrap(), networks_page().unwrap());
        let differs = page.lines().filter(|line| !found.lines().any(|other| other == *line)).collect::<Vec<_>>();
        let words = "docs/reference/networks.md is not what the steps say; if that is meant, run: cargo run -- reference docs/reference";
        assert!(found == page, "{words}\n{}", differs.join("\n"));
        // A registry that lost its rows would make an empty page.
        assert!(page.matches("| yes |").count() > 100);
    }

    #[test]
    fn every_command_and_argument_is_on_the_page() {
        let all = crate::Cli::command();
        let page = commands(&all);
        for command in all.get_subcommands().filter(|command| !command.is_hide_set()) {
            assert!(page.contains(&format!("\n## {}\n", command.get_name())), "{}", command.get_name());
            for long in command.get_arguments().filter(|arg| !arg.is_hide_set()).filter_map(Arg::get_long) {
                assert!(page.contains(&format!("| `--{long}")), "{} --{long}", command.get_name());
            }
        }
        // Marks of Markdown in the words of a help stay words.
        assert_eq!(cell("a_b [x|y] `c_d|e`"), "a\\_b \\[x\\|y\\] `c_d\\|e`");
    }
}
