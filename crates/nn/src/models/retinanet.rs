//! RetinaNet on residual networks, in torchvision's form and names, with settings for small images.

use super::detector::{self, DetectorOptions, OPTIONS};
use super::{Model, ModelKind, Output, image};
use crate::detection::{AnchorConfig, BoxOutput};
use crate::layers::{RetinaNet, RetinaNetConfig, Sequential};
use fixnet_autograd::{Error, Result, Store};
use fixnet_quant::QuantConfig;
use std::fmt;
use std::str::FromStr;

/// The row of the registry.
pub(super) const KIND: ModelKind = ModelKind {
    form: "retinanet[:OPTION-OPTION…]",
    about: "for detection; options r18, r34, r50 (depth of a residual network), m2 (MobileNetV2), w0.25 (its width), small (stages for small \
            objects), frozen (its normalizations stay), l3to7 (levels), c256 (channels of the pyramid and the head), n4 (convolutions of \
            a branch of the head), a32 (size of the smallest anchors in pixels), relu (behind the pyramid)",
    examples: &["retinanet:r18-w0.05-l3to5-c8-n1-a16", "retinanet:m2-w0.05-frozen-l3to5-c8-n1-a16"],
    // What is wrong with an option is said rather than that no model is meant.
    parse: |text| text.starts_with(NAME).then(|| text.parse::<RetinaNetSpec>().map(Into::into)),
};

const NAME: &str = "retinanet";
const USUAL: DetectorOptions = DetectorOptions::usual([3, 7]);

/// `retinanet` or `retinanet:OPTION-OPTION…`, such as `retinanet:r18-w0.5-l3to5-c64-n2-a16`: the detector of Lin et al. (ICCV
/// 2017). Without options it is torchvision's `retinanet_resnet50_fpn`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetinaNetSpec {
    /// The network below the head. The usual levels are 3 to 7.
    pub options: DetectorOptions,
    /// `n4`: convolutions of a branch of the head before the last one, 1 to 16.
    pub tower: usize,
}

impl Default for RetinaNetSpec {
    fn default() -> Self {
        Self { options: USUAL, tower: 4 }
    }
}

impl RetinaNetSpec {
    /// Returns the anchors: three sizes, `2^(1/3)` apart, and the ratios 1/2, 1 and 2 at each place.
    pub fn anchors(&self) -> AnchorConfig {
        let third = |size: usize, power: f64| (size as f64 * libm::exp2(power / 3.0)) as usize;
        let sizes = self.options.sides().map(|size| vec![size, third(size, 1.0), third(size, 2.0)]).collect();
        AnchorConfig { levels: self.options.levels, sizes, ratios: vec![0.5, 1.0, 2.0] }
    }
}

impl Model for RetinaNetSpec {
    fn name(&self) -> String {
        self.to_string()
    }

    fn output(&self) -> Output {
        Output::Boxes(BoxOutput::Anchors(self.anchors()))
    }

    fn published(&self) -> ([usize; 3], usize) {
        ([640, 640, 3], 91)
    }

    fn build(&self, store: &mut Store, input: &[usize], outputs: usize, config: &QuantConfig) -> Result<Sequential> {
        let [_, _, channels] = image(self, input)?;
        let stages = self.options.build(store, channels, config)?;
        let sizes = RetinaNetConfig {
            levels: self.options.levels,
            channels: self.options.channels,
            tower: self.tower,
            anchors: self.anchors().count(),
            classes: outputs,
            rectified: self.options.rectified,
        };
        Ok(Sequential::new().push(RetinaNet::new(store, stages, sizes, config)?))
    }
}

impl fmt::Display for RetinaNetSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = [(self.tower != Self::default().tower).then(|| format!("n{}", self.tower))];
        f.write_str(&self.options.write(&USUAL, NAME, &own))
    }
}

impl FromStr for RetinaNetSpec {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let mut tower = Self::default().tower;
        let options =
            USUAL.read(s, NAME, |kind, value| kind == "n" && detector::count(value, 16).map(|n| tower = n).is_some());
        let options = options.ok_or_else(|| {
            let expected = format!(
                "retinanet or retinanet:OPTION-OPTION… of {OPTIONS}, n4 (convolutions of the head, 1 to 16), each once"
            );
            Error::setting("model", expected, s)
        })?;
        Ok(Self { options, tower })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Layer;
    use crate::models::{ModelSpec, network};
    use fixnet_autograd::{Graph, Group, Param};
    use fixnet_tensor::Tensor;

