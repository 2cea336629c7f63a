//! Products of many pairs of matrices, such as those of attention: one for each sample and head, `out[p] = a[p] · b[p]`.
//!
//! Both operands are activations, so nothing is packed beforehand. A pair is small: its right operand is packed into panels
//! and multiplied while it is in the cache, in a room that a group of pairs shares. The left operand is read where it
//! lies, unless its axes are turned. Work is split by pairs, as many to a task as make one worth the while.

use super::{SMALL, check_admits, check_offsets, check_sum, collect, run_chunks};
use crate::kernel::{COLUMNS, FloatKernel, Job, Kernel, QUAD, Start, pack, select, select_float};
use crate::{Buffer, Codes, Error, Result, Sums, Tensor, float, map};

const OP: &str = "matmul";
/// Bytes of a step of a panel.
const STEP: usize = COLUMNS * QUAD;

/// Which operand of a product of matrices has its axes turned round in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turned {
    /// `[.., M, K]` x `[.., K, N]`.
    Neither,
    /// `[.., K, M]` x `[.., K, N]`.
    Left,
    /// `[.., M, K]` x `[.., N, K]`.
    Right,
}

/// The sizes of a product of pairs of matrices: `count` products of [M, K] and [K, N].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pairs {
    /// How many pairs there are.
    pub count: usize,
    /// Rows of a result.
    pub m: usize,
    /// Products of a sum.
    pub k: usize,
    /// Columns of a result.
    pub n: usize,
    turned: Turned,
}

impl Pairs {
    /// Returns the sizes for operands of these shapes.
    ///
    /// # Errors
    /// An operand has fewer than two axes, the axes before the matrices differ, or the lengths that are summed over do.
    pub fn of(a: &[usize], b: &[usize], turned: Turned) -> Result<Self> {
        let form = match turned {
            Turned::Neither => "[.., M, K] for a second operand [.., K, N]",
            Turned::Left => "[.., K, M] for a second operand [.., K, N]",
            Turned::Right => "[.., M, K] for a second operand [.., N, K]",
        };
        let refuse = || Err(Error::shape(OP, format!("{form}, which is {b:?}"), a));
        let ([outer @ .., a0, a1], [same @ .., b0, b1]) = (a, b) else { return refuse() };
        let (m, k) = if turned == Turned::Left { (*a1, *a0) } else { (*a0, *a1) };
        let (inner, n) = if turned == Turned::Right { (*b1, *b0) } else { (*b0, *b1) };
        if outer != same || k != inner {
            return refuse();
        }
        Ok(Self { count: outer.iter().product(), m, k, n, turned })
    }

    /// Returns the shape of the result, with the axes of `a` before the matrices.
    pub fn shape(&self, a: &[usize]) -> Vec<usize> {
        a[..a.len() - 2].iter().copied().chain([self.m, self.n]).collect()
    }

    /// Multiply-adds of all pairs.
    pub fn macs(&self) -> u64 {
        [self.m, self.k, self.n].iter().fold(self.count as u64, |n, &axis| n.saturating_mul(axis as u64))
    }

    /// How many pairs make one task.
    fn group(&self) -> usize {
        let each = (self.macs() / self.count.max(1) as u64).max(1);
        (SMALL / each).clamp(1, 64) as usize
    }

    /// Steps of `quad` numbers that a sum takes.
    fn steps(&self, quad: usize) -> usize {
        self.k.div_ceil(quad)
    }

    fn panels(&self) -> usize {
        self.n.div_ceil(COLUMNS)
    }

    /// Runs `product(rows of the result, their stride)` so that the result comes to lie without gaps: straight into `out`
    /// where its columns are whole panels, else through `room`.
    fn place<S: Copy>(&self, out: &mut [S], room: &mut [S], product: impl FnOnce(&mut [S], usize)) {
        let width = self.panels() * COLUMNS;
        if width == self.n {
            return product(out, width);
        }
        product(room, width);
        for (out, from) in out.chunks_exact_mut(self.n).zip(room.chunks_exact(width)) {
            out.copy_from_slice(&from[..self.n]);
        }
    }

