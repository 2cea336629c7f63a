//! Vision transformers (Dosovitskiy et al., ICLR 2021) in the form of DeiT (Touvron et al., ICML 2021), for large images and in
//! sizes for small ones. Names of parameters are those of timm.

use super::{Model, ModelKind, image};
use crate::layers::{
    Conv2d, Conv2dConfig, Layer, LayerNorm, Linear, Sequential, Start, TransformerBlock, TransformerConfig,
};
use fixnet_autograd::{Error, Graph, Group, ParamId, Result, Store, Var};
use fixnet_quant::QuantConfig;
use fixnet_tensor::Window;

/// The row of the registry.
pub(super) const KIND: ModelKind = ModelKind {
    form: "vit[:WIDTHxDEPTH[xHEADS]][:dropRATE], deit-t[:dropRATE], deit-s[:dropRATE]",
    about: "transformers for images of 32 x 32, patches of 4 (128x6x4 if left out), and of 224 x 224, patches of 16; drop0.1 \
            leaves residual branches out in training, the last with a probability of 0.1",
    examples: &["vit:8x1x2", "deit-t", "deit-s"],
    parse: |text| {
        let (name, rest) = text.split_once(':').map_or((text, ""), |(name, rest)| (name, rest));
        let plain = match name {
            "vit" => ViT::SMALL_IMAGES,
            "deit-t" => ViT::DEIT_TINY,
            "deit-s" => ViT::DEIT_SMALL,
            _ => return None,
        };
        let found = match text.ends_with(':') {
            true => None,
            false => rest.split(':').filter(|part| !part.is_empty()).try_fold(plain, ViT::with).filter(ViT::fits),
        };
        Some(found.map(Into::into).ok_or_else(|| Error::setting("model", EXPECTED, text)))
    },
};

const EXPECTED: &str = "vit, vit:WIDTHxDEPTH, vit:WIDTHxDEPTHxHEADS, deit-t or deit-s, perhaps with `:dropRATE` behind; heads that \
                        divide the width (4 if left out), at most 4096 x 100, a rate of at least 0 and below 1";

/// Weights start with this standard deviation. (timm cuts the distribution off at 2, a hundred deviations.)
const DEVIATION: f32 = 0.02;
/// Added to the variance in normalizations.
const EPS: f32 = 1e-6;

/// A vision transformer: patches become tokens, a class token goes before them, and the head reads it at the end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ViT {
    /// Numbers of a token.
    pub width: usize,
    /// Transformer blocks.
    pub depth: usize,
    /// Heads of each attention.
    pub heads: usize,
    /// Height and width of a patch.
    pub patch: usize,
    /// The probability with which training leaves out a residual branch of the last block; it rises linearly from 0 at the
    /// first.
    pub drop_path: f32,
}

impl ViT {
    /// For images of 32 x 32: 64 patches of 4 x 4.
    pub const SMALL_IMAGES: Self = Self { width: 128, depth: 6, heads: 4, patch: 4, drop_path: 0.0 };
    /// DeiT-T: `deit_tiny_patch16_224`.
    pub const DEIT_TINY: Self = Self { width: 192, depth: 12, heads: 3, patch: 16, drop_path: 0.0 };
    /// DeiT-S: `deit_small_patch16_224`.
    pub const DEIT_SMALL: Self = Self { width: 384, depth: 12, heads: 6, patch: 16, drop_path: 0.0 };

    /// The same with a part of the text behind the name. Sizes belong to `vit` alone.
    fn with(self, part: &str) -> Option<Self> {
        if let Some(rate) = part.strip_prefix("drop") {
            return Some(Self { drop_path: rate.parse().ok()?, ..self });
        }
        let sizes: Vec<usize> = part.split('x').map(|n| n.parse().ok()).collect::<Option<_>>()?;
        match (self.patch, sizes.as_slice()) {
            (4, &[width, depth]) => Some(Self { width, depth, heads: 4, ..self }),
            (4, &[width, depth, heads]) => Some(Self { width, depth, heads, ..self }),
            _ => None,
        }
    }

    fn encoder(&self) -> Encoder {
        let Self { width, depth, heads, drop_path, .. } = *self;
        Encoder { width, depth, heads, drop_path }
    }

    fn fits(&self) -> bool {
        self.encoder().fits() && self.patch > 0
    }
}

impl Model for ViT {
    fn name(&self) -> String {
        let name = match *self {
            Self { patch: 16, width: 192, .. } => "deit-t".to_string(),
            Self { patch: 16, .. } => "deit-s".to_string(),
            Self { width, depth, heads, .. } => match (width, depth, heads) {
                (128, 6, 4) => "vit".to_string(),
                (width, depth, 4) => format!("vit:{width}x{depth}"),
                _ => format!("vit:{width}x{depth}x{heads}"),
            },
        };
        if self.drop_path == 0.0 { name } else { format!("{name}:drop{}", self.drop_path) }
    }

