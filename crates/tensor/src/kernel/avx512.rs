//! AVX-512 tiles: `vpdpbusd` adds four u8 · i8 products to each lane of 32 bits and is exact for all bytes; floats by
//! 512-bit fused multiply-add. A panel of 16 columns is one register.

use super::{FloatKernel, IntegerKernel, Isa, Kernel, MR_MAX, NR, QUAD, Tile};
use std::arch::x86_64::*;

const MR: usize = 14;

pub(super) fn integer() -> Vec<IntegerKernel> {
    if !Isa::Avx512Vnni.is_available() {
        return Vec::new();
    }
    let (name, isa) = ("u8i8-14x16c4-avx512vnni", Isa::Avx512Vnni);
    vec![Kernel { name, isa, mr: MR, product_max: 255 * 128, tile: integer_tile as _ }]
}

pub(super) fn float() -> Vec<FloatKernel> {
    if !Isa::Avx512Vnni.is_available() {
        return Vec::new();
    }
    vec![Kernel { name: "f32-14x16c1-avx512", isa: Isa::Avx512Vnni, mr: MR, product_max: 0, tile: float_tile as _ }]
}

/// # Safety
/// The CPU has AVX-512 VNNI; `lhs` is readable at every `base + offset` and the 3 bytes behind; `rhs` holds 64 bytes an
/// offset.
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn integer_tile(lhs: *const u8, base: &[u32; MR_MAX], offsets: &[u32], rhs: *const i8, sums: &mut Tile<i32>) {
    // SAFETY: base alone is within the left operand.
    let rows: [*const u8; MR] = std::array::from_fn(|r| unsafe { lhs.add(base[r] as usize) });
    let mut total = [_mm512_setzero_si512(); MR];
    for r in 0..MR {
        // SAFETY: the slice holds 16 sums.
        total[r] = unsafe { _mm512_loadu_si512(sums[r * NR..][..NR].as_ptr().cast()) };
    }
    for (k, &offset) in offsets.iter().enumerate() {
        // SAFETY: 64 bytes of the panel belong to offset k.
        let b = unsafe { _mm512_loadu_si512(rhs.add(k * NR * QUAD).cast()) };
        for r in 0..MR {
            // SAFETY: four bytes at base + offset are readable.
            let a = _mm512_set1_epi32(unsafe { rows[r].add(offset as usize).cast::<i32>().read_unaligned() });
            total[r] = _mm512_dpbusd_epi32(total[r], a, b);
        }
    }
    for r in 0..MR {
        // SAFETY: the slice holds 16 sums.
        unsafe { _mm512_storeu_si512(sums[r * NR..][..NR].as_mut_ptr().cast(), total[r]) };
    }
}

/// # Safety
/// The CPU has AVX-512; `lhs` is readable at every `base + offset`; `rhs` holds 16 floats an offset.
#[target_feature(enable = "avx512f")]
unsafe fn float_tile(lhs: *const f32, base: &[u32; MR_MAX], offsets: &[u32], rhs: *const f32, sums: &mut Tile<f32>) {
    // SAFETY: base alone is within the left operand.
    let rows: [*const f32; MR] = std::array::from_fn(|r| unsafe { lhs.add(base[r] as usize) });
    let mut total = [_mm512_setzero_ps(); MR];
    for r in 0..MR {
        // SAFETY: the slice holds 16 sums.
        total[r] = unsafe { _mm512_loadu_ps(sums[r * NR..][..NR].as_ptr()) };
    }
    for (k, &offset) in offsets.iter().enumerate() {
        // SAFETY: 16 floats of the panel belong to offset k.
        let b = unsafe { _mm512_loadu_ps(rhs.add(k * NR)) };
        for r in 0..MR {
            // SAFETY: base + offset is readable.
            let a = _mm512_set1_ps(unsafe { *rows[r].add(offset as usize) });
            total[r] = _mm512_fmadd_ps(a, b, total[r]);
        }
    }
    for r in 0..MR {
        // SAFETY: the slice holds 16 sums.
        unsafe { _mm512_storeu_ps(sums[r * NR..][..NR].as_mut_ptr(), total[r]) };
    }
}
