//! Super-resolution networks like EDSR (Lim et al., CVPR workshops 2017): residual blocks without batch norm, and the
//! upsampling at the end, so that all the work is done on small images.

use super::{Model, ModelKind, Output, image};
use crate::Layer;
use crate::layers::{Conv2d, Conv2dConfig, PixelShuffle, Relu, Residual, Sequential, Start};
use fixnet_autograd::{Error, Graph, Result, Store, Var};
use fixnet_quant::QuantConfig;
use std::fmt;
use std::str::FromStr;

/// The row of the registry.
pub(super) const KIND: ModelKind = ModelKind {
    form: "edsr[:OPTION-OPTION…]",
    about: "for super-resolution; options x2, x3, x4 (scale), n16 (blocks), f64 (channels), inner or body (which convolutions are \
            quantized), r0.1 (factor of a block)",
    examples: &["edsr:n1-f8"],
    // What is wrong with an option is said rather than that no model is meant.
    parse: |text| text.starts_with("edsr").then(|| text.parse::<EdsrSpec>().map(Into::into)),
};

/// Which convolutions take the precision of the inner layers; the others take that of the edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantized {
    /// All but the first and the last one (the rule of LBT for residual networks).
    Inner,
    /// Those of the residual blocks alone (as PAMS and DDTB have it).
    Body,
}

/// An EDSR-like network: `edsr` or `edsr:OPTION-OPTION…`, such as `edsr:x3-n8-f32-body-r0.1`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EdsrSpec {
    /// `x2`, `x3` or `x4`: how many times higher and wider the output is.
    pub scale: usize,
    /// `n4`: the number of residual blocks.
    pub blocks: usize,
    /// `f64`: the number of channels.
    pub width: usize,
    /// `inner` or `body`: which convolutions are quantized.
    pub quantized: Quantized,
    /// `r1`: the factor of a block before it is added to its input, above 0 and at most 1.
    pub residual_scale: f32,
}

impl Default for EdsrSpec {
    /// Twice as high and wide, 4 blocks of 64 channels, all but the first and the last convolution quantized. The published
    /// baseline has 16 blocks.
    fn default() -> Self {
        Self { scale: 2, blocks: 4, width: 64, quantized: Quantized::Inner, residual_scale: 1.0 }
    }
}

impl EdsrSpec {
    /// How far, in pixels of the input, an output pixel sees beyond the input pixel that it lies in: a tile with so much
    /// around it is enlarged as it would be within the whole image.
    pub fn reach(&self) -> usize {
        // The first convolution, those of the blocks, the body's last and the upsampler. Those behind the shuffles see one large
        // pixel each, all of them together one small pixel.
        1 + 2 * self.blocks + 1 + 1 + 1
    }
}

impl Model for EdsrSpec {
    fn name(&self) -> String {
        self.to_string()
    }

    fn output(&self) -> Output {
        Output::Image { scale: self.scale, reach: self.reach() }
    }

    fn build(&self, store: &mut Store, input: &[usize], _: usize, config: &QuantConfig) -> Result<Sequential> {
        edsr(store, image(self, input)?[2], self, config)
    }
}

impl fmt::Display for EdsrSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usual = Self::default();
        let options = [
            (self.scale != usual.scale).then(|| format!("x{}", self.scale)),
            (self.blocks != usual.blocks).then(|| format!("n{}", self.blocks)),
            (self.width != usual.width).then(|| format!("f{}", self.width)),
            (self.quantized == Quantized::Body).then(|| "body".into()),
            (self.residual_scale != 1.0).then(|| format!("r{}", self.residual_scale)),
        ];
        let options: Vec<String> = options.into_iter().flatten().collect();
        f.write_str(if options.is_empty() { "edsr" } else { "edsr:" })?;
        f.write_str(&options.join("-"))
    }
}

impl FromStr for EdsrSpec {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let wrong = || {
            let expected = "edsr or edsr:OPTION-OPTION… of x2, x3, x4 (scale), n1 to n256 (blocks), f1 to f4096 (channels), inner or \
                            body (which convolutions are quantized), r0.1 (factor of a block, above 0 to 1), each once";
            Error::setting("model", expected, s)
        };
        let options = match s.split_once(':') {
            None if s == "edsr" => return Ok(Self::default()),
            Some(("edsr", options)) => options,
            _ => return Err(wrong()),
        };
        let (mut spec, mut seen) = (Self::default(), Vec::new());
        for option in options.split('-') {
            let (kind, value) = match option {
                "inner" | "body" => ("layers", option),
                _ => option.split_at_checked(1).ok_or_else(wrong)?,
            };
            if seen.contains(&kind) {
                return Err(wrong());
            }
            seen.push(kind);
            let count = |most: usize| value.parse().ok().filter(|n| (1..=most).contains(n)).ok_or_else(wrong);
            match kind {
                "layers" => spec.quantized = if value == "body" { Quantized::Body } else { Quantized::Inner },
                "x" => spec.scale = count(4).and_then(|n| if n == 1 { Err(wrong()) } else { Ok(n) })?,
                "n" => spec.blocks = count(256)?,
                "f" => spec.width = count(4096)?,
                "r" => {
                    let factor = value.parse().ok().filter(|r| *r > 0.0 && *r <= 1.0);
                    spec.residual_scale = factor.ok_or_else(wrong)?;
                }
                _ => return Err(wrong()),
            }
        }
        Ok(spec)
    }
}

