//! A plan gives the bits of the layers that it describes, and its table the published numbers.

use super::*;
use crate::layers::{AvgPool2d, BatchNorm2d, Conv2d, Conv2dConfig, Flatten, Linear, MaxPool2d, Relu, Sequential};
use crate::models::{EdsrSpec, LeNet, ModelSpec, build};
use crate::optim::{Optimizer, OptimizerConfig};
use fixnet_autograd::check::sample;
use fixnet_quant::{AttentionScales, InputShifts, QuantConfig, Scheme, WeightScales};
use fixnet_tensor::Window;

/// Three steps, so that scales, statistics and factors are no longer the first ones.
fn train(net: &Sequential, store: &mut Store, input: &[usize], upscale: bool) {
    let config = OptimizerConfig { lr: 0.01, total_steps: 3, ..OptimizerConfig::default() };
    let mut optimizer = Optimizer::new(config).unwrap();
    for step in 0..3 {
        let mut g = Graph::train(store);
        let x = g.input(sample(&[&[4], input].concat(), step));
        let y = net.forward(&mut g, &x).unwrap();
        let loss = if upscale {
            let target = g.input(Tensor::zeros(y.shape()));
            g.l1_loss(&y, &target).unwrap()
        } else {
            g.cross_entropy(&y, &[0, 1, 2, 0]).unwrap()
        };
        drop((x, y));
        g.backward(loss).unwrap();
        optimizer.step(store).unwrap();
    }
}

fn layers_and_plan_agree(net: &Sequential, store: &mut Store, input: &[usize]) {
    let plan = Plan::of(net, store, input).unwrap();
    let x = sample(&[&[3], input].concat(), 9);
    let mut g = Graph::eval(store);
    let v = g.input(x.clone());
    let expected = net.forward(&mut g, &v).unwrap().tensor();
    let found = plan.run(x).unwrap().into_first();
    assert_eq!(found.shape(), expected.shape());
    assert_eq!(found.shape()[1..], *plan.output_shape());
    assert!(found.data().iter().zip(expected.data()).all(|(a, b)| a.to_bits() == b.to_bits()));
}

#[test]
fn a_plan_gives_the_bits_of_every_model_in_every_precision_and_scheme() {
    let with = |bits: &str| QuantConfig::new(bits.parse().unwrap());
    let channel = QuantConfig { weight_scales: WeightScales::Channel, ..with("3/5/4") };
    let trs = QuantConfig { scheme: Scheme::Trs, edges: Some(8), ..with("2/2/4") };
    let both = QuantConfig { weight_scales: WeightScales::Channel, ..trs.clone() };
    for config in
        [with("32/32/32"), with("4/4/4"), with("1/1/32"), with("32/1/32"), with("32/3/32"), channel, trs, both]
    {
        for (model, input) in [
            ("lenet", [12, 12, 1]),
            ("mlp:9", [4, 4, 2]),
            ("resnet8", [8, 8, 3]),
            ("resnet18-imagenet", [32, 32, 3]),
            ("resnet50-imagenet", [32, 32, 3]),
            ("mobilenetv2:w0.1", [8, 8, 3]),
            ("reactnet18:w0.1", [8, 8, 3]),
            ("reactnet18-imagenet:w0.1", [32, 32, 3]),
            ("mobilenetv2-imagenet", [32, 32, 3]),
            ("vit:8x2x2:drop0.5", [8, 8, 3]),
            ("edsr", [6, 5, 3]),
        ] {
            if model.contains("imagenet") && config != with("4/4/4") {
                continue;
            }
            let model: ModelSpec = model.parse().unwrap();
            let mut store = Store::seeded(1);
            let net = build(&mut store, &model, input, 3, &config).unwrap();
            train(&net, &mut store, &input, model.get::<EdsrSpec>().is_some());
            layers_and_plan_agree(&net, &mut store, &input);
        }
    }
}

