//! `Ahead`: batches of any kind, prepared while the network computes.

use crate::Result;
use std::{
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::mpsc::{Receiver, TryRecvError, sync_channel},
    thread,
};

/// Batches that are prepared ahead of the one in use, on a pool of more than one thread.
const AHEAD: usize = 2;

/// The places of samples in their order, cut into batches, and the batches that are under way.
///
/// On a thread pool of more than one thread the next two batches are jobs of the pool, while the caller works with the one it
/// has; on one thread each is prepared when it is asked for. The number of threads does not change what comes out. An error
/// ends the iteration.
pub(crate) struct Ahead<T> {
    /// The place of the next sample that nobody prepares yet.
    next: usize,
    len: usize,
    batch_size: usize,
    /// First come first.
    under_way: VecDeque<Receiver<thread::Result<Result<T>>>>,
}

impl<T> fmt::Debug for Ahead<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { next, len, batch_size, .. } = self;
        f.debug_struct("Ahead").field("next", next).field("len", len).field("batch_size", batch_size).finish()
    }
}

impl<T: Send + 'static> Ahead<T> {
    /// Batches of `batch_size` of `len` samples.
    pub(crate) fn new(len: usize, batch_size: usize) -> Self {
        Self { next: 0, len, batch_size, under_way: VecDeque::new() }
    }

    /// Leaves out the first `count` batches.
    pub(crate) fn skip(&mut self, count: usize) {
        self.next = count.saturating_mul(self.batch_size).min(self.len);
    }

    /// The batches that are left.
    pub(crate) fn left(&self) -> usize {
        (self.len - self.next).div_ceil(self.batch_size) + self.under_way.len()
    }

    /// Takes the samples of the next batch off those to come.
    fn claim(&mut self) -> Option<(usize, usize)> {
        let (start, count) = (self.next, self.batch_size.min(self.len - self.next));
        self.next += count;
        (count > 0).then_some((start, count))
    }

    /// The next batch; `make(start, count)` prepares that of `count` samples from the place `start` on.
    pub(crate) fn next(
        &mut self,
        make: impl Fn(usize, usize) -> Result<T> + Clone + Send + 'static,
    ) -> Option<Result<T>> {
        if rayon::current_num_threads() == 1 && self.under_way.is_empty() {
            let (start, count) = self.claim()?;
            return Some(make(start, count).inspect_err(|_| self.next = self.len));
        }
        while self.under_way.len() <= AHEAD {
            let Some((start, count)) = self.claim() else { break };
            let (make, (sender, receiver)) = (make.clone(), sync_channel(1));
            rayon::spawn_fifo(move || {
                // Who no longer listens has dropped the loader.
                let _ = sender.send(catch_unwind(AssertUnwindSafe(|| make(start, count))));
            });
            self.under_way.push_back(receiver);
        }
        let batch = match wait(&self.under_way.pop_front()?) {
            Ok(batch) => batch,
            Err(panic) => resume_unwind(panic),
        };
        if batch.is_err() {
            self.next = self.len;
            self.under_way.clear();
        }
        Some(batch)
    }
}

/// Waits for a batch. A thread of the pool lends a hand meanwhile, so that the pool never waits for itself.
fn wait<T>(receiver: &Receiver<thread::Result<T>>) -> thread::Result<T> {
    loop {
        match receiver.try_recv() {
            Ok(value) => return value,
            Err(TryRecvError::Disconnected) => return Err(Box::new("a batch under way was lost")),
            Err(TryRecvError::Empty) => match rayon::yield_now() {
                Some(rayon::Yield::Executed) => {}
                Some(rayon::Yield::Idle) => thread::yield_now(),
                None => return receiver.recv().unwrap_or_else(|e| Err(Box::new(e))),
            },
        }
    }
}
