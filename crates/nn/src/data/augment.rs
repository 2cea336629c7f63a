//! Augmentation: random crop of the padded image and random horizontal flip.

use super::Dataset;
use fixnet_tensor::rng::{Stream, domain};

/// How training images are varied. The default changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Augment {
    /// The image is framed with this many black pixels on each side and cropped to its size at a random place.
    pub crop_padding: usize,
    /// Half of the images are mirrored left to right.
    pub flip: bool,
}

/// One drawn variation: the crop starts at `(dy, dx) - padding` of the image, then columns are mirrored if `flip`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Variation {
    dy: isize,
    dx: isize,
    flip: bool,
}

impl Augment {
    /// The variation of image `index` in an epoch: a function of these numbers alone.
    pub(super) fn draw(&self, seed: u64, epoch: u32, index: usize) -> Variation {
        let stream = Stream::new(seed, domain::AUGMENT, epoch, index as u32);
        // Far beyond the side of any image a larger frame makes no difference: nearly every crop is black.
        let padding = self.crop_padding.min(usize::from(u16::MAX)) as u32;
        let offset = |i| stream.below(i, 2 * padding + 1) as isize - padding as isize;
        Variation { dy: offset(0), dx: offset(1), flip: self.flip && stream.u32_at(2) >> 31 == 1 }
    }
}

impl Variation {
    /// The image as it is.
    pub(super) const NONE: Self = Self { dy: 0, dx: 0, flip: false };

    /// Writes the varied and normalized image `index` to `out`. Black (byte 0) fills what lies outside, so padding means
    /// the same before and after normalization.
    pub(super) fn write(&self, data: &Dataset, index: usize, tables: &[[f32; 256]], out: &mut [f32]) {
        let [height, width, channels] = data.shape();
        let image = data.image(index);
        for (y, row) in out.chunks_exact_mut(width * channels).enumerate() {
            let from = y.checked_add_signed(self.dy).filter(|&y| y < height);
            let from = from.map(|y| &image[y * width * channels..][..width * channels]);
            for (x, pixel) in row.chunks_exact_mut(channels).enumerate() {
                let x = if self.flip { width - 1 - x } else { x };
                let x = x.checked_add_signed(self.dx).filter(|&x| x < width);
                match from.zip(x) {
                    Some((row, x)) => {
                        let bytes = &row[x * channels..][..channels];
                        for ((to, &v), table) in pixel.iter_mut().zip(bytes).zip(tables) {
                            *to = table[usize::from(v)];
                        }
                    }
                    None => pixel.iter_mut().zip(tables).for_each(|(to, table)| *to = table[0]),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn varied(dy: isize, dx: isize, flip: bool) -> Vec<f32> {
        // Two rows of three pixels; the table shifts by 100 so that black is not 0.
        let data = Dataset::new("d", [2, 3, 1], 1, vec![1, 2, 3, 4, 5, 6], vec![0]).unwrap();
        let mut out = vec![f32::NAN; 6];
        let table = std::array::from_fn(|v| v as f32 + 100.0);
        Variation { dy, dx, flip }.write(&data, 0, &[table], &mut out);
        out.iter().map(|v| v - 100.0).collect()
    }

    #[test]
    fn crops_and_flips_by_hand() {
        assert_eq!(varied(0, 0, false), [1., 2., 3., 4., 5., 6.]);
        assert_eq!(varied(0, 0, true), [3., 2., 1., 6., 5., 4.]);
        assert_eq!(varied(1, 0, false), [4., 5., 6., 0., 0., 0.]);
        assert_eq!(varied(-1, -1, false), [0., 0., 0., 0., 1., 2.]);
        assert_eq!(varied(0, 2, true), [0., 0., 3., 0., 0., 6.]);
        assert_eq!(varied(5, 5, false), [0.; 6]);
    }

    #[test]
    fn all_offsets_and_both_flips_occur_about_equally() {
        let augment = Augment { crop_padding: 2, flip: true };
        let (mut counts, mut flips) = ([[0; 5]; 5], 0);
        for index in 0..5000 {
            let v = augment.draw(1, 2, index);
            counts[(v.dy + 2) as usize][(v.dx + 2) as usize] += 1;
            flips += usize::from(v.flip);
        }
        assert!(counts.iter().flatten().all(|n| (140..260).contains(n)), "{counts:?}");
        assert!((2300..2700).contains(&flips), "{flips}");
    }

    #[test]
    fn seed_epoch_and_index_all_matter() {
        let augment = Augment { crop_padding: 100, flip: true };
        let base = augment.draw(1, 2, 3);
        assert_eq!(base, augment.draw(1, 2, 3));
        assert!([augment.draw(2, 2, 3), augment.draw(1, 3, 3), augment.draw(1, 2, 4)].iter().all(|v| *v != base));
        assert_eq!(Augment::default().draw(1, 2, 3), Variation::NONE);
        Augment { crop_padding: usize::MAX, flip: false }.draw(1, 2, 3); // an absurd frame must not overflow
    }
}
