//! `FasterRcnn` (Ren et al., NeurIPS 2015; Lin et al., CVPR 2017): a region proposal network on a feature pyramid, and a box head that
//! looks at each proposal.

use super::pyramid::{image_sides, of_anchors, unnormalized};
use super::{Conv2d, Conv2dConfig, Layer, Linear, Pyramid, Stages, Start};
use crate::detection::{
    AnchorConfig, BoxCode, Learned, Match, Matcher, Proposals, Sampler, Truth, proposal_loss, region_loss,
};
use fixnet_autograd::ops::{Region, RoiAlign};
use fixnet_autograd::{Error, Graph, Result, Store, Var};
use fixnet_data::BoundingBox;
use fixnet_quant::QuantConfig;
use fixnet_tensor::rng::{Stream, domain};

/// The sizes of a [`FasterRcnn`].
#[derive(Debug, Clone, PartialEq)]
pub struct FasterRcnnConfig {
    /// The anchors, and with them the levels of the pyramid.
    pub anchors: AnchorConfig,
    /// Channels of the pyramid and of the region proposal network.
    pub channels: usize,
    /// Numbers of each of the two hidden layers of the box head.
    pub hidden: usize,
    /// Classes, without the background.
    pub classes: usize,
    /// Proposals of an image in evaluation. In training there are twice as many, from which regions are drawn.
    pub proposals: usize,
    /// Regions of an image that the box head learns from in a step.
    pub regions: usize,
    /// Whether a ReLU follows the last convolutions of the pyramid.
    pub rectified: bool,
}

/// Bins of a region in each direction.
const BINS: usize = 7;

/// Images in, proposals out: [N, H, W, C] to [N, proposals, 4 + 5 · (classes + 1)], [rows](crate::detection::RegionRow) of the corners of
/// a proposal, the logits of the background and of the classes, and the box code of each of these. Where proposals are fewer, the boxes
/// of the rows that are left have no area.
///
/// A graph that records must have been [given](Graph::give) a [`Truth`]. The output is the loss then, a scalar: the [`proposal_loss`] of a sample
/// of anchors and the [`region_loss`] of a sample of regions. These are drawn from the proposals and the objects themselves, by (seed,
/// step, index of the image in its data).
///
/// Levels above those of stages have every second pixel of the one below. Regions are read from levels of stages alone. A region of the
/// size of 7 anchors of the first level (224 pixels for anchors of 32) is read two levels above it.
///
/// All layers are quantized but the first convolution of the stages, and the last layers of the region proposal network and of the box
/// head.
pub struct FasterRcnn {
    config: FasterRcnnConfig,
    pyramid: Pyramid,
    /// The region proposal network: what its branches share, and the logit and the code of each anchor.
    shared: Conv2d,
    logits: Conv2d,
    codes: Conv2d,
    head: BoxHead,
}

/// What is said of a region.
struct BoxHead {
    hidden: [Linear; 2],
    classes: Linear,
    codes: Linear,
}

impl BoxHead {
    fn new(store: &mut Store, sizes: &FasterRcnnConfig, config: &QuantConfig) -> Result<Self> {
        let edge = config.edge()?;
        let hidden = |store: &mut Store, name: &str, inputs| {
            let name = format!("roi_heads.box_head.{name}");
            Linear::quantized(store, &name, [inputs, sizes.hidden], config)?.output_scaled(store, config)
        };
        let last = |store: &mut Store, name: &str, outputs, deviation| {
            let name = format!("roi_heads.box_predictor.{name}");
            Linear::starting(store, &name, [sizes.hidden, outputs], deviation, &edge)?.output_scaled(store, &edge)
        };
        let inputs = BINS * BINS * sizes.channels;
        let count = sizes.classes + 1;
        Ok(Self {
            hidden: [hidden(store, "fc6", inputs)?, hidden(store, "fc7", sizes.hidden)?],
            classes: last(store, "cls_score", count, 0.01)?,
            codes: last(store, "bbox_pred", 4 * count, 0.001)?,
        })
    }
}

impl Layer for BoxHead {
    /// [.., bins · channels] to [.., 5 · (classes + 1)].
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        let mut y = x.clone();
        for layer in &self.hidden {
            y = layer.forward(g, &y)?;
            y = g.relu(&y)?;
        }
        let (classes, codes) = (self.classes.forward(g, &y)?, self.codes.forward(g, &y)?);
        g.concat(&[&classes, &codes], y.shape().len() - 1)
    }
}

impl FasterRcnn {
    /// Puts a pyramid, a region proposal network and a box head on stages. Keys are torchvision's: those of a [`Pyramid`], `rpn.head` and
    /// `roi_heads`.
    ///
    /// # Errors
    /// The stages do not fit the levels; a name is taken; or the precision makes no sense.
    pub fn new(store: &mut Store, stages: Stages, sizes: FasterRcnnConfig, config: &QuantConfig) -> Result<Self> {
        let ([first, last], wide, count) = (sizes.anchors.levels, sizes.channels, sizes.anchors.count());
        let pyramid = Pyramid::new(store, stages, (last + 1).saturating_sub(first), wide, config)?;
        let conv = |store: &mut Store, name: &str, outputs, kernel, config: &QuantConfig| {
            let sizes = Conv2dConfig { start: Start::Small, ..Conv2dConfig::square([wide, outputs], kernel) };
            unnormalized(store, &format!("rpn.head.{name}"), sizes, 0.0, config)
        };
        let edge = config.edge()?;
        let shared = conv(store, "conv.0.0", wide, 3, config)?;
        let logits = conv(store, "cls_logits", count, 1, &edge)?;
        let codes = conv(store, "bbox_pred", 4 * count, 1, &edge)?;
        let head = BoxHead::new(store, &sizes, config)?;
        Ok(Self { config: sizes, pyramid, shared, logits, codes, head })
    }

