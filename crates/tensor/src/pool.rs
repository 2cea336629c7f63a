//! Typed free lists of buffers, so that a training step after the first takes nothing of note from the allocator.
//!
//! A [`Buffer`] is a `Vec` that returns to the list of its element type and size class when it is dropped. Reused
//! vectors keep their old, initialized contents, so "take a buffer, contents unspecified" needs no `unsafe`.
//! Results never depend on the pool: whoever takes a buffer writes every element, or asks for zeros.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Buffers below this many bytes are not pooled: the allocator is fast for them.
const POOLED_FROM: usize = 4096;
/// Free buffers kept for each size class.
const KEPT: usize = 256;

/// A type with a free list of its own.
pub trait Element: Copy + Default + Send + Sync + 'static {
    /// The free lists, one a size class.
    #[doc(hidden)]
    fn lists() -> &'static Lists<Self>;
}

/// Free vectors by size class (powers of two and the steps half-way between).
#[doc(hidden)]
pub struct Lists<T>(Mutex<Vec<Vec<Vec<T>>>>);

static HITS: AtomicU64 = AtomicU64::new(0);
static MISSES: AtomicU64 = AtomicU64::new(0);

/// How often [`Buffer::take`] found a free buffer (`hits`) or had to allocate one above 4 KiB (`misses`), process-wide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolStats {
    /// Requests served from a free list.
    pub hits: u64,
    /// Requests that allocated.
    pub misses: u64,
}

/// The counters of the pool since the start of the process.
pub fn pool_stats() -> PoolStats {
    PoolStats { hits: HITS.load(Ordering::Relaxed), misses: MISSES.load(Ordering::Relaxed) }
}

macro_rules! element {
    ($($t:ty),*) => {$(
        impl Element for $t {
            fn lists() -> &'static Lists<Self> {
                static LISTS: Lists<$t> = Lists(Mutex::new(Vec::new()));
                &LISTS
            }
        }
    )*};
}
element!(f32, f64, u16, i16, i32, i64, u8, i8, u32, u64, usize, [f32; 2], [i32; 2], [u32; 4], (i64, i64), (i64, i128));

/// The size class of a length: its index and its capacity. Classes grow by steps of 1.5 and 1.33, so at most a third of
/// a buffer lies idle.
fn class(len: usize) -> (usize, usize) {
    let power = len.next_power_of_two().max(2);
    let index = 2 * power.trailing_zeros() as usize;
    let between = power / 4 * 3;
    if len <= between { (index - 1, between) } else { (index, power) }
}

/// A pooled vector. Dereferences to a slice; dropping it returns the memory to the pool.
pub struct Buffer<T: Element> {
    /// As long as its capacity where it comes from the pool: were it cut to each length that it serves, every longer one
    /// would have to initialize the rest again.
    vec: Vec<T>,
    len: usize,
}

impl<T: Element> Buffer<T> {
    /// A buffer of `len` elements whose contents are unspecified (but initialized): write all of it.
    pub fn take(len: usize) -> Self {
        if len * size_of::<T>() < POOLED_FROM {
            return Self { vec: vec![T::default(); len], len };
        }
        let (index, capacity) = class(len);
        let free = {
            let mut lists = T::lists().0.lock().unwrap_or_else(|e| e.into_inner());
            lists.get_mut(index).and_then(Vec::pop)
        };
        let vec = match free {
            Some(mut vec) => {
                HITS.fetch_add(1, Ordering::Relaxed);
                if vec.len() < len {
                    vec.resize(capacity, T::default());
                }
                vec
            }
            None => {
                MISSES.fetch_add(1, Ordering::Relaxed);
                vec![T::default(); capacity]
            }
        };
        Self { vec, len }
    }

    /// A buffer of `len` zeros.
    pub fn zeroed(len: usize) -> Self {
        let mut buffer = Self::take(len);
        buffer.fill(T::default());
        buffer
    }
}

impl<T: Element> Drop for Buffer<T> {
    fn drop(&mut self) {
        let capacity = self.vec.capacity();
        if capacity * size_of::<T>() < POOLED_FROM {
            return;
        }
        // A vector that came from outside has any capacity: it enters the class that it can always serve.
        let (mut index, needed) = class(capacity);
        if needed > capacity {
            index -= 1;
        }
        let mut lists = T::lists().0.lock().unwrap_or_else(|e| e.into_inner());
        if lists.len() <= index {
            lists.resize_with(index + 1, Vec::new);
        }
        if lists[index].len() < KEPT {
            lists[index].push(std::mem::take(&mut self.vec));
        }
    }
}

impl<T: Element> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        let mut copy = Self::take(self.len());
        copy.copy_from_slice(self);
        copy
    }
}

impl<T: Element> From<Vec<T>> for Buffer<T> {
    fn from(vec: Vec<T>) -> Self {
        let len = vec.len();
        Self { vec, len }
    }
}

impl<T: Element> FromIterator<T> for Buffer<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let items = items.into_iter();
        let mut buffer = Self::take(items.size_hint().0);
        buffer.vec.clear();
        buffer.vec.extend(items);
        buffer.len = buffer.vec.len();
        buffer
    }
}

impl<T: Element> Deref for Buffer<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.vec[..self.len]
    }
}

impl<T: Element> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.vec[..self.len]
    }
}

impl<T: Element + PartialEq> PartialEq for Buffer<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Element + fmt::Debug> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_hold_what_they_promise() {
        for len in 1..5000 {
            let (index, capacity) = class(len);
            assert!(capacity >= len && capacity * 2 <= len * 3 + 4, "{len}: {capacity}");
            assert!(class(capacity) == (index, capacity));
        }
    }

    #[test]
    fn a_dropped_buffer_serves_again_at_any_length() {
        let mut first = Buffer::<i64>::take(100_000);
        first.fill(7);
        let address = first.as_ptr();
        drop(first);
        let again = Buffer::<i64>::take(99_000);
        assert_eq!(again.as_ptr(), address);
        assert_eq!(again.len(), 99_000);
        drop(again);
        assert!(Buffer::<i64>::zeroed(98_000).iter().all(|&x| x == 0));
        // What a longer life has written is still there behind a shorter one: nothing was cleared in between.
        let mut long = Buffer::<i64>::take(100_000);
        long[99_999] = 5;
        drop(long);
        drop(Buffer::<i64>::take(99_000));
        assert_eq!(Buffer::<i64>::take(100_000)[99_999], 5);
        // The length is what was asked for, in comparisons too.
        assert_ne!(Buffer::<i64>::zeroed(90_000), Buffer::<i64>::zeroed(90_001));
        // Vectors from outside must never serve a length above their capacity.
        drop(Buffer::<i64>::from(Vec::with_capacity(70_001)));
        assert_eq!(Buffer::<i64>::take(98_304).len(), 98_304);
    }
}
