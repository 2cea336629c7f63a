//! Runs that keep their best checkpoint and stop early: the same epoch and the same bits wherever they were killed; and finished
//! runs that are extended, which a recipe replays as they were.

mod common;

use common::{Place, assert_equal, checkpoint, copy, resume, train};
use fixnet_nn::checkpoint::{Checkpoint, previous_path};
use fixnet_nn::optim::Schedule;
use fixnet_train::run::event::{EpochEvent, Event};
use fixnet_train::run::{Folder, History, place};
use fixnet_train::trainer::{Clock, Every, Watcher};
use fixnet_train::{Error, Session, Trained, task};
use std::fs;
use std::path::{Path, PathBuf};

const RECIPE: &str = "[data]\nvalidation = 0.25\n[optimizer]\nlr = 0.3\n[run]\nbatch_size = 4\nepochs = 12\nkeep_best = 'loss'\n\
                      patience = 2\n";

/// What a run leaves that another one must leave too.
const FILES: [&str; 5] =
    ["config.toml", "metrics.jsonl", "digests.jsonl", "checkpoint.safetensors", "best.safetensors"];

/// Copies the folder of a run after each step and each epoch.
struct Snapshots {
    run: PathBuf,
    taken: Vec<PathBuf>,
}

impl Snapshots {
    fn take(&mut self) {
        let to = self.run.with_file_name(format!("snapshot-{}", self.taken.len()));
        copy(&self.run, &to);
        self.taken.push(to);
    }
}

impl Watcher for Snapshots {
    fn step(&mut self, _: &Session<'_>, _: &Clock) {
        self.take();
    }

    fn epoch(&mut self, _: &Session<'_>, _: &Folder, _: &EpochEvent) -> fixnet_train::Result<()> {
        self.take();
        Ok(())
    }
}

#[test]
fn a_run_that_was_killed_anywhere_stops_at_the_same_epoch_and_keeps_the_same_best() {
    let place = Place::new(32);
    let (config, run) = (place.config(RECIPE), place.path("run"));
    let mut snapshots = Snapshots { run: run.clone(), taken: Vec::new() };
    train(&config, &run, Every::Steps(4), &mut snapshots);
    let last = checkpoint(&run);
    let best = last.progress().best.unwrap();
    let epoch = last.progress().epoch;
    assert!(best.stopped && epoch < 12 && best.epoch + 2 == epoch && best.epoch > 1, "{:?}", last.progress());
    // The best value is that of its epoch in the log, which says that the run stopped.
    let history = History::read(&run).unwrap();
    let losses: Vec<f64> = history.epochs.iter().map(|e| e.scores["validation_loss"]).collect();
    assert_eq!(losses[best.epoch as usize - 1], best.value);
    assert!(losses.iter().all(|loss| *loss >= best.value) && losses.len() == epoch as usize);
    let stopped = history.stopped.unwrap();
    assert_eq!((stopped.epoch, stopped.best_epoch), (u64::from(epoch), u64::from(best.epoch)));
    assert_eq!((stopped.score.as_str(), stopped.best), ("validation_loss", best.value));
    // The kept checkpoint has the digest that was recorded at the end of its epoch.
    let kept = Checkpoint::open(&place::existing_best(&run).unwrap()).unwrap();
    assert_eq!((kept.progress().epoch, kept.step()), (best.epoch, 6 * u64::from(best.epoch)));
    assert!(!previous_path(kept.path()).exists());
    let digests = place::digests(&run).unwrap();
    let recorded = digests.iter().find(|event| event.step == kept.step()).unwrap();
    assert_eq!(Trained::open(&config, &kept).unwrap().digest(), recorded.digest);

    assert_eq!(snapshots.taken.len(), 7 * epoch as usize);
    for (i, snapshot) in snapshots.taken.iter().enumerate() {
        if i % 3 == 1 {
            // As if the process had ended between the best checkpoint and the last one.
            fs::copy(run.join("best.safetensors"), snapshot.join("best.safetensors")).unwrap();
        }
        assert_eq!(resume(snapshot, None, Every::Steps(5)).unwrap(), [""; 0]);
        assert_equal(snapshot, &run, &FILES);
    }
    // A finished run is not gone on with.
    resume(&run, None, Every::Steps(1)).unwrap();
    assert_equal(&run, &snapshots.taken[0], &FILES);
    assert!(place::finished(&run, 12).unwrap().is_some());
}

