//! The gradients of a store's parameters.

use super::{ParamId, Store};
use crate::Result;
use fixnet_tensor::{Tensor, map};

impl Store {
    /// Takes the gradient of a parameter, if there is one: what an optimizer does.
    ///
    /// # Panics
    /// As [`param`](Self::param).
    pub fn take_grad(&mut self, id: ParamId) -> Option<Tensor> {
        let index = self.at(id);
        self.params[index].grad.take()
    }

    /// The gradient of a parameter, if the last backward pass reached it.
    ///
    /// # Panics
    /// As [`param`](Self::param).
    pub fn grad(&self, id: ParamId) -> Option<&Tensor> {
        self.param(id).grad.as_ref()
    }

    /// Adds to the gradient of a parameter. That of a frozen one is dropped.
    ///
    /// # Errors
    /// The parameter is of another store, or `grad` has another shape than it.
    pub fn accumulate(&mut self, id: ParamId, grad: Tensor) -> Result<()> {
        self.owns(id)?;
        let param = &mut self.params[id.index];
        let odd = [Some(&grad), param.grad.as_ref()].into_iter().flatten().find(|g| g.shape() != param.value.shape());
        if let Some(odd) = odd {
            let expected = format!("a gradient of {:?} for `{}`", param.value.shape(), param.name);
            return Err(fixnet_tensor::Error::shape("accumulate", expected, odd.shape()).into());
        }
        match &mut param.grad {
            _ if param.frozen => {}
            Some(sum) => map::update1(sum.data_mut(), grad.data(), |s, g| *s += g),
            none => *none = Some(grad),
        }
        Ok(())
    }

    /// Multiplies the gradient of a parameter, if there is one.
    ///
    /// # Panics
    /// As [`param`](Self::param).
    pub fn scale_grad(&mut self, id: ParamId, factor: f32) {
        let index = self.at(id);
        if let Some(grad) = &mut self.params[index].grad {
            let scaled = grad.data_mut();
            map::rows(scaled, 1, |_, grad| grad.iter_mut().for_each(|g| *g *= factor));
        }
    }

    /// Multiplies all gradients: by `1 / k` after the backward passes of k parts of a batch whose losses are means, so that the
    /// sum that has come together is the gradient of the mean over all of them. Each pass drew rounding noise of its own
    /// ([`draws`](Self::draws)).
    ///
    /// ```
    /// use fixnet_autograd::{Graph, Group, Store};
    /// use fixnet_tensor::Tensor;
    /// let mut store = Store::seeded(1);
    /// let w = store.add("w", Group::Weight, Tensor::scalar(2.0))?;
    /// for target in [0.0, 4.0] {
    ///     let mut g = Graph::train(&mut store);
    ///     let (w, target) = (g.param(w), g.input(Tensor::scalar(target)));
    ///     let loss = g.mse_loss(&w, &target)?;
    ///     g.backward(loss)?;
    /// }
    /// store.scale_grads(0.5);
    /// // 2 · (2 - 0) and 2 · (2 - 4), and their mean.
    /// assert_eq!(store.grad(w).unwrap().item(), 0.0);
    /// # Ok::<(), fixnet_autograd::Error>(())
    /// ```
    pub fn scale_grads(&mut self, factor: f32) {
        self.ids().for_each(|id| self.scale_grad(id, factor));
    }

    /// Forgets all gradients, and so the passes that gave them: noise is drawn anew as in the first pass of a step.
    pub fn zero_grad(&mut self) {
        self.params.iter_mut().for_each(|p| p.grad = None);
        self.streams.restart();
    }
}
