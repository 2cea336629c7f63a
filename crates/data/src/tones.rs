//! The data set `tones`: chirps of two tones in noise, made on the fly and the same on every machine.
//!
//! It is to sounds what `digits` is to images: a first run without files. Each clip is a quarter of a second at 8,000 samples a
//! second. A class is one of five pitches for the lower tone, and whether it rises while the upper one falls or the other way
//! round. Loudness, pitch, beginning and noise vary from clip to clip, by numbers that depend on the clip's index alone.

use crate::mel::Features;
use crate::samples::Samples;
use crate::source::{Reader, Request, SourceKind};
use crate::{ClipSettings, Dataset, Result, Split};
use fixnet_tensor::Budget;
use fixnet_tensor::rng::{Stream, domain};
use rayon::prelude::*;
use std::f64::consts::TAU;

/// The row of the registry.
pub(crate) const KIND: SourceKind = SourceKind {
    recordings: true,
    ..SourceKind::new("tones", "chirps of two tones in noise, made on the fly", &Tones)
};

#[derive(Debug)]
struct Tones;

impl Reader for Tones {
    fn labelled(&self, request: &Request<'_>) -> Result<Split> {
        tones(request.clips)
    }
}

/// The seed of the data set. Another one would make another data set.
const SEED: u64 = 0x74_6f_6e_65_73;
/// Samples a second.
const RATE: u32 = 8000;
/// Samples of a clip.
const LEN: usize = 2000;
const SECONDS: f64 = LEN as f64 / RATE as f64;
/// The lower tones begin near these frequencies, in Hz.
const PITCHES: [f64; 5] = [300.0, 390.0, 510.0, 660.0, 860.0];
const CLASSES: usize = 2 * PITCHES.len();
const TRAIN: usize = 600;
const TEST: usize = 200;

/// Makes the 600 clips to learn from and the 200 to test by, as features.
///
/// # Errors
/// A setting is out of its range.
pub fn tones(settings: ClipSettings) -> Result<Split> {
    let features = Features::new(settings.form("tones", RATE, SECONDS)?)?;
    Split::new(part("tones train", 0, TRAIN, &features)?, part("tones test", 1, TEST, &features)?)
}

fn part(name: &str, part: u32, count: usize, features: &Features) -> Result<Dataset> {
    let shape = features.form().shape();
    let len = Budget::TABLE.clone().claim(name, &[count, shape[0], shape[1]], size_of::<f32>())?;
    let mut values = vec![0.0; len];
    values.par_chunks_exact_mut(len / count).enumerate().for_each(|(i, out)| {
        let samples: Vec<f64> = tone(part, i as u32).into_iter().map(|v| f64::from(v) / 32768.0).collect();
        features.write(&samples, out);
    });
    let labels = (0..count).map(|i| (i % CLASSES) as u16).collect();
    let samples = Samples::floats(name, &shape, values)?.with_clips(features.form());
    Dataset::labelled(name.into(), samples, CLASSES, labels)?.with_class_names((0..CLASSES).map(class_name).collect())
}

/// `300 Hz up`: the pitch of the lower tone, and where it goes.
fn class_name(class: usize) -> String {
    format!("{} Hz {}", PITCHES[class / 2], ["up", "down"][class % 2])
}

/// Clip `index` of a part, 0 to learn from and 1 to test by, as samples of 16 bits. Its class is `index` modulo 10.
pub fn tone(part: u32, index: u32) -> Vec<i16> {
    let draws = Stream::new(SEED, domain::DATA, part, index);
    let class = index as usize % CLASSES;
    let between = |i: u64, low: f64, high: f64| low + (high - low) * f64::from(draws.uniform_at(i));
    let (loudness, noise) = (between(0, 0.05, 0.4), between(1, 0.02, 0.1));
    let low = PITCHES[class / 2] * between(2, 0.95, 1.05);
    let high = 3.3 * low * between(3, 0.97, 1.03);
    // Silence before, and the share of the pitch that a tone moves by until the end.
    let (begin, sweep) = (between(4, 0.0, 500.0), between(5, 0.25, 0.4));
    let sweeps = if class.is_multiple_of(2) { [sweep, -sweep] } else { [-sweep, sweep] };
    let phases = [between(6, 0.0, 1.0), between(7, 0.0, 1.0)];
    let sample = |t: usize| {
        // Time since the beginning and until the end of the clip, in seconds; a tone fades in and out within 10 ms.
        let (since, until) = ((t as f64 - begin) / f64::from(RATE), (LEN - t) as f64 / f64::from(RATE));
        let fade = (since.min(until) * 100.0).clamp(0.0, 1.0);
        let tone = |i: usize| {
            // A pitch f (1 + s x / d) after x of d seconds has turned by f (x + s x² / 2d).
            let turns = [low, high][i] * (since + sweeps[i] * since * since / (2.0 * SECONDS)) + phases[i];
            libm::sin(TAU * (turns - libm::floor(turns)))
        };
        let tones = if fade > 0.0 { loudness * fade * (tone(0) + 0.7 * tone(1)) } else { 0.0 };
        let value = tones + noise * f64::from(draws.normal_at(16 + t as u64));
        libm::round(value.clamp(-1.0, 1.0) * 32767.0) as i16
    };
    (0..LEN).map(sample).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clips_are_those_of_the_first_release() {
        let split = tones(ClipSettings::default()).unwrap();
        assert_eq!((split.train.len(), split.test.len(), split.train.shape()), (600, 200, &[23, 40][..]));
        assert_eq!(split.train.class_names()[9], "860 Hz down");
        let hash = |part| tone(part, 7).into_iter().fold(0u16, |hash, v| hash.rotate_left(3) ^ v as u16);
        assert_eq!((hash(0), hash(1)), BITS);
        let few = ClipSettings { mel_bands: Some(8), seconds: Some(0.1), ..ClipSettings::default() };
        assert_eq!(tones(few).unwrap().train.shape(), [8, 8]);
    }

    const BITS: (u16, u16) = (28394, 55895);
}
