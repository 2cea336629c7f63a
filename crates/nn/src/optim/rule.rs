//! Update rules: the direction h_t that an optimizer multiplies by its learning rate, `w <- w - rate · h`.
//!
//! A rule knows neither learning rates nor which parameters are quantized. So whoever chooses the rate turns any of
//! them into its transition-rate twin. Formulas are PyTorch's. The scalars of a step are computed in
//! f64; what happens to an element is f32 arithmetic in the order written here, one pass over a parameter.

use fixnet_autograd::{Error, Result};
use fixnet_tensor::{Tensor, map};
use rayon::prelude::*;
use std::fmt;
use std::str::FromStr;

/// An update rule with its settings. Below, `g` is the gradient, with the weight decay `g <- g + decay · w` except in
/// AdamW, and `t` counts steps from 1.
///
/// ```
/// use fixnet_nn::optim::UpdateRule;
/// assert_eq!("adam".parse::<UpdateRule>()?, UpdateRule::Adam { betas: [0.9, 0.999], eps: 1e-8 });
/// # Ok::<(), fixnet_autograd::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum UpdateRule {
    /// `v <- momentum · v + g`; `h = v`, or with Nesterov's momentum `h = g + momentum · v`.
    Sgd {
        /// Share of the old buffer.
        momentum: f64,
        /// Nesterov's momentum.
        nesterov: bool,
    },
    /// `m <- beta1 · m + (1 - beta1) · g`, `v <- beta2 · v + (1 - beta2) · g²`,
    /// `h = m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)`.
    Adam {
        /// beta1 and beta2.
        betas: [f64; 2],
        /// Keeps the divisor from 0.
        eps: f64,
    },
    /// Adam with decoupled weight decay: that of Adam, with no decay in `g`, plus `decay · w`.
    AdamW {
        /// beta1 and beta2.
        betas: [f64; 2],
        /// Keeps the divisor from 0.
        eps: f64,
    },
    /// Adam with Nesterov's momentum. With `mu_t = beta1 · (1 - 0.96^(t · momentum_decay) / 2)` and `P_t` the product of
    /// `mu_1` to `mu_t`: `h = ((1 - mu_t) / (1 - P_t) · g + mu_(t+1) / (1 - P_(t+1)) · m) / (sqrt(v / (1 - beta2^t)) + eps)`.
    NAdam {
        /// beta1 and beta2.
        betas: [f64; 2],
        /// Keeps the divisor from 0.
        eps: f64,
        /// How fast mu rises to beta1.
        momentum_decay: f64,
    },
    /// `m` as in Adam, `u <- max(beta2 · u, |g| + eps)`, `h = m / (1 - beta1^t) / u`.
    Adamax {
        /// beta1 and beta2.
        betas: [f64; 2],
        /// Keeps the divisor from 0.
        eps: f64,
    },
    /// `v <- alpha · v + (1 - alpha) · g²`, `h <- momentum · h + g / (sqrt(v) + eps)`.
    RmsProp {
        /// Share of the old mean square.
        alpha: f64,
        /// Keeps the divisor from 0.
        eps: f64,
        /// Share of the old direction.
        momentum: f64,
    },
    /// `v <- v + g²`, `h = g / (1 + (t - 1) · lr_decay) / (sqrt(v) + eps)`.
    Adagrad {
        /// Keeps the divisor from 0.
        eps: f64,
        /// How fast the learning rate falls.
        lr_decay: f64,
    },
}

/// The scalars of one step of one parameter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scalars {
    /// The learning rate.
    pub(super) rate: f32,
    /// The weight decay.
    pub(super) decay: f32,
    /// t, counted from 1.
    pub(super) t: u64,
    /// P_t of NAdam.
    pub(super) mu_product: f64,
}

impl UpdateRule {
    /// Every rule with its default settings: PyTorch's, but SGD has a momentum of 0.9.
    pub fn all() -> [Self; 7] {
        let (betas, eps) = ([0.9, 0.999], 1e-8);
        [
            Self::Sgd { momentum: 0.9, nesterov: false },
            Self::Adam { betas, eps },
            Self::AdamW { betas, eps },
            Self::NAdam { betas, eps, momentum_decay: 4e-3 },
            Self::Adamax { betas, eps },
            Self::RmsProp { alpha: 0.99, eps, momentum: 0.0 },
            Self::Adagrad { eps: 1e-10, lr_decay: 0.0 },
        ]
    }

