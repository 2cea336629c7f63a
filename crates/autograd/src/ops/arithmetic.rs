//! Sums and products: `add`, `mul`, `add_bias`, `matmul`, `linear`.

use super::batch_norm::Affine;
use super::check_bias;
use crate::deferred::{BLOCK, Deferred, Lazy, Scratch, block};
use crate::gradient::Gradient;
use crate::stored::Parameter;
use crate::{Backward, Cx, Grads, Graph, Operation, Result, Value, Var, exactly};
use fixnet_tensor::{Error, Tensor, float, map, reduce};

struct AddBackward;

impl Backward for AddBackward {
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

struct MulBackward {
    x: Tensor,
    y: Tensor,
}

impl Backward for MulBackward {
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

struct AddBiasBackward;

impl Backward for AddBiasBackward {
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

struct MatmulBackward {
    a: Tensor,
    b: Tensor,
}

impl Backward for MatmulBackward {
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

struct LinearBackward {
    x: Tensor,
    w: Tensor,
}

impl Backward for LinearBackward {
    fn name(&self) -> &'static str {
        "linear"
    }
    fn backward(self: Box<Self>, grad: Tensor, cx: &mut Cx<'_>) -> Result<Grads> {
        let dx = if cx.needs(0) { Some(float::linear_input_grad(&grad, &self.w)?) } else { None };
        let dw = if cx.needs(1) { Some(float::linear_weight_grad(&self.x, &grad)?) } else { None };
        Ok(vec![dx, dw])
    }
}

fn same_shape(op: &'static str, x: &[usize], y: &[usize]) -> Result<()> {
    if x == y { Ok(()) } else { Err(Error::shape(op, format!("{x:?}"), y).into()) }
}

/// `x + y`.
#[derive(Debug, Clone, Copy)]
pub struct Add;

impl Operation for Add {
    fn kind(&self) -> &'static str {
        "add"
    }
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x, y] = exactly(inputs)?;
        same_shape("add", x, y)?;
        Ok(x.to_vec())
    }
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        let [x, y] = exactly(inputs)?;
        same_shape("add", x.shape(), y.shape())?;
        if let (Value::Deferred(_), _) | (_, Value::Deferred(_)) = (x.value(), y.value()) {
            let sum = Lazy::new(DeferredSum(x.value().clone(), y.value().clone()));
            let inputs = vec![g.source(x), g.source(y)];
            return Ok(g.record_value(Value::Deferred(sum), inputs, || AddBackward));
        }
        let mut out = Tensor::take(x.shape());
        map::map2(x.tensor().data(), y.tensor().data(), out.data_mut(), |x, y| x + y);
        Ok(g.record(out, &[x, y], || AddBackward))
    }
}

/// `x · y`, element by element.
#[derive(Debug, Clone, Copy)]
pub struct Mul;

impl Operation for Mul {
    fn kind(&self) -> &'static str {
        "mul"
    }
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x, y] = exactly(inputs)?;
        same_shape("mul", x, y)?;
        Ok(x.to_vec())
    }
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        let [x, y] = exactly(inputs)?;
        same_shape("mul", x.shape(), y.shape())?;
        let (xt, yt) = (x.tensor(), y.tensor());
        let mut out = Tensor::take(x.shape());
        map::map2(xt.data(), yt.data(), out.data_mut(), |x, y| x * y);
        Ok(g.record(out, &[x, y], || MulBackward { x: xt, y: yt }))
    }
}

/// `x + bias`, the bias added to every row of the last axis.
#[derive(Debug, Clone, Copy)]
pub struct AddBias;

impl Operation for AddBias {
    fn kind(&self) -> &'static str {
        "add_bias"
    }
    fn operand(&self, index: usize) -> String {
        if index == 1 { "bias".into() } else { "input".into() }
    }
    fn is_batched(&self, index: usize) -> bool {
        index == 0
    }
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x, bias] = exactly(inputs)?;
        if bias.len() != 1 || x.last() != bias.first() {
            return Err(Error::shape("add_bias", format!("a last axis of {bias:?}"), x).into());
        }
        Ok(x.to_vec())
    }
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        let [x, bias] = exactly(inputs)?;
        self.output_shape(&[x.shape(), bias.shape()])?;
        let out = Value::Deferred(Lazy::new(Affine::offset(x, bias.tensor().data())));
        let inputs = vec![g.source(x), g.source(bias)];
        Ok(g.record_value(out, inputs, || AddBiasBackward))
    }
}

/// The matrix product [M, K] x [K, N] in floats. In a trace the rows of the first operand are the batch.
#[derive(Debug, Clone, Copy)]
pub struct Matmul;

