//! Convolutions of images and of sequences, linear layers and products of two values.

use super::act::{Act, positions};
use super::constant::Constant;
use super::lower::{Item, Lowering, float, int, ints, text};
use super::problem::Result;
use super::program::{Input, Parameter, Product, Work};

use super::read::op_of;
use crate::onnx::messages::Node;
use fixnet_autograd::{Operation, ops};
use fixnet_tensor::{Conv2dGeometry, Tensor, Window};
use std::sync::Arc;

/// Two whole numbers of at least `least` of an attribute, which are 1 where it is missing.
fn pair(low: &Lowering<'_>, node: &Node, name: &str) -> Result<[usize; 2]> {
    let Some(values) = ints(node, name) else { return Ok([1, 1]) };
    let sizes: Vec<usize> = values.iter().filter_map(|&v| usize::try_from(v).ok().filter(|&v| v > 0)).collect();
    <[usize; 2]>::try_from(sizes).ok().filter(|_| values.len() == 2).ok_or_else(|| {
        low.odd(node, format!("`{name}` of two numbers above 0, those of images"), format!("{values:?}"))
    })
}

/// A whole number above 0 of an attribute of a sequence, which is 1 where it is missing.
fn single(low: &Lowering<'_>, node: &Node, name: &str) -> Result<usize> {
    match ints(node, name) {
        None => Ok(1),
        Some(&[v]) if v > 0 => Ok(v as usize),
        Some(other) => {
            Err(low.odd(node, format!("`{name}` of one number above 0, that of a sequence"), format!("{other:?}")))
        }
    }
}

/// Steps before and behind a sequence, as many on both sides.
pub(super) fn padding_of_steps(
    low: &Lowering<'_>,
    node: &Node,
    reach: usize,
    stride: usize,
    steps: usize,
) -> Result<usize> {
    let pads = ints(node, "pads").unwrap_or(&[0; 2]);
    match *pads {
        [a, b] if a >= 0 && b >= 0 => {
            padding_of(low, node, &[a, 0, b, 0], [reach, 1], [stride, 1], [steps, 1]).map(|p| p[0])
        }
        _ => Err(low.odd(node, "`pads` of two numbers, those of a sequence", format!("{pads:?}"))),
    }
}

/// Rows above and below and columns left and right, alike on both sides.
pub(super) fn padding(
    low: &Lowering<'_>,
    node: &Node,
    reach: [usize; 2],
    strides: [usize; 2],
    sides: [usize; 2],
) -> Result<[usize; 2]> {
    padding_of(low, node, ints(node, "pads").unwrap_or(&[0; 4]), reach, strides, sides)
}

fn padding_of(
    low: &Lowering<'_>,
    node: &Node,
    pads: &[i64],
    reach: [usize; 2],
    strides: [usize; 2],
    sides: [usize; 2],
) -> Result<[usize; 2]> {
    let auto = text(node, "auto_pad");
    match auto.as_str() {
        "" | "NOTSET" => match *pads {
            [t, l, b, r] if t == b && l == r && t >= 0 && l >= 0 => Ok([t as usize, l as usize]),
            _ => Err(low.odd(node, "pads that are alike on both sides", format!("{pads:?}"))),
        },
        "VALID" => Ok([0, 0]),
        _ => {
            let total = |d: usize| {
                let outputs = sides[d].div_ceil(strides[d]);
                (outputs.saturating_sub(1) * strides[d]).saturating_add(reach[d]).saturating_sub(sides[d])
            };
            let totals = [total(0), total(1)];
            match totals.iter().all(|t| t % 2 == 0) {
                true => Ok(totals.map(|t| t / 2)),
                false => {
                    Err(low.odd(node, "padding that is alike on both sides", format!("{auto} of {totals:?} in all")))
                }
            }
        }
    }
}

/// The numbers of a weight in another order; the function gives the place in the file of each number.
fn rearranged(c: &Constant, shape: &[usize], place: impl Fn(usize) -> usize) -> Option<Tensor> {
    let data = c.as_floats()?;
    let values = (0..data.len()).map(|i| data[place(i)]).collect();
    Tensor::from_vec(shape, values).ok()
}

