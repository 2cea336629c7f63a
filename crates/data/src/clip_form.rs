//! How a recording becomes a sequence: its settings in a recipe, and the sizes in samples that follow from them and from the rate of
//! the recordings.

use crate::{DataError, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The lowest and the highest sample rate, in samples a second.
const RATES: [u32; 2] = [1_000, 384_000];
/// The shortest and the longest clip, in seconds.
const SECONDS: [f64; 2] = [0.01, 60.0];
/// The shortest and the longest window and hop, in milliseconds.
const MILLISECONDS: [f64; 2] = [1.0, 1000.0];
/// The most bands.
const MOST_BANDS: usize = 512;

/// The settings of recordings in a recipe; what is left out has its default.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ClipSettings {
    /// Seconds to which recordings are cut or filled up with silence: 0.01 to 60, 1 by default.
    pub seconds: Option<f64>,
    /// Milliseconds of a window, of which a spectrum is taken: 1 to 1000, 25 by default.
    pub window_ms: Option<f64>,
    /// Milliseconds from one window to the next: 1 to 1000, 10 by default.
    pub hop_ms: Option<f64>,
    /// Bands of a spectrum, 1 to 512, 40 by default: the numbers of a step.
    pub mel_bands: Option<usize>,
}

/// The sizes by which the features of recordings are computed: a clip gives `1 + (samples - window) / hop` steps of `bands` numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ClipForm {
    /// Samples a second.
    pub rate: u32,
    /// Samples of a clip.
    pub samples: u32,
    /// Samples of a window.
    pub window: u32,
    /// Samples from one window to the next.
    pub hop: u32,
    /// Bands of a spectrum.
    pub bands: u32,
}

/// A setting within its range.
fn within(key: &str, value: f64, [low, high]: [f64; 2], unit: &str) -> Result<f64> {
    match (low..=high).contains(&value) {
        true => Ok(value),
        false => Err(DataError::setting(key, &format!("{low} to {high} {unit}"), value)),
    }
}

impl ClipSettings {
    /// Returns the first key that is set, and its value, if there is one.
    pub(crate) fn first(&self) -> Option<(&'static str, String)> {
        let float = |key, value: Option<f64>| value.map(|value| (key, value.to_string()));
        float("seconds", self.seconds)
            .or_else(|| float("window_ms", self.window_ms))
            .or_else(|| float("hop_ms", self.hop_ms))
            .or_else(|| self.mel_bands.map(|bands| ("mel_bands", bands.to_string())))
    }

    /// Checks what can be checked without a recording, and fills in defaults: seconds, milliseconds of window and hop, and bands.
    fn values(&self, seconds: f64) -> Result<(f64, [f64; 2], usize)> {
        let seconds = within("seconds", self.seconds.unwrap_or(seconds), SECONDS, "seconds")?;
        let window = within("window_ms", self.window_ms.unwrap_or(25.0), MILLISECONDS, "milliseconds")?;
        let hop = within("hop_ms", self.hop_ms.unwrap_or(10.0), MILLISECONDS, "milliseconds")?;
        let bands = self.mel_bands.unwrap_or(40);
        if !(1..=MOST_BANDS).contains(&bands) {
            return Err(DataError::setting("mel_bands", &format!("1 to {MOST_BANDS} bands"), bands));
        }
        if window > 1000.0 * seconds {
            let expected = format!("at most the {seconds} seconds of a clip");
            return Err(DataError::setting("window_ms", &expected, window));
        }
        Ok((seconds, [window, hop], bands))
    }

    /// Checks what can be checked without a recording.
    pub(crate) fn check(&self) -> Result<()> {
        self.values(self.seconds.unwrap_or(SECONDS[1])).map(|_| ())
    }

