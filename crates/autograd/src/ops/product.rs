//! Products of matrices in floats, and the bias behind one: `matmul`, `linear`, `add_bias`.

use super::affine::Affine;
use super::check_bias;
use crate::deferred::Lazy;
use crate::gradient::Gradient;
use crate::stored::Parameter;
use crate::{Backward, Cx, Grads, Graph, Operation, Result, Value, Var, exactly};
use fixnet_tensor::{Error, Tensor, float, map, reduce};

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

/// How many products of matrices a product is: one of all rows, or one for each pair of matrices.
#[derive(Clone, Copy)]
struct Matrices {
    count: usize,
    m: usize,
    k: usize,
    n: usize,
}

impl Matrices {
    fn of(a: &[usize], b: &[usize]) -> Result<Self> {
        let refuse = || {
            let expected = format!("[.., M, K] for the second operand {b:?}, which is [K, N] or [.., K, N]");
            Err(Error::shape("matmul", expected, a).into())
        };
        let ([outer @ .., m, k], [same @ .., inner, n]) = (a, b) else { return refuse() };
        if k != inner || !(same.is_empty() || same == outer) {
            return refuse();
        }
        let count = outer.iter().product();
        Ok(match same.is_empty() {
            true => Self { count: 1, m: count * m, k: *k, n: *n },
            false => Self { count, m: *m, k: *k, n: *n },
        })
    }

    /// Computes one product for each pair of matrices of these shapes, and puts the results one behind the other.
    fn each(
        self,
        (a, of_a): (&Tensor, [usize; 2]),
        (b, of_b): (&Tensor, [usize; 2]),
        shape: &[usize],
        f: impl Fn(&Tensor, &Tensor) -> fixnet_tensor::Result<Tensor>,
    ) -> Result<Tensor> {
        if self.count == 1 {
            return Ok(f(&a.reshape(&of_a)?, &b.reshape(&of_b)?)?.reshape(shape)?);
        }
        let mut out = Tensor::take(shape);
        let length = out.len().checked_div(self.count).unwrap_or(0);
        let matrix = |t: &Tensor, of: [usize; 2], i: usize| {
            let length = of[0] * of[1];
            Tensor::from_vec(&of, t.data()[i * length..][..length].to_vec())
        };
        for i in 0..self.count {
            let product = f(&matrix(a, of_a, i)?, &matrix(b, of_b, i)?)?;
            out.data_mut()[i * length..][..length].copy_from_slice(product.data());
        }
        Ok(out)
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
        let Self { a, b } = *self;
        let matrices @ Matrices { m, k, n, .. } = Matrices::of(a.shape(), b.shape())?;
        let g = (&grad, [m, n]);
        // dA = G B^T is the product that `linear` takes; dB = A^T G is its weight gradient the other way round.
        let da = cx.needs(0).then(|| matrices.each(g, (&b, [k, n]), a.shape(), float::linear));
        let db = cx.needs(1).then(|| matrices.each(g, (&a, [m, k]), b.shape(), float::linear_weight_grad));
        Ok(vec![da.transpose()?, db.transpose()?])
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

/// The product of matrices in floats: [.., M, K] x [K, N], or of pairs of matrices, [.., M, K] x [.., K, N].
#[derive(Debug, Clone, Copy)]
pub struct Matmul;

impl Operation for Matmul {
    fn kind(&self) -> &'static str {
        "matmul"
    }
    fn operand(&self, index: usize) -> String {
        if index == 1 { "weight".into() } else { "input".into() }
    }
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [a, b] = exactly(inputs)?;
        let Matrices { n, .. } = Matrices::of(a, b)?;
        Ok(a[..a.len() - 1].iter().copied().chain([n]).collect())
    }
    fn is_non_negative(&self, inputs: &[bool]) -> bool {
        inputs.iter().all(|&input| input)
    }
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        let [a, b] = exactly(inputs)?;
        let shape = self.output_shape(&[a.shape(), b.shape()])?;
        let matrices @ Matrices { m, k, n, .. } = Matrices::of(a.shape(), b.shape())?;
        let (at, bt) = (a.tensor(), b.tensor());
        let out = matrices.each((&at, [m, k]), (&bt, [k, n]), &shape, float::matmul)?;
        Ok(g.record(out, &[a, b], || MatmulBackward { a: at, b: bt }))
    }
    fn precision(&self) -> Option<String> {
        Some("32/32/32".into())
    }
    fn macs(&self, parameters: &[Parameter], output: &[usize]) -> u64 {
        super::macs(parameters, output)
    }
}

/// `x · w^T`, and perhaps a bias: x [N, I], w [O, I] and bias `[O]` to [N, O].
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
    /// `x + bias`, the bias added to every row of the last axis. Shapes: x `[.., C]`, bias `[C]`.
    ///
    /// # Errors
    /// The last axis of x is not the length of the bias.
    pub fn add_bias(&mut self, x: &Var, bias: &Var) -> Result<Var> {
        self.apply(AddBias, &[x, bias])
    }

    /// Computes the product of matrices in floats. Shapes: `[.., M, K]` x `[K, N]`, with one second matrix for all, or
    /// `[.., M, K]` x `[.., K, N]`, pair by pair, to `[.., M, N]`.
    ///
    /// # Errors
    /// An operand has fewer than two axes, the inner lengths differ, or the axes before the matrices do.
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

    /// [`linear`](Self::linear) with a bias `[O]`.
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
        let x = sample(&[3, 4], 1);
        assert!(gradient_error(&[x.clone(), sample(&[4], 3)], 0.05, |g, v| g.add_bias(&v[0], &v[1])).unwrap() < 1e-3);
        assert!(gradient_error(&[x.clone(), sample(&[4, 5], 3)], 0.05, |g, v| g.matmul(&v[0], &v[1])).unwrap() < 1e-3);
        assert!(gradient_error(&[x, sample(&[5, 4], 3)], 0.05, |g, v| g.linear(&v[0], &v[1])).unwrap() < 1e-3);
    }

    #[test]
    fn gradients_of_products_of_many_matrices_match_finite_differences() {
        for (a, b) in [(&[2, 3, 4][..], &[4, 5][..]), (&[2, 3, 4], &[2, 4, 5]), (&[2, 2, 3, 4], &[2, 2, 4, 1])] {
            let error = gradient_error(&[sample(a, 1), sample(b, 2)], 0.05, |g, v| g.matmul(&v[0], &v[1])).unwrap();
            assert!(error < 1e-3, "{a:?} {b:?}: {error}");
        }
    }
}
