//! `Graph`: the values and operations of one step. `Operation`: what every operation says of itself. `Trace`: the operations of
//! a network, noted without computing anything.
//!
//! A graph either computes each operation as it is applied, or, made by [`Graph::trace`], notes it with the shape of its output.
//! Values that do not depend on the traced input are computed in both cases, so that they are constants of the trace.

mod tracing;

use crate::stored::{Obstacle, Parameter, Settings};
use crate::tape::{Backward, Node as TapeNode, Tape, walk};
use crate::value::{Source, Value, Var};
use crate::{Array, Error, ParamId, Result, Store};
use fixnet_tensor::{Budget, Tensor, profile};
use std::any::Any;
use std::cell::{OnceCell, RefCell};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// An operation with its settings: its output shape, its value, and how it is written down.
///
/// The axis of the batch is the first of each value. A trace has a batch of one image.
pub trait Operation: Any + fmt::Debug + Send + Sync {
    /// Returns the name of the operation in packed networks, such as `max_pool2d`.
    fn kind(&self) -> &'static str;

    /// Returns the name of the operation in summaries, such as `max pool 2x2`.
    fn title(&self) -> String {
        self.kind().replace('_', " ")
    }

    /// Returns the name of an operand, such as `weight`, under which a packed network stores a constant.
    fn operand(&self, index: usize) -> String {
        format!("operand{index}")
    }

    /// Returns whether an operand has the axis of the batch. Those of the others are constants in a trace.
    fn is_batched(&self, index: usize) -> bool {
        let _ = index;
        true
    }

    /// Infers the shape of the output from those of the inputs, all with the axis of the batch.
    ///
    /// # Errors
    /// The number of inputs or their shapes do not fit.
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>>;

    /// Computes the output and records the derivative.
    ///
    /// # Errors
    /// The number of inputs or their shapes do not fit.
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var>;

    /// Returns the settings for a packed network.
    fn settings(&self) -> Settings {
        Settings::new()
    }

    /// Returns the numbers that the operation itself holds, for a packed network.
    fn arrays(&self) -> Vec<(&'static str, Array)> {
        Vec::new()
    }

    /// Lists the parameters for a summary; `constants` are the constant operands with their names.
    fn parameters(&self, constants: &[(String, &Tensor)]) -> Vec<Parameter> {
        constants.iter().map(|(name, t)| Parameter::float(name.clone(), t.shape())).collect()
    }

    /// Returns the bits of weights/activations/gradients, if the operation has a weight.
    fn precision(&self) -> Option<String> {
        None
    }

    /// Returns the multiply-adds for one image of a product with these `parameters` and an output of this shape without the
    /// axis of the batch.
    fn macs(&self, parameters: &[Parameter], output: &[usize]) -> u64 {
        let _ = (parameters, output);
        0
    }

    /// Says why the operation cannot be exported, if it cannot.
    fn obstacle(&self) -> Option<Obstacle> {
        None
    }
}

impl dyn Operation {
    /// Returns the operation as a type, if it is of that type.
    pub fn get<O: Operation>(&self) -> Option<&O> {
        (self as &dyn Any).downcast_ref()
    }
}

/// Returns exactly N inputs.
///
/// # Errors
/// There are more or fewer.
pub fn exactly<T: Copy, const N: usize>(inputs: &[T]) -> Result<[T; N]> {
    inputs.try_into().map_err(|_| Error::setting("inputs of an operation", N, inputs.len()))
}

/// The input of a trace.
#[derive(Debug)]
struct Input;

impl Operation for Input {
    fn kind(&self) -> &'static str {
        "input"
    }
    fn output_shape(&self, _: &[&[usize]]) -> Result<Vec<usize>> {
        Err(Error::setting("an operation", "any but a second input", "input"))
    }
    fn compute(&self, _: &mut Graph<'_>, _: &[&Var]) -> Result<Var> {
        Err(Error::setting("an operation", "any but a second input", "input"))
    }
}

/// An operand of an operation in a trace.
#[derive(Debug, Clone)]
pub enum Operand {
    /// The output of the node of this index.
    Node(usize),
    /// Numbers that do not depend on the input.
    Constant(Tensor),
}

/// One operation of a trace.
#[derive(Debug, Clone)]
pub struct Node {
    name: String,
    op: Arc<dyn Operation>,
    operands: Vec<Operand>,
    shape: Vec<usize>,
}

impl Node {
    /// Returns the name of the layer; empty if it has none.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the name for messages: that of the layer, or of the operation.
    pub fn label(&self) -> String {
        if self.name.is_empty() { self.op.title() } else { self.name.clone() }
    }

    /// Returns the operation.
    pub fn op(&self) -> &Arc<dyn Operation> {
        &self.op
    }

    /// Returns the operation as a type, if it is of that type.
    pub fn get<O: Operation>(&self) -> Option<&O> {
        self.op.get()
    }

    /// Returns the operands in their order.
    pub fn operands(&self) -> &[Operand] {
        &self.operands
    }

    /// Returns the indices of the nodes whose outputs it reads.
    pub fn inputs(&self) -> Vec<usize> {
        let node = |o: &Operand| if let Operand::Node(i) = o { Some(*i) } else { None };
        self.operands.iter().filter_map(node).collect()
    }

