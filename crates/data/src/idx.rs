//! IDX files, the form of MNIST: a magic number, the lengths of the axes (big-endian), then bytes; plain or gzip.

use crate::source::{Reader, Request, SourceKind};
use crate::{
    DataDescription, DataError, Dataset, Result, Split,
    error::unexpected,
    idx_files::{IdxFiles, IdxSet},
    records::{Form, Part, Records},
    samples::IN_MEMORY,
    targets::check_labels,
};
use fixnet_files::input_file;
use fixnet_tensor::Budget;
use flate2::read::MultiGzDecoder;
use std::{
    io::{BufReader, ErrorKind, Read},
    path::Path,
};

/// The row of the registry.
pub(crate) const KIND: SourceKind =
    SourceKind::new("mnist:PATH", "a folder with the four files of MNIST or of a set of EMNIST", &Mnist);

#[derive(Debug)]
struct Mnist;

impl Reader for Mnist {
    fn labelled(&self, request: &Request<'_>) -> Result<Split> {
        mnist(request.path())
    }

    fn labelled_test(&self, request: &Request<'_>, _: &DataDescription) -> Result<Dataset> {
        mnist_test(request.path())
    }

    fn notes(&self, request: &Request<'_>) -> Vec<String> {
        IdxFiles::find(request.path()).ok().and_then(|files| files.set.note()).into_iter().collect()
    }
}

/// An array of bytes as IDX stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idx {
    /// The lengths of the axes, outermost first.
    pub shape: Vec<usize>,
    /// The bytes, row by row; as many as the product of `shape`.
    pub data: Vec<u8>,
}

/// The magic number of an array of unsigned bytes with `axes` axes.
fn magic(axes: usize) -> u32 {
    0x0800 | axes as u32
}

impl Idx {
    /// Reads a file, plain or gzip (told apart by the first two bytes).
    ///
    /// # Errors
    /// The file cannot be read, is not an IDX file of bytes in `axes` axes, ends early, goes on after its data, holds no
    /// data, has more than 512 MiB of data, or is gzip and corrupt.
    pub fn open(path: &Path, axes: usize) -> Result<Self> {
        let place = path.display().to_string();
        match input_file::open(path) {
            Ok(file) => Self::read(&place, BufReader::new(file), axes),
            Err(source) => Err(DataError::Io { place, source }),
        }
    }

    /// Reads from a stream; `place` names it in errors, which are those of [`Idx::open`].
    ///
    /// # Errors
    /// See [`Idx::open`].
    pub fn read(place: &str, mut from: impl Read, axes: usize) -> Result<Self> {
        let plain = |source: std::io::Error| DataError::Io { place: place.into(), source };
        let mut head = Vec::new();
        from.by_ref().take(2).read_to_end(&mut head).map_err(plain)?;
        let zipped = head == [0x1f, 0x8b];
        let whole = head.as_slice().chain(from);
        if !zipped {
            return Self::read_plain(place, whole, axes, false, |_, e| plain(e));
        }
        Self::read_plain(place, MultiGzDecoder::new(whole), axes, true, |read, e| match e.kind() {
            // The decoder reports a stream that stops midway so; the header may not be known yet.
            ErrorKind::UnexpectedEof => DataError::Compression {
                place: place.into(),
                reason: format!("truncated after {read} uncompressed bytes"),
            },
            _ => DataError::Compression { place: place.into(), reason: e.to_string() },
        })
    }

    /// The lengths of the axes of a plain file, and their product, which is not 0.
    fn header(
        place: &str,
        from: impl Read,
        axes: usize,
        error: impl Fn(usize, std::io::Error) -> DataError,
    ) -> Result<(Vec<usize>, u128)> {
        let place = || place.to_string();
        let mut head = Vec::new();
        let header = 4 + 4 * axes;
        if let Err(e) = from.take(header as u64).read_to_end(&mut head) {
            return Err(error(head.len(), e));
        }
        let mut words = head.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
        // The magic number comes first, so that a file of another kind is not called truncated.
        if let Some(found) = words.next().filter(|&m| m != magic(axes)) {
            return Err(DataError::Magic { place: place(), found, expected: magic(axes), axes });
        }
        if head.len() < header {
            return Err(DataError::Truncated { place: place(), found: head.len() as u64, expected: header as u128 });
        }
        let shape: Vec<usize> = words.map(|w| w as usize).collect();
        match shape.iter().fold(1u128, |n, &axis| n.saturating_mul(axis as u128)) {
            0 => Err(DataError::Empty { place: place() }),
            size => Ok((shape, size)),
        }
    }

