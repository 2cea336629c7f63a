//! A binary network is trained in two steps: binary activations before weights of floats, then binary weights too.

mod common;

use common::{Place, checkpoint, finish, resume, train};
use fixnet_nn::checkpoint::Checkpoint;
use fixnet_train::init::Weights;
use fixnet_train::task;
use fixnet_train::trainer::Every;
use fixnet_train::{Config, Session, Trained};

fn config(place: &Place, recipe: &str) -> Config {
    let text = format!("optimizer.name = 'adam'\nrun.epochs = 2\nrun.batch_size = 8\n{recipe}\n");
    let mut settings = place.config(&text).settings().clone();
    settings.model.name = "reactnet18:w0.05".parse().unwrap();
    settings.check().unwrap()
}

#[test]
fn the_second_step_takes_all_weights_of_the_first() {
    let place = Place::new(24);
    let step1 = place.path("step1");
    train(&config(&place, "quantization.bits = '32/1/32'"), &step1, Every::default(), &mut ());
    for recipe in [
        "quantization.bits = '1/1/32'",
        "quantization.bits = '1/1/4'",
        "quantization.bits = '1/1/32'\nquantization.scheme = 'trs'",
    ] {
        let config = config(&place, recipe);
        let (task, data) = task::load(&config).unwrap();
        let weights = Weights::open(&step1.display().to_string()).unwrap();
        let mut notes = Vec::new();
        let mut session = Session::begin(config.clone(), task.clone(), &*data, Some(&weights), &mut notes).unwrap();
        // Convolutions, batch norms and their statistics, shifts, slopes and the classifier.
        let all = 20 + 2 * 20 + 20 + 4 * 16 + 2;
        assert!(notes.iter().any(|note| note.contains(&format!("{all} of {all} parameters"))), "{recipe}: {notes:?}");
        let path = place.path("c.safetensors");
        session.step().unwrap().unwrap();
        session.save(&path).unwrap();
        let whole = finish(&mut session);
        let saved = Checkpoint::open(&path).unwrap();
        let mut resumed = Session::resumed(config.clone(), task, &*data, &saved, &mut Vec::new()).unwrap();
        assert_eq!(finish(&mut resumed), whole, "{recipe}");
        // Evaluation knows the network by its recipe alone.
        session.save(&path).unwrap();
        let mut trained = Trained::open(&config, &Checkpoint::open(&path).unwrap()).unwrap();
        assert_eq!(trained.digest(), whole, "{recipe}");
        trained.evaluate(&*data).unwrap();
    }
}

#[test]
fn a_run_of_the_trs_scheme_goes_on_where_it_was_stopped() {
    let place = Place::new(24);
    let run = place.path("run");
    let recipe = "quantization = { bits = '1/1/32', scheme = 'trs' }";
    let mut settings = config(&place, recipe).settings().clone();
    settings.set("optimizer.name", "adamt".into()).unwrap();
    train(&settings.check().unwrap(), &run, Every::default(), &mut ());
    resume(&run, Some(3), Every::default()).unwrap();
    assert_eq!(checkpoint(&run).progress().epoch, 3);
}
