//! What was seen in the layers of a run, as the events of `diagnostics.jsonl`.

use super::event::{
    Bins, Diagnostic, DiagnosticHead, DiagnosticLayer, DiagnosticStep, ErrorsSeen, GradientSeen, TransitionRates,
    WeightSeen,
};
use crate::session::{Session, Step};
use fixnet_quant::diagnostics::{self, ALPHA, Errors, GRADIENT_BINS, GradientReport, LATENT_BINS, LayerReport};

/// Returns the first line; none for a run that is not looked at.
pub(crate) fn head(session: &Session<'_>) -> Option<Diagnostic> {
    let bins = |b: diagnostics::Bins| Bins { low: b.low.into(), high: b.high.into(), count: b.count };
    Some(Diagnostic::Head(DiagnosticHead {
        step: 0,
        every: session.diagnosed()?,
        layers: diagnostics::layers(session.store()),
        alpha: ALPHA,
        gradient_bins: bins(GRADIENT_BINS),
        weight_bins: bins(LATENT_BINS),
    }))
}

/// Returns the line of a step.
pub(crate) fn line(session: &Session<'_>, step: &Step, layers: &[LayerReport]) -> Diagnostic {
    let mut line = DiagnosticStep {
        step: session.store().step(),
        loss: step.loss,
        lr: step.report.lr,
        rates: TransitionRates::of_model(&step.report),
        layers: layers.iter().map(|layer| (layer.name.clone(), seen(layer))).collect(),
    };
    for (name, t) in &step.report.layers {
        line.layers.entry(name.clone()).or_default().transition = Some(t.into());
    }
    Diagnostic::Step(Box::new(line))
}

fn seen(layer: &LayerReport) -> DiagnosticLayer {
    let w = &layer.weight;
    let weight = WeightSeen {
        transition_rate: Some(w.changed as f64 / w.weights.max(1) as f64),
        latent_step: Some(w.latent_step),
        quantized_step: Some(w.quantized_step),
        distance: Some(w.distance),
        histogram: w.histogram.clone(),
    };
    DiagnosticLayer { weight: Some(weight), gradient: layer.gradient.as_ref().map(gradient), transition: None }
}

fn gradient(g: &GradientReport) -> GradientSeen {
    GradientSeen {
        top: Some(g.top.into()),
        outside: Some(g.outside),
        errors: errors(&g.error),
        rivals: g.rivals.iter().map(|(name, e)| ((*name).to_string(), errors(e))).collect(),
        histogram: g.histogram.clone(),
    }
}

fn errors(e: &Errors) -> ErrorsSeen {
    ErrorsSeen { gamma: Some(e.gamma.into()), error: Some(e.all), large_error: Some(e.large) }
}
