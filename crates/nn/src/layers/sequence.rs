//! Layers of sequences: one-dimensional convolution and pooling, as the two-dimensional ones of an image that is one pixel wide.
//!
//! A sequence [N, T, C] is seen as an image [N, T, 1, C], which are the same numbers in the same order. No product is new, so all
//! that holds for [`Conv2d`] (exact integer products, equal bits everywhere) holds here.

use super::{Conv2d, Conv2dConfig, Layer, Start};
use fixnet_autograd::{Error, Graph, Result, Store, Var};
use fixnet_quant::QuantConfig;
use fixnet_tensor::Window;

/// A sequence [N, T, C] as [N, T, 1, C]; what has that form stays as it is.
fn as_image(g: &mut Graph<'_>, x: &Var) -> Result<Var> {
    match *x.shape() {
        [n, steps, channels] => g.reshape(x, &[n, steps, 1, channels]),
        [_, _, 1, _] => Ok(x.clone()),
        ref found => {
            let found = format!("{found:?}");
            Err(Error::setting("input of a layer of sequences", "[N, T, C] or [N, T, 1, C]", found))
        }
    }
}

/// The sizes of a [`Conv1d`].
///
/// ```
/// use fixnet_nn::layers::Conv1dConfig;
/// let halving = Conv1dConfig { stride: 2, ..Conv1dConfig::same([40, 32], 5) };
/// assert_eq!((halving.padding, halving.groups), (2, 1));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv1dConfig {
    /// Channels of the input and of the output, I and O.
    pub channels: [usize; 2],
    /// Steps of a window, K.
    pub kernel: usize,
    /// Distance between windows.
    pub stride: usize,
    /// Steps of zeros before and behind the sequence.
    pub padding: usize,
    /// Distance between the steps of a window.
    pub dilation: usize,
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// How the weights start.
    pub start: Start,
}

impl Conv1dConfig {
    /// Windows of `kernel` steps, moved by 1, with `kernel / 2` steps of padding: the output is as long as the input where
    /// `kernel` is odd.
    pub fn same(channels: [usize; 2], kernel: usize) -> Self {
        Self { channels, kernel, stride: 1, padding: kernel / 2, dilation: 1, groups: 1, start: Start::default() }
    }
}

impl From<Conv1dConfig> for Conv2dConfig {
    /// The convolution over an image that is one pixel wide.
    fn from(config: Conv1dConfig) -> Self {
        let Conv1dConfig { channels, kernel, stride, padding, dilation, groups, start } = config;
        let window = Window { stride: [stride, 1], padding: [padding, 0], dilation: [dilation, 1], groups };
        Self { channels, kernel: [kernel, 1], window, start }
    }
}

/// A convolution over time, [N, T, I] to [N, T', 1, O]. The axis of length 1 stays, so that batch norm, pooling and further
/// convolutions follow as in networks for images; inputs of that form are taken too. Like [`Conv2d`] it has no bias.
#[derive(Debug, Clone)]
pub struct Conv1d(Conv2d);

impl Conv1d {
    /// Makes a convolution at the precision of `quant`, float if that is 32/32/32. The key of its weights, [O, K, 1, I / groups],
    /// is `name.weight`.
    ///
    /// # Errors
    /// As [`Conv2d::new`].
    pub fn new(store: &mut Store, name: &str, config: Conv1dConfig, quant: &QuantConfig) -> Result<Self> {
        Ok(Self(Conv2d::new(store, name, config.into(), quant)?))
    }

    /// Adds a bias: [`Conv2d::biased`].
    ///
    /// # Errors
    /// The name is taken.
    pub fn biased(self, store: &mut Store) -> Result<Self> {
        Ok(Self(self.0.biased(store)?))
    }

    /// Adds a factor of the output where no normalization follows: [`Conv2d::output_scaled`].
    ///
    /// # Errors
    /// The name is taken.
    pub fn output_scaled(self, store: &mut Store, quant: &QuantConfig) -> Result<Self> {
        Ok(Self(self.0.output_scaled(store, quant)?))
    }
}

impl Layer for Conv1d {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        let x = as_image(g, x)?;
        self.0.forward(g, &x)
    }
}

/// The largest value of each channel in windows of `size` steps, every `stride`, with `size / 2` steps on either side that never
/// win: [N, T, C] or [N, T, 1, C] to [N, T', 1, C].
///
/// `size` is odd: then padding as wide as that of the steps keeps the one column of the image one.
#[derive(Debug, Clone, Copy)]
pub struct MaxPool1d {
    /// Steps of a window, an odd number.
    pub size: usize,
    /// Distance between windows.
    pub stride: usize,
}