#[test]
fn a_plan_gives_the_bits_of_shifts_and_scales_by_head() {
    for (bits, scheme) in [("4/4/4", Scheme::Lbt), ("8/8/8", Scheme::Lbt), ("2/2/32", Scheme::Trs)] {
        let config = QuantConfig {
            scheme,
            edges: Some(8),
            input_shifts: InputShifts::Learned,
            attention_scales: AttentionScales::Head,
            ..QuantConfig::new(bits.parse().unwrap())
        };
        let mut store = Store::seeded(1);
        let model: ModelSpec = "vit:8x2x2".parse().unwrap();
        let net = build(&mut store, &model, [8, 8, 3], 3, &config).unwrap();
        train(&net, &mut store, &[8, 8, 3], false);
        let value = |name: &str| store.value(name).unwrap();
        assert_eq!(value("blocks.1.attn.qk.left.scale").shape(), [1, 2, 1, 1]);
        assert!(value("blocks.1.attn.pv.left.scale").shape().is_empty());
        // Clipped elements alone move a shift, and the first scales clip few.
        let shifts: Vec<_> =
            store.params().iter().map(|p| p.name().to_string()).filter(|n| n.ends_with(".shift")).collect();
        assert_eq!(shifts.len(), 2 * 4 + 1);
        for name in shifts {
            let id = store.find(&name).unwrap();
            let value = &mut store.param_mut(id).value;
            *value = sample(value.shape(), 3);
        }
        layers_and_plan_agree(&net, &mut store, &[8, 8, 3]);
    }
}

#[test]
fn a_plan_of_convolutions_takes_images_of_any_size() {
    for bits in ["32/32/32", "4/4/4"] {
        let mut store = Store::seeded(1);
        let model: ModelSpec = "edsr:n1-f8-r0.5".parse().unwrap();
        let net = build(&mut store, &model, [6, 5, 3], 0, &QuantConfig::new(bits.parse().unwrap())).unwrap();
        train(&net, &mut store, &[6, 5, 3], true);
        let plan = AnySize(Plan::of(&net, &mut store, &[6, 5, 3]).unwrap());
        for input in [[6, 5, 3], [9, 4, 3], [1, 1, 3]] {
            let mut g = Graph::eval(&mut store);
            let x = g.input(sample(&[&[2][..], &input].concat(), 9));
            let (expected, found) =
                (net.forward(&mut g, &x).unwrap().tensor(), plan.forward(&mut g, &x).unwrap().tensor());
            assert_eq!((expected.shape(), expected.data()), (found.shape(), found.data()), "{bits} {input:?}");
        }
        let mut g = Graph::eval(&mut store);
        let x = g.input(Tensor::zeros(&[1, 9, 4, 3]));
        assert!(plan.0.forward(&mut g, &x).unwrap_err().to_string().contains("[6, 5, 3]"));
    }
}

#[test]
fn a_plan_applies_its_own_normalization_once() {
    let mut store = Store::seeded(1);
    let net = build(&mut store, &"mlp:9".parse().unwrap(), [2, 2, 2], 3, &QuantConfig::float()).unwrap();
    train(&net, &mut store, &[2, 2, 2], false);
    let plan = Plan::of(&net, &mut store, &[2, 2, 2]).unwrap();
    let normalize = Normalize::new(vec![0.3, 0.6], vec![0.7, 0.2]).unwrap();
    let raw = Tensor::from_vec(&[2, 2, 2, 2], (0..16).map(|v| v as f32 / 15.0).collect()).unwrap();
    let expected = plan.run(normalize.apply(&raw).unwrap()).unwrap().into_first();
    let whole = plan.clone().normalized(normalize);
    let bits = |t: &Tensor| t.data().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(whole.run(raw.clone()).unwrap().first()), bits(&expected));
    assert_ne!(bits(plan.run(raw.clone()).unwrap().first()), bits(&expected));
    // As a layer it takes the same input.
    let mut g = Graph::eval(&mut store);
    let x = g.input(raw);
    assert_eq!(bits(&whole.forward(&mut g, &x).unwrap().tensor()), bits(&expected));
    let one = plan.normalized(Normalize::none(1));
    assert!(one.run(Tensor::zeros(&[1, 2, 2, 2])).unwrap_err().to_string().contains("normalize"));
}

#[test]
fn grouped_convolutions_and_every_pooling_are_described() {
    let q = QuantConfig::new("4/4/4".parse().unwrap());
    let mut store = Store::seeded(2);
    let window = Window { padding: [2, 1], dilation: [2, 1], stride: [1, 2], groups: 2 };
    let net = Sequential::new()
        .push(
            Conv2d::new(&mut store, "a", Conv2dConfig { window, ..Conv2dConfig::square([4, 6], 3) }, &q)
                .unwrap()
                .biased(&mut store)
                .unwrap(),
        )
        .push(AvgPool2d { size: 2, stride: 2 })
        .push(Relu)
        .push(MaxPool2d { size: 3, stride: 2, padding: 1 })
        .push(BatchNorm2d::new(&mut store, "n", 6).unwrap())
        .push(Flatten)
        .push(Linear::new(&mut store, "b", 2 * 2 * 6, 3).unwrap());
    train(&net, &mut store, &[8, 12, 4], false);
    layers_and_plan_agree(&net, &mut store, &[8, 12, 4]);
}

