//! Features of a recording: the logarithm of the energy in bands of its spectrum, window after window, with equal bits on every
//! machine.
//!
//! Each window of samples is weighted by a Hann window, `0.5 - 0.5 cos(2π i / window)`, and filled up with zeros to a power of two.
//! The squares of its spectrum are summed in bands: triangles whose corners lie at even distances on the mel scale,
//! `2595 log10(1 + f / 700)`, from 0 to half the sample rate, with height 1. A feature is `ln(sum + 1e-6)`. Everything is `f64`
//! until the last rounding; sines, logarithms and powers are those of `libm`, and every sum has one order.

use crate::{ClipForm, DataError, Result};
use std::f64::consts::TAU;

/// What keeps the logarithm of silence finite.
const FLOOR: f64 = 1e-6;

/// Computes the features of clips of one form.
#[derive(Debug)]
pub(crate) struct Features {
    form: ClipForm,
    /// The weight of each sample in a window.
    window: Vec<f64>,
    spectrum: Spectrum,
    /// Of each band its first frequency, and the weights from there on.
    bands: Vec<(usize, Vec<f64>)>,
}

impl Features {
    /// The features of clips of this form.
    ///
    /// # Errors
    /// A band is so narrow that no frequency of the spectrum lies in it.
    pub(crate) fn new(form: ClipForm) -> Result<Self> {
        let len = form.window as usize;
        let hann = |i: usize| 0.5 - 0.5 * libm::cos(TAU * i as f64 / len as f64);
        let spectrum = Spectrum::new(len.next_power_of_two().max(2));
        let bands = bands(form, spectrum.len)?;
        Ok(Self { form, window: (0..len).map(hann).collect(), spectrum, bands })
    }

    /// The form of the clips.
    pub(crate) fn form(&self) -> ClipForm {
        self.form
    }

    /// Writes the features [T, bands] of a clip, whose samples are from -1 to 1. Samples beyond the clip are left out, missing ones
    /// are 0.
    pub(crate) fn write(&self, samples: &[f64], out: &mut [f32]) {
        let samples = &samples[..samples.len().min(self.form.samples as usize)];
        let mut values = vec![0.0; self.spectrum.len];
        let mut powers = vec![0.0; self.spectrum.len / 2 + 1];
        for (step, out) in out.chunks_exact_mut(self.bands.len()).enumerate() {
            let start = (step * self.form.hop as usize).min(samples.len());
            values.fill(0.0);
            let part = samples[start..].iter().zip(&self.window);
            values.iter_mut().zip(part).for_each(|(to, (sample, weight))| *to = sample * weight);
            self.spectrum.powers(&values, &mut powers);
            for (to, (first, weights)) in out.iter_mut().zip(&self.bands) {
                let sum = powers[*first..].iter().zip(weights).fold(0.0, |sum, (power, weight)| sum + power * weight);
                *to = libm::log(sum + FLOOR) as f32;
            }
        }
    }
}

/// The triangles of all bands over the frequencies of a spectrum of `len` samples.
fn bands(form: ClipForm, len: usize) -> Result<Vec<(usize, Vec<f64>)>> {
    let mel = |hz: f64| 2595.0 * libm::log10(1.0 + hz / 700.0);
    let hz = |mel: f64| 700.0 * (libm::pow(10.0, mel / 2595.0) - 1.0);
    let (rate, count) = (f64::from(form.rate), form.bands as usize);
    let top = mel(rate / 2.0);
    let corner = |i: usize| hz(top * i as f64 / (count + 1) as f64);
    let band = |band: usize| {
        let [low, middle, high] = [corner(band), corner(band + 1), corner(band + 2)];
        let weight = |k: usize| {
            let f = k as f64 * rate / len as f64;
            ((f - low) / (middle - low)).min((high - f) / (high - middle)).max(0.0)
        };
        let inside: Vec<usize> = (0..=len / 2).filter(|&k| weight(k) > 0.0).collect();
        let (Some(&first), Some(&last)) = (inside.first(), inside.last()) else {
            let expected = format!(
                "fewer than {count} bands, or a longer window: no frequency of a spectrum of {len} samples lies in band {band}"
            );
            return Err(DataError::setting("mel_bands", &expected, count));
        };
        Ok((first, (first..=last).map(weight).collect()))
    };
    (0..count).map(band).collect()
}

/// The discrete Fourier transform of `len` real numbers, a power of two of at least 2: one of half as many complex numbers, of which
/// the even samples are the real and the odd ones the imaginary parts.
#[derive(Debug)]
struct Spectrum {
    len: usize,
    /// Cosine and sine of `-2π k / len` for each k below `len / 2`.
    turns: Vec<[f64; 2]>,
}

impl Spectrum {
    fn new(len: usize) -> Self {
        let turn = |k: usize| {
            let angle = TAU * k as f64 / len as f64;
            [libm::cos(angle), -libm::sin(angle)]
        };
        Self { len, turns: (0..len / 2).map(turn).collect() }
    }

