//! The second stage of a detector: which regions it learns from, what its output is made of, and its losses (Ren et al., NeurIPS 2015).

use super::loss::{Given, check_objects};
use super::{BoxCode, Match, Matcher, Objects};
use fixnet_autograd::{Error, Graph, Result, Var};
use fixnet_data::BoundingBox;
use fixnet_tensor::rng::Stream;
use fixnet_tensor::{Error as TensorError, Tensor, math};
use std::array;

/// The numbers of one proposal in the output of a two-stage detector: its corners, the logits of the background and of the classes, and
/// the box code of each of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegionRow {
    /// Classes, without the background.
    pub classes: usize,
}

impl RegionRow {
    /// Returns the classes of rows of so many numbers, if there are such rows.
    pub fn of_len(len: usize) -> Option<Self> {
        let each = len.checked_sub(4)?;
        (each.is_multiple_of(5) && each >= 10).then(|| Self { classes: each / 5 - 1 })
    }

    /// Returns how many numbers a row has.
    pub(crate) fn len(self) -> usize {
        4 + 5 * (self.classes + 1)
    }

    /// Returns the proposal of a row.
    pub(crate) fn proposal(self, row: &[f32]) -> BoundingBox {
        BoundingBox::new(row[0], row[1], row[2], row[3])
    }

    /// Returns the probabilities of the background and of each class.
    pub(crate) fn probabilities(self, row: &[f32]) -> Vec<f32> {
        softmax(&row[4..][..=self.classes]).0
    }

    /// Returns the box code for a class, counted from 1.
    pub(crate) fn code(self, row: &[f32], class: usize) -> [f32; 4] {
        array::from_fn(|i| row[4 + self.classes + 1 + 4 * class + i])
    }
}

/// Probabilities, and the logarithm of the sum of the exponentials of the logits. The sum goes from the first logit to the last.
fn softmax(logits: &[f32]) -> (Vec<f32>, f32) {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut shares: Vec<f32> = logits.iter().map(|&v| math::exp(v - most)).collect();
    let sum: f32 = shares.iter().sum();
    shares.iter_mut().for_each(|v| *v /= sum);
    (shares, libm::logf(sum) + most)
}

/// How many anchors or regions of an image are learned from, and up to which share of them stand for objects. The rest is background, and
/// may be less than is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampler {
    /// How many of an image.
    pub count: usize,
    /// The largest share of objects, 0 to 1.
    pub share: f32,
}

impl Sampler {
    /// That of torchvision's region proposal network: 256 anchors, half of them.
    pub const ANCHORS: Self = Self { count: 256, share: 0.5 };
    /// That of torchvision's box head: 512 regions, a quarter of them.
    pub const REGIONS: Self = Self { count: 512, share: 0.25 };

    /// Draws a sample, in the order of its indices. Of each kind those with the smallest random word at their index are taken, of equal
    /// words the lower index: what is drawn follows from the stream and the matches alone.
    pub fn sample(&self, matches: &[Match], noise: &Stream) -> Vec<usize> {
        let of = |wanted: fn(&Match) -> bool, most: usize| {
            let mut found: Vec<usize> = (0..matches.len()).filter(|&i| wanted(&matches[i])).collect();
            if found.len() > most {
                found.sort_by_cached_key(|&i| (noise.u32_at(i as u64), i));
                found.truncate(most);
            }
            found
        };
        let mut all =
            of(|m| matches!(m, Match::Object(_)), ((self.count as f32 * self.share) as usize).min(self.count));
        all.extend(of(|m| *m == Match::Background, self.count - all.len()));
        all.sort_unstable();
        all
    }
}

/// An anchor or a region that is learned from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Learned {
    /// Its row in the output.
    pub row: usize,
    /// Its class, counted from 1; 0 is the background.
    pub class: usize,
    /// The box code of its object; of the background none.
    pub code: Option<[f32; 4]>,
}

impl Learned {
    /// What `region` stands for, in row `row`.
    pub(crate) fn of(row: usize, region: &BoundingBox, found: Match, objects: &Objects, code: BoxCode) -> Self {
        match found {
            Match::Object(i) => {
                let code = code.encode(&objects.boxes[i], region);
                Self { row, class: objects.classes[i] + 1, code: Some(code) }
            }
            Match::Background | Match::Ignored => Self { row, class: 0, code: None },
        }
    }
}

/// From here on the distance of two numbers of a box code counts by itself, not by its square.
const BETA: f32 = 1.0 / 9.0;

/// The smooth L1 distance and its derivative: `d^2 / (2 beta)` below beta, `|d| - beta / 2` above.
fn smooth_l1(difference: f32) -> [f32; 2] {
    let size = difference.abs();
    match size < BETA {
        true => [0.5 * size * size / BETA, difference / BETA],
        false => [size - 0.5 * BETA, difference.signum()],
    }
}

