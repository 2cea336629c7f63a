//! `RetinaNet` (Lin et al., ICCV 2017): a feature pyramid on the stages of a network, and one head for all of its levels that
//! gives the class logits and the box code of each anchor.

use super::{Conv2d, Conv2dConfig, Layer, Sequential, Start};
use fixnet_autograd::{Error, Graph, Result, Store, Var};
use fixnet_quant::QuantConfig;

/// The sizes of a [`RetinaNet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetinaNetConfig {
    /// The first and the last level of the pyramid: images of level l are smaller than the input by `2^l`.
    pub levels: [usize; 2],
    /// Channels of the pyramid and of the head.
    pub channels: usize,
    /// Convolutions before the last one, in each branch of the head.
    pub tower: usize,
    /// Anchors at each place.
    pub anchors: usize,
    /// Classes, without one for the background.
    pub classes: usize,
    /// Whether a ReLU follows the last convolutions of the pyramid, so that all that the head reads is at least 0 (TRS).
    pub rectified: bool,
}

/// Images in, all anchors out: [N, H, W, C] to [N, anchors, classes + 4], the logits of the classes and then the box code of each
/// anchor. Anchors go level by level from the finest, within one row by row, and at each place in their order.
///
/// H and W must be multiples of `2^l` of the last level, or of 32 if that is less. All convolutions but the first of the stages and the last of each branch
/// of the head are quantized.
pub struct RetinaNet {
    config: RetinaNetConfig,
    /// The first leads to the first level, each other one from a level to the next.
    stages: Vec<Sequential>,
    /// From the channels of each stage to those of the pyramid, and behind the addition.
    inner: Vec<Conv2d>,
    outer: Vec<Conv2d>,
    /// Levels above those of stages, each from the one below it.
    extra: Vec<Conv2d>,
    classes: Branch,
    boxes: Branch,
}

/// The share of anchors that a new network takes for objects.
const PRIOR: f32 = 0.01;

/// One branch of the head.
struct Branch {
    tower: Vec<Conv2d>,
    last: Conv2d,
}

impl Branch {
    fn new(
        store: &mut Store,
        [name, last]: [&str; 2],
        (outputs, bias): (usize, f32),
        sizes: &RetinaNetConfig,
        config: &QuantConfig,
    ) -> Result<Self> {
        let wide = sizes.channels;
        let small = |channels| Conv2dConfig { start: Start::Small, ..Conv2dConfig::square(channels, 3) };
        let conv = |i| unnormalized(store, &format!("{name}.conv.{i}.0"), small([wide; 2]), 0.0, config);
        let tower = (0..sizes.tower).map(conv).collect::<Result<_>>()?;
        let name = format!("{name}.{last}");
        Ok(Self { tower, last: unnormalized(store, &name, small([wide, outputs]), bias, &config.edge()?)? })
    }

    /// The values of each anchor of a level: [N, H, W, C] to [N, H · W · anchors, values].
    fn forward(&self, g: &mut Graph<'_>, x: &Var, anchors: usize) -> Result<Var> {
        let mut y = x.clone();
        for conv in &self.tower {
            y = conv.forward(g, &y)?;
            y = g.relu(&y)?;
        }
        let y = self.last.forward(g, &y)?;
        let [n, h, w, c] = image(&y)?;
        g.reshape(&y, &[n, h * w * anchors, c / anchors])
    }
}

fn image(x: &Var) -> Result<[usize; 4]> {
    x.shape()
        .try_into()
        .map_err(|_| Error::setting("the input of RetinaNet", "[N, H, W, C]", format!("{:?}", x.shape())))
}

/// A convolution with a bias, which no normalization follows.
fn unnormalized(store: &mut Store, name: &str, sizes: Conv2dConfig, bias: f32, config: &QuantConfig) -> Result<Conv2d> {
    Conv2d::new(store, name, sizes, config)?.output_scaled(store, config)?.biased_from(store, bias)
}

