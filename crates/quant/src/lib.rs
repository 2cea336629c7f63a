//! Quantizers, the quantized operations built on them, and transition-rate scheduling.
//!
//! Two papers are implemented here and nowhere else: LBT (Kim et al., ECCV 2024), whose interval rule for gradient
//! quantizers protects large gradients, and TRS (Lee et al., ICCV 2025), which schedules how often quantized weights
//! change. See [`gradient`], [`forward`] and [`transition`].
#![forbid(unsafe_code)]

pub mod forward;
pub mod gradient;
pub mod ops;
mod precision;
pub mod transition;

pub use forward::{ActivationQuantizer, WeightQuantizer, requantize};
pub use gradient::{GradientQuantizer, GradientRule, gammas};
pub use ops::{QConv2d, QLinear};
pub use precision::{Precision, QuantConfig};
pub use transition::{TalrRule, TransitionRate, Transitions};
