//! Normalization of each channel or column: to numbers of mean 0 and deviation 1 over the training set.

use crate::{
    DataError, Dataset, Result, Targets,
    samples::{Moments, Sums},
};
use fixnet_tensor::Tensor;
use serde::{Deserialize, Serialize};

/// Mean and standard deviation of each channel of images, on the scale where 255 is 1; or of each column of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Form")]
pub struct Normalize {
    mean: Vec<f32>,
    std: Vec<f32>,
}

/// A normalization as it is written, not checked yet.
#[derive(Deserialize)]
struct Form {
    mean: Vec<f32>,
    std: Vec<f32>,
}

impl TryFrom<Form> for Normalize {
    type Error = DataError;

    fn try_from(form: Form) -> Result<Self> {
        Self::new(form.mean, form.std)
    }
}

impl Normalize {
    /// The mean and standard deviation over all pixels or rows of `data`, usually the training set.
    ///
    /// Of bytes, sums are exact integers; division and square root are rounded once each. Of floats, sums are `f64` and go from
    /// the first sample to the last. So the result is the same everywhere. A channel or column of one single value gets
    /// deviation 1. Of images that are streamed, no more than 4096, evenly spread, count.
    pub fn of<T: Targets>(data: &Dataset<T>) -> Self {
        let Sums { sums, count } = match data.moments() {
            Moments::Sums(sums) => sums,
            Moments::Floats(moments) => {
                let (mean, std) = moments.into_iter().map(|[mean, std]| (mean, std)).unzip();
                return Self { mean, std };
            }
        };
        of_sums(&sums, count)
    }

    /// Given means and standard deviations, one of each a channel (on the scale where 255 is 1) or column.
    ///
    /// # Errors
    /// They are not as many, a number is not finite, or a deviation is not above 0.
    pub fn new(mean: Vec<f32>, std: Vec<f32>) -> Result<Self> {
        let right = mean.len() == std.len() && mean.iter().all(|m| m.is_finite()) && std.iter().all(|s| *s > 0.0);
        match right && std.iter().all(|s| s.is_finite()) {
            true => Ok(Self { mean, std }),
            false => {
                let found = format!("{mean:?} and {std:?}");
                let expected = "as many means as deviations, all finite, deviations above 0";
                Err(DataError::Unexpected { place: "normalization".into(), expected: expected.into(), found })
            }
        }
    }

    /// Leaves pixels as they are, from 0 to 1, and columns too: for a network that normalizes its input itself, such as a
    /// plan with a normalization.
    pub fn none(channels: usize) -> Self {
        Self { mean: vec![0.0; channels], std: vec![1.0; channels] }
    }

    /// What a network sees of pixels from 0 to 1 in N, H, W, C order, or of rows: `(x - mean) / std`, rounded twice, as the
    /// loader computes it of bytes divided by 255 and of floats.
    ///
    /// # Errors
    /// The last axis is not that of the channels or columns.
    pub fn apply(&self, images: &Tensor) -> fixnet_tensor::Result<Tensor> {
        let channels = self.mean.len();
        if images.shape().last() != Some(&channels) {
            return Err(fixnet_tensor::Error::shape("normalize", format!("[.., {channels}]"), images.shape()));
        }
        let mut out = images.clone();
        self.apply_to(out.data_mut());
        Ok(out)
    }

    /// [`apply`](Self::apply) to whole pixels or rows in place.
    pub(crate) fn apply_to(&self, values: &mut [f32]) {
        for pixel in values.chunks_exact_mut(self.mean.len().max(1)) {
            pixel.iter_mut().zip(self.mean.iter().zip(&self.std)).for_each(|(x, (m, s))| *x = (*x - m) / s);
        }
    }

    /// The mean of each channel or column.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// The standard deviation of each channel or column.
    pub fn std(&self) -> &[f32] {
        &self.std
    }

    /// For each channel what every byte becomes: `(v / 255 - mean) / std`, each operation rounded to `f32`.
    pub(crate) fn tables(&self) -> Vec<[f32; 256]> {
        let table = |(&mean, &std): (&f32, &f32)| std::array::from_fn(|v| (v as f32 / 255.0 - mean) / std);
        self.mean.iter().zip(&self.std).map(table).collect()
    }
}

/// The normalization of channels with these sums and sums of squares of `count` bytes each.
pub(crate) fn of_sums(sums: &[[u64; 2]], count: u64) -> Normalize {
    let count = u128::from(count);
    let mean = sums.iter().map(|&[sum, _]| (sum as f64 / (255 * count) as f64) as f32).collect();
    let std = sums.iter().map(|&[sum, squares]| {
        // n^2 times the variance is an integer.
        let scaled = count * u128::from(squares) - u128::from(sum) * u128::from(sum);
        if scaled == 0 { 1.0 } else { ((scaled as f64).sqrt() / (255 * count) as f64) as f32 }
    });
    Normalize { std: std.collect(), mean }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // First channel: 0 and 255, mean 1/2, deviation 1/2. Second: 51 throughout, mean 1/5, no deviation.
        let data = Dataset::new("d", [1, 2, 2], 1, vec![0, 51, 255, 51], vec![0]).unwrap();
        let n = Normalize::of(&data);
        assert_eq!((n.mean(), n.std()), (&[0.5, 0.2][..], &[0.5, 1.0][..]));
        let tables = n.tables();
        assert_eq!((tables[0][0], tables[0][255], tables[1][51]), (-1.0, 1.0, 0.0));
        assert_eq!(Normalize::new(vec![0.5, 0.2], vec![0.5, 1.0]).unwrap(), n);
        let x = Tensor::from_vec(&[2, 2], vec![1.0, 51.0 / 255.0, 7.0 / 255.0, 1.0]).unwrap();
        assert_eq!(n.apply(&x).unwrap().data(), [1.0, 0.0, tables[0][7], tables[1][255]]);
        // Left as they are first and normalized later, bytes give the same bits.
        let raw = Normalize::none(2).tables();
        let later = (0..256).flat_map(|v| [raw[0][v], raw[1][v]]).collect();
        let later = n.apply(&Tensor::from_vec(&[256, 2], later).unwrap()).unwrap();
        assert!(later.data().chunks_exact(2).enumerate().all(|(v, pixel)| pixel == [tables[0][v], tables[1][v]]));
        assert!(Normalize::new(vec![0.0], vec![0.0]).is_err() && n.apply(&Tensor::zeros(&[2, 3])).is_err());
    }
}
