//! The folder of a run: its files, its event log and its history.

mod claim;
mod diagnostics;
pub mod event;
mod folder;
mod history;
mod log;
pub(crate) mod names;
pub mod place;
mod processes;
mod tensorboard;

pub use folder::{Folder, Opened, write};
pub use history::{Ended, History};
pub use processes::{Process, seconds};