    const SMALL: &str = "retinanet:r18-w0.125-l3to6-c16-n1-a16";

    #[test]
    fn names_are_read_as_written_and_options_checked() {
        for text in [
            "retinanet",
            SMALL,
            "retinanet:r34-l2to4-relu",
            "retinanet:c64-n2-a8",
            "retinanet:r18-small-l3to5",
            "retinanet:m2-frozen-c32-n1",
        ] {
            assert_eq!(text.parse::<ModelSpec>().unwrap().to_string(), text);
        }
        for text in [
            "retinanet:",
            "retinanet:a1",
            "retinanet:small-l5to6",
            "retinanet:r20",
            "retinanet:l3",
            "retinanet:l6to7",
            "retinanet:l4to3",
            "retinanet:c0",
            "retinanet:c8-c8",
        ] {
            let e = text.parse::<ModelSpec>().unwrap_err().to_string();
            assert!(e.contains("l3to7 (levels") && e.ends_with(text), "{e}");
        }
    }

    /// Parameters as torchvision counts those of `retinanet_resnet50_fpn` with 91 classes, whose normalizations are frozen and not
    /// counted.
    #[test]
    fn the_network_without_options_has_the_published_size() {
        let mut store = Store::seeded(1);
        let spec = RetinaNetSpec::default();
        spec.build(&mut store, &[640, 640, 3], 91, &QuantConfig::float()).unwrap();
        let is_norm = |name: &str| name.contains("bn") || name.contains(".shortcut_bn");
        let count = |p: &Param| if is_norm(p.name()) { 0 } else { p.value.len() };
        assert_eq!(store.params().iter().map(count).sum::<usize>(), 34_014_999);
    }

    #[test]
    fn every_precision_gives_the_anchors_of_its_levels() {
        let small = SMALL.replace("w0.125", "w0.125-small");
        for (model, bits) in [(SMALL, "32/32/32"), (&small, "32/32/32"), (SMALL, "4/4/4"), (SMALL, "2/2/32")] {
            let (mut store, net) = network(model, [64, 96, 3], 5, &QuantConfig::new(bits.parse().unwrap()));
            let mut g = Graph::train(&mut store);
            let pixels = (0..2 * 64 * 96 * 3).map(|i| (i % 13) as f32 / 6.0 - 1.0).collect();
            let x = g.input(Tensor::from_vec(&[2, 64, 96, 3], pixels).unwrap());
            let y = net.forward(&mut g, &x).unwrap();
            let Output::Boxes(anchors) = SMALL.parse::<ModelSpec>().unwrap().output() else { panic!("boxes") };
            assert_eq!(anchors.classes([64, 96], &y.shape()[1..]), Some(5));
            assert_eq!(y.shape()[1], 9 * (8 * 12 + 4 * 6 + 2 * 3 + 2));
            let loss = g.mean(&y, &[0, 1, 2], false).unwrap();
            g.backward(loss).unwrap();
        }
    }

    #[test]
    fn all_but_the_first_and_the_last_convolutions_are_quantized() {
        let (store, _) = network(SMALL, [64, 64, 3], 5, &QuantConfig::new("4/4/4".parse().unwrap()));
        let of = |p: &&Param| p.group() == Group::Weight;
        let float: Vec<&str> = store.params().iter().filter(of).map(Param::name).collect();
        let edges = ["backbone.body.conv1", "head.classification_head.cls_logits", "head.regression_head.bbox_reg"];
        assert_eq!(float, edges.map(|name| format!("{name}.weight")));
    }

    #[test]
    fn images_that_do_not_fit_the_pyramid_are_refused() {
        let (mut store, net) = network(SMALL, [64, 64, 3], 5, &QuantConfig::float());
        let mut g = Graph::eval(&mut store);
        let odd = g.input(Tensor::zeros(&[1, 64, 72, 3]));
        let e = net.forward(&mut g, &odd).unwrap_err().to_string();
        assert!(e.contains("multiples of 32, for a pyramid up to level 6") && e.ends_with("64 x 72"), "{e}");
    }
}
