//! `detection_loss`: the focal loss of the classes of anchors and the distance of their box codes (RetinaNet).

use super::{BoxCode, Match, Matcher};
use fixnet_autograd::{Backward, Cx, Error, Grads, Graph, Result, Var};
use fixnet_data::BoundingBox;
use fixnet_tensor::{Error as TensorError, Tensor, math, reduce};
use rayon::prelude::*;
use std::ops::Range;

/// The objects of an image.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Objects {
    /// Their boxes, in pixels of the input.
    pub boxes: Vec<BoundingBox>,
    /// Their classes.
    pub classes: Vec<usize>,
}

/// The settings of [`detection_loss`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DetectionLoss {
    /// How anchors are assigned to objects.
    pub matcher: Matcher,
    /// The code of boxes.
    pub code: BoxCode,
    /// The weight of anchors that stand for an object, 0 to 1; the others have the rest.
    pub alpha: f32,
    /// The factor of the loss of boxes.
    pub box_weight: f32,
}

impl DetectionLoss {
    /// That of RetinaNet, with the focal loss's exponent of 2.
    pub const RETINANET: Self = Self { matcher: Matcher::RETINANET, code: BoxCode::UNIT, alpha: 0.25, box_weight: 1.0 };
}

/// The focal loss of a logit whose target is 1 or 0, `alpha_t (1 - p_t)^2 (-ln p_t)`, and its derivative (Lin et al., ICCV 2017).
#[inline(always)]
fn focal(logit: f32, positive: bool, alpha: f32) -> [f32; 2] {
    // As for a target of 1: the other one is its mirror image.
    let (x, sign) = if positive { (logit, 1.0) } else { (-logit, -1.0) };
    let small = math::exp(-x.abs());
    let share = 1.0 / (1.0 + small);
    let (p, q) = if x >= 0.0 { (share, small * share) } else { (small * share, share) };
    // -ln p = ln(1 + e^-x), without overflow.
    let log = libm::log1pf(small) + if x < 0.0 { -x } else { 0.0 };
    let weight = alpha * q * q;
    [weight * log, sign * weight * (-2.0 * p * log - q)]
}

/// The gradient of a loss whose value was computed together with it.
pub(super) struct Given {
    pub(super) name: &'static str,
    pub(super) grad: Tensor,
}

impl Backward for Given {
    fn name(&self) -> &'static str {
        self.name
    }
    fn backward(self: Box<Self>, grad: Tensor, _: &mut Cx<'_>) -> Result<Grads> {
        let (mut dx, factor) = (self.grad, grad.item());
        dx.data_mut().iter_mut().for_each(|d| *d *= factor);
        Ok(vec![Some(dx)])
    }
}

