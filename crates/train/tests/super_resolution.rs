//! Super-resolution in memory: a run that is saved and resumed within an epoch, on another number of threads, ends with the
//! bits of one that was not; its checkpoint knows its pictures; and bicubic interpolation has the numbers that are published.

mod common;

use common::{finish, on};
use fixnet_data::{Pairs, Picture, bicubic};
use fixnet_nn::checkpoint::Checkpoint;
use fixnet_train::session::Session;
use fixnet_train::task::super_resolution::judge;
use fixnet_train::task::{self, Part};
use fixnet_train::{Config, Settings};

fn config(more: &[(&str, toml::Value)]) -> Config {
    let mut settings = Settings::find("photos-x2").unwrap();
    for (key, value) in [
        ("model.name", "edsr:n1-f8".into()),
        ("data.patch", 9.into()),
        ("data.patches", 3.into()),
        ("run.epochs", 2.into()),
        ("run.batch_size", 4.into()),
    ] {
        settings.set(key, value).unwrap();
    }
    for (key, value) in more {
        settings.set(key, value.clone()).unwrap();
    }
    settings.check().unwrap()
}

#[test]
fn a_resumed_run_ends_with_the_same_bits() {
    for bits in ["32/32/32", "4/4/4"] {
        let config = config(&[("quantization.bits", bits.into())]);
        let (task, data) = task::load(&config).unwrap();
        assert_eq!((data.len(Part::Train), data.len(Part::Test)), (7 * 3, 2));
        let whole = on(1, || finish(&mut Session::new(config.clone(), task.clone(), &*data).unwrap()));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.safetensors");
        on(2, || {
            let mut session = Session::new(config.clone(), task.clone(), &*data).unwrap();
            (0..4).for_each(|_| drop(session.step().unwrap().unwrap()));
            session.save(&path).unwrap();
        });
        let checkpoint = Checkpoint::open(&path).unwrap();
        let resumed = on(3, || {
            let session = Session::resumed(config.clone(), task.clone(), &*data, &checkpoint, &mut Vec::new());
            finish(&mut session.unwrap())
        });
        assert_eq!(resumed, whole, "{bits}");

        // Other pictures are refused by name, and another scale before it is built.
        let mut other = config.settings().clone();
        other.set("data.validation", 0.3.into()).unwrap();
        let other = other.check().unwrap();
        let (task, data) = task::load(&other).unwrap();
        let e = Session::resumed(other, task, &*data, &checkpoint, &mut Vec::new()).err().unwrap().to_string();
        assert!(e.contains("data photos: expected the training images that the run began with"), "{e}");
    }
}

#[test]
fn every_scale_and_convention_learns() {
    for model in ["edsr:x3-n1-f8-body", "edsr:x4-n1-f8-r0.5"] {
        let config = config(&[("model.name", model.into()), ("run.epochs", 12.into()), ("optimizer.lr", 0.005.into())]);
        let (task, data) = task::load(&config).unwrap();
        let mut session = Session::new(config, task, &*data).unwrap();
        let mut scores = Vec::new();
        while !session.is_finished() {
            if session.step().unwrap().is_none() {
                scores.push(session.seen().get("loss").unwrap());
                session.next_epoch().unwrap();
            }
        }
        assert!(scores[11] < 0.6 * scores[0], "{model}: {scores:?}");
        let test = session.evaluate(Part::Test, || false).unwrap().unwrap();
        assert!(test.get("psnr").unwrap() > 10.0 && test.samples == 2, "{test:?}");
    }
}

/// With the pairs of Set5 at a scale of 2 (files `…_LR.png`, `…_HR.png`), whose small pictures MATLAB made, in the folder that
/// `FIXNET_SET5_X2` names: our small pictures are these to the bit, and bicubic enlarging gives the published 33.66 dB.
#[test]
fn bicubic_is_the_published_one() {
    let Some(folder) = std::env::var_os("FIXNET_SET5_X2") else {
        println!("skipped: FIXNET_SET5_X2 names no folder");
        return;
    };
    let pairs = Pairs::read_pairs(folder.as_ref(), 2).unwrap();
    let mut psnr = 0.0;
    for i in 0..pairs.len() {
        let (small, large) = pairs.pair(i).unwrap();
        let ours: Picture = bicubic(&large, small.height(), small.width()).unwrap();
        assert!(ours == small, "{}", pairs.name_of(i));
        let judged = judge(&bicubic(&small, large.height(), large.width()).unwrap(), &large, 2).unwrap();
        println!("{}: {judged:?}", pairs.name_of(i));
        psnr += judged.psnr / pairs.len() as f64;
    }
    println!("mean {psnr:.4} dB");
    assert!((psnr - 33.66).abs() < 0.05, "{psnr}");
}
