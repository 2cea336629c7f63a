//! NumPy archives: `x_train`, `y_train`, `x_test` and `y_test` in one `.npz` file, as `np.savez` and `np.savez_compressed`
//! write it.
//!
//! The zip crate opens the archive. The header of an array is read here: it is one line, and the crates that read it
//! allocate what it announces before they look for it.

use super::{DataError, Dataset, Result, Split};
use std::{
    fs::File,
    io::{BufReader, Read, Seek},
    path::Path,
};
use zip::ZipArchive;

/// The longest header, far beyond those of plain arrays.
const HEADER: usize = 1 << 16;

/// Reads images `x_train` and `x_test` [N, H, W] or [N, H, W, C], `u8` or `f32` from 0 to 1 (kept in 256 steps), and labels
/// `y_train` and `y_test` [N] or [N, 1] of any integer type. There are as many classes as the largest training label says.
///
/// # Errors
/// The file is no zip archive, an array is missing, damaged, of another type or shape, or holds numbers out of range; counts
/// of images and labels disagree; training and test images differ in shape.
pub fn npz(path: &Path) -> Result<Split> {
    let place = path.display().to_string();
    match File::open(path) {
        Ok(file) => read(&place, BufReader::new(file)),
        Err(source) => Err(DataError::Io { place, source }),
    }
}

fn read(place: &str, from: impl Read + Seek) -> Result<Split> {
    let mut archive = ZipArchive::new(from).map_err(|e| unexpected(place, "a zip archive of NumPy arrays", e))?;
    let mut half = |name: &str, classes: Option<usize>| {
        let [x, y] = ["x", "y"].map(|kind| (format!("{kind}_{name}.npy"), format!("{place}: {kind}_{name}")));
        let (count, shape, images) = entry(&mut archive, &x)?.images()?;
        let labels = entry(&mut archive, &y)?.labels()?;
        if labels.len() != count {
            return Err(DataError::Counts { images_in: x.1, images: count, labels_in: y.1, labels: labels.len() });
        }
        let most = usize::from(labels.iter().copied().max().unwrap_or(0)) + 1;
        Dataset::new(y.1, shape, classes.unwrap_or(most), images, labels)
    };
    let train = half("train", None)?;
    let test = half("test", Some(train.classes))?;
    Split::new(train, test)
}

fn unexpected(place: &str, expected: impl ToString, found: impl ToString) -> DataError {
    DataError::Unexpected { place: place.into(), expected: expected.to_string(), found: found.to_string() }
}

fn entry(archive: &mut ZipArchive<impl Read + Seek>, (file, place): &(String, String)) -> Result<Array> {
    let found = archive.by_name(file).map_err(|e| unexpected(place, format!("an array {file}"), e))?;
    Array::read(place, found)
}

/// An array as it is stored.
#[derive(Debug)]
struct Array {
    place: String,
    shape: Vec<usize>,
    /// Type and bytes of a number: `f4`.
    kind: [u8; 2],
    big_endian: bool,
    bytes: Vec<u8>,
}

/// What follows `'key':` in the dictionary of a header.
fn value<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let rest = header.split_once(&format!("'{key}'"))?.1;
    Some(rest.trim_start().strip_prefix(':')?.trim_start())
}

