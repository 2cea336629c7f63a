//! Products of matrices in floats, and the bias behind one: `matmul`, `linear`, `add_bias`.

use super::affine::Affine;
use super::check_bias;
use crate::deferred::Lazy;
use crate::gradient::Gradient;
use crate::stored::{Parameter, Settings, settings_of};
use crate::{Backward, Cx, Grads, Graph, Operation, Result, Value, Var, exactly};
use fixnet_tensor::{Error, Pairs, Tensor, Turned, float, float_matmul, map, reduce};
use serde::{Deserialize, Serialize};

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

/// Checks the shapes of a product of matrices. Returns the sizes of its pairs, or `None` where one second matrix serves for all:
/// that is one product of all rows.
fn pairs(a: &[usize], b: &[usize], transposed: bool) -> Result<Option<Pairs>> {
    match (a, b) {
        ([_, .., k], &[b0, b1]) if *k == if transposed { b1 } else { b0 } => Ok(None),
        _ => Ok(Some(Pairs::of(a, b, if transposed { Turned::Right } else { Turned::Neither })?)),
    }
}

struct MatmulBackward {
    a: Tensor,
    b: Tensor,
    transposed: bool,
}

impl Backward for MatmulBackward {
    fn name(&self) -> &'static str {
        "matmul"
    }
    fn backward(self: Box<Self>, grad: Tensor, cx: &mut Cx<'_>) -> Result<Grads> {
        let Self { a, b, transposed } = *self;
        if pairs(a.shape(), b.shape(), transposed)?.is_some() {
            let da = if transposed { Turned::Neither } else { Turned::Right };
            let da = cx.needs(0).then(|| float_matmul(&grad, &b, da));
            let db = cx.needs(1).then(|| match transposed {
                true => float_matmul(&grad, &a, Turned::Left),
                false => float_matmul(&a, &grad, Turned::Left),
            });
            return Ok(vec![da.transpose()?, db.transpose()?]);
        }
        let (rows, g) = (rows(&a)?, self::rows(&grad)?);
        // dA = G B^T is the product that `linear` takes; dB = A^T G is its weight gradient the other way round.
        let da = cx.needs(0).then(|| match transposed {
            true => float::matmul(&g, &b)?.reshape(a.shape()),
            false => float::linear(&g, &b)?.reshape(a.shape()),
        });
        let db = cx.needs(1).then(|| match transposed {
            true => float::linear_weight_grad(&rows, &g),
            false => float::linear_weight_grad(&g, &rows),
        });
        Ok(vec![da.transpose()?, db.transpose()?])
    }
}

/// A tensor as a matrix: the rows of its last axis.
fn rows(t: &Tensor) -> Result<Tensor> {
    let columns = t.shape().last().copied().unwrap_or(1);
    let rows = t.shape().iter().rev().skip(1).product();
    Ok(t.reshape(&[rows, columns])?)
}

/// The shape of a value whose last axis gets another length.
fn ending(shape: &[usize], last: usize) -> Vec<usize> {
    shape[..shape.len().saturating_sub(1)].iter().copied().chain([last]).collect()
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
        let grad = rows(&grad)?;
        let dx = cx.needs(0).then(|| float::linear_input_grad(&grad, &self.w)?.reshape(self.x.shape()));
        let dw = cx.needs(1).then(|| Ok::<_, crate::Error>(float::linear_weight_grad(&rows(&self.x)?, &grad)?));
        Ok(vec![dx.transpose()?, dw.transpose()?])
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matmul {
    /// Whether the second operand is transposed: [N, K] or [.., N, K].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub transposed: bool,
}

impl Operation for Matmul {
    fn kind(&self) -> &'static str {
        "matmul"
    }
    fn operand(&self, index: usize) -> String {
        if index == 1 { "weight".into() } else { "input".into() }
    }
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [a, b] = exactly(inputs)?;
        match pairs(a, b, self.transposed)? {
            Some(pairs) => Ok(pairs.shape(a)),
            None => Ok(ending(a, b[if self.transposed { 0 } else { 1 }])),
        }
    }
    fn is_non_negative(&self, inputs: &[bool]) -> bool {
        inputs.iter().all(|&input| input)
    }
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        let [a, b] = exactly(inputs)?;
        let shape = self.output_shape(&[a.shape(), b.shape()])?;
        let transposed = self.transposed;
        let [a_t, b_t] = [a, b].map(Var::tensor);
        let out = match (pairs(a.shape(), b.shape(), transposed)?, transposed) {
            (Some(_), true) => float_matmul(&a_t, &b_t, Turned::Right)?,
            (Some(_), false) => float_matmul(&a_t, &b_t, Turned::Neither)?,
            (None, true) => float::linear(&rows(&a_t)?, &b_t)?.reshape(&shape)?,
            (None, false) => float::matmul(&rows(&a_t)?, &b_t)?.reshape(&shape)?,
        };
        Ok(g.record(out, &[a, b], || MatmulBackward { a: a_t, b: b_t, transposed }))
    }
    fn settings(&self) -> Settings {
        settings_of(self)
    }
    fn precision(&self) -> Option<String> {
        Some("32/32/32".into())
    }
    fn macs(&self, parameters: &[Parameter], output: &[usize]) -> u64 {
        super::macs(parameters, output)
    }
}

/// `x · w^T`, and perhaps a bias: x [.., I], w [O, I] and bias `[O]` to [.., O].
#[derive(Debug, Clone, Copy)]
pub struct Linear;

impl Linear {
    /// Infers the output shape for a weight of the shape `weight`.
    ///
    /// # Errors
    /// The sizes do not fit.
    pub fn shape(x: &[usize], weight: &[usize], bias: Option<&[usize]>) -> Result<Vec<usize>> {
        match (x, weight) {
            ([_, .., found], &[o, i]) if i == *found => {
                check_bias(bias, o)?;
                Ok(ending(x, o))
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
        let shape = Self::shape(x.shape(), w.shape(), None)?;
        let out = float::linear(&rows(&xt)?, &wt)?.reshape(&shape)?;
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
        self.apply(Matmul::default(), &[a, b])
    }

    /// [`matmul`](Self::matmul) with the second operand transposed: `[.., M, K]` x `[N, K]` or `[.., N, K]` to `[.., M, N]`.
    ///
    /// # Errors
    /// As there.
    pub fn matmul_transposed(&mut self, a: &Var, b: &Var) -> Result<Var> {
        self.apply(Matmul { transposed: true }, &[a, b])
    }

    /// `x · w^T` in floats. Shapes: x [.., I], w [O, I] to [.., O].
    ///
    /// # Errors
    /// x has fewer than two axes, w is no matrix, or I differs.
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
            let mut turned = b.to_vec();
            turned.swap(b.len() - 2, b.len() - 1);
            let inputs = [sample(a, 1), sample(&turned, 2)];
            let error = gradient_error(&inputs, 0.05, |g, v| g.matmul_transposed(&v[0], &v[1])).unwrap();
            assert!(error < 1e-3, "{a:?} {turned:?}: {error}");
        }
        let inputs = [sample(&[2, 3, 4], 1), sample(&[5, 4], 2), sample(&[5], 3)];
        let error = gradient_error(&inputs, 0.05, |g, v| g.linear_biased(&v[0], &v[1], &v[2])).unwrap();
        assert!(error < 1e-3, "{error}");
    }
}
