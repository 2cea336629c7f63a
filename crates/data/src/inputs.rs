//! Inputs of a trained network, from image files, recordings, folders, NumPy arrays and tables: one list of samples, each of which is read
//! when it is asked for, so that a broken one among many is an error of its own.

use crate::csv_rows::CsvRows;
use crate::endings::{endings, is_image_name};
use crate::entries::entries;
use crate::first_bytes::first_bytes;
use crate::image_kind::{Kind as ImageKind, START};
use crate::image_value::described;
use crate::listed::listed;
use crate::mel::Features;
use crate::npz::{is_array, npz_samples};
use crate::npz_array::Taken;
use crate::samples::{Samples, View};
use crate::wav_file::ENDING;
use crate::wav_file::is_recording;
use crate::{DataError, Image, Result, Sample, SampleForm, Sequence, wav};
use std::path::{Path, PathBuf};

/// The samples of files and folders, for a network that takes samples of a form.
///
/// ```
/// use fixnet_data::{Inputs, SampleForm};
/// let folder = tempfile::tempdir().unwrap();
/// let file = folder.path().join("rows.csv");
/// fixnet_files::write(&file, b"size,age\n1,2\n3,4\n").unwrap();
/// let mut inputs = Inputs::new(SampleForm::of_shape(vec![2]));
/// inputs.add(&file)?;
/// assert_eq!(inputs.len(), 2);
/// assert_eq!(inputs.get(1)?.sample, vec![3.0, 4.0].into());
/// # Ok::<(), fixnet_data::DataError>(())
/// ```
#[derive(Debug)]
pub struct Inputs {
    form: SampleForm,
    parts: Vec<Part>,
    len: usize,
    notes: Vec<String>,
    /// What makes sequences of recordings, once there are some.
    features: Option<Features>,
}

/// Samples of one kind.
#[derive(Debug)]
struct Part {
    /// The number of the first one.
    first: usize,
    kind: Kind,
}

/// What a path leads to.
enum Content {
    Folder,
    Arrays,
    Rows,
    /// An image or a recording.
    Sample,
}

#[derive(Debug)]
enum Kind {
    Images(Vec<PathBuf>),
    Recordings(Vec<PathBuf>),
    Array(PathBuf, Samples),
    Rows(PathBuf, CsvRows),
}

/// A sample as a network takes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The sample.
    pub sample: Sample,
    /// Height, width and channels of the image that was converted to it; `None` if nothing had to be converted.
    pub converted_from: Option<[usize; 3]>,
}

impl Inputs {
    /// None yet, for a network that takes such samples.
    pub fn new(form: SampleForm) -> Self {
        Self { form, parts: Vec::new(), len: 0, notes: Vec::new(), features: None }
    }

    /// Adds the samples of a file or a folder:
    ///
    /// - a PNG, JPEG, WebP or BMP file, whatever its name;
    /// - a folder: the files in it, not those of folders within, whose names end as those of images do
    ///   ([`ENDINGS`](crate::ENDINGS)), in the order of the names;
    /// - for a network that was trained on recordings, a WAV file in place of an image, and of a folder its files `.wav`;
    /// - an `.npz` file: its array `x` or `x_test`, or its only array, [N, H, W] or [N, H, W, C] of `u8` or of `f32` from 0 to 1, rows
    ///   [N, F] of `f32` or `f64`, or sequences [N, T, C] where the network takes those; or such an array in an `.npy` file;
    /// - a table with commas: its rows. Columns are found by their names where file and network have names, in any order; the target may be
    ///   among them, and is left out. Else their number counts.
    ///
    /// What a file is, its bytes say, whatever its name.
    ///
    /// Returns how many samples there are in it. Image files and the cells of tables are read later, by [`get`](Self::get).
    ///
    /// # Errors
    /// The file or folder cannot be read; it holds samples of another kind than the network takes, or other columns.
    pub fn add(&mut self, path: &Path) -> Result<usize> {
        let place = path.display().to_string();
        let (kind, count) = match self.content(path)? {
            Content::Folder => {
                let files = self.files_in(path)?;
                let count = files.len();
                (self.files(files)?, count)
            }
            Content::Arrays => {
                let taken = if self.form.shape.len() == 2 { Taken::Sequences } else { Taken::ImagesOrRows };
                let samples = npz_samples(path, taken)?;
                match *samples.shape() {
                    [height, width, channels] => drop(self.form.image(&place, [height, width, channels])?),
                    [steps, channels] => self.form.sequence(&place, [steps, channels])?,
                    _ if self.form.width(&place)? != samples.last_axis() => {
                        let found = format!("rows of {} numbers", samples.last_axis());
                        return Err(DataError::setting(&place, &self.form.to_string(), found));
                    }
                    _ => {}
                }
                let count = samples.len();
                (Kind::Array(path.into(), samples), count)
            }
            Content::Rows => {
                let rows = CsvRows::read(path, &self.form)?;
                if let Some(column) = &rows.ignored {
                    self.notes.push(format!("note: {place}: the column `{column}`, the target, is left out"));
                }
                let count = rows.len();
                (Kind::Rows(path.into(), rows), count)
            }
            Content::Sample => (self.files(vec![path.into()])?, 1),
        };
        // Files and folders that follow each other are one part.
        match (self.parts.last_mut(), kind) {
            (Some(Part { kind: Kind::Images(files), .. }), Kind::Images(more))
            | (Some(Part { kind: Kind::Recordings(files), .. }), Kind::Recordings(more)) => files.extend(more),
            (_, kind) => self.parts.push(Part { first: self.len, kind }),
        }
        self.len += count;
        Ok(count)
    }

