//! CIFAR-10 and CIFAR-100 in their binary form: records of one or two label bytes and three 32x32 planes.

use crate::source::{Reader, Request, SourceKind};
use crate::{
    DataDescription, DataError, Dataset, Result, Split, cifar_names,
    records::{Form, Part, Records},
    samples::IN_MEMORY,
};
use fixnet_files::input_file;
use std::{
    io::{BufReader, Read},
    path::{Path, PathBuf},
};

/// The rows of the registry.
pub(crate) const CIFAR10: SourceKind =
    SourceKind::new("cifar10:PATH", "a folder with the binary batches of CIFAR-10", &Cifar10);
pub(crate) const CIFAR100: SourceKind =
    SourceKind::new("cifar100:PATH", "a folder with the binary files of CIFAR-100", &Cifar100);

#[derive(Debug)]
struct Cifar10;

impl Reader for Cifar10 {
    fn labelled(&self, request: &Request<'_>) -> Result<Split> {
        cifar10(request.path())
    }

    fn labelled_test(&self, request: &Request<'_>, _: &DataDescription) -> Result<Dataset> {
        cifar10_test(request.path())
    }
}

#[derive(Debug)]
struct Cifar100;

impl Reader for Cifar100 {
    fn labelled(&self, request: &Request<'_>) -> Result<Split> {
        cifar100(request.path())
    }

    fn labelled_test(&self, request: &Request<'_>, _: &DataDescription) -> Result<Dataset> {
        cifar100_part(request.path(), "test")
    }
}

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;

/// Reads CIFAR-10: every `data_batch_*.bin` of the folder in the order of their names, and `test_batch.bin`. More than 512
/// MiB are streamed. Classes have the names in `batches.meta.txt`, or those of CIFAR-10 where there is no such file.
///
/// # Errors
/// A file is missing, empty, no whole number of records (1 + 3072 bytes), or holds a label above 9; or there are not ten
/// names.
pub fn cifar10(folder: &Path) -> Result<Split> {
    let place = || folder.display().to_string();
    let io = |source| DataError::Io { place: place(), source };
    let mut batches = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|n| n.starts_with("data_batch_") && n.ends_with(".bin")) {
            batches.push(entry.path());
        }
    }
    if batches.is_empty() {
        return Err(DataError::missing(folder, "a file data_batch_*.bin"));
    }
    batches.sort();
    let train = read("cifar10 train", &batches, &[10], IN_MEMORY)?.with_class_names(cifar_names::cifar10(folder)?)?;
    Split::new(train, cifar10_test(folder)?)
}

/// The test images alone.
pub(crate) fn cifar10_test(folder: &Path) -> Result<Dataset> {
    let test = read("cifar10 test", &[existing(folder, "test_batch.bin")?], &[10], IN_MEMORY)?;
    test.with_class_names(cifar_names::cifar10(folder)?)
}

/// Reads CIFAR-100: `train.bin` and `test.bin`. The label of an image is its fine one of 100. Classes have the names in
/// `fine_label_names.txt`, or those of CIFAR-100 where there is no such file.
///
/// # Errors
/// A file is missing, empty, no whole number of records (2 + 3072 bytes), or holds a coarse label above 19 or a fine one
/// above 99; or there are not a hundred names.
pub fn cifar100(folder: &Path) -> Result<Split> {
    Split::new(cifar100_part(folder, "train")?, cifar100_part(folder, "test")?)
}

/// The images of one file of CIFAR-100, `train` or `test`.
pub(crate) fn cifar100_part(folder: &Path, part: &str) -> Result<Dataset> {
    let file = existing(folder, &format!("{part}.bin"))?;
    let data = read(&format!("cifar100 {part}"), &[file], &[20, 100], IN_MEMORY)?;
    data.with_class_names(cifar_names::cifar100(folder)?)
}

fn existing(folder: &Path, name: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    match path.exists() {
        true => Ok(path),
        false => Err(DataError::missing(folder, &format!("a file {name}"))),
    }
}

