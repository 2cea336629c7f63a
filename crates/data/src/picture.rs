//! `Picture`: an image of bytes in three colours and of any size, as super-resolution reads, compares and writes it.

use crate::image_file::{Head, MAX_SIDE, decode};
use crate::{DataError, Result};
use fixnet_files::input_file;
use fixnet_tensor::Budget;
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use std::path::Path;
use std::sync::Arc;

/// Bytes a pixel: red, green, blue.
pub(crate) const COLOURS: usize = 3;

/// An image of bytes in H, W, C order with three channels: red, green, blue. A clone shares the pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    height: usize,
    width: usize,
    pixels: Arc<[u8]>,
}

impl Picture {
    /// A picture of `height` rows and `width` columns; three bytes a pixel.
    ///
    /// # Errors
    /// As [`bytes_of`](Self::bytes_of); or the bytes are not three a pixel.
    pub fn new(height: usize, width: usize, pixels: Vec<u8>) -> Result<Self> {
        let bytes = Self::bytes_of(height, width)?;
        if pixels.len() != bytes {
            let expected = format!("{bytes} bytes, three for each of {height}x{width} pixels");
            return Err(DataError::setting("picture", &expected, pixels.len()));
        }
        Ok(Self { height, width, pixels: pixels.into() })
    }

    /// The bytes of a picture of this size, before there is memory for it.
    ///
    /// # Errors
    /// A side is 0 or more than 16384, or the picture is beyond [`Budget::IMAGE`].
    pub fn bytes_of(height: usize, width: usize) -> Result<usize> {
        if [height, width].iter().any(|side| !(1..=MAX_SIDE).contains(side)) {
            let expected = format!("sides from 1 to {MAX_SIDE}");
            return Err(DataError::setting("picture", &expected, format!("{height}x{width}")));
        }
        Ok(Budget::IMAGE.clone().claim("a picture", &[height, width, COLOURS], 1)?)
    }

    /// Height and width of the picture in a PNG, JPEG, WebP or BMP file, of which only the head is read.
    ///
    /// # Errors
    /// The file cannot be read, is no such image, or announces one beyond [`Budget::IMAGE`].
    pub fn size_of_file(path: &Path) -> Result<[usize; 2]> {
        Ok(Head::of_file(path)?.size)
    }

    /// Reads a PNG, JPEG, WebP or BMP file. Grey becomes three equal colours; transparency is left out.
    ///
    /// # Errors
    /// As [`size_of_file`](Self::size_of_file); or the image is damaged.
    pub fn read(path: &Path) -> Result<Self> {
        let io = |source| DataError::Io { place: path.display().to_string(), source };
        Self::decode(path, &input_file::read(path, Head::of_file(path)?.len).map_err(io)?)
    }

    /// Reads the bytes of a PNG, JPEG, WebP or BMP file; `path` names it in messages.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn decode(path: &Path, bytes: &[u8]) -> Result<Self> {
        let [height, width] = Head::read(path, std::io::Cursor::new(bytes), bytes.len() as u64)?.size;
        Self::new(height, width, decode(path, bytes, [height, width, COLOURS], false)?)
    }

    /// Returns the picture as the bytes of a PNG file.
    ///
    /// # Errors
    /// The encoder refuses it: never for a picture that was made.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        let mut png = Vec::new();
        let (width, height) = (self.width as u32, self.height as u32);
        let written = PngEncoder::new(&mut png).write_image(&self.pixels, width, height, ExtendedColorType::Rgb8);
        let wrong = |e: image::ImageError| DataError::setting("picture", "one that a PNG file can hold", e);
        written.map(|()| png).map_err(wrong)
    }

    /// The number of rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The number of columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height, width and 3.
    pub fn shape(&self) -> [usize; 3] {
        [self.height, self.width, COLOURS]
    }

    /// The bytes, H, W, C.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The bytes, shared.
    pub(crate) fn shared(&self) -> Arc<[u8]> {
        Arc::clone(&self.pixels)
    }

    /// The first `height` rows and `width` columns from (`top`, `left`) on.
    ///
    /// # Errors
    /// The window is empty or not inside the picture.
    pub fn window(&self, [top, left]: [usize; 2], [height, width]: [usize; 2]) -> Result<Self> {
        let inside =
            |start: usize, len: usize, side: usize| len > 0 && start.checked_add(len).is_some_and(|end| end <= side);
        if !inside(top, height, self.height) || !inside(left, width, self.width) {
            let expected = format!("a window inside {}x{}", self.height, self.width);
            return Err(DataError::setting("picture", &expected, format!("{height}x{width} from ({top}, {left})")));
        }
        let row = |y: usize| &self.pixels[(y * self.width + left) * COLOURS..][..width * COLOURS];
        Self::new(height, width, (top..top + height).flat_map(row).copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_survive_a_png_and_windows_are_cut_by_hand() {
        let picture = Picture::new(2, 3, (0..18).collect()).unwrap();
        let again = Picture::decode(Path::new("x.png"), &picture.to_png().unwrap()).unwrap();
        assert_eq!(again, picture);
        assert_eq!(picture.window([1, 1], [1, 2]).unwrap().pixels(), [12, 13, 14, 15, 16, 17]);
        for (from, size) in [([0, 0], [3, 1]), ([2, 0], [1, 1]), ([0, 0], [0, 1]), ([usize::MAX, 0], [1, 1])] {
            assert!(picture.window(from, size).unwrap_err().to_string().contains("inside 2x3"));
        }
        assert!(Picture::new(2, 3, vec![0; 17]).unwrap_err().to_string().contains("18 bytes"));
        assert!(Picture::new(0, 3, vec![]).is_err() && Picture::new(1, 1 << 15, vec![0; 3 << 15]).is_err());
    }

    #[test]
    fn grey_files_become_three_equal_colours() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("grey.png");
        image::GrayImage::from_raw(2, 1, vec![7, 9]).unwrap().save(&path).unwrap();
        assert_eq!(Picture::size_of_file(&path).unwrap(), [1, 2]);
        assert_eq!(Picture::read(&path).unwrap().pixels(), [7, 7, 7, 9, 9, 9]);
    }
}
