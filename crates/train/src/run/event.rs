//! The events of a run, as its logs hold them: one JSON object per line. This is their only description; whatever reads or writes
//! a log goes through these types.
//!
//! `metrics.jsonl` holds a [`Event::Header`], [`Event::Step`] every `run.log_every` steps, [`Event::Epoch`] at the end of each epoch, and
//! [`Event::Stopped`] where a run ends before its last epoch.
//! Events hold what is equal in equal runs; times are in `processes.json` alone.

use crate::task::Part;
use fixnet_nn::optim::{StepReport, TransitionReport};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of this schema. Readers accept logs of this version and of earlier ones. Version 3 has [`Event::Stopped`].
pub const VERSION: u32 = 3;

/// An event of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Event {
    /// The first line: logs of fixnet 0.2 and earlier have none.
    Header {
        /// The version of the schema.
        version: u32,
        /// Always 0.
        step: u64,
    },
    /// A step.
    Step(Box<StepEvent>),
    /// The end of an epoch.
    Epoch(EpochEvent),
    /// The early end of a run, after the event of its last epoch. More epochs follow only where the run was extended.
    Stopped(StoppedEvent),
}

impl Event {
    /// Returns the first line of a log.
    pub fn header() -> Self {
        Self::Header { version: VERSION, step: 0 }
    }

    /// Returns the name and the value of a number that is not finite, if there is one. JSON has no such numbers: they would be
    /// written as `null`, and no reader would take the line.
    pub fn not_finite(&self) -> Option<(String, f64)> {
        let layers = |key: &str, all: &BTreeMap<String, f64>| {
            all.iter().map(|(layer, v)| (format!("{key} of {layer}"), *v)).collect::<Vec<_>>()
        };
        let all = match self {
            Self::Header { .. } => Vec::new(),
            Self::Stopped(e) => vec![("best".to_string(), e.best)],
            Self::Epoch(e) => e.scores.iter().map(|(name, v)| (name.clone(), *v)).collect(),
            Self::Step(e) => {
                let mut all = vec![("loss".to_string(), e.loss), ("lr".to_string(), e.lr)];
                all.extend(layers("gamma", &e.gamma));
                all.extend(layers("layer_transition_rate", &e.layer_transition_rate));
                for (of, rates) in
                    e.layers.iter().map(|(of, rates)| (of.as_str(), rates)).chain([("the model", &e.rates)])
                {
                    all.extend(rates.all().map(|(key, v)| (format!("{key} of {of}"), v)));
                }
                all
            }
        };
        all.into_iter().find(|(_, v)| !v.is_finite())
    }

    /// Returns the step that the event belongs to.
    pub fn step(&self) -> u64 {
        match self {
            Self::Header { step, .. } => *step,
            Self::Step(e) => e.step,
            Self::Epoch(e) => e.step,
            Self::Stopped(e) => e.step,
        }
    }
}

/// The early end of a run, after epochs without improvement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoppedEvent {
    /// Epochs that are over.
    pub epoch: u64,
    /// Steps of the optimizer so far.
    pub step: u64,
    /// The name of part and metric by which epochs are judged, such as `validation_loss`.
    pub score: String,
    /// Its best value.
    pub best: f64,
    /// The epoch of that value, counted from 1.
    pub best_epoch: u64,
}

/// The numbers of a step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StepEvent {
    /// Steps of the optimizer so far, this one included.
    pub step: u64,
    /// The epoch that is running, counted from 0.
    pub epoch: u32,
    /// The mean loss of the batch.
    pub loss: f64,
    /// The learning rate.
    pub lr: f64,
    /// The transition rates of the model.
    #[serde(flatten)]
    pub rates: TransitionRates,
    /// The clipping factor of each layer's gradients.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub gamma: BTreeMap<String, f64>,
    /// The transition rate of each layer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub layer_transition_rate: BTreeMap<String, f64>,
    /// The layers that have a transition rate of their own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub layers: BTreeMap<String, TransitionRates>,
}

/// The transition rates of a model, or of a layer that has its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TransitionRates {
    /// k_t, the share of integer weights that the step has changed.
    pub transition_rate: Option<f64>,
    /// Of a transition-rate twin, R_t.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_transition_rate: Option<f64>,
    /// K_t.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running_transition_rate: Option<f64>,
    /// U_t, the transition-adaptive learning rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub talr: Option<f64>,
}

