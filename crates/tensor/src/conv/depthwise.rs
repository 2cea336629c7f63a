//! Depthwise convolutions: a channel sees itself alone, so there is no matrix to multiply. Each pixel is a sum over the
//! taps of products channel by channel, in plain loops that become vectors over the channels.
//!
//! Products of a byte and a signed byte fit 16 bits (255 · 128 < 2^15), and where the weights prove it the sums do, too.
//! Sums of a weight gradient go over all pixels: each part of them holds no more than 32 bits, and parts are added in 64.
//! Float sums are chains of fused multiply-adds over the taps in memory order (weight gradients: over the pixels of an
//! image, images added in order), without the taps that fall on padding.

use super::{SMALL, max_products, run_chunks};
use crate::{Buffer, Codes, Conv2dGeometry, Element, Result, Sums, Tensor, map};
use rayon::prelude::*;
use std::ops::Range;

/// Numbers that one loop should have, so that its start and end cost little.
const LOOP: usize = 512;

/// A result image in blocks of neighbouring pixels, and for each block the taps that reach it. Where windows move by one pixel
/// across, neighbours read neighbours, so a tap meets a block in one run.
struct Meetings {
    /// Pixels of a block, at most.
    tile: usize,
    /// First pixels of the blocks, and the number of all pixels.
    firsts: Buffer<u32>,
    /// Where the runs of each block start, and the end of the last.
    starts: Buffer<u32>,
    /// (tap, first pixel in the block, pixels, first pixel read), and room behind them for those that fall on padding.
    runs: Buffer<[u32; 4]>,
}

impl Meetings {
    /// Of output pixels with input pixels, or (`back`) the other way round.
    fn new(geo: &Conv2dGeometry, back: bool, tile: usize) -> Self {
        let out = [geo.out_h(), geo.out_w()];
        let (size, read) = if back { ([geo.h, geo.w], out) } else { (out, [geo.h, geo.w]) };
        let meet = |d: usize, at: usize, tap: usize| -> Option<usize> {
            let reach = tap * geo.dilation[d];
            let found = if back {
                let moved = (at + geo.padding[d]).checked_sub(reach)?;
                moved.is_multiple_of(geo.stride[d]).then_some(moved / geo.stride[d])?
            } else {
                (at * geo.stride[d] + reach).checked_sub(geo.padding[d])?
            };
            (found < read[d]).then_some(found)
        };
        let tile = if geo.stride[1] == 1 { tile.clamp(1, size[1].max(1)) } else { 1 };
        let row = size[1].div_ceil(tile);
        let blocks = size[0] * row;
        let mut firsts = Buffer::take(blocks + 1);
        let mut starts = Buffer::take(blocks + 1);
        let mut runs = Buffer::take(blocks * geo.kernel[0] * geo.kernel[1]);
        let mut count = 0;
        for block in 0..blocks {
            let (y, x) = (block / row, block % row * tile);
            let end = size[1].min(x + tile);
            (firsts[block], starts[block]) = ((y * size[1] + x) as u32, count as u32);
            for a in 0..geo.kernel[0] {
                let Some(i) = meet(0, y, a) else { continue };
                for b in 0..geo.kernel[1] {
                    let met = |at: &usize| meet(1, *at, b).is_some();
                    let Some(first) = (x..end).find(met) else { continue };
                    let last = (x..end).rfind(met).unwrap_or(first);
                    let at = i * read[1] + meet(1, first, b).unwrap_or_default();
                    let tap = a * geo.kernel[1] + b;
                    runs[count] = [tap, first - x, last - first + 1, at].map(|n| n as u32);
                    count += 1;
                }
            }
        }
        (firsts[blocks], starts[blocks]) = ((size[0] * size[1]) as u32, count as u32);
        Self { tile, firsts, starts, runs }
    }

    fn blocks(&self) -> usize {
        self.starts.len() - 1
    }

    /// The pixels of a block and its runs.
    #[inline(always)]
    fn of(&self, block: usize) -> (Range<usize>, &[[u32; 4]]) {
        let between = |ends: &[u32]| ends[block] as usize..ends[block + 1] as usize;
        (between(&self.firsts), &self.runs[between(&self.starts)])
    }
}

