//! Images of a report, as PNG within the page.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use fixnet::train::task::Picture;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};

/// Returns an image as a `data:` address; none if it is too large for a PNG.
pub(super) fn address(picture: &Picture) -> Option<String> {
    let [height, width, channels] = picture.shape;
    let color = if channels == 3 { ExtendedColorType::Rgb8 } else { ExtendedColorType::L8 };
    let mut png = Vec::new();
    let (width, height) = (u32::try_from(width).ok()?, u32::try_from(height).ok()?);
    PngEncoder::new(&mut png).write_image(&picture.pixels, width, height, color).ok()?;
    Some(format!("data:image/png;base64,{}", BASE64_STANDARD.encode(png)))
}
