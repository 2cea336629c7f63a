//! Faster R-CNN with a feature pyramid, in torchvision's form and names, with settings for small images.

use super::detector::{self, DetectorOptions, OPTIONS};
use super::{Model, ModelKind, Output, image};
use crate::detection::{AnchorConfig, BoxOutput};
use crate::layers::{FasterRcnn, FasterRcnnConfig, Sequential};
use fixnet_autograd::{Error, Result, Store};
use fixnet_quant::QuantConfig;
use std::fmt;
use std::str::FromStr;

/// The row of the registry.
pub(super) const KIND: ModelKind = ModelKind {
    form: "fasterrcnn[:OPTION-OPTION…]",
    about: "for detection, in two stages; options of retinanet but for n, and f1024 (numbers of the hidden layers of the box head), p1000 \
            (proposals), s512 (regions of an image that are learned from)",
    examples: &["fasterrcnn:r18-w0.05-l3to5-c8-f16-p20-s32-a16"],
    // What is wrong with an option is said rather than that no model is meant.
    parse: |text| text.starts_with(NAME).then(|| text.parse::<FasterRcnnSpec>().map(Into::into)),
};

const NAME: &str = "fasterrcnn";
const USUAL: DetectorOptions = DetectorOptions::usual([2, 6]);

/// `fasterrcnn` or `fasterrcnn:OPTION-OPTION…`, such as `fasterrcnn:r18-w0.5-l3to5-c64-f256-p100-a16`: the detector of Ren et al.
/// (NeurIPS 2015) on a feature pyramid. Without options it is torchvision's `fasterrcnn_resnet50_fpn`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FasterRcnnSpec {
    /// The network below the heads. The usual levels are 2 to 6.
    pub options: DetectorOptions,
    /// `f1024`: numbers of each hidden layer of the box head, 1 to 16384.
    pub hidden: usize,
    /// `p1000`: proposals of an image in evaluation, 1 to 10000; in training there are twice as many.
    pub proposals: usize,
    /// `s512`: regions of an image that the box head learns from in a step, 1 to 10000.
    pub regions: usize,
}

impl Default for FasterRcnnSpec {
    fn default() -> Self {
        Self { options: USUAL, hidden: 1024, proposals: 1000, regions: 512 }
    }
}

impl FasterRcnnSpec {
    /// Returns the anchors: one size a level, and the ratios 1/2, 1 and 2 at each place.
    pub fn anchors(&self) -> AnchorConfig {
        let sizes = self.options.sides().map(|side| vec![side]).collect();
        AnchorConfig { levels: self.options.levels, sizes, ratios: vec![0.5, 1.0, 2.0] }
    }
}

impl Model for FasterRcnnSpec {
    fn name(&self) -> String {
        self.to_string()
    }

    fn output(&self) -> Output {
        Output::Boxes(BoxOutput::Proposals { anchors: self.anchors(), most: self.proposals })
    }

    fn published(&self) -> ([usize; 3], usize) {
        ([640, 640, 3], 90)
    }

    fn build(&self, store: &mut Store, input: &[usize], outputs: usize, config: &QuantConfig) -> Result<Sequential> {
        let [_, _, channels] = image(self, input)?;
        let stages = self.options.build(store, channels, config)?;
        let sizes = FasterRcnnConfig {
            anchors: self.anchors(),
            channels: self.options.channels,
            hidden: self.hidden,
            classes: outputs,
            proposals: self.proposals,
            regions: self.regions,
            rectified: self.options.rectified,
        };
        Ok(Sequential::new().push(FasterRcnn::new(store, stages, sizes, config)?))
    }
}

impl fmt::Display for FasterRcnnSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usual = Self::default();
        let own = [
            (self.hidden != usual.hidden).then(|| format!("f{}", self.hidden)),
            (self.proposals != usual.proposals).then(|| format!("p{}", self.proposals)),
            (self.regions != usual.regions).then(|| format!("s{}", self.regions)),
        ];
        f.write_str(&self.options.write(&usual.options, NAME, &own))
    }
}

impl FromStr for FasterRcnnSpec {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let mut spec = Self::default();
        let options = spec.options.read(s, NAME, |kind, value| {
            let (place, most) = match kind {
                "f" => (&mut spec.hidden, 16_384),
                "p" => (&mut spec.proposals, 10_000),
                "s" => (&mut spec.regions, 10_000),
                _ => return false,
            };
            detector::count(value, most).map(|n| *place = n).is_some()
        });
        let options = options.ok_or_else(|| {
            let expected = format!(
                "fasterrcnn or fasterrcnn:OPTION-OPTION… of {OPTIONS}, f1024 (hidden layers of the box head, 1 to 16384), p1000 \
                 (proposals, 1 to 10000), s512 (regions that are learned from, 1 to 10000), each once"
            );
            Error::setting("model", expected, s)
        })?;
        Ok(Self { options, ..spec })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Layer;
    use crate::detection::{Objects, Truth};
    use crate::models::{ModelSpec, network};
    use fixnet_autograd::{Graph, Group, Param};
    use fixnet_data::BoundingBox;
    use fixnet_tensor::Tensor;

    const SMALL: &str = "fasterrcnn:r18-w0.125-l3to6-c16-f24-p30-s40-a16";

