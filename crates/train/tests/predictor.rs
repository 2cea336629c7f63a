//! Predictors of runs, checkpoints and packed networks give the answers of the network, whatever a sample is asked together with.

use fixnet_data::{Dataset, Image, Numbers, Sample, Split};
use fixnet_export::packed;
use fixnet_train::run::place::RECIPE;
use fixnet_train::task::{self, Answer, Part, Regression, Task};
use fixnet_train::{Packed, Predictor, Session, Settings};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

fn class(answer: &Answer) -> &str {
    let Answer::Classes(classes) = answer else { panic!("{answer:?}") };
    &classes[0].0
}

#[test]
fn one_by_one_and_all_at_once_are_equal_and_agree_with_the_evaluation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let config = Settings::find("digits").unwrap().check().unwrap();
    let (task, data) = task::load(&config).unwrap();
    let mut session = Session::new(config, task.clone(), &*data).unwrap();
    for _ in 0..12 {
        session.step().unwrap();
    }
    session.save(&path).unwrap();
    let accuracy = session.evaluate(Part::Test, || false).unwrap().unwrap().get("accuracy").unwrap();
    let predictor = Predictor::load(&path).unwrap();

    let test = fixnet_data::digits().unwrap().test;
    let image = |i: usize| Image::new([28, 28, 1], test.image(i).unwrap().to_vec()).unwrap();
    let samples: Vec<Sample> = (0..test.len()).map(|i| image(i).into()).collect();
    let answers = predictor.predict_all(&samples).unwrap();
    let right = answers.iter().zip(test.labels()).filter(|(answer, label)| class(answer) == label.to_string()).count();
    assert_eq!(right as f64 / test.len() as f64, accuracy);
    // Probabilities, to the bit.
    for (i, answer) in answers.iter().enumerate().take(40) {
        assert_eq!(predictor.predict(image(i)).unwrap(), *answer, "{i}");
    }
    for size in [3, 7] {
        let parts = samples[..40].chunks(size).flat_map(|part| predictor.predict_all(part).unwrap());
        assert!(parts.eq(answers[..40].iter().cloned()), "{size}");
    }
    // Several threads may ask at the same time, and a session needs no file.
    let direct = Predictor::new(task, &session.plan().unwrap());
    std::thread::scope(|scope| {
        for k in 0..3 {
            let (direct, samples, answers) = (&direct, &samples, &answers);
            scope.spawn(move || assert_eq!(direct.predict_all(&samples[k..k + 5]).unwrap(), answers[k..k + 5]));
        }
    });
    // A coloured image of grey pixels is the same image.
    let coloured = image(3).converted([28, 28, 3]).unwrap();
    assert_eq!(predictor.predict(&coloured).unwrap(), answers[3]);
    let e = predictor.predict_row(&[1.0, 2.0]).unwrap_err().to_string();
    assert_eq!(e, "the input: expected an image of 28x28 in 1 channel, found rows of numbers");
    let e = predictor.predict_all(&[samples[0].clone(), vec![1.0].into()]).unwrap_err().to_string();
    assert!(e.starts_with("sample 1: expected an image"), "{e}");
    let e = Predictor::load(folder.path().join("none")).err().unwrap().to_string();
    assert!(e.contains("none: expected the folder of a run, found no such folder"), "{e}");
}

fn rows(name: &str, count: u16) -> Dataset<Numbers> {
    let values: Vec<f32> = (0..count).flat_map(|i| [f32::from(i % 7), f32::from(i % 5)]).collect();
    let prices = values.chunks(2).map(|row| 1000.0 + f64::from(30.0 * row[0] - 50.0 * row[1])).collect();
    let targets = Numbers::new(name, Some("price"), prices).unwrap();
    Dataset::of_floats(name, &[2], values, targets).unwrap().with_columns(vec!["size".into(), "age".into()]).unwrap()
}

#[test]
fn a_packed_network_answers_about_rows_and_knows_their_columns() {
    let (task, data) = Regression::of_split(Split::new(rows("train", 70), rows("test", 35)).unwrap());
    let task: Arc<dyn Task> = Arc::new(task);
    let mut settings = Settings::default();
    for (key, value) in [("task", "regression"), ("model.name", "mlp:8"), ("data.target", "price")] {
        settings.set(key, value.into()).unwrap();
    }
    settings.set("data.source", "csv:none.csv".into()).unwrap();
    let config = settings.check().unwrap();
    let mut session = Session::new(config.clone(), task.clone(), &data).unwrap();
    session.train_epoch().unwrap();
    let plan = session.plan().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("packed.safetensors");
    let mut metadata = BTreeMap::from([(RECIPE.to_string(), config.to_toml().unwrap())]);
    Packed::describe(&*task, &mut metadata);
    packed::save(&path, &plan, &metadata).unwrap();

    let predictor = Predictor::load(&path).unwrap();
    assert_eq!(predictor.form().columns.as_deref().unwrap(), ["size", "age"]);
    let answer = predictor.predict_row(&[3.0, 4.0]).unwrap();
    assert_eq!(answer, Predictor::new(task, &plan).predict_row(&[3.0, 4.0]).unwrap());
    let Answer::Numbers(numbers) = &answer else { panic!("{answer:?}") };
    assert_eq!(numbers[0].0, "price");
    assert!((500.0..1500.0).contains(&numbers[0].1), "in the unit of the target: {numbers:?}");
    let table = folder.path().join("new.csv");
    std::fs::write(&table, "age,price,size\n4,?,3\n,?,3\n").unwrap();
    let mut inputs = predictor.inputs();
    assert_eq!(inputs.add(&table).unwrap(), 2);
    let answers: Vec<_> = predictor.answers(&inputs).map(|answered| answered.answer).collect();
    assert_eq!(*answers[0].as_ref().unwrap(), answer);
    assert!(answers[1].as_ref().unwrap_err().to_string().contains("line 3, column `age`"));
    assert!(Packed::open(Path::new("none")).unwrap().is_none());
}
