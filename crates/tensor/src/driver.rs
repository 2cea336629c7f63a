//! One driver for every product: forward, input gradient and weight gradient of a convolution, in bytes or floats.
//!
//! Each is a sum over k of `lhs[base[row] + offset[k]] · panel[k][column]`:
//!
//! | product | rows | k | columns |
//! |---|---|---|---|
//! | forward | output pixels | taps x input channels | output channels |
//! | input gradient | input pixels of one phase | taps of the phase x output channels | input channels |
//! | weight gradient | taps x input channels | output pixels | output channels |
//!
//! An image is copied once into a padded scratch, a few tens of kilobytes, and then read in place: no im2col. Bytes go
//! in quads along the reduced axis; for weight gradients, whose reduced axis is the pixels, a quad is the same pixel of
//! four images, so that windows never cut through a quad. Floats are the same with groups of one.
//!
//! The work is split by sizes alone: images (or 32 rows of a matrix) for the first two, blocks of images for the third.

use crate::kernel::{MR_MAX, NR, Offsets, Product, Tile};
use crate::{Buffer, Conv2dGeometry};
use rayon::prelude::*;

/// Rows of a matrix that one task takes.
const MATRIX_ROWS: usize = 32;

/// A right operand in panels of 16 columns: `[columns / 16][k][16][group]`, zeros where there is no column.
struct Panels<R: crate::Element> {
    data: Buffer<R>,
    k: usize,
    columns: usize,
    group: usize,
}

impl<R: crate::Element> Panels<R> {
    /// Packs `at(k, group member, column)`.
    fn new(k: usize, columns: usize, group: usize, at: impl Fn(usize, usize, usize) -> R) -> Self {
        let mut data = Buffer::zeroed(columns.div_ceil(NR) * k * NR * group);
        for (p, panel) in data.chunks_exact_mut((k * NR * group).max(1)).enumerate() {
            let width = NR.min(columns - p * NR);
            for (i, row) in panel.chunks_exact_mut(NR * group).enumerate() {
                for (c, cell) in row.chunks_exact_mut(group).take(width).enumerate() {
                    for (j, to) in cell.iter_mut().enumerate() {
                        *to = at(i, j, p * NR + c);
                    }
                }
            }
        }
        Self { data, k, columns, group }
    }

    fn panel(&self, p: usize) -> &[R] {
        let size = self.k * NR * self.group;
        &self.data[p * size..][..size]
    }

    fn count(&self) -> usize {
        self.columns.div_ceil(NR)
    }
}

/// A left operand: images [N, H, W, C] with the element that stands for zero.
#[derive(Clone, Copy)]
pub(crate) struct Images<'a, T> {
    pub(crate) data: &'a [T],
    pub(crate) zero: T,
}

/// How windows lie on a padded image: where output pixel (y, x) and tap t meet.
struct Windows {
    /// Height, width and channels of an image as it is stored.
    h: usize,
    w: usize,
    c: usize,
    /// Rows and columns added before the image, and the padded size.
    before: [usize; 2],
    padded: [usize; 2],
    /// Position of each tap relative to the window's corner.
    taps: Vec<[usize; 2]>,
    stride: [usize; 2],
    /// Output pixels down and across.
    out: [usize; 2],
}

impl Windows {
    fn forward(g: &Conv2dGeometry) -> Self {
        let taps = (0..g.kernel[0]).flat_map(|y| (0..g.kernel[1]).map(move |x| [y, x]));
        Self {
            h: g.h,
            w: g.w,
            c: g.c_in,
            before: g.padding,
            padded: [g.h + 2 * g.padding[0], g.w + 2 * g.padding[1]],
            taps: taps.map(|[y, x]| [y * g.dilation[0], x * g.dilation[1]]).collect(),
            stride: g.stride,
            out: [g.out_h(), g.out_w()],
        }
    }

    /// The elements of a padded image of `depth` elements a pixel.
    fn size(&self, depth: usize) -> usize {
        self.padded[0] * self.padded[1] * depth
    }

    fn offset(&self, y: usize, x: usize, depth: usize) -> u32 {
        u32::try_from((y * self.padded[1] + x) * depth).expect("an image has fewer than 2^32 elements")
    }