impl Layer for MaxPool1d {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        if self.size.is_multiple_of(2) {
            return Err(Error::setting("size of a pooling of sequences", "an odd number", self.size));
        }
        let x = as_image(g, x)?;
        g.max_pool2d_padded(&x, self.size, self.stride, self.size / 2)
    }
}

/// The mean of each channel over `size` steps that follow each other, every `size`: [N, T, C] or [N, T, 1, C] to
/// [N, T / size, 1, C]. Steps at the end that fill no window are left out.
#[derive(Debug, Clone, Copy)]
pub struct AvgPool1d {
    /// Steps of a window.
    pub size: usize,
}

impl Layer for AvgPool1d {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        let x = as_image(g, x)?;
        let (n, steps, channels) = (x.shape()[0], x.shape()[1], x.shape()[3]);
        if self.size == 0 || self.size > steps {
            let expected = format!("1 to the {steps} steps of its input");
            return Err(Error::setting("size of a pooling of sequences", expected, self.size));
        }
        let windows = steps / self.size;
        let x = if windows * self.size == steps { x } else { g.slice(&x, 1, 0..windows * self.size)? };
        let x = g.reshape(&x, &[n, windows, self.size, channels])?;
        g.mean(&x, &[2], true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixnet_tensor::Tensor;

    fn values(shape: &[usize]) -> Tensor {
        let len = shape.iter().product::<usize>();
        Tensor::from_vec(shape, (0..len).map(|i| (i * 7 % 13) as f32 - 6.0).collect()).unwrap()
    }

    /// By hand, as the formula of a one-dimensional convolution has it.
    fn convolved(x: &Tensor, w: &Tensor, config: Conv1dConfig) -> Vec<f32> {
        let [n, steps, c] = x.shape().try_into().unwrap();
        let [o, k] = [w.shape()[0], w.shape()[1]];
        let out = (steps + 2 * config.padding - config.dilation * (k - 1) - 1) / config.stride + 1;
        let mut y = Vec::new();
        for (i, t, to) in (0..n).flat_map(|i| (0..out).flat_map(move |t| (0..o).map(move |to| (i, t, to)))) {
            let mut sum = 0.0;
            for (tap, from) in (0..k).flat_map(|tap| (0..c).map(move |from| (tap, from))) {
                let at = (t * config.stride + tap * config.dilation).checked_sub(config.padding);
                if let Some(at) = at.filter(|&at| at < steps) {
                    sum += x.data()[(i * steps + at) * c + from] * w.data()[(to * k + tap) * c + from];
                }
            }
            y.push(sum);
        }
        y
    }

    #[test]
    fn a_convolution_is_the_sum_over_its_window() {
        let config = Conv1dConfig::same([3, 4], 5);
        for config in [config, Conv1dConfig { stride: 2, ..config }, Conv1dConfig { dilation: 3, padding: 6, ..config }]
        {
            let mut store = Store::seeded(3);
            let layer = Conv1d::new(&mut store, "c", config, &QuantConfig::float()).unwrap();
            // Whole numbers, so that any order of the sums gives the same.
            let w = values(&[4, 5, 1, 3]);
            let id = store.find("c.weight").unwrap();
            store.param_mut(id).value = w.clone();
            let x = values(&[2, 9, 3]);
            let mut g = Graph::eval(&mut store);
            let input = g.input(x.clone());
            let y = layer.forward(&mut g, &input).unwrap();
            assert_eq!(&y.shape()[2..], [1, 4]);
            assert_eq!(y.tensor().data(), convolved(&x, &w, config));
        }
    }

    #[test]
    fn pools_take_windows_of_steps() {
        let mut store = Store::seeded(3);
        let mut g = Graph::eval(&mut store);
        let x = g.input(Tensor::from_vec(&[1, 5, 2], vec![1., 9., 4., 8., 3., 7., 2., 6., 5., 0.]).unwrap());
        let y = MaxPool1d { size: 3, stride: 2 }.forward(&mut g, &x).unwrap();
        assert_eq!((y.shape(), y.tensor().data()), (&[1, 3, 1, 2][..], &[4., 9., 4., 8., 5., 6.][..]));
        let y = AvgPool1d { size: 2 }.forward(&mut g, &x).unwrap();
        assert_eq!((y.shape(), y.tensor().data()), (&[1, 2, 1, 2][..], &[2.5, 8.5, 2.5, 6.5][..]));
        assert!(MaxPool1d { size: 2, stride: 2 }.forward(&mut g, &x).is_err());
        assert!(AvgPool1d { size: 6 }.forward(&mut g, &x).is_err());
        let image = g.input(Tensor::zeros(&[1, 3, 3, 2]));
        let e = MaxPool1d { size: 3, stride: 2 }.forward(&mut g, &image).unwrap_err().to_string();
        assert!(e.contains("expected [N, T, C] or [N, T, 1, C], found [1, 3, 3, 2]"), "{e}");
    }
}
