//! The weight gradient: the sum runs over images and pixels, so the four k of a step are one pixel of four images.
//!
//! Images of x are interleaved into [channel block][group of four][row][column][channel][image], with a margin of zeros,
//! and the same ones of g into panels [panel][group and pixel][column][image]. A row of the tile is a (tap, channel): it walks over the
//! pixels with one step each, and channel blocks of 16 keep that walk dense. Sums stay in i32 over as many images as
//! the ranges allow and are added in i64. Floats take the same way, one image at a time.

use super::plan::check;
use super::{check_admits, check_offsets, check_right, linear_grad, max_products, run_chunks};
use crate::kernel::{COLUMNS, Job, Kernel, QUAD, Start, pack, select};
use crate::{Buffer, Codes, Conv2dGeometry, Element, Error, Result, Tensor};
use rayon::prelude::*;
use std::ops::{AddAssign, Range};

const OP: &str = "conv2d_weight_grad";
/// Channels of a block of the interleaved image.
const BLOCK: usize = 16;
/// Steps of a call of the tile: its part of x and of two panels stays in the first cache.
const STEPS: usize = 256;

/// What one task sums: some images, output rows and channel blocks.
struct Task {
    images: Range<usize>,
    rows: Range<usize>,
    blocks: Range<usize>,
}

/// The weight gradient from `x` [N, H, W, I] and `g` [N, H_out, W_out, O]: [O, KH, KW, I], the exact sum rounded once to
/// f32 and once more by the product with both scales.
///
/// # Errors
/// A shape is not that of `geo`, levels of `g` exceed a signed byte, or one row of pixels exceeds 32 bits.
pub fn conv2d_weight_grad(x: &Codes, g: &Codes, geo: &Conv2dGeometry) -> Result<Tensor> {
    match geo.groups {
        1 => {}
        _ if geo.is_depthwise() => return super::depthwise::weight_grad(x, g, geo),
        _ => return super::grouped::weight_grad(x, g, geo, conv2d_weight_grad),
    }
    check_right(OP, g)?;
    let kernel = if is_linear(x, g, geo) {
        select(g.byte_max(), linear_grad::right_max(x))
    } else {
        select(x.byte_max(), g.level_max())
    };
    conv2d_weight_grad_with(kernel, x, g, geo)
}

/// [`conv2d_weight_grad`] by a given row of the kernel table: for tests and benches.
///
/// # Errors
/// As [`conv2d_weight_grad`], or the kernel is not exact for these ranges.
pub fn conv2d_weight_grad_with(kernel: &Kernel, x: &Codes, g: &Codes, geo: &Conv2dGeometry) -> Result<Tensor> {
    check(OP, "input", &geo.input_shape(), x.shape())?;
    check(OP, "output gradient", &geo.output_shape(), g.shape())?;
    check_right(OP, g)?;
    super::one_group(OP, geo)?;
    if geo.weight_shape().contains(&0) {
        return Ok(Tensor::zeros(&geo.weight_shape()));
    }
    if is_linear(x, g, geo) {
        check_admits(OP, kernel, g, linear_grad::right_max(x))?;
        return linear_grad::integers(kernel, x, g, geo);
    }
    check_admits(OP, kernel, x, g.level_max())?;
    let layout = Layout::new(geo);
    let tasks = layout.tasks(max_products(x.level_max(), g.level_max()))?;
    for t in &tasks {
        let held = t.blocks.len() * layout.together(t) * layout.image();
        check_offsets(OP, "bytes of the interleaved images", held + QUAD)?;
    }
    let sum = |t: &Task| layout.sum(kernel, x, g, t);
    let parts: Vec<Buffer<i32>> =
        if geo.macs() < super::SMALL { tasks.iter().map(sum).collect() } else { tasks.par_iter().map(sum).collect() };

    let scale = x.scale() * g.scale();
    let products = geo.n * layout.out[0] * layout.out[1];
    Ok(if products <= max_products(x.level_max(), g.level_max()) {
        layout.finish(&tasks, &parts, |sum: i32| sum as f32 * scale)
    } else {
        layout.finish(&tasks, &parts, |sum: i64| sum as f32 * scale)
    })
}

/// Whether the operands trade places and the sums fit 32 bits at once.
fn is_linear(x: &Codes, g: &Codes, geo: &Conv2dGeometry) -> bool {
    linear_grad::fits(geo, max_products(x.level_max(), g.level_max()))
}

