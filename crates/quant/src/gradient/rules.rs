//! The gradient rules that text can name: one list, to which programs add their own.

use super::{Dsgc, Fixed, Lbt, MinMax, Mse, Rule, RuleKind};
use fixnet_autograd::{Error, Result};
use fixnet_tensor::Registry;
use std::str::FromStr;

impl Default for Rule {
    /// [`Lbt`] with its default settings.
    fn default() -> Self {
        Lbt::default().into()
    }
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