    /// The name, as recipes write it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sgd { .. } => "sgd",
            Self::Adam { .. } => "adam",
            Self::AdamW { .. } => "adamw",
            Self::NAdam { .. } => "nadam",
            Self::Adamax { .. } => "adamax",
            Self::RmsProp { .. } => "rmsprop",
            Self::Adagrad { .. } => "adagrad",
        }
    }

    /// The usual learning rate: U_0 of the twin. For SGD, Adam and AdamW that of METHOD 3, else PyTorch's.
    pub fn usual_lr(&self) -> f64 {
        match self {
            Self::Sgd { .. } => 0.1,
            Self::Adam { .. } => 1e-3,
            Self::AdamW { .. } => 3e-4,
            Self::NAdam { .. } | Self::Adamax { .. } => 2e-3,
            Self::RmsProp { .. } | Self::Adagrad { .. } => 1e-2,
        }
    }

    /// The usual weight decay: PyTorch's, but 1e-4 for SGD.
    pub fn usual_weight_decay(&self) -> f64 {
        match self {
            Self::Sgd { .. } => 1e-4,
            Self::AdamW { .. } => 1e-2,
            _ => 0.0,
        }
    }

    /// Whether the settings are in their ranges.
    pub(super) fn check(&self) -> Result<()> {
        let share = |what: &'static str, v: f64| {
            if (0.0..1.0).contains(&v) { Ok(()) } else { Err(Error::setting(what, "at least 0 and below 1", v)) }
        };
        let positive = |eps: f64| {
            // As f32: what is added to a divisor must not vanish.
            if eps as f32 > 0.0 && eps.is_finite() { Ok(()) } else { Err(Error::setting("eps", "above 0 in f32", eps)) }
        };
        let at_least_0 = |what: &'static str, v: f64| {
            if v >= 0.0 && v.is_finite() { Ok(()) } else { Err(Error::setting(what, "at least 0", v)) }
        };
        match *self {
            Self::Sgd { momentum, nesterov } => {
                share("momentum", momentum)?;
                if nesterov && momentum == 0.0 {
                    return Err(Error::setting("momentum", "above 0, since nesterov is on", momentum));
                }
            }
            Self::Adam { betas, eps } | Self::AdamW { betas, eps } | Self::Adamax { betas, eps } => {
                betas.into_iter().try_for_each(|b| share("betas", b))?;
                positive(eps)?;
            }
            Self::NAdam { betas, eps, momentum_decay } => {
                betas.into_iter().try_for_each(|b| share("betas", b))?;
                positive(eps)?;
                at_least_0("momentum decay", momentum_decay)?;
            }
            Self::RmsProp { alpha, eps, momentum } => {
                share("alpha", alpha)?;
                positive(eps)?;
                share("momentum", momentum)?;
            }
            Self::Adagrad { eps, lr_decay } => {
                positive(eps)?;
                at_least_0("learning-rate decay", lr_decay)?;
            }
        }
        Ok(())
    }

    /// The buffers of a parameter by the keys of their state. SGD's key is of the time when there was no other rule.
    pub(super) fn buffers(&self) -> &'static [&'static str] {
        match *self {
            Self::Sgd { .. } => &["first"],
            Self::Adam { .. } => &["adam.exp_avg", "adam.exp_avg_sq"],
            Self::AdamW { .. } => &["adamw.exp_avg", "adamw.exp_avg_sq"],
            Self::NAdam { .. } => &["nadam.exp_avg", "nadam.exp_avg_sq"],
            Self::Adamax { .. } => &["adamax.exp_avg", "adamax.exp_inf"],
            Self::RmsProp { momentum: 0.0, .. } => &["rmsprop.square_avg"],
            Self::RmsProp { .. } => &["rmsprop.square_avg", "rmsprop.momentum_buffer"],
            Self::Adagrad { .. } => &["adagrad.sum"],
        }
    }

    /// mu_t of NAdam; 1 of other rules.
    pub(super) fn mu(&self, t: u64) -> f64 {
        match *self {
            Self::NAdam { betas, momentum_decay, .. } => {
                betas[0] * (1.0 - 0.5 * libm::pow(0.96, t as f64 * momentum_decay))
            }
            _ => 1.0,
        }
    }

    /// Moves `w` against the gradient `g`, and its buffers. Gives the largest magnitude in them, not finite if any
    /// is not.
    pub(super) fn update(&self, w: &mut [f32], g: &[f32], buffers: &mut [Tensor], scalars: Scalars) -> f32 {
        let Scalars { rate, decay, t, mu_product } = scalars;
        let l2 = move |g: f32, w: f32| g + decay * w;
        match *self {
            Self::Sgd { momentum, nesterov } => {
                let momentum = momentum as f32;
                if nesterov {
                    pass(w, g, buffers, rate, move |w, g, [v]: &mut [f32; 1]| {
                        let g = l2(g, w);
                        *v = momentum * *v + g;
                        g + momentum * *v
                    })
                } else {
                    pass(w, g, buffers, rate, move |w, g, [v]: &mut [f32; 1]| {
                        *v = momentum * *v + l2(g, w);
                        *v
                    })
                }
            }
            Self::Adam { betas, eps } => {
                let moments = Moments::new(betas, eps, t);
                pass(w, g, buffers, rate, move |w, g, mv| {
                    let root = moments.advance(l2(g, w), mv);
                    mv[0] * moments.unbias1 / root
                })
            }
            Self::AdamW { betas, eps } => {
                let moments = Moments::new(betas, eps, t);
                pass(w, g, buffers, rate, move |w, g, mv| {
                    let root = moments.advance(g, mv);
                    mv[0] * moments.unbias1 / root + decay * w
                })
            }
            Self::NAdam { betas, eps, .. } => {
                let moments = Moments::new(betas, eps, t);
                let (mu, next) = (self.mu(t), self.mu(t + 1));
                let of_g = ((1.0 - mu) / (1.0 - mu_product)) as f32;
                let of_m = (next / (1.0 - mu_product * next)) as f32;
                pass(w, g, buffers, rate, move |w, g, mv| {
                    let g = l2(g, w);
                    let root = moments.advance(g, mv);
                    (of_g * g + of_m * mv[0]) / root
                })
            }
            Self::Adamax { betas, eps } => {
                let Moments { beta1, rest1, beta2, unbias1, eps, .. } = Moments::new(betas, eps, t);
                pass(w, g, buffers, rate, move |w, g, [m, u]: &mut [f32; 2]| {
                    let g = l2(g, w);
                    *m = beta1 * *m + rest1 * g;
                    let (old, new) = (beta2 * *u, g.abs() + eps);
                    *u = if old > new { old } else { new };
                    *m * unbias1 / *u
                })
            }
            Self::RmsProp { alpha, eps, momentum } => {
                let (rest, alpha, eps) = ((1.0 - alpha) as f32, alpha as f32, eps as f32);
                let ratio = move |w: f32, g: f32, v: &mut f32| {
                    let g = l2(g, w);
                    *v = alpha * *v + rest * g * g;
                    g / (v.sqrt() + eps)
                };
                if momentum == 0.0 {
                    return pass(w, g, buffers, rate, move |w, g, [v]: &mut [f32; 1]| ratio(w, g, v));
                }
                let momentum = momentum as f32;
                pass(w, g, buffers, rate, move |w, g, [v, h]: &mut [f32; 2]| {
                    *h = momentum * *h + ratio(w, g, v);
                    *h
                })
            }
            Self::Adagrad { eps, lr_decay } => {
                let (fall, eps) = ((1.0 / (1.0 + (t - 1) as f64 * lr_decay)) as f32, eps as f32);
                pass(w, g, buffers, rate, move |w, g, [v]: &mut [f32; 1]| {
                    let g = l2(g, w);
                    *v += g * g;
                    fall * g / (v.sqrt() + eps)
                })
            }
        }
    }
}

