//! `rprelu`: the activation of ReActNet (Liu et al., ECCV 2020), a PReLU between two shifts. It is part of the pass that reads it: see
//! [`deferred`](crate::deferred).

use super::affine::Columns;
use crate::deferred::{BLOCK, Deferred, Lazy, Scratch, block};
use crate::gradient::Gradient;
use crate::{Backward, Cx, Grads, Graph, Operation, Result, Value, Var, exactly};
use fixnet_tensor::{Buffer, Error, Tensor, map, reduce};

/// The numbers of each channel, repeated so that a pass may start at any of them.
#[derive(Clone)]
struct Channels {
    shift: Columns,
    slope: Columns,
    offset: Columns,
}

/// `t` where it is positive, else `a · t`, with t the shifted number.
#[inline(always)]
fn prelu(t: f32, a: f32) -> f32 {
    if t > 0.0 { t } else { a * t }
}

/// The value, computed where it is needed. Layers behind read it more than once, so it is kept once it is written.
struct Deferral {
    x: Value,
    channels: Channels,
}

impl Deferred for Deferral {
    fn shape(&self) -> &[usize] {
        self.x.shape()
    }
    fn fill(&self, first: usize, out: &mut [f32]) {
        let mut scratch = Scratch::new();
        for (i, out) in out.chunks_mut(BLOCK).enumerate() {
            let first = first + i * BLOCK;
            let x = block(&self.x, first..first + out.len(), &mut scratch);
            let Channels { shift, slope, offset } = &self.channels;
            let (shift, slope, offset) = (shift.from(first), slope.from(first), offset.from(first));
            map::dispatch(
                #[inline(always)]
                || {
                    for (out, x) in out.chunks_mut(shift.len()).zip(x.chunks(shift.len())) {
                        for ((((o, &x), &b1), &a), &b2) in out.iter_mut().zip(x).zip(shift).zip(slope).zip(offset) {
                            *o = prelu(x + b1, a) + b2;
                        }
                    }
                },
            );
        }
    }
    fn depth(&self) -> usize {
        1 + self.x.depth()
    }
    fn size(&self) -> usize {
        self.x.size()
    }
    fn keep(&self) -> bool {
        true
    }
}

struct RPReluBackward {
    x: Value,
    /// Shift and slope of each channel, repeated to a span.
    shift: Buffer<f32>,
    slope: Buffer<f32>,
}

/// The gradient of a block of whole rows, and the sums over rows that the gradients of slope, shift and offset are.
fn block_gradient(
    [x, dy]: [&[f32]; 2],
    [shift, slope]: [&[f32]; 2],
    [s_slope, s_shift, s_offset]: [&mut [f32]; 3],
    dx: &mut [f32],
) {
    let span = shift.len();
    map::dispatch(
        #[inline(always)]
        || {
            for ((dx, x), dy) in dx.chunks_mut(span).zip(x.chunks(span)).zip(dy.chunks(span)) {
                let sums = s_slope.iter_mut().zip(s_shift.iter_mut()).zip(s_offset.iter_mut());
                let numbers = dx.iter_mut().zip(x).zip(dy).zip(shift.iter().zip(slope));
                for ((((dx, &x), &dy), (&b1, &a)), ((s_slope, s_shift), s_offset)) in numbers.zip(sums) {
                    let t = x + b1;
                    let positive = t > 0.0;
                    let d = if positive { dy } else { dy * a };
                    *s_slope += if positive { 0.0 } else { dy * t };
                    *s_shift += d;
                    *s_offset += dy;
                    *dx = d;
                }
            }
        },
    );
}

