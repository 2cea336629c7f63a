//! AVX2 tiles.
//!
//! `vpmaddubsw` adds two u8 · i8 products in 16 bits *with saturation*. `narrow` keeps such sums in 16 bits for FLUSH
//! steps, as many as the operand ranges prove safe (`2 · FLUSH · product <= 32767`), and then widens by `vpmaddwd`.
//! `wide` splits bytes into even and odd, multiplies in 16 bits into 32 and is exact for all bytes.

use super::{FloatKernel, IntegerKernel, Isa, Kernel, MR_MAX, NR, QUAD, Tile};
use std::arch::x86_64::*;

/// The largest product for which FLUSH steps of two products each stay within 16 bits.
const fn product_max(flush: u32) -> u32 {
    32_767 / (2 * flush)
}

pub(super) fn integer() -> Vec<IntegerKernel> {
    if !Isa::Avx2.is_available() {
        return Vec::new();
    }
    let row = |name, mr, product_max, tile| Kernel { name, isa: Isa::Avx2, mr, product_max, tile };
    vec![
        row("u8i8-6x16c4-avx2-4bit", 6, product_max(136), narrow::<136> as _),
        row("u8i8-6x16c4-avx2-5bit", 6, product_max(33), narrow::<33> as _),
        row("u8i8-6x16c4-avx2-6bit", 6, product_max(8), narrow::<8> as _),
        row("u8i8-6x16c4-avx2-7bit", 6, product_max(2), narrow::<2> as _),
        row("u8i8-4x16c4-avx2", 4, 255 * 128, wide as _),
    ]
}

pub(super) fn float() -> Vec<FloatKernel> {
    if !Isa::Avx2.is_available() {
        return Vec::new();
    }
    vec![Kernel { name: "f32-6x16c1-avx2", isa: Isa::Avx2, mr: 6, product_max: 0, tile: float_tile as _ }]
}

/// # Safety
/// The CPU has AVX2; `lhs` is readable at every `base + offset` and the 3 bytes behind; `rhs` holds 64 bytes an offset.
#[target_feature(enable = "avx2")]
unsafe fn narrow<const FLUSH: usize>(
    lhs: *const u8,
    base: &[u32; MR_MAX],
    offsets: &[u32],
    rhs: *const i8,
    sums: &mut Tile<i32>,
) {
    const MR: usize = 6;
    let ones = _mm256_set1_epi16(1);
    let mut panel = rhs;
    // SAFETY: base alone is within the left operand.
    let rows: [*const u8; MR] = std::array::from_fn(|r| unsafe { lhs.add(base[r] as usize) });
    for offsets in offsets.chunks(FLUSH) {
        let mut part = [[_mm256_setzero_si256(); 2]; MR];
        for &offset in offsets {
            // SAFETY: 64 bytes of the panel belong to this offset.
            let b = unsafe { [_mm256_loadu_si256(panel.cast()), _mm256_loadu_si256(panel.add(32).cast())] };
            for r in 0..MR {
                // SAFETY: four bytes at base + offset are readable.
                let a = _mm256_set1_epi32(unsafe { rows[r].add(offset as usize).cast::<i32>().read_unaligned() });
                for v in 0..2 {
                    part[r][v] = _mm256_add_epi16(part[r][v], _mm256_maddubs_epi16(a, b[v]));
                }
            }
            // SAFETY: at most one past the panel's end.
            panel = unsafe { panel.add(NR * QUAD) };
        }
        for r in 0..MR {
            for v in 0..2 {
                let to = sums[r * NR + 8 * v..][..8].as_mut_ptr().cast::<__m256i>();
                // SAFETY: eight sums are behind `to`.
                unsafe {
                    let sum = _mm256_add_epi32(_mm256_loadu_si256(to), _mm256_madd_epi16(part[r][v], ones));
                    _mm256_storeu_si256(to, sum);
                }
            }
        }
    }
}

