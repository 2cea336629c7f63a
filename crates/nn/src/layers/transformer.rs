//! `TransformerBlock`: attention and a perceptron of each token, with a normalization before both and a skip around both.

use super::{Attention, Gelu, Layer, LayerNorm, Linear};
use fixnet_autograd::{Graph, Result, Store, Var};
use fixnet_quant::QuantConfig;

/// The sizes of a [`TransformerBlock`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TransformerConfig {
    /// Numbers of a token.
    pub width: usize,
    /// Heads of the attention.
    pub heads: usize,
    /// Numbers of a token within the perceptron.
    pub hidden: usize,
    /// Added to the variance in normalizations.
    pub eps: f32,
    /// The standard deviation with which weights start.
    pub deviation: f32,
    /// The probability with which training leaves each of the two branches out for a sample.
    pub drop_path: f32,
}

/// `x + attention(norm1(x))`, then `x + fc2(gelu(fc1(norm2(x))))` (the pre-norm form). Shapes: [N, T, D] to [N, T, D].
#[derive(Debug, Clone)]
pub struct TransformerBlock {
    norm1: LayerNorm,
    attention: Attention,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    /// The names and the rate of the noise by which branches are left out.
    drop: ([String; 2], f32),
}

impl TransformerBlock {
    /// Makes a block at the precision of `config`; keys under `name.norm1`, `name.attn`, `name.norm2`, `name.mlp.fc1` and
    /// `name.mlp.fc2`.
    ///
    /// # Errors
    /// The heads do not divide the width, a name is taken, or the precision makes no sense.
    pub fn new(store: &mut Store, name: &str, sizes: TransformerConfig, config: &QuantConfig) -> Result<Self> {
        let TransformerConfig { width, heads, hidden, eps, deviation, drop_path } = sizes;
        let key = |part: &str| format!("{name}.{part}");
        let linear = |store: &mut Store, part: &str, channels| {
            Linear::starting(store, &key(part), channels, deviation, config)?.output_scaled(store, config)
        };
        Ok(Self {
            norm1: LayerNorm::new(store, &key("norm1"), width)?.with_eps(eps),
            attention: Attention::new(store, &key("attn"), [width, heads], deviation, config)?,
            norm2: LayerNorm::new(store, &key("norm2"), width)?.with_eps(eps),
            fc1: linear(store, "mlp.fc1", [width, hidden])?,
            fc2: linear(store, "mlp.fc2", [hidden, width])?,
            drop: ([key("drop_path1"), key("drop_path2")], drop_path),
        })
    }
}

impl Layer for TransformerBlock {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        let ([first, second], rate) = &self.drop;
        let y = self.norm1.forward(g, x)?;
        let y = self.attention.forward(g, &y)?;
        let y = g.drop_path(&y, first, *rate)?;
        let x = g.add(x, &y)?;
        let y = self.norm2.forward(g, &x)?;
        let y = self.fc1.forward(g, &y)?;
        let y = Gelu.forward(g, &y)?;
        let y = self.fc2.forward(g, &y)?;
        let y = g.drop_path(&y, second, *rate)?;
        g.add(&x, &y)
    }
}
