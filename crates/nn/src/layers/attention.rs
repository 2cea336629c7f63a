//! `Attention`: multi-head self-attention of the tokens of a sample, in floats or quantized.

use super::{Layer, Linear, Matmul};
use fixnet_autograd::{Error, Graph, Result, Store, Var};
use fixnet_quant::QuantConfig;

/// `proj(softmax(q · k^T / sqrt(D / heads)) · v)` with `(q, k, v) = qkv(x)`, head by head (Vaswani et al., 2017). Shapes:
/// [N, T, D] to [N, T, D].
///
/// Where it is quantized, its four products (of both weights, and the two of activations) are integer products in all three
/// directions; softmax is computed in floats.
#[derive(Debug, Clone)]
pub struct Attention {
    name: String,
    width: usize,
    heads: usize,
    qkv: Linear,
    proj: Linear,
    /// The products q · k^T and p · v.
    products: [Matmul; 2],
}

impl Attention {
    /// Makes a layer for tokens of `width` numbers and `heads` heads, at the precision of `config`. Weights start normal with
    /// the standard deviation `deviation`, biases 0. Keys: `name.qkv`, whose rows are those of q, k and v one behind the
    /// other, each by head; `name.proj`; and the scales of the products, `name.qk` and `name.pv`.
    ///
    /// # Errors
    /// The heads do not divide the width, a name is taken, or the precision makes no sense.
    pub fn new(
        store: &mut Store,
        name: &str,
        [width, heads]: [usize; 2],
        deviation: f32,
        config: &QuantConfig,
    ) -> Result<Self> {
        if heads == 0 || !width.is_multiple_of(heads) {
            let expected = format!("a divisor of the width, {width}");
            return Err(Error::setting("heads of an attention", expected, heads).in_layer(name));
        }
        let key = |part: &str| format!("{name}.{part}");
        let qkv = Linear::starting(store, &key("qkv"), [width, 3 * width], deviation, config)?;
        // The shares are of one range whatever the head.
        let products = [
            Matmul::new(store, &key("qk"), true, [Some(heads); 2], config)?,
            Matmul::new(store, &key("pv"), false, [None, Some(heads)], config)?,
        ];
        let proj = Linear::starting(store, &key("proj"), [width, width], deviation, config)?;
        Ok(Self {
            name: name.to_string(),
            width,
            heads,
            qkv: qkv.output_scaled(store, config)?,
            proj: proj.output_scaled(store, config)?,
            products,
        })
    }
}

impl Layer for Attention {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        let Self { width, heads, .. } = *self;
        let &[n, tokens, found] = x.shape() else {
            return Err(Error::setting("the input of an attention", "[N, T, D]", format!("{:?}", x.shape())));
        };
        if found != width {
            return Err(Error::setting("the width of tokens", width, found).in_layer(&self.name));
        }
        let each = width / heads;
        let qkv = self.qkv.forward(g, x)?;
        // The matrices of all heads of q, then those of k and of v.
        let qkv = g.reshape(&qkv, &[n, tokens, 3 * heads, each])?;
        let qkv = g.permute(&qkv, &[0, 2, 1, 3])?;
        let q = g.slice(&qkv, 1, 0..heads)?;
        let k = g.slice(&qkv, 1, heads..2 * heads)?;
        let v = g.slice(&qkv, 1, 2 * heads..3 * heads)?;
        let [qk, pv] = &self.products;
        let scores = qk.forward(g, &q, &k)?;
        let scores = g.scale(&scores, 1.0 / libm::sqrtf(each as f32))?;
        let shares = g.softmax(&scores, 3)?;
        let mixed = pv.forward(g, &shares, &v)?;
        let mixed = g.permute(&mixed, &[0, 2, 1, 3])?;
        let mixed = g.reshape(&mixed, &[n, tokens, width])?;
        self.proj.forward(g, &mixed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixnet_autograd::check::{gradient_error, sample};
    use fixnet_autograd::{Graph, Group};
    use fixnet_tensor::Tensor;

    /// The derivative of float attention by finite differences, of the input and of every parameter.
    #[test]
    fn gradients_match_finite_differences() {
        let mut store = Store::seeded(1);
        let layer = Attention::new(&mut store, "attn", [6, 2], 0.3, &QuantConfig::float()).unwrap();
        let values: Vec<(String, Tensor)> =
            store.params().iter().map(|p| (p.name().to_string(), p.value.clone())).collect();
        let mut inputs = vec![sample(&[2, 3, 6], 1)];
        inputs.extend(values.iter().map(|(_, v)| v.clone()));
        let error = gradient_error(&inputs, 0.02, |g, v| {
            // The layer as operations on the values, so that each parameter is an input.
            let [x, qkv_w, qkv_b, proj_w, proj_b] = v else { panic!("one input and four parameters") };
            let qkv = g.linear_biased(x, qkv_w, qkv_b)?;
            let qkv = g.reshape(&qkv, &[2, 3, 6, 3])?;
            let qkv = g.permute(&qkv, &[0, 2, 1, 3])?;
            let (q, k, v) = (g.slice(&qkv, 1, 0..2)?, g.slice(&qkv, 1, 2..4)?, g.slice(&qkv, 1, 4..6)?);
            let scores = g.matmul_transposed(&q, &k)?;
            let scores = g.scale(&scores, 1.0 / 3f32.sqrt())?;
            let shares = g.softmax(&scores, 3)?;
            let mixed = g.matmul(&shares, &v)?;
            let mixed = g.permute(&mixed, &[0, 2, 1, 3])?;
            let mixed = g.reshape(&mixed, &[2, 3, 6])?;
            g.linear_biased(&mixed, proj_w, proj_b)
        });
        assert!(error.unwrap() < 2e-3);
        // The layer gives the gradients of these operations, by a finite difference of its own input.
        let x = store.add("x", Group::Weight, sample(&[2, 3, 6], 1)).unwrap();
        let loss = |store: &mut Store, backward: bool| {
            let mut g = Graph::train(store);
            let input = g.param(x);
            let y = layer.forward(&mut g, &input).unwrap();
            let zeros = g.input(Tensor::zeros(y.shape()));
            let loss = g.mse_loss(&y, &zeros).unwrap();
            let value = loss.tensor().item();
            if backward {
                g.backward(loss).unwrap();
            }
            value
        };
        loss(&mut store, true);
        let grad = store.grad(x).unwrap().clone();
        for i in [0, 7, 20, 35] {
            let mut at = |d: f32| {
                store.param_mut(x).value.data_mut()[i] += d;
                let value = loss(&mut store, false);
                store.param_mut(x).value.data_mut()[i] -= d;
                value
            };
            let difference = (at(0.05) - at(-0.05)) / 0.1;
            assert!((difference - grad.data()[i]).abs() < 2e-3, "{i}: {difference} {}", grad.data()[i]);
        }
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let mut store = Store::seeded(1);
        let e = Attention::new(&mut store, "a", [6, 4], 0.02, &QuantConfig::float()).unwrap_err().to_string();
        assert_eq!(e, "layer `a`: heads of an attention: expected a divisor of the width, 6, found 4");
        let layer = Attention::new(&mut store, "b", [6, 3], 0.02, &QuantConfig::float()).unwrap();
        let mut g = Graph::eval(&mut store);
        let odd = g.input(Tensor::zeros(&[1, 2, 5]));
        assert!(layer.forward(&mut g, &odd).unwrap_err().to_string().contains("layer `b`: the width of tokens"));
    }
}
