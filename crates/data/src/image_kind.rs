//! The kinds of image files: what the header of each says, and its pixels.
//!
//! Every decoder is written in Rust and computes in whole numbers, so every machine sees the same bytes. JPEG is decoded by
//! zune-jpeg without its SIMD routines, WebP by image-webp, PNG and BMP by image.

use crate::image_file::MAX_SIDE;
use crate::webp;
use image::{
    DynamicImage, GrayImage, ImageDecoder, ImageError, RgbImage,
    codecs::{bmp::BmpDecoder, png::PngDecoder},
    metadata::Orientation,
};
use std::io::{BufRead, Cursor, Seek};
use zune_jpeg::{
    JpegDecoder,
    zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions},
};

/// What is wrong with a file, or what it holds.
pub(crate) type Decoded<T> = std::result::Result<T, Fault>;

/// Why a file is not read.
#[derive(Debug, PartialEq)]
pub(crate) enum Fault {
    /// It is damaged: what the decoder said.
    Damaged(String),
    /// It is whole, and of a form that is not read: what it is.
    Other(String),
}

impl From<String> for Fault {
    fn from(reason: String) -> Self {
        Self::Damaged(reason)
    }
}

impl From<&str> for Fault {
    fn from(reason: &str) -> Self {
        Self::Damaged(reason.into())
    }
}

/// A kind of image files.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Png,
    Jpeg,
    WebP,
    Bmp,
}

/// What a header says of the pixels as they are stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Header {
    /// Height and width, before the image is turned.
    pub(crate) size: [usize; 2],
    /// Whether there are colours.
    pub(crate) colour: bool,
    /// The bytes that a decoder takes for a pixel.
    pub(crate) pixel: usize,
    /// What is to be done with the pixels, as EXIF says.
    pub(crate) orientation: Orientation,
    /// Whether further images follow, of which none is read.
    pub(crate) moves: bool,
}

/// How many bytes of a file are looked at to tell its kind.
pub(crate) const START: u64 = 12;

impl Kind {
    /// The kind of a file that begins so.
    pub(crate) fn of(start: &[u8]) -> Option<Self> {
        match start {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(Self::Png),
            [0xff, 0xd8, 0xff, ..] => Some(Self::Jpeg),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P'] => Some(Self::WebP),
            [b'B', b'M', ..] => Some(Self::Bmp),
            _ => None,
        }
    }

    /// The most pixels that a byte of a file may stand for; without a bound the memory of the image is the only one.
    pub(crate) fn most_pixels(self) -> Option<u64> {
        match self {
            // Deflate shortens 1032 times at most, and a byte holds eight pixels at most.
            Self::Png => Some(8 * 1032),
            // A block of 64 pixels takes at least a bit.
            Self::Jpeg => Some(8 * 64),
            // An image of one colour takes no bits at all.
            Self::WebP => None,
            // A run of 255 pixels takes two bytes.
            Self::Bmp => Some(128),
        }
    }

    pub(crate) fn header<R: BufRead + Seek>(self, from: R) -> Decoded<Header> {
        match self {
            Self::Png => {
                let mut png = PngDecoder::with_limits(from, limits()).map_err(png_fault)?;
                let (colour, size) = (png.color_type(), size_of(png.dimensions()));
                let orientation = orientation(png.exif_metadata().ok().flatten().as_deref());
                let pixel = colour.bytes_per_pixel().into();
                let moves = png.is_apng().unwrap_or(false);
                Ok(Header { size, colour: colour.has_color(), pixel, orientation, moves })
            }
            Self::Jpeg => {
                let mut jpeg = JpegDecoder::new_with_options(from, options());
                jpeg.decode_headers().map_err(text)?;
                let orientation = orientation(jpeg.exif().map(Vec::as_slice));
                let info = jpeg.info().ok_or("no frame")?;
                // A progressive file keeps a coefficient of two bytes beside each byte.
                let number = if info.sof.is_sequential_dct() { 1 } else { 3 };
                let pixel = number * usize::from(info.components);
                let size = [info.height.into(), info.width.into()];
                Ok(Header { size, colour: info.components > 1, pixel, orientation, moves: false })
            }
            Self::WebP => webp::header(from),
            Self::Bmp => {
                let bmp = BmpDecoder::new(from).map_err(text)?;
                let grey = bmp.get_palette().is_some_and(|all| all.iter().all(|[r, g, b]| r == g && g == b));
                let (size, pixel) = (size_of(bmp.dimensions()), bmp.color_type().bytes_per_pixel().into());
                Ok(Header { size, colour: !grey, pixel, orientation: Orientation::NoTransforms, moves: false })
            }
        }
    }