/// Images of `channels` channels to images `scale` times as high and wide: a first convolution to f channels; n blocks
/// `x + r · conv(relu(conv(x)))` and a convolution, with a skip around them all; a convolution to f · scale² channels and the
/// pixel shuffle (for a scale of 4 both twice, by 2); a last convolution. Every convolution is 3x3 and has a bias, since no
/// normalization follows; weights start as in the published code, by fan in.
///
/// The first and last convolution take the precision of `config.edges`; so do all outside of the blocks with
/// [`Quantized::Body`]. Inputs of quantized layers are of either sign, but for those after a ReLU.
///
/// # Errors
/// Names in the store are taken.
pub fn edsr(store: &mut Store, channels: usize, spec: &EdsrSpec, config: &QuantConfig) -> Result<Sequential> {
    let (edge, width) = (config.edge()?, spec.width);
    let outer = if spec.quantized == Quantized::Body { &edge } else { config };
    let mut conv = |name: &str, channels: [usize; 2], config: &QuantConfig| {
        let conv = Conv2d::new(
            store,
            name,
            Conv2dConfig { start: Start::FanIn, ..Conv2dConfig::square(channels, 3) },
            config,
        )?;
        conv.output_scaled(store, config)?.biased(store)
    };
    let head = conv("head", [channels, width], &edge)?;
    let mut body = Sequential::new();
    for i in 0..spec.blocks {
        let mut block = Sequential::new()
            .push(conv(&format!("body.{i}.conv1"), [width; 2], config)?)
            .push(Relu)
            .push(conv(&format!("body.{i}.conv2"), [width; 2], config)?);
        if spec.residual_scale != 1.0 {
            block = block.push(Times(spec.residual_scale));
        }
        body = body.push(Residual(block));
    }
    let body = body.push(conv("body.conv", [width; 2], outer)?);
    let mut net = Sequential::new().push(head).push(Residual(body));
    let steps: &[(&str, usize)] = match spec.scale {
        4 => &[("upsample", 2), ("upsample2", 2)],
        3 => &[("upsample", 3)],
        _ => &[("upsample", 2)],
    };
    for &(name, factor) in steps {
        net = net.push(conv(name, [width, width * factor * factor], outer)?).push(PixelShuffle { factor });
    }
    Ok(net.push(conv("tail", [width, channels], &edge)?))
}

/// Multiplies by a number.
struct Times(f32);