impl fmt::Display for UpdateRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for UpdateRule {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        let all = Self::all();
        let names = || all.map(|rule| rule.name()).join(", ");
        all.into_iter().find(|rule| rule.name() == s).ok_or_else(|| Error::setting("update rule", names(), s))
    }
}

/// The two moments of Adam's family at step t.
#[derive(Clone, Copy)]
struct Moments {
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    /// 1 / (1 - beta1^t).
    unbias1: f32,
    /// 1 / sqrt(1 - beta2^t).
    unbias2: f32,
    eps: f32,
}

impl Moments {
    fn new([beta1, beta2]: [f64; 2], eps: f64, t: u64) -> Self {
        let unbias = |beta: f64| 1.0 / (1.0 - libm::pow(beta, t as f64));
        Self {
            beta1: beta1 as f32,
            rest1: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            rest2: (1.0 - beta2) as f32,
            unbias1: unbias(beta1) as f32,
            unbias2: unbias(beta2).sqrt() as f32,
            eps: eps as f32,
        }
    }

    /// Moves both moments, and gives the divisor.
    #[inline(always)]
    fn advance(&self, g: f32, [m, v]: &mut [f32; 2]) -> f32 {
        *m = self.beta1 * *m + self.rest1 * g;
        *v = self.beta2 * *v + self.rest2 * g * g;
        v.sqrt() * self.unbias2 + self.eps
    }
}

/// `w <- w - rate · direction(w, g, buffers)`, element by element: the only pass over a parameter, which gives the
/// largest magnitude in it and in its buffers along the way.
fn pass<const N: usize>(
    w: &mut [f32],
    g: &[f32],
    buffers: &mut [Tensor],
    rate: f32,
    direction: impl Fn(f32, f32, &mut [f32; N]) -> f32 + Sync,
) -> f32 {
    let body = |w: &mut [f32], g: &[f32], buffers: [&mut [f32]; N]| -> u32 {
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
        body(w, g, buffers)
    } else {
        let mut parts = buffers.each_mut().map(|b| b.chunks_mut(map::CHUNK));
        let tasks: Vec<_> = w
            .chunks_mut(map::CHUNK)
            .zip(g.chunks(map::CHUNK))
            .map(|(w, g)| (w, g, parts.each_mut().map(|p| p.next().unwrap_or_default())))
            .collect();
        // A maximum has no order.
        tasks.into_par_iter().map(|(w, g, buffers)| body(w, g, buffers)).max().unwrap_or(0)
    };
    f32::from_bits(top)
}
