//! PNG and JPEG files: what a header says, and the pixels.
//!
//! A header is read before anything is allocated for its image. JPEG is decoded by zune-jpeg without its SIMD routines, so that
//! every machine sees the same bytes.

use crate::{DataError, Result};
use fixnet_files::input_file;
use fixnet_tensor::Budget;
use image::{DynamicImage, ImageDecoder, codecs::png::PngDecoder, imageops::FilterType};
use std::{
    io::{BufRead, BufReader, Cursor, Read, Seek},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};
use zune_jpeg::{
    JpegDecoder,
    zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions},
};

/// The longest side of an image.
pub(crate) const MAX_SIDE: usize = 1 << 14;

pub(crate) fn unexpected(path: &Path, expected: &str, found: impl ToString) -> DataError {
    DataError::Unexpected { place: path.display().to_string(), expected: expected.into(), found: found.to_string() }
}

/// What a header says.
pub(crate) struct Head {
    kind: Kind,
    /// Height and width.
    pub(crate) size: [usize; 2],
    pub(crate) colour: bool,
    /// The length of the file.
    pub(crate) len: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Png,
    Jpeg,
}

const IMAGE: &str = "a PNG or JPEG image";
/// What may stand in a file beside its pixels: a preview, a colour profile, texts.
const MOST_BESIDE: u64 = 16 << 20;

impl Head {
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
        from.by_ref().take(8).read_to_end(&mut start).map_err(io)?;
        from.rewind().map_err(io)?;
        let (kind, most) = match start.as_slice() {
            // Deflate shortens 1032 times at most, and a byte holds eight pixels at most.
            b"\x89PNG\r\n\x1a\n" => (Kind::Png, 8 * 1032),
            // A block of 64 pixels takes at least a bit.
            [0xff, 0xd8, 0xff, ..] => (Kind::Jpeg, 8 * 64),
            [] => return Err(unexpected(path, IMAGE, "an empty file")),
            _ => return Err(unexpected(path, IMAGE, "another kind of file")),
        };
        let ([height, width], colour, pixel) = guarded(path, || kind.head(from))?;
        let fits = (height as u64).saturating_mul(width as u64) <= len.saturating_mul(most);
        if height == 0 || width == 0 || height > MAX_SIDE || width > MAX_SIDE || !fits {
            let found = format!("{height}x{width} announced in a file of {len} bytes");
            return Err(unexpected(path, "an image of sides from 1 to 16384 that its file can hold", found));
        }
        // A small file may hold a large image, and several are decoded at a time.
        Budget::IMAGE.clone().claim(&path.display().to_string(), &[height, width], pixel)?;
        // What follows the pixels in a file is read with them.
        let most = ((height * width * pixel) as u64).saturating_mul(4).saturating_add(MOST_BESIDE);
        if len > most {
            let expected = format!("an image file of at most {most} bytes for {height}x{width} pixels");
            return Err(unexpected(path, &expected, format!("{len} bytes")));
        }
        Ok(Self { kind, size: [height, width], colour, len })
    }
}

/// Runs a decoder, whose errors and panics are those of a damaged file.
fn guarded<T>(path: &Path, decode: impl FnOnce() -> std::result::Result<T, String>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(decode)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(reason)) => Err(unexpected(path, IMAGE, format!("a damaged one ({reason})"))),
        Err(_) => Err(unexpected(path, IMAGE, "a damaged one (its decoder failed)")),
    }
}

fn text(e: impl ToString) -> String {
    e.to_string()
}

impl Kind {
    /// Height and width, whether there are colours, and the bytes that a decoder takes for a pixel.
    fn head<R: BufRead + Seek>(self, from: R) -> std::result::Result<([usize; 2], bool, usize), String> {
        match self {
            Self::Png => {
                let png = PngDecoder::with_limits(from, limits()).map_err(text)?;
                let (width, height) = png.dimensions();
                let colour = png.color_type();
                Ok(([height as usize, width as usize], colour.has_color(), colour.bytes_per_pixel().into()))
            }
            Self::Jpeg => {
                let mut jpeg = JpegDecoder::new_with_options(from, options());
                jpeg.decode_headers().map_err(text)?;
                let info = jpeg.info().ok_or("no frame")?;
                // A progressive file keeps a coefficient of two bytes beside each byte.
                let number = if info.sof.is_sequential_dct() { 1 } else { 3 };
                let pixel = number * usize::from(info.components);
                Ok(([info.height.into(), info.width.into()], info.components > 1, pixel))
            }
        }
    }

    fn decode(
        self,
        bytes: &[u8],
        [height, width]: [usize; 2],
        colour: bool,
    ) -> std::result::Result<DynamicImage, String> {
        match self {
            Self::Png => {
                let png = PngDecoder::with_limits(Cursor::new(bytes), limits()).map_err(text)?;
                DynamicImage::from_decoder(png).map_err(text)
            }
            Self::Jpeg => {
                // The decoder fills up what a file that was cut short lacks; its end marker is then not there.
                if !scans(bytes).windows(2).rev().any(|pair| pair == [0xff, 0xd9]) {
                    return Err("no end marker: truncated".into());
                }
                let space = if colour { ColorSpace::RGB } else { ColorSpace::Luma };
                let options = options().jpeg_set_out_colorspace(space);
                let pixels = JpegDecoder::new_with_options(ZCursor::new(bytes), options).decode().map_err(text)?;
                let (width, height) = (width as u32, height as u32);
                let image = match colour {
                    true => image::RgbImage::from_raw(width, height, pixels).map(DynamicImage::from),
                    false => image::GrayImage::from_raw(width, height, pixels).map(DynamicImage::from),
                };
                image.ok_or_else(|| "not all pixels".into())
            }
        }
    }
}

/// The part of a JPEG from its first scan on. Before it are segments, and what they hold (a thumbnail, say) may look like
/// an end marker; in a scan nothing else does.
fn scans(mut jpeg: &[u8]) -> &[u8] {
    const SCAN: u8 = 0xda;
    loop {
        jpeg = match jpeg {
            [0xff, SCAN, scans @ ..] => return scans,
            // Filler before a marker, and the markers without a length: start of image, restarts.
            [0xff, 0xff, ..] => &jpeg[1..],
            [0xff, 0x01 | 0xd0..=0xd8, rest @ ..] => rest,
            [0xff, _, high, low, ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                jpeg.get(2 + length..).unwrap_or_default()
            }
            _ => return &[],
        };
    }
}

fn options() -> DecoderOptions {
    DecoderOptions::default().set_strict_mode(true).set_max_width(MAX_SIDE).set_max_height(MAX_SIDE)
}

fn limits() -> image::Limits {
    let mut limits = image::Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(MAX_SIDE as u32), Some(MAX_SIDE as u32));
    limits
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
        let mut image = head.kind.decode(bytes, head.size, channels == 3)?;
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
    if channels == 3 { image.into_rgb8().into_raw() } else { image.into_luma8().into_raw() }
}