/// A weight of floats, all of them finite.
fn weight(low: &Lowering<'_>, node: &Node, index: usize) -> Result<Arc<Constant>> {
    let c = low.constant(node, index)?;
    let odd = |found: String| low.odd(node, "weights of finite floats", found);
    match (c.tensor(), c.as_floats()) {
        (None, _) => Err(odd("whole numbers".into())),
        (Some(_), Some(data)) => match data.iter().find(|v| !v.is_finite()) {
            Some(v) => Err(odd(format!("{v} in `{}`", node.input[index]))),
            None => Ok(c),
        },
        (Some(_), None) => Ok(c),
    }
}

/// A bias of so many numbers, in the form of [`Product::bias`].
fn bias(low: &Lowering<'_>, node: &Node, index: usize, outputs: usize, factor: f32) -> Result<Option<Option<Tensor>>> {
    if low.optional(node, index)?.is_none() {
        return Ok(None);
    }
    let c = weight(low, node, index)?;
    if c.len() != outputs && c.len() != 1 {
        return Err(low.odd(node, format!("a bias of {outputs} numbers"), format!("{:?}", c.shape)));
    }
    let numbers = c.as_floats().map(|data| (0..outputs).map(|i| data[i % data.len()] * factor).collect());
    Ok(Some(numbers.and_then(|values| Tensor::from_vec(&[outputs], values).ok())))
}

pub(super) fn conv(low: &mut Lowering<'_>, node: &Node) -> Result<Vec<Item>> {
    let x = low.act(node, 0)?;
    let w = weight(low, node, 1)?;
    let of_steps = w.shape.len() == 3;
    let (o, i, kh, kw) = match w.shape[..] {
        [o, i, kh, kw] => (o, i, kh, kw),
        [o, i, k] => (o, i, k, 1),
        _ => {
            let expected = "a convolution of images or sequences, with weights [O, I, H, W] or [O, I, K]";
            return Err(low.odd(node, expected, format!("{:?}", w.shape)));
        }
    };
    let x = match (of_steps, x.dims.len()) {
        (false, _) => low.image(node, &x)?,
        (true, 2) => low.column(&x)?,
        (true, _) => return Err(low.odd(node, "a sequence [N, C, T]", format!("[N, {:?}]", x.dims))),
    };
    let both = |low: &Lowering<'_>, name: &str| match of_steps {
        false => pair(low, node, name),
        true => Ok([single(low, node, name)?, 1]),
    };
    let (stride, dilation) = (both(low, "strides")?, both(low, "dilations")?);
    let group = int(node, "group", 1);
    let groups =
        usize::try_from(group).ok().filter(|&g| g > 0).ok_or_else(|| low.odd(node, "groups above 0", group))?;
    let reach = |d: usize, k: usize| dilation[d].saturating_mul(k.saturating_sub(1)).saturating_add(1);
    let padding = match of_steps {
        false => padding(low, node, [reach(0, kh), reach(1, kw)], stride, [x.dims[1], x.dims[2]])?,
        true => [padding_of_steps(low, node, reach(0, kh), stride[0], x.dims[1])?, 0],
    };
    let window = Window { stride, padding, dilation, groups };
    let shape = [o, kh, kw, i];
    let stored = [&[1], &x.stored()[..]].concat();
    let geometry = Conv2dGeometry::windowed(&stored, &shape, window).map_err(|e| low.misfit(node, e))?;
    let out = geometry.output_shape();
    let area = kh * kw;
    let value = rearranged(&w, &shape, |k| (k / (area * i) * i + k % i) * area + k / i % area);
    let bias = bias(low, node, 2, o, 1.0)?;
    let dims = [out[3], out[1], out[2]].to_vec();
    let items = product(low, node, &x, (&shape, value), bias, Some(window), dims, vec![1, 2, 0])?;
    match items.first() {
        Some(Item::Act(y)) if of_steps => Ok(vec![Item::Act(low.steps(y)?)]),
        _ => Ok(items),
    }
}

