//! RetinaNet on residual networks, in torchvision's form and names, with settings for small images.

use super::resnet::Body;
use super::{Model, ModelKind, Output, image};
use crate::detection::AnchorConfig;
use crate::layers::{RetinaNet, RetinaNetConfig, Sequential};
use fixnet_autograd::{Error, Result, Store};
use fixnet_quant::QuantConfig;
use std::fmt;
use std::str::FromStr;

/// The row of the registry.
pub(super) const KIND: ModelKind = ModelKind {
    form: "retinanet[:OPTION-OPTION…]",
    about: "for detection; options r18, r34, r50 (depth of the residual network), w0.25 (its width), small (a first convolution of 3x3 without pooling, for small objects), l3to7 (levels), c256 (channels of the \
            pyramid and the head), n4 (convolutions of a branch of the head), a32 (size of the smallest anchors in pixels), relu (behind \
            the pyramid)",
    examples: &["retinanet:r18-w0.05-l3to5-c8-n1-a16"],
    // What is wrong with an option is said rather than that no model is meant.
    parse: |text| text.starts_with("retinanet").then(|| text.parse::<RetinaNetSpec>().map(Into::into)),
};

/// `retinanet` or `retinanet:OPTION-OPTION…`, such as `retinanet:r18-w0.5-l3to5-c64-n2-a16`: the detector of Lin et al. (ICCV
/// 2017). Without options it is torchvision's `retinanet_resnet50_fpn`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetinaNetSpec {
    /// `r18`, `r34` or `r50`: the depth of the residual network.
    pub depth: usize,
    /// `w0.5`: the factor of its channels, 0.05 to 4.
    pub width: f64,
    /// `small`: the first convolution is 3x3 with stride 2 and no pooling follows, so that each level comes from a deeper stage.
    pub small: bool,
    /// `l3to7`: the first and the last level of the pyramid; the first is 2 to 5 (4 with `small`), the last at least that and at most 7.
    pub levels: [usize; 2],
    /// `c256`: channels of the pyramid and the head, 1 to 4096.
    pub channels: usize,
    /// `n4`: convolutions of a branch of the head before the last one, 1 to 16.
    pub tower: usize,
    /// `a32`: the side of the smallest anchors of the first level in pixels, 2 to 4096; each level doubles it.
    pub anchor: usize,
    /// `relu`: a ReLU behind the pyramid (TRS, section 5: all that the head quantizes is at least 0).
    pub rectified: bool,
}

impl Default for RetinaNetSpec {
    fn default() -> Self {
        Self {
            depth: 50,
            width: 1.0,
            small: false,
            levels: [3, 7],
            channels: 256,
            tower: 4,
            anchor: 32,
            rectified: false,
        }
    }
}

impl RetinaNetSpec {
    /// Returns the anchors: three sizes, `2^(1/3)` apart, and the ratios 1/2, 1 and 2 at each place.
    pub fn anchors(&self) -> AnchorConfig {
        let [first, last] = self.levels;
        let third = |size: usize, power: f64| (size as f64 * libm::exp2(power / 3.0)) as usize;
        let of = |level: usize| {
            let size = self.anchor << (level - first);
            vec![size, third(size, 1.0), third(size, 2.0)]
        };
        AnchorConfig { levels: self.levels, sizes: (first..=last).map(of).collect(), ratios: vec![0.5, 1.0, 2.0] }
    }
}

impl Model for RetinaNetSpec {
    fn name(&self) -> String {
        self.to_string()
    }

    fn output(&self) -> Output {
        Output::Boxes(self.anchors())
    }

    fn published(&self) -> ([usize; 3], usize) {
        ([640, 640, 3], 91)
    }

