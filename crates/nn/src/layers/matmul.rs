//! `Matmul`: a product of two values for each sample, such as the two of attention, in floats or quantized.

use fixnet_autograd::{Graph, Result, Store, Var};
use fixnet_quant::{AttentionScales, Precision, QMatmul, QuantConfig};

/// The product of pairs of matrices of two values: `a · b`, or `a · b^T` where it is transposed. Shapes: a [.., M, K] and
/// b [.., K, N], or [.., N, K], to [.., M, N]; the axes before the matrices are the same.
///
/// Where it is quantized, it is an integer product in all three directions. It reads two values and so is no
/// [`Layer`](super::Layer); a [`Network`](super::Network) takes it.
#[derive(Debug, Clone)]
pub struct Matmul {
    name: String,
    transposed: bool,
    quantized: Option<QMatmul>,
}

impl Matmul {
    /// Makes a product at the precision of `config`, float if that is 32/32/32. The keys of its scales are `name.left.scale`,
    /// `name.right.scale` and, where quantized values leave out theirs, `name.output.scale`. With [`AttentionScales::Head`] an
    /// operand [N, H, .., ..] for which `heads` has a number H has a scale for each head.
    ///
    /// # Errors
    /// A name is taken, or the precision makes no sense.
    pub fn new(
        store: &mut Store,
        name: &str,
        transposed: bool,
        heads: [Option<usize>; 2],
        config: &QuantConfig,
    ) -> Result<Self> {
        let heads = if config.attention_scales == AttentionScales::Head { heads } else { [None; 2] };
        let quantized = match config.precision {
            Precision::FLOAT => None,
            _ => {
                let product = QMatmul::by_heads(store, name, transposed, heads, config)?;
                Some(product.output_scaled(store, config)?)
            }
        };
        Ok(Self { name: name.into(), transposed, quantized })
    }

    /// Records the product.
    ///
    /// # Errors
    /// The sizes do not fit.
    pub fn forward(&self, g: &mut Graph<'_>, a: &Var, b: &Var) -> Result<Var> {
        match (&self.quantized, self.transposed) {
            (Some(product), _) => product.forward(g, a, b),
            (None, true) => g.matmul_transposed(a, b).map_err(|e| e.in_layer(&self.name)),
            (None, false) => g.matmul(a, b).map_err(|e| e.in_layer(&self.name)),
        }
    }
}
