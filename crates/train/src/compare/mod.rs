//! Comparison of runs: a grid of configurations, each an ordinary run folder, and how they compare.
//!
//! The folders are the whole state: what is finished is read, what was stopped is resumed, what is missing is trained. So
//! the same grid goes on after anything that ended it, and a larger grid trains only what is new.

mod cache;
mod cell;
pub mod grid;
mod inputs;
pub mod names;
mod spread;
pub mod whole;

pub use cache::Cache;
pub use cell::train_cell;
pub use grid::{Axis, Cell, Grid, Shown};
pub use inputs::{Recorded, notes_on_data};
pub use spread::{Row, Spread, rows};

use crate::run::Ended;

/// What has become of a cell.
#[derive(Debug)]
pub enum Outcome {
    /// It came to its end.
    Finished(Ended),
    /// It failed, for this reason.
    Failed(String),
    /// It is not finished, because it was stopped.
    Open,
}