/// Sizes of the interleaved operands.
struct Layout {
    geo: Conv2dGeometry,
    out: [usize; 2],
    /// Height and width of the interleaved image, just what the windows reach.
    padded: [usize; 2],
    /// Channels a block, and blocks.
    channels: usize,
    blocks: usize,
    panels: usize,
}

impl Layout {
    fn new(geo: &Conv2dGeometry) -> Self {
        let out = [geo.out_h(), geo.out_w()];
        let padded = [0, 1].map(|d| (out[d] - 1) * geo.stride[d] + (geo.kernel[d] - 1) * geo.dilation[d] + 1);
        let channels = geo.c_in.div_ceil(geo.c_in.div_ceil(BLOCK).max(1)).max(1);
        let blocks = geo.c_in.div_ceil(channels);
        Self { geo: *geo, out, padded, channels, blocks, panels: geo.c_out.div_ceil(COLUMNS) }
    }

    /// Adds the parts and turns them round into [O, KH, KW, I]. `S` holds the sum of all parts.
    fn finish<S: Copy + Default + From<i32> + AddAssign>(
        &self,
        tasks: &[Task],
        parts: &[Buffer<i32>],
        value: impl Fn(S) -> f32 + Sync,
    ) -> Tensor {
        /// Rows turned round at a time.
        const ROWS: usize = 32;
        // Every weight belongs to one row of some task, if there are any.
        let shape = self.geo.weight_shape();
        let mut out = if tasks.is_empty() { Tensor::zeros(&shape) } else { Tensor::take(&shape) };
        let weights = self.geo.kernel[0] * self.geo.kernel[1] * self.geo.c_in;
        if out.is_empty() {
            return out;
        }
        let width = self.panels * COLUMNS;
        // Parts of the same channel blocks have the same rows.
        let mut ranges: Vec<&Range<usize>> = tasks.iter().map(|t| &t.blocks).collect();
        ranges.sort_by_key(|r| r.start);
        ranges.dedup();
        let places: Vec<Buffer<usize>> = ranges.iter().map(|r| self.rows((*r).clone(), 1, |_, place| place)).collect();
        let body = |(panel, out): (usize, &mut [f32])| {
            for (&range, places) in ranges.iter().zip(&places) {
                let parts: Vec<_> = tasks
                    .iter()
                    .zip(parts)
                    .filter(|(t, _)| t.blocks == *range)
                    .map(|p| &p.1[panel * COLUMNS..])
                    .collect();
                for (chunk, places) in places.chunks(ROWS).enumerate() {
                    let mut total = [[S::default(); COLUMNS]; ROWS];
                    for part in &parts {
                        for (r, total) in total.iter_mut().take(places.len()).enumerate() {
                            let sums = &part[(chunk * ROWS + r) * width..][..COLUMNS];
                            for (total, &sum) in total.iter_mut().zip(sums) {
                                *total += S::from(sum);
                            }
                        }
                    }
                    for (c, out) in out.chunks_exact_mut(weights).enumerate() {
                        for (total, &place) in total.iter().zip(places) {
                            out[place] = value(total[c]);
                        }
                    }
                }
            }
        };
        run_chunks(out.data_mut(), weights * COLUMNS, weights * width, body);
        out
    }

    /// Splits the sum so that each part fits 32 bits (`most` products) and there is work for several threads.
    fn tasks(&self, most: usize) -> Result<Vec<Task>> {
        let n = self.geo.n;
        let pixels = self.out[0] * self.out[1];
        let weights = self.geo.kernel[0] * self.geo.kernel[1] * self.geo.c_in;
        // Large results are costly to add, so they are split by channels rather than by images.
        let large = weights * self.panels * COLUMNS > 1 << 16;
        let wanted = if pixels == 1 || large { 1 } else { 8 };
        let fit = most / pixels / QUAD * QUAD;
        let mut rows = self.out[0];
        let mut images = n.div_ceil(wanted).next_multiple_of(QUAD).max(QUAD);
        if fit >= QUAD {
            images = images.min(fit);
        } else {
            images = QUAD;
            rows = most / (QUAD * self.out[1]);
            if rows == 0 {
                return Err(Error::range(OP, "pixels of a row", format!("at most {}", most / QUAD), self.out[1]));
            }
        }
        let splits = (8 / n.div_ceil(images).max(1)).clamp(1, (weights / 256).max(1));
        let blocks = self.blocks.div_ceil(splits).max(1);
        let mut tasks = Vec::new();
        for i in (0..n).step_by(images) {
            for r in (0..self.out[0]).step_by(rows) {
                for b in (0..self.blocks).step_by(blocks) {
                    tasks.push(Task {
                        images: i..n.min(i + images),
                        rows: r..self.out[0].min(r + rows),
                        blocks: b..self.blocks.min(b + blocks),
                    });
                }
            }
        }
        Ok(tasks)
    }

