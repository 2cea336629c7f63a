//! What the names of all detectors say: the network below the heads and the levels of its pyramid.

use super::mobilenet::{self, MobileNetV2};
use super::resnet;
use crate::layers::{FrozenNorms, Sequential, Stages};
use fixnet_autograd::{Error, Result, Store};
use fixnet_quant::QuantConfig;

/// What stands before the names of the layers of the body of a detector.
pub const BODY: &str = "backbone.body.";

/// Returns what a layer of the body of a detector is called in the network by itself, `layer1.0.conv1` for `backbone.body.layer1.0.conv1` and
/// `features.3.conv.0.0` for `backbone.body.3.conv.0.0`; `None` for other layers.
pub fn outside_detector(layer: &str) -> Option<String> {
    let name = layer.strip_prefix(BODY)?;
    match name.starts_with(|c: char| c.is_ascii_digit()) {
        true => Some(format!("features.{name}")),
        false => Some(name.into()),
    }
}

/// Returns what a layer of a classifier is called in the body of a detector, if it has a place there: the reverse of [`outside_detector`].
pub fn inside_detector(layer: &str) -> Option<String> {
    let is_of_resnet = ["conv1.", "bn1.", "layer"].iter().any(|start| layer.starts_with(start));
    let name = layer.strip_prefix("features.").or_else(|| is_of_resnet.then_some(layer))?;
    Some(format!("{BODY}{name}"))
}

/// The network below the pyramid of a detector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DetectorBody {
    /// `r18`, `r34`, `r50`: a residual network of this depth.
    ResNet(usize),
    /// `m2`: MobileNetV2. A level is the first block with its size, and level 5 the last convolution, as in torchvision.
    MobileNetV2,
}

/// Options that each detector has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DetectorOptions {
    /// `r18`, `r34`, `r50` or `m2`: the network below the pyramid.
    pub body: DetectorBody,
    /// `w0.5`: the factor of its channels, 0.05 to 4.
    pub width: f64,
    /// `small`: each level comes from a deeper stage. In a residual network the first convolution is 3x3 with stride 2 and no pooling
    /// follows; in MobileNetV2 the stage of 24 channels keeps the size.
    pub small: bool,
    /// `frozen`: its batch normalizations stay as they are (torchvision's `FrozenBatchNorm2d`).
    pub frozen: bool,
    /// `l3to7`: the first and the last level of the pyramid; the first is 2 to 5 (4 with `small`), the last at least that and at most 7.
    pub levels: [usize; 2],
    /// `c256`: channels of the pyramid and the heads, 1 to 4096.
    pub channels: usize,
    /// `a32`: the side of the smallest anchors of the first level in pixels, 2 to 4096; each level doubles it.
    pub anchor: usize,
    /// `relu`: a ReLU behind the pyramid (TRS, section 5: all that the heads quantize is at least 0).
    pub rectified: bool,
}

/// What the options are, for messages.
pub(super) const OPTIONS: &str = "r18, r34, r50 (depth of a residual network) or m2 (MobileNetV2), w0.5 (width, 0.05 to 4), small (for \
                                  small objects), frozen (its normalizations stay), l3to7 (levels, from 2 to 5, or 4 if small, up to at \
                                  most 7), c256 (channels, 1 to 4096), a32 (smallest anchors, 2 to 4096 pixels), relu (behind the \
                                  pyramid)";

/// A number of an option, if it is at most `most`.
pub(super) fn count(value: &str, most: usize) -> Option<usize> {
    value.parse().ok().filter(|n| (1..=most).contains(n))
}

impl DetectorOptions {
    /// The options of torchvision's detectors on ResNet-50 with a pyramid of these levels.
    pub(super) const fn usual(levels: [usize; 2]) -> Self {
        Self {
            body: DetectorBody::ResNet(50),
            width: 1.0,
            small: false,
            frozen: false,
            levels,
            channels: 256,
            anchor: 32,
            rectified: false,
        }
    }

    /// Reads `NAME` or `NAME:OPTION-OPTION…`, each option once. `own` takes those that are the model's: a letter and what follows, and says
    /// whether that is one.
    pub(super) fn read(mut self, text: &str, name: &str, mut own: impl FnMut(&str, &str) -> bool) -> Option<Self> {
        let options = match text.strip_prefix(name)? {
            "" => return Some(self),
            options => options.strip_prefix(':')?,
        };
        let mut seen = Vec::new();
        for option in options.split('-') {
            let (kind, value) = match option {
                "relu" | "small" | "frozen" => (option, ""),
                _ => option.split_at_checked(1)?,
            };
            // Both name the body.
            let place = if kind == "m" { "r" } else { kind };
            if seen.contains(&place) {
                return None;
            }
            seen.push(place);
            match kind {
                "relu" => self.rectified = true,
                "small" => self.small = true,
                "frozen" => self.frozen = true,
                "r" => self.body = DetectorBody::ResNet(count(value, 50).filter(|n| [18, 34, 50].contains(n))?),
                "m" => self.body = (value == "2").then_some(DetectorBody::MobileNetV2)?,
                "w" => self.width = value.parse().ok().filter(|w| (0.05..=4.0).contains(w))?,
                "l" => {
                    let (first, last) = value.split_once("to")?;
                    let [first, last] = [first.parse().ok()?, last.parse().ok()?];
                    if !(2..=5).contains(&first) || !(first..=7).contains(&last) {
                        return None;
                    }
                    self.levels = [first, last];
                }
                "c" => self.channels = count(value, 4096)?,
                "a" => self.anchor = count(value, 4096).filter(|n| *n > 1)?,
                _ if own(kind, value) => {}
                _ => return None,
            }
        }
        (!self.small || self.levels[0] <= 4).then_some(self)
    }

