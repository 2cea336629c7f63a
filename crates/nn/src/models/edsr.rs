//! A super-resolution network like EDSR (Lim et al., CVPR workshops 2017): residual blocks without batch norm, and the
//! upsampling at the end, so that all the work is done on small images.

use crate::layers::{Conv2d, PixelShuffle, Relu, Residual, Sequential};
use fixnet_autograd::{Result, Store};
use fixnet_quant::QuantConfig;

/// How many times higher and wider the output is.
pub const EDSR_SCALE: usize = 2;
const WIDTH: usize = 64;
const BLOCKS: usize = 4;

/// Images of `channels` channels to images twice as high and wide: a first convolution to 64 channels; four blocks
/// `x + conv(relu(conv(x)))` and a convolution, with a skip around them all; a convolution to 256 channels, the pixel
/// shuffle, a last convolution. Every convolution is 3x3 and has a bias, since no normalization follows.
///
/// The first and last convolution take the precision of `config.edges`. Inputs of quantized layers are of either sign,
/// but for those after a ReLU.
///
/// # Errors
/// Names in the store are taken.
pub fn edsr(store: &mut Store, channels: usize, config: &QuantConfig) -> Result<Sequential> {
    let edge = config.edge()?;
    let mut conv = |name: &str, channels: [usize; 2], config: &QuantConfig| {
        Conv2d::quantized(store, name, channels, 3, 1, config)?.output_scaled(store, config)?.biased(store)
    };
    let square = [WIDTH; 2];
    let head = conv("head", [channels, WIDTH], &edge)?;
    let mut body = Sequential::new();
    for i in 0..BLOCKS {
        let block = Sequential::new().push(conv(&format!("body.{i}.conv1"), square, config)?).push(Relu).push(conv(
            &format!("body.{i}.conv2"),
            square,
            config,
        )?);
        body = body.push(Residual(block));
    }
    let body = body.push(conv("body.conv", square, config)?);
    let upsample = conv("upsample", [WIDTH, WIDTH * EDSR_SCALE * EDSR_SCALE], config)?;
    let tail = conv("tail", [WIDTH, channels], &edge)?;
    Ok(Sequential::new()
        .push(head)
        .push(Residual(body))
        .push(upsample)
        .push(PixelShuffle { factor: EDSR_SCALE })
        .push(tail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Layer;
    use crate::optim::{Optimizer, OptimizerConfig};
    use fixnet_autograd::Graph;
    use fixnet_tensor::Tensor;

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
            let net = edsr(&mut store, 3, &config).unwrap();
            let weights = store.params().iter().filter(|p| p.value.shape().len() == 4).map(|p| p.value.len());
            // Nine convolutions of 64x64, the one to 256, and the edges.
            assert_eq!(weights.sum::<usize>(), 9 * 9 * 64 * 64 + 9 * 64 * 256 + 2 * 9 * 3 * 64);
            let mut optimizer =
                Optimizer::new(OptimizerConfig { lr: 1e-3, total_steps: 30, ..OptimizerConfig::default() }).unwrap();
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
