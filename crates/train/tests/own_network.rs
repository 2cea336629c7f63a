//! Sessions with a network of one's own, and sessions after a step that failed.

use fixnet_autograd::{Graph, Store, Var};
use fixnet_data::{Augment, Dataset, Labels, Split, digits};
use fixnet_nn::checkpoint::Checkpoint;
use fixnet_nn::layers::{Flatten, Layer, Linear, Relu, Sequential};
use fixnet_train::task::{self, Classification};
use fixnet_train::{Config, Error, Result, Session, Settings};
use std::sync::Arc;

fn config(change: impl FnOnce(&mut Settings)) -> Config {
    let mut settings = Settings::default();
    (settings.run.epochs, settings.run.batch_size) = (1, 512);
    change(&mut settings);
    settings.check().unwrap()
}

fn network(store: &mut Store, config: &Config) -> Result<Box<dyn Layer>> {
    let net = Sequential::new()
        .push(Flatten)
        .push(Linear::quantized(store, "first", [784, 16], config.quant())?)
        .push(Relu)
        .push(Linear::new(store, "last", 16, 10)?);
    Ok(Box::new(net))
}

#[test]
fn a_network_of_ones_own_is_resumed_with_the_same_bits() {
    let (task, data) = Classification::of_split(digits().unwrap());
    let (task, config) = (Arc::new(task), config(|_| ()));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("half.safetensors");
    let mut session = Session::with_network(config.clone(), task.clone(), &data, network).unwrap();
    for _ in 0..4 {
        session.step().unwrap();
    }
    session.save(&path).unwrap();
    session.train_epoch().unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    let mut resumed =
        Session::resumed_with_network(config, task, &data, &checkpoint, network, &mut Vec::new()).unwrap();
    resumed.train_epoch().unwrap();
    assert_eq!(resumed.digest(), session.digest());
}

/// What a regression puts around a model it puts around a network of one's own: answers are in the unit of the target.
#[test]
fn a_network_of_ones_own_learns_a_number_of_a_large_unit() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("prices.csv");
    let rows = (0..60).map(|i| format!("{}.5,{}\n", i % 10, 300_000 + 20_000 * (i % 10))).collect::<String>();
    std::fs::write(&table, format!("size,price\n{rows}")).unwrap();
    let config = config(|settings| {
        settings.task = "regression".into();
        settings.data.source = format!("csv:{}", table.display()).parse().unwrap();
        settings.model.name = "mlp:8".parse().unwrap();
    });
    let (task, data) = task::load(&config).unwrap();
    let own =
        |store: &mut Store, _: &Config| -> Result<Box<dyn Layer>> { Ok(Box::new(Linear::new(store, "l", 1, 1)?)) };
    let mut session = Session::with_network(config, task, &*data, own).unwrap();
    let loss = session.step().unwrap().unwrap().loss;
    assert!(loss < 20.0, "of standardized prices, not of a mean of 390,000: {loss}");
}

/// Fails in its second pass.
struct Second(std::sync::atomic::AtomicU32);

impl Layer for Second {
    fn forward(&self, _: &mut Graph<'_>, x: &Var) -> fixnet_autograd::Result<Var> {
        // The plan is traced in the first.
        match self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            2 => Err(fixnet_autograd::Error::setting("pass", "the first", "the second")),
            _ => Ok(x.clone()),
        }
    }
}

#[test]
fn a_session_takes_no_step_after_one_that_failed_and_is_not_saved() {
    let (task, data) = Classification::of_split(digits().unwrap());
    let build = |store: &mut Store, config: &Config| -> Result<Box<dyn Layer>> {
        Ok(Box::new(Sequential::new().push(network(store, config)?).push(Second(0.into()))))
    };
    let mut session = Session::with_network(config(|_| ()), Arc::new(task), &data, build).unwrap();
    session.diagnose(Some(1));
    session.step().unwrap();
    assert!(session.step().unwrap_err().to_string().contains("expected the first"));
    assert!(matches!(session.step(), Err(Error::Failed { step: 2 })));
    let path = tempfile::tempdir().unwrap().path().join("c.safetensors");
    assert!(matches!(session.save(&path), Err(Error::Failed { .. })));
}

#[test]
fn samples_of_floats_in_the_form_of_images_are_not_varied() {
    let set = |name: &str| {
        let values = (0..8 * 16).map(|i| i as f32 / 7.0).collect();
        Dataset::of_floats(name, &[4, 4, 1], values, Labels::new(name, 2, vec![0, 1, 0, 1, 0, 1, 0, 1]).unwrap())
            .unwrap()
    };
    let (task, data) = Classification::of_split(Split::new(set("train"), set("test")).unwrap());
    let varied = config(|settings| settings.augmentation = Augment { flip: true, ..Augment::default() });
    let build = |store: &mut Store, _: &Config| -> Result<Box<dyn Layer>> {
        Ok(Box::new(Sequential::new().push(Flatten).push(Linear::new(store, "l", 16, 2)?)))
    };
    let e = Session::with_network(varied, Arc::new(task.clone()), &data, build).err().unwrap().to_string();
    assert!(e.contains("expected mixup alone for samples of floats"), "{e}");
    let mut plain = Session::with_network(config(|_| ()), Arc::new(task), &data, build).unwrap();
    plain.train_epoch().unwrap();
}
