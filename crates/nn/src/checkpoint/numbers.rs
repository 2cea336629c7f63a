//! What the numbers of a file have to be before they are used: a NaN among the weights, a negative variance or a broken
//! moment of an optimizer would evaluate to something, and a resumed run would carry it on.

use super::{TensorEntry, TensorFile};
use crate::{Problem, Result};

/// What a number has to be, in words, and whether one is.
type Demand = (&'static str, fn(f32) -> bool);

const FINITE: Demand = ("a finite number", f32::is_finite);
const AT_LEAST_0: Demand = ("a finite number of at least 0", |v| v.is_finite() && v >= 0.0);
const ABOVE_0: Demand = ("a finite number above 0", |v| v.is_finite() && v > 0.0);
const SHARE: Demand = ("a number above 0 and up to 1", |v| v > 0.0 && v <= 1.0);

/// Keys of buffers that are sums or means of squares, or largest magnitudes.
const SQUARES: [&str; 5] = ["second", "exp_avg_sq", "exp_inf", "square_avg", "adagrad.sum"];

/// The key of the metadata by which a file is a packed network.
const PLAN: &str = "plan";

/// What the tensor called `name` has to hold. `own` says that fixnet wrote the file, or that it says to be a packed network:
/// other programs give other meanings to names.
fn demand(name: &str, own: bool) -> Demand {
    let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    match name.strip_prefix("optimizer.") {
        _ if ends(&[".running_var"]) => AT_LEAST_0,
        _ if !own => FINITE,
        Some(rest) if SQUARES.iter().any(|key| rest.contains(&format!("{key}."))) => AT_LEAST_0,
        Some(_) => FINITE,
        // Scales of inputs and outputs are 0 until a batch sets them.
        None if ends(&[".input.scale", ".output.scale", ".units", ".levels_a_unit", ".eps"]) => AT_LEAST_0,
        None if ends(&[".weight.scale"]) => ABOVE_0,
        None if ends(&[".gradient.gamma"]) => SHARE,
        None => FINITE,
    }
}

impl TensorFile {
    /// Looks at every float of the file.
    pub(super) fn check_numbers(&self) -> Result<()> {
        let own = self.header().checksum().is_some() || self.header().metadata.contains_key(PLAN);
        self.header().tensors.iter().try_for_each(|entry| self.check_tensor(entry, demand(&entry.name, own)))
    }

    fn check_tensor(&self, entry: &TensorEntry, (expected, right): Demand) -> Result<()> {
        let Some(mut values) = self.floats_of(entry) else { return Ok(()) };
        match values.by_ref().enumerate().find(|(_, v)| !right(*v)) {
            None => Ok(()),
            Some((at, found)) => Err(self.damaged(Problem::Number { name: entry.name.clone(), at, expected, found })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_numbers_have_to_be() {
        let words = |name: &str, own: bool| demand(name, own).0;
        for (name, expected) in [
            ("fc1.weight", FINITE.0),
            ("bn.running_mean", FINITE.0),
            ("bn.running_var", AT_LEAST_0.0),
            ("fc1.weight.scale", ABOVE_0.0),
            ("fc1.input.scale", AT_LEAST_0.0),
            ("fc1.gradient.gamma", SHARE.0),
            ("optimizer.first.fc1.weight", FINITE.0),
            ("optimizer.second.fc1.input.scale", AT_LEAST_0.0),
            ("optimizer.first.fc1.weight.scale", FINITE.0),
            ("optimizer.adam.exp_avg.fc1.weight", FINITE.0),
            ("optimizer.adam.exp_avg_sq.fc1.weight", AT_LEAST_0.0),
            ("optimizer.adamax.exp_inf.fc1.bias", AT_LEAST_0.0),
            ("optimizer.rmsprop.square_avg.fc1.bias", AT_LEAST_0.0),
            ("optimizer.adagrad.sum.fc1.bias", AT_LEAST_0.0),
        ] {
            assert_eq!(words(name, true), expected, "{name}");
        }
        assert_eq!((words("a.input.scale", false), words("bn.running_var", false)), (FINITE.0, AT_LEAST_0.0));
        let accepts = |demand: Demand, v: f32| (demand.1)(v);
        for demand in [FINITE, AT_LEAST_0, ABOVE_0, SHARE] {
            assert!(
                accepts(demand, 1.0)
                    && [f32::NAN, f32::INFINITY, f32::NEG_INFINITY].iter().all(|v| !accepts(demand, *v))
            );
        }
        assert!(
            accepts(FINITE, -1.0) && !accepts(AT_LEAST_0, -1.0) && accepts(AT_LEAST_0, 0.0) && !accepts(ABOVE_0, 0.0)
        );
        assert!(!accepts(SHARE, 1.5) && !accepts(SHARE, 0.0));
    }
}
