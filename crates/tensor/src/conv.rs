//! The exact integer products: convolution, its two gradients, and the same three of a linear layer.
//!
//! All but depthwise convolutions (`depthwise.rs`) goes through the tile of [`crate::kernel`]; see `plan.rs` for forward passes and input gradients and
//! `weight_grad.rs` for the third product. Sums are integers, so no order, split or thread count shows in a result.

mod bits;
pub(crate) mod depthwise;
pub(crate) mod grouped;
pub(crate) mod linear_grad;
mod matrices;
pub(crate) mod plan;
mod weight_grad;

use crate::kernel::{BitKernel, COLUMNS, Job, Kernel, QUAD, Start, pack, select, select_bits};
use crate::{Buffer, Codes, Conv2dGeometry, Error, Range, Result, Sums, map, reduce, shared};
pub use matrices::{Pairs, Turned, float_matmul, float_matmul_with, matmul, matmul_with};
use plan::{NONE, Phase, Plan, check};
use std::sync::{Arc, Mutex};
pub use weight_grad::{conv2d_weight_grad, conv2d_weight_grad_with};

/// Weights laid out for the tiles of one direction of a convolution: build once, use for any number of batches.
#[derive(Debug, Clone)]
pub struct PackedWeights {
    op: &'static str,
    geo: Conv2dGeometry,
    range: Range,
    scale: f32,
    plan: Arc<Plan>,
    /// One a phase.
    panels: Vec<Panels>,
    /// Whether its products sum their columns.
    moments: bool,
}

#[derive(Debug, Clone)]
struct Panels {
    /// [panel][step][column][k of the step], as signed levels.
    bytes: Buffer<u8>,
    /// The sum of each column, all panels.
    sums: Buffer<i32>,
    /// A bound of the sum of the positive weights of a column, and of the negative ones without their sign.
    positive: i64,
    negative: i64,
}

impl PackedWeights {
    /// Packs `w` [O, KH, KW, I] for [`conv2d_packed`] forward: x [N, H, W, I] to [N, H_out, W_out, O].
    ///
    /// # Errors
    /// The shape of `w` is not that of `geo`, or its levels do not fit a signed byte.
    pub fn forward(w: &Codes, geo: &Conv2dGeometry) -> Result<Self> {
        Self::new("conv2d", w, geo, Plan::forward(geo, QUAD), true)
    }

    /// Packs `w` [O, KH, KW, I] for the input gradient: g [N, H_out, W_out, O] to [N, H, W, I].
    ///
    /// # Errors
    /// As [`PackedWeights::forward`].
    pub fn input_grad(w: &Codes, geo: &Conv2dGeometry) -> Result<Self> {
        Self::new("conv2d_input_grad", w, geo, Plan::input_grad(geo, QUAD), false)
    }

    fn new(op: &'static str, w: &Codes, geo: &Conv2dGeometry, plan: Arc<Plan>, moments: bool) -> Result<Self> {
        check(op, "weight", &geo.weight_shape(), w.shape())?;
        check_right(op, w)?;
        one_group(op, geo)?;
        check_offsets(op, "number of weights", w.len())?;
        let panels = plan.phases.iter().map(|p| Panels::new(w, &plan, p)).collect();
        Ok(Self { op, geo: *geo, range: w.range(), scale: w.scale(), plan, panels, moments })
    }

    /// The largest magnitude that a sum can have with a left operand of `range`, given these weights.
    fn reach(&self, range: Range) -> i64 {
        let reach = self.panels.iter().map(|p| match range.min() {
            0 => p.positive.max(p.negative),
            _ => p.positive + p.negative,
        });
        reach.max().unwrap_or(0) * i64::from(range.level_max())
    }

    /// The geometry that it was packed for; the number of images may differ.
    pub fn geometry(&self) -> &Conv2dGeometry {
        &self.geo
    }
}

/// A row of the kernel table works on one group.
pub(crate) fn one_group(op: &'static str, geo: &Conv2dGeometry) -> Result<()> {
    if geo.groups == 1 { Ok(()) } else { Err(Error::range(op, "groups", 1, geo.groups)) }
}

/// Offsets of the tiles are of 32 bits.
pub(crate) fn check_offsets(op: &'static str, what: &'static str, elements: usize) -> Result<()> {
    match u32::try_from(elements) {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::range(op, what, "below 2^32", elements)),
    }
}

