//! The definition of every product, in plain Rust: what all other rows of the table must equal, bit for bit.

use super::tile::Dot;

/// Four bytes times four bytes, added in wrapping i32.
pub(super) struct Bytes;

impl Dot for Bytes {
    type L = u8;
    type R = i8;
    type S = i32;
    type Sum = [i32; 16];
    type Part = [i32; 16];
    type Lhs = [u8; 4];
    type Rhs = [i8; 64];
    const LANES: usize = 16;
    const KR: usize = 4;
    const FLUSH: usize = usize::MAX;

    #[inline(always)]
    unsafe fn load(from: *const i32) -> [i32; 16] {
        // SAFETY: the caller's pointer reaches 16 sums.
        unsafe { from.cast::<[i32; 16]>().read() }
    }
    #[inline(always)]
    unsafe fn store(to: *mut i32, sum: [i32; 16]) {
        // SAFETY: as above.
        unsafe { to.cast::<[i32; 16]>().write(sum) }
    }
    #[inline(always)]
    unsafe fn begin(sum: [i32; 16]) -> [i32; 16] {
        sum
    }
    #[inline(always)]
    unsafe fn flush(_: [i32; 16], part: [i32; 16]) -> [i32; 16] {
        part
    }
    #[inline(always)]
    unsafe fn lhs(from: *const u8) -> [u8; 4] {
        // SAFETY: the caller's pointer reaches four bytes.
        unsafe { from.cast::<[u8; 4]>().read() }
    }
    #[inline(always)]
    unsafe fn rhs(from: *const i8) -> [i8; 64] {
        // SAFETY: the caller's pointer reaches one step of a panel.
        unsafe { from.cast::<[i8; 64]>().read() }
    }
    #[inline(always)]
    unsafe fn step(mut part: [i32; 16], lhs: [u8; 4], rhs: [i8; 64]) -> [i32; 16] {
        for (sum, column) in part.iter_mut().zip(rhs.chunks_exact(4)) {
            for (&a, &b) in lhs.iter().zip(column) {
                *sum = sum.wrapping_add(i32::from(a) * i32::from(b));
            }
        }
        part
    }
}

/// One float times one float, fused: the same chain as every vector unit's fused multiply-add.
pub(super) struct Floats;

impl Dot for Floats {
    type L = f32;
    type R = f32;
    type S = f32;
    type Sum = [f32; 16];
    type Part = [f32; 16];
    type Lhs = f32;
    type Rhs = [f32; 16];
    const LANES: usize = 16;
    const KR: usize = 1;
    const FLUSH: usize = usize::MAX;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> [f32; 16] {
        // SAFETY: the caller's pointer reaches 16 sums.
        unsafe { from.cast::<[f32; 16]>().read() }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, sum: [f32; 16]) {
        // SAFETY: as above.
        unsafe { to.cast::<[f32; 16]>().write(sum) }
    }
    #[inline(always)]
    unsafe fn begin(sum: [f32; 16]) -> [f32; 16] {
        sum
    }
    #[inline(always)]
    unsafe fn flush(_: [f32; 16], part: [f32; 16]) -> [f32; 16] {
        part
    }
    #[inline(always)]
    unsafe fn lhs(from: *const f32) -> f32 {
        // SAFETY: the caller's pointer reaches one float.
        unsafe { from.read() }
    }
    #[inline(always)]
    unsafe fn rhs(from: *const f32) -> [f32; 16] {
        // SAFETY: the caller's pointer reaches one step of a panel.
        unsafe { from.cast::<[f32; 16]>().read() }
    }
    #[inline(always)]
    unsafe fn step(mut part: [f32; 16], lhs: f32, rhs: [f32; 16]) -> [f32; 16] {
        for (sum, &b) in part.iter_mut().zip(&rhs) {
            *sum = lhs.mul_add(b, *sum);
        }
        part
    }
}
