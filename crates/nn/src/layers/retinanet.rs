//! `RetinaNet` (Lin et al., ICCV 2017): a feature pyramid on the stages of a network, and one head for all of its levels that
//! gives the class logits and the box code of each anchor.

use super::pyramid::{image_sides, of_anchors, unnormalized};
use super::{Conv2d, Conv2dConfig, Layer, Pyramid, Stages, Start};
use fixnet_autograd::{Graph, Result, Store, Var};
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
    pyramid: Pyramid,
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
        of_anchors(g, &y, anchors)
    }
}

impl RetinaNet {
    /// Puts a pyramid and a head on stages: the first gives the first level, each further one the next. Keys are torchvision's: those of
    /// a [`Pyramid`], `backbone.fpn.extra_blocks.p6`, `head.classification_head` and `head.regression_head`.
    ///
    /// # Errors
    /// There are no stages, more than levels, or not one number of channels for each; a name is taken; or the precision makes no
    /// sense.
    pub fn new(store: &mut Store, stages: Stages, sizes: RetinaNetConfig, config: &QuantConfig) -> Result<Self> {
        let [first, last] = sizes.levels;
        let wide = sizes.channels;
        let pyramid = Pyramid::new(store, stages, (last + 1).saturating_sub(first), wide, config)?;
        let extra = (first + pyramid.len()..=last).map(|level| {
            let halving = Conv2dConfig::square([wide; 2], 3).strided(2);
            unnormalized(store, &format!("backbone.fpn.extra_blocks.p{level}"), halving, 0.0, config)
        });
        let extra = extra.collect::<Result<Vec<_>>>()?;
        let bias = -libm::logf((1.0 - PRIOR) / PRIOR);
        let names = ["head.classification_head", "cls_logits"];
        let classes = Branch::new(store, names, (sizes.anchors * sizes.classes, bias), &sizes, config)?;
        let names = ["head.regression_head", "bbox_reg"];
        let boxes = Branch::new(store, names, (sizes.anchors * 4, 0.0), &sizes, config)?;
        Ok(Self { config: sizes, pyramid, extra, classes, boxes })
    }

    /// The levels of the pyramid, from the finest.
    fn levels(&self, g: &mut Graph<'_>, x: &Var) -> Result<Vec<Var>> {
        let mut levels = self.pyramid.levels(g, x)?;
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
        image_sides(x, last)?;
        let mut all = Vec::new();
        for level in self.levels(g, x)? {
            let (classes, boxes) = (self.classes.forward(g, &level, anchors)?, self.boxes.forward(g, &level, anchors)?);
            all.push(g.concat(&[&classes, &boxes], 2)?);
        }
        g.concat(&all.iter().collect::<Vec<_>>(), 1)
    }
}
