//! Functions of one number, element by element: `exp`, `log`, `sqrt`, `sigmoid`, `tanh`, `gelu`, `leaky_relu`. The clamps,
//! which fuse with their neighbours, have a file of their own.
//!
//! The exponential and the normal distribution are those of [`math`], which run as vector instructions; the other transcendental
//! functions are those of the pinned `libm`. Each has the same bits on every machine.

use crate::deferred::{BLOCK, Scratch, block};
use crate::stored::{Settings, Stored};
use crate::{Backward, Cx, Grads, Graph, Operation, Result, Source, Var, exactly};
use fixnet_tensor::{Tensor, map, math};
use std::sync::Arc;

/// A function that is applied to each element.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Elementwise {
    /// `e^x`.
    Exp,
    /// The natural logarithm: of 0 it is negative infinity, of negative numbers not a number.
    Log,
    /// The square root: of negative numbers it is not a number.
    Sqrt,
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// `x · Φ(x)` with Φ the distribution function of the standard normal distribution, by the error function.
    Gelu,
    /// `x` where it is positive, else `slope · x`.
    LeakyRelu {
        /// The factor of numbers that are not positive.
        slope: f32,
    },
}

/// `x · Φ(x)` and its derivative, which share Φ(x) and the density.
#[inline(always)]
fn gelu(x: f32) -> (f32, f32) {
    /// The density of the standard normal distribution at 0.
    const DENSITY: f32 = 0.398_942_3;
    let (share, density) = math::normal(x);
    (x * share, share + x * DENSITY * density)
}

impl Elementwise {
    #[inline(always)]
    fn value(self, x: f32) -> f32 {
        match self {
            Self::Exp => math::exp(x),
            Self::Log => libm::logf(x),
            Self::Sqrt => x.sqrt(),
            Self::Sigmoid => 1.0 / (1.0 + math::exp(-x)),
            Self::Tanh => libm::tanhf(x),
            Self::Gelu => gelu(x).0,
            Self::LeakyRelu { slope } => {
                if x > 0.0 {
                    x
                } else {
                    slope * x
                }
            }
        }
    }

    /// The derivative at `x`, whose function value is `y`.
    fn derivative(self, x: f32, y: f32) -> f32 {
        match self {
            Self::Exp => y,
            Self::Log => 1.0 / x,
            Self::Sqrt => 0.5 / y,
            Self::Sigmoid => y * (1.0 - y),
            Self::Tanh => 1.0 - y * y,
            Self::Gelu => gelu(x).1,
            Self::LeakyRelu { slope } => {
                if x > 0.0 {
                    1.0
                } else {
                    slope
                }
            }
        }
    }

    /// Reads a leaky ReLU back.
    ///
    /// # Errors
    /// Its slope is missing or is not a number.
    pub(super) fn read_leaky_relu(stored: &Stored<'_>) -> Result<Arc<dyn Operation>> {
        let slope: Option<f32> = stored.setting("slope")?;
        let slope = slope.filter(|s| s.is_finite()).ok_or_else(|| stored.misfit("slope", "a number", "none"))?;
        Ok(Arc::new(Self::LeakyRelu { slope }))
    }
}

struct ElementwiseBackward {
    op: Elementwise,
    x: Tensor,
    y: Tensor,
}

impl Backward for ElementwiseBackward {
    fn name(&self) -> &'static str {
        self.op.kind()
    }
    fn backward(self: Box<Self>, mut grad: Tensor, _: &mut Cx<'_>) -> Result<Grads> {
        let Self { op, x, y } = *self;
        let mut slope = Tensor::take(x.shape());
        map::map2(x.data(), y.data(), slope.data_mut(), |&x, &y| op.derivative(x, y));
        map::update1(grad.data_mut(), slope.data(), |g, s| *g *= s);
        Ok(vec![Some(grad)])
    }
}

/// The derivative of a function whose slope was computed on the way forward, where it shares the costly part of the value.
struct SlopeBackward {
    op: Elementwise,
    slope: Tensor,
}

impl Backward for SlopeBackward {
    fn name(&self) -> &'static str {
        self.op.kind()
    }
    fn backward(self: Box<Self>, mut grad: Tensor, _: &mut Cx<'_>) -> Result<Grads> {
        map::update1(grad.data_mut(), self.slope.data(), |g, s| *g *= s);
        Ok(vec![Some(grad)])
    }
}

