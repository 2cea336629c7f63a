//! Which data a run sees: its source and what else decides about them.

use crate::image_file::MAX_SIDE;
use crate::source::Request;
use crate::{
    ClipSettings, DataDescription, DataError, Dataset, DetectionSet, DetectionSplit, NumberDescription, Numbers,
    PairSplit, Pairs, Result, Source, Split,
};
use std::any::Any;

/// A source with what else decides which images are seen.
#[derive(Debug, Clone, PartialEq)]
pub struct DataConfig {
    /// Where the data come from.
    pub source: Source,
    /// Rows and columns to which images of a folder are scaled; `None` takes them as they are. Of images with boxes, those of the canvas.
    pub image_size: Option<usize>,
    /// Where the test data come from, if from elsewhere than the training data.
    pub test: Option<Source>,
    /// The column of a table that holds the targets, by its name or its number; `None` is the last one.
    pub target: Option<String>,
    /// How recordings become sequences.
    pub clips: ClipSettings,
    /// The share of the training images that is set apart for validation, 0 to below 1.
    pub validation: f64,
    /// Draws the validation images, and the test images of a folder that has none.
    pub seed: u64,
}

impl DataConfig {
    /// Checks what can be checked without data.
    ///
    /// # Errors
    /// A setting is out of its range or does not fit the source.
    pub fn check(&self) -> Result<()> {
        match (self.source.kind()?.scaled, self.image_size) {
            (true, Some(size)) if !(1..=MAX_SIDE).contains(&size) => {
                Err(DataError::setting("image_size", "1 to 16384", size))
            }
            (false, Some(size)) => {
                let expected = format!("left out, since images of {} have one size", self.source);
                Err(DataError::setting("image_size", &expected, size))
            }
            _ if self.target.is_some() && !self.has_table() => {
                let expected = format!("left out, since {} is no table", self.source);
                Err(DataError::setting("target", &expected, self.target.as_deref().unwrap_or_default()))
            }
            _ if !self.has_recordings() && self.clips.first().is_some() => {
                let (key, value) = self.clips.first().unwrap_or_default();
                let expected = format!("left out, since {} has no recordings", self.source);
                Err(DataError::setting(key, &expected, value))
            }
            _ if !(0.0..1.0).contains(&self.validation) => Err(DataError::setting(
                "validation",
                "a share of the training images from 0 to below 1",
                self.validation,
            )),
            _ => self.clips.check(),
        }
    }

    /// Reads or makes the data.
    ///
    /// # Errors
    /// A file is missing or broken, or a setting does not fit ([`DataConfig::check`]).
    pub fn load(&self) -> Result<Split> {
        self.check()?;
        let split = self.source.kind()?.reader.labelled(&self.request(&self.source))?;
        split.check_classes_recur(self.target.as_deref(), self.test.is_some())?;
        let split = match &self.test {
            Some(_) => Split { test: self.load_test(&DataDescription::of(&split))?, ..split },
            None => split,
        };
        split.with_validation(self.validation, self.seed)
    }

    /// Reads or makes the test images alone, for `network`: no training images are needed, and none are looked at.
    ///
    /// # Errors
    /// A file is missing or broken; the images have another shape than those that the network was trained on, or other
    /// classes ([`DataDescription::check_data`]).
    pub fn load_test(&self, network: &DataDescription) -> Result<Dataset> {
        self.check()?;
        let source = self.test.as_ref().unwrap_or(&self.source);
        let test = source.kind()?.reader.labelled_test(&self.request(source), network)?;
        network.check_data(&test)?;
        Ok(test)
    }

    /// Reads or makes data whose targets are numbers.
    ///
    /// # Errors
    /// As [`load`](Self::load); or the source has no such targets.
    pub fn load_numbers(&self) -> Result<Split<Numbers>> {
        self.check()?;
        let split = self.source.kind()?.reader.numbers(&self.request(&self.source))?;
        let split = match &self.test {
            Some(_) => Split::new(split.train, self.numbers_test()?)?,
            None => split,
        };
        split.with_validation(self.validation, self.seed)
    }

