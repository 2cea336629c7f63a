//! The operations of a plan: which there are, what shape they give, and what they compute.

use fixnet_autograd::ops::FixedNorm;
use fixnet_autograd::{Error, Graph, Result, Var};
use fixnet_quant::FixedProduct;
use fixnet_tensor::{Conv2dGeometry, Error as TensorError, Tensor, Window};
use serde::{Deserialize, Serialize};

/// [`Window`] for serde.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Window", deny_unknown_fields)]
struct WindowForm {
    stride: [usize; 2],
    padding: [usize; 2],
    dilation: [usize; 2],
    groups: usize,
}

/// An operation with its settings. Shapes are without the axis of the batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Op {
    /// What the network is given.
    Input,
    /// A convolution with a weight `[O, KH, KW, I / groups]` and perhaps a bias `[O]`: `[H, W, I]` to `[H', W', O]`.
    Conv2d {
        /// How the window moves.
        #[serde(with = "WindowForm")]
        window: Window,
    },
    /// A product with a weight `[O, I]` and perhaps a bias `[O]`: `[I]` to `[O]`.
    Linear,
    /// A normalization of the last axis.
    BatchNorm,
    /// `max(x, 0)`.
    Relu,
    /// The sum of two values.
    Add,
    /// The largest value of each window, with `padding` rows and columns around the image that never win.
    MaxPool2d {
        /// Height and width of a window.
        size: usize,
        /// Distance between windows.
        stride: usize,
        /// Rows and columns on each side.
        padding: usize,
    },
    /// The mean of each window.
    AvgPool2d {
        /// Height and width of a window.
        size: usize,
        /// Distance between windows.
        stride: usize,
    },
    /// The mean of each channel: `[H, W, C]` to `[C]`.
    GlobalAvgPool2d,
    /// Any shape to its product.
    Flatten,
    /// Every `stride`-th pixel, with zero channels on both sides: [H, W, C] to [H / stride, W / stride, channels].
    Subsample {
        /// Distance between the pixels that stay.
        stride: usize,
        /// Channels of the output.
        channels: usize,
    },
    /// Channels to pixels: [H, W, C·factor²] to [H·factor, W·factor, C].
    PixelShuffle {
        /// How many times higher and wider the image becomes.
        factor: usize,
    },
    /// A layer that did not describe itself.
    Opaque {
        /// The name of its type.
        kind: String,
        /// The shape of its output.
        shape: Vec<usize>,
    },
}

/// The weight of a product.
#[derive(Debug, Clone)]
pub enum Weight {
    /// Floats.
    Float(Tensor),
    /// Codes, with the quantizer of the input.
    Quantized(FixedProduct),
}

impl Weight {
    /// The lengths of its axes.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Float(t) => t.shape(),
            Self::Quantized(p) => p.weight().shape(),
        }
    }
}

/// The numbers of an operation.
#[derive(Debug, Clone, Default)]
pub struct Numbers {
    /// The weight of a product.
    pub weight: Option<Weight>,
    /// The bias of a product.
    pub bias: Option<Tensor>,
    /// The numbers of a normalization.
    pub norm: Option<FixedNorm>,
}

/// One operation of a plan.
#[derive(Debug, Clone)]
pub struct Node {
    pub(super) name: String,
    pub(super) op: Op,
    pub(super) inputs: Vec<usize>,
    pub(super) shape: Vec<usize>,
    pub(super) numbers: Numbers,
}

impl Node {
    /// The name of the layer; empty if it has none.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it does.
    pub fn op(&self) -> &Op {
        &self.op
    }

    /// The indices of the nodes whose outputs it reads.
    pub fn inputs(&self) -> &[usize] {
        &self.inputs
    }

    /// The lengths of the output's axes without that of the batch.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Its numbers.
    pub fn numbers(&self) -> &Numbers {
        &self.numbers
    }
}

fn missing(what: &'static str) -> Error {
    Error::setting("numbers of an operation", what, "none")
}

impl Numbers {
    fn weight(&self) -> Result<&Weight> {
        self.weight.as_ref().ok_or_else(|| missing("a weight"))
    }

    fn norm(&self) -> Result<&FixedNorm> {
        self.norm.as_ref().ok_or_else(|| missing("those of a normalization"))
    }

    fn check_bias(&self, channels: usize) -> Result<()> {
        match &self.bias {
            Some(b) if b.shape() != [channels] => {
                Err(TensorError::shape("bias", format!("[{channels}]"), b.shape()).into())
            }
            _ => Ok(()),
        }
    }
}

/// How many windows fit a length, if one does.
fn windows(length: usize, size: usize, stride: usize, padding: usize) -> Option<usize> {
    let length = padding.checked_mul(2)?.checked_add(length)?;
    if size == 0 || stride == 0 { None } else { Some(length.checked_sub(size)? / stride + 1) }
}