/// What is judged does not change what is learned, nor what is recorded of it.
#[test]
fn the_bits_of_a_run_do_not_depend_on_what_is_kept() {
    let place = Place::new(32);
    let recipe = "[data]\nvalidation = 0.25\n[run]\nbatch_size = 4\nepochs = 3\n";
    let [plain, kept] = ["plain", "kept"].map(|name| place.path(name));
    train(&place.config(recipe), &plain, Every::default(), &mut ());
    train(&place.config(&format!("{recipe}keep_best = 'loss'")), &kept, Every::default(), &mut ());
    assert_equal(&kept, &plain, &["digests.jsonl", "metrics.jsonl"]);
    assert_eq!(checkpoint(&plain).progress().best, None);
    // Without validation data the test data are looked at, and without a metric the first of the task.
    let tested = place.config("[run]\nepochs = 3\nbatch_size = 8\npatience = 3\n");
    let (task, data) = task::load(&tested).unwrap();
    let judge = Session::new(tested, task.clone(), &*data).unwrap().judge().unwrap();
    assert_eq!(judge.score(), format!("test_{}", task.metrics()[0].name));
    assert!(!judge.keeps_best());
    // A run in the place of another one has no part of it.
    assert!(kept.join("best.safetensors").exists());
    train(&place.config(recipe), &kept, Every::default(), &mut ());
    assert!(!kept.join("best.safetensors").exists());
    assert_equal(&kept, &plain, &["checkpoint.safetensors"]);
}

#[test]
fn what_cannot_be_kept_is_an_error() {
    let place = Place::new(16);
    let config = place.config("[run]\nepochs = 1\nkeep_best = 'speed'");
    let (task, data) = task::load(&config).unwrap();
    let e = Session::new(config.clone(), task, &*data).err().unwrap().to_string();
    assert!(
        e.starts_with("run.keep_best: expected a metric of the task (") && e.ends_with("loss), found speed"),
        "{e}"
    );
    // Before data are loaded, all metrics of the task are named.
    let of_task = task::check(&config).unwrap_err().to_string();
    assert!(of_task.starts_with("run.keep_best: ") && of_task.contains("accuracy, top5, loss"), "{of_task}");
    let run = place.path("run");
    train(&place.config("[run]\nepochs = 1\n"), &run, Every::default(), &mut ());
    let e = place::existing_best(&run).unwrap_err();
    assert!(matches!(&e, Error::NoBest { .. }) && e.to_string().contains("without --keep-best METRIC"), "{e}");
    let e = place::existing_best(&place.path("nothing")).unwrap_err();
    assert!(matches!(&e, Error::NoRun { .. }), "{e}");
    // A file that someone removed is named, and the run goes on.
    train(&place.config("[run]\nepochs = 2\nkeep_best = 'loss'"), &run, Every::default(), &mut ());
    fs::remove_file(run.join("best.safetensors")).unwrap();
    let warnings = resume(&run, None, Every::default()).unwrap();
    assert!(warnings.len() == 1 && warnings[0].contains("best.safetensors"), "{warnings:?}");
}

/// The learning rates of all steps of a run.
fn rates(session: &mut Session<'_>) -> Vec<f64> {
    let mut rates = Vec::new();
    while !session.is_finished() {
        match session.step().unwrap() {
            Some(step) => rates.push(step.report.lr),
            None => session.next_epoch().unwrap(),
        }
    }
    rates
}

