//! Quantizers, the quantized operations built on them, and transition-rate scheduling.
//!
//! The formulas of two papers: LBT (Kim et al., ECCV 2024), whose interval rule for gradient quantizers protects large
//! gradients, and TRS (Lee et al., ICCV 2025), which schedules how often quantized weights change. `METHOD` in comments
//! is `docs/METHOD.md` of the repository, which states both. See [`gradient`], [`forward`] and [`transition`]; [`QuantConfig`] holds every choice.
#![forbid(unsafe_code)]

mod config;
pub mod diagnostics;
pub mod forward;
pub mod gradient;
pub mod natural;
pub mod ops;
mod precision;
pub mod transition;

pub use config::{
    AttentionScales, Deviation, InputShifts, OutputScaleStart, QuantConfig, Rounding, Scales, Scheme, SignEstimator,
    WeightScales,
};
pub use forward::{ActivationQuantizer, FixedInput, SidedQuantizer, WeightQuantizer, requantize};
pub use gradient::{
    Dsgc, Fixed, GradientQuantizer, GradientRule, Lbt, MinMax, Mse, Observed, Rule, RuleKind, gammas, register_rule,
    rules,
};
pub use natural::{NaturalRate, Place};
pub use ops::{
    FixedConv2d, FixedLinear, FixedMatmul, FixedOperation, FixedProduct, QConv2d, QInput, QLinear, QMatmul,
    QuantizeInput,
};
pub use precision::Precision;
pub use transition::{TalrRule, TransitionRate, Transitions};
