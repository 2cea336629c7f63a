//! `Program`: the steps of a network for inputs of one shape, with the numbers that its parameters start from, and the network
//! that is built of them in a store.

use super::problem::{Problem, Result};
use fixnet_autograd::ops::RunningStats;
use fixnet_autograd::{self as autograd, Group, Operation, Store};
use fixnet_nn::layers::{
    BatchNorm2d, Conv2d, Conv2dConfig, Dropout, LayerNorm, Linear, Matmul, Network, Operand, Start,
};
use fixnet_quant::QuantConfig;
use fixnet_tensor::{Tensor, Window};
use std::sync::Arc;

/// A parameter with the numbers that it starts from, where they are known.
#[derive(Debug, Clone)]
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) value: Option<Tensor>,
}

/// What an operation reads.
#[derive(Debug, Clone)]
pub(super) enum Input {
    Value(usize),
    Constant(Tensor),
    Parameter(Parameter),
}

/// A convolution or a linear layer.
#[derive(Debug, Clone)]
pub(super) struct Product {
    pub(super) name: String,
    /// [O, KH, KW, I / groups] of a convolution, else [O, I].
    pub(super) weight: Parameter,
    /// The numbers of the bias; `Some(None)` where they are not known.
    pub(super) bias: Option<Option<Tensor>>,
    /// How the windows of a convolution move.
    pub(super) window: Option<Window>,
    /// Whether a batch normalization follows.
    pub(super) normalized: bool,
}

/// What a step computes.
#[derive(Debug, Clone)]
pub(super) enum Work {
    Operation(Arc<dyn Operation>, Vec<Input>),
    /// A product of the value `input`.
    Product(Box<Product>),
    /// A product of the value `input` and another one, whose last two axes are exchanged if it is `transposed`.
    Matmul {
        name: String,
        transposed: bool,
        other: usize,
        /// How many heads each operand has, where it may have a scale for each.
        heads: [Option<usize>; 2],
    },
    /// Factor, offset, mean and variance.
    BatchNorm {
        name: String,
        parts: [Option<Tensor>; 4],
        channels: usize,
        settings: [f32; 2],
    },
    LayerNorm {
        name: String,
        parts: [Option<Tensor>; 2],
        channels: usize,
        eps: f32,
    },
    Dropout {
        name: String,
        rate: f32,
    },
}

/// A step with the lengths of its value in memory, without the axis of the batch.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) work: Work,
    /// The value that a layer reads.
    pub(super) input: usize,
    pub(super) shape: Vec<usize>,
}

impl Step {
    /// The values that it reads.
    pub(super) fn reads(&self) -> Vec<usize> {
        match &self.work {
            Work::Operation(_, inputs) => {
                inputs.iter().filter_map(|i| if let Input::Value(value) = i { Some(*value) } else { None }).collect()
            }
            Work::Matmul { other, .. } => vec![self.input, *other],
            _ => vec![self.input],
        }
    }
}

/// The steps of a network.
#[derive(Debug, Clone)]
pub(super) struct Program {
    steps: Vec<Step>,
    /// The lengths of the output, without the axis of the batch.
    pub(super) output: Vec<usize>,
}

impl Program {
    /// Keeps the steps that the output depends on, so that it is the value of the last one.
    ///
    /// # Errors
    /// No layer has weights.
    pub(super) fn finish(steps: Vec<Step>, output: usize, shape: Vec<usize>) -> Result<Self> {
        let mut wanted = vec![false; steps.len() + 1];
        wanted[output] = true;
        for (i, step) in steps.iter().enumerate().rev() {
            if wanted[i + 1] {
                step.reads().into_iter().for_each(|value| wanted[value] = true);
            }
        }
        let mut number = vec![0; steps.len() + 1];
        let mut kept = Vec::new();
        for (i, mut step) in steps.into_iter().enumerate().filter(|(i, _)| wanted[i + 1]) {
            step.input = number[step.input];
            if let Work::Matmul { other, .. } = &mut step.work {
                *other = number[*other];
            }
            if let Work::Operation(_, inputs) = &mut step.work {
                for input in inputs {
                    if let Input::Value(value) = input {
                        *value = number[*value];
                    }
                }
            }
            kept.push(step);
            number[i + 1] = kept.len();
        }
        let program = Self { steps: kept, output: shape };
        let has_weights = program.products().next().is_some();
        match has_weights {
            true => Ok(program),
            false => Err(Problem::graph("graph", "a convolution or a linear layer with weights", "none")),
        }
    }

    fn products(&self) -> impl Iterator<Item = (usize, &Product)> {
        self.steps.iter().enumerate().filter_map(|(i, step)| match &step.work {
            Work::Product(product) => Some((i, &**product)),
            _ => None,
        })
    }

