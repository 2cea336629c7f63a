//! `roi_align`: what the levels of a feature pyramid hold within boxes, as images of one size (He et al., ICCV 2017).
//!
//! A box is read at one level, by its size. It is cut into `size` x `size` bins, and a bin is the mean of `samples` x `samples` points,
//! each interpolated between the four pixels around it. This is torchvision's `MultiScaleRoIAlign` with `aligned=False`: the first pixel
//! lies at 0, not at a half, and a box is at least one pixel of its level wide and high.
//!
//! Order of sums: the points of a bin row by row, of a point the upper left, upper right, lower left and lower right pixel. On the way
//! back an image collects box by box in their order, of a box bin by bin, and of a bin in the order above.

use crate::stored::{Settings, settings_of};
use crate::{Backward, Cx, Error, Grads, Graph, Operation, Result, Var};
use fixnet_tensor::{Error as TensorError, Tensor, map};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// The name of the operation in messages and files.
const OP: &str = "roi_align";

/// Levels of a pyramid [N, H, W, C], each half as high and wide as the one before, and boxes [N, R, 4] (x1, y1, x2, y2 in pixels of the
/// image): [N, R, size · size · C], bins row by row, each with its channels. No gradient passes to the boxes.
///
/// With L levels from level f on, a box of w x h is read at level `f - 2 + floor(4 + log2(sqrt(w h) / canonical) + 1e-6)`, held to f and
/// f + L - 1 (Lin et al., CVPR 2017). As in torchvision the sums are in `f32` from the 4 on, whose rounding lifts sides that are less
/// than a millionth below a power of two.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RoiAlign {
    /// The first level, f: its images are smaller than the input by `2^f`.
    pub first: usize,
    /// Bins in each direction.
    pub size: usize,
    /// Points of a bin in each direction.
    pub samples: usize,
    /// The side of the squares from which on boxes are read at level f + 2, in pixels of the image.
    pub canonical: f32,
}

/// A box and the image of the batch that it is in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Region {
    /// The index of the image.
    pub image: usize,
    /// x1, y1, x2, y2 in pixels of the image.
    pub corners: [f32; 4],
}

/// The two pixels around a point in one direction, with their weights.
#[derive(Debug, Clone, Copy)]
struct Between {
    low: usize,
    high: usize,
    weights: [f32; 2],
}

impl Between {
    /// Of a point at `v` among `length` pixels. Beyond the outer pixels it is the outer one, further than 1 beyond them nothing.
    fn of(v: f32, length: usize) -> Self {
        if v < -1.0 || v > length as f32 {
            return Self { low: 0, high: 0, weights: [0.0; 2] };
        }
        let v = if v <= 0.0 { 0.0 } else { v };
        let low = (v as usize).min(length - 1);
        if low + 1 >= length {
            return Self { low, high: low, weights: [1.0, 0.0] };
        }
        let share = v - low as f32;
        Self { low, high: low + 1, weights: [1.0 - share, share] }
    }
}

/// Where a region is read: its level, and the points in each direction.
struct Points {
    level: usize,
    y: Vec<Between>,
    x: Vec<Between>,
}

impl Points {
    /// Calls `f(place of the first channel, weight)` for the four pixels around each point of a bin, in the order of sums.
    #[inline(always)]
    fn of_bin(
        &self,
        [row, column]: [usize; 2],
        samples: usize,
        [width, channels]: [usize; 2],
        mut f: impl FnMut(usize, f32),
    ) {
        for y in &self.y[row * samples..][..samples] {
            for x in &self.x[column * samples..][..samples] {
                for (at_y, weight_y) in [(y.low, y.weights[0]), (y.high, y.weights[1])] {
                    for (at_x, weight_x) in [(x.low, x.weights[0]), (x.high, x.weights[1])] {
                        f((at_y * width + at_x) * channels, weight_y * weight_x);
                    }
                }
            }
        }
    }
}

impl RoiAlign {
    fn is_sound(&self, levels: usize, channels: usize) -> bool {
        (1..=256).contains(&self.size)
            && (1..=16).contains(&self.samples)
            && self.first < 30
            && levels < 30
            && self.canonical > 0.0
            && self.canonical.is_finite()
            && channels.checked_mul(self.size * self.size).is_some()
    }

