//! Element passes: one plain loop each, compiled for every vector level by `pulp` and shared by threads in fixed chunks.
//!
//! The scalar expression in each loop is its definition: IEEE arithmetic element by element has one result, and Rust
//! neither fuses nor reorders it. The vector level obeys the instruction set chosen in [`crate::kernel`].

pub use crate::dispatch::dispatch;

use crate::rng::Stream;
use crate::shared::{self, Body, Body2};

/// Elements of a chunk: what one task works on. Fixed, so that the split never depends on the number of threads.
pub const CHUNK: usize = 32_768;

/// Adding and subtracting 1.5 · 2^23 rounds |v| < 2^22 to the nearest integer, ties to even, on every machine;
/// the low bits of the sum are that integer in two's complement.
const ROUND: f32 = 12_582_912.0;

/// Rounds to the nearest integer, ties to even, for |v| < 2^22.
#[inline(always)]
pub fn round_even(v: f32) -> f32 {
    (v + ROUND) - ROUND
}

/// The byte of `round_even(v) + zero`, for levels that fit.
#[inline(always)]
fn level_byte(v: f32, zero: u8) -> u8 {
    ((v + ROUND).to_bits() as u8).wrapping_add(zero)
}

/// `v` held to [lo, hi] by compare and select.
#[inline(always)]
fn clip(v: f32, lo: f32, hi: f32) -> f32 {
    let v = if v < lo { lo } else { v };
    if v > hi { hi } else { v }
}

/// `body(i, chunk i)` of each chunk.
fn by_chunk<U: Send>(out: &mut [U], body: &Body<'_, U>) {
    if out.len() <= CHUNK { body(0, out) } else { shared::parts(out, CHUNK, body) }
}

/// Chunk `i` of `x`, which is this long.
#[inline(always)]
fn chunk_of<T>(x: &[T], i: usize, len: usize) -> &[T] {
    &x[i * CHUNK..][..len]
}

/// `out[i] = f(x[i])`.
pub fn map1<T: Sync, U: Send>(x: &[T], out: &mut [U], f: impl Fn(&T) -> U + Sync) {
    assert_eq!(x.len(), out.len());
    by_chunk(out, &|i, out| {
        let x = chunk_of(x, i, out.len());
        dispatch(
            #[inline(always)]
            || out.iter_mut().zip(x).for_each(|(o, x)| *o = f(x)),
        )
    });
}

/// `out[i] = f(x[i], y[i])`.
pub fn map2<T: Sync, V: Sync, U: Send>(x: &[T], y: &[V], out: &mut [U], f: impl Fn(&T, &V) -> U + Sync) {
    assert!(x.len() == out.len() && y.len() == out.len());
    by_chunk(out, &|i, out| {
        let (x, y) = (chunk_of(x, i, out.len()), chunk_of(y, i, out.len()));
        dispatch(
            #[inline(always)]
            || out.iter_mut().zip(x.iter().zip(y)).for_each(|(o, (x, y))| *o = f(x, y)),
        )
    });
}

/// `out[i] = f(out[i], x[i])`.
pub fn update1<T: Sync, U: Send>(out: &mut [U], x: &[T], f: impl Fn(&mut U, &T) + Sync) {
    assert_eq!(x.len(), out.len());
    by_chunk(out, &|i, out| {
        let x = chunk_of(x, i, out.len());
        dispatch(
            #[inline(always)]
            || out.iter_mut().zip(x).for_each(|(o, x)| f(o, x)),
        )
    });
}

/// Passes over the rows of a [rows, columns] matrix: `f(first row, rows of out)` fills whole rows.
pub fn rows<U: Send>(out: &mut [U], columns: usize, f: impl Fn(usize, &mut [U]) + Sync) {
    let columns = columns.max(1);
    let length = (CHUNK / columns).max(1);
    let body: &Body<'_, U> = &|index, out| {
        dispatch(
            #[inline(always)]
            || f(index * length, out),
        )
    };
    if out.len() <= length * columns { body(0, out) } else { shared::parts(out, length * columns, body) }
}

/// As [`rows`], over two outputs of equal length.
pub fn rows2<U: Send, V: Send>(x: &mut [U], y: &mut [V], columns: usize, f: impl Fn(usize, &mut [U], &mut [V]) + Sync) {
    assert_eq!(x.len(), y.len());
    let columns = columns.max(1);
    let length = (CHUNK / columns).max(1);
    let body: &Body2<'_, U, V> = &|index, x, y| {
        dispatch(
            #[inline(always)]
            || f(index * length, x, y),
        )
    };
    if x.len() <= length * columns {
        return body(0, x, y);
    }
    shared::parts2((x, y), [length * columns; 2], body);
}

