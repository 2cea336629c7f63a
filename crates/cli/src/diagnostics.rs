//! `diagnostics.jsonl`: what was seen in the layers of a run, as JSON. The first line says what the others hold.

use crate::run::{Run, Step};
use fixnet::quant::diagnostics::{self, ALPHA, Bins, Errors, GRADIENT_BINS, GradientReport, LATENT_BINS, LayerReport};
use serde_json::{Value, json};

/// The first line: how often, which layers, which bins; none for a run that is not looked at.
pub(crate) fn head(run: &Run<'_>) -> Option<Value> {
    let bins = |b: Bins| json!({ "low": b.low, "high": b.high, "count": b.count });
    Some(json!({
        "kind": "head", "step": 0, "every": run.diagnosed()?, "layers": diagnostics::layers(run.store()),
        "alpha": ALPHA, "gradient_bins": bins(GRADIENT_BINS), "weight_bins": bins(LATENT_BINS),
    }))
}

/// The line of a step.
pub(crate) fn line(run: &Run<'_>, step: &Step, layers: &[LayerReport]) -> Value {
    let mut line = json!({
        "kind": "step", "step": run.store().step(), "loss": step.loss, "lr": step.report.lr,
        "transition_rate": step.report.transition_rate, "layers": {},
    });
    if let Some(t) = &step.report.transition {
        line["target_transition_rate"] = t.target.into();
        line["running_transition_rate"] = t.running.into();
        line["talr"] = t.talr.into();
    }
    for layer in layers {
        let w = &layer.weight;
        line["layers"][&layer.name] = json!({
            "weight": {
                "transition_rate": w.changed as f64 / w.weights.max(1) as f64, "latent_step": w.latent_step,
                "quantized_step": w.quantized_step, "distance": w.distance, "histogram": w.histogram,
            },
            "gradient": layer.gradient.as_ref().map(gradient),
        });
    }
    for (name, t) in &step.report.layers {
        line["layers"][name]["transition"] = json!({
            "target_transition_rate": t.target, "transition_rate": t.rate, "running_transition_rate": t.running,
            "talr": t.talr,
        });
    }
    line
}

fn gradient(g: &GradientReport) -> Value {
    let errors = |e: &Errors| json!({ "gamma": e.gamma, "error": e.all, "large_error": e.large });
    let rivals: serde_json::Map<_, _> = g.rivals.iter().map(|(name, e)| ((*name).into(), errors(e))).collect();
    json!({
        "top": g.top, "outside": g.outside, "gamma": g.error.gamma, "error": g.error.all, "large_error": g.error.large,
        "rivals": rivals, "histogram": g.histogram,
    })
}
