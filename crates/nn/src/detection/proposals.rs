//! `Proposals`: the boxes that a region proposal network takes for objects, for a second stage to look at (Ren et al., NeurIPS 2015).

use super::select::clamped;
use super::{AnchorConfig, BoxCode};
use fixnet_autograd::{Error, Graph, Operation, Result, Settings, Var, exactly, settings_of};
use fixnet_data::{BoundingBox, by_score, nms};
use fixnet_tensor::{Error as TensorError, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// The name of the operation in messages and files.
const OP: &str = "proposals";
/// Of two boxes of a level whose IoU is above this, the one of the higher logit stays.
const OVERLAP: f32 = 0.7;
/// Boxes that are less wide or high are dropped.
const LEAST_SIDE: f32 = 1e-3;

/// A logit and a box code for each anchor, [N, anchors, 5], to the corners of proposals in pixels of the input, [N, most, 4]. As in
/// torchvision, of each level the `most` highest logits are looked at, decoded and clipped; of these stay what non-maximum suppression
/// keeps of each level, and of all levels the `most` highest. Equal logits go by the lower index. Rows that are left are zeros: boxes
/// without area. No gradient passes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proposals {
    /// The anchors.
    pub anchors: AnchorConfig,
    /// Height and width of the input.
    pub size: [usize; 2],
    /// How many proposals there are at most, 1 to 20000.
    pub most: usize,
}

impl Proposals {
    /// The proposals of an image by falling logit; `anchors` are the boxes of [`AnchorConfig::boxes`], with five numbers each.
    fn of_image(&self, output: &[f32], anchors: &[BoundingBox]) -> Result<Vec<BoundingBox>> {
        let whole = BoundingBox::of_image(self.size);
        let wrong = |e| Error::setting("the output of a region proposal network", "finite numbers", e);
        let (mut boxes, mut logits, mut first) = (Vec::new(), Vec::new(), 0);
        for [rows, columns] in self.anchors.grids(self.size) {
            let count = rows * columns * self.anchors.count();
            let of_level: Vec<f32> = output[first * 5..][..count * 5].iter().step_by(5).copied().collect();
            let (mut candidates, mut scores) = (Vec::new(), Vec::new());
            for i in by_score(&of_level).into_iter().take(self.most) {
                let anchor = first + i;
                let code = &output[anchor * 5 + 1..][..4];
                let decoded = BoxCode::UNIT.decode([code[0], code[1], code[2], code[3]], &anchors[anchor]);
                if !decoded.is_finite() {
                    return Err(wrong(format!("{code:?}")));
                }
                let clipped = clamped(&decoded, &whole);
                if clipped.width() >= LEAST_SIDE && clipped.height() >= LEAST_SIDE {
                    candidates.push(clipped);
                    scores.push(of_level[i]);
                }
            }
            for i in nms(&candidates, &scores, None, OVERLAP).map_err(|e| wrong(e.to_string()))? {
                boxes.push(candidates[i]);
                logits.push(scores[i]);
            }
            first += count;
        }
        Ok(by_score(&logits).into_iter().take(self.most).map(|i| boxes[i]).collect())
    }

    /// Checks the configuration, and that outputs of this shape are of it.
    fn check(&self, shape: &[usize]) -> Result<()> {
        self.anchors.check(self.size)?;
        if !(1..=20_000).contains(&self.most) {
            return Err(Error::setting("proposals of an image", "1 to 20000", self.most));
        }
        let count: usize = self.anchors.grids(self.size).iter().map(|[h, w]| h * w * self.anchors.count()).sum();
        match *shape {
            [_, anchors, 5] if anchors == count => Ok(()),
            _ => Err(TensorError::shape(OP, format!("[N, {count}, 5]"), shape).into()),
        }
    }

    /// Returns the anchors, and the proposals of each image of an output [N, anchors, 5].
    ///
    /// # Errors
    /// The shape is another one, or a number is not finite.
    pub(crate) fn of_batch(&self, output: &Tensor) -> Result<(Vec<BoundingBox>, Vec<Vec<BoundingBox>>)> {
        self.check(output.shape())?;
        let anchors = self.anchors.boxes(self.size);
        let images = output.data().par_chunks(anchors.len().max(1) * 5);
        // Independent of each other; of several errors always the first.
        let found = images.map(|image| self.of_image(image, &anchors)).collect::<Vec<_>>();
        let found = found.into_iter().collect::<Result<_>>()?;
        Ok((anchors, found))
    }
}

