//! NEON: byte products by `smull` and `sadalp`, float products by fused multiply-add.
//!
//! Both factors are signed here, so the left byte's top bit is flipped (its value falls by 128, the row's `lhs_bias`).
//! A product of two signed bytes fits 16 bits (-128 · -128 = 16384), and `sadalp` widens it at once: exact for all bytes.

use super::tile::Dot;
use std::arch::aarch64::*;

/// Two vectors of products in four columns: k 0 and 1, k 2 and 3 of columns 0, 1 and of columns 2, 3.
pub(super) struct Bytes;

impl Dot for Bytes {
    type L = u8;
    type R = i8;
    type S = i32;
    type Sum = int32x4_t;
    type Part = int32x4x2_t;
    type Lhs = int8x8_t;
    type Rhs = int8x16_t;
    const LANES: usize = 4;
    const KR: usize = 4;
    const FLUSH: usize = usize::MAX;

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
    unsafe fn lhs(from: *const u8) -> int8x8_t {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe {
            let quad = from.cast::<u32>().read_unaligned() ^ 0x8080_8080;
            vreinterpret_s8_u32(vdup_n_u32(quad))
        }
    }
    #[inline(always)]
    unsafe fn rhs(from: *const i8) -> int8x16_t {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { vld1q_s8(from) }
    }
    #[inline(always)]
    unsafe fn step(part: int32x4x2_t, lhs: int8x8_t, rhs: int8x16_t) -> int32x4x2_t {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe {
            let low = vmull_s8(lhs, vget_low_s8(rhs));
            let high = vmull_s8(lhs, vget_high_s8(rhs));
            int32x4x2_t(vpadalq_s16(part.0, low), vpadalq_s16(part.1, high))
        }
    }
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
