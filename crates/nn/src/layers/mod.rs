//! Layers: what a model is put together from. A layer holds addresses into the store and settings, never numbers, so a
//! checkpoint of the store forgets nothing.

mod attention;
mod batch_norm;
mod conv;
mod faster_rcnn;
mod frozen_norms;
mod layer_norm;
mod linear;
mod matmul;
mod network;
mod pyramid;
mod residual;
mod retinanet;
mod rsign;
mod sequence;
mod simple;
mod transformer;

pub use attention::Attention;
pub use batch_norm::BatchNorm2d;
pub use conv::{Conv2d, Conv2dConfig, Start};
pub use faster_rcnn::{FasterRcnn, FasterRcnnConfig};
pub use frozen_norms::FrozenNorms;
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub use matmul::Matmul;
pub use network::{Network, Operand};
pub use pyramid::{Pyramid, Stages};
pub use residual::{BasicBlock, Bottleneck, Residual};
pub use retinanet::{RetinaNet, RetinaNetConfig};
pub use rsign::{RPRelu, RSign};
pub use sequence::{AvgPool1d, Conv1d, Conv1dConfig, MaxPool1d};
pub use simple::{
    AvgPool2d, Clamp, Dropout, Flatten, Gelu, GlobalAvgPool2d, LeakyRelu, MaxPool2d, PixelShuffle, Relu, Sigmoid,
    Softmax, Tanh,
};
pub use transformer::{TransformerBlock, TransformerConfig};

use fixnet_autograd::{Graph, Result, Store, Var};
use fixnet_quant::{QInput, QuantConfig};

/// A part of a model: from one value to the next.
///
/// A layer made of the graph's operations is summarized, packed and exported like those here: a
/// [`Plan`](crate::plan::Plan) is traced from [`forward`](Self::forward).
pub trait Layer: Send + Sync {
    /// Records the layer on the graph and returns its output.
    ///
    /// # Errors
    /// The input does not fit; the error names the layer or operation.
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var>;
}

impl<L: Layer + ?Sized> Layer for Box<L> {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        (**self).forward(g, x)
    }
}

/// Makes the quantizer of the input of a layer whose weights are floats: there is one with `32/A/32`.
fn quantized_input(store: &mut Store, name: &str, config: &QuantConfig) -> Result<Option<QInput>> {
    let alone = config.precision.weight().is_none() && config.precision.activation().is_some();
    alone.then(|| QInput::new(store, name, config)).transpose()
}

/// What a layer of floats reads: `x`, or the values of its levels.
fn values(input: Option<&QInput>, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
    input.map_or_else(|| Ok(x.clone()), |input| input.forward(g, x))
}

/// Layers one after the other.
///
/// ```
/// use fixnet_autograd::{Graph, Store};
/// use fixnet_nn::layers::{Layer, Linear, Relu, Sequential};
/// use fixnet_tensor::Tensor;
/// let mut store = Store::seeded(1);
/// let net = Sequential::new().push(Linear::new(&mut store, "fc1", 8, 16)?).push(Relu);
/// let mut g = Graph::eval(&mut store);
/// let x = g.input(Tensor::zeros(&[2, 8]));
/// assert_eq!(net.forward(&mut g, &x)?.shape(), [2, 16]);
/// # Ok::<(), fixnet_autograd::Error>(())
/// ```
#[derive(Default)]
pub struct Sequential {
    layers: Vec<Box<dyn Layer>>,
}

impl Sequential {
    /// No layers: the identity.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a layer at the end.
    #[must_use]
    pub fn push(mut self, layer: impl Layer + 'static) -> Self {
        self.layers.push(Box::new(layer));
        self
    }

    /// How many layers there are.
    pub fn len(&self) -> usize {
        self.layers.len()
    }

    /// Whether there is no layer.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }
}

impl Layer for Sequential {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        self.layers.iter().try_fold(x.clone(), |x, layer| layer.forward(g, &x))
    }
}
