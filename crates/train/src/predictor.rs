//! A trained network as an application uses it: an image or a row in, an answer out. Conversion of inputs, normalization and names
//! of classes are inside.

use crate::evaluation::EVALUATED;
use crate::packed::{Packed, network};
use crate::run::place::{config_of, existing_checkpoint_or_best};
use crate::task::{Answer, Task};
use crate::{Config, Error, Result, Trained};
use fixnet_autograd::Store;
use fixnet_data::{Inputs, Reading, Sample, SampleForm};
use fixnet_nn::Layer;
use fixnet_nn::checkpoint::Checkpoint;
use fixnet_nn::plan::Plan;
use rayon::prelude::*;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// A trained network that answers about images or rows. It is computed from the traced operations, so several threads may ask at the
/// same time, and an answer has the same bits whatever it is asked together with.
///
/// ```
/// use fixnet_data::Image;
/// use fixnet_train::task::{self, Answer};
/// use fixnet_train::{Predictor, Session, Settings};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("checkpoint.safetensors");
/// # let config = Settings::find("mlp-digits")?.check()?;
/// # let (task, data) = task::load(&config)?;
/// # let mut session = Session::new(config, task, &*data)?;
/// # session.step()?;
/// # session.save(&path)?;
/// // The folder of a run, a checkpoint, or a packed network.
/// let predictor = Predictor::load(&path)?;
/// let image = Image::new([20, 30, 3], vec![90; 20 * 30 * 3])?; // of any size, grey or coloured
/// let Answer::Classes(classes) = predictor.predict(&image)? else { panic!("a classifier names classes") };
/// let (name, probability) = &classes[0];
/// println!("{name}: {:.1} %", 100.0 * probability);
/// # Ok::<(), fixnet_train::Error>(())
/// ```
pub struct Predictor {
    task: Arc<dyn Task>,
    net: Box<dyn Layer>,
    form: SampleForm,
    batch: usize,
    config: Option<Config>,
    notes: Vec<String>,
}

/// An input with what the network says of it.
#[derive(Debug)]
pub struct Answered {
    /// The number of the input.
    pub index: usize,
    /// The answer, or what is wrong with the input.
    pub answer: Result<Answer>,
    /// Height, width and channels of the image before it was converted; `None` if nothing had to be.
    pub converted_from: Option<[usize; 3]>,
}

