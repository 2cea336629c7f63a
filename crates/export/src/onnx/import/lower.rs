//! A graph as steps of a network of fixnet, for inputs of one shape.
//!
//! A file has the channels of an image first, fixnet has them last. A value knows both: its axes as the file has them, and the
//! order in which they lie in memory. So a `Transpose` moves nothing, and what needs its axes in an order asks for that order.
//! The axis of the batch stays the first; lengths are those of one sample.

use super::act::{Act, in_file_order};
use super::constant::{Constant, batches_of};
use super::names::Names;
use super::problem::{Problem, Result};
use super::program::{Input, Product, Program, Step, Work};
use super::read::{File, label, op_of};
use super::{gelu, operators};
use crate::onnx::messages::{Attribute, Node};
use fixnet_autograd::{Operation, ops};
use fixnet_tensor::Budget;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a name of the graph stands for.
#[derive(Debug, Clone)]
pub(super) enum Item {
    Constant(Arc<Constant>),
    Act(Act),
}

/// A network that grows node by node.
pub(super) struct Lowering<'a> {
    pub(super) file: &'a File,
    items: BTreeMap<String, Item>,
    /// The names of each value.
    aliases: BTreeMap<usize, Vec<String>>,
    pub(super) steps: Vec<Step>,
    pub(super) names: Names,
    /// Nodes that another one has taken in.
    pub(super) done: BTreeSet<usize>,
    /// The node that is lowered, and its place.
    pub(super) at: usize,
    budget: Budget,
    /// What constants that are computed may take together.
    folded: Budget,
}

/// The axes of the input as a file has them, for data of these lengths, and the order in which they lie in memory. A file whose
/// lengths do not say otherwise has the channels of a sequence first, as PyTorch has them.
fn axes_of(file: &File, input: &[usize]) -> Result<(Vec<usize>, Vec<usize>)> {
    let (dims, order) = match *input {
        [h, w, c] => (vec![c, h, w], vec![1, 2, 0]),
        [t, c] => (vec![c, t], vec![1, 0]),
        [f] => (vec![f], vec![0]),
        _ => return Err(Problem::graph("data", "images, sequences or rows of numbers", format!("{input:?}"))),
    };
    let Some(expected) = &file.dims else { return Ok((dims, order)) };
    let fits = |dims: &[usize]| {
        expected.len() == dims.len() && expected.iter().zip(dims).all(|(e, d)| e.is_none_or(|e| e == *d))
    };
    if fits(&dims) {
        return Ok((dims, order));
    }
    if input.len() == 2 && fits(input) {
        return Ok((input.to_vec(), vec![0, 1]));
    }
    let text = |d: &Option<usize>| d.map_or("any".into(), |d| d.to_string());
    let expected = expected.iter().map(text).collect::<Vec<_>>().join(", ");
    let axes = if input.len() == 2 { "channels, steps" } else { "channels, rows, columns" };
    let found = format!("{dims:?} of the data ({axes})");
    Err(Problem::graph(format!("input `{}`", file.input), format!("[batch, {expected}]"), found))
}

