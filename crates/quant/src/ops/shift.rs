//! A learned shift of a two-sided input: a float for each column that is added before quantizing and taken out behind the
//! product, so that codes stay free of zero points.
//!
//! With the levels of `x + b` worth `kappa · (x + b)` (kappa is 1, or 1 / s where values leave out their scale), the product has
//! `kappa · F_o · Σ_i b_i ŵ_oi` too much in column o, where F_o are the factors of the output. That is a number for each column:
//! it is taken from the bias. Its derivatives go with those of the product:
//!
//! ```text
//! dŵ_oi -= kappa · b_i · Σ_n g_no          g the output gradient as the products take it, so with F_o
//! db_i  -= kappa · Σ_n d_ni                d that of the values of the levels; with that through x + b, clipped elements alone move b
//! ds    += kappa² · Σ_i b_i Σ_n d_ni       where kappa is 1 / s
//! dF_o  -= kappa · Σ_i b_i ŵ_oi Σ_n dy_no  without F_o in ŵ
//! ```

use super::{FixedLinear, FixedProduct, Product, Quantizers};
use crate::{QLinear, SidedQuantizer};
use fixnet_autograd::{Cx, Graph, Group, ParamId, Result, Store, Value, Var, ops};
use fixnet_tensor::{Codes, Tensor, reduce};

impl FixedProduct {
    /// What a shift of the input, a number for each of its columns, adds to the columns of the output, negated: [O].
    pub(super) fn without_shift(&self, shift: &[f32]) -> Tensor {
        let (weight, columns) = (self.weight(), shift.len());
        let mut out = Tensor::zeros(&weight.shape()[..1]);
        for (o, out) in out.data_mut().iter_mut().enumerate() {
            let row = shift.iter().enumerate().map(|(i, &b)| f64::from(b) * f64::from(weight.level(o * columns + i)));
            let levels = row.sum::<f64>();
            *out = -(levels * f64::from(self.unit(o)) * f64::from(self.input().per_unit)) as f32;
        }
        out
    }
}

impl Quantizers {
    /// Adds the parameter `name.input.shift` [I], which starts at 0.
    pub(super) fn shift(&self, store: &mut Store) -> Result<ParamId> {
        let weight = store.state(self.weight).weight();
        let columns = store.param(weight).value.shape()[1..].to_vec();
        store.add(&format!("{}.input.shift", self.name), Group::Offset, Tensor::zeros(&columns))
    }

    /// The bias that takes the shift out, with that of the layer: [O]. Until a batch sets the scale of the input it is that of
    /// the layer alone.
    pub(super) fn unshifted_bias(&self, g: &mut Graph<'_>, shift: ParamId, bias: Option<&&Var>) -> Result<Var> {
        let back = self.back(g.store_mut(), shift)?;
        let back = g.input(back);
        bias.map_or(Ok(back.clone()), |bias| g.add(bias, &back))
    }

    fn back(&self, store: &mut Store, shift: ParamId) -> Result<Tensor> {
        let fixed = self.fixed(store, false)?;
        Ok(fixed.without_shift(store.param(shift).value.data()))
    }

    /// Adds to the gradient of the learned factors of the output that of what is taken out; `dy` is the gradient of the output.
    pub(super) fn slope_of_shift(&self, shift: ParamId, dy: &Tensor, store: &mut Store) -> Result<()> {
        let Some(output) = &self.output else { return Ok(()) };
        let (back, Some(factors)) = (self.back(store, shift)?, output.kept(store)) else { return Ok(()) };
        let sums = reduce::column_sums(dy.data(), back.len());
        let factor = |o: usize| f64::from(factors.data()[o % factors.len()]);
        let slopes: Vec<f64> = (0..back.len()).map(|o| sums[o] * f64::from(back.data()[o]) / factor(o)).collect();
        let slopes = match factors.len() {
            1 => vec![slopes.iter().sum::<f64>() as f32],
            _ => slopes.iter().map(|&s| s as f32).collect(),
        };
        store.accumulate(output.scale, Tensor::from_vec(factors.shape(), slopes)?)
    }

    /// Takes the share of the shift out of the gradients of a product: that of the weight's values, `dw`, and with `d`, that of
    /// the values of the levels, those of the shift and of the scale. `sums` are those of the output gradient over rows.
    pub(super) fn shift_gradients(
        &self,
        (shift, input): (ParamId, &SidedQuantizer),
        dw: Option<&mut Tensor>,
        sums: &[f64],
        d: &Value,
        cx: &mut Cx<'_>,
    ) -> Result<()> {
        let b = cx.store.param(shift).value.clone();
        let kappa = f64::from(input.kappa(cx.store));
        if let Some(dw) = dw {
            for (row, sum) in dw.data_mut().chunks_exact_mut(b.len().max(1)).zip(sums) {
                row.iter_mut().zip(b.data()).for_each(|(d, &b)| *d -= (kappa * sum * f64::from(b)) as f32);
            }
        }
        let d = reduce::column_sums(d.tensor().data(), b.len());
        let slopes = d.iter().map(|d| -(kappa * d) as f32).collect();
        cx.store.accumulate(shift, Tensor::from_vec(b.shape(), slopes)?)?;
        if let Some(scale) = input.learned_scale().filter(|_| input.leaves_out()) {
            let slope: f64 = d.iter().zip(b.data()).map(|(d, &b)| d * f64::from(b)).sum();
            cx.store.accumulate(scale, Tensor::scalar((kappa * kappa * slope) as f32))?;
        }
        Ok(())
    }
}

impl QLinear {
    /// [`forward`](Self::forward), perhaps with a bias, of an input of either sign.
    pub(super) fn record_shifted(&self, g: &mut Graph<'_>, inputs: &[&Var], shift: ParamId) -> Result<Var> {
        g.store().owns(shift)?;
        let moved = g.param(shift);
        let moved = g.add_bias(inputs[0], &moved)?;
        if g.traces(&[&moved])? {
            let bias = self.quantizers.unshifted_bias(g, shift, inputs.get(1))?;
            let product = self.fixed(g.store_mut(), false)?;
            let op = FixedLinear { product, form: ops::Linear };
            return g.apply_as(&self.quantizers.name, op, &[&moved, &bias]);
        }
        let y = self.quantizers.product(g, &moved, Product::Linear, Some(shift))?;
        // Behind the product: the first batch sets the scales there.
        let bias = self.quantizers.unshifted_bias(g, shift, inputs.get(1))?;
        g.add_bias(&y, &bias)
    }
}

/// The sum of each column of codes, with their scale.
pub(super) fn sums_of_codes(codes: &Codes) -> Vec<f64> {
    let columns = codes.shape().last().copied().unwrap_or(1).max(1);
    let mut sums = vec![0i64; columns];
    for row in codes.bytes().chunks_exact(columns) {
        sums.iter_mut().zip(row).for_each(|(sum, &byte)| *sum += i64::from(byte));
    }
    let zeros = (codes.len() / columns) as i64 * i64::from(codes.zero());
    sums.iter().map(|&sum| (sum - zeros) as f64 * f64::from(codes.scale())).collect()
}
