//! Products of one-bit operands: 32 k a word, by `and` and counting bits.
//!
//! The left bits are 0 and 1, the right ones stand for -1 and +1. With a the left word and b the right one, the sum of the
//! 32 products is `|a & b| - |a & !b| = 2·|a & b| - |a|`, and |a| is counted once for all columns.

use super::scalar::arrays;
use super::tile::Dot;

/// Load and store of vectors of i32 sums.
macro_rules! vectors {
    ($load:ident, $store:ident, $vector:ty, $lanes:literal) => {
        type L = u32;
        type R = u32;
        type S = i32;
        type Sum = $vector;
        const LANES: usize = $lanes;
        const KR: usize = 1;

        #[inline(always)]
        unsafe fn load(from: *const i32) -> $vector {
            // SAFETY: the caller's obligations of `Dot`.
            unsafe { $load(from.cast()) }
        }
        #[inline(always)]
        unsafe fn store(to: *mut i32, sum: $vector) {
            // SAFETY: the caller's obligations of `Dot`.
            unsafe { $store(to.cast(), sum) }
        }
    };
}

/// The definition.
pub(super) struct Scalar;

impl Dot for Scalar {
    arrays!(u32, u32, i32, u32, [u32; 16], 1);

    #[inline(always)]
    unsafe fn step(mut part: [i32; 16], lhs: u32, rhs: [u32; 16]) -> [i32; 16] {
        for (sum, b) in part.iter_mut().zip(rhs) {
            *sum = sum.wrapping_add((lhs & b).count_ones() as i32).wrapping_sub((lhs & !b).count_ones() as i32);
        }
        part
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Popcntdq};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Dot;
    use std::arch::x86_64::*;

    /// `vpopcntd`.
    pub(in super::super) struct Popcntdq;

    impl Dot for Popcntdq {
        vectors!(_mm512_loadu_si512, _mm512_storeu_si512, __m512i, 16);
        /// Bits of both, and of the left alone.
        type Part = [__m512i; 2];
        type Lhs = [__m512i; 2];
        type Rhs = __m512i;
        const FLUSH: usize = usize::MAX;

        #[inline(always)]
        unsafe fn begin(_: __m512i) -> [__m512i; 2] {
            // SAFETY: the caller's obligations of `Dot`.
            unsafe { [_mm512_setzero_si512(); 2] }
        }
        #[inline(always)]
        unsafe fn flush(sum: __m512i, [both, left]: [__m512i; 2]) -> __m512i {
            // SAFETY: the caller's obligations of `Dot`.
            unsafe { _mm512_sub_epi32(_mm512_add_epi32(sum, _mm512_add_epi32(both, both)), left) }
        }
        #[inline(always)]
        unsafe fn lhs(from: *const u32) -> [__m512i; 2] {
            // SAFETY: the caller's obligations of `Dot`.
            unsafe {
                let word = _mm512_set1_epi32(from.cast::<i32>().read());
                [word, _mm512_popcnt_epi32(word)]
            }
        }
        #[inline(always)]
        unsafe fn rhs(from: *const u32) -> __m512i {
            // SAFETY: the caller's obligations of `Dot`.
            unsafe { _mm512_loadu_si512(from.cast()) }
        }
        #[inline(always)]
        unsafe fn step([both, left]: [__m512i; 2], [a, count]: [__m512i; 2], b: __m512i) -> [__m512i; 2] {
            // SAFETY: the caller's obligations of `Dot`.
            unsafe {
                let met = _mm512_popcnt_epi32(_mm512_and_si512(a, b));
                [_mm512_add_epi32(both, met), _mm512_add_epi32(left, count)]
            }
        }
    }

    /// Nibbles looked up with `vpshufb`, counted in bytes: at most 8 a step.
    pub(in super::super) struct Avx2;