/// A right operand lies in panels of i8.
fn check_right(op: &'static str, codes: &Codes) -> Result<()> {
    if codes.range().max() > 127 {
        return Err(Error::range(op, "largest level of the right operand", "at most 127", codes.range().max()));
    }
    Ok(())
}

impl Panels {
    fn new(w: &Codes, plan: &Plan, phase: &Phase) -> Self {
        let columns = plan.result[2];
        let count = columns.div_ceil(COLUMNS);
        let steps = phase.koff.len();
        let (data, zero, stride) = (w.bytes(), w.zero(), plan.column_stride);
        let mut bytes = Buffer::take(count * steps * COLUMNS * QUAD);
        let filler = [zero; COLUMNS];
        let length = steps * COLUMNS * QUAD;
        const STEP: usize = COLUMNS * QUAD;
        // Where 16 k in a row lie in a row, four steps are packed together.
        let dense: Vec<bool> = phase
            .source
            .chunks(16)
            .map(|k| k.len() == 16 && k.windows(2).all(|k| k[0] != NONE && k[1] == k[0] + 1))
            .collect();
        let body = |(p, panel): (usize, &mut [u8])| {
            let first = p * COLUMNS;
            let valid = COLUMNS.min(columns - first);
            if stride == 1 && valid == COLUMNS {
                for (step, k) in panel.chunks_exact_mut(STEP).zip(phase.source.chunks_exact(QUAD)) {
                    let row = |j: usize| match k[j] {
                        NONE => &filler[..],
                        k => &data[k as usize + first..][..COLUMNS],
                    };
                    pack::interleave4([row(0), row(1), row(2), row(3)], zero, step);
                }
                return;
            }
            for ((four, k), &dense) in panel.chunks_mut(4 * STEP).zip(phase.source.chunks(16)).zip(&dense) {
                if dense && valid == COLUMNS {
                    for c in (0..COLUMNS).step_by(4) {
                        let row = |j: usize| &data[k[0] as usize + (first + c + j) * stride..][..16];
                        pack::transpose4([row(0), row(1), row(2), row(3)], zero, four, c);
                    }
                    continue;
                }
                four.fill(0);
                for (step, k) in four.chunks_exact_mut(STEP).zip(k.chunks_exact(QUAD)) {
                    for (c, to) in step.chunks_exact_mut(QUAD).take(valid).enumerate() {
                        for (to, &k) in to.iter_mut().zip(k).filter(|(_, k)| **k != NONE) {
                            *to = data[k as usize + (first + c) * stride].wrapping_sub(zero);
                        }
                    }
                }
            }
        };
        run_chunks(&mut bytes, length, count * length, body);
        // The sum of each column, and of its magnitudes.
        let mut both = Buffer::<[i32; 2]>::zeroed(count * COLUMNS);
        if length > 0 {
            let add = |(p, both): (usize, &mut [[i32; 2]])| {
                let (mut sums, mut magnitudes) = ([0i32; COLUMNS], [0i32; COLUMNS]);
                map::dispatch(
                    #[inline(always)]
                    || {
                        for step in bytes[p * length..][..length].chunks_exact(STEP) {
                            let columns = sums.iter_mut().zip(&mut magnitudes).zip(step.chunks_exact(QUAD));
                            for ((sum, magnitude), k) in columns {
                                *sum += k.iter().map(|&b| i32::from(b as i8)).sum::<i32>();
                                *magnitude += k.iter().map(|&b| i32::from(b as i8).abs()).sum::<i32>();
                            }
                        }
                    },
                );
                both.iter_mut().zip(sums.iter().zip(&magnitudes)).for_each(|(to, (&s, &m))| *to = [s, m]);
            };
            run_chunks(&mut both, COLUMNS, count * length, add);
        }
        // Magnitudes are the sum of both signs' parts, sums their difference.
        let part = |sign: i64| {
            let parts = both.iter().map(|&[s, m]| (i64::from(m) + sign * i64::from(s)) / 2);
            parts.max().unwrap_or(0)
        };
        let (positive, negative) = (part(1), part(-1));
        let sums = both.iter().map(|&[sum, _]| sum).collect();
        Self { bytes, sums, positive, negative }
    }
}

