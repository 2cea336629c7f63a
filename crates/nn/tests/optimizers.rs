//! Every optimizer against PyTorch's numbers, every twin against the formula `w <- w - U_t · h_t`, and every state
//! through a round trip.

use fixnet_autograd::{Array, Group, ParamId, Store};
use fixnet_nn::optim::{
    Adagrad, Adam, AdamW, Adamax, DecayGroups, NAdam, Optimizer, OptimizerConfig, RmsProp, Schedule, Scope, Sgd,
    StepReport, TransitionConfig, TransitionReport, UpdateRule, update_rules,
};
use fixnet_quant::{QuantConfig, Scheme, TalrRule, WeightQuantizer, requantize};
use fixnet_tensor::Tensor;
use fixnet_tensor::kernel::{Isa, available_isas, set_isa};

const START: [f32; 3] = [1.0, -2.0, 0.5];
const GRADIENTS: [[f32; 3]; 3] = [[0.5, -1.0, 0.0], [-0.25, 0.125, 2.0], [0.75, 0.5, -0.0625]];

fn tensor(v: &[f32]) -> Tensor {
    Tensor::from_vec(&[v.len()], v.to_vec()).unwrap()
}

fn bits(text: &str) -> QuantConfig {
    QuantConfig::new(text.parse().unwrap())
}

fn names() -> Vec<String> {
    update_rules().iter().flat_map(|rule| [rule.to_string(), format!("{rule}t")]).collect()
}

fn values(store: &Store, id: ParamId) -> Vec<f32> {
    store.param(id).value.data().to_vec()
}

/// Relative to the larger of both, or absolute below 1.
fn assert_close(found: &[f32], expected: &[f64], epsilon: f64, what: &str) {
    for (&found, &expected) in found.iter().zip(expected) {
        let difference = (f64::from(found) - expected).abs();
        assert!(difference <= epsilon * expected.abs().max(1.0), "{what}: {found}, expected {expected}");
    }
}

/// The values after three steps from START by GRADIENTS, with learning rate 0.1 and weight decay 0.5.
fn three_steps(rule: Box<dyn UpdateRule>) -> [Vec<f32>; 3] {
    let mut store = Store::seeded(0);
    let w = store.add("w", Group::Weight, tensor(&START)).unwrap();
    let config = OptimizerConfig { lr: 0.1, weight_decay: 0.5, schedule: Schedule::CONSTANT, ..rule.into() };
    let mut optimizer = Optimizer::new(config).unwrap();
    GRADIENTS.map(|g| {
        store.param_mut(w).grad = Some(tensor(&g));
        optimizer.step(&mut store).unwrap();
        values(&store, w)
    })
}