/// One result for each row of a [rows, columns] matrix that `f` reads: `f(first row, results of these rows)`.
pub fn per_row<V: Send>(each: &mut [V], columns: usize, f: impl Fn(usize, &mut [V]) + Sync) {
    let length = (CHUNK / columns.max(1)).max(1);
    let body: &Body<'_, V> = &|index, each| {
        dispatch(
            #[inline(always)]
            || f(index * length, each),
        )
    };
    if each.len() <= length {
        return body(0, each);
    }
    shared::parts(each, length, body);
}

/// As [`rows`] over single elements, and gives what `f` returned for each chunk, in index order.
pub fn chunks<U: Send, A: Send>(out: &mut [U], f: impl Fn(usize, &mut [U]) -> A + Sync) -> Vec<A> {
    if out.len() <= CHUNK {
        return if out.is_empty() { Vec::new() } else { vec![f(0, out)] };
    }
    let mut results: Vec<Option<A>> = (0..out.len().div_ceil(CHUNK)).map(|_| None).collect();
    shared::parts2((out, &mut results), [CHUNK, 1], &|i, out, result| result[0] = Some(f(i * CHUNK, out)));
    results.into_iter().flatten().collect()
}

/// As [`chunks`], over two outputs of equal length.
pub fn chunks2<U: Send, V: Send>(x: &mut [U], y: &mut [V], f: impl Fn(usize, &mut [U], &mut [V]) + Sync) {
    assert_eq!(x.len(), y.len());
    if x.len() <= CHUNK {
        return f(0, x, y);
    }
    shared::parts2((x, y), [CHUNK; 2], &|i, x, y| f(i * CHUNK, x, y));
}

/// An order-free fold over the chunks of `0..len`; `join` as in [`fold`].
pub fn fold_chunks<A: Send>(
    len: usize,
    zero: impl Fn() -> A + Sync + Send,
    f: impl Fn(std::ops::Range<usize>) -> A + Sync + Send,
    join: impl Fn(A, A) -> A + Sync + Send,
) -> A {
    let chunk = |i: usize| f(i * CHUNK..len.min((i + 1) * CHUNK));
    match len.div_ceil(CHUNK) {
        0 => zero(),
        1 => chunk(0),
        n => shared::each(n, &chunk).fold(zero(), join),
    }
}

/// An order-free fold: `join` must be associative, commutative and exact (maximum, integer sum), `f` folds one chunk.
pub fn fold<T: Sync, A: Send>(
    x: &[T],
    zero: impl Fn() -> A + Sync + Send,
    f: impl Fn(&[T]) -> A + Sync + Send,
    join: impl Fn(A, A) -> A + Sync + Send,
) -> A {
    let body: &(dyn Fn(usize) -> A + Sync) = &|i| {
        let x = &x[i * CHUNK..x.len().min((i + 1) * CHUNK)];
        dispatch(
            #[inline(always)]
            || f(x),
        )
    };
    if x.len() <= CHUNK { body(0) } else { shared::each(x.len().div_ceil(CHUNK), body).fold(zero(), join) }
}

/// The largest byte; `None` of nothing.
pub fn byte_max(x: &[u8]) -> Option<u8> {
    if x.is_empty() {
        return None;
    }
    Some(fold(x, || 0, |x| x.iter().fold(0u8, |m, &b| m.max(b)), u8::max))
}

/// `max |x|`, as the largest bit pattern without its sign, so that a NaN or infinity shows as a value that is not
/// finite. 0 of nothing.
pub fn max_abs(x: &[f32]) -> f32 {
    let bits = fold(x, || 0, |x| x.iter().fold(0u32, |m, v| m.max(v.to_bits() & 0x7fff_ffff)), u32::max);
    f32::from_bits(bits)
}

/// Whether every element is finite.
pub fn all_finite(x: &[f32]) -> bool {
    max_abs(x).is_finite()
}

/// How many elements have a magnitude above `limit`.
pub fn count_above(x: &[f32], limit: f32) -> u64 {
    fold(x, || 0, |x| x.iter().fold(0u32, |n, v| n + u32::from(v.abs() > limit)).into(), |a: u64, b| a + b)
}

