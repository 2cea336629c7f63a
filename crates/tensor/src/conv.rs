//! Integer convolutions and matrix products: three directions, exact sums.

use crate::driver::{self, Images};
use crate::kernel::{IntegerKernel, QUAD, select};
use crate::{Codes, Conv2dGeometry, Error, Result, Sums, Tensor};

impl<'a> From<&'a Codes> for Images<'a, u8> {
    fn from(codes: &'a Codes) -> Self {
        Self { data: codes.bytes(), zero: codes.zero() }
    }
}

fn check(op: &'static str, expected: &[usize], found: &[usize]) -> Result<()> {
    if expected == found { Ok(()) } else { Err(Error::shape(op, format!("{expected:?}"), found)) }
}

/// Steps of `QUAD` products that a sum of 32 bits holds for these operands.
fn steps_held(lhs: &Codes, rhs: &Codes) -> usize {
    let product = usize::from(lhs.level_max()) * usize::from(rhs.level_max());
    i32::MAX as usize / (product.max(1) * QUAD)
}

/// A kernel given from outside must be exact for the operands.
fn admitted(op: &'static str, kernel: &IntegerKernel, lhs: &Codes, rhs: &Codes) -> Result<()> {
    if kernel.admits(lhs.byte_max(), rhs.level_max()) {
        return Ok(());
    }
    let found = format!("{} · {}", lhs.byte_max(), rhs.level_max());
    Err(Error::range(op, "product of operands", format!("at most {} for {}", kernel.product_max, kernel.name), found))
}

/// The sums of a product over `k` must fit 32 bits, because they are handed on as such.
fn fits(op: &'static str, k: usize, lhs: &Codes, rhs: &Codes) -> Result<()> {
    let held = QUAD * steps_held(lhs, rhs);
    if k <= held { Ok(()) } else { Err(Error::range(op, "products in one sum", format!("at most {held}"), k)) }
}

/// Levels of a weight [O, taps, I] as right operands.
fn weight(w: &Codes, taps: usize, c_in: usize) -> impl Fn(usize, usize, usize) -> i8 + Copy + '_ {
    let (bytes, zero) = (w.bytes(), w.zero());
    move |o, tap, i| bytes[(o * taps + tap) * c_in + i].wrapping_sub(zero) as i8
}

/// `y = x * w`, exact. Shapes: x [N, H, W, I], w [O, KH, KW, I] to [N, H_out, W_out, O].
///
/// # Errors
/// The shapes are not those of `g`, or a window has so many products that 32 bits could overflow (65,793 for 8 bits).
pub fn conv2d(x: &Codes, w: &Codes, g: &Conv2dGeometry) -> Result<Sums> {
    conv2d_by(select(x.byte_max(), w.level_max()), x, w, g)
}

/// [`conv2d`] with the kernel given.
pub(crate) fn conv2d_by(kernel: &IntegerKernel, x: &Codes, w: &Codes, g: &Conv2dGeometry) -> Result<Sums> {
    const OP: &str = "conv2d";
    check(OP, &g.input_shape(), x.shape())?;
    check(OP, &g.weight_shape(), w.shape())?;
    let taps = g.kernel[0] * g.kernel[1];
    admitted(OP, kernel, x, w)?;
    fits(OP, taps * g.c_in, x, w)?;
    let out = driver::forward(kernel, g, x.into(), weight(w, taps, g.c_in));
    Sums::new(&g.output_shape(), x.scale() * w.scale(), out)
}

/// The gradient of x from that of y, exact. Shapes: dy [N, H_out, W_out, O], w [O, KH, KW, I] to [N, H, W, I].
///
/// # Errors
/// The shapes are not those of `g`, or a sum could overflow 32 bits.
pub fn conv2d_input_grad(dy: &Codes, w: &Codes, g: &Conv2dGeometry) -> Result<Sums> {
    conv2d_input_grad_by(select(dy.byte_max(), w.level_max()), dy, w, g)
}

