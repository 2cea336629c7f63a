//! Ordered f32 products, for layers that are not quantized.
//!
//! Each output of a forward product or input gradient is one chain of fused multiply-adds over taps and channels, in
//! order, starting from 0; a weight gradient is such a chain over the pixels of a block of images, and the blocks (whose
//! size follows from the geometry alone) are added in order. So the bits are the same on every instruction set.

use crate::driver::{self, Images};
use crate::kernel::select_float;
use crate::{Conv2dGeometry, Error, Result, Tensor};
use std::sync::atomic::{AtomicU64, Ordering};

static PRODUCTS: AtomicU64 = AtomicU64::new(0);

/// How many products of this module this process has taken. A test uses it: quantized layers take none.
pub fn float_products() -> u64 {
    PRODUCTS.load(Ordering::Relaxed)
}

fn images(t: &Tensor) -> Images<'_, f32> {
    PRODUCTS.fetch_add(1, Ordering::Relaxed);
    Images { data: t.data(), zero: 0.0 }
}

fn check(op: &'static str, expected: &[usize], found: &[usize]) -> Result<()> {
    if expected == found { Ok(()) } else { Err(Error::shape(op, format!("{expected:?}"), found)) }
}

fn tensor(shape: &[usize], data: crate::Buffer<f32>) -> Result<Tensor> {
    Tensor::from_buffer(shape, data)
}

fn weight(w: &Tensor, taps: usize, c_in: usize) -> impl Fn(usize, usize, usize) -> f32 + Copy + '_ {
    let data = w.data();
    move |o, tap, i| data[(o * taps + tap) * c_in + i]
}

/// `y = x * w`. Shapes: x [N, H, W, I], w [O, KH, KW, I] to [N, H_out, W_out, O].
///
/// # Errors
/// The shapes are not those of `g`.
pub fn conv2d(x: &Tensor, w: &Tensor, g: &Conv2dGeometry) -> Result<Tensor> {
    check("conv2d", &g.input_shape(), x.shape())?;
    check("conv2d", &g.weight_shape(), w.shape())?;
    let weight = weight(w, g.kernel[0] * g.kernel[1], g.c_in);
    tensor(&g.output_shape(), driver::forward(select_float(), g, images(x), weight))
}

/// The gradient of x from that of y. Shapes: dy [N, H_out, W_out, O], w [O, KH, KW, I] to [N, H, W, I].
///
/// # Errors
/// The shapes are not those of `g`.
pub fn conv2d_input_grad(dy: &Tensor, w: &Tensor, g: &Conv2dGeometry) -> Result<Tensor> {
    check("conv2d_input_grad", &g.output_shape(), dy.shape())?;
    check("conv2d_input_grad", &g.weight_shape(), w.shape())?;
    let weight = weight(w, g.kernel[0] * g.kernel[1], g.c_in);
    tensor(&g.input_shape(), driver::input_grad(select_float(), g, images(dy), weight))
}

/// The gradient of w. Shapes: x [N, H, W, I], dy [N, H_out, W_out, O] to [O, KH, KW, I].
///
/// # Errors
/// The shapes are not those of `g`.
pub fn conv2d_weight_grad(x: &Tensor, dy: &Tensor, g: &Conv2dGeometry) -> Result<Tensor> {
    check("conv2d_weight_grad", &g.input_shape(), x.shape())?;
    check("conv2d_weight_grad", &g.output_shape(), dy.shape())?;
    let dy = Images { data: dy.data(), zero: 0.0 };
    let out = driver::weight_grad(select_float(), g, images(x), dy, |v| v, usize::MAX);
    tensor(&g.weight_shape(), out)
}

/// `y = x · w^T`. Shapes: x [N, I], w [O, I] to [N, O].
///
/// # Errors
/// No matrices, or I differs.
pub fn linear(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    let ([n, i], [o, wi]) = (x.matrix("linear")?, w.matrix("linear")?);
    check("linear", &[n, wi], x.shape())?;
    let g = Conv2dGeometry::linear(n, i, o);
    tensor(&[n, o], driver::forward(select_float(), &g, images(x), weight(w, 1, i)))
}