impl Layer for Times {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        g.scale(x, self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::{Optimizer, OptimizerConfig};
    use fixnet_tensor::Tensor;

    fn weights(store: &Store) -> usize {
        store.params().iter().filter(|p| p.name().ends_with(".weight")).map(|p| p.value.len()).sum()
    }

    #[test]
    fn specs_are_read_as_written() {
        for text in ["edsr", "edsr:x3", "edsr:n16", "edsr:x4-n32-f256-body-r0.1"] {
            assert_eq!(text.parse::<EdsrSpec>().unwrap().to_string(), text);
        }
        assert_eq!("edsr:f64-x2-inner-n4-r1".parse::<EdsrSpec>().unwrap(), EdsrSpec::default());
        for text in [
            "edsr:",
            "edsr:x1",
            "edsr:x5",
            "edsr:x2-x2",
            "edsr:inner-body",
            "edsr:n0",
            "edsr:r0",
            "edsr:rnan",
            "edsr:é",
            "x",
        ] {
            let e = text.parse::<EdsrSpec>().unwrap_err().to_string();
            assert!(e.contains("OPTION") && e.contains(text), "{e}");
        }
    }

    #[test]
    fn the_baseline_has_the_published_size_at_every_scale() {
        // Parameters of the published baseline, 16 blocks of 64 channels: 1.37, 1.55 and 1.52 million.
        for (scale, parameters) in [(2, 1_369_859), (3, 1_554_499), (4, 1_517_571)] {
            let mut store = Store::seeded(0);
            let spec = EdsrSpec { scale, blocks: 16, ..EdsrSpec::default() };
            let net = edsr(&mut store, 3, &spec, &QuantConfig::float()).unwrap();
            assert_eq!(store.params().iter().map(|p| p.value.len()).sum::<usize>(), parameters, "x{scale}");
            let mut g = Graph::eval(&mut store);
            let x = g.input(Tensor::zeros(&[1, 3, 2, 3]));
            assert_eq!(net.forward(&mut g, &x).unwrap().shape(), [1, 3 * scale, 2 * scale, 3]);
        }
    }

    #[test]
    fn each_convention_quantizes_its_convolutions() {
        for (quantized, float) in [(Quantized::Inner, 2), (Quantized::Body, 5)] {
            let mut store = Store::seeded(0);
            let spec = EdsrSpec { scale: 4, blocks: 2, width: 8, quantized, residual_scale: 0.5 };
            edsr(&mut store, 3, &spec, &QuantConfig::new("4/4/4".parse().unwrap())).unwrap();
            let of = |group| store.params().iter().filter(|p| p.group() == group).count();
            assert_eq!((of(fixnet_autograd::Group::Weight), of(fixnet_autograd::Group::Latent)), (float, 9 - float));
        }
    }

    /// A pixel that changes changes the output within the reach alone, and as far as that in one direction.
    #[test]
    fn the_reach_is_as_far_as_a_pixel_is_seen() {
        for scale in [2, 3, 4] {
            let spec = EdsrSpec { scale, blocks: 1, width: 4, ..EdsrSpec::default() };
            let mut store = Store::seeded(3);
            let net = edsr(&mut store, 1, &spec, &QuantConfig::float()).unwrap();
            let side = 2 * spec.reach() + 7;
            let mut run = |at: Option<usize>| {
                let mut x: Vec<f32> = (0..side).map(|i| (i * 7 % 5) as f32).collect();
                at.into_iter().for_each(|at| x[at] += 100.0);
                let mut g = Graph::eval(&mut store);
                let x = g.input(Tensor::from_vec(&[1, 1, side, 1], x).unwrap());
                net.forward(&mut g, &x).unwrap().tensor().data()[..side * scale].to_vec()
            };
            let (plain, middle) = (run(None), side / 2);
            let changed = run(Some(middle));
            let differ: Vec<usize> = (0..side * scale).filter(|&i| plain[i] != changed[i]).map(|i| i / scale).collect();
            let (first, last) = (differ[0], differ[differ.len() - 1]);
            assert!(
                middle - first <= spec.reach() && last - middle <= spec.reach(),
                "x{scale}: {first} {middle} {last}"
            );
            assert!(
                last - middle == spec.reach() || middle - first == spec.reach(),
                "x{scale}: {first} {middle} {last}"
            );
        }
    }

    /// A smooth picture with an edge, `size` pixels wide, `channels` = 3.
    fn picture(size: usize) -> Tensor {
        let at = |y: usize, x: usize, c: usize| {
            let (y, x) = ((y as f32 + 0.5) / size as f32, (x as f32 + 0.5) / size as f32);
            0.5 * (x - y) + if x + y > 1.0 { 0.3 } else { -0.3 } + 0.1 * c as f32
        };
        let values = (0..size * size * 3).map(|i| at(i / 3 / size, i / 3 % size, i % 3)).collect();
        Tensor::from_vec(&[1, size, size, 3], values).unwrap()
    }

    #[test]
    fn it_has_the_known_size_and_learns_to_enlarge_in_float_and_in_four_bits() {
        for bits in ["32/32/32", "4/4/4"] {
            let config = QuantConfig::new(bits.parse().unwrap());
            let mut store = Store::seeded(0);
            let net = edsr(&mut store, 3, &EdsrSpec::default(), &config).unwrap();
            // Nine convolutions of 64x64, the one to 256, and the edges.
            assert_eq!(weights(&store), 9 * 9 * 64 * 64 + 9 * 64 * 256 + 2 * 9 * 3 * 64);
            let mut optimizer =
                Optimizer::new(OptimizerConfig { lr: 2e-3, total_steps: 30, .."adam".parse().unwrap() }).unwrap();
            let mut losses = Vec::new();
            for _ in 0..30 {
                let mut g = Graph::train(&mut store);
                let (x, target) = (g.input(picture(8)), g.input(picture(16)));
                let y = net.forward(&mut g, &x).unwrap();
                let loss = g.l1_loss(&y, &target).unwrap();
                losses.push(loss.tensor().item());
                g.backward(loss).unwrap();
                optimizer.step(&mut store).unwrap();
            }
            assert!(losses[29] < 0.5 * losses[0], "{bits}: {losses:?}");
        }
    }
}