/// Adds the smooth L1 loss of a code, times `factor`.
fn add_code(x: &[f32], code: [f32; 4], factor: f32, grad: &mut [f32]) -> f64 {
    let mut sum = 0.0;
    for ((&x, code), grad) in x.iter().zip(code).zip(grad) {
        let [loss, slope] = smooth_l1(x - code);
        sum += f64::from(loss * factor);
        *grad = slope * factor;
    }
    sum
}

/// Checks that an output has rows of so many numbers, among them those that are learned from.
fn check_rows(op: &'static str, t: &Tensor, columns: usize, learned: &[Learned]) -> Result<()> {
    let rows = t.len() / columns.max(1);
    if t.shape().last() != Some(&columns) || learned.iter().any(|l| l.row >= rows) {
        let expected = format!("rows of {columns} numbers, one for each region that is learned from");
        return Err(TensorError::shape(op, expected, t.shape()).into());
    }
    Ok(())
}

/// The loss of a region proposal network, a scalar: the mean binary cross entropy of whether anchors stand for objects, and the smooth L1
/// distances of box codes over the number of all anchors that are learned from. Sums are in `f64` and in the order of `learned`; without
/// any the loss is 0.
///
/// Shapes: `output` [.., 5], a logit and a box code for each anchor.
///
/// # Errors
/// The output has another shape.
pub fn proposal_loss(g: &mut Graph<'_>, output: &Var, learned: &[Learned]) -> Result<Var> {
    const OP: &str = "proposal_loss";
    let t = output.tensor();
    check_rows(OP, &t, 5, learned)?;
    let factor = 1.0 / learned.len().max(1) as f32;
    let (mut grad, mut sum) = (Tensor::zeros(t.shape()), 0.0);
    for l in learned {
        let (x, grad) = (&t.data()[l.row * 5..][..5], &mut grad.data_mut()[l.row * 5..][..5]);
        // ln(1 + e^-|x|) + max(x, 0) - x t, without overflow.
        let (logit, target) = (x[0], if l.class > 0 { 1.0 } else { 0.0 });
        let small = math::exp(-logit.abs());
        let share = 1.0 / (1.0 + small);
        let p = if logit >= 0.0 { share } else { small * share };
        sum += f64::from((libm::log1pf(small) + logit.max(0.0) - logit * target) * factor);
        grad[0] = (p - target) * factor;
        if let Some(code) = l.code {
            sum += add_code(&x[1..], code, factor, &mut grad[1..]);
        }
    }
    Ok(g.record(Tensor::scalar(sum as f32), &[output], || Given { name: OP, grad }))
}

/// The loss of a box head, a scalar: the mean cross entropy of classes, and the smooth L1 distances of the box codes of the classes that
/// regions stand for over the number of all regions. Sums are in `f64` and in the order of `learned`; without any the loss is 0.
///
/// Shapes: `output` [.., skipped + 5 · (classes + 1)]: numbers that do not count, the logits of the background and the classes, and the
/// box code of each of these.
///
/// # Errors
/// The output has another shape, or a class is above `classes`.
pub fn region_loss(
    g: &mut Graph<'_>,
    output: &Var,
    skipped: usize,
    classes: usize,
    learned: &[Learned],
) -> Result<Var> {
    const OP: &str = "region_loss";
    let (t, count) = (output.tensor(), classes.saturating_add(1));
    let columns = count.saturating_mul(5).saturating_add(skipped);
    check_rows(OP, &t, columns, learned)?;
    if let Some(odd) = learned.iter().find(|l| l.class > classes) {
        return Err(Error::setting("classes of regions", format!("0 (the background) to {classes}"), odd.class));
    }
    let factor = 1.0 / learned.len().max(1) as f32;
    let (mut grad, mut sum) = (Tensor::zeros(t.shape()), 0.0);
    for l in learned {
        let place = l.row * columns + skipped..(l.row + 1) * columns;
        let (x, grad) = (&t.data()[place.clone()], &mut grad.data_mut()[place]);
        let (shares, total) = softmax(&x[..count]);
        // -ln p of the class, from the logits: a share may round to 0.
        sum += f64::from((total - x[l.class]) * factor);
        for (k, (grad, p)) in grad.iter_mut().zip(shares).enumerate() {
            *grad = (p - if k == l.class { 1.0 } else { 0.0 }) * factor;
        }
        if let Some(code) = l.code {
            let place = count + 4 * l.class;
            sum += add_code(&x[place..place + 4], code, factor, &mut grad[place..place + 4]);
        }
    }
    Ok(g.record(Tensor::scalar(sum as f32), &[output], || Given { name: OP, grad }))
}

