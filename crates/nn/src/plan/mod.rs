//! `Plan`: a network as a list of operations with their numbers, with no layers and no store behind it.
//!
//! Every [`Layer`] can describe itself to a [`Tracer`], which notes the operations, checks and infers their
//! shapes and takes the numbers as they are. One list then serves whoever must look into a network: the table of
//! [`Plan::summary`], the exporters, and [`Plan::run`], which computes what the layers compute in evaluation, bit for
//! bit, also where the list was read from a file.

mod op;
mod summary;

pub use op::{Node, Numbers, Op, Weight};
pub use summary::{Row, Summary};

use crate::{Layer, Result};
use fixnet_autograd::{self as autograd, Error, Graph, Store, Var};
use fixnet_data::Normalize;
use fixnet_tensor::{Budget, Tensor};
use std::collections::BTreeSet;

/// The address of a value in a plan: the output of the node of this index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge(usize);

impl Edge {
    /// The index of the node that gives it.
    pub fn index(self) -> usize {
        self.0
    }
}

/// A network in evaluation: operations in an order in which each comes after those that it reads.
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
#[derive(Debug, Clone, Default)]
pub struct Plan {
    nodes: Vec<Node>,
    normalize: Option<Normalize>,
    class_names: Option<Vec<String>>,
}

impl Plan {
    /// The plan of `net` for values of `input` = `[H, W, C]` or `[F]`, without the axis of the batch. It shares the numbers
    /// with the store as long as neither changes.
    ///
    /// # Errors
    /// An input of this shape does not fit the layers.
    pub fn of(net: &dyn Layer, store: &mut Store, input: &[usize]) -> Result<Self> {
        let mut tracer = Tracer { store, plan: Self::with_input(input) };
        net.describe(&mut tracer, Edge(0))?;
        Ok(tracer.plan)
    }

    /// A plan that has only its input, for values of `shape` = `[H, W, C]` or `[F]`.
    pub fn with_input(shape: &[usize]) -> Self {
        let numbers = Numbers::default();
        let input = Node { name: "input".into(), op: Op::Input, inputs: Vec::new(), shape: shape.to_vec(), numbers };
        Self { nodes: vec![input], normalize: None, class_names: None }
    }

    /// Adds an operation on values that are there; its output becomes that of the plan.
    ///
    /// # Errors
    /// An input is not there, numbers are missing, or shapes do not fit each other or memory; the error names the layer.
    pub fn push(&mut self, name: &str, op: Op, inputs: &[Edge], numbers: Numbers) -> autograd::Result<Edge> {
        let named = |e: Error| if name.is_empty() { e } else { e.in_layer(name) };
        let shapes = inputs.iter().map(|e| self.nodes.get(e.0).map(|n| n.shape.as_slice()));
        let Some(shapes) = shapes.collect::<Option<Vec<_>>>() else {
            let found = format!("{:?}", inputs.iter().map(|e| e.0).collect::<Vec<_>>());
            return Err(named(Error::setting("inputs of an operation", format!("below {}", self.nodes.len()), found)));
        };
        // No product of lengths wraps, in shapes that follow from these either.
        let claim = |shape: &[usize]| Budget::ARRAY.clone().claim("a value of the network", shape, size_of::<f32>());
        shapes.iter().try_for_each(|shape| claim(shape).map(drop)).map_err(|e| named(e.into()))?;
        let shape = op.output_shape(&shapes, &numbers).map_err(named)?;
        claim(&shape).map_err(|e| named(e.into()))?;
        let inputs = inputs.iter().map(|e| e.0).collect();
        self.nodes.push(Node { name: name.to_string(), op, inputs, shape, numbers });
        Ok(Edge(self.nodes.len() - 1))
    }

