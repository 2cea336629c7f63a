//! Sequences in a NumPy archive: `x_train`, `y_train`, `x_test` and `y_test`, where the samples are [N, T, C], T steps of C
//! channels; `x_val` and `y_val` are for validation, where they are there.

use crate::npz::{self, Arrays};
use crate::npz_array::Taken;
use crate::source::{Reader, Request, SourceKind};
use crate::{DataDescription, Dataset, Numbers, Result, Split, Targets, samples::IN_MEMORY};
use std::path::Path;

/// The row of the registry.
pub(crate) const KIND: SourceKind = SourceKind::new(
    "sequences:FILE",
    "a NumPy archive as of npz, whose x_train and x_test are sequences [N, T, C] of numbers",
    &Sequences,
);

#[derive(Debug)]
struct Sequences;

impl Reader for Sequences {
    fn labelled(&self, request: &Request<'_>) -> Result<Split> {
        sequences(request.path())
    }

    fn labelled_test(&self, request: &Request<'_>, network: &DataDescription) -> Result<Dataset> {
        npz::opened(request.path(), Taken::Sequences, |mut arrays| {
            arrays.half("test", IN_MEMORY, Some(network.classes))
        })
    }

    fn numbers(&self, request: &Request<'_>) -> Result<Split<Numbers>> {
        npz::opened(request.path(), Taken::Sequences, |arrays| {
            split(arrays, |arrays, part, _| arrays.numbers_half(part, IN_MEMORY))
        })
    }

    fn numbers_test(&self, request: &Request<'_>) -> Result<Dataset<Numbers>> {
        npz::opened(request.path(), Taken::Sequences, |mut arrays| arrays.numbers_half("test", IN_MEMORY))
    }
}

/// Reads sequences `x_train`, `x_test` and, where it is there, `x_val` `[N, T, C]` of `f32`, `f64` or `i16` (kept as `f32`), all
/// numbers finite, with labels as [`npz`](crate::npz) reads them. Normalization is one of each channel over all steps of the
/// training part.
///
/// # Errors
/// As [`npz`](crate::npz).
pub fn sequences(path: &Path) -> Result<Split> {
    npz::opened(path, Taken::Sequences, labelled)
}

fn labelled(arrays: Arrays<'_>) -> Result<Split> {
    split(arrays, |arrays, part, train: Option<&Dataset>| arrays.half(part, IN_MEMORY, train.map(Dataset::classes)))
}