/// The loss of a two-stage detector in evaluation, a scalar, and the number of its terms, the proposals that have an area: the
/// [loss of the box head](region_loss) for these, each as the matcher assigns it. Nothing is drawn at random, and the objects are not among the proposals.
///
/// Shapes: `output` [N, proposals, 4 + 5 · (classes + 1)], [rows](RegionRow), one entry of `objects` for each image.
///
/// # Errors
/// The shapes do not fit; or an object has no class of the output, or a box without area.
pub fn evaluated_loss(g: &mut Graph<'_>, output: &Var, objects: &[Objects]) -> Result<(Var, usize)> {
    let t = output.tensor();
    let row = match *t.shape() {
        [n, _, len] if n == objects.len() && n > 0 => RegionRow::of_len(len),
        _ => None,
    };
    let Some(row) = row else {
        let expected = format!("[{}, proposals, 4 + 5 (classes + 1)]", objects.len());
        return Err(TensorError::shape("evaluated_loss", expected, t.shape()).into());
    };
    check_objects(objects, row.classes)?;
    let count = t.shape()[1];
    let mut learned = Vec::new();
    for (image, objects) in objects.iter().enumerate() {
        let of = |i: usize| row.proposal(&t.data()[(image * count + i) * row.len()..]);
        let regions: Vec<(usize, BoundingBox)> =
            (0..count).map(|i| (image * count + i, of(i))).filter(|(_, region)| region.has_area()).collect();
        let boxes: Vec<BoundingBox> = regions.iter().map(|r| r.1).collect();
        let matches = Matcher::REGIONS.matches(&boxes, &objects.boxes);
        let of = |((i, region), found): (&(usize, BoundingBox), Match)| {
            Learned::of(*i, region, found, objects, BoxCode::BOX_HEAD)
        };
        learned.extend(regions.iter().zip(matches).map(of));
    }
    Ok((region_loss(g, output, 4, row.classes, &learned)?, learned.len()))
}

/// The objects of the images of a training batch, for networks that draw samples about them: see [`Graph::give`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Truth {
    /// The objects of each image, in pixels of the input.
    pub objects: Vec<Objects>,
    /// The index of each image in its data, which random numbers are drawn by.
    pub images: Vec<usize>,
}

