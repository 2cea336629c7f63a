//! The most memory that a call takes at any moment, counted by the allocator of the test program. A reader that believes a
//! header's claims is caught so, even where the system would hand out memory that nobody touches.

use std::alloc::System;
use std::cell::Cell;
use std::sync::Once;
use tracking_allocator::{AllocationGroupId, AllocationRegistry, AllocationTracker, Allocator};

#[global_allocator]
static ALLOCATOR: Allocator<System> = Allocator::system();

/// 1 MiB: what reading a file of at most 16 KiB may take, for buffers, unpacking (deflate makes a thousand of one byte) and
/// parsed text.
pub const MOST: usize = 1 << 20;

thread_local! {
    /// Bytes that this thread holds, and the most it held, since a call began. Blocks from before may be given back.
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
    /// The most that any call of this thread took: each test has a thread of its own.
    static LARGEST: Cell<isize> = const { Cell::new(0) };
}

struct Counter;

impl AllocationTracker for Counter {
    fn allocated(&self, _: usize, size: usize, _: usize, _: AllocationGroupId) {
        let held = HELD.get() + size as isize;
        HELD.set(held);
        PEAK.set(PEAK.get().max(held));
    }
    fn deallocated(&self, _: usize, size: usize, _: usize, _: AllocationGroupId, _: AllocationGroupId) {
        HELD.set(HELD.get() - size as isize);
    }
}

/// Calls `read`, which works on this thread alone, and gives what it gives. The test's output tells the largest peak so far
/// (`cargo test -- --show-output`).
///
/// # Panics
/// It held more than `most` bytes at a time.
pub fn within<T>(most: usize, read: impl FnOnce() -> T) -> T {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        AllocationRegistry::set_global_tracker(Counter).expect("nobody else tracks");
        AllocationRegistry::enable_tracking();
    });
    HELD.set(0);
    PEAK.set(0);
    let value = read();
    let peak = PEAK.get();
    if peak > LARGEST.get() {
        LARGEST.set(peak);
        println!("at most {peak} bytes of memory");
    }
    assert!(peak <= most as isize, "expected at most {most} bytes of memory, found {peak}");
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_counts_and_not_the_sum() {
        let thrice = || (0..3).for_each(|_| drop(std::hint::black_box(vec![1u8; 1000])));
        within(1000, thrice);
        assert!(std::panic::catch_unwind(|| within(999, thrice)).is_err());
        // Memory that is never touched counts too.
        assert!(std::panic::catch_unwind(|| within(MOST, || Vec::<u8>::with_capacity(MOST + 1))).is_err());
    }
}