/// Reads files of records that begin with one label for each number of classes in `classes`; the last one counts.
fn read(name: &str, paths: &[PathBuf], classes: &[usize], in_memory: u64) -> Result<Dataset> {
    let (mut parts, mut labels) = (Vec::new(), Vec::new());
    for path in paths {
        let count = read_labels(path, classes, &mut labels)?;
        let (start, stride) = (classes.len() as u64, (classes.len() + 3 * PLANE) as u64);
        parts.push(Part { path: path.clone(), place: path.display().to_string(), start, stride, count });
    }
    let records = Records::new(parts, [SIDE, SIDE, 3], Form::Planes)?;
    records.dataset(name.into(), classes[classes.len() - 1], labels, in_memory)
}

/// Appends the last label of each record of a file; the number of records.
fn read_labels(path: &Path, classes: &[usize], labels: &mut Vec<u16>) -> Result<usize> {
    let place = || path.display().to_string();
    let io = |source| DataError::Io { place: place(), source };
    let file = input_file::open(path).map_err(io)?;
    let (len, record) = (file.metadata().map_err(io)?.len(), classes.len() + 3 * PLANE);
    if len == 0 {
        return Err(DataError::Empty { place: place() });
    }
    if !len.is_multiple_of(record as u64) {
        return Err(DataError::Records { place: place(), found: len as usize, record });
    }
    let (mut file, mut head, count) = (BufReader::new(file), [0; 2], (len / record as u64) as usize);
    let head = &mut head[..classes.len()];
    for index in 0..count {
        file.read_exact(head).map_err(io)?;
        for (&label, &classes) in head.iter().zip(classes) {
            let found = usize::from(label);
            if found >= classes {
                return Err(DataError::Label { place: place(), index, found, classes });
            }
        }
        labels.push(u16::from(head[head.len() - 1]));
        file.seek_relative(3 * PLANE as i64).map_err(io)?;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixnet_fuzz as fuzz;
    use proptest::prelude::*;
    use std::fs;

    /// A record whose planes are filled with 10, 20, 30, but for the second pixel: 11, 21, 31.
    fn record(labels: &[u8]) -> Vec<u8> {
        let mut bytes = labels.to_vec();
        for value in [10, 20, 30] {
            bytes.extend([value, value + 1]);
            bytes.extend([value; PLANE - 2]);
        }
        bytes
    }

    fn folder(files: &[(&str, Vec<u8>)], load: fn(&Path) -> Result<Split>) -> std::result::Result<Split, String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        load(dir.path()).map_err(|e| e.to_string().replace(&dir.path().display().to_string(), "DIR"))
    }

    #[test]
    fn planes_become_pixels_and_batches_come_in_order() {
        let files = [
            ("data_batch_3.bin", record(&[7])),
            ("data_batch_1.bin", [record(&[4]), record(&[5])].concat()),
            ("test_batch.bin", record(&[9])),
            ("batches.meta.txt", b"a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n".to_vec()),
        ];
        let split = folder(&files, cifar10).unwrap();
        assert_eq!((split.train.labels(), split.test.labels()), (&[4, 5, 7][..], &[9][..]));
        assert_eq!((split.train.shape(), split.train.classes()), (&[32, 32, 3][..], 10));
        assert_eq!(split.train.image(2).unwrap()[..9], [10, 20, 30, 11, 21, 31, 10, 20, 30]);
        assert_eq!((split.train.class_names()[9].as_str(), split.test.class_names()[0].as_str()), ("j", "a"));
    }

    #[test]
    fn long_files_are_streamed() {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["a", "b"].map(|name| dir.path().join(name));
        fs::write(&paths[0], [record(&[4]), record(&[5])].concat()).unwrap();
        let mut last = record(&[7]);
        last[1] = 99;
        fs::write(&paths[1], last).unwrap();
        let set = |in_memory| read("d", &paths, &[10], in_memory).unwrap();
        let (memory, streamed) = (set(3 * 3072), set(3 * 3072 - 1));
        assert!(streamed.is_streamed() && !memory.is_streamed());
        assert_eq!(
            (streamed.labels(), streamed.image(2).unwrap()[..4].to_vec()),
            (memory.labels(), vec![99, 20, 30, 11])
        );
        assert!((0..3).all(|i| streamed.image(i).unwrap() == memory.image(i).unwrap()));
    }

    #[test]
    fn cifar100_takes_the_fine_label() {
        let split = folder(&[("train.bin", record(&[19, 99])), ("test.bin", record(&[0, 42]))], cifar100).unwrap();
        assert_eq!((split.train.labels(), split.test.labels(), split.train.classes()), (&[99][..], &[42][..], 100));
        assert_eq!(split.test.image(0).unwrap()[..6], [10, 20, 30, 11, 21, 31]);
        assert_eq!(split.test.class_names()[42], "leopard");
        let coarse = folder(&[("train.bin", record(&[20, 1])), ("test.bin", record(&[0, 0]))], cifar100).unwrap_err();
        assert_eq!(coarse, "DIR/train.bin: label 0: expected 0..=19, found 20");
    }

    #[test]
    fn broken_files_are_described() {
        let good = || ("test_batch.bin", record(&[1]));
        let e = folder(&[("data_batch_1.bin", record(&[1])[1..].to_vec()), good()], cifar10).unwrap_err();
        assert_eq!(e, "DIR/data_batch_1.bin: expected a multiple of 3073 bytes (one record each), found 3072");
        let e = folder(&[("data_batch_1.bin", [record(&[1]), record(&[10])].concat()), good()], cifar10).unwrap_err();
        assert_eq!(e, "DIR/data_batch_1.bin: label 1: expected 0..=9, found 10");
        let e = folder(&[("data_batch_1.bin", vec![]), good()], cifar10).unwrap_err();
        assert_eq!(e, "DIR/data_batch_1.bin: expected at least one image of at least one pixel, found none");
        let e = folder(&[good()], cifar10).unwrap_err();
        assert_eq!(e, "DIR: expected a file data_batch_*.bin, found none of that name; there are test_batch.bin");
        let e = folder(&[("data_batch_1.bin", record(&[1]))], cifar10).unwrap_err();
        assert_eq!(e, "DIR: expected a file test_batch.bin, found none of that name; there are data_batch_1.bin");
        let names = ("batches.meta.txt", b"airplane".to_vec());
        let e = folder(&[("data_batch_1.bin", record(&[1])), good(), names], cifar10).unwrap_err();
        assert_eq!(e, "cifar10 train: expected 10 class names, one per class, found 1");
        assert!(cifar10(Path::new("no-such-folder")).unwrap_err().to_string().starts_with("no-such-folder: "));
    }

    proptest! {
        #![proptest_config(fuzz::config())]

        #[test]
        fn damaged_files_never_panic(
            records in 0usize..3, fine: bool, streamed: bool, damage in fuzz::damage(), restored: bool,
            noise in prop::option::of(fuzz::random(&[b""])),
        ) {
            let classes: &[usize] = if fine { &[20, 100] } else { &[10] };
            let mut file = record(&vec![1; classes.len()]).repeat(records);
            let len = file.len();
            file = fuzz::damaged(file, &damage);
            if restored {
                file.resize(len, 3); // whole records, so that more than the length is looked at
            }
            let path = tempfile::NamedTempFile::new().unwrap();
            fs::write(&path, noise.unwrap_or(file)).unwrap();
            let (paths, in_memory) = ([path.path().into()], if streamed { 0 } else { IN_MEMORY });
            if let Ok(set) = fuzz::within(fuzz::MOST, || read("d", &paths, classes, in_memory)) {
                prop_assert!((0..set.len()).all(|i| set.image(i).unwrap().len() == 3 * PLANE));
                prop_assert!(set.labels().iter().all(|&l| usize::from(l) < set.classes()));
            }
        }
    }
}
