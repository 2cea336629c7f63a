//! Detection in memory: a run that is saved and resumed, on another number of threads and another instruction set, ends with the bits of
//! one that was not; its checkpoint knows its canvas; and no product of floats is computed inside quantized layers.
//!
//! The instruction set in force and the count of float products belong to the process, so one test runs at a time.

mod common;

use common::{finish, on};
use fixnet_autograd::Store;
use fixnet_export::torch::{self, Names};
use fixnet_nn::checkpoint::{Checkpoint, Pretrained, TensorFile};
use fixnet_tensor::float_products;
use fixnet_tensor::kernel::{available_isas, set_isa};
use fixnet_train::init::Weights;
use fixnet_train::session::Session;
use fixnet_train::task::{self, Part};
use fixnet_train::{Config, Settings};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

const ONE_STAGE: &str = "retinanet:r18-w0.05-l3to5-c8-n1-a16";
const TWO_STAGES: &str = "fasterrcnn:r18-w0.05-l3to5-c8-f16-p20-s32-a16";
const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/tests/data/detection");

fn config(more: &[(&str, toml::Value)]) -> Config {
    let mut settings = Settings::find("digits-detect").unwrap();
    for (key, value) in [
        ("data.source", format!("coco:{DATA}/coco").into()),
        ("data.image_size", 64.into()),
        ("model.name", ONE_STAGE.into()),
        ("augmentation.flip", true.into()),
        ("augmentation.contrast", 0.2.into()),
        ("detection.scale", 0.3.into()),
        ("detection.crop", 0.2.into()),
        ("detection.mosaic", 0.5.into()),
        ("run.epochs", 4.into()),
        ("run.batch_size", 1.into()),
    ] {
        settings.set(key, value).unwrap();
    }
    for (key, value) in more {
        settings.set(key, value.clone()).unwrap();
    }
    settings.check().unwrap()
}