impl Operation for Matmul {
    fn kind(&self) -> &'static str {
        "matmul"
    }
    fn operand(&self, index: usize) -> String {
        if index == 1 { "weight".into() } else { "input".into() }
    }
    fn is_batched(&self, index: usize) -> bool {
        index == 0
    }
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        match exactly(inputs)? {
            [&[m, k], &[inner, n]] if k == inner => Ok(vec![m, n]),
            [a, b] => Err(Error::shape("matmul", format!("[M, K] for the second operand {b:?}, [K, N]"), a).into()),
        }
    }
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        let [a, b] = exactly(inputs)?;
        let (at, bt) = (a.tensor(), b.tensor());
        let out = float::matmul(&at, &bt)?;
        Ok(g.record(out, &[a, b], || MatmulBackward { a: at, b: bt }))
    }
    fn precision(&self) -> Option<String> {
        Some("32/32/32".into())
    }
    fn macs(&self, parameters: &[Parameter], output: &[usize]) -> u64 {
        super::macs(parameters, output)
    }
}

/// `x · w^T`, and perhaps a bias: x [N, I], w [O, I] and bias [O] to [N, O].
#[derive(Debug, Clone, Copy)]
pub struct Linear;

impl Linear {
    /// Infers the output shape for a weight of the shape `weight`.
    ///
    /// # Errors
    /// The sizes do not fit.
    pub fn shape(x: &[usize], weight: &[usize], bias: Option<&[usize]>) -> Result<Vec<usize>> {
        match (x, weight) {
            (&[n, found], &[o, i]) if i == found => {
                check_bias(bias, o)?;
                Ok(vec![n, o])
            }
            _ => Err(Error::shape("linear", format!("the columns of {weight:?}"), x).into()),
        }
    }
}

impl Operation for Linear {
    fn kind(&self) -> &'static str {
        "linear"
    }
    fn operand(&self, index: usize) -> String {
        ["input", "weight", "bias"].get(index).map_or_else(|| format!("operand{index}"), ToString::to_string)
    }
    fn is_batched(&self, index: usize) -> bool {
        index == 0
    }
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        match *inputs {
            [x, w] => Self::shape(x, w, None),
            [x, w, b] => Self::shape(x, w, Some(b)),
            _ => Err(crate::Error::setting("inputs of an operation", "2 or 3", inputs.len())),
        }
    }
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        let &[x, w, ref bias @ ..] = inputs else {
            return Err(crate::Error::setting("inputs of an operation", "2 or 3", inputs.len()));
        };
        let (xt, wt) = (x.tensor(), w.tensor());
        let out = float::linear(&xt, &wt)?;
        let y = g.record(out, &[x, w], || LinearBackward { x: xt, w: wt });
        bias.iter().try_fold(y, |y, bias| g.add_bias(&y, bias))
    }
    fn precision(&self) -> Option<String> {
        Some("32/32/32".into())
    }
    fn macs(&self, parameters: &[Parameter], output: &[usize]) -> u64 {
        super::macs(parameters, output)
    }
}

impl Graph<'_> {
    /// `x + y` for equal shapes.
    ///
    /// # Errors
    /// The shapes differ.
    pub fn add(&mut self, x: &Var, y: &Var) -> Result<Var> {
        self.apply(Add, &[x, y])
    }

    /// `x · y`, element by element, for equal shapes.
    ///
    /// # Errors
    /// The shapes differ.
    pub fn mul(&mut self, x: &Var, y: &Var) -> Result<Var> {
        self.apply(Mul, &[x, y])
    }

    /// `x + bias`, the bias added to every row of the last axis. Shapes: x `[.., C]`, bias `[C]`.
    ///
    /// # Errors
    /// The last axis of x is not the length of the bias.
    pub fn add_bias(&mut self, x: &Var, bias: &Var) -> Result<Var> {
        self.apply(AddBias, &[x, bias])
    }

    /// The matrix product [M, K] x [K, N] in floats.
    ///
    /// # Errors
    /// The operands are not matrices or the inner lengths differ.
    pub fn matmul(&mut self, a: &Var, b: &Var) -> Result<Var> {
        self.apply(Matmul, &[a, b])
    }

    /// `x · w^T` in floats. Shapes: x [N, I], w [O, I] to [N, O].
    ///
    /// # Errors
    /// The operands are not matrices or I differs.
    pub fn linear(&mut self, x: &Var, w: &Var) -> Result<Var> {
        self.apply(Linear, &[x, w])
    }

    /// [`linear`](Self::linear) with a bias [O].
    ///
    /// # Errors
    /// The sizes do not fit.
    pub fn linear_biased(&mut self, x: &Var, w: &Var, bias: &Var) -> Result<Var> {
        self.apply(Linear, &[x, w, bias])
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