/// The exact sums of a convolution of `x` [N, H, W, I] with `w` [O, KH, KW, I]: [N, H_out, W_out, O].
///
/// Forward products sum their columns on the way, while they are in the cache: see [`Sums::moments`].
///
/// # Errors
/// A shape is not that of `geo`, levels of `w` exceed a signed byte, or a sum could exceed 32 bits.
pub fn conv2d(x: &Codes, w: &Codes, geo: &Conv2dGeometry) -> Result<Sums> {
    check("conv2d", "image", &geo.input_shape(), x.shape())?;
    match geo.groups {
        1 if bits::fits(x, w) && bits::pays(geo) => conv2d_bits_with(select_bits(), x, w, geo),
        1 => conv2d_packed(x, &PackedWeights::forward(w, geo)?),
        _ if geo.is_depthwise() => depthwise::sums(x, w, geo, false),
        _ => grouped::forward(x, w, geo, conv2d),
    }
}

/// [`conv2d`] of one-bit operands by a given row of the table of bit kernels: for tests and benches.
///
/// # Errors
/// As [`conv2d`], or the levels of `x` are not 0 and 1 or -1 and +1, or those of `w` not -1 and +1.
pub fn conv2d_bits_with(kernel: &BitKernel, x: &Codes, w: &Codes, geo: &Conv2dGeometry) -> Result<Sums> {
    const OP: &str = "conv2d of bits";
    check(OP, "image", &geo.input_shape(), x.shape())?;
    check(OP, "weight", &geo.weight_shape(), w.shape())?;
    one_group(OP, geo)?;
    if !bits::fits(x, w) {
        let found = format!("{:?} and {:?}", x.range(), w.range());
        return Err(Error::range(OP, "levels of the operands", "0, 1 or -1, +1, and -1, +1", found));
    }
    bits::forward(kernel, x, w, geo)
}

/// The exact sums of the input gradient from `g` [N, H_out, W_out, O] and `w` [O, KH, KW, I]: [N, H, W, I].
///
/// # Errors
/// As [`conv2d`].
pub fn conv2d_input_grad(g: &Codes, w: &Codes, geo: &Conv2dGeometry) -> Result<Sums> {
    check("conv2d_input_grad", "image", &geo.output_shape(), g.shape())?;
    match geo.groups {
        1 => conv2d_packed(g, &PackedWeights::input_grad(w, geo)?),
        _ if geo.is_depthwise() => depthwise::sums(g, w, geo, true),
        _ => grouped::input_grad(g, w, geo, conv2d_input_grad),
    }
}

/// [`conv2d`] or [`conv2d_input_grad`], whichever direction `w` was packed for, of any number of images.
///
/// # Errors
/// The images do not have the packed geometry, or a sum could exceed 32 bits.
pub fn conv2d_packed(x: &Codes, w: &PackedWeights) -> Result<Sums> {
    conv2d_packed_with(select(x.byte_max(), w.range.level_max()), x, w)
}

/// [`conv2d_packed`] by a given row of the kernel table: for tests and benches.
///
/// # Errors
/// As [`conv2d_packed`], or the kernel is not exact for these ranges.
pub fn conv2d_packed_with(kernel: &Kernel, x: &Codes, w: &PackedWeights) -> Result<Sums> {
    let (op, plan) = (w.op, &w.plan);
    let n = x.shape().first().copied().unwrap_or(0);
    let [h, width, c] = plan.source;
    check(op, "image", &[n, h, width, c], x.shape())?;
    check_admits(op, kernel, x, w.range.level_max())?;
    let k = plan.phases.iter().map(|p| p.source.iter().filter(|&&k| k != NONE).count()).max().unwrap_or(0);
    check_sum(op, k, x.level_max(), w.range.level_max())?;
    let group = plan.group(op, n, 1, kernel.mr)?;
    let [ho, wo, columns] = plan.result;
    // What the kernel subtracts from each left byte, less what the byte holds above the level.
    let shift = i32::from(kernel.lhs_bias) - i32::from(x.zero());
    let starts: Vec<Buffer<i32>> =
        w.panels.iter().map(|p| p.sums.iter().map(|s| s.wrapping_mul(shift)).collect()).collect();
    let bases: Vec<Buffer<u32>> = plan.phases.iter().map(|p| plan.bases(p, group)).collect();
    let compute = |index: usize, out: &mut [i32]| {
        let first = index * group;
        let count = group.min(n - first);
        let image = plan.prepare(x.bytes(), first, count, x.zero());
        for (((phase, panels), start), base) in plan.phases.iter().zip(&w.panels).zip(&starts).zip(&bases) {
            let steps = phase.koff.len();
            let panel_stride = steps * COLUMNS * QUAD;
            let rows = &base[..count * phase.base.len()];
            let rhs = pack::as_signed(&panels.bytes);
            run_panels(out, rows, phase, columns, ho * wo, |panel, count, out, out_stride| {
                kernel.run(Job {
                    lhs: &image,
                    base: rows,
                    koff: &phase.koff,
                    rhs: &rhs[panel * panel_stride..],
                    panel_stride,
                    panels: count,
                    start: Start::Columns(&start[panel * COLUMNS..]),
                    out,
                    out_stride,
                });
            });
        }
    };
    let (shape, scale) = ([n, ho, wo, columns], x.scale() * w.scale);
    let work = w.geo.macs() as usize / w.geo.n.max(1) * n;
    collect(&shape, scale, group * plan.result_len(), work, w.reach(x.range()), w.moments, compute)
}

