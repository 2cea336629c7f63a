//! A transformer for sequences: speech, readings of sensors. As the Keyword Transformer (Berg et al., Interspeech 2021) it takes
//! steps of features as tokens; its blocks and the names of its parameters are those of a vision transformer.

use super::vit::{Encoder, encoder};
use super::{Model, ModelKind};
use crate::layers::{Conv1d, Conv1dConfig, Sequential, Start};
use fixnet_autograd::{Error, Result, Store};
use fixnet_quant::QuantConfig;

/// The row of the registry.
pub(super) const KIND: ModelKind = ModelKind {
    form: "vit1d[:WIDTHxDEPTH[xHEADS]][:pSTEPS][:dropRATE]",
    about: "a transformer over the steps of a sequence (64x4x4 if left out), each STEPS steps (1 if left out) one token",
    examples: &["vit1d:8x1x2"],
    parse: |text| {
        let (name, rest) = text.split_once(':').map_or((text, ""), |(name, rest)| (name, rest));
        if name != "vit1d" {
            return None;
        }
        let found = match text.ends_with(':') {
            true => None,
            false => {
                let parts = rest.split(':').filter(|part| !part.is_empty());
                parts.into_iter().try_fold(ViT1d::default(), ViT1d::with).filter(ViT1d::fits)
            }
        };
        Some(found.map(Into::into).ok_or_else(|| Error::setting("model", EXPECTED, text)))
    },
};

const EXPECTED: &str = "vit1d, vit1d:WIDTHxDEPTH or vit1d:WIDTHxDEPTHxHEADS, perhaps with `:pSTEPS` and `:dropRATE` behind; heads \
                        that divide the width (4 if left out), at most 4096 x 100, 1 to 4096 steps, a rate of at least 0 and below 1";

/// A transformer for sequences: patches of steps become tokens, a class token goes before them, and the head reads it at the end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ViT1d {
    /// Numbers of a token.
    pub width: usize,
    /// Transformer blocks.
    pub depth: usize,
    /// Heads of each attention.
    pub heads: usize,
    /// Steps of a patch.
    pub patch: usize,
    /// The probability with which training leaves out a residual branch of the last block; it rises linearly from 0 at the
    /// first.
    pub drop_path: f32,
}

impl Default for ViT1d {
    /// Four blocks of 64 numbers and 4 heads; each step is a token.
    fn default() -> Self {
        Self { width: 64, depth: 4, heads: 4, patch: 1, drop_path: 0.0 }
    }
}

impl ViT1d {
    /// The same with a part of the text behind the name.
    fn with(self, part: &str) -> Option<Self> {
        if let Some(rate) = part.strip_prefix("drop") {
            return Some(Self { drop_path: rate.parse().ok()?, ..self });
        }
        if let Some(patch) = part.strip_prefix('p') {
            return Some(Self { patch: patch.parse().ok()?, ..self });
        }
        let sizes: Vec<usize> = part.split('x').map(|n| n.parse().ok()).collect::<Option<_>>()?;
        match *sizes.as_slice() {
            [width, depth] => Some(Self { width, depth, heads: 4, ..self }),
            [width, depth, heads] => Some(Self { width, depth, heads, ..self }),
            _ => None,
        }
    }

    fn encoder(&self) -> Encoder {
        let Self { width, depth, heads, drop_path, .. } = *self;
        Encoder { width, depth, heads, drop_path }
    }

    fn fits(&self) -> bool {
        self.encoder().fits() && (1..=4096).contains(&self.patch)
    }
}

impl Model for ViT1d {
    fn name(&self) -> String {
        let Self { width, depth, heads, patch, drop_path } = *self;
        let mut name = match (width, depth, heads) {
            (64, 4, 4) => "vit1d".to_string(),
            (width, depth, 4) => format!("vit1d:{width}x{depth}"),
            _ => format!("vit1d:{width}x{depth}x{heads}"),
        };
        if patch != 1 {
            name += &format!(":p{patch}");
        }
        if drop_path != 0.0 {
            name += &format!(":drop{drop_path}");
        }
        name
    }

    fn build(&self, store: &mut Store, input: &[usize], outputs: usize, config: &QuantConfig) -> Result<Sequential> {
        let &[steps, channels] = input else {
            let expected = format!("one for inputs of the shape {input:?}");
            return Err(Error::setting("model", expected, format!("{}, which takes sequences [T, C]", self.name())));
        };
        vit1d(store, *self, [steps, channels], outputs, config)
    }
}

