//! Sums, differences, products and quotients, element by element, of values whose shapes broadcast: `add`, `sub`, `mul`,
//! `div`.

use super::axes::{broadcast, expand, reduce_to};
use crate::deferred::{BLOCK, Deferred, Lazy, Scratch, block};
use crate::{Backward, Cx, Grads, Graph, Operation, Result, Value, Var, exactly};
use fixnet_tensor::{Tensor, map};

/// The sum of two values of which one is not written out. Both are read for it, so it is kept once it is written.
struct DeferredSum(Value, Value);

impl Deferred for DeferredSum {
    fn shape(&self) -> &[usize] {
        self.0.shape()
    }
    fn fill(&self, first: usize, out: &mut [f32]) {
        let (mut of_x, mut of_y) = (Scratch::new(), Scratch::new());
        for (i, out) in out.chunks_mut(BLOCK).enumerate() {
            let range = first + i * BLOCK..first + i * BLOCK + out.len();
            let x = block(&self.0, range.clone(), &mut of_x);
            let y = block(&self.1, range, &mut of_y);
            map::map2(x, y, out, |x, y| x + y);
        }
    }
    fn size(&self) -> usize {
        self.0.size() + self.1.size()
    }
    fn keep(&self) -> bool {
        true
    }
    fn depth(&self) -> usize {
        1 + self.0.depth().max(self.1.depth())
    }
}

/// The derivative of a sum of values of one shape.
struct AddBackward;

impl Backward for AddBackward {
    fn name(&self) -> &'static str {
        "add"
    }
    fn backward(self: Box<Self>, grad: Tensor, cx: &mut Cx<'_>) -> Result<Grads> {
        Ok(vec![cx.needs(0).then(|| grad.clone()), cx.needs(1).then_some(grad)])
    }
}

/// The derivative of every operation here. The operands of sums and differences are kept as shapes alone.
struct ArithmeticBackward {
    op: Arithmetic,
    shapes: [Vec<usize>; 2],
    /// Both operands, of `mul` and `div`.
    operands: Option<[Tensor; 2]>,
}

impl Backward for ArithmeticBackward {
    fn name(&self) -> &'static str {
        self.op.kind()
    }
    fn backward(self: Box<Self>, grad: Tensor, cx: &mut Cx<'_>) -> Result<Grads> {
        let Self { op, shapes, operands } = *self;
        let shape = grad.shape().to_vec();
        let wide = |which: usize| operands.as_ref().map(|both| expand(&both[which], &shape));
        let with = |other: Option<Tensor>, f: fn(f32, f32) -> f32| match other {
            Some(other) => zip(&grad, &other, f),
            None => grad.clone(),
        };
        let dx = || match op {
            Arithmetic::Add | Arithmetic::Sub => grad.clone(),
            Arithmetic::Mul => with(wide(1), |g, y| g * y),
            Arithmetic::Div => with(wide(1), |g, y| g / y),
        };
        let dy = || match op {
            Arithmetic::Add => grad.clone(),
            Arithmetic::Sub => {
                let mut d = Tensor::take(&shape);
                map::map1(grad.data(), d.data_mut(), |g| -g);
                d
            }
            Arithmetic::Mul => with(wide(0), |g, x| g * x),
            // -g · x / y², as two quotients: y² leaves the range of floats before the result does.
            Arithmetic::Div => match (wide(0), wide(1)) {
                (Some(x), Some(y)) => zip(&zip(&grad, &y, |g, y| -g / y), &zip(&x, &y, |x, y| x / y), |a, b| a * b),
                _ => grad.clone(),
            },
        };
        Ok(vec![cx.needs(0).then(|| reduce_to(dx(), &shapes[0])), cx.needs(1).then(|| reduce_to(dy(), &shapes[1]))])
    }
}

fn zip(x: &Tensor, y: &Tensor, f: impl Fn(f32, f32) -> f32 + Sync) -> Tensor {
    let mut out = Tensor::take(x.shape());
    map::map2(x.data(), y.data(), out.data_mut(), |&x, &y| f(x, y));
    out
}

/// An operation on two values, element by element. Shapes broadcast by the rules of NumPy; the gradient of what was repeated
/// is the sum over the repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    /// `x + y`.
    Add,
    /// `x - y`.
    Sub,
    /// `x · y`.
    Mul,
    /// `x / y`.
    Div,
}

impl Operation for Arithmetic {
    fn kind(&self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Sub => "sub",
            Self::Mul => "mul",
            Self::Div => "div",
        }
    }
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x, y] = exactly(inputs)?;
        broadcast(self.kind(), x, y)
    }
    fn is_non_negative(&self, inputs: &[bool]) -> bool {
        *self != Self::Sub && inputs.iter().all(|&input| input)
    }
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        let [x, y] = exactly(inputs)?;
        let shape = broadcast(self.kind(), x.shape(), y.shape())?;
        let equal = x.shape() == y.shape();
        if *self == Self::Add && equal {
            return Ok(add_equal(g, x, y));
        }
        let [xt, yt] = [x.tensor(), y.tensor()];
        let (a, b) = (expand(&xt, &shape), expand(&yt, &shape));
        let out = match self {
            Self::Add => zip(&a, &b, |x, y| x + y),
            Self::Sub => zip(&a, &b, |x, y| x - y),
            Self::Mul => zip(&a, &b, |x, y| x * y),
            Self::Div => zip(&a, &b, |x, y| x / y),
        };
        let (op, shapes) = (*self, [x.shape().to_vec(), y.shape().to_vec()]);
        let keeps = matches!(self, Self::Mul | Self::Div);
        Ok(g.record(out, &[x, y], || ArithmeticBackward { op, shapes, operands: keeps.then_some([xt, yt]) }))
    }
}