/// Adds a layer with weights. `dims` and `order` are those of its value.
#[allow(clippy::too_many_arguments, reason = "each is one property of the layer")]
fn product(
    low: &mut Lowering<'_>,
    node: &Node,
    x: &Act,
    (shape, value): (&[usize], Option<Tensor>),
    bias: Option<Option<Tensor>>,
    window: Option<Window>,
    dims: Vec<usize>,
    order: Vec<usize>,
) -> Result<Vec<Item>> {
    let tensor = node.input.get(1).map(String::as_str);
    let name = low.names.layer(tensor, node.name.as_deref().unwrap_or(""), op_of(node));
    let weight = Parameter { name: format!("{name}.weight"), shape: shape.to_vec(), value };
    let act = Act::in_order(0, dims, order);
    let product = Product { name, weight, bias, window, normalized: false };
    let value = low.push(node, Work::Product(Box::new(product)), x.value, act.stored())?;
    Ok(vec![Item::Act(act.with(value))])
}

/// `x · w` with the weight [I, O], or [O, I] where it is `transposed`.
fn linear(
    low: &mut Lowering<'_>,
    node: &Node,
    transposed: bool,
    factor: f32,
    with_bias: Option<f32>,
) -> Result<Vec<Item>> {
    let mut x = low.any(node, 0)?;
    if !x.ends_in_sample() {
        return Err(low.odd(node, "an input whose last axis is one of each sample", "that of the batch"));
    }
    let w = weight(low, node, 1)?;
    let &[a, b] = &w.shape[..] else {
        return Err(low.odd(node, "a weight of two axes", format!("{:?}", w.shape)));
    };
    let (o, i) = if transposed { (a, b) } else { (b, a) };
    if x.dims.last() != Some(&i) {
        return Err(low.odd(node, format!("an input with {i} columns"), format!("[N, {:?}]", x.dims)));
    }
    let bias = match with_bias {
        Some(beta) => bias(low, node, 2, o, beta)?,
        None => None,
    };
    let columns = match &x.image {
        _ if w.as_floats().is_none() => Vec::new(),
        Some((dims, order)) => positions(dims, order),
        None => (0..i).collect(),
    };
    let place = |k: usize| if transposed { k / i * i + columns[k % i] } else { columns[k % i] * o + k / i };
    let mut value = rearranged(&w, &[o, i], place);
    if let Some(t) = value.as_mut().filter(|_| factor != 1.0) {
        t.data_mut().iter_mut().for_each(|v| *v *= factor);
    }
    let mut dims = x.dims.clone();
    if x.dims.len() == 1 {
        return product(low, node, &x, (&[o, i], value), bias, None, vec![o], vec![0]);
    }
    // Of tokens it is a convolution of windows of one.
    x = low.straight(&x)?;
    let tokens: usize = dims[..dims.len() - 1].iter().product();
    let window = Some(Window::default());
    let value = value.and_then(|t| t.reshape(&[o, 1, 1, i]).ok());
    let image = low.reshaped(&x, &[tokens, 1, i])?;
    let image = Act::plain(image, vec![tokens, 1, i]);
    let items = product(low, node, &image, (&[o, 1, 1, i], value), bias, window, vec![tokens, 1, o], vec![0, 1, 2])?;
    let Some(Item::Act(y)) = items.into_iter().next() else { return Ok(Vec::new()) };
    *dims.last_mut().expect("at least two axes") = o;
    let value = low.reshaped(&y, &dims)?;
    Ok(vec![Item::Act(Act::plain(value, dims).placed_as(&x))])
}

pub(super) fn gemm(low: &mut Lowering<'_>, node: &Node) -> Result<Vec<Item>> {
    if int(node, "transA", 0) != 0 {
        return Err(low.odd(node, "transA = 0", "1"));
    }
    let (alpha, beta) = (float(node, "alpha", 1.0), float(node, "beta", 1.0));
    linear(low, node, int(node, "transB", 0) != 0, alpha, Some(beta))
}