    fn read_plain(
        place: &str,
        mut from: impl Read,
        axes: usize,
        zipped: bool,
        error: impl Fn(usize, std::io::Error) -> DataError,
    ) -> Result<Self> {
        let (shape, size) = Self::header(place, from.by_ref(), axes, &error)?;
        let (place, header) = (|| place.to_string(), 4 + 4 * axes);
        let claim = || Budget::DATA.clone().claim(&place(), &shape, 1);
        if zipped {
            claim()?;
        }
        // One byte more than announced tells whether there is more; nothing is allocated on the header's word alone.
        let mut data = Vec::new();
        let limit = u64::try_from(size).unwrap_or(u64::MAX).min(Budget::DATA.limit()).saturating_add(1);
        if let Err(e) = from.take(limit).read_to_end(&mut data) {
            return Err(error(header + data.len(), e));
        }
        // A plain file that holds more than the budget is refused for that, one that holds less than it announces is short.
        if data.len() as u64 > Budget::DATA.limit() {
            claim()?;
        }
        let expected = size.saturating_add(header as u128);
        match (data.len() as u128).cmp(&size) {
            std::cmp::Ordering::Less => {
                Err(DataError::Truncated { place: place(), found: (header + data.len()) as u64, expected })
            }
            std::cmp::Ordering::Greater => Err(DataError::Trailing { place: place(), expected }),
            std::cmp::Ordering::Equal => Ok(Self { shape, data }),
        }
    }

    /// The bytes of a plain IDX file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = magic(self.shape.len()).to_be_bytes().to_vec();
        self.shape.iter().for_each(|&axis| bytes.extend((axis as u32).to_be_bytes()));
        bytes.extend(&self.data);
        bytes
    }
}

/// Reads MNIST, or another set in its form (28x28 is not required), from four files of a folder, each plain or with `.gz`:
/// `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the same with `t10k`; the last dash may be a dot. The files of EMNIST
/// are known by their names (`emnist-letters-train-images-idx3-ubyte`): their images, which are stored with rows and columns
/// exchanged, are put upright, labels from 1 on become classes from 0 on, and classes have their letters as names. Where a folder
/// has several sets, the path goes on with the beginning of the names: `FOLDER/emnist-letters`. Images in a plain file of more
/// than 512 MiB are streamed.
///
/// # Errors
/// A file is missing or broken (see [`Idx::open`]), counts of images and labels disagree, a label is no class (of MNIST one
/// above 9), training and test images differ in shape, or a folder has several sets.
pub fn mnist(folder: &Path) -> Result<Split> {
    read(folder, IN_MEMORY)
}

fn read(folder: &Path, in_memory: u64) -> Result<Split> {
    let files = IdxFiles::find(folder)?;
    Split::new(half(&files, "train", in_memory)?, half(&files, "test", in_memory)?)
}

/// The test images of [`mnist`] alone.
pub(crate) fn mnist_test(folder: &Path) -> Result<Dataset> {
    half(&IdxFiles::find(folder)?, "test", IN_MEMORY)
}

/// The images and labels of a part.
fn half(files: &IdxFiles, part: &str, in_memory: u64) -> Result<Dataset> {
    let [images, labels] = files.of(part)?;
    let name = format!("{} {part}", files.set.name());
    let named = |path: &Path| path.display().to_string();
    let (images_in, labels_in) = (named(&images), named(&labels));
    let of_labels = || Ok::<_, DataError>((labels_in.as_str(), Idx::open(&labels, 1)?));
    let data = match long(&images, in_memory, files.set.form())? {
        None => pair(&name, (&images_in, Idx::open(&images, 3)?), of_labels()?, &files.set)?,
        Some((count, records)) => {
            let labels = classes((&images_in, count), of_labels()?, &files.set)?;
            records.dataset(name, files.set.classes(), labels, in_memory)?
        }
    };
    match files.set.class_names() {
        Some(names) => data.with_class_names(names),
        None => Ok(data),
    }
}