/// How many positions differ.
pub fn count_different(x: &[u8], y: &[u8]) -> u64 {
    // As many bytes as a count in a byte can hold: such counts stay bytes in vectors.
    const FEW: usize = 128;
    assert_eq!(x.len(), y.len());
    let count = |range: std::ops::Range<usize>| {
        let (x, y) = (&x[range.clone()], &y[range]);
        dispatch(
            #[inline(always)]
            || {
                let few = |x: &[u8], y: &[u8]| x.iter().zip(y).fold(0u8, |n, (x, y)| n + u8::from(x != y));
                x.chunks(FEW).zip(y.chunks(FEW)).fold(0u64, |n, (x, y)| n + u64::from(few(x, y)))
            },
        )
    };
    fold_chunks(x.len(), || 0, count, |a, b| a + b)
}

/// `out = (byte - zero) · scale`: exact conversion, one rounding of the product.
pub fn dequantize(bytes: &[u8], zero: u8, scale: f32, out: &mut [f32]) {
    let zero = i32::from(zero);
    map1(bytes, out, move |&b| (i32::from(b) - zero) as f32 * scale);
}

/// Nearest quantization: `byte = [clip(x · per_unit, lo, hi)] + zero`, ties to even; lo and hi are whole levels.
///
/// A NaN gives an unspecified byte: what is not finite is looked for where it arises, in inputs, losses, gradients and
/// parameters.
pub fn quantize(x: &[f32], per_unit: f32, lo: f32, hi: f32, zero: u8, out: &mut [u8]) {
    map1(x, out, move |&x| level_byte(clip(x * per_unit, lo, hi), zero));
}

/// Stochastic quantization (METHOD 2): `byte = [clip(x · per_unit, -top, top) + u] + top`, u uniform in (-1/2, 1/2), on
/// this thread. Gives how many |x| are above `limit`.
///
/// `u = (r + 1/2) / 65536 - 1/2` with `r` the 16-bit word of `noise` at the element's index, `first` (a multiple of 8)
/// being that of the first.
pub fn quantize_stochastic(
    x: &[f32],
    per_unit: f32,
    top: u8,
    limit: f32,
    noise: Stream,
    first: u64,
    out: &mut [u8],
) -> u64 {
    const STEP: usize = 1024;
    assert_eq!(x.len(), out.len());
    let levels = f32::from(top);
    let mut words = [0u16; STEP];
    let mut above = 0;
    for (i, (x, out)) in x.chunks(STEP).zip(out.chunks_mut(STEP)).enumerate() {
        let words = &mut words[..x.len()];
        noise.fill_u16(first + (i * STEP) as u64, words);
        dispatch(
            #[inline(always)]
            || {
                let mut count = 0u32;
                for ((o, &x), &r) in out.iter_mut().zip(x).zip(&*words) {
                    // Exact, as (r + 1/2) / 65536 - 1/2 is: multiples of 2^-17 below 1.
                    let u = f32::from(r) * (1.0 / 65_536.0) + (0.5 / 65_536.0 - 0.5);
                    *o = level_byte(clip(x * per_unit, -levels, levels) + u, top);
                    count += u32::from(x.abs() > limit);
                }
                above += u64::from(count);
            },
        );
    }
    above
}

/// As [`quantize_stochastic`] with u = 0: rounding to nearest, ties to even.
pub fn quantize_nearest(x: &[f32], per_unit: f32, top: u8, limit: f32, out: &mut [u8]) -> u64 {
    assert_eq!(x.len(), out.len());
    let levels = f32::from(top);
    dispatch(
        #[inline(always)]
        || {
            let mut above = 0u32;
            for (o, &x) in out.iter_mut().zip(x) {
                *o = level_byte(clip(x * per_unit, -levels, levels), top);
                above += u32::from(x.abs() > limit);
            }
            above.into()
        },
    )
}