impl Array {
    fn read(place: &str, mut from: impl Read) -> Result<Self> {
        let damaged = |e: std::io::Error| unexpected(place, "a whole array", format!("a damaged one ({e})"));
        let mut start = [0; 8];
        from.read_exact(&mut start).map_err(damaged)?;
        let mut len = [0; 4];
        let bytes = match start {
            [0x93, b'N', b'U', b'M', b'P', b'Y', 1, _] => 2,
            [0x93, b'N', b'U', b'M', b'P', b'Y', 2 | 3, _] => 4,
            _ => return Err(unexpected(place, "a NumPy array of format 1 to 3", "another kind of file")),
        };
        from.read_exact(&mut len[..bytes]).map_err(damaged)?;
        let len = u32::from_le_bytes(len) as usize;
        if len > HEADER {
            return Err(unexpected(place, format!("a header of at most {HEADER} bytes"), len));
        }
        let mut header = vec![0; len];
        from.read_exact(&mut header).map_err(damaged)?;
        let header = String::from_utf8_lossy(&header);
        let wrong = |expected: &str| unexpected(place, expected, header.trim());
        let descr =
            value(&header, "descr").and_then(|v| v.strip_prefix('\'')?.split_once('\'')).map(|v| v.0.as_bytes());
        let Some(&[order @ (b'<' | b'>' | b'|'), kind @ (b'u' | b'i' | b'f'), size @ (b'1' | b'2' | b'4' | b'8')]) =
            descr
        else {
            return Err(wrong("numbers u1 to u8, i1 to i8 or f4"));
        };
        if !value(&header, "fortran_order").is_some_and(|v| v.starts_with("False")) {
            return Err(wrong("'fortran_order': False"));
        }
        let shape = value(&header, "shape").and_then(|v| v.strip_prefix('(')?.split_once(')')).and_then(|(axes, _)| {
            let axes = axes.split(',').map(str::trim).filter(|axis| !axis.is_empty());
            axes.map(|axis| axis.parse().ok()).collect::<Option<Vec<usize>>>()
        });
        let shape = shape.ok_or_else(|| wrong("'shape': (…)"))?;
        let expected = shape.iter().fold(u128::from(size - b'0'), |n, &axis| n.saturating_mul(axis as u128));
        // One byte more than announced tells whether there is more; nothing is allocated on the header's word alone.
        let mut bytes = Vec::new();
        let limit = u64::try_from(expected).unwrap_or(u64::MAX).saturating_add(1);
        from.take(limit).read_to_end(&mut bytes).map_err(damaged)?;
        if bytes.len() as u128 != expected {
            let found = if bytes.len() as u128 > expected { "more".into() } else { bytes.len().to_string() };
            return Err(unexpected(place, format!("{expected} bytes of numbers {shape:?}"), found));
        }
        Ok(Self { place: place.into(), shape, kind: [kind, size], big_endian: order == b'>', bytes })
    }

    fn wrong<T>(&self, expected: &str, found: impl ToString) -> Result<T> {
        Err(unexpected(&self.place, expected, found))
    }

    fn kind(&self) -> String {
        format!("{}{}", char::from(self.kind[0]), char::from(self.kind[1]))
    }

    /// How many images, their shape and bytes.
    fn images(self) -> Result<(usize, [usize; 3], Vec<u8>)> {
        let (count, shape) = match self.shape[..] {
            [n, h, w] => (n, [h, w, 1]),
            [n, h, w, c] => (n, [h, w, c]),
            _ => return self.wrong("images [N, H, W] or [N, H, W, C]", format!("{:?}", self.shape)),
        };
        if self.bytes.is_empty() {
            return Err(DataError::Empty { place: self.place });
        }
        match &self.kind {
            b"u1" => Ok((count, shape, self.bytes)),
            b"f4" => {
                let mut out = Vec::with_capacity(self.bytes.len() / 4);
                for (i, &word) in self.bytes.as_chunks::<4>().0.iter().enumerate() {
                    let v = if self.big_endian { f32::from_be_bytes(word) } else { f32::from_le_bytes(word) };
                    if !(0.0..=1.0).contains(&v) {
                        return self.wrong("f4 from 0 to 1", format!("{v} at {i}"));
                    }
                    out.push(libm::roundf(v * 255.0) as u8);
                }
                Ok((count, shape, out))
            }
            _ => self.wrong("images as u1 or f4", self.kind()),
        }
    }