/// PyTorch 2.15 in f64, `torch.optim.X([w], 0.1, weight_decay=0.5, …)` with the other settings at its defaults. The first
/// by hand: SGD's w_1 = 1 - 0.1 · (0.5 + 0.5 · 1) = 0.9; then v = 0.9 · 1 + (-0.25 + 0.45) = 1.1, w_2 = 0.9 - 0.11 = 0.79.
/// AdamW's w_1 = 1 - 0.1 · (0.5 / 0.5 + 0.5 · 1) = 0.85. RMSProp's: g = 1, 1 - 0.1 · 1 / sqrt(0.01) = 0.
/// Adagrad's: 1 - 0.1 · 1 / 1 = 0.9; then g = -0.25 + 0.45 = 0.2, w_2 = 0.9 - 0.1 · 0.2 / sqrt(1.04) = 0.880388.
#[test]
fn three_steps_are_those_of_pytorch() {
    let (betas, eps) = ([0.9, 0.999], 1e-8);
    type Steps = [[f64; 3]; 3];
    let expected: [(Box<dyn UpdateRule>, Steps); 10] = [
        (
            Sgd { momentum: 0.9, nesterov: false }.into(),
            [[0.9, -1.8, 0.475], [0.79, -1.5425, 0.22875], [0.5765, -1.283625, 0.0019375]],
        ),
        (
            Sgd { momentum: 0.9, nesterov: true }.into(),
            [[0.81, -1.62, 0.4525], [0.69955, -1.32785, 0.0092625], [0.40513775, -1.09541925, -0.178293687]],
        ),
        (
            Adam { betas, eps }.into(),
            [
                [0.900000001, -1.9, 0.400000004],
                [0.819695904, -1.809673366, 0.318499836],
                [0.730734650, -1.729283716, 0.252769979],
            ],
        ),
        (
            AdamW { betas, eps }.into(),
            [
                [0.850000002, -1.800000001, 0.475],
                [0.780866299, -1.652746544, 0.376836318],
                [0.678290967, -1.558885553, 0.302496921],
            ],
        ),
        (
            NAdam { betas, eps, momentum_decay: 4e-3, ..NAdam::default() }.into(),
            [
                [0.894354822, -1.894354821, 0.394354825],
                [0.867941819, -1.848773072, 0.289813371],
                [0.777234601, -1.818305116, 0.277596038],
            ],
        ),
        (
            Adamax { betas, eps }.into(),
            [
                [0.900000001, -1.9, 0.400000004],
                [0.842047312, -1.830851905, 0.341985650],
                [0.773950849, -1.779495999, 0.303520603],
            ],
        ),
        (
            RmsProp { alpha: 0.99, eps, momentum: 0.0 }.into(),
            [
                [0.0000001, -1.00000005, -0.4999996],
                [0.243685120, -0.814814862, -1.490048050],
                [-0.405771977, -0.860721489, -1.072778823],
            ],
        ),
        (
            RmsProp { alpha: 0.99, eps, momentum: 0.9 }.into(),
            [
                [0.0000001, -1.00000005, -0.4999996],
                [-0.656314790, 0.085185093, -2.390047690],
                [-1.628928065, 0.801818808, -3.509458408],
            ],
        ),
        (
            Adagrad { eps: 1e-10, lr_decay: 0.0 }.into(),
            [[0.9, -1.9, 0.4], [0.880388386, -1.861866908, 0.300639475], [0.804451298, -1.842332084, 0.296676311]],
        ),
        (
            Adagrad { eps: 1e-10, lr_decay: 0.5 }.into(),
            [[0.9, -1.9, 0.4], [0.886925591, -1.874577938, 0.333759650], [0.848913007, -1.864672089, 0.331405166]],
        ),
    ];
    for (rule, steps) in expected {
        for (t, (found, expected)) in three_steps(rule.clone()).iter().zip(steps).enumerate() {
            assert_close(found, &expected, 2e-6, &format!("{rule:?}, step {}", t + 1));
        }
    }
}

#[test]
fn usual_settings() {
    let lr = |name: &str| name.parse::<OptimizerConfig>().unwrap().lr;
    assert_eq!(
        ["sgd", "adam", "adamw", "nadam", "adamax", "rmsprop", "adagrad"].map(lr),
        [0.1, 1e-3, 3e-4, 2e-3, 2e-3, 1e-2, 1e-2]
    );
    for name in names() {
        let config: OptimizerConfig = name.parse().unwrap();
        assert_eq!((config.to_string(), config.transition.is_some()), (name.clone(), name.ends_with('t')));
        Optimizer::new(config).unwrap();
    }
    for text in ["", "t", "SGD", "sgdtt", "lion"] {
        let e = text.parse::<OptimizerConfig>().unwrap_err().to_string();
        assert!(names().iter().all(|name| e.contains(name)), "{e}");
    }
}

#[test]
fn settings_out_of_range_are_refused() {
    let (betas, eps) = ([0.9, 0.999], 1e-8);
    let of = |rule: Box<dyn UpdateRule>| OptimizerConfig::from(rule);
    let twin = |t: TransitionConfig| OptimizerConfig { transition: Some(t), ..OptimizerConfig::default() };
    for (config, word) in [
        (OptimizerConfig { lr: -1.0, ..OptimizerConfig::default() }, "learning rate"),
        (OptimizerConfig { lr: f64::NAN, ..OptimizerConfig::default() }, "learning rate"),
        (OptimizerConfig { weight_decay: f64::INFINITY, ..OptimizerConfig::default() }, "weight decay"),
        (OptimizerConfig { latent_lr_factor: -0.5, ..OptimizerConfig::default() }, "latent"),
        (OptimizerConfig { scale_lr: -0.5, ..OptimizerConfig::default() }, "scales"),
        (of(Sgd { momentum: 1.0, nesterov: false }.into()), "momentum"),
        (of(Sgd { momentum: 0.0, nesterov: true }.into()), "nesterov"),
        (of(Adam { betas: [0.9, 1.0], eps }.into()), "betas"),
        (of(AdamW { betas, eps: 1e-60 }.into()), "eps"),
        (of(NAdam { betas, eps, momentum_decay: -1.0, ..NAdam::default() }.into()), "momentum decay"),
        (of(Adamax { betas: [-0.1, 0.5], eps }.into()), "betas"),
        (of(RmsProp { alpha: 1.0, eps, momentum: 0.0 }.into()), "alpha"),
        (of(Adagrad { eps: f64::INFINITY, lr_decay: 0.0 }.into()), "eps"),
        (of(Adagrad { eps, lr_decay: -1.0 }.into()), "decay"),
        (twin(TransitionConfig { factor: -1.0, ..Default::default() }), "factor"),
        (twin(TransitionConfig { momentum: 1.0, ..Default::default() }), "running"),
        (twin(TransitionConfig { gain: f64::NAN, ..Default::default() }), "gain"),
        (twin(TransitionConfig { rule: TalrRule::Damped { momentum: 2.0 }, ..Default::default() }), "damped"),
    ] {
        let e = Optimizer::new(config).unwrap_err().to_string();
        assert!(e.contains(word), "{word}: {e}");
    }
}