    /// Reads or makes the test data of [`load_numbers`](Self::load_numbers) alone, for `network`.
    ///
    /// # Errors
    /// As there; or the samples have another shape or other columns than those that the network was trained on
    /// ([`NumberDescription::check_data`]).
    pub fn load_test_numbers(&self, network: &NumberDescription) -> Result<Dataset<Numbers>> {
        self.check()?;
        let test = self.numbers_test()?;
        network.check_data(&test)?;
        Ok(test)
    }

    fn numbers_test(&self) -> Result<Dataset<Numbers>> {
        let source = self.test.as_ref().unwrap_or(&self.source);
        source.kind()?.reader.numbers_test(&self.request(source))
    }

    /// Whether any of the data come from a table.
    fn has_table(&self) -> bool {
        self.source.is_table() || self.test.as_ref().is_some_and(Source::is_table)
    }

    /// Whether any of the data are recordings.
    fn has_recordings(&self) -> bool {
        let recordings = |source: &Source| source.kind().is_ok_and(|kind| kind.recordings);
        recordings(&self.source) || self.test.as_ref().is_some_and(recordings)
    }

    /// Reads the pictures of a source for super-resolution, `scale` times enlarged.
    ///
    /// # Errors
    /// The source has no such pictures or no test pictures; a file is missing, broken or of another size.
    pub fn load_pairs(&self, scale: usize) -> Result<PairSplit> {
        self.check()?;
        let read =
            |source: &Source, part, alone| source.kind()?.reader.pairs(&self.request(source), part, scale, alone);
        let train = read(&self.source, "train", false)?;
        let test = match &self.test {
            Some(test) => read(test, "test", true)?,
            None => read(&self.source, "test", false)?,
        };
        PairSplit { train, test, validation: None }.with_validation(self.validation, self.seed)
    }

    /// Reads the test pictures alone.
    ///
    /// # Errors
    /// As [`load_pairs`](Self::load_pairs).
    pub fn load_test_pairs(&self, scale: usize) -> Result<Pairs> {
        self.check()?;
        let source = self.test.as_ref().unwrap_or(&self.source);
        source.kind()?.reader.pairs(&self.request(source), "test", scale, true)
    }

    /// Reads or makes images with boxes.
    ///
    /// # Errors
    /// The source has no such images or no test images; a file is missing or broken; test images from elsewhere have other classes.
    pub fn load_detection(&self) -> Result<DetectionSplit> {
        self.check()?;
        let split = self.source.kind()?.reader.detection(&self.request(&self.source))?;
        let split = match &self.test {
            Some(_) => {
                let test = self.load_test_detection(split.train.class_names())?;
                DetectionSplit::new(split.train, test, split.validation)?
            }
            None => split,
        };
        split.with_validation(self.validation, self.seed)
    }

    /// Reads or makes the test images of [`load_detection`](Self::load_detection) alone, for a network that knows the classes
    /// `class_names`: no training images are needed.
    ///
    /// # Errors
    /// As there; or the images have other classes.
    pub fn load_test_detection(&self, class_names: &[String]) -> Result<DetectionSet> {
        self.check()?;
        let source = self.test.as_ref().unwrap_or(&self.source);
        let test = source.kind()?.reader.detection_test(&self.request(source), class_names)?;
        test.check_classes(class_names, "the network")?;
        Ok(test)
    }

    /// Reads or makes data of another form, for a task of one's own.
    ///
    /// # Errors
    /// A file is missing or broken, the source has no such data, or a setting does not fit.
    pub fn load_other(&self) -> Result<Box<dyn Any + Send + Sync>> {
        self.check()?;
        self.source.kind()?.reader.other(&self.request(&self.source))
    }

    /// Returns height and width of each image to learn from before it is scaled, where the source can scale images. Headers of files are
    /// read, and no pixels.
    ///
    /// # Errors
    /// A file is missing, or its header is broken.
    pub fn image_sizes(&self) -> Result<Vec<[usize; 2]>> {
        self.check()?;
        self.source.kind()?.reader.image_sizes(&self.request(&self.source))
    }