    /// The tile rows of some channel blocks, by `pick` of their offset in the interleaved images and their place in the
    /// weights of one output.
    fn rows<T: Element>(&self, blocks: Range<usize>, together: usize, pick: fn(u32, usize) -> T) -> Buffer<T> {
        let Conv2dGeometry { kernel: [kh, kw], dilation: [dh, dw], c_in, .. } = self.geo;
        let [hp, wp] = self.padded;
        let first = blocks.start;
        let mut rows = Buffer::take(kh * kw * (c_in.min(blocks.end * self.channels) - first * self.channels));
        let mut slots = rows.iter_mut();
        for b in blocks {
            for tap in 0..kh * kw {
                let pixel = ((b - first) * together * hp + tap / kw * dh) * wp + tap % kw * dw;
                let channels = self.channels.min(c_in - b * self.channels);
                for (c, slot) in slots.by_ref().take(channels).enumerate() {
                    let offset = (pixel * self.channels + c) * QUAD;
                    *slot = pick(offset as u32, tap * c_in + b * self.channels + c);
                }
            }
        }
        rows
    }

    /// Bytes of a channel block of four images.
    fn image(&self) -> usize {
        self.padded[0] * self.padded[1] * self.channels * QUAD
    }

    /// How many groups of four images a task takes together, so that a call of the tile has steps enough.
    fn together(&self, task: &Task) -> usize {
        let pixels = task.rows.len() * self.out[1];
        STEPS.div_ceil(pixels).min(task.images.len().div_ceil(QUAD))
    }

    /// The sums of a task, [tile row][column], and a last row of no use to the caller.
    fn sum(&self, kernel: &Kernel, x: &Codes, g: &Codes, task: &Task) -> Buffer<i32> {
        let wp = self.padded[1];
        let [sh, sw] = self.geo.stride;
        let width = self.panels * COLUMNS;
        let pixels = task.rows.len() * self.out[1];
        let together = self.together(task);
        let base = self.rows(task.blocks.clone(), together, |offset, _| offset);
        let mut sums = Buffer::take((base.len() + 1) * width);
        let zeros = [0; 2 * COLUMNS];
        let image = self.image();
        let ones = task.blocks.len() * together * image;
        let mut left = Buffer::take(ones + QUAD);
        left[..ones].fill(x.zero());
        left[ones..].fill(1u8.wrapping_add(kernel.lhs_bias));
        let mut right: Buffer<u8> = Buffer::take(self.panels * together * pixels * COLUMNS * QUAD);
        let mut koff = Buffer::take(together * pixels);
        for (i, offset) in koff.iter_mut().enumerate() {
            let (group, pixel) = (i / pixels, i % pixels);
            let (oh, ow) = (task.rows.start + pixel / self.out[1], pixel % self.out[1]);
            *offset = (group * image + (oh * sh * wp + ow * sw) * self.channels * QUAD) as u32;
        }
        let nowhere = [0u32; STEPS];
        let need_sums = kernel.lhs_bias != x.zero();
        for start in task.images.clone().step_by(together * QUAD) {
            let groups = together.min((task.images.end - start).div_ceil(QUAD));
            let steps = groups * pixels;
            let stride = steps * COLUMNS * QUAD;
            for group in 0..groups {
                let images = start + group * QUAD..task.images.end.min(start + (group + 1) * QUAD);
                for (slot, b) in task.blocks.clone().enumerate() {
                    let to = &mut left[(slot * together + group) * image..][..image];
                    self.pack_left(x, images.clone(), b, to);
                }
                self.pack_right(g, images, task, &mut right, stride, group * pixels);
            }
            let rhs = pack::as_signed(&right);
            for from in (0..steps).step_by(STEPS) {
                let count = STEPS.min(steps - from);
                let first = start == task.images.start && from == 0;
                let mut run = |base: &[u32], koff: &[u32], row: usize| {
                    for panel in (0..self.panels).step_by(2) {
                        kernel.run(Job {
                            lhs: &left,
                            base,
                            koff,
                            rhs: &rhs[panel * stride + from * COLUMNS * QUAD..],
                            panel_stride: stride,
                            panels: 2.min(self.panels - panel),
                            start: if first { Start::Columns(&zeros) } else { Start::Out },
                            out: &mut sums[row * width + panel * COLUMNS..],
                            out_stride: width,
                        });
                    }
                };
                run(&base, &koff[from..from + count], 0);
                if need_sums {
                    run(&[ones as u32], &nowhere[..count], base.len());
                }
            }
        }
        if need_sums {
            // What the kernel subtracts from each left byte, less what the byte holds above the level.
            let shift = i32::from(kernel.lhs_bias) - i32::from(x.zero());
            let (rows, last) = sums.split_at_mut(base.len() * width);
            last.iter_mut().for_each(|s| *s = s.wrapping_mul(shift));
            for row in rows.chunks_exact_mut(width) {
                row.iter_mut().zip(&*last).for_each(|(sum, &shift)| *sum = sum.wrapping_add(shift));
            }
        }
        sums
    }