    /// The shapes of the levels, of which all have the batch and the channels of the first.
    fn levels(&self, shapes: &[&[usize]]) -> Result<Vec<[usize; 4]>> {
        let wrong = |shape: &[usize]| {
            let expected = "levels [N, H, W, C] with one N and C and at least one pixel";
            Error::from(TensorError::shape(OP, expected, shape))
        };
        let level = |shape: &&[usize]| <[usize; 4]>::try_from(*shape).map_err(|_| wrong(shape));
        let levels = shapes.iter().map(level).collect::<Result<Vec<_>>>()?;
        let Some(&[n, _, _, c]) = levels.first() else { return Err(Error::setting("levels of roi_align", "one", 0)) };
        match levels.iter().find(|l| l[0] != n || l[3] != c || l[1] == 0 || l[2] == 0) {
            Some(odd) => Err(wrong(odd)),
            None if !self.is_sound(levels.len(), c) => {
                let expected =
                    "1 to 256 bins, 1 to 16 points, levels below 30, a positive side and an output that fits memory";
                Err(Error::setting("settings of roi_align", expected, format!("{self:?}")))
            }
            None => Ok(levels),
        }
    }

    /// Which of `count` levels a box is read at.
    fn level(&self, [x1, y1, x2, y2]: [f32; 4], count: usize) -> usize {
        let side = ((x2 - x1) * (y2 - y1)).sqrt();
        // As a float: a box without area is at minus infinity, which is held to the first level.
        let level = (4.0 + libm::log2f(side / self.canonical) + 1e-6).floor() - 2.0;
        level.clamp(0.0, (count - 1) as f32) as usize
    }

    fn points(&self, corners: [f32; 4], levels: &[[usize; 4]]) -> Points {
        let level = self.level(corners, levels.len());
        let [_, h, w, _] = levels[level];
        let scale = 1.0 / (1u64 << (self.first + level)) as f32;
        let [x1, y1, x2, y2] = corners.map(|v| v * scale);
        let axis = |start: f32, end: f32, length: usize| {
            let extent = end - start;
            let bin = if extent > 1.0 { extent } else { 1.0 } / self.size as f32;
            let step = bin / self.samples as f32;
            let at = |bin_index: usize, i: usize| start + bin_index as f32 * bin + (i as f32 + 0.5) * step;
            let all = (0..self.size).flat_map(|b| (0..self.samples).map(move |i| (b, i)));
            all.map(|(b, i)| Between::of(at(b, i), length)).collect()
        };
        Points { level, y: axis(y1, y2, h), x: axis(x1, x2, w) }
    }

    /// Numbers of a region.
    fn columns(&self, channels: usize) -> usize {
        self.size * self.size * channels
    }

    /// The value for regions in any order: [regions, columns].
    fn read(&self, levels: &[Tensor], shapes: &[[usize; 4]], regions: &[Region]) -> Tensor {
        let channels = shapes[0][3];
        let columns = self.columns(channels);
        let share = 1.0 / (self.samples * self.samples) as f32;
        let mut out = Tensor::take(&[regions.len(), columns]);
        map::rows(out.data_mut(), columns, |first, out| {
            for (region, out) in regions[first..].iter().zip(out.chunks_exact_mut(columns.max(1))) {
                let points = self.points(region.corners, shapes);
                let [_, h, w, c] = shapes[points.level];
                let x = &levels[points.level].data()[region.image * h * w * c..][..h * w * c];
                for (bin, out) in out.chunks_exact_mut(c.max(1)).enumerate() {
                    out.fill(0.0);
                    points.of_bin([bin / self.size, bin % self.size], self.samples, [w, c], |at, weight| {
                        out.iter_mut().zip(&x[at..at + c]).for_each(|(o, &x)| *o += weight * x);
                    });
                    out.iter_mut().for_each(|o| *o *= share);
                }
            }
        });
        out
    }