/// A transformer for sequences of `[T, C]` to so many classes: a convolution of the patches, a class token (`cls_token`), learned
/// positions (`pos_embed`), pre-norm blocks with four times the width within, a normalization of the class token and the
/// head. Steps at the end that fill no patch are left out.
///
/// The patches and the head are the first convolution and the last layer of other models; in the blocks all products are
/// quantized, as [`vit`](super::vit()) says.
///
/// # Errors
/// The sizes of the model make no sense, a sequence is shorter than a patch, or names in the store are taken.
pub fn vit1d(
    store: &mut Store,
    model: ViT1d,
    [steps, channels]: [usize; 2],
    classes: usize,
    config: &QuantConfig,
) -> Result<Sequential> {
    if !model.fits() {
        return Err(Error::setting("model", EXPECTED, model.name()));
    }
    if steps < model.patch {
        let expected = format!("at least the {} of a patch", model.patch);
        return Err(Error::setting("steps of a sequence", expected, steps));
    }
    let form = Conv1dConfig {
        stride: model.patch,
        padding: 0,
        start: Start::FanIn,
        ..Conv1dConfig::same([channels, model.width], model.patch)
    };
    let patches = |store: &mut Store, name: &str, edge: &QuantConfig| {
        Conv1d::new(store, name, form, edge)?.biased(store)?.output_scaled(store, edge)
    };
    encoder(store, model.encoder(), steps / model.patch, patches, classes, config)
}

#[cfg(test)]
mod tests {
    use super::super::{ModelSpec, build};
    use super::*;
    use crate::Layer;
    use crate::plan::Plan;
    use fixnet_autograd::Graph;
    use fixnet_autograd::check::sample;
    use fixnet_quant::FixedMatmul;

    #[test]
    fn names_are_read_as_written_and_sizes_checked() {
        for text in ["vit1d", "vit1d:32x2", "vit1d:32x2x2:p4", "vit1d:p2:drop0.1"] {
            assert_eq!(text.parse::<ModelSpec>().unwrap().to_string(), text);
        }
        assert_eq!("vit1d:64x4x4:p1:drop0".parse::<ModelSpec>().unwrap().to_string(), "vit1d");
        for text in ["vit1d:", "vit1d:0x2", "vit1d:30x2", "vit1d:p0", "vit1d:drop1", "vit1d:8"] {
            let e = text.parse::<ModelSpec>().unwrap_err().to_string();
            assert!(e.contains("vit1d:WIDTHxDEPTHxHEADS") && e.ends_with(text), "{e}");
        }
        let refused = |text: &str, input: &[usize]| {
            build(&mut Store::seeded(1), &text.parse().unwrap(), input, 5, &QuantConfig::float())
                .err()
                .unwrap()
                .to_string()
        };
        assert!(refused("vit1d:p4", &[3, 8]).contains("at least the 4 of a patch, found 3"));
        assert!(refused("vit1d", &[8, 8, 1]).ends_with("vit1d, which takes sequences [T, C]"));
    }

    /// By hand: the patches, the token, the positions, two blocks of 12·D² + 13·D and the last norm with the head.
    #[test]
    fn every_precision_trains_in_the_size_of_the_formula_and_the_plan_gives_the_same_bits() {
        let model: ModelSpec = "vit1d:16x2:p3".parse().unwrap();
        let size = (16 * 3 * 6 + 16) + 16 + (7 + 1) * 16 + 2 * (12 * 256 + 13 * 16) + 32 + (16 * 5 + 5);
        for (bits, edges) in [("32/32/32", None), ("4/4/4", None), ("4/4/4", Some(8)), ("2/2/32", None)] {
            let mut store = Store::seeded(2);
            let config = QuantConfig { edges, ..QuantConfig::new(bits.parse().unwrap()) };
            // The last of 23 steps fill no patch of 3.
            let net = build(&mut store, &model, [23, 6], 5, &config).unwrap();
            let mut g = Graph::train(&mut store);
            let x = g.input(sample(&[3, 23, 6], 1));
            let y = net.forward(&mut g, &x).unwrap();
            let loss = g.cross_entropy(&y, &[0, 1, 4]).unwrap();
            g.backward(loss).unwrap();
            assert!(store.params().iter().all(|p| p.grad.is_some()), "{bits}");
            let plan = Plan::of(&net, &mut store, &[23, 6]).unwrap();
            if bits == "32/32/32" {
                assert_eq!(plan.summary().parameters(), size);
            }
            let products = plan.nodes().iter().filter(|n| n.get::<FixedMatmul>().is_some()).count();
            assert_eq!(products, if bits == "32/32/32" { 0 } else { 4 });
            let x = sample(&[3, 23, 6], 5);
            let mut g = Graph::eval(&mut store);
            let input = g.input(x.clone());
            let expected = net.forward(&mut g, &input).unwrap().tensor();
            assert_eq!(plan.run(x).unwrap().first().data(), expected.data(), "{bits} {edges:?}");
        }
    }
}
