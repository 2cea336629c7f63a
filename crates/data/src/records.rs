//! Images of one size that lie at even distances in files: read at once if they fit in memory, else one by one when they
//! are asked for.

use crate::{
    DataError, Dataset, Result,
    samples::{OnDemand, Samples},
};
use fixnet_files::input_file;
use fixnet_tensor::{Budget, Buffer};
use std::{
    io::{BufReader, Read, Seek, SeekFrom},
    path::PathBuf,
};

/// How the numbers of an image lie in a file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Form {
    /// Bytes H, W, C.
    Bytes,
    /// Bytes C, H, W.
    Planes,
    /// Bytes W, H of one channel: column after column.
    Columns,
    /// `f32` H, W, C from 0 to 1, kept in 256 steps.
    Floats { big_endian: bool },
}

impl Form {
    /// The bytes of a number.
    pub(crate) fn size(self) -> usize {
        if matches!(self, Self::Floats { .. }) { 4 } else { 1 }
    }

    /// The bytes H, W, C of what a file holds; both lengths fit. A number out of range is an error with its place.
    pub(crate) fn convert(
        self,
        raw: &[u8],
        [height, width, channels]: [usize; 3],
        out: &mut [u8],
    ) -> std::result::Result<(), (usize, f32)> {
        match self {
            Self::Bytes => out.copy_from_slice(raw),
            Self::Planes => {
                for (k, plane) in raw.chunks_exact(raw.len() / channels).enumerate() {
                    out[k..].iter_mut().step_by(channels).zip(plane).for_each(|(to, &v)| *to = v);
                }
            }
            Self::Columns => {
                for (i, to) in out.iter_mut().enumerate().take(height * width) {
                    *to = raw[i % width * height + i / width];
                }
            }
            Self::Floats { big_endian } => {
                for (i, (to, &word)) in out.iter_mut().zip(raw.as_chunks::<4>().0).enumerate() {
                    let v = if big_endian { f32::from_be_bytes(word) } else { f32::from_le_bytes(word) };
                    if !(0.0..=1.0).contains(&v) {
                        return Err((i, v));
                    }
                    *to = libm::roundf(v * 255.0) as u8;
                }
            }
        }
        Ok(())
    }
}

/// A file of images.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) path: PathBuf,
    /// The name of the place in errors: the path, and the array in it.
    pub(crate) place: String,
    /// Where the first image begins.
    pub(crate) start: u64,
    /// Bytes from the beginning of an image to that of the next.
    pub(crate) stride: u64,
    pub(crate) count: usize,
}

/// The images of one or more files.
#[derive(Debug)]
pub(crate) struct Records {
    parts: Vec<Part>,
    shape: [usize; 3],
    form: Form,
}

impl Records {
    /// Images of `shape` whose size fits in memory as numbers do.
    ///
    /// # Errors
    /// A file cannot hold its images, or one of them takes more than [`Budget::IMAGE`].
    pub(crate) fn new(parts: Vec<Part>, shape: [usize; 3], form: Form) -> Result<Self> {
        if let Some(part) = parts.first() {
            Budget::IMAGE.clone().claim(&format!("{}: an image", part.place), &shape, form.size())?;
        }
        let records = Self { parts, shape, form };
        for part in &records.parts {
            let io = |source| DataError::Io { place: part.place.clone(), source };
            let found = part.path.metadata().map_err(io)?.len();
            let last = (part.count as u128).saturating_sub(1) * u128::from(part.stride);
            let expected = u128::from(part.start) + last + records.raw() as u128;
            if u128::from(found) < expected {
                return Err(DataError::Truncated { place: part.place.clone(), found, expected });
            }
        }
        Ok(records)
    }

    /// The bytes of an image in a file.
    fn raw(&self) -> usize {
        self.len().saturating_mul(self.form.size())
    }

    /// The bytes of an image.
    fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// A data set of these images, in memory if they take no more than `in_memory` bytes.
    pub(crate) fn dataset(self, name: String, classes: usize, labels: Vec<u16>, in_memory: u64) -> Result<Dataset> {
        let samples = self.samples(&name, in_memory)?;
        Dataset::labelled(name, samples, classes, labels)
    }

    /// These images, in memory if they take no more than `in_memory` bytes; `name` is that of the data set.
    pub(crate) fn samples(self, name: &str, in_memory: u64) -> Result<Samples> {
        let (shape, len) = (self.shape, self.len());
        let count: usize = self.parts.iter().map(|part| part.count).sum();
        if (count as u64).saturating_mul(len as u64) > in_memory {
            return Samples::streamed(name, std::sync::Arc::new(self), count);
        }
        let mut images = vec![0; count * len];
        let mut rest = images.as_mut_slice();
        for part in &self.parts {
            let here;
            (here, rest) = rest.split_at_mut(part.count * len);
            self.read_from(part, 0, here)?;
        }
        Samples::images(name, shape, images)
    }

