//! fixnet trains neural networks on ordinary CPUs in real low-bit fixed-point arithmetic.
//!
//! Weights and activations of quantized layers are integers of 1 to 8 bits in memory, gradients of 2 to 8, and the three matrix
//! products of each such layer (output, input gradient, weight gradient) are exact integer SIMD products. The same seed,
//! data and settings give the same bits on every machine, with any number of threads.
//!
//! ```
//! use fixnet::prelude::*;
//!
//! let data = digits()?;
//! let mut store = Store::seeded(42);
//! let q = QuantConfig::new("4/4/4".parse()?);
//! let net = models::build(&mut store, &"mlp:32".parse()?, [28, 28, 1], 10, &q)?;
//! let normalize = Normalize::of(&data.train);
//! let mut optimizer = Optimizer::new(OptimizerConfig { total_steps: 3, ..OptimizerConfig::default() })?;
//! for batch in Loader::new(&data.train, 64, normalize).shuffled(store.seed(), 0).take(3) {
//!     let batch = batch?;
//!     let mut g = Graph::train(&mut store);
//!     let x = g.input(batch.images); // [N, 28, 28, 1]
//!     let logits = net.forward(&mut g, &x)?; // [N, 10]
//!     let loss = g.cross_entropy(&logits, &batch.labels)?;
//!     g.backward(loss)?;
//!     optimizer.step(&mut store)?;
//! }
//! println!("{}", fixnet::checkpoint::digest(&store, &optimizer));
//! # Ok::<(), fixnet::Error>(())
//! ```
//!
//! [`guide`] explains the rest page by page, beginning with the [`concepts`](guide::concepts).
#![forbid(unsafe_code)]

pub mod guide;

pub use fixnet_autograd as autograd;
pub use fixnet_data as data;
pub use fixnet_export as export;
pub use fixnet_files::{self as files, input_file};
pub use fixnet_nn::{checkpoint, layers, metrics, models, optim, plan};
pub use fixnet_quant as quant;
pub use fixnet_tensor as tensor;
pub use fixnet_tensor::kernel;
pub use fixnet_train as train;
// Every error of the other crates becomes one of these with `?`.
pub use fixnet_train::{Error, Result};

/// What a training program needs, in one line: `use fixnet::prelude::*;`.
pub mod prelude {
    pub use crate::checkpoint;
    pub use crate::data::{
        Augment, Batch, DataConfig, Dataset, Image, Loader, Normalize, Sample, Source, Split, digits, photo_digits,
    };
    pub use crate::layers::{
        AvgPool2d, BasicBlock, BatchNorm2d, Bottleneck, Clamp, Conv2d, Conv2dConfig, Dropout, Flatten, Gelu,
        GlobalAvgPool2d, Layer, LayerNorm, LeakyRelu, Linear, MaxPool2d, PixelShuffle, Relu, Residual, Sequential,
        Sigmoid, Softmax, Tanh,
    };
    pub use crate::metrics::{self, Evaluation};
    pub use crate::models::{self, Model, ModelSpec, Output};
    pub use crate::optim::{
        Adagrad, Adam, AdamW, Adamax, DecayGroups, NAdam, Optimizer, OptimizerConfig, ParamGroup, RmsProp, Schedule,
        Scope, Sgd, StepReport, TransitionConfig, UpdateRule, Warmup,
    };
    pub use crate::plan::{Plan, Summary};
    pub use crate::train::task::{Answer, Classification, Part};
    pub use crate::train::{Config, Predictor, Session, Settings};
    pub use crate::{Error, Result};
    pub use fixnet_autograd::{Graph, Modes, Store, Var};
    pub use fixnet_quant::{
        Deviation, GradientRule, OutputScaleStart, Precision, QuantConfig, Rounding, Rule, Scales, Scheme, TalrRule,
        WeightScales,
    };
    pub use fixnet_tensor::{Tensor, Window};
}