/// Lowers a graph for inputs of `input` = [H, W, C], [T, C] or `[F]`.
///
/// # Errors
/// A node has inputs or settings that have no form in fixnet.
pub(super) fn lower(file: &File, input: &[usize]) -> Result<Program> {
    let (dims, order) = axes_of(file, input)?;
    let mut low = Lowering {
        file,
        items: BTreeMap::new(),
        aliases: BTreeMap::new(),
        steps: Vec::new(),
        names: Names::default(),
        done: BTreeSet::new(),
        at: 0,
        budget: Budget::VALUES,
        folded: Budget::VALUES,
    };
    for (name, constant) in &file.constants {
        low.items.insert(name.clone(), Item::Constant(constant.clone()));
    }
    low.items.insert(file.input.clone(), Item::Act(Act::in_order(0, dims, order)));
    for (i, node) in file.nodes.iter().enumerate() {
        if low.done.contains(&i) {
            continue;
        }
        low.at = i;
        let items = match gelu::lower(&mut low, node)? {
            Some(()) => continue,
            None => operators::lower(&mut low, node)?,
        };
        let outputs: Vec<&String> = node.output.iter().collect();
        for (k, name) in outputs.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            match items.get(k) {
                Some(item) => {
                    low.claim(node, item)?;
                    low.give(name, item.clone());
                }
                None if file.reads.contains_key(*name) => {
                    return Err(low.odd(node, format!("{} outputs that are read", items.len()), format!("`{name}`")));
                }
                None => {}
            }
        }
    }
    let act = match low.items.get(&file.output) {
        Some(Item::Act(act)) if act.batch == 0 && act.joined.is_none() => act.clone(),
        Some(Item::Act(_)) => {
            return Err(Problem::graph(
                format!("output `{}`", file.output),
                "the axis of the batch first",
                "another one",
            ));
        }
        found => {
            let found = if found.is_some() { "a constant" } else { "no node that gives it" };
            return Err(Problem::graph(
                format!("output `{}`", file.output),
                "a value that depends on the input",
                found,
            ));
        }
    };
    let act = match act.dims.len() {
        3 => low.ordered(&act, &[1, 2, 0])?,
        _ => low.straight(&act)?,
    };
    Program::finish(low.steps, act.value, act.stored())
}

impl<'a> Lowering<'a> {
    pub(super) fn give(&mut self, name: &str, item: Item) {
        if let Item::Act(act) = &item {
            self.aliases.entry(act.value).or_default().push(name.to_string());
        }
        self.items.insert(name.to_string(), item);
    }

    pub(super) fn get(&self, name: &str) -> Option<Item> {
        self.items.get(name).cloned()
    }

    /// An error about what a node has.
    pub(super) fn odd(&self, node: &Node, expected: impl ToString, found: impl ToString) -> Problem {
        let (op, node) = (op_of(node).to_string(), label(node));
        Problem::Node { op, node, expected: expected.to_string(), found: found.to_string() }
    }

    /// The inputs of a node that are there; an optional one may be left out.
    pub(super) fn optional(&self, node: &Node, index: usize) -> Result<Option<Item>> {
        match node.input.get(index).filter(|name| !name.is_empty()) {
            None => Ok(None),
            Some(name) => match self.items.get(name) {
                Some(item) => Ok(Some(item.clone())),
                None => Err(self.odd(node, "inputs that nodes before it give", format!("`{name}`"))),
            },
        }
    }

    pub(super) fn item(&self, node: &Node, index: usize) -> Result<Item> {
        self.optional(node, index)?.ok_or_else(|| self.odd(node, format!("{} inputs", index + 1), node.input.len()))
    }

    /// An input that depends on that of the network, and has the axis of the batch first.
    pub(super) fn act(&self, node: &Node, index: usize) -> Result<Act> {
        let act = self.moved(node, index)?;
        match act.batch {
            0 => Ok(act),
            place => Err(self.odd(node, "an input whose first axis is that of the batch", format!("axis {place}"))),
        }
    }

    /// An input that depends on that of the network, wherever a `Transpose` has moved the axis of the batch.
    pub(super) fn moved(&self, node: &Node, index: usize) -> Result<Act> {
        let act = self.any(node, index)?;
        match act.joined {
            None => Ok(act),
            Some(_) => Err(self.odd(node, "an axis of the batch alone", "one that a Reshape has joined with another")),
        }
    }

    /// An input that depends on that of the network, whatever became of the axis of the batch.
    pub(super) fn any(&self, node: &Node, index: usize) -> Result<Act> {
        match self.item(node, index)? {
            Item::Act(act) => Ok(act),
            Item::Constant(_) => Err(self.odd(node, "an input that depends on that of the network", "a constant")),
        }
    }

    /// An input that is a constant.
    pub(super) fn constant(&self, node: &Node, index: usize) -> Result<Arc<Constant>> {
        self.constant_or_none(node, index)?
            .ok_or_else(|| self.odd(node, format!("{} inputs", index + 1), node.input.len()))
    }