impl Operation for Elementwise {
    fn kind(&self) -> &'static str {
        match self {
            Self::Exp => "exp",
            Self::Log => "log",
            Self::Sqrt => "sqrt",
            Self::Sigmoid => "sigmoid",
            Self::Tanh => "tanh",
            Self::Gelu => "gelu",
            Self::LeakyRelu { .. } => "leaky_relu",
        }
    }
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x] = exactly(inputs)?;
        Ok(x.to_vec())
    }
    fn is_non_negative(&self, inputs: &[bool]) -> bool {
        match self {
            Self::Exp | Self::Sqrt | Self::Sigmoid => true,
            Self::Tanh | Self::Gelu | Self::LeakyRelu { .. } => inputs == [true],
            Self::Log => false,
        }
    }
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        let [x] = exactly(inputs)?;
        let op = *self;
        let mut out = Tensor::take(x.shape());
        if op == Self::Gelu && g.modes().record && g.source(x) != Source::Const {
            let mut slope = Tensor::take(x.shape());
            let value = x.value();
            map::chunks2(out.data_mut(), slope.data_mut(), |first, out, slope| {
                let mut scratch = Scratch::new();
                for (i, (out, slope)) in out.chunks_mut(BLOCK).zip(slope.chunks_mut(BLOCK)).enumerate() {
                    let first = first + i * BLOCK;
                    let x = block(value, first..first + out.len(), &mut scratch);
                    map::dispatch(
                        #[inline(always)]
                        || {
                            // A loop, since an adapter may be called as a function that is compiled without vectors.
                            for ((o, s), &x) in out.iter_mut().zip(slope).zip(x) {
                                (*o, *s) = gelu(x);
                            }
                        },
                    );
                }
            });
            return Ok(g.record(out, &[x], || SlopeBackward { op, slope }));
        }
        let t = x.tensor();
        map::map1(t.data(), out.data_mut(), |&x| op.value(x));
        let y = out.clone();
        Ok(g.record(out, &[x], || ElementwiseBackward { op, x: t, y }))
    }
    fn settings(&self) -> Settings {
        match self {
            Self::LeakyRelu { slope } => [("slope".into(), (*slope).into())].into_iter().collect(),
            _ => Settings::new(),
        }
    }
}

impl Graph<'_> {
    /// Computes `e^x`.
    ///
    /// # Errors
    /// None today; the result keeps the form of its siblings.
    pub fn exp(&mut self, x: &Var) -> Result<Var> {
        self.apply(Elementwise::Exp, &[x])
    }

    /// Computes the natural logarithm: of 0 it is negative infinity, of negative numbers not a number.
    ///
    /// # Errors
    /// As [`exp`](Self::exp).
    pub fn log(&mut self, x: &Var) -> Result<Var> {
        self.apply(Elementwise::Log, &[x])
    }

    /// Computes the square root: of negative numbers it is not a number. The derivative at 0 is infinite.
    ///
    /// # Errors
    /// As [`exp`](Self::exp).
    pub fn sqrt(&mut self, x: &Var) -> Result<Var> {
        self.apply(Elementwise::Sqrt, &[x])
    }

    /// Computes `1 / (1 + e^-x)`.
    ///
    /// # Errors
    /// As [`exp`](Self::exp).
    pub fn sigmoid(&mut self, x: &Var) -> Result<Var> {
        self.apply(Elementwise::Sigmoid, &[x])
    }

    /// Computes the hyperbolic tangent.
    ///
    /// # Errors
    /// As [`exp`](Self::exp).
    pub fn tanh(&mut self, x: &Var) -> Result<Var> {
        self.apply(Elementwise::Tanh, &[x])
    }

    /// Computes `x · Φ(x)`, with Φ the distribution function of the standard normal distribution (Hendrycks and Gimpel,
    /// 2016, in its exact form with the error function).
    ///
    /// # Errors
    /// As [`exp`](Self::exp).
    pub fn gelu(&mut self, x: &Var) -> Result<Var> {
        self.apply(Elementwise::Gelu, &[x])
    }

    /// Computes `x` where it is positive, else `slope · x`. The derivative at 0 is the slope.
    ///
    /// # Errors
    /// As [`exp`](Self::exp).
    pub fn leaky_relu(&mut self, x: &Var, slope: f32) -> Result<Var> {
        self.apply(Elementwise::LeakyRelu { slope }, &[x])
    }
}

#[cfg(test)]
mod tests {
    use super::Elementwise;
    use crate::check::{gradient_error, sample};
    use fixnet_tensor::Tensor;

    #[test]
    fn gradients_match_finite_differences() {
        let x = sample(&[4, 5], 1);
        let mut positive = x.clone();
        positive.data_mut().iter_mut().for_each(|v| *v += 2.0);
        for (op, x) in [
            (Elementwise::Exp, &x),
            (Elementwise::Log, &positive),
            (Elementwise::Sqrt, &positive),
            (Elementwise::Sigmoid, &x),
            (Elementwise::Tanh, &x),
            (Elementwise::Gelu, &x),
            (Elementwise::LeakyRelu { slope: 0.2 }, &x),
        ] {
            let error = gradient_error(std::slice::from_ref(x), 0.01, |g, v| g.apply(op, &[&v[0]])).unwrap();
            assert!(error < 1e-3, "{op:?}: {error}");
        }
    }

    #[test]
    fn values_at_known_points() {
        let close = |op: Elementwise, x: f32, y: f32| assert!((op.value(x) - y).abs() < 1e-6, "{op:?} {x}");
        close(Elementwise::Exp, 1.0, std::f32::consts::E);
        close(Elementwise::Log, std::f32::consts::E, 1.0);
        close(Elementwise::Sigmoid, 0.0, 0.5);
        close(Elementwise::Sigmoid, -200.0, 0.0);
        close(Elementwise::Tanh, 0.549_306_15, 0.5);
        // Φ(1) = 0.8413447.
        close(Elementwise::Gelu, 1.0, 0.841_344_7);
        close(Elementwise::LeakyRelu { slope: 0.1 }, -2.0, -0.2);
        assert!(Elementwise::Sqrt.value(-1.0).is_nan() && Elementwise::Log.value(0.0) == f32::NEG_INFINITY);
        assert!(Tensor::scalar(Elementwise::LeakyRelu { slope: 0.1 }.value(f32::NAN)).item().is_nan());
    }
}
