//! `Pyramid`: the levels of a feature pyramid on the stages of a network (Lin et al., CVPR 2017), which detectors share.

use super::{Conv2d, Conv2dConfig, Layer, Sequential};
use fixnet_autograd::{Error, Graph, Result, Store, Var};
use fixnet_quant::QuantConfig;

/// The stages of a network that a [`Pyramid`] stands on.
#[derive(Default)]
pub struct Stages {
    /// The first leads to the first level, each other one from a level to the next.
    pub layers: Vec<Sequential>,
    /// The channels that each gives.
    pub channels: Vec<usize>,
}

/// A feature pyramid: a 1x1 convolution of each stage, to which the next coarser one is added at twice its size, and a 3x3 convolution
/// of that. All levels have equally many channels, and all these convolutions are quantized.
pub struct Pyramid {
    stages: Vec<Sequential>,
    /// From the channels of each stage to those of the pyramid, and behind the addition.
    inner: Vec<Conv2d>,
    outer: Vec<Conv2d>,
}

/// A convolution with a bias, which no normalization follows.
pub(super) fn unnormalized(
    store: &mut Store,
    name: &str,
    sizes: Conv2dConfig,
    bias: f32,
    config: &QuantConfig,
) -> Result<Conv2d> {
    Conv2d::new(store, name, sizes, config)?.output_scaled(store, config)?.biased_from(store, bias)
}

impl Pyramid {
    /// Puts a pyramid of `channels` channels and at most `most` levels on stages. Keys are torchvision's:
    /// `backbone.fpn.inner_blocks.I.0` and `backbone.fpn.layer_blocks.I.0`.
    ///
    /// # Errors
    /// There are no stages, more than levels, or not one number of channels for each; a name is taken; or the precision makes no
    /// sense.
    pub fn new(store: &mut Store, stages: Stages, most: usize, channels: usize, config: &QuantConfig) -> Result<Self> {
        let Stages { layers: stages, channels: of_stages } = stages;
        if stages.is_empty() || stages.len() > most || stages.len() != of_stages.len() {
            let expected = format!("1 to {most}, with one number of channels each");
            return Err(Error::setting("stages of a feature pyramid", expected, stages.len()));
        }
        let named = |part: &str, i: usize| format!("backbone.fpn.{part}.{i}.0");
        let inner = of_stages.iter().enumerate().map(|(i, &c)| {
            unnormalized(store, &named("inner_blocks", i), Conv2dConfig::square([c, channels], 1), 0.0, config)
        });
        let inner = inner.collect::<Result<Vec<_>>>()?;
        let outer = (0..stages.len()).map(|i| {
            unnormalized(store, &named("layer_blocks", i), Conv2dConfig::square([channels; 2], 3), 0.0, config)
        });
        let outer = outer.collect::<Result<Vec<_>>>()?;
        Ok(Self { stages, inner, outer })
    }

    /// Returns how many levels there are.
    pub fn len(&self) -> usize {
        self.stages.len()
    }

    /// Returns whether there is no level; there always is one.
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// Computes the levels of images [N, H, W, C], from the finest. H and W must be multiples of what the last level is smaller by.
    ///
    /// # Errors
    /// The images do not fit the stages, or two levels do not fit each other.
    pub fn levels(&self, g: &mut Graph<'_>, x: &Var) -> Result<Vec<Var>> {
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
        laterals.iter().zip(&self.outer).map(|(lateral, outer)| outer.forward(g, lateral)).collect()
    }
}

/// The shape of images for a pyramid up to level `last`, whose sides must be multiples of `2^last`, or of 32 if that is less.
pub(super) fn image_sides(x: &Var, last: usize) -> Result<[usize; 2]> {
    let &[_, h, w, _] = x.shape() else {
        return Err(Error::setting("images for a detector", "[N, H, W, C]", format!("{:?}", x.shape())));
    };
    let unit = 1 << last.min(5);
    if !h.is_multiple_of(unit) || !w.is_multiple_of(unit) || h * w == 0 {
        let expected = format!("multiples of {unit}, for a pyramid up to level {last}");
        return Err(Error::setting("height and width of images for a detector", expected, format!("{h} x {w}")));
    }
    Ok([h, w])
}

/// The values of each anchor of a level: [N, H, W, anchors · values] to [N, H · W · anchors, values].
pub(super) fn of_anchors(g: &mut Graph<'_>, y: &Var, anchors: usize) -> Result<Var> {
    let &[n, h, w, c] = y.shape() else {
        return Err(Error::setting("values of anchors", "[N, H, W, C]", format!("{:?}", y.shape())));
    };
    g.reshape(y, &[n, h * w * anchors, c / anchors])
}