    /// Writes the squares of the absolute values at the frequencies 0 to `len / 2`.
    fn powers(&self, values: &[f64], out: &mut [f64]) {
        let half = self.len / 2;
        let mut z: Vec<[f64; 2]> = values.as_chunks::<2>().0.to_vec();
        self.transform(&mut z);
        for (k, out) in out.iter_mut().enumerate().take(half + 1) {
            let ([a, b], [c, d]) = (z[k % half], z[(half - k) % half]);
            // The transforms of the even and of the odd samples.
            let (even, odd) = ([(a + c) / 2.0, (b - d) / 2.0], [(b + d) / 2.0, (c - a) / 2.0]);
            let [cos, sin] = if k == half { [-1.0, 0.0] } else { self.turns[k] };
            let re = even[0] + (odd[0] * cos - odd[1] * sin);
            let im = even[1] + (odd[0] * sin + odd[1] * cos);
            *out = re * re + im * im;
        }
    }

    /// Transforms `len / 2` complex numbers in place: pairs, then pairs of pairs, and so on.
    fn transform(&self, z: &mut [[f64; 2]]) {
        let n = z.len();
        let bits = n.trailing_zeros();
        for i in 0..n {
            let j = if bits == 0 { 0 } else { i.reverse_bits() >> (usize::BITS - bits) };
            if i < j {
                z.swap(i, j);
            }
        }
        let mut size = 2;
        while size <= n {
            let step = self.len / size;
            for block in z.chunks_exact_mut(size) {
                let (low, high) = block.split_at_mut(size / 2);
                for (i, (a, b)) in low.iter_mut().zip(high).enumerate() {
                    let [cos, sin] = self.turns[i * step];
                    let turned = [b[0] * cos - b[1] * sin, b[0] * sin + b[1] * cos];
                    *b = [a[0] - turned[0], a[1] - turned[1]];
                    *a = [a[0] + turned[0], a[1] + turned[1]];
                }
            }
            size *= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ClipSettings;

    fn form(bands: usize) -> ClipForm {
        let settings = ClipSettings { seconds: Some(0.05), mel_bands: Some(bands), ..ClipSettings::default() };
        settings.form("f", 8000, 1.0).unwrap()
    }

    /// Whole numbers that jump about, over a power of two.
    fn samples(count: usize) -> Vec<f64> {
        (0..count).map(|i| ((i * i * 7 % 101) as f64 - 50.0) / 64.0).collect()
    }

    /// What NumPy 2 makes of the same formulas, with `np.fft.rfft`.
    const NUMPY: [[f32; 12]; 3] = [
        [
            4.146627, 4.503982, 5.070982, 4.90529, 4.664291, 4.332776, 3.612784, 5.040267, 5.39965, 4.853055, 5.381522,
            5.386224,
        ],
        [
            4.229783, 4.454805, 4.871609, 4.902246, 4.59758, 4.257854, 3.703202, 5.177361, 5.55556, 4.805648, 5.381259,
            5.373996,
        ],
        [
            4.335565, 4.376911, 4.509874, 4.899236, 4.499733, 4.143787, 3.815724, 5.33936, 5.736474, 4.736236, 5.38139,
            5.356498,
        ],
    ];

    #[test]
    fn features_are_those_of_numpy() {
        let features = Features::new(form(12)).unwrap();
        let mut out = vec![0.0; 36];
        features.write(&samples(400), &mut out);
        for (found, expected) in out.iter().zip(NUMPY.as_flattened()) {
            assert!((found - expected).abs() < 2e-6, "{found} {expected}");
        }
        // The same bits on every machine.
        let hash = out.iter().fold(0u32, |hash, v| hash.rotate_left(5) ^ v.to_bits());
        assert_eq!(hash, BITS, "{hash:#x}");
    }

    const BITS: u32 = 0x6694_ee2b;

    #[test]
    fn a_spectrum_is_the_sum_over_all_samples() {
        for len in [2, 4, 8, 64] {
            let (x, mut found) = (samples(len), vec![0.0; len / 2 + 1]);
            Spectrum::new(len).powers(&x, &mut found);
            for (k, found) in found.into_iter().enumerate() {
                let part = |f: fn(f64) -> f64| {
                    let terms = x.iter().enumerate().map(|(i, v)| v * f(TAU * (i * k) as f64 / len as f64));
                    terms.sum::<f64>()
                };
                let expected = part(libm::cos).powi(2) + part(libm::sin).powi(2);
                assert!((found - expected).abs() < 1e-9 * (1.0 + expected), "{len} {k}: {found} {expected}");
            }
        }
    }

    #[test]
    fn what_lacks_is_silence_and_what_is_beyond_is_left_out() {
        let features = Features::new(form(12)).unwrap();
        let of = |samples: &[f64]| {
            let mut out = vec![7.0; 36];
            features.write(samples, &mut out);
            out
        };
        let silence = libm::log(FLOOR) as f32;
        assert_eq!(of(&[]), [silence; 36]);
        let short = [&samples(150)[..], &[0.0; 250]].concat();
        assert_eq!(of(&samples(150)), of(&short));
        assert_eq!(of(&samples(400)), of(&samples(500)));
        let e = Features::new(form(400)).unwrap_err().to_string();
        assert!(e.starts_with("mel_bands: expected fewer than 400 bands") && e.ends_with("found 400"), "{e}");
    }
}
