//! NEON: byte products by `smull`, `smlal` and `sadalp`, by `sdot` and by `sudot`; float products by fused multiply-add.
//!
//! Base NEON and `sdot` multiply signed bytes. Left bytes to 127 are such; for larger ones the top bit is flipped (the
//! value falls by 128, the row's `lhs_bias`). `sudot` takes the left byte as it is. `smmla` is not used: it wants eight k
//! of two rows side by side, and the left operand, read in place, would have to be put together anew each step.

use super::tile::Dot;
use std::arch::aarch64::*;
use std::arch::asm;

/// What the byte rows share: four columns of sums a vector, sixteen bytes of the panel.
macro_rules! four_columns {
    () => {
        type L = u8;
        type R = i8;
        type S = i32;
        type Sum = int32x4_t;
        type Rhs = int8x16_t;
        const LANES: usize = 4;
        const KR: usize = 4;

        #[inline(always)]
        unsafe fn load(from: *const i32) -> int32x4_t {
            // SAFETY: the caller's obligations of `Dot`.
            unsafe { vld1q_s32(from) }
        }
        #[inline(always)]
        unsafe fn store(to: *mut i32, sum: int32x4_t) {
            // SAFETY: the caller's obligations of `Dot`.
            unsafe { vst1q_s32(to, sum) }
        }
        #[inline(always)]
        unsafe fn rhs(from: *const i8) -> int8x16_t {
            // SAFETY: the caller's obligations of `Dot`.
            unsafe { vld1q_s8(from) }
        }
    };
}

/// Four left bytes in all lanes, each less BIAS (0 or 128).
///
/// # Safety
/// `from` reaches four bytes.
#[inline(always)]
unsafe fn broadcast<const BIAS: u8>(from: *const u8) -> int8x16_t {
    // SAFETY: the caller's obligation; NEON is part of aarch64.
    unsafe {
        let quad = vreinterpretq_u8_u32(vdupq_n_u32(from.cast::<u32>().read_unaligned()));
        vreinterpretq_s8_u8(veorq_u8(quad, vdupq_n_u8(BIAS)))
    }
}

/// Four left bytes in the lowest lanes, each less BIAS (0 or 128): the dot products pick them there.
///
/// # Safety
/// `from` reaches four bytes.
#[inline(always)]
unsafe fn lowest<const BIAS: u8>(from: *const u8) -> int8x8_t {
    // SAFETY: the caller's obligation; NEON is part of aarch64.
    unsafe {
        let quad = vcreate_u8(u64::from(from.cast::<u32>().read_unaligned()));
        vreinterpret_s8_u8(veor_u8(quad, vdup_n_u8(BIAS)))
    }
}

/// `smlal`: one product a lane and step, FLUSH of them in i16. Exact for left bytes to 127 where
/// FLUSH · max · max ≤ 32767.
pub(super) struct Narrow<const FLUSH: usize>;

impl<const FLUSH: usize> Dot for Narrow<FLUSH> {
    four_columns!();
    /// The four k of columns 0 and 1, and of columns 2 and 3.
    type Part = int16x8x2_t;
    type Lhs = int8x16_t;
    const FLUSH: usize = FLUSH;

    #[inline(always)]
    unsafe fn begin(_: int32x4_t) -> int16x8x2_t {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { int16x8x2_t(vdupq_n_s16(0), vdupq_n_s16(0)) }
    }
    #[inline(always)]
    unsafe fn flush(sum: int32x4_t, part: int16x8x2_t) -> int32x4_t {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { vaddq_s32(sum, vpaddq_s32(vpaddlq_s16(part.0), vpaddlq_s16(part.1))) }
    }
    #[inline(always)]
    unsafe fn lhs(from: *const u8) -> int8x16_t {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { broadcast::<0>(from) }
    }
    #[inline(always)]
    unsafe fn step(part: int16x8x2_t, lhs: int8x16_t, rhs: int8x16_t) -> int16x8x2_t {
        let int16x8x2_t(low, mut high) = part;
        // SAFETY: the caller's obligations of `Dot`; the instruction touches nothing but these registers. It is written
        // out because the compiler, knowing both halves of `lhs` equal, moves that of `rhs` down, and runs out of registers.
        unsafe {
            asm!(
                "smlal2 {high:v}.8h, {lhs:v}.16b, {rhs:v}.16b",
                high = inout(vreg) high,
                lhs = in(vreg) lhs,
                rhs = in(vreg) rhs,
                options(pure, nomem, nostack, preserves_flags),
            );
            int16x8x2_t(vmlal_s8(low, vget_low_s8(lhs), vget_low_s8(rhs)), high)
        }
    }
}