/// `(x · 0.5 + shift) · mask`, of the graph's operations and a parameter.
struct Own {
    shift: fixnet_autograd::ParamId,
}

impl Layer for Own {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> fixnet_autograd::Result<Var> {
        let shift = g.param(self.shift);
        // What depends on parameters alone is a constant of the plan.
        let twice = g.scale(&shift, 2.0)?;
        let half = g.scale(x, 0.5)?;
        let y = g.add_bias(&half, &shift)?;
        g.add_bias(&y, &twice)
    }
}

#[test]
fn a_layer_of_graph_operations_is_traced_like_any_other() {
    let mut store = Store::seeded(1);
    let shift = store.add("own.shift", fixnet_autograd::Group::Offset, sample(&[16], 2)).unwrap();
    let net = Sequential::new().push(Linear::new(&mut store, "fc1", 8, 16).unwrap()).push(Own { shift });
    layers_and_plan_agree(&net, &mut store, &[8]);
    let plan = Plan::of(&net, &mut store, &[8]).unwrap();
    let names: Vec<(&str, &str)> = plan.nodes().iter().map(|n| (n.name(), n.op().kind())).collect();
    let expected = [("input", "input"), ("fc1", "linear"), ("", "scale"), ("own", "add_bias"), ("", "add_bias")];
    assert_eq!(names, expected);
    assert_eq!(plan.summary().parameters(), 8 * 16 + 16 + 2 * 16);
}

#[test]
fn an_operation_with_its_own_derivative_shows_in_the_table_by_its_name() {
    struct Opaque;
    impl fixnet_autograd::Backward for Opaque {
        fn name(&self) -> &'static str {
            "halve"
        }
        fn backward(
            self: Box<Self>,
            grad: Tensor,
            _: &mut fixnet_autograd::Cx<'_>,
        ) -> fixnet_autograd::Result<fixnet_autograd::Grads> {
            Ok(vec![Some(grad)])
        }
    }
    struct Halve;
    impl Layer for Halve {
        fn forward(&self, g: &mut Graph<'_>, x: &Var) -> fixnet_autograd::Result<Var> {
            Ok(g.record(x.tensor(), &[x], || Opaque))
        }
    }
    /// Takes numbers off the graph and puts what follows from them back.
    struct Detached;
    impl Layer for Detached {
        fn forward(&self, g: &mut Graph<'_>, x: &Var) -> fixnet_autograd::Result<Var> {
            let y = g.input(x.tensor());
            g.relu(&y)
        }
    }
    let mut store = Store::seeded(1);
    let fc = Linear::new(&mut store, "fc1", 8, 16).unwrap();
    let net = Sequential::new().push(fc.clone()).push(Halve);
    let plan = Plan::of(&net, &mut store, &[8]).unwrap();
    let text = plan.summary().to_string();
    assert!(text.contains("halve"), "{text}");
    let e = plan.run(Tensor::zeros(&[1, 8])).unwrap_err().to_string();
    assert_eq!(e, "an operation: expected one that implements `Operation`, found halve");
    let plan = Plan::of(&Sequential::new().push(fc).push(Detached), &mut store, &[8]).unwrap();
    let e = plan.run(Tensor::zeros(&[1, 8])).unwrap_err().to_string();
    assert!(e.contains("found input of a layer"), "{e}");
}

#[test]
fn outputs_have_names() {
    let mut store = Store::seeded(1);
    let fc = Linear::new(&mut store, "fc", 8, 4).unwrap();
    let two = |first: &'static str, second: &'static str| {
        let fc = fc.clone();
        move |g: &mut Graph<'_>, x: &Var| {
            let y = fc.forward(g, x)?;
            let z = g.relu(&y)?;
            Ok(vec![(first.into(), y), (second.into(), z)])
        }
    };
    let plan = Plan::trace(&mut store, &[8], two("logits", "positive")).unwrap();
    let x = sample(&[3, 8], 1);
    let outputs = plan.run(x.clone()).unwrap();
    let names: Vec<&str> = outputs.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["logits", "positive"]);
    let mut g = Graph::eval(&mut store);
    let x = g.input(x);
    let y = fc.forward(&mut g, &x).unwrap();
    assert_eq!(outputs.get("logits").unwrap().data(), y.tensor().data());
    assert_eq!(outputs.get("positive").unwrap().data(), g.relu(&y).unwrap().tensor().data());
    assert!(outputs.get("output").is_none());
    let e = Plan::trace(&mut store, &[8], two("a", "a")).unwrap_err().to_string();
    assert!(e.starts_with("outputs of a plan: expected at least one, each with a name of its own"), "{e}");
    let constant = Plan::trace(&mut store, &[8], |g, _| Ok(vec![("a".into(), g.input(Tensor::zeros(&[1, 2])))]));
    let e = constant.unwrap_err().to_string();
    assert_eq!(e, "an output of a network: expected a value that depends on its input, found a constant");
}