    /// Where each output pixel's window begins.
    fn corners(&self, depth: usize) -> Vec<u32> {
        let [oh, ow] = self.out;
        let pixels = (0..oh).flat_map(|y| (0..ow).map(move |x| (y, x)));
        pixels.map(|(y, x)| self.offset(y * self.stride[0], x * self.stride[1], depth)).collect()
    }

    /// Copies one image into the middle of a padded one of `depth` elements a pixel.
    fn place<T: Copy>(&self, image: &[T], padded: &mut [T], depth: usize) {
        for (y, row) in image.chunks_exact((self.w * self.c).max(1)).enumerate() {
            let start = self.offset(y + self.before[0], self.before[1], depth) as usize;
            if depth == self.c {
                padded[start..][..row.len()].copy_from_slice(row);
            } else {
                let to = padded[start..][..self.w * depth].chunks_exact_mut(depth);
                row.chunks_exact(self.c).zip(to).for_each(|(pixel, to)| to[..self.c].copy_from_slice(pixel));
            }
        }
    }

    /// The same for four images at once, element by element side by side; `None` is an image of zeros.
    #[inline(always)]
    fn place_four<T: Copy>(&self, images: [Option<&[T]>; 4], zero: T, padded: &mut [T]) {
        let row = self.w * self.c;
        let zeros = vec![zero; row];
        for y in 0..self.h {
            let rows = images.map(|i| i.map_or(&zeros[..], |i| &i[y * row..][..row]));
            let start = self.offset(y + self.before[0], self.before[1], 4 * self.c) as usize;
            interleave(rows, &mut padded[start..][..4 * row]);
        }
    }
}

/// `to[4 i + j] = rows[j][i]`
#[inline(always)]
fn interleave<T: Copy>(rows: [&[T]; 4], to: &mut [T]) {
    let n = to.len() / 4;
    let [a, b, c, d] = rows.map(|r| &r[..n]);
    for (i, cell) in to.chunks_exact_mut(4).enumerate() {
        cell.copy_from_slice(&[a[i], b[i], c[i], d[i]]);
    }
}

/// One way of sliding windows over images: the windows, the weights that go with them, and where the results belong.
struct Slide<P: Product> {
    windows: Windows,
    panels: Panels<P::Rhs>,
    /// Start values of the columns, padded to whole panels.
    start: Vec<P::Sum>,
    corners: Vec<u32>,
    k: Offsets,
    /// The output pixel of each window.
    pixel: Vec<usize>,
}

impl<P: Product> Slide<P> {
    /// `weight(column, tap, channel)` is the right operand.
    fn new(
        windows: Windows,
        zero: P::Lhs,
        columns: usize,
        pixel: Vec<usize>,
        weight: impl Fn(usize, usize, usize) -> P::Rhs,
    ) -> Self {
        let depth = windows.c.next_multiple_of(P::GROUP);
        let quads = depth / P::GROUP;
        let panels = Panels::new(windows.taps.len() * quads, columns, P::GROUP, |k, j, column| {
            let channel = k % quads * P::GROUP + j;
            if channel < windows.c { weight(column, k / quads, channel) } else { P::Rhs::default() }
        });
        let channels = (0..depth as u32).step_by(P::GROUP);
        let taps = windows.taps.iter().map(|&[y, x]| windows.offset(y, x, depth));
        let k = Offsets::new(taps.flat_map(|t| channels.clone().map(move |c| t + c)).collect());
        let start = (0..panels.count()).flat_map(|p| start_values::<P>(zero, panels.panel(p))).collect();
        Self { corners: windows.corners(depth), k, start, panels, pixel, windows }
    }
}

/// The start values of a panel's columns, which take the offset of the left operand out of the sums.
fn start_values<P: Product>(zero: P::Lhs, panel: &[P::Rhs]) -> [P::Sum; NR] {
    let mut start = [P::Sum::default(); NR];
    for row in panel.chunks_exact(NR * P::GROUP) {
        for (sum, cell) in start.iter_mut().zip(row.chunks_exact(P::GROUP)) {
            *sum = cell.iter().fold(*sum, |sum, &v| P::take_out(sum, zero, v));
        }
    }
    start
}