    /// What a path leads to. A name counts where bytes say nothing: an empty or damaged file is what it is called.
    fn content(&self, path: &Path) -> Result<Content> {
        if path.is_dir() {
            return Ok(Content::Folder);
        }
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
        let start = first_bytes(path, START)?;
        Ok(match ending.as_str() {
            _ if is_array(&start) => Content::Arrays,
            _ if ImageKind::of(&start).is_some() || is_recording(&start) => Content::Sample,
            "npz" | "npy" => Content::Arrays,
            "csv" => Content::Rows,
            _ if self.form.shape.len() == 1 => Content::Rows,
            _ => Content::Sample,
        })
    }

    /// Files as the network takes them: recordings, or else images.
    fn files(&mut self, files: Vec<PathBuf>) -> Result<Kind> {
        let Some(form) = self.form.clips else { return Ok(Kind::Images(files)) };
        if self.features.is_none() {
            self.features = Some(Features::new(form)?);
        }
        Ok(Kind::Recordings(files))
    }

    /// The files of a folder that are images, or recordings where the network takes those.
    fn files_in(&mut self, folder: &Path) -> Result<Vec<PathBuf>> {
        let recordings = self.form.clips.is_some();
        let endings = if recordings { format!(".{ENDING}") } else { endings() };
        let is_wav = |path: &Path| path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case(ENDING));
        let is_taken = |path: &PathBuf| if recordings { is_wav(path) } else { is_image_name(path) } && !path.is_dir();
        let (images, others): (Vec<_>, Vec<_>) = entries(folder)?.into_iter().partition(is_taken);
        let names: Vec<_> = others.iter().map(|path| path.file_name().unwrap_or_default().to_string_lossy()).collect();
        if images.is_empty() {
            let expected = format!("files {endings} in the folder itself");
            return Err(DataError::setting(&folder.display().to_string(), &expected, listed(&names)));
        }
        if !names.is_empty() {
            let what = format!("{} without {endings} are left out: {}", names.len(), listed(&names));
            self.notes.push(format!("note: {}: {what}", folder.display()));
        }
        Ok(images)
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The form of the samples.
    pub fn form(&self) -> &SampleForm {
        &self.form
    }

    /// What a user should know: which column or which files are left out.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The part of sample `index`, and its number in it.
    fn part(&self, index: usize) -> Option<(&Kind, usize)> {
        let after = self.parts.partition_point(|part| part.first <= index);
        let part = self.parts.get(after.checked_sub(1)?).filter(|_| index < self.len)?;
        Some((&part.kind, index - part.first))
    }

    /// Returns where sample `index` comes from: its file, and of an array its number, counted from 0, or of a table its line, counted
    /// from 1. Without such a sample it is empty.
    pub fn source(&self, index: usize) -> (&Path, Option<u64>) {
        match self.part(index) {
            Some((Kind::Images(files) | Kind::Recordings(files), i)) => (&files[i], None),
            Some((Kind::Array(path, _), i)) => (path, Some(i as u64)),
            Some((Kind::Rows(path, rows), i)) => (path, Some(rows.line(i))),
            None => (Path::new(""), None),
        }
    }