/// Sums of `shape` from `compute(chunk index, its sums)`, in chunks of `length`, with their moments where `moments`.
/// No magnitude is above `reach`: if that fits 16 bits the sums are kept so.
fn collect(
    shape: &[usize],
    scale: f32,
    length: usize,
    work: usize,
    reach: i64,
    moments: bool,
    compute: impl Fn(usize, &mut [i32]) + Sync + Send,
) -> Result<Sums> {
    let len = shape.iter().product();
    let columns = shape.last().copied().unwrap_or(1);
    let total = Mutex::new(Buffer::zeroed(if moments { columns } else { 0 }));
    let add = |part: &[(i64, i128)]| reduce::add_moments(&mut total.lock().unwrap_or_else(|e| e.into_inner()), part);
    let sums = if reach <= i64::from(i16::MAX) {
        let mut out: Buffer<i16> = Buffer::take(len);
        run_chunks(&mut out, length, work, |(index, out)| {
            let mut wide = Buffer::take(out.len());
            compute(index, &mut wide);
            if moments {
                return add(&reduce::narrow_moments(&wide, columns, reach, out));
            }
            map::dispatch(
                #[inline(always)]
                || out.iter_mut().zip(&*wide).for_each(|(o, &w)| *o = w as i16),
            );
        });
        Sums::narrow(shape, scale, out)?
    } else {
        let mut out: Buffer<i32> = Buffer::take(len);
        run_chunks(&mut out, length, work, |(index, out)| {
            compute(index, out);
            if moments {
                add(&reduce::moments_of_block(out, columns));
            }
        });
        Sums::new(shape, scale, out)?
    };
    Ok(if moments { sums.with_moments(total.into_inner().unwrap_or_else(|e| e.into_inner())) } else { sums })
}

/// Work (products, or elements moved) below which waking other threads costs more than it saves.
pub(crate) const SMALL: u64 = 1 << 20;

/// `body` of each chunk of `out` and its index, by several threads unless the work is small.
pub(crate) fn run_chunks<T: Send>(out: &mut [T], length: usize, work: usize, body: impl Fn((usize, &mut [T])) + Sync) {
    if out.is_empty() || length == 0 {
        return;
    }
    if (work as u64) < SMALL || out.len() <= length {
        out.chunks_mut(length).enumerate().for_each(body);
    } else {
        shared::parts(out, length, &|i, out| body((i, out)));
    }
}

/// Calls `run(first panel, panels, out, stride)` so that whole panels go straight into `out` and the rest through a
/// scratch: the last columns, and pixels that do not lie in order.
pub(crate) fn run_panels<S: crate::Element>(
    out: &mut [S],
    rows: &[u32],
    phase: &Phase,
    columns: usize,
    pixels: usize,
    run: impl Fn(usize, usize, &mut [S], usize),
) {
    if rows.is_empty() {
        return;
    }
    let panels = columns.div_ceil(COLUMNS);
    let whole = if phase.pixels.is_none() { columns / COLUMNS } else { 0 };
    if whole > 0 {
        run(0, whole, out, columns);
    }
    if whole == panels {
        return;
    }
    let mut scratch = Buffer::take(rows.len() * COLUMNS);
    for panel in whole..panels {
        run(panel, 1, &mut scratch, COLUMNS);
        let valid = COLUMNS.min(columns - panel * COLUMNS);
        let copy = |out: &mut [S], at: usize, from: &[S]| {
            out[at * columns + panel * COLUMNS..][..valid].copy_from_slice(&from[..valid]);
        };
        match &phase.pixels {
            None => scratch.chunks_exact(COLUMNS).enumerate().for_each(|(i, from)| copy(out, i, from)),
            Some(places) => {
                for (i, from) in scratch.chunks_exact(COLUMNS).enumerate() {
                    copy(out, i / places.len() * pixels + places[i % places.len()] as usize, from);
                }
            }
        }
    }
}

