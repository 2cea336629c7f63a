//! `Trace`: the operations of a network with the shapes of their outputs, noted without computing anything.

use crate::stored::Parameter;
use crate::{Error, Graph, Operation, Result, Var};
use fixnet_tensor::{Budget, Tensor};
use std::sync::Arc;

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
    layer: String,
    op: Arc<dyn Operation>,
    operands: Vec<Operand>,
    shape: Vec<usize>,
}

impl Node {
    /// Returns the name, which no other node has: that of the layer, or a longer one where the layer has several nodes; empty if it has
    /// none.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the name of the layer whose numbers it has. A layer that is used several times, as the head of a detector is for each
    /// level, gives several nodes.
    pub fn layer(&self) -> &str {
        &self.layer
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

/// The error of an operation whose output is not one for each image.
fn mixed(op: &dyn Operation) -> Error {
    let found = format!("`{}`, which mixes images or has an operand with a row per image", op.kind());
    Error::setting("an operation of a traced network", "one that keeps the axis of the batch", found)
}

/// The operations of a network in an order in which each comes after those that it reads; the first is the input.
#[derive(Debug, Clone)]
pub struct Trace {
    nodes: Vec<Node>,
}

impl Trace {
    /// Returns a trace that has only its input, for values of `shape` without the axis of the batch.
    pub fn new(shape: &[usize]) -> Self {
        let (name, layer) = ("input".to_string(), "input".to_string());
        let input = Node { name, layer, op: Arc::new(Input), operands: Vec::new(), shape: shape.to_vec() };
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
        self.push_of(name, name, op, operands)
    }

    /// As [`push`](Self::push), of an operation of the layer `layer`.
    ///
    /// # Errors
    /// As there.
    pub fn push_of(
        &mut self,
        layer: &str,
        name: &str,
        op: Arc<dyn Operation>,
        operands: Vec<Operand>,
    ) -> Result<usize> {
        let named = |e: Error| if name.is_empty() { e } else { e.in_layer(name) };
        let shape = self.infer(&*op, &operands).map_err(named)?;
        self.nodes.push(Node { name: name.to_string(), layer: layer.to_string(), op, operands, shape });
        Ok(self.nodes.len() - 1)
    }

    fn infer(&self, op: &dyn Operation, operands: &[Operand]) -> Result<Vec<usize>> {
        // No product of lengths wraps, in shapes that follow from these either.
        let claim = |shape: &[usize]| Budget::ARRAY.clone().claim("a value of the network", shape, size_of::<f32>());
        for (index, operand) in operands.iter().enumerate() {
            let Operand::Node(i) = operand else { continue };
            let Some(node) = self.nodes.get(*i) else {
                return Err(Error::setting("inputs of an operation", format!("below {}", self.nodes.len()), i));
            };
            if !op.is_batched(index) {
                let found = format!("`{}` that depends on the input", op.operand(index));
                return Err(Error::setting("an operand without the axis of the batch", "a constant", found));
            }
            claim(&node.shape)?;
        }
        let shape = |batch: usize| {
            let of = |operand: &Operand| match operand {
                Operand::Constant(t) => t.shape().to_vec(),
                Operand::Node(i) => [&[batch], self.nodes[*i].shape()].concat(),
            };
            let shapes: Vec<Vec<usize>> = operands.iter().map(of).collect();
            op.output_shape(&shapes.iter().map(Vec::as_slice).collect::<Vec<_>>())
        };
        let shape_of_one = shape(1)?;
        let Some((1, rest)) = shape_of_one.split_first() else { return Err(mixed(op)) };
        claim(rest)?;
        // A constant with a row per image, or an operation that moves the axis of the batch, fits a batch of one alone: other
        // batches tell. No length is both 2 and 3.
        if operands.iter().any(|operand| matches!(operand, Operand::Node(_))) {
            for batch in [2, 3] {
                match shape(batch) {
                    Ok(found) if found.split_first() == Some((&batch, rest)) => {}
                    _ => return Err(mixed(op)),
                }
            }
        }
        Ok(rest.to_vec())
    }

    /// Returns `name` if no node has it, else a longer one.
    pub(super) fn unique(&self, name: &str, kind: &str) -> String {
        let free = |name: &str| name.is_empty() || self.nodes.iter().all(|n| n.name != name);
        if free(name) {
            return name.to_string();
        }
        let longer = (1..).map(|i| if i == 1 { format!("{name}.{kind}") } else { format!("{name}.{kind}_{i}") });
        longer.into_iter().find(|n| free(n)).unwrap_or_default()
    }
}
