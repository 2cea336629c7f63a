//! `QuantConfig`: how the layers of a model are quantized, with the choices that it is made of.

use crate::{Precision, Rule};
use fixnet_autograd::{Error, Result};
use fixnet_tensor::reduce;
use std::fmt;
use std::str::FromStr;

/// An enum whose variants have names in recipes.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident, $what:literal, { $($(#[$of:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub enum $name { $($(#[$of])* $variant),+ }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $text),+ })
            }
        }

        impl FromStr for $name {
            type Err = Error;
            fn from_str(s: &str) -> Result<Self> {
                match s {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(Error::setting($what, [$($text),+].join(" or "), s)),
                }
            }
        }
    };
}

named!(
    /// The forward quantizers (METHOD 1).
    Scheme, "scheme", {
        /// Symmetric weights; a quantized value is the level times the scale.
        #[default]
        Lbt = "lbt",
        /// Modified LSQ: two's complement weights, quantized values without the scale. A normalization that follows takes
        /// the scale out; where none does, a layer may have a learned output scale.
        Trs = "trs",
    }
);

named!(
    /// Rounding of gradients.
    Rounding, "gradient rounding", {
        /// Up or down at random, right in the mean.
        #[default]
        Stochastic = "stochastic",
        /// To the nearest level, ties to even.
        Nearest = "nearest",
    }
);

named!(
    /// How many scales a weight has.
    WeightScales, "weight scales", {
        /// One.
        #[default]
        Tensor = "tensor",
        /// One for each output channel.
        Channel = "channel",
    }
);

named!(
    /// Whether the scales of quantizers move.
    Scales, "scales", {
        /// They are learned, all that the scheme learns.
        #[default]
        Learned = "learned",
        /// They keep their first value.
        Fixed = "fixed",
    }
);

named!(
    /// The standard deviation that a first scale is a multiple of (METHOD 1).
    Deviation, "scale deviation", {
        /// Divides by n.
        #[default]
        Population = "population",
        /// Divides by n - 1, as the LBT authors' code does.
        Sample = "sample",
    }
);

impl Deviation {
    /// The deviation of `values`, from that of the population for [`Sample`](Self::Sample) by `sqrt(n / (n - 1))`.
    pub(crate) fn of(self, values: &[f32]) -> f64 {
        let (_, population) = reduce::mean_std(values);
        match (self, values.len()) {
            (Self::Population, _) | (_, 0 | 1) => population,
            (Self::Sample, n) => population * (n as f64 / (n - 1) as f64).sqrt(),
        }
    }
}

named!(
    /// The first value of a learned factor of the output (METHOD 1).
    OutputScaleStart, "output scale start", {
        /// The product of the scales that the quantized operands omit.
        #[default]
        Operands = "operands",
        /// `mean|y| / mean|y_q|` of the first batch, with y the float output and y_q the quantized one, as in EWGS.
        Output = "output",
    }
);

named!(
    /// The derivative of the sign that two-sided activations of one bit are (METHOD 1).
    SignEstimator, "sign estimator", {
        /// That of the clip: 1 (over the scale) where |x| is at most the scale, else 0.
        #[default]
        Clip = "clip",
        /// `2 + 2x` from -1 to 0, `2 - 2x` from 0 to 1, else 0, as in ReActNet. The quantizer is a sign of any value, also of one that
        /// has no element below 0, and has no scale.
        Triangle = "triangle",
    }
);

named!(
    /// Whether two-sided inputs of fully connected layers are shifted before they are quantized.
    InputShifts, "input shifts", {
        /// They are not.
        #[default]
        None = "none",
        /// By a learned number for each column, which the bias takes out again.
        Learned = "learned",
    }
);

named!(
    /// How many scales q, k and v of an attention have.
    AttentionScales, "attention scales", {
        /// One each.
        #[default]
        Tensor = "tensor",
        /// One each for every head, where they have two bits or more.
        Head = "head",
    }
);

