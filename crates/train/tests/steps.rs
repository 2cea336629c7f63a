//! Steps over several batches, and parameters in groups, in runs of a recipe.

mod common;

use common::{Place, finish};
use fixnet_data::Picture;
use fixnet_nn::checkpoint::Checkpoint;
use fixnet_train::session::Session;
use fixnet_train::{Config, Settings, task};

fn config(place: &Place, bits: &str, size: usize, accumulate: usize) -> Config {
    place.config(&format!(
        "[quantization]\nbits = '{bits}'\n[optimizer]\nlr = 0.05\n[run]\nepochs = 2\nbatch_size = {size}\naccumulate = {accumulate}\n"
    ))
}

/// A network without batch norm, whose numbers do not depend on how samples come together, on pictures: those of fixnet, or those
/// in a folder.
fn pictures(source: &str, bits: &str, size: usize, accumulate: usize) -> Config {
    let mut settings = Settings::find("photos-x2").unwrap();
    settings.data.source = source.parse().unwrap();
    settings.model.name = "edsr:n1-f8".parse().unwrap();
    (settings.data.patch, settings.data.patches, settings.quantization.bits) = (9, 3, bits.parse().unwrap());
    (settings.run.epochs, settings.run.batch_size, settings.run.accumulate) = (2, size, accumulate);
    settings.check().unwrap()
}

/// The losses of all steps, and the parameters at the end.
fn run(config: Config) -> (Vec<f64>, Vec<Vec<f32>>) {
    let (task, data) = task::load(&config).unwrap();
    let mut session = Session::new(config, task, &*data).unwrap();
    let mut losses = Vec::new();
    while !session.is_finished() {
        match session.step().unwrap() {
            Some(step) => losses.push(step.loss),
            None => session.next_epoch().unwrap(),
        }
    }
    assert_eq!(session.total_steps(), losses.len() as u64);
    (losses, session.store().params().iter().map(|p| p.value.data().to_vec()).collect())
}

#[test]
fn batches_in_parts_make_the_step_of_the_whole() {
    // 21 patches; also where the last part of a step has fewer samples than the others: 8, 8 and 5.
    for (size, accumulate, whole, steps) in [(4, 2, 8, 3), (8, 3, 21, 1), (5, 9, 21, 1)] {
        let (losses, found) = run(pictures("photos", "32/32/32", size, accumulate));
        let (expected_losses, expected) = run(pictures("photos", "32/32/32", whole, 1));
        assert_eq!((losses.len(), expected_losses.len()), (2 * steps, 2 * steps));
        let close = |a: f64, b: f64| (a - b).abs() < 1e-5;
        assert!(losses.iter().zip(&expected_losses).all(|(a, b)| close(*a, *b)), "{losses:?} {expected_losses:?}");
        for (a, b) in found.iter().flatten().zip(expected.iter().flatten()) {
            assert!(close(f64::from(*a), f64::from(*b)), "{size} {a} {b}");
        }
    }
}

/// Of equal samples all batches have the same gradient but for its rounding: the mean of two is that of one, to the bit, unless
/// their noise differs.
#[test]
fn each_batch_of_a_step_draws_noise_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    for part in ["train", "test"] {
        let pixels = [200, 120, 40].repeat(40 * 40);
        let path = folder.path().join(part);
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("plain.png"), Picture::new(40, 40, pixels).unwrap().to_png().unwrap()).unwrap();
    }
    let source = format!("photos:{}", folder.path().display());
    let digest = |bits: &str, accumulate| {
        let config = pictures(&source, bits, 1, accumulate);
        let (task, data) = task::load(&config).unwrap();
        let mut session = Session::new(config, task, &*data).unwrap();
        session.step().unwrap().unwrap();
        session.digest()
    };
    assert_eq!(digest("32/32/32", 1), digest("32/32/32", 2));
    assert_ne!(digest("4/4/4", 1), digest("4/4/4", 2));
}

#[test]
fn a_run_that_is_resumed_between_steps_of_several_batches_has_the_same_bits() {
    let place = Place::new(30);
    // 8 batches are steps of 3, 3 and 2.
    let config = config(&place, "4/4/4", 4, 3);
    let (task, data) = task::load(&config).unwrap();
    let new = || Session::new(config.clone(), task.clone(), &*data).unwrap();
    let whole = finish(&mut new());
    let path = place.path("c.safetensors");
    for steps in 0..3 {
        let mut session = new();
        (0..steps).for_each(|_| drop(session.step().unwrap().unwrap()));
        assert_eq!((session.progress().batches, session.store().step()), (3 * steps, steps));
        session.save(&path).unwrap();
        let checkpoint = Checkpoint::open(&path).unwrap();
        let resumed = Session::resumed(config.clone(), task.clone(), &*data, &checkpoint, &mut Vec::new());
        assert_eq!(finish(&mut resumed.unwrap()), whole, "{steps}");
        // In steps of other lengths its place is none.
        if steps > 0 {
            let mut other = config.settings().clone();
            other.run.accumulate = 2;
            let e = Session::resumed(other.check().unwrap(), task.clone(), &*data, &checkpoint, &mut Vec::new());
            let e = e.err().unwrap().to_string();
            assert!(e.contains("its parts contradict each other"), "{e}");
        }
    }
    let mut session = new();
    (0..3).for_each(|_| drop(session.step().unwrap().unwrap()));
    assert!(session.digest_is_due() && session.epoch_is_over() && session.step().unwrap().is_none());
}

