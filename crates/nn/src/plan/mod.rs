//! `Plan`: a network as a list of operations with their numbers, with no layers and no store behind it.
//!
//! A plan is traced: [`Plan::of`] runs a network once on a [`Graph`] that notes the operations, with their shapes and the
//! numbers as they are, and computes nothing. One list then serves whoever must look into a network: the table of
//! [`Plan::summary`], the exporters, and [`Plan::run`], which computes what the layers compute in evaluation, bit for
//! bit, also where the list was read from a file.

mod summary;

pub use fixnet_autograd::{Node, Operand};
pub use summary::{Row, Summary};

use crate::detection::Proposals;
use crate::{Layer, Result};
use fixnet_autograd::ops::Operations;
use fixnet_autograd::{self as autograd, Error, Graph, Operation, Store, Trace, Var};
use fixnet_data::Normalize;
use fixnet_tensor::{Budget, Tensor};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Returns the operations that a packed network may have: those of floats, the quantized products, and those of detectors.
pub fn operations() -> Operations {
    fixnet_quant::ops::operations().with("proposals", |stored| Ok(Arc::new(stored.settings::<Proposals>()?)))
}

/// The name of the output of a network that has one.
pub const OUTPUT: &str = "output";

/// An output of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The name, unique in the plan.
    pub name: String,
    /// The index of the node that gives it.
    pub node: usize,
}

/// A network in evaluation: operations in an order in which each comes after those that it reads, and named outputs.
///
/// ```
/// use fixnet_autograd::Store;
/// use fixnet_nn::layers::{Linear, Relu, Sequential};
/// use fixnet_nn::plan::Plan;
/// let mut store = Store::seeded(1);
/// let net = Sequential::new().push(Linear::new(&mut store, "fc1", 8, 16)?).push(Relu);
/// let plan = Plan::of(&net, &mut store, &[8])?;
/// assert_eq!(plan.output_shape(), [16]);
/// assert_eq!(plan.summary().parameters(), 8 * 16 + 16);
/// # Ok::<(), fixnet_nn::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Plan {
    trace: Trace,
    outputs: Vec<Output>,
    normalize: Option<Normalize>,
    class_names: Option<Vec<String>>,
}

impl Plan {
    /// Traces `net` for values of `input` = `[H, W, C]` or `[F]`, without the axis of the batch. The plan has one output, called
    /// [`OUTPUT`], and shares the numbers with the store as long as neither changes.
    ///
    /// # Errors
    /// An input of this shape does not fit the layers, or the output does not depend on it.
    pub fn of(net: &dyn Layer, store: &mut Store, input: &[usize]) -> Result<Self> {
        Self::trace(store, input, |g, x| Ok(vec![(OUTPUT.into(), net.forward(g, x)?)]))
    }