impl Truth {
    /// Checks that there is an entry for each of `count` images, with classes below `classes` and boxes with an area.
    ///
    /// # Errors
    /// There is not.
    pub fn check(&self, count: usize, classes: usize) -> Result<()> {
        if self.objects.len() != count || self.images.len() != count {
            let found = format!("{} and {}", self.objects.len(), self.images.len());
            return Err(Error::setting("objects and indices of a batch", count, found));
        }
        check_objects(&self.objects, classes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixnet_autograd::Store;
    use fixnet_autograd::check::{gradient_error, sample};
    use fixnet_tensor::rng::domain;
    use std::f32::consts::LN_2;

    #[test]
    fn samples_are_a_function_of_the_stream_and_keep_the_share_of_objects() {
        let matches: Vec<Match> = (0..60)
            .map(|i| match i % 4 {
                0 => Match::Object(i),
                1 => Match::Ignored,
                _ => Match::Background,
            })
            .collect();
        let noise = |seed| Stream::new(seed, domain::SAMPLES, 0, 0);
        let of = |all: &[usize], kind: usize| all.iter().filter(|&&i| i % 4 == kind).count();
        let sampler = Sampler { count: 20, share: 0.25 };
        let drawn = sampler.sample(&matches, &noise(1));
        assert_eq!((drawn.len(), of(&drawn, 0), of(&drawn, 1)), (20, 5, 0));
        assert!(drawn.is_sorted() && drawn == sampler.sample(&matches, &noise(1)));
        assert_ne!(drawn, sampler.sample(&matches, &noise(2)));
        // Where there are few, all are taken; background does not stand in for objects that are not there beyond the count.
        let all = Sampler { count: 100, share: 0.5 }.sample(&matches, &noise(1));
        assert_eq!((all.len(), of(&all, 0)), (45, 15));
        let none = Sampler { count: 8, share: 0.5 }.sample(&[Match::Background; 30], &noise(1));
        assert_eq!(none.len(), 8);
        for (share, objects) in [(9.0, 8), (-1.0, 0), (f32::NAN, 0)] {
            let odd = Sampler { count: 8, share }.sample(&matches, &noise(1));
            assert_eq!((odd.len(), of(&odd, 0)), (8, objects), "{share}");
        }
    }

    #[test]
    fn losses_by_hand() {
        let mut store = Store::seeded(1);
        let mut g = Graph::train(&mut store);
        // Two of three anchors: the loss of a logit of 0 is ln 2; of the code one number is 1/18 off, one is 1 off.
        let anchors = vec![0.0, 1.0 / 18.0, 1.0, 0.0, 0.0, 9.0, 9.0, 9.0, 9.0, 9.0, 0.0, 5.0, 5.0, 5.0, 5.0];
        let x = g.input(Tensor::from_vec(&[1, 3, 5], anchors).unwrap());
        let learned = [Learned { row: 0, class: 1, code: Some([0.0; 4]) }, Learned { row: 2, class: 0, code: None }];
        let loss = proposal_loss(&mut g, &x, &learned).unwrap().tensor().item();
        // (1/18)^2 · 9/2 = 1/72, and 1 - 1/18.
        assert!((loss - (2.0 * LN_2 + 1.0 / 72.0 + 17.0 / 18.0) / 2.0).abs() < 1e-6, "{loss}");
        // Two classes and the background, all logits equal: ln 3. The code of class 2 is 2 off in one number.
        let mut row = vec![0.0; 4 + 15];
        row[..4].fill(77.0);
        row[4 + 3 + 8] = 2.0;
        let x = g.input(Tensor::from_vec(&[1, 1, 19], row).unwrap());
        let learned = [Learned { row: 0, class: 2, code: Some([0.0; 4]) }];
        let loss = region_loss(&mut g, &x, 4, 2, &learned).unwrap().tensor().item();
        assert!((loss - (3f32.ln() + 2.0 - 1.0 / 18.0)).abs() < 1e-6, "{loss}");
        let none = region_loss(&mut g, &x, 4, 2, &[]).unwrap();
        assert_eq!(none.tensor().item(), 0.0);
        let beyond = [Learned { row: 1, class: 0, code: None }];
        assert!(region_loss(&mut g, &x, 4, 2, &beyond).is_err() && proposal_loss(&mut g, &x, &learned).is_err());
        assert!(region_loss(&mut g, &x, 4, usize::MAX, &learned).is_err());
        let odd = [Learned { row: 0, class: 3, code: None }];
        let e = region_loss(&mut g, &x, 4, 2, &odd).unwrap_err().to_string();
        assert!(e.contains("0 (the background) to 2, found 3"), "{e}");
    }

    #[test]
    fn gradients_match_finite_differences() {
        let learned = [
            Learned { row: 5, class: 2, code: Some([0.3, -0.2, 0.01, 2.0]) },
            Learned { row: 0, class: 0, code: None },
            Learned { row: 3, class: 1, code: Some([-1.0, 0.2, 0.4, 0.0]) },
        ];
        let x = sample(&[2, 3, 5], 1);
        assert!(gradient_error(&[x], 1e-2, |g, v| proposal_loss(g, &v[0], &learned)).unwrap() < 1e-3);
        let x = sample(&[6, 17], 2);
        assert!(gradient_error(&[x], 1e-2, |g, v| region_loss(g, &v[0], 2, 2, &learned)).unwrap() < 1e-3);
    }

    #[test]
    fn in_evaluation_all_proposals_count_but_those_without_area() {
        let mut store = Store::seeded(1);
        let mut g = Graph::eval(&mut store);
        let mut rows = vec![0.0; 3 * 14];
        rows[..4].copy_from_slice(&[0.0, 0.0, 10.0, 10.0]);
        rows[14..18].copy_from_slice(&[20.0, 20.0, 30.0, 30.0]);
        let output = g.input(Tensor::from_vec(&[1, 3, 14], rows).unwrap());
        // The first proposal is the object itself; its code is 0, as is that of the output.
        let objects = Objects { boxes: vec![BoundingBox::new(0.0, 0.0, 10.0, 10.0)], classes: vec![0] };
        let (loss, terms) = evaluated_loss(&mut g, &output, std::slice::from_ref(&objects)).unwrap();
        let loss = loss.tensor().item();
        assert!((loss - LN_2).abs() < 1e-6 && terms == 2, "{loss} of {terms}");
        let odd = Objects { classes: vec![1], ..objects };
        assert!(evaluated_loss(&mut g, &output, &[odd]).map(drop).unwrap_err().to_string().contains("classes below 1"));
        assert!(evaluated_loss(&mut g, &output, &[]).is_err());
    }

    #[test]
    fn rows_know_their_classes() {
        assert_eq!(RegionRow::of_len(4 + 15), Some(RegionRow { classes: 2 }));
        assert_eq!([0, 4, 9, 15, 18].map(RegionRow::of_len), [None; 5]);
        let (row, values) = (RegionRow { classes: 1 }, (0..14).map(|v| v as f32).collect::<Vec<_>>());
        assert_eq!((row.len(), row.proposal(&values).to_array()), (14, [0.0, 1.0, 2.0, 3.0]));
        assert_eq!(row.code(&values, 1), [10.0, 11.0, 12.0, 13.0]);
        assert!((row.probabilities(&values)[1] - 0.731_058_6).abs() < 1e-6);
    }
}