    /// Numbers of the room that [`place`](Self::place) needs.
    fn room(&self) -> usize {
        let width = self.panels() * COLUMNS;
        if width == self.n { 0 } else { self.m * width }
    }
}

/// The exact sums of pairs of matrices: see [`Turned`] for the shapes. The result is `[.., M, N]`.
///
/// # Errors
/// The shapes do not fit, or a sum could exceed 32 bits.
pub fn matmul(a: &Codes, b: &Codes, turned: Turned) -> Result<Sums> {
    matmul_with(select(a.byte_max(), Right::of(b).most), a, b, turned)
}

/// [`matmul`] by a given row of the kernel table: for tests and benches.
///
/// # Errors
/// As [`matmul`], or the kernel is not exact for these ranges.
pub fn matmul_with(kernel: &Kernel, a: &Codes, b: &Codes, turned: Turned) -> Result<Sums> {
    let pairs = Pairs::of(a.shape(), b.shape(), turned)?;
    let right = Right::of(b);
    check_admits(OP, kernel, a, right.most)?;
    check_sum(OP, pairs.k, a.level_max(), b.level_max())?;
    check_offsets(OP, "elements of a matrix", (pairs.m + COLUMNS) * (pairs.k + QUAD))?;
    if pairs.k == 0 {
        return Sums::new(
            &pairs.shape(a.shape()),
            a.scale() * b.scale(),
            Buffer::zeroed(pairs.count * pairs.m * pairs.n),
        );
    }
    let product = Integers { kernel, a, b, pairs, right };
    let group = pairs.group();
    let reach = (pairs.k as i64).saturating_mul(i64::from(a.level_max()) * i64::from(b.level_max()));
    let compute = |index: usize, out: &mut [i32]| product.group(index * group, out);
    let length = group * pairs.m * pairs.n;
    let shape = pairs.shape(a.shape());
    collect(&shape, a.scale() * b.scale(), length, pairs.macs() as usize, reach, false, compute)
}

/// How the bytes of a right operand become signed ones.
#[derive(Clone, Copy)]
struct Right {
    /// What is taken off each byte.
    sub: u8,
    /// The level that this makes 0: the part of it in each sum is added behind.
    level: i32,
    /// The largest magnitude that is left.
    most: u8,
}

impl Right {
    /// Levels that do not fit a signed byte are shifted by half of their range.
    fn of(b: &Codes) -> Self {
        match b.range().max() {
            0..=127 => Self { sub: b.zero(), level: 0, most: b.level_max() },
            _ => {
                let half = b.byte_max().div_ceil(2);
                Self { sub: half, level: i32::from(half) - i32::from(b.zero()), most: half }
            }
        }
    }
}

/// The operands of [`matmul_with`].
struct Integers<'a> {
    kernel: &'a Kernel,
    a: &'a Codes,
    b: &'a Codes,
    pairs: Pairs,
    right: Right,
}