    /// Returns the constant operands with their names.
    pub fn constants(&self) -> Vec<(String, &Tensor)> {
        let named = self.operands.iter().enumerate().map(|(i, operand)| (self.op.operand(i), operand));
        named.filter_map(|(name, o)| if let Operand::Constant(t) = o { Some((name, t)) } else { None }).collect()
    }

    /// Returns the constant operand of a name, if there is one.
    pub fn constant(&self, name: &str) -> Option<&Tensor> {
        self.constants().into_iter().find(|(n, _)| n == name).map(|(_, t)| t)
    }

    /// Lists the parameters.
    pub fn parameters(&self) -> Vec<Parameter> {
        self.op.parameters(&self.constants())
    }

    /// Returns the lengths of the output's axes without that of the batch.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }
}

/// The operations of a network in an order in which each comes after those that it reads; the first is the input.
#[derive(Debug, Clone)]
pub struct Trace {
    nodes: Vec<Node>,
}

impl Trace {
    /// Returns a trace that has only its input, for values of `shape` without the axis of the batch.
    pub fn new(shape: &[usize]) -> Self {
        let input = Node { name: "input".into(), op: Arc::new(Input), operands: Vec::new(), shape: shape.to_vec() };
        Self { nodes: vec![input] }
    }

    /// Returns the operations.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Adds an operation on values that are there; returns the index of its node.
    ///
    /// # Errors
    /// An operand is not there, or shapes do not fit each other or memory; the error names the layer.
    pub fn push(&mut self, name: &str, op: Arc<dyn Operation>, operands: Vec<Operand>) -> Result<usize> {
        let named = |e: Error| if name.is_empty() { e } else { e.in_layer(name) };
        let shape = self.infer(&*op, &operands).map_err(named)?;
        self.nodes.push(Node { name: name.to_string(), op, operands, shape });
        Ok(self.nodes.len() - 1)
    }

    fn infer(&self, op: &dyn Operation, operands: &[Operand]) -> Result<Vec<usize>> {
        // No product of lengths wraps, in shapes that follow from these either.
        let claim = |shape: &[usize]| Budget::ARRAY.clone().claim("a value of the network", shape, size_of::<f32>());
        let mut shapes = Vec::new();
        for (index, operand) in operands.iter().enumerate() {
            shapes.push(match operand {
                Operand::Constant(t) => t.shape().to_vec(),
                Operand::Node(i) => {
                    let Some(node) = self.nodes.get(*i) else {
                        return Err(Error::setting("inputs of an operation", format!("below {}", self.nodes.len()), i));
                    };
                    if !op.is_batched(index) {
                        let found = format!("`{}` that depends on the input", op.operand(index));
                        return Err(Error::setting("an operand without the axis of the batch", "a constant", found));
                    }
                    claim(&node.shape)?;
                    [&[1], &node.shape[..]].concat()
                }
            });
        }
        let shapes: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
        match op.output_shape(&shapes)?.split_first() {
            Some((1, rest)) => {
                claim(rest)?;
                Ok(rest.to_vec())
            }
            _ => {
                let found = format!("`{}`, which mixes images", op.kind());
                Err(Error::setting("an operation of a traced network", "one that keeps the axis of the batch", found))
            }
        }
    }

    /// Returns `name` if no node has it, else a longer one.
    fn unique(&self, name: &str, kind: &str) -> String {
        let free = |name: &str| name.is_empty() || self.nodes.iter().all(|n| n.name != name);
        if free(name) {
            return name.to_string();
        }
        let longer = (1..).map(|i| if i == 1 { format!("{name}.{kind}") } else { format!("{name}.{kind}_{i}") });
        longer.into_iter().find(|n| free(n)).unwrap_or_default()
    }
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
    tape: Option<Tape>,
    notes: Option<RefCell<Notes>>,
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
        Self { id, store, tape, notes: None, eager: false, fault: OnceCell::new() }
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
    ///
    /// In a trace it is a constant, unless a layer has looked at numbers of the trace before: then it may follow from them, and
    /// it is an operation that cannot be exported.
    pub fn input(&self, value: Tensor) -> Var {
        let follows = self.notes.as_ref().is_some_and(|n| n.borrow().read.load(Ordering::Relaxed));
        if follows && let Some(var) = self.note_opaque("input of a layer", value.shape(), &[]) {
            return var;
        }
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
        let traced = inputs.iter().any(|s| matches!(s, Source::Traced(_)));
        if self.notes.is_some() && traced {
            let var = self.note_opaque(op().name(), value.inner().shape(), &inputs);
            return var.unwrap_or(Var { value, source: Source::Const, graph: self.id });
        }
        let value = match value {
            Value::Deferred(lazy) if self.eager => Value::Float(lazy.tensor()),
            value => value,
        };
        let source = match &mut self.tape {
            Some(tape) if inputs.iter().any(|s| *s != Source::Const) => {
                let op = op();
                profile::mark(op.name());
                tape.push(Box::new(TapeNode { op: Box::new(op), inputs, grad: None }));
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
