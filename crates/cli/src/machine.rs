//! The threads and the instruction set of a command. Neither ever changes a result.

use crate::usage;
use anyhow::{Context, Result, anyhow};
use fixnet::kernel::{Isa, isa, isa_from_env, set_isa};

/// The most threads: more than any machine has, and few enough to be started.
const MOST: usize = 1024;

/// The argument that caps the instruction set.
#[derive(clap::Args)]
pub(crate) struct Cap {
    /// Cap the instruction set (`fixnet info` lists them); never changes the result
    #[arg(long)]
    isa: Option<String>,
}

impl Cap {
    /// Puts the instruction set in force: that of the flag, or of FIXNET_ISA, or the best there is.
    pub(crate) fn enter(&self) -> Result<Isa> {
        match &self.isa {
            Some(name) => name.parse().and_then(set_isa).map_err(|e| usage(anyhow!(e)))?,
            None => {
                isa_from_env().map_err(|e| usage(anyhow!("FIXNET_ISA: {e}")))?;
            }
        }
        Ok(isa())
    }
}

/// Arguments of every command that computes.
#[derive(clap::Args)]
pub(crate) struct Machine {
    /// Threads (default: all cores); never changes the result
    #[arg(long)]
    threads: Option<usize>,
    #[command(flatten)]
    cap: Cap,
}

impl Machine {
    /// Runs `work` on the threads and the instruction set asked for.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce(Isa) -> Result<T> + Send) -> Result<T> {
        let isa = self.cap.enter()?;
        if let Some(odd) = self.threads.filter(|n| !(1..=MOST).contains(n)) {
            return Err(usage(anyhow!("--threads: expected 1 to {MOST}, found {odd}")));
        }
        let builder = || rayon::ThreadPoolBuilder::new().num_threads(self.threads.unwrap_or(0));
        // On a thread of the pool, so that handing out work never crosses from outside.
        match builder().build_global() {
            Ok(()) => rayon::scope(|_| work(isa)),
            // A program has a pool already, from an earlier call or of its own.
            Err(_) => builder().build().context("thread pool")?.install(|| work(isa)),
        }
    }
}

/// Does `work` up to `jobs` times at once, each on its share of the threads, at least one.
pub(crate) fn share(jobs: usize, work: impl Fn() + Sync) -> Result<()> {
    let threads = rayon::current_num_threads();
    let jobs = jobs.min(threads);
    let pool = |job: usize| rayon::ThreadPoolBuilder::new().num_threads((threads + job) / jobs).build();
    let pools = (0..jobs).map(pool).collect::<Result<Vec<_>, _>>().context("thread pool")?;
    std::thread::scope(|scope| {
        for pool in &pools {
            scope.spawn(|| pool.install(&work));
        }
    });
    Ok(())
}