/// The loss of a detector, a scalar, and the number of its terms, the anchors of the batch that stand for an object: the sum of the focal loss of all logits of anchors that are not ignored, and of the absolute
/// differences between box codes and those of objects, divided by the number of terms (at least 1). The order of its sums is that of images, then anchors.
///
/// torchvision divides by image and takes the mean of images. Then an anchor of an image with few objects has a gradient many times that of
/// others, and gradients of 4 bits keep little but it (docs/RESULTS.md).
///
/// Shapes: `output` [N, anchors, classes + 4], one entry of `objects` for each image, `anchors` in the order of the output.
///
/// # Errors
/// The shapes do not fit; or an object has no class of the output, or a box without area.
pub fn detection_loss(
    g: &mut Graph<'_>,
    output: &Var,
    anchors: &[BoundingBox],
    objects: &[Objects],
    config: &DetectionLoss,
) -> Result<(Var, usize)> {
    const OP: &str = "detection_loss";
    let t = output.tensor();
    let classes = match *t.shape() {
        [n, a, values] if n == objects.len() && n > 0 && a == anchors.len() && values > 4 => values - 4,
        _ => {
            let expected = format!("[{}, {}, classes + 4], not empty", objects.len(), anchors.len());
            return Err(TensorError::shape(OP, expected, t.shape()).into());
        }
    };
    check_objects(objects, classes)?;
    let (n, count, values) = (objects.len(), anchors.len(), classes + 4);
    // Independent of each other, and collected in order.
    let matched: Vec<Vec<Match>> = objects.par_iter().map(|o| config.matcher.matches(anchors, &o.boxes)).collect();
    let terms = matched.iter().flatten().filter(|m| matches!(m, Match::Object(_))).count();
    let factor = 1.0 / terms.max(1) as f32;
    let mut grad = Tensor::take(t.shape());
    let pass = |rows: Range<usize>, grad: &mut [f32], sums: &mut [f32]| {
        for (row, grad) in rows.zip(grad.chunks_exact_mut(values)) {
            let (image, anchor) = (row / count, row % count);
            let x = &t.data()[row * values..][..values];
            let object = match matched[image][anchor] {
                Match::Ignored => {
                    grad.fill(0.0);
                    continue;
                }
                Match::Background => None,
                Match::Object(i) => Some(i),
            };
            let objects = &objects[image];
            let class = object.map(|i| objects.classes[i]);
            for (k, (grad, &x)) in grad[..classes].iter_mut().zip(x).enumerate() {
                let positive = class == Some(k);
                let [loss, slope] = focal(x, positive, if positive { config.alpha } else { 1.0 - config.alpha });
                sums[0] += loss * factor;
                *grad = slope * factor;
            }
            grad[classes..].fill(0.0);
            if let Some(i) = object {
                let code = config.code.encode(&objects.boxes[i], &anchors[anchor]);
                for ((grad, &x), code) in grad[classes..].iter_mut().zip(&x[classes..]).zip(code) {
                    let (difference, factor) = (x - code, factor * config.box_weight);
                    sums[1] += difference.abs() * factor;
                    *grad = if difference == 0.0 { 0.0 } else { difference.signum() * factor };
                }
            }
        }
    };
    let sums = reduce::row_pass(grad.data_mut(), n * count, values, 2, pass);
    let loss = Tensor::scalar((sums[0] + sums[1]) as f32);
    Ok((g.record(loss, &[output], || Given { name: OP, grad }), terms))
}