    /// The same network with a last layer of `outputs` outputs, which starts at random.
    ///
    /// # Errors
    /// The last step is no linear layer.
    pub(super) fn with_new_head(mut self, outputs: usize) -> Result<Self> {
        match self.steps.last_mut() {
            Some(Step { work: Work::Product(product), shape, .. }) if product.window.is_none() && shape.len() == 1 => {
                product.weight.shape[0] = outputs;
                product.weight.value = None;
                product.bias = product.bias.as_ref().map(|_| None);
                *shape = vec![outputs];
                self.output = vec![outputs];
                Ok(self)
            }
            _ => {
                Err(Problem::graph("output of the graph", "a linear layer, which a new head could replace", "another"))
            }
        }
    }

    /// Builds the network; its parameters go into the store. The first convolution and the last layer take the precision of the
    /// edges, all else that of `config`.
    ///
    /// # Errors
    /// As for any layer: memory, names, the shapes that a store expects.
    pub(super) fn build(&self, store: &mut Store, config: &QuantConfig) -> autograd::Result<Network> {
        let edge = config.edge()?;
        let first = self.products().next().filter(|(_, p)| p.window.is_some()).map(|(i, _)| i);
        let last = self.products().last().map(|(i, _)| i);
        let mut net = Network::new();
        for (i, step) in self.steps.iter().enumerate() {
            match &step.work {
                Work::Operation(op, inputs) => {
                    let (mut name, mut operands) = (String::new(), Vec::new());
                    for input in inputs {
                        operands.push(match input {
                            Input::Value(value) => Operand::Value(*value),
                            Input::Constant(t) => Operand::Constant(t.clone()),
                            Input::Parameter(p) => {
                                name = p.name.rsplit_once('.').map_or(&*p.name, |(layer, _)| layer).to_string();
                                offer(store, &p.name, &p.value);
                                // Zeros, but admitted before there is memory for them.
                                Operand::Param(store.add_normal(&p.name, Group::Offset, &p.shape, 0.0)?)
                            }
                        });
                    }
                    net.operation(&name, op.clone(), operands)?;
                }
                Work::Product(product) => {
                    let config = if first == Some(i) || last == Some(i) { &edge } else { config };
                    product.add(store, &mut net, step.input, config)?;
                }
                Work::Matmul { name, transposed, other, heads } => {
                    net.matmul(Matmul::new(store, name, *transposed, *heads, config)?, [step.input, *other])?;
                }
                Work::BatchNorm { name, parts, channels, settings } => {
                    offer(store, &format!("{name}.weight"), &parts[0]);
                    offer(store, &format!("{name}.bias"), &parts[1]);
                    net.layer(BatchNorm2d::with(store, name, *channels, *settings)?, step.input)?;
                    if let [_, _, Some(mean), Some(var)] = parts {
                        let stats = store.states_mut::<RunningStats>().filter(|(of, _)| of == name);
                        stats.for_each(|(_, stats)| (stats.mean, stats.var) = (mean.clone(), var.clone()));
                    }
                }
                Work::LayerNorm { name, parts, channels, eps } => {
                    offer(store, &format!("{name}.weight"), &parts[0]);
                    offer(store, &format!("{name}.bias"), &parts[1]);
                    net.layer(LayerNorm::with(store, name, *channels, *eps)?, step.input)?;
                }
                Work::Dropout { name, rate } => drop(net.layer(Dropout::new(name, *rate)?, step.input)?),
            }
        }
        Ok(net)
    }
}

fn offer(store: &mut Store, name: &str, value: &Option<Tensor>) {
    if let Some(value) = value {
        store.offer(name, value.clone());
    }
}

impl Product {
    fn add(&self, store: &mut Store, net: &mut Network, input: usize, config: &QuantConfig) -> autograd::Result<usize> {
        let name = &self.name;
        offer(store, &format!("{name}.weight"), &self.weight.value);
        offer(store, &format!("{name}.bias"), self.bias.as_ref().unwrap_or(&None));
        match (self.window, &self.weight.shape[..]) {
            (Some(window), &[o, kh, kw, i]) => {
                let channels = [i.saturating_mul(window.groups), o];
                let form = Conv2dConfig { channels, kernel: [kh, kw], window, start: Start::default() };
                let mut layer = Conv2d::new(store, name, form, config)?;
                if self.bias.is_some() {
                    layer = layer.biased(store)?;
                }
                net.layer(if self.normalized { layer } else { layer.output_scaled(store, config)? }, input)
            }
            (_, shape) => {
                let &[o, i] = shape else {
                    return Err(autograd::Error::setting("weight of a linear layer", "[O, I]", format!("{shape:?}")));
                };
                let layer = match self.bias {
                    Some(_) => Linear::quantized(store, name, [i, o], config)?,
                    None => Linear::unbiased(store, name, [i, o], config)?,
                };
                net.layer(if self.normalized { layer } else { layer.output_scaled(store, config)? }, input)
            }
        }
    }
}