    fn labels(self) -> Result<Vec<u16>> {
        match self.shape[..] {
            [_] | [_, 1] => {}
            _ => return self.wrong("labels [N] or [N, 1]", format!("{:?}", self.shape)),
        }
        if self.kind[0] == b'f' {
            return self.wrong("labels of an integer type", self.kind());
        }
        let size = usize::from(self.kind[1] - b'0');
        let mut labels = Vec::with_capacity(self.bytes.len() / size);
        for (i, number) in self.bytes.chunks_exact(size).enumerate() {
            // Little-endian in 16 bytes, the sign carried on.
            let mut wide = [0; 16];
            wide[..size].copy_from_slice(number);
            if self.big_endian {
                wide[..size].reverse();
            }
            if self.kind[0] == b'i' && wide[size - 1] >= 128 {
                wide[size..].fill(255);
            }
            let v = i128::from_le_bytes(wide);
            match u16::try_from(v) {
                Ok(label) if label < u16::MAX => labels.push(label),
                _ => return self.wrong("labels from 0 to 65534", format!("{v} at {i}")),
            }
        }
        Ok(labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
    fn archive(change: Option<Entry>, method: CompressionMethod) -> Vec<u8> {
        let mut entries: [Entry; 4] = [
            ("x_train", npy("|u1", "(2, 1, 2)", &[1, 2, 3, 4])),
            ("y_train", npy("<i8", "(2,)", &[[2, 0, 0, 0, 0, 0, 0, 0], [0; 8]].concat())),
            ("x_test", npy("|u1", "(1, 1, 2)", &[5, 6])),
            ("y_test", npy("|u1", "(1, 1)", &[1])),
        ];
        if let Some((name, bytes)) = change {
            entries.iter_mut().filter(|e| e.0 == name).for_each(|e| e.1.clone_from(&bytes));
        }
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in &entries {
            zip.start_file(format!("{name}.npy"), SimpleFileOptions::default().compression_method(method)).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    fn with(name: &'static str, bytes: Vec<u8>) -> std::result::Result<Split, String> {
        read("f", Cursor::new(archive(Some((name, bytes)), CompressionMethod::Deflated))).map_err(|e| e.to_string())
    }

    #[test]
    fn stored_and_deflated_arrays_are_read() {
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            let split = read("f", Cursor::new(archive(None, method))).unwrap();
            assert_eq!((split.train.shape(), split.train.classes), ([1, 2, 1], 3));
            assert_eq!((split.train.labels(), split.test.labels()), (&[2, 0][..], &[1][..]));
            assert_eq!(*split.train.image(1).unwrap(), [3, 4]);
        }
    }

    #[test]
    fn floats_channels_and_byte_orders() {
        let floats = |to: fn(f32) -> [u8; 4]| [0.0, 0.5, 1.0, 51.0 / 255.0].map(to).concat();
        for (descr, data) in [("<f4", floats(f32::to_le_bytes)), (">f4", floats(f32::to_be_bytes))] {
            let split = with("x_train", npy(descr, "(2, 1, 2, 1)", &data)).unwrap();
            assert_eq!([&*split.train.image(0).unwrap(), &*split.train.image(1).unwrap()].concat(), [0, 128, 255, 51]);
        }
        let split = with("y_train", npy(">i2", "(2,)", &[0, 7, 1, 0])).unwrap();
        assert_eq!((split.train.labels(), split.train.classes), (&[7, 256][..], 257));
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
            ("x_train", npy("|u1", "(99999999999, 99999999999, 99999999999)", &[0; 5]), ", found 5"),
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
            ("y_test", npy("|u1", "(1,)", &[3]), "f: y_test: label 0: expected 0..=2, found 3"),
            ("x_test", npy("|u1", "(1, 2, 1)", &[0; 2]), "as in training"),
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
            let whole = archive(None, method);
            for len in 0..whole.len() {
                assert!(read("f", Cursor::new(&whole[..len])).is_err(), "{len} of {}", whole.len());
            }
        }
    }

    proptest! {
        #[test]
        fn damaged_archives_never_panic(
            deflated: bool, at in any::<prop::sample::Index>(), bytes in prop::collection::vec(any::<u8>(), 1..9),
        ) {
            let method = if deflated { CompressionMethod::Deflated } else { CompressionMethod::Stored };
            let mut file = archive(None, method);
            let at = at.index(file.len());
            file.splice(at..(at + bytes.len()).min(file.len()), bytes);
            let _ = read("f", Cursor::new(file));
        }

        #[test]
        fn arrays_of_any_bytes_never_panic(header in "[ -~]{0,80}", data in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut bytes = npy("|u1", "(2, 1, 2)", &data);
            let at = bytes.len() - data.len();
            let _ = Array::read("f", &*bytes).map(Array::images);
            bytes.splice(10..at, header.into_bytes());
            let _ = Array::read("f", &*bytes).map(Array::labels);
        }
    }
}