impl From<&TransitionReport> for TransitionRates {
    fn from(t: &TransitionReport) -> Self {
        Self {
            transition_rate: Some(t.rate),
            target_transition_rate: Some(t.target),
            running_transition_rate: Some(t.running),
            talr: Some(t.talr),
        }
    }
}

impl TransitionRates {
    /// Those that there are, with their keys.
    fn all(&self) -> impl Iterator<Item = (&'static str, f64)> + use<> {
        let all = [
            ("transition_rate", self.transition_rate),
            ("target_transition_rate", self.target_transition_rate),
            ("running_transition_rate", self.running_transition_rate),
            ("talr", self.talr),
        ];
        all.into_iter().filter_map(|(key, v)| Some((key, v?)))
    }

    /// Returns those of the model in a step.
    pub(crate) fn of_model(report: &StepReport) -> Self {
        let scheduled = report.transition.as_ref().map(Self::from).unwrap_or_default();
        Self { transition_rate: Some(report.transition_rate), ..scheduled }
    }
}

/// The numbers of an epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochEvent {
    /// Epochs that are over, this one included.
    pub epoch: u64,
    /// Steps of the optimizer so far.
    pub step: u64,
    /// Mean values by the name of part and metric, such as `test_loss`.
    #[serde(flatten)]
    pub scores: BTreeMap<String, f64>,
}

impl EpochEvent {
    /// Returns the mean of a metric over a part of the data, if it was computed.
    pub fn score(&self, part: Part, metric: &str) -> Option<f64> {
        self.scores.get(&score_name(part, metric)).copied()
    }
}

/// Returns the name of a metric over a part of the data: `test_loss`.
pub fn score_name(part: Part, metric: &str) -> String {
    format!("{}_{metric}", part.name())
}

/// A line of `digests.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestEvent {
    /// The digest of all state, blake3 in hexadecimal.
    pub digest: String,
    /// Steps of the optimizer so far.
    pub step: u64,
}

/// A line of `diagnostics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Diagnostic {
    /// The first line: what the others hold.
    Head(DiagnosticHead),
    /// What was seen in a step.
    Step(Box<DiagnosticStep>),
}

impl Diagnostic {
    /// Returns the step that the line belongs to.
    pub fn step(&self) -> u64 {
        match self {
            Self::Head(head) => head.step,
            Self::Step(step) => step.step,
        }
    }
}

/// How often layers are looked at, and how.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiagnosticHead {
    /// Always 0.
    pub step: u64,
    /// Steps between the lines.
    pub every: u64,
    /// The quantized layers, in the order of the network.
    pub layers: Vec<String>,
    /// The share of gradients that counts as large.
    pub alpha: f64,
    /// The bins of the histograms of gradients.
    pub gradient_bins: Bins,
    /// The bins of the histograms of latent weights.
    pub weight_bins: Bins,
}

/// The bins of a histogram.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bins {
    /// The lower end of the first bin.
    pub low: f64,
    /// The upper end of the last bin.
    pub high: f64,
    /// How many bins there are.
    pub count: usize,
}

/// What was seen in the layers in a step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiagnosticStep {
    /// Steps of the optimizer so far.
    pub step: u64,
    /// The mean loss of the batch.
    pub loss: f64,
    /// The learning rate.
    pub lr: f64,
    /// The transition rates of the model.
    #[serde(flatten)]
    pub rates: TransitionRates,
    /// The layers by their names.
    pub layers: BTreeMap<String, DiagnosticLayer>,
}

/// What was seen in a layer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DiagnosticLayer {
    /// Its weights.
    #[serde(default)]
    pub weight: Option<WeightSeen>,
    /// Its output gradient, if that is quantized.
    #[serde(default)]
    pub gradient: Option<GradientSeen>,
    /// Its scheduling, if it has a transition rate of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transition: Option<TransitionRates>,
}