impl Operation for Proposals {
    fn kind(&self) -> &'static str {
        OP
    }
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x] = exactly(inputs)?;
        self.check(x)?;
        Ok(vec![x[0], self.most, 4])
    }
    fn is_non_negative(&self, _: &[bool]) -> bool {
        true
    }
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        let [x] = exactly(inputs)?;
        let (_, found) = self.of_batch(&x.tensor())?;
        let mut out = Tensor::zeros(&[found.len(), self.most, 4]);
        for (boxes, out) in found.iter().zip(out.data_mut().chunks_exact_mut(self.most * 4)) {
            out.chunks_exact_mut(4).zip(boxes).for_each(|(out, bbox)| out.copy_from_slice(&bbox.to_array()));
        }
        Ok(g.input(out))
    }
    fn settings(&self) -> Settings {
        settings_of(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixnet_autograd::Store;

    /// 4 x 4 and 2 x 2 places of an image of 32 x 32.
    fn proposals(most: usize) -> Proposals {
        let anchors = AnchorConfig { levels: [3, 4], sizes: vec![vec![8], vec![16]], ratios: vec![1.0] };
        Proposals { anchors, size: [32, 32], most }
    }

    fn output() -> Vec<f32> {
        let mut output = vec![0.0; 20 * 5];
        output.chunks_exact_mut(5).for_each(|row| row[0] = -9.0);
        // The second place of the first row; its neighbour with a code that moves it onto the first; one of the second level at the corner.
        output[5] = 2.0;
        output[10..12].copy_from_slice(&[1.5, -1.0]);
        output[19 * 5] = 1.0;
        output
    }

    #[test]
    fn the_highest_logits_become_proposals_and_overlaps_go() {
        let anchors = proposals(3).anchors.boxes([32, 32]);
        let found = proposals(3).of_image(&output(), &anchors).unwrap();
        // The third is the first of the second level with a logit of -9: of the first level no third was looked at.
        let corners: Vec<[f32; 4]> = found.iter().map(BoundingBox::to_array).collect();
        assert_eq!(corners[..2], [[4.0, 0.0, 12.0, 4.0], [8.0, 8.0, 24.0, 24.0]]);
        assert_eq!(proposals(1).of_image(&output(), &anchors).unwrap(), found[..1]);
    }

    #[test]
    fn images_have_rows_of_zeros_where_proposals_are_few() {
        let mut store = Store::seeded(1);
        let mut g = Graph::eval(&mut store);
        let both = [output(), vec![0.0; 100]].concat();
        let x = g.input(Tensor::from_vec(&[2, 20, 5], both).unwrap());
        let y = g.apply(proposals(40), &[&x]).unwrap().tensor();
        assert_eq!(y.shape(), [2, 40, 4]);
        // One of twenty is suppressed in the first image, none in the second.
        assert!(y.data()[19 * 4..40 * 4].iter().all(|&v| v == 0.0) && y.data()[18 * 4 + 2] > 0.0);
        assert!(y.data()[(40 + 20) * 4..].iter().all(|&v| v == 0.0) && y.data()[(40 + 19) * 4 + 2] > 0.0);
        for odd in [f32::NAN, f32::INFINITY] {
            let x = g.input(Tensor::full(&[1, 20, 5], odd));
            let e = g.apply(proposals(4), &[&x]).unwrap_err().to_string();
            assert!(e.contains("finite numbers"), "{e}");
        }
        let x = g.input(Tensor::zeros(&[1, 21, 5]));
        assert!(g.apply(proposals(4), &[&x]).unwrap_err().to_string().contains("[N, 20, 5]"));
        let x = g.input(Tensor::zeros(&[1, 20, 5]));
        assert!(g.apply(proposals(0), &[&x]).unwrap_err().to_string().contains("1 to 20000"));
        // What a damaged file may say.
        let anchors = AnchorConfig { levels: [64, 5], sizes: Vec::new(), ratios: vec![1.0] };
        let e = g.apply(Proposals { anchors, ..proposals(4) }, &[&x]).unwrap_err().to_string();
        assert!(e.contains("levels 64 to 5"), "{e}");
    }
}
