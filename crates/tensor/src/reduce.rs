//! Float and integer sums in one written order.
//!
//! A float sum goes through its axis in fixed blocks; inside a block it runs in order (by 16 lanes for a plain vector,
//! by column for a matrix), and the blocks are added in index order in `f64`. Neither threads nor vector width enter.

use crate::Buffer;
use crate::map::{self, dispatch};
use crate::shared::{self, Body2};
use rayon::prelude::*;

/// Elements of a block of a plain sum.
const BLOCK: usize = 4096;
/// Elements of a block of a column sum, rounded down to whole rows.
const COLUMN_BLOCK: usize = 16_384;

/// The sum of `f(i)` over one block of [`sum_by`], for a pass that is compiled for the vector level as a whole.
#[inline(always)]
fn block_sum(range: std::ops::Range<usize>, f: &impl Fn(usize) -> f32) -> f64 {
    let mut lanes = [0f64; 16];
    let whole = range.len() / 16 * 16;
    for i in (range.start..range.start + whole).step_by(16) {
        for (l, lane) in lanes.iter_mut().enumerate() {
            *lane += f64::from(f(i + l));
        }
    }
    for (lane, i) in lanes.iter_mut().zip(range.start + whole..range.end) {
        *lane += f64::from(f(i));
    }
    for half in [8, 4, 2, 1] {
        for l in 0..half {
            lanes[l] += lanes[l + half];
        }
    }
    lanes[0]
}

/// As [`sum_by`], with its bits, on this thread and inside of a pass that is dispatched already: for sums of rows.
#[inline(always)]
pub fn row_sum_by(len: usize, f: impl Fn(usize) -> f32) -> f64 {
    if len <= BLOCK {
        return block_sum(0..len, &f);
    }
    (0..len).step_by(BLOCK).fold(0.0, |sum, first| sum + block_sum(first..len.min(first + BLOCK), &f))
}

/// The sum of `f(i)` over `0..len`: 16 lanes a block of 4096 in f64, lanes added in a fixed tree, blocks in order.
pub fn sum_by(len: usize, f: impl Fn(usize) -> f32 + Sync) -> f64 {
    let block = |b: usize| {
        dispatch(
            #[inline(always)]
            || block_sum(b * BLOCK..len.min((b + 1) * BLOCK), &f),
        )
    };
    let blocks = len.div_ceil(BLOCK);
    if blocks <= 8 {
        return (0..blocks).map(block).fold(0.0, |sum, b| sum + b);
    }
    let mut parts = Buffer::take(blocks);
    shared::parts(&mut parts, 1, &|b, part| part[0] = block(b));
    parts.iter().fold(0.0, |sum, b| sum + b)
}

/// The sum of `x`.
pub fn sum(x: &[f32]) -> f64 {
    sum_by(x.len(), |i| x[i])
}

/// Mean and population standard deviation, from two ordered passes. (0, 0) of nothing.
pub fn mean_std(x: &[f32]) -> (f64, f64) {
    if x.is_empty() {
        return (0.0, 0.0);
    }
    let n = x.len() as f64;
    let mean = sum(x) / n;
    let centre = mean as f32;
    let square = sum_by(x.len(), |i| (x[i] - centre) * (x[i] - centre)) / n;
    (mean, variance(mean, square).sqrt())
}

/// Mean and population variance of a row, inside of a pass that is dispatched already. The mean is that of [`mean_std`]; the
/// variance is the one of which it takes the root. (0, 0) of nothing.
#[inline(always)]
pub fn row_moments(x: &[f32]) -> (f64, f64) {
    if x.is_empty() {
        return (0.0, 0.0);
    }
    let n = x.len() as f64;
    let mean = row_sum_by(x.len(), |i| x[i]) / n;
    let centre = mean as f32;
    let square = row_sum_by(x.len(), |i| (x[i] - centre) * (x[i] - centre)) / n;
    (mean, variance(mean, square))
}