    fn published(&self) -> ([usize; 3], usize) {
        if self.patch == 16 { ([224, 224, 3], 1000) } else { ([32, 32, 3], 10) }
    }

    fn build(&self, store: &mut Store, input: &[usize], outputs: usize, config: &QuantConfig) -> Result<Sequential> {
        vit(store, *self, image(self, input)?, outputs, config)
    }
}

/// What is the same for all transformers here: the tokens, the blocks and the head.
#[derive(Debug, Clone, Copy)]
pub(super) struct Encoder {
    /// Numbers of a token.
    pub(super) width: usize,
    /// Blocks.
    pub(super) depth: usize,
    /// Heads of each attention.
    pub(super) heads: usize,
    /// The rate at which the last block leaves out its branches.
    pub(super) drop_path: f32,
}

impl Encoder {
    /// Whether the sizes make sense.
    pub(super) fn fits(&self) -> bool {
        let sizes = (1..=4096).contains(&self.width) && (1..=100).contains(&self.depth);
        sizes && self.heads > 0 && self.width.is_multiple_of(self.heads) && (0.0..1.0).contains(&self.drop_path)
    }
}

/// The tokens of an image or a sequence: its patches, with a learned token before them and a learned position added to each.
#[derive(Debug, Clone)]
struct Tokens<P> {
    patches: P,
    class: ParamId,
    positions: ParamId,
}

impl<P: Layer> Layer for Tokens<P> {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        let y = self.patches.forward(g, x)?;
        let &[n, h, w, c] = y.shape() else {
            return Err(Error::setting("patches", "[N, H, W, C]", format!("{:?}", y.shape())));
        };
        let y = g.reshape(&y, &[n, h * w, c])?;
        let (class, positions) = (g.param(self.class), g.param(self.positions));
        let y = g.prepend(&y, &class)?;
        g.add(&y, &positions)
    }
}

/// The first token of each sample.
#[derive(Debug, Clone, Copy)]
struct FirstToken;

impl Layer for FirstToken {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        let first = g.slice(x, 1, 0..1)?;
        g.flatten(&first)
    }
}

/// A vision transformer for images of `[H, W, C]` to so many classes: a convolution of the patches, a class token (`cls_token`),
/// learned positions (`pos_embed`), pre-norm blocks with four times the width within, a normalization of the class token
/// and the head.
///
/// The patches and the head are the first convolution and the last layer of other models. In the blocks the products with the
/// weights of `attn.qkv`, `attn.proj`, `mlp.fc1` and `mlp.fc2` and the two of attention, `attn.qk` and `attn.pv`, are quantized.
/// No normalization follows them, so in the TRS scheme each has a learned factor of its output.
///
/// # Errors
/// The sizes of the model make no sense, the patches do not divide the image, or names in the store are taken.
pub fn vit(
    store: &mut Store,
    model: ViT,
    [h, w, channels]: [usize; 3],
    classes: usize,
    config: &QuantConfig,
) -> Result<Sequential> {
    let patch = model.patch;
    if !model.fits() {
        return Err(Error::setting("model", EXPECTED, model.name()));
    }
    if h == 0 || w == 0 || h % patch != 0 || w % patch != 0 {
        let expected = format!("height and width that are multiples of a patch's, {patch}");
        return Err(Error::setting("images of a vision transformer", expected, format!("{h} x {w}")));
    }
    let window = Window { stride: [patch; 2], ..Window::default() };
    let square = Conv2dConfig::square([channels, model.width], patch);
    let patches = |store: &mut Store, name: &str, edge: &QuantConfig| {
        let form = Conv2dConfig { window, start: Start::FanIn, ..square };
        Conv2d::new(store, name, form, edge)?.biased(store)?.output_scaled(store, edge)
    };
    encoder(store, model.encoder(), h / patch * (w / patch), patches, classes, config)
}

