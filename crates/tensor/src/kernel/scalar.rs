//! The definition of every product, in plain Rust: what all other rows of the table must equal, bit for bit.

use super::tile::Dot;

/// All of a [`Dot`] over sums in an array but its step: sums that need no widening, and operands as they lie in memory.
macro_rules! arrays {
    ($l:ty, $r:ty, $s:ty, $lhs:ty, $rhs:ty, $kr:literal) => {
        type L = $l;
        type R = $r;
        type S = $s;
        type Sum = [$s; 16];
        type Part = [$s; 16];
        type Lhs = $lhs;
        type Rhs = $rhs;
        const LANES: usize = 16;
        const KR: usize = $kr;
        const FLUSH: usize = usize::MAX;

        #[inline(always)]
        unsafe fn load(from: *const $s) -> [$s; 16] {
            // SAFETY: the caller's pointer reaches 16 sums.
            unsafe { from.cast::<[$s; 16]>().read() }
        }
        #[inline(always)]
        unsafe fn store(to: *mut $s, sum: [$s; 16]) {
            // SAFETY: as above.
            unsafe { to.cast::<[$s; 16]>().write(sum) }
        }
        #[inline(always)]
        unsafe fn begin(sum: [$s; 16]) -> [$s; 16] {
            sum
        }
        #[inline(always)]
        unsafe fn flush(_: [$s; 16], part: [$s; 16]) -> [$s; 16] {
            part
        }
        #[inline(always)]
        unsafe fn lhs(from: *const $l) -> $lhs {
            // SAFETY: the caller's pointer reaches one step of a row.
            unsafe { from.cast::<$lhs>().read() }
        }
        #[inline(always)]
        unsafe fn rhs(from: *const $r) -> $rhs {
            // SAFETY: the caller's pointer reaches one step of a panel.
            unsafe { from.cast::<$rhs>().read() }
        }
    };
}
pub(super) use arrays;

/// Four bytes times four bytes, added in wrapping i32.
pub(super) struct Bytes;

impl Dot for Bytes {
    arrays!(u8, i8, i32, [u8; 4], [i8; 64], 4);

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
    arrays!(f32, f32, f32, f32, [f32; 16], 1);

    #[inline(always)]
    unsafe fn step(mut part: [f32; 16], lhs: f32, rhs: [f32; 16]) -> [f32; 16] {
        for (sum, &b) in part.iter_mut().zip(&rhs) {
            *sum = lhs.mul_add(b, *sum);
        }
        part
    }
}
