//! What a gradient rule is, and the list of those that text can name.

use super::{Dsgc, Fixed, Lbt, MinMax, Mse, Observed};
use fixnet_autograd::{Array, Error, Result};
use fixnet_tensor::Registry;
use std::fmt;
use std::str::FromStr;

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

impl Default for Rule {
    /// [`Lbt`] with its default settings.
    fn default() -> Self {
        Lbt::default().into()
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

/// A rule that text can name. [`register_rule`] adds one of another crate.
#[derive(Debug, Clone, Copy)]
pub struct RuleKind {
    /// How it is written: its name, and the words that may follow behind colons, such as `mse[:EVERY]`.
    pub form: &'static str,
    /// Makes the rule from the words behind its name; `None` where they make no sense.
    pub parse: fn(&[&str]) -> Option<Rule>,
}

static RULES: Registry<RuleKind> = Registry::new(&[
    RuleKind { form: "lbt[:ALPHA:BETA]", parse: |a| Lbt::parse(a).map(Rule::from) },
    RuleKind { form: "min-max", parse: |a| a.is_empty().then(|| MinMax.into()) },
    RuleKind { form: "fixed:GAMMA", parse: |a| Fixed::parse(a).map(Rule::from) },
    RuleKind { form: "mse[:EVERY]", parse: |a| Mse::parse(a).map(Rule::from) },
    RuleKind { form: "dsgc[:EVERY]", parse: |a| Dsgc::parse(a).map(Rule::from) },
]);

/// Adds a gradient rule to those that recipes and the command can name.
///
/// ```
/// use fixnet_quant::{GradientRule, Rule, RuleKind, register_rule};
///
/// /// Clips half of the range, always.
/// #[derive(Debug, Clone)]
/// struct Half;
///
/// impl GradientRule for Half {
///     fn name(&self) -> String {
///         "half".into()
///     }
///     fn gamma(&self) -> f32 {
///         0.5
///     }
/// }
///
/// register_rule(RuleKind { form: "half", parse: |words| words.is_empty().then(|| Half.into()) });
/// assert_eq!("half".parse::<Rule>()?.to_string(), "half");
/// # Ok::<(), fixnet_autograd::Error>(())
/// ```
pub fn register_rule(kind: RuleKind) {
    RULES.add(kind);
}

/// Returns all rules that text can name, the latest registered first.
pub fn rules() -> Vec<RuleKind> {
    RULES.all()
}

impl FromStr for Rule {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        let words: Vec<&str> = s.split(':').collect();
        let named = |kind: &RuleKind| kind.form.split(['[', ':']).next() == Some(words[0]);
        RULES.find(named).and_then(|kind| (kind.parse)(&words[1..])).ok_or_else(|| {
            let forms = RULES.all().iter().map(|kind| kind.form).collect::<Vec<_>>().join(", ");
            Error::setting(
                "gradient rule",
                format!("{forms} (numbers in (0, 1], BETA at least 1e-6, EVERY in steps)"),
                s,
            )
        })
    }
}