    /// Writes what [`read`](Self::read) reads, those options that differ from `usual`; `own` are those of the model.
    pub(super) fn write(&self, usual: &Self, name: &str, own: &[Option<String>]) -> String {
        let [first, last] = self.levels;
        let body = match self.body {
            DetectorBody::ResNet(depth) => format!("r{depth}"),
            DetectorBody::MobileNetV2 => "m2".into(),
        };
        let before = [
            (self.body != usual.body).then_some(body),
            (self.width != usual.width).then(|| format!("w{}", self.width)),
            self.small.then(|| "small".into()),
            self.frozen.then(|| "frozen".into()),
            (self.levels != usual.levels).then(|| format!("l{first}to{last}")),
            (self.channels != usual.channels).then(|| format!("c{}", self.channels)),
        ];
        let after =
            [(self.anchor != usual.anchor).then(|| format!("a{}", self.anchor)), self.rectified.then(|| "relu".into())];
        let options: Vec<String> = before.iter().chain(own).chain(&after).flatten().cloned().collect();
        if options.is_empty() { name.into() } else { format!("{name}:{}", options.join("-")) }
    }

    /// Returns what makes the smallest anchors of each level: their side.
    pub(super) fn sides(&self) -> impl Iterator<Item = usize> {
        let ([first, last], anchor) = (self.levels, self.anchor);
        (first..=last).map(move |level| anchor << (level - first))
    }

    /// Makes the stages of the levels, as many as there are.
    pub(super) fn build(&self, store: &mut Store, channels: usize, config: &QuantConfig) -> Result<Stages> {
        let [first, last] = self.levels;
        // The level of the first stage; each further one gives the next.
        let base = if self.small { 1 } else { 2 };
        if !(base..=base + 3).contains(&first) || last < first {
            let expected = format!("a first one from {base} to {} and a last one that is not below it", base + 3);
            return Err(Error::setting("levels of a detector", expected, format!("{first} to {last}")));
        }
        let (prefix, count) = (BODY, last.min(base + 3) - base + 1);
        let from = store.params().len();
        let (mut parts, mut widths) = match self.body {
            DetectorBody::ResNet(depth) => {
                resnet::Body { prefix, depth, width: self.width, small: self.small, stages: count }
                    .build(store, channels, config)?
            }
            DetectorBody::MobileNetV2 => {
                let model = MobileNetV2 { width: self.width, large: true };
                mobilenet::Body { prefix, model, strides: [2, if self.small { 1 } else { 2 }] }
                    .levels(store, channels, count, config)?
            }
        };
        // The stages below the first level lead to it.
        let rest = parts.split_off(first - base + 1);
        let start = parts.into_iter().fold(Sequential::new(), Sequential::push);
        let layers = std::iter::once(start).chain(rest);
        let layers = match self.frozen {
            false => layers.collect(),
            true => layers.map(|stage| Sequential::new().push(FrozenNorms::new(store, from, stage))).collect(),
        };
        Ok(Stages { layers, channels: widths.split_off(first - base) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Pretrained;
    use crate::models::{build, network};

    #[test]
    fn weights_of_a_classifier_are_told_from_others_by_the_body_alone() {
        let (classifier, _) = network("resnet18-imagenet", [64, 64, 3], 10, &QuantConfig::float());
        let of_body = || {
            let inside = classifier.params().iter().filter_map(|p| Some((inside_detector(p.name())?, p.value.clone())));
            Pretrained::new(inside.collect())
        };
        let taken = |weights: Pretrained, model: &str| {
            let mut store = weights.begin(Store::seeded(2));
            build(&mut store, &model.parse().unwrap(), [128, 128, 3], 2, &QuantConfig::float()).unwrap();
            weights.finish(&mut store)
        };
        // More than half of the weights of these are those of the pyramid and the head.
        let large = "retinanet:r18-l2to7-c8-n5";
        assert!(taken(of_body(), large).is_err());
        for model in [large, "retinanet:r18-small-l2to4-c8-n9"] {
            assert!(taken(of_body().within(BODY), model).unwrap().count > 30, "{model}");
        }
        assert!(taken(of_body().within(BODY), "retinanet:r50-c8").is_err());
    }

    #[test]
    fn layers_of_a_body_have_names_outside() {
        for (outside, inside) in [
            ("layer1.0.conv1.weight", "backbone.body.layer1.0.conv1.weight"),
            ("conv1.weight", "backbone.body.conv1.weight"),
            ("features.3.conv.0.0.weight", "backbone.body.3.conv.0.0.weight"),
        ] {
            assert_eq!(inside_detector(outside).as_deref(), Some(inside));
            assert_eq!(outside_detector(inside).as_deref(), Some(outside));
        }
        assert_eq!((inside_detector("fc.weight"), inside_detector("classifier.1.weight")), (None, None));
        assert_eq!(outside_detector("rpn.head.conv.0.0.weight"), None);
    }
}
