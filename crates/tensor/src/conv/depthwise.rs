//! Depthwise convolutions: a channel sees itself alone, so there is no matrix to multiply. Each pixel is a sum over the
//! taps of products channel by channel, in plain loops that become vectors over the channels.
//!
//! Products of a byte and a signed byte fit 16 bits (255 · 128 < 2^15), and where the weights prove it the sums do, too.
//! Float sums are chains of fused multiply-adds over the taps in memory order (weight gradients: over the pixels of an
//! image, images added in order), without the taps that fall on padding.

use super::{SMALL, max_products, run_chunks};
use crate::{Buffer, Codes, Conv2dGeometry, Element, Error, Result, Sums, Tensor, map};
use rayon::prelude::*;

/// For each pixel of the result of an image the taps that reach it and the pixels that they read.
struct Meetings {
    /// Where the pairs of each pixel start, and the end of the last.
    starts: Vec<u32>,
    /// (tap, pixel read).
    pairs: Vec<[u32; 2]>,
}

impl Meetings {
    /// Of output pixels with input pixels, or (`back`) the other way round.
    fn new(geo: &Conv2dGeometry, back: bool) -> Self {
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
        let (mut starts, mut pairs) = (vec![0], Vec::new());
        for y in 0..size[0] {
            for x in 0..size[1] {
                for a in 0..geo.kernel[0] {
                    for b in 0..geo.kernel[1] {
                        if let (Some(i), Some(j)) = (meet(0, y, a), meet(1, x, b)) {
                            pairs.push([(a * geo.kernel[1] + b) as u32, (i * read[1] + j) as u32]);
                        }
                    }
                }
                starts.push(pairs.len() as u32);
            }
        }
        Self { starts, pairs }
    }

    fn of(&self, pixel: usize) -> &[[u32; 2]] {
        &self.pairs[self.starts[pixel] as usize..self.starts[pixel + 1] as usize]
    }
}

/// [C, taps] to [taps, C].
fn by_tap<T: Copy, U>(weights: &[T], taps: usize, f: impl Fn(T) -> U) -> Vec<U> {
    let channels = weights.len() / taps.max(1);
    (0..taps).flat_map(|t| (0..channels).map(move |c| (t, c))).map(|(t, c)| f(weights[c * taps + t])).collect()
}