#[test]
fn the_table_of_lenet() {
    let mut store = Store::seeded(1);
    let q = QuantConfig::new("4/4/4".parse().unwrap());
    let net = build(&mut store, &LeNet.into(), [28, 28, 1], 10, &q).unwrap();
    let plan = Plan::of(&net, &mut store, &[28, 28, 1]).unwrap();
    let text = plan.summary().to_string();
    let line = text.lines().find(|l| l.starts_with("conv2 ")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words, ["conv2", "conv2d", "14x14x64", "51,200", "4/4/4", "10,035,200"]);
    // conv 800 + 51,200, fc 401,408 + 1,280 and biases 138, norms 448; a byte holds two of conv2's and fc1's weights.
    let (floats, halves) = (800 + 1_280 + 138 + 448, 51_200 + 401_408);
    assert_eq!(plan.summary().packed_bytes, 4 * floats + halves / 2);
    assert!(text.contains("455,274 parameters (1,821,096 bytes as f32, 236,968 with codes packed)"), "{text}");
    // Before a batch has set the scales, shapes are known and values are not.
    let e = plan.run(Tensor::zeros(&[1, 28, 28, 1])).unwrap_err().to_string();
    assert_eq!(e, "layer `conv2`: scale of an input: expected one that a training batch has set, found none");
}

/// Makes a value from the input of a trace.
type Make<'a> = &'a dyn Fn(&mut Graph<'_>, &Var) -> fixnet_autograd::Result<Var>;

/// What has one row per image, or mixes images, is refused when it is traced: such a plan would fit a batch of one alone.
#[test]
fn a_plan_keeps_the_axis_of_the_batch() {
    let trace = |f: Make<'_>| {
        let mut store = Store::seeded(1);
        Plan::trace(&mut store, &[3, 4], |g, x| Ok(vec![(OUTPUT.into(), f(g, x)?)]))
            .map(|plan| plan.output_shape().to_vec())
    };
    let constant = |g: &Graph<'_>, shape: &[usize]| g.input(sample(shape, 2));
    for shape in [&[4][..], &[3, 1], &[1, 3, 4], &[]] {
        assert_eq!(trace(&|g, x| g.add(x, &constant(g, shape))).unwrap(), [3, 4], "{shape:?}");
    }
    let odd: [Make<'_>; 7] = [
        &|g, x| g.add(x, &constant(g, &[2, 3, 4])),
        &|g, x| g.mul(x, &constant(g, &[1, 1, 3, 4])),
        &|g, x| g.permute(x, &[1, 0, 2]),
        &|g, x| g.sum(x, &[0], false),
        &|g, x| g.mean(x, &[0], true),
        &|g, x| g.slice(x, 0, 0..1),
        &|g, x| g.concat(&[x, x], 0),
    ];
    for (i, f) in odd.into_iter().enumerate() {
        let e = trace(f).unwrap_err().to_string();
        assert!(
            e.starts_with("an operation of a traced network: expected one that keeps the axis of the batch"),
            "{i}: {e}"
        );
    }
    // A constant of one row is the same for all images.
    let mut store = Store::seeded(1);
    let plan =
        Plan::trace(&mut store, &[4], |g, x| Ok(vec![(OUTPUT.into(), g.mul(x, &constant(g, &[1, 4]))?)])).unwrap();
    assert_eq!(plan.run(sample(&[5, 4], 1)).unwrap().first().shape(), [5, 4]);
    // Products of pairs of matrices, one pair per image.
    let plan = Plan::trace(&mut store, &[3, 4], |g, x| {
        let y = g.permute(x, &[0, 2, 1])?;
        Ok(vec![(OUTPUT.into(), g.matmul(x, &y)?)])
    });
    assert_eq!(plan.unwrap().run(sample(&[2, 3, 4], 1)).unwrap().first().shape(), [2, 3, 3]);
}
