//! AVX-512: `vpdpbusd` where VNNI exists, else the pair sums of AVX2 at twice the width; and the float chains.

use super::tile::Dot;
use std::arch::x86_64::*;

/// What products of codes share: 16 sums, four bytes of either side at a time.
macro_rules! codes {
    () => {
        type L = u8;
        type R = i8;
        type S = i32;
        type Sum = __m512i;
        type Part = __m512i;
        type Lhs = __m512i;
        type Rhs = __m512i;
        const LANES: usize = 16;
        const KR: usize = 4;

        #[inline(always)]
        unsafe fn load(from: *const i32) -> __m512i {
            // SAFETY: the caller's obligations of `Dot`.
            unsafe { _mm512_loadu_si512(from.cast()) }
        }
        #[inline(always)]
        unsafe fn store(to: *mut i32, sum: __m512i) {
            // SAFETY: the caller's obligations of `Dot`.
            unsafe { _mm512_storeu_si512(to.cast(), sum) }
        }
        #[inline(always)]
        unsafe fn lhs(from: *const u8) -> __m512i {
            // SAFETY: the caller's obligations of `Dot`.
            unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
        }
        #[inline(always)]
        unsafe fn rhs(from: *const i8) -> __m512i {
            // SAFETY: the caller's obligations of `Dot`.
            unsafe { _mm512_loadu_si512(from.cast()) }
        }
    };
}

/// `vpdpbusd`: four products into i32, exact for all bytes.
pub(super) struct Vnni;

impl Dot for Vnni {
    codes!();
    const FLUSH: usize = usize::MAX;

    #[inline(always)]
    unsafe fn begin(sum: __m512i) -> __m512i {
        sum
    }
    #[inline(always)]
    unsafe fn flush(_: __m512i, part: __m512i) -> __m512i {
        part
    }
    #[inline(always)]
    unsafe fn step(part: __m512i, lhs: __m512i, rhs: __m512i) -> __m512i {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { _mm512_dpbusd_epi32(part, lhs, rhs) }
    }
}

/// Sums of FLUSH steps in i16: exact where 2 · FLUSH · max · max ≤ 32767.
pub(super) struct Pairs<const FLUSH: usize>;

impl<const FLUSH: usize> Dot for Pairs<FLUSH> {
    codes!();
    const FLUSH: usize = FLUSH;

    #[inline(always)]
    unsafe fn begin(_: __m512i) -> __m512i {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    unsafe fn flush(sum: __m512i, part: __m512i) -> __m512i {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { _mm512_add_epi32(sum, _mm512_madd_epi16(part, _mm512_set1_epi16(1))) }
    }
    #[inline(always)]
    unsafe fn step(part: __m512i, lhs: __m512i, rhs: __m512i) -> __m512i {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { _mm512_add_epi16(part, _mm512_maddubs_epi16(lhs, rhs)) }
    }
}

/// One fused multiply-add a column and step.
pub(super) struct Floats;

impl Dot for Floats {
    type L = f32;
    type R = f32;
    type S = f32;
    type Sum = __m512;
    type Part = __m512;
    type Lhs = __m512;
    type Rhs = __m512;
    const LANES: usize = 16;
    const KR: usize = 1;
    const FLUSH: usize = usize::MAX;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, sum: __m512) {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { _mm512_storeu_ps(to, sum) }
    }
    #[inline(always)]
    unsafe fn begin(sum: __m512) -> __m512 {
        sum
    }
    #[inline(always)]
    unsafe fn flush(_: __m512, part: __m512) -> __m512 {
        part
    }
    #[inline(always)]
    unsafe fn lhs(from: *const f32) -> __m512 {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { _mm512_set1_ps(*from) }
    }
    #[inline(always)]
    unsafe fn rhs(from: *const f32) -> __m512 {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn step(part: __m512, lhs: __m512, rhs: __m512) -> __m512 {
        // SAFETY: the caller's obligations of `Dot`.
        unsafe { _mm512_fmadd_ps(lhs, rhs, part) }
    }
}
