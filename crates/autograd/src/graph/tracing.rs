//! How a graph notes operations instead of computing them.

use super::{Graph, Modes, Notes, Operand, Trace};
use crate::deferred::{Deferred, Lazy};
use crate::stored::Obstacle;
use crate::value::{Source, Value, Var};
use crate::{Error, Operation, ParamId, Result, Store};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// An operation of which a trace knows the shape of the output alone: a layer has computed it by itself.
#[derive(Debug)]
struct Opaque {
    name: &'static str,
    shape: Vec<usize>,
}

impl Operation for Opaque {
    fn kind(&self) -> &'static str {
        self.name
    }
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let batch = inputs.first().and_then(|shape| shape.first()).copied().unwrap_or(1);
        Ok(std::iter::once(batch).chain(self.shape.iter().skip(1).copied()).collect())
    }
    fn compute(&self, _: &mut Graph<'_>, _: &[&Var]) -> Result<Var> {
        Err(Error::setting("an operation", "one that implements `Operation`", self.name))
    }
    fn obstacle(&self) -> Option<Obstacle> {
        Some(Obstacle { expected: "an operation that implements `Operation`", found: self.name.into() })
    }
}

/// A value of a trace: it has a shape, and whoever reads its numbers all the same finds zeros and is remembered.
struct Unknown {
    shape: Vec<usize>,
    read: Arc<AtomicBool>,
}

impl Deferred for Unknown {
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn fill(&self, _: usize, out: &mut [f32]) {
        self.read.store(true, Ordering::Relaxed);
        out.fill(0.0);
    }
}

impl<'s> Graph<'s> {
    /// A graph that computes nothing and notes the operations of a network for values of `shape`, without the axis of the
    /// batch. Returns it with the value of the input, whose batch is one image. Layers behave as in evaluation.
    pub fn trace(store: &'s mut Store, shape: &[usize]) -> (Self, Var) {
        let notes = Notes { trace: Trace::new(shape), read: Arc::default() };
        let g = Self { notes: Some(RefCell::new(notes)), ..Self::with_modes(store, Modes::EVAL) };
        let input = g.unknown(0, &[&[1], shape].concat());
        (g, input)
    }

    /// Whether a value is one of this graph's trace: it has a shape and no numbers.
    pub fn is_traced(&self, x: &Var) -> bool {
        self.notes.is_some() && x.graph == self.id && matches!(x.source, Source::Traced(_))
    }

    /// Returns the operations that were noted, and the index of the node that gives each of `outputs`.
    ///
    /// # Errors
    /// This graph traces nothing, or an output does not depend on its input.
    pub fn finish(self, outputs: &[&Var]) -> Result<(Trace, Vec<usize>)> {
        let index = |v: &&Var| match v.source {
            Source::Traced(i) if v.graph == self.id => Ok(i),
            _ => Err(Error::setting("an output of a network", "a value that depends on its input", "a constant")),
        };
        let indices = outputs.iter().map(index).collect::<Result<_>>()?;
        match (self.fault.into_inner(), self.notes) {
            (Some(fault), _) => Err(fault),
            (None, Some(notes)) => Ok((notes.into_inner().trace, indices)),
            (None, None) => Err(Error::setting("a graph to finish", "one that traces", "one that computes")),
        }
    }

    fn unknown(&self, node: usize, shape: &[usize]) -> Var {
        let read = self.notes.as_ref().map(|n| n.borrow().read.clone()).unwrap_or_default();
        let value = Value::Deferred(Lazy::new(Unknown { shape: shape.to_vec(), read }));
        Var { value, source: Source::Traced(node), graph: self.id, non_negative: false }
    }

    /// Applies an operation: computes it, or notes it if a value is traced. Its name in a trace is that of the first parameter
    /// among its inputs without the part behind the last dot: `fc1` for `fc1.weight`.
    ///
    /// # Errors
    /// The inputs do not fit the operation, or one is a value of the trace of another graph.
    pub fn apply(&mut self, op: impl Operation, inputs: &[&Var]) -> Result<Var> {
        let layer = inputs.iter().find_map(|v| if let Source::Param(id) = v.source { Some(id) } else { None });
        let name = layer.filter(|id| self.notes.is_some() && self.store.owns(*id).is_ok()).map(|id| self.layer(id));
        self.apply_as(&name.unwrap_or_default(), op, inputs)
    }

