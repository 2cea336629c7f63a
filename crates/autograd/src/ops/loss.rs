//! Losses: `cross_entropy`, `mse_loss`, `l1_loss`. Each is a scalar, a mean over the batch or over all elements.

use crate::{Backward, Cx, Error, Grads, Graph, Result, Var};
use fixnet_tensor::{Error as TensorError, Tensor, map, reduce};

struct CrossEntropy {
    /// Softmax of the logits less the shares of the classes.
    error: Tensor,
    rows: usize,
}

impl Backward for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }
    fn backward(self: Box<Self>, grad: Tensor, _: &mut Cx<'_>) -> Result<Grads> {
        let factor = grad.item() / self.rows as f32;
        let mut dx = Tensor::take(self.error.shape());
        map::map1(self.error.data(), dx.data_mut(), |e| e * factor);
        Ok(vec![Some(dx)])
    }
}

/// The derivative of a mean over elements of `f(x - y)`: `slope` holds f'.
struct Elementwise {
    name: &'static str,
    slope: Tensor,
}

impl Backward for Elementwise {
    fn name(&self) -> &'static str {
        self.name
    }
    fn backward(self: Box<Self>, grad: Tensor, cx: &mut Cx<'_>) -> Result<Grads> {
        let factor = grad.item() / self.slope.len() as f32;
        let times = |factor: f32| {
            let mut d = Tensor::take(self.slope.shape());
            map::map1(self.slope.data(), d.data_mut(), |s| s * factor);
            d
        };
        Ok(vec![cx.needs(0).then(|| times(factor)), cx.needs(1).then(|| times(-factor))])
    }
}