    /// Returns notes for the user on what the sources do with their data, each once. [`Split::notes`] are those on the data themselves.
    pub fn notes(&self) -> Vec<String> {
        let of = |source: &Source| {
            source.kind().map_or_else(|_| Vec::new(), |kind| kind.reader.notes(&self.request(source)))
        };
        let mut notes = of(&self.source);
        notes.extend(self.test.as_ref().map(of).into_iter().flatten());
        notes.dedup();
        notes
    }

    /// Returns whether other seeds choose other data.
    pub fn is_drawn(&self) -> bool {
        let drawn = |source: &Source| source.kind().is_ok_and(|kind| kind.drawn);
        self.validation != 0.0 || drawn(&self.source) || self.test.as_ref().is_some_and(drawn)
    }

    fn request<'a>(&'a self, source: &'a Source) -> Request<'a> {
        Request {
            source,
            image_size: self.image_size,
            seed: self.seed,
            target: self.target.as_deref(),
            clips: self.clips,
            whole: self.test.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_held_to_the_source() {
        let config = |image_size, validation| DataConfig {
            clips: ClipSettings::default(),
            source: Source::default(),
            test: None,
            target: None,
            image_size,
            validation,
            seed: 4,
        };
        let split = config(None, 0.1).load().unwrap();
        assert_eq!((split.train.len(), split.validation.unwrap().len(), split.test.len()), (5400, 600, 1000));
        let e = config(Some(32), 0.0).load().unwrap_err().to_string();
        assert_eq!(e, "image_size: expected left out, since images of digits have one size, found 32");
        // Images with boxes are placed on a canvas of this size.
        for source in ["digits-detect", "voc:a", "coco:a", "yolo:a"] {
            let source: Source = source.parse().unwrap();
            DataConfig { source: source.clone(), ..config(Some(64), 0.0) }.check().unwrap();
            let e = DataConfig { source, ..config(Some(0), 0.0) }.check().unwrap_err().to_string();
            assert_eq!(e, "image_size: expected 1 to 16384, found 0");
        }
        let e = DataConfig { target: Some("age".into()), ..config(None, 0.0) }.load().unwrap_err().to_string();
        assert_eq!(e, "target: expected left out, since digits is no table, found age");
    }

    #[test]
    fn a_second_table_is_for_testing_and_has_the_same_columns() {
        let dir = tempfile::tempdir().unwrap();
        let source = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            format!("csv:{}", path.display()).parse::<Source>().unwrap()
        };
        let train = source("train.csv", "a,b,y\n1,2,dog\n3,4,cat\n5,6,dog\n");
        let config = |test, target: Option<&str>| DataConfig {
            clips: ClipSettings::default(),
            source: train.clone(),
            test,
            target: target.map(Into::into),
            image_size: None,
            validation: 0.0,
            seed: 1,
        };
        // The target may lie elsewhere, and classes may be missing.
        let split = config(Some(source("test.csv", "a,y,b\n7,dog,8\n")), Some("y")).load().unwrap();
        assert_eq!((split.train.len(), split.test.labels(), split.test.classes()), (3, &[1][..], 2));
        let e = config(Some(source("test.csv", "a,b,y\n7,8,cow\n")), None).load().unwrap_err().to_string();
        assert!(
            e.ends_with("test.csv: line 2, column `y`: expected a class of the network: cat, dog, found `cow`"),
            "{e}"
        );
        let e = config(Some(source("test.csv", "b,a,y\n7,8,cat\n")), None).load().unwrap_err().to_string();
        assert!(e.contains("expected the columns of the network, found another order: `b` in place of `a`"), "{e}");
        let test = source("numbers.csv", "b,y,a\n7,8,1\n");
        let e = config(Some(test.clone()), Some("a")).load_numbers().unwrap_err().to_string();
        assert!(e.contains("column `y`: expected a number"), "{e}");
        let mut numbers = config(Some(test), Some("a"));
        numbers.source = source("train.csv", "a,b,y\n1,2,3\n4,5,6\n");
        let split = numbers.load_numbers().unwrap();
        assert_eq!((split.train.targets().values(), split.test.targets().values()), (&[1.0, 4.0][..], &[1.0][..]));
        let network = NumberDescription::of(&split);
        assert_eq!(numbers.load_test_numbers(&network).unwrap(), split.test);
        numbers.source = Source::default();
        numbers.target = None;
        let e = numbers.load_numbers().unwrap_err().to_string();
        assert!(e.contains("csv:PATH or npz:PATH with numbers as targets") && e.contains("digits"), "{e}");
    }

    #[test]
    fn a_table_whose_rows_are_a_class_each_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let load = |text: String| {
            std::fs::write(file.path(), text).unwrap();
            let source = format!("csv:{}", file.path().display()).parse().unwrap();
            let (test, image_size, target) = (None, None, None);
            let clips = ClipSettings::default();
            DataConfig { clips, source, test, target, image_size, validation: 0.0, seed: 4 }.load()
        };
        let rows = |name: fn(usize) -> usize| {
            (0..30).fold(String::from("a,b,id\n"), |text, i| format!("{text}{i},{},name{}\n", i % 7, name(i)))
        };
        let e = load(rows(|i| i)).unwrap_err().to_string();
        assert!(e.contains("expected classes that several rows have (name the column"), "{e}");
        assert!(e.ends_with("found a class of its own for each of 30 rows (`name0`, `name1`, …)"), "{e}");
        assert_eq!(load(rows(|i| i / 2)).unwrap().train.classes(), 15);
    }

