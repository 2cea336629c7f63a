//! Forward products of one-bit operands: bytes become words of 32 bits, and the tile counts bits.
//!
//! A pixel's channels fill whole words, so few channels waste most of one; and making words costs a pass over the bytes.
//! [`pays`] says where the bench of KERNELS.md shows a gain over the byte kernels all the same.
//!
//! The kernels count left bits of 0 and 1, so padding and the filler of a last word are bits 0, the level 0. Left levels of -1 and +1
//! are the same bits, u = 2·a - 1, but there padding is neither level. With S the sum that a kernel gives, the exact sum is
//! `Σ u·w = 2·S - Σ w` over the taps that lie inside the image: [`Inside`] has these sums of weights, one row for each set of taps
//! that some output pixel sees.

use super::plan::{NONE, Phase, Plan};
use super::{run_chunks, run_panels};
use crate::kernel::{BitKernel, COLUMNS, Job, Start};
use crate::{Buffer, Codes, Conv2dGeometry, Result, Sums, map};

/// k of a word.
const WORD: usize = 32;

/// Whether both operands have one bit, in the forms that words hold: left levels 0 and 1 or -1 and +1, right levels -1 and +1.
pub(super) fn fits(x: &Codes, w: &Codes) -> bool {
    // A range of -1 to +1 has a level 0 between them, which no bit stands for.
    let two = |codes: &Codes| codes.range().is_sign() && !codes.bytes().contains(&1);
    two(w) && x.range().bits() == 1 && (!x.range().is_sign() || two(x))
}

/// Whether bits are faster than bytes on this geometry.
pub(super) fn pays(geo: &Conv2dGeometry) -> bool {
    geo.groups == 1 && geo.c_in.is_multiple_of(WORD) && geo.c_out >= 2 * COLUMNS
}

/// Bytes of pixels of `channels` as words, a set bit where the byte is above 0; the last word of a pixel is filled with 0.
fn words(bytes: &[u8], channels: usize) -> Buffer<u32> {
    let each = channels.div_ceil(WORD);
    let mut out = Buffer::take(bytes.len() / channels.max(1) * each);
    const PIXELS: usize = 1024;
    run_chunks(&mut out, PIXELS * each, bytes.len(), |(i, out)| {
        let pixels = bytes[i * PIXELS * channels..].chunks(channels);
        map::dispatch(
            #[inline(always)]
            || {
                for (words, pixel) in out.chunks_exact_mut(each).zip(pixels) {
                    for (word, bytes) in words.iter_mut().zip(pixel.chunks(WORD)) {
                        // Whole words have a constant length, which becomes one comparison of a vector.
                        *word = match <&[u8; WORD]>::try_from(bytes) {
                            Ok(bytes) => (0..WORD).fold(0, |w, i| w | u32::from(bytes[i] > 0) << i),
                            Err(_) => bytes.iter().enumerate().fold(0, |w, (i, &b)| w | u32::from(b > 0) << i),
                        };
                    }
                }
            },
        );
    });
    out
}

/// The panels of weights: [panel][step][column].
fn panels(w: &[u32], plan: &Plan, phase: &Phase) -> Buffer<u32> {
    let (columns, steps) = (plan.result[2], phase.koff.len());
    let mut out = Buffer::zeroed(columns.div_ceil(COLUMNS) * steps * COLUMNS);
    for (p, panel) in out.chunks_mut((steps * COLUMNS).max(1)).enumerate() {
        let first = p * COLUMNS;
        for (step, &k) in panel.chunks_exact_mut(COLUMNS).zip(&phase.source) {
            debug_assert!(k != NONE, "a step of one word has no filler");
            for (c, to) in step.iter_mut().take(columns - first).enumerate() {
                *to = w[k as usize + (first + c) * plan.column_stride];
            }
        }
    }
    out
}

/// What the sums over bits of left levels -1 and +1 are corrected by: sums of the weights of the taps inside the image.
struct Inside {
    /// One sum per column for each pair of a kind of row and a kind of column.
    sums: Vec<i32>,
    /// Where the sums of an output pixel begin, for the pixels of one image.
    places: Vec<usize>,
    columns: usize,
}