/// A store with two quantized layers, of 4 and 1 bits, a weight like the first latent, and a bias.
struct Model {
    store: Store,
    latents: [ParamId; 2],
    scale: ParamId,
    weight: ParamId,
    bias: ParamId,
}

impl Model {
    fn new() -> Self {
        let mut store = Store::seeded(0);
        let a = store.add("a", Group::Latent, tensor(&[0.5, -0.5, 0.25, 0.125])).unwrap();
        let b = store.add("b", Group::Latent, tensor(&[0.5, -0.5])).unwrap();
        let weight = store.add("w", Group::Weight, tensor(&[0.5, -0.5, 0.25, 0.125])).unwrap();
        let bias = store.add("bias", Group::Offset, tensor(&[0.0])).unwrap();
        let slot = WeightQuantizer::new(&mut store, "a", a, &bits("4/4/32")).unwrap();
        WeightQuantizer::new(&mut store, "b", b, &bits("1/1/32")).unwrap();
        let scale = store.state(slot).scale().unwrap();
        store.param_mut(scale).value = Tensor::scalar(0.7);
        requantize(&mut store).unwrap();
        Self { store, latents: [a, b], scale, weight, bias }
    }

    /// One step; `a` and `w` have equal gradients.
    fn step(&mut self, optimizer: &mut Optimizer, a: [f32; 4], b: [f32; 2]) -> StepReport {
        for (id, gradient) in [
            (self.latents[0], a.as_slice()),
            (self.latents[1], b.as_slice()),
            (self.weight, a.as_slice()),
            (self.bias, &[1.0]),
        ] {
            self.store.param_mut(id).grad = Some(tensor(gradient));
        }
        self.store.param_mut(self.scale).grad = Some(Tensor::scalar(1.0));
        optimizer.step(&mut self.store).unwrap()
    }

    fn steps(&mut self, optimizer: &mut Optimizer, steps: std::ops::Range<usize>) {
        for i in steps {
            let s = if i % 2 == 0 { 0.5 } else { -0.75 };
            self.step(optimizer, [s, 0.25, -s, 0.125 * i as f32], [s, -s]);
        }
    }

    fn state(&self, optimizer: &Optimizer) -> Vec<(String, Vec<u64>)> {
        let all = self.store.state_dict().into_iter().chain(optimizer.state_dict(&self.store));
        all.map(|(name, array)| (name, words(&array))).collect()
    }
}

fn words(array: &Array) -> Vec<u64> {
    match array {
        Array::F32(t) => t.data().iter().map(|v| u64::from(v.to_bits())).collect(),
        Array::U64(v) => v.clone(),
        Array::I64(v) => vec![v.cast_unsigned()],
    }
}

fn configured(name: &str, transition: &TransitionConfig) -> Optimizer {
    let config: OptimizerConfig = name.parse().unwrap();
    let transition = config.transition.as_ref().map(|_| transition.clone());
    // No decay: then h_t does not depend on where the weight has gone.
    let config = OptimizerConfig {
        lr: 0.05,
        weight_decay: 0.0,
        schedule: Schedule::CONSTANT,
        total_steps: 10,
        transition,
        ..config
    };
    Optimizer::new(config).unwrap()
}

