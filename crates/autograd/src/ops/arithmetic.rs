//! Sums and products: `add`, `mul`, `add_bias`, `matmul`, `linear`.

use super::batch_norm::Affine;
use crate::deferred::{BLOCK, Deferred, Gradient, Lazy, Scratch, block};
use crate::{Backward, Cx, Grads, Graph, Result, Value, Var};
use fixnet_tensor::{Error, Tensor, float, map, reduce};

struct Add;

impl Backward for Add {
    fn name(&self) -> &'static str {
        "add"
    }
    fn backward(self: Box<Self>, grad: Tensor, cx: &mut Cx<'_>) -> Result<Grads> {
        Ok(vec![cx.needs(0).then(|| grad.clone()), cx.needs(1).then_some(grad)])
    }
}

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
}

struct Mul {
    x: Tensor,
    y: Tensor,
}

impl Backward for Mul {
    fn name(&self) -> &'static str {
        "mul"
    }
    fn backward(self: Box<Self>, grad: Tensor, cx: &mut Cx<'_>) -> Result<Grads> {
        let times = |other: &Tensor| {
            let mut d = Tensor::take(grad.shape());
            map::map2(grad.data(), other.data(), d.data_mut(), |g, o| g * o);
            d
        };
        Ok(vec![cx.needs(0).then(|| times(&self.y)), cx.needs(1).then(|| times(&self.x))])
    }
}

struct AddBias;

impl Backward for AddBias {
    fn name(&self) -> &'static str {
        "add_bias"
    }
    fn backward(self: Box<Self>, grad: Tensor, cx: &mut Cx<'_>) -> Result<Grads> {
        let grads = self.backward_deferred(grad.into(), cx)?;
        Ok(grads.into_iter().map(|g| g.map(|g| g.into_tensor(cx.store))).collect())
    }
    fn backward_deferred(self: Box<Self>, grad: Gradient, cx: &mut Cx<'_>) -> Result<Vec<Option<Gradient>>> {
        let dy = grad.source(cx.store);
        let columns = *dy.grad.shape().last().expect("checked when recorded");
        let span = reduce::span(columns);
        let sums = dy.sums(span, 0, cx.store, |dy, _, sums| {
            map::dispatch(
                #[inline(always)]
                || {
                    for dy in dy.chunks(span) {
                        sums.iter_mut().zip(dy).for_each(|(s, dy)| *s += dy);
                    }
                },
            );
        });
        let sums = reduce::fold_span(&sums[..span], columns).iter().map(|&s| s as f32).collect();
        let sums = Tensor::from_vec(&[columns], sums).expect("one sum a column");
        Ok(vec![Some(Gradient::Deferred(dy.grad)), Some(sums.into())])
    }
}

struct Matmul {
    a: Tensor,
    b: Tensor,
}

impl Backward for Matmul {
    fn name(&self) -> &'static str {
        "matmul"
    }
    fn backward(self: Box<Self>, grad: Tensor, cx: &mut Cx<'_>) -> Result<Grads> {
        // dA = G B^T is the product that `linear` takes; dB = A^T G is its weight gradient the other way round.
        let da = if cx.needs(0) { Some(float::linear(&grad, &self.b)?) } else { None };
        let db = if cx.needs(1) { Some(float::linear_weight_grad(&grad, &self.a)?) } else { None };
        Ok(vec![da, db])
    }
}

struct Linear {
    x: Tensor,
    w: Tensor,
}

impl Backward for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }
    fn backward(self: Box<Self>, grad: Tensor, cx: &mut Cx<'_>) -> Result<Grads> {
        let dx = if cx.needs(0) { Some(float::linear_input_grad(&grad, &self.w)?) } else { None };
        let dw = if cx.needs(1) { Some(float::linear_weight_grad(&self.x, &grad)?) } else { None };
        Ok(vec![dx, dw])
    }
}

fn same_shape(op: &'static str, x: &Var, y: &Var) -> Result<()> {
    if x.shape() == y.shape() { Ok(()) } else { Err(Error::shape(op, format!("{:?}", x.shape()), y.shape()).into()) }
}

