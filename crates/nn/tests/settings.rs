//! Every setting of quantization keeps the promise: the same bits on every instruction set, with any number of threads,
//! with values deferred or written out, and after a resume; and with every one of them a network learns.

use fixnet_autograd::{Array, Graph, Store};
use fixnet_data::{Dataset, Loader, Normalize, digits};
use fixnet_nn::layers::Layer;
use fixnet_nn::optim::{Optimizer, OptimizerConfig};
use fixnet_nn::{checkpoint, models};
use fixnet_quant::QuantConfig;
use fixnet_tensor::kernel::{available_isas, set_isa};

/// Mixes that have each choice at least once, with their names.
fn configs() -> Vec<(String, QuantConfig)> {
    let mixes = [
        ("4/4/4", "mse:2", "lbt tensor learned nearest"),
        ("4/4/4", "dsgc:2", "lbt channel learned stochastic"),
        ("2/2/32", "lbt", "trs tensor learned stochastic"),
        ("1/1/32", "lbt", "trs channel learned stochastic"),
        ("1/1/4", "min-max", "lbt tensor learned stochastic"),
        ("5/3/6", "lbt", "trs channel fixed nearest"),
        ("8/8/8", "fixed:0.8", "trs tensor learned stochastic"),
        ("32/32/32", "lbt", "lbt tensor learned stochastic"),
    ];
    let config = |(bits, rule, words): (&str, &str, &str)| {
        let [scheme, scales, learned, rounding] = words.split(' ').collect::<Vec<_>>()[..] else {
            panic!("four words")
        };
        let config = QuantConfig {
            scheme: scheme.parse().unwrap(),
            rule: rule.parse().unwrap(),
            gradient_rounding: rounding.parse().unwrap(),
            weight_scales: scales.parse().unwrap(),
            scales: learned.parse().unwrap(),
            // First convolution and classifier quantized too, so that output scales are in play.
            edges: Some(8),
            ..QuantConfig::new(bits.parse().unwrap())
        };
        (format!("{bits} {rule} {words}"), config)
    };
    mixes.map(config).to_vec()
}

const STEPS: usize = 5;

struct Run {
    store: Store,
    net: fixnet_nn::Sequential,
    sgd: Optimizer,
}

impl Run {
    fn new(config: &QuantConfig) -> Self {
        let mut store = Store::seeded(5);
        let net = models::build(&mut store, &"resnet8".parse().unwrap(), [16, 16, 1], 10, config).unwrap();
        let settings = OptimizerConfig { lr: 0.003, total_steps: STEPS as u64, ..OptimizerConfig::default() };
        Self { store, net, sgd: Optimizer::new(settings).unwrap() }
    }

    /// Trains on the same few images over and over.
    fn steps(&mut self, data: &Dataset, count: usize, eager: bool) {
        for _ in 0..count {
            let batch = Loader::new(data, 4, Normalize::of(data)).next().unwrap().unwrap();
            let mut g = Graph::train(&mut self.store);
            if eager {
                g = g.eager();
            }
            let x = g.input(batch.images);
            let logits = self.net.forward(&mut g, &x).unwrap();
            let loss = g.cross_entropy(&logits, &batch.labels).unwrap();
            g.backward(loss).unwrap();
            self.sgd.step(&mut self.store).unwrap();
        }
    }

    fn state(&self) -> Vec<(String, Array)> {
        self.store.state_dict().into_iter().chain(self.sgd.state_dict(&self.store)).collect()
    }

    fn digest(&self) -> String {
        checkpoint::digest(&self.store, &self.sgd)
    }
}

#[test]
fn the_same_bits_everywhere_with_every_setting() {
    let data = digits().unwrap().train;
    for (name, config) in configs() {
        let mut whole = Run::new(&config);
        whole.steps(&data, STEPS, false);
        let digest = whole.digest();
        for (i, &isa) in available_isas().iter().enumerate() {
            set_isa(isa).unwrap();
            let (threads, eager) = [(3, true), (1, false)][i % 2];
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let found = pool.install(|| {
                let mut run = Run::new(&config);
                run.steps(&data, STEPS, eager);
                run.digest()
            });
            assert_eq!(found, digest, "{name}: {isa}, {threads} threads");
        }
        let mut first = Run::new(&config);
        first.steps(&data, 3, false);
        let state = first.state();
        let get = |name: &str| state.iter().find(|(n, _)| n == name).map(|(_, a)| a.clone());
        let mut second = Run::new(&config);
        second.store.load_state_dict(get).unwrap();
        second.sgd.load_state_dict(&second.store, get).unwrap();
        second.store.set_step(3);
        second.steps(&data, STEPS - 3, false);
        assert_eq!(second.digest(), digest, "{name}: resumed");
    }
}

#[test]
fn a_network_learns_with_every_setting() {
    let data = digits().unwrap().train;
    for (name, config) in configs() {
        let mut store = Store::seeded(5);
        let net = models::mlp(&mut store, 784, &[64, 64], 10, &config).unwrap();
        let settings = OptimizerConfig { lr: 0.05, total_steps: 60, ..OptimizerConfig::default() };
        let mut sgd = Optimizer::new(settings).unwrap();
        let mut losses = Vec::new();
        for batch in Loader::new(&data, 64, Normalize::of(&data)).shuffled(5, 0).take(60) {
            let batch = batch.unwrap();
            let mut g = Graph::train(&mut store);
            let x = g.input(batch.images);
            let logits = net.forward(&mut g, &x).unwrap();
            let loss = g.cross_entropy(&logits, &batch.labels).unwrap();
            losses.push(loss.tensor().item());
            g.backward(loss).unwrap();
            sgd.step(&mut store).unwrap();
        }
        let last = losses[50..].iter().sum::<f32>() / 10.0;
        assert!(last < 0.6 * losses[0], "{name}: from {} to {last}", losses[0]);
    }
}

/// The TRS scheme leaves out scales, and behind the classifier comes no normalization that would make up for it.
#[test]
fn a_classifier_has_a_factor_of_its_output_unless_that_is_turned_off() {
    let factors = |scheme: &str, output_scale: bool| {
        let scheme = scheme.parse().unwrap();
        let config =
            QuantConfig { scheme, output_scale, edges: Some(8), ..QuantConfig::new("2/2/32".parse().unwrap()) };
        let run = Run::new(&config);
        run.store.params().iter().filter(|p| p.name().ends_with(".output.scale")).count()
    };
    assert_eq!([factors("trs", true), factors("trs", false), factors("lbt", true)], [1, 0, 0]);
}