    /// Traces a network with several outputs: `forward` records it and returns each output with its name.
    ///
    /// ```
    /// use fixnet_autograd::Store;
    /// use fixnet_nn::Layer;
    /// use fixnet_nn::layers::{Linear, Relu};
    /// use fixnet_nn::plan::Plan;
    /// use fixnet_tensor::Tensor;
    /// let mut store = Store::seeded(1);
    /// let fc = Linear::new(&mut store, "fc", 8, 16)?;
    /// let plan = Plan::trace(&mut store, &[8], |g, x| {
    ///     let logits = fc.forward(g, x)?;
    ///     let positive = Relu.forward(g, &logits)?;
    ///     Ok(vec![("logits".into(), logits), ("positive".into(), positive)])
    /// })?;
    /// let outputs = plan.run(Tensor::zeros(&[2, 8]))?;
    /// assert_eq!(outputs.get("positive").unwrap().shape(), [2, 16]);
    /// # Ok::<(), fixnet_nn::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of `forward`; there is no output, one does not depend on the input, or two have one name.
    pub fn trace(
        store: &mut Store,
        input: &[usize],
        forward: impl FnOnce(&mut Graph<'_>, &Var) -> autograd::Result<Vec<(String, Var)>>,
    ) -> Result<Self> {
        // The lengths are checked before a batch of them is thought of.
        Budget::ARRAY.clone().claim("the input of a network", input, size_of::<f32>())?;
        let (mut g, x) = Graph::trace(store, input);
        let (names, values): (Vec<String>, Vec<Var>) = forward(&mut g, &x)?.into_iter().unzip();
        drop(x);
        let (trace, nodes) = g.finish(&values.iter().collect::<Vec<_>>())?;
        let plan = Self { trace, outputs: Vec::new(), normalize: None, class_names: None };
        let outputs = names.into_iter().zip(nodes).map(|(name, node)| Output { name, node });
        Ok(plan.with_outputs(outputs.collect())?)
    }

    /// A plan that has only its input, for values of `shape` = `[H, W, C]` or `[F]`. The last operation gives its output.
    pub fn with_input(shape: &[usize]) -> Self {
        let outputs = vec![Output { name: OUTPUT.into(), node: 0 }];
        Self { trace: Trace::new(shape), outputs, normalize: None, class_names: None }
    }

    /// Adds an operation on values that are there, and returns the index of its node. It becomes the output of the plan.
    ///
    /// # Errors
    /// An operand is not there, or shapes do not fit each other or memory; the error names the layer.
    pub fn push(&mut self, name: &str, op: Arc<dyn Operation>, operands: Vec<Operand>) -> autograd::Result<usize> {
        self.push_of(name, name, op, operands)
    }

    /// As [`push`](Self::push), of an operation of the layer `layer`, which may have several.
    ///
    /// # Errors
    /// As there.
    pub fn push_of(
        &mut self,
        layer: &str,
        name: &str,
        op: Arc<dyn Operation>,
        operands: Vec<Operand>,
    ) -> autograd::Result<usize> {
        let node = self.trace.push_of(layer, name, op, operands)?;
        self.outputs = vec![Output { name: OUTPUT.into(), node }];
        Ok(node)
    }

    /// Sets the outputs.
    ///
    /// # Errors
    /// There is none, two have one name, or a node is not there.
    pub fn with_outputs(self, outputs: Vec<Output>) -> autograd::Result<Self> {
        let names: BTreeSet<&str> = outputs.iter().map(|o| o.name.as_str()).collect();
        if outputs.is_empty() || names.len() < outputs.len() {
            let found = format!("{:?}", outputs.iter().map(|o| &o.name).collect::<Vec<_>>());
            return Err(Error::setting("outputs of a plan", "at least one, each with a name of its own", found));
        }
        let count = self.trace.nodes().len();
        match outputs.iter().find(|o| o.node >= count) {
            Some(odd) => Err(Error::setting("the node of an output", format!("below {count}"), odd.node)),
            None => Ok(Self { outputs, ..self }),
        }
    }

    /// The same plan for inputs that are normalized already.
    #[must_use]
    pub fn without_normalization(self) -> Self {
        Self { normalize: None, ..self }
    }

    /// Puts a normalization before the network: the plan then takes pixels from 0 to 1, which it normalizes itself.
    #[must_use]
    pub fn normalized(self, normalize: Normalize) -> Self {
        Self { normalize: Some(normalize), ..self }
    }

    /// The normalization before the network; without one, the plan takes values that are normalized already.
    pub fn normalize(&self) -> Option<&Normalize> {
        self.normalize.as_ref()
    }

    /// Gives the outputs of a classifier names, the first that of class 0.
    #[must_use]
    pub fn with_class_names(self, names: Vec<String>) -> Self {
        Self { class_names: Some(names), ..self }
    }

    /// What each class is called, the first that of class 0; `None` if that is not known.
    pub fn class_names(&self) -> Option<&[String]> {
        self.class_names.as_deref()
    }

    /// Returns the operations; the first is the input.
    pub fn nodes(&self) -> &[Node] {
        self.trace.nodes()
    }

    /// Returns the outputs, at least one.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// Returns the lengths of the input's axes without that of the batch.
    pub fn input_shape(&self) -> &[usize] {
        self.nodes().first().map_or(&[], |n| n.shape())
    }

    /// Returns the lengths of the first output's axes without that of the batch.
    pub fn output_shape(&self) -> &[usize] {
        self.outputs.first().and_then(|o| self.nodes().get(o.node)).map_or(&[], |n| n.shape())
    }

    /// The most bytes that values take at a time while one image is evaluated, written out as floats.
    pub fn memory(&self) -> u128 {
        let bytes =
            |node: &Node| node.shape().iter().fold(size_of::<f32>() as u128, |n, &axis| n.saturating_mul(axis as u128));
        let last_use = self.last_use();
        let (mut held, mut most) = (0u128, 0);
        for (i, node) in self.nodes().iter().enumerate() {
            held = held.saturating_add(bytes(node));
            most = held.max(most);
            let done: BTreeSet<usize> = node.inputs().into_iter().filter(|&k| last_use[k] == i).collect();
            held = done.iter().fold(held, |held, &k| held.saturating_sub(bytes(&self.nodes()[k])));
        }
        most
    }

    /// How many images, at most `most` and at least one, a batch may have for its values to stay within
    /// [`Budget::BATCH`].
    pub fn batch(&self, most: usize) -> usize {
        let fit = u128::from(Budget::BATCH.limit()) / self.memory().max(1);
        usize::try_from(fit).unwrap_or(most).clamp(1, most.max(1))
    }

    /// The last node that reads each one; itself, if none does, and beyond the last for outputs.
    fn last_use(&self) -> Vec<usize> {
        let mut last_use: Vec<usize> = (0..self.nodes().len()).collect();
        for (i, node) in self.nodes().iter().enumerate() {
            node.inputs().into_iter().for_each(|input| last_use[input] = i);
        }
        self.outputs.iter().for_each(|o| last_use[o.node] = self.nodes().len());
        last_use
    }

    /// A table of the layers.
    pub fn summary(&self) -> Summary {
        Summary::of(self)
    }

    /// Computes what the network gives in evaluation for `[N, H, W, C]` or `[N, F]`: the same bits as its layers. A plan with
    /// a [normalization](Self::normalize) takes pixels from 0 to 1 (a byte divided by 255), one without takes normalized
    /// values.
    ///
    /// # Errors
    /// The shape is another one; no batch has set the scale of a quantizer; or a layer computes by itself, without the
    /// graph's operations.
    pub fn run(&self, x: Tensor) -> Result<Outputs> {
        let mut store = Store::seeded(0);
        let mut g = Graph::eval(&mut store);
        let x = g.input(x);
        let values = self.apply(&mut g, &x)?;
        let names = self.outputs.iter().map(|o| o.name.clone());
        Ok(Outputs(names.zip(values.into_iter().map(|v| v.tensor())).collect()))
    }

    /// Records the operations on a graph and returns the outputs in their order.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn apply(&self, g: &mut Graph<'_>, x: &Var) -> autograd::Result<Vec<Var>> {
        if x.shape().is_empty() || x.shape()[1..] != *self.input_shape() {
            let expected = format!("a batch of {:?}", self.input_shape());
            return Err(fixnet_tensor::Error::shape("input", expected, x.shape()).into());
        }
        self.replay(g, x)
    }

