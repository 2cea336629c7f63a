//! Update rules: the direction h_t that an optimizer multiplies by its learning rate, `w <- w - rate · h`.
//!
//! A rule knows neither learning rates nor which parameters are quantized. So whoever chooses the rate turns any of
//! them into its transition-rate twin. Formulas are PyTorch's. The scalars of a step are computed in
//! f64; what happens to an element is f32 arithmetic in the order written here, one pass over a parameter. Each rule is a
//! file of this folder and a row of the list here.

mod adagrad;
mod adam;
mod adamax;
mod nadam;
mod rmsprop;
mod sgd;

pub use adagrad::Adagrad;
pub use adam::{Adam, AdamW};
pub use adamax::Adamax;
pub use nadam::NAdam;
pub use rmsprop::RmsProp;
pub use sgd::Sgd;

use fixnet_autograd::{Array, Error, Result};
use fixnet_tensor::{Registry, Tensor, map};
use rayon::prelude::*;
use std::fmt;
use std::str::FromStr;

const BETAS: [f64; 2] = [0.9, 0.999];
const EPS: f64 = 1e-8;

/// An update rule: its settings, and what it keeps between steps beside the buffers of each parameter.
///
/// Of the formulas of the rules, `g` is the gradient, with the weight decay `g <- g + decay · w` except in [`AdamW`], and `t`
/// counts steps from 1. A rule of one's own implements what has no default here and its settings; [`register_update_rule`]
/// gives it a name in recipes.
///
/// ```
/// use fixnet_autograd::Result;
/// use fixnet_nn::optim::{OptimizerConfig, Scalars, Setting, UpdateRule, pass, register_update_rule};
/// use fixnet_tensor::Tensor;
///
/// /// The sign of the momentum (Chen et al. 2023, "Symbolic discovery of optimization algorithms").
/// #[derive(Debug, Clone)]
/// struct Lion {
///     betas: [f64; 2],
/// }
///
/// impl UpdateRule for Lion {
///     fn name(&self) -> &'static str {
///         "lion"
///     }
///     fn settings(&mut self) -> Vec<(&'static str, Setting<'_>)> {
///         vec![("betas", Setting::Pair(&mut self.betas))]
///     }
///     fn usual_lr(&self) -> f64 {
///         1e-4
///     }
///     fn buffers(&self) -> &'static [&'static str] {
///         &["lion.exp_avg"]
///     }
///     fn update(&self, w: &mut [f32], g: &[f32], buffers: &mut [Tensor], s: Scalars) -> f32 {
///         let [beta1, beta2] = self.betas.map(|beta| beta as f32);
///         pass(w, g, buffers, s.rate, move |w, g, [m]: &mut [f32; 1]| {
///             let h = (beta1 * *m + (1.0 - beta1) * g).signum();
///             *m = beta2 * *m + (1.0 - beta2) * g;
///             h + s.decay * w
///         })
///     }
/// }
///
/// register_update_rule(|| Box::new(Lion { betas: [0.9, 0.99] }));
/// let config: OptimizerConfig = "liont".parse()?; // Its transition-rate twin.
/// assert_eq!((config.rule.name(), config.lr, config.transition.is_some()), ("lion", 1e-4, true));
/// # Result::<()>::Ok(())
/// ```
pub trait UpdateRule: CloneUpdateRule + fmt::Debug + Send + Sync + 'static {
    /// The name, as recipes write it.
    fn name(&self) -> &'static str;

    /// The settings by their keys in the table `[optimizer]` of a recipe, to be read or written.
    fn settings(&mut self) -> Vec<(&'static str, Setting<'_>)>;

    /// The usual learning rate: U_0 of the twin.
    fn usual_lr(&self) -> f64;

    /// The usual weight decay.
    fn usual_weight_decay(&self) -> f64 {
        0.0
    }

    /// Checks that the settings are in their ranges.
    ///
    /// # Errors
    /// One is not.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// The buffers of a parameter by the keys of their state; at least one. They begin as zeros.
    fn buffers(&self) -> &'static [&'static str];

    /// Begins step `t`, before parameters are moved.
    fn advance(&mut self, _t: u64) {}

    /// Moves `w` against the gradient `g`, and its buffers, as [`pass`] does. Returns the largest magnitude in them, not finite
    /// if any is not.
    fn update(&self, w: &mut [f32], g: &[f32], buffers: &mut [Tensor], scalars: Scalars) -> f32;

    /// Every number that the next step depends on beside the buffers.
    fn save(&self) -> Vec<(&'static str, Array)> {
        Vec::new()
    }

    /// Takes back what [`save`](Self::save) gave.
    ///
    /// # Errors
    /// An array is missing or has another form: the message says what was expected. The rule is then unchanged.
    fn load(&mut self, _get: &mut dyn FnMut(&str) -> Option<Array>) -> std::result::Result<(), String> {
        Ok(())
    }
}

