//! Sums and means over axes. A float sum has one written order, which follows from the shapes alone.

use super::axes::{expand, rounded, sorted, sums};
use crate::stored::{Settings, settings_of};
use crate::{Backward, Cx, Error, Grads, Graph, Operation, Result, Var, exactly};
use fixnet_tensor::{Tensor, map};
use serde::{Deserialize, Serialize};

/// The sum over axes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    /// The axes, that of the batch being 0; each once.
    pub axes: Vec<usize>,
    /// Whether the axes stay, with length 1.
    pub keep: bool,
}

/// The mean over axes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mean {
    /// The axes, that of the batch being 0; each once.
    pub axes: Vec<usize>,
    /// Whether the axes stay, with length 1.
    pub keep: bool,
}

fn reduced_shape(op: &'static str, axes: &[usize], keep: bool, inputs: &[&[usize]]) -> Result<Vec<usize>> {
    let [x] = exactly(inputs)?;
    let axes = sorted(op, axes, x)?;
    let length = |(axis, &length): (usize, &usize)| match axes.contains(&axis) {
        true => keep.then_some(1),
        false => Some(length),
    };
    Ok(x.iter().enumerate().filter_map(length).collect())
}

struct ReduceBackward {
    name: &'static str,
    shape: Vec<usize>,
    /// The shape of the output with the axes that were summed, of length 1.
    kept: Vec<usize>,
    factor: f32,
}

impl Backward for ReduceBackward {
    fn name(&self) -> &'static str {
        self.name
    }
    fn backward(self: Box<Self>, grad: Tensor, _: &mut Cx<'_>) -> Result<Grads> {
        let mut grad = grad.reshape(&self.kept)?;
        if self.factor != 1.0 {
            let mut scaled = Tensor::take(grad.shape());
            map::map1(grad.data(), scaled.data_mut(), |g| g * self.factor);
            grad = scaled;
        }
        Ok(vec![Some(expand(&grad, &self.shape))])
    }
}

fn compute(op: &'static str, axes: &[usize], keep: bool, mean: bool, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
    let axes = sorted(op, axes, x.shape())?;
    let shape = reduced_shape(op, &axes, keep, &[x.shape()])?;
    let kept = reduced_shape(op, &axes, true, &[x.shape()])?;
    let count: usize = axes.iter().map(|&axis| x.shape()[axis]).product();
    if mean && count == 0 {
        return Err(Error::setting("elements of a mean", "at least one", 0));
    }
    let mut totals = sums(&x.tensor(), &axes);
    if mean {
        totals.iter_mut().for_each(|sum| *sum /= count as f64);
    }
    let factor = if mean { (1.0 / count as f64) as f32 } else { 1.0 };
    let from = x.shape().to_vec();
    Ok(g.record(rounded(&totals, &shape), &[x], || ReduceBackward { name: op, shape: from, kept, factor }))
}

impl Operation for Sum {
    fn kind(&self) -> &'static str {
        "sum"
    }
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        reduced_shape("sum", &self.axes, self.keep, inputs)
    }
    fn is_non_negative(&self, inputs: &[bool]) -> bool {
        inputs.iter().all(|&input| input)
    }
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        let [x] = exactly(inputs)?;
        compute("sum", &self.axes, self.keep, false, g, x)
    }
    fn settings(&self) -> Settings {
        settings_of(self)
    }
}

impl Operation for Mean {
    fn kind(&self) -> &'static str {
        "mean"
    }
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        reduced_shape("mean", &self.axes, self.keep, inputs)
    }
    fn is_non_negative(&self, inputs: &[bool]) -> bool {
        inputs.iter().all(|&input| input)
    }
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        let [x] = exactly(inputs)?;
        compute("mean", &self.axes, self.keep, true, g, x)
    }
    fn settings(&self) -> Settings {
        settings_of(self)
    }
}

impl Graph<'_> {
    /// Sums over `axes`, that of the batch being 0. With `keep` they stay, with length 1, so that the result broadcasts with
    /// `x`; else they are left out.
    ///
    /// # Errors
    /// There is no axis, one is not an axis of `x`, or one comes twice.
    pub fn sum(&mut self, x: &Var, axes: &[usize], keep: bool) -> Result<Var> {
        self.apply(Sum { axes: axes.to_vec(), keep }, &[x])
    }

    /// Computes the mean over `axes`; the arguments are those of [`sum`](Self::sum).
    ///
    /// # Errors
    /// As there, or there is nothing to take a mean of.
    pub fn mean(&mut self, x: &Var, axes: &[usize], keep: bool) -> Result<Var> {
        self.apply(Mean { axes: axes.to_vec(), keep }, &[x])
    }
}

#[cfg(test)]
mod tests {
    use crate::check::{gradient_error, sample};
    use crate::{Graph, Store};
    use fixnet_tensor::Tensor;

    #[test]
    fn gradients_match_finite_differences() {
        let x = sample(&[2, 3, 4], 1);
        for axes in [&[0][..], &[1], &[2], &[0, 2], &[2, 1], &[0, 1, 2]] {
            for keep in [false, true] {
                let sum = gradient_error(std::slice::from_ref(&x), 0.1, |g, v| g.sum(&v[0], axes, keep)).unwrap();
                let mean = gradient_error(std::slice::from_ref(&x), 0.1, |g, v| g.mean(&v[0], axes, keep)).unwrap();
                assert!(sum < 1e-3 && mean < 1e-3, "{axes:?} {keep}: {sum} {mean}");
            }
        }
    }

    #[test]
    fn values_and_shapes_by_hand() {
        let mut store = Store::seeded(0);
        let mut g = Graph::eval(&mut store);
        let x = g.input(Tensor::from_vec(&[2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 9.0]).unwrap());
        let rows = g.mean(&x, &[1], true).unwrap();
        assert_eq!((rows.shape(), rows.tensor().data()), (&[2, 1][..], &[2.0, 6.0][..]));
        let columns = g.sum(&x, &[0], false).unwrap();
        assert_eq!((columns.shape(), columns.tensor().data()), (&[3][..], &[5.0, 7.0, 12.0][..]));
        assert!(g.sum(&x, &[1, 0], false).unwrap().shape().is_empty());
        let e = g.sum(&x, &[2], false).unwrap_err().to_string();
        assert_eq!(e, "sum: expected different axes below 2, the axes of [2, 3], found [2]");
        assert!(g.sum(&x, &[], false).is_err() && g.sum(&x, &[1, 1], false).is_err());
        let empty = g.input(Tensor::zeros(&[2, 0]));
        assert!(g.mean(&empty, &[1], false).is_err());
    }
}
