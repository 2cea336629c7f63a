//! `Network`: layers and operations that read each other's values in any order that has no circle, as networks from other
//! programs do.

use super::{Layer, Matmul};
use fixnet_autograd::{Error, Graph, Operation, ParamId, Result, Var};
use fixnet_tensor::Tensor;
use std::sync::Arc;

/// What a step of a [`Network`] reads.
#[derive(Debug, Clone)]
pub enum Operand {
    /// A value: 0 is the input of the network, and each step gives the next one.
    Value(usize),
    /// A parameter of the store.
    Param(ParamId),
    /// Numbers that stay as they are.
    Constant(Tensor),
}

impl Operand {
    /// The number of a value.
    fn value(&self) -> Option<usize> {
        if let Self::Value(value) = self { Some(*value) } else { None }
    }
}

/// What a step computes.
enum Work {
    Layer(Box<dyn Layer>),
    Operation(Arc<dyn Operation>, Vec<Operand>),
    /// A product of the value `input` and another one.
    Matmul(Box<Matmul>, usize),
}

/// A step: what it computes, and the layer that it belongs to.
struct Step {
    name: String,
    work: Work,
    /// Where the value of a layer comes from.
    input: usize,
}

impl Step {
    /// The values that it reads.
    fn reads(&self) -> Vec<usize> {
        match &self.work {
            Work::Layer(_) => vec![self.input],
            Work::Operation(_, operands) => operands.iter().filter_map(Operand::value).collect(),
            Work::Matmul(_, other) => vec![self.input, *other],
        }
    }
}

/// Layers and operations in an order in which each comes after those that it reads. The value of the last step is the output;
/// without a step it is the input.
///
/// ```
/// use fixnet_autograd::{Graph, Store, ops::Arithmetic};
/// use fixnet_nn::layers::{Layer, Linear, Network, Operand, Relu};
/// use fixnet_tensor::Tensor;
/// use std::sync::Arc;
/// let mut store = Store::seeded(1);
/// let mut net = Network::new();
/// let a = net.layer(Linear::new(&mut store, "fc1", 8, 8)?, 0)?;
/// let b = net.layer(Relu, a)?;
/// net.operation("", Arc::new(Arithmetic::Add), vec![Operand::Value(a), Operand::Value(b)])?;
/// let mut g = Graph::eval(&mut store);
/// let x = g.input(Tensor::zeros(&[2, 8]));
/// assert_eq!(net.forward(&mut g, &x)?.shape(), [2, 8]);
/// # Ok::<(), fixnet_autograd::Error>(())
/// ```
#[derive(Default)]
pub struct Network {
    steps: Vec<Step>,
}

impl Network {
    /// A network without steps: the identity.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a layer that reads the value `input`; returns the number of its own value.
    ///
    /// # Errors
    /// There is no such value yet.
    pub fn layer(&mut self, layer: impl Layer + 'static, input: usize) -> Result<usize> {
        self.check(input)?;
        self.push(Step { name: String::new(), work: Work::Layer(Box::new(layer)), input })
    }

    /// Adds an operation for the layer `name`, which may be empty; returns the number of its value.
    ///
    /// # Errors
    /// A value that it reads is not there yet.
    pub fn operation(&mut self, name: &str, op: Arc<dyn Operation>, operands: Vec<Operand>) -> Result<usize> {
        operands.iter().filter_map(Operand::value).try_for_each(|value| self.check(value))?;
        self.push(Step { name: name.into(), work: Work::Operation(op, operands), input: 0 })
    }

    /// Adds a product of two values; returns the number of its value.
    ///
    /// # Errors
    /// One of them is not there yet.
    pub fn matmul(&mut self, product: Matmul, [left, right]: [usize; 2]) -> Result<usize> {
        self.check(left)?;
        self.check(right)?;
        self.push(Step { name: String::new(), work: Work::Matmul(Box::new(product), right), input: left })
    }