/// A setting of an update rule, in its place.
#[derive(Debug, PartialEq)]
#[non_exhaustive]
pub enum Setting<'a> {
    /// A number.
    Number(&'a mut f64),
    /// Two numbers.
    Pair(&'a mut [f64; 2]),
    /// On or off.
    Flag(&'a mut bool),
}

/// The scalars of one step of one parameter.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Scalars {
    /// The learning rate.
    pub rate: f32,
    /// The weight decay.
    pub decay: f32,
    /// t, counted from 1.
    pub t: u64,
}

impl Scalars {
    pub(super) fn new(rate: f32, decay: f32, t: u64) -> Self {
        Self { rate, decay, t }
    }

    /// Returns the gradient with the weight decay, `g + decay · w`.
    #[inline(always)]
    pub fn decayed(self, g: f32, w: f32) -> f32 {
        g + self.decay * w
    }
}

/// Cloning of a boxed rule; every rule that is `Clone` has it.
pub trait CloneUpdateRule {
    /// Returns a clone in a box.
    fn boxed(&self) -> Box<dyn UpdateRule>;
}

impl<T: UpdateRule + Clone> CloneUpdateRule for T {
    fn boxed(&self) -> Box<dyn UpdateRule> {
        Box::new(self.clone())
    }
}

impl Clone for Box<dyn UpdateRule> {
    fn clone(&self) -> Self {
        (**self).boxed()
    }
}

/// The name.
impl fmt::Display for dyn UpdateRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Rules are equal if their names and settings are, whatever they keep between steps.
impl PartialEq for dyn UpdateRule {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name() && self.boxed().settings() == other.boxed().settings()
    }
}

/// What `derive(PartialEq)` needs to compare boxed rules without moving them.
impl PartialEq<&Self> for Box<dyn UpdateRule> {
    fn eq(&self, other: &&Self) -> bool {
        **self == ***other
    }
}

impl<T: UpdateRule> From<T> for Box<dyn UpdateRule> {
    fn from(rule: T) -> Self {
        Box::new(rule)
    }
}

/// Makes an update rule with its default settings.
type Make = fn() -> Box<dyn UpdateRule>;

/// The defaults are PyTorch's, but SGD has a momentum of 0.9.
static RULES: Registry<Make> = Registry::new(&[
    || Box::new(Sgd::default()),
    || Box::new(Adam::default()),
    || Box::new(AdamW::default()),
    || Box::new(NAdam::default()),
    || Box::new(Adamax::default()),
    || Box::new(RmsProp::default()),
    || Box::new(Adagrad::default()),
]);

/// Adds an update rule to those that recipes and the command can name; `make` makes it with its default settings.
pub fn register_update_rule(make: fn() -> Box<dyn UpdateRule>) {
    RULES.add(make);
}

/// Returns every update rule with its default settings.
///
/// ```
/// use fixnet_nn::optim::update_rules;
/// assert_eq!(update_rules()[0].name(), "sgd");
/// ```
pub fn update_rules() -> Vec<Box<dyn UpdateRule>> {
    RULES.all().into_iter().map(|make| make()).collect()
}