/// How the layers of a model are quantized.
///
/// ```
/// use fixnet_quant::{Lbt, QuantConfig, Scheme};
/// let plain = QuantConfig::new("4/4/4".parse()?);
/// assert_eq!(plain.rule, Lbt::default().into());
/// let trs = QuantConfig { scheme: Scheme::Trs, ..QuantConfig::new("2/2/32".parse()?) };
/// assert_eq!(trs.scheme.to_string(), "trs");
/// # Ok::<(), fixnet_autograd::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct QuantConfig {
    /// Bit widths of the inner layers.
    pub precision: Precision,
    /// The forward quantizers.
    pub scheme: Scheme,
    /// How gradient quantizers choose their interval.
    pub rule: Rule,
    /// How they round.
    pub gradient_rounding: Rounding,
    /// One scale a weight, or one an output channel.
    pub weight_scales: WeightScales,
    /// Whether scales are learned.
    pub scales: Scales,
    /// Bits of the first convolution and the classifier; `None` leaves them in float, as both papers do.
    pub edges: Option<u8>,
    /// Whether a layer that no normalization follows has a factor of its output, a scale like others, where its quantized
    /// values leave out theirs (the TRS scheme, one-bit weights).
    pub output_scale: bool,
    /// The first value of that factor.
    pub output_scale_start: OutputScaleStart,
    /// The deviation that first scales are multiples of.
    pub scale_deviation: Deviation,
    /// The gradient rule of the first convolution and the classifier where [`edges`](Self::edges) quantizes them; `None`
    /// takes that of the other layers.
    pub edge_rule: Option<Rule>,
    /// The derivative of one-bit activations. Models choose it, not recipes.
    pub sign_estimator: SignEstimator,
    /// Shifts of two-sided inputs of fully connected layers.
    pub input_shifts: InputShifts,
    /// One scale for q, k and v of an attention each, or one for every head.
    pub attention_scales: AttentionScales,
}

impl QuantConfig {
    /// The LBT scheme and rule with these widths, and every other choice as its first name says.
    pub fn new(precision: Precision) -> Self {
        Self {
            precision,
            scheme: Scheme::default(),
            rule: Rule::default(),
            gradient_rounding: Rounding::default(),
            weight_scales: WeightScales::default(),
            scales: Scales::default(),
            edges: None,
            output_scale: true,
            output_scale_start: OutputScaleStart::default(),
            scale_deviation: Deviation::default(),
            edge_rule: None,
            sign_estimator: SignEstimator::default(),
            input_shifts: InputShifts::default(),
            attention_scales: AttentionScales::default(),
        }
    }

    /// Everything in f32.
    pub fn float() -> Self {
        Self::new(Precision::FLOAT)
    }

    /// The settings of the first and last layer: all three widths are `edges`, the gradient rule is `edge_rule`.
    ///
    /// # Errors
    /// The width is not 2 to 8.
    pub fn edge(&self) -> Result<Self> {
        let precision = match self.edges {
            Some(b) => Precision::new(b, b, b)?,
            None => Precision::FLOAT,
        };
        let rule = self.edge_rule.clone().unwrap_or_else(|| self.rule.clone());
        Ok(Self { precision, rule, ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_as_written() {
        assert_eq!("trs".parse::<Scheme>().unwrap().to_string(), "trs");
        assert_eq!("nearest".parse::<Rounding>().unwrap(), Rounding::Nearest);
        assert_eq!("sample".parse::<Deviation>().unwrap(), Deviation::Sample);
        assert_eq!("output".parse::<OutputScaleStart>().unwrap().to_string(), "output");
        assert_eq!("channel".parse::<WeightScales>().unwrap(), WeightScales::Channel);
        assert_eq!("learned".parse::<InputShifts>().unwrap(), InputShifts::Learned);
        assert_eq!("head".parse::<AttentionScales>().unwrap().to_string(), "head");
        let e = "both".parse::<Scales>().unwrap_err().to_string();
        assert_eq!(e, "scales: expected learned or fixed, found both");
    }

    #[test]
    fn deviations_by_hand() {
        let values = [1.0, 2.0, 3.0, 6.0];
        // Mean 3, squares 4 + 1 + 0 + 9 = 14.
        approx::assert_relative_eq!(Deviation::Population.of(&values), 3.5f64.sqrt(), epsilon = 1e-12);
        approx::assert_relative_eq!(Deviation::Sample.of(&values), (14.0f64 / 3.0).sqrt(), epsilon = 1e-12);
        assert_eq!(Deviation::Sample.of(&[5.0]), 0.0);
    }

    #[test]
    fn edges_have_one_width_and_every_other_setting() {
        let config = QuantConfig {
            edges: Some(8),
            scheme: Scheme::Trs,
            rule: "mse".parse().unwrap(),
            ..QuantConfig::new("4/4/4".parse().unwrap())
        };
        let edge = config.edge().unwrap();
        assert_eq!((edge.precision.to_string(), edge.scheme, &edge.rule), ("8/8/8".into(), Scheme::Trs, &config.rule));
        // Also around layers in float.
        let float = QuantConfig { precision: Precision::FLOAT, ..config.clone() };
        assert_eq!(float.edge().unwrap(), edge);
        let own = QuantConfig { edge_rule: Some("min-max".parse().unwrap()), ..config.clone() };
        assert_eq!((own.edge().unwrap().rule.to_string(), &own.rule), ("min-max".into(), &config.rule));
        assert_eq!(QuantConfig { edges: None, ..config }.edge().unwrap().precision, Precision::FLOAT);
        assert!(QuantConfig { edges: Some(1), ..QuantConfig::new("4/4/4".parse().unwrap()) }.edge().is_err());
    }
}