impl Graph<'_> {
    /// `x + y` for equal shapes.
    ///
    /// # Errors
    /// The shapes differ.
    pub fn add(&mut self, x: &Var, y: &Var) -> Result<Var> {
        same_shape("add", x, y)?;
        if let (Value::Deferred(_), _) | (_, Value::Deferred(_)) = (x.value(), y.value()) {
            let sum = Lazy::new(DeferredSum(x.value().clone(), y.value().clone()));
            let inputs = vec![self.source(x), self.source(y)];
            return Ok(self.record_value(Value::Deferred(sum), inputs, || Add));
        }
        let mut out = Tensor::take(x.shape());
        map::map2(x.tensor().data(), y.tensor().data(), out.data_mut(), |x, y| x + y);
        Ok(self.record(out, &[x, y], || Add))
    }

    /// `x · y`, element by element, for equal shapes.
    ///
    /// # Errors
    /// The shapes differ.
    pub fn mul(&mut self, x: &Var, y: &Var) -> Result<Var> {
        same_shape("mul", x, y)?;
        let (xt, yt) = (x.tensor(), y.tensor());
        let mut out = Tensor::take(x.shape());
        map::map2(xt.data(), yt.data(), out.data_mut(), |x, y| x * y);
        Ok(self.record(out, &[x, y], || Mul { x: xt, y: yt }))
    }

    /// `x + bias`, the bias added to every row of the last axis. Shapes: x `[.., C]`, bias `[C]`.
    ///
    /// # Errors
    /// The last axis of x is not the length of the bias.
    pub fn add_bias(&mut self, x: &Var, bias: &Var) -> Result<Var> {
        let columns = bias.shape().iter().product::<usize>();
        if x.shape().last() != Some(&columns) || bias.shape().len() != 1 {
            return Err(Error::shape("add_bias", format!("a last axis of {:?}", bias.shape()), x.shape()).into());
        }
        let out = Value::Deferred(Lazy::new(Affine::offset(x, bias.tensor().data())));
        let inputs = vec![self.source(x), self.source(bias)];
        Ok(self.record_value(out, inputs, || AddBias))
    }

    /// The matrix product [M, K] x [K, N] in floats.
    ///
    /// # Errors
    /// The operands are not matrices or the inner lengths differ.
    pub fn matmul(&mut self, a: &Var, b: &Var) -> Result<Var> {
        let (at, bt) = (a.tensor(), b.tensor());
        let out = float::matmul(&at, &bt)?;
        Ok(self.record(out, &[a, b], || Matmul { a: at, b: bt }))
    }

    /// `x · w^T` in floats. Shapes: x [N, I], w [O, I] to [N, O].
    ///
    /// # Errors
    /// The operands are not matrices or I differs.
    pub fn linear(&mut self, x: &Var, w: &Var) -> Result<Var> {
        let (xt, wt) = (x.tensor(), w.tensor());
        let out = float::linear(&xt, &wt)?;
        Ok(self.record(out, &[x, w], || Linear { x: xt, w: wt }))
    }
}

#[cfg(test)]
mod tests {
    use crate::check::{gradient_error, sample};

    #[test]
    fn gradients_match_finite_differences() {
        let (x, y) = (sample(&[3, 4], 1), sample(&[3, 4], 2));
        assert!(gradient_error(&[x.clone(), y.clone()], 0.05, |g, v| g.add(&v[0], &v[1])).unwrap() < 1e-3);
        assert!(gradient_error(&[x.clone(), y.clone()], 0.05, |g, v| g.mul(&v[0], &v[1])).unwrap() < 1e-3);
        assert!(gradient_error(&[x.clone(), sample(&[4], 3)], 0.05, |g, v| g.add_bias(&v[0], &v[1])).unwrap() < 1e-3);
        assert!(gradient_error(&[x.clone(), sample(&[4, 5], 3)], 0.05, |g, v| g.matmul(&v[0], &v[1])).unwrap() < 1e-3);
        assert!(gradient_error(&[x, sample(&[5, 4], 3)], 0.05, |g, v| g.linear(&v[0], &v[1])).unwrap() < 1e-3);
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
}
