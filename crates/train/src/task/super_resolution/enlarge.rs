//! A picture of any size through a network, in tiles whose seams do not show: each tile is computed with as much around it as
//! its pixels see, so every pixel has the bits that it has in the whole picture, and memory is that of one tile.

use super::pictures_of;
use crate::Result;
use fixnet_autograd::{Graph, Store};
use fixnet_data::{Normalize, Picture};
use fixnet_nn::Layer;

/// Rows and columns of a tile, in pixels of the small picture, without what is around it.
const TILE: usize = 128;

/// How a network enlarges pictures.
#[derive(Debug, Clone)]
pub struct Enlarger {
    /// How many times higher and wider they become.
    pub scale: usize,
    /// How far an output pixel sees beyond the input pixel that it lies in.
    pub reach: usize,
    /// What the network sees of a pixel.
    pub normalize: Normalize,
}

impl Enlarger {
    /// Enlarges a picture with a network that gives numbers from 0 to 1.
    ///
    /// # Errors
    /// The result has a side of more than 16384 pixels or is beyond its memory budget; the network is one of another scale.
    pub fn enlarge(&self, net: &dyn Layer, store: &mut Store, picture: &Picture) -> Result<Picture> {
        self.tiled(net, store, picture, TILE)
    }

    fn tiled(&self, net: &dyn Layer, store: &mut Store, picture: &Picture, tile: usize) -> Result<Picture> {
        let (scale, [height, width, channels]) = (self.scale, picture.shape());
        let (large_height, large_width) = (height.saturating_mul(scale), width.saturating_mul(scale));
        // The size is checked before the first tile.
        let mut out = vec![0; Picture::bytes_of(large_height, large_width)?];
        for top in (0..height).step_by(tile) {
            for left in (0..width).step_by(tile) {
                let rows = around(top, tile, self.reach, height);
                let columns = around(left, tile, self.reach, width);
                let window = picture.window([rows.from, columns.from], [rows.len, columns.len])?;
                let large = self.whole(net, store, &window)?;
                for y in 0..rows.inner * scale {
                    let from = ((rows.before * scale + y) * columns.len + columns.before) * scale * channels;
                    let to = ((top * scale + y) * large_width + left * scale) * channels;
                    let count = columns.inner * scale * channels;
                    out[to..to + count].copy_from_slice(&large.pixels()[from..from + count]);
                }
            }
        }
        Ok(Picture::new(large_height, large_width, out)?)
    }

    /// Enlarges a picture in one piece.
    pub(super) fn whole(&self, net: &dyn Layer, store: &mut Store, picture: &Picture) -> Result<Picture> {
        let mut g = Graph::eval(store);
        let x = g.input(picture.normalized(&self.normalize)?);
        let y = net.forward(&mut g, &x)?.tensor();
        let expected = [1, picture.height() * self.scale, picture.width() * self.scale, 3];
        if y.shape() != expected {
            return Err(fixnet_tensor::Error::shape("an enlarged picture", format!("{expected:?}"), y.shape()).into());
        }
        Ok(pictures_of(&y)?.swap_remove(0))
    }
}

/// A tile along an axis with what is around it, as far as there is something.
struct Around {
    from: usize,
    len: usize,
    /// How much of it is before the tile.
    before: usize,
    inner: usize,
}

fn around(start: usize, tile: usize, reach: usize, side: usize) -> Around {
    let inner = tile.min(side - start);
    let from = start.saturating_sub(reach);
    Around { from, len: (start + inner + reach).min(side) - from, before: start - from, inner }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixnet_nn::models::{EdsrSpec, edsr};
    use fixnet_quant::QuantConfig;

    fn picture(height: usize, width: usize) -> Picture {
        Picture::new(height, width, (0..height * width * 3).map(|i| (i * i % 251) as u8).collect()).unwrap()
    }

    #[test]
    fn tiles_have_the_bits_of_the_whole_picture() {
        for (bits, scale) in [("32/32/32", 2), ("32/32/32", 3), ("32/32/32", 4), ("4/4/4", 2)] {
            let spec = EdsrSpec { scale, blocks: 1, width: 8, ..EdsrSpec::default() };
            let mut store = Store::seeded(5);
            let net = edsr(&mut store, 3, &spec, &QuantConfig::new(bits.parse().unwrap())).unwrap();
            let normalize = Normalize::none(3);
            // A step sets the scales of quantizers.
            let mut g = Graph::train(&mut store);
            let x = g.input(picture(9, 9).normalized(&normalize).unwrap());
            net.forward(&mut g, &x).unwrap();
            drop(g);
            let enlarger = Enlarger { scale, reach: spec.reach(), normalize };
            for (height, width) in [(29, 40), (16, 16), (3, 33), (1, 1)] {
                let small = picture(height, width);
                let whole = enlarger.whole(&net, &mut store, &small).unwrap();
                assert_eq!(
                    enlarger.tiled(&net, &mut store, &small, 8).unwrap(),
                    whole,
                    "{bits} x{scale} {height}x{width}"
                );
                assert_eq!(enlarger.enlarge(&net, &mut store, &small).unwrap(), whole);
            }
            // With less around them they would not.
            let short = Enlarger { reach: spec.reach() - 3, ..enlarger };
            let small = picture(29, 40);
            let whole = short.whole(&net, &mut store, &small).unwrap();
            assert_ne!(short.tiled(&net, &mut store, &small, 8).unwrap(), whole, "{bits} x{scale}");
        }
    }

    #[test]
    fn a_result_that_is_too_large_is_refused_before_it_is_computed() {
        let net = fixnet_nn::layers::Relu;
        let enlarger = Enlarger { scale: 4, reach: 1, normalize: Normalize::none(3) };
        let e = enlarger.enlarge(&net, &mut Store::seeded(1), &picture(1, 5000)).unwrap_err().to_string();
        assert!(e.contains("16384") && e.contains("4x20000"), "{e}");
        let e = enlarger.enlarge(&net, &mut Store::seeded(1), &picture(4, 4)).unwrap_err().to_string();
        assert!(e.contains("[1, 16, 16, 3]") && e.contains("[1, 4, 4, 3]"), "{e}");
    }
}
