//! `Graph`: the values and operations of one step.
//!
//! A graph either computes each operation as it is applied, or, made by [`Graph::trace`], notes it with the shape of its output.
//! Values that do not depend on the traced input are computed in both cases, so that they are constants of the trace.

mod trace;
mod tracing;

pub use trace::{Node, Operand, Trace};

use crate::tape::{Backward, Node as TapeNode, Tape, walk};
use crate::value::{Source, Value, Var};
use crate::{Error, ParamId, Result, Store};
use fixnet_tensor::{Tensor, profile};
use std::any::Any;
use std::cell::{OnceCell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What a graph does beside computing values. [`TRAIN`](Self::TRAIN) and [`EVAL`](Self::EVAL) are the usual settings; each
/// switch also works by itself.
///
/// ```
/// use fixnet_autograd::{Graph, Modes, Store};
/// let mut store = Store::seeded(1);
/// // Training with frozen batch normalizations: their running statistics are used and stay as they are.
/// let g = Graph::with_modes(&mut store, Modes { batch_statistics: false, ..Modes::TRAIN });
/// assert!(g.modes().record);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modes {
    /// Operations are recorded, so that [`Graph::backward`] gives gradients.
    pub record: bool,
    /// Batch normalizations use mean and variance of the batch, and move their running statistics. Without it they use the
    /// running ones.
    pub batch_statistics: bool,
    /// Quantizers keep the scales that they take from a batch because none had set them, and the rules of gradient quantizers
    /// move.
    pub calibrate: bool,
    /// Dropouts set elements to zero.
    pub dropout: bool,
}

impl Modes {
    /// All of it: training.
    pub const TRAIN: Self = Self { record: true, batch_statistics: true, calibrate: true, dropout: true };
    /// None of it: evaluation.
    pub const EVAL: Self = Self { record: false, batch_statistics: false, calibrate: false, dropout: false };
}

/// The operations noted so far, and whether a layer has looked at numbers that are not there.
struct Notes {
    trace: Trace,
    read: Arc<AtomicBool>,
}

/// One training or evaluation step over a store.
pub struct Graph<'s> {
    /// What tells its values from those of other graphs.
    id: u64,
    store: &'s mut Store,
    modes: Modes,
    tape: Tape,
    notes: Option<RefCell<Notes>>,
    eager: bool,
    /// What a network may want to know beside its input.
    given: Vec<Arc<dyn Any + Send + Sync>>,
    /// The first use of something from elsewhere. [`backward`](Self::backward) gives it: until then no gradient is wrong.
    fault: OnceCell<Error>,
}

impl<'s> Graph<'s> {
    /// A graph that records operations for [`backward`](Self::backward); layers behave as in training.
    pub fn train(store: &'s mut Store) -> Self {
        Self::with_modes(store, Modes::TRAIN)
    }

    /// A graph that records nothing; layers behave as in evaluation and change no state.
    pub fn eval(store: &'s mut Store) -> Self {
        Self::with_modes(store, Modes::EVAL)
    }

    /// A graph of any modes: for frozen batch normalizations, or gradients through a network in evaluation.
    pub fn with_modes(store: &'s mut Store, modes: Modes) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            id,
            store,
            modes,
            tape: Vec::new(),
            notes: None,
            eager: false,
            given: Vec::new(),
            fault: OnceCell::new(),
        }
    }

    /// Writes every value and every gradient out as soon as it is known. The bits are the same; it takes more time and
    /// memory. For tests, and for looking at what a deferred pass computes.
    #[must_use]
    pub fn eager(self) -> Self {
        Self { eager: true, ..self }
    }

    /// Returns what the graph does beside computing values.
    pub fn modes(&self) -> Modes {
        self.modes
    }

    /// Lets the networks of this graph know something beside their input: the objects of a batch, say, for a network that learns from
    /// a sample of places about them. What is given last of a type is what they find.
    ///
    /// ```
    /// use fixnet_autograd::{Graph, Store};
    /// let mut store = Store::seeded(1);
    /// let mut g = Graph::train(&mut store);
    /// g.give(vec![3usize, 5]);
    /// assert_eq!(g.given::<Vec<usize>>().as_deref(), Some(&vec![3, 5]));
    /// assert!(g.given::<String>().is_none());
    /// ```
    pub fn give<T: Any + Send + Sync>(&mut self, what: T) {
        self.given.push(Arc::new(what));
    }

    /// Returns what was [given](Self::give) of a type.
    pub fn given<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.given.iter().rev().find_map(|what| what.clone().downcast().ok())
    }

    /// Runs `f` with the running statistics in place of those of the batch: a part of a network whose normalizations are frozen.
    pub fn with_running_statistics<R>(&mut self, f: impl FnOnce(&mut Self) -> R) -> R {
        let before = std::mem::replace(&mut self.modes.batch_statistics, false);
        let result = f(self);
        self.modes.batch_statistics = before;
        result
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
    ///
    /// In a trace it is a constant, unless a layer has looked at numbers of the trace before: then it may follow from them, and
    /// it is an operation that cannot be exported.
    pub fn input(&self, value: Tensor) -> Var {
        let follows = self.notes.as_ref().is_some_and(|n| n.borrow().read.load(Ordering::Relaxed));
        if follows && let Some(var) = self.note_opaque("input of a layer", value.shape(), &[]) {
            return var;
        }
        Var { value: Value::Float(value), source: Source::Const, graph: self.id, non_negative: false }
    }

    /// The value of a parameter.
    ///
    /// # Panics
    /// It is of another store: see [`Store::owns`].
    pub fn param(&self, id: ParamId) -> Var {
        let value = Value::Float(self.store.param(id).value.clone());
        Var { value, source: Source::Param(id), graph: self.id, non_negative: false }
    }

    /// The output of an operation: records it if the graph records and some input needs a gradient. `op` is a closure,
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
        let traced = inputs.iter().any(|s| matches!(s, Source::Traced(_)));
        if self.notes.is_some() && traced {
            let var = self.note_opaque(op().name(), value.inner().shape(), &inputs);
            return var.unwrap_or(Var { value, source: Source::Const, graph: self.id, non_negative: false });
        }
        let value = match value {
            Value::Deferred(lazy) if self.eager => Value::Float(lazy.tensor()),
            value => value,
        };
        // A frozen parameter is a constant, and so is what follows from those alone.
        let live = |source| match source {
            Source::Param(id) if self.store.owns(id).is_ok() && self.store.param(id).is_frozen() => Source::Const,
            source => source,
        };
        let inputs: Vec<Source> = inputs.into_iter().map(live).collect();
        let source = match self.modes.record && inputs.iter().any(|s| *s != Source::Const) {
            true => {
                let op = op();
                profile::mark(op.name());
                self.tape.push(Box::new(TapeNode { op: Box::new(op), inputs, grad: None }));
                Source::Node(self.tape.len() - 1)
            }
            false => Source::Const,
        };
        Var { value, source, graph: self.id, non_negative: false }
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
            None => walk(store, self.tape, &loss, self.eager),
        };
        if result.is_err() {
            store.zero_grad();
        }
        result
    }
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