    /// The value that node `index` gives.
    ///
    /// # Errors
    /// There is no such node.
    pub fn edge(&self, index: usize) -> autograd::Result<Edge> {
        match index < self.nodes.len() {
            true => Ok(Edge(index)),
            false => Err(Error::setting("a value of a plan", format!("below {}", self.nodes.len()), index)),
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

    /// The operations; the first is the input, the last gives the output.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The lengths of the input's axes without that of the batch.
    pub fn input_shape(&self) -> &[usize] {
        self.nodes.first().map_or(&[], |n| &n.shape)
    }

    /// The lengths of the output's axes without that of the batch.
    pub fn output_shape(&self) -> &[usize] {
        self.nodes.last().map_or(&[], |n| &n.shape)
    }

    /// The most bytes that values take at a time while one image is evaluated, written out as floats.
    pub fn memory(&self) -> u128 {
        let bytes =
            |node: &Node| node.shape.iter().fold(size_of::<f32>() as u128, |n, &axis| n.saturating_mul(axis as u128));
        let last_use = self.last_use();
        let (mut held, mut most) = (0u128, 0);
        for (i, node) in self.nodes.iter().enumerate() {
            held = held.saturating_add(bytes(node));
            most = held.max(most);
            let done: BTreeSet<usize> = node.inputs.iter().copied().filter(|&k| last_use[k] == i).collect();
            held = done.iter().fold(held, |held, &k| held.saturating_sub(bytes(&self.nodes[k])));
        }
        most
    }

    /// How many images, at most `most` and at least one, a batch may have for its values to stay within
    /// [`Budget::BATCH`].
    pub fn batch(&self, most: usize) -> usize {
        let fit = u128::from(Budget::BATCH.limit()) / self.memory().max(1);
        usize::try_from(fit).unwrap_or(most).clamp(1, most.max(1))
    }

    /// The last node that reads each one; itself, if none does.
    fn last_use(&self) -> Vec<usize> {
        let mut last_use: Vec<usize> = (0..self.nodes.len()).collect();
        for (i, node) in self.nodes.iter().enumerate() {
            node.inputs.iter().for_each(|&input| last_use[input] = i);
        }
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
    /// The shape is another one; no batch has set the scale of a quantizer; or a layer did not describe itself.
    pub fn run(&self, x: Tensor) -> Result<Tensor> {
        let mut store = Store::seeded(0);
        let mut g = Graph::eval(&mut store);
        let x = g.input(x);
        Ok(self.forward(&mut g, &x)?.tensor())
    }
}

/// A layer that is as it is: training moves none of its numbers. It is for evaluation: no gradient passes its
/// normalizations and quantized products. Its input is that of [`Plan::run`].
impl Layer for Plan {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> autograd::Result<Var> {
        if x.shape().is_empty() || x.shape()[1..] != *self.input_shape() {
            let expected = format!("a batch of {:?}", self.input_shape());
            return Err(fixnet_tensor::Error::shape("input", expected, x.shape()).into());
        }
        let last_use = self.last_use();
        let input = match &self.normalize {
            Some(normalize) => g.input(normalize.apply(&x.tensor())?),
            None => x.clone(),
        };
        let mut values: Vec<Option<Var>> = vec![Some(input)];
        for (i, node) in self.nodes.iter().enumerate().skip(1) {
            let inputs: Vec<&Var> = node.inputs.iter().filter_map(|&k| values[k].as_ref()).collect();
            let y = node.op.compute(g, &inputs, &node.numbers);
            values.push(Some(y.map_err(|e| if node.name.is_empty() { e } else { e.in_layer(&node.name) })?));
            for &k in node.inputs.iter().filter(|&&k| last_use[k] == i) {
                values[k] = None;
            }
        }
        Ok(values.pop().flatten().expect("the last value is kept: none reads it"))
    }
}

/// What layers describe themselves to: the plan so far, and the store that has their numbers.
pub struct Tracer<'a> {
    store: &'a mut Store,
    plan: Plan,
}

impl Tracer<'_> {
    /// The store of the network.
    pub fn store(&mut self) -> &mut Store {
        self.store
    }

    /// The shape of a value without the axis of the batch.
    pub fn shape(&self, edge: Edge) -> &[usize] {
        &self.plan.nodes[edge.0].shape
    }

    /// As [`Plan::push`].
    ///
    /// # Errors
    /// As there.
    pub fn push(&mut self, name: &str, op: Op, inputs: &[Edge], numbers: Numbers) -> autograd::Result<Edge> {
        self.plan.push(name, op, inputs, numbers)
    }

    /// An operation without numbers of one input.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn apply(&mut self, op: Op, x: Edge) -> autograd::Result<Edge> {
        self.push("", op, &[x], Numbers::default())
    }

    /// `x + y`.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn add(&mut self, x: Edge, y: Edge) -> autograd::Result<Edge> {
        self.push("", Op::Add, &[x, y], Numbers::default())
    }

    /// A layer of which nothing is known but what it makes of a zero input: it shows in a summary, and that is all.
    ///
    /// # Errors
    /// The input does not fit the layer.
    pub fn opaque<L: Layer + ?Sized>(&mut self, layer: &L, x: Edge) -> autograd::Result<Edge> {
        let batch = [&[1], self.shape(x)].concat();
        let mut g = Graph::eval(self.store);
        let zero = g.input(Tensor::zeros(&batch));
        let shape = layer.forward(&mut g, &zero)?.shape()[1..].to_vec();
        let path = std::any::type_name::<L>();
        let kind = path.split('<').next().and_then(|p| p.rsplit("::").next()).unwrap_or(path).to_string();
        self.apply(Op::Opaque { kind, shape }, x)
    }
}

#[cfg(test)]
mod tests;
