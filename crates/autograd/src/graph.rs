//! `Graph`: the tape of one step. `Var`: a value on it. `Backward`: the derivative of one operation.

use crate::deferred::{Deferred, Gradient, Lazy};
use crate::{Error, ParamId, Result, Slot, State, Store};
use fixnet_tensor::rng::Stream;
use fixnet_tensor::{Sums, Tensor, map, profile};
use std::cell::OnceCell;
use std::sync::atomic::{AtomicU64, Ordering};

/// What flows between operations: floats, the exact accumulators of an integer product, or what is to be computed.
#[derive(Debug, Clone)]
pub enum Value {
    /// A float tensor.
    Float(Tensor),
    /// Integer sums with a scale; operations that can use them never see floats.
    Sums(Sums),
    /// Floats that are computed where they are needed.
    Deferred(Lazy),
}

impl Value {
    /// The numbers, wherever they are.
    pub(crate) fn inner(&self) -> &dyn Deferred {
        match self {
            Self::Float(t) => t,
            Self::Sums(s) => s,
            Self::Deferred(d) => d,
        }
    }

    /// The value as floats; exact sums are converted with one rounding each.
    pub fn tensor(&self) -> Tensor {
        match self {
            Self::Float(t) => t.clone(),
            Self::Sums(s) => s.to_tensor(),
            Self::Deferred(d) => d.tensor(),
        }
    }
}

/// Where a value comes from, and so where its gradient goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The output of a recorded operation.
    Node(usize),
    /// A parameter.
    Param(ParamId),
    /// An input: it needs no gradient.
    Const,
}

/// A value in the graph. Cloning is cheap: the numbers are shared.
#[derive(Debug, Clone)]
pub struct Var {
    value: Value,
    source: Source,
    /// The graph that gave it.
    graph: u64,
}

impl Var {
    /// The value as it is.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The value as floats; exact sums are converted with one rounding each.
    pub fn tensor(&self) -> Tensor {
        self.value.tensor()
    }

    /// The lengths of the axes.
    pub fn shape(&self) -> &[usize] {
        self.value.inner().shape()
    }
}

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
type Tape = Vec<Box<Node>>;

/// An operation on the tape.
struct Node {
    op: Box<dyn Backward>,
    inputs: Vec<Source>,
    /// What has come for its output so far on the way back.
    grad: Option<Gradient>,
}

/// One training or evaluation step over a store.
pub struct Graph<'s> {
    /// What tells its values from those of other graphs.
    id: u64,
    store: &'s mut Store,
    tape: Option<Tape>,
    eager: bool,
    /// The first use of something from elsewhere. [`backward`](Self::backward) gives it: until then no gradient is wrong.
    fault: OnceCell<Error>,
}

impl<'s> Graph<'s> {
    /// A graph that records operations for [`backward`](Self::backward); layers behave as in training.
    pub fn train(store: &'s mut Store) -> Self {
        Self::new(store, Some(Vec::new()))
    }

    /// A graph that records nothing; layers behave as in evaluation and change no state.
    pub fn eval(store: &'s mut Store) -> Self {
        Self::new(store, None)
    }

    fn new(store: &'s mut Store, tape: Option<Tape>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { id, store, tape, eager: false, fault: OnceCell::new() }
    }

    /// Writes every value and every gradient out as soon as it is known. The bits are the same; it takes more time and
    /// memory. For tests, and for looking at what a deferred pass computes.
    #[must_use]
    pub fn eager(self) -> Self {
        Self { eager: true, ..self }
    }

    /// Whether this is a training step.
    pub fn training(&self) -> bool {
        self.tape.is_some()
    }

    /// The store.
    pub fn store(&self) -> &Store {
        self.store
    }

    /// The store, for operations that keep state.
    pub fn store_mut(&mut self) -> &mut Store {
        self.store
    }

    /// A value that needs no gradient.
    pub fn input(&self, value: Tensor) -> Var {
        Var { value: Value::Float(value), source: Source::Const, graph: self.id }
    }

    /// The value of a parameter.
    ///
    /// # Panics
    /// It is of another store: see [`Store::owns`].
    pub fn param(&self, id: ParamId) -> Var {
        let value = Value::Float(self.store.param(id).value.clone());
        Var { value, source: Source::Param(id), graph: self.id }
    }

