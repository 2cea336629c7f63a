//! `exp` and the normal distribution, written so that a loop over them becomes vector instructions.
//!
//! The pinned `libm` has the same bits everywhere too, but takes one number at a time. These functions are plain `f32`
//! arithmetic without branches: additions, multiplications, one division and moves of bits, each with one result by
//! IEEE 754, in an order that the compiler may not change. So their bits do not depend on the instruction set or on how many
//! numbers an instruction takes.

/// Adding and subtracting 1.5 · 2^23 rounds |v| < 2^22 to the nearest integer, whose two's complement is in the low bits of
/// the sum.
const ROUND: f32 = 12_582_912.0;

/// `c[0] + c[1]·x + c[2]·x² + …` by Horner's rule.
#[inline(always)]
fn polynomial<const N: usize>(x: f32, c: [f32; N]) -> f32 {
    c.iter().rev().fold(0.0, |sum, c| sum * x + c)
}

/// Computes `e^x`, within 1.5 units in the last place of the exact number. Below -104 it is 0, from about 88.72 on it is
/// infinite; of a NaN it is a NaN.
///
/// ```
/// use fixnet_tensor::math::exp;
/// assert_eq!((exp(0.0), exp(f32::NEG_INFINITY), exp(100.0)), (1.0, 0.0, f32::INFINITY));
/// assert!((exp(1.0) - std::f32::consts::E).abs() < 1e-6);
/// ```
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// ln 2 as the sum of a number of few bits, whose multiples by an exponent are exact, and the rest.
    const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    // Compared and selected so that a NaN stays.
    let x = if x < -104.0 { -104.0 } else { x };
    let x = if x > 89.0 { 89.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    let r = (x - whole * LN2[0]) - whole * LN2[1];
    // (e^r - 1 - r) / r² for |r| <= ln 2 / 2; relative error of e^r below 4e-9.
    let tail = polynomial(r, [0.5, 0.166_665_18, 0.041_666_206, 0.008_368_89, 0.001_395_048_9]);
    let power = 1.0 + (r + r * r * tail);
    // 2^whole in two steps, so that results below the smallest normal number are rounded once and not cut to 0.
    let whole = shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    let first = whole >> 1;
    let scale = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    power * scale(first) * scale(whole.wrapping_sub(first))
}

/// Returns Φ(x), the distribution function of the standard normal distribution, within 2.5e-7, and `e^(-x²/2)`, which is its
/// derivative but for the factor `1 / sqrt(2π)`.
///
/// For x below 0, Φ(x) is `e^(-x²/2)` times a polynomial in `1 / (1 + 0.26 |x|)`, so that small numbers keep their leading
/// digits.
///
/// ```
/// let (share, density) = fixnet_tensor::math::normal(0.0);
/// assert!((share - 0.5).abs() < 1e-7 && density == 1.0);
/// ```
#[inline(always)]
pub fn normal(x: f32) -> (f32, f32) {
    let density = exp(-0.5 * x * x);
    let t = 1.0 / (1.0 + 0.26 * x.abs());
    // Fitted for |x| <= 14.5, where the density has underflowed; relative error below 3e-8.
    let ratio = polynomial(
        t,
        [
            0.103_757_024,
            0.103_050_984,
            0.102_788_6,
            0.051_965_166,
            0.158_757_88,
            -0.147_787_97,
            0.248_731_93,
            -0.151_493_77,
            0.030_230_155,
        ],
    );
    let tail = density * (t * ratio);
    (if x < 0.0 { tail } else { 1.0 - tail }, density)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of all magnitudes and signs.
    fn numbers() -> Vec<f32> {
        let dense = (-200_000..200_000).map(|i| i as f32 * 0.000_6);
        let bits = (0..200_000u32).map(|i| f32::from_bits(i.wrapping_mul(21_475)));
        dense.chain(bits).collect()
    }

    #[test]
    fn exponentials_are_those_of_double_precision() {
        for x in numbers() {
            let (found, exact) = (exp(x), f64::from(x).exp());
            if x.is_nan() {
                assert!(found.is_nan());
                continue;
            }
            if exact > f64::from(f32::MAX) {
                assert!(found >= f32::MAX, "{x}: {found}");
                continue;
            }
            let unit = (f64::from(exact as f32) * f64::from(f32::EPSILON)).max(f64::from(f32::from_bits(1)));
            assert!((f64::from(found) - exact).abs() <= 1.5 * unit, "{x}: {found} {exact}");
        }
    }

    #[test]
    fn shares_are_those_of_the_error_function() {
        for x in numbers() {
            let (share, density) = normal(x);
            if x.is_nan() {
                assert!(share.is_nan() && density.is_nan());
                continue;
            }
            let wide = f64::from(x);
            let exact = 0.5 * libm::erfc(-wide * std::f64::consts::FRAC_1_SQRT_2);
            assert!((f64::from(share) - exact).abs() < 2.5e-7, "{x}: {share} {exact}");
            if (-8.0..0.0).contains(&x) {
                assert!((f64::from(share) / exact - 1.0).abs() < 4e-6, "{x}: {share} {exact}");
            }
            assert!((f64::from(density) - (-0.5 * wide * wide).exp()).abs() < 5e-7, "{x}: {density}");
        }
    }
}