    fn check(&self, value: usize) -> Result<()> {
        match value <= self.steps.len() {
            true => Ok(()),
            false => Err(Error::setting("a value of a network", format!("at most {}", self.steps.len()), value)),
        }
    }

    fn push(&mut self, step: Step) -> Result<usize> {
        self.steps.push(step);
        Ok(self.steps.len())
    }

    /// The last step that reads each value; none where nothing does.
    fn last_reads(&self) -> Vec<Option<usize>> {
        let mut last = vec![None; self.steps.len() + 1];
        for (i, step) in self.steps.iter().enumerate() {
            step.reads().into_iter().for_each(|value| last[value] = Some(i));
        }
        last
    }
}

impl Layer for Network {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        let last = self.last_reads();
        let mut values: Vec<Option<Var>> = vec![Some(x.clone())];
        let kept = |values: &[Option<Var>], value: usize| values[value].clone().expect("kept until it is last read");
        for (i, step) in self.steps.iter().enumerate() {
            let y = match &step.work {
                Work::Layer(layer) => layer.forward(g, &kept(&values, step.input))?,
                Work::Matmul(product, other) => {
                    product.forward(g, &kept(&values, step.input), &kept(&values, *other))?
                }
                Work::Operation(op, operands) => {
                    let mut inputs = Vec::with_capacity(operands.len());
                    for operand in operands {
                        inputs.push(match operand {
                            Operand::Value(value) => kept(&values, *value),
                            Operand::Param(id) => {
                                g.store().owns(*id).map_err(|e| e.in_layer(&step.name))?;
                                g.param(*id)
                            }
                            Operand::Constant(t) => g.input(t.clone()),
                        });
                    }
                    let y = g.apply_shared(&step.name, op, &inputs.iter().collect::<Vec<_>>());
                    y.map_err(|e| if step.name.is_empty() { e } else { e.in_layer(&step.name) })?
                }
            };
            values.push(Some(y));
            for value in step.reads().into_iter().filter(|&value| last[value] == Some(i)) {
                values[value] = None;
            }
        }
        Ok(kept(&values, self.steps.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::{Linear, Relu};
    use fixnet_autograd::{Store, ops};

    #[test]
    fn values_are_read_where_they_are_needed_and_steps_that_come_later_are_refused() {
        let mut store = Store::seeded(1);
        let factor = store.add("s.factor", fixnet_autograd::Group::Offset, Tensor::scalar(2.0)).unwrap();
        let mut net = Network::new();
        let positive = net.layer(Relu, 0).unwrap();
        let mul: Arc<dyn Operation> = Arc::new(ops::Arithmetic::Mul);
        let double = net.operation("s", mul.clone(), vec![Operand::Value(positive), Operand::Param(factor)]).unwrap();
        net.operation("", Arc::new(ops::Arithmetic::Sub), vec![Operand::Value(double), Operand::Value(0)]).unwrap();
        let e = net.operation("", mul, vec![Operand::Value(9)]).unwrap_err().to_string();
        assert_eq!(e, "a value of a network: expected at most 3, found 9");
        assert!(net.layer(Relu, 4).is_err());
        let mut g = Graph::train(&mut store);
        let x = g.input(Tensor::from_vec(&[1, 2], vec![-3.0, 5.0]).unwrap());
        let y = net.forward(&mut g, &x).unwrap();
        assert_eq!(y.tensor().data(), [3.0, 5.0]);
        let target = g.input(Tensor::zeros(&[1, 2]));
        let loss = g.l1_loss(&y, &target).unwrap();
        g.backward(loss).unwrap();
        // The mean of |y|, of which the positive number reaches the factor.
        assert_eq!(store.grad(factor).unwrap().item(), 2.5);
        let mut one = Network::new();
        one.layer(Linear::new(&mut store, "l", 2, 2).unwrap(), 0).unwrap();
        assert_eq!(one.last_reads(), [Some(0), None]);
    }
}