impl Integers<'_> {
    /// The products of the pairs from `first` on, as many as `out` has room for.
    fn group(&self, first: usize, out: &mut [i32]) {
        let Pairs { m, k, n, turned, .. } = self.pairs;
        let (steps, panels) = (self.pairs.steps(QUAD), self.pairs.panels());
        let blocks = m.div_ceil(COLUMNS);
        let left_turned = turned == Turned::Left;
        let mut panel_room: Buffer<u8> = Buffer::take(panels * steps * STEP);
        let mut left_room = Buffer::take(if left_turned { blocks * steps * STEP } else { m * k + QUAD });
        let mut room = Buffer::take(self.pairs.room());
        let mut start = Buffer::<i32>::take(panels * COLUMNS);
        let place = |i: usize| match left_turned {
            true => (i / COLUMNS * steps * COLUMNS + i % COLUMNS) * QUAD,
            false => i * k,
        };
        let base: Buffer<u32> = (0..m).map(|i| place(i) as u32).collect();
        let apart = if left_turned { STEP } else { QUAD };
        let koff: Buffer<u32> = (0..steps).map(|q| (q * apart) as u32).collect();
        // What the kernel subtracts from each left byte, less what the byte holds above the level.
        let bias = i32::from(self.kernel.lhs_bias) - i32::from(self.a.zero());
        for (i, out) in out.chunks_exact_mut((m * n).max(1)).enumerate() {
            let pair = first + i;
            let b = &self.b.bytes()[pair * k * n..][..k * n];
            match turned {
                Turned::Right => pack_rows(b, k, self.right.sub, steps, &mut panel_room),
                _ => pack_columns(b, n, self.right.sub, steps, &mut panel_room),
            }
            let panel_bytes = pack::as_signed(&panel_room);
            column_sums(panel_bytes, steps, bias, &mut start);
            let all = self.a.bytes();
            let at = pair * m * k;
            // The last step of a row may read a few bytes beyond it, which meet zeros.
            let end = at + m * k + steps * QUAD - k;
            let lhs: &[u8] = if left_turned {
                pack_columns(&all[at..][..m * k], m, 0, steps, &mut left_room);
                &left_room
            } else if end <= all.len() {
                &all[at..end]
            } else {
                left_room[..m * k].copy_from_slice(&all[at..][..m * k]);
                &left_room
            };
            self.pairs.place(out, &mut room, |out, out_stride| {
                self.kernel.run(Job {
                    lhs,
                    base: &base,
                    koff: &koff,
                    rhs: panel_bytes,
                    panel_stride: steps * STEP,
                    panels,
                    start: Start::Columns(&start),
                    out,
                    out_stride,
                });
            });
            if self.right.level != 0 {
                self.add_level(&all[at..][..m * k], out);
            }
        }
    }

    /// Adds what the shift of the right operand took off each sum of a pair.
    fn add_level(&self, a: &[u8], out: &mut [i32]) {
        let Pairs { m, k, n, turned, .. } = self.pairs;
        let zero = i32::from(self.a.zero());
        for (i, out) in out.chunks_exact_mut(n).enumerate() {
            let level = |q: usize| i32::from(a[if turned == Turned::Left { q * m + i } else { i * k + q }]) - zero;
            let shift = (0..k).map(level).sum::<i32>().wrapping_mul(self.right.level);
            out.iter_mut().for_each(|sum| *sum = sum.wrapping_add(shift));
        }
    }
}

/// Packs a matrix whose columns are those of the panels, [K, columns] in memory: `[panel][step][column][k of the step]`. What
/// lies beyond the matrix is 0.
fn pack_columns(from: &[u8], columns: usize, sub: u8, steps: usize, to: &mut [u8]) {
    let filler = [sub; COLUMNS];
    let rows = from.len() / columns.max(1);
    for (panel, to) in to.chunks_exact_mut((steps * STEP).max(1)).enumerate() {
        let first = panel * COLUMNS;
        let valid = COLUMNS.min(columns - first);
        for (step, to) in to.chunks_exact_mut(STEP).enumerate() {
            let row = |j: usize| match step * QUAD + j {
                q if q < rows => &from[q * columns + first..][..valid],
                _ => &filler[..valid],
            };
            pack::interleave4([row(0), row(1), row(2), row(3)], sub, &mut to[..valid * QUAD]);
            to[valid * QUAD..].fill(0);
        }
    }
}

/// Packs a matrix whose rows are the columns of the panels, [columns, K] in memory: as [`pack_columns`].
fn pack_rows(from: &[u8], k: usize, sub: u8, steps: usize, to: &mut [u8]) {
    /// Columns, and steps, that are turned round together.
    const FOUR: usize = 4;
    let whole = k / (FOUR * QUAD) * FOUR;
    for (panel, to) in to.chunks_exact_mut((steps * STEP).max(1)).enumerate() {
        let rows = from.chunks_exact(k.max(1)).skip(panel * COLUMNS).take(COLUMNS);
        let valid = rows.len();
        let rows_of = |c: usize| &from[(panel * COLUMNS + c) * k..][..k];
        let fours = valid / FOUR * FOUR;
        for (block, to) in to[..whole * STEP].chunks_exact_mut(FOUR * STEP).enumerate() {
            let part = |c: usize| &rows_of(c)[block * FOUR * QUAD..][..FOUR * QUAD];
            for c in (0..fours).step_by(FOUR) {
                pack::transpose4([part(c), part(c + 1), part(c + 2), part(c + 3)], sub, to, c);
            }
        }
        // The columns and steps that are left, one quad at a time.
        for (step, to) in to.chunks_exact_mut(STEP).enumerate() {
            let done = if step < whole { fours } else { 0 };
            for (c, to) in to.chunks_exact_mut(QUAD).enumerate().skip(done) {
                to.fill(0);
                if c < valid {
                    let row = &rows_of(c)[step * QUAD..];
                    to.iter_mut().zip(row).for_each(|(to, &b)| *to = b.wrapping_sub(sub));
                }
            }
        }
    }
}