    /// Set bits of each byte.
    ///
    /// # Safety
    /// The CPU has AVX2.
    #[inline(always)]
    unsafe fn bits_of_bytes(v: __m256i) -> __m256i {
        // SAFETY: the caller's obligation.
        unsafe {
            let table = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
            let low = _mm256_set1_epi8(15);
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(v), low);
            _mm256_add_epi8(_mm256_shuffle_epi8(table, _mm256_and_si256(v, low)), _mm256_shuffle_epi8(table, high))
        }
    }

    impl Dot for Avx2 {
        vectors!(_mm256_loadu_si256, _mm256_storeu_si256, __m256i, 8);
        /// Bits of both in bytes, and of the left alone in words of 32.
        type Part = [__m256i; 2];
        type Lhs = [__m256i; 2];
        type Rhs = __m256i;
        const FLUSH: usize = 31;

        #[inline(always)]
        unsafe fn begin(_: __m256i) -> [__m256i; 2] {
            // SAFETY: the caller's obligations of `Dot`.
            unsafe { [_mm256_setzero_si256(); 2] }
        }
        #[inline(always)]
        unsafe fn flush(sum: __m256i, [both, left]: [__m256i; 2]) -> __m256i {
            // SAFETY: the caller's obligations of `Dot`. Pairs of bytes reach 2 · 248, far from saturation.
            unsafe {
                let pairs = _mm256_maddubs_epi16(both, _mm256_set1_epi8(2));
                let words = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
                _mm256_sub_epi32(_mm256_add_epi32(sum, words), left)
            }
        }
        #[inline(always)]
        unsafe fn lhs(from: *const u32) -> [__m256i; 2] {
            // SAFETY: the caller's obligations of `Dot`.
            unsafe {
                let word = from.read();
                [_mm256_set1_epi32(word as i32), _mm256_set1_epi32(word.count_ones() as i32)]
            }
        }
        #[inline(always)]
        unsafe fn rhs(from: *const u32) -> __m256i {
            // SAFETY: the caller's obligations of `Dot`.
            unsafe { _mm256_loadu_si256(from.cast()) }
        }
        #[inline(always)]
        unsafe fn step([both, left]: [__m256i; 2], [a, count]: [__m256i; 2], b: __m256i) -> [__m256i; 2] {
            // SAFETY: the caller's obligations of `Dot`.
            unsafe {
                let met = bits_of_bytes(_mm256_and_si256(a, b));
                [_mm256_add_epi8(both, met), _mm256_add_epi32(left, count)]
            }
        }
    }
}

#[cfg(target_arch = "aarch64")]
pub(super) use arm::Neon;

#[cfg(target_arch = "aarch64")]
mod arm {
    use super::Dot;
    use std::arch::aarch64::*;

    /// `cnt` on bytes: at most 8 a step.
    pub(in super::super) struct Neon;

    impl Dot for Neon {
        vectors!(vld1q_s32, vst1q_s32, int32x4_t, 4);
        /// Bits of both in bytes, and of the left alone in words of 32.
        type Part = (uint8x16_t, int32x4_t);
        type Lhs = (uint32x4_t, int32x4_t);
        type Rhs = uint32x4_t;
        const FLUSH: usize = 31;

        #[inline(always)]
        unsafe fn begin(_: int32x4_t) -> (uint8x16_t, int32x4_t) {
            // SAFETY: the caller's obligations of `Dot`.
            unsafe { (vdupq_n_u8(0), vdupq_n_s32(0)) }
        }
        #[inline(always)]
        unsafe fn flush(sum: int32x4_t, (both, left): (uint8x16_t, int32x4_t)) -> int32x4_t {
            // SAFETY: the caller's obligations of `Dot`.
            unsafe {
                let words = vreinterpretq_s32_u32(vpaddlq_u16(vpaddlq_u8(both)));
                vsubq_s32(vaddq_s32(sum, vaddq_s32(words, words)), left)
            }
        }
        #[inline(always)]
        unsafe fn lhs(from: *const u32) -> (uint32x4_t, int32x4_t) {
            // SAFETY: the caller's obligations of `Dot`.
            unsafe {
                let word = from.read();
                (vdupq_n_u32(word), vdupq_n_s32(word.count_ones() as i32))
            }
        }
        #[inline(always)]
        unsafe fn rhs(from: *const u32) -> uint32x4_t {
            // SAFETY: the caller's obligations of `Dot`.
            unsafe { vld1q_u32(from) }
        }
        #[inline(always)]
        unsafe fn step(
            (both, left): (uint8x16_t, int32x4_t),
            (a, count): (uint32x4_t, int32x4_t),
            b: uint32x4_t,
        ) -> (uint8x16_t, int32x4_t) {
            // SAFETY: the caller's obligations of `Dot`.
            unsafe {
                let met = vcntq_u8(vreinterpretq_u8_u32(vandq_u32(a, b)));
                (vaddq_u8(both, met), vaddq_s32(left, count))
            }
        }
    }
}
