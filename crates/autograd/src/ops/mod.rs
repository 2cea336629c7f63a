//! Differentiable operations, one idea a file: the value, its derivative and the test that compares the two with finite
//! differences stand side by side. Each is a method of [`Graph`](crate::Graph) and a type that implements
//! [`Operation`].

mod affine;
mod arithmetic;
mod arrange;
mod axes;
mod batch_norm;
mod clamp;
mod conv;
mod dropout;
mod elementwise;
mod fixed_norm;
mod layer_norm;
mod loss;
mod pad;
mod pixel_shuffle;
mod pool;
mod prepend;
mod product;
mod reduce;
mod roi_align;
mod rprelu;
mod shape;
mod softmax;
mod upsample;

pub use arithmetic::Arithmetic;
pub use arrange::{Concat, Permute, Slice};
pub use batch_norm::{BatchNorm, RunningStats};
pub use clamp::{Clamp, Relu};
pub use conv::Conv2d;
pub use elementwise::Elementwise;
pub use fixed_norm::FixedNorm;
pub use layer_norm::LayerNorm;
pub use pad::Pad2d;
pub use pixel_shuffle::PixelShuffle;
pub use pool::{AvgPool2d, GlobalAvgPool2d, MaxPool2d};
pub use prepend::Prepend;
pub use product::{AddBias, Linear, Matmul};
pub use reduce::{Mean, Sum};
pub use roi_align::{Region, RoiAlign};
pub use rprelu::RPRelu;
pub use shape::{Flatten, Reshape, Scale, Subsample};
pub use softmax::Softmax;
pub use upsample::UpsampleNearest;

use crate::stored::{Parameter, Stored};
use crate::{Error, Operation, Result};
use fixnet_tensor::Error as TensorError;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Reads an operation back from its settings and arrays.
pub type Reader = fn(&Stored<'_>) -> Result<Arc<dyn Operation>>;

/// The operations that a packed network may have, by their [`kind`](Operation::kind).
#[derive(Debug, Clone)]
pub struct Operations {
    readers: BTreeMap<&'static str, Reader>,
}

/// An operation that has all of its settings as fields.
fn plain<O: Operation + DeserializeOwned>(stored: &Stored<'_>) -> Result<Arc<dyn Operation>> {
    Ok(Arc::new(stored.settings::<O>()?))
}

impl Default for Operations {
    /// The operations of this crate.
    fn default() -> Self {
        let readers: [(&str, Reader); _] = [
            ("add", |_| Ok(Arc::new(Arithmetic::Add))),
            ("add_bias", |_| Ok(Arc::new(AddBias))),
            ("avg_pool2d", plain::<AvgPool2d>),
            ("batch_norm", FixedNorm::read),
            ("clamp", Clamp::read),
            ("concat", plain::<Concat>),
            ("conv2d", Conv2d::read),
            ("div", |_| Ok(Arc::new(Arithmetic::Div))),
            ("exp", |_| Ok(Arc::new(Elementwise::Exp))),
            ("flatten", |_| Ok(Arc::new(Flatten))),
            ("gelu", |_| Ok(Arc::new(Elementwise::Gelu))),
            ("global_avg_pool2d", |_| Ok(Arc::new(GlobalAvgPool2d))),
            ("layer_norm", plain::<LayerNorm>),
            ("leaky_relu", Elementwise::read_leaky_relu),
            ("linear", |_| Ok(Arc::new(Linear))),
            ("log", |_| Ok(Arc::new(Elementwise::Log))),
            ("matmul", plain::<Matmul>),
            ("max_pool2d", plain::<MaxPool2d>),
            ("mean", plain::<Mean>),
            ("mul", |_| Ok(Arc::new(Arithmetic::Mul))),
            ("pad2d", plain::<Pad2d>),
            ("permute", plain::<Permute>),
            ("pixel_shuffle", plain::<PixelShuffle>),
            ("prepend", |_| Ok(Arc::new(Prepend))),
            ("relu", |_| Ok(Arc::new(Relu))),
            ("reshape", plain::<Reshape>),
            ("roi_align", plain::<RoiAlign>),
            ("rprelu", |_| Ok(Arc::new(RPRelu))),
            ("scale", plain::<Scale>),
            ("sigmoid", |_| Ok(Arc::new(Elementwise::Sigmoid))),
            ("slice", plain::<Slice>),
            ("softmax", plain::<Softmax>),
            ("sqrt", |_| Ok(Arc::new(Elementwise::Sqrt))),
            ("sub", |_| Ok(Arc::new(Arithmetic::Sub))),
            ("subsample", plain::<Subsample>),
            ("sum", plain::<Sum>),
            ("tanh", |_| Ok(Arc::new(Elementwise::Tanh))),
            ("upsample_nearest", plain::<UpsampleNearest>),
        ];
        Self { readers: readers.into() }
    }
}

impl Operations {
    /// Adds a kind of operation, or takes another reader for one that is there.
    #[must_use]
    pub fn with(mut self, kind: &'static str, reader: Reader) -> Self {
        self.readers.insert(kind, reader);
        self
    }

    /// Reads an operation of a kind.
    ///
    /// # Errors
    /// There is no such kind, or a setting or array is missing or has another form.
    pub fn read(&self, kind: &str, stored: &Stored<'_>) -> Result<Arc<dyn Operation>> {
        match self.readers.get(kind) {
            Some(reader) => reader(stored),
            None => {
                let known: Vec<&str> = self.readers.keys().copied().collect();
                Err(Error::setting("an operation of a plan", known.join(", "), kind))
            }
        }
    }
}

/// Checks that a bias has one number per output channel.
fn check_bias(bias: Option<&[usize]>, channels: usize) -> Result<()> {
    match bias {
        Some(b) if *b != [channels] => Err(TensorError::shape("bias", format!("[{channels}]"), b).into()),
        _ => Ok(()),
    }
}

/// Returns the multiply-adds of a product per image: each pixel of the output is a product with the whole weight.
pub fn macs(parameters: &[Parameter], output: &[usize]) -> u64 {
    let weights: usize = parameters.iter().filter(|p| p.name == "weight").map(Parameter::count).sum();
    let pixels: usize = output.split_last().map_or(0, |(_, pixels)| pixels.iter().product());
    (pixels * weights) as u64
}
