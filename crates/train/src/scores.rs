//! What evaluation takes and gives: a network with its state, and the means over samples.

use fixnet_autograd::Store;
use fixnet_nn::Layer;

/// The mean loss over some samples, and then the metrics of the task.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// Names and values.
    pub values: Vec<(&'static str, f64)>,
    /// The number of samples.
    pub samples: usize,
}

impl Scores {
    /// Returns the value of a metric.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.values.iter().find(|(of, _)| *of == name).map(|(_, value)| *value)
    }
}

/// A network with its state, to be evaluated.
pub struct Network<'a> {
    /// The network.
    pub net: &'a dyn Layer,
    /// Its weights and statistics.
    pub store: &'a mut Store,
    /// The samples of a batch: fewer where they are so large that memory would not do.
    pub batch_size: usize,
}