impl RetinaNet {
    /// Puts a pyramid and a head on stages: the first gives the first level, each further one the next, with so many channels. Keys
    /// are torchvision's: `backbone.fpn.inner_blocks.I.0`, `backbone.fpn.layer_blocks.I.0`, `backbone.fpn.extra_blocks.p6`,
    /// `head.classification_head` and `head.regression_head`.
    ///
    /// # Errors
    /// There are no stages, more than levels, or not one number of channels for each; a name is taken; or the precision makes no
    /// sense.
    pub fn new(
        store: &mut Store,
        stages: Vec<Sequential>,
        channels: &[usize],
        sizes: RetinaNetConfig,
        config: &QuantConfig,
    ) -> Result<Self> {
        let [first, last] = sizes.levels;
        let count = (last + 1).saturating_sub(first);
        if stages.is_empty() || stages.len() > count || stages.len() != channels.len() {
            let expected = format!("1 to {count}, with one number of channels each");
            return Err(Error::setting("stages of RetinaNet", expected, stages.len()));
        }
        let wide = sizes.channels;
        let named = |part: &str, i: usize| format!("backbone.fpn.{part}.{i}.0");
        let inner = channels.iter().enumerate().map(|(i, &c)| {
            unnormalized(store, &named("inner_blocks", i), Conv2dConfig::square([c, wide], 1), 0.0, config)
        });
        let inner = inner.collect::<Result<Vec<_>>>()?;
        let outer = (0..stages.len())
            .map(|i| unnormalized(store, &named("layer_blocks", i), Conv2dConfig::square([wide; 2], 3), 0.0, config));
        let outer = outer.collect::<Result<Vec<_>>>()?;
        let extra = (first + stages.len()..=last).map(|level| {
            let halving = Conv2dConfig::square([wide; 2], 3).strided(2);
            unnormalized(store, &format!("backbone.fpn.extra_blocks.p{level}"), halving, 0.0, config)
        });
        let extra = extra.collect::<Result<Vec<_>>>()?;
        let bias = -libm::logf((1.0 - PRIOR) / PRIOR);
        let names = ["head.classification_head", "cls_logits"];
        let classes = Branch::new(store, names, (sizes.anchors * sizes.classes, bias), &sizes, config)?;
        let names = ["head.regression_head", "bbox_reg"];
        let boxes = Branch::new(store, names, (sizes.anchors * 4, 0.0), &sizes, config)?;
        Ok(Self { config: sizes, stages, inner, outer, extra, classes, boxes })
    }

    /// The levels of the pyramid, from the finest.
    fn pyramid(&self, g: &mut Graph<'_>, x: &Var) -> Result<Vec<Var>> {
        let mut y = x.clone();
        let mut laterals = Vec::new();
        for (stage, inner) in self.stages.iter().zip(&self.inner) {
            y = stage.forward(g, &y)?;
            laterals.push(inner.forward(g, &y)?);
        }
        // From the coarsest down: each is added to the next finer one at twice its size.
        for i in (1..laterals.len()).rev() {
            let larger = g.upsample_nearest(&laterals[i], 2)?;
            laterals[i - 1] = g.add(&laterals[i - 1], &larger)?;
        }
        let mut levels = Vec::new();
        for (lateral, outer) in laterals.iter().zip(&self.outer) {
            levels.push(outer.forward(g, lateral)?);
        }
        for (i, conv) in self.extra.iter().enumerate() {
            let below = levels[levels.len() - 1].clone();
            // torchvision has the ReLU in front of the second one alone.
            let below = if i == 0 { below } else { g.relu(&below)? };
            levels.push(conv.forward(g, &below)?);
        }
        if self.config.rectified {
            levels = levels.iter().map(|level| g.relu(level)).collect::<Result<_>>()?;
        }
        Ok(levels)
    }
}

impl Layer for RetinaNet {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        let RetinaNetConfig { levels: [_, last], anchors, .. } = self.config;
        let [_, h, w, _] = image(x)?;
        let unit = 1 << last.min(5);
        if !h.is_multiple_of(unit) || !w.is_multiple_of(unit) || h * w == 0 {
            let expected = format!("multiples of {unit}, for a pyramid up to level {last}");
            return Err(Error::setting("height and width of images for RetinaNet", expected, format!("{h} x {w}")));
        }
        let mut all = Vec::new();
        for level in self.pyramid(g, x)? {
            let (classes, boxes) = (self.classes.forward(g, &level, anchors)?, self.boxes.forward(g, &level, anchors)?);
            all.push(g.concat(&[&classes, &boxes], 2)?);
        }
        g.concat(&all.iter().collect::<Vec<_>>(), 1)
    }
}