/// The sum of each column of the panels, times `factor`.
fn column_sums(panels: &[i8], steps: usize, factor: i32, sums: &mut [i32]) {
    sums.fill(0);
    if factor == 0 || steps == 0 {
        return;
    }
    map::dispatch(
        #[inline(always)]
        || {
            for (sums, panel) in sums.chunks_exact_mut(COLUMNS).zip(panels.chunks_exact(steps * STEP)) {
                for step in panel.chunks_exact(STEP) {
                    for (sum, quad) in sums.iter_mut().zip(step.chunks_exact(QUAD)) {
                        *sum += quad.iter().map(|&b| i32::from(b)).sum::<i32>();
                    }
                }
                sums.iter_mut().for_each(|sum| *sum = sum.wrapping_mul(factor));
            }
        },
    );
}

/// [`matmul`] of floats: each output is one chain of fused multiply-adds from 0 over k in order.
///
/// # Errors
/// The shapes do not fit.
pub fn float_matmul(a: &Tensor, b: &Tensor, turned: Turned) -> Result<Tensor> {
    float_matmul_with(select_float(), a, b, turned)
}

/// [`float_matmul`] by a given row of the kernel table: for tests and benches.
///
/// # Errors
/// As there.
pub fn float_matmul_with(kernel: &FloatKernel, a: &Tensor, b: &Tensor, turned: Turned) -> Result<Tensor> {
    let pairs @ Pairs { m, k, n, .. } = Pairs::of(a.shape(), b.shape(), turned)?;
    check_offsets(OP, "elements of a matrix", (m + 1) * (k + 1))?;
    if k == 0 {
        return Ok(Tensor::zeros(&pairs.shape(a.shape())));
    }
    float::count();
    let (group, panels) = (pairs.group(), pairs.panels());
    let (row, step) = if turned == Turned::Left { (1, m) } else { (k, 1) };
    let base: Buffer<u32> = (0..m).map(|i| (i * row) as u32).collect();
    let koff: Buffer<u32> = (0..k).map(|i| (i * step) as u32).collect();
    let zeros = Buffer::<f32>::zeroed(panels * COLUMNS);
    let mut out = Tensor::take(&pairs.shape(a.shape()));
    run_chunks(out.data_mut(), group * m * n, pairs.macs() as usize, |(index, out)| {
        let mut right = Buffer::<f32>::zeroed(panels * k * COLUMNS);
        let mut room = Buffer::take(pairs.room());
        for (i, out) in out.chunks_exact_mut((m * n).max(1)).enumerate() {
            let pair = index * group + i;
            let b = &b.data()[pair * k * n..][..k * n];
            for (panel, to) in right.chunks_exact_mut((k * COLUMNS).max(1)).enumerate() {
                let first = panel * COLUMNS;
                let valid = COLUMNS.min(n - first);
                for (q, to) in to.chunks_exact_mut(COLUMNS).enumerate() {
                    match turned {
                        Turned::Right => {
                            to.iter_mut().zip(b[first * k + q..].iter().step_by(k)).for_each(|(to, &b)| *to = b);
                        }
                        _ => to[..valid].copy_from_slice(&b[q * n + first..][..valid]),
                    }
                }
            }
            let lhs = &a.data()[pair * m * k..][..m * k];
            pairs.place(out, &mut room, |out, out_stride| {
                kernel.run(Job {
                    lhs,
                    base: &base,
                    koff: &koff,
                    rhs: &right,
                    panel_stride: k * COLUMNS,
                    panels,
                    start: Start::Columns(&zeros),
                    out,
                    out_stride,
                });
            });
        }
    });
    Ok(out)
}