    /// Records the operations on a graph, whatever the shape of the input: each checks its own.
    fn replay(&self, g: &mut Graph<'_>, x: &Var) -> autograd::Result<Vec<Var>> {
        let last_use = self.last_use();
        let input = match &self.normalize {
            Some(normalize) => g.input(normalize.apply(&x.tensor())?),
            None => x.clone(),
        };
        let mut values: Vec<Option<Var>> = vec![Some(input)];
        for (i, node) in self.nodes().iter().enumerate().skip(1) {
            let operand = |o: &Operand| match o {
                Operand::Node(k) => values[*k].clone().expect("a value is kept until it is last read"),
                Operand::Constant(t) => g.input(t.clone()),
            };
            let operands: Vec<Var> = node.operands().iter().map(operand).collect();
            let y = g.apply_shared(node.name(), node.op(), &operands.iter().collect::<Vec<_>>());
            values.push(Some(y.map_err(|e| if node.name().is_empty() { e } else { e.in_layer(node.name()) })?));
            for k in node.inputs().into_iter().filter(|&k| last_use[k] == i) {
                values[k] = None;
            }
        }
        Ok(self.outputs.iter().map(|o| values[o.node].clone().expect("an output is kept")).collect())
    }
}

/// The outputs of a plan by name.
#[derive(Debug, Clone)]
pub struct Outputs(Vec<(String, Tensor)>);

impl Outputs {
    /// Returns the output of a name, if there is one.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, t)| t)
    }

    /// Returns the first output, or the only one.
    pub fn first(&self) -> &Tensor {
        &self.0[0].1
    }

    /// Returns the first output, or the only one, and drops the others.
    pub fn into_first(mut self) -> Tensor {
        self.0.swap_remove(0).1
    }

    /// Goes through the outputs and their names in the plan's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, t)| (name.as_str(), t))
    }
}

/// A layer that is as it is: training moves none of its numbers. It is for evaluation: no gradient passes its
/// normalizations and quantized products. Its input is that of [`Plan::run`], its output the first of the plan.
impl Layer for Plan {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> autograd::Result<Var> {
        Ok(self.apply(g, x)?.swap_remove(0))
    }
}

/// A plan for inputs of any size, where its operations allow that: a network of convolutions, say. Its input is that of
/// [`Plan::run`] but for the size, its output the first of the plan.
#[derive(Debug, Clone)]
pub struct AnySize(pub Plan);

impl Layer for AnySize {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> autograd::Result<Var> {
        Ok(self.0.replay(g, x)?.swap_remove(0))
    }
}

#[cfg(test)]
mod tests;
