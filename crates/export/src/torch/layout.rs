//! Orders of axes: fixnet has channels last, PyTorch has them first.

use fixnet_tensor::Tensor;

/// The numbers of a weight [O, I, KH, KW] in the order [O, KH, KW, I].
pub(super) fn ohwi(t: &Tensor) -> Tensor {
    let &[o, i, kh, kw] = t.shape() else { return t.clone() };
    let (area, data) = (kh * kw, t.data());
    let order = (0..t.len()).map(|k| data[(k / (area * i) * i + k % i) * area + k / i % area]);
    Tensor::from_vec(&[o, kh, kw, i], order.collect()).expect("the same numbers")
}

/// The numbers of a weight [O, KH, KW, I] in the order [O, I, KH, KW].
pub(super) fn oihw(t: &Tensor) -> Tensor {
    let (shape, values) = crate::onnx::oihw(t.shape(), t.data());
    Tensor::from_vec(&shape, values).expect("the same numbers")
}

/// Columns (the last axis) in the order C, H, W brought into the order H, W, C.
pub(super) fn hwc_columns(t: &Tensor, [h, w, c]: [usize; 3]) -> Tensor {
    let (columns, data) = (h * w * c, t.data());
    let order = (0..t.len()).map(|k| {
        let (row, column) = (k / columns, k % columns);
        data[row * columns + column % c * h * w + column / c]
    });
    Tensor::from_vec(t.shape(), order.collect()).expect("the same numbers")
}

/// Columns (the last axis) in the order H, W, C brought into the order C, H, W.
pub(super) fn chw_columns(t: &Tensor, [h, w, c]: [usize; 3]) -> Tensor {
    let (columns, data) = (h * w * c, t.data());
    let order = (0..t.len()).map(|k| {
        let (row, column) = (k / columns, k % columns);
        data[row * columns + column % (h * w) * c + column / (h * w)]
    });
    Tensor::from_vec(t.shape(), order.collect()).expect("the same numbers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_of_axes_by_hand() {
        // One output, two channels, a row of three pixels: [O, I, KH, KW] = [1, 2, 1, 3].
        let t = Tensor::from_vec(&[1, 2, 1, 3], vec![0.0, 1.0, 2.0, 10.0, 11.0, 12.0]).unwrap();
        let u = ohwi(&t);
        assert_eq!((u.shape(), u.data()), (&[1, 1, 3, 2][..], &[0.0, 10.0, 1.0, 11.0, 2.0, 12.0][..]));
        assert_eq!((oihw(&u).shape(), oihw(&u).data()), (t.shape(), t.data()));
        // Two rows over an image of 1 x 2 pixels and 3 channels.
        let t = Tensor::from_vec(&[2, 6], (0..12u8).map(f32::from).collect()).unwrap();
        let rows = [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11].map(|v| v as f32);
        assert_eq!(hwc_columns(&t, [1, 2, 3]).data(), rows);
        assert_eq!(chw_columns(&hwc_columns(&t, [1, 2, 3]), [1, 2, 3]).data(), t.data());
    }
}
