//! Layers without parameters.

use super::Layer;
use fixnet_autograd::{Graph, Result, Var};

/// `max(x, 0)`.
#[derive(Debug, Clone, Copy)]
pub struct Relu;

impl Layer for Relu {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        g.relu(x)
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