/// A weight that is not quantized moves by lr · h_t: that gives h_t. The latent with the same gradients must move by
/// U_t · h_t.
#[test]
fn every_twin_moves_latents_by_its_own_rate_and_nothing_else() {
    for rule in update_rules() {
        let transition = TransitionConfig { factor: 0.1, momentum: 0.5, ..TransitionConfig::paper() };
        let (mut plain, mut twin) = (Model::new(), Model::new());
        let mut optimizers = [rule.to_string(), format!("{rule}t")].map(|name| configured(&name, &transition));
        let mut talr = 0.05;
        for i in 0..4 {
            let [before, latent] = [twin.weight, twin.latents[0]].map(|id| values(&twin.store, id));
            plain.steps(&mut optimizers[0], i..i + 1);
            twin.steps(&mut optimizers[1], i..i + 1);
            let after = values(&twin.store, twin.weight);
            let expected: Vec<f64> = (0..4)
                .map(|k| {
                    let h = (f64::from(before[k]) - f64::from(after[k])) / 0.05;
                    f64::from(latent[k]) - talr * h
                })
                .collect();
            assert_close(&values(&twin.store, twin.latents[0]), &expected, 1e-5, &format!("{rule}t, step {i}"));
            talr = optimizers[1].state_dict(&twin.store).pop().map(|(_, a)| f64::from_bits(words(&a)[1])).unwrap();
            // The rest goes as in the plain optimizer, bit for bit.
            for (a, b) in [(plain.weight, twin.weight), (plain.bias, twin.bias)] {
                assert_eq!(values(&plain.store, a), values(&twin.store, b), "{rule}");
            }
        }
        assert_ne!(talr, 0.05);
        assert_eq!(values(&twin.store, twin.scale), [0.7]);
        assert_ne!(values(&plain.store, plain.scale), [0.7]);
    }
}

/// AdamW's decay is a part of h_t: it goes by U_t too.
#[test]
fn decoupled_decay_of_the_twin_goes_by_its_own_rate() {
    let mut store = Store::seeded(0);
    let w = store.add("w", Group::Latent, tensor(&[1.0])).unwrap();
    WeightQuantizer::new(&mut store, "w", w, &bits("1/1/32")).unwrap();
    requantize(&mut store).unwrap();
    let config: OptimizerConfig = "adamwt".parse().unwrap();
    // U_0 = 0.1 · 2 = 0.2, eta = 0.5 · U_0, R = 1, no transition: U_1 = 0.2 + 0.1 · 1 = 0.3.
    let transition =
        TransitionConfig { factor: 1.0, gain: 0.5, schedule: Schedule::CONSTANT, ..TransitionConfig::paper() };
    let config = OptimizerConfig {
        lr: 0.1,
        latent_lr_factor: 2.0,
        weight_decay: 0.5,
        schedule: Schedule::LINEAR,
        total_steps: 2,
        transition: Some(transition),
        ..config
    };
    let mut optimizer = Optimizer::new(config).unwrap();
    // h_1 = 1 + 0.5 · 1, w = 1 - 0.2 · 1.5 = 0.7; h_2 = 1 + 0.5 · 0.7, w = 0.7 - 0.3 · 1.35 = 0.295.
    for (expected, lr) in [(0.7, 0.1), (0.295, 0.05)] {
        store.param_mut(w).grad = Some(tensor(&[1.0]));
        let report = optimizer.step(&mut store).unwrap();
        approx::assert_relative_eq!(report.lr, lr);
        assert_close(&values(&store, w), &[expected], 1e-6, "adamwt");
    }
}

/// METHOD 1: whatever the rule, its learning rate, decay and schedule.
#[test]
fn scales_have_an_adam_of_their_own() {
    for name in ["sgd", "adagrad"] {
        let config = OptimizerConfig {
            lr: 0.5,
            weight_decay: 0.5,
            schedule: Schedule::LINEAR,
            total_steps: 2,
            scale_lr: 0.01,
            ..name.parse().unwrap()
        };
        let (mut model, mut optimizer) = (Model::new(), Optimizer::new(config).unwrap());
        // m_1 = 0.1, v_1 = 0.001: h_1 = 1. m_2 = 0.9 · 0.1 - 0.1 · 3 = -0.21, v_2 = 0.999 · 0.001 + 0.001 · 9 = 0.009999:
        // h_2 = (-0.21 / 0.19) / sqrt(0.009999 / 0.001999) = -0.494190.
        for (gradient, expected) in [(1.0, 0.69), (-3.0, 0.694_941_9)] {
            model.store.param_mut(model.scale).grad = Some(Tensor::scalar(gradient));
            optimizer.step(&mut model.store).unwrap();
            assert_close(&values(&model.store, model.scale), &[expected], 2e-7, name);
        }
    }
    let (mut model, config) = (Model::new(), OptimizerConfig { scale_lr: 1.0, ..OptimizerConfig::default() });
    model.store.param_mut(model.scale).grad = Some(Tensor::scalar(1.0));
    Optimizer::new(config).unwrap().step(&mut model.store).unwrap();
    assert_eq!(values(&model.store, model.scale), [1e-8], "a scale stays above 0");
    assert_eq!(OptimizerConfig::default().scale_lr, 1e-5);
}