pub(super) fn matmul(low: &mut Lowering<'_>, node: &Node) -> Result<Vec<Item>> {
    if let Item::Constant(_) = low.item(node, 1)? {
        return linear(low, node, false, 1.0, None);
    }
    let (a, b) = (low.any(node, 0)?, low.any(node, 1)?);
    let (a, b) = (low.straight(&a)?, low.unfolded(&b)?);
    let rank = a.dims.len();
    // The heads of all samples may be one axis.
    let is_first = [&a, &b].iter().all(|x| x.batch == 0 && x.joined == a.joined);
    if rank != b.dims.len() || rank < 2 + usize::from(a.joined.is_some()) || !is_first {
        let found = format!("[N, {:?}] and [N, {:?}]", a.dims, b.dims);
        return Err(low.odd(node, "two values with as many axes, at least three", found));
    }
    // The second one is read as it lies in memory where its rows are what the file has as columns, as keys are.
    let transposed = b.order.last() == Some(&(rank - 2)) && b.dims[rank - 2] > 1;
    let order: Vec<usize> = match transposed {
        true => (0..rank - 2).chain([rank - 1, rank - 2]).collect(),
        false => (0..rank).collect(),
    };
    let b = low.ordered(&b, &order)?;
    let mut dims = a.dims.clone();
    dims[rank - 1] = b.dims[rank - 1];
    let [left, right] = [&a, &b].map(|x| [&[1], &x.stored()[..]].concat());
    let op = ops::Matmul { transposed };
    op.output_shape(&[&left, &right]).map_err(|e| low.misfit(node, e))?;
    let name = low.names.matmul(node.name.as_deref().unwrap_or(""));
    // The shares of a softmax are of one range whatever the head.
    let heads = [&a, &b].map(|x| (rank == 3 && !low.is_softmax(x.value)).then(|| x.dims[0]));
    let work = Work::Matmul { name, transposed, other: b.value, heads };
    let value = low.push(node, work, a.value, dims.clone())?;
    Ok(vec![Item::Act(Act::plain(value, dims).placed_as(&a))])
}

/// Takes a constant that is added to the output of a product as its bias, if it has none and nothing else reads it.
pub(super) fn added(low: &mut Lowering<'_>, node: &Node, act: &Act, index: usize) -> Result<Option<Item>> {
    let other = low.constant(node, 1 - index)?;
    let is_last = act.image.is_none() && act.order.is_sorted() && act.ends_in_sample();
    let Some(&channels) = act.dims.last().filter(|_| is_last) else {
        return Ok(None);
    };
    if other.len() != channels || other.shape.last() != Some(&channels) || other.name.is_none() {
        return Ok(None);
    }
    // A product of tokens is behind a reshape.
    let mut product = act.value;
    if let Some(super::program::Step { work: Work::Operation(op, inputs), .. }) =
        product.checked_sub(1).map(|i| &low.steps[i])
        && op.get::<ops::Reshape>().is_some()
        && let [Input::Value(before)] = inputs[..]
    {
        product = before;
    }
    let is_alone = product == act.value || low.readers(product) == 1;
    if !is_alone || !low.is_read_once(act.value) || !low.is_read_once(product) {
        return Ok(None);
    }
    let c = weight(low, node, 1 - index)?;
    let value = c.as_floats().map(<[f32]>::to_vec).and_then(|values| Tensor::from_vec(&[channels], values).ok());
    match low.product_of(product) {
        Some(p) if p.bias.is_none() && p.weight.shape[0] == channels && op_is_linear(p) => {
            p.bias = Some(value);
            Ok(Some(Item::Act(act.clone())))
        }
        _ => Ok(None),
    }
}

/// Whether the last axis of the file is that of the outputs: of convolutions of images it is not.
fn op_is_linear(p: &Product) -> bool {
    p.window.is_none() || p.weight.shape[1..3] == [1, 1]
}
