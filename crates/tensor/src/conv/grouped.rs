//! Convolutions in groups of channels: one convolution a group over a copy of its channels. Depthwise ones, with a
//! channel a group, go to `depthwise.rs` instead.

use super::plan::check;
use super::run_chunks;
use crate::{Buffer, Codes, Conv2dGeometry, Element, Result, Sums, Tensor};

/// An operand that can be cut by group.
pub(crate) trait Operand: Sized {
    /// The lengths of the axes.
    fn shape(&self) -> &[usize];
    /// Channels `first..first + count` of the last axis.
    fn channels(&self, first: usize, count: usize) -> Result<Self>;
    /// Entries `first..first + count` of the first axis.
    fn entries(&self, first: usize, count: usize) -> Result<Self>;
}

impl Operand for Codes {
    fn shape(&self) -> &[usize] {
        self.shape()
    }
    fn channels(&self, first: usize, count: usize) -> Result<Self> {
        let (shape, bytes) = cut_channels(self.shape(), self.bytes(), first, count);
        Codes::new(&shape, self.range(), self.scale(), bytes)
    }
    fn entries(&self, first: usize, count: usize) -> Result<Self> {
        let (shape, bytes) = cut_entries(self.shape(), self.bytes(), first, count);
        Codes::new(&shape, self.range(), self.scale(), bytes)
    }
}

impl Operand for Tensor {
    fn shape(&self) -> &[usize] {
        self.shape()
    }
    fn channels(&self, first: usize, count: usize) -> Result<Self> {
        let (shape, data) = cut_channels(self.shape(), self.data(), first, count);
        Tensor::from_buffer(&shape, data)
    }
    fn entries(&self, first: usize, count: usize) -> Result<Self> {
        let (shape, data) = cut_entries(self.shape(), self.data(), first, count);
        Tensor::from_buffer(&shape, data)
    }
}

fn cut_channels<T: Element>(shape: &[usize], data: &[T], first: usize, count: usize) -> (Vec<usize>, Buffer<T>) {
    let (&columns, axes) = shape.split_last().expect("operands have axes");
    let mut out = Buffer::take(data.len() / columns.max(1) * count);
    const ROWS: usize = 1024;
    let work = out.len();
    run_chunks(&mut out, ROWS * count, work, |(i, out)| {
        let rows = data[i * ROWS * columns..].chunks(columns.max(1));
        out.chunks_mut(count.max(1)).zip(rows).for_each(|(out, row)| out.copy_from_slice(&row[first..][..count]));
    });
    ([axes, &[count]].concat(), out)
}

fn cut_entries<T: Element>(shape: &[usize], data: &[T], first: usize, count: usize) -> (Vec<usize>, Buffer<T>) {
    let size: usize = shape[1..].iter().product();
    let mut out = Buffer::take(count * size);
    out.copy_from_slice(&data[first * size..][..count * size]);
    ([&[count], &shape[1..]].concat(), out)
}

/// Rows of every part side by side.
fn join_channels<T: Element>(parts: &[Buffer<T>], count: usize) -> Buffer<T> {
    let columns = parts.len() * count;
    let mut out = Buffer::take(parts.iter().map(|p| p.len()).sum());
    const ROWS: usize = 1024;
    let work = out.len();
    run_chunks(&mut out, ROWS * columns, work, |(i, out)| {
        for (row, out) in out.chunks_mut(columns).enumerate() {
            for (out, part) in out.chunks_mut(count).zip(parts) {
                out.copy_from_slice(&part[(i * ROWS + row) * count..][..count]);
            }
        }
    });
    out
}

/// The parts of a group: its geometry, `rows` of the weight and the channels of both images.
struct Parts {
    one: Conv2dGeometry,
    groups: usize,
}

impl Parts {
    fn new(geo: &Conv2dGeometry) -> Self {
        Self { one: geo.one_group(), groups: geo.groups }
    }

    /// `f(group, its input channels, its output channels)` of each group, in order.
    fn each<T>(&self, mut f: impl FnMut(&Conv2dGeometry, [usize; 2], [usize; 2]) -> Result<T>) -> Result<Vec<T>> {
        let (c_in, c_out) = (self.one.c_in, self.one.c_out);
        (0..self.groups).map(|g| f(&self.one, [g * c_in, c_in], [g * c_out, c_out])).collect()
    }
}