/// [C, taps] to [taps, tile, C], the weights of a tap once for each pixel of a block.
fn by_tap<T: Copy, U: Element>(weights: &[T], taps: usize, tile: usize, f: impl Fn(T) -> U) -> Buffer<U> {
    let channels = weights.len() / taps;
    let mut out = Buffer::take(weights.len() * tile);
    for (i, out) in out.iter_mut().enumerate() {
        *out = f(weights[i % channels * taps + i / (channels * tile)]);
    }
    out
}

/// Both products of an image with the weights [taps, tile, C]: `add(sums, numbers read, weights of the tap)` over the runs.
fn pass<A: Element, X: Sync, W: Sync>(
    geo: &Conv2dGeometry,
    meetings: &Meetings,
    [read, size]: [usize; 2],
    x: &[X],
    w: &[W],
    add: impl Fn(&mut [A], &[X], &[W]) + Sync,
) -> Buffer<A> {
    let (c, stride) = (geo.c_in, meetings.tile * geo.c_in);
    let mut out = Buffer::take(geo.n * size * c);
    run_chunks(&mut out, size * c, geo.macs() as usize * 8, |(image, out)| {
        let x = &x[image * read * c..][..read * c];
        map::dispatch(
            #[inline(always)]
            || {
                for block in 0..meetings.blocks() {
                    let (pixels, runs) = meetings.of(block);
                    let out = &mut out[pixels.start * c..pixels.end * c];
                    out.fill(A::default());
                    for run in runs {
                        let [tap, first, count, at] = run.map(|n| n as usize);
                        let len = count * c;
                        add(&mut out[first * c..][..len], &x[at * c..][..len], &w[tap * stride..][..len]);
                    }
                }
            },
        );
    });
    out
}

/// Pixels read and made of each image.
fn sizes(geo: &Conv2dGeometry, back: bool) -> [usize; 2] {
    let [read, size] = [geo.h * geo.w, geo.out_h() * geo.out_w()];
    if back { [size, read] } else { [read, size] }
}

/// Pixels of a block that make a loop long enough.
fn tile(geo: &Conv2dGeometry) -> usize {
    LOOP.div_ceil(geo.c_in.max(1))
}

/// The sums of either product of codes with the weights.
pub(super) fn sums(x: &Codes, w: &Codes, geo: &Conv2dGeometry, back: bool) -> Result<Sums> {
    let (op, expected, shape) = match back {
        false => ("depthwise conv2d", geo.input_shape(), geo.output_shape()),
        true => ("depthwise conv2d_input_grad", geo.output_shape(), geo.input_shape()),
    };
    super::plan::check(op, "image", &expected, x.shape())?;
    super::plan::check(op, "weight", &geo.weight_shape(), w.shape())?;
    let taps = geo.kernel[0] * geo.kernel[1];
    super::check_right(op, w)?;
    super::check_sum(op, taps, x.level_max(), w.level_max())?;
    let (zx, zw) = (i16::from(x.zero()), i16::from(w.zero()));
    let meetings = Meetings::new(geo, back, tile(geo));
    let weights = by_tap(w.bytes(), taps, meetings.tile, |b| i16::from(b) - zw);
    let reach: i64 = weights
        .chunks_exact(geo.c_in * meetings.tile)
        .map(|tap| i64::from(tap.iter().fold(0i16, |m, w| m.max(w.abs()))))
        .sum::<i64>()
        * i64::from(x.level_max());
    let scale = x.scale() * w.scale();
    if reach <= i64::from(i16::MAX) {
        let out = pass(
            geo,
            &meetings,
            sizes(geo, back),
            x.bytes(),
            &weights,
            #[inline(always)]
            |sums: &mut [i16], x, w| {
                sums.iter_mut().zip(x).zip(w).for_each(|((s, &x), &w)| *s += (i16::from(x) - zx) * w);
            },
        );
        return Sums::narrow(&shape, scale, out);
    }
    let out = pass(
        geo,
        &meetings,
        sizes(geo, back),
        x.bytes(),
        &weights,
        #[inline(always)]
        |sums: &mut [i32], x, w| {
            sums.iter_mut().zip(x).zip(w).for_each(|((s, &x), &w)| *s += i32::from((i16::from(x) - zx) * w));
        },
    );
    Sums::new(&shape, scale, out)
}