/// METHOD 1.1: the authors divide the learning rate of scales with that of the weights.
#[test]
fn scales_may_have_a_schedule() {
    let config = OptimizerConfig { scale_lr: 0.01, total_steps: 2, ..OptimizerConfig::default() };
    let scale_schedule = Schedule::Step { milestones: vec![0.5], gamma: 0.1 };
    let (mut model, mut optimizer) =
        (Model::new(), Optimizer::new(OptimizerConfig { scale_schedule, ..config }).unwrap());
    // Adam's first steps along a constant gradient are the learning rate: 0.01, then 0.001.
    for expected in [0.69, 0.689] {
        model.store.param_mut(model.scale).grad = Some(Tensor::scalar(1.0));
        optimizer.step(&mut model.store).unwrap();
        assert_close(&values(&model.store, model.scale), &[expected], 2e-7, "scale");
    }
}

/// METHOD 1.1: biases and normalizations decay only if asked, scales never.
#[test]
fn groups_that_decay() {
    for (decay_groups, bias) in [(DecayGroups::Weights, 2.0), (DecayGroups::All, 2.0 - 0.1 * 0.5 * 2.0)] {
        let rule = Sgd { momentum: 0.0, nesterov: false };
        let config = OptimizerConfig { lr: 0.1, weight_decay: 0.5, decay_groups, ..rule.into() };
        let (mut model, mut optimizer) = (Model::new(), Optimizer::new(config).unwrap());
        model.store.param_mut(model.bias).value = tensor(&[2.0]);
        for (id, zeros) in [(model.bias, tensor(&[0.0])), (model.weight, tensor(&[0.0; 4]))] {
            model.store.param_mut(id).grad = Some(zeros);
        }
        model.store.param_mut(model.scale).grad = Some(Tensor::scalar(0.0));
        optimizer.step(&mut model.store).unwrap();
        assert_close(&values(&model.store, model.bias), &[bias], 1e-6, "bias");
        assert_close(&values(&model.store, model.weight)[..1], &[0.5 * 0.95], 1e-6, "weight");
        assert_eq!(values(&model.store, model.scale), [0.7]);
    }
    assert!("biases".parse::<DecayGroups>().unwrap_err().to_string().contains("weights or all"));
}

/// METHOD 1: plain optimizers learn the scales of weights in the TRS scheme too, twins keep them.
#[test]
fn weight_scales_of_the_trs_scheme_move_with_plain_optimizers_only() {
    for (name, moves) in [("sgd", true), ("sgdt", false), ("adam", true), ("adamt", false)] {
        for widths in ["1/1/32", "2/2/32"] {
            let mut store = Store::seeded(0);
            let w = store.add("w", Group::Latent, tensor(&[0.5, -0.5, 0.25, 0.125])).unwrap();
            let config = QuantConfig { scheme: Scheme::Trs, ..bits(widths) };
            let slot = WeightQuantizer::new(&mut store, "w", w, &config).unwrap();
            let quantizer = *store.state(slot);
            let before = values(&store, quantizer.scale().unwrap());
            let gradient = quantizer.backward(&mut store, tensor(&[1.0, 0.5, 0.25, 0.5])).into_tensor(&mut store);
            store.param_mut(w).grad = Some(gradient);
            Optimizer::new(name.parse().unwrap()).unwrap().step(&mut store).unwrap();
            assert_eq!(values(&store, quantizer.scale().unwrap()) != before, moves, "{name} {widths}");
        }
    }
}

#[test]
fn latents_have_a_factor_of_their_own() {
    let mut model = Model::new();
    let config = OptimizerConfig { lr: 0.1, latent_lr_factor: 0.5, weight_decay: 0.0, ..OptimizerConfig::default() };
    let config = OptimizerConfig { schedule: Schedule::CONSTANT, ..config };
    let mut optimizer = Optimizer::new(config).unwrap();
    model.step(&mut optimizer, [1.0; 4], [1.0; 2]);
    assert_close(&values(&model.store, model.latents[0]), &[0.45, -0.55, 0.2, 0.075], 1e-6, "latent");
    assert_close(&values(&model.store, model.weight), &[0.4, -0.6, 0.15, 0.025], 1e-6, "weight");
}

