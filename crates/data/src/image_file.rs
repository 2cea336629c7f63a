//! Image files: what a header says, and the pixels in the shape that is asked for.
//!
//! A header is read before anything is allocated for its image. An image is turned as its EXIF metadata say before it is cut or
//! scaled. One rule makes grey of colours, whatever the kind of the file: the brightness of ITU-R BT.709 ([`grey`]).

use crate::image_kind::{Decoded, Fault, Header, Kind, START, is_turned};
use crate::{DataError, Result};
use fixnet_files::input_file;
use fixnet_tensor::Budget;
use image::{DynamicImage, imageops::FilterType, metadata::Orientation};
use std::{
    io::{BufRead, BufReader, Cursor, Read, Seek},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

/// The longest side of an image.
pub(crate) const MAX_SIDE: usize = 1 << 14;

pub(crate) fn unexpected(path: &Path, expected: &str, found: impl ToString) -> DataError {
    DataError::Unexpected { place: path.display().to_string(), expected: expected.into(), found: found.to_string() }
}

/// What a header says.
pub(crate) struct Head {
    kind: Kind,
    header: Header,
    /// Height and width, once the image is turned.
    pub(crate) size: [usize; 2],
    pub(crate) colour: bool,
    /// The length of the file.
    pub(crate) len: u64,
}

const IMAGE: &str = "a PNG, JPEG, WebP or BMP image";
/// What may stand in a file beside its pixels: a preview, a colour profile, texts.
const MOST_BESIDE: u64 = 16 << 20;

impl Head {
    /// Whether further images follow the one that is read.
    pub(crate) fn moves(&self) -> bool {
        self.header.moves
    }

    /// Tells the file from others without its pixels: its length, and how its image is turned, if it is.
    pub(crate) fn stamp(&self) -> u64 {
        // Upright images have the stamps of versions that turned none.
        let turn = self.header.orientation.to_exif() - Orientation::NoTransforms.to_exif();
        self.len | u64::from(turn) << 56
    }

    /// Claims the memory that scaling to height and width takes: columns first, in floats of four channels.
    ///
    /// # Errors
    /// It is more than [`Budget::IMAGE`].
    pub(crate) fn claim_scaling(&self, path: &Path, [height, width]: [usize; 2]) -> Result<()> {
        let [_, columns] = middle(self.size, [height, width]);
        let what = format!("{}, scaled to {height}x{width}", path.display());
        Budget::IMAGE.clone().claim(&what, &[columns, height], 16)?;
        Ok(())
    }

    pub(crate) fn of_file(path: &Path) -> Result<Self> {
        let io = |source| DataError::Io { place: path.display().to_string(), source };
        let file = input_file::open(path).map_err(io)?;
        let len = file.metadata().map_err(io)?.len();
        Self::read(path, BufReader::new(file), len)
    }

    /// Reads a header. A file whose size cannot hold the image that its header announces is refused, and so is an image
    /// beyond [`Budget::IMAGE`]: nothing is allocated for either.
    pub(crate) fn read<R: BufRead + Seek>(path: &Path, mut from: R, len: u64) -> Result<Self> {
        let mut start = Vec::new();
        let io = |source| DataError::Io { place: path.display().to_string(), source };
        from.by_ref().take(START).read_to_end(&mut start).map_err(io)?;
        from.rewind().map_err(io)?;
        let kind = match Kind::of(&start) {
            Some(kind) => kind,
            None if start.is_empty() => return Err(unexpected(path, IMAGE, "an empty file")),
            None => return Err(unexpected(path, IMAGE, "another kind of file")),
        };
        let header = guarded(path, || kind.header(from))?;
        let Header { size: [height, width], colour, mut pixel, orientation, .. } = header;
        let pixels = (height as u64).saturating_mul(width as u64);
        let fits = kind.most_pixels().is_none_or(|most| pixels <= len.saturating_mul(most));
        if height == 0 || width == 0 || height > MAX_SIDE || width > MAX_SIDE || !fits {
            let found = format!("{height}x{width} announced in a file of {len} bytes");
            return Err(unexpected(path, "an image of sides from 1 to 16384 that its file can hold", found));
        }
        // A turned image is a second one.
        pixel *= if is_turned(orientation) { 2 } else { 1 };
        // A small file may hold a large image, and several are decoded at a time.
        Budget::IMAGE.clone().claim(&path.display().to_string(), &[height, width], pixel)?;
        // What follows the pixels in a file is read with them.
        let most = ((height * width * pixel) as u64).saturating_mul(4).saturating_add(MOST_BESIDE);
        if len > most {
            let expected = format!("an image file of at most {most} bytes for {height}x{width} pixels");
            return Err(unexpected(path, &expected, format!("{len} bytes")));
        }
        let size = if is_turned(orientation) { [width, height] } else { [height, width] };
        Ok(Self { kind, header, size, colour, len })
    }
}

/// Runs a decoder, whose errors and panics are those of a damaged file.
fn guarded<T>(path: &Path, decode: impl FnOnce() -> Decoded<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(decode)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(Fault::Damaged(reason))) => Err(unexpected(path, IMAGE, format!("a damaged one ({reason})"))),
        Ok(Err(Fault::Other(found))) => Err(unexpected(path, IMAGE, found)),
        Err(_) => Err(unexpected(path, IMAGE, "a damaged one (its decoder failed)")),
    }
}