/// # Safety
/// The CPU has AVX2; `lhs` is readable at every `base + offset` and the 3 bytes behind; `rhs` holds 64 bytes an offset.
#[target_feature(enable = "avx2")]
unsafe fn wide(lhs: *const u8, base: &[u32; MR_MAX], offsets: &[u32], rhs: *const i8, sums: &mut Tile<i32>) {
    const MR: usize = 4;
    let low = _mm256_set1_epi16(0x00ff);
    // SAFETY: base alone is within the left operand; sums hold MR rows of two vectors.
    let rows: [*const u8; MR] = std::array::from_fn(|r| unsafe { lhs.add(base[r] as usize) });
    let mut total = [[_mm256_setzero_si256(); 2]; MR];
    for (k, &offset) in offsets.iter().enumerate() {
        let mut even = [_mm256_setzero_si256(); 2];
        let mut odd = even;
        for v in 0..2 {
            // SAFETY: 64 bytes of the panel belong to offset k.
            let b = unsafe { _mm256_loadu_si256(rhs.add(k * NR * QUAD + 32 * v).cast()) };
            even[v] = _mm256_srai_epi16(_mm256_slli_epi16(b, 8), 8);
            odd[v] = _mm256_srai_epi16(b, 8);
        }
        for r in 0..MR {
            // SAFETY: four bytes at base + offset are readable.
            let a = _mm256_set1_epi32(unsafe { rows[r].add(offset as usize).cast::<i32>().read_unaligned() });
            let (a_even, a_odd) = (_mm256_and_si256(a, low), _mm256_srli_epi16(a, 8));
            for v in 0..2 {
                let products = _mm256_add_epi32(_mm256_madd_epi16(a_even, even[v]), _mm256_madd_epi16(a_odd, odd[v]));
                total[r][v] = _mm256_add_epi32(total[r][v], products);
            }
        }
    }
    for r in 0..MR {
        for v in 0..2 {
            let to = sums[r * NR + 8 * v..][..8].as_mut_ptr().cast::<__m256i>();
            // SAFETY: eight sums are behind `to`.
            unsafe { _mm256_storeu_si256(to, _mm256_add_epi32(_mm256_loadu_si256(to), total[r][v])) };
        }
    }
}

/// # Safety
/// The CPU has AVX2 and FMA; `lhs` is readable at every `base + offset`; `rhs` holds 16 floats an offset.
#[target_feature(enable = "avx2,fma")]
unsafe fn float_tile(lhs: *const f32, base: &[u32; MR_MAX], offsets: &[u32], rhs: *const f32, sums: &mut Tile<f32>) {
    const MR: usize = 6;
    // SAFETY: base alone is within the left operand; sums hold MR rows of two vectors.
    let rows: [*const f32; MR] = std::array::from_fn(|r| unsafe { lhs.add(base[r] as usize) });
    let mut total = [[_mm256_setzero_ps(); 2]; MR];
    for r in 0..MR {
        for v in 0..2 {
            // SAFETY: the slice holds eight floats.
            total[r][v] = unsafe { _mm256_loadu_ps(sums[r * NR + 8 * v..][..8].as_ptr()) };
        }
    }
    for (k, &offset) in offsets.iter().enumerate() {
        // SAFETY: 16 floats of the panel belong to offset k.
        let b = unsafe { [_mm256_loadu_ps(rhs.add(k * NR)), _mm256_loadu_ps(rhs.add(k * NR + 8))] };
        for r in 0..MR {
            // SAFETY: base + offset is readable.
            let a = _mm256_set1_ps(unsafe { *rows[r].add(offset as usize) });
            for v in 0..2 {
                total[r][v] = _mm256_fmadd_ps(a, b[v], total[r][v]);
            }
        }
    }
    for r in 0..MR {
        for v in 0..2 {
            // SAFETY: the slice holds eight floats.
            unsafe { _mm256_storeu_ps(sums[r * NR + 8 * v..][..8].as_mut_ptr(), total[r][v]) };
        }
    }
}
