//! A gradient rule of our own: gamma follows the share of gradients outside the interval.

use fixnet::autograd::Array;
use fixnet::quant::{GradientRule, Rule, RuleKind};
use fixnet::tensor::Tensor;

/// The row of the registry.
pub const KIND: RuleKind = RuleKind { form: "tail:SHARE", parse };

fn parse(words: &[&str]) -> Option<Rule> {
    let [share] = words else { return None };
    let share = share.parse().ok().filter(|share| *share > 0.0 && *share < 1.0)?;
    Some(Tail { share, gamma: 1.0 }.into())
}

/// `tail:SHARE`: gamma falls while fewer than this share of the gradients are clipped, and rises otherwise.
#[derive(Debug, Clone)]
pub struct Tail {
    share: f64,
    gamma: f32,
}

impl GradientRule for Tail {
    fn name(&self) -> String {
        format!("tail:{}", self.share)
    }

    fn gamma(&self) -> f32 {
        self.gamma
    }

    fn update(&mut self, outside: f64, _bits: u8) {
        let factor = if outside < self.share { 0.99 } else { 1.01 };
        self.gamma = (self.gamma * factor).clamp(0.05, 1.0);
    }

    fn save(&self) -> Vec<(&'static str, Array)> {
        vec![("tail.gamma", Array::F32(Tensor::scalar(self.gamma)))]
    }

    fn load(&mut self, get: &mut dyn FnMut(&str) -> Option<Array>) -> Result<(), String> {
        match get("tail.gamma") {
            Some(Array::F32(gamma)) if gamma.len() == 1 && gamma.item() > 0.0 && gamma.item() <= 1.0 => {
                self.gamma = gamma.item();
                Ok(())
            }
            _ => Err("expected tail.gamma in (0, 1]".into()),
        }
    }
}