    #[test]
    fn names_are_read_as_written_and_options_checked() {
        for text in ["fasterrcnn", SMALL, "fasterrcnn:r34-l2to4-relu", "fasterrcnn:m2-w0.5-small-frozen-l3to5-f64"] {
            assert_eq!(text.parse::<ModelSpec>().unwrap().to_string(), text);
        }
        for text in [
            "fasterrcnn:",
            "fasterrcnns",
            "fasterrcnn:n4",
            "fasterrcnn:f0",
            "fasterrcnn:p10001",
            "fasterrcnn:r18-m2",
            "fasterrcnn:m3",
            "fasterrcnn:small-l5to6",
        ] {
            let e = text.parse::<ModelSpec>().unwrap_err().to_string();
            assert!(e.contains("p1000 (proposals") && e.ends_with(text), "{e}");
        }
    }

    /// Parameters as torchvision counts those of `fasterrcnn_resnet50_fpn` with 91 classes, whose normalizations are frozen and not
    /// counted.
    #[test]
    fn the_network_without_options_has_the_published_size() {
        let mut store = Store::seeded(1);
        let spec = FasterRcnnSpec::default();
        spec.build(&mut store, &[640, 640, 3], 90, &QuantConfig::float()).unwrap();
        let count = |p: &Param| if p.name().contains("bn") { 0 } else { p.value.len() };
        assert_eq!(store.params().iter().map(count).sum::<usize>(), 41_755_286);
    }

    fn pixels(g: &Graph<'_>) -> fixnet_autograd::Var {
        let pixels = (0..2 * 64 * 128 * 3).map(|i| (i % 13) as f32 / 6.0 - 1.0).collect();
        g.input(Tensor::from_vec(&[2, 64, 128, 3], pixels).unwrap())
    }

    #[test]
    fn every_precision_gives_proposals_and_learns_from_objects() {
        let small = SMALL.replace("w0.125", "w0.125-small");
        let mobile = "fasterrcnn:m2-w0.1-l3to6-c16-f24-p30-s40-a16";
        for (model, bits) in
            [(SMALL, "32/32/32"), (&small, "4/4/4"), (SMALL, "4/4/4"), (SMALL, "2/2/32"), (mobile, "4/4/4")]
        {
            let (mut store, net) = network(model, [64, 128, 3], 5, &QuantConfig::new(bits.parse().unwrap()));
            let mut g = Graph::train(&mut store);
            // The second image has no objects, so its regions are background alone.
            let objects = Objects { boxes: vec![BoundingBox::new(10.0, 12.0, 40.0, 50.0)], classes: vec![3] };
            g.give(Truth { objects: vec![objects, Objects::default()], images: vec![7, 2] });
            let x = pixels(&g);
            let loss = net.forward(&mut g, &x).unwrap();
            assert!(loss.shape().is_empty() && loss.tensor().item() > 0.0, "{model}");
            g.backward(loss).unwrap();
            let moved = |p: &Param| p.grad.as_ref().is_some_and(|d| d.data().iter().any(|&v| v != 0.0));
            let weights = store.params().iter().filter(|p| p.name().ends_with(".weight"));
            let still: Vec<&str> = weights.filter(|p| !moved(p)).map(Param::name).collect();
            assert!(still.is_empty(), "{model} at {bits}: {still:?}");
            store.zero_grad();
            let mut g = Graph::eval(&mut store);
            let x = pixels(&g);
            assert_eq!(net.forward(&mut g, &x).unwrap().shape(), [2, 30, 4 + 30], "{model}");
        }
    }

    #[test]
    fn all_but_the_first_and_the_last_layers_are_quantized() {
        let (store, _) = network(SMALL, [64, 64, 3], 5, &QuantConfig::new("4/4/4".parse().unwrap()));
        let of = |p: &&Param| p.group() == Group::Weight;
        let float: Vec<&str> = store.params().iter().filter(of).map(Param::name).collect();
        let edges = [
            "backbone.body.conv1",
            "rpn.head.cls_logits",
            "rpn.head.bbox_pred",
            "roi_heads.box_predictor.cls_score",
            "roi_heads.box_predictor.bbox_pred",
        ];
        assert_eq!(float, edges.map(|name| format!("{name}.weight")));
    }

    #[test]
    fn objects_that_do_not_fit_are_refused() {
        let (mut store, net) = network(SMALL, [64, 128, 3], 5, &QuantConfig::float());
        let odd = Objects { boxes: vec![BoundingBox::new(1.0, 1.0, 9.0, 9.0)], classes: vec![5] };
        for (truth, words) in [
            (Truth { objects: vec![odd, Objects::default()], images: vec![0, 1] }, "classes below 5"),
            (Truth { objects: vec![Objects::default()], images: vec![0] }, "expected 2, found 1 and 1"),
        ] {
            let mut g = Graph::train(&mut store);
            g.give(truth);
            let x = pixels(&g);
            let e = net.forward(&mut g, &x).unwrap_err().to_string();
            assert!(e.contains(words), "{e}");
        }
        // Proposals alone would teach the box head nothing of where objects are, and the rest nothing at all.
        let mut g = Graph::train(&mut store);
        let x = pixels(&g);
        let e = net.forward(&mut g, &x).unwrap_err().to_string();
        assert!(e.contains("a `Truth` that the graph was given") && e.ends_with("found none"), "{e}");
    }

    #[test]
    fn levels_below_those_of_the_body_are_refused() {
        for levels in [[1, 1], [1, 5], [5, 3]] {
            let mut spec = FasterRcnnSpec::default();
            spec.options.levels = levels;
            let e =
                spec.build(&mut Store::seeded(1), &[64, 64, 3], 2, &QuantConfig::float()).err().unwrap().to_string();
            assert!(e.contains("levels of a detector"), "{levels:?}: {e}");
        }
    }
}
