//! Bytes of four rows side by side: how both operands of a weight gradient, and transposed weights, are packed.

/// `to[4i + j] = rows[j][i] - sub`, wrapping.
///
/// # Panics
/// The rows differ in length, or `to` is not four times as long.
#[inline]
pub(crate) fn interleave4(rows: [&[u8]; 4], sub: u8, to: &mut [u8]) {
    let [a, b, c, d] = rows;
    let n = a.len();
    assert!(b.len() == n && c.len() == n && d.len() == n && to.len() == 4 * n);
    #[allow(unused_mut, reason = "other architectures have no vectors here")]
    let mut i = 0;
    #[cfg(target_arch = "aarch64")]
    {
        use std::arch::aarch64::*;
        // SAFETY: NEON is part of aarch64; i + 16 ≤ n bounds every load, and four times that the store.
        unsafe {
            let z = vdupq_n_u8(sub);
            while i + 16 <= n {
                let load = |p: &[u8]| vsubq_u8(vld1q_u8(p.as_ptr().add(i)), z);
                vst4q_u8(to.as_mut_ptr().add(4 * i), uint8x16x4_t(load(a), load(b), load(c), load(d)));
                i += 16;
            }
        }
    }
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::*;
        // SAFETY: SSE2 is part of x86-64; i + 16 ≤ n bounds every load, and four times that every store.
        unsafe {
            let z = _mm_set1_epi8(sub as i8);
            while i + 16 <= n {
                let load = |p: &[u8]| _mm_sub_epi8(_mm_loadu_si128(p.as_ptr().add(i).cast()), z);
                let (a, b, c, d) = (load(a), load(b), load(c), load(d));
                let (ab, cd) = (_mm_unpacklo_epi8(a, b), _mm_unpacklo_epi8(c, d));
                let (ab2, cd2) = (_mm_unpackhi_epi8(a, b), _mm_unpackhi_epi8(c, d));
                let p = to.as_mut_ptr().add(4 * i).cast::<__m128i>();
                _mm_storeu_si128(p, _mm_unpacklo_epi16(ab, cd));
                _mm_storeu_si128(p.add(1), _mm_unpackhi_epi16(ab, cd));
                _mm_storeu_si128(p.add(2), _mm_unpacklo_epi16(ab2, cd2));
                _mm_storeu_si128(p.add(3), _mm_unpackhi_epi16(ab2, cd2));
                i += 16;
            }
        }
    }
    for ((((to, a), b), c), d) in to[4 * i..].chunks_exact_mut(4).zip(&a[i..]).zip(&b[i..]).zip(&c[i..]).zip(&d[i..]) {
        to.copy_from_slice(&[a.wrapping_sub(sub), b.wrapping_sub(sub), c.wrapping_sub(sub), d.wrapping_sub(sub)]);
    }
}

/// Four steps of four columns of a panel, from column `c` on: `to[step][c + j] = rows[j][4 · step..][..4] - sub`.
///
/// # Panics
/// A row is not 16 bytes long, or `to` does not hold four steps of 16 columns.
#[inline]
pub(crate) fn transpose4(rows: [&[u8]; 4], sub: u8, to: &mut [u8], c: usize) {
    assert!(rows.iter().all(|r| r.len() == 16) && to.len() == 256 && c <= 12);
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::*;
        // SAFETY: SSE2 is part of x86-64; rows hold 16 bytes; the last store ends at 3 · 64 + 4 · 12 + 16 = 256.
        unsafe {
            let z = _mm_set1_epi8(sub as i8);
            let [r0, r1, r2, r3] = rows.map(|r| _mm_sub_epi8(_mm_loadu_si128(r.as_ptr().cast()), z));
            let (a, b) = (_mm_unpacklo_epi32(r0, r1), _mm_unpacklo_epi32(r2, r3));
            let (d, e) = (_mm_unpackhi_epi32(r0, r1), _mm_unpackhi_epi32(r2, r3));
            let p = to.as_mut_ptr().add(4 * c).cast::<__m128i>();
            _mm_storeu_si128(p, _mm_unpacklo_epi64(a, b));
            _mm_storeu_si128(p.add(4), _mm_unpackhi_epi64(a, b));
            _mm_storeu_si128(p.add(8), _mm_unpacklo_epi64(d, e));
            _mm_storeu_si128(p.add(12), _mm_unpackhi_epi64(d, e));
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        use std::arch::aarch64::*;
        // SAFETY: NEON is part of aarch64; rows hold 16 bytes; the last store ends at 3 · 64 + 4 · 12 + 16 = 256.
        unsafe {
            let z = vdupq_n_u8(sub);
            let [r0, r1, r2, r3] = rows.map(|r| vreinterpretq_u32_u8(vsubq_u8(vld1q_u8(r.as_ptr()), z)));
            let p = to.as_mut_ptr().add(4 * c).cast::<u32>();
            let quads = uint32x4x4_t(r0, r1, r2, r3);
            vst4q_lane_u32::<0>(p, quads);
            vst4q_lane_u32::<1>(p.add(16), quads);
            vst4q_lane_u32::<2>(p.add(32), quads);
            vst4q_lane_u32::<3>(p.add(48), quads);
        }
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    for (j, row) in rows.iter().enumerate() {
        for (step, from) in row.chunks_exact(4).enumerate() {
            for (to, &b) in to[step * 64 + 4 * (c + j)..][..4].iter_mut().zip(from) {
                *to = b.wrapping_sub(sub);
            }
        }
    }
}

/// Bytes as the signed numbers of the same bits.
pub(crate) fn as_signed(bytes: &[u8]) -> &[i8] {
    // SAFETY: u8 and i8 have the same size and alignment, and every bit pattern is valid.
    unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) }
}
