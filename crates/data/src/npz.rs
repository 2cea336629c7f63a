//! NumPy arrays `x_train`, `y_train`, `x_test` and `y_test`: in one `.npz` file, as `np.savez` and `np.savez_compressed`
//! write it, or as four `.npy` files in a folder.
//!
//! The zip crate opens the archive.

use crate::error::unexpected;
use crate::first_bytes::first_bytes;
use crate::listed::listed;
use crate::npz_array::{Array, Inputs, Lies, Taken};
use crate::source::{Reader, Request, SourceKind};
use crate::{
    DataDescription, DataError, Dataset, Numbers, Result, Split, npz_names,
    samples::{IN_MEMORY, Samples},
    targets::check_labels,
};
use fixnet_files::input_file;
use std::{
    io::{BufReader, Read, Seek},
    path::Path,
};
use zip::{CompressionMethod, ZipArchive};

/// The row of the registry.
pub(crate) const KIND: SourceKind =
    SourceKind::new("npz:PATH", "a NumPy archive with x_train, y_train, x_test and y_test", &Npz);

#[derive(Debug)]
struct Npz;

impl Reader for Npz {
    fn labelled(&self, request: &Request<'_>) -> Result<Split> {
        npz(request.path())
    }

    fn labelled_test(&self, request: &Request<'_>, network: &DataDescription) -> Result<Dataset> {
        npz_test(request.path(), network.classes)
    }

    fn numbers(&self, request: &Request<'_>) -> Result<Split<Numbers>> {
        npz_numbers(request.path())
    }

    fn numbers_test(&self, request: &Request<'_>) -> Result<Dataset<Numbers>> {
        npz_numbers_test(request.path())
    }
}

/// Reads images `x_train` and `x_test` `[N, H, W]` or `[N, H, W, C]`, `u8` or `f32` from 0 to 1 (kept in 256 steps), or rows
/// `[N, F]` of `f32` or `f64` (kept as `f32`), and labels `y_train` and `y_test` `[N]` or `[N, 1]` of any integer type, from an
/// `.npz` file or a folder of `.npy` files. There are as many classes as the largest training label says, or as an
/// array of text `class_names` `[K]` names, if there is one. Images of
/// more than 512 MiB are streamed; they must not be compressed.
///
/// # Errors
/// The file is no zip archive, an array is missing, damaged, of another type or shape, or holds numbers out of range; counts
/// of images and labels disagree; training and test images differ in shape.
pub fn npz(path: &Path) -> Result<Split> {
    read(path, IN_MEMORY)
}

/// As [`npz`], with numbers of any type, all of them finite, in place of labels.
///
/// # Errors
/// As there.
pub fn npz_numbers(path: &Path) -> Result<Split<Numbers>> {
    opened(path, Taken::ImagesOrRows, |mut arrays| {
        let train = arrays.numbers_half("train", IN_MEMORY)?;
        Split::new(train, arrays.numbers_half("test", IN_MEMORY)?)
    })
}

/// The test part of [`npz_numbers`] alone.
pub(crate) fn npz_numbers_test(path: &Path) -> Result<Dataset<Numbers>> {
    opened(path, Taken::ImagesOrRows, |mut arrays| arrays.numbers_half("test", IN_MEMORY))
}

/// The test images alone, for a network of so many classes.
pub(crate) fn npz_test(path: &Path, classes: usize) -> Result<Dataset> {
    opened(path, Taken::ImagesOrRows, |mut arrays| arrays.half("test", IN_MEMORY, Some(classes)))
}

/// How an archive begins, and how an array does.
const ARCHIVE: &[u8] = b"PK\x03\x04";
const ARRAY: &[u8] = b"\x93NUMPY";

/// Whether a file that starts so is an archive of arrays or an array.
pub(crate) fn is_array(start: &[u8]) -> bool {
    start.starts_with(ARCHIVE) || start.starts_with(ARRAY)
}

