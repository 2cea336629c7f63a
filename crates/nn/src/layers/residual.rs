//! `BasicBlock`: the residual block of CIFAR networks.

use super::{BatchNorm2d, Conv2d, Layer};
use fixnet_autograd::{Graph, Result, Store, Var};
use fixnet_quant::QuantConfig;

/// `relu(bn(conv(relu(bn(conv(x))))) + shortcut(x))`, the shortcut being the identity or, where the size changes,
/// "option A": every second pixel, with zero channels added.
#[derive(Debug, Clone)]
pub struct BasicBlock {
    conv1: Conv2d,
    bn1: BatchNorm2d,
    conv2: Conv2d,
    bn2: BatchNorm2d,
    stride: usize,
    channels: [usize; 2],
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
            conv1: Conv2d::quantized(store, &key("conv1"), [c_in, c_out], 3, stride, config, false)?,
            bn1: BatchNorm2d::new(store, &key("bn1"), c_out)?,
            conv2: Conv2d::quantized(store, &key("conv2"), [c_out, c_out], 3, 1, config, false)?,
            bn2: BatchNorm2d::new(store, &key("bn2"), c_out)?,
            stride,
            channels,
        })
    }
}

impl Layer for BasicBlock {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        let y = self.conv1.forward(g, x)?;
        let y = self.bn1.forward(g, &y)?;
        let y = g.relu(&y)?;
        let y = self.conv2.forward(g, &y)?;
        let y = self.bn2.forward(g, &y)?;
        let [c_in, c_out] = self.channels;
        let shortcut = if self.stride == 1 && c_in == c_out { x.clone() } else { g.subsample(x, self.stride, c_out)? };
        let y = g.add(&y, &shortcut)?;
        g.relu(&y)
    }
}