impl Inside {
    fn new(w: &Codes, geo: &Conv2dGeometry) -> Self {
        let [kh, kw] = geo.kernel;
        let [rows, across] = [(geo.out_h(), geo.h), (geo.out_w(), geo.w)];
        let (rows, across) = (Taps::of(geo, 0, rows), Taps::of(geo, 1, across));
        // The sum over the channels of each tap, of each output.
        let levels = |o: usize, tap: usize| {
            let first = (o * kh * kw + tap) * geo.c_in;
            w.bytes()[first..first + geo.c_in].iter().map(|&b| i32::from(b) - 1).sum::<i32>()
        };
        let taps: Vec<i32> = (0..geo.c_out * kh * kw).map(|i| levels(i / (kh * kw), i % (kh * kw))).collect();
        let mut sums = Vec::with_capacity(rows.sets.len() * across.sets.len() * geo.c_out);
        for row in &rows.sets {
            for column in &across.sets {
                let sum = |o: usize| {
                    let of_row = |&a: &usize| column.iter().map(move |b| (o * kh + a) * kw + b);
                    row.iter().flat_map(of_row).map(|at| taps[at]).sum::<i32>()
                };
                sums.extend((0..geo.c_out).map(sum));
            }
        }
        let kinds = across.sets.len();
        let mut places = Vec::with_capacity(rows.of.len() * across.of.len());
        for r in rows.of {
            places.extend(across.of.iter().map(|c| (r * kinds + c) * geo.c_out));
        }
        Self { sums, places, columns: geo.c_out }
    }

    /// Turns the sums of whole images over bits into those over levels.
    fn correct(&self, out: &mut [i32]) {
        map::dispatch(
            #[inline(always)]
            || {
                for image in out.chunks_exact_mut((self.places.len() * self.columns).max(1)) {
                    for (pixel, &place) in image.chunks_exact_mut(self.columns).zip(&self.places) {
                        let sums = &self.sums[place..][..self.columns];
                        pixel.iter_mut().zip(sums).for_each(|(out, sum)| *out = 2 * *out - sum);
                    }
                }
            },
        );
    }
}

/// Which taps of a window lie inside the image, along one axis.
struct Taps {
    /// The sets of taps that occur.
    sets: Vec<Vec<usize>>,
    /// The set of each output row or column.
    of: Vec<usize>,
}

impl Taps {
    fn of(geo: &Conv2dGeometry, axis: usize, (outputs, inputs): (usize, usize)) -> Self {
        let mut taps = Self { sets: Vec::new(), of: Vec::with_capacity(outputs) };
        for o in 0..outputs {
            let inside = |&k: &usize| {
                let at = o * geo.stride[axis] + k * geo.dilation[axis];
                (geo.padding[axis]..geo.padding[axis] + inputs).contains(&at)
            };
            let set: Vec<usize> = (0..geo.kernel[axis]).filter(inside).collect();
            let known = taps.sets.iter().position(|s| *s == set).unwrap_or_else(|| {
                taps.sets.push(set);
                taps.sets.len() - 1
            });
            taps.of.push(known);
        }
        taps
    }
}

/// The exact sums of `x` [N, H, W, I] with `w` [O, KH, KW, I] by a given kernel, for operands that [`fits`].
pub(super) fn forward(kernel: &BitKernel, x: &Codes, w: &Codes, geo: &Conv2dGeometry) -> Result<Sums> {
    let in_words = Conv2dGeometry { c_in: geo.c_in.div_ceil(WORD), ..*geo };
    let plan = Plan::forward(&in_words, 1);
    let (pixels, weights) = (words(x.bytes(), geo.c_in), words(w.bytes(), geo.c_in));
    let phase = &plan.phases[0];
    let panels = panels(&weights, &plan, phase);
    let group = plan.group("conv2d", geo.n, 4, kernel.mr)?;
    let [ho, wo, columns] = plan.result;
    let zeros = Buffer::<i32>::zeroed(columns.next_multiple_of(COLUMNS));
    let base = plan.bases(phase, group);
    let inside = x.range().is_sign().then(|| Inside::new(w, geo));
    let compute = |index: usize, out: &mut [i32]| {
        let (first, count) = (index * group, out.len() / plan.result_len());
        let image = plan.prepare(&pixels, first, count, 0);
        let rows = &base[..count * phase.base.len()];
        let stride = phase.koff.len() * COLUMNS;
        run_panels(out, rows, phase, columns, ho * wo, |panel, count, out, out_stride| {
            kernel.run(Job {
                lhs: &image,
                base: rows,
                koff: &phase.koff,
                rhs: &panels[panel * stride..],
                panel_stride: stride,
                panels: count,
                start: Start::Columns(&zeros[panel * COLUMNS..]),
                out,
                out_stride,
            });
        });
        if let Some(inside) = &inside {
            inside.correct(out);
        }
    };
    let (shape, scale) = (geo.output_shape(), x.scale() * w.scale());
    // Each product is -1, 0 or 1.
    let reach = (geo.kernel[0] * geo.kernel[1] * geo.c_in) as i64;
    let length = group * plan.result_len();
    super::collect(&shape, scale, length, geo.macs() as usize, reach, true, compute)
}