/// The images of a plain file and how many they are, if they take more than `in_memory` bytes.
fn long(path: &Path, in_memory: u64, form: Form) -> Result<Option<(usize, Records)>> {
    let place = path.display().to_string();
    let io = |source| DataError::Io { place: place.clone(), source };
    let file = input_file::open(path).map_err(io)?;
    let found = file.metadata().map_err(io)?.len();
    // A compressed file has another magic number, and what is wrong with a short one is told by who reads it.
    let Ok((shape, size)) = Idx::header(&place, file, 3, |_, e| io(e)) else { return Ok(None) };
    if size <= u128::from(in_memory) {
        return Ok(None);
    }
    let (start, expected) = (16, size.saturating_add(16));
    match u128::from(found).cmp(&expected) {
        std::cmp::Ordering::Less => return Err(DataError::Truncated { place, found, expected }),
        std::cmp::Ordering::Greater => return Err(DataError::Trailing { place, expected }),
        std::cmp::Ordering::Equal => {}
    }
    let (count, stride) = (shape[0], shape[1] as u64 * shape[2] as u64);
    let part = Part { path: path.into(), place, start, stride, count };
    Ok(Some((count, Records::new(vec![part], upright(form, [shape[1], shape[2]]), form)?)))
}

/// Height, width and channels of images that are stored so.
fn upright(form: Form, [height, width]: [usize; 2]) -> [usize; 3] {
    if matches!(form, Form::Columns) { [width, height, 1] } else { [height, width, 1] }
}

/// A data set from the contents of an image file and a label file of a set and their places.
pub(crate) fn pair(name: &str, (images_in, images): (&str, Idx), labels: (&str, Idx), set: &IdxSet) -> Result<Dataset> {
    let classes = classes((images_in, images.shape[0]), labels, set)?;
    let shape = upright(set.form(), [images.shape[1], images.shape[2]]);
    let pixels = match set.form() {
        Form::Bytes => images.data,
        form => {
            let (mut pixels, len) = (vec![0; images.data.len()], shape.iter().product());
            for (to, from) in pixels.chunks_exact_mut(len).zip(images.data.chunks_exact(len)) {
                form.convert(from, shape, to).map_err(|(_, v)| unexpected(images_in, "bytes", v))?;
            }
            pixels
        }
    };
    Dataset::new(name, shape, set.classes(), pixels, classes)
}

/// The classes of so many images.
fn classes((images_in, images): (&str, usize), (labels_in, labels): (&str, Idx), set: &IdxSet) -> Result<Vec<u16>> {
    if images != labels.shape[0] {
        let (images_in, labels_in) = (images_in.to_string(), labels_in.to_string());
        return Err(DataError::Counts { images_in, images, labels_in, labels: labels.shape[0] });
    }
    let first = set.first_label();
    if let Some(index) = labels.data.iter().position(|&label| label < first) {
        let place = format!("{labels_in}: label {index}");
        return Err(unexpected(&place, format!("{first} or more"), labels.data[index]));
    }
    let classes: Vec<u16> = labels.data.into_iter().map(|label| u16::from(label - first)).collect();
    check_labels(labels_in, &classes, set.classes())?;
    Ok(classes)
}