    pub(super) fn constant_or_none(&self, node: &Node, index: usize) -> Result<Option<Arc<Constant>>> {
        match self.optional(node, index)? {
            None => Ok(None),
            Some(Item::Constant(constant)) => Ok(Some(constant)),
            Some(Item::Act(_)) => {
                let name = &node.input[index];
                Err(self.odd(node, "a constant", format!("`{name}`, which depends on the input of the network")))
            }
        }
    }

    /// Adds a step for a node; `input` is the value that a layer reads.
    pub(super) fn push(&mut self, node: &Node, work: Work, input: usize, shape: Vec<usize>) -> Result<usize> {
        let name = format!("the value of `{}`", label(node));
        // Each value alone, so that no product of lengths wraps and no image is beyond memory.
        self.budget.clone().claim(&name, &shape, size_of::<f32>()).map_err(|e| self.misfit(node, e))?;
        self.steps.push(Step { work, input, shape });
        Ok(self.steps.len())
    }

    pub(super) fn misfit(&self, node: &Node, e: impl ToString) -> Problem {
        Problem::Shapes { op: op_of(node).to_string(), node: label(node), reason: e.to_string() }
    }

    /// The lengths of a value in memory, with a batch of one.
    fn shape_of(&self, value: usize, input: &Act) -> Vec<usize> {
        let inner = if value == input.value { input.stored() } else { self.steps[value - 1].shape.clone() };
        std::iter::once(1).chain(inner).collect()
    }

    /// Adds an operation that reads `act` first, and then `more`.
    pub(super) fn op(&mut self, act: &Act, op: impl Operation, more: Vec<Input>) -> Result<usize> {
        let node = &self.file.nodes[self.at];
        let inputs: Vec<Input> = std::iter::once(Input::Value(act.value)).chain(more).collect();
        self.op_of(node, act, Arc::new(op), inputs)
    }

