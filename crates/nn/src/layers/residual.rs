//! Residual connections: `BasicBlock` and `Bottleneck`, the blocks of residual classifiers, and `Residual`, layers with a
//! skip around them.

use super::{BatchNorm2d, Conv2d, Conv2dConfig, Layer, Sequential};
use fixnet_autograd::{Graph, Result, Store, Var};
use fixnet_quant::QuantConfig;

/// `relu(bn(conv(relu(bn(conv(x))))) + shortcut(x))`. The shortcut is the identity; where the size changes, it is
/// "option A" (every second pixel, with zero channels added) or, with [`projected`](Self::projected), "option B".
#[derive(Debug, Clone)]
pub struct BasicBlock {
    name: String,
    conv1: Conv2d,
    bn1: BatchNorm2d,
    conv2: Conv2d,
    bn2: BatchNorm2d,
    stride: usize,
    channels: [usize; 2],
    projection: Option<(Conv2d, BatchNorm2d)>,
}

impl BasicBlock {
    /// A block from `channels[0]` to `channels[1]` channels; keys under `name.conv1`, `name.bn1`, `name.conv2`,
    /// `name.bn2`.
    ///
    /// # Errors
    /// The name is taken or the precision makes no sense.
    pub fn new(
        store: &mut Store,
        name: &str,
        channels: [usize; 2],
        stride: usize,
        config: &QuantConfig,
    ) -> Result<Self> {
        let [c_in, c_out] = channels;
        let key = |part: &str| format!("{name}.{part}");
        Ok(Self {
            conv1: Conv2d::new(store, &key("conv1"), Conv2dConfig::square([c_in, c_out], 3).strided(stride), config)?,
            bn1: BatchNorm2d::new(store, &key("bn1"), c_out)?,
            conv2: Conv2d::new(store, &key("conv2"), Conv2dConfig::square([c_out, c_out], 3), config)?,
            bn2: BatchNorm2d::new(store, &key("bn2"), c_out)?,
            name: name.to_string(),
            stride,
            channels,
            projection: None,
        })
    }

    /// Makes the shortcut "option B": a 1x1 convolution with the block's stride and a batch norm, where the size
    /// changes; keys under `name.shortcut` and `name.shortcut_bn`. Like all but the first convolution it is quantized.
    ///
    /// # Errors
    /// The name is taken or the precision makes no sense.
    pub fn projected(mut self, store: &mut Store, config: &QuantConfig) -> Result<Self> {
        if !self.keeps_size() {
            let name = format!("{}.shortcut", self.name);
            let conv = Conv2d::new(store, &name, Conv2dConfig::square(self.channels, 1).strided(self.stride), config)?;
            self.projection = Some((conv, BatchNorm2d::new(store, &format!("{name}_bn"), self.channels[1])?));
        }
        Ok(self)
    }

    fn keeps_size(&self) -> bool {
        self.stride == 1 && self.channels[0] == self.channels[1]
    }
}

impl Layer for BasicBlock {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        let y = self.conv1.forward(g, x)?;
        let y = self.bn1.forward(g, &y)?;
        let y = g.relu(&y)?;
        let y = self.conv2.forward(g, &y)?;
        let y = self.bn2.forward(g, &y)?;
        let shortcut = match &self.projection {
            Some((conv, bn)) => {
                let projected = conv.forward(g, x)?;
                bn.forward(g, &projected)?
            }
            None if self.keeps_size() => x.clone(),
            None => g.subsample(x, self.stride, self.channels[1])?,
        };
        let y = g.add(&y, &shortcut)?;
        g.relu(&y)
    }
}

/// `relu(bn(conv 1x1(relu(bn(conv 3x3(relu(bn(conv 1x1(x)))))))) + shortcut(x))`, the block of deep residual networks. The
/// middle has a quarter of the output's channels and takes the stride; the shortcut is the identity or, where the size
/// changes, a 1x1 convolution with a batch norm.
#[derive(Debug, Clone)]
pub struct Bottleneck {
    /// Each but the last is followed by a ReLU.
    path: [(Conv2d, BatchNorm2d); 3],
    shortcut: Option<(Conv2d, BatchNorm2d)>,
}

impl Bottleneck {
    /// A block from `channels[0]` to `channels[1]` channels; keys under `name.conv1`, `name.bn1` to `name.bn3`,
    /// `name.shortcut` and `name.shortcut_bn`.
    ///
    /// # Errors
    /// The name is taken or the precision makes no sense.
    pub fn new(
        store: &mut Store,
        name: &str,
        [c_in, c_out]: [usize; 2],
        stride: usize,
        config: &QuantConfig,
    ) -> Result<Self> {
        let middle = c_out / 4;
        let mut part = |conv: &str, bn: &str, channels: [usize; 2], kernel, stride| -> Result<_> {
            let conv = Conv2d::new(
                store,
                &format!("{name}.{conv}"),
                Conv2dConfig::square(channels, kernel).strided(stride),
                config,
            )?;
            Ok((conv, BatchNorm2d::new(store, &format!("{name}.{bn}"), channels[1])?))
        };
        let path = [
            part("conv1", "bn1", [c_in, middle], 1, 1)?,
            part("conv2", "bn2", [middle, middle], 3, stride)?,
            part("conv3", "bn3", [middle, c_out], 1, 1)?,
        ];
        let resized = stride != 1 || c_in != c_out;
        let shortcut = resized.then(|| part("shortcut", "shortcut_bn", [c_in, c_out], 1, stride)).transpose()?;
        Ok(Self { path, shortcut })
    }
}

impl Layer for Bottleneck {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        let mut y = x.clone();
        for (i, (conv, bn)) in self.path.iter().enumerate() {
            y = if i > 0 { g.relu(&y)? } else { y };
            y = conv.forward(g, &y)?;
            y = bn.forward(g, &y)?;
        }
        let shortcut = match &self.shortcut {
            Some((conv, bn)) => {
                let projected = conv.forward(g, x)?;
                bn.forward(g, &projected)?
            }
            None => x.clone(),
        };
        let y = g.add(&y, &shortcut)?;
        g.relu(&y)
    }
}

/// `x + layers(x)`: a skip around layers that keep the shape.
pub struct Residual(pub Sequential);

impl Layer for Residual {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        let y = self.0.forward(g, x)?;
        g.add(&y, x)
    }
}
