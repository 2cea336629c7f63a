//! Steps and evaluations on batches of the caller's: the loop over the data is then a program's own.

use super::passes::Passes;
use super::{Session, Step};
use crate::Result;
use crate::evaluation::evaluate;
use crate::scores::Scores;
use crate::task::{Batch, Batches};

impl Session<'_> {
    /// Takes a step on a batch of the caller's, in the place of the next one of the data; [`Task::batch`](crate::Task::batch) makes one of
    /// arrays. On the batches of [`epoch_batches`](Self::epoch_batches) the result has the bits of [`step`](Self::step).
    ///
    /// ```
    /// use fixnet_train::{Session, Settings, task};
    ///
    /// let config = Settings::find("mlp-digits")?.check()?;
    /// let (task, data) = task::load(&config)?;
    /// let mut usual = Session::new(config.clone(), task.clone(), &*data)?;
    /// let mut own = Session::new(config, task, &*data)?;
    /// for batch in own.epoch_batches()?.take(3) {
    ///     own.step_on(&batch?)?;
    ///     usual.step()?;
    /// }
    /// assert_eq!(own.digest(), usual.digest());
    /// # Ok::<(), fixnet_train::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`step`](Self::step); or the batch does not fit the network.
    pub fn step_on(&mut self, batch: &Batch) -> Result<Step> {
        self.behind = true;
        self.step_by(|session| {
            let mut passes = Passes::new(session.task.sums());
            session.pass(batch, &mut passes)?;
            Ok(passes)
        })
    }

    /// Returns the batches that are left of the running epoch, in the order in which [`step`](Self::step) takes them. They are of no
    /// session: taking one is no step.
    ///
    /// # Errors
    /// The data cannot be read.
    pub fn epoch_batches(&self) -> Result<Batches> {
        super::epoch(&*self.data, &self.config, &self.progress)
    }

    /// Evaluates on batches of the caller's.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate); or a batch does not fit the network.
    pub fn evaluate_on(&mut self, batches: impl Iterator<Item = Result<Batch>>) -> Result<Scores> {
        evaluate(&*self.task, &*self.net, &mut self.store, batches)
    }
}