/// Runs all slides over all images into `out`, [N, pixels, columns]. Pixels that no slide covers keep their value.
fn slide<P: Product>(kernel: &P, images: Images<'_, P::Lhs>, slides: &[Slide<P>], out: &mut [P::Sum], pixels: usize) {
    let Some(first) = slides.first() else { return };
    let (columns, c) = (first.panels.columns, first.windows.c);
    let image = first.windows.h * first.windows.w * c;
    let depth = c.next_multiple_of(P::GROUP);
    // A matrix is images of one pixel, many at once: a row of the tile is then an image.
    let matrix = image == c && first.windows.padded == [1, 1] && slides.len() == 1;
    let images_a_task = if matrix { MATRIX_ROWS } else { 1 };
    if out.is_empty() {
        return;
    }
    out.par_chunks_mut(images_a_task * pixels * columns).enumerate().for_each(|(task, out)| {
        let count = out.len() / (pixels * columns);
        let data = &images.data[task * images_a_task * image..][..count * image];
        let rows: Vec<u32> = if matrix { (0..count).map(|i| (i * depth) as u32).collect() } else { Vec::new() };
        for s in slides {
            let w = &s.windows;
            let mut scratch = Buffer::take(0);
            let lhs = if depth == c && w.padded == [w.h, w.w] {
                data
            } else {
                scratch = Buffer::take(count * w.size(depth));
                scratch.fill(images.zero);
                let padded = scratch.chunks_exact_mut(w.size(depth).max(1));
                data.chunks_exact(image.max(1)).zip(padded).for_each(|(image, padded)| w.place(image, padded, depth));
                &scratch[..]
            };
            let bases = if matrix { &rows } else { &s.corners };
            let mut tile: Tile<P::Sum> = [P::Sum::default(); MR_MAX * NR];
            for p in 0..s.panels.count() {
                let width = NR.min(columns - p * NR);
                for (t, bases) in bases.chunks(kernel.mr()).enumerate() {
                    for row in tile.chunks_exact_mut(NR).take(kernel.mr()) {
                        row.copy_from_slice(&s.start[p * NR..][..NR]);
                    }
                    kernel.run(lhs, bases, &s.k, s.panels.panel(p), &mut tile);
                    for (r, sums) in tile.chunks_exact(NR).take(bases.len()).enumerate() {
                        let row = t * kernel.mr() + r;
                        let pixel = if matrix { row } else { s.pixel[row] };
                        out[pixel * columns + p * NR..][..width].copy_from_slice(&sums[..width]);
                    }
                }
            }
            drop(scratch);
        }
    });
}

/// `y = x * w` for `weight(o, tap, i)`, into [N, H_out, W_out, C_out].
pub(crate) fn forward<P: Product>(
    kernel: &P,
    g: &Conv2dGeometry,
    x: Images<'_, P::Lhs>,
    weight: impl Fn(usize, usize, usize) -> P::Rhs,
) -> Buffer<P::Sum> {
    let pixels = g.out_h() * g.out_w();
    let mut out = Buffer::take(g.n * pixels * g.c_out);
    let s = Slide::<P>::new(Windows::forward(g), x.zero, g.c_out, (0..pixels).collect(), weight);
    slide(kernel, x, &[s], &mut out, pixels);
    out
}

/// One axis of a phase of the input gradient: input positions `phase + stride · j` and the taps that reach them.
struct Phase {
    /// How many input positions.
    count: usize,
    /// The taps, each with the distance from j to the output position that it meets.
    taps: Vec<(usize, isize)>,
}

fn phases(input: usize, kernel: usize, stride: usize, padding: usize, dilation: usize) -> Vec<Phase> {
    (0..stride.min(input))
        .map(|phase| {
            let distance = |tap: usize| phase as isize + padding as isize - (tap * dilation) as isize;
            let meets = |tap: &usize| distance(*tap).rem_euclid(stride as isize) == 0;
            let taps = (0..kernel).filter(meets).map(|t| (t, distance(t).div_euclid(stride as isize))).collect();
            Phase { count: (input - phase).div_ceil(stride), taps }
        })
        .collect()
}

impl Phase {
    /// Positions to add before an output axis of length `len`, and the padded length.
    fn padding(&self, len: usize) -> (usize, usize) {
        let low = self.taps.iter().map(|t| t.1).min().unwrap_or(0).min(0);
        let high = self.taps.iter().map(|t| t.1).max().unwrap_or(0);
        let end = (self.count as isize + high - low).max(len as isize - low);
        (low.unsigned_abs(), end.unsigned_abs())
    }
}

