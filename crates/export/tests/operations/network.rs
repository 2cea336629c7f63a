//! A network that a user might compose of the graph's operations, with every one that broadcasts, names axes or is a function
//! of one number: for tests, and for the comparison with onnxruntime.

use fixnet_autograd::check::sample;
use fixnet_autograd::{Graph, Group, ParamId, Result, Store, Var};
use fixnet_nn::Layer;
use fixnet_nn::layers::{Dropout, LayerNorm};
use fixnet_tensor::{Tensor, Window};

/// The shape of an image.
pub(crate) const INPUT: [usize; 3] = [4, 6, 3];
/// The number of outputs.
pub(crate) const CLASSES: usize = 7;

/// Operations on images, then attention over their pixels, then a dense layer.
pub(crate) struct Composed {
    conv: ParamId,
    columns: ParamId,
    mix: ParamId,
    pixels: ParamId,
    dense: ParamId,
    row: ParamId,
    rows_weight: ParamId,
    rows_bias: ParamId,
    norm: LayerNorm,
    token_norm: LayerNorm,
    dropout: Dropout,
}

impl Composed {
    /// Adds the parameters to a store.
    pub(crate) fn new(store: &mut Store) -> Result<Self> {
        let mut columns = sample(&[6, 1], 5);
        columns.data_mut().iter_mut().for_each(|v| *v += 2.0);
        Ok(Self {
            conv: store.add("conv.weight", Group::Weight, sample(&[4, 1, 1, 3], 4))?,
            columns: store.add("columns.weight", Group::Weight, columns)?,
            mix: store.add("mix.weight", Group::Weight, sample(&[8, 5], 6))?,
            pixels: store.add("pixels.weight", Group::Weight, sample(&[5, 4], 7))?,
            dense: store.add("dense.weight", Group::Weight, sample(&[CLASSES, 14], 8))?,
            row: store.add("row", Group::Offset, sample(&[1, 1, 5], 10))?,
            rows_weight: store.add("rows.weight", Group::Weight, sample(&[5, 5], 11))?,
            rows_bias: store.add("rows.bias", Group::Offset, sample(&[5], 12))?,
            norm: LayerNorm::new(store, "norm", 8)?,
            token_norm: LayerNorm::new(store, "token_norm", 5)?,
            dropout: Dropout::new("dropout", 0.3)?,
        })
    }
}

impl Layer for Composed {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        let images = x.shape()[0];
        let [conv, columns, mix, pixels, dense] =
            [self.conv, self.columns, self.mix, self.pixels, self.dense].map(|id| g.param(id));
        let [row, rows_weight, rows_bias] = [self.row, self.rows_weight, self.rows_bias].map(|id| g.param(id));
        let y = g.conv2d(x, &conv, Window::default())?;
        // Functions of one number, and constants that broadcast over an image from either side.
        let (gate, value) = (g.sigmoid(&y)?, g.tanh(&y)?);
        let y = g.mul(&gate, &value)?;
        let shift = g.input(sample(&[4], 9));
        let y = g.sub(&shift, &y)?;
        let y = g.div(&y, &columns)?;
        let root = g.sqrt(&columns)?;
        let y = g.mul(&y, &root)?;
        let y = g.gelu(&y)?;
        let y = g.leaky_relu(&y, 0.1)?;
        let [b1, a, b2] = [10, 11, 12].map(|salt| g.input(sample(&[4], salt)));
        let y = g.rprelu(&y, &b1, &a, &b2)?;
        let y = g.clamp(&y, -0.25, 1.5)?;
        let y = g.clamp(&y, f32::NEG_INFINITY, 1.25)?;
        let e = g.exp(&y)?;
        let (l, s) = (g.log(&e)?, g.sqrt(&e)?);
        let y = g.concat(&[&l, &s], 3)?;
        let y = g.slice(&y, 1, 1..3)?;
        let y = g.slice(&y, 2, 2..5)?;
        let y = self.dropout.forward(g, &y)?;
        let y = self.norm.forward(g, &y)?;
        let shares = g.softmax(&y, 2)?;
        let y = g.add(&y, &shares)?;
        let mean = g.mean(&y, &[1, 2], true)?;
        let y = g.sub(&y, &mean)?;
        // The rows of an image as features.
        let rows = g.permute(&y, &[0, 3, 1, 2])?;
        let rows = g.sum(&rows, &[1], false)?;
        let rows = g.flatten(&rows)?;
        // Attention of each pixel to each.
        let tokens = g.reshape(&y, &[images, 6, 8])?;
        let keys = g.permute(&tokens, &[0, 2, 1])?;
        let scores = g.matmul(&tokens, &keys)?;
        let scores = g.scale(&scores, 0.35)?;
        let attention = g.softmax(&scores, 2)?;
        let tokens = g.matmul(&attention, &tokens)?;
        let tokens = g.matmul(&tokens, &mix)?;
        let tokens = self.token_norm.forward(g, &tokens)?;
        // A row before the others, a product of each row with a weight, and one with a transposed operand.
        let tokens = g.prepend(&tokens, &row)?;
        let tokens = g.linear_biased(&tokens, &rows_weight, &rows_bias)?;
        let scores = g.matmul_transposed(&tokens, &tokens)?;
        let shares = g.softmax(&scores, 2)?;
        let tokens = g.matmul(&shares, &tokens)?;
        let tokens = g.slice(&tokens, 1, 1..7)?;
        // A product of each pixel of an image, and a mean that leaves tokens.
        let image = g.reshape(&tokens, &[images, 2, 3, 5])?;
        let image = g.matmul(&image, &pixels)?;
        let image = g.mean(&image, &[2], false)?;
        let image = g.flatten(&image)?;
        let features = g.concat(&[&rows, &image], 1)?;
        g.linear(&features, &dense)
    }
}

/// Returns `count` images with values from 0 to 1.
pub(crate) fn images(count: usize) -> Tensor {
    let mut x = sample(&[&[count], &INPUT[..]].concat(), 3);
    x.data_mut().iter_mut().for_each(|v| *v = (*v + 1.0) / 2.0);
    x
}