fn assert_report(found: &TransitionReport, target: f64, rate: f64, running: f64, talr: f64) {
    for (found, expected) in [(found.target, target), (found.rate, rate), (found.running, running), (found.talr, talr)]
    {
        approx::assert_relative_eq!(found, expected, epsilon = 1e-12);
    }
}

/// SGD without momentum at U_0 = 0.1, lambda = 0.1, m = 0.5. Layer `a` of 4 bits moves one level at scale 0.7 (levels are
/// 0.1 apart) in two of its four weights, `b` of one bit does not.
#[test]
fn scope_of_the_model_and_of_each_layer() {
    let run = |scope: Scope| {
        let transition = TransitionConfig {
            factor: 0.1,
            momentum: 0.5,
            schedule: Schedule::CONSTANT,
            scope,
            ..TransitionConfig::paper()
        };
        let rule = Sgd { momentum: 0.0, nesterov: false };
        let config = OptimizerConfig { lr: 0.1, weight_decay: 0.0, ..rule.into() };
        let config = OptimizerConfig { transition: Some(transition), schedule: Schedule::CONSTANT, ..config };
        let (mut model, mut optimizer) = (Model::new(), Optimizer::new(config).unwrap());
        let report = model.step(&mut optimizer, [1.0, 1.0, 0.0, 0.0], [1.0, 0.0]);
        (model, optimizer, report)
    };
    // R by the narrowest bits, 0.1 · sqrt(1); k = 2/6, K = 1/6; U = 0.1 + 0.1 · (0.1 - 1/6).
    let (mut model, mut optimizer, report) = run(Scope::Model);
    let shared = 0.1 + 0.1 * (0.1 - 1.0 / 6.0);
    assert_report(&report.transition.unwrap(), 0.1, 1.0 / 3.0, 1.0 / 6.0, shared);
    approx::assert_relative_eq!(report.transition_rate, 1.0 / 3.0);
    assert!(report.layers.is_empty());
    model.step(&mut optimizer, [0.0, 0.0, 1.0, 0.0], [1.0, 0.0]);
    assert_close(&values(&model.store, model.latents[0])[2..3], &[0.25 - shared], 1e-6, "a");
    assert_close(&values(&model.store, model.latents[1])[..1], &[0.4 - shared], 1e-6, "b");
    // a: R = 0.1 · sqrt(4), k = 2/4, K = 1/4. b: R = 0.1, k = K = 0.
    let (mut model, mut optimizer, report) = run(Scope::Layer);
    let own = [0.1 + 0.1 * (0.2 - 0.25), 0.1 + 0.1 * 0.1];
    let [(a, of_a), (b, of_b)] = report.layers.as_slice() else { panic!("two layers: {report:?}") };
    assert_eq!((a.as_str(), b.as_str()), ("a", "b"));
    assert_report(of_a, 0.2, 0.5, 0.25, own[0]);
    assert_report(of_b, 0.1, 0.0, 0.0, own[1]);
    // The means over 4 and 2 weights.
    let mean = |a: f64, b: f64| (4.0 * a + 2.0 * b) / 6.0;
    assert_report(&report.transition.unwrap(), mean(0.2, 0.1), 1.0 / 3.0, mean(0.25, 0.0), mean(own[0], own[1]));
    model.step(&mut optimizer, [0.0, 0.0, 1.0, 0.0], [1.0, 0.0]);
    assert_close(&values(&model.store, model.latents[0])[2..3], &[0.25 - own[0]], 1e-6, "a");
    assert_close(&values(&model.store, model.latents[1])[..1], &[0.4 - own[1]], 1e-6, "b");
}

/// R_t follows its own schedule, whatever that of the learning rate.
#[test]
fn the_target_has_a_schedule_of_its_own() {
    let transition = TransitionConfig { factor: 0.3, schedule: Schedule::LINEAR, ..TransitionConfig::paper() };
    let mut optimizer = configured("adamt", &transition);
    let mut model = Model::new();
    for step in 0..3 {
        let report = model.step(&mut optimizer, [0.0; 4], [0.0; 2]);
        approx::assert_relative_eq!(report.transition.unwrap().target, 0.3 * (1.0 - 0.1 * f64::from(step)));
        assert_eq!(report.lr, 0.05);
    }
}