#[test]
fn frozen_parameters_keep_their_bits() {
    let place = Place::new(24);
    for (bits, optimizer) in [("4/4/4", "sgd"), ("2/2/4", "sgdt"), ("32/32/32", "adam")] {
        let recipe = format!(
            "[quantization]\nbits = '{bits}'\nfirst_last_bits = 4\n[optimizer]\nname = '{optimizer}'\nscale_lr = 0.01\n\
             [[optimizer.groups]]\nmatch = 'fc1.*'\nfrozen = true\n[run]\nepochs = 2\nbatch_size = 8\n"
        );
        let config = place.config(&recipe);
        let (task, data) = task::load(&config).unwrap();
        let mut session = Session::new(config.clone(), task.clone(), &*data).unwrap();
        let values = |session: &Session<'_>| -> Vec<(String, Vec<f32>)> {
            let of = |p: &fixnet_autograd::Param| (p.name().to_string(), p.value.data().to_vec());
            session.store().params().iter().map(of).collect()
        };
        // The first batch sets the scales of inputs.
        session.step().unwrap().unwrap();
        let before = values(&session);
        let path = place.path("c.safetensors");
        session.save(&path).unwrap();
        let digest = finish(&mut session);
        let is_frozen = |name: &str| name.starts_with("fc1.");
        assert!(before.iter().filter(|(name, _)| is_frozen(name)).count() >= 2, "{before:?}");
        let mut moved = 0;
        for ((name, before), (_, after)) in before.iter().zip(&values(&session)) {
            assert!(!is_frozen(name) || before == after, "{name} at {bits}");
            moved += usize::from(before != after);
        }
        assert!(moved >= 2, "{bits}");
        let checkpoint = Checkpoint::open(&path).unwrap();
        let resumed = Session::resumed(config, task, &*data, &checkpoint, &mut Vec::new());
        assert_eq!(finish(&mut resumed.unwrap()), digest, "{bits}");
    }
}

#[test]
fn groups_change_how_their_parameters_move() {
    let place = Place::new(24);
    let last = |groups: &str| {
        let recipe = format!(
            "[quantization]\nbits = '32/32/32'\n[optimizer]\nlr = 0.1\n{groups}[run]\nepochs = 1\nbatch_size = 24\n"
        );
        let config = place.config(&recipe);
        let (task, data) = task::load(&config).unwrap();
        let mut session = Session::new(config, task, &*data).unwrap();
        let before = session.store().value("fc1.weight").unwrap().data()[0];
        session.step().unwrap().unwrap();
        f64::from(session.store().value("fc1.weight").unwrap().data()[0] - before)
    };
    let whole = last("weight_decay = 0.0\n");
    let half = last("weight_decay = 0.0\n[[optimizer.groups]]\nmatch = 'fc1.*'\nlr_factor = 0.5\n");
    assert!((half - whole / 2.0).abs() < 1e-6 && whole != 0.0, "{half} {whole}");
    let same = last("weight_decay = 0.3\n[[optimizer.groups]]\nmatch = '*'\nweight_decay = 0.0\n");
    assert_eq!(same, whole);
    let clipped = last("weight_decay = 0.0\n[[optimizer.groups]]\nmatch = 'fc1.*'\nclip_norm = 1e-9\n");
    assert!(clipped.abs() < 1e-8);
}

#[test]
fn a_pattern_that_matches_nothing_is_known_before_the_first_step() {
    let place = Place::new(16);
    let new = |group: &str| {
        let config = place.config(&format!("[[optimizer.groups]]\n{group}\n"));
        let (task, data) = task::load(&config).unwrap();
        Session::new(config, task, &*data).err().unwrap().to_string()
    };
    let e = new("match = 'conv7.*'\nfrozen = true");
    assert!(e.starts_with("optimizer.groups: ") && e.contains("`conv7.*`") && e.contains("fc1.weight"), "{e}");
    assert_eq!(
        new("match = '*'\nfrozen = true"),
        "optimizer.groups: expected groups that leave a parameter to learn, found all of them frozen"
    );
}