/// The sum of values of one shape, which stays deferred if one of them is.
fn add_equal(g: &mut Graph<'_>, x: &Var, y: &Var) -> Var {
    if let (Value::Deferred(_), _) | (_, Value::Deferred(_)) = (x.value(), y.value()) {
        let sum = Lazy::new(DeferredSum(x.value().settled(), y.value().settled()));
        let inputs = vec![g.source(x), g.source(y)];
        return g.record_value(Value::Deferred(sum), inputs, || AddBackward);
    }
    let out = zip(&x.tensor(), &y.tensor(), |x, y| x + y);
    g.record(out, &[x, y], || AddBackward)
}

impl Graph<'_> {
    /// Computes `x + y`, element by element. Shapes broadcast by the rules of NumPy.
    ///
    /// # Errors
    /// The shapes do not broadcast; or a value is traced and the result would not have the axis of the batch first, as with
    /// a constant that has one number per image.
    pub fn add(&mut self, x: &Var, y: &Var) -> Result<Var> {
        self.apply(Arithmetic::Add, &[x, y])
    }

    /// Computes `x - y`, element by element. Shapes broadcast by the rules of NumPy.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn sub(&mut self, x: &Var, y: &Var) -> Result<Var> {
        self.apply(Arithmetic::Sub, &[x, y])
    }

    /// Computes `x · y`, element by element. Shapes broadcast by the rules of NumPy.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn mul(&mut self, x: &Var, y: &Var) -> Result<Var> {
        self.apply(Arithmetic::Mul, &[x, y])
    }

    /// Computes `x / y`, element by element, by the rules of IEEE 754: a quotient by zero is infinite or not a number. Shapes
    /// broadcast by the rules of NumPy.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn div(&mut self, x: &Var, y: &Var) -> Result<Var> {
        self.apply(Arithmetic::Div, &[x, y])
    }
}

#[cfg(test)]
mod tests {
    use super::Arithmetic;
    use crate::check::{gradient_error, sample};
    use crate::{Graph, Store};
    use fixnet_tensor::Tensor;

    /// A sum with a multiple of itself, over and over: 2^64 readings if each were computed anew from the first.
    #[test]
    fn long_chains_of_deferred_values_are_written_on_the_way() {
        let mut store = Store::seeded(0);
        let mut g = Graph::eval(&mut store);
        let mut x = g.input(Tensor::full(&[3], 1.0));
        for _ in 0..64 {
            let half = g.scale(&x, 0.5).unwrap();
            x = g.add(&x, &half).unwrap();
            x = g.relu(&x).unwrap();
            x = g.scale(&x, 0.5).unwrap();
        }
        assert!((x.tensor().data()[0] - 0.75f32.powi(64)).abs() < 1e-12);
        // A chain so long that computing through all of it would leave no stack.
        for _ in 0..200_000 {
            x = g.scale(&x, 1.0).unwrap();
        }
        assert!(x.tensor().data()[0] > 0.0);
    }

    /// Values of 1 to 3: quotients by them are tame.
    fn divisor(shape: &[usize]) -> Tensor {
        let mut t = sample(shape, 2);
        t.data_mut().iter_mut().for_each(|v| *v += 2.0);
        t
    }

    #[test]
    fn gradients_match_finite_differences() {
        for (a, b) in [
            (&[3, 4][..], &[3, 4][..]),
            (&[3, 4], &[4]),
            (&[3, 4], &[3, 1]),
            (&[2, 3, 4], &[2, 1, 4]),
            (&[4], &[2, 3, 4]),
            (&[2, 1], &[1, 3]),
            (&[3, 2], &[]),
        ] {
            for op in [Arithmetic::Add, Arithmetic::Sub, Arithmetic::Mul, Arithmetic::Div] {
                let error =
                    gradient_error(&[sample(a, 1), divisor(b)], 0.02, |g, v| g.apply(op, &[&v[0], &v[1]])).unwrap();
                assert!(error < 1e-3, "{op:?} {a:?} {b:?}: {error}");
            }
        }
    }

    #[test]
    fn gradients_of_a_value_used_twice_add_up() {
        let error = gradient_error(&[sample(&[6], 1)], 0.02, |g, v| {
            let square = g.mul(&v[0], &v[0])?;
            let cube = g.mul(&square, &v[0])?;
            g.add(&cube, &square)
        });
        assert!(error.unwrap() < 2e-3);
    }

    #[test]
    fn values_by_hand() {
        let mut store = Store::seeded(0);
        let mut g = Graph::eval(&mut store);
        let x = g.input(Tensor::from_vec(&[2, 2], vec![1.0, 2.0, 3.0, 4.0]).unwrap());
        let y = g.input(Tensor::from_vec(&[2], vec![2.0, 8.0]).unwrap());
        assert_eq!(g.sub(&x, &y).unwrap().tensor().data(), [-1.0, -6.0, 1.0, -4.0]);
        assert_eq!(g.div(&x, &y).unwrap().tensor().data(), [0.5, 0.25, 1.5, 0.5]);
        let odd = g.input(Tensor::zeros(&[3]));
        let e = g.mul(&x, &odd).unwrap_err().to_string();
        assert_eq!(e, "mul: expected shape that broadcasts with [2, 2], found [3]");
    }
}