type ToSums = fn(&Codes, &Codes, &Conv2dGeometry) -> Result<Sums>;
type ToTensor<T> = fn(&T, &T, &Conv2dGeometry) -> Result<Tensor>;

fn wide(sums: &Sums) -> Buffer<i32> {
    sums.to_vec().into()
}

fn floats(t: Tensor) -> Buffer<f32> {
    let mut copy = Buffer::take(t.len());
    copy.copy_from_slice(t.data());
    copy
}

/// The sums of a forward product.
pub(super) fn forward(x: &Codes, w: &Codes, geo: &Conv2dGeometry, f: ToSums) -> Result<Sums> {
    check("grouped conv2d", "image", &geo.input_shape(), x.shape())?;
    check("grouped conv2d", "weight", &geo.weight_shape(), w.shape())?;
    let parts =
        Parts::new(geo).each(|one, [i, ni], [o, no]| Ok(wide(&f(&x.channels(i, ni)?, &w.entries(o, no)?, one)?)))?;
    Sums::new(&geo.output_shape(), x.scale() * w.scale(), join_channels(&parts, geo.c_out / geo.groups))
}

/// The sums of an input gradient.
pub(super) fn input_grad(g: &Codes, w: &Codes, geo: &Conv2dGeometry, f: ToSums) -> Result<Sums> {
    check("grouped conv2d_input_grad", "image", &geo.output_shape(), g.shape())?;
    check("grouped conv2d_input_grad", "weight", &geo.weight_shape(), w.shape())?;
    let parts = Parts::new(geo).each(|one, _, [o, no]| Ok(wide(&f(&g.channels(o, no)?, &w.entries(o, no)?, one)?)))?;
    Sums::new(&geo.input_shape(), g.scale() * w.scale(), join_channels(&parts, geo.c_in / geo.groups))
}

/// A float forward product.
pub(crate) fn float_forward(x: &Tensor, w: &Tensor, geo: &Conv2dGeometry, f: ToTensor<Tensor>) -> Result<Tensor> {
    check("grouped float conv2d", "image", &geo.input_shape(), x.shape())?;
    check("grouped float conv2d", "weight", &geo.weight_shape(), w.shape())?;
    let parts =
        Parts::new(geo).each(|one, [i, ni], [o, no]| Ok(floats(f(&x.channels(i, ni)?, &w.entries(o, no)?, one)?)))?;
    Tensor::from_buffer(&geo.output_shape(), join_channels(&parts, geo.c_out / geo.groups))
}

/// A float input gradient.
pub(crate) fn float_input_grad(g: &Tensor, w: &Tensor, geo: &Conv2dGeometry, f: ToTensor<Tensor>) -> Result<Tensor> {
    check("grouped float conv2d_input_grad", "image", &geo.output_shape(), g.shape())?;
    check("grouped float conv2d_input_grad", "weight", &geo.weight_shape(), w.shape())?;
    let parts = Parts::new(geo).each(|one, _, [o, no]| Ok(floats(f(&g.channels(o, no)?, &w.entries(o, no)?, one)?)))?;
    Tensor::from_buffer(&geo.input_shape(), join_channels(&parts, geo.c_in / geo.groups))
}

/// A weight gradient, of codes or floats: weights of a group lie together.
pub(crate) fn weight_grad<T: Operand>(x: &T, g: &T, geo: &Conv2dGeometry, f: ToTensor<T>) -> Result<Tensor> {
    check("grouped conv2d_weight_grad", "input", &geo.input_shape(), x.shape())?;
    check("grouped conv2d_weight_grad", "output gradient", &geo.output_shape(), g.shape())?;
    let parts = Parts::new(geo).each(|one, [i, ni], [o, no]| f(&x.channels(i, ni)?, &g.channels(o, no)?, one))?;
    let mut out = Tensor::take(&geo.weight_shape());
    let size = out.len() / geo.groups;
    for (out, part) in out.data_mut().chunks_mut(size.max(1)).zip(&parts) {
        out.copy_from_slice(part.data());
    }
    Ok(out)
}