/// The variance, from the mean square about the rounded mean: the shift is taken out again, so that rounding costs nothing.
#[inline(always)]
fn variance(mean: f64, square: f64) -> f64 {
    let shift = mean - f64::from(mean as f32);
    let variance = square - shift * shift;
    // Not `max`, which would make 0 of a NaN.
    if variance < 0.0 { 0.0 } else { variance }
}

/// How many numbers side by side a pass over columns works on: whole rows of about 256 numbers, so that narrow rows
/// fill vectors too. A function of the columns alone.
pub fn span(columns: usize) -> usize {
    columns * (256 / columns.max(1)).max(1)
}

/// Positions of a span whose sums a pass holds in registers while it goes through the rows.
pub const LANES: usize = 32;

/// Where runs of [`LANES`] positions of a span start. A pass that sums goes through all whole spans run by run; in which
/// order positions come is free, since each has sums of its own.
#[inline(always)]
pub fn lanes(span: usize) -> impl Iterator<Item = usize> {
    (0..span / LANES * LANES).step_by(LANES)
}

/// The run of positions from `first` on of a span.
#[inline(always)]
pub fn lane<T>(span: &[T], first: usize) -> &[T; LANES] {
    span[first..][..LANES].try_into().expect("as long as that")
}

/// As [`lane`], to write to.
#[inline(always)]
pub fn lane_mut<T>(span: &mut [T], first: usize) -> &mut [T; LANES] {
    (&mut span[first..][..LANES]).try_into().expect("as long as that")
}

/// What is left of `len` numbers beside [`lanes`]: the last positions of whole spans, and a part of a span at the end.
/// Each is a range, and the position in the span at which it starts.
#[inline(always)]
pub fn no_lanes(span: usize, len: usize) -> impl Iterator<Item = (std::ops::Range<usize>, usize)> {
    let rest = span / LANES * LANES;
    (0..len).step_by(span.max(1)).filter_map(move |start| match (start + span <= len, rest < span) {
        (true, true) => Some((start + rest..start + span, rest)),
        (true, false) => None,
        (false, _) => Some((start..len, 0)),
    })
}

/// A pass over the rows of a [rows, columns] matrix that writes to `out` (as long as the matrix, or empty) and sums.
///
/// `block(rows, out, sums)` takes a run of rows and the part of `out` that belongs to it, and adds in order to `sums`
/// (`width` zeros at first). Runs are as long as `columns` allows; their sums are added in index order in f64.
pub fn row_pass<U: Send>(
    out: &mut [U],
    rows: usize,
    columns: usize,
    width: usize,
    block: impl Fn(std::ops::Range<usize>, &mut [U], &mut [f32]) + Sync,
) -> Buffer<f64> {
    let length = row_block(columns);
    let part: &Body2<'_, U, f32> = &|b, out, sums| {
        dispatch(
            #[inline(always)]
            || block(b * length..rows.min((b + 1) * length), out, sums),
        );
    };
    let blocks = rows.div_ceil(length);
    // One chunk a block even where nothing is summed.
    let stride = width.max(1);
    let mut parts = Buffer::zeroed(blocks * stride);
    match (out.is_empty(), blocks) {
        (_, 0) => {}
        (_, 1) => part(0, out, &mut parts[..width]),
        (true, _) => shared::parts(&mut parts, stride, &|b, sums| part(b, &mut [], &mut sums[..width])),
        (false, _) => {
            let lengths = [length * columns, stride];
            shared::parts2((out, &mut parts), lengths, &|b, out, sums| part(b, out, &mut sums[..width]));
        }
    }
    let mut total = Buffer::zeroed(width);
    for part in parts.chunks_exact(stride) {
        total.iter_mut().zip(part).for_each(|(t, &p)| *t += f64::from(p));
    }
    total
}