/// Both products of an image with the weights: `add(sums, numbers read, weights of the tap)` over the meetings.
fn pass<A: Element, X: Sync, W: Sync>(
    geo: &Conv2dGeometry,
    back: bool,
    x: &[X],
    w: &[W],
    add: impl Fn(&mut [A], &[X], &[W]) + Sync,
) -> Buffer<A> {
    let c = geo.c_in;
    let meetings = Meetings::new(geo, back);
    let (read, size) = (geo.h * geo.w, geo.out_h() * geo.out_w());
    let (read, size) = if back { (size, read) } else { (read, size) };
    let mut out = Buffer::take(geo.n * size * c);
    run_chunks(&mut out, size * c, geo.macs() as usize * 8, |(image, out)| {
        let x = &x[image * read * c..][..read * c];
        map::dispatch(
            #[inline(always)]
            || {
                for (pixel, out) in out.chunks_exact_mut(c).enumerate() {
                    out.fill(A::default());
                    for &[tap, at] in meetings.of(pixel) {
                        add(out, &x[at as usize * c..][..c], &w[tap as usize * c..][..c]);
                    }
                }
            },
        );
    });
    out
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
    let weights = by_tap(w.bytes(), taps, |b| i16::from(b) - zw);
    let reach: i64 = weights
        .chunks_exact(geo.c_in.max(1))
        .map(|tap| i64::from(tap.iter().fold(0i16, |m, w| m.max(w.abs()))))
        .sum::<i64>()
        * i64::from(x.level_max());
    let scale = x.scale() * w.scale();
    if reach <= i64::from(i16::MAX) {
        let out = pass(
            geo,
            back,
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
        back,
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
    let weights = by_tap(w.data(), geo.kernel[0] * geo.kernel[1], |w| w);
    let out = pass(
        geo,
        back,
        x.data(),
        &weights,
        #[inline(always)]
        |sums: &mut [f32], x, w| {
            sums.iter_mut().zip(x).zip(w).for_each(|((s, &x), &w)| *s = x.mul_add(w, *s));
        },
    );
    Tensor::from_buffer(&shape, out)
}

/// The sums [taps, C] of each image, `add(sums of the tap, numbers of x, numbers of g)` over the meetings.
fn weight_pass<A: Element, X: Sync>(
    geo: &Conv2dGeometry,
    x: &[X],
    g: &[X],
    add: impl Fn(&mut [A], &[X], &[X]) + Sync,
) -> Vec<Buffer<A>> {
    let (c, taps) = (geo.c_in, geo.kernel[0] * geo.kernel[1]);
    let meetings = Meetings::new(geo, false);
    let (read, size) = (geo.h * geo.w, geo.out_h() * geo.out_w());
    let image = |n: usize| {
        let (x, g) = (&x[n * read * c..][..read * c], &g[n * size * c..][..size * c]);
        let mut sums: Buffer<A> = Buffer::zeroed(taps * c);
        map::dispatch(
            #[inline(always)]
            || {
                for (pixel, g) in g.chunks_exact(c).enumerate() {
                    for &[tap, at] in meetings.of(pixel) {
                        add(&mut sums[tap as usize * c..][..c], &x[at as usize * c..][..c], g);
                    }
                }
            },
        );
        sums
    };
    if geo.macs() * 8 < SMALL {
        (0..geo.n).map(image).collect()
    } else {
        (0..geo.n).into_par_iter().map(image).collect()
    }
}

/// [taps, C] to the shape of the weight.
fn as_weight(geo: &Conv2dGeometry, value: impl Fn(usize) -> f32) -> Result<Tensor> {
    let taps = geo.kernel[0] * geo.kernel[1];
    let values = (0..geo.c_in * taps).map(|i| value(i % taps * geo.c_in + i / taps)).collect();
    Tensor::from_vec(&geo.weight_shape(), values)
}

fn check_weight_grad(geo: &Conv2dGeometry, x: &[usize], g: &[usize]) -> Result<()> {
    super::plan::check("depthwise conv2d_weight_grad", "input", &geo.input_shape(), x)?;
    super::plan::check("depthwise conv2d_weight_grad", "output gradient", &geo.output_shape(), g)
}

/// The weight gradient of codes: exact, rounded once to f32 and once by the product with both scales.
pub(super) fn weight_grad(x: &Codes, g: &Codes, geo: &Conv2dGeometry) -> Result<Tensor> {
    check_weight_grad(geo, x.shape(), g.shape())?;
    let (pixels, most) = (geo.out_h() * geo.out_w(), max_products(x.level_max(), g.level_max()));
    if pixels > most {
        return Err(Error::range(
            "depthwise conv2d_weight_grad",
            "pixels of an image",
            format!("at most {most}"),
            pixels,
        ));
    }
    let (zx, zg) = (i16::from(x.zero()), i16::from(g.zero()));
    let parts = weight_pass(
        geo,
        x.bytes(),
        g.bytes(),
        #[inline(always)]
        |sums: &mut [i32], x, g| {
            let products = x.iter().zip(g).map(|(&x, &g)| i32::from(i16::from(x) - zx) * i32::from(i16::from(g) - zg));
            sums.iter_mut().zip(products).for_each(|(s, p)| *s += p);
        },
    );
    let scale = x.scale() * g.scale();
    as_weight(geo, |i| parts.iter().map(|p| i64::from(p[i])).sum::<i64>() as f32 * scale)
}

/// The weight gradient of floats.
pub(crate) fn float_weight_grad(x: &Tensor, g: &Tensor, geo: &Conv2dGeometry) -> Result<Tensor> {
    check_weight_grad(geo, x.shape(), g.shape())?;
    let parts = weight_pass(
        geo,
        x.data(),
        g.data(),
        #[inline(always)]
        |sums: &mut [f32], x, g| {
            sums.iter_mut().zip(x).zip(g).for_each(|((s, &x), &g)| *s = x.mul_add(g, *s));
        },
    );
    as_weight(geo, |i| parts.iter().fold(0.0, |sum, p| sum + p[i]))
}