    /// Records the value for regions; `shape` has as many numbers as these give.
    fn record(&self, g: &mut Graph<'_>, levels: &[&Var], regions: Vec<Region>, shape: &[usize]) -> Result<Var> {
        let shapes = self.levels(&levels.iter().map(|l| l.shape()).collect::<Vec<_>>())?;
        let numbers: Vec<Tensor> = levels.iter().map(|l| l.tensor()).collect();
        let out = self.read(&numbers, &shapes, &regions).reshape(shape)?;
        let non_negative = levels.iter().all(|l| l.is_non_negative());
        let out = g.record(out, levels, || RoiAlignBackward { op: *self, shapes, regions });
        Ok(if non_negative { out.non_negative() } else { out })
    }
}

struct RoiAlignBackward {
    op: RoiAlign,
    shapes: Vec<[usize; 4]>,
    regions: Vec<Region>,
}

impl Backward for RoiAlignBackward {
    fn name(&self) -> &'static str {
        OP
    }
    fn backward(self: Box<Self>, grad: Tensor, cx: &mut Cx<'_>) -> Result<Grads> {
        let Self { op, shapes, regions } = *self;
        let columns = op.columns(shapes[0][3]);
        let share = 1.0 / (op.samples * op.samples) as f32;
        let grad = grad.data();
        let level = |(level, shape): (usize, &[usize; 4])| {
            let &[_, h, w, c] = shape;
            let mut dx = Tensor::zeros(shape);
            // An image belongs to one task, which goes through its regions in their order.
            dx.data_mut().par_chunks_mut((h * w * c).max(1)).enumerate().for_each(|(image, dx)| {
                map::dispatch(
                    #[inline(always)]
                    || {
                        for (region, grad) in regions.iter().zip(grad.chunks_exact(columns.max(1))) {
                            if region.image != image || op.level(region.corners, shapes.len()) != level {
                                continue;
                            }
                            let points = op.points(region.corners, &shapes);
                            for (bin, grad) in grad.chunks_exact(c.max(1)).enumerate() {
                                points.of_bin([bin / op.size, bin % op.size], op.samples, [w, c], |at, weight| {
                                    let weight = weight * share;
                                    dx[at..at + c].iter_mut().zip(grad).for_each(|(d, &g)| *d += weight * g);
                                });
                            }
                        }
                    },
                );
            });
            dx
        };
        Ok(shapes.iter().enumerate().map(|(i, shape)| cx.needs(i).then(|| level((i, shape)))).collect())
    }
}

impl Operation for RoiAlign {
    fn kind(&self) -> &'static str {
        OP
    }
    fn title(&self) -> String {
        format!("roi align {0}x{0}", self.size)
    }
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let Some((&boxes, levels)) = inputs.split_last() else {
            return Err(Error::setting("inputs of roi_align", "levels and boxes", 0));
        };
        let levels = self.levels(levels)?;
        match *boxes {
            [n, count, 4] if n == levels[0][0] => Ok(vec![n, count, self.columns(levels[0][3])]),
            _ => Err(TensorError::shape(OP, format!("boxes [{}, R, 4]", levels[0][0]), boxes).into()),
        }
    }
    fn is_non_negative(&self, inputs: &[bool]) -> bool {
        // Whether a corner is negative does not matter.
        inputs.split_last().is_some_and(|(_, levels)| levels.iter().all(|&level| level))
    }
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        let shape = self.output_shape(&inputs.iter().map(|v| v.shape()).collect::<Vec<_>>())?;
        let Some((boxes, levels)) = inputs.split_last() else { return Err(Error::setting("inputs", "some", 0)) };
        let corners = boxes.tensor();
        let (corners, _) = corners.data().as_chunks::<4>();
        let regions = corners.iter().enumerate().map(|(i, &corners)| Region { image: i / shape[1].max(1), corners });
        self.record(g, levels, regions.collect(), &shape)
    }
    fn settings(&self) -> Settings {
        settings_of(self)
    }
}