/// Rows of a run of [`row_pass`].
fn row_block(columns: usize) -> usize {
    let rows = span(columns) / columns.max(1);
    (COLUMN_BLOCK / span(columns).max(1)).max(1) * rows
}

/// A [`row_pass`] that writes nothing.
pub fn row_sums(
    rows: usize,
    columns: usize,
    width: usize,
    block: impl Fn(std::ops::Range<usize>, &mut [f32]) + Sync,
) -> Buffer<f64> {
    row_pass(&mut [] as &mut [f32], rows, columns, width, |rows, _, sums| block(rows, sums))
}

/// Sums of [`span`] numbers, one of each position, as sums of columns: repeats are added in order.
pub fn fold_span(sums: &[f64], columns: usize) -> Buffer<f64> {
    let mut total = Buffer::zeroed(columns);
    for row in sums.chunks_exact(columns.max(1)) {
        total.iter_mut().zip(row).for_each(|(t, s)| *t += s);
    }
    total
}

/// One number a column, repeated to the length of [`span`].
pub fn spread(columns: &[f32]) -> Buffer<f32> {
    let mut out = Buffer::take(span(columns.len()));
    out.chunks_exact_mut(columns.len().max(1)).for_each(|out| out.copy_from_slice(columns));
    out
}

/// The sum of each column of a [rows, columns] matrix.
pub fn column_sums(x: &[f32], columns: usize) -> Buffer<f64> {
    if columns == 0 {
        return Buffer::zeroed(0);
    }
    let span = span(columns);
    let sums = row_sums(x.len() / columns.max(1), columns, span, |rows, sums| {
        for x in x[rows.start * columns..rows.end * columns].chunks(span) {
            sums.iter_mut().zip(x).for_each(|(s, x)| *s += x);
        }
    });
    fold_span(&sums, columns)
}

/// The exact sum and sum of squares of each column of a [rows, columns] matrix of integers.
pub fn column_moments(x: &[i32], columns: usize) -> Buffer<(i64, i128)> {
    let columns = columns.max(1);
    let zero = || Buffer::zeroed(columns);
    x.par_chunks(row_block(columns) * columns).map(|x| moments_of_block(x, columns)).reduce(zero, |mut a, b| {
        add_moments(&mut a, &b);
        a
    })
}

/// Adds moments, column by column.
pub(crate) fn add_moments(total: &mut [(i64, i128)], part: &[(i64, i128)]) {
    total.iter_mut().zip(part).for_each(|(t, p)| *t = (t.0 + p.0, t.1 + p.1));
}

/// [`moments_of_block`] of numbers whose magnitudes are at most `reach`, copied to `narrow` in 16 bits on the way.
pub(crate) fn narrow_moments(x: &[i32], columns: usize, reach: i64, narrow: &mut [i16]) -> Buffer<(i64, i128)> {
    assert_eq!(x.len(), narrow.len());
    // Rows of a span whose squares add up in 32 bits.
    let few = usize::try_from(i64::from(u32::MAX) / (reach * reach).max(1)).unwrap_or(usize::MAX).min(1024);
    let span = span(columns);
    let mut total = Buffer::<(i64, i64)>::zeroed(span);
    dispatch(
        #[inline(always)]
        || {
            for (x, narrow) in x.chunks(few * span).zip(narrow.chunks_mut(few * span)) {
                narrow.iter_mut().zip(x).for_each(|(n, &x)| *n = x as i16);
                for first in lanes(span) {
                    let (mut sums, mut squares) = ([0i32; LANES], [0u32; LANES]);
                    for x in narrow.chunks_exact(span) {
                        let x = lane(x, first);
                        for l in 0..LANES {
                            let x = i32::from(x[l]);
                            sums[l] += x;
                            squares[l] += (x * x) as u32;
                        }
                    }
                    for (total, (&sum, &square)) in total[first..].iter_mut().zip(sums.iter().zip(&squares)) {
                        *total = (total.0 + i64::from(sum), total.1 + i64::from(square));
                    }
                }
                for (range, first) in no_lanes(span, narrow.len()) {
                    for (total, &x) in total[first..].iter_mut().zip(&narrow[range]) {
                        let x = i64::from(x);
                        *total = (total.0 + x, total.1 + x * x);
                    }
                }
            }
        },
    );
    let mut moments = Buffer::<(i64, i128)>::zeroed(columns);
    for total in total.chunks_exact(columns) {
        for (moments, total) in moments.iter_mut().zip(total) {
            *moments = (moments.0 + total.0, moments.1 + i128::from(total.1));
        }
    }
    moments
}

