//! Runs whose network is an ONNX file: the file may go, may not change, and is told apart from what it is not.

use fixnet_data::digits;
use fixnet_nn::checkpoint::Checkpoint;
use fixnet_train::task::Classification;
use fixnet_train::{Config, Error, Predictor, Session, Settings, Trained};
use std::path::Path;
use std::sync::Arc;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../export/tests/fixtures/onnx/small17.onnx");

fn config(model: &str) -> Config {
    let mut settings = Settings::default();
    settings.set("model.name", model.into()).unwrap();
    (settings.run.epochs, settings.run.batch_size) = (1, 64);
    settings.check().unwrap()
}

#[test]
fn a_run_goes_on_without_its_file_and_notices_another_one() {
    let folder = tempfile::tempdir().unwrap();
    let (file, path) = (folder.path().join("net.onnx"), folder.path().join("checkpoint.safetensors"));
    std::fs::copy(FILE, &file).unwrap();
    let config = config(&file.display().to_string());
    let (task, data) = Classification::of_split(digits().unwrap());
    let task = Arc::new(task);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut session = Session::new(config.clone(), task.clone(), &data).unwrap();
            for _ in 0..2 {
                session.step().unwrap();
            }
            session.save(&path).unwrap();
            for _ in 0..2 {
                session.step().unwrap();
            }
            session.digest()
        })
    };
    let digest = run(1);
    assert_eq!(digest, run(2));
    let checkpoint = Checkpoint::open(&path).unwrap();
    assert!(checkpoint.metadata()["onnx.graph"].len() < 12_000);
    let resumed = || Session::resumed(config.clone(), task.clone(), &data, &checkpoint, &mut Vec::new());
    std::fs::write(&file, b"another file").unwrap();
    let e = resumed().err().unwrap();
    assert!(matches!(e, Error::ChangedModel { .. }), "{e}");
    assert!(e.to_string().contains("net.onnx: expected the file that the run began with"), "{e}");
    std::fs::remove_file(&file).unwrap();
    let mut session = resumed().unwrap();
    for _ in 0..2 {
        session.step().unwrap();
    }
    assert_eq!(session.digest(), digest);
    Trained::open(&config, &checkpoint).unwrap();
    Predictor::load(&path).unwrap();
}

#[test]
fn what_does_not_fit_is_told_before_training() {
    let (task, data) = Classification::of_split(digits().unwrap());
    let task = Arc::new(task);
    let error = |model: &str| Session::new(config(model), task.clone(), &data).err().unwrap().to_string();
    let e = error("/nowhere/net.onnx");
    assert!(e.starts_with("/nowhere/net.onnx: "), "{e}");
    let other = Path::new(FILE).with_file_name("residual13.onnx").display().to_string();
    let e = error(&other);
    assert!(e.contains("input `image`: expected [batch, 3, 8, 8], found [1, 28, 28]"), "{e}");
    let mut session = Session::new(config(&format!("{FILE}:new-head")), task.clone(), &data).unwrap();
    session.step().unwrap();
    assert!(session.config().starts_from_weights());
}
