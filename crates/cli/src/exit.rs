//! Exit codes: one list of them, from which the help and the reference page are made.

/// Failed.
const FAILED: u8 = 1;
/// The command line asks for something that makes no sense.
pub(crate) const USAGE: u8 = 2;
/// Stopped by the user, with everything saved; what shells give for Ctrl-C.
pub(crate) const INTERRUPTED: u8 = 130;

/// Every exit code with its meaning.
pub(crate) const CODES: [(u8, &str); 4] = [
    (0, "done"),
    (FAILED, "failed; or `verify` found a difference, a run of `compare` failed, or `predict` could not read an input"),
    (USAGE, "the command line makes no sense; nothing was done"),
    (INTERRUPTED, "stopped by Ctrl-C, SIGTERM or SIGHUP; what was trained is saved"),
];