    /// Interleaves channel block `b` of up to four images; missing ones and the margin are level 0, and `to` has held
    /// them before.
    fn pack_left(&self, x: &Codes, images: Range<usize>, b: usize, to: &mut [u8]) {
        let Conv2dGeometry { h, w, c_in, padding: [ph, pw], .. } = self.geo;
        let [hp, wp] = self.padded;
        let size = h * w * c_in;
        let mut filler = Buffer::take(if images.len() < QUAD { size } else { 0 });
        filler.fill(x.zero());
        let mut source = [&filler[..]; QUAD];
        for (source, i) in source.iter_mut().zip(images) {
            *source = &x.bytes()[i * size..][..size];
        }
        // The padding may reach beyond what the windows do.
        let width = w.min(wp.saturating_sub(pw));
        let first = b * self.channels;
        let channels = self.channels.min(c_in - first);
        for y in 0..h.min(hp.saturating_sub(ph)) {
            let line = &mut to[((y + ph) * wp + pw.min(wp)) * self.channels * QUAD..];
            if self.channels == c_in {
                let part = source.map(|s| &s[y * w * c_in..][..width * c_in]);
                pack::interleave4(part, 0, &mut line[..width * c_in * QUAD]);
                continue;
            }
            for (i, pixel) in line.chunks_exact_mut(self.channels * QUAD).take(width).enumerate() {
                let at = (y * w + i) * c_in + first;
                pack::interleave4(source.map(|s| &s[at..][..channels]), 0, &mut pixel[..channels * QUAD]);
            }
        }
    }

    /// Interleaves the same images of g into panels from step `first` on, as signed levels.
    fn pack_right(&self, g: &Codes, images: Range<usize>, task: &Task, to: &mut [u8], stride: usize, first: usize) {
        const STEP: usize = COLUMNS * QUAD;
        let columns = self.geo.c_out;
        let from = task.rows.start * self.out[1] * columns;
        let size = task.rows.len() * self.out[1] * columns;
        let image = self.out[0] * self.out[1] * columns;
        let mut filler = Buffer::take(if images.len() < QUAD { size } else { 0 });
        filler.fill(g.zero());
        let mut source = [&filler[..]; QUAD];
        for (source, i) in source.iter_mut().zip(images) {
            *source = &g.bytes()[i * image + from..][..size];
        }
        if columns == COLUMNS {
            return pack::interleave4(source, g.zero(), &mut to[first * STEP..][..size * QUAD]);
        }
        for panel in 0..self.panels {
            let valid = COLUMNS.min(columns - panel * COLUMNS);
            let steps = to[panel * stride + first * STEP..].chunks_exact_mut(STEP);
            for (pixel, step) in steps.take(size / columns).enumerate() {
                let at = pixel * columns + panel * COLUMNS;
                pack::interleave4(source.map(|s| &s[at..][..valid]), g.zero(), &mut step[..valid * QUAD]);
                // A shorter stride of an earlier round may have left other steps' bytes here.
                step[valid * QUAD..].fill(0);
            }
        }
    }
}
