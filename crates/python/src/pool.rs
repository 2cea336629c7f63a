//! Where Rust computes: on a pool of threads of the package's own, without the lock of the interpreter, and with panics caught.
//!
//! A process that is forked has no threads but the one that forked. So the pool is made on its first use, and forgotten in a child.

use crate::errors::{ConfigError, InternalError, Result, of_panic};
use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

/// The most threads: more than any machine has, and few enough to be started.
const MOST: usize = 1024;

/// How often a long computation looks for Ctrl-C.
const LOOK: Duration = Duration::from_millis(20);

/// The pools of threads. Work that goes to another thread and back costs more than a small step takes, so the first thread that computes is a
/// member of its pool, `home`, and computes itself. All other threads hand their work to the pool `common`. A thread can be a member once:
/// after a change of the number of threads, it hands its work over too.
struct Threads {
    /// As many as were asked for; 0 is one per core.
    count: usize,
    home: Home,
    common: Option<Arc<ThreadPool>>,
}

/// The pool of the first thread that computes.
enum Home {
    None,
    Of(ThreadId, Arc<ThreadPool>),
    /// It was for another number of threads, or is that of the process which forked this one.
    Gone,
}

static THREADS: Mutex<Threads> = Mutex::new(Threads { count: 0, home: Home::None, common: None });

fn threads() -> MutexGuard<'static, Threads> {
    THREADS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn built(builder: ThreadPoolBuilder) -> PyResult<Arc<ThreadPool>> {
    let pool = builder.thread_name(|i| format!("fixnet-{i}")).build();
    Ok(Arc::new(pool.map_err(|e| InternalError::new_err(format!("the threads of fixnet cannot be started: {e}")))?))
}

/// The pool of the calling thread.
fn pool() -> PyResult<Arc<ThreadPool>> {
    let (mut threads, caller) = (threads(), std::thread::current().id());
    match &threads.home {
        Home::Of(thread, pool) if *thread == caller => return Ok(pool.clone()),
        Home::None => {
            let pool = built(ThreadPoolBuilder::new().num_threads(threads.count).use_current_thread())?;
            threads.home = Home::Of(caller, pool.clone());
            return Ok(pool);
        }
        Home::Of(..) | Home::Gone => {}
    }
    common(&mut threads)
}

/// The pool of threads that are members of none.
fn common(threads: &mut Threads) -> PyResult<Arc<ThreadPool>> {
    if let Some(pool) = &threads.common {
        return Ok(pool.clone());
    }
    let pool = built(ThreadPoolBuilder::new().num_threads(threads.count))?;
    Ok(threads.common.insert(pool).clone())
}

/// Sets the number of threads; results do not depend on it.
#[pyfunction]
pub(crate) fn set_num_threads(count: usize) -> PyResult<()> {
    if !(1..=MOST).contains(&count) {
        return Err(ConfigError::new_err(format!("set_num_threads: expected 1 to {MOST}, found {count}")));
    }
    let mut threads = threads();
    let is_same = match &threads.home {
        Home::Of(_, pool) => pool.current_num_threads() == count,
        _ => threads.count == count,
    };
    if !is_same {
        threads.leave_home();
        // Whoever computes on the old pool goes on there.
        threads.common = None;
    }
    threads.count = count;
    Ok(())
}

impl Threads {
    /// From now on no thread is at home.
    fn leave_home(&mut self) {
        self.home = match std::mem::replace(&mut self.home, Home::Gone) {
            // Its threads are not waited for: the one that calls is among them.
            Home::Of(_, pool) => {
                std::mem::forget(pool);
                Home::Gone
            }
            other => other,
        };
    }
}

/// Returns the number of threads.
#[pyfunction]
pub(crate) fn get_num_threads() -> PyResult<usize> {
    Ok(pool()?.current_num_threads())
}

thread_local! {
    /// Held while the process forks, so that no other thread holds it then.
    static FORKING: RefCell<Option<MutexGuard<'static, Threads>>> = const { RefCell::new(None) };
}

/// Is called before the process forks.
#[pyfunction]
pub(crate) fn before_fork() {
    FORKING.with(|held| *held.borrow_mut() = Some(threads()));
}

/// Is called after the process has forked, in both processes.
#[pyfunction]
pub(crate) fn after_fork(is_child: bool) {
    FORKING.with(|held| {
        if let Some(mut threads) = held.borrow_mut().take()
            && is_child
        {
            // Their threads do not exist here: nobody can wait for their end.
            std::mem::forget(threads.common.take());
            threads.leave_home();
        }
    });
}

/// Computes without the lock of the interpreter.
pub(crate) fn compute<T: Send>(py: Python<'_>, work: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    py.detach(|| {
        let pool = pool()?;
        caught(|| pool.install(work))
    })
}

fn caught<T>(work: impl FnOnce() -> Result<T>) -> PyResult<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => Ok(result?),
        Err(panic) => Err(of_panic(&*panic)),
    }
}

/// Computes for long: `look` is called on the calling thread every few milliseconds, until it gives an error or the work is done. An error,
/// such as that of Ctrl-C, sets `stop`; the work is expected to come to an end soon then. The error is returned with what was computed.
pub(crate) fn compute_watched<T: Send>(
    py: Python<'_>,
    stop: &AtomicBool,
    mut look: impl FnMut(Python<'_>) -> PyResult<()> + Send,
    work: impl FnOnce() -> Result<T> + Send,
) -> (PyResult<T>, Option<PyErr>) {
    py.detach(|| {
        let pool = match common(&mut threads()) {
            Ok(pool) => pool,
            Err(e) => return (Err(e), None),
        };
        let waiting = std::thread::current();
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                let result = caught(|| pool.install(work));
                waiting.unpark();
                result
            });
            let mut error = None;
            while !worker.is_finished() {
                std::thread::park_timeout(LOOK);
                if error.is_none() {
                    error = Python::attach(|py| py.check_signals().and_then(|()| look(py))).err();
                    stop.store(error.is_some() || stop.load(Ordering::Relaxed), Ordering::Relaxed);
                }
            }
            let result = worker.join().unwrap_or_else(|panic| Err(of_panic(&*panic)));
            // What came last is seen too.
            let error = error.or_else(|| Python::attach(look).err());
            (result, error)
        })
    })
}