    /// Fills `out` with images of a file from number `first` on.
    fn read_from(&self, part: &Part, first: u64, out: &mut [u8]) -> Result<()> {
        let io = |source| DataError::Io { place: part.place.clone(), source };
        let mut file = input_file::open(&part.path).map_err(io)?;
        file.seek(SeekFrom::Start(part.start + first * part.stride)).map_err(io)?;
        // Of one image nothing is read that is not wanted.
        let mut file = BufReader::with_capacity(if out.len() > self.len() { 1 << 16 } else { 0 }, file);
        let mut raw = Buffer::<u8>::take(self.raw());
        for (i, out) in out.chunks_exact_mut(self.len()).enumerate() {
            if i > 0 {
                file.seek_relative((part.stride - raw.len() as u64) as i64).map_err(io)?;
            }
            file.read_exact(&mut raw).map_err(io)?;
            self.form.convert(&raw, self.shape, out).map_err(|(at, v)| out_of_range(&part.place, at, v))?;
        }
        Ok(())
    }
}

impl OnDemand for Records {
    fn shape(&self) -> [usize; 3] {
        self.shape
    }

    fn read(&self, mut index: usize, out: &mut [u8]) -> Result<()> {
        for part in &self.parts {
            if index < part.count {
                return self.read_from(part, index as u64, out);
            }
            index -= part.count;
        }
        unreachable!("an image of another set")
    }
}

pub(crate) fn out_of_range(place: &str, at: usize, found: f32) -> DataError {
    let (place, found) = (place.into(), format!("{found} at {at}"));
    DataError::Unexpected { place, expected: "f4 from 0 to 1".into(), found }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two files of images 1x2x2 with three bytes between them, the first behind a head of five.
    fn records(dir: &std::path::Path) -> Result<Records> {
        let images = |from: u8| [[from, 1, 2, 3].as_slice(), &[99; 3], &[from + 1, 5, 6, 7]].concat();
        std::fs::write(dir.join("a"), [vec![0; 5], images(10)].concat()).unwrap();
        std::fs::write(dir.join("b"), images(20)).unwrap();
        let part = |name: &str, start| Part { path: dir.join(name), place: name.into(), start, stride: 7, count: 2 };
        Records::new(vec![part("a", 5), part("b", 0)], [1, 2, 2], Form::Planes)
    }

    #[test]
    fn an_image_beyond_its_budget_is_refused() {
        let part = Part { path: "none".into(), place: "none".into(), start: 0, stride: 1, count: 1 };
        let e = Records::new(vec![part], [1 << 14, 1 << 14, 3], Form::Bytes).unwrap_err().to_string();
        assert!(e.starts_with("none: an image: [16384, 16384, 3] of 1 bytes each claims 805306368 bytes"), "{e}");
    }

    #[test]
    fn in_memory_or_not_the_images_are_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let set = |limit| records(dir.path()).unwrap().dataset("d".into(), 2, vec![0, 1, 0, 1], limit).unwrap();
        let (memory, streamed) = (set(16), set(15));
        assert!(!memory.is_streamed() && streamed.is_streamed());
        for (i, expected) in [[10, 2, 1, 3], [11, 6, 5, 7], [20, 2, 1, 3], [21, 6, 5, 7]].into_iter().enumerate() {
            assert_eq!((&*memory.image(i).unwrap(), &*streamed.image(i).unwrap()), (&expected[..], &expected[..]));
        }
        assert_eq!(memory.moments(), streamed.moments());
        let last = streamed.select("last".into(), &[3, 0]).unwrap();
        assert_eq!((last.labels(), last.image(0).unwrap()[0], last.image(1).unwrap()[0]), (&[1, 0][..], 21, 10));
        // The same images in another order are others, in memory or not; as before they are the same.
        let fingerprints = [&memory, &streamed].map(|set| {
            let order = |order: &[usize]| set.select("d".into(), order).unwrap().fingerprint();
            assert_eq!(set.labels()[0], set.labels()[2]);
            assert_ne!(order(&[2, 1, 0, 3]), set.fingerprint());
            assert_eq!(order(&[0, 1, 2, 3]), set.fingerprint());
            set.fingerprint()
        });
        assert_ne!(fingerprints[0], fingerprints[1]);
        std::fs::write(dir.path().join("b"), [1; 6]).unwrap();
        assert!(streamed.image(3).unwrap_err().to_string().starts_with("b: "));
    }

    #[test]
    fn a_file_that_is_too_short_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut good = records(dir.path()).unwrap();
        good.parts[1].count = 3;
        let e = Records::new(good.parts, good.shape, good.form).unwrap_err().to_string();
        assert_eq!(e, "b: truncated: expected 18 bytes, found 11");
    }
}