/// `dx` from `dy` for `weight(o, tap, i)`, into [N, H, W, C_in].
///
/// A strided convolution falls into stride x stride phases of the input position; each is a convolution of dy by the
/// taps that meet it, at stride one.
pub(crate) fn input_grad<P: Product>(
    kernel: &P,
    g: &Conv2dGeometry,
    dy: Images<'_, P::Lhs>,
    weight: impl Fn(usize, usize, usize) -> P::Rhs + Copy,
) -> Buffer<P::Sum> {
    let (oh, ow) = (g.out_h(), g.out_w());
    let rows = phases(g.h, g.kernel[0], g.stride[0], g.padding[0], g.dilation[0]);
    let columns = phases(g.w, g.kernel[1], g.stride[1], g.padding[1], g.dilation[1]);
    let mut slides = Vec::new();
    let mut covered = true;
    for (py, y) in rows.iter().enumerate() {
        for (px, x) in columns.iter().enumerate() {
            if y.taps.is_empty() || x.taps.is_empty() {
                covered = false;
                continue;
            }
            let ((before_y, h), (before_x, w)) = (y.padding(oh), x.padding(ow));
            let met: Vec<(usize, [usize; 2])> = y
                .taps
                .iter()
                .flat_map(|&(ty, dy)| x.taps.iter().map(move |&(tx, dx)| (ty, dy, tx, dx)))
                .map(|(ty, dy, tx, dx)| {
                    let position = [dy + before_y as isize, dx + before_x as isize].map(isize::unsigned_abs);
                    (ty * g.kernel[1] + tx, position)
                })
                .collect();
            let windows = Windows {
                h: oh,
                w: ow,
                c: g.c_out,
                before: [before_y, before_x],
                padded: [h, w],
                taps: met.iter().map(|m| m.1).collect(),
                stride: [1, 1],
                out: [y.count, x.count],
            };
            let pixel = (0..y.count)
                .flat_map(|j| (0..x.count).map(move |i| (j, i)))
                .map(|(j, i)| (py + j * g.stride[0]) * g.w + px + i * g.stride[1]);
            let weight = |i: usize, tap: usize, o: usize| weight(o, met[tap].0, i);
            slides.push(Slide::<P>::new(windows, dy.zero, g.c_in, pixel.collect(), weight));
        }
    }
    let len = g.input_shape().iter().product();
    let mut out = if covered { Buffer::take(len) } else { Buffer::zeroed(len) };
    slide(kernel, dy, &slides, &mut out, g.h * g.w);
    out
}

/// `dw` from `x` and `dy`, into [C_out, KH, KW, C_in]: exact sums of bytes in i64, or for floats one chain a block of
/// images and the blocks added in index order.
///
/// `rhs` turns an element of dy into a right operand; `limit` is how many steps of k a sum can hold.
pub(crate) fn weight_grad<P: Product>(
    kernel: &P,
    g: &Conv2dGeometry,
    x: Images<'_, P::Lhs>,
    dy: Images<'_, P::Lhs>,
    rhs: impl Fn(P::Lhs) -> P::Rhs + Sync,
    limit: usize,
) -> Buffer<P::Wide> {
    let w = Windows::forward(g);
    let pixels = w.out[0] * w.out[1];
    let depth = g.c_in * P::GROUP;
    // Enough steps to pay for loading and storing a tile, few enough for the second-level cache.
    let groups_a_block = (1024 / pixels.max(1)).clamp(1, 16);
    let images_a_block = groups_a_block * P::GROUP;
    let bases: Vec<u32> = w
        .taps
        .iter()
        .map(|&[y, x]| w.offset(y, x, depth))
        .flat_map(|tap| (0..g.c_in).map(move |c| tap + (c * P::GROUP) as u32))
        .collect();
    let corners = w.corners(depth);
    let width = g.c_out.next_multiple_of(NR);

    let block = |b: usize| -> Buffer<P::Wide> {
        let range = b * images_a_block..g.n.min((b + 1) * images_a_block);
        let groups = range.len().div_ceil(P::GROUP);
        let group = w.size(depth);
        let mut lhs = Buffer::take(groups * group);
        let mut panels = Buffer::take(groups * pixels * width * P::GROUP);
        crate::map::dispatch(
            #[inline(always)]
            || pack_block::<P>(g, &w, range, x, dy, &rhs, &mut lhs, &mut panels),
        );
        let k: Vec<u32> = (0..groups).flat_map(|i| corners.iter().map(move |c| c + (i * group) as u32)).collect();
        let mut total = Buffer::<P::Wide>::zeroed(bases.len() * width);
        let mut tile: Tile<P::Sum> = [P::Sum::default(); MR_MAX * NR];
        let row = NR * P::GROUP;
        let mut done = 0;
        for steps in k.chunks(limit.max(1)) {
            let offsets = Offsets::new(steps.to_vec());
            for (p, panel) in panels.chunks_exact(k.len() * row).enumerate() {
                let panel = &panel[done * row..][..steps.len() * row];
                let start = start_values::<P>(x.zero, panel);
                for (t, bases) in bases.chunks(kernel.mr()).enumerate() {
                    for row in tile.chunks_exact_mut(NR).take(kernel.mr()) {
                        row.copy_from_slice(&start);
                    }
                    kernel.run(&lhs, bases, &offsets, panel, &mut tile);
                    for (r, sums) in tile.chunks_exact(NR).take(bases.len()).enumerate() {
                        let to = &mut total[(t * kernel.mr() + r) * width + p * NR..][..NR];
                        to.iter_mut().zip(sums).for_each(|(t, &s)| *t = P::widen(*t, s));
                    }
                }
            }
            done += steps.len();
        }
        total
    };
    let blocks: Vec<Buffer<P::Wide>> = (0..g.n.div_ceil(images_a_block)).into_par_iter().map(block).collect();
    let mut sum = Buffer::<P::Wide>::zeroed(bases.len() * width);
    for block in &blocks {
        sum.iter_mut().zip(block.iter()).for_each(|(s, &b)| *s = P::join(*s, b));
    }
    let mut out = Buffer::take(g.c_out * bases.len());
    for (o, row) in out.chunks_exact_mut(bases.len().max(1)).enumerate() {
        row.iter_mut().enumerate().for_each(|(r, to)| *to = sum[r * width + o]);
    }
    out
}

