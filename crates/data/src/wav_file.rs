//! A WAV file: its samples as numbers from -1 to 1, channels mixed into one. The hound crate reads the chunks.

use crate::error::unexpected;
use crate::wav_chunks::Unpadded;
use crate::{DataError, Result};
use fixnet_files::input_file;
use hound::{SampleFormat, WavReader};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// Whether a file that starts so is a WAV file.
pub(crate) fn is_recording(start: &[u8]) -> bool {
    matches!(start, [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E', ..])
}

/// What a WAV file may hold.
const EXPECTED: &str = "a WAV file of 8, 16, 24 or 32 bits (whole numbers) or 32 bits (floats) a sample";
/// How the names of WAV files end, in small letters.
pub(crate) const ENDING: &str = "wav";

/// A WAV file whose header was read.
pub(crate) struct Wav<R> {
    place: String,
    reader: WavReader<Unpadded<R>>,
}

impl Wav<BufReader<File>> {
    /// Opens a file.
    ///
    /// # Errors
    /// It cannot be read, or is no WAV file of a kind that is read here.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let place = path.display().to_string();
        let file = input_file::open(path).map_err(|source| DataError::Io { place: place.clone(), source })?;
        Self::read(place, BufReader::new(file))
    }
}

impl<R: Read> Wav<R> {
    /// Reads the header; `place` names the file.
    pub(crate) fn read(place: String, from: R) -> Result<Self> {
        let chunks = Unpadded::new(from).map_err(|source| DataError::Io { place: place.clone(), source })?;
        let reader = WavReader::new(chunks).map_err(|e| unexpected(&place, EXPECTED, format!("none ({e})")))?;
        let spec = reader.spec();
        let right = match spec.sample_format {
            SampleFormat::Int => matches!(spec.bits_per_sample, 8 | 16 | 24 | 32),
            SampleFormat::Float => spec.bits_per_sample == 32,
        };
        if !right || spec.channels == 0 {
            let kind = if spec.sample_format == SampleFormat::Int { "whole numbers" } else { "floats" };
            return Err(unexpected(&place, EXPECTED, format!("{kind} of {} bits", spec.bits_per_sample)));
        }
        if reader.len() == 0 {
            return Err(unexpected(&place, "at least one sample", "none"));
        }
        Ok(Self { place, reader })
    }

    /// Samples a second.
    pub(crate) fn rate(&self) -> u32 {
        self.reader.spec().sample_rate
    }

    /// The first samples, `most` at most: the mean of all channels, summed in their order.
    ///
    /// # Errors
    /// The rate is not that of the other recordings; the file ends before its header says so; or a sample is not finite.
    pub(crate) fn samples(self, rate: u32, most: usize) -> Result<Vec<f64>> {
        let Self { place, reader } = self;
        let spec = reader.spec();
        if spec.sample_rate != rate {
            let expected = format!("{rate} samples a second, as of the other recordings");
            return Err(unexpected(&place, expected, format!("{}", spec.sample_rate)));
        }
        let channels = usize::from(spec.channels);
        let count = most.min(reader.duration() as usize);
        match spec.sample_format {
            SampleFormat::Float => {
                mixed(&place, reader.into_samples::<f32>().map(|v| v.map(f64::from)), channels, count)
            }
            SampleFormat::Int => {
                let full = libm::ldexp(1.0, i32::from(spec.bits_per_sample) - 1);
                mixed(&place, reader.into_samples::<i32>().map(|v| v.map(|v| f64::from(v) / full)), channels, count)
            }
        }
    }
}

/// The means of `channels` samples each, `count` of them.
fn mixed(
    place: &str,
    mut samples: impl Iterator<Item = hound::Result<f64>>,
    channels: usize,
    count: usize,
) -> Result<Vec<f64>> {
    let mut means = Vec::new();
    for at in 0..count {
        let mut sum = 0.0;
        for _ in 0..channels {
            let whole = || format!("{count} whole samples");
            let sample = samples.next().ok_or_else(|| unexpected(place, whole(), at))?;
            let sample = sample.map_err(|e| unexpected(place, whole(), format!("{at} ({e})")))?;
            if !sample.is_finite() {
                return Err(unexpected(place, "finite samples", format!("{sample} in sample {at}")));
            }
            sum += sample;
        }
        means.push(sum / channels as f64);
    }
    Ok(means)
}

/// A WAV file of samples as they lie in it, for tests: `kind` is 1 for whole numbers and 3 for floats.
#[cfg(test)]
pub(crate) fn wav_bytes(kind: u16, [channels, bits]: [u16; 2], rate: u32, data: &[u8]) -> Vec<u8> {
    let block = channels * (bits / 8);
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((36 + data.len() as u32).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0");
    bytes.extend([kind, channels].map(u16::to_le_bytes).as_flattened());
    bytes.extend([rate, rate * u32::from(block)].map(u32::to_le_bytes).as_flattened());
    bytes.extend([block, bits].map(u16::to_le_bytes).as_flattened());
    bytes.extend(b"data");
    bytes.extend((data.len() as u32).to_le_bytes());
    [&bytes, data].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixnet_fuzz as fuzz;
    use proptest::prelude::*;

    fn read(bytes: &[u8], rate: u32, most: usize) -> Result<Vec<f64>> {
        fuzz::within(fuzz::MOST, || Wav::read("f.wav".into(), bytes)?.samples(rate, most))
    }

    #[test]
    fn all_kinds_of_samples_are_read_and_channels_mixed() {
        let floats: Vec<u8> = [0.5f32, -0.25, 1.0, 0.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        for (bytes, expected) in [
            (wav_bytes(1, [1, 8], 8000, &[192, 96, 255]), vec![0.5, -0.25, 127.0 / 128.0]),
            (wav_bytes(1, [1, 16], 8000, &[0, 64, 0, 224]), vec![0.5, -0.25]),
            (wav_bytes(1, [1, 24], 8000, &[0, 0, 64, 0, 0, 224]), vec![0.5, -0.25]),
            (wav_bytes(1, [1, 32], 8000, &[0, 0, 0, 64, 0, 0, 0, 224]), vec![0.5, -0.25]),
            (wav_bytes(3, [1, 32], 8000, &floats), vec![0.5, -0.25, 1.0, 0.0]),
            (wav_bytes(3, [2, 32], 8000, &floats), vec![0.125, 0.5]),
            (wav_bytes(1, [2, 16], 8000, &[0, 64, 0, 224]), vec![0.125]),
        ] {
            assert_eq!(read(&bytes, 8000, 99).unwrap(), expected);
            assert_eq!(read(&bytes, 8000, 1).unwrap(), expected[..1]);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let text = |bytes: &[u8]| read(bytes, 8000, 99).unwrap_err().to_string();
        let good = wav_bytes(1, [1, 16], 8000, &[1, 2, 3, 4]);
        let e = text(&wav_bytes(1, [1, 16], 16_000, &[1, 2]));
        assert_eq!(e, "f.wav: expected 8000 samples a second, as of the other recordings, found 16000");
        assert!(text(b"GIF89a").starts_with("f.wav: expected a WAV file of 8, 16, 24 or 32 bits"));
        assert!(text(&good[..good.len() - 1]).starts_with("f.wav: expected 2 whole samples, found 1 ("));
        assert_eq!(text(&wav_bytes(1, [1, 16], 8000, &[])), "f.wav: expected at least one sample, found none");
        assert!(text(&wav_bytes(3, [1, 32], 8000, &[0, 0, 192, 127])).contains("expected finite samples, found NaN"));
        assert!(text(&wav_bytes(2, [1, 16], 8000, &[1, 2])).contains("expected a WAV file of"));
        // Of a header's word alone nothing is taken from memory.
        let mut huge = good;
        huge[40..44].copy_from_slice(&(u32::MAX - 1).to_le_bytes());
        assert!(text(&huge).contains("whole samples"), "{}", text(&huge));
    }

    /// Programs for sound put texts before the samples.
    #[test]
    fn chunks_of_odd_length_are_passed_over() {
        let good = wav_bytes(1, [1, 16], 8000, &[0, 64, 0, 192]);
        let samples = read(&good, 8000, 9).unwrap();
        for at in [12, 36] {
            let mut file = good.clone();
            file.splice(at..at, *b"LIST\x03\0\0\0abc\0");
            assert_eq!(read(&file, 8000, 9).unwrap(), samples, "{at}");
        }
    }

    /// A number that headers have, or any.
    fn field(usual: &'static [u16]) -> impl Strategy<Value = u16> {
        prop_oneof![9 => prop::sample::select(usual), 1 => any::<u16>()]
    }

    /// A chunk that is well formed and perhaps wrong: a format of any numbers, samples, texts, and lengths that need not be true.
    fn odd_chunk() -> impl Strategy<Value = Vec<u8>> {
        let format = (
            field(&[1, 3, 0xfffe, 0, 2, 6]),
            field(&[1, 2, 3, 0, 8, 0xffff]),
            prop::sample::select(&[8000, 8000, 8000, 0, 1, u32::MAX][..]),
            field(&[1, 2, 3, 4, 8, 0, 0xffff]),
            field(&[8, 16, 24, 32, 0, 1, 12, 31, 33, 64, 0xffff]),
            prop::collection::vec(field(&[0, 22, 1, 16, 3]), 0..14),
        );
        let format = format.prop_map(|(kind, channels, rate, block, bits, more)| {
            let second = rate.wrapping_mul(block.into());
            let words = |words: &[u16]| words.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
            let rates = [rate, second].map(u32::to_le_bytes).concat();
            (*b"fmt ", [words(&[kind, channels]), rates, words(&[block, bits]), words(&more)].concat())
        });
        let other = (
            prop::sample::select(vec![*b"data", *b"data", *b"LIST", *b"fact", *b"RIFF", *b"\0\0\0\0", *b"fmt "]),
            prop::collection::vec(any::<u8>(), 0..50),
        );
        let lengths = prop_oneof![
            6 => Just(None),
            1 => prop::sample::select(&[0, 1, 15, 16, 17, 18, 40, 0x7fff_ffff, u32::MAX - 1, u32::MAX][..]).prop_map(Some),
        ];
        (prop_oneof![format, other], lengths, any::<bool>()).prop_map(|((name, body), length, filled)| {
            let length = length.unwrap_or(body.len() as u32);
            let zero = if filled && body.len() % 2 == 1 { &[0][..] } else { &[] };
            [&name[..], &length.to_le_bytes(), &body, zero].concat()
        })
    }

    proptest! {
        #![proptest_config(fuzz::config())]

        #[test]
        fn files_of_odd_chunks_never_panic(chunks in prop::collection::vec(odd_chunk(), 1..5), most in 0usize..99) {
            let chunks = chunks.concat();
            let file = [&b"RIFF"[..], &(4 + chunks.len() as u32).to_le_bytes(), b"WAVE", &chunks].concat();
            if let Ok(samples) = read(&file, 8000, most) {
                prop_assert!(samples.len() <= most && samples.iter().all(|v| v.is_finite()));
            }
        }

        #[test]
        fn damaged_files_never_panic(floats: bool, damage in fuzz::damage()) {
            let file = if floats { wav_bytes(3, [1, 32], 8000, &[7; 40]) } else { wav_bytes(1, [2, 16], 8000, &[7; 40]) };
            let _ = read(&fuzz::damaged(file, &damage), 8000, usize::MAX);
        }

        #[test]
        fn random_bytes_never_panic(file in fuzz::random(&[b"", b"RIFF\0\0\0\0WAVE", b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0"])) {
            let _ = read(&file, 8000, usize::MAX);
        }
    }
}
