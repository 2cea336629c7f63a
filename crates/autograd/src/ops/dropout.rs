//! `dropout`: in training, elements that are set to zero at random; in evaluation, the value as it is (Srivastava et al.,
//! 2014). `drop_path` drops all elements of a sample together, so that a residual block is left out for it (stochastic depth,
//! Huang et al., 2016).
//!
//! Which elements drop is a function of the seed, the step, the name and how often this name drew in the step, so runs and
//! resumed runs agree. A trace has none of it.

use crate::deferred::{Deferred, Lazy};
use crate::gradient::Gradient;
use crate::value::Value;
use crate::{Backward, Cx, Error, Grads, Graph, Result, Var};
use fixnet_tensor::rng::{Stream, domain};
use fixnet_tensor::{Tensor, map};
use std::sync::Arc;

/// The steps between 0 and 1 in which a rate is counted: elements draw 16 bits each.
const STEPS: f32 = 65_536.0;
/// Elements of a block of noise.
const BLOCK: usize = 512;

/// Which elements stay, and by what they are multiplied.
#[derive(Debug, Clone, Copy)]
struct Mask {
    noise: Stream,
    /// An element whose word is below it drops.
    threshold: u32,
    factor: f32,
    /// Elements that share a word.
    run: usize,
}

impl Mask {
    fn apply(&self, x: &Tensor) -> Tensor {
        let mut out = Tensor::take(x.shape());
        map::chunks(out.data_mut(), |first, out| {
            let mut words = [0u16; BLOCK];
            for (i, out) in out.chunks_mut(BLOCK).enumerate() {
                let first = first + i * BLOCK;
                let words = &mut words[..out.len()];
                self.noise.fill_u16(first as u64, words);
                for ((o, &x), &word) in out.iter_mut().zip(&x.data()[first..]).zip(&*words) {
                    *o = if u32::from(word) < self.threshold { 0.0 } else { x * self.factor };
                }
            }
        });
        out
    }
}

/// A value, or a gradient, of which whole samples are 0 and the others are rescaled.
struct MaskedRuns(Value, Mask);

impl Deferred for MaskedRuns {
    fn shape(&self) -> &[usize] {
        self.0.shape()
    }
    fn depth(&self) -> usize {
        1 + self.0.depth()
    }
    fn fill(&self, first: usize, out: &mut [f32]) {
        let Self(x, mask) = self;
        let (mut at, mut rest) = (first, out);
        while !rest.is_empty() {
            let (run, behind) = rest.split_at_mut((mask.run - at % mask.run).min(rest.len()));
            let word = mask.noise.u32_at((at / mask.run) as u64) >> 16;
            if word < mask.threshold {
                run.fill(0.0);
            } else {
                x.fill(at, run);
                map::dispatch(
                    #[inline(always)]
                    || {
                        for o in run.iter_mut() {
                            *o *= mask.factor;
                        }
                    },
                );
            }
            at += run.len();
            rest = behind;
        }
    }
    fn size(&self) -> usize {
        self.0.size()
    }
}

impl Backward for Mask {
    fn name(&self) -> &'static str {
        "dropout"
    }
    fn backward(self: Box<Self>, grad: Tensor, cx: &mut Cx<'_>) -> Result<Grads> {
        let grads = self.backward_deferred(grad.into(), cx)?;
        Ok(grads.into_iter().map(|g| g.map(|g| g.into_tensor(cx.store))).collect())
    }
    fn backward_deferred(self: Box<Self>, grad: Gradient, cx: &mut Cx<'_>) -> Result<Vec<Option<Gradient>>> {
        let grad = grad.into_tensor(cx.store);
        Ok(vec![Some(match self.run {
            0 | 1 => self.apply(&grad).into(),
            _ => Gradient::Deferred(Arc::new(MaskedRuns(Value::Float(grad), *self))),
        })])
    }
}

