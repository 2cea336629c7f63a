//! What a gradient rule is.

use super::Observed;
use fixnet_autograd::Array;
use std::fmt;

/// How the interval of a gradient quantizer is chosen: settings, and the state of one layer. Each layer has a clone.
///
/// In each step whose gradient is not zero the quantizer asks [`needs_gradient`](Self::needs_gradient), shows the
/// gradient to [`observe`](Self::observe) if so, quantizes with [`gamma`](Self::gamma), and tells
/// [`update`](Self::update) what was clipped. Of several gradients in a step (passes that accumulate) the first counts, and
/// the others are quantized with its gamma. A rule of one's own implements `name` and `gamma`, and whatever else it
/// needs; [`Rule::from`] makes it a setting of [`QuantConfig`](crate::QuantConfig).
pub trait GradientRule: CloneRule + fmt::Debug + Send + Sync + 'static {
    /// The rule and its settings as text, as recipes write it.
    fn name(&self) -> String;

    /// The clipping factor of this step, in (0, 1].
    fn gamma(&self) -> f32;

    /// Whether [`observe`](Self::observe) is to see this step's gradient. That costs a pass which writes it out.
    fn needs_gradient(&self) -> bool {
        false
    }

    /// Sees the gradient of this step before it is quantized: for a first gamma, or a search.
    fn observe(&mut self, _: &Observed<'_>) {}

    /// Moves gamma for the next step, given the share of this step's gradients outside the interval.
    fn update(&mut self, _outside: f64, _bits: u8) {}

    /// What the learning rate of the layer's weight is multiplied by in this step; asked for after `update`.
    fn lr_factor(&self) -> f32 {
        1.0
    }

    /// Every number that the next step depends on, as [`State::save`](fixnet_autograd::State::save).
    fn save(&self) -> Vec<(&'static str, Array)> {
        Vec::new()
    }

    /// Takes back what [`save`](Self::save) gave.
    ///
    /// # Errors
    /// An array is missing or has another form: the message says what was expected.
    fn load(&mut self, _: &mut dyn FnMut(&str) -> Option<Array>) -> std::result::Result<(), String> {
        Ok(())
    }
}

/// Cloning of a boxed rule; every rule that is `Clone` has it.
pub trait CloneRule {
    /// A clone in a box.
    fn boxed(&self) -> Box<dyn GradientRule>;
}

impl<T: GradientRule + Clone> CloneRule for T {
    fn boxed(&self) -> Box<dyn GradientRule> {
        Box::new(self.clone())
    }
}

/// Any [`GradientRule`] as a setting. The rules that come with fixnet are read from text:
///
/// ```
/// use fixnet_quant::Rule;
/// for text in ["lbt", "lbt:0.01:0.002", "min-max", "fixed:0.8", "mse", "mse:50", "dsgc", "dsgc:50"] {
///     assert_eq!(text.parse::<Rule>()?.to_string(), text);
/// }
/// # Ok::<(), fixnet_autograd::Error>(())
/// ```
pub struct Rule(pub(super) Box<dyn GradientRule>);

impl<T: GradientRule> From<T> for Rule {
    fn from(rule: T) -> Self {
        Self(Box::new(rule))
    }
}

impl Clone for Rule {
    fn clone(&self) -> Self {
        Self(self.0.boxed())
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name())
    }
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.0.name() == other.0.name()
    }
}

impl Rule {
    /// The gamma of a rule that has seen nothing but this gradient: that of its first step.
    pub fn first_gamma(&self, g: &Observed<'_>) -> f32 {
        let mut rule = self.0.boxed();
        if rule.needs_gradient() {
            rule.observe(g);
        }
        rule.gamma()
    }
}

/// A rule that text can name. [`register_rule`](super::register_rule) adds one of another crate.
#[derive(Debug, Clone, Copy)]
pub struct RuleKind {
    /// How it is written: its name, and the words that may follow behind colons, such as `mse[:EVERY]`.
    pub form: &'static str,
    /// Makes the rule from the words behind its name; `None` where they make no sense.
    pub parse: fn(&[&str]) -> Option<Rule>,
}
