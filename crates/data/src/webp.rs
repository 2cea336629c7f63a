//! WebP files, lossy and lossless. A moving one is refused: which of its images would be meant?

use crate::image_kind::{Decoded, Fault, Header, orientation, size_of, text};
use image::{DynamicImage, RgbImage, RgbaImage};
use image_webp::WebPDecoder;
use std::io::{BufRead, Cursor, Seek};

/// The most bytes of metadata that are looked at for the orientation.
const MOST_METADATA: usize = 1 << 16;

pub(crate) fn header<R: BufRead + Seek>(from: R) -> Decoded<Header> {
    let mut webp = WebPDecoder::new(from).map_err(text)?;
    if webp.is_animated() {
        return Err(Fault::Other("an animated WebP (store one of its images)".into()));
    }
    webp.set_memory_limit(MOST_METADATA);
    // What the decoder holds at a time: planes of 1.5 bytes a pixel and its result, which has 3 or 4; lossless pixels have 4,
    // and so have those of a compressed transparency.
    let pixel = match (webp.is_lossy(), webp.has_alpha()) {
        (true, true) => 11,
        (true, false) => 5,
        (false, true) => 4,
        (false, false) => 7,
    };
    let orientation = orientation(webp.exif_metadata().ok().flatten().as_deref());
    Ok(Header { size: size_of(webp.dimensions()), colour: true, pixel, orientation, moves: false })
}

pub(crate) fn decode(bytes: &[u8]) -> Decoded<DynamicImage> {
    let mut webp = WebPDecoder::new(Cursor::new(bytes)).map_err(text)?;
    let (width, height) = webp.dimensions();
    if let Some(found) = size_of_frame(bytes).filter(|found| *found != (width, height)) {
        return Err(format!("{width}x{height} announced for pixels of {}x{}", found.0, found.1).into());
    }
    let mut pixels = vec![0; webp.output_buffer_size().ok_or("too large")?];
    webp.read_image(&mut pixels).map_err(text)?;
    let image = match webp.has_alpha() {
        true => RgbaImage::from_raw(width, height, pixels).map(DynamicImage::from),
        false => RgbImage::from_raw(width, height, pixels).map(DynamicImage::from),
    };
    image.ok_or_else(|| "not all pixels".into())
}

/// Width and height of lossy pixels by their own header. The decoder allocates for these before it compares them with the size
/// that the file announces.
fn size_of_frame(bytes: &[u8]) -> Option<(u32, u32)> {
    let mut chunks = bytes.get(12..)?;
    loop {
        let (head, rest) = chunks.split_at_checked(8)?;
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        if &head[..4] == b"VP8 " {
            let side = |at: usize| Some(u32::from(u16::from_le_bytes([*rest.get(at)?, *rest.get(at + 1)?]) & 0x3fff));
            return Some((side(6)?, side(8)?));
        }
        // A chunk of an odd length is followed by a byte.
        chunks = rest.get(length.checked_add(length % 2)?..)?;
    }
}