/// U_t = U_0 · schedule · a_t, and a_t is 1 until the natural rate is known: then a latent moves as a weight does.
#[test]
fn the_automatic_rule_begins_with_the_base_optimizer_and_then_leaves_it() {
    let transition = TransitionConfig { schedule: Schedule::LINEAR, ..TransitionConfig::default() };
    let config = OptimizerConfig {
        lr: 0.05,
        weight_decay: 0.0,
        schedule: Schedule::LINEAR,
        total_steps: 40,
        transition: Some(transition),
        ..Sgd { momentum: 0.0, nesterov: false }.into()
    };
    let (mut model, mut optimizer) = (Model::new(), Optimizer::new(config).unwrap());
    // Of 40 steps the third and the fourth measure: one and three of six weights change, at shares of 38/40 and 37/40.
    for step in 0..4 {
        let rate = 0.05 * (1.0 - f64::from(step) / 40.0);
        let before = values(&model.store, model.latents[0])[0];
        let s = if step == 3 { 1.0 } else { 0.0 };
        let report = model.step(&mut optimizer, [2.0, 2.0 * s, 2.0 * s, 0.0], [0.0; 2]);
        let moved = before - values(&model.store, model.latents[0])[0];
        approx::assert_relative_eq!(f64::from(moved), 2.0 * rate, epsilon = 1e-6);
        approx::assert_relative_eq!(report.transition.unwrap().target, report.transition_rate);
    }
    // From now on there is a target, and nothing changes any more: the rate rises over the base optimizer's.
    let report = model.step(&mut optimizer, [0.0; 4], [0.0; 2]).transition.unwrap();
    assert!(report.target > 0.0);
    let mut last = 0.05 * (1.0 - 4.0 / 40.0);
    for step in 5..20 {
        let base = 0.05 * (1.0 - f64::from(step) / 40.0);
        let report = model.step(&mut optimizer, [0.0; 4], [0.0; 2]).transition.unwrap();
        assert!(report.talr > base && report.talr <= 4.0 * base, "{step}: {report:?}");
        last = report.talr;
    }
    // A latent moves by that.
    let before = values(&model.store, model.latents[0])[3];
    model.step(&mut optimizer, [0.0, 0.0, 0.0, 0.1], [0.0; 2]);
    approx::assert_relative_eq!(
        f64::from(before - values(&model.store, model.latents[0])[3]),
        0.1 * last,
        epsilon = 1e-6
    );
}

#[test]
fn a_resumed_run_is_the_same_to_the_bit_and_foreign_state_is_refused() {
    let of = |scope| [TransitionConfig::default(), TransitionConfig::paper()].map(|t| TransitionConfig { scope, ..t });
    let transitions = [of(Scope::Model), of(Scope::Layer)].concat();
    let mut dicts = Vec::new();
    for name in names() {
        for transition in &transitions[..if name.ends_with('t') { 4 } else { 1 }] {
            let fresh = || configured(&name, transition);
            let (mut model, mut optimizer) = (Model::new(), fresh());
            model.steps(&mut optimizer, 0..2);
            let of_model = model.store.state_dict();
            let dict = optimizer.state_dict(&model.store);
            model.steps(&mut optimizer, 2..5);
            // From the state, in another model.
            let find = |dict: &[(String, Array)], name: &str| {
                dict.iter().find(|(n, _)| n == name).map(|(_, array)| array.clone())
            };
            let (mut other, mut resumed) = (Model::new(), fresh());
            other.store.load_state_dict(|name| find(&of_model, name)).unwrap();
            resumed.load_state_dict(&other.store, |name| find(&dict, name)).unwrap();
            other.store.set_step(2);
            requantize(&mut other.store).unwrap();
            other.steps(&mut resumed, 2..5);
            assert_eq!(model.state(&optimizer), other.state(&resumed), "{name}");
            // Each array is needed, and an optimizer that refuses stays as it was.
            let before = other.state(&resumed);
            for (missing, array) in &dict {
                for bad in [None, Some(Array::U64(vec![0; 3])), Some(Array::F32(Tensor::scalar(0.0)))] {
                    if bad.as_ref().is_some_and(
                        |bad| matches!((bad, array), (Array::F32(_), Array::F32(t)) if t.shape().is_empty()),
                    ) {
                        continue;
                    }
                    let get = |n: &str| if n == missing { bad.clone() } else { find(&dict, n) };
                    let e = resumed.load_state_dict(&other.store, get).unwrap_err().to_string();
                    assert!(e.contains(missing) && e.contains("expected"), "{e}");
                }
            }
            assert_eq!(other.state(&resumed), before);
            dicts.push((name.clone(), transition.clone(), dict));
        }
    }
    for (name, transition, _) in &dicts {
        for (of, of_transition, dict) in &dicts {
            let find = |name: &str| dict.iter().find(|(n, _)| n == name).map(|(_, array)| array.clone());
            let loaded = configured(name, transition).load_state_dict(&Model::new().store, find);
            assert_eq!(
                loaded.is_ok(),
                (name, transition) == (of, of_transition),
                "{name} from the state of {of}: {loaded:?}"
            );
        }
    }
}