#[test]
fn an_extended_run_has_the_schedules_of_the_longer_one_from_there_on() {
    let place = Place::new(32);
    let config = place.config("[optimizer]\nlr = 0.1\n[run]\nepochs = 2\nbatch_size = 8\n");
    let run = place.path("run");
    train(&config, &run, Every::default(), &mut ());
    // Not before it is finished, not to fewer epochs.
    let e = resume(&run, Some(1), Every::default()).unwrap_err().to_string();
    assert_eq!(e, "run.epochs: expected at least 3 for a run of 2 after 2 of them, found 1");
    let untouched = place.path("untouched");
    copy(&run, &untouched);
    resume(&run, Some(5), Every::Steps(3)).unwrap();
    let last = checkpoint(&run);
    assert_eq!((last.progress().epoch, last.step()), (5, 20));
    let extended = place::config(&run).unwrap();
    assert_eq!((extended.epochs(), &extended.settings().run.extended[..]), (5, &[[2, 2]][..]));
    let (task, data) = task::load(&extended).unwrap();
    let found = rates(&mut Session::new(extended.clone(), task.clone(), &*data).unwrap());
    let of = |step: u64| Schedule::COSINE.at(0.1, step, if step < 8 { 8 } else { 20 });
    assert_eq!(found, (0..20).map(of).collect::<Vec<_>>());
    // The recipe replays it: the same digests all the way, and the same checkpoint.
    let replayed = place.path("replayed");
    train(&extended, &replayed, Every::default(), &mut ());
    assert_equal(&replayed, &run, &["config.toml", "digests.jsonl", "metrics.jsonl", "checkpoint.safetensors"]);
    // Killed after the recipe was written and before the checkpoint: it goes on with the extension.
    for epochs in [None, Some(5)] {
        let killed = place.path(&format!("killed-{}", epochs.unwrap_or(0)));
        copy(&untouched, &killed);
        fs::copy(run.join("config.toml"), killed.join("config.toml")).unwrap();
        resume(&killed, epochs, Every::default()).unwrap();
        assert_equal(&killed, &run, &["config.toml", "digests.jsonl", "checkpoint.safetensors"]);
    }
    // A recipe that was changed otherwise is refused.
    let text = fs::read_to_string(run.join("config.toml")).unwrap().replace("batch_size = 8", "batch_size = 4");
    fs::write(untouched.join("config.toml"), text).unwrap();
    let e = resume(&untouched, None, Every::default()).unwrap_err().to_string();
    assert!(e.contains("other settings") && e.contains("run.batch_size"), "{e}");
}

fn has_stopped(run: &Path) -> bool {
    place::events(run).unwrap().iter().any(|event| matches!(event, Event::Stopped(_)))
}

#[test]
fn a_run_that_stopped_early_can_be_extended_and_replayed() {
    let place = Place::new(32);
    let run = place.path("run");
    train(&place.config(RECIPE), &run, Every::default(), &mut ());
    let done = checkpoint(&run).progress().epoch;
    assert!(done < 12 && has_stopped(&run));
    resume(&run, Some(14), Every::Steps(4)).unwrap();
    let last = checkpoint(&run);
    assert!(last.progress().epoch > done);
    let extended = place::config(&run).unwrap();
    assert_eq!((extended.epochs(), &extended.settings().run.extended[..]), (14, &[[done, 12]][..]));
    let replayed = place.path("replayed");
    train(&extended, &replayed, Every::default(), &mut ());
    assert_equal(&replayed, &run, &["config.toml", "digests.jsonl", "checkpoint.safetensors"]);
    // The best one may be from before, when the recipe was another.
    let best = |run: &Path| Checkpoint::open(&place::existing_best(run).unwrap()).unwrap();
    let digest = |run: &Path| Trained::open(&extended, &best(run)).unwrap().digest().to_string();
    assert_eq!((best(&run).step(), digest(&run)), (best(&replayed).step(), digest(&replayed)));
}
