//! Numbers by the formula that `fixtures/make.py` has, too.

use fixnet_tensor::Tensor;

/// Numbers in [-1/2, 1/2) by index and name.
pub(crate) fn uniform(name: &str, count: usize) -> impl Iterator<Item = f64> {
    let h = name.bytes().fold(0x811c_9dc5u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    (0..count as u32).map(move |i| {
        let u = h.wrapping_add(i.wrapping_mul(2_654_435_761));
        let u = (u ^ u >> 15).wrapping_mul(0x2c1b_3c6d);
        f64::from(u >> 8) / 16_777_216.0 - 0.5
    })
}

/// Images in the order N, H, W, C, or sequences in the order N, T, C.
pub(crate) fn inputs(count: usize, shape: impl AsRef<[usize]>) -> Tensor {
    let shape = shape.as_ref();
    let values = uniform("images", count * shape.iter().product::<usize>()).map(|u| (2.0 * u) as f32).collect();
    Tensor::from_vec(&[&[count], shape].concat(), values).expect("as many numbers")
}