    /// As [`apply`](Self::apply), for an operation of the layer `name`.
    ///
    /// # Errors
    /// As there.
    pub fn apply_as(&mut self, name: &str, op: impl Operation, inputs: &[&Var]) -> Result<Var> {
        if !self.traces(inputs)? {
            let out = self.computed(&op, inputs)?;
            debug_assert_eq!(
                op.output_shape(&inputs.iter().map(|v| v.shape()).collect::<Vec<_>>()).as_deref(),
                Ok(out.shape()),
                "{op:?}"
            );
            return Ok(out);
        }
        self.note(name, Arc::new(op), inputs)
    }

    /// Computes an operation; its output knows whether it may be negative.
    fn computed(&mut self, op: &dyn Operation, inputs: &[&Var]) -> Result<Var> {
        let non_negative = op.is_non_negative(&signs(inputs));
        let out = op.compute(self, inputs)?;
        Ok(Var { non_negative, ..out })
    }

    /// As [`apply_as`](Self::apply_as), for an operation of a trace.
    ///
    /// # Errors
    /// As there.
    pub fn apply_shared(&mut self, name: &str, op: &Arc<dyn Operation>, inputs: &[&Var]) -> Result<Var> {
        match self.traces(inputs)? {
            false => self.computed(&**op, inputs),
            true => self.note(name, op.clone(), inputs),
        }
    }

    /// The name of the layer that a parameter belongs to.
    pub(crate) fn layer(&self, id: ParamId) -> String {
        let name = self.store.param(id).name();
        name.rsplit_once('.').map_or(name, |(layer, _)| layer).to_string()
    }

    /// Returns whether an operation on these values is to be noted: whether one of them is traced.
    ///
    /// # Errors
    /// A value is of another graph's trace, so it has no numbers here.
    pub fn traces(&self, inputs: &[&Var]) -> Result<bool> {
        let mut traced = false;
        for v in inputs.iter().filter(|v| matches!(v.source, Source::Traced(_))) {
            if v.graph != self.id {
                return Err(Error::setting("a value", "one of the graph that uses it", "one of another graph's trace"));
            }
            traced = true;
        }
        Ok(traced)
    }

    fn note(&self, name: &str, op: Arc<dyn Operation>, inputs: &[&Var]) -> Result<Var> {
        let operand = |v: &&Var| match v.source {
            Source::Traced(i) => Operand::Node(i),
            _ => Operand::Constant(v.tensor()),
        };
        let operands = inputs.iter().map(operand).collect();
        let Some(notes) = &self.notes else {
            return Err(Error::setting("a graph", "one that traces", "one that computes"));
        };
        let mut notes = notes.borrow_mut();
        let unique = notes.trace.unique(name, op.kind());
        let non_negative = op.is_non_negative(&signs(inputs));
        let node = notes.trace.push_of(name, &unique, op, operands)?;
        let shape = [&[1], notes.trace.nodes()[node].shape()].concat();
        drop(notes);
        Ok(Var { non_negative, ..self.unknown(node, &shape) })
    }

    /// Notes an operation of which nothing is known but its name and the shape of its output.
    pub(super) fn note_opaque(&self, name: &'static str, shape: &[usize], inputs: &[Source]) -> Option<Var> {
        let node = |s: &Source| if let Source::Traced(i) = s { Some(Operand::Node(*i)) } else { None };
        let operands = inputs.iter().filter_map(node).collect();
        let op = Arc::new(Opaque { name, shape: shape.to_vec() });
        let pushed = self.notes.as_ref()?.borrow_mut().trace.push("", op, operands);
        match pushed {
            Ok(node) => Some(self.unknown(node, shape)),
            Err(e) => {
                self.fault.get_or_init(|| e);
                None
            }
        }
    }
}

/// Whether each value is known to have no element below 0.
fn signs(inputs: &[&Var]) -> Vec<bool> {
    inputs.iter().map(|v| v.is_non_negative()).collect()
}
