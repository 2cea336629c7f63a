//! Samples that only the caller has, who hands batches of them to a session.

use super::{Batch, Batches, Data, Part};
use crate::{Config, Error, Result};
use fixnet_autograd::Array;
use std::any::Any;

/// The data of a [`Session`](crate::Session) whose steps are all on batches of the caller's
/// ([`step_on`](crate::Session::step_on)): nothing is known of them but how many samples an epoch has, from which lengths of schedules
/// follow.
#[derive(Debug, Clone, Copy)]
pub struct Outside {
    /// Samples to learn from, per epoch.
    pub samples: usize,
}

impl Outside {
    fn refused() -> Error {
        let reason = "expected batches of the caller's (step_on), since the session has no data of its own".into();
        Error::Setting { key: "data".into(), reason }
    }
}

impl Data for Outside {
    fn len(&self, part: Part) -> usize {
        if part == Part::Train { self.samples } else { 0 }
    }

    fn name(&self, part: Part) -> String {
        format!("the caller's {} samples", part.name())
    }

    fn epoch(&self, config: &Config, _number: u32, skip: usize) -> Result<Batches> {
        let left = self.samples.div_ceil(config.batch_size()).saturating_sub(skip);
        Ok(Box::new((0..left).map(|_| Err::<Batch, _>(Self::refused()))))
    }

    fn batches(&self, _part: Part, _batch_size: usize) -> Result<Batches> {
        Ok(Box::new(std::iter::empty()))
    }

    fn arrays(&self, _part: Part) -> Result<Vec<(String, Array)>> {
        Err(Self::refused())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
