//! `FixedProduct`: what a quantized layer computes in evaluation, with no store behind it. Exporters read it, and a network
//! that was read from a file computes with it.

use super::{Product, Quantizers};
use crate::{FixedInput, Precision, QConv2d, QLinear};
use fixnet_autograd::{Error, Graph, Result, Store, Value, Var};
use fixnet_tensor::{Codes, Conv2dGeometry, Tensor, Window};

/// An integer product whose numbers do not move: `unit · Σ level(x) · level(w)`.
#[derive(Debug, Clone)]
pub struct FixedProduct {
    precision: Precision,
    input: FixedInput,
    weight: Codes,
    units: Tensor,
}

impl FixedProduct {
    /// A product of an input that `input` quantizes and of the levels of `weight` (`[O, KH, KW, I]` or `[O, I]`). `units`
    /// are the real value of a sum of one: `[]` for all output channels or `[O]`.
    ///
    /// # Errors
    /// There is not one unit, or one for each output channel.
    pub fn new(precision: Precision, input: FixedInput, weight: &Codes, units: Tensor) -> Result<Self> {
        let channels = weight.shape().first().copied().unwrap_or(0);
        if !(units.shape().is_empty() || units.shape() == [channels]) {
            return Err(fixnet_tensor::Error::shape("units", format!("[] or [{channels}]"), units.shape()).into());
        }
        Ok(Self { precision, input, weight: weight.with_scale(1.0), units })
    }

    /// The bits of weights, activations and, in training, gradients.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The quantizer of the input.
    pub fn input(&self) -> FixedInput {
        self.input
    }

    /// The levels of the weight, with scale 1.
    pub fn weight(&self) -> &Codes {
        &self.weight
    }

    /// The real value of a sum of one: `[]` for all output channels, or `[O]`.
    pub fn units(&self) -> &Tensor {
        &self.units
    }

    /// The real value of a sum of one in output channel `k`.
    pub fn unit(&self, k: usize) -> f32 {
        self.units.data()[if self.units.len() == 1 { 0 } else { k }]
    }

    /// Whether the scale of the input is known: a training batch sets it.
    pub fn is_ready(&self) -> bool {
        self.input.per_unit > 0.0
    }

    /// [`QConv2d::forward`] with these numbers: [N, H, W, I] to [N, H_out, W_out, O], as exact sums.
    ///
    /// # Errors
    /// The sizes do not fit, or the scale of the input is not known.
    pub fn conv2d(&self, g: &mut Graph<'_>, x: &Var, window: Window) -> Result<Var> {
        let geometry = Conv2dGeometry::windowed(x.shape(), self.weight.shape(), window)?;
        self.forward(g, x, Product::Conv2d(geometry))
    }

    /// [`QLinear::forward`] with these numbers: [N, I] to [N, O], as exact sums.
    ///
    /// # Errors
    /// The sizes do not fit, or the scale of the input is not known.
    pub fn linear(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        self.forward(g, x, Product::Linear)
    }

    fn forward(&self, g: &mut Graph<'_>, x: &Var, product: Product) -> Result<Var> {
        if !self.is_ready() {
            return Err(Error::setting("scale of an input", "one that a training batch has set", "none"));
        }
        let codes = self.input.quantize(x.value())?;
        let sums = product.forward(&codes, &self.weight)?;
        let sums = match self.units.data() {
            [unit] => sums.scaled(*unit),
            units => sums.with_columns(units)?,
        };
        Ok(g.record_value::<super::QuantizedBackward>(Value::Sums(sums), Vec::new(), || unreachable!("no input")))
    }
}

impl Quantizers {
    fn fixed(&self, store: &mut Store) -> Result<FixedProduct> {
        store.owns(self.weight).map_err(|e| e.in_layer(&self.name))?;
        let weight = *store.state(self.weight);
        let codes = weight.codes(store)?;
        let (input, value) = self.input.fixed(store);
        // The same products in the same order as in `forward`.
        let mut units = Tensor::scalar(value * codes.scale());
        let mut times = |factors: &[f32]| -> Result<()> {
            let (len, old) = (factors.len().max(units.len()), units.data().to_vec());
            let at = |v: &[f32], k: usize| v[if v.len() == 1 { 0 } else { k }];
            let values = (0..len).map(|k| at(&old, k) * at(factors, k)).collect();
            let shape: &[usize] = if units.shape().is_empty() && factors.len() == 1 { &[] } else { &[len] };
            units = Tensor::from_vec(shape, values)?;
            Ok(())
        };
        if let Some(columns) = weight.columns(store) {
            times(&columns)?;
        }
        if let Some(output) = &self.output {
            let missing = self.input.missing(self.input.s(store));
            let factors = output.kept(store).unwrap_or_else(|| output.of_operands(store, &weight, missing));
            times(factors.data())?;
        }
        FixedProduct::new(self.precision, input, &codes, units)
    }
}

impl QConv2d {
    /// What evaluation computes, with the numbers as they are now. Weights are quantized if they are not yet.
    ///
    /// # Errors
    /// The layer was made in another store.
    pub fn fixed(&self, store: &mut Store) -> Result<FixedProduct> {
        self.quantizers.fixed(store)
    }
}

impl QLinear {
    /// What evaluation computes, with the numbers as they are now. Weights are quantized if they are not yet.
    ///
    /// # Errors
    /// The layer was made in another store.
    pub fn fixed(&self, store: &mut Store) -> Result<FixedProduct> {
        self.quantizers.fixed(store)
    }
}