#[test]
fn the_state_before_the_first_step_is_zeros_and_loads() {
    for name in names() {
        let model = Model::new();
        let optimizer = configured(&name, &TransitionConfig::default());
        let dict = optimizer.state_dict(&model.store);
        let mut other = optimizer.clone();
        other.load_state_dict(&model.store, |n| dict.iter().find(|(k, _)| k == n).map(|(_, a)| a.clone())).unwrap();
        assert_eq!(model.state(&optimizer), model.state(&other));
    }
}

/// Longer than a chunk of a pass, and of no round length: the same bits with any number of threads, on any instruction
/// set.
#[test]
fn neither_threads_nor_instruction_sets_matter() {
    let run = |rule: &dyn UpdateRule, threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut store = Store::seeded(3);
            let w = store.add_normal("w", Group::Weight, &[100_003], 1.0).unwrap();
            let g = store.add_normal("g", Group::Weight, &[100_003], 1.0).unwrap();
            let mut optimizer = Optimizer::new(rule.boxed().into()).unwrap();
            for _ in 0..2 {
                store.param_mut(w).grad = Some(store.param(g).value.clone());
                optimizer.step(&mut store).unwrap();
            }
            store.param(w).value.data().iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        })
    };
    for rule in update_rules() {
        set_isa(Isa::Scalar).unwrap();
        let expected = run(&*rule, 1);
        for &isa in available_isas() {
            set_isa(isa).unwrap();
            assert!(run(&*rule, 3) == expected, "{rule} on {isa}");
        }
    }
}

#[test]
fn what_is_not_finite_stops_the_run() {
    for name in names() {
        let mut model = Model::new();
        let mut optimizer = configured(&name, &TransitionConfig::default());
        model.store.param_mut(model.weight).grad = Some(tensor(&[0.0, f32::NAN, 0.0, 0.0]));
        let e = optimizer.step(&mut model.store).unwrap_err().to_string();
        assert!(
            e.starts_with("`w`, or what the optimizer keeps of it, after its update") && e.contains("step 0"),
            "{e}"
        );
    }
}

/// The square of 1e22 is no f32: with an infinite second moment a parameter would stay where it is for good.
#[test]
fn a_second_moment_that_overflows_stops_the_run() {
    for name in ["adam", "adamw", "nadam", "rmsprop", "adagrad"] {
        let mut model = Model::new();
        let mut optimizer = configured(name, &TransitionConfig::default());
        model.store.param_mut(model.weight).grad = Some(tensor(&[0.0, 1e22, 0.0, 0.0]));
        let e = optimizer.step(&mut model.store).unwrap_err().to_string();
        assert!(e.starts_with("`w`, or what the optimizer keeps of it") && e.contains("found inf"), "{name}: {e}");
    }
    let mut model = Model::new();
    let mut optimizer = configured("sgd", &TransitionConfig::default());
    model.store.param_mut(model.scale).grad = Some(Tensor::scalar(1e22));
    let e = optimizer.step(&mut model.store).unwrap_err().to_string();
    assert!(e.starts_with("`a.scale`, or what the optimizer keeps of it"), "scales have an Adam of their own: {e}");
}

#[test]
fn a_gradient_of_another_shape_is_refused() {
    let mut model = Model::new();
    model.store.param_mut(model.weight).grad = Some(tensor(&[1.0; 3]));
    let e = configured("sgd", &TransitionConfig::default()).step(&mut model.store).unwrap_err().to_string();
    assert!(e.contains("a gradient of [4] for `w`") && e.contains("[3]"), "{e}");
}