    #[test]
    fn a_second_folder_is_for_testing_and_all_of_the_first_for_training() {
        let dir = tempfile::tempdir().unwrap();
        for (folder, count) in [("a", 20), ("b", 10)] {
            for class in ["x", "y"] {
                let place = dir.path().join(folder).join(class);
                std::fs::create_dir_all(&place).unwrap();
                for i in 0..count {
                    image::RgbImage::from_pixel(4, 4, image::Rgb([i, 7, 9]))
                        .save(place.join(format!("{i}.png")))
                        .unwrap();
                }
            }
        }
        let source = |name: &str| format!("folder:{}", dir.path().join(name).display()).parse::<Source>().unwrap();
        let config = DataConfig {
            clips: ClipSettings::default(),
            source: source("a"),
            test: Some(source("b")),
            image_size: None,
            target: None,
            validation: 0.0,
            seed: 4,
        };
        let split = config.load().unwrap();
        assert_eq!((split.train.len(), split.test.len()), (40, 20));
        assert_eq!(config.load_test(&DataDescription::of(&split)).unwrap(), split.test);
        let undivided = DataConfig { test: None, ..config }.load().unwrap();
        assert_eq!((undivided.train.len(), undivided.test.len()), (36, 4));
    }

    /// Seconds since 1970 that differ by minutes are one number or two to a float of 32 bits.
    #[test]
    fn numbers_that_floats_would_blur_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        let load = |row: fn(usize) -> String| {
            let rows: String = (0..40).map(|i| row(i) + "\n").collect();
            std::fs::write(&path, format!("a,b,price\n{rows}")).unwrap();
            let source = format!("csv:{}", path.display()).parse().unwrap();
            let config = DataConfig {
                clips: ClipSettings::default(),
                source,
                test: None,
                image_size: None,
                target: None,
                validation: 0.0,
                seed: 4,
            };
            config.load_numbers().map(|_| ()).map_err(|e| e.to_string())
        };
        let e = load(|i| format!("{},1,{i}", 1_700_000_000 + 60 * i)).unwrap_err();
        assert!(e.contains("column `a`") && e.contains("subtract a constant"), "{e}");
        let e = load(|i| format!("{i},1,{}", 1_700_000_000 + 60 * i)).unwrap_err();
        assert!(e.contains("target `price`"), "{e}");
        let tiny: [fn(usize) -> String; 3] =
            [|i| format!("{i},1,{i}e-36"), |i| format!("{i},1,{i}e-44"), |i| format!("{i},1,{i}e-60")];
        for row in tiny {
            let e = load(row).unwrap_err();
            assert!(e.contains("target `price`") && e.contains("multiply all of them by a constant"), "{e}");
        }
        let e = load(|i| format!("{i}e-38,1,{i}")).unwrap_err();
        assert!(e.contains("column `a`") && e.contains("multiply all of them by a constant"), "{e}");
        load(|i| format!("{},1700000000,{}", 2000 + i, 390_000 + i)).unwrap();
    }
}
