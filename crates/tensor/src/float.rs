//! Products of `f32` for layers that are not quantized, with the same bits on every machine and any number of threads.
//!
//! Each output is one chain of fused multiply-adds from 0 over k in order: k is (tap row, tap column, input channel) in
//! memory order of what is read, so input gradients go through the taps backwards. Padding takes part as zeros. A
//! weight gradient is such a chain over the pixels of a block of images (as many as hold 4096 pixels), and blocks are
//! added in order. The way through memory is that of [`crate::conv2d`], with steps of one float. Depthwise convolutions
//! go their own way, said in `conv/depthwise.rs`.

use crate::conv::plan::{NONE, Phase, Plan, check};
use crate::conv::{SMALL, check_offsets, run_chunks, run_panels};
use crate::conv::{depthwise, grouped, linear_grad, one_group};
use crate::kernel::{COLUMNS, FloatKernel, Job, Start, select_float};
use crate::{Buffer, Conv2dGeometry, Result, Tensor};
use rayon::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};

static PRODUCTS: AtomicU64 = AtomicU64::new(0);

/// How many float products this process has made: quantized layers make none.
pub fn float_products() -> u64 {
    PRODUCTS.load(Ordering::Relaxed)
}

pub(crate) fn count() {
    PRODUCTS.fetch_add(1, Ordering::Relaxed);
}

/// Pixels of a block of images whose sum is one chain.
const CHAIN: usize = 4096;
/// Steps of a call of the tile in a weight gradient.
const STEPS: usize = 256;

/// `x` [N, H, W, I] convolved with `w` [O, KH, KW, I]: [N, H_out, W_out, O].
///
/// # Errors
/// A shape is not that of `geo`.
pub fn conv2d(x: &Tensor, w: &Tensor, geo: &Conv2dGeometry) -> Result<Tensor> {
    match geo.groups {
        1 => conv2d_with(select_float(), x, w, geo),
        _ if geo.is_depthwise() => {
            count();
            depthwise::floats(x, w, geo, false)
        }
        _ => grouped::float_forward(x, w, geo, conv2d),
    }
}

/// [`conv2d`] by a given row of the kernel table.
///
/// # Errors
/// As [`conv2d`].
pub fn conv2d_with(kernel: &FloatKernel, x: &Tensor, w: &Tensor, geo: &Conv2dGeometry) -> Result<Tensor> {
    check("float conv2d", "input", &geo.input_shape(), x.shape())?;
    check("float conv2d", "weight", &geo.weight_shape(), w.shape())?;
    one_group("float conv2d", geo)?;
    product("float conv2d", kernel, x.data(), w.data(), &Plan::forward(geo, 1), geo.n)
}

/// The gradient of the input from `g` [N, H_out, W_out, O] and `w` [O, KH, KW, I]: [N, H, W, I].
///
/// # Errors
/// A shape is not that of `geo`.
pub fn conv2d_input_grad(g: &Tensor, w: &Tensor, geo: &Conv2dGeometry) -> Result<Tensor> {
    match geo.groups {
        1 => conv2d_input_grad_with(select_float(), g, w, geo),
        _ if geo.is_depthwise() => {
            count();
            depthwise::floats(g, w, geo, true)
        }
        _ => grouped::float_input_grad(g, w, geo, conv2d_input_grad),
    }
}

/// [`conv2d_input_grad`] by a given row of the kernel table.
///
/// # Errors
/// As [`conv2d_input_grad`].
pub fn conv2d_input_grad_with(kernel: &FloatKernel, g: &Tensor, w: &Tensor, geo: &Conv2dGeometry) -> Result<Tensor> {
    check("float conv2d_input_grad", "output gradient", &geo.output_shape(), g.shape())?;
    check("float conv2d_input_grad", "weight", &geo.weight_shape(), w.shape())?;
    one_group("float conv2d_input_grad", geo)?;
    product("float conv2d_input_grad", kernel, g.data(), w.data(), &Plan::input_grad(geo, 1), geo.n)
}

/// The panels of one phase.
fn pack_panels(w: &[f32], plan: &Plan, phase: &Phase) -> Buffer<f32> {
    let columns = plan.result[2];
    let steps = phase.koff.len();
    let mut panels = Buffer::zeroed(columns.div_ceil(COLUMNS) * steps * COLUMNS);
    let work = panels.len();
    run_chunks(&mut panels, steps * COLUMNS, work, |(p, panel)| {
        let first = p * COLUMNS;
        let valid = COLUMNS.min(columns - first);
        debug_assert!(!phase.source.contains(&NONE), "a step of one k has no filler");
        if plan.column_stride == 1 {
            for (step, &k) in panel.chunks_exact_mut(COLUMNS).zip(&phase.source) {
                step[..valid].copy_from_slice(&w[k as usize + first..][..valid]);
            }
            return;
        }
        // A few steps at a time: what is read along a row of the weights stays in the first cache.
        for (steps, k) in panel.chunks_mut(16 * COLUMNS).zip(phase.source.chunks(16)) {
            for c in 0..valid {
                let w = &w[(first + c) * plan.column_stride..];
                steps[c..].iter_mut().step_by(COLUMNS).zip(k).for_each(|(to, &k)| *to = w[k as usize]);
            }
        }
    });
    panels
}

