//! Float and integer sums in one written order.
//!
//! A float sum goes through its axis in fixed blocks; inside a block it runs in order (by 16 lanes for a plain vector,
//! by column for a matrix), and the blocks are added in index order in `f64`. Neither threads nor vector width enter.

use crate::map::dispatch;
use rayon::prelude::*;

/// Elements of a block of a plain sum.
const BLOCK: usize = 4096;
/// Elements of a block of a column sum, rounded down to whole rows.
const COLUMN_BLOCK: usize = 16_384;

/// The sum of `f(i)` over `0..len`: 16 lanes a block of 4096 in f64, lanes added in a fixed tree, blocks in order.
pub fn sum_by(len: usize, f: impl Fn(usize) -> f32 + Sync) -> f64 {
    let block = |b: usize| {
        dispatch(
            #[inline(always)]
            || {
                let range = b * BLOCK..len.min((b + 1) * BLOCK);
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
            },
        )
    };
    let blocks = len.div_ceil(BLOCK);
    if blocks <= 8 {
        return (0..blocks).map(block).fold(0.0, |sum, b| sum + b);
    }
    let parts: Vec<f64> = (0..blocks).into_par_iter().map(block).collect();
    parts.into_iter().fold(0.0, |sum, b| sum + b)
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
    // The shift by the rounded mean is taken out again, so its rounding costs nothing.
    let square = sum_by(x.len(), |i| (x[i] - centre) * (x[i] - centre)) / n;
    let shift = mean - f64::from(centre);
    (mean, (square - shift * shift).max(0.0).sqrt())
}

/// Sums over the rows of a [rows, columns] matrix, `width` numbers a row.
///
/// `block(rows, sums)` adds the numbers of a run of rows, in order, to `sums` (zeros at first, in f32); the blocks are
/// as long as `columns` allows and are added in index order in f64.
pub fn row_sums(
    rows: usize,
    columns: usize,
    width: usize,
    block: impl Fn(std::ops::Range<usize>, &mut [f32]) + Sync,
) -> Vec<f64> {
    let length = (COLUMN_BLOCK / columns.max(1)).max(1);
    let part = |b: usize| {
        let mut sums = vec![0f32; width];
        dispatch(
            #[inline(always)]
            || block(b * length..rows.min((b + 1) * length), &mut sums),
        );
        sums
    };
    let blocks = rows.div_ceil(length);
    let parts: Vec<Vec<f32>> =
        if blocks <= 1 { (0..blocks).map(part).collect() } else { (0..blocks).into_par_iter().map(part).collect() };
    let mut total = vec![0f64; width];
    for part in parts {
        total.iter_mut().zip(part).for_each(|(t, p)| *t += f64::from(p));
    }
    total
}

/// The sum of each column of a [rows, columns] matrix.
pub fn column_sums(x: &[f32], columns: usize) -> Vec<f64> {
    row_sums(x.len() / columns.max(1), columns, columns, |rows, sums| {
        for row in x[rows.start * columns..rows.end * columns].chunks_exact(columns) {
            sums.iter_mut().zip(row).for_each(|(s, x)| *s += x);
        }
    })
}

/// The exact sum and sum of squares of each column of a [rows, columns] matrix of integers.
pub fn column_moments(x: &[i32], columns: usize) -> Vec<(i64, i128)> {
    let columns = columns.max(1);
    let length = (COLUMN_BLOCK / columns).clamp(1, 1024);
    let part = |block: &[i32]| {
        let mut sums = vec![0i64; columns];
        let mut squares = vec![0u64; columns];
        let mut wide = vec![0i128; columns];
        dispatch(
            #[inline(always)]
            || {
                // Below 2^26, the squares of 1024 rows stay below 2^62; above it every row is widened at once.
                let large = block.iter().fold(0u32, |m, x| m.max(x.unsigned_abs())) >= 1 << 26;
                for row in block.chunks_exact(columns) {
                    for ((sum, square), &x) in sums.iter_mut().zip(&mut squares).zip(row) {
                        *sum += i64::from(x);
                        *square += u64::from(x.unsigned_abs()) * u64::from(x.unsigned_abs());
                    }
                    if large {
                        wide.iter_mut().zip(&mut squares).for_each(|(w, s)| *w += i128::from(std::mem::take(s)));
                    }
                }
            },
        );
        wide.iter_mut().zip(&squares).for_each(|(w, &s)| *w += i128::from(s));
        sums.into_iter().zip(wide).collect::<Vec<_>>()
    };
    let join = |mut a: Vec<(i64, i128)>, b: Vec<(i64, i128)>| {
        a.iter_mut().zip(b).for_each(|(a, b)| *a = (a.0 + b.0, a.1 + b.1));
        a
    };
    x.par_chunks(length * columns).map(part).reduce(|| vec![(0, 0); columns], join)
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
        assert_eq!(column_moments(&[1, -2, 3, 4, -5, 6], 2), vec![(-1, 35), (8, 56)]);
        let extreme = vec![i32::MIN; 4096];
        assert_eq!(column_moments(&extreme, 1), vec![(-(4096i64 << 31), 4096i128 << 62)]);
    }
}