    /// Returns what sample `index` is called: `FILE`, `FILE[NUMBER]` of an array, `FILE:LINE` of a table.
    pub fn name(&self, index: usize) -> String {
        let (path, number) = self.source(index);
        match (self.part(index), number) {
            (Some((Kind::Array(..), _)), Some(i)) => format!("{}[{i}]", path.display()),
            (_, Some(line)) => format!("{}:{line}", path.display()),
            (_, None) => path.display().to_string(),
        }
    }

    /// Reads sample `index` as the network takes it. Images are scaled and their channels converted as
    /// [`Image::converted`] says.
    ///
    /// # Errors
    /// There is no such sample, its file or its row is broken, or it does not fit the network. The message names the file.
    pub fn get(&self, index: usize) -> Result<Reading> {
        let unchanged = |sample: Sample| Ok(Reading { sample, converted_from: None });
        match self.part(index) {
            None => Err(DataError::setting("inputs", &format!("a number below {}", self.len), index)),
            Some((Kind::Rows(_, rows), i)) => unchanged(rows.row(i)?.into()),
            Some((Kind::Recordings(files), i)) => {
                let Some(features) = &self.features else {
                    return Err(DataError::setting("inputs", "a network that takes recordings", "another one"));
                };
                let shape = features.form().shape();
                let mut values = vec![0.0; shape[0] * shape[1]];
                wav::read(&files[i], features, &mut values)?;
                unchanged(Sequence::new(shape, values)?.into())
            }
            Some((Kind::Images(files), i)) => {
                let place = files[i].display().to_string();
                let (image, found) = Image::read_as(&files[i], |found| self.form.image(&place, found))?;
                let converted_from = (image.shape() != found).then_some(found);
                Ok(Reading { sample: image.into(), converted_from })
            }
            Some((Kind::Array(_, samples), i)) => samples.with(i, |view| match (view, samples.shape()) {
                (View::Floats(values), &[steps, channels]) => {
                    unchanged(Sequence::new([steps, channels], values)?.into())
                }
                (View::Floats(row), _) => unchanged(row.into()),
                (View::Bytes(bytes), &[height, width, channels]) => {
                    let image = Image::new([height, width, channels], bytes.to_vec())?;
                    let (sample, shape) = (self.form.fit(&self.name(index), &(&image).into())?, image.shape());
                    let converted_from = (sample.shape() != shape).then_some(shape);
                    Ok(Reading { sample, converted_from })
                }
                (View::Bytes(_), shape) => Err(DataError::setting(&self.name(index), "images", format!("{shape:?}"))),
            })?,
        }
    }