/// Reads samples without targets: those of the array `x` or `x_test`, or of the only array, of an `.npz` file, or those of an
/// `.npy` file.
pub(crate) fn npz_samples(path: &Path, taken: Taken) -> Result<Samples> {
    if first_bytes(path, ARRAY.len() as u64)?.starts_with(ARRAY) {
        let place = path.display().to_string();
        let file = input_file::open(path).map_err(|source| DataError::Io { place: place.clone(), source })?;
        let mut from = BufReader::new(file);
        let (_, inputs) =
            Array::read(&place, &mut from)?.inputs(taken, &mut from, Some((path.into(), 0)), IN_MEMORY)?;
        return inputs.samples(&place, IN_MEMORY);
    }
    opened(path, taken, |arrays| {
        let is = |name: &str| arrays.has(name);
        let name = match &arrays.names[..] {
            _ if is("x") => "x",
            _ if is("x_test") => "x_test",
            [only] => only,
            all => {
                let (place, expected) = (arrays.place, "an array x or x_test, or only one array".into());
                return Err(DataError::Missing { place, expected, found: listed(all) });
            }
        };
        let (place, mut inputs) = (format!("{}: {name}", arrays.place), None);
        (arrays.open)(&format!("{name}.npy"), &mut |from, lies| {
            inputs = Some(Array::read(&place, from)?.inputs(taken, from, lies, IN_MEMORY)?.1);
            Ok(())
        })?;
        inputs.ok_or_else(|| DataError::Empty { place: place.clone() })?.samples(&place, IN_MEMORY)
    })
}

fn read(path: &Path, in_memory: u64) -> Result<Split> {
    opened(path, Taken::ImagesOrRows, |arrays| arrays.split(in_memory))
}

/// Opens the file or folder and hands its arrays on.
pub(crate) fn opened<T>(path: &Path, taken: Taken, then: impl FnOnce(Arrays<'_>) -> Result<T>) -> Result<T> {
    let open = |path: &Path| {
        input_file::open(path).map_err(|source| DataError::Io { place: path.display().to_string(), source })
    };
    if path.is_dir() {
        let names = [NAMES].into_iter().filter(|_| path.join(NAMES_FILE).is_file()).map(String::from).collect();
        let mut open = |name: &str, take: &mut Take<'_>| {
            let array = path.join(name);
            if !array.exists() {
                return Err(DataError::missing(path, &format!("a file {name}")));
            }
            let (path, file) = (array.clone(), open(&array)?);
            take(&mut BufReader::new(file), Some((path, 0)))
        };
        return then(Arrays { place: path.display().to_string(), names, taken, open: &mut open });
    }
    archive(path, taken, BufReader::new(open(path)?), then)
}

pub(crate) fn archive<T>(
    path: &Path,
    taken: Taken,
    from: impl Read + Seek,
    then: impl FnOnce(Arrays<'_>) -> Result<T>,
) -> Result<T> {
    let place = path.display().to_string();
    let mut zip = ZipArchive::new(from)
        .map_err(|e| unexpected(&place, "a zip archive of NumPy arrays", format!("another or a damaged file ({e})")))?;
    let mut names: Vec<String> = zip.file_names().flatten().map(|name| name.trim_end_matches(".npy").into()).collect();
    names.sort();
    let known = names.clone();
    let mut open = |name: &str, take: &mut Take<'_>| {
        if zip.index_for_name(name).is_none() {
            let expected = format!("an array {}", name.trim_end_matches(".npy"));
            return Err(DataError::Missing { place: place.clone(), expected, found: listed(&known) });
        }
        let wrong = |e| unexpected(&place, format!("an array {name}"), format!("a damaged one ({e})"));
        let mut file = zip.by_name(name).map_err(wrong)?;
        let stored = file.compression() == CompressionMethod::Stored && !file.encrypted();
        let start = file.data_start().filter(|_| stored);
        take(&mut file, start.map(|start| (path.to_path_buf(), start)))
    };
    then(Arrays { place: place.clone(), names, taken, open: &mut open })
}

/// What is done with the bytes of an array.
type Take<'a> = dyn FnMut(&mut dyn Read, Lies) -> Result<()> + 'a;

/// The name of the array of class names, and of its file.
const NAMES: &str = "class_names";
const NAMES_FILE: &str = "class_names.npy";

/// The arrays of an archive or a folder.
pub(crate) struct Arrays<'a> {
    place: String,
    /// What the arrays are called; of a folder, whether class names are among them.
    names: Vec<String>,
    /// What arrays of samples are taken for.
    taken: Taken,
    /// Opens an array by the name of its file.
    open: &'a mut dyn FnMut(&str, &mut Take<'_>) -> Result<()>,
}