    /// The pixels of a file with this header, before they are turned.
    pub(crate) fn decode(self, bytes: &[u8], header: &Header) -> Decoded<DynamicImage> {
        match self {
            Self::Png => {
                let png = PngDecoder::with_limits(Cursor::new(bytes), limits()).map_err(text)?;
                Ok(DynamicImage::from_decoder(png).map_err(text)?)
            }
            Self::Jpeg => {
                // The decoder fills up what a file that was cut short lacks; its end marker is then not there.
                if !scans(bytes).windows(2).rev().any(|pair| pair == [0xff, 0xd9]) {
                    return Err("no end marker: truncated".into());
                }
                let space = if header.colour { ColorSpace::RGB } else { ColorSpace::Luma };
                let options = options().jpeg_set_out_colorspace(space);
                let pixels = JpegDecoder::new_with_options(ZCursor::new(bytes), options).decode().map_err(text)?;
                let [height, width] = header.size.map(|side| side as u32);
                let image = match header.colour {
                    true => RgbImage::from_raw(width, height, pixels).map(DynamicImage::from),
                    false => GrayImage::from_raw(width, height, pixels).map(DynamicImage::from),
                };
                image.ok_or_else(|| "not all pixels".into())
            }
            Self::WebP => webp::decode(bytes),
            Self::Bmp => {
                let bmp = BmpDecoder::new(Cursor::new(bytes)).map_err(text)?;
                Ok(DynamicImage::from_decoder(bmp).map_err(text)?)
            }
        }
    }
}

pub(crate) fn text(e: impl ToString) -> String {
    e.to_string()
}

/// Height and width of columns and rows.
pub(crate) fn size_of((width, height): (u32, u32)) -> [usize; 2] {
    [height as usize, width as usize]
}

/// What the metadata of a file say about its orientation. Those that cannot be read say nothing, as in other programs.
pub(crate) fn orientation(exif: Option<&[u8]>) -> Orientation {
    let exif = exif.map(|exif| exif.strip_prefix(b"Exif\0\0").unwrap_or(exif));
    exif.and_then(Orientation::from_exif_chunk).unwrap_or(Orientation::NoTransforms)
}

/// Whether an orientation makes rows of columns.
pub(crate) fn is_turned(orientation: Orientation) -> bool {
    orientation.to_exif() >= 5
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

/// The longest side that a JPEG can announce. One beyond [`MAX_SIDE`] is told by its header, in the same words as of other kinds.
const JPEG_SIDE: usize = 0xffff;

fn options() -> DecoderOptions {
    DecoderOptions::default().set_strict_mode(true).set_max_width(JPEG_SIDE).set_max_height(JPEG_SIDE)
}

/// Why a PNG is not read: a large one is not damaged.
fn png_fault(e: ImageError) -> Fault {
    match e {
        ImageError::Limits(_) => Fault::Other(format!("a larger one, with a side beyond {MAX_SIDE}")),
        other => text(other).into(),
    }
}

fn limits() -> image::Limits {
    let mut limits = image::Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(MAX_SIDE as u32), Some(MAX_SIDE as u32));
    limits
}
