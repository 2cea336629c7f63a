//! Ctrl-C, SIGTERM and SIGHUP: the first one lets the step finish and the run be saved. A second one ends the process at once, which
//! loses what came after the last checkpoint and nothing else.
//!
//! SIGHUP, which a terminal sends when it closes, counts as SIGTERM, unless the process was started to ignore it, as `nohup` does.
//! SIGUSR1 saves the run, which then goes on: batch systems send it some time before they end a job.
//!
//! One request often arrives as two signals: timeout(1), service managers and batch systems send theirs to a process and
//! then to its group. So the second signal counts only if it is a person's second Ctrl-C or comes a second later.

use crate::INTERRUPTED;
use anyhow::{Context, Result};
#[cfg(unix)]
use signal_hook::consts::{SIGHUP, SIGUSR1};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
#[cfg(unix)]
use std::time::{Duration, Instant};

static REQUESTED: AtomicBool = AtomicBool::new(false);
static SAVES: AtomicU64 = AtomicU64::new(0);

/// Two Ctrl-C within this time are one: nobody presses so fast.
#[cfg(unix)]
const ONE_PRESS: Duration = Duration::from_millis(50);
/// Two signals within this time are one.
#[cfg(unix)]
const ONE_REQUEST: Duration = Duration::from_secs(1);

/// Whether a signal ends the process at once, so long after the first one.
#[cfg(unix)]
fn ends_at_once(first: i32, signal: i32, after: Duration) -> bool {
    let pressed_twice = first == SIGINT && signal == SIGINT;
    after >= if pressed_twice { ONE_PRESS } else { ONE_REQUEST }
}

/// Whether this process was started with SIGHUP ignored, going by `status`, the text of `/proc/self/status`: a handler would undo
/// that. Where there is no such file, SIGHUP is left alone.
#[cfg(unix)]
fn ignores_hangup(status: Option<&str>) -> bool {
    let mask = status.and_then(|status| status.lines().find_map(|line| line.strip_prefix("SigIgn:")));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_none_or(|mask| mask >> (SIGHUP - 1) & 1 == 1)
}

/// From now on SIGUSR1 does not end this process: before a run has begun there is nothing to save.
///
/// # Errors
/// The system refuses the handler.
pub(crate) fn expect_saves() -> Result<()> {
    #[cfg(unix)]
    signal_hook::flag::register(SIGUSR1, std::sync::Arc::default()).context("handler of SIGUSR1")?;
    Ok(())
}

/// From now on [`requested`] reports the signals that end a run, and [`Saves`] those that save it.
///
/// # Errors
/// The system refuses the handlers or the thread that waits for signals.
#[cfg(unix)]
pub(crate) fn listen() -> Result<()> {
    let handlers = "handler of Ctrl-C";
    let status = std::fs::read_to_string("/proc/self/status").ok();
    let hangup = (!ignores_hangup(status.as_deref())).then_some(SIGHUP);
    let all = [SIGINT, SIGTERM, SIGUSR1].into_iter().chain(hangup);
    let mut signals = signal_hook::iterator::Signals::new(all).context(handlers)?;
    let wait = move || {
        let mut first = None;
        for signal in signals.forever() {
            match first {
                _ if signal == SIGUSR1 => drop(SAVES.fetch_add(1, Ordering::Relaxed)),
                None => {
                    first = Some((signal, Instant::now()));
                    REQUESTED.store(true, Ordering::Relaxed);
                }
                Some((earlier, at)) if ends_at_once(earlier, signal, at.elapsed()) => {
                    signal_hook::low_level::exit(INTERRUPTED.into());
                }
                Some(_) => {}
            }
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait).context(handlers)?;
    Ok(())
}

/// From now on [`requested`] reports Ctrl-C. Elsewhere than on Unix nothing sends a signal twice.
#[cfg(not(unix))]
pub(crate) fn listen() -> Result<()> {
    let requested = std::sync::Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal finds the flag unset, and sets it.
        signal_hook::flag::register_conditional_shutdown(signal, INTERRUPTED.into(), std::sync::Arc::clone(&requested))
            .and_then(|_| signal_hook::flag::register(signal, std::sync::Arc::clone(&requested)))
            .context("handler of Ctrl-C")?;
    }
    std::thread::spawn(move || {
        while !requested.load(Ordering::Relaxed) {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        REQUESTED.store(true, Ordering::Relaxed);
    });
    Ok(())
}

/// Whether the user wants to stop.
pub(crate) fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// The requests to save runs that one run has seen.
#[derive(Debug)]
pub(crate) struct Saves(u64);

impl Saves {
    /// Those so far count as seen.
    pub(crate) fn new() -> Self {
        Self(SAVES.load(Ordering::Relaxed))
    }

    /// Whether there are new ones, which count as seen from now on.
    pub(crate) fn requested(&mut self) -> bool {
        let before = std::mem::replace(self, Self::new());
        self.0 > before.0
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_nohup_ignores_the_hangup() {
        let status = |mask: &str| format!("Name:\tfixnet\nSigBlk:\t0000000000000000\nSigIgn:\t{mask}\n");
        assert!(!ignores_hangup(Some(&status("0000000000001000"))));
        assert!(ignores_hangup(Some(&status("0000000000001001"))));
        assert!(ignores_hangup(None) && ignores_hangup(Some("Name:\tfixnet\n")));
    }

    #[test]
    fn one_request_that_arrives_twice_is_one() {
        let ends = |first, signal, ms| ends_at_once(first, signal, Duration::from_millis(ms));
        // timeout(1), with and without --signal=INT.
        assert!(!ends(SIGTERM, SIGTERM, 0) && !ends(SIGINT, SIGINT, 1));
        assert!(!ends(SIGTERM, SIGTERM, 999) && !ends(SIGINT, SIGTERM, 999) && !ends(SIGTERM, SIGINT, 999));
        assert!(ends(SIGTERM, SIGTERM, 1000) && ends(SIGINT, SIGTERM, 1000) && ends(SIGTERM, SIGINT, 1000));
        assert!(ends(SIGINT, SIGINT, 50));
    }
}