/// Either float product with the weights.
pub(crate) fn floats(x: &Tensor, w: &Tensor, geo: &Conv2dGeometry, back: bool) -> Result<Tensor> {
    let (expected, shape) =
        if back { (geo.output_shape(), geo.input_shape()) } else { (geo.input_shape(), geo.output_shape()) };
    super::plan::check("depthwise float conv2d", "image", &expected, x.shape())?;
    super::plan::check("depthwise float conv2d", "weight", &geo.weight_shape(), w.shape())?;
    let meetings = Meetings::new(geo, back, tile(geo));
    let weights = by_tap(w.data(), geo.kernel[0] * geo.kernel[1], meetings.tile, |w| w);
    let out = pass(
        geo,
        &meetings,
        sizes(geo, back),
        x.data(),
        &weights,
        #[inline(always)]
        |sums: &mut [f32], x, w| {
            sums.iter_mut().zip(x).zip(w).for_each(|((s, &x), &w)| *s = x.mul_add(w, *s));
        },
    );
    Tensor::from_buffer(&shape, out)
}

/// [taps, C] to the shape of the weight.
fn as_weight(geo: &Conv2dGeometry, value: impl Fn(usize) -> f32) -> Result<Tensor> {
    let taps = geo.kernel[0] * geo.kernel[1];
    let mut out = Tensor::take(&geo.weight_shape());
    for (i, out) in out.data_mut().iter_mut().enumerate() {
        *out = value(i % taps * geo.c_in + i / taps);
    }
    Ok(out)
}

fn check_weight_grad(geo: &Conv2dGeometry, x: &[usize], g: &[usize]) -> Result<()> {
    super::plan::check("depthwise conv2d_weight_grad", "input", &geo.input_shape(), x)?;
    super::plan::check("depthwise conv2d_weight_grad", "output gradient", &geo.output_shape(), g)
}

/// Parts of the sum of a weight gradient by codes, if all pixels have work for several threads.
const PARTS: usize = 16;
/// Sums of 16 bits pay from so many products on.
const PAYS: usize = 16;

/// The images and blocks of each part: by sizes alone, and no part has more than `most` products a weight.
fn parts(geo: &Conv2dGeometry, meetings: &Meetings, most: usize) -> Vec<[Range<usize>; 2]> {
    let blocks = meetings.blocks();
    let (images, run) = match most / (geo.out_h() * geo.out_w()) {
        0 => (1, (most / meetings.tile).max(1)),
        fit => (fit.min(geo.n.div_ceil(PARTS)).max(1), blocks),
    };
    let starts = |end: usize, step: usize| (0..end).step_by(step).map(move |from| from..end.min(from + step));
    starts(geo.n, images).flat_map(|n| starts(blocks, run).map(move |b| [n.clone(), b])).collect()
}

/// Adds the sums [taps, tile, C] of a weight gradient over some blocks of an image: `add(sums of a tap, numbers of x, of g)`.
#[inline(always)]
fn add_blocks<A, X>(
    meetings: &Meetings,
    c: usize,
    blocks: Range<usize>,
    [x, g]: [&[X]; 2],
    sums: &mut [A],
    add: impl Fn(&mut [A], &[X], &[X]),
) {
    for block in blocks {
        let (pixels, runs) = meetings.of(block);
        for run in runs {
            let [tap, first, count, at] = run.map(|n| n as usize);
            let len = count * c;
            let g = &g[(pixels.start + first) * c..][..len];
            add(&mut sums[tap * meetings.tile * c..][..len], &x[at * c..][..len], g);
        }
    }
}