/// Checks that each object has a class and a box with an area.
pub(super) fn check_objects(objects: &[Objects], classes: usize) -> Result<()> {
    for (image, Objects { boxes, classes: of }) in objects.iter().enumerate() {
        let wrong = |expected: String, found: String| Err(Error::setting("objects of an image", expected, found));
        if boxes.len() != of.len() {
            return wrong(
                format!("one class for each of {} boxes", boxes.len()),
                format!("{} (image {image})", of.len()),
            );
        }
        if let Some(odd) = of.iter().find(|class| **class >= classes) {
            return wrong(format!("classes below {classes}"), format!("{odd} (image {image})"));
        }
        if let Some(odd) = boxes.iter().find(|object| !object.has_area()) {
            return wrong("boxes with an area".into(), format!("{:?} (image {image})", odd.to_array()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixnet_autograd::Store;
    use fixnet_autograd::check::{gradient_error, sample};

    fn square(x: f32, y: f32, side: f32) -> BoundingBox {
        BoundingBox::new(x, y, x + side, y + side)
    }

    #[test]
    fn focal_losses_by_hand() {
        // p = 1/2: alpha / 4 · ln 2.
        let [loss, slope] = focal(0.0, true, 0.25);
        assert!((loss - 0.25 * 0.25 * std::f32::consts::LN_2).abs() < 1e-7);
        assert!((slope - 0.0625 * (-std::f32::consts::LN_2 - 0.5)).abs() < 1e-7, "{slope}");
        assert_eq!(focal(0.0, false, 0.25), [loss, -slope]);
        // Far off it is the distance itself, and at the target nothing.
        assert!((focal(-80.0, true, 1.0)[0] - 80.0).abs() < 1e-4 && focal(80.0, true, 1.0)[0] < 1e-30);
        assert!(focal(-300.0, false, 1.0).iter().all(|v| v.is_finite()));
    }

    #[test]
    fn gradients_match_finite_differences_and_sums_are_those_of_the_formula() {
        let anchors: Vec<BoundingBox> = (0..6).map(|i| square(i as f32 * 6.0, 0.0, 8.0)).collect();
        // The first stands for the object; its neighbour, of which a quarter is in it, for the background.
        let objects = [
            Objects { boxes: vec![square(0.5, 0.0, 8.0), square(13.0, 1.0, 9.0)], classes: vec![1, 0] },
            Objects::default(),
        ];
        let x = sample(&[2, 6, 6], 1);
        let config = DetectionLoss::RETINANET;
        let error = gradient_error(std::slice::from_ref(&x), 1e-3, |g, v| {
            Ok(detection_loss(g, &v[0], &anchors, &objects, &config)?.0)
        });
        assert!(error.unwrap() < 5e-3);
        let mut store = Store::seeded(0);
        let mut g = Graph::eval(&mut store);
        let v = g.input(x.clone());
        let found = f64::from(detection_loss(&mut g, &v, &anchors, &objects, &config).unwrap().0.tensor().item());
        let mut expected = 0.0;
        let matched = objects.each_ref().map(|of| config.matcher.matches(&anchors, &of.boxes));
        let positive = matched.iter().flatten().filter(|m| matches!(m, Match::Object(_))).count();
        assert!(positive > 1);
        for (image, (objects, matches)) in objects.iter().zip(&matched).enumerate() {
            for (a, m) in matches.iter().enumerate() {
                let row: Vec<f64> = x.data()[(image * 6 + a) * 6..][..6].iter().map(|&v| f64::from(v)).collect();
                for (k, logit) in row[..2].iter().enumerate() {
                    let p = 1.0 / (1.0 + (-logit).exp());
                    let is = matches!(m, Match::Object(i) if objects.classes[*i] == k);
                    let (pt, alpha) = if is { (p, 0.25) } else { (1.0 - p, 0.75) };
                    let counts = f64::from(u8::from(*m != Match::Ignored));
                    expected += counts * alpha * (1.0 - pt) * (1.0 - pt) * -pt.ln() / positive as f64;
                }
                if let Match::Object(i) = m {
                    let code = config.code.encode(&objects.boxes[*i], &anchors[a]);
                    let distance: f64 = row[2..].iter().zip(code).map(|(v, c)| (v - f64::from(c)).abs()).sum();
                    expected += distance / positive as f64;
                }
            }
        }
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    }

    #[test]
    fn losses_of_parts_times_their_positives_are_that_of_the_whole() {
        let anchors: Vec<BoundingBox> = (0..6).map(|i| square(i as f32 * 6.0, 0.0, 8.0)).collect();
        let of = |boxes: &[BoundingBox]| Objects { boxes: boxes.to_vec(), classes: vec![0; boxes.len()] };
        let objects = [of(&[square(0.5, 0.0, 8.0)]), of(&[]), of(&[square(1.0, 0.0, 8.0), square(13.0, 1.0, 9.0)])];
        let x = sample(&[3, 6, 6], 3);
        let config = DetectionLoss::RETINANET;
        let mut store = Store::seeded(0);
        let mut loss = |rows: Range<usize>| {
            let mut g = Graph::eval(&mut store);
            let v = g.input(
                Tensor::from_vec(&[rows.len(), 6, 6], x.data()[rows.start * 36..rows.end * 36].to_vec()).unwrap(),
            );
            let (found, terms) = detection_loss(&mut g, &v, &anchors, &objects[rows], &config).unwrap();
            (f64::from(found.tensor().item()), terms)
        };
        let (whole, positive) = loss(0..3);
        let parts = [loss(0..1), loss(1..2), loss(2..3)];
        assert_eq!((parts.map(|p| p.1), positive), ([1, 0, 2], 3));
        let sum: f64 = parts.iter().map(|(loss, positive)| loss * (*positive).max(1) as f64).sum();
        assert!((sum / positive as f64 - whole).abs() < 1e-6, "{sum} {whole}");
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let mut store = Store::seeded(0);
        let mut g = Graph::eval(&mut store);
        let v = g.input(Tensor::zeros(&[1, 1, 6]));
        let anchors = [square(0.0, 0.0, 8.0)];
        let mut text = |objects: &[Objects]| {
            let loss = detection_loss(&mut g, &v, &anchors, objects, &DetectionLoss::RETINANET);
            loss.map(drop).unwrap_err().to_string()
        };
        assert!(text(&[]).contains("expected shape [0, 1, classes + 4]"));
        let of = |side, class| [Objects { boxes: vec![square(0.0, 0.0, side)], classes: vec![class] }];
        assert!(text(&of(1.0, 2)).contains("classes below 2, found 2 (image 0)"));
        assert!(text(&of(0.0, 1)).contains("boxes with an area"));
    }
}
