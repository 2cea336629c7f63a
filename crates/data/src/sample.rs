//! Samples without targets: what a network is asked about, the form in which it takes them, and batches of them.

use crate::image_value::{described, not_convertible};
use crate::{ClipForm, DataError, Image, Normalize, Picture, Result, Sequence};
use fixnet_tensor::{Budget, Tensor};
use rayon::prelude::*;
use std::sync::Arc;

/// An image, a row of numbers, or a sequence.
#[derive(Debug, Clone, PartialEq)]
pub enum Sample {
    /// An image.
    Image(Image),
    /// The numbers of the columns of a table, in their order.
    Row(Arc<[f32]>),
    /// Numbers in several channels, step after step.
    Sequence(Sequence),
}

impl From<Sequence> for Sample {
    fn from(sequence: Sequence) -> Self {
        Self::Sequence(sequence)
    }
}

impl From<Image> for Sample {
    fn from(image: Image) -> Self {
        Self::Image(image)
    }
}

impl From<&Image> for Sample {
    fn from(image: &Image) -> Self {
        Self::Image(image.clone())
    }
}

impl From<&Picture> for Sample {
    fn from(picture: &Picture) -> Self {
        Self::Image(picture.into())
    }
}

impl From<&[f32]> for Sample {
    fn from(row: &[f32]) -> Self {
        Self::Row(row.into())
    }
}

impl From<Vec<f32>> for Sample {
    fn from(row: Vec<f32>) -> Self {
        Self::Row(row.into())
    }
}

impl Sample {
    /// The lengths of its axes: height, width and channels of an image, steps and channels of a sequence, or the number of columns
    /// of a row.
    pub fn shape(&self) -> Vec<usize> {
        match self {
            Self::Image(image) => image.shape().to_vec(),
            Self::Row(row) => vec![row.len()],
            Self::Sequence(sequence) => sequence.shape().to_vec(),
        }
    }

    /// Makes a batch of samples of one shape, [N, H, W, C], [N, T, C] or [N, F], normalized: the bits that a [`Loader`](crate::Loader) makes of
    /// the same samples.
    ///
    /// # Errors
    /// There are none, their shapes differ, the last axis is not that of `normalize`, or they take more than [`Budget::BATCH`].
    pub fn batch(samples: &[Self], normalize: &Normalize) -> Result<Tensor> {
        let shape = samples.first().map(Self::shape).unwrap_or_default();
        let odd = samples.iter().map(Self::shape).find(|other| *other != shape);
        if let Some(odd) = odd.or_else(|| (shape.last() != Some(&normalize.mean().len())).then(|| shape.clone())) {
            let expected = format!("samples of one shape {shape:?} whose last axis is {}", normalize.mean().len());
            return Err(DataError::setting("a batch", &expected, format!("{odd:?}")));
        }
        let (channels, len) = (normalize.mean().len(), shape.iter().product::<usize>());
        let shape = [&[samples.len()], &shape[..]].concat();
        Budget::BATCH.clone().claim("a batch of samples", &shape, size_of::<f32>())?;
        let (tables, mut batch) = (normalize.tables(), Tensor::take(&shape));
        let write = |(out, sample): (&mut [f32], &Self)| match sample {
            Self::Image(image) => {
                let bytes = image.bytes().iter().enumerate();
                out.iter_mut().zip(bytes).for_each(|(to, (i, &v))| *to = tables[i % channels][usize::from(v)]);
            }
            Self::Row(row) => {
                out.copy_from_slice(row);
                normalize.apply_to(out);
            }
            Self::Sequence(sequence) => {
                out.copy_from_slice(sequence.values());
                normalize.apply_to(out);
            }
        };
        batch.data_mut().par_chunks_exact_mut(len).with_min_len(8).zip(samples).for_each(write);
        Ok(batch)
    }
}

/// The form in which a network takes samples.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SampleForm {
    /// Height, width and channels of an image, steps and channels of a sequence, or the number of columns of a row.
    pub shape: Vec<usize>,
    /// Whether images may have any height and width.
    pub any_size: bool,
    /// What the columns of a table are called, where that is known.
    pub columns: Option<Vec<String>>,
    /// The column of a table that holds the target, by its name or its number, where that is known. It is no input.
    pub target: Option<String>,
    /// How sequences are made of recordings, where they are.
    pub clips: Option<ClipForm>,
}