    /// Adds an operation; `like` is one of its inputs.
    pub(super) fn op_of(
        &mut self,
        node: &Node,
        like: &Act,
        op: Arc<dyn Operation>,
        inputs: Vec<Input>,
    ) -> Result<usize> {
        let shapes: Vec<Vec<usize>> = inputs
            .iter()
            .map(|input| match input {
                Input::Value(0) => self.input_shape(),
                Input::Value(value) => self.shape_of(*value, like),
                Input::Constant(t) => t.shape().to_vec(),
                Input::Parameter(p) => p.shape.clone(),
            })
            .collect();
        let shape = op.output_shape(&shapes.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let shape = shape.map_err(|e| self.misfit(node, e))?;
        if shape.first() != Some(&1) {
            return Err(self.odd(node, "a batch that stays the first axis", format!("{shape:?}")));
        }
        let work = Work::Operation(op, inputs);
        self.push(node, work, 0, shape[1..].to_vec())
    }

    fn input_shape(&self) -> Vec<usize> {
        let Some(Item::Act(act)) = self.items.get(&self.file.input) else { return vec![1] };
        std::iter::once(1).chain(act.stored()).collect()
    }

    /// The value with its axes in this order in memory.
    pub(super) fn ordered(&mut self, act: &Act, order: &[usize]) -> Result<Act> {
        let act = self.unfolded(act)?;
        if act.order == order {
            return Ok(act);
        }
        let target = Act::in_order(act.value, act.dims.clone(), order.to_vec()).placed_as(&act);
        let long = |order: &[usize]| order.iter().copied().filter(|&a| act.dims[a] != 1).collect::<Vec<_>>();
        if long(&act.order) == long(order) {
            return self.reshaped(&act, &target.stored()).map(|value| target.with(value));
        }
        let places = order.iter().map(|axis| act.order.iter().position(|a| a == axis).unwrap_or(0) + 1);
        let permute = ops::Permute { order: std::iter::once(0).chain(places).collect() };
        let value = self.op(&act, permute, Vec::new())?;
        Ok(target.with(value))
    }

    /// The value with its axes in memory as in the file.
    pub(super) fn straight(&mut self, act: &Act) -> Result<Act> {
        let order: Vec<usize> = (0..act.dims.len()).collect();
        self.ordered(act, &order)
    }

    /// An image with its channels last.
    pub(super) fn image(&mut self, node: &Node, act: &Act) -> Result<Act> {
        match act.dims.len() {
            3 => self.ordered(act, &[1, 2, 0]),
            _ => Err(self.odd(node, "an image [N, C, H, W]", format!("[N, {:?}]", act.dims))),
        }
    }

    /// A sequence [C, T] as an image [C, T, 1] with its channels last: the same numbers.
    pub(super) fn column(&mut self, act: &Act) -> Result<Act> {
        let act = self.ordered(act, &[1, 0])?;
        let image = Act::in_order(0, vec![act.dims[0], act.dims[1], 1], vec![1, 2, 0]);
        let value = self.reshaped(&act, &image.stored())?;
        Ok(image.with(value))
    }

    /// An image of one column as a sequence.
    pub(super) fn steps(&mut self, image: &Act) -> Result<Act> {
        let act = Act::in_order(0, image.dims[..2].to_vec(), vec![1, 0]);
        let value = self.reshaped(image, &act.stored())?;
        Ok(act.with(value))
    }

    /// Features that were an image, in the order of the file.
    pub(super) fn unfolded(&mut self, act: &Act) -> Result<Act> {
        let Some((dims, order)) = act.image.clone() else { return Ok(act.clone()) };
        let stored = order.iter().map(|&axis| dims[axis]).collect::<Vec<_>>();
        let flat = Act::plain(act.value, act.dims.clone());
        let image = Act::in_order(self.reshaped(&flat, &stored)?, dims, order);
        let image = self.straight(&image)?;
        let value = self.reshaped(&image, &act.dims)?;
        Ok(Act::plain(value, act.dims.clone()).placed_as(act))
    }

    /// The same numbers in memory under other lengths. A reshape of a reshape is one.
    pub(super) fn reshaped(&mut self, act: &Act, shape: &[usize]) -> Result<usize> {
        let mut source = act.value;
        while let Some(Step { work: Work::Operation(op, inputs), .. }) = source.checked_sub(1).map(|i| &self.steps[i])
            && op.get::<ops::Reshape>().is_some()
            && let [Input::Value(before)] = inputs[..]
        {
            source = before;
        }
        let before = if source == 0 { self.input_shape() } else { [&[1], &self.steps[source - 1].shape[..]].concat() };
        if before[1..] == *shape {
            return Ok(source);
        }
        let node = &self.file.nodes[self.at];
        let from = Act::plain(source, before[1..].to_vec());
        self.op_of(node, &from, Arc::new(ops::Reshape { shape: shape.to_vec() }), vec![Input::Value(source)])
    }

    /// The value under other lengths, its numbers in the order of the file.
    pub(super) fn viewed(&mut self, act: &Act, dims: &[usize]) -> Result<Act> {
        if act.dims == dims {
            return Ok(act.clone());
        }
        if act.image.is_none() && dims.len() == 1 && !in_file_order(&act.dims, &act.order) {
            let value = self.reshaped(act, dims)?;
            return Ok(Act { image: Some((act.dims.clone(), act.order.clone())), ..Act::plain(value, dims.to_vec()) });
        }
        // Back to what it was.
        if let Some((before, order)) = act.image.clone().filter(|(before, _)| before == dims) {
            let stored: Vec<usize> = order.iter().map(|&axis| before[axis]).collect();
            let flat = Act::plain(act.value, act.dims.clone());
            return Ok(Act::in_order(self.reshaped(&flat, &stored)?, before, order));
        }
        let act = self.straight(act)?;
        let value = self.reshaped(&act, dims)?;
        Ok(Act::plain(value, dims.to_vec()))
    }

    /// The shape of a value as the graph computes it.
    pub(super) fn lengths(act: &Act) -> Vec<i64> {
        let joined = act.joined_axis().map_or(1, |axis| act.dims[axis] as i64);
        // Beyond what stands for a multiple no reshape fits, and 0 is no length.
        let batch = batches_of(joined).unwrap_or(0);
        act.file_axes().iter().map(|axis| axis.map_or(batch, |axis| act.dims[axis] as i64)).collect()
    }

    /// Whether a layer that has weights comes before.
    pub(super) fn has_layers(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.work, Work::Product(_)))
    }

    /// Claims the memory of a constant, whether it is new or has the numbers of another one.
    fn claim(&mut self, node: &Node, item: &Item) -> Result<()> {
        let Item::Constant(c) = item else { return Ok(()) };
        // The numbers of initializers are in memory already.
        if c.name.is_some() && op_of(node) != "Transpose" {
            return Ok(());
        }
        let name = format!("the constant of `{}`", label(node));
        self.folded.claim(&name, &[c.len()], size_of::<i64>()).map(drop).map_err(|e| self.misfit(node, e))
    }

    /// Whether each name of a value is read once: by an operation that changes nothing and gives it another name, or by the one
    /// that is lowered. So nothing else reads it.
    pub(super) fn is_read_once(&self, value: usize) -> bool {
        let names = self.aliases.get(&value).map_or(&[][..], Vec::as_slice);
        names.iter().all(|name| self.file.reads.get(name) == Some(&1))
    }

    /// How many steps read a value.
    pub(super) fn readers(&self, value: usize) -> usize {
        self.steps[value..].iter().filter(|step| step.reads().contains(&value)).count()
    }

    /// What a reshape reads.
    pub(super) fn source(&self, value: usize) -> Option<usize> {
        match value.checked_sub(1).map(|i| &self.steps[i].work) {
            Some(Work::Operation(op, inputs)) if op.get::<ops::Reshape>().is_some() => match inputs[..] {
                [Input::Value(before)] => Some(before),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether a value is a product that is an image of one column.
    pub(super) fn is_of_columns(&self, value: usize) -> bool {
        let step = value.checked_sub(1).map(|i| &self.steps[i]);
        step.is_some_and(|s| matches!(s.work, Work::Product(_)) && matches!(s.shape[..], [_, 1, _]))
    }

    /// Whether a softmax gives a value.
    pub(super) fn is_softmax(&self, value: usize) -> bool {
        let step = value.checked_sub(1).map(|i| &self.steps[i].work);
        matches!(step, Some(Work::Operation(op, _)) if op.get::<ops::Softmax>().is_some())
    }

    /// The product that gives a value.
    pub(super) fn product_of(&mut self, value: usize) -> Option<&mut Product> {
        match value.checked_sub(1).and_then(|i| self.steps.get_mut(i)).map(|step| &mut step.work) {
            Some(Work::Product(product)) => Some(product),
            _ => None,
        }
    }
}

/// An attribute of a node.
pub(super) fn attribute<'n>(node: &'n Node, name: &str) -> Option<&'n Attribute> {
    node.attribute.iter().find(|a| a.name.as_deref() == Some(name))
}

pub(super) fn int(node: &Node, name: &str, default: i64) -> i64 {
    attribute(node, name).and_then(|a| a.i).unwrap_or(default)
}

pub(super) fn float(node: &Node, name: &str, default: f32) -> f32 {
    attribute(node, name).and_then(|a| a.f).unwrap_or(default)
}

pub(super) fn ints<'n>(node: &'n Node, name: &str) -> Option<&'n [i64]> {
    attribute(node, name).map(|a| a.ints.as_slice())
}

pub(super) fn text(node: &Node, name: &str) -> String {
    attribute(node, name)
        .and_then(|a| a.s.as_ref())
        .map(|s| String::from_utf8_lossy(s).into_owned())
        .unwrap_or_default()
}