    /// The sizes for recordings of so many samples a second, `seconds` long where nothing else is set. `place` names a recording.
    pub(crate) fn form(&self, place: &str, rate: u32, seconds: f64) -> Result<ClipForm> {
        let (seconds, [window, hop], bands) = self.values(seconds)?;
        if !(RATES[0]..=RATES[1]).contains(&rate) {
            let expected = format!("{} to {} samples a second", RATES[0], RATES[1]);
            return Err(DataError::setting(place, &expected, rate));
        }
        let samples = |seconds: f64| libm::round(seconds * f64::from(rate)) as u32;
        let form = ClipForm {
            rate,
            samples: samples(seconds),
            window: samples(window / 1000.0),
            hop: samples(hop / 1000.0),
            bands: bands as u32,
        };
        form.check(place, &form.shape()).map(|()| form)
    }
}

impl ClipForm {
    /// The number of steps and of numbers in each: `[T, C]`.
    pub fn shape(&self) -> [usize; 2] {
        let steps = 1 + self.samples.saturating_sub(self.window) / self.hop.max(1);
        [steps as usize, self.bands as usize]
    }

    /// Reads the form as JSON from the metadata of a file, for sequences of this shape. `place` names where it is.
    ///
    /// # Errors
    /// It is damaged, or gives other sequences.
    pub fn read(place: &str, text: &str, shape: &[usize]) -> Result<Self> {
        let form: Self = serde_json::from_str(text)
            .map_err(|e| DataError::setting(place, "sizes of recordings", format!("a damaged text ({e})")))?;
        form.check(place, shape).map(|()| form)
    }

    /// Checks that the sizes are those of recordings, and give sequences of this shape. `place` names where they are from.
    pub(crate) fn check(&self, place: &str, shape: &[usize]) -> Result<()> {
        let most = (SECONDS[1] * f64::from(self.rate)) as u32;
        let right = (RATES[0]..=RATES[1]).contains(&self.rate)
            && (1..=most).contains(&self.samples)
            && (1..=self.samples.min(self.rate)).contains(&self.window)
            && (1..=self.rate).contains(&self.hop)
            && (1..=MOST_BANDS as u32).contains(&self.bands);
        match right && shape == self.shape() {
            true => Ok(()),
            false => {
                let expected = format!("sizes of recordings that give sequences of {shape:?}");
                Err(DataError::setting(place, &expected, self))
            }
        }
    }
}

impl fmt::Display for ClipForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rate, samples, window, hop, bands } = self;
        write!(
            f,
            "clips of {samples} samples at {rate} a second, in windows of {window} every {hop} samples, in {bands} bands"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_follow_from_the_rate() {
        let form = ClipSettings::default().form("f", 16_000, 1.0).unwrap();
        assert_eq!((form.samples, form.window, form.hop, form.shape()), (16_000, 400, 160, [98, 40]));
        let form = ClipSettings { seconds: Some(0.5), mel_bands: Some(20), ..ClipSettings::default() };
        assert_eq!(form.form("f", 8000, 1.0).unwrap().shape(), [48, 20]);
    }

    #[test]
    fn ranges_are_told() {
        let text = |settings: ClipSettings| settings.form("f", 8000, 1.0).unwrap_err().to_string();
        let none = ClipSettings::default();
        let seconds = ClipSettings { seconds: Some(61.0), ..none };
        assert_eq!(text(seconds), "data.seconds: expected 0.01 to 60 seconds, found 61".replace("data.", ""));
        assert!(text(ClipSettings { hop_ms: Some(f64::NAN), ..none }).starts_with("hop_ms: expected 1 to 1000"));
        assert!(text(ClipSettings { mel_bands: Some(0), ..none }).contains("1 to 512 bands"));
        let short = ClipSettings { seconds: Some(0.02), ..none };
        assert_eq!(text(short), "window_ms: expected at most the 0.02 seconds of a clip, found 25");
        assert_eq!(short.first(), Some(("seconds", "0.02".into())));
        let e = none.form("f", 999, 1.0).unwrap_err().to_string();
        assert_eq!(e, "f: expected 1000 to 384000 samples a second, found 999");
        // What a file may say.
        let good = none.form("f", 8000, 1.0).unwrap();
        for form in [ClipForm { hop: 0, ..good }, ClipForm { window: u32::MAX, ..good }, ClipForm { rate: 0, ..good }] {
            assert!(form.check("f", &form.shape()).is_err(), "{form}");
        }
        assert!(good.check("f", &[1, 40]).is_err());
    }
}