/// The gradient of x from that of y. Shapes: dy [N, O], w [O, I] to [N, I].
///
/// # Errors
/// No matrices, or O differs.
pub fn linear_input_grad(dy: &Tensor, w: &Tensor) -> Result<Tensor> {
    let ([n, o], [wo, i]) = (dy.matrix("linear_input_grad")?, w.matrix("linear_input_grad")?);
    check("linear_input_grad", &[n, wo], dy.shape())?;
    let g = Conv2dGeometry::linear(n, i, o);
    tensor(&[n, i], driver::input_grad(select_float(), &g, images(dy), weight(w, 1, i)))
}

/// The gradient of w. Shapes: x [N, I], dy [N, O] to [O, I].
///
/// # Errors
/// No matrices, or N differs.
pub fn linear_weight_grad(x: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let ([n, i], [dn, o]) = (x.matrix("linear_weight_grad")?, dy.matrix("linear_weight_grad")?);
    check("linear_weight_grad", &[n, o], &[dn, o])?;
    let g = Conv2dGeometry::linear(n, i, o);
    let dy = Images { data: dy.data(), zero: 0.0 };
    tensor(&[o, i], driver::weight_grad(select_float(), &g, images(x), dy, |v| v, usize::MAX))
}

/// The matrix product. Shapes: a [M, K], b [K, N] to [M, N].
///
/// # Errors
/// No matrices, or K differs.
pub fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let ([m, k], [bk, n]) = (a.matrix("matmul")?, b.matrix("matmul")?);
    check("matmul", &[m, bk], a.shape())?;
    let (g, data) = (Conv2dGeometry::linear(m, k, n), b.data());
    tensor(&[m, n], driver::forward(select_float(), &g, images(a), |o, _, i| data[i * n + o]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::all_float;
    use crate::rng::{Stream, domain};

    fn random(shape: &[usize], salt: u32) -> Tensor {
        let stream = Stream::new(8, domain::DATA, salt, 0);
        let n: usize = shape.iter().product();
        Tensor::from_vec(shape, (0..n).map(|i| stream.normal_at(i as u64)).collect()).unwrap()
    }

    #[test]
    fn matmul_agrees_with_matrixmultiply_and_ndarray() {
        for (m, k, n) in [(1, 1, 1), (7, 33, 18), (64, 100, 40), (33, 0, 5)] {
            let (a, b) = (random(&[m, k], 1), random(&[k, n], 2));
            let found = matmul(&a, &b).unwrap();
            let mut expected = vec![0f32; m * n];
            let (rsa, rsb, rsc) = (k as isize, n as isize, n as isize);
            // SAFETY: the pointers cover m x k, k x n and m x n elements with these strides.
            unsafe {
                let (a, b, c) = (a.data().as_ptr(), b.data().as_ptr(), expected.as_mut_ptr());
                matrixmultiply::sgemm(m, k, n, 1.0, a, rsa, 1, b, rsb, 1, 0.0, c, rsc, 1);
            }
            let two = |t: &Tensor| t.view().into_dimensionality::<ndarray::Ix2>().unwrap().to_owned();
            let by_ndarray = two(&a).dot(&two(&b));
            for (i, (found, expected)) in found.data().iter().zip(&expected).enumerate() {
                approx::assert_relative_eq!(found, expected, epsilon = 1e-4, max_relative = 1e-4);
                approx::assert_relative_eq!(*found, by_ndarray[[i / n, i % n]], epsilon = 1e-4, max_relative = 1e-4);
            }
        }
    }

    #[test]
    fn every_kernel_and_any_number_of_threads_give_the_same_bits() {
        let g = Conv2dGeometry::new(&[37, 9, 7, 3], &[20, 3, 3, 3], [2, 1], [1, 1], [1, 1]).unwrap();
        let (x, w, dy) = (random(&g.input_shape(), 1), random(&g.weight_shape(), 2), random(&g.output_shape(), 3));
        let bits = |b: crate::Buffer<f32>| b.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let mut results = Vec::new();
        for kernel in all_float() {
            for threads in [1, 3] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                results.push(pool.install(|| {
                    let dy = Images { data: dy.data(), zero: 0.0 };
                    (
                        bits(driver::forward(kernel, &g, images(&x), weight(&w, 9, 3))),
                        bits(driver::input_grad(kernel, &g, dy, weight(&w, 9, 3))),
                        bits(driver::weight_grad(kernel, &g, images(&x), dy, |v| v, usize::MAX)),
                    )
                }));
            }
        }
        assert!(results.windows(2).all(|r| r[0] == r[1]));
    }
}