fn product(op: &'static str, kernel: &FloatKernel, x: &[f32], w: &[f32], plan: &Plan, n: usize) -> Result<Tensor> {
    count();
    check_offsets(op, "number of weights", w.len())?;
    let group = plan.group(op, n, 4, kernel.mr)?;
    let [ho, wo, columns] = plan.result;
    let mut out = Tensor::take(&[n, ho, wo, columns]);
    if out.is_empty() {
        return Ok(out);
    }
    let panels: Vec<Buffer<f32>> = plan.phases.iter().map(|p| pack_panels(w, plan, p)).collect();
    let bases: Vec<Buffer<u32>> = plan.phases.iter().map(|p| plan.bases(p, group)).collect();
    let zeros = Buffer::<f32>::zeroed(columns.next_multiple_of(COLUMNS));
    let work = n * ho * wo * columns * plan.phases.iter().map(|p| p.koff.len()).max().unwrap_or(0);
    run_chunks(out.data_mut(), group * plan.result_len(), work, |(index, out)| {
        let first = index * group;
        let count = group.min(n - first);
        let image = plan.prepare(x, first, count, 0.0);
        for ((phase, panels), base) in plan.phases.iter().zip(&panels).zip(&bases) {
            let rows = &base[..count * phase.base.len()];
            let panel_stride = phase.koff.len() * COLUMNS;
            run_panels(out, rows, phase, columns, ho * wo, |panel, count, out, out_stride| {
                kernel.run(Job {
                    lhs: &image,
                    base: rows,
                    koff: &phase.koff,
                    rhs: &panels[panel * panel_stride..],
                    panel_stride,
                    panels: count,
                    start: Start::Columns(&zeros),
                    out,
                    out_stride,
                });
            });
        }
    });
    Ok(out)
}

/// The gradient of the weight from `x` [N, H, W, I] and `g` [N, H_out, W_out, O]: [O, KH, KW, I].
///
/// # Errors
/// A shape is not that of `geo`.
pub fn conv2d_weight_grad(x: &Tensor, g: &Tensor, geo: &Conv2dGeometry) -> Result<Tensor> {
    match geo.groups {
        1 => conv2d_weight_grad_with(select_float(), x, g, geo),
        _ if geo.is_depthwise() => {
            count();
            depthwise::float_weight_grad(x, g, geo)
        }
        _ => grouped::weight_grad(x, g, geo, conv2d_weight_grad),
    }
}

