//! Ctrl-C and SIGTERM: the first one lets the step finish and the run be saved, the second one ends the process at once,
//! which loses what came after the last checkpoint and nothing else. SIGHUP is left alone, so that `nohup` works.

use crate::INTERRUPTED;
use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

static REQUESTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on [`requested`] tells of it.
pub(crate) fn listen() -> Result<()> {
    let requested = REQUESTED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal finds the flag unset, and sets it.
        flag::register_conditional_shutdown(signal, INTERRUPTED.into(), Arc::clone(requested))
            .and_then(|_| flag::register(signal, Arc::clone(requested)))
            .context("handler of Ctrl-C")?;
    }
    Ok(())
}

/// Whether the user wants to stop.
pub(crate) fn requested() -> bool {
    REQUESTED.get().is_some_and(|requested| requested.load(Ordering::Relaxed))
}