/// `x[i] *= factors[(first + i) mod columns]`, on this thread: each column of a matrix times its own factor, for a part
/// that starts at element `first`.
pub fn scale_columns(x: &mut [f32], first: usize, factors: &[f32]) {
    let columns = factors.len().max(1);
    let start = first % columns;
    let (head, rows) = x.split_at_mut(((columns - start) % columns).min(x.len()));
    dispatch(
        #[inline(always)]
        || {
            head.iter_mut().zip(&factors[start..]).for_each(|(x, f)| *x *= f);
            for row in rows.chunks_mut(columns) {
                row.iter_mut().zip(factors).for_each(|(x, f)| *x *= f);
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::domain;

    #[test]
    fn columns_have_their_own_factors_from_any_start() {
        let factors = [1.0, 10.0, 100.0];
        for first in 0..7 {
            for len in 0..9 {
                let mut x = vec![1.0; len];
                scale_columns(&mut x, first, &factors);
                assert!(x.iter().enumerate().all(|(i, &x)| x == factors[(first + i) % 3]), "{first} {len}");
            }
        }
    }

    #[test]
    fn nearest_gradients_round_ties_to_even_and_count_what_is_clipped() {
        let x = [-9.0, -2.5, -1.5, -0.5, 0.0, 0.5, 1.5, 3.0, 3.5];
        let mut out = [0u8; 9];
        assert_eq!(quantize_nearest(&x, 1.0, 3, 3.0, &mut out), 2);
        assert_eq!(out.map(|b| i32::from(b) - 3), [-3, -2, -2, 0, 0, 0, 2, 3, 3]);
    }

    #[test]
    fn rounding_is_to_even_at_ties() {
        for (v, r) in [(0.5, 0.0), (1.5, 2.0), (2.5, 2.0), (-0.5, 0.0), (-1.5, -2.0), (2.4999998, 2.0), (127.5, 128.0)]
        {
            assert_eq!(round_even(v), r, "{v}");
        }
        let x: Vec<f32> = (-4000..4000).map(|i| i as f32 / 16.0).collect();
        assert!(x.iter().all(|&v| round_even(v) == v.round_ties_even()));
    }

    #[test]
    fn levels_at_ties_and_borders() {
        // 4 bits unsigned over [0, 3]: five levels a unit.
        let x = [-1.0, 0.0, 0.1, 0.3, 0.5, 3.0, 9.0];
        let mut out = [0u8; 7];
        quantize(&x, 5.0, 0.0, 15.0, 0, &mut out);
        assert_eq!(out, [0, 0, 0, 2, 2, 15, 15]);
        quantize(&[-9.0, -1.0, -0.5, 0.0, 0.5, 1.0, 9.0], 7.0, -7.0, 7.0, 7, &mut out);
        assert_eq!(out, [0, 0, 3, 7, 11, 14, 14]);
    }

    #[test]
    fn stochastic_rounding_is_unbiased_and_exact_on_levels() {
        let noise = Stream::new(11, domain::ROUNDING, 1, 2);
        let n = 200_000;
        let mut out = vec![0u8; n];
        for x in [0.3f32, -0.05, 2.71, -6.9] {
            quantize_stochastic(&vec![x; n], 1.0, 7, f32::MAX, noise, 0, &mut out);
            let mean = out.iter().map(|&b| f64::from(b) - 7.0).sum::<f64>() / n as f64;
            // Standard error of a Bernoulli mean: at most 0.5 / sqrt(n) = 0.0011.
            assert!((mean - f64::from(x)).abs() < 0.005, "{x}: {mean}");
        }
        quantize_stochastic(&vec![3.0; n], 1.0, 7, f32::MAX, noise, 0, &mut out);
        assert!(out.iter().all(|&b| b == 10));
        quantize_stochastic(&vec![-100.0; n], 1.0, 7, f32::MAX, noise, 0, &mut out);
        assert!(out.iter().all(|&b| b == 0));
    }

    #[test]
    fn differences_are_counted_at_every_length() {
        let x: Vec<u8> = (0..70_000u32).map(|i| (i % 251) as u8).collect();
        let y: Vec<u8> = x.iter().map(|v| v ^ 0x80).collect();
        for n in [0, 1, 127, 128, 129, 32_768, 32_769, 70_000] {
            assert_eq!((count_different(&x[..n], &x[..n]), count_different(&x[..n], &y[..n])), (0, n as u64));
        }
        let mut z = x.clone();
        [0, 128, 40_000, 69_999].into_iter().for_each(|i| z[i] += 1);
        assert_eq!(count_different(&x, &z), 4);
    }

    #[test]
    fn not_finite_is_seen() {
        let mut x = vec![1.0f32; 100_000];
        x[3] = -5.0;
        assert_eq!(max_abs(&x), 5.0);
        assert_eq!(count_above(&x, 1.0), 1);
        x[99_999] = f32::NAN;
        assert!(!all_finite(&x));
        x[99_999] = f32::NEG_INFINITY;
        assert!(!all_finite(&x));
    }
}