impl SampleForm {
    /// Samples of one shape, whose columns have no names.
    pub fn of_shape(shape: Vec<usize>) -> Self {
        Self { shape, any_size: false, columns: None, target: None, clips: None }
    }

    /// Gives the columns names, where they are known.
    #[must_use]
    pub fn with_columns(self, columns: Option<&[String]>) -> Self {
        Self { columns: columns.map(<[String]>::to_vec), ..self }
    }

    /// Names the column of the target, where that is known.
    #[must_use]
    pub fn with_target(self, target: Option<&str>) -> Self {
        Self { target: target.map(String::from), ..self }
    }

    /// Says how sequences are made of recordings, where they are.
    #[must_use]
    pub fn with_clips(self, clips: Option<ClipForm>) -> Self {
        Self { clips, ..self }
    }

    /// What an image of the shape `found` becomes for the network.
    ///
    /// # Errors
    /// The network takes rows, or its channels cannot be made of those of the image. `place` names the image.
    pub(crate) fn image(&self, place: &str, found: [usize; 3]) -> Result<[usize; 3]> {
        let &[height, width, channels] = &self.shape[..] else {
            return Err(DataError::setting(place, &self.to_string(), format!("an image of {}", described(found))));
        };
        let shape = if self.any_size { [found[0], found[1], channels] } else { [height, width, channels] };
        match shape == found || (found[2] <= 4 && matches!(channels, 1 | 3)) {
            true => Ok(shape),
            false => Err(not_convertible(place, shape, found)),
        }
    }

    /// The number of columns of a row.
    ///
    /// # Errors
    /// The network takes images. `place` names the rows.
    pub(crate) fn width(&self, place: &str) -> Result<usize> {
        match self.shape[..] {
            [width] => Ok(width),
            _ => Err(DataError::setting(place, &self.to_string(), "rows of numbers")),
        }
    }

    /// Checks that the network takes sequences of the shape `found`.
    ///
    /// # Errors
    /// It does not. `place` names the sequences.
    pub(crate) fn sequence(&self, place: &str, found: [usize; 2]) -> Result<()> {
        match self.shape == found {
            true => Ok(()),
            false => Err(DataError::setting(place, &self.to_string(), format!("a sequence of {}", steps(found)))),
        }
    }

    /// Makes a sample one that the network takes: images are [converted](Image::converted), rows and sequences are checked.
    ///
    /// # Errors
    /// It is of another kind, an image whose channels cannot be converted, a row with another number of columns, a sequence of another
    /// shape, or a number is not finite. `place` names it in the message.
    pub fn fit(&self, place: &str, sample: &Sample) -> Result<Sample> {
        match sample {
            Sample::Image(image) => Ok(image.converted(self.image(place, image.shape())?)?.into()),
            Sample::Row(row) => {
                let width = self.width(place)?;
                if row.len() != width {
                    return Err(DataError::setting(place, &self.to_string(), format!("{} numbers", row.len())));
                }
                match row.iter().position(|v| !v.is_finite()) {
                    Some(at) => Err(DataError::setting(place, "finite numbers", format!("{} in column {at}", row[at]))),
                    None => Ok(sample.clone()),
                }
            }
            Sample::Sequence(sequence) => {
                self.sequence(place, sequence.shape())?;
                match sequence.values().iter().position(|v| !v.is_finite()) {
                    Some(at) => {
                        let found = format!("{} in step {}", sequence.values()[at], at / sequence.shape()[1]);
                        Err(DataError::setting(place, "finite numbers", found))
                    }
                    None => Ok(sample.clone()),
                }
            }
        }
    }
}

impl std::fmt::Display for SampleForm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.shape[..] {
            [height, width, channels] => match self.any_size {
                true => write!(f, "an image of any size"),
                false => write!(f, "an image of {}", described([height, width, channels])),
            },
            [count, channels] => write!(f, "a sequence of {}", steps([count, channels])),
            [1] => write!(f, "a row of 1 number"),
            [width] => write!(f, "a row of {width} numbers"),
            _ => write!(f, "a sample of {:?}", self.shape),
        }
    }
}

