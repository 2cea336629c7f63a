//! Folders of WAV files, one class a sub-folder: speech and other sounds, as sequences of features.
//!
//! All recordings have one sample rate. Each is cut or filled up with zeros to one length, and becomes the logarithms of the energy
//! in bands of its spectrum ([`Features`]).

use crate::class_folders::ClassFolders;
use crate::mel::Features;
use crate::samples::Samples;
use crate::source::{Reader, Request, SourceKind};
use crate::split_folders::SplitFolders;
use crate::wav_file::Wav;
use crate::{ClipForm, ClipSettings, DataDescription, Dataset, Result, Split, dataset::TEST_SHARE};
use fixnet_tensor::Budget;
use rayon::prelude::*;
use std::path::Path;

/// The row of the registry.
pub(crate) const KIND: SourceKind = SourceKind {
    drawn: true,
    recordings: true,
    ..SourceKind::new("wav:FOLDER", "WAV files, one class a sub-folder", &WavFolder)
};

/// Seconds of a clip where the recipe does not say it.
const SECONDS: f64 = 1.0;

#[derive(Debug)]
struct WavFolder;

impl Reader for WavFolder {
    fn labelled(&self, request: &Request<'_>) -> Result<Split> {
        Recordings { form: None, ..Recordings::of(request) }.split()
    }

    fn labelled_test(&self, request: &Request<'_>, network: &DataDescription) -> Result<Dataset> {
        Recordings { form: network.clips(), ..Recordings::of(request) }.test()
    }
}

/// Reads WAV files from a folder that has its classes and parts as a [folder of images](crate::folder) has them: `train`, `test` and
/// `val` with one sub-folder a class each, or classes alone, of which a tenth, drawn by `seed`, is for testing. Files are of 8, 16,
/// 24 or 32 bits (whole numbers) or 32 bits (floats); the channels of a file are mixed into one.
///
/// # Errors
/// There is no class or an empty one; a file is no such WAV file, is damaged, or has another sample rate than the first; the parts do
/// not have the same classes; a setting is out of its range; or the features take more memory than [`Budget::TABLE`].
pub fn wav(path: &Path, settings: ClipSettings, seed: u64) -> Result<Split> {
    Recordings { path, settings, seed, whole: false, form: None }.split()
}

/// What is asked for.
struct Recordings<'a> {
    path: &'a Path,
    settings: ClipSettings,
    seed: u64,
    /// Whether no test part is drawn.
    whole: bool,
    /// The form of the clips, where a network knows it.
    form: Option<ClipForm>,
}

impl<'a> Recordings<'a> {
    fn of(request: &Request<'a>) -> Self {
        let Request { clips: settings, seed, whole, .. } = *request;
        Self { path: request.path(), settings, seed, whole, form: None }
    }

    /// All parts.
    fn split(&self) -> Result<Split> {
        let list = |part: &Path| ClassFolders::of(part, "recordings");
        let Some(parts) = SplitFolders::of(self.path)? else {
            let files = list(self.path)?;
            let all = self.dataset(&files, &self.features(&files)?)?;
            if self.whole {
                return Split::new(all.clone(), all);
            }
            let name = format!("{}, set apart for testing", self.path.display());
            let (train, test) = all.apart_by_group(TEST_SHARE, self.seed, &name)?;
            return Split::new(train, test);
        };
        let train = list(parts.train(self.path)?)?;
        let test = match self.whole {
            true => None,
            false => Some(list(parts.test(self.path)?)?),
        };
        let validation = parts.validation.as_deref().map(list).transpose()?;
        for (part, other) in [("test", &test), ("validation", &validation)] {
            other.iter().try_for_each(|other| train.check_same(self.path, part, other))?;
        }
        let features = self.features(&train)?;
        let read = |files: ClassFolders| self.dataset(&files, &features);
        let (train, test) = (read(train)?, test.map(read).transpose()?);
        let test = test.unwrap_or_else(|| train.clone());
        let split = Split::new(train, test)?;
        match validation {
            Some(validation) => split.with_validation_data(read(validation)?),
            None => Ok(split),
        }
    }

    /// The test part alone.
    fn test(&self) -> Result<Dataset> {
        let test = match SplitFolders::of(self.path)? {
            Some(parts) => parts.test(self.path)?.to_path_buf(),
            None if self.whole => self.path.to_path_buf(),
            None => return Ok(self.split()?.test),
        };
        let files = ClassFolders::of(&test, "recordings")?;
        self.dataset(&files, &self.features(&files)?)
    }

    /// The features of these recordings: those of the network, or else by the rate of the first one.
    fn features(&self, files: &ClassFolders) -> Result<Features> {
        let of_first = || {
            let first = &files.paths[0];
            self.settings.form(&first.display().to_string(), Wav::open(first)?.rate(), SECONDS)
        };
        Features::new(self.form.map_or_else(of_first, Ok)?)
    }

    fn dataset(&self, files: &ClassFolders, features: &Features) -> Result<Dataset> {
        let (name, shape) = (files.folder.display().to_string(), features.form().shape());
        let [steps, bands] = shape;
        let mut budget = Budget::TABLE;
        let len = budget.claim(&format!("{name}: features"), &[files.paths.len(), steps, bands], size_of::<f32>())?;
        let mut values = vec![0.0; len];
        let each = values.par_chunks_exact_mut(steps * bands).zip(&files.paths).enumerate();
        let failed = each.filter_map(|(i, (out, path))| read(path, features, out).err().map(|e| (i, e)));
        // Of several errors it is always the first.
        if let Some((_, e)) = failed.min_by_key(|&(i, _)| i) {
            return Err(e);
        }
        let samples = Samples::floats(&name, &shape, values)?.with_clips(features.form());
        let data = Dataset::labelled(name, samples, files.classes.len(), files.labels.clone())?;
        data.with_class_names(files.classes.clone())
    }
}