impl Graph<'_> {
    /// Mean over the batch of `-ln softmax(logits)[target]`. Shapes: logits [N, classes], targets N, result a scalar.
    ///
    /// # Errors
    /// The logits are no matrix of as many rows as there are targets, the batch is empty, or a label is no class.
    pub fn cross_entropy(&mut self, logits: &Var, targets: &[usize]) -> Result<Var> {
        const OP: &str = "cross_entropy";
        let [_, classes] = logits.tensor().matrix(OP)?;
        if let Some((position, &found)) = targets.iter().enumerate().find(|(_, l)| **l >= classes) {
            return Err(Error::Label { op: OP, found, position, last: classes.saturating_sub(1) });
        }
        self.softmax_loss(OP, logits, targets.len(), |i, row, top, log_sum, out| {
            out[targets[i]] -= 1.0;
            f64::from(log_sum - (row[targets[i]] - top))
        })
    }

    /// Mean over the batch of `-sum over classes of target * ln softmax(logits)`: cross-entropy with shares of classes, as of
    /// mixed images. Shapes: logits and targets [N, classes], result a scalar. The shares of a row are taken to sum to 1;
    /// the targets get no gradient.
    ///
    /// # Errors
    /// The shapes differ or are no matrices, or the batch is empty.
    pub fn cross_entropy_soft(&mut self, logits: &Var, targets: &Tensor) -> Result<Var> {
        // The factor is exact: the bits are those without it.
        self.cross_entropy_of("cross_entropy_soft", logits, targets, |_| 1.0)
    }

    /// As [`cross_entropy_soft`](Self::cross_entropy_soft), with targets whose rows need not sum to 1: smoothed shares times the
    /// weights of their classes.
    ///
    /// # Errors
    /// As [`cross_entropy_soft`](Self::cross_entropy_soft).
    pub fn cross_entropy_weighted(&mut self, logits: &Var, targets: &Tensor) -> Result<Var> {
        self.cross_entropy_of("cross_entropy_weighted", logits, targets, |targets| {
            reduce::sum_by(targets.len(), |c| targets[c]) as f32
        })
    }

    /// Cross-entropy with targets for each class, whose sum over a row is `sum` of it.
    fn cross_entropy_of(
        &mut self,
        op: &'static str,
        logits: &Var,
        targets: &Tensor,
        sum: impl Fn(&[f32]) -> f32,
    ) -> Result<Var> {
        let [rows, classes] = targets.matrix(op)?;
        if logits.shape() != targets.shape() {
            return Err(TensorError::shape(op, format!("{:?}", targets.shape()), logits.shape()).into());
        }
        self.softmax_loss(op, logits, rows, |i, row, top, log_sum, out| {
            let targets = &targets.data()[i * classes..][..classes];
            let (sum, mut total) = (sum(targets), 0f64);
            for ((o, &v), &target) in out.iter_mut().zip(row).zip(targets) {
                *o = *o * sum - target;
                // A class of no share adds nothing, however far off its logit is.
                if target != 0.0 {
                    total += f64::from(target) * f64::from(log_sum - (v - top));
                }
            }
            total
        })
    }

    /// A mean over rows of losses of the softmax. `of(row index, logits, their largest, ln of the sum of exp(logits -
    /// largest), softmax)` gives the loss of a row and turns its softmax into the derivative.
    fn softmax_loss(
        &mut self,
        op: &'static str,
        logits: &Var,
        rows: usize,
        of: impl Fn(usize, &[f32], f32, f32, &mut [f32]) -> f64,
    ) -> Result<Var> {
        let t = logits.tensor();
        let [n, classes] = t.matrix(op)?;
        if n != rows || n == 0 || classes == 0 {
            return Err(TensorError::shape(op, format!("[{rows}, classes], not empty"), t.shape()).into());
        }
        let mut error = Tensor::take(&[n, classes]);
        let mut total = 0f64;
        for (i, (row, out)) in
            t.data().chunks_exact(classes).zip(error.data_mut().chunks_exact_mut(classes)).enumerate()
        {
            let top = row.iter().fold(f32::NEG_INFINITY, |m, &v| if v > m { v } else { m });
            let mut sum = 0f32;
            for (o, &v) in out.iter_mut().zip(row) {
                *o = libm::expf(v - top);
                sum += *o;
            }
            out.iter_mut().for_each(|o| *o /= sum);
            total += of(i, row, top, libm::logf(sum), out);
        }
        let loss = Tensor::scalar((total / n as f64) as f32);
        Ok(self.record(loss, &[logits], || CrossEntropy { error, rows: n }))
    }

    /// Mean of `(x - y)^2`, a scalar.
    ///
    /// # Errors
    /// The shapes differ or are empty.
    pub fn mse_loss(&mut self, x: &Var, y: &Var) -> Result<Var> {
        self.elementwise("mse_loss", x, y, |d| d * d, |d| 2.0 * d)
    }

    /// Mean of `|x - y|`, a scalar; the derivative at 0 is 0.
    ///
    /// # Errors
    /// The shapes differ or are empty.
    pub fn l1_loss(&mut self, x: &Var, y: &Var) -> Result<Var> {
        let sign = |d: f32| {
            if d > 0.0 {
                1.0
            } else if d < 0.0 {
                -1.0
            } else {
                0.0
            }
        };
        self.elementwise("l1_loss", x, y, f32::abs, sign)
    }

    fn elementwise(
        &mut self,
        name: &'static str,
        x: &Var,
        y: &Var,
        value: impl Fn(f32) -> f32 + Sync,
        slope: impl Fn(f32) -> f32 + Sync,
    ) -> Result<Var> {
        if x.shape() != y.shape() || x.shape().contains(&0) {
            return Err(TensorError::shape(name, format!("{:?}, not empty", x.shape()), y.shape()).into());
        }
        let (xt, yt) = (x.tensor(), y.tensor());
        let (xs, ys) = (xt.data(), yt.data());
        let mean = reduce::sum_by(xs.len(), |i| value(xs[i] - ys[i])) / xs.len() as f64;
        let mut d = Tensor::take(xt.shape());
        map::map2(xs, ys, d.data_mut(), |x, y| slope(x - y));
        Ok(self.record(Tensor::scalar(mean as f32), &[x, y], || Elementwise { name, slope: d }))
    }
}

#[cfg(test)]
mod tests {
    use crate::check::{gradient_error, sample};
    use crate::{Graph, Store};
    use fixnet_tensor::Tensor;

