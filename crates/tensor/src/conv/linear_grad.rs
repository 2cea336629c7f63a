//! The weight gradient of a linear layer: `out[o][i] = Σ_n g[n][o] · x[n][i]`.
//!
//! A row of the tile is an output and a column an input, so that the sums lie as the weights do and nothing is turned
//! round; they are made in bands of rows that stay in the cache until they are scaled. The walk over images is that
//! of [`super::weight_grad`] over pixels: blocks of 16 outputs keep it dense. Floats take the same way.

use super::{check_offsets, run_chunks};
use crate::kernel::{COLUMNS, FloatKernel, Job, Kernel, QUAD, Start, pack};
use crate::{Buffer, Codes, Conv2dGeometry, Result, Tensor, map};

const OP: &str = "linear_weight_grad";
/// Rows of a band.
const BAND: usize = 60;

/// Whether `geo` is a linear layer over at most `most` images.
pub(crate) fn fits(geo: &Conv2dGeometry, most: usize) -> bool {
    let one = [geo.h, geo.w, geo.kernel[0], geo.kernel[1]] == [1; 4] && geo.padding == [0; 2];
    one && geo.groups == 1 && geo.n > 0 && geo.n <= most
}

/// What a code is lessened by to lie in a signed byte around zero, and the level that stands for.
fn middle(x: &Codes) -> (u8, i32) {
    match x.range().min() {
        0 => (x.byte_max().div_ceil(2), i32::from(x.byte_max().div_ceil(2))),
        _ => (x.zero(), 0),
    }
}

/// The largest magnitude of the right operand: levels that start at zero are shifted by half of their range.
pub(crate) fn right_max(x: &Codes) -> u8 {
    match x.range().min() {
        0 => x.byte_max().div_ceil(2),
        _ => x.level_max(),
    }
}

/// The weight gradient [O, 1, 1, I] from `x` [N, 1, 1, I] and `g` [N, 1, 1, O], which [`fits`] and whose sums fit 32 bits.
///
/// # Errors
/// The output gradient has too many elements for offsets of 32 bits.
pub(crate) fn integers(kernel: &Kernel, x: &Codes, g: &Codes, geo: &Conv2dGeometry) -> Result<Tensor> {
    let (n, inputs, outputs) = (geo.n, geo.c_in, geo.c_out);
    let steps = n.div_ceil(QUAD);
    let (panels, blocks) = (inputs.div_ceil(COLUMNS), outputs.div_ceil(COLUMNS));
    let work = geo.macs() as usize;
    let (shift, level) = middle(x);
    check_offsets(OP, "elements of the output gradient", blocks * steps * COLUMNS * QUAD)?;

    // Missing images are level 0 of g, and whatever of x.
    let mut left = Buffer::take(blocks * steps * COLUMNS * QUAD);
    let mut filler = Buffer::take(outputs);
    filler.fill(g.zero());
    run_chunks(&mut left, steps * COLUMNS * QUAD, work, |(block, to)| {
        let first = block * COLUMNS;
        let valid = COLUMNS.min(outputs - first);
        for (step, to) in to.chunks_exact_mut(COLUMNS * QUAD).enumerate() {
            let row = |j: usize| match step * QUAD + j {
                i if i < n => &g.bytes()[i * outputs + first..][..valid],
                _ => &filler[..valid],
            };
            pack::interleave4([row(0), row(1), row(2), row(3)], 0, &mut to[..valid * QUAD]);
            to[valid * QUAD..].fill(g.zero());
        }
    });
    let mut right = Buffer::take(panels * steps * COLUMNS * QUAD);
    let mut empty = Buffer::take(inputs);
    empty.fill(shift);
    run_chunks(&mut right, steps * COLUMNS * QUAD, work, |(panel, to)| {
        let first = panel * COLUMNS;
        let valid = COLUMNS.min(inputs - first);
        for (step, to) in to.chunks_exact_mut(COLUMNS * QUAD).enumerate() {
            let row = |j: usize| match step * QUAD + j {
                i if i < n => &x.bytes()[i * inputs + first..][..valid],
                _ => &empty[..valid],
            };
            pack::interleave4([row(0), row(1), row(2), row(3)], shift, &mut to[..valid * QUAD]);
            to[valid * QUAD..].fill(0);
        }
    });
    // Σ_n of what the right operand holds, a column; of the levels of g, a row.
    let rhs = pack::as_signed(&right);
    let bias = i32::from(kernel.lhs_bias) - i32::from(g.zero());
    let mut start = Buffer::<i32>::zeroed(panels * COLUMNS);
    let mut rows = Buffer::<i32>::zeroed(outputs);
    map::dispatch(
        #[inline(always)]
        || {
            for (start, panel) in start.chunks_exact_mut(COLUMNS).zip(rhs.chunks_exact(steps * COLUMNS * QUAD)) {
                for step in panel.chunks_exact(COLUMNS * QUAD) {
                    for (sum, quad) in start.iter_mut().zip(step.chunks_exact(QUAD)) {
                        *sum += quad.iter().map(|&b| i32::from(b)).sum::<i32>();
                    }
                }
                start.iter_mut().for_each(|sum| *sum = sum.wrapping_mul(bias));
            }
            if level != 0 {
                for g_row in g.bytes().chunks_exact(outputs) {
                    rows.iter_mut().zip(g_row).for_each(|(sum, &b)| *sum += i32::from(b) - i32::from(g.zero()));
                }
            }
        },
    );
    let koff: Buffer<u32> = (0..steps).map(|q| (q * COLUMNS * QUAD) as u32).collect();
    let scale = x.scale() * g.scale();
    let width = panels * COLUMNS;
    let mut out = Tensor::take(&geo.weight_shape());
    run_chunks(out.data_mut(), BAND * inputs, work, |(band, out)| {
        let first = band * BAND;
        let count = out.len() / inputs;
        let base: Buffer<u32> =
            (first..first + count).map(|o| ((o / COLUMNS * steps * COLUMNS + o % COLUMNS) * QUAD) as u32).collect();
        let mut sums: Buffer<i32> = Buffer::take(count * width);
        kernel.run(Job {
            lhs: &left,
            base: &base,
            koff: &koff,
            rhs,
            panel_stride: steps * COLUMNS * QUAD,
            panels,
            start: Start::Columns(&start),
            out: &mut sums,
            out_stride: width,
        });
        map::dispatch(
            #[inline(always)]
            || {
                for ((out, sums), g) in out.chunks_exact_mut(inputs).zip(sums.chunks_exact(width)).zip(&rows[first..]) {
                    let shift = g.wrapping_mul(level);
                    out.iter_mut().zip(sums).for_each(|(to, &s)| *to = s.wrapping_add(shift) as f32 * scale);
                }
            },
        );
    });
    Ok(out)
}

