//! Finite differences, the judge of every hand-written derivative.

use crate::{Graph, Group, Result, Store, Var};
use fixnet_tensor::Tensor;
use fixnet_tensor::rng::{Stream, domain};

/// Compares the gradients of `f` at `inputs` with central differences of step `h` in every element, and returns the
/// largest error relative to the largest gradient (at least 1).
///
/// `f` may return any shape: it is reduced to a scalar by fixed random weights.
///
/// # Errors
/// Those of `f`.
pub fn gradient_error(inputs: &[Tensor], h: f32, f: impl Fn(&mut Graph<'_>, &[Var]) -> Result<Var>) -> Result<f32> {
    let mut store = Store::seeded(0);
    let ids = inputs
        .iter()
        .enumerate()
        .map(|(i, t)| store.add(&format!("input{i}"), Group::Weight, t.clone()))
        .collect::<Result<Vec<_>>>()?;
    let weights = Stream::new(0, domain::INIT, 99, 0);
    let loss = |store: &mut Store, backward: bool| -> Result<f64> {
        let mut g = Graph::train(store);
        let vars: Vec<Var> = ids.iter().map(|&id| g.param(id)).collect();
        let out = f(&mut g, &vars)?;
        let values = out.tensor();
        let weight = |i: usize| weights.uniform_at(i as u64) + 0.5;
        let total = values.data().iter().enumerate().map(|(i, &v)| f64::from(v) * f64::from(weight(i))).sum();
        if backward {
            let n = values.len();
            let mut w = Tensor::take(&[n, 1]);
            w.data_mut().iter_mut().enumerate().for_each(|(i, v)| *v = weight(i));
            let (flat, w) = (g.reshape(&out, &[1, n])?, g.input(w));
            let scalar = g.matmul(&flat, &w)?;
            g.backward(scalar)?;
        }
        Ok(total)
    };
    loss(&mut store, true)?;
    let exact: Vec<Tensor> = ids
        .iter()
        .map(|&id| store.grad(id).cloned().unwrap_or_else(|| Tensor::zeros(store.param(id).value.shape())))
        .collect();
    let (mut worst, mut largest) = (0f32, 1f32);
    for (&id, exact) in ids.iter().zip(&exact) {
        for (i, &exact) in exact.data().iter().enumerate() {
            let x = store.param(id).value.data()[i];
            let mut at = |v: f32| {
                store.param_mut(id).value.data_mut()[i] = v;
                loss(&mut store, false)
            };
            let difference = (at(x + h)? - at(x - h)?) / f64::from((x + h) - (x - h));
            at(x)?;
            worst = worst.max((difference as f32 - exact).abs());
            largest = largest.max(exact.abs());
        }
    }
    Ok(worst / largest)
}

/// Distinct, irregular values in about [-1, 1] for tests; no two are closer than `1/len`, so that kinks are avoided.
pub fn sample(shape: &[usize], salt: u32) -> Tensor {
    let n: usize = shape.iter().product();
    let order = Stream::new(5, domain::INIT, salt, 1).permutation(n);
    let values = order.into_iter().map(|i| (2.0 * i as f32 + 1.0) / n as f32 - 1.0).collect();
    Tensor::from_vec(shape, values).expect("as many values as the shape has")
}