/// [`conv2d_input_grad`] with the kernel given.
pub(crate) fn conv2d_input_grad_by(kernel: &IntegerKernel, dy: &Codes, w: &Codes, g: &Conv2dGeometry) -> Result<Sums> {
    const OP: &str = "conv2d_input_grad";
    check(OP, &g.output_shape(), dy.shape())?;
    check(OP, &g.weight_shape(), w.shape())?;
    let taps = g.kernel[0] * g.kernel[1];
    admitted(OP, kernel, dy, w)?;
    fits(OP, taps * g.c_out, dy, w)?;
    let out = driver::input_grad(kernel, g, dy.into(), weight(w, taps, g.c_in));
    Sums::new(&g.input_shape(), dy.scale() * w.scale(), out)
}

/// The gradient of w: exact sums in 64 bits, then `sum as f32 · (x.scale · dy.scale)`, one rounding each.
///
/// Shapes: x [N, H, W, I], dy [N, H_out, W_out, O] to [O, KH, KW, I].
///
/// # Errors
/// The shapes are not those of `g`.
pub fn conv2d_weight_grad(x: &Codes, dy: &Codes, g: &Conv2dGeometry) -> Result<Tensor> {
    conv2d_weight_grad_by(select(x.byte_max(), dy.level_max()), x, dy, g)
}

/// [`conv2d_weight_grad`] with the kernel given.
pub(crate) fn conv2d_weight_grad_by(
    kernel: &IntegerKernel,
    x: &Codes,
    dy: &Codes,
    g: &Conv2dGeometry,
) -> Result<Tensor> {
    const OP: &str = "conv2d_weight_grad";
    check(OP, &g.input_shape(), x.shape())?;
    check(OP, &g.output_shape(), dy.shape())?;
    admitted(OP, kernel, x, dy)?;
    let zero = dy.zero();
    let to_level = |byte: u8| byte.wrapping_sub(zero) as i8;
    let sums = driver::weight_grad(kernel, g, x.into(), dy.into(), to_level, steps_held(x, dy));
    let scale = x.scale() * dy.scale();
    let mut out = Tensor::take(&g.weight_shape());
    crate::map::map1(&sums, out.data_mut(), move |&s| s as f32 * scale);
    Ok(out)
}

/// The geometry of a matrix product from the shapes [N, I] and [O, I] as far as they are given.
fn matrix(op: &'static str, shape: &[usize]) -> Result<[usize; 2]> {
    shape.try_into().map_err(|_| Error::shape(op, "[rows, columns]", shape))
}

fn as_image(codes: &Codes, [n, c]: [usize; 2]) -> Result<Codes> {
    codes.reshape(&[n, 1, 1, c])
}

/// `y = x · w^T`, exact. Shapes: x [N, I], w [O, I] to [N, O].
///
/// # Errors
/// No matrices, I differs, or a sum could overflow 32 bits.
pub fn linear(x: &Codes, w: &Codes) -> Result<Sums> {
    linear_by(select(x.byte_max(), w.level_max()), x, w)
}

/// [`linear`] with the kernel given, for comparisons.
///
/// # Errors
/// As [`linear`], or the kernel is not exact for these operands.
pub fn linear_by(kernel: &IntegerKernel, x: &Codes, w: &Codes) -> Result<Sums> {
    const OP: &str = "linear";
    let ([n, i], [o, wi]) = (matrix(OP, x.shape())?, matrix(OP, w.shape())?);
    check(OP, &[n, wi], x.shape())?;
    let g = Conv2dGeometry::linear(n, i, o);
    conv2d_by(kernel, &as_image(x, [n, i])?, &as_image(w, [o, i])?, &g)?.reshape(&[n, o])
}

/// The gradient of x from that of y, exact. Shapes: dy [N, O], w [O, I] to [N, I].
///
/// # Errors
/// No matrices, O differs, or a sum could overflow 32 bits.
pub fn linear_input_grad(dy: &Codes, w: &Codes) -> Result<Sums> {
    const OP: &str = "linear_input_grad";
    let ([n, o], [wo, i]) = (matrix(OP, dy.shape())?, matrix(OP, w.shape())?);
    check(OP, &[n, wo], dy.shape())?;
    conv2d_input_grad(&as_image(dy, [n, o])?, &as_image(w, [o, i])?, &Conv2dGeometry::linear(n, i, o))?.reshape(&[n, i])
}