impl Predictor {
    /// Loads the last checkpoint in the folder of a run, a checkpoint, or a packed network. A checkpoint that is damaged is replaced by
    /// the one before it; [`notes`](Self::notes) then says so.
    ///
    /// # Errors
    /// There is none, it cannot be read, or its task is unknown; or a layer of the network computes by itself, without the operations
    /// of the graph.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Self::load_last_or_best(path.as_ref(), false)
    }

    /// Loads the checkpoint of the best epoch in the folder of a run.
    ///
    /// # Errors
    /// As [`load`](Self::load); or the run keeps none.
    pub fn load_best(run: impl AsRef<Path>) -> Result<Self> {
        Self::load_last_or_best(run.as_ref(), true)
    }

    fn load_last_or_best(path: &Path, best: bool) -> Result<Self> {
        let path = existing_checkpoint_or_best(path, best)?;
        if let Some(packed) = Packed::open(&path)? {
            let predictor = Self::of_form(packed.task().clone(), packed.plan(), packed.sample_form());
            return Ok(predictor.configured(packed.config()));
        }
        let (checkpoint, problem) = Checkpoint::open_or_previous(&path)?;
        let config = config_of(&checkpoint)?;
        let mut trained = Trained::open(&config, &checkpoint)?;
        let mut predictor = Self::new(trained.task().clone(), &trained.plan()?).configured(&config);
        if let Some(problem) = problem {
            let previous = format!("warning: the previous checkpoint is used, of step {}", checkpoint.step());
            predictor.notes = vec![format!("warning: {problem}"), previous];
        }
        Ok(predictor)
    }

    /// Makes a predictor of a network and its task: those of a [`Session`](crate::Session), say.
    pub fn new(task: Arc<dyn Task>, plan: &Plan) -> Self {
        let form = task.sample_form();
        Self::of_form(task, plan, form)
    }

    fn of_form(task: Arc<dyn Task>, plan: &Plan, form: SampleForm) -> Self {
        // Of images of any size none says how large the next one is.
        let batch = if form.any_size { 1 } else { plan.batch(EVALUATED) };
        let net = network(&*task, plan.clone());
        Self { task, net, form, batch, config: None, notes: Vec::new() }
    }

    /// Adds what the recipe knows.
    fn configured(mut self, config: &Config) -> Self {
        self.form.target = self.form.target.or_else(|| config.data().target.clone());
        self.config = Some(config.clone());
        self
    }

    /// What was learned.
    pub fn task(&self) -> &dyn Task {
        &*self.task
    }

    /// The recipe that the network was trained by; `None` if the predictor was not loaded from a file.
    pub fn config(&self) -> Option<&Config> {
        self.config.as_ref()
    }

    /// The form of the samples that the network takes.
    pub fn form(&self) -> &SampleForm {
        &self.form
    }

    /// What a user should know: that an earlier checkpoint was loaded.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Answers about an image or a row. An image of another size is scaled, and its channels are converted, as in training.
    ///
    /// # Errors
    /// The input is of another kind than the network takes, or cannot be converted; an output is not finite; or the task gives no
    /// answers about single samples.
    pub fn predict(&self, input: impl Into<Sample>) -> Result<Answer> {
        let sample = self.form.fit("the input", &input.into())?;
        let mut answers = self.asked(&[sample])?;
        Ok(answers.swap_remove(0))
    }

    /// Answers about a row of numbers, in the order of the columns in training.
    ///
    /// # Errors
    /// As [`predict`](Self::predict).
    pub fn predict_row(&self, row: &[f32]) -> Result<Answer> {
        self.predict(row)
    }

    /// Answers about an image file, which becomes the same bytes as an image of a training folder does.
    ///
    /// # Errors
    /// As [`predict`](Self::predict); or the file is no PNG, JPEG, WebP or BMP image.
    pub fn predict_file(&self, path: impl AsRef<Path>) -> Result<Answer> {
        let mut inputs = self.inputs();
        inputs.add(path.as_ref())?;
        if inputs.len() != 1 {
            let found = format!("{} samples in {}", inputs.len(), path.as_ref().display());
            return Err(fixnet_autograd::Error::setting("the input", "one image", found).into());
        }
        self.answered(&inputs, 0..1).swap_remove(0).answer
    }

    /// Answers about many samples, in batches: the same bits as one by one.
    ///
    /// # Errors
    /// As [`predict`](Self::predict), about the first sample that is wrong.
    pub fn predict_all(&self, samples: &[Sample]) -> Result<Vec<Answer>> {
        let fit = |(i, sample): (usize, &Sample)| self.form.fit(&format!("sample {i}"), sample);
        let mut answers = Vec::with_capacity(samples.len());
        for (k, chunk) in samples.chunks(self.batch).enumerate() {
            let fitted = chunk.iter().enumerate().map(|(i, sample)| fit((k * self.batch + i, sample)));
            answers.extend(self.asked(&fitted.collect::<fixnet_data::Result<Vec<_>>>()?)?);
        }
        Ok(answers)
    }

    /// Returns an empty list of inputs for this network, to which files and folders are added.
    pub fn inputs(&self) -> Inputs {
        Inputs::new(self.form.clone())
    }

    /// Answers about inputs in their order, in batches. An input that is broken has an error of its own, and the others are answered.
    pub fn answers<'a>(&'a self, inputs: &'a Inputs) -> impl Iterator<Item = Answered> + 'a {
        let batch = |start: usize| start..inputs.len().min(start.saturating_add(self.batch));
        (0..inputs.len()).step_by(self.batch).flat_map(move |start| self.answered(inputs, batch(start)))
    }

    /// The answers about a batch of inputs.
    fn answered(&self, inputs: &Inputs, range: Range<usize>) -> Vec<Answered> {
        let read: Vec<_> = range.clone().into_par_iter().map(|i| inputs.get(i)).collect();
        let samples: Vec<Sample> = read.iter().flatten().map(|reading| reading.sample.clone()).collect();
        // Where a batch has no answers, each sample says whether it is to blame.
        let mut together = self.asked(&samples).ok().map(Vec::into_iter);
        let mut answer = |index: usize, sample: Sample| match together.as_mut().and_then(Iterator::next) {
            Some(answer) => Ok(answer),
            None => self.asked(&[sample]).map(|mut one| one.swap_remove(0)).map_err(|e| e.within(inputs.name(index))),
        };
        let answered = |(index, read): (usize, fixnet_data::Result<Reading>)| match read {
            Ok(Reading { sample, converted_from }) => Answered { index, answer: answer(index, sample), converted_from },
            Err(e) => Answered { index, answer: Err(e.into()), converted_from: None },
        };
        range.zip(read).map(answered).collect()
    }

    /// What the network says of samples that fit.
    fn asked(&self, samples: &[Sample]) -> Result<Vec<Answer>> {
        if samples.is_empty() {
            return Ok(Vec::new());
        }
        let answers = self.task.predict(&*self.net, &mut Store::seeded(0), samples)?;
        if answers.len() != samples.len() {
            let (name, expected) = (self.task.name(), samples.len());
            let reason = format!("expected {expected} answers of {name}, one per sample, found {}", answers.len());
            return Err(Error::Setting { key: "task".into(), reason });
        }
        Ok(answers)
    }
}