/// The parts that there are. `read` reads one, and is told of the training part where that was read.
fn split<T: Targets>(
    mut arrays: Arrays<'_>,
    read: impl Fn(&mut Arrays<'_>, &str, Option<&Dataset<T>>) -> Result<Dataset<T>>,
) -> Result<Split<T>> {
    let train = read(&mut arrays, "train", None)?;
    let test = read(&mut arrays, "test", Some(&train))?;
    let validation = arrays.has("x_val").then(|| read(&mut arrays, "val", Some(&train))).transpose()?;
    let split = Split::new(train, test)?;
    validation.map_or(Ok(split.clone()), |validation| split.with_validation_data(validation))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Loader, Normalize};
    use fixnet_fuzz as fuzz;
    use proptest::prelude::*;
    use std::io::{Cursor, Write};
    use zip::{ZipWriter, write::SimpleFileOptions};

    fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
        [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
    }

    fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    /// Two sequences of three steps in two channels to learn from, one to test by, and `more`.
    fn archive(more: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let train: Vec<f32> = (0..12u8).map(f32::from).collect();
        let mut entries = vec![
            ("x_train", npy("<f4", "(2, 3, 2)", &floats(&train))),
            ("y_train", npy("|u1", "(2,)", &[1, 0])),
            ("x_test", npy("<i2", "(1, 3, 2)", &[1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 255, 255])),
            ("y_test", npy("|u1", "(1,)", &[1])),
        ];
        entries.retain(|(name, _)| more.iter().all(|(other, _)| other != name));
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in entries.iter().chain(more) {
            zip.start_file(format!("{name}.npy"), SimpleFileOptions::default()).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    fn load(file: Vec<u8>) -> Result<Split> {
        fuzz::within(fuzz::MOST, || npz::archive(Path::new("f"), Taken::Sequences, Cursor::new(file), labelled))
    }

    #[test]
    fn parts_are_read_and_standardized_by_channel() {
        let double = [0.5f64, 1.0, 1.5, 2.0, 2.5, 3.0].map(f64::to_le_bytes).concat();
        let more = [("x_val", npy("<f8", "(1, 3, 2)", &double)), ("y_val", npy("|u1", "(1,)", &[0]))];
        let split = load(archive(&more)).unwrap();
        assert_eq!((split.train.shape(), split.train.noun(), split.train.classes()), (&[3, 2][..], "sequences", 2));
        assert_eq!(split.test.row(0), Some(&[1.0, 2.0, 3.0, 4.0, 5.0, -1.0][..]));
        assert_eq!(split.validation.as_ref().unwrap().row(0), Some(&[0.5, 1.0, 1.5, 2.0, 2.5, 3.0][..]));
        assert_eq!(load(archive(&[])).unwrap().validation, None);
        // Channel 0 has 0, 2, ..., 10: mean 5 and variance 35/3; channel 1 is higher by 1.
        let normalize = Normalize::of(&split.train);
        let deviation = libm::sqrt(35.0 / 3.0) as f32;
        assert_eq!((normalize.mean(), normalize.std()), (&[5.0, 6.0][..], &[deviation; 2][..]));
        let batch = Loader::new(&split.test, 1, normalize).next().unwrap().unwrap().images;
        assert_eq!(batch.shape(), [1, 3, 2]);
        assert_eq!(batch.data()[4..], [0.0, -7.0 / deviation]);
        let description = DataDescription::of(&split);
        let mut metadata = std::collections::BTreeMap::new();
        description.write_to(&mut metadata);
        assert_eq!(DataDescription::read_from("f", &metadata).unwrap(), Some(description));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let with = |array: Vec<u8>| load(archive(&[("x_train", array)])).unwrap_err().to_string();
        for (array, words) in [
            (npy("<f4", "(2, 6)", &[0; 48]), "f: x_train: expected sequences [N, T, C], found [2, 6]"),
            (npy("|u1", "(2, 3, 2)", &[0; 12]), "f: x_train: expected sequences as f4, f8 or i2, found u1"),
            (npy("<f4", "(0, 3, 2)", &[]), "at least one sequence of at least one number"),
            (npy("<f4", "(2, 3, 2)", &[0; 44]), "expected 48 bytes of numbers [2, 3, 2], found 44"),
            (npy("<f4", "(99999, 9999, 9999)", &[0; 4]), "bytes of memory"),
            (npy("<f4", "(2, 2, 2)", &[0; 32]), "expected test data of [2, 2] and 2 classes"),
        ] {
            let e = with(array);
            assert!(e.contains(words), "{e}\n{words}");
        }
        let mut values = [0.0; 12];
        values[9] = f32::NAN;
        let e = with(npy("<f4", "(2, 3, 2)", &floats(&values)));
        assert!(e.ends_with("found NaN in sequence 1, step 1, channel 1"), "{e}");
    }

    proptest! {
        #![proptest_config(fuzz::config())]

        #[test]
        fn damaged_archives_never_panic(damage in fuzz::damage()) {
            let _ = load(fuzz::damaged(archive(&[]), &damage));
        }

        #[test]
        fn archives_of_damaged_arrays_never_panic(damage in fuzz::damage()) {
            let array = fuzz::damaged(npy("<f4", "(2, 3, 2)", &[0; 48]), &damage);
            let _ = load(archive(&[("x_train", array)]));
        }
    }
}
