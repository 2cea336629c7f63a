//! `Image`: an image of bytes with any number of channels, as a network is asked about it, and how it becomes one of the size and
//! the channels that the network takes.

use crate::image_file::{Head, MAX_SIDE, bytes_of, decode, scaled};
use crate::{DataError, Picture, Result};
use fixnet_files::input_file;
use fixnet_tensor::Budget;
use image::{DynamicImage, GrayAlphaImage, GrayImage, RgbImage, RgbaImage};
use std::{path::Path, sync::Arc};

/// An image of bytes in H, W, C order. A clone shares the bytes.
///
/// ```
/// use fixnet_data::Image;
/// let image = Image::new([1, 2, 1], vec![0, 255])?;
/// let coloured = image.converted([1, 2, 3])?;
/// assert_eq!(coloured.bytes(), [0, 0, 0, 255, 255, 255]);
/// # Ok::<(), fixnet_data::DataError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    shape: [usize; 3],
    bytes: Arc<[u8]>,
}

impl Image {
    /// Makes an image of `shape`: height, width and channels. One channel is grey; three are red, green and blue.
    ///
    /// # Errors
    /// A side is 0 or more than 16384, there are no channels, the image is beyond [`Budget::IMAGE`], or there is not one byte for
    /// each pixel and channel.
    pub fn new(shape: [usize; 3], bytes: Vec<u8>) -> Result<Self> {
        let [height, width, channels] = shape;
        let len = Budget::IMAGE.clone().claim("an image", &shape, 1)?;
        if [height, width].iter().any(|side| !(1..=MAX_SIDE).contains(side)) || channels == 0 {
            let expected = format!("sides from 1 to {MAX_SIDE} and at least one channel");
            return Err(DataError::setting("image", &expected, described(shape)));
        }
        if bytes.len() != len {
            let expected = format!("{len} bytes, as {} has", described(shape));
            return Err(DataError::setting("image", &expected, bytes.len()));
        }
        Ok(Self { shape, bytes: bytes.into() })
    }

    /// Reads a PNG, JPEG, WebP or BMP file: one channel if it is grey, and else three. Transparency is left out.
    ///
    /// # Errors
    /// The file cannot be read, is no such image or a damaged one, or announces one beyond [`Budget::IMAGE`].
    pub fn read(path: &Path) -> Result<Self> {
        Ok(Self::read_as(path, Ok)?.0)
    }

    /// As [`read`](Self::read), scaled to the shape that `wanted` returns for that of the file, which is the second result. The
    /// bytes are those that a folder of training images has of this file.
    pub(crate) fn read_as(
        path: &Path,
        wanted: impl FnOnce([usize; 3]) -> Result<[usize; 3]>,
    ) -> Result<(Self, [usize; 3])> {
        let head = Head::of_file(path)?;
        let found = [head.size[0], head.size[1], if head.colour { 3 } else { 1 }];
        let shape = wanted(found)?;
        if !matches!(shape[2], 1 | 3) {
            return Err(not_convertible(&path.display().to_string(), shape, found));
        }
        let bytes = input_file::read(path, head.len)
            .map_err(|source| DataError::Io { place: path.display().to_string(), source })?;
        let bytes = decode(path, &bytes, shape, shape[..2] != found[..2])?;
        Ok((Self::new(shape, bytes)?, found))
    }

    /// Height, width and channels.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// The bytes, H, W, C.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the image in another shape, as a folder of images with `image_size` is read: the middle, cut to the proportions of
    /// the shape, is scaled; grey becomes three equal colours, colours become their brightness, and transparency is left out.
    ///
    /// # Errors
    /// Size or channels differ, and the image has more than four channels or the shape neither one nor three; or scaling takes more
    /// than [`Budget::IMAGE`].
    pub fn converted(&self, shape: [usize; 3]) -> Result<Self> {
        if self.shape == shape {
            return Ok(self.clone());
        }
        let [height, width, channels] = self.shape;
        let (bytes, [h, w]) = (self.bytes.to_vec(), [height as u32, width as u32]);
        let image = match channels {
            1 => GrayImage::from_raw(w, h, bytes).map(DynamicImage::from),
            2 => GrayAlphaImage::from_raw(w, h, bytes).map(DynamicImage::from),
            3 => RgbImage::from_raw(w, h, bytes).map(DynamicImage::from),
            4 => RgbaImage::from_raw(w, h, bytes).map(DynamicImage::from),
            _ => None,
        };
        let image = image.filter(|_| matches!(shape[2], 1 | 3));
        let image = image.ok_or_else(|| not_convertible("image", shape, self.shape))?;
        // Scaling goes over the columns first, in floats of four channels.
        Budget::IMAGE.clone().claim("an image, scaled", &[width, shape[0]], 16)?;
        Self::new(shape, bytes_of(scaled(image, [shape[0], shape[1]]), shape[2]))
    }