    /// The output of an operation: records it if this is training and some input needs a gradient. `op` is a closure,
    /// so that nothing is saved otherwise.
    pub fn record<B: Backward + 'static>(&mut self, value: Tensor, inputs: &[&Var], op: impl FnOnce() -> B) -> Var {
        self.record_value(Value::Float(value), inputs.iter().map(|v| self.source(v)).collect(), op)
    }

    /// As [`record`](Self::record), for an operation that gives exact sums or reads a parameter without its value.
    pub fn record_value<B: Backward + 'static>(
        &mut self,
        value: Value,
        inputs: Vec<Source>,
        op: impl FnOnce() -> B,
    ) -> Var {
        let value = match value {
            Value::Deferred(lazy) if self.eager => Value::Float(lazy.tensor()),
            value => value,
        };
        let source = match &mut self.tape {
            Some(tape) if inputs.iter().any(|s| *s != Source::Const) => {
                let op = op();
                profile::mark(op.name());
                tape.push(Box::new(Node { op: Box::new(op), inputs, grad: None }));
                Source::Node(tape.len() - 1)
            }
            _ => Source::Const,
        };
        Var { value, source, graph: self.id }
    }

    /// The source of a value, for [`record_value`](Self::record_value). A value of another graph that needs a gradient there
    /// counts as a constant here, and [`backward`](Self::backward) refuses the graph.
    pub fn source(&self, var: &Var) -> Source {
        if var.source == Source::Const || var.graph == self.id {
            return var.source;
        }
        self.fault.get_or_init(|| {
            let expected = "one of the graph that uses it (as a constant: `g.input(value.tensor())`)";
            Error::setting("a value", expected, "one of another graph")
        });
        Source::Const
    }

    /// Walks the tape backwards from a scalar loss and leaves the gradients of parameters in the store, added to what
    /// is there. Consumes the graph: the store is free again, and all that was saved is gone.
    ///
    /// Several passes before a step of the optimizer accumulate: their gradients add up, and each draws rounding noise of its
    /// own ([`Store::draws`]). What the sum is divided by is in the losses.
    ///
    /// # Errors
    /// The loss is not a scalar, the loss or a gradient is not finite, or a value of another graph went into this one or is
    /// the loss; the store then holds no gradients.
    pub fn backward(self, loss: Var) -> Result<()> {
        self.source(&loss);
        let store = self.store;
        let result = match self.fault.into_inner() {
            Some(fault) => Err(fault),
            None => walk(store, self.tape.unwrap_or_default(), &loss, self.eager),
        };
        if result.is_err() {
            store.zero_grad();
        }
        result
    }
}

/// A node before the one that is walked.
fn earlier(tape: &mut Tape, i: usize) -> Result<&mut Node> {
    let len = tape.len();
    let node = tape.get_mut(i).map(|node| &mut **node);
    node.ok_or_else(|| Error::setting("the source of a recorded operation's input", format!("below {len}"), i))
}

fn walk(store: &mut Store, mut tape: Tape, loss: &Var, eager: bool) -> Result<()> {
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
                Source::Const => {}
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Group;

    /// A second backward pass that fails leaves no gradient of the first one behind.
    #[test]
    fn a_failed_pass_leaves_no_gradients() {
        let mut store = Store::seeded(0);
        let w = store.add("w", Group::Weight, Tensor::from_vec(&[2], vec![1.0, 2.0]).unwrap()).unwrap();
        for factor in [f32::NAN, f32::INFINITY] {
            let pass = |store: &mut Store, factor| {
                let mut g = Graph::train(store);
                let w = g.param(w);
                let w = g.scale(&w, factor).unwrap();
                let target = g.input(Tensor::zeros(&[2]));
                let loss = g.mse_loss(&w, &target).unwrap();
                g.backward(loss)
            };
            pass(&mut store, 1.0).unwrap();
            assert_eq!(store.grad(w).unwrap().data(), [1.0, 2.0]);
            let e = pass(&mut store, factor).unwrap_err().to_string();
            assert!(e.starts_with("the loss is not finite"), "{e}");
            assert!(store.grad(w).is_none());
        }
        let g = Graph::train(&mut store);
        let vector = g.param(w);
        let e = g.backward(vector).unwrap_err().to_string();
        assert!(e.contains("a scalar loss") && e.contains("[2]"), "{e}");
    }

    /// Tapes of one length, so that an address of the earlier graph names a node of the later one.
    #[test]
    fn a_value_of_an_earlier_graph_is_refused_and_moves_nothing() {
        let mut store = Store::seeded(0);
        let w = store.add("w", Group::Weight, Tensor::scalar(2.0)).unwrap();
        let u = store.add("u", Group::Weight, Tensor::scalar(5.0)).unwrap();
        let (stale, leaf, constant) = {
            let mut g = Graph::train(&mut store);
            let v = g.param(w);
            (g.scale(&v, 10.0).unwrap(), v, g.input(Tensor::scalar(3.0)))
        };
        let pass = |store: &mut Store, other: &Var| {
            let mut g = Graph::train(store);
            let v = g.param(u);
            let v = g.scale(&v, 100.0).unwrap();
            let loss = g.mul(&v, other).unwrap();
            g.backward(loss)
        };
        for other in [&stale, &leaf] {
            let e = pass(&mut store, other).unwrap_err().to_string();
            assert!(e.contains("one of another graph") && e.contains("g.input(value.tensor())"), "{e}");
            assert!(store.grad(w).is_none() && store.grad(u).is_none());
        }
        // What needs no gradient is a number like any other.
        pass(&mut store, &constant).unwrap();
        assert_eq!(store.grad(u).unwrap().item(), 300.0);
    }

    #[test]
    fn a_loss_of_another_graph_is_refused() {
        let (mut one, mut other) = (Store::seeded(0), Store::seeded(0));
        let w = one.add("w", Group::Weight, Tensor::scalar(1.0)).unwrap();
        let mut g = Graph::train(&mut one);
        let w = g.param(w);
        let loss = g.scale(&w, 2.0).unwrap();
        let e = Graph::train(&mut other).backward(loss).unwrap_err().to_string();
        assert!(e.contains("another graph"), "{e}");
    }
}