impl Graph<'_> {
    /// Sets each element to zero with the probability `rate` and divides the others by `1 - rate`, in a graph that drops
    /// elements, as training does; elsewhere it returns the value as it is. `name` tells the noise of one layer from that
    /// of others. The rate counts in steps of 2^-16.
    ///
    /// # Errors
    /// The rate is not at least 0 and below 1.
    pub fn dropout(&mut self, x: &Var, name: &str, rate: f32) -> Result<Var> {
        self.drop_runs(x, name, rate, 1)
    }

    /// Sets all elements of a sample to zero with the probability `rate` and divides those of the others by `1 - rate`, in a
    /// graph that drops elements; elsewhere it returns the value as it is. As for [`dropout`](Self::dropout), `name` tells
    /// the noise of one layer from that of others.
    ///
    /// # Errors
    /// The rate is not at least 0 and below 1.
    pub fn drop_path(&mut self, x: &Var, name: &str, rate: f32) -> Result<Var> {
        let run = x.shape().iter().skip(1).product();
        self.drop_runs(x, name, rate, run)
    }

    fn drop_runs(&mut self, x: &Var, name: &str, rate: f32, run: usize) -> Result<Var> {
        let threshold = (rate * STEPS).round();
        if !(0.0..STEPS).contains(&threshold) {
            return Err(Error::setting("rate of a dropout", "at least 0 and below 1", rate).in_layer(name));
        }
        if threshold == 0.0 || !self.modes().dropout || self.is_traced(x) {
            return Ok(x.clone());
        }
        let noise = self.store_mut().draw(domain::DROPOUT, name);
        let mask = Mask { noise, threshold: threshold as u32, factor: STEPS / (STEPS - threshold), run };
        let out = match run {
            0 | 1 => Value::Float(mask.apply(&x.tensor())),
            _ => Value::Deferred(Lazy::new(MaskedRuns(x.value().settled(), mask))),
        };
        let inputs = vec![self.source(x)];
        let y = self.record_value(out, inputs, || mask);
        Ok(if x.is_non_negative() { y.non_negative() } else { y })
    }
}

#[cfg(test)]
mod tests {
    use crate::check::{gradient_error, sample};
    use crate::{Graph, Store};
    use fixnet_tensor::Tensor;

    #[test]
    fn gradients_match_finite_differences() {
        // Each evaluation draws the first mask of the step.
        let error = gradient_error(&[sample(&[6, 5], 1)], 0.1, |g, v| {
            g.store_mut().zero_grad();
            g.dropout(&v[0], "d", 0.4)
        });
        assert!(error.unwrap() < 1e-3);
    }

    #[test]
    fn masks_follow_from_seed_step_name_and_draw() {
        let mask = |store: &mut Store, name: &str| {
            let mut g = Graph::train(store);
            let x = g.input(Tensor::full(&[40_000], 1.0));
            g.dropout(&x, name, 0.25).unwrap().tensor()
        };
        let (mut store, mut same) = (Store::seeded(1), Store::seeded(1));
        let first = mask(&mut store, "a");
        assert_eq!(first.data(), mask(&mut same, "a").data());
        let again = mask(&mut store, "a");
        assert_ne!(first.data(), again.data(), "a second pass of a step drops other elements");
        assert_ne!(first.data(), mask(&mut Store::seeded(2), "a").data());
        assert_ne!(first.data(), mask(&mut Store::seeded(1), "b").data());
        store.advance();
        let next = mask(&mut store, "a");
        assert!(next.data() != first.data() && next.data() != again.data());
        // A quarter is gone, give or take a few deviations, and the mean stays.
        let kept = first.data().iter().filter(|v| **v != 0.0).count();
        assert!((kept as f32 - 30_000.0).abs() < 400.0, "{kept}");
        assert!(first.data().iter().all(|&v| v == 0.0 || (v - 4.0 / 3.0).abs() < 1e-6));
    }

    #[test]
    fn whole_samples_drop_and_the_others_are_rescaled() {
        let error = gradient_error(&[sample(&[8, 5], 1)], 0.1, |g, v| {
            g.store_mut().zero_grad();
            g.drop_path(&v[0], "p", 0.5)
        });
        assert!(error.unwrap() < 1e-3);
        let mut store = Store::seeded(1);
        let mut g = Graph::train(&mut store);
        let x = g.input(Tensor::full(&[4000, 2, 3], 1.0));
        let y = g.drop_path(&x, "p", 0.25).unwrap().tensor();
        let samples: Vec<&[f32]> = y.data().chunks_exact(6).collect();
        assert!(samples.iter().all(|s| s.iter().all(|v| *v == s[0])));
        let kept = samples.iter().filter(|s| s[0] != 0.0).count();
        assert!((kept as f32 - 3000.0).abs() < 120.0, "{kept}");
        assert!(samples.iter().all(|s| s[0] == 0.0 || (s[0] - 4.0 / 3.0).abs() < 1e-6));
        assert!(g.drop_path(&x, "p", 1.0).is_err());
    }

    #[test]
    fn evaluation_keeps_every_element() {
        let mut store = Store::seeded(1);
        let mut g = Graph::eval(&mut store);
        let x = g.input(sample(&[4, 4], 1));
        assert_eq!(g.dropout(&x, "a", 0.5).unwrap().tensor().data(), x.tensor().data());
        assert_eq!(g.drop_path(&x, "a", 0.5).unwrap().tensor().data(), x.tensor().data());
        for odd in [1.0, -0.1, f32::NAN] {
            let e = g.dropout(&x, "a", odd).unwrap_err().to_string();
            assert!(e.contains("rate of a dropout: expected at least 0 and below 1"), "{e}");
        }
    }
}