impl Arrays<'_> {
    /// Whether there is an array of this name: of an archive.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.iter().any(|own| own == name)
    }

    pub(crate) fn split(mut self, in_memory: u64) -> Result<Split> {
        let train = self.half("train", in_memory, None)?;
        let test = self.half("test", in_memory, Some(train.classes()))?;
        Split::new(train, test)
    }

    /// The names of the classes, if they are there.
    fn class_names(&mut self) -> Result<Option<Vec<String>>> {
        let (place, mut names) = (format!("{}: {NAMES}", self.place), None);
        if self.has(NAMES) {
            (self.open)(NAMES_FILE, &mut |from, _| {
                names = Some(npz_names::read(&place, from)?);
                Ok(())
            })?;
        }
        Ok(names)
    }

    /// The samples `train` or `test`, and their targets, which `read` reads from their array: how many samples there are, the
    /// samples, the targets and the places of both.
    fn parts<V>(
        &mut self,
        name: &str,
        in_memory: u64,
        read: impl Fn(Array, &mut dyn Read) -> Result<Vec<V>>,
    ) -> Result<(Inputs, Vec<V>, [String; 2])> {
        let (place, taken) = (&self.place, self.taken);
        let [x, y] = ["x", "y"].map(|kind| (format!("{kind}_{name}.npy"), format!("{place}: {kind}_{name}")));
        let (mut inputs, mut targets) = (None, Vec::new());
        (self.open)(&x.0, &mut |from, lies| {
            inputs = Some(Array::read(&x.1, from)?.inputs(taken, from, lies, in_memory)?);
            Ok(())
        })?;
        (self.open)(&y.0, &mut |from, _| {
            targets = read(Array::read(&y.1, from)?, from)?;
            Ok(())
        })?;
        let Some((count, inputs)) = inputs else { return Err(DataError::Empty { place: x.1 }) };
        if targets.len() != count {
            return Err(DataError::Counts { images_in: x.1, images: count, labels_in: y.1, labels: targets.len() });
        }
        Ok((inputs, targets, [x.1, y.1]))
    }

    /// The samples `train` or `test` with classes: as many as there are names, as `classes` says, or as there are labels.
    pub(crate) fn half(&mut self, name: &str, in_memory: u64, classes: Option<usize>) -> Result<Dataset> {
        let (inputs, labels, [x, y]) = self.parts(name, in_memory, |array, from| array.labels(from))?;
        let most = usize::from(labels.iter().copied().max().unwrap_or(0)) + 1;
        let names = self.class_names()?;
        if let (None, Some(known), true) = (&names, classes, classes.is_some_and(|known| most > known)) {
            let expected =
                format!("labels from 0 to {}, as in training (or names of all classes in {NAMES})", known - 1);
            return Err(DataError::Unexpected { place: y, expected, found: (most - 1).to_string() });
        }
        let classes = names.as_ref().map(Vec::len).or(classes).unwrap_or(most);
        check_labels(&y, &labels, classes)?;
        let data = Dataset::labelled(x.clone(), inputs.samples(&x, in_memory)?, classes, labels)?;
        match names {
            Some(names) => data.with_class_names(names),
            None => Ok(data),
        }
    }

    /// The samples `train` or `test` with numbers.
    pub(crate) fn numbers_half(&mut self, name: &str, in_memory: u64) -> Result<Dataset<Numbers>> {
        let (inputs, values, [x, y]) = self.parts(name, in_memory, |array, from| array.numbers(from))?;
        let targets = Numbers::new(&y, None, values)?;
        Dataset::of(x.clone(), inputs.samples(&x, in_memory)?, targets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixnet_fuzz as fuzz;
    use proptest::prelude::*;
    use std::io::{Cursor, Write};
    use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

    fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    type Entry = (&'static str, Vec<u8>);

    /// Two training images of 1x2 and one test image, with `change` put in.
    fn arrays(change: Option<Entry>) -> [Entry; 4] {
        let mut entries: [Entry; 4] = [
            ("x_train", npy("|u1", "(2, 1, 2)", &[1, 2, 3, 4])),
            ("y_train", npy("<i8", "(2,)", &[[2, 0, 0, 0, 0, 0, 0, 0], [0; 8]].concat())),
            ("x_test", npy("|u1", "(1, 1, 2)", &[5, 6])),
            ("y_test", npy("|u1", "(1, 1)", &[1])),
        ];
        if let Some((name, bytes)) = change {
            entries.iter_mut().filter(|e| e.0 == name).for_each(|e| e.1.clone_from(&bytes));
        }
        entries
    }

    fn zipped(change: Option<Entry>, method: CompressionMethod) -> Vec<u8> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in &arrays(change) {
            zip.start_file(format!("{name}.npy"), SimpleFileOptions::default().compression_method(method)).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    fn load(file: impl AsRef<[u8]>) -> Result<Split> {
        fuzz::within(fuzz::MOST, || {
            archive(Path::new("f"), Taken::ImagesOrRows, Cursor::new(file), |arrays| arrays.split(IN_MEMORY))
        })
    }

    fn with(name: &'static str, bytes: Vec<u8>) -> std::result::Result<Split, String> {
        load(zipped(Some((name, bytes)), CompressionMethod::Deflated)).map_err(|e| e.to_string())
    }

    #[test]
    fn stored_and_deflated_arrays_and_folders_are_read() {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in arrays(None) {
            std::fs::write(dir.path().join(format!("{name}.npy")), bytes).unwrap();
        }
        for split in [
            load(zipped(None, CompressionMethod::Stored)).unwrap(),
            load(zipped(None, CompressionMethod::Deflated)).unwrap(),
            npz(dir.path()).unwrap(),
        ] {
            assert_eq!((split.train.shape(), split.train.classes()), (&[1, 2, 1][..], 3));
            assert_eq!((split.train.labels(), split.test.labels()), (&[2, 0][..], &[1][..]));
            assert_eq!(*split.train.image(1).unwrap(), [3, 4]);
        }
        // With names there are as many classes as these, in a part alone too.
        std::fs::write(dir.path().join("class_names.npy"), npy("|S3", "(4,)", b"antbeecatdog")).unwrap();
        let split = npz(dir.path()).unwrap();
        assert_eq!(
            (split.train.classes(), &split.test.class_names()[..]),
            (4, &["ant", "bee", "cat", "dog"].map(String::from)[..])
        );
        assert_eq!(npz_test(dir.path(), 3).unwrap(), split.test);
        std::fs::write(dir.path().join("class_names.npy"), npy("|S3", "(2,)", b"antbee")).unwrap();
        assert!(npz(dir.path()).unwrap_err().to_string().ends_with("y_train: label 0: expected 0..=1, found 2"));
        std::fs::write(dir.path().join("class_names.npy"), npy("|S3", "(3,)", b"antbeeant")).unwrap();
        assert!(npz(dir.path()).unwrap_err().to_string().contains("`ant` for classes 0 and 2"));
        std::fs::remove_file(dir.path().join("class_names.npy")).unwrap();
        assert_eq!(npz_test(dir.path(), 3).unwrap().class_names()[..], ["0", "1", "2"]);
        std::fs::remove_file(dir.path().join("y_test.npy")).unwrap();
        assert!(npz(dir.path()).unwrap_err().to_string().contains("expected a file y_test.npy"));
    }

    #[test]
    fn long_arrays_are_streamed_unless_they_are_compressed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.npz");
        let read = |change: Option<Entry>, method, in_memory| {
            std::fs::write(&path, zipped(change, method)).unwrap();
            super::read(&path, in_memory).map_err(|e| e.to_string().replace(&path.display().to_string(), "f"))
        };
        let floats = || ("x_train", npy("<f4", "(2, 1, 2)", &[0.0, 0.2, 0.4, 1.0f32].map(f32::to_le_bytes).concat()));
        for change in [None, Some(floats())] {
            let memory = read(change.clone(), CompressionMethod::Stored, 4).unwrap();
            let streamed = read(change.clone(), CompressionMethod::Stored, 3).unwrap();
            assert!(streamed.train.is_streamed() && !streamed.test.is_streamed() && !memory.train.is_streamed());
            assert!((0..2).all(|i| streamed.train.image(i).unwrap() == memory.train.image(i).unwrap()));
            let e = read(change, CompressionMethod::Deflated, 3).unwrap_err();
            assert!(e.contains("x_train: [") && e.contains("expected at most 3 (of 3 in all); plain files"), "{e}");
        }
        let streamed = |name, bytes| read(Some((name, bytes)), CompressionMethod::Stored, 3).unwrap_err();
        let e = streamed("x_train", npy("<f4", "(1, 2, 2)", &[0.0, 0.5, 1.5, 0.0f32].map(f32::to_le_bytes).concat()));
        assert_eq!(e, "f: x_train: expected f4 from 0 to 1, found 1.5 at 2");
        let e = streamed("x_train", npy("|u1", "(2, 1, 2)", &[0; 5]));
        assert_eq!(e, "f: x_train: expected 4 bytes of numbers [2, 1, 2], found more");
        let e = streamed("x_train", npy("|u1", "(20, 1, 2)", &[0; 9]));
        assert!(e.starts_with("f: x_train: expected a whole array"), "{e}");
        let e = streamed("x_train", npy("|u1", "(9999999, 1, 2)", &[0; 9]));
        assert!(e.starts_with("f: x_train: truncated"), "{e}");
        let e = streamed("x_train", npy("|u1", "(1, 9999999999999, 9999999999999)", &[0; 9]));
        assert!(e.ends_with("found fewer"), "{e}");
        // The check sum of the archive counts too.
        let mut file = zipped(None, CompressionMethod::Stored);
        let at = file.windows(4).position(|w| w == [1, 2, 3, 4]).unwrap();
        file[at] = 9;
        std::fs::write(&path, file).unwrap();
        assert!(super::read(&path, 3).unwrap_err().to_string().contains("a damaged one"));
    }

    #[test]
    fn floats_channels_and_byte_orders() {
        let floats = |to: fn(f32) -> [u8; 4]| [0.0, 0.5, 1.0, 51.0 / 255.0].map(to).concat();
        for (descr, data) in [("<f4", floats(f32::to_le_bytes)), (">f4", floats(f32::to_be_bytes))] {
            let split = with("x_train", npy(descr, "(2, 1, 2, 1)", &data)).unwrap();
            assert_eq!([&*split.train.image(0).unwrap(), &*split.train.image(1).unwrap()].concat(), [0, 128, 255, 51]);
        }
        let split = with("y_train", npy(">i2", "(2,)", &[0, 7, 1, 0])).unwrap();
        assert_eq!((split.train.labels(), split.train.classes()), (&[7, 256][..], 257));
    }

    #[test]
    fn rows_have_classes_or_numbers() {
        let doubles = |to: fn(f64) -> [u8; 8]| [1.0, 2.0, -0.5, 4.0].map(to).concat();
        let floats = [1.0f32, 2.0, -0.5, 4.0].map(f32::to_le_bytes).concat();
        let rows = [("<f4", floats), ("<f8", doubles(f64::to_le_bytes)), (">f8", doubles(f64::to_be_bytes))];
        let test = npy("<f4", "(1, 2)", &[7.0f32, 8.0].map(f32::to_le_bytes).concat());
        for (descr, data) in rows {
            let dir = tempfile::tempdir().unwrap();
            for (name, bytes) in arrays(Some(("x_train", npy(descr, "(2, 2)", &data)))) {
                let bytes = if name == "x_test" { test.clone() } else { bytes };
                std::fs::write(dir.path().join(format!("{name}.npy")), bytes).unwrap();
            }
            let split = npz(dir.path()).unwrap();
            assert_eq!((split.train.shape(), split.train.labels()), (&[2][..], &[2, 0][..]));
            assert_eq!((split.train.row(1).unwrap(), split.test.row(0).unwrap()), (&[-0.5, 4.0][..], &[7.0, 8.0][..]));
            // Whole numbers are numbers too.
            assert_eq!(npz_numbers(dir.path()).unwrap().train.targets().values(), [2.0, 0.0]);
            let y = npy("<f8", "(2, 1)", &[0.25, -1e9].map(f64::to_le_bytes).concat());
            std::fs::write(dir.path().join("y_train.npy"), y).unwrap();
            assert_eq!(npz_numbers(dir.path()).unwrap().train.targets().values(), [0.25, -1e9]);
            assert_eq!(npz_numbers_test(dir.path()).unwrap().len(), 1);
            assert!(npz(dir.path()).unwrap_err().to_string().contains("labels of an integer type, found f8"));
            let y = npy("<f8", "(2,)", &[0.25, f64::NAN].map(f64::to_le_bytes).concat());
            std::fs::write(dir.path().join("y_train.npy"), y).unwrap();
            let e = npz_numbers(dir.path()).unwrap_err().to_string();
            assert!(e.ends_with("y_train: target 1: expected a finite number in the range of f32, found NaN"), "{e}");
        }
        let rows = |descr: &str, data: &[u8]| with("x_train", npy(descr, "(2, 2)", data)).unwrap_err();
        let e = rows("<f8", &[1.0, 1e300, 0.0, 0.0].map(f64::to_le_bytes).concat());
        assert!(
            e.starts_with("f: x_train: expected finite numbers in the range of f32, found 1")
                && e.ends_with("in row 0, column 1"),
            "{e}"
        );
        assert!(rows("<i4", &[0; 16]).ends_with("expected rows [N, F] as f4 or f8, found i4"));
        assert!(rows("<f2", &[0; 8]).ends_with("expected floats as f4 or f8, found f2"));
        assert!(rows("<f4", &[0; 15]).ends_with("expected 16 bytes of numbers [2, 2], found 15"));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (name, bytes, words) in [
            (
                "x_train",
                npy("<f4", "(1, 1, 1)", &2f32.to_le_bytes()),
                "f: x_train: expected f4 from 0 to 1, found 2 at 0",
            ),
            ("x_train", npy("<f4", "(1, 1, 1)", &f32::NAN.to_le_bytes()), "found NaN at 0"),
            ("x_train", npy("<f8", "(1, 1, 1)", &[0; 8]), "expected images as u1 or f4, found f8"),
            ("x_train", npy("<U1", "(1, 1, 1)", &[0; 4]), "expected numbers u1 to u8"),
            ("x_train", npy("|u1", "(2, 2)", &[0; 4]), "[N, H, W, C], found [2, 2]"),
            ("x_train", npy("|u1", "(2, 1, 2)", &[0; 3]), "expected 4 bytes of numbers [2, 1, 2], found 3"),
            ("x_train", npy("|u1", "(2, 1, 2)", &[0; 5]), "expected 4 bytes of numbers [2, 1, 2], found more"),
            ("x_train", npy("|u1", "(0, 1, 2)", &[]), "at least one image"),
            (
                "x_train",
                npy("|u1", "(99999, 9999, 9999)", &[0; 5]),
                "bytes of memory, expected at most 536870912 (of 536870912 in all); plain files",
            ),
            (
                "y_train",
                npy("|u1", "(99999999999,)", &[0; 5]),
                "claims 99999999999 bytes of memory, expected at most 536870912",
            ),
            ("x_train", npy("|u1", "(-1, 1, 2)", &[0; 5]), "expected 'shape': (…)"),
            (
                "x_train",
                b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(),
                "a header of at most 65536 bytes, found 4294967295",
            ),
            ("x_train", b"GIF89a and more".to_vec(), "f: x_train: expected a NumPy array of format 1 to 3"),
            ("x_train", b"GIF".to_vec(), "f: x_train: expected a whole array"),
            ("y_train", npy("|i1", "(2,)", &[1, 255]), "f: y_train: expected labels from 0 to 65534, found -1 at 1"),
            ("y_train", npy("<u8", "(1,)", &[255; 8]), "found 18446744073709551615 at 0"),
            ("y_train", npy("<f4", "(1,)", &[0; 4]), "expected labels of an integer type, found f4"),
            (
                "y_train",
                npy("|u1", "(3,)", &[0; 3]),
                "f: y_train: expected 2 labels, one for each image in f: x_train, found 3",
            ),
            ("y_train", npy("|u1", "(1, 2)", &[0; 2]), "expected labels [N] or [N, 1], found [1, 2]"),
            (
                "y_test",
                npy("|u1", "(1,)", &[3]),
                "f: y_test: expected labels from 0 to 2, as in training (or names of all classes in class_names), found 3",
            ),
            (
                "x_test",
                npy("|u1", "(1, 2, 1)", &[0; 2]),
                "f: x_test: expected test data of [1, 2, 1] and 3 classes, as in training",
            ),
        ] {
            let e = with(name, bytes).unwrap_err();
            assert!(e.contains(words), "{e}\n{words}");
        }
        let mut fortran = npy("|u1", "(2, 1, 2)", &[0; 4]);
        let at = fortran.windows(5).position(|w| w == b"False").unwrap();
        fortran.splice(at..at + 5, *b"True ");
        assert!(with("x_train", fortran).unwrap_err().contains("expected 'fortran_order': False"));
        assert!(npz(Path::new("no-such.npz")).unwrap_err().to_string().starts_with("no-such.npz: "));
    }

    #[test]
    fn every_truncation_is_an_error() {
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            let whole = zipped(None, method);
            for len in 0..whole.len() {
                assert!(load(&whole[..len]).is_err(), "{len} of {}", whole.len());
            }
        }
    }

    #[test]
    fn missing_arrays_are_named_with_what_is_there() {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for name in ["labels", "images"] {
            zip.start_file(format!("{name}.npy"), SimpleFileOptions::default()).unwrap();
            zip.write_all(&npy("|u1", "(1, 1, 1)", &[0])).unwrap();
        }
        let e = load(zip.finish().unwrap().into_inner()).unwrap_err().to_string();
        assert_eq!(e, "f: expected an array x_train, found none of that name; there are images, labels");
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in &arrays(None)[..3] {
            std::fs::write(dir.path().join(format!("{name}.npy")), bytes).unwrap();
        }
        let e = npz(dir.path()).unwrap_err().to_string();
        let words =
            "expected a file y_test.npy, found none of that name; there are x_test.npy, x_train.npy, y_train.npy";
        assert!(e.ends_with(words), "{e}");
    }

    #[test]
    fn images_with_channels_first_are_refused() {
        let shape = |n: usize, shape: [usize; 3]| {
            let data = vec![0; n * shape.iter().product::<usize>()];
            with("x_train", npy("|u1", &format!("({n}, {}, {}, {})", shape[0], shape[1], shape[2]), &data))
        };
        for [h, w, c] in [[3, 32, 32], [1, 28, 28], [4, 16, 20], [1, 128, 9], [3, 5, 5]] {
            let e = shape(2, [h, w, c]).unwrap_err();
            let found = format!("found [2, {h}, {w}, {c}], which would be {c} channels of {h}x{w} pixels");
            assert!(e.starts_with("f: x_train: expected images [N, H, W, C]") && e.ends_with(&found), "{e}");
            assert!(e.contains(&format!("{h} channels of {w}x{c} pixels, store x.transpose(0, 2, 3, 1)")), "{e}");
        }
        // What may be meant as it is: usual channels, patches, single pixels. These differ from the test images in shape alone.
        for like in
            [[32, 32, 3], [3, 32, 3], [3, 32, 1], [4, 32, 4], [3, 3, 200], [1, 1, 784], [128, 1, 9], [1, 128, 2]]
        {
            let e = shape(2, like).unwrap_err();
            assert!(e.contains("expected test data of") && e.contains(&format!("{like:?}")), "{e}");
        }
    }

    proptest! {
        #![proptest_config(fuzz::config())]

        #[test]
        fn damaged_archives_never_panic(deflated: bool, streamed: bool, damage in fuzz::damage()) {
            let method = if deflated { CompressionMethod::Deflated } else { CompressionMethod::Stored };
            let file = fuzz::damaged(zipped(None, method), &damage);
            match streamed {
                true => {
                    let path = tempfile::NamedTempFile::new().unwrap();
                    std::fs::write(&path, &file).unwrap();
                    let _ = fuzz::within(fuzz::MOST, || super::read(path.path(), 0));
                }
                false => { let _ = load(&file); }
            }
        }

        #[test]
        fn archives_of_damaged_arrays_never_panic(which in 0usize..4, damage in fuzz::damage()) {
            let (name, array) = arrays(None)[which].clone();
            let _ = with(name, fuzz::damaged(array, &damage));
        }

        #[test]
        fn random_bytes_never_panic(
            file in fuzz::random(&[b"", b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x02\x00\x10\x00\x00\x00"]),
            images: bool,
        ) {
            let _ = load(&file);
            let mut from = &*file;
            fuzz::within(fuzz::MOST, || if let Ok(array) = Array::read("f", &mut from) {
                let _ = if images { array.inputs(Taken::ImagesOrRows, &mut from, None, 9).map(|_| ()) } else { array.labels(&mut from).map(|_| ()) };
            });
        }
    }
}
