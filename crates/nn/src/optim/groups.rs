//! Groups of parameters: settings for those whose names match a pattern, and the norm to which gradients are clipped.

use fixnet_autograd::{Error, ParamId, Result, Store};
use fixnet_tensor::{Tensor, map, reduce};

/// Settings of the parameters whose names match a pattern. Of several groups that match a name, the first counts.
///
/// ```
/// use fixnet_nn::optim::ParamGroup;
/// // The first stage stays as it is, and biases learn at half the rate without decay.
/// let frozen = ParamGroup { frozen: true, ..ParamGroup::of("layer1.*") };
/// let biases = ParamGroup { lr_factor: 0.5, weight_decay: Some(0.0), ..ParamGroup::of("*.bias") };
/// assert!(frozen.matches("layer1.0.conv1.weight") && !frozen.matches("layer2.0.conv1.weight"));
/// assert!(biases.matches("classifier.bias"));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ParamGroup {
    /// The names, with `*` for any text.
    pub pattern: String,
    /// What the learning rate is multiplied by: of latent weights in a transition-rate twin their U_t.
    pub lr_factor: f64,
    /// The weight decay in place of that of all parameters; it counts for biases and normalizations too.
    pub weight_decay: Option<f64>,
    /// The largest norm of the gradients of this group together. A group without it is clipped with all others.
    pub clip_norm: Option<f64>,
    /// Whether the parameters stay as they are. Their gradients are dropped; see also
    /// [`Store::set_frozen`], which saves computing them.
    pub frozen: bool,
}

impl ParamGroup {
    /// Returns a group with the settings of all parameters.
    pub fn of(pattern: impl Into<String>) -> Self {
        Self { pattern: pattern.into(), lr_factor: 1.0, weight_decay: None, clip_norm: None, frozen: false }
    }

    /// Returns whether the pattern matches a name.
    pub fn matches(&self, name: &str) -> bool {
        let Some((first, rest)) = self.pattern.split_once('*') else { return name == self.pattern };
        let Some(mut name) = name.strip_prefix(first) else { return false };
        let parts: Vec<&str> = rest.split('*').collect();
        let (last, middle) = parts.split_last().expect("a split has a part");
        for part in middle {
            match name.find(part) {
                Some(at) => name = &name[at + part.len()..],
                None => return false,
            }
        }
        name.ends_with(last)
    }

    pub(super) fn check(&self) -> Result<()> {
        let not_negative = |what, v: f64| match (0.0..f64::INFINITY).contains(&v) {
            true => Ok(()),
            false => Err(Error::setting(what, "at least 0 and finite", v)),
        };
        not_negative("learning-rate factor of a group", self.lr_factor)?;
        self.weight_decay.map_or(Ok(()), |v| not_negative("weight decay of a group", v))?;
        self.clip_norm.map_or(Ok(()), check_norm)
    }
}

/// Checks a norm to which gradients are clipped.
pub(super) fn check_norm(norm: f64) -> Result<()> {
    match norm > 0.0 && norm < f64::INFINITY {
        true => Ok(()),
        false => Err(Error::setting("norm to which gradients are clipped", "above 0 and finite", norm)),
    }
}

/// The names of parameters that an error shows.
const SHOWN: usize = 6;

/// Returns the index of the group of each parameter.
///
/// # Errors
/// A pattern matches no parameter, as a misspelled one does; the message has some names that there are.
pub(super) fn assign(groups: &[ParamGroup], store: &Store) -> Result<Vec<Option<usize>>> {
    if let Some(odd) = groups.iter().find(|g| !store.params().iter().any(|p| g.matches(p.name()))) {
        let all = store.params().len();
        let mut names: Vec<&str> = store.params().iter().take(SHOWN).map(|p| p.name()).collect();
        if all > SHOWN {
            names.push("…");
        }
        let expected = format!("one that matches the name of a parameter ({all}: {})", names.join(", "));
        return Err(Error::setting("pattern of a group", expected, format!("`{}`, which matches none", odd.pattern)));
    }
    Ok(store.params().iter().map(|p| groups.iter().position(|g| g.matches(p.name()))).collect())
}

/// Returns the norm of gradients together: the root of the sum of squares, parameter by parameter in the order of the store,
/// each sum in its written order.
pub(super) fn norm(store: &Store, ids: &[ParamId]) -> f64 {
    let grads: Vec<&Tensor> = ids.iter().filter_map(|&id| store.grad(id)).collect();
    let top = grads.iter().map(|g| map::max_abs(g.data())).fold(0f32, f32::max);
    if top == 0.0 {
        return 0.0;
    }
    // Shares of the largest one, so that no square leaves the range of floats.
    let square = |g: &Tensor| reduce::sum_by(g.len(), |i| (g.data()[i] / top) * (g.data()[i] / top));
    f64::from(top) * grads.into_iter().map(square).fold(0f64, |sum, s| sum + s).sqrt()
}

/// Scales gradients so that their norm together is at most `limit`; returns the norm before.
pub(super) fn clip(store: &mut Store, ids: &[ParamId], limit: f64) -> f64 {
    let norm = norm(store, ids);
    if norm > limit {
        let factor = (limit / norm) as f32;
        for &id in ids {
            store.scale_grad(id, factor);
        }
    }
    norm
}
