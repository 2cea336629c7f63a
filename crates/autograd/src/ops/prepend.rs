//! `prepend`: one learned row before the rows of each sample, such as the class token of a vision transformer.

use crate::{Backward, Cx, Grads, Graph, Operation, Result, Var, exactly};
use fixnet_tensor::{Error, Tensor, map, reduce};

/// A row, the same for all samples, before those of each: [N, T, C] and [1, 1, C] to [N, T + 1, C].
#[derive(Debug, Clone, Copy)]
pub struct Prepend;

struct PrependBackward;

impl Backward for PrependBackward {
    fn name(&self) -> &'static str {
        "prepend"
    }
    fn backward(self: Box<Self>, grad: Tensor, cx: &mut Cx<'_>) -> Result<Grads> {
        let &[n, rows, c] = grad.shape() else { return Err(Error::shape("prepend", "[N, T, C]", grad.shape()).into()) };
        let length = rows * c;
        let dx = cx.needs(0).then(|| {
            let mut dx = Tensor::take(&[n, rows - 1, c]);
            map::rows(dx.data_mut(), length - c, |first, out| {
                for (i, out) in out.chunks_exact_mut((length - c).max(1)).enumerate() {
                    out.copy_from_slice(&grad.data()[(first + i) * length + c..][..length - c]);
                }
            });
            dx
        });
        let dtoken = cx.needs(1).then(|| {
            let mut tokens = Tensor::take(&[n, c]);
            for (to, from) in tokens.data_mut().chunks_exact_mut(c.max(1)).zip(grad.data().chunks_exact(length.max(1)))
            {
                to.copy_from_slice(&from[..c]);
            }
            let sums = reduce::column_sums(tokens.data(), c);
            Tensor::from_vec(&[1, 1, c], sums.iter().map(|&s| s as f32).collect())
        });
        Ok(vec![dx, dtoken.transpose()?])
    }
}

impl Operation for Prepend {
    fn kind(&self) -> &'static str {
        "prepend"
    }
    fn operand(&self, index: usize) -> String {
        if index == 1 { "token".into() } else { "input".into() }
    }
    fn is_batched(&self, index: usize) -> bool {
        index == 0
    }
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x, token] = exactly(inputs)?;
        match *x {
            [n, rows, c] if *token == [1, 1, c] => Ok(vec![n, rows.saturating_add(1), c]),
            _ => Err(Error::shape("prepend", format!("[N, T, C] for a row {token:?}, which is [1, 1, C]"), x).into()),
        }
    }
    fn is_non_negative(&self, inputs: &[bool]) -> bool {
        inputs.iter().all(|&input| input)
    }
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        let [x, token] = exactly(inputs)?;
        let shape = self.output_shape(&[x.shape(), token.shape()])?;
        let [xt, row] = [x, token].map(Var::tensor);
        let c = row.len();
        let (short, length) = ((shape[1] - 1) * c, shape[1] * c);
        let mut out = Tensor::take(&shape);
        map::rows(out.data_mut(), length, |first, out| {
            for (i, out) in out.chunks_exact_mut(length.max(1)).enumerate() {
                let (start, rest) = out.split_at_mut(c);
                start.copy_from_slice(row.data());
                rest.copy_from_slice(&xt.data()[(first + i) * short..][..short]);
            }
        });
        Ok(g.record(out, &[x, token], || PrependBackward))
    }
}

impl Graph<'_> {
    /// Puts a row, the same for all samples, before those of each: x [N, T, C] and token [1, 1, C] to [N, T + 1, C].
    ///
    /// # Errors
    /// The shapes are others.
    pub fn prepend(&mut self, x: &Var, token: &Var) -> Result<Var> {
        self.apply(Prepend, &[x, token])
    }
}

#[cfg(test)]
mod tests {
    use crate::check::{gradient_error, sample};
    use crate::{Graph, Store};

    #[test]
    fn gradients_match_finite_differences() {
        let inputs = [sample(&[3, 2, 4], 1), sample(&[1, 1, 4], 2)];
        assert!(gradient_error(&inputs, 0.1, |g, v| g.prepend(&v[0], &v[1])).unwrap() < 1e-3);
    }

    #[test]
    fn the_row_comes_first_in_each_sample() {
        let (x, token) = (sample(&[2, 2, 3], 1), sample(&[1, 1, 3], 2));
        let mut store = Store::seeded(0);
        let mut g = Graph::eval(&mut store);
        let (a, b) = (g.input(x.clone()), g.input(token.clone()));
        let y = g.prepend(&a, &b).unwrap().tensor();
        assert_eq!(y.shape(), [2, 3, 3]);
        for i in 0..2 {
            assert_eq!(y.data()[i * 9..][..3], *token.data());
            assert_eq!(y.data()[i * 9 + 3..][..6], x.data()[i * 6..][..6]);
        }
        let e = g.prepend(&a, &a).unwrap_err().to_string();
        assert_eq!(e, "prepend: expected shape [N, T, C] for a row [2, 2, 3], which is [1, 1, C], found [2, 2, 3]");
    }
}