impl Op {
    /// The shape of the output for inputs of these shapes.
    pub(super) fn output_shape(&self, inputs: &[&[usize]], numbers: &Numbers) -> Result<Vec<usize>> {
        let wanted = match self {
            Self::Input => 0,
            Self::Add => 2,
            _ => 1,
        };
        if inputs.len() != wanted {
            return Err(Error::setting("inputs of an operation", wanted, inputs.len()));
        }
        let x = inputs.first().copied().unwrap_or(&[]);
        let image = |op: &'static str| match *x {
            [h, w, c] => Ok([h, w, c]),
            _ => Err(Error::from(TensorError::shape(op, "an image [H, W, C]", x))),
        };
        let pooled = |op: &'static str, size: usize, stride: usize, padding: usize| {
            let [h, w, c] = image(op)?;
            match (windows(h, size, stride, padding), windows(w, size, stride, padding)) {
                (Some(h), Some(w)) if padding < size => Ok(vec![h, w, c]),
                _ => {
                    let expected =
                        format!("an image that holds a window of {size} every {stride}, padded by {padding}");
                    Err(TensorError::shape(op, expected, x).into())
                }
            }
        };
        match self {
            Self::Input => Err(Error::setting("an operation", "any but a second input", "input")),
            Self::Conv2d { window } => {
                let [h, w, c] = image("conv2d")?;
                let weight = numbers.weight()?.shape();
                let g = Conv2dGeometry::windowed(&[1, h, w, c], weight, *window)?;
                numbers.check_bias(g.c_out())?;
                Ok(vec![g.out_h(), g.out_w(), g.c_out()])
            }
            Self::Linear => match (numbers.weight()?.shape(), x) {
                (&[o, i], &[found]) if i == found => {
                    numbers.check_bias(o)?;
                    Ok(vec![o])
                }
                (weight, x) => Err(TensorError::shape("linear", format!("the columns of {weight:?}"), x).into()),
            },
            Self::BatchNorm => {
                let norm = numbers.norm()?;
                let c = x.last().copied().unwrap_or(0);
                match [&norm.weight, &norm.bias, &norm.mean, &norm.var].into_iter().find(|t| t.shape() != [c]) {
                    Some(odd) => Err(TensorError::shape("batch_norm", format!("[{c}]"), odd.shape()).into()),
                    None => Ok(x.to_vec()),
                }
            }
            Self::Relu => Ok(x.to_vec()),
            Self::Add if inputs[0] == inputs[1] => Ok(x.to_vec()),
            Self::Add => Err(TensorError::shape("add", format!("{x:?}"), inputs[1]).into()),
            Self::MaxPool2d { size, stride, padding } => pooled("max_pool2d", *size, *stride, *padding),
            Self::AvgPool2d { size, stride } => pooled("avg_pool2d", *size, *stride, 0),
            Self::GlobalAvgPool2d => image("global_avg_pool2d").map(|[_, _, c]| vec![c]),
            Self::Flatten => Ok(vec![x.iter().product()]),
            Self::Subsample { stride, channels } => match image("subsample")? {
                [h, w, c] if *stride > 0 && c <= *channels => {
                    Ok(vec![h.div_ceil(*stride), w.div_ceil(*stride), *channels])
                }
                _ => Err(TensorError::shape("subsample", format!("at most {channels} channels"), x).into()),
            },
            Self::PixelShuffle { factor } => {
                let [h, w, c] = image("pixel_shuffle")?;
                match factor.checked_mul(*factor) {
                    Some(area) if area > 0 && c > 0 && c.is_multiple_of(area) => {
                        Ok(vec![h.saturating_mul(*factor), w.saturating_mul(*factor), c / area])
                    }
                    _ => {
                        Err(TensorError::shape("pixel_shuffle", format!("channels for the factor {factor}"), x).into())
                    }
                }
            }
            Self::Opaque { shape, .. } => Ok(shape.clone()),
        }
    }

    /// The value of the output. `inputs` are as many as [`output_shape`](Self::output_shape) has checked.
    pub(super) fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var], numbers: &Numbers) -> Result<Var> {
        let x = inputs[0];
        let biased = |g: &mut Graph<'_>, y: Var| match &numbers.bias {
            Some(bias) => {
                let bias = g.input(bias.clone());
                g.add_bias(&y, &bias)
            }
            None => Ok(y),
        };
        match self {
            Self::Input => Err(Error::setting("an operation", "any but a second input", "input")),
            Self::Conv2d { window } => {
                let y = match numbers.weight()? {
                    Weight::Quantized(product) => product.conv2d(g, x, *window)?,
                    Weight::Float(w) => {
                        let w = g.input(w.clone());
                        g.conv2d(x, &w, *window)?
                    }
                };
                biased(g, y)
            }
            Self::Linear => {
                let y = match numbers.weight()? {
                    Weight::Quantized(product) => product.linear(g, x)?,
                    Weight::Float(w) => {
                        let w = g.input(w.clone());
                        g.linear(x, &w)?
                    }
                };
                biased(g, y)
            }
            Self::BatchNorm => g.batch_norm_fixed(x, numbers.norm()?),
            Self::Relu => g.relu(x),
            Self::Add => g.add(x, inputs[1]),
            Self::MaxPool2d { size, stride, padding } => g.max_pool2d_padded(x, *size, *stride, *padding),
            Self::AvgPool2d { size, stride } => g.avg_pool2d(x, *size, *stride),
            Self::GlobalAvgPool2d => g.global_avg_pool2d(x),
            Self::Flatten => g.flatten(x),
            Self::Subsample { stride, channels } => g.subsample(x, *stride, *channels),
            Self::PixelShuffle { factor } => g.pixel_shuffle(x, *factor),
            Self::Opaque { kind, .. } => Err(Error::setting("a layer", "one that describes itself", kind)),
        }
    }
}
