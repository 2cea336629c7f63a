//! Imported networks compute in integers: products of two values as well as those with weights, with equal bits everywhere.
//!
//! The instruction set in force and the count of float products belong to the process, so this file has one test.

use fixnet_autograd::{Graph, Store};
use fixnet_export::onnx::import::OnnxModel;
use fixnet_nn::Layer;
use fixnet_nn::checkpoint;
use fixnet_nn::models::{ModelSpec, build};
use fixnet_nn::optim::{Optimizer, OptimizerConfig};
use fixnet_nn::plan::Plan;
use fixnet_quant::{FixedMatmul, QuantConfig};
use fixnet_tensor::float_products;
use fixnet_tensor::kernel::{available_isas, set_isa};
use std::path::Path;

mod numbers;

struct Case {
    file: &'static str,
    input: &'static [usize],
    /// The products of two values.
    products: &'static [&'static str],
}

const CASES: [Case; 5] = [
    Case { file: "tokens17", input: &[8, 8, 3], products: &["matmul", "matmul_2"] },
    Case { file: "class17", input: &[8, 8, 3], products: &["matmul", "matmul_2"] },
    Case { file: "class-dynamo", input: &[8, 8, 3], products: &["matmul", "matmul_2"] },
    Case { file: "steps17", input: &[20, 6], products: &[] },
    Case { file: "steps-dynamo", input: &[20, 6], products: &[] },
];

impl Case {
    fn model(&self) -> ModelSpec {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/onnx/{}.onnx", self.file));
        OnnxModel::new(path, false).into()
    }

    /// The digest after two steps at 4/4/4, and the float products of the second one.
    fn run(&self, edges: Option<u8>) -> (String, u64) {
        let config = QuantConfig { edges, ..QuantConfig::new("4/4/4".parse().unwrap()) };
        let mut store = Store::seeded(3);
        let net = build(&mut store, &self.model(), self.input, 5, &config).unwrap();
        let mut sgd = Optimizer::new(OptimizerConfig { total_steps: 2, ..OptimizerConfig::default() }).unwrap();
        let mut count = 0;
        for _ in 0..2 {
            let before = float_products();
            let mut g = Graph::train(&mut store);
            let x = g.input(numbers::inputs(4, self.input));
            let y = net.forward(&mut g, &x).unwrap();
            let loss = g.cross_entropy(&y, &[0, 1, 2, 3]).unwrap();
            g.backward(loss).unwrap();
            count = float_products() - before;
            sgd.step(&mut store).unwrap();
        }
        let plan = Plan::of(&net, &mut store, self.input).unwrap();
        let products = plan.nodes().iter().filter(|n| n.get::<FixedMatmul>().is_some()).map(|n| n.name());
        assert_eq!(products.collect::<Vec<_>>(), self.products, "{}", self.file);
        (checkpoint::digest(&store, &sgd), count)
    }
}

#[test]
fn imported_networks_have_one_digest_and_no_float_product_inside() {
    for case in &CASES {
        // Of float edges: the first convolution forwards and its weight gradient, the head in all three directions.
        let (digest, count) = case.run(None);
        assert_eq!(count, 2 + 3, "{}", case.file);
        assert_eq!(case.run(Some(8)).1, 0, "{}", case.file);
        for &isa in available_isas() {
            for threads in [1, 2] {
                set_isa(isa).unwrap();
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let found = pool.install(|| case.run(None).0);
                assert_eq!(found, digest, "{}: {isa} with {threads} threads", case.file);
            }
        }
    }
}
