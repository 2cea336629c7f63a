//! The program `fixnet`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    fixnet_cli::main()
}