    #[test]
    fn gradients_match_finite_differences() {
        let (x, y) = (sample(&[4, 5], 1), sample(&[4, 5], 2));
        let targets = [0, 4, 2, 2];
        assert!(
            gradient_error(std::slice::from_ref(&x), 0.01, |g, v| g.cross_entropy(&v[0], &targets)).unwrap() < 1e-3
        );
        let shares =
            [[0.75, 0.0, 0.25, 0.0, 0.0], [0.5, 0.0, 0.0, 0.0, 0.5], [0.0, 1.0, 0.0, 0.0, 0.0], [0.2; 5]].concat();
        let shares = Tensor::from_vec(&[4, 5], shares).unwrap();
        let soft = gradient_error(std::slice::from_ref(&x), 0.01, |g, v| g.cross_entropy_soft(&v[0], &shares));
        assert!(soft.unwrap() < 1e-3);
        // Rows that sum to 0.5, 2, 0 and 1.
        let weighted = [[0.5, 0.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.5, 0.5, 0.0], [0.0; 5], [0.2; 5]].concat();
        let weighted = Tensor::from_vec(&[4, 5], weighted).unwrap();
        let weighted =
            gradient_error(std::slice::from_ref(&x), 0.01, |g, v| g.cross_entropy_weighted(&v[0], &weighted));
        assert!(weighted.unwrap() < 1e-3);
        assert!(gradient_error(&[x.clone(), y.clone()], 0.01, |g, v| g.mse_loss(&v[0], &v[1])).unwrap() < 1e-3);
        assert!(gradient_error(&[x, y], 1e-3, |g, v| g.l1_loss(&v[0], &v[1])).unwrap() < 1e-3);
    }

    #[test]
    fn values_by_hand() {
        let mut store = Store::seeded(0);
        let mut g = Graph::eval(&mut store);
        let x = g.input(Tensor::from_vec(&[1, 2], vec![0.0, 3f32.ln()]).unwrap());
        // softmax = (1/4, 3/4)
        approx::assert_relative_eq!(g.cross_entropy(&x, &[0]).unwrap().tensor().item(), 4f32.ln(), epsilon = 1e-6);
        // 1/4 of ln 4 and 3/4 of ln 4/3.
        let shares = Tensor::from_vec(&[1, 2], vec![0.25, 0.75]).unwrap();
        let soft = g.cross_entropy_soft(&x, &shares).unwrap().tensor().item();
        approx::assert_relative_eq!(soft, 0.25 * 4f32.ln() + 0.75 * (4f32 / 3.0).ln(), epsilon = 1e-6);
        let hard = Tensor::from_vec(&[1, 2], vec![0.0, 1.0]).unwrap();
        let both = [g.cross_entropy_soft(&x, &hard).unwrap(), g.cross_entropy(&x, &[1]).unwrap()];
        assert_eq!(both[0].tensor().item().to_bits(), both[1].tensor().item().to_bits());
        let e = g.cross_entropy_soft(&x, &Tensor::zeros(&[2, 2])).unwrap_err().to_string();
        assert!(e.starts_with("cross_entropy_soft: ") && e.contains("[2, 2]") && e.contains("[1, 2]"), "{e}");
        let zero = g.input(Tensor::zeros(&[1, 2]));
        let two = g.input(Tensor::from_vec(&[1, 2], vec![1.0, -3.0]).unwrap());
        assert_eq!(g.mse_loss(&two, &zero).unwrap().tensor().item(), 5.0);
        assert_eq!(g.l1_loss(&two, &zero).unwrap().tensor().item(), 2.0);
    }

    #[test]
    fn huge_logits_do_not_overflow_and_wrong_labels_are_named() {
        let mut store = Store::seeded(0);
        let mut g = Graph::eval(&mut store);
        let x = g.input(Tensor::from_vec(&[1, 2], vec![1e30, -1e30]).unwrap());
        assert_eq!(g.cross_entropy(&x, &[0]).unwrap().tensor().item(), 0.0);
        let e = g.cross_entropy(&x, &[2]).unwrap_err().to_string();
        assert_eq!(e, "cross_entropy: label 2 at position 0, expected 0 to 1");
    }
}
