//! What the settings of the loss do to a run: a network that sees nothing of its classes learns how often each counts.

mod common;

use common::Place;
use fixnet_autograd::Graph;
use fixnet_tensor::Tensor;
use fixnet_train::task::Part;
use fixnet_train::{Config, Error, Session, task};
use std::fmt::Write;

/// The probability of the rare class, of one sample in ten, that a network learns whose input says nothing of the class.
fn rare(settings: &str) -> Result<f64, Error> {
    let place = Place::new(4);
    let mut rows = String::from("x,class\n");
    for i in 0..400 {
        // Both values of x have one rare sample in ten.
        let _ = writeln!(rows, "{},{}", i % 2, if i / 2 % 10 == 0 { "rare" } else { "common" });
    }
    let file = place.path("rows.csv");
    std::fs::write(&file, rows).unwrap();
    let recipe = format!(
        "data.source = 'csv:{}'\nmodel.name = 'mlp:4'\nquantization.bits = '32/32/32'\noptimizer.lr = 0.1\n\
         run.epochs = 20\nrun.batch_size = 20\n{settings}",
        file.display()
    );
    let config = Config::from_toml(&recipe, "recipe")?;
    let (task, data) = task::load(&config)?;
    let names = task.class_names().unwrap().to_vec();
    let mut session = Session::new(config, task, &*data)?;
    while !session.is_finished() {
        session.train_epoch()?;
    }
    let (net, store, _) = session.parts();
    let mut g = Graph::eval(store);
    let x = g.input(Tensor::zeros(&[1, 1]));
    let logits = net.forward(&mut g, &x)?.tensor();
    let exp: Vec<f64> = logits.data().iter().map(|v| f64::from(*v).exp()).collect();
    Ok(exp[names.iter().position(|name| name == "rare").unwrap()] / exp.iter().sum::<f64>())
}

#[test]
fn classes_count_as_often_as_their_weights_say() {
    let close = |found: f64, expected: f64| assert!((found - expected).abs() < 0.04, "{found}, expected {expected}");
    close(rare("").unwrap(), 0.1);
    close(rare("loss.class_weights = 'balanced'").unwrap(), 0.5);
    // Classes are in the order of their names: 9 · 1 against 1 · 3.
    close(rare("loss.class_weights = [1, 3]").unwrap(), 0.25);
    // 0.5 · 0.1 + 0.5 / 2.
    close(rare("loss.label_smoothing = 0.5").unwrap(), 0.3);
    let e = rare("loss.class_weights = [1, 3, 1]").unwrap_err().to_string();
    assert!(e.contains("loss.class_weights") && e.contains("2 weights"), "{e}");
}

/// Of more than ten classes the five most probable are looked at too, in training and in evaluation.
#[test]
fn many_classes_have_a_top_five() {
    let scores = |classes: usize| {
        let place = Place::new(4);
        let mut rows = String::from("x,y,class\n");
        for i in 0..10 * classes {
            let angle = i as f64 / classes as f64 * std::f64::consts::TAU;
            let _ = writeln!(rows, "{:.6},{:.6},c{:02}", angle.sin(), angle.cos(), i % classes);
        }
        let file = place.path("rows.csv");
        std::fs::write(&file, rows).unwrap();
        let recipe = format!(
            "data.source = 'csv:{}'\nmodel.name = 'mlp:16'\noptimizer.lr = 0.05\nrun.epochs = 5\nrun.batch_size = 8",
            file.display()
        );
        let config = Config::from_toml(&recipe, "recipe").unwrap();
        let (task, data) = task::load(&config).unwrap();
        let mut session = Session::new(config, task, &*data).unwrap();
        for _ in 0..5 {
            session.train_epoch().unwrap();
        }
        session.evaluate(Part::Test, || false).unwrap().unwrap()
    };
    let few = scores(10);
    assert_eq!(few.get("top5"), None);
    let many = scores(11);
    let [accuracy, top] = ["accuracy", "top5"].map(|name| many.get(name).unwrap());
    assert!(top > accuracy && top > 5.0 / 11.0 && top <= 1.0, "{accuracy} {top}");
}