/// As [`mnist`], with other images beyond memory, for tests of names.
#[cfg(test)]
pub(crate) fn tests_read(folder: &Path, in_memory: u64) -> Result<Split> {
    read(folder, in_memory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixnet_fuzz as fuzz;
    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;
    use std::{fs, io::Write};

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = GzEncoder::new(Vec::new(), Compression::fast());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    fn images(count: usize) -> Vec<u8> {
        Idx { shape: vec![count, 3, 2], data: (0..count * 6).map(|i| i as u8).collect() }.to_bytes()
    }

    fn labels(values: &[u8]) -> Vec<u8> {
        Idx { shape: vec![values.len()], data: values.to_vec() }.to_bytes()
    }

    fn read(bytes: &[u8], axes: usize) -> std::result::Result<Idx, String> {
        Idx::read("file", bytes, axes).map_err(|e| e.to_string())
    }

    /// A folder with four good files, of which `change` may spoil some.
    fn folder(change: impl FnOnce(&Path)) -> std::result::Result<Split, String> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("train-images-idx3-ubyte.gz"), gzip(&images(4))).unwrap();
        fs::write(dir.path().join("train-labels-idx1-ubyte"), labels(&[3, 1, 4, 9])).unwrap();
        fs::write(dir.path().join("t10k-images-idx3-ubyte"), images(2)).unwrap();
        fs::write(dir.path().join("t10k-labels-idx1-ubyte.gz"), gzip(&labels(&[0, 5]))).unwrap();
        change(dir.path());
        mnist(dir.path()).map_err(|e| e.to_string().replace(&dir.path().display().to_string(), "DIR"))
    }

    #[test]
    fn plain_and_gzip_give_the_same() {
        let plain = read(&images(5), 3).unwrap();
        assert_eq!((plain.shape.as_slice(), plain.data.len()), (&[5, 3, 2][..], 30));
        assert_eq!(plain, read(&gzip(&images(5)), 3).unwrap());
        // Some tools write gzip files in several members.
        let bytes = images(5);
        let (front, back) = bytes.split_at(20);
        assert_eq!(plain, read(&[gzip(front), gzip(back)].concat(), 3).unwrap());
    }

    #[test]
    fn a_folder_is_read_with_any_mix_of_plain_and_gzip() {
        let split = folder(|_| ()).unwrap();
        assert_eq!((split.train.shape(), split.train.classes(), split.train.len()), (&[3, 2, 1][..], 10, 4));
        assert_eq!((split.train.labels(), split.test.labels()), (&[3, 1, 4, 9][..], &[0, 5][..]));
        assert_eq!(*split.train.image(1).unwrap(), [6, 7, 8, 9, 10, 11]);
    }

    #[test]
    fn a_long_file_is_streamed() {
        let memory = folder(|_| ()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
        write("train-images-idx3-ubyte", &images(4));
        write("train-labels-idx1-ubyte", &labels(&[3, 1, 4, 9]));
        write("t10k-images-idx3-ubyte.gz", &gzip(&images(2)));
        write("t10k-labels-idx1-ubyte", &labels(&[0, 5]));
        let split = super::read(dir.path(), 23).unwrap();
        assert!(split.train.is_streamed() && !split.test.is_streamed());
        assert!(!super::read(dir.path(), 24).unwrap().train.is_streamed());
        assert!((0..4).all(|i| split.train.image(i).unwrap() == memory.train.image(i).unwrap()));
        assert_eq!((split.train.labels(), split.test), (memory.train.labels(), memory.test));
        let message = || super::read(dir.path(), 23).unwrap_err().to_string();
        write("train-images-idx3-ubyte", &images(4)[..39]);
        assert!(message().ends_with("train-images-idx3-ubyte: truncated: expected 40 bytes, found 39"));
        write("train-images-idx3-ubyte", &[images(4), vec![0]].concat());
        assert!(message().ends_with("train-images-idx3-ubyte: expected 40 bytes, found more after them"));
        write("train-images-idx3-ubyte", &images(5));
        assert!(message().contains("expected 5 labels"));
    }

    #[test]
    fn a_bomb_is_refused_by_its_header() {
        let bomb = Idx { shape: vec![600, 1 << 10, 1 << 10], data: vec![0; 8] }.to_bytes();
        let e = read(&gzip(&bomb), 3).unwrap_err();
        assert!(
            e.starts_with(
                "file: [600, 1024, 1024] of 1 bytes each claims 629145600 bytes of memory, expected at most 536870912"
            ),
            "{e}"
        );
    }

    #[test]
    fn every_truncation_is_an_error() {
        for bytes in [images(2), gzip(&images(2))] {
            for len in 0..bytes.len() {
                let e = read(&bytes[..len], 3).unwrap_err();
                assert!(e.starts_with("file: ") && e.contains("truncated"), "{len} of {}: {e}", bytes.len());
            }
        }
        assert_eq!(read(&images(2)[..27], 3).unwrap_err(), "file: truncated: expected 28 bytes, found 27");
        assert_eq!(read(&images(2)[..15], 3).unwrap_err(), "file: truncated: expected 16 bytes, found 15");
    }

    #[test]
    fn broken_files_are_described() {
        assert_eq!(
            read(&labels(&[1]), 3).unwrap_err(),
            "file: expected IDX magic 0x00000803 (bytes in 3 axes), found 0x00000801"
        );
        let more = [images(2), vec![0]].concat();
        assert_eq!(read(&more, 3).unwrap_err(), "file: expected 28 bytes, found more after them");
        assert_eq!(read(&gzip(&more), 3).unwrap_err(), "file: expected 28 bytes, found more after them");
        assert!(read(&[gzip(&images(2)), b"more".to_vec()].concat(), 3).unwrap_err().contains("corrupt"));
        assert_eq!(
            read(&images(0), 3).unwrap_err(),
            "file: expected at least one image of at least one pixel, found none"
        );
        let huge = Idx { shape: vec![u32::MAX as usize; 3], data: vec![1, 2] }.to_bytes();
        let expected = u128::from(u32::MAX).pow(3) + 16;
        assert_eq!(read(&huge, 3).unwrap_err(), format!("file: truncated: expected {expected} bytes, found 18"));
        let mut flipped = gzip(&images(200));
        let end = flipped.len();
        flipped[end - 6] ^= 1; // the check sum
        assert!(read(&flipped, 3).unwrap_err().contains("corrupt"));
    }

    #[test]
    fn broken_folders_are_described() {
        let none = folder(|d| fs::remove_file(d.join("t10k-images-idx3-ubyte")).unwrap()).unwrap_err();
        assert_eq!(
            none,
            "DIR: expected a file t10k-images-idx3-ubyte or t10k-images-idx3-ubyte.gz, found none of that name; there are \
             t10k-labels-idx1-ubyte.gz, train-images-idx3-ubyte.gz, train-labels-idx1-ubyte"
        );
        let counts = folder(|d| fs::write(d.join("train-labels-idx1-ubyte"), labels(&[1, 2])).unwrap()).unwrap_err();
        assert_eq!(
            counts,
            "DIR/train-labels-idx1-ubyte: expected 4 labels, one for each image in DIR/train-images-idx3-ubyte.gz, \
             found 2"
        );
        let range = folder(|d| fs::write(d.join("train-labels-idx1-ubyte"), labels(&[1, 2, 10, 3])).unwrap());
        assert_eq!(range.unwrap_err(), "DIR/train-labels-idx1-ubyte: label 2: expected 0..=9, found 10");
        let other = Idx { shape: vec![2, 2, 2], data: vec![0; 8] }.to_bytes();
        let shapes = folder(|d| fs::write(d.join("t10k-images-idx3-ubyte"), &other).unwrap()).unwrap_err();
        assert!(shapes.contains("[3, 2, 1]") && shapes.contains("[2, 2, 1]"), "{shapes}");
        let path = Path::new("no-such-folder/file");
        assert!(Idx::open(path, 1).unwrap_err().to_string().starts_with("no-such-folder/file: "));
    }

    proptest! {
        #![proptest_config(fuzz::config())]

        #[test]
        fn damaged_files_never_panic(zipped: bool, axes in 1usize..4, damage in fuzz::damage()) {
            let file = if axes == 1 { labels(&[1, 2, 3]) } else { images(3) };
            let whole = fuzz::damaged(if zipped { gzip(&file) } else { file }, &damage);
            if let Ok(idx) = fuzz::within(fuzz::MOST, || Idx::read("file", &*whole, axes)) {
                prop_assert_eq!(idx.shape.iter().product::<usize>(), idx.data.len());
            }
        }

        /// Of a compressed file the contents, so that its check sum is right.
        #[test]
        fn damaged_contents_never_panic(damage in fuzz::damage()) {
            let file = gzip(&fuzz::damaged(images(3), &damage));
            let _ = fuzz::within(fuzz::MOST, || Idx::read("file", &*file, 3));
        }

        #[test]
        fn random_bytes_never_panic(
            file in fuzz::random(&[b"", b"\0\0\x08\x03", b"\0\0\x08\x01\0\0\0", b"\x1f\x8b", b"\x1f\x8b\x08\0\0\0\0\0\0\0"]),
            axes in 1usize..4,
        ) {
            let _ = fuzz::within(fuzz::MOST, || Idx::read("file", &*file, axes));
        }
    }
}