    /// Returns the image as a picture in three colours.
    ///
    /// # Errors
    /// It has more than four channels.
    pub fn picture(&self) -> Result<Picture> {
        let [height, width, _] = self.shape;
        Picture::new(height, width, self.converted([height, width, 3])?.bytes.to_vec())
    }
}

impl From<&Picture> for Image {
    fn from(picture: &Picture) -> Self {
        Self { shape: picture.shape(), bytes: picture.shared() }
    }
}

/// An image as messages have it: `28x28 in 1 channel`.
pub(crate) fn described([height, width, channels]: [usize; 3]) -> String {
    let s = if channels == 1 { "" } else { "s" };
    format!("{height}x{width} in {channels} channel{s}")
}

/// The error of an image whose channels cannot become those of `shape`.
pub(crate) fn not_convertible(place: &str, shape: [usize; 3], found: [usize; 3]) -> DataError {
    let expected =
        format!("an image of {} (others are converted from grey or colours to grey or colours)", described(shape));
    DataError::setting(place, &expected, described(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(shape: [usize; 3]) -> Image {
        Image::new(shape, (0..shape.iter().product()).map(|i: usize| (i * i % 251) as u8).collect()).unwrap()
    }

    #[test]
    fn files_and_bytes_become_the_same() {
        let place = tempfile::tempdir().unwrap();
        for channels in [1, 3] {
            let path = place.path().join("x.png");
            let original = image([9, 14, channels]);
            match channels {
                1 => GrayImage::from_raw(14, 9, original.bytes().to_vec()).unwrap().save(&path).unwrap(),
                _ => RgbImage::from_raw(14, 9, original.bytes().to_vec()).unwrap().save(&path).unwrap(),
            }
            assert_eq!(Image::read(&path).unwrap(), original);
            for shape in [[9, 14, 1], [9, 14, 3], [4, 4, 1], [20, 20, 3], [5, 8, 3], [3, 12, 1]] {
                let (read, found) = Image::read_as(&path, |_| Ok(shape)).unwrap();
                assert_eq!((read, found), (original.converted(shape).unwrap(), [9, 14, channels]), "{shape:?}");
            }
        }
    }

    #[test]
    fn the_middle_is_cut_to_the_proportions_wanted() {
        // Bright in the middle four of eight columns.
        let pixel = |i: usize| if (2..6).contains(&(i % 8)) { 200 } else { 0 };
        let wide = Image::new([4, 8, 1], (0..32).map(pixel).collect()).unwrap();
        assert_eq!(wide.converted([4, 4, 1]).unwrap().bytes(), [200; 16]);
        let high =
            Image::new([8, 4, 1], (0..32).map(|i| if (8..24).contains(&i) { 200 } else { 0 }).collect()).unwrap();
        assert_eq!(high.converted([4, 4, 3]).unwrap().bytes(), [200; 48]);
        // Proportions that fit leave nothing out.
        assert_eq!(image([2, 4, 1]).converted([4, 8, 1]).unwrap().shape(), [4, 8, 1]);
        assert_eq!(Image::new([1, 9, 1], vec![7; 9]).unwrap().converted([4, 4, 1]).unwrap().bytes(), [7; 16]);
    }

    #[test]
    fn channels_become_others_where_that_is_known() {
        let coloured = Image::new([1, 1, 3], vec![255, 0, 0]).unwrap();
        assert_eq!(coloured.converted([1, 1, 1]).unwrap().bytes(), [54]);
        let clear = Image::new([1, 1, 4], vec![1, 2, 3, 0]).unwrap();
        assert_eq!(clear.converted([1, 1, 3]).unwrap().bytes(), [1, 2, 3]);
        assert_eq!(clear.picture().unwrap().pixels(), [1, 2, 3]);
        for (from, to) in [([1, 1, 5], [1, 1, 3]), ([2, 2, 7], [1, 1, 7]), ([1, 1, 3], [1, 1, 2])] {
            let e = image(from).converted(to).unwrap_err().to_string();
            assert!(e.contains(&described(to)) && e.ends_with(&format!("found {}", described(from))), "{e}");
        }
        assert_eq!(image([2, 2, 7]).converted([2, 2, 7]).unwrap(), image([2, 2, 7]));
        assert!(Image::new([1, 2, 1], vec![0]).unwrap_err().to_string().contains("2 bytes"));
        assert!(Image::new([0, 2, 1], vec![]).is_err() && Image::new([1, 1, 0], vec![]).is_err());
    }
}