impl Graph<'_> {
    /// Reads boxes from the levels of a pyramid, as [`RoiAlign`] says. Shapes: levels [N, H, W, C], boxes [N, R, 4]; output
    /// [N, R, size · size · C].
    ///
    /// # Errors
    /// The shapes do not fit each other, or a setting is 0.
    pub fn roi_align(&mut self, levels: &[&Var], boxes: &Var, op: RoiAlign) -> Result<Var> {
        self.apply(op, &[levels, &[boxes]].concat())
    }

    /// The same for regions in any order, any number of them from each image: [regions, size · size · C].
    ///
    /// # Errors
    /// As there; or a region is of an image that is not in the batch.
    pub fn roi_align_regions(&mut self, levels: &[&Var], regions: Vec<Region>, op: RoiAlign) -> Result<Var> {
        let shapes = op.levels(&levels.iter().map(|l| l.shape()).collect::<Vec<_>>())?;
        let [n, _, _, c] = shapes[0];
        if let Some(odd) = regions.iter().find(|region| region.image >= n) {
            return Err(Error::setting("the image of a region", format!("below {n}"), odd.image));
        }
        let shape = [regions.len(), op.columns(c)];
        op.record(self, levels, regions, &shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;
    use crate::check::{gradient_error, sample};

    const OP: RoiAlign = RoiAlign { first: 1, size: 2, samples: 2, canonical: 8.0 };

    /// One channel whose pixel in row y and column x is 10 y + x.
    fn ramp(h: usize, w: usize) -> Tensor {
        let pixel = |i: usize| (i / w * 10 + i % w) as f32;
        Tensor::from_vec(&[1, h, w, 1], (0..h * w).map(pixel).collect()).unwrap()
    }

    fn regions(corners: &[[f32; 4]]) -> Vec<Region> {
        corners.iter().map(|&corners| Region { image: 0, corners }).collect()
    }

    #[test]
    fn bins_by_hand() {
        let mut store = Store::seeded(1);
        let mut g = Graph::eval(&mut store);
        let x = g.input(ramp(6, 6));
        // Pixels are 2 apart: from 1 to 5 in x and 0.5 to 2.5 in y. A bin is 2 x 1, so its points are means of a linear ramp: its middle.
        let y = g.roi_align_regions(&[&x], regions(&[[2.0, 1.0, 10.0, 5.0]]), OP).unwrap().tensor();
        assert_eq!(y.data(), [10.0 + 2.0, 10.0 + 4.0, 20.0 + 2.0, 20.0 + 4.0]);
        // Less than a pixel wide: read as if it were one. Its bins are at 1.25 and 1.75.
        let y = g.roi_align_regions(&[&x], regions(&[[2.0, 2.0, 2.5, 2.5]]), OP).unwrap().tensor();
        assert_eq!(y.data(), [12.5 + 1.25, 12.5 + 1.75, 17.5 + 1.25, 17.5 + 1.75]);
        // Points beyond the last pixel read that one, and further than 1 beyond it nothing. In x the points are at 4.5, 5.5, 6.5 and 7.5.
        let y = g.roi_align_regions(&[&x], regions(&[[8.0, 0.0, 16.0, 8.0]]), OP).unwrap().tensor();
        assert_eq!(y.data(), [10.0 + 4.75, 0.0, 30.0 + 4.75, 0.0]);
    }

    #[test]
    fn larger_boxes_are_read_at_higher_levels() {
        // 8 is the side from which on the level is 1 + 2.
        let at = |side: f32, count| OP.level([1.0, 1.0, 1.0 + side, 1.0 + side], count);
        assert_eq!([1.9, 2.0, 3.9, 4.0, 7.9, 8.0, 16.0, 99.0].map(|side| at(side, 4)), [0, 0, 0, 1, 1, 2, 3, 3]);
        assert_eq!((at(99.0, 2), at(0.0, 4), OP.level([4.0, 0.0, 2.0, 1.0], 4)), (1, 0, 0));
        let mut store = Store::seeded(1);
        let mut g = Graph::eval(&mut store);
        let (fine, coarse) = (g.input(ramp(8, 8)), g.input(Tensor::full(&[1, 4, 4, 1], -1.0)));
        let small = [0.0, 0.0, 3.0, 3.0];
        let y = g.roi_align_regions(&[&fine, &coarse], regions(&[[0.0, 0.0, 9.0, 9.0], small]), OP).unwrap().tensor();
        assert!(y.data()[..4] == [-1.0; 4] && y.data()[4..].iter().all(|&v| v > 0.0), "{:?}", y.data());
    }

    /// Sides about which torchvision's `floor(4 + log2(side / 224) + 1e-6)` in `f32`, worked out by hand, changes: below and from them.
    #[test]
    fn levels_just_below_powers_of_two_are_those_of_torchvision() {
        let op = RoiAlign { first: 2, canonical: 224.0, ..OP };
        let at = |side: f32| op.level([0.0, 0.0, side, side], 4);
        for (level, side) in [(1, 111.999_92), (2, 223.999_85), (3, 447.999_65)] {
            assert_eq!((at(side), at(side * (1.0 - 5e-6))), (level, level - 1), "{side}");
        }
    }

    #[test]
    fn gradients_match_finite_differences() {
        let inputs = [sample(&[2, 6, 5, 3], 1), sample(&[2, 3, 3, 3], 2)];
        let corners = [[1.0, 1.5, 5.0, 4.0], [0.0, 0.0, 9.5, 11.0], [-1.0, 2.0, 3.0, 30.0], [4.0, 4.0, 4.5, 4.5]];
        let all: Vec<Region> = (0..8).map(|i| Region { image: i % 2, corners: corners[i / 2] }).collect();
        let error = gradient_error(&inputs, 0.1, |g, v| {
            g.roi_align_regions(&[&v[0], &v[1]], all.clone(), RoiAlign { size: 3, ..OP })
        });
        assert!(error.unwrap() < 1e-3);
        let error = gradient_error(&inputs, 0.1, |g, v| {
            let boxes = g.input(Tensor::from_vec(&[2, 2, 4], corners.as_flattened().to_vec()).unwrap());
            g.roi_align(&[&v[0], &v[1]], &boxes, OP)
        });
        assert!(error.unwrap() < 1e-3);
    }

    #[test]
    fn both_forms_agree_on_any_number_of_threads() {
        let levels = [sample(&[3, 16, 16, 20], 1), sample(&[3, 8, 8, 20], 2)];
        let corners: Vec<f32> =
            (0..3 * 40).flat_map(|i| [0.0, 1.0, 4.0 + (i % 11) as f32, 5.0 + (i % 7) as f32]).collect();
        let run = |threads: usize, flat: bool| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut store = Store::seeded(1);
                let ids = [0, 1].map(|i| store.add(&format!("l{i}"), crate::Group::Weight, levels[i].clone()).unwrap());
                let mut g = Graph::train(&mut store);
                let [a, b] = ids.map(|id| g.param(id));
                let y = match flat {
                    true => {
                        let (boxes, _) = corners.as_chunks::<4>();
                        let all = boxes.iter().enumerate().map(|(i, &corners)| Region { image: i / 40, corners });
                        g.roi_align_regions(&[&a, &b], all.collect(), OP).unwrap()
                    }
                    false => {
                        let boxes = g.input(Tensor::from_vec(&[3, 40, 4], corners.clone()).unwrap());
                        g.roi_align(&[&a, &b], &boxes, OP).unwrap()
                    }
                };
                let target = g.input(Tensor::zeros(y.shape()));
                let value = y.tensor();
                let loss = g.mse_loss(&y, &target).unwrap();
                g.backward(loss).unwrap();
                let grads = ids.map(|id| store.grad(id).unwrap().data().to_vec());
                [vec![value.data().to_vec()], grads.to_vec()].concat().concat()
            })
        };
        let one = run(1, true);
        assert!(one == run(2, true) && one == run(5, false));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut store = Store::seeded(1);
        let mut g = Graph::eval(&mut store);
        let (x, other) = (g.input(Tensor::zeros(&[1, 4, 4, 2])), g.input(Tensor::zeros(&[1, 2, 2, 3])));
        let boxes = g.input(Tensor::zeros(&[2, 5, 4]));
        assert!(g.roi_align(&[&x], &boxes, OP).unwrap_err().to_string().contains("boxes [1, R, 4]"));
        assert!(g.roi_align(&[&x, &other], &boxes, OP).unwrap_err().to_string().contains("one N and C"));
        assert!(g.roi_align(&[], &boxes, OP).is_err());
        assert!(g.roi_align(&[&x], &boxes, RoiAlign { samples: 0, ..OP }).is_err());
        let beyond = vec![Region { image: 1, corners: [0.0; 4] }];
        assert!(g.roi_align_regions(&[&x], beyond, OP).unwrap_err().to_string().contains("below 1, found 1"));
        // No region: no row.
        assert_eq!(g.roi_align_regions(&[&x], vec![], OP).unwrap().shape(), [0, 8]);
    }
}
