//! `relu`.

use crate::{Backward, Cx, Grads, Graph, Result, Var};
use fixnet_tensor::{Tensor, map};

struct Relu {
    out: Tensor,
}

impl Backward for Relu {
    fn name(&self) -> &'static str {
        "relu"
    }
    fn backward(self: Box<Self>, mut grad: Tensor, _: &mut Cx<'_>) -> Result<Grads> {
        map::update1(grad.data_mut(), self.out.data(), |g, &y| *g = if y > 0.0 { *g } else { 0.0 });
        Ok(vec![Some(grad)])
    }
}

impl Graph<'_> {
    /// `max(x, 0)`; the derivative at 0 is 0. A NaN stays a NaN, so that it is found.
    ///
    /// # Errors
    /// None today; the result keeps the form of its siblings.
    pub fn relu(&mut self, x: &Var) -> Result<Var> {
        let mut out = Tensor::take(x.shape());
        map::map1(x.tensor().data(), out.data_mut(), |&x| if x <= 0.0 { 0.0 } else { x });
        Ok(self.record(out.clone(), &[x], || Relu { out }))
    }
}

#[cfg(test)]
mod tests {
    use crate::check::{gradient_error, sample};

    #[test]
    fn gradient_matches_finite_differences() {
        assert!(gradient_error(&[sample(&[4, 5], 1)], 0.01, |g, v| g.relu(&v[0])).unwrap() < 1e-3);
    }
}