/// The bytes H, W, C of a file's image in the shape of its set.
pub(crate) fn decode(path: &Path, bytes: &[u8], shape: [usize; 3], resize: bool) -> Result<Vec<u8>> {
    let [height, width, channels] = shape;
    let head = Head::read(path, Cursor::new(bytes), bytes.len() as u64)?;
    if !resize && head.size != [height, width] {
        let [h, w] = head.size;
        return Err(unexpected(path, &format!("{height}x{width} (height, width) as before"), format!("{h}x{w}")));
    }
    if resize {
        head.claim_scaling(path, [height, width])?;
    }
    guarded(path, || {
        let mut image = head.kind.decode(bytes, &head.header)?;
        image.apply_orientation(head.header.orientation);
        if resize {
            image = scaled(image, [height, width]);
        }
        let bytes = bytes_of(image, channels);
        if bytes.len() == height * width * channels { Ok(bytes) } else { Err("not all pixels".into()) }
    })
}

/// Height and width of the largest part of an image that has the proportions of another one.
pub(crate) fn middle([h, w]: [usize; 2], [height, width]: [usize; 2]) -> [usize; 2] {
    match w.saturating_mul(height) > h.saturating_mul(width) {
        true => [h, (h * width / height.max(1)).max(1)],
        false => [(w * height / width.max(1)).max(1), w],
    }
}

/// Scales the middle of an image to height and width, unless it has them.
pub(crate) fn scaled(image: DynamicImage, [height, width]: [usize; 2]) -> DynamicImage {
    let found = [image.height(), image.width()].map(|side| side as usize);
    if found == [height, width] {
        return image;
    }
    // The middle first, so that no image on the way is larger than the given one.
    let [h, w] = middle(found, [height, width]);
    let (left, top) = ((found[1] - w) / 2, (found[0] - h) / 2);
    let middle = image.crop_imm(left as u32, top as u32, w as u32, h as u32);
    middle.resize_exact(width as u32, height as u32, FilterType::Triangle)
}

/// The bytes H, W, C of an image in three channels or one.
pub(crate) fn bytes_of(image: DynamicImage, channels: usize) -> Vec<u8> {
    match (channels, image.color().has_color()) {
        (1, true) => image.into_rgb8().as_chunks::<3>().0.iter().map(|&colour| grey(colour)).collect(),
        (1, false) => image.into_luma8().into_raw(),
        _ => image.into_rgb8().into_raw(),
    }
}