/// Packs a block of images: x side by side in padded groups, dy as panels.
#[allow(clippy::too_many_arguments)]
#[inline(always)]
fn pack_block<P: Product>(
    g: &Conv2dGeometry,
    w: &Windows,
    range: std::ops::Range<usize>,
    x: Images<'_, P::Lhs>,
    dy: Images<'_, P::Lhs>,
    rhs: &(impl Fn(P::Lhs) -> P::Rhs + Sync),
    lhs: &mut [P::Lhs],
    panels: &mut [P::Rhs],
) {
    let (pixels, image) = (w.out[0] * w.out[1], g.h * g.w * g.c_in);
    let depth = g.c_in * P::GROUP;
    let groups = range.len().div_ceil(P::GROUP);
    if w.padded != [w.h, w.w] {
        lhs.fill(x.zero);
    }
    // A column that does not exist must be zero; whole panels are written below.
    if !g.c_out.is_multiple_of(NR) {
        panels.fill(P::Rhs::default());
    }
    for (i, padded) in lhs.chunks_exact_mut(w.size(depth).max(1)).enumerate() {
        let first = range.start + i * P::GROUP;
        let of = |n: usize| (n < range.end).then(|| &x.data[n * image..][..image]);
        if P::GROUP == 1 {
            w.place(of(first).unwrap_or_default(), padded, depth);
        } else {
            w.place_four([of(first), of(first + 1), of(first + 2), of(first + 3)], x.zero, padded);
        }
        let zeros = [dy.zero; NR];
        for (p, panel) in panels.chunks_exact_mut((groups * pixels * NR * P::GROUP).max(1)).enumerate() {
            let columns = NR.min(g.c_out - p * NR);
            let group = &mut panel[i * pixels * NR * P::GROUP..][..pixels * NR * P::GROUP];
            for (pixel, row) in group.chunks_exact_mut(NR * P::GROUP).enumerate() {
                let of = |n: usize| match n < range.end {
                    true => &dy.data[(n * pixels + pixel) * g.c_out + p * NR..][..columns],
                    false => &zeros[..columns],
                };
                if P::GROUP == 1 {
                    row.iter_mut().zip(of(first)).for_each(|(to, &v)| *to = rhs(v));
                } else {
                    let mut bytes = [dy.zero; 4 * NR];
                    interleave([of(first), of(first + 1), of(first + 2), of(first + 3)], &mut bytes[..4 * columns]);
                    row.iter_mut().zip(&bytes[..4 * columns]).for_each(|(to, &v)| *to = rhs(v));
                }
            }
        }
    }
}