/// What was seen of the weights of a layer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WeightSeen {
    /// The share of weights that the step has changed.
    pub transition_rate: Option<f64>,
    /// The mean step of latent weights, over the scale.
    pub latent_step: Option<f64>,
    /// The mean step of quantized weights, over the scale.
    pub quantized_step: Option<f64>,
    /// The mean distance to the next transition, in levels.
    pub distance: Option<f64>,
    /// Counts of latent weights over the scale.
    pub histogram: Vec<u64>,
}

/// What was seen of the output gradient of a layer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GradientSeen {
    /// max |g|.
    pub top: Option<f64>,
    /// The share of gradients outside the interval.
    pub outside: Option<f64>,
    /// The clipping factor and what it costs.
    #[serde(flatten)]
    pub errors: ErrorsSeen,
    /// What other rules would have done with the same gradient.
    pub rivals: BTreeMap<String, ErrorsSeen>,
    /// Counts of gradients over max |g|.
    pub histogram: Vec<u64>,
}

/// A clipping factor, and the errors of the gradient that it quantizes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorsSeen {
    /// The clipping factor.
    pub gamma: Option<f64>,
    /// E(G), over max |g|.
    pub error: Option<f64>,
    /// E(G_L), over max |g|.
    pub large_error: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_earlier_versions_are_read() {
        let line = r#"{"epoch":3,"kind":"epoch","step":141,"test_accuracy":0.9,"test_loss":0.5,"train_accuracy":0.8,"train_loss":0.7}"#;
        let Event::Epoch(epoch) = serde_json::from_str(line).unwrap() else { panic!("an epoch") };
        assert_eq!((epoch.epoch, epoch.score(Part::Test, "loss")), (3, Some(0.5)));
        assert_eq!((epoch.score(Part::Train, "accuracy"), epoch.score(Part::Validation, "loss")), (Some(0.8), None));
        let line = r#"{"epoch":0,"gamma":{"conv2":0.9},"kind":"step","layer_transition_rate":{"conv2":0.1},"loss":0.3,"lr":0.05,"step":50,"transition_rate":0.1}"#;
        let Event::Step(step) = serde_json::from_str(line).unwrap() else { panic!("a step") };
        assert_eq!((step.gamma["conv2"], step.rates.talr, step.layers.len()), (0.9, None, 0));
    }

    #[test]
    fn a_number_that_json_has_not_is_found() {
        let step = |change: fn(&mut StepEvent)| {
            let mut step = StepEvent::default();
            change(&mut step);
            Event::Step(Box::new(step)).not_finite().map(|(name, _)| name)
        };
        assert_eq!(step(|_| {}), None);
        assert_eq!(step(|e| e.loss = f64::NAN).unwrap(), "loss");
        assert_eq!(step(|e| e.gamma = BTreeMap::from([("c1".into(), f64::INFINITY)])).unwrap(), "gamma of c1");
        assert_eq!(step(|e| e.rates.talr = Some(f64::NAN)).unwrap(), "talr of the model");
        let rates = TransitionRates { talr: Some(f64::NAN), ..TransitionRates::default() };
        let mut layers = StepEvent::default();
        layers.layers.insert("c1".into(), rates);
        assert_eq!(Event::Step(Box::new(layers)).not_finite().unwrap().0, "talr of c1");
        let scores = BTreeMap::from([("test_loss".to_string(), f64::NEG_INFINITY)]);
        assert_eq!(Event::Epoch(EpochEvent { epoch: 1, step: 9, scores }).not_finite().unwrap().0, "test_loss");
    }

    #[test]
    fn events_survive_the_round_trip() {
        let rates = TransitionRates { talr: Some(0.25), ..TransitionRates::default() };
        let scores = BTreeMap::from([("test_loss".to_string(), 0.1), ("train_psnr".to_string(), 30.5)]);
        let score = "validation_loss".to_string();
        for event in [
            Event::Stopped(StoppedEvent { epoch: 7, step: 94, score, best: 0.25, best_epoch: 4 }),
            Event::header(),
            Event::Epoch(EpochEvent { epoch: 1, step: 94, scores }),
            Event::Step(Box::new(StepEvent { step: 50, rates, ..StepEvent::default() })),
        ] {
            let line = serde_json::to_string(&event).unwrap();
            assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event, "{line}");
        }
    }
}
