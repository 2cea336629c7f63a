//! `dropout`: in training, elements that are set to zero at random; in evaluation, the value as it is (Srivastava et al.,
//! 2014).
//!
//! Which elements drop is a function of the seed, the step, the name and how often this name drew in the step, so runs and
//! resumed runs agree. A trace has none of it.

use crate::{Backward, Cx, Error, Grads, Graph, Result, Var};
use fixnet_tensor::rng::{Stream, domain};
use fixnet_tensor::{Tensor, map};

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

impl Backward for Mask {
    fn name(&self) -> &'static str {
        "dropout"
    }
    fn backward(self: Box<Self>, grad: Tensor, _: &mut Cx<'_>) -> Result<Grads> {
        Ok(vec![Some(self.apply(&grad))])
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
        let threshold = (rate * STEPS).round();
        if !(0.0..STEPS).contains(&threshold) {
            return Err(Error::setting("rate of a dropout", "at least 0 and below 1", rate).in_layer(name));
        }
        if threshold == 0.0 || !self.modes().dropout || self.is_traced(x) {
            return Ok(x.clone());
        }
        let noise = self.store_mut().draw(domain::DROPOUT, name);
        let mask = Mask { noise, threshold: threshold as u32, factor: STEPS / (STEPS - threshold) };
        let y = self.record(mask.apply(&x.tensor()), &[x], || mask);
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
    fn evaluation_keeps_every_element() {
        let mut store = Store::seeded(1);
        let mut g = Graph::eval(&mut store);
        let x = g.input(sample(&[4, 4], 1));
        assert_eq!(g.dropout(&x, "a", 0.5).unwrap().tensor().data(), x.tensor().data());
        for odd in [1.0, -0.1, f32::NAN] {
            let e = g.dropout(&x, "a", odd).unwrap_err().to_string();
            assert!(e.contains("rate of a dropout: expected at least 0 and below 1"), "{e}");
        }
    }
}
