//! Anchors: boxes of several sizes and shapes at each place of each level of a feature pyramid.

use fixnet_autograd::{Error, Result};
use fixnet_data::BoundingBox;
use serde::{Deserialize, Serialize};

/// The anchors of a pyramid, as torchvision's `AnchorGenerator` makes them.
///
/// An anchor of size s and ratio r = height / width is `s·sqrt(r)` high and `s/sqrt(r)` wide, its corners about the place rounded to
/// whole pixels, ties to even. Anchors go level by level, row by row, and at a place ratio by ratio, each with all sizes.
///
/// ```
/// use fixnet_nn::detection::AnchorConfig;
/// let anchors = AnchorConfig { levels: [3, 4], sizes: vec![vec![16], vec![32]], ratios: vec![0.5, 1.0, 2.0] };
/// assert_eq!((anchors.count(), anchors.grids([32, 64])), (3, vec![[4, 8], [2, 4]]));
/// let boxes = anchors.boxes([32, 64]);
/// assert_eq!(boxes.len(), 3 * (32 + 8));
/// assert_eq!(boxes[1].to_array(), [-8.0, -8.0, 8.0, 8.0]);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnchorConfig {
    /// The first and the last level: the grid of level l is smaller than the image by `2^l`. Above level 5 each grid is half of the
    /// one below, rounded up.
    pub levels: [usize; 2],
    /// The sizes of each level in pixels.
    pub sizes: Vec<Vec<usize>>,
    /// Height by width.
    pub ratios: Vec<f32>,
}

impl AnchorConfig {
    /// Checks that there are equally many sizes for each level, and that images of `[height, width]` have no more anchors than memory has
    /// room for.
    ///
    /// # Errors
    /// They do not fit.
    pub fn check(&self, [height, width]: [usize; 2]) -> Result<()> {
        let [first, last] = self.levels;
        let each = self.sizes.first().map_or(0, Vec::len);
        if first > last
            || last >= 30
            || self.sizes.len() != last + 1 - first
            || self.sizes.iter().any(|s| s.len() != each)
        {
            let expected = format!(
                "equally many sizes for each of the levels {first} to {last}, the first at most the last and that below 30"
            );
            return Err(Error::setting("anchors", expected, format!("{:?}", self.sizes)));
        }
        let pixels = (height as u128) * (width as u128);
        let most = (self.sizes.len() * self.count()) as u128;
        if height >= 1 << 20 || width >= 1 << 20 || (pixels.saturating_mul(most) >> (2 * first)) >= 1 << 23 {
            return Err(Error::setting("anchors", "fewer than 2^23", format!("{most} for {height} x {width} pixels")));
        }
        Ok(())
    }

    /// Returns the number of anchors at each place, that of the first level.
    pub fn count(&self) -> usize {
        self.sizes.first().map_or(0, Vec::len) * self.ratios.len()
    }

    /// Returns the rows and columns of the grid of each level, for images of `[height, width]` that are multiples of `2^l` of the last
    /// level, or of 32.
    pub fn grids(&self, size: [usize; 2]) -> Vec<[usize; 2]> {
        let [first, last] = self.levels;
        let grid = |level: usize| size.map(|n| (level.min(5)..level).fold(n >> level.min(5), |n, _| n.div_ceil(2)));
        (first..=last).map(grid).collect()
    }

    /// Returns the anchors of a level about a place.
    fn cell(&self, level: usize) -> Vec<BoundingBox> {
        let of = |ratio: f32, size: usize| {
            let (root, size) = (ratio.sqrt(), size as f32);
            let [w, h] = [1.0 / root * size, root * size];
            let half = |v: f32| (v / 2.0).round_ties_even();
            BoundingBox::new(half(-w), half(-h), half(w), half(h))
        };
        let sizes = self.sizes.get(level).map_or(&[][..], Vec::as_slice);
        self.ratios.iter().flat_map(|&ratio| sizes.iter().map(move |&size| of(ratio, size))).collect()
    }

    /// Makes all anchors of an image of `[height, width]`. Neighbours are as far apart as the height, or width, divided by that of the
    /// grid, rounded down.
    pub fn boxes(&self, size: [usize; 2]) -> Vec<BoundingBox> {
        let mut all = Vec::new();
        for (level, [rows, columns]) in self.grids(size).into_iter().enumerate() {
            let cell = self.cell(level);
            let [dy, dx] = [size[0] / rows.max(1), size[1] / columns.max(1)];
            for (y, x) in (0..rows).flat_map(|y| (0..columns).map(move |x| (y, x))) {
                all.extend(cell.iter().map(|anchor| anchor.shifted([(y * dy) as f32, (x * dx) as f32])));
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of torchvision 0.29's `AnchorGenerator` for `sizes=((32, 40, 50),)`, `aspect_ratios=((0.5, 1, 2),)`.
    #[test]
    fn cells_are_those_of_torchvision() {
        let anchors = AnchorConfig { levels: [3, 3], sizes: vec![vec![32, 40, 50]], ratios: vec![0.5, 1.0, 2.0] };
        let cell: Vec<[f32; 4]> = anchors.cell(0).iter().map(BoundingBox::to_array).collect();
        let expected = [
            [-23.0, -11.0, 23.0, 11.0],
            [-28.0, -14.0, 28.0, 14.0],
            [-35.0, -18.0, 35.0, 18.0],
            [-16.0, -16.0, 16.0, 16.0],
            [-20.0, -20.0, 20.0, 20.0],
            [-25.0, -25.0, 25.0, 25.0],
            [-11.0, -23.0, 11.0, 23.0],
            [-14.0, -28.0, 14.0, 28.0],
            [-18.0, -35.0, 18.0, 35.0],
        ];
        assert_eq!(cell, expected);
    }

    #[test]
    fn grids_above_the_fifth_level_are_rounded_up() {
        let anchors = AnchorConfig { levels: [3, 7], sizes: vec![vec![8]; 5], ratios: vec![1.0] };
        assert_eq!(anchors.grids([96, 64]), [[12, 8], [6, 4], [3, 2], [2, 1], [1, 1]]);
        let boxes = anchors.boxes([96, 64]);
        // The second row of level 6 is 48 pixels down, torchvision's 96 // 2.
        assert_eq!(boxes[96 + 24 + 6 + 1].to_array(), [-4.0, 44.0, 4.0, 52.0]);
    }
}
