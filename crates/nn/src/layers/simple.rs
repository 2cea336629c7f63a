//! Layers without parameters.

use super::Layer;
use fixnet_autograd::{Error, Graph, Result, Var};

/// `max(x, 0)`.
#[derive(Debug, Clone, Copy)]
pub struct Relu;

impl Layer for Relu {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        g.relu(x)
    }
}

/// `x` held to [low, high]: [`Graph::clamp`].
#[derive(Debug, Clone, Copy)]
pub struct Clamp {
    /// What smaller numbers become.
    pub low: f32,
    /// What larger numbers become.
    pub high: f32,
}

impl Clamp {
    /// The ReLU6: from 0 to 6.
    pub const RELU6: Self = Self { low: 0.0, high: 6.0 };
}

impl Layer for Clamp {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        g.clamp(x, self.low, self.high)
    }
}

/// `1 / (1 + e^-x)`.
#[derive(Debug, Clone, Copy)]
pub struct Sigmoid;

impl Layer for Sigmoid {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        g.sigmoid(x)
    }
}

/// The hyperbolic tangent.
#[derive(Debug, Clone, Copy)]
pub struct Tanh;

impl Layer for Tanh {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        g.tanh(x)
    }
}

/// `x · Φ(x)` with Φ the distribution function of the standard normal distribution: [`Graph::gelu`].
#[derive(Debug, Clone, Copy)]
pub struct Gelu;

impl Layer for Gelu {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        g.gelu(x)
    }
}

/// `x` where it is positive, else `slope · x`.
#[derive(Debug, Clone, Copy)]
pub struct LeakyRelu {
    /// The factor of numbers that are not positive.
    pub slope: f32,
}

impl Default for LeakyRelu {
    /// A slope of 0.01.
    fn default() -> Self {
        Self { slope: 0.01 }
    }
}

impl Layer for LeakyRelu {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        g.leaky_relu(x, self.slope)
    }
}

/// `exp(x) / Σ exp(x)` with the sum over one axis.
#[derive(Debug, Clone, Copy)]
pub struct Softmax {
    /// The axis; that of the batch is 0.
    pub axis: usize,
}

impl Layer for Softmax {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        g.softmax(x, self.axis)
    }
}

/// Elements that training sets to zero at random: [`Graph::dropout`]. In evaluation the value stays as it is.
#[derive(Debug, Clone)]
pub struct Dropout {
    name: String,
    rate: f32,
}

impl Dropout {
    /// Drops elements with the probability `rate`, at least 0 and below 1. `name` tells its noise from that of other layers;
    /// two layers of one name drop different elements all the same, but which depends on their order.
    ///
    /// # Errors
    /// The rate is out of its range.
    pub fn new(name: &str, rate: f32) -> Result<Self> {
        match (0.0..1.0).contains(&rate) {
            true => Ok(Self { name: name.to_string(), rate }),
            false => Err(Error::setting("rate of a dropout", "at least 0 and below 1", rate).in_layer(name)),
        }
    }
}

impl Layer for Dropout {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        g.dropout(x, &self.name, self.rate)
    }
}

/// [N, ...] to [N, product of the rest].
#[derive(Debug, Clone, Copy)]
pub struct Flatten;

impl Layer for Flatten {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        g.flatten(x)
    }
}

/// The mean of each channel over the image: [N, H, W, C] to [N, C].
#[derive(Debug, Clone, Copy)]
pub struct GlobalAvgPool2d;

impl Layer for GlobalAvgPool2d {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        g.global_avg_pool2d(x)
    }
}

/// The largest value of each window of `size`, every `stride`.
#[derive(Debug, Clone, Copy)]
pub struct MaxPool2d {
    /// Height and width of a window.
    pub size: usize,
    /// Distance between windows.
    pub stride: usize,
    /// Rows and columns around the image that never win; fewer than `size`.
    pub padding: usize,
}

impl Layer for MaxPool2d {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        g.max_pool2d_padded(x, self.size, self.stride, self.padding)
    }
}

/// The mean of each window of `size`, every `stride`.
#[derive(Debug, Clone, Copy)]
pub struct AvgPool2d {
    /// Height and width of a window.
    pub size: usize,
    /// Distance between windows.
    pub stride: usize,
}

impl Layer for AvgPool2d {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        g.avg_pool2d(x, self.size, self.stride)
    }
}

/// Each group of `factor`² channels becomes a square of pixels: [N, H, W, C·factor²] to [N, H·factor, W·factor, C].
#[derive(Debug, Clone, Copy)]
pub struct PixelShuffle {
    /// How many times higher and wider the image becomes.
    pub factor: usize,
}

impl Layer for PixelShuffle {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        g.pixel_shuffle(x, self.factor)
    }
}