/// Writes the features of a WAV file.
pub(crate) fn read(path: &Path, features: &Features, out: &mut [f32]) -> Result<()> {
    let form = features.form();
    let samples = Wav::open(path)?.samples(form.rate, form.samples as usize)?;
    features.write(&samples, out);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wav_file::wav_bytes;
    use crate::{DataConfig, Inputs, Normalize, Sample, SampleForm, Source};
    use std::fs;

    /// A recording that swings `turns` times in 64 samples.
    fn recording(rate: u32, turns: usize, count: usize) -> Vec<u8> {
        let sample = |i: usize| if (i * turns / 32).is_multiple_of(2) { 4000i16 } else { -4000 };
        wav_bytes(1, [1, 16], rate, &(0..count).flat_map(|i| sample(i).to_le_bytes()).collect::<Vec<_>>())
    }

    fn folder(parts: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (part, class) in parts.iter().flat_map(|part| [(part, "high"), (part, "low")]) {
            let place = dir.path().join(part).join(class);
            fs::create_dir_all(&place).unwrap();
            for i in 0..5 {
                let turns = if class == "low" { 1 } else { 8 };
                fs::write(place.join(format!("{i}.wav")), recording(8000, turns, 700 + 100 * i)).unwrap();
            }
        }
        dir
    }

    fn settings() -> ClipSettings {
        ClipSettings { seconds: Some(0.125), mel_bands: Some(8), ..ClipSettings::default() }
    }

    #[test]
    fn parts_and_drawn_parts_are_read() {
        let dir = folder(&["train", "test", "val"]);
        let split = wav(dir.path(), settings(), 1).unwrap();
        assert_eq!((split.train.shape(), split.train.len(), split.test.len()), (&[11, 8][..], 10, 10));
        assert_eq!((split.train.labels(), split.validation.unwrap().len()), (&[0, 0, 0, 0, 0, 1, 1, 1, 1, 1][..], 10));
        assert_eq!(split.train.class_names(), ["high".to_string(), "low".into()].as_slice());
        let whole = folder(&[""]);
        let config = DataConfig {
            source: format!("wav:{}", whole.path().display()).parse::<Source>().unwrap(),
            clips: settings(),
            image_size: None,
            test: None,
            target: None,
            validation: 0.0,
            seed: 3,
        };
        let drawn = config.load().unwrap();
        assert_eq!((drawn.train.len(), drawn.test.len(), config.is_drawn()), (8, 2, true));
        let network = DataDescription::of(&drawn);
        assert_eq!(network.clips(), Some(drawn.train.clips().unwrap()));
        assert_eq!(config.load_test(&network).unwrap(), drawn.test);
        let e = DataConfig { source: Source::default(), ..config }.load().unwrap_err().to_string();
        assert_eq!(e, "seconds: expected left out, since digits has no recordings, found 0.125");
    }

    #[test]
    fn other_rates_other_classes_and_other_files_are_refused() {
        let dir = folder(&["train", "test"]);
        let text = || wav(dir.path(), settings(), 1).unwrap_err().to_string();
        let odd = dir.path().join("test/low/3.wav");
        fs::write(&odd, recording(16_000, 1, 900)).unwrap();
        let words = "3.wav: expected 8000 samples a second, as of the other recordings, found 16000";
        assert!(text().ends_with(words), "{}", text());
        fs::write(&odd, "none").unwrap();
        assert!(text().contains("3.wav: expected a WAV file of"), "{}", text());
        fs::create_dir(dir.path().join("test/middle")).unwrap();
        fs::write(dir.path().join("test/middle/a.wav"), recording(8000, 1, 900)).unwrap();
        assert!(text().contains("middle"), "{}", text());
    }

    #[test]
    fn inputs_are_files_and_folders_of_recordings() {
        let dir = folder(&["train", "test"]);
        let split = wav(dir.path(), settings(), 1).unwrap();
        let form = SampleForm::of_shape(vec![11, 8]).with_clips(split.train.clips());
        let mut inputs = Inputs::new(form);
        fs::write(dir.path().join("test/low/notes.txt"), "none").unwrap();
        assert_eq!(inputs.add(&dir.path().join("test/low")).unwrap(), 5);
        assert_eq!(inputs.add(&dir.path().join("test/high/2.wav")).unwrap(), 1);
        assert!(inputs.notes()[0].contains("1 without .wav are left out: notes.txt"), "{:?}", inputs.notes());
        let Sample::Sequence(sequence) = inputs.get(5).unwrap().sample else { panic!("a sequence") };
        assert_eq!((sequence.shape(), Some(sequence.values())), ([11, 8], split.test.row(2)));
        let batch = Sample::batch(&[sequence.into()], &Normalize::of(&split.train)).unwrap();
        assert_eq!(batch.shape(), [1, 11, 8]);
        fs::write(dir.path().join("odd.wav"), recording(11_025, 1, 900)).unwrap();
        inputs.add(&dir.path().join("odd.wav")).unwrap();
        assert!(inputs.get(6).unwrap_err().to_string().contains("expected 8000 samples a second"));
    }
}