/// [`conv2d_weight_grad`] by a given row of the kernel table.
///
/// # Errors
/// As [`conv2d_weight_grad`].
pub fn conv2d_weight_grad_with(kernel: &FloatKernel, x: &Tensor, g: &Tensor, geo: &Conv2dGeometry) -> Result<Tensor> {
    const OP: &str = "float conv2d_weight_grad";
    check(OP, "input", &geo.input_shape(), x.shape())?;
    check(OP, "output gradient", &geo.output_shape(), g.shape())?;
    one_group(OP, geo)?;
    count();
    let mut out = Tensor::zeros(&geo.weight_shape());
    if out.is_empty() || geo.n == 0 {
        return Ok(out);
    }
    if linear_grad::fits(geo, CHAIN) {
        return linear_grad::floats(kernel, x, g, geo);
    }
    let [ho, wo] = [geo.out_h(), geo.out_w()];
    let pixels = ho * wo;
    let plan = Plan::forward(geo, 1);
    let width = geo.c_out.next_multiple_of(COLUMNS);
    let images = (CHAIN / pixels).max(1);
    // Several images at once where they are small, so that a call of the tile has steps enough.
    let together = STEPS.div_ceil(pixels).min(images);
    check_offsets(OP, "elements of images taken together", together * plan.image_len())?;
    let koff: Buffer<u32> = plan.bases(&plan.phases[0], together);
    let weights = geo.kernel[0] * geo.kernel[1] * geo.c_in;
    // The rows of the tile are the steps of a forward pass. Threads may share them: no chain is cut.
    let share = if geo.n > images { weights } else { weights.div_ceil(8).next_multiple_of(COLUMNS).max(256) };
    let blocks: Vec<(usize, usize)> =
        (0..geo.n).step_by(images).flat_map(|i| (0..weights).step_by(share).map(move |r| (i, r))).collect();
    let sum = |&(start, row): &(usize, usize)| {
        let end = weights.min(row + share);
        // Images of one pixel would be walked over at a stride of all channels, which falls on few sets of the cache:
        // their channels are laid out in blocks of 16 first.
        let blocked = plan.image_len() == geo.c_in && geo.c_in > COLUMNS;
        let (rows, koff) = if blocked {
            let place = |r: usize| (r / COLUMNS * together * COLUMNS + r % COLUMNS) as u32;
            ((0..end - row).map(place).collect::<Buffer<_>>(), (0..together).map(|i| (i * COLUMNS) as u32).collect())
        } else {
            (plan.phases[0].koff[row..end].iter().copied().collect(), koff.clone())
        };
        let blocks = (end - row).div_ceil(COLUMNS);
        let mut dense: Buffer<f32> = Buffer::zeroed(if blocked { blocks * together * COLUMNS } else { 0 });
        let mut sums = Buffer::zeroed(rows.len() * width);
        let mut panels = Buffer::zeroed(together * pixels * width);
        let last = geo.n.min(start + images);
        for first in (start..last).step_by(together) {
            let count = together.min(last - first);
            let image = plan.prepare(x.data(), first, count, 0.0);
            if blocked {
                for (i, x) in image.chunks_exact(geo.c_in).enumerate() {
                    for (b, x) in x[row..end].chunks(COLUMNS).enumerate() {
                        dense[(b * together + i) * COLUMNS..][..x.len()].copy_from_slice(x);
                    }
                }
            }
            let steps = count * pixels;
            let g = &g.data()[first * pixels * geo.c_out..][..steps * geo.c_out];
            for (pixel, g) in g.chunks_exact(geo.c_out).enumerate() {
                for (p, g) in g.chunks(COLUMNS).enumerate() {
                    let to = &mut panels[(p * steps + pixel) * COLUMNS..][..COLUMNS];
                    to[..g.len()].copy_from_slice(g);
                    to[g.len()..].fill(0.0);
                }
            }
            for from in (0..steps).step_by(STEPS) {
                let koff = &koff[from..steps.min(from + STEPS)];
                for panel in (0..width / COLUMNS).step_by(2) {
                    kernel.run(Job {
                        lhs: if blocked { &dense } else { &image },
                        base: &rows,
                        koff,
                        rhs: &panels[(panel * steps + from) * COLUMNS..],
                        panel_stride: steps * COLUMNS,
                        panels: 2.min(width / COLUMNS - panel),
                        start: Start::Out,
                        out: &mut sums[panel * COLUMNS..],
                        out_stride: width,
                    });
                }
            }
        }
        sums
    };
    let parts: Vec<Buffer<f32>> =
        if geo.macs() < SMALL { blocks.iter().map(sum).collect() } else { blocks.par_iter().map(sum).collect() };
    run_chunks(out.data_mut(), weights * COLUMNS, weights * width * parts.len(), |(panel, out)| {
        for (&(start, row), part) in blocks.iter().zip(&parts) {
            // A few rows at a time, so that turning them round stays in the first cache.
            for (chunk, sums) in part.chunks(32 * width).enumerate() {
                for (c, out) in out.chunks_exact_mut(weights).enumerate() {
                    let sums = sums[panel * COLUMNS + c..].iter().step_by(width);
                    for (to, &sum) in out[row + 32 * chunk..].iter_mut().zip(sums) {
                        *to = if start == 0 { sum } else { *to + sum };
                    }
                }
            }
        }
    });
    Ok(out)
}

/// `x` [N, I] times `w` [O, I] transposed: [N, O].
///
/// # Errors
/// The tensors are not matrices that fit.
pub fn linear(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    let ([n, inputs], [outputs, i]) = (x.matrix("float linear")?, w.matrix("float linear")?);
    check("float linear", "input", &[n, i], x.shape())?;
    let plan = Plan::forward(&Conv2dGeometry::linear(n, inputs, outputs)?, 1);
    product("float linear", select_float(), x.data(), w.data(), &plan, n)?.reshape(&[n, outputs])
}

/// `g` [N, O] times `w` [O, I]: [N, I].
///
/// # Errors
/// The tensors are not matrices that fit.
pub fn linear_input_grad(g: &Tensor, w: &Tensor) -> Result<Tensor> {
    matmul(g, w)
}

/// `g` [N, O] transposed times `x` [N, I]: [O, I].
///
/// # Errors
/// The tensors are not matrices that fit.
pub fn linear_weight_grad(x: &Tensor, g: &Tensor) -> Result<Tensor> {
    const OP: &str = "float linear_weight_grad";
    let ([n, inputs], [rows, outputs]) = (x.matrix(OP)?, g.matrix(OP)?);
    check(OP, "output gradient", &[n, outputs], &[rows, outputs])?;
    let geo = Conv2dGeometry::linear(n, inputs, outputs)?;
    let (x, g) = (x.reshape(&[n, 1, 1, inputs])?, g.reshape(&[n, 1, 1, outputs])?);
    conv2d_weight_grad(&x, &g, &geo)?.reshape(&[outputs, inputs])
}

/// `a` [M, K] times `b` [K, N]: [M, N].
///
/// # Errors
/// The tensors are not matrices that fit.
pub fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let ([m, k], [rows, n]) = (a.matrix("float matmul")?, b.matrix("float matmul")?);
    check("float matmul", "right matrix", &[k, n], &[rows, n])?;
    let plan = Plan::input_grad(&Conv2dGeometry::linear(m, n, k)?, 1);
    product("float matmul", select_float(), a.data(), b.data(), &plan, m)?.reshape(&[m, n])
}