/// A transformer of so many patches, which `patches` makes a layer for: [N, H, W, width] of the input. It gets the name of the layer
/// and the precision of the edges.
pub(super) fn encoder<P: Layer + 'static>(
    store: &mut Store,
    sizes: Encoder,
    count: usize,
    patches: impl FnOnce(&mut Store, &str, &QuantConfig) -> Result<P>,
    classes: usize,
    config: &QuantConfig,
) -> Result<Sequential> {
    let Encoder { width, depth, heads, drop_path } = sizes;
    let edge = config.edge()?;
    let learned =
        |store: &mut Store, name: &str, tokens| store.add_normal(name, Group::Offset, &[1, tokens, width], DEVIATION);
    let class = learned(store, "cls_token", 1)?;
    let positions = learned(store, "pos_embed", count + 1)?;
    let patches = patches(store, "patch_embed.proj", &edge)?;
    let mut net = Sequential::new().push(Tokens { patches, class, positions });
    for block in 0..depth {
        let sizes = TransformerConfig {
            width,
            heads,
            hidden: 4 * width,
            eps: EPS,
            deviation: DEVIATION,
            // The last block has the whole rate, also where it is the only one.
            drop_path: if depth == 1 { drop_path } else { drop_path * block as f32 / (depth - 1) as f32 },
        };
        net = net.push(TransformerBlock::new(store, &format!("blocks.{block}"), sizes, config)?);
    }
    // Each token is normalized by itself, so that of the others is not needed.
    let norm = LayerNorm::new(store, "norm", width)?.with_eps(EPS);
    let head = Linear::starting(store, "head", [width, classes], DEVIATION, &edge)?.output_scaled(store, &edge)?;
    Ok(net.push(FirstToken).push(norm).push(head))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{ModelSpec, network};
    use fixnet_autograd::Param;
    use fixnet_autograd::check::sample;
    use fixnet_quant::{FixedMatmul, Scheme};

    #[test]
    fn names_are_read_as_written_and_sizes_checked() {
        for text in ["vit", "vit:192x6", "vit:192x6x3", "vit:64x2:drop0.1", "deit-t", "deit-s:drop0.1"] {
            assert_eq!(text.parse::<ModelSpec>().unwrap().to_string(), text);
        }
        assert_eq!("vit:128x6x4:drop0".parse::<ModelSpec>().unwrap().to_string(), "vit");
        for text in [
            "vit:",
            "vit:0x6",
            "vit:130x6",
            "vit:128",
            "vit:128x6x5",
            "vit:drop1",
            "deit-t:192x12",
            "vit:x",
            "vit:128x101",
        ] {
            let e = text.parse::<ModelSpec>().unwrap_err().to_string();
            assert!(e.contains("vit:WIDTHxDEPTHxHEADS") && e.ends_with(text), "{e}");
        }
        let e = crate::models::build(
            &mut Store::seeded(1),
            &"vit".parse().unwrap(),
            [30, 32, 3],
            10,
            &QuantConfig::float(),
        );
        assert!(e.err().unwrap().to_string().contains("multiples of a patch's, 4, found 30 x 32"));
    }

    /// The numbers of parameters that timm's models have.
    #[test]
    fn networks_have_the_published_sizes() {
        for (text, input, classes, parameters) in [
            ("deit-t", [224, 224, 3], 1000, 5_717_416),
            ("deit-s", [224, 224, 3], 1000, 22_050_664),
            ("vit:64x2", [32, 32, 3], 10, 108_106),
        ] {
            let (mut store, net) = network(text, input, classes, &QuantConfig::float());
            let summary = crate::plan::Plan::of(&net, &mut store, &input).unwrap().summary();
            assert_eq!(summary.parameters(), parameters, "{text}");
        }
    }

    #[test]
    fn all_products_of_the_blocks_are_quantized_and_shares_have_no_sign() {
        for (bits, scheme) in [("4/4/4", Scheme::Lbt), ("2/2/32", Scheme::Trs), ("8/8/8", Scheme::Lbt)] {
            let config = QuantConfig { scheme, ..QuantConfig::new(bits.parse().unwrap()) };
            let (mut store, net) = network("vit:16x2", [8, 8, 3], 10, &config);
            let float: Vec<&str> =
                store.params().iter().filter(|p| p.group() == Group::Weight).map(Param::name).collect();
            assert_eq!(float, ["patch_embed.proj.weight", "head.weight"]);
            assert_eq!(store.params().iter().filter(|p| p.group() == Group::Latent).count(), 2 * 4);
            let outputs = store.params().iter().filter(|p| p.name().ends_with(".output.scale")).count();
            assert_eq!(outputs, if scheme == Scheme::Trs { 2 * 6 } else { 0 });
            let mut g = Graph::train(&mut store);
            let x = g.input(sample(&[2, 8, 8, 3], 1));
            let y = net.forward(&mut g, &x).unwrap();
            assert_eq!(y.shape(), [2, 10]);
            let loss = g.cross_entropy(&y, &[1, 2]).unwrap();
            g.backward(loss).unwrap();
            for p in store.params() {
                let grad = p.grad.as_ref().unwrap_or_else(|| panic!("`{}` has no gradient", p.name()));
                assert!(grad.data().iter().all(|d| d.is_finite()), "{}", p.name());
            }
            let plan = crate::plan::Plan::of(&net, &mut store, &[8, 8, 3]).unwrap();
            let products: Vec<(&str, bool)> = plan
                .nodes()
                .iter()
                .filter_map(|n| Some((n.name(), n.get::<FixedMatmul>()?.inputs[0].range.min() < 0)))
                .collect();
            let expected = ["blocks.0.attn.qk", "blocks.0.attn.pv", "blocks.1.attn.qk", "blocks.1.attn.pv"];
            assert_eq!(products, expected.map(|name| (name, name.ends_with("qk"))));
            // The plan is the layers, bit for bit.
            let x = sample(&[3, 8, 8, 3], 5);
            let mut g = Graph::eval(&mut store);
            let input = g.input(x.clone());
            let expected = net.forward(&mut g, &input).unwrap().tensor();
            assert_eq!(plan.run(x).unwrap().first().data(), expected.data(), "{bits}");
        }
    }
}
