//! AVX2 with FMA: the float chains of `scalar::Floats`, eight columns a vector.

use super::tile::Dot;
use std::arch::x86_64::*;

/// One fused multiply-add a column and step.
pub(super) struct Floats;

impl Dot for Floats {
    type L = f32;
    type R = f32;
    type S = f32;
    type Sum = __m256;
    type Part = __m256;
    type Lhs = __m256;
    type Rhs = __m256;
    const LANES: usize = 8;
    const KR: usize = 1;
    const FLUSH: usize = usize::MAX;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m256 {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, sum: __m256) {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { _mm256_storeu_ps(to, sum) }
    }
    #[inline(always)]
    unsafe fn begin(sum: __m256) -> __m256 {
        sum
    }
    #[inline(always)]
    unsafe fn flush(_: __m256, part: __m256) -> __m256 {
        part
    }
    #[inline(always)]
    unsafe fn lhs(from: *const f32) -> __m256 {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { _mm256_set1_ps(*from) }
    }
    #[inline(always)]
    unsafe fn rhs(from: *const f32) -> __m256 {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn step(part: __m256, lhs: __m256, rhs: __m256) -> __m256 {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { _mm256_fmadd_ps(lhs, rhs, part) }
    }
}