    /// Returns a sentence on images that were converted, from the shapes that they had: how many, and how. `None` if there are none.
    pub fn note_on_conversions(&self, from: &[[usize; 3]]) -> Option<String> {
        let &[height, width, channels] = &self.form.shape[..] else { return None };
        let first = from.first()?;
        let sizes = from.iter().filter(|found| !self.form.any_size && found[..2] != [height, width]).count();
        let colours = from.iter().filter(|found| found[2] != channels).count();
        let cut = from.iter().filter(|found| !self.form.any_size && found[0] * width != found[1] * height).count();
        let kind = if channels == 1 { "grey" } else { "colours" };
        let ways = [
            (sizes, format!("scaled to {height}x{width}")),
            (cut, "cut to their middle before".into()),
            (colours, format!("from other channels to {kind}")),
        ];
        let ways: Vec<String> = ways.iter().filter(|(n, _)| *n > 0).map(|(n, how)| format!("{n} {how}")).collect();
        let count = match from.len() {
            1 => "1 image was converted".into(),
            n => format!("{n} images were converted"),
        };
        Some(format!("note: {count} as in training: {} (the first had {})", ways.join(", "), described(*first)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayImage, Rgb, RgbImage};
    use std::fs;

    /// An array of bytes as NumPy writes it.
    fn npy(shape: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    fn form(shape: &[usize]) -> SampleForm {
        SampleForm::of_shape(shape.to_vec())
    }

    #[test]
    fn files_folders_and_arrays_are_one_list() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        RgbImage::from_pixel(4, 2, Rgb([9; 3])).save(path("b.PNG")).unwrap();
        GrayImage::new(2, 2).save(path("a.png")).unwrap();
        fs::write(path("c.jpg"), "none").unwrap();
        fs::write(path("readme.txt"), "none").unwrap();
        fs::create_dir(path("within.png")).unwrap();
        let mut inputs = Inputs::new(form(&[2, 2, 1]));
        assert_eq!(inputs.add(place.path()).unwrap(), 3);
        assert!(
            inputs.notes()[0]
                .contains("2 without .png, .jpg, .jpeg, .webp or .bmp are left out: readme.txt, within.png")
        );
        fs::write(path("x.npy"), npy("(3, 2, 2)", &[7; 12])).unwrap();
        assert_eq!((inputs.add(&path("x.npy")).unwrap(), inputs.add(&path("b.PNG")).unwrap()), (3, 1));
        assert_eq!(inputs.len(), 7);
        let names: Vec<String> =
            (0..8).map(|i| inputs.name(i).rsplit('/').next().unwrap_or_default().to_string()).collect();
        assert_eq!(names, ["a.png", "b.PNG", "c.jpg", "x.npy[0]", "x.npy[1]", "x.npy[2]", "b.PNG", ""]);
        assert_eq!(inputs.get(0).unwrap().converted_from, None);
        let wide = inputs.get(1).unwrap();
        assert_eq!((wide.sample.shape(), wide.converted_from), (vec![2, 2, 1], Some([2, 4, 3])));
        assert_eq!(inputs.get(6).unwrap(), wide);
        assert!(inputs.get(2).unwrap_err().to_string().contains("c.jpg: expected a PNG, JPEG, WebP or BMP image"));
        assert_eq!(inputs.get(5).unwrap().sample, Image::new([2, 2, 1], vec![7; 4]).unwrap().into());
        assert!(inputs.get(7).is_err());
        let note = inputs.note_on_conversions(&[[2, 4, 3], [4, 4, 1]]).unwrap();
        let words = "2 scaled to 2x2, 1 cut to their middle before, 1 from other channels to grey (the first had 2x4";
        assert!(note.starts_with("note: 2 images were converted") && note.contains(words), "{note}");
        assert_eq!(inputs.note_on_conversions(&[]), None);
    }

    #[test]
    fn what_a_file_is_its_bytes_say() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        GrayImage::from_pixel(2, 2, image::Luma([7])).save(path("a.png")).unwrap();
        let image = Image::new([2, 2, 1], vec![7; 4]).unwrap();
        fs::rename(path("a.png"), path("a.csv")).unwrap();
        fs::write(path("array.png"), npy("(3, 2, 2)", &[7; 12])).unwrap();
        let mut inputs = Inputs::new(form(&[2, 2, 1]));
        assert_eq!((inputs.add(&path("a.csv")).unwrap(), inputs.add(&path("array.png")).unwrap()), (1, 3));
        assert_eq!(
            (inputs.get(0).unwrap().sample, inputs.get(3).unwrap().sample),
            (image.clone().into(), image.into())
        );
        fs::write(path("rows.txt"), "1,2\n3,4\n").unwrap();
        let mut rows = Inputs::new(form(&[2]));
        assert_eq!(rows.add(&path("rows.txt")).unwrap(), 2);
        assert_eq!(rows.get(1).unwrap().sample, vec![3.0, 4.0].into());
        assert!(
            rows.add(&path("a.csv")).is_ok_and(|_| rows.get(2).unwrap_err().to_string().contains("a.csv: expected"))
        );
        fs::write(path("empty.npz"), "").unwrap();
        assert!(rows.add(&path("empty.npz")).unwrap_err().to_string().contains("a zip archive"));
    }

    #[test]
    fn what_a_network_does_not_take_is_refused_at_once() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        fs::write(path("x.npy"), npy("(3, 2, 2, 5)", &[7; 60])).unwrap();
        fs::write(path("x.csv"), "1,2\n").unwrap();
        let add = |shape: &[usize], name: &str| Inputs::new(form(shape)).add(&path(name)).map_err(|e| e.to_string());
        assert!(add(&[2, 2, 3], "x.npy").unwrap_err().contains("found 2x2 in 5 channels"));
        assert!(add(&[4], "x.npy").unwrap_err().contains("expected a row of 4 numbers, found an image of 2x2"));
        assert!(add(&[2, 2, 3], "x.csv").unwrap_err().contains("expected an image of 2x2 in 3 channels, found rows"));
        assert!(add(&[2], "none.png").unwrap_err().contains("none.png: "));
        fs::create_dir(path("empty")).unwrap();
        assert!(add(&[2, 2, 3], "empty").unwrap_err().contains("expected files .png, .jpg, .jpeg, .webp or .bmp"));
    }
}