/// The sums [taps, C] of a part. As many products as fit are added in 16 bits before they go on to 32, if that pays.
fn part_sums(x: &Codes, g: &Codes, geo: &Conv2dGeometry, meetings: &Meetings, part: &[Range<usize>; 2]) -> Buffer<i32> {
    let (c, taps, tile) = (geo.c_in, geo.kernel[0] * geo.kernel[1], meetings.tile);
    let [read, size] = sizes(geo, false).map(|pixels| pixels * c);
    let (zx, zg) = (i16::from(x.zero()), i16::from(g.zero()));
    let short = i16::MAX as usize / (usize::from(x.level_max()) * usize::from(g.level_max())).max(1);
    let [images, blocks] = part;
    let mut wide: Buffer<i32> = Buffer::zeroed(taps * tile * c);
    let mut few: Buffer<i16> = Buffer::zeroed(if short >= PAYS { taps * tile * c } else { 0 });
    map::dispatch(
        #[inline(always)]
        || {
            for n in images.clone() {
                let both = [&x.bytes()[n * read..][..read], &g.bytes()[n * size..][..size]];
                if short < PAYS {
                    add_blocks(
                        meetings,
                        c,
                        blocks.clone(),
                        both,
                        &mut wide,
                        #[inline(always)]
                        |sums: &mut [i32], x: &[u8], g: &[u8]| {
                            for ((s, &x), &g) in sums.iter_mut().zip(x).zip(g) {
                                *s += i32::from(i16::from(x) - zx) * i32::from(i16::from(g) - zg);
                            }
                        },
                    );
                    continue;
                }
                // A block has one product for each sum, at most.
                for from in blocks.clone().step_by(short) {
                    add_blocks(
                        meetings,
                        c,
                        from..blocks.end.min(from + short),
                        both,
                        &mut few,
                        #[inline(always)]
                        |sums: &mut [i16], x: &[u8], g: &[u8]| {
                            for ((s, &x), &g) in sums.iter_mut().zip(x).zip(g) {
                                *s += (i16::from(x) - zx) * (i16::from(g) - zg);
                            }
                        },
                    );
                    for (wide, few) in wide.iter_mut().zip(few.iter_mut()) {
                        *wide += i32::from(std::mem::take(few));
                    }
                }
            }
        },
    );
    if tile == 1 {
        return wide;
    }
    let mut sums = Buffer::zeroed(taps * c);
    for (i, &sum) in wide.iter().enumerate() {
        sums[i / (tile * c) * c + i % c] += sum;
    }
    sums
}

/// The weight gradient of codes: exact, rounded once to f32 and once by the product with both scales.
pub(super) fn weight_grad(x: &Codes, g: &Codes, geo: &Conv2dGeometry) -> Result<Tensor> {
    check_weight_grad(geo, x.shape(), g.shape())?;
    super::check_right("depthwise conv2d_weight_grad", g)?;
    let meetings = Meetings::new(geo, false, tile(geo));
    let parts = parts(geo, &meetings, max_products(x.level_max(), g.level_max()));
    let sums = each_part(geo, &parts, |part| part_sums(x, g, geo, &meetings, part));
    let scale = x.scale() * g.scale();
    as_weight(geo, |i| sums.iter().map(|p| i64::from(p[i])).sum::<i64>() as f32 * scale)
}

/// `f` of each part, in order, by several threads unless the work is small.
fn each_part<P: Sync, T: Send>(geo: &Conv2dGeometry, parts: &[P], f: impl Fn(&P) -> T + Sync + Send) -> Vec<T> {
    if geo.macs() * 8 < SMALL { parts.iter().map(f).collect() } else { parts.par_iter().map(f).collect() }
}

/// The weight gradient of floats.
pub(crate) fn float_weight_grad(x: &Tensor, g: &Tensor, geo: &Conv2dGeometry) -> Result<Tensor> {
    check_weight_grad(geo, x.shape(), g.shape())?;
    let (c, taps) = (geo.c_in, geo.kernel[0] * geo.kernel[1]);
    let [read, size] = sizes(geo, false).map(|pixels| pixels * c);
    // Blocks of one pixel: each sum is one chain.
    let meetings = Meetings::new(geo, false, 1);
    let images: Vec<usize> = (0..geo.n).collect();
    let sums = each_part(geo, &images, |&n| {
        let both = [&x.data()[n * read..][..read], &g.data()[n * size..][..size]];
        let mut sums: Buffer<f32> = Buffer::zeroed(taps * c);
        map::dispatch(
            #[inline(always)]
            || {
                add_blocks(
                    &meetings,
                    c,
                    0..meetings.blocks(),
                    both,
                    &mut sums,
                    #[inline(always)]
                    |sums: &mut [f32], x: &[f32], g: &[f32]| {
                        sums.iter_mut().zip(x).zip(g).for_each(|((s, &x), &g)| *s = x.mul_add(g, *s));
                    },
                );
            },
        );
        sums
    });
    as_weight(geo, |i| sums.iter().fold(0.0, |sum, p| sum + p[i]))
}
