//! The scalar tiles: the definition of every result.

use super::{FloatKernel, IntegerKernel, Isa, Kernel, MR_MAX, NR, QUAD, Tile};

const MR: usize = 4;

pub(super) fn integer() -> IntegerKernel {
    Kernel { name: "u8i8-4x16c4-scalar", isa: Isa::Scalar, mr: MR, product_max: 255 * 128, tile: integer_tile }
}

pub(super) fn float() -> FloatKernel {
    Kernel { name: "f32-4x16c1-scalar", isa: Isa::Scalar, mr: MR, product_max: 0, tile: float_tile }
}

/// # Safety
/// `lhs` is readable at every `base + offset` and the 3 bytes behind; `rhs` holds 64 bytes an offset.
unsafe fn integer_tile(lhs: *const u8, base: &[u32; MR_MAX], offsets: &[u32], rhs: *const i8, sums: &mut Tile<i32>) {
    for (k, &offset) in offsets.iter().enumerate() {
        // SAFETY: the panel has a row of NR quads for offset k.
        let panel = unsafe { &*rhs.add(k * NR * QUAD).cast::<[[i8; QUAD]; NR]>() };
        for r in 0..MR {
            // SAFETY: the caller vouches for four bytes at base + offset.
            let quad = unsafe { *lhs.add(base[r] as usize + offset as usize).cast::<[u8; QUAD]>() };
            for (sum, column) in sums[r * NR..][..NR].iter_mut().zip(panel) {
                for (a, b) in quad.iter().zip(column) {
                    *sum = sum.wrapping_add(i32::from(*a) * i32::from(*b));
                }
            }
        }
    }
}

/// # Safety
/// `lhs` is readable at every `base + offset`; `rhs` holds 16 floats an offset.
unsafe fn float_tile(lhs: *const f32, base: &[u32; MR_MAX], offsets: &[u32], rhs: *const f32, sums: &mut Tile<f32>) {
    for (k, &offset) in offsets.iter().enumerate() {
        // SAFETY: the panel has a row of NR floats for offset k.
        let panel = unsafe { &*rhs.add(k * NR).cast::<[f32; NR]>() };
        for r in 0..MR {
            // SAFETY: the caller vouches for base + offset.
            let a = unsafe { *lhs.add(base[r] as usize + offset as usize) };
            for (sum, b) in sums[r * NR..][..NR].iter_mut().zip(panel) {
                *sum = a.mul_add(*b, *sum);
            }
        }
    }
}