impl Backward for RPReluBackward {
    fn name(&self) -> &'static str {
        "rprelu"
    }
    fn backward(self: Box<Self>, grad: Tensor, _: &mut Cx<'_>) -> Result<Grads> {
        let Self { x, shift, slope } = *self;
        let columns = *x.shape().last().expect("checked when recorded");
        let span = reduce::span(columns);
        let mut dx = Tensor::take(x.shape());
        let rows = dx.len() / columns.max(1);
        let sums = reduce::row_pass(dx.data_mut(), rows, columns, 3 * span, |rows, dx, sums| {
            let (s_slope, sums) = sums.split_at_mut(span);
            let (s_shift, s_offset) = sums.split_at_mut(span);
            let length = (BLOCK / span).max(1) * span;
            let mut room = Buffer::take(length);
            for (i, dx) in dx.chunks_mut(length).enumerate() {
                let first = rows.start * columns + i * length;
                let range = first..first + dx.len();
                let x = match x.slice(range.clone()) {
                    Some(x) => x,
                    None => {
                        x.fill(first, &mut room[..dx.len()]);
                        &room[..dx.len()]
                    }
                };
                let sums = [&mut *s_slope, &mut *s_shift, &mut *s_offset];
                block_gradient([x, &grad.data()[range]], [&shift, &slope], sums, dx);
            }
        });
        let channels = |part: usize| {
            let sums = reduce::fold_span(&sums[part * span..][..span], columns);
            Tensor::from_vec(&[columns], sums.iter().map(|&s| s as f32).collect()).expect("one sum a channel")
        };
        let (slope, shift, offset) = (channels(0), channels(1), channels(2));
        Ok(vec![Some(dx), Some(shift), Some(slope), Some(offset)])
    }
    fn backward_deferred(self: Box<Self>, grad: Gradient, cx: &mut Cx<'_>) -> Result<Vec<Option<Gradient>>> {
        // One pass writes the gradient and sums: the residual sum before reads it more than once.
        let grad = grad.into_tensor(cx.store);
        Ok(self.backward(grad, cx)?.into_iter().map(|g| g.map(Gradient::Float)).collect())
    }
}

/// `PReLU(x + shift) + offset`, with a shift, a slope of what is not positive and an offset for each number of the last axis.
#[derive(Debug, Clone, Copy)]
pub struct RPRelu;

impl Operation for RPRelu {
    fn kind(&self) -> &'static str {
        "rprelu"
    }
    fn operand(&self, index: usize) -> String {
        ["input", "shift", "slope", "offset"].get(index).map_or_else(|| format!("operand{index}"), ToString::to_string)
    }
    fn is_batched(&self, index: usize) -> bool {
        index == 0
    }
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x, channels @ ..] = exactly::<_, 4>(inputs)?;
        for one in channels {
            if one.len() != 1 || x.last() != one.first() {
                return Err(Error::shape("rprelu", format!("a last axis of {one:?}"), x).into());
            }
        }
        Ok(x.to_vec())
    }
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        let [x, shift, slope, offset] = exactly(inputs)?;
        self.output_shape(&[x, shift, slope, offset].map(|v| v.shape()))?;
        let numbers = [shift, slope, offset].map(Var::tensor);
        let [b1, a, b2] = [0, 1, 2].map(|i| Columns::new(numbers[i].data()));
        let channels = Channels { shift: b1, slope: a, offset: b2 };
        let value = Value::Deferred(Lazy::new(Deferral { x: x.value().settled(), channels }));
        let sources = [x, shift, slope, offset].map(|v| g.source(v)).to_vec();
        Ok(g.record_value(value, sources, || RPReluBackward {
            x: x.value().clone(),
            shift: reduce::spread(numbers[0].data()),
            slope: reduce::spread(numbers[1].data()),
        }))
    }
}

impl Graph<'_> {
    /// Computes `PReLU(x + shift) + offset`: with `t = x + shift`, `t + offset` where t is positive, else `slope · t + offset`. The
    /// derivative at 0 is the slope. Shapes: x `[.., C]`, the others `[C]`.
    ///
    /// # Errors
    /// The last axis of x is not as long as the others.
    pub fn rprelu(&mut self, x: &Var, shift: &Var, slope: &Var, offset: &Var) -> Result<Var> {
        self.apply(RPRelu, &[x, shift, slope, offset])
    }
}

#[cfg(test)]
mod tests {
    use crate::check::{gradient_error, sample};
    use crate::{Graph, Group, Store};
    use fixnet_tensor::Tensor;

    #[test]
    fn gradients_match_finite_differences() {
        let mut inputs = [sample(&[3, 5], 1), sample(&[5], 2), sample(&[5], 3), sample(&[5], 4)];
        // No sum of x and shift is near the kink at 0.
        inputs[1].data_mut().iter_mut().for_each(|b| *b += 1.0 / 30.0);
        let error = gradient_error(&inputs, 1e-3, |g, v| g.rprelu(&v[0], &v[1], &v[2], &v[3])).unwrap();
        assert!(error < 2e-3, "{error}");
        // Behind a value that is not written out.
        let error = gradient_error(&inputs, 1e-3, |g, v| {
            let x = g.add_bias(&v[0], &v[3])?;
            g.rprelu(&x, &v[1], &v[2], &v[3])
        });
        assert!(error.unwrap() < 2e-3);
    }