/// [`integers`] of floats: one chain of fused multiply-adds over the images a weight.
///
/// # Errors
/// As there.
pub(crate) fn floats(kernel: &FloatKernel, x: &Tensor, g: &Tensor, geo: &Conv2dGeometry) -> Result<Tensor> {
    let (n, inputs, outputs) = (geo.n, geo.c_in, geo.c_out);
    check_offsets(OP, "elements of the output gradient", outputs.next_multiple_of(COLUMNS) * n)?;
    let work = geo.macs() as usize;
    let blocked = |data: &[f32], width: usize| {
        let mut to = Buffer::take(width.div_ceil(COLUMNS) * n * COLUMNS);
        run_chunks(&mut to, n * COLUMNS, work, |(block, to)| {
            let first = block * COLUMNS;
            let valid = COLUMNS.min(width - first);
            for (to, from) in to.chunks_exact_mut(COLUMNS).zip(data.chunks_exact(width)) {
                to[..valid].copy_from_slice(&from[first..first + valid]);
                to[valid..].fill(0.0);
            }
        });
        to
    };
    let (left, right) = (blocked(g.data(), outputs), blocked(x.data(), inputs));
    let koff: Buffer<u32> = (0..n).map(|i| (i * COLUMNS) as u32).collect();
    let width = inputs.next_multiple_of(COLUMNS);
    let zeros = Buffer::<f32>::zeroed(width);
    let mut out = Tensor::take(&geo.weight_shape());
    run_chunks(out.data_mut(), BAND * inputs, work, |(band, out)| {
        let first = band * BAND;
        let count = out.len() / inputs;
        let base: Buffer<u32> =
            (first..first + count).map(|o| (o / COLUMNS * n * COLUMNS + o % COLUMNS) as u32).collect();
        let run = |out: &mut [f32], out_stride| {
            kernel.run(Job {
                lhs: &left,
                base: &base,
                koff: &koff,
                rhs: &right,
                panel_stride: n * COLUMNS,
                panels: width / COLUMNS,
                start: Start::Columns(&zeros),
                out,
                out_stride,
            });
        };
        if width == inputs {
            return run(out, inputs);
        }
        let mut sums: Buffer<f32> = Buffer::take(count * width);
        run(&mut sums, width);
        for (out, sums) in out.chunks_exact_mut(inputs).zip(sums.chunks_exact(width)) {
            out.copy_from_slice(&sums[..inputs]);
        }
    });
    Ok(out)
}