/// `smull`, each product widened at once by `sadalp`: exact for all bytes, since -128 · -128 fits 16 bits.
pub(super) struct Wide;

impl Dot for Wide {
    four_columns!();
    /// k 0 + 1 and k 2 + 3 of columns 0 and 1, and of columns 2 and 3.
    type Part = int32x4x2_t;
    type Lhs = int8x16_t;
    const FLUSH: usize = usize::MAX;

    #[inline(always)]
    unsafe fn begin(_: int32x4_t) -> int32x4x2_t {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { int32x4x2_t(vdupq_n_s32(0), vdupq_n_s32(0)) }
    }
    #[inline(always)]
    unsafe fn flush(sum: int32x4_t, part: int32x4x2_t) -> int32x4_t {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { vaddq_s32(sum, vpaddq_s32(part.0, part.1)) }
    }
    #[inline(always)]
    unsafe fn lhs(from: *const u8) -> int8x16_t {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { broadcast::<128>(from) }
    }
    #[inline(always)]
    unsafe fn step(part: int32x4x2_t, lhs: int8x16_t, rhs: int8x16_t) -> int32x4x2_t {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe {
            let low = vmull_s8(vget_low_s8(lhs), vget_low_s8(rhs));
            int32x4x2_t(vpadalq_s16(part.0, low), vpadalq_s16(part.1, vmull_high_s8(lhs, rhs)))
        }
    }
}

/// A row by one instruction that adds four products of bytes to each i32. The intrinsics are not stable yet.
macro_rules! dot_product {
    ($instruction:literal, $bias:expr) => {
        four_columns!();
        type Part = int32x4_t;
        type Lhs = int8x8_t;
        const FLUSH: usize = usize::MAX;

        #[inline(always)]
        unsafe fn begin(sum: int32x4_t) -> int32x4_t {
            sum
        }
        #[inline(always)]
        unsafe fn flush(_: int32x4_t, part: int32x4_t) -> int32x4_t {
            part
        }
        #[inline(always)]
        unsafe fn lhs(from: *const u8) -> int8x8_t {
            // SAFETY: the caller's obligations of `Dot`.
            unsafe { lowest::<{ $bias }>(from) }
        }
        #[inline(always)]
        unsafe fn step(mut part: int32x4_t, lhs: int8x8_t, rhs: int8x16_t) -> int32x4_t {
            // SAFETY: the caller's obligations of `Dot`; the instruction touches nothing but these registers.
            unsafe {
                asm!(
                    concat!($instruction, " {part:v}.4s, {rhs:v}.16b, {lhs:v}.4b[0]"),
                    part = inout(vreg) part,
                    rhs = in(vreg) rhs,
                    lhs = in(vreg) lhs,
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
            part
        }
    };
}

/// `sdot`, signed times signed: exact for left bytes to 127 (BIAS 0), or for all (BIAS 128).
pub(super) struct Sdot<const BIAS: u8>;

impl<const BIAS: u8> Dot for Sdot<BIAS> {
    dot_product!("sdot", BIAS);
}

/// `sudot`, signed panel times unsigned left bytes: exact for all.
pub(super) struct Sudot;

impl Dot for Sudot {
    dot_product!("sudot", 0);
}

/// One fused multiply-add a column and step.
pub(super) struct Floats;

impl Dot for Floats {
    type L = f32;
    type R = f32;
    type S = f32;
    type Sum = float32x4_t;
    type Part = float32x4_t;
    type Lhs = float32x4_t;
    type Rhs = float32x4_t;
    const LANES: usize = 4;
    const KR: usize = 1;
    const FLUSH: usize = usize::MAX;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> float32x4_t {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { vld1q_f32(from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, sum: float32x4_t) {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { vst1q_f32(to, sum) }
    }
    #[inline(always)]
    unsafe fn begin(sum: float32x4_t) -> float32x4_t {
        sum
    }
    #[inline(always)]
    unsafe fn flush(_: float32x4_t, part: float32x4_t) -> float32x4_t {
        part
    }
    #[inline(always)]
    unsafe fn lhs(from: *const f32) -> float32x4_t {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { vld1q_dup_f32(from) }
    }
    #[inline(always)]
    unsafe fn rhs(from: *const f32) -> float32x4_t {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { vld1q_f32(from) }
    }
    #[inline(always)]
    unsafe fn step(part: float32x4_t, lhs: float32x4_t, rhs: float32x4_t) -> float32x4_t {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { vfmaq_f32(part, lhs, rhs) }
    }
}
