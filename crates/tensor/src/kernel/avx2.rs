//! AVX2: byte products by `vpmaddubsw` and `vpmaddwd`, float products by fused multiply-add; and AVX-VNNI.
//!
//! `vpmaddubsw` adds two u8·i8 products in i16 *with saturation*. [`Pairs`] keeps up to FLUSH such sums in i16,
//! [`Widened`] widens each at once, [`Wide`] splits bytes into even and odd ones and is exact for all.

use super::tile::Dot;
use std::arch::x86_64::*;

/// Sums of FLUSH steps in i16: exact where 2 · FLUSH · max · max ≤ 32767.
pub(super) struct Pairs<const FLUSH: usize>;

impl<const FLUSH: usize> Dot for Pairs<FLUSH> {
    type L = u8;
    type R = i8;
    type S = i32;
    type Sum = __m256i;
    type Part = __m256i;
    type Lhs = __m256i;
    type Rhs = __m256i;
    const LANES: usize = 8;
    const KR: usize = 4;
    const FLUSH: usize = FLUSH;

    #[inline(always)]
    unsafe fn load(from: *const i32) -> __m256i {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut i32, sum: __m256i) {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { _mm256_storeu_si256(to.cast(), sum) }
    }
    #[inline(always)]
    unsafe fn begin(_: __m256i) -> __m256i {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { _mm256_setzero_si256() }
    }
    #[inline(always)]
    unsafe fn flush(sum: __m256i, part: __m256i) -> __m256i {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { _mm256_add_epi32(sum, _mm256_madd_epi16(part, _mm256_set1_epi16(1))) }
    }
    #[inline(always)]
    unsafe fn lhs(from: *const u8) -> __m256i {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { _mm256_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn rhs(from: *const i8) -> __m256i {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }
    #[inline(always)]
    unsafe fn step(part: __m256i, lhs: __m256i, rhs: __m256i) -> __m256i {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { _mm256_add_epi16(part, _mm256_maddubs_epi16(lhs, rhs)) }
    }
}

/// Each pair sum widened at once: exact where 2 · max · max ≤ 32767.
pub(super) struct Widened;

impl Dot for Widened {
    type L = u8;
    type R = i8;
    type S = i32;
    type Sum = __m256i;
    type Part = __m256i;
    type Lhs = __m256i;
    type Rhs = __m256i;
    const LANES: usize = 8;
    const KR: usize = 4;
    const FLUSH: usize = usize::MAX;

    #[inline(always)]
    unsafe fn load(from: *const i32) -> __m256i {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut i32, sum: __m256i) {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { _mm256_storeu_si256(to.cast(), sum) }
    }
    #[inline(always)]
    unsafe fn begin(sum: __m256i) -> __m256i {
        sum
    }
    #[inline(always)]
    unsafe fn flush(_: __m256i, part: __m256i) -> __m256i {
        part
    }
    #[inline(always)]
    unsafe fn lhs(from: *const u8) -> __m256i {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { _mm256_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn rhs(from: *const i8) -> __m256i {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }
    #[inline(always)]
    unsafe fn step(part: __m256i, lhs: __m256i, rhs: __m256i) -> __m256i {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { _mm256_add_epi32(part, _mm256_madd_epi16(_mm256_maddubs_epi16(lhs, rhs), _mm256_set1_epi16(1))) }
    }
}

/// Even and odd bytes in i16, two `vpmaddwd`: exact for all bytes.
pub(super) struct Wide;

impl Dot for Wide {
    type L = u8;
    type R = i8;
    type S = i32;
    type Sum = __m256i;
    type Part = __m256i;
    type Lhs = [__m256i; 2];
    type Rhs = [__m256i; 2];
    const LANES: usize = 8;
    const KR: usize = 4;
    const FLUSH: usize = usize::MAX;

    #[inline(always)]
    unsafe fn load(from: *const i32) -> __m256i {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut i32, sum: __m256i) {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { _mm256_storeu_si256(to.cast(), sum) }
    }
    #[inline(always)]
    unsafe fn begin(sum: __m256i) -> __m256i {
        sum
    }
    #[inline(always)]
    unsafe fn flush(_: __m256i, part: __m256i) -> __m256i {
        part
    }
    #[inline(always)]
    unsafe fn lhs(from: *const u8) -> [__m256i; 2] {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe {
            let a = _mm256_set1_epi32(from.cast::<i32>().read_unaligned());
            [_mm256_and_si256(a, _mm256_set1_epi16(255)), _mm256_srli_epi16(a, 8)]
        }
    }
    #[inline(always)]
    unsafe fn rhs(from: *const i8) -> [__m256i; 2] {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe {
            let b = _mm256_loadu_si256(from.cast());
            [_mm256_srai_epi16(_mm256_slli_epi16(b, 8), 8), _mm256_srai_epi16(b, 8)]
        }
    }
    #[inline(always)]
    unsafe fn step(part: __m256i, lhs: [__m256i; 2], rhs: [__m256i; 2]) -> __m256i {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe {
            let even = _mm256_add_epi32(part, _mm256_madd_epi16(lhs[0], rhs[0]));
            _mm256_add_epi32(even, _mm256_madd_epi16(lhs[1], rhs[1]))
        }
    }
}

/// `vpdpbusd`: four products into i32, exact for all bytes; in AVX-512's encoding if `EVEX`, else in AVX-VNNI's.
pub(super) struct Vnni<const EVEX: bool>;

impl<const EVEX: bool> Dot for Vnni<EVEX> {
    type L = u8;
    type R = i8;
    type S = i32;
    type Sum = __m256i;
    type Part = __m256i;
    type Lhs = __m256i;
    type Rhs = __m256i;
    const LANES: usize = 8;
    const KR: usize = 4;
    const FLUSH: usize = usize::MAX;

    #[inline(always)]
    unsafe fn load(from: *const i32) -> __m256i {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut i32, sum: __m256i) {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { _mm256_storeu_si256(to.cast(), sum) }
    }
    #[inline(always)]
    unsafe fn begin(sum: __m256i) -> __m256i {
        sum
    }
    #[inline(always)]
    unsafe fn flush(_: __m256i, part: __m256i) -> __m256i {
        part
    }
    #[inline(always)]
    unsafe fn lhs(from: *const u8) -> __m256i {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { _mm256_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn rhs(from: *const i8) -> __m256i {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }
    #[inline(always)]
    unsafe fn step(part: __m256i, lhs: __m256i, rhs: __m256i) -> __m256i {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { if EVEX { _mm256_dpbusd_epi32(part, lhs, rhs) } else { _mm256_dpbusd_avx_epi32(part, lhs, rhs) } }
    }
}