/// The gradient of w, as [`conv2d_weight_grad`]. Shapes: x [N, I], dy [N, O] to [O, I].
///
/// # Errors
/// No matrices, or N differs.
pub fn linear_weight_grad(x: &Codes, dy: &Codes) -> Result<Tensor> {
    const OP: &str = "linear_weight_grad";
    let ([n, i], [dn, o]) = (matrix(OP, x.shape())?, matrix(OP, dy.shape())?);
    check(OP, &[n, o], &[dn, o])?;
    conv2d_weight_grad(&as_image(x, [n, i])?, &as_image(dy, [n, o])?, &Conv2dGeometry::linear(n, i, o))?
        .reshape(&[o, i])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Range;
    use crate::kernel::all;
    use crate::rng::{Stream, domain};
    use proptest::prelude::*;

    fn codes(shape: &[usize], range: Range, salt: u32) -> Codes {
        let random = Stream::new(4, domain::DATA, salt, 0);
        let n: usize = shape.iter().product();
        let span = u32::from(range.byte_max()) + 1;
        let levels: Vec<i32> = (0..n).map(|i| random.below(i as u64, span) as i32 + range.min()).collect();
        Codes::from_levels(shape, range, 1.0, &levels).unwrap()
    }

    /// The seven loops, for all three products at once: `f(x index, w index, y index)`.
    fn each(g: &Conv2dGeometry, mut f: impl FnMut(usize, usize, usize)) {
        let [n, oh, ow, co] = g.output_shape();
        for (n, y, x) in (0..n).flat_map(|n| (0..oh).flat_map(move |y| (0..ow).map(move |x| (n, y, x)))) {
            for (a, b) in (0..g.kernel[0]).flat_map(|a| (0..g.kernel[1]).map(move |b| (a, b))) {
                let iy = (y * g.stride[0] + a * g.dilation[0]).wrapping_sub(g.padding[0]);
                let ix = (x * g.stride[1] + b * g.dilation[1]).wrapping_sub(g.padding[1]);
                if iy >= g.h || ix >= g.w {
                    continue;
                }
                for (i, o) in (0..g.c_in).flat_map(|i| (0..co).map(move |o| (i, o))) {
                    let w = ((o * g.kernel[0] + a) * g.kernel[1] + b) * g.c_in + i;
                    f(((n * g.h + iy) * g.w + ix) * g.c_in + i, w, ((n * oh + y) * ow + x) * co + o);
                }
            }
        }
    }

    fn agree(g: &Conv2dGeometry, x: &Codes, w: &Codes, dy: &Codes) {
        let len = |s: [usize; 4]| vec![0i64; s.iter().product()];
        let (mut y, mut dx, mut dw) = (len(g.output_shape()), len(g.input_shape()), len(g.weight_shape()));
        each(g, |xi, wi, yi| {
            y[yi] += i64::from(x.level(xi) * w.level(wi));
            dx[xi] += i64::from(dy.level(yi) * w.level(wi));
            dw[wi] += i64::from(x.level(xi) * dy.level(yi));
        });
        let same = |s: &[i32], e: &[i64]| s.iter().zip(e).all(|(&s, &e)| i64::from(s) == e);
        for kernel in all() {
            if kernel.admits(x.byte_max(), w.level_max()) {
                assert!(same(conv2d_by(kernel, x, w, g).unwrap().data(), &y), "{} forward {g:?}", kernel.name);
            }
            if kernel.admits(dy.byte_max(), w.level_max()) {
                let found = conv2d_input_grad_by(kernel, dy, w, g).unwrap();
                assert!(same(found.data(), &dx), "{} input gradient {g:?}", kernel.name);
            }
            if kernel.admits(x.byte_max(), dy.level_max()) {
                let found = conv2d_weight_grad_by(kernel, x, dy, g).unwrap();
                let exact = found.data().iter().zip(&dw).all(|(&s, &e)| s == e as f32);
                assert!(exact, "{} weight gradient {g:?}", kernel.name);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
        #[test]
        fn all_three_products_match_the_seven_loops(
            n in 1usize..7, h in 1usize..9, w in 1usize..9, c_in in 1usize..9, c_out in 1usize..35,
            kernel in prop::array::uniform2(1usize..5), stride in prop::array::uniform2(1usize..4),
            dilation in prop::array::uniform2(1usize..3), padding in prop::array::uniform2(0usize..4),
            bits in 2u8..9, signed: bool,
        ) {
            let weight = [c_out, kernel[0], kernel[1], c_in];
            let Ok(g) = Conv2dGeometry::new(&[n, h, w, c_in], &weight, stride, padding, dilation) else { return Ok(()) };
            let symmetric = Range::symmetric(bits).unwrap();
            let range = if signed { symmetric } else { Range::unsigned(bits).unwrap() };
            let x = codes(&g.input_shape(), range, 1);
            let dy = codes(&g.output_shape(), symmetric, 3);
            agree(&g, &x, &codes(&weight, symmetric, 2), &dy);
            agree(&g, &x, &codes(&weight, Range::twos_complement(bits).unwrap(), 2), &dy);
        }
    }

    #[test]
    fn common_layers_match_the_seven_loops() {
        for (k, stride, padding, h) in [(3, 1, 1, 8), (3, 2, 1, 8), (1, 2, 0, 7), (5, 1, 2, 9), (7, 2, 3, 11)] {
            let weight = [16, k, k, 8];
            let g = Conv2dGeometry::new(&[5, h, h, 8], &weight, [stride; 2], [padding; 2], [1, 1]).unwrap();
            let four = Range::symmetric(4).unwrap();
            let x = codes(&g.input_shape(), Range::unsigned(4).unwrap(), 1);
            agree(&g, &x, &codes(&weight, four, 2), &codes(&g.output_shape(), four, 3));
        }
    }

    #[test]
    fn sums_that_need_64_bits_are_exact() {
        // 255 · 127 · 70,000 exceeds 2^31.
        let n = 70_000;
        let x = Codes::new(&[n, 1], Range::unsigned(8).unwrap(), 1.0, vec![255; n].into()).unwrap();
        let dy = Codes::new(&[n, 1], Range::symmetric(8).unwrap(), 1.0, vec![254; n].into()).unwrap();
        assert_eq!(linear_weight_grad(&x, &dy).unwrap().data(), &[(255i64 * 127 * n as i64) as f32]);
        // One image whose pixels alone overflow: the steps of k are split.
        let g = Conv2dGeometry::new(&[1, 280, 280, 1], &[1, 1, 1, 1], [1, 1], [0, 0], [1, 1]).unwrap();
        let pixels = 280 * 280;
        let x = Codes::new(&[1, 280, 280, 1], Range::unsigned(8).unwrap(), 1.0, vec![255; pixels].into()).unwrap();
        let dy = Codes::new(&[1, 280, 280, 1], Range::symmetric(8).unwrap(), 1.0, vec![254; pixels].into()).unwrap();
        assert_eq!(conv2d_weight_grad(&x, &dy, &g).unwrap().data(), &[(255i64 * 127 * pixels as i64) as f32]);
        // Handed on as 32 bits, such a sum is refused.
        let long = |range: Range| codes(&[1, 70_000], range, 1);
        let e = linear(&long(Range::unsigned(8).unwrap()), &long(Range::symmetric(8).unwrap())).unwrap_err();
        assert!(e.to_string().contains("70000"), "{e}");
    }

    #[test]
    fn wrong_shapes_are_named() {
        let four = Range::symmetric(4).unwrap();
        let e = linear(&codes(&[2, 3], four, 1), &codes(&[5, 4], four, 1)).unwrap_err();
        assert_eq!(e.to_string(), "linear: expected shape [2, 4], found [2, 3]");
    }
}
