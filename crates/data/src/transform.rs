//! `Transform`: a movement of pixels that keeps them on their grid, so that a target can follow its image: the large image of
//! super-resolution, or the boxes of a detector.

/// A window of an image, then its mirror image, then quarter turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transform {
    /// The first row of the window; what lies outside the image is black.
    pub top: isize,
    /// Its first column.
    pub left: isize,
    /// Its rows.
    pub height: usize,
    /// Its columns.
    pub width: usize,
    /// Whether it is mirrored left to right.
    pub flip: bool,
    /// How many quarter turns follow, counter-clockwise, 0 to 3.
    pub turns: u8,
}

impl Transform {
    /// Leaves an image of `height` rows and `width` columns as it is.
    pub fn identity(height: usize, width: usize) -> Self {
        Self { top: 0, left: 0, height, width, flip: false, turns: 0 }
    }

    /// The same movement of an image that is `scale` times as high and wide.
    #[must_use]
    pub fn scaled(self, scale: usize) -> Self {
        let by = isize::try_from(scale).unwrap_or(isize::MAX);
        let (top, left) = (self.top.saturating_mul(by), self.left.saturating_mul(by));
        let (height, width) = (self.height.saturating_mul(scale), self.width.saturating_mul(scale));
        Self { top, left, height, width, ..self }
    }

    /// Height and width of the result.
    pub fn size(&self) -> [usize; 2] {
        match self.turns % 2 {
            0 => [self.height, self.width],
            _ => [self.width, self.height],
        }
    }

    /// Where in the window, before the flip and the turns, pixel (`y`, `x`) of the result was.
    fn in_window(&self, y: usize, x: usize) -> [usize; 2] {
        let [y, x] = match self.turns % 4 {
            0 => [y, x],
            1 => [x, self.width - 1 - y],
            2 => [self.height - 1 - y, self.width - 1 - x],
            _ => [self.height - 1 - x, y],
        };
        [y, if self.flip { self.width - 1 - x } else { x }]
    }

    /// Writes the moved `image` of `[height, width, channels]` to `out`; `of(channel, byte)` is what a byte becomes.
    ///
    /// # Panics
    /// The bytes are not those of an image of this shape, or `out` is not as long as the result.
    pub fn write<T>(
        &self,
        image: &[u8],
        [height, width, channels]: [usize; 3],
        out: &mut [T],
        of: impl Fn(usize, u8) -> T,
    ) {
        let [rows, columns] = self.size();
        assert_eq!(image.len(), height * width * channels, "the bytes of an image");
        assert_eq!(out.len(), rows * columns * channels, "the numbers of the result");
        for (i, pixel) in out.chunks_exact_mut(channels.max(1)).enumerate() {
            let [y, x] = self.in_window(i / columns, i % columns);
            let place = |start: isize, i: usize, side: usize| {
                start.checked_add_unsigned(i).and_then(|p| usize::try_from(p).ok()).filter(|&p| p < side)
            };
            match (place(self.top, y, height), place(self.left, x, width)) {
                (Some(y), Some(x)) => {
                    let from = &image[(y * width + x) * channels..][..channels];
                    pixel.iter_mut().zip(from).enumerate().for_each(|(k, (to, &v))| *to = of(k, v));
                }
                _ => pixel.iter_mut().enumerate().for_each(|(k, to)| *to = of(k, 0)),
            }
        }
    }

    /// Where a box `[top, left, bottom, right]` of the image, in pixels from its corner, is in the result; it may lie outside.
    pub fn boxed(&self, [top, left, bottom, right]: [f32; 4]) -> [f32; 4] {
        let (height, width) = (self.height as f32, self.width as f32);
        let (top, bottom) = (top - self.top as f32, bottom - self.top as f32);
        let (left, right) = (left - self.left as f32, right - self.left as f32);
        let (left, right) = if self.flip { (width - right, width - left) } else { (left, right) };
        match self.turns % 4 {
            0 => [top, left, bottom, right],
            1 => [width - right, top, width - left, bottom],
            2 => [height - bottom, width - right, height - top, width - left],
            _ => [left, height - bottom, right, height - top],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn moved(transform: Transform, [height, width]: [usize; 2], image: &[u8]) -> Vec<u8> {
        let mut out = vec![99; transform.height * transform.width];
        transform.write(image, [height, width, 1], &mut out, |_, v| v);
        out
    }

    #[test]
    fn by_hand() {
        let image = [1, 2, 3, 4, 5, 6];
        let identity = Transform::identity(2, 3);
        let turned = |turns| moved(Transform { turns, ..identity }, [2, 3], &image);
        assert_eq!(turned(0), image);
        assert_eq!(turned(1), [3, 6, 2, 5, 1, 4]);
        assert_eq!(turned(2), [6, 5, 4, 3, 2, 1]);
        assert_eq!(turned(3), [4, 1, 5, 2, 6, 3]);
        assert_eq!(Transform { turns: 1, ..identity }.size(), [3, 2]);
        assert_eq!(moved(Transform { flip: true, ..identity }, [2, 3], &image), [3, 2, 1, 6, 5, 4]);
        // The mirror first, then the turn.
        assert_eq!(moved(Transform { flip: true, turns: 1, ..identity }, [2, 3], &image), [1, 4, 2, 5, 3, 6]);
        let window = Transform { top: 1, left: -1, height: 2, width: 2, ..identity };
        assert_eq!(moved(window, [2, 3], &image), [0, 4, 0, 0]);
    }

    proptest! {
        /// A window of an image whose pixels were doubled is the doubled window of the image.
        #[test]
        fn the_large_image_follows(
            (h, w) in (1usize..6, 1usize..6), (top, left) in (-3isize..6, -3isize..6), (height, width) in (1usize..5, 1usize..5),
            flip: bool, turns in 0u8..4, scale in 1usize..4,
        ) {
            let image: Vec<u8> = (0..h * w).map(|i| (i * 7 + 1) as u8).collect();
            let enlarged = |of: &[u8], [h, w]: [usize; 2]| -> Vec<u8> {
                (0..h * scale * w * scale).map(|i| of[i / (w * scale) / scale * w + i % (w * scale) / scale]).collect()
            };
            let transform = Transform { top, left, height, width, flip, turns };
            let small = moved(transform, [h, w], &image);
            let large = moved(transform.scaled(scale), [h * scale, w * scale], &enlarged(&image, [h, w]));
            prop_assert_eq!(enlarged(&small, transform.size()), large);
        }

        /// The box about a pixel moves with the pixel.
        #[test]
        fn boxes_follow(
            (h, w) in (1usize..6, 1usize..6), (top, left) in (-3isize..6, -3isize..6), (height, width) in (1usize..5, 1usize..5),
            flip: bool, turns in 0u8..4, pick: prop::sample::Index,
        ) {
            let transform = Transform { top, left, height, width, flip, turns };
            let place = pick.index(h * w);
            let mut image = vec![0; h * w];
            image[place] = 1;
            let [y, x] = [(place / w) as f32, (place % w) as f32];
            let [rows, columns] = transform.size();
            let boxed = transform.boxed([y, x, y + 1.0, x + 1.0]);
            let out = moved(transform, [h, w], &image);
            match out.iter().position(|&v| v == 1) {
                Some(i) => {
                    let [y, x] = [(i / columns) as f32, (i % columns) as f32];
                    prop_assert_eq!(boxed, [y, x, y + 1.0, x + 1.0]);
                }
                None => prop_assert!(boxed[0] < 0.0 || boxed[1] < 0.0 || boxed[0] >= rows as f32 || boxed[1] >= columns as f32),
            }
        }
    }
}