/// [`column_moments`] on this thread.
pub(crate) fn moments_of_block(x: &[i32], columns: usize) -> Buffer<(i64, i128)> {
    let span = span(columns);
    let mut total = Buffer::<(i64, i128)>::zeroed(columns);
    let (mut sums, mut squares) = (Buffer::<i64>::take(span), Buffer::<i64>::take(span));
    // Below 2^26, the squares of 1024 spans stay below 2^62; above it every span is widened at once.
    let large = map::fold(x, || 0, |x| x.iter().fold(0u32, |m, x| m.max(x.unsigned_abs())), u32::max) >= 1 << 26;
    for x in x.chunks(if large { 1 } else { 1024 } * span) {
        sums.fill(0);
        squares.fill(0);
        dispatch(
            #[inline(always)]
            || {
                for x in x.chunks(span) {
                    for ((sum, square), &x) in sums.iter_mut().zip(&mut *squares).zip(x) {
                        let x = i64::from(x);
                        *sum += x;
                        *square += x * x;
                    }
                }
            },
        );
        for (sums, squares) in sums.chunks_exact(columns).zip(squares.chunks_exact(columns)) {
            for ((total, &sum), &square) in total.iter_mut().zip(sums).zip(squares) {
                // The square of the lowest number is 2^62: as u64 it never wraps.
                *total = (total.0 + sum, total.1 + i128::from(square as u64));
            }
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_do_not_depend_on_threads() {
        let x: Vec<f32> = (0..70_001).map(|i| ((i * 7919) % 1000) as f32 * 0.001 - 0.3).collect();
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                (sum(&x).to_bits(), column_sums(&x[..70_000], 7).iter().map(|s| s.to_bits()).collect::<Vec<_>>())
            })
        };
        assert_eq!(run(1), run(3));
        let exact: f64 = x.iter().map(|&v| f64::from(v)).sum();
        assert!((sum(&x) - exact).abs() < 1e-6);
    }

    #[test]
    fn moments_by_hand() {
        let (mean, std) = mean_std(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]);
        assert_eq!((mean, std), (5.0, 2.0));
        for odd in [f32::NAN, f32::INFINITY] {
            assert!(mean_std(&[1.0, odd, 2.0]).1.is_nan(), "{odd} is seen in the deviation");
        }
        assert!(column_sums(&[], 0).is_empty());
        assert_eq!(*column_moments(&[1, -2, 3, 4, -5, 6], 2), [(-1, 35), (8, 56)]);
        for (len, columns, reach) in [(6, 2, 6), (6 * 300, 6, 1000), (5 * 700, 5, 32_767), (16 * 64, 16, 1)] {
            let span = 2 * reach as i32 + 1;
            let x: Vec<i32> = (0..len).map(|i| (i * 7919) % span - reach as i32).collect();
            let mut narrow = vec![0; x.len()];
            assert_eq!(*narrow_moments(&x, columns, reach, &mut narrow), *column_moments(&x, columns));
            assert!(narrow.iter().zip(&x).all(|(&n, &x)| i32::from(n) == x));
        }
        let extreme = vec![i32::MIN; 4096];
        assert_eq!(*column_moments(&extreme, 1), [(-(4096i64 << 31), 4096i128 << 62)]);
    }
}
