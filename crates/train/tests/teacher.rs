//! A network that learns the probabilities of another one: the same bits however it is trained, and only from the network that it
//! began with.

mod common;

use common::{Place, checkpoint, finish, on, resume, train};
use fixnet_data::{DataDescription, Normalize};
use fixnet_export::packed;
use fixnet_nn::checkpoint::Checkpoint;
use fixnet_tensor::Tensor;
use fixnet_train::task::{self, Teacher};
use fixnet_train::trainer::Every;
use fixnet_train::{Config, Session};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const FLOAT: &str = "quantization.bits = '32/32/32'\noptimizer.lr = 0.1\nrun.epochs = 4\nrun.batch_size = 8\n";

/// A trained teacher of floats, and the recipe of a network that learns from it.
fn teacher(place: &Place) -> (PathBuf, String) {
    let path = place.path("teacher");
    train(&place.config(FLOAT), &path, Every::default(), &mut ());
    let recipe = student(&path);
    (path, recipe)
}

/// What a run recorded of its data.
fn description(run: &Path) -> DataDescription {
    DataDescription::read_from("run", checkpoint(run).metadata()).unwrap().unwrap()
}

fn student(teacher: &Path) -> String {
    format!(
        "[quantization]\nbits = '2/2/4'\n[optimizer]\nlr = 0.05\n[augmentation]\nshift = 0.1\n[loss]\nteacher = '{}'\n\
         [run]\nepochs = 2\nbatch_size = 8\nseed = 3\n",
        teacher.display()
    )
}

fn session(config: &Config, work: impl FnOnce(&mut Session<'_>) -> String) -> String {
    let (task, data) = task::load(config).unwrap();
    work(&mut Session::new(config.clone(), task, &*data).unwrap())
}

#[test]
fn a_run_with_a_teacher_has_one_digest() {
    let place = Place::new(30);
    let (path, recipe) = teacher(&place);
    let config = place.config(&recipe);
    let whole = session(&config, finish);
    // Labels are learned otherwise.
    let mut labels = config.settings().clone();
    labels.loss.teacher = None;
    assert_ne!(session(&labels.check().unwrap(), finish), whole);
    for threads in [1, 2] {
        assert_eq!(on(threads, || session(&config, finish)), whole, "{threads} threads");
    }
    // The same network as a checkpoint, and as a packed file.
    let file = place.path("packed.safetensors");
    let mut trained = fixnet_train::Trained::open(&place.config(FLOAT), &checkpoint(&path)).unwrap();
    let metadata = BTreeMap::from([("config".to_string(), place.config(FLOAT).to_toml().unwrap())]);
    packed::save(&file, &trained.plan().unwrap(), &metadata).unwrap();
    let description = description(&path);
    let mut prints = Vec::new();
    for other in [path.join("checkpoint.safetensors"), file] {
        assert_eq!(session(&place.config(&student(&other)), finish), whole, "{}", other.display());
        let teacher = Teacher::open(&other.display().to_string(), &description).unwrap();
        prints.push(teacher.fingerprint().to_string());
    }
    assert_eq!(prints[0], prints[1]);
    // Saved in the middle and resumed.
    let saved = place.path("c.safetensors");
    session(&config, |session| {
        (0..3).for_each(|_| drop(session.step().unwrap().unwrap()));
        session.save(&saved).unwrap();
        session.digest()
    });
    let saved = Checkpoint::open(&saved).unwrap();
    assert_eq!(saved.metadata()["teacher"], prints[0]);
    let (task, data) = task::load(&config).unwrap();
    let mut resumed = Session::resumed(config.clone(), task, &*data, &saved, &mut Vec::new()).unwrap();
    assert_eq!(finish(&mut resumed), whole);
}

#[test]
fn only_the_first_teacher_is_learned_from() {
    let place = Place::new(30);
    let (path, recipe) = teacher(&place);
    let run = place.path("student");
    train(&place.config(&recipe), &run, Every::default(), &mut ());
    resume(&run, Some(3), Every::default()).unwrap();
    // Another network in its place.
    let other = FLOAT.replace("0.1", "0.2");
    train(&place.config(&other), &path, Every::default(), &mut ());
    let e = resume(&run, Some(4), Every::default()).unwrap_err().to_string();
    assert!(e.starts_with("loss.teacher: expected the network that the run began with"), "{e}");
    assert!(e.contains("checkpoint.safetensors") && e.contains("put the first one back"), "{e}");
    // None at all.
    std::fs::remove_dir_all(&path).unwrap();
    let e = resume(&run, Some(4), Every::default()).unwrap_err().to_string();
    assert!(e.starts_with("loss.teacher: ") && e.contains("teacher: expected the folder of a run"), "{e}");
}

#[test]
fn teachers_that_do_not_fit_are_refused() {
    let place = Place::new(30);
    let begin = |recipe: &str| {
        let config = place.config(recipe);
        let (task, data) = task::load(&config).unwrap();
        Session::new(config, task, &*data).err().map(|e| e.to_string())
    };
    let (path, recipe) = teacher(&place);
    assert_eq!(begin(&recipe), None);
    // A table of other classes, and a regression.
    let rows: String = (0..40).map(|i| format!("{i},{},{}\n", i % 5, i % 3)).collect();
    let table = place.path("rows.csv");
    std::fs::write(&table, format!("x,y,class\n{rows}")).unwrap();
    for (task, target, word) in [
        ("classification", "class", "expected a network for inputs of the shape [8, 8, 1]"),
        ("regression", "y", "expected a classifier"),
    ] {
        let text = format!(
            "task = '{task}'\ndata.source = 'csv:{}'\ndata.target = '{target}'\nmodel.name = 'mlp:4'\nrun.epochs = 1\n",
            table.display()
        );
        let other = place.path(task);
        train(&Config::from_toml(&text, "recipe").unwrap(), &other, Every::default(), &mut ());
        let e = begin(&student(&other)).unwrap();
        assert!(e.starts_with("loss.teacher: ") && e.contains(word), "{e}");
    }
    // As many inputs, of other classes.
    let mut more = description(&path);
    more.classes = 3;
    let e = Teacher::open(&path.display().to_string(), &more).unwrap_err().to_string();
    assert!(e.contains("expected a network of 3 classes, found"), "{e}");
}

/// A teacher sees pixels by its own normalization, whatever that of the data is.
#[test]
fn a_teacher_sees_pixels_as_it_was_trained() {
    let place = Place::new(30);
    let (path, _) = teacher(&place);
    let description = description(&path);
    let teacher = Teacher::open(&path.display().to_string(), &description).unwrap();
    let pixels = Tensor::from_vec(&[2, 8, 8, 1], (0..128).map(|i| (i * 37 % 256) as f32 / 255.0).collect()).unwrap();
    let of = |normalize: &Normalize| {
        teacher.probabilities(&normalize.apply(&pixels).unwrap(), normalize).unwrap().data().to_vec()
    };
    let own = of(&description.normalize);
    assert!((own[..10].iter().sum::<f32>() - 1.0).abs() < 1e-6);
    for other in [Normalize::none(1), Normalize::new(vec![0.4], vec![0.1]).unwrap()] {
        let near = of(&other).iter().zip(&own).all(|(a, b)| (a - b).abs() < 1e-4);
        assert!(near, "{other:?}");
    }
}
