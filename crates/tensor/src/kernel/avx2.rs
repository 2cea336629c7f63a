//! AVX2: byte products by `vpmaddubsw` and `vpmaddwd`, float products by fused multiply-add; and AVX-VNNI.
//!
//! `vpmaddubsw` adds two u8·i8 products in i16 *with saturation*. [`Pairs`] keeps up to FLUSH such sums in i16,
//! [`Widened`] widens each at once. `vpmaddwd` of 16-bit operands is exact for all bytes: [`Wide`] splits the bytes of
//! each step into even and odd ones, [`Words`] works on operands that were widened once, before the product.

use super::tile::Dot;
use std::arch::x86_64::*;

/// Sums of eight i32, of operands `$left` and `$right`, with `$k` of k a step.
macro_rules! sums {
    ($left:ty, $right:ty, $k:literal) => {
        type L = $left;
        type R = $right;
        type S = i32;
        type Sum = __m256i;
        type Part = __m256i;
        const LANES: usize = 8;
        const KR: usize = $k;

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
    };
}

/// Steps that add to the sum itself.
macro_rules! at_once {
    () => {
        const FLUSH: usize = usize::MAX;

        #[inline(always)]
        unsafe fn begin(sum: __m256i) -> __m256i {
            sum
        }
        #[inline(always)]
        unsafe fn flush(_: __m256i, part: __m256i) -> __m256i {
            part
        }
    };
}

/// Operands as they lie in memory: four bytes of a row in every lane, and a vector of the panel.
macro_rules! as_they_lie {
    () => {
        type Lhs = __m256i;
        type Rhs = __m256i;

        #[inline(always)]
        unsafe fn lhs(from: *const Self::L) -> __m256i {
            // SAFETY: the caller's obligations of `Dot`.
            unsafe { _mm256_set1_epi32(from.cast::<i32>().read_unaligned()) }
        }
        #[inline(always)]
        unsafe fn rhs(from: *const Self::R) -> __m256i {
            // SAFETY: the caller's obligations of `Dot`.
            unsafe { _mm256_loadu_si256(from.cast()) }
        }
    };
}

/// Sums of FLUSH steps in i16: exact where 2 · FLUSH · max · max ≤ 32767.
pub(super) struct Pairs<const FLUSH: usize>;

impl<const FLUSH: usize> Dot for Pairs<FLUSH> {
    sums!(u8, i8, 4);
    as_they_lie!();
    const FLUSH: usize = FLUSH;

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
    unsafe fn step(part: __m256i, lhs: __m256i, rhs: __m256i) -> __m256i {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { _mm256_add_epi16(part, _mm256_maddubs_epi16(lhs, rhs)) }
    }
}

/// Each pair sum widened at once: exact where 2 · max · max ≤ 32767.
pub(super) struct Widened;

impl Dot for Widened {
    sums!(u8, i8, 4);
    as_they_lie!();
    at_once!();

    #[inline(always)]
    unsafe fn step(part: __m256i, lhs: __m256i, rhs: __m256i) -> __m256i {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { _mm256_add_epi32(part, _mm256_madd_epi16(_mm256_maddubs_epi16(lhs, rhs), _mm256_set1_epi16(1))) }
    }
}

/// Even and odd bytes in i16, two `vpmaddwd`: exact for all bytes.
pub(super) struct Wide;

impl Dot for Wide {
    sums!(u8, i8, 4);
    type Lhs = [__m256i; 2];
    type Rhs = [__m256i; 2];
    at_once!();

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

/// Operands of 16 bits, two k a step: exact for all bytes, and the loop does nothing but `vpmaddwd` and `vpaddd`.
pub(super) struct Words;

impl Dot for Words {
    sums!(u16, i16, 2);
    as_they_lie!();
    at_once!();

    #[inline(always)]
    unsafe fn step(part: __m256i, lhs: __m256i, rhs: __m256i) -> __m256i {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { _mm256_add_epi32(part, _mm256_madd_epi16(lhs, rhs)) }
    }
}

/// A left operand for [`Words`].
///
/// # Safety
/// The CPU has AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn widen_left(from: &[u8], to: &mut [u16]) {
    to.iter_mut().zip(from).for_each(|(to, &from)| *to = u16::from(from));
}

/// Steps of a panel for [`Words`]: of the 16 columns of four k the first two k of each, then the other two.
///
/// # Safety
/// The CPU has AVX2.
///
/// # Panics
/// The lengths differ, or are no multiples of 64.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn widen_right(from: &[i8], to: &mut [i16]) {
    assert!(from.len() == to.len() && from.len().is_multiple_of(64));
    for (from, to) in from.chunks_exact(64).zip(to.chunks_exact_mut(64)) {
        for half in 0..2 {
            // SAFETY: both chunks hold 64 elements, of which the last ones here are 32 · 1 + 32 and 16 · 1 + 32 + 16.
            unsafe {
                let load = |at: *const i8| _mm256_castsi256_ps(_mm256_cvtepi8_epi16(_mm_loadu_si128(at.cast())));
                let from = from.as_ptr().add(32 * half);
                let (low, high) = (load(from), load(from.add(16)));
                // Within lanes columns come as 0 1 4 5 and 2 3 6 7.
                let store = |at: *mut i16, v| {
                    _mm256_storeu_si256(at.cast(), _mm256_permute4x64_epi64(_mm256_castps_si256(v), 0b11_01_10_00));
                };
                let to = to.as_mut_ptr().add(16 * half);
                store(to, _mm256_shuffle_ps(low, high, 0b10_00_10_00));
                store(to.add(32), _mm256_shuffle_ps(low, high, 0b11_01_11_01));
            }
        }
    }
}

/// `vpdpbusd`: four products into i32, exact for all bytes; in AVX-512's encoding if `EVEX`, else in AVX-VNNI's.
pub(super) struct Vnni<const EVEX: bool>;

impl<const EVEX: bool> Dot for Vnni<EVEX> {
    sums!(u8, i8, 4);
    as_they_lie!();
    at_once!();

    #[inline(always)]
    unsafe fn step(part: __m256i, lhs: __m256i, rhs: __m256i) -> __m256i {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { if EVEX { _mm256_dpbusd_epi32(part, lhs, rhs) } else { _mm256_dpbusd_avx_epi32(part, lhs, rhs) } }
    }
}
