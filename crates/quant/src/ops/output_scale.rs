//! The learned factor of a layer's output: what quantized values without their scales omit, where no normalization follows
//! (METHOD 1).

use crate::{OutputScaleStart, QuantConfig, Scales, WeightQuantizer, WeightScales};
use fixnet_autograd::{Group, ParamId, Result, Store};
use fixnet_tensor::{Sums, Tensor, reduce};

/// A factor of the output, or one for each output channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct OutputScale {
    pub(super) scale: ParamId,
    pub(super) learned: bool,
    by_channel: bool,
    start: OutputScaleStart,
}

impl OutputScale {
    /// Adds the parameter `name.output.scale` of a layer with a weight, which the first training batch sets.
    pub(super) fn new(store: &mut Store, name: &str, weight: &WeightQuantizer, config: &QuantConfig) -> Result<Self> {
        let by_channel = config.weight_scales == WeightScales::Channel;
        let unset = match by_channel {
            true => Tensor::zeros(&store.param(weight.weight()).value.shape()[..1]),
            false => Tensor::scalar(0.0),
        };
        Self::unset(store, name, unset, by_channel, config)
    }

    /// Adds the parameter `name.output.scale` of one factor, for a product of two activations.
    pub(super) fn single(store: &mut Store, name: &str, config: &QuantConfig) -> Result<Self> {
        Self::unset(store, name, Tensor::scalar(0.0), false, config)
    }

    fn unset(store: &mut Store, name: &str, unset: Tensor, by_channel: bool, config: &QuantConfig) -> Result<Self> {
        let scale = store.add(&format!("{name}.output.scale"), Group::Scale, unset)?;
        Ok(Self { scale, learned: config.scales == Scales::Learned, by_channel, start: config.output_scale_start })
    }

    /// Returns the factors if they were set.
    pub(super) fn kept(&self, store: &Store) -> Option<Tensor> {
        let kept = &store.param(self.scale).value;
        kept.data().iter().all(|&f| f != 0.0).then(|| kept.clone())
    }

    /// Returns the factors of an output whose quantized form is `sums`. Those that were never set are computed, and kept if
    /// `calibrate`. `operands` gives the product of the scales that the operands omit, and `float` computes the output without
    /// quantizers.
    pub(super) fn factors(
        &self,
        store: &mut Store,
        operands: impl FnOnce(&Store) -> Tensor,
        sums: &Sums,
        float: impl FnOnce(&Store) -> Result<Tensor>,
        calibrate: bool,
    ) -> Result<Tensor> {
        if let Some(kept) = self.kept(store) {
            return Ok(kept);
        }
        let first = match self.start {
            OutputScaleStart::Operands => operands(store),
            OutputScaleStart::Output => self.of_output(&float(store)?, &sums.to_tensor())?,
        };
        if calibrate {
            store.param_mut(self.scale).value = first.clone();
        }
        Ok(first)
    }

    /// Returns the product of the scales that the operands omit.
    pub(super) fn of_operands(&self, store: &Store, weight: &WeightQuantizer, omitted: f32) -> Tensor {
        let mut first = weight.missing(store, self.by_channel);
        first.data_mut().iter_mut().for_each(|f| *f *= omitted);
        first
    }

    /// Returns the mean magnitude of the float output over that of the quantized one; 1 where one of them is 0.
    fn of_output(&self, float: &Tensor, quantized: &Tensor) -> Result<Tensor> {
        let columns = float.shape().last().copied().unwrap_or(1).max(1);
        let channels = if self.by_channel { columns } else { 1 };
        let count = float.len() / channels;
        let magnitude = |y: &Tensor, k: usize| reduce::sum_by(count, |i| y.data()[i * channels + k].abs());
        let factor = |k: usize| match (magnitude(float, k), magnitude(quantized, k)) {
            (y, q) if y > 0.0 && q > 0.0 => (y / q) as f32,
            _ => 1.0,
        };
        let factors = (0..channels).map(factor).collect();
        let shape = [columns];
        Ok(Tensor::from_vec(if self.by_channel { &shape } else { &[] }, factors)?)
    }

    /// Multiplies the columns of `sums` by the factors.
    pub(super) fn apply(factors: &[f32], sums: Sums) -> Result<Sums> {
        match factors {
            [f] => Ok(sums.scaled(*f)),
            factors => Ok(sums.with_columns(factors)?),
        }
    }

    /// Accumulates the gradient: sums over rows of that of the output, `dy`, times the output without the factors, `y`.
    pub(super) fn slope(&self, dy: &Tensor, y: &Sums, store: &mut Store) -> Result<()> {
        let columns = dy.shape().last().copied().unwrap_or(1).max(1);
        let span = reduce::span(columns);
        let sums = reduce::row_sums(dy.len() / columns, columns, span, |rows, sums| {
            let mut block = vec![0.0; span];
            for first in (rows.start * columns..rows.end * columns).step_by(span) {
                let dy = &dy.data()[first..(first + span).min(rows.end * columns)];
                let y_block = &mut block[..dy.len()];
                y.fill(first, y_block);
                sums.iter_mut().zip(dy.iter().zip(&*y_block)).for_each(|(s, (d, y))| *s += d * y);
            }
        });
        let sums = reduce::fold_span(&sums, columns);
        let slopes = match self.by_channel {
            true => sums.iter().map(|&s| s as f32).collect(),
            false => vec![sums.iter().fold(0f64, |a, b| a + b) as f32],
        };
        let shape = store.param(self.scale).value.shape().to_vec();
        store.accumulate(self.scale, Tensor::from_vec(&shape, slopes)?)
    }
}