fn alone() -> MutexGuard<'static, ()> {
    static PROCESS: Mutex<()> = Mutex::new(());
    PROCESS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_resumed_run_ends_with_the_same_bits() {
    let _alone = alone();
    for (model, bits) in
        [(ONE_STAGE, "32/32/32"), (ONE_STAGE, "4/4/4"), (TWO_STAGES, "32/32/32"), (TWO_STAGES, "4/4/4")]
    {
        let config = config(&[("quantization.bits", bits.into()), ("model.name", model.into())]);
        let (task, data) = task::load(&config).unwrap();
        assert_eq!((data.len(Part::Train), data.len(Part::Test)), (1, 1));
        let start = || Session::new(config.clone(), task.clone(), &*data).unwrap();
        let whole = on(1, || finish(&mut start()));
        for &isa in available_isas() {
            set_isa(isa).unwrap();
            assert_eq!(on(2, || finish(&mut start())), whole, "{model} at {bits} on {isa:?}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.safetensors");
        on(2, || {
            let mut session = start();
            while session.store().step() < 2 {
                if session.step().unwrap().is_none() {
                    session.next_epoch().unwrap();
                }
            }
            session.save(&path).unwrap();
        });
        let checkpoint = Checkpoint::open(&path).unwrap();
        let resumed = on(3, || {
            let session = Session::resumed(config.clone(), task.clone(), &*data, &checkpoint, &mut Vec::new());
            finish(&mut session.unwrap())
        });
        assert_eq!(resumed, whole, "{model} at {bits}");

        // Another canvas is refused, and so are other images.
        for (key, value, words) in [
            ("data.image_size", 96.into(), "64"),
            ("data.source", toml::Value::from(format!("voc:{DATA}/voc")), "expected"),
        ] {
            let mut other = config.settings().clone();
            other.set(key, value).unwrap();
            let other = other.check().unwrap();
            let (task, data) = task::load(&other).unwrap();
            let e = Session::resumed(other, task, &*data, &checkpoint, &mut Vec::new()).err().unwrap().to_string();
            assert!(e.contains(words) && e.contains("data"), "{e}");
        }
    }
}

/// How many float products one step takes.
fn float_products_of_a_step(more: &[(&str, toml::Value)]) -> u64 {
    let config = config(more);
    let (task, data) = task::load(&config).unwrap();
    let mut session = Session::new(config, task, &*data).unwrap();
    let before = float_products();
    session.step().unwrap().unwrap();
    float_products() - before
}

#[test]
fn no_float_product_is_computed_inside_quantized_layers() {
    let _alone = alone();
    for (model, last) in [
        // Both last convolutions on each of three levels.
        (ONE_STAGE, 2 * 3),
        // So it is for anchors; and two linear layers for all regions of the batch.
        (TWO_STAGES, 2 * 3 + 2),
    ] {
        let model = ("model.name", model.into());
        // Two of the first convolution, and three of each last one.
        assert_eq!(float_products_of_a_step(std::slice::from_ref(&model)), 2 + 3 * last, "{model:?}");
        let edges = ("quantization.first_last_bits", 8.into());
        assert_eq!(float_products_of_a_step(&[model.clone(), edges.clone()]), 0, "{model:?}");
        // The count can count.
        assert!(float_products_of_a_step(&[model, edges, ("quantization.bits", "4/4/32".into())]) > 0);
    }
}

#[test]
fn what_does_not_fit_a_detector_is_named() {
    let refused = |more: &[(&str, toml::Value)]| task::load(&config(more)).err().unwrap().to_string();
    let e = refused(&[("model.name", "lenet".into())]);
    assert!(e.contains("model.name") && e.contains("retinanet"), "{e}");
    let e = refused(&[("augmentation.rotation", 5.0.into())]);
    assert!(e.contains("flip, brightness, contrast and saturation alone"), "{e}");
    let e = refused(&[("data.source", "folder:nowhere".into())]);
    assert!(e.contains("digits-detect, voc:FOLDER, coco:FOLDER or yolo:FOLDER"), "{e}");
}

/// Weights of a classifier, of PyTorch and of fixnet, are those of the network below the pyramid.
#[test]
fn a_detector_begins_with_the_weights_of_a_classifier() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut settings = Settings::find("photo-digits").unwrap();
    settings.set("model.name", "mobilenetv2-imagenet:w0.05".into()).unwrap();
    settings.set("quantization.bits", "32/32/32".into()).unwrap();
    let classifier = settings.check().unwrap();
    let (task, data) = task::load(&classifier).unwrap();
    let mut session = Session::new(classifier, task, &*data).unwrap();
    session.save(&path("fixnet.safetensors")).unwrap();
    let plan = session.plan().unwrap();
    let arrays = torch::state_dict(&Pretrained::of(session.store()), &plan, Names::Torchvision, 0).unwrap();
    TensorFile::save(&path("torch.safetensors"), &arrays, &BTreeMap::new()).unwrap();
    let of = |store: &Store, name: &str| store.param(store.find(name).unwrap()).value.data().to_vec();
    let expected = of(session.store(), "features.3.conv.0.0.weight");
    for model in ["retinanet:m2-w0.05-l3to5-c8-n1-a16", "fasterrcnn:m2-w0.05-frozen-l3to5-c8-f16-p20-s32-a16"] {
        let config = config(&[("model.name", model.into())]);
        let (task, data) = task::load(&config).unwrap();
        let file = TensorFile::read(&path("torch.safetensors")).unwrap();
        let plan = torch::plan_of(config.model(), task.input_shape(), 1).unwrap();
        let imported = torch::translate(&file, &plan);
        assert_eq!(imported.tensors["backbone.body.3.conv.0.0.weight"].data(), expected, "{model}");
        assert!(!imported.misfits.iter().any(|line| line.starts_with("`backbone.body.")), "{:?}", imported.misfits);
        let weights = Weights::open(path("fixnet.safetensors").to_str().unwrap()).unwrap();
        let mut notes = Vec::new();
        let session = Session::begin(config, task, &*data, Some(&weights), &mut notes).unwrap();
        assert_eq!(of(session.store(), "backbone.body.3.conv.0.0.weight"), expected, "{model}");
        assert!(notes.iter().any(|note| note.contains("backbone.fpn")), "{notes:?}");
    }
}
