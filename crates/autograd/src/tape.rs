//! The tape of one step: `Backward` is the derivative of one operation, [`walk`] runs them from the last to the first.

use crate::gradient::Gradient;
use crate::value::{Source, Var};
use crate::{Error, Result, Slot, State, Store};
use fixnet_tensor::rng::Stream;
use fixnet_tensor::{Tensor, map, profile};

/// The gradients of an operation's inputs, in their order.
pub type Grads = Vec<Option<Tensor>>;

/// The derivative of one operation, with what it saved. It is consumed when run, so memory falls on the way back.
pub trait Backward {
    /// The operation's name, for messages and profiles.
    fn name(&self) -> &'static str;
    /// From dL/d(output) to dL/d(input) for each input; `None` where `!cx.needs(i)`.
    ///
    /// # Errors
    /// A gradient is not finite.
    fn backward(self: Box<Self>, grad: Tensor, cx: &mut Cx<'_>) -> Result<Grads>;
    /// The same for operations that take or give gradients which are not written out. Others leave this as it is.
    ///
    /// # Errors
    /// As [`backward`](Self::backward).
    fn backward_deferred(self: Box<Self>, grad: Gradient, cx: &mut Cx<'_>) -> Result<Vec<Option<Gradient>>> {
        let grad = grad.into_tensor(cx.store);
        Ok(self.backward(grad, cx)?.into_iter().map(|g| g.map(Gradient::Float)).collect())
    }
}

/// What an operation may use on the way back.
pub struct Cx<'a> {
    /// The store: parameters and state.
    pub store: &'a mut Store,
    needs: &'a [bool],
}

impl Cx<'_> {
    /// Whether input `i` needs its gradient.
    pub fn needs(&self, i: usize) -> bool {
        self.needs[i]
    }

    /// The state in a slot, for writing.
    pub fn state<T: State>(&mut self, slot: Slot<T>) -> &mut T {
        self.store.state_mut(slot)
    }

    /// The rounding noise of this step for whoever has this name: other noise each time that it is asked for, which
    /// [`Store::draws`] counts.
    pub fn noise(&mut self, name: &str) -> Stream {
        self.store.noise(name)
    }
}

/// Operations in the order of their running; boxed, so that the list itself stays small.
pub(crate) type Tape = Vec<Box<Node>>;

/// An operation on the tape.
pub(crate) struct Node {
    pub(crate) op: Box<dyn Backward>,
    pub(crate) inputs: Vec<Source>,
    /// What has come for its output so far on the way back.
    pub(crate) grad: Option<Gradient>,
}

/// A node before the one that is walked.
fn earlier(tape: &mut Tape, i: usize) -> Result<&mut Node> {
    let len = tape.len();
    let node = tape.get_mut(i).map(|node| &mut **node);
    node.ok_or_else(|| Error::setting("the source of a recorded operation's input", format!("below {len}"), i))
}

pub(crate) fn walk(store: &mut Store, mut tape: Tape, loss: &Var, eager: bool) -> Result<()> {
    if loss.shape().iter().product::<usize>() != 1 {
        return Err(fixnet_tensor::Error::shape("backward", "a scalar loss", loss.shape()).into());
    }
    let value = loss.tensor().item();
    if !value.is_finite() {
        return Err(Error::NonFinite { what: "the loss".into(), step: store.step(), found: value.to_string() });
    }
    if let Source::Node(i) = loss.source {
        earlier(&mut tape, i)?.grad = Some(Tensor::full(loss.shape(), 1.0).into());
    }
    while let Some(node) = tape.pop() {
        let Some(grad) = node.grad else { continue };
        let needs: Vec<bool> = node.inputs.iter().map(|s| *s != Source::Const).collect();
        let name = node.op.name();
        let given = node.op.backward_deferred(grad, &mut Cx { store, needs: &needs })?;
        assert_eq!(given.len(), node.inputs.len(), "an operation gives one gradient an input");
        for (source, grad) in node.inputs.iter().zip(given) {
            let Some(grad) = grad else { continue };
            let grad = if eager { grad.into_tensor(store).into() } else { grad };
            match source {
                Source::Node(i) => {
                    let to = &mut earlier(&mut tape, *i)?.grad;
                    *to = Some(match to.take() {
                        Some(sum) => sum.plus(grad, store),
                        None => grad,
                    });
                }
                Source::Param(id) => {
                    let grad = grad.into_tensor(store);
                    store.accumulate(*id, grad)?;
                }
                Source::Const | Source::Traced(_) => {}
            }
        }
        profile::mark(name);
    }
    for p in store.params() {
        if let Some(found) = p.grad.as_ref().map(|g| map::max_abs(g.data())).filter(|m| !m.is_finite()) {
            let what = format!("the gradient of `{}`", p.name());
            return Err(Error::NonFinite { what, step: store.step(), found: found.to_string() });
        }
    }
    Ok(())
}
