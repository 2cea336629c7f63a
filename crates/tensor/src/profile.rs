//! Where the time of a step goes: spans around the passes and products of the thread that trains.
//!
//! Off unless [`start`] was called on this thread; then every [`span`] and [`mark`] is added up by kind and layer. The
//! clock is read here and nowhere else in the library, and nothing that is computed depends on it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What a kind of work in a layer came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line {
    /// The kind of work, as in `product` or `batch_norm backward`.
    pub kind: &'static str,
    /// The layer, where the work knows it.
    pub layer: String,
    /// How often it was done.
    pub calls: u64,
    /// Time of its own, without the spans inside it.
    pub time: Duration,
    /// Bytes read and written, by the sizes of the operands.
    pub bytes: u64,
    /// Multiply-adds.
    pub macs: u64,
}

/// What one call moves and computes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Work {
    /// Bytes read and written.
    pub bytes: usize,
    /// Multiply-adds.
    pub macs: u64,
}

struct Profile {
    lines: BTreeMap<(&'static str, String), Line>,
    last: Instant,
    /// Time since `last` that spans have taken.
    inside: Duration,
}

thread_local! {
    static PROFILE: RefCell<Option<Profile>> = const { RefCell::new(None) };
}

/// Starts anew on this thread.
pub fn start() {
    let profile = Profile { lines: BTreeMap::new(), last: Instant::now(), inside: Duration::ZERO };
    PROFILE.set(Some(profile));
}

/// Ends the profile of this thread and gives its lines, those that took longest first.
pub fn stop() -> Vec<Line> {
    let profile = PROFILE.take();
    let mut lines: Vec<Line> = profile.map(|p| p.lines.into_values().collect()).unwrap_or_default();
    lines.sort_by_key(|l| std::cmp::Reverse(l.time));
    lines
}

impl Profile {
    fn add(&mut self, kind: &'static str, layer: &str, time: Duration, work: Work) {
        let line = self.lines.entry((kind, layer.to_string())).or_insert_with(|| Line {
            kind,
            layer: layer.to_string(),
            ..Line::default()
        });
        line.calls += 1;
        line.time += time;
        line.bytes += work.bytes as u64;
        line.macs += work.macs;
    }
}

/// Runs `f`; its time goes to `kind` in `layer`. Spans do not nest.
pub fn span<R>(kind: &'static str, layer: &str, work: impl FnOnce(&R) -> Work, f: impl FnOnce() -> R) -> R {
    if PROFILE.with_borrow(Option::is_none) {
        return f();
    }
    let start = Instant::now();
    let result = f();
    let time = start.elapsed();
    let work = work(&result);
    PROFILE.with_borrow_mut(|profile| {
        if let Some(profile) = profile {
            profile.add(kind, layer, time, work);
            profile.inside += time;
        }
    });
    result
}

/// Gives `kind` the time since the last mark that no span has taken.
pub fn mark(kind: &'static str) {
    PROFILE.with_borrow_mut(|profile| {
        if let Some(profile) = profile {
            let now = Instant::now();
            let time = (now - profile.last).saturating_sub(profile.inside);
            profile.add(kind, "", time, Work::default());
            profile.last = now;
            profile.inside = Duration::ZERO;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_counted_only_between_start_and_stop() {
        let work = |_: &i32| Work { bytes: 10, macs: 3 };
        assert_eq!(span("a", "l", work, || 7), 7);
        assert!(stop().is_empty());
        start();
        span("a", "l", work, || 1);
        span("a", "l", work, || 2);
        span("a", "m", work, || 3);
        mark("rest");
        let lines = stop();
        let find =
            |kind: &str, layer: &str| lines.iter().find(|l| l.kind == kind && l.layer == layer).cloned().unwrap();
        let line = find("a", "l");
        assert_eq!((line.calls, line.bytes, line.macs), (2, 20, 6));
        assert_eq!(find("a", "m").calls, 1);
        assert_eq!(find("rest", "").calls, 1);
        assert!(stop().is_empty());
    }
}