    fn build(&self, store: &mut Store, input: &[usize], outputs: usize, config: &QuantConfig) -> Result<Sequential> {
        let [_, _, channels] = image(self, input)?;
        let [first, last] = self.levels;
        // The level of the first stage; each further one gives the next.
        let base = if self.small { 1 } else { 2 };
        let stages = last.min(base + 3) - base + 1;
        let body = Body { prefix: "backbone.body.", depth: self.depth, width: self.width, small: self.small, stages };
        let (mut stages, mut widths) = body.build(store, channels, config)?;
        let rest = stages.split_off(first - base);
        let start = stages.into_iter().fold(Sequential::new(), Sequential::push);
        let mut rest = rest.into_iter();
        let mut parts: Vec<Sequential> = rest.next().map(|stage| start.push(stage)).into_iter().collect();
        parts.extend(rest);
        let widths = widths.split_off(first - base);
        let sizes = RetinaNetConfig {
            levels: self.levels,
            channels: self.channels,
            tower: self.tower,
            anchors: self.anchors().count(),
            classes: outputs,
            rectified: self.rectified,
        };
        Ok(Sequential::new().push(RetinaNet::new(store, parts, &widths, sizes, config)?))
    }
}

impl fmt::Display for RetinaNetSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usual = Self::default();
        let [first, last] = self.levels;
        let options = [
            (self.depth != usual.depth).then(|| format!("r{}", self.depth)),
            (self.width != usual.width).then(|| format!("w{}", self.width)),
            self.small.then(|| "small".into()),
            (self.levels != usual.levels).then(|| format!("l{first}to{last}")),
            (self.channels != usual.channels).then(|| format!("c{}", self.channels)),
            (self.tower != usual.tower).then(|| format!("n{}", self.tower)),
            (self.anchor != usual.anchor).then(|| format!("a{}", self.anchor)),
            self.rectified.then(|| "relu".into()),
        ];
        let options: Vec<String> = options.into_iter().flatten().collect();
        f.write_str(if options.is_empty() { "retinanet" } else { "retinanet:" })?;
        f.write_str(&options.join("-"))
    }
}

impl FromStr for RetinaNetSpec {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let wrong = || {
            let expected = "retinanet or retinanet:OPTION-OPTION… of r18, r34, r50 (depth), w0.5 (width, 0.05 to 4), small (for small objects), l3to7 (levels, from 2 \
                            to 5, or 4 if small, up to at most 7), c256 (channels, 1 to 4096), n4 (convolutions of the head, 1 to 16), a32 (smallest \
                            anchors, 2 to 4096 pixels), relu (behind the pyramid), each once";
            Error::setting("model", expected, s)
        };
        let options = match s.split_once(':') {
            None if s == "retinanet" => return Ok(Self::default()),
            Some(("retinanet", options)) => options,
            _ => return Err(wrong()),
        };
        let (mut spec, mut seen) = (Self::default(), Vec::new());
        for option in options.split('-') {
            let (kind, value) = match option {
                "relu" | "small" => (option, ""),
                _ => option.split_at_checked(1).ok_or_else(wrong)?,
            };
            if seen.contains(&kind) {
                return Err(wrong());
            }
            seen.push(kind);
            let count = |most: usize| value.parse().ok().filter(|n| (1..=most).contains(n)).ok_or_else(wrong);
            match kind {
                "relu" => spec.rectified = true,
                "small" => spec.small = true,
                "r" => {
                    spec.depth = count(50).and_then(|n| if [18, 34, 50].contains(&n) { Ok(n) } else { Err(wrong()) })?
                }
                "w" => spec.width = value.parse().ok().filter(|w| (0.05..=4.0).contains(w)).ok_or_else(wrong)?,
                "l" => {
                    let (first, last) = value.split_once("to").ok_or_else(wrong)?;
                    let level = |text: &str| text.parse::<usize>().map_err(|_| wrong());
                    spec.levels = [level(first)?, level(last)?];
                    let [first, last] = spec.levels;
                    if !(2..=5).contains(&first) || !(first..=7).contains(&last) {
                        return Err(wrong());
                    }
                }
                "c" => spec.channels = count(4096)?,
                "n" => spec.tower = count(16)?,
                "a" => spec.anchor = count(4096).and_then(|n| if n > 1 { Ok(n) } else { Err(wrong()) })?,
                _ => return Err(wrong()),
            }
        }
        if spec.small && spec.levels[0] > 4 { Err(wrong()) } else { Ok(spec) }
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
        for text in ["retinanet", SMALL, "retinanet:r34-l2to4-relu", "retinanet:c64-n2-a8", "retinanet:r18-small-l3to5"]
        {
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
            assert_eq!(y.shape(), [2, anchors.boxes([64, 96]).len(), 9]);
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
