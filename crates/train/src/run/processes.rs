//! `processes.json`: which processes trained a run, on what, and how long. Times are here and not in the metrics, which are
//! the same in equal runs.

use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// A process that trained a part of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// The version of fixnet.
    pub fixnet: String,
    /// The instruction set in force.
    pub isa: String,
    /// Threads of its pool.
    pub threads: usize,
    /// The step of the run when it began.
    pub first_step: u64,
    /// The step of the run at its last checkpoint.
    pub last_step: u64,
    /// Epochs of the run that were over at that checkpoint.
    pub epochs: u32,
    /// Samples that it trained on.
    pub images: u64,
    /// The time that its steps took.
    pub training_seconds: f64,
    /// Its time from loaded data to the last checkpoint.
    pub seconds: f64,
}

/// The longest time that a process is believed to have run, in seconds: some three hundred years.
const LONGEST: f64 = 1e10;
/// The largest number of samples, likewise: so many that sums of them do not overflow.
const MOST: u64 = 1 << 48;

impl Process {
    /// Whether a process may have left these numbers. The file may come from a stranger, and tables and reports compute with
    /// its times.
    pub(crate) fn is_plausible(&self) -> bool {
        let times = [self.training_seconds, self.seconds];
        times.iter().all(|time| (0.0..=LONGEST).contains(time)) && self.images <= MOST
    }
}

/// Returns the seconds that processes took together, if there are any.
pub fn seconds(processes: &[Process]) -> Option<f64> {
    (!processes.is_empty()).then(|| processes.iter().map(|p| p.seconds).sum())
}

/// The watch of this process.
pub(crate) struct Watch {
    earlier: Vec<Process>,
    first_step: u64,
    start: Instant,
    images: u64,
    training: Duration,
    /// Images and time at the last lap.
    lap: (u64, Duration),
}

impl Watch {
    /// Begins now, at a step of the run, after other processes.
    pub(crate) fn new(earlier: Vec<Process>, first_step: u64) -> Self {
        let (start, training) = (Instant::now(), Duration::ZERO);
        Self { earlier, first_step, start, images: 0, training, lap: (0, training) }
    }

    /// Takes note of images and of the time that it took to train on them.
    pub(crate) fn trained(&mut self, images: u64, time: Duration) {
        self.images += images;
        self.training += time;
    }

    /// Images a second since the last lap, if there was one.
    pub(crate) fn lap(&mut self) -> Option<f64> {
        let (images, time) = (self.images - self.lap.0, self.training - self.lap.1);
        self.lap = (self.images, self.training);
        (images > 0 && !time.is_zero()).then(|| images as f64 / time.as_secs_f64())
    }

    /// All processes so far, this one as it is at a step.
    pub(crate) fn processes(&self, last_step: u64, epochs: u32) -> Vec<Process> {
        let this = Process {
            fixnet: env!("CARGO_PKG_VERSION").into(),
            isa: fixnet_tensor::kernel::isa().to_string(),
            threads: rayon::current_num_threads(),
            first_step: self.first_step,
            last_step,
            epochs,
            images: self.images,
            training_seconds: self.training.as_secs_f64(),
            seconds: self.start.elapsed().as_secs_f64(),
        };
        [&self.earlier[..], &[this]].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_no_process_took_are_not_believed() {
        let watch = Watch::new(Vec::new(), 0);
        let good = watch.processes(1, 1).remove(0);
        assert!(good.is_plausible());
        for time in [1e308, 1.1e10, -1.0, f64::NAN, f64::INFINITY] {
            assert!(!Process { seconds: time, ..good.clone() }.is_plausible(), "{time}");
            assert!(!Process { training_seconds: time, ..good.clone() }.is_plausible(), "{time}");
        }
        assert!(!Process { images: u64::MAX, ..good }.is_plausible());
    }

    #[test]
    fn a_lap_counts_from_the_last_one() {
        let mut watch = Watch::new(Vec::new(), 7);
        assert_eq!(watch.lap(), None);
        watch.trained(64, Duration::from_millis(500));
        assert_eq!(watch.lap(), Some(128.0));
        watch.trained(30, Duration::from_secs(1));
        watch.trained(30, Duration::from_secs(1));
        assert_eq!(watch.lap(), Some(30.0));
        let found = watch.processes(10, 1);
        assert_eq!((found[0].first_step, found[0].last_step, found[0].images), (7, 10, 124));
        assert_eq!(found[0].training_seconds, 2.5);
        let next = Watch::new(found.clone(), 10).processes(20, 2);
        assert_eq!((next.len(), &next[0], next[1].first_step), (2, &found[0], 10));
    }
}