    /// A logit and a box code for each anchor: [N, anchors, 5].
    fn anchors(&self, g: &mut Graph<'_>, levels: &[Var]) -> Result<Var> {
        let [first, last] = self.config.anchors.levels;
        let mut level = levels[levels.len() - 1].clone();
        let mut levels = levels.to_vec();
        while levels.len() <= last - first {
            level = g.subsample(&level, 2, self.config.channels)?;
            levels.push(level.clone());
        }
        let count = self.config.anchors.count();
        let mut all = Vec::new();
        for level in levels {
            let y = self.shared.forward(g, &level)?;
            let y = g.relu(&y)?;
            let (logits, codes) = (self.logits.forward(g, &y)?, self.codes.forward(g, &y)?);
            let (logits, codes) = (of_anchors(g, &logits, count)?, of_anchors(g, &codes, count)?);
            all.push(g.concat(&[&logits, &codes], 2)?);
        }
        g.concat(&all.iter().collect::<Vec<_>>(), 1)
    }

    fn roi_align(&self) -> RoiAlign {
        let first = self.config.anchors.levels[0];
        let size = self.config.anchors.sizes.first().and_then(|sizes| sizes.first()).copied().unwrap_or(1);
        RoiAlign { first, size: BINS, samples: 2, canonical: (7 * size) as f32 }
    }

    /// The loss of a sample of anchors and of one of regions.
    fn loss(&self, g: &mut Graph<'_>, levels: &[Var], anchors: &Var, size: [usize; 2], truth: &Truth) -> Result<Var> {
        let classes = self.config.classes;
        truth.check(anchors.shape()[0], classes)?;
        let (seed, step) = (g.store().seed(), g.store().step());
        let noise = |image: usize, stage: u32| {
            let [low, high] = [step as u32, (step >> 32) as u32];
            let index = truth.images[image] as u64;
            Stream::new(seed, domain::SAMPLES, low, index as u32).within([high, (index >> 32) as u32, stage, 0])
        };
        let proposals = Proposals { anchors: self.config.anchors.clone(), size, most: 2 * self.config.proposals };
        let (boxes, found) = proposals.of_batch(&anchors.tensor())?;
        // Images in their order, and what is drawn of each by index.
        let (mut learned, mut regions, mut of_regions) = (Vec::new(), Vec::new(), Vec::new());
        for (image, objects) in truth.objects.iter().enumerate() {
            let matches = Matcher::PROPOSALS.matches(&boxes, &objects.boxes);
            for i in Sampler::ANCHORS.sample(&matches, &noise(image, 1)) {
                let row = image * boxes.len() + i;
                let of = Learned::of(row, &boxes[i], matches[i], objects, BoxCode::UNIT);
                // Objects of any class are one class here.
                learned.push(Learned { class: of.class.min(1), ..of });
            }
            let candidates: Vec<BoundingBox> = found[image].iter().chain(&objects.boxes).copied().collect();
            let matches: Vec<Match> = Matcher::REGIONS.matches(&candidates, &objects.boxes);
            let sampler = Sampler { count: self.config.regions, ..Sampler::REGIONS };
            for i in sampler.sample(&matches, &noise(image, 2)) {
                of_regions.push(Learned::of(regions.len(), &candidates[i], matches[i], objects, BoxCode::BOX_HEAD));
                regions.push(Region { image, corners: candidates[i].to_array() });
            }
        }
        let loss = proposal_loss(g, anchors, &learned)?;
        if regions.is_empty() {
            return Ok(loss);
        }
        let y = g.roi_align_regions(&levels.iter().collect::<Vec<_>>(), regions, self.roi_align())?;
        let y = self.head.forward(g, &y)?;
        let of_regions = region_loss(g, &y, 0, classes, &of_regions)?;
        g.add(&loss, &of_regions)
    }
}

impl Layer for FasterRcnn {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        let size = image_sides(x, self.config.anchors.levels[1])?;
        let mut levels = self.pyramid.levels(g, x)?;
        if self.config.rectified {
            levels = levels.iter().map(|level| g.relu(level)).collect::<Result<_>>()?;
        }
        let anchors = self.anchors(g, &levels)?;
        if g.modes().record {
            let Some(truth) = g.given::<Truth>() else {
                let expected = "a `Truth` that the graph was given, or a graph that records nothing";
                return Err(Error::setting("objects for the training of a two-stage detector", expected, "none"));
            };
            return self.loss(g, &levels, &anchors, size, &truth);
        }
        let proposals = Proposals { anchors: self.config.anchors.clone(), size, most: self.config.proposals };
        let boxes = g.apply(proposals, &[&anchors])?;
        let y = g.roi_align(&levels.iter().collect::<Vec<_>>(), &boxes, self.roi_align())?;
        let y = self.head.forward(g, &y)?;
        g.concat(&[&boxes, &y], 2)
    }
}