fn check_admits(op: &'static str, kernel: &Kernel, left: &Codes, right_max: u8) -> Result<()> {
    if kernel.admits(left.byte_max(), right_max) {
        return Ok(());
    }
    let found = format!("{} · {}", left.byte_max(), right_max);
    let most = format!("at most {}, left bytes to {}", kernel.product_max, kernel.lhs_max);
    Err(Error::range(op, "product of the operands' largest magnitudes", most, found))
}

/// Whether k products fit 32 bits.
fn check_sum(op: &'static str, k: usize, left: u8, right: u8) -> Result<()> {
    let most = max_products(left, right);
    if k <= most { Ok(()) } else { Err(Error::range(op, "products of a sum", format!("at most {most}"), k)) }
}

/// How many products of these magnitudes fit in 32 bits.
fn max_products(left: u8, right: u8) -> usize {
    i32::MAX as usize / (usize::from(left) * usize::from(right)).max(1)
}

/// A matrix as images of one pixel.
fn pixels(op: &'static str, codes: &Codes) -> Result<Codes> {
    let &[rows, columns] = codes.shape() else { return Err(Error::shape(op, "[rows, columns]", codes.shape())) };
    codes.reshape(&[rows, 1, 1, columns])
}

fn flat(sums: Sums) -> Result<Sums> {
    let shape = [sums.shape()[0], sums.shape()[3]];
    sums.reshape(&shape)
}

/// The exact sums of `x` [N, I] times `w` [O, I] transposed: [N, O].
///
/// # Errors
/// As [`conv2d`].
pub fn linear(x: &Codes, w: &Codes) -> Result<Sums> {
    let (x, w) = (pixels("linear", x)?, pixels("linear", w)?);
    flat(conv2d(&x, &w, &Conv2dGeometry::linear(x.shape()[0], w.shape()[3], w.shape()[0])?)?)
}

/// [`linear`] by a given row of the kernel table: for tests and benches.
///
/// # Errors
/// As [`linear`], or the kernel is not exact for these ranges.
pub fn linear_by(kernel: &Kernel, x: &Codes, w: &Codes) -> Result<Sums> {
    let (x, w) = (pixels("linear", x)?, pixels("linear", w)?);
    let geo = Conv2dGeometry::linear(x.shape()[0], w.shape()[3], w.shape()[0])?;
    flat(conv2d_packed_with(kernel, &x, &PackedWeights::forward(&w, &geo)?)?)
}

/// The exact sums of `g` [N, O] times `w` [O, I]: [N, I].
///
/// # Errors
/// As [`conv2d`].
pub fn linear_input_grad(g: &Codes, w: &Codes) -> Result<Sums> {
    let (g, w) = (pixels("linear_input_grad", g)?, pixels("linear_input_grad", w)?);
    let geo = Conv2dGeometry::linear(g.shape()[0], w.shape()[3], w.shape()[0])?;
    flat(conv2d_input_grad(&g, &w, &geo)?)
}

/// `g` [N, O] transposed times `x` [N, I], times both scales: [O, I].
///
/// # Errors
/// As [`conv2d_weight_grad`].
pub fn linear_weight_grad(x: &Codes, g: &Codes) -> Result<crate::Tensor> {
    let (x, g) = (pixels("linear_weight_grad", x)?, pixels("linear_weight_grad", g)?);
    let (inputs, outputs) = (x.shape()[3], g.shape()[3]);
    let geo = Conv2dGeometry::linear(x.shape()[0], inputs, outputs)?;
    conv2d_weight_grad(&x, &g, &geo)?.reshape(&[outputs, inputs])
}