/// The shape of a sequence in words.
fn steps([steps, channels]: [usize; 2]) -> String {
    let of = if channels == 1 { "1 number".into() } else { format!("{channels} numbers") };
    format!("{steps} steps of {of}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dataset, Loader, Numbers};

    #[test]
    fn batches_have_the_bits_of_a_loader() {
        let bytes: Vec<u8> = (0..3 * 24).map(|i| (i * 37 % 256) as u8).collect();
        let data = Dataset::new("d", [4, 3, 2], 1, bytes.clone(), vec![0; 3]).unwrap();
        let normalize = Normalize::of(&data);
        let samples: Vec<Sample> =
            bytes.chunks(24).map(|image| Image::new([4, 3, 2], image.to_vec()).unwrap().into()).collect();
        let expected = Loader::new(&data, 3, normalize.clone()).next().unwrap().unwrap().images;
        let found = Sample::batch(&samples, &normalize).unwrap();
        assert_eq!((found.shape(), found.data()), (expected.shape(), expected.data()));
        let values: Vec<f32> = (0..20u16).map(|i| f32::from(i * i) / 7.0).collect();
        let data =
            Dataset::of_floats("d", &[4], values.clone(), Numbers::new("d", None, vec![0.0; 5]).unwrap()).unwrap();
        let normalize = Normalize::of(&data);
        let samples: Vec<Sample> = values.chunks(4).map(Sample::from).collect();
        let expected = Loader::new(&data, 5, normalize.clone()).next().unwrap().unwrap().inputs;
        let found = Sample::batch(&samples, &normalize).unwrap();
        assert_eq!((found.shape(), found.data()), (expected.shape(), expected.data()));
        assert!(Sample::batch(&[], &normalize).is_err());
        let odd = [samples[0].clone(), vec![1.0].into()];
        assert!(Sample::batch(&odd, &normalize).unwrap_err().to_string().ends_with("found [1]"));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let image: Sample = Image::new([2, 4, 3], vec![9; 24]).unwrap().into();
        let form = |shape: &[usize]| SampleForm::of_shape(shape.to_vec());
        assert_eq!(form(&[3, 3, 1]).fit("x", &image).unwrap().shape(), [3, 3, 1]);
        let any = SampleForm { any_size: true, ..form(&[8, 8, 1]) };
        assert_eq!(any.fit("x", &image).unwrap().shape(), [2, 4, 1]);
        let text = |form: SampleForm, sample: &Sample| form.fit("x", sample).unwrap_err().to_string();
        assert_eq!(text(form(&[2]), &image), "x: expected a row of 2 numbers, found an image of 2x4 in 3 channels");
        assert!(text(form(&[2, 4, 7]), &image).starts_with("x: expected an image of 2x4 in 7 channels"));
        assert_eq!(text(form(&[2]), &vec![1.0].into()), "x: expected a row of 2 numbers, found 1 numbers");
        assert_eq!(text(form(&[2]), &vec![1.0, f32::NAN].into()), "x: expected finite numbers, found NaN in column 1");
        assert_eq!(
            text(form(&[2, 4, 3]), &vec![1.0].into()),
            "x: expected an image of 2x4 in 3 channels, found rows of numbers"
        );
    }

    #[test]
    fn sequences_are_of_one_shape() {
        let form = SampleForm::of_shape(vec![3, 2]);
        let sequence = |shape, v: f32| Sample::from(Sequence::new(shape, vec![v; 6]).unwrap());
        assert_eq!(form.fit("x", &sequence([3, 2], 1.0)).unwrap().shape(), [3, 2]);
        let text = |sample: &Sample| form.fit("x", sample).unwrap_err().to_string();
        let words = "x: expected a sequence of 3 steps of 2 numbers, found ";
        assert_eq!(text(&sequence([6, 1], 1.0)), format!("{words}a sequence of 6 steps of 1 number"));
        assert_eq!(text(&vec![1.0].into()), format!("{words}rows of numbers"));
        assert_eq!(text(&sequence([3, 2], f32::NAN)), "x: expected finite numbers, found NaN in step 0");
        let normalize = Normalize::new(vec![1.0, 0.0], vec![2.0, 1.0]).unwrap();
        let batch = Sample::batch(&[sequence([3, 2], 3.0), sequence([3, 2], 1.0)], &normalize).unwrap();
        assert_eq!((batch.shape(), &batch.data()[5..8]), (&[2, 3, 2][..], &[3.0, 0.0, 1.0][..]));
    }
}
