//! The command `fixnet` with a task, a model, a data source, a gradient rule and an update rule of our own.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    outside::register();
    fixnet_cli::main()
}