/// The brightness of a colour: 0.2126 R + 0.7152 G + 0.0722 B, rounded.
fn grey([red, green, blue]: [u8; 3]) -> u8 {
    ((2126 * u32::from(red) + 7152 * u32::from(green) + 722 * u32::from(blue) + 5000) / 10_000) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ColorType, ImageEncoder, RgbImage, codecs::bmp::BmpEncoder, codecs::png::PngEncoder};
    use image_webp::{ColorType as WebPColour, WebPEncoder};

    const COLOUR: &[u8] = include_bytes!("../tests/data/colour.jpg");
    const LOSSY: &[u8] = include_bytes!("../tests/data/lossy.webp");
    const CLEAR: &[u8] = include_bytes!("../tests/data/clear.webp");
    const MOVING: &[u8] = include_bytes!("../tests/data/moving.webp");

    /// Where the pixels of two rows and three columns come from, by orientation: what Pillow makes of them
    /// (`tests/data/make_images.py`).
    const TURNED: [([usize; 2], [usize; 6]); 8] = [
        ([2, 3], [0, 1, 2, 3, 4, 5]),
        ([2, 3], [2, 1, 0, 5, 4, 3]),
        ([2, 3], [5, 4, 3, 2, 1, 0]),
        ([2, 3], [3, 4, 5, 0, 1, 2]),
        ([3, 2], [0, 3, 1, 4, 2, 5]),
        ([3, 2], [3, 0, 4, 1, 5, 2]),
        ([3, 2], [5, 2, 4, 1, 3, 0]),
        ([3, 2], [2, 5, 1, 4, 0, 3]),
    ];

    /// EXIF metadata with an orientation alone, in either order of bytes.
    fn exif(orientation: u16, big: bool) -> Vec<u8> {
        let word = |v: u16| if big { v.to_be_bytes() } else { v.to_le_bytes() };
        let long = |v: u32| if big { v.to_be_bytes() } else { v.to_le_bytes() };
        let start = if big { b"MM\0*" } else { b"II*\0" };
        [&start[..], &long(8), &word(1), &word(0x0112), &word(3), &long(1), &word(orientation), &[0, 0], &long(0)]
            .concat()
    }

    fn png(pixels: &[u8], [height, width]: [u32; 2], exif: Vec<u8>) -> Vec<u8> {
        let mut file = Vec::new();
        let mut encoder = PngEncoder::new(&mut file);
        encoder.set_exif_metadata(exif).unwrap();
        encoder.write_image(pixels, width, height, ColorType::Rgb8.into()).unwrap();
        file
    }

    fn webp(pixels: &[u8], [height, width]: [u32; 2], exif: Vec<u8>) -> Vec<u8> {
        let mut file = Vec::new();
        let mut encoder = WebPEncoder::new(&mut file);
        encoder.set_exif_metadata(exif);
        encoder.encode(pixels, width, height, WebPColour::Rgb8).unwrap();
        file
    }

    fn jpeg(file: &[u8], exif: &[u8]) -> Vec<u8> {
        let length = (exif.len() as u16 + 8).to_be_bytes();
        [&file[..2], b"\xff\xe1", &length, b"Exif\0\0", exif, &file[2..]].concat()
    }

    fn size(file: &[u8]) -> [usize; 2] {
        Head::read(Path::new("file"), Cursor::new(file), file.len() as u64).unwrap().size
    }

    fn read(file: &[u8]) -> Vec<u8> {
        let [height, width] = size(file);
        decode(Path::new("file"), file, [height, width, 3], false).unwrap()
    }

    fn refused(file: &[u8], shape: [usize; 3]) -> String {
        decode(Path::new("file"), file, shape, false).unwrap_err().to_string()
    }

    #[test]
    fn images_are_turned_as_their_metadata_say() {
        let pixels: Vec<u8> = (0..18).collect();
        let stored = read(COLOUR);
        for (i, (turned, from)) in TURNED.into_iter().enumerate() {
            let orientation = exif(i as u16 + 1, i % 2 == 0);
            let expected: Vec<u8> = from.iter().flat_map(|&p| pixels[3 * p..][..3].to_vec()).collect();
            for file in [
                png(&pixels, [2, 3], orientation.clone()),
                webp(&pixels, [2, 3], orientation.clone()),
                webp(&pixels, [2, 3], [b"Exif\0\0", &orientation[..]].concat()),
            ] {
                assert_eq!((size(&file), read(&file)), (turned, expected.clone()), "orientation {}", i + 1);
            }
            // A JPEG of 12 rows and 17 columns: its corners tell how it was turned.
            let file = jpeg(COLOUR, &orientation);
            let [height, width] = size(&file);
            assert_eq!([height, width], if i < 4 { [12, 17] } else { [17, 12] });
            let path = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(path.path(), &file).unwrap();
            assert_eq!(Head::of_file(path.path()).unwrap().size, [height, width]);
            assert_eq!(crate::Image::read(path.path()).unwrap().shape(), [height, width, 3]);
            let found = read(&file);
            let corner = |image: &[u8], width: usize, y: usize, x: usize| image[(y * width + x) * 3..][..3].to_vec();
            let corners = |image: &[u8], h: usize, w: usize| {
                [(0, 0), (0, w - 1), (h - 1, 0), (h - 1, w - 1)].map(|(y, x)| corner(image, w, y, x))
            };
            let all = corners(&stored, 12, 17);
            // Pixels 0, 2, 3 and 5 of two rows and three columns are the corners.
            let place = |p: usize| all[[0, 0, 1, 2, 0, 3][p]].clone();
            let last = turned[1] - 1;
            let expected = [from[0], from[last], from[6 - turned[1]], from[5]].map(place);
            assert_eq!(corners(&found, height, width), expected, "orientation {}", i + 1);
        }
    }

    /// The head alone says the size that the pixels have, and scaling takes the turned image.
    #[test]
    fn turned_images_are_scaled_after_they_are_turned() {
        // The left half is bright; turned by a quarter clockwise it is the upper one.
        let pixels: Vec<u8> = (0..8 * 16).flat_map(|i| [if i % 16 < 8 { 200 } else { 0 }; 3]).collect();
        let file = png(&pixels, [8, 16], exif(6, true));
        assert_eq!(size(&file), [16, 8]);
        let scaled = decode(Path::new("file"), &file, [2, 1, 1], true).unwrap();
        assert!(scaled[0] > 150 && scaled[1] < 50, "{scaled:?}");
        assert!(refused(&file, [8, 16, 3]).contains("expected 8x16 (height, width) as before, found 16x8"));
    }

    /// A chunk of a PNG with its checksum.
    fn chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
        let mut sum = flate2::Crc::new();
        sum.update(name);
        sum.update(data);
        [&(data.len() as u32).to_be_bytes(), &name[..], data, &sum.sum().to_be_bytes()].concat()
    }

    #[test]
    fn whole_files_that_are_not_read_are_not_called_damaged() {
        let pixels: Vec<u8> = (0..18).collect();
        let file = png(&pixels, [2, 3], vec![]);
        // Behind the signature and the header of 25 bytes: two images, played once, of which the first is that of the file.
        let control = chunk(b"acTL", &[0, 0, 0, 2, 0, 0, 0, 1]);
        let moving = [&file[..33], &control, &file[33..]].concat();
        let head = |file: &[u8]| Head::read(Path::new("file"), Cursor::new(file), file.len() as u64);
        assert!(head(&moving).unwrap().moves() && !head(&file).unwrap().moves());
        assert_eq!(read(&moving), pixels);
        let mut wide = [&20_000u32.to_be_bytes()[..], &file[20..29]].concat();
        wide = chunk(b"IHDR", &wide);
        let wide = [&file[..8], &wide, &file[33..]].concat();
        let e = head(&wide).map(drop).unwrap_err().to_string();
        assert!(e.ends_with("found a larger one, with a side beyond 16384"), "{e}");
        // The frame of a JPEG: length, precision, height, width.
        let mut tall = COLOUR.to_vec();
        let frame = tall.windows(2).position(|pair| matches!(pair, [0xff, 0xc0..=0xc2])).unwrap();
        tall[frame + 5..frame + 7].copy_from_slice(&20_000u16.to_be_bytes());
        let e = head(&tall).map(drop).unwrap_err().to_string();
        assert!(e.contains("sides from 1 to 16384") && e.contains("found 20000x17 announced"), "{e}");
    }

    #[test]
    fn metadata_that_cannot_be_read_turn_nothing() {
        let pixels: Vec<u8> = (0..18).collect();
        let whole = exif(6, true);
        let mut odd: Vec<Vec<u8>> = (1..whole.len() - 8).map(|len| whole[..len].to_vec()).collect();
        odd.extend([exif(0, true), exif(9, false), exif(0x0600, true), vec![0xff; 40]]);
        odd.push([&b"II*\0"[..], &[0xff; 8]].concat());
        for exif in odd {
            for file in [png(&pixels, [2, 3], exif.clone()), webp(&pixels, [2, 3], exif.clone()), jpeg(COLOUR, &exif)] {
                assert!(matches!(size(&file), [2, 3] | [12, 17]), "{exif:?}");
            }
        }
    }

    /// The sums are those of what Pillow, with the decoder of Google, reads.
    #[test]
    fn webp_decodes_as_elsewhere() {
        let fnv = |bytes: Vec<u8>| {
            let add = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, add)
        };
        assert_eq!((size(LOSSY), fnv(read(LOSSY))), ([17, 12], 0xaf6c_4c26_b2aa_4d9e));
        assert_eq!((size(CLEAR), fnv(read(CLEAR))), ([12, 17], 0x378a_3d9c_fa5a_72d8));
        assert!(refused(MOVING, [12, 17, 3]).ends_with("found an animated WebP (store one of its images)"));
        // Pixels of another size than the file announces: 1024 columns, of which nothing is allocated.
        let mut lying = LOSSY.to_vec();
        let frame = lying.windows(3).position(|w| w == [0x9d, 0x01, 0x2a]).unwrap();
        lying[frame + 3..frame + 5].copy_from_slice(&1024u16.to_le_bytes());
        assert!(refused(&lying, [17, 12, 3]).contains("17x12 announced for pixels of 1024x12"));
    }

    #[test]
    fn bmp_is_read_with_and_without_a_palette() {
        let pixels: Vec<u8> = (0..18).collect();
        let mut file = Vec::new();
        BmpEncoder::new(&mut file).encode(&pixels, 3, 2, ColorType::Rgb8.into()).unwrap();
        assert_eq!((size(&file), read(&file)), ([2, 3], pixels));
        let mut file = Vec::new();
        BmpEncoder::new(&mut file).encode(&[7, 8, 9, 250, 251, 252], 3, 2, ColorType::L8.into()).unwrap();
        let head = Head::read(Path::new("file"), Cursor::new(&file), file.len() as u64).unwrap();
        assert!(!head.colour);
        assert_eq!(decode(Path::new("file"), &file, [2, 3, 1], false).unwrap(), [7, 8, 9, 250, 251, 252]);
        // The header: 14 bytes of the file, then 4 of its length, width, height.
        file[18..26].copy_from_slice(&[0, 0x3f, 0, 0, 0, 0x3f, 0, 0]);
        assert!(refused(&file, [2, 3, 1]).contains("16128x16128 announced in a file of"));
        for len in 0..file.len() {
            assert!(decode(Path::new("file"), &file[..len], [2, 3, 1], false).is_err(), "{len}");
        }
    }

    /// What a file of each kind, an array and the head of a set of images say of one colour.
    #[test]
    fn one_rule_makes_grey_of_colours() {
        let pixels = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 30]].concat();
        let grey = vec![54, 182, 18, 19];
        let array = crate::Image::new([2, 2, 3], pixels.clone()).unwrap();
        assert_eq!(array.converted([2, 2, 1]).unwrap().bytes(), grey);
        let mut bmp = Vec::new();
        BmpEncoder::new(&mut bmp).encode(&pixels, 2, 2, ColorType::Rgb8.into()).unwrap();
        for file in [png(&pixels, [2, 2], vec![]), webp(&pixels, [2, 2], vec![]), bmp] {
            assert_eq!(decode(Path::new("file"), &file, [2, 2, 1], false).unwrap(), grey);
        }
        // Of a JPEG the colours that it decodes to, not its own brightness.
        let colours = crate::Image::new([12, 17, 3], read(COLOUR)).unwrap().converted([12, 17, 1]).unwrap();
        assert_eq!(decode(Path::new("file"), COLOUR, [12, 17, 1], false).unwrap(), colours.bytes());
        let luma =
            |p: &[u8]| (0.2126 * f64::from(p[0]) + 0.7152 * f64::from(p[1]) + 0.0722 * f64::from(p[2])).round() as u8;
        assert_eq!(read(COLOUR).chunks_exact(3).map(luma).collect::<Vec<_>>(), colours.bytes());
    }

    /// A turned image is a second one, and a file of a few bytes may hold an image beyond the memory for it.
    #[test]
    fn claims_hold_for_every_kind() {
        let large = RgbImage::new(10_000, 10_000).into_raw();
        let head = |file: Vec<u8>| {
            let len = file.len() as u64;
            Head::read(Path::new("a"), Cursor::new(file), len).map(|head| head.size).map_err(|e| e.to_string())
        };
        assert_eq!(head(png(&large, [10_000, 10_000], vec![])).unwrap(), [10_000, 10_000]);
        let e = head(png(&large, [10_000, 10_000], exif(6, true))).unwrap_err();
        assert!(e.contains("claims 600000000 bytes of memory, expected at most 536870912"), "{e}");
        // 16383 columns and rows of a lossless WebP, in 14 bits each behind the signature.
        let mut file = webp(&[0; 3], [1, 1], vec![]);
        let at = file.windows(4).position(|w| w == b"VP8L").unwrap() + 9;
        file[at..at + 4].copy_from_slice(&(0x3ffe_u32 | 0x3ffe << 14).to_le_bytes());
        let e = head(file).unwrap_err();
        assert!(e.contains("bytes of memory, expected at most 536870912"), "{e}");
    }
}