impl FromStr for Box<dyn UpdateRule> {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        let mut all = update_rules();
        let names = || update_rules().iter().map(|rule| rule.name()).collect::<Vec<_>>().join(", ");
        match all.iter().position(|rule| rule.name() == s) {
            Some(at) => Ok(all.swap_remove(at)),
            None => Err(Error::setting("update rule", names(), s)),
        }
    }
}

fn share(what: &'static str, v: f64) -> Result<()> {
    if (0.0..1.0).contains(&v) { Ok(()) } else { Err(Error::setting(what, "at least 0 and below 1", v)) }
}

fn check_eps(eps: f64) -> Result<()> {
    // As f32: what is added to a divisor must not vanish.
    if eps as f32 > 0.0 && eps.is_finite() { Ok(()) } else { Err(Error::setting("eps", "above 0 in f32", eps)) }
}

fn at_least_0(what: &'static str, v: f64) -> Result<()> {
    if v >= 0.0 && v.is_finite() { Ok(()) } else { Err(Error::setting(what, "at least 0", v)) }
}

fn check_moments(betas: [f64; 2], eps: f64) -> Result<()> {
    betas.into_iter().try_for_each(|beta| share("betas", beta))?;
    check_eps(eps)
}

/// Moves each element, `w <- w - rate · direction(w, g, buffers)`: the only pass over a parameter. Returns the largest
/// magnitude in it and in its buffers, not finite if any is not. `N` is the number of buffers.
///
/// # Panics
/// There are fewer than `N` buffers, or their lengths are not that of `w`.
pub fn pass<const N: usize>(
    w: &mut [f32],
    g: &[f32],
    buffers: &mut [Tensor],
    rate: f32,
    direction: impl Fn(f32, f32, &mut [f32; N]) -> f32 + Sync,
) -> f32 {
    let body = |(w, g, buffers): Chunk<'_, N>| -> u32 {
        map::dispatch(
            #[inline(always)]
            || {
                let n = w.len();
                let (g, buffers) = (&g[..n], buffers.map(|b| &mut b[..n]));
                let mut top = 0;
                for i in 0..n {
                    let mut state = std::array::from_fn(|k| buffers[k][i]);
                    w[i] -= rate * direction(w[i], g[i], &mut state);
                    top = top.max(w[i].to_bits() & 0x7fff_ffff);
                    for k in 0..N {
                        buffers[k][i] = state[k];
                        // A second moment that overflows would hold the parameter where it is for good.
                        top = top.max(state[k].to_bits() & 0x7fff_ffff);
                    }
                }
                top
            },
        )
    };
    let mut buffers = buffers.iter_mut();
    let mut buffers: [&mut [f32]; N] =
        std::array::from_fn(|_| buffers.next().expect("a buffer for each key").data_mut());
    let top = if w.len() <= map::CHUNK {
        body((w, g, buffers))
    } else {
        let mut parts = buffers.each_mut().map(|b| b.chunks_mut(map::CHUNK));
        let tasks: Vec<_> = w
            .chunks_mut(map::CHUNK)
            .zip(g.chunks(map::CHUNK))
            .map(|(w, g)| (w, g, parts.each_mut().map(|p| p.next().unwrap_or_default())))
            .collect();
        largest(tasks, &body)
    };
    f32::from_bits(top)
}

/// A part of a parameter, of its gradient and of its buffers.
type Chunk<'a, const N: usize> = (&'a mut [f32], &'a [f32], [&'a mut [f32]; N]);

/// The largest number that `body` gives: a maximum has no order. Not generic over `body`, as each rule has its own.
fn largest<'a, const N: usize>(tasks: Vec<Chunk<'a, N>>, body: &(dyn Fn(Chunk<'a, N>) -> u32 + Sync)) -> u32 {
    tasks.into_par_iter().map(body).max().unwrap_or(0)
}
