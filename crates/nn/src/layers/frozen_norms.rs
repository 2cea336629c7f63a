//! `FrozenNorms`: layers whose batch normalizations stay as they are, as in networks that are fine-tuned with small batches.

use super::Layer;
use fixnet_autograd::ops::RunningStats;
use fixnet_autograd::{Graph, ParamId, Result, Store, Var};
use std::collections::BTreeSet;

/// Layers whose batch normalizations use their running statistics in training too, and whose factors and offsets do not learn:
/// torchvision's `FrozenBatchNorm2d`. All else in them learns.
pub struct FrozenNorms<L>(L);

impl<L: Layer> FrozenNorms<L> {
    /// Freezes the normalizations of `layer`: those among the parameters that the store has beyond the first `from`, the number of them
    /// before the layer was built.
    pub fn new(store: &mut Store, from: usize, layer: L) -> Self {
        let of =
            |store: &Store, id: ParamId| store.param(id).name().rsplit_once('.').map(|(layer, _)| layer.to_string());
        let ids: Vec<ParamId> = store.ids().skip(from).collect();
        let layers: BTreeSet<String> = ids.iter().filter_map(|id| of(store, *id)).collect();
        let mut norms = BTreeSet::new();
        for (name, stats) in store.states_mut::<RunningStats>().filter(|(name, _)| layers.contains(*name)) {
            stats.frozen = true;
            norms.insert(name.to_string());
        }
        for id in ids {
            if of(store, id).is_some_and(|layer| norms.contains(&layer)) {
                store.set_frozen(id, true);
            }
        }
        Self(layer)
    }
}

impl<L: Layer> Layer for FrozenNorms<L> {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        g.with_running_statistics(|g| self.0.forward(g, x))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::{BatchNorm2d, Conv2d, Conv2dConfig, Sequential};
    use fixnet_quant::QuantConfig;
    use fixnet_tensor::Tensor;

    #[test]
    fn statistics_and_factors_stay_and_convolutions_learn() {
        for bits in ["32/32/32", "4/4/4"] {
            let mut store = Store::seeded(1);
            let config = QuantConfig::new(bits.parse().unwrap());
            let free = BatchNorm2d::new(&mut store, "free", 3).unwrap();
            let from = store.params().len();
            let conv = Conv2d::new(&mut store, "conv", Conv2dConfig::square([3, 4], 3), &config).unwrap();
            let norm = BatchNorm2d::new(&mut store, "norm", 4).unwrap();
            let frozen = FrozenNorms::new(&mut store, from, Sequential::new().push(conv).push(norm));
            let net = Sequential::new().push(free).push(frozen);
            let mut g = Graph::train(&mut store);
            let x = (0..2 * 4 * 4 * 3).map(|i| (i % 7) as f32).collect();
            let x = g.input(Tensor::from_vec(&[2, 4, 4, 3], x).unwrap());
            let y = net.forward(&mut g, &x).unwrap();
            let target = g.input(Tensor::zeros(y.shape()));
            let loss = g.mse_loss(&y, &target).unwrap();
            g.backward(loss).unwrap();
            let learns = |name: &str| store.grad(store.find(name).unwrap()).is_some();
            assert!(learns("free.weight") && learns("conv.weight"), "{bits}");
            assert!(!learns("norm.weight") && !learns("norm.bias"), "{bits}");
            let means = store.states::<RunningStats>().map(|(_, stats)| stats.mean.data().iter().any(|&v| v != 0.0));
            assert_eq!(means.collect::<Vec<_>>(), [true, false], "{bits}");
        }
    }
}
