//! A layer that a user has composed of the graph's operations is packed and exported like the built-in ones, one that computes
//! by itself is refused by name, and several outputs keep their names.

use fixnet_autograd::check::sample;
use fixnet_autograd::{Backward, Cx, Grads, Graph, Group, ParamId, Result, Store, Var};
use fixnet_export::{onnx, packed};
use fixnet_nn::Layer;
use fixnet_nn::layers::{Conv2d, Conv2dConfig, Sequential};
use fixnet_nn::plan::Plan;
use fixnet_quant::QuantConfig;
use fixnet_tensor::{Tensor, Window};
use std::collections::BTreeMap;

/// Two dense layers around a reshape, of graph operations alone.
struct Head {
    conv: ParamId,
    weight: ParamId,
    bias: ParamId,
}

impl Head {
    fn new(store: &mut Store) -> Self {
        let mut add = |name: &str, shape: &[usize]| store.add(name, Group::Weight, sample(shape, 3)).unwrap();
        Self {
            conv: add("head.conv", &[2, 1, 1, 3]),
            weight: add("head.weight", &[5, 18]),
            bias: add("head.bias", &[5]),
        }
    }
}

impl Layer for Head {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        let (conv, weight, bias) = (g.param(self.conv), g.param(self.weight), g.param(self.bias));
        let y = g.conv2d(x, &conv, Window::default())?;
        let y = g.pad2d(&y, 1, -0.5)?;
        let y = g.max_pool2d(&y, 2, 2)?;
        let shape = [y.shape()[0], 18];
        let y = g.reshape(&y, &shape)?;
        let half = g.scale(&y, 0.5)?;
        let square = g.mul(&y, &half)?;
        let y = g.linear(&square, &weight)?;
        g.add_bias(&y, &bias)
    }
}

fn network(store: &mut Store) -> Sequential {
    let q = QuantConfig::new("4/4/4".parse().unwrap());
    let conv = Conv2d::new(store, "conv", Conv2dConfig::square([2, 3], 3), &q).unwrap();
    let net = Sequential::new().push(conv).push(Head::new(store));
    let mut g = Graph::train(store);
    let x = g.input(sample(&[2, 4, 4, 2], 1));
    net.forward(&mut g, &x).unwrap();
    net
}

#[test]
fn a_composed_layer_is_packed_and_exported_and_outputs_keep_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.safetensors");
    let mut store = Store::seeded(1);
    let net = network(&mut store);
    let plan = Plan::trace(&mut store, &[4, 4, 2], |g, x| {
        let y = net.forward(g, x)?;
        let z = g.relu(&y)?;
        Ok(vec![("positive".into(), z), ("raw".into(), y)])
    });
    let plan = plan.unwrap();
    packed::save(&path, &plan, &BTreeMap::new()).unwrap();
    let (read, _) = packed::load(&path).unwrap();
    assert_eq!((read.summary(), read.outputs()), (plan.summary(), plan.outputs()));
    let x = sample(&[3, 4, 4, 2], 2);
    let found = read.run(x.clone()).unwrap();
    let mut g = Graph::eval(&mut store);
    let x = g.input(x);
    let expected = net.forward(&mut g, &x).unwrap().tensor();
    let bits = |t: &Tensor| t.data().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(found.get("raw").unwrap()), bits(&expected));
    assert_eq!(found.first().data(), expected.data().iter().map(|v| v.max(0.0)).collect::<Vec<_>>());
    for form in [onnx::CodeType::Int8, onnx::CodeType::Float].map(onnx::Form::new) {
        let bytes = onnx::encode(&plan, &onnx::Options { form, ..onnx::Options::default() }).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        for word in ["positive", "raw", "Reshape", "Gemm", "MaxPool", "head.weight"] {
            assert!(text.contains(word), "{word}");
        }
    }
}

#[test]
fn a_layer_that_computes_by_itself_is_refused_by_the_name_of_its_derivative() {
    struct Halved;
    impl Backward for Halved {
        fn name(&self) -> &'static str {
            "halved"
        }
        fn backward(self: Box<Self>, grad: Tensor, _: &mut Cx<'_>) -> Result<Grads> {
            Ok(vec![Some(grad)])
        }
    }
    struct Halve;
    impl Layer for Halve {
        fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
            Ok(g.record(x.tensor(), &[x], || Halved))
        }
    }
    let mut store = Store::seeded(1);
    let net = network(&mut store);
    let net = Sequential::new().push(net).push(Halve);
    let plan = Plan::of(&net, &mut store, &[4, 4, 2]).unwrap();
    assert!(plan.summary().to_string().contains("halved"));
    let e = onnx::encode(&plan, &onnx::Options::default()).unwrap_err().to_string();
    let saved = packed::save("/nowhere/x".as_ref(), &plan, &BTreeMap::new()).unwrap_err().to_string();
    for e in [e, saved] {
        assert!(e.contains("(halved): expected an operation that implements `Operation`, found halved"), "{e}");
    }
}
