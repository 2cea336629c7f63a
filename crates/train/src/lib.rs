//! Training as a library: tasks, configuration, runs and their folders, and comparison of runs.
//!
//! | module | what |
//! |---|---|
//! | [`config`] | recipes: typed settings, checked once |
//! | [`task`] | what is learned: data, loss and metrics in one place |
//! | [`session`] | a run in memory: its state, and the steps that it takes |
//! | [`judge`] | which epoch is the best, and when a run stops early |
//! | [`trainer`] | the loop over steps and epochs, with logs and checkpoints |
//! | [`run`] | the folder of a run: its files, its event log, its history |
//! | [`predictor`] | a trained network that answers about images and rows |
//! | [`packed`] | a packed network with its task |
//! | [`compare`] | grids of runs, and tables of what they came to |
//!
//! ```
//! use fixnet_train::{Session, Settings, task};
//!
//! let mut settings = Settings::find("mlp-digits")?;
//! settings.set("run.epochs", 1.into())?;
//! let config = settings.check()?;
//! let (task, data) = task::load(&config)?;
//! let mut session = Session::new(config, task, &*data)?;
//! for _ in 0..3 {
//!     let step = session.step()?.expect("an epoch has more steps");
//!     println!("loss {:.3}", step.loss);
//! }
//! println!("digest {}", session.digest());
//! # Ok::<(), fixnet_train::Error>(())
//! ```
#![forbid(unsafe_code)]

pub mod compare;
pub mod config;
mod earlier;
mod error;
mod error_kind;
mod evaluation;
mod exported;
pub mod init;
pub mod judge;
mod model_file;
pub mod networks;
pub mod packed;
pub mod predictor;
mod pursuit;
pub mod run;
mod scores;
pub mod session;
mod suggest;
pub mod task;
// For the command.
#[doc(hidden)]
pub mod text;
pub mod trained;
pub mod trainer;

pub use config::{Config, Settings};
pub use error::{Error, Result};
pub use error_kind::ErrorKind;
pub use evaluation::{EVALUATED, evaluate, evaluate_test};
pub use exported::Exported;
pub use judge::Judge;
pub use packed::Packed;
pub use predictor::Predictor;
pub use scores::{Network, Scores};
pub use session::Session;
pub use suggest::{Loaded, Suggestion, TaskData, loaded_for, suggest};
pub use task::Task;
pub use trained::Trained;