    /// The numbers of `torch.nn.functional.prelu(x + b1, a) + b2` (PyTorch 2.15).
    #[test]
    fn values_and_gradients_are_those_of_pytorch() {
        let mut store = Store::seeded(0);
        let mut add = |name: &str, shape: &[usize], values: &[f32]| {
            store.add(name, Group::Weight, Tensor::from_vec(shape, values.to_vec()).unwrap()).unwrap()
        };
        let ids = [
            add("x", &[2, 3], &[0.5, -1.0, 2.0, -0.25, 0.3, -0.7]),
            add("move1.bias", &[3], &[0.1, -0.2, 0.25]),
            add("prelu.weight", &[3], &[0.25, 0.5, -0.1]),
            add("move2.bias", &[3], &[1.0, 0.0, -0.5]),
        ];
        let mut g = Graph::train(&mut store);
        let v = ids.map(|id| g.param(id));
        let y = g.rprelu(&v[0], &v[1], &v[2], &v[3]).unwrap();
        let close = |found: &[f32], expected: &[f32]| {
            assert_eq!(found.len(), expected.len());
            found.iter().zip(expected).for_each(|(a, b)| approx::assert_relative_eq!(a, b, epsilon = 1e-6));
        };
        close(y.tensor().data(), &[1.6, -0.6, 1.75, 0.9625, 0.1, -0.455]);
        // A loss whose gradient of y is 1 to 6.
        let weights = g.input(Tensor::from_vec(&[6, 1], (1..=6).map(|i| i as f32).collect()).unwrap());
        let row = g.reshape(&y, &[1, 6]).unwrap();
        let loss = g.matmul(&row, &weights).unwrap();
        g.backward(loss).unwrap();
        let expected: [&[f32]; 4] =
            [&[1.0, 1.0, 3.0, 1.0, 5.0, -0.6], &[2.0, 6.0, 2.4], &[-0.6, -2.4, -2.7], &[5.0, 7.0, 9.0]];
        ids.iter().zip(expected).for_each(|(&id, expected)| close(store.grad(id).unwrap().data(), expected));
    }

    /// Rows longer than a block, and many of them: the same bits deferred and written out, and sums by columns.
    #[test]
    fn many_channels_and_many_rows() {
        for shape in [[3, 2100], [700, 64], [9000, 3]] {
            let run = |eager: bool| {
                let mut store = Store::seeded(0);
                let x = store.add("x", Group::Weight, sample(&shape, 1)).unwrap();
                let rest = [2, 3, 4]
                    .map(|salt| store.add(&format!("c{salt}"), Group::Weight, sample(&shape[1..], salt)).unwrap());
                let mut g = Graph::train(&mut store);
                g = if eager { g.eager() } else { g };
                let (xv, c) = (g.param(x), rest.map(|id| g.param(id)));
                let xv = g.add_bias(&xv, &c[2]).unwrap();
                let y = g.rprelu(&xv, &c[0], &c[1], &c[2]).unwrap();
                let target = g.input(Tensor::zeros(&shape));
                let loss = g.mse_loss(&y, &target).unwrap();
                g.backward(loss).unwrap();
                let bits = |t: &Tensor| t.data().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                [x, rest[0], rest[1], rest[2]].map(|id| bits(store.grad(id).unwrap()))
            };
            assert_eq!(run(false), run(true), "{shape:?}");
        }
    }

    #[test]
    fn numbers_that_are_not_one_per_channel_are_refused() {
        let mut store = Store::seeded(0);
        let mut g = Graph::eval(&mut store);
        let [x, right, wrong] = [&[2, 3][..], &[3], &[2]].map(|shape| g.input(Tensor::zeros(shape)));
        let e = g.rprelu(&x, &right, &wrong, &right).unwrap_err().to_string();
        assert!(e.contains("rprelu") && e.contains("[2]"), "{e}");
    }
}
