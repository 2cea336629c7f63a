//! `pixel_shuffle`: channels become pixels, the upsampling of super-resolution networks.

use crate::stored::{Settings, settings_of};
use crate::{Backward, Cx, Grads, Graph, Operation, Result, Var, exactly};
use fixnet_tensor::{Error, Tensor, map};
use serde::{Deserialize, Serialize};

struct PixelShuffleBackward {
    /// The shape of the input.
    shape: [usize; 4],
    factor: usize,
}

impl Backward for PixelShuffleBackward {
    fn name(&self) -> &'static str {
        "pixel_shuffle"
    }
    fn backward(self: Box<Self>, grad: Tensor, _: &mut Cx<'_>) -> Result<Grads> {
        let ([_, h, w, wide], r) = (self.shape, self.factor);
        let (c, g) = (wide / (r * r), grad.data());
        let mut dx = Tensor::take(&self.shape);
        map::rows(dx.data_mut(), w * wide, |first, dx| {
            for (row, dx) in dx.chunks_exact_mut((w * wide).max(1)).enumerate() {
                let (image, y) = ((first + row) / h, (first + row) % h);
                for i in 0..r {
                    let g = &g[((image * h + y) * r + i) * w * r * c..][..w * r * c];
                    for (dx, g) in dx.chunks_exact_mut(wide).zip(g.chunks_exact(r * c)) {
                        for (j, g) in g.chunks_exact(c).enumerate() {
                            dx.chunks_exact_mut(r * r).zip(g).for_each(|(group, &g)| group[i * r + j] = g);
                        }
                    }
                }
            }
        });
        Ok(vec![Some(dx)])
    }
}

/// Channels to pixels: [N, H, W, C·factor²] to [N, H·factor, W·factor, C].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PixelShuffle {
    /// How many times higher and wider the image becomes.
    pub factor: usize,
}

impl PixelShuffle {
    fn shapes(&self, x: &[usize]) -> Result<([usize; 4], [usize; 4])> {
        const OP: &str = "pixel_shuffle";
        let &[n, h, w, wide] = x else { return Err(Error::shape(OP, "[N, H, W, C]", x).into()) };
        let r = self.factor;
        match r.checked_mul(r) {
            Some(area) if area > 0 && wide > 0 && wide.is_multiple_of(area) => {
                Ok(([n, h, w, wide], [n, h.saturating_mul(r), w.saturating_mul(r), wide / area]))
            }
            _ => {
                let expected = format!("[N, H, W, C] with C a multiple of the square of the factor {r}, above 0");
                Err(Error::shape(OP, expected, x).into())
            }
        }
    }
}

impl Operation for PixelShuffle {
    fn kind(&self) -> &'static str {
        "pixel_shuffle"
    }
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x] = exactly(inputs)?;
        Ok(self.shapes(x)?.1.to_vec())
    }
    fn is_non_negative(&self, inputs: &[bool]) -> bool {
        inputs.iter().all(|&input| input)
    }
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        let [x] = exactly(inputs)?;
        let (shape, pixels) = self.shapes(x.shape())?;
        let ([_, _, w, wide], r, t) = (shape, self.factor, x.tensor());
        let (c, data) = (pixels[3], t.data());
        let mut out = Tensor::take(&pixels);
        map::rows(out.data_mut(), w * r * c, |first, out| {
            for (row, out) in out.chunks_exact_mut((w * r * c).max(1)).enumerate() {
                // Rows of all images counted through: `y / r` is the row of the input.
                let (y, i) = ((first + row) / r, (first + row) % r);
                let pixels = data[y * w * wide..][..w * wide].chunks_exact(wide);
                for (out, pixel) in out.chunks_exact_mut(r * c).zip(pixels) {
                    for (j, out) in out.chunks_exact_mut(c).enumerate() {
                        out.iter_mut().zip(pixel.chunks_exact(r * r)).for_each(|(o, group)| *o = group[i * r + j]);
                    }
                }
            }
        });
        Ok(g.record(out, &[x], || PixelShuffleBackward { shape, factor: r }))
    }
    fn settings(&self) -> Settings {
        settings_of(self)
    }
}

impl Graph<'_> {
    /// Each group of `factor`² channels becomes a square of pixels:
    /// `out[n, y·r + i, x·r + j, c] = in[n, y, x, c·r² + i·r + j]` with r = `factor`, the order of channels that PyTorch
    /// has. Shapes: [N, H, W, C·r²] to [N, H·r, W·r, C].
    ///
    /// # Errors
    /// The value is no image, the factor is 0, or the channels are no multiple of its square.
    pub fn pixel_shuffle(&mut self, x: &Var, factor: usize) -> Result<Var> {
        self.apply(PixelShuffle { factor }, &[x])
    }
}

#[cfg(test)]
mod tests {
    use crate::check::{gradient_error, sample};
    use crate::{Graph, Store};
    use fixnet_tensor::Tensor;

    #[test]
    fn gradients_match_finite_differences() {
        for (channels, factor) in [(12, 2), (9, 3), (3, 1)] {
            let x = sample(&[2, 3, 2, channels], 1);
            assert!(gradient_error(&[x], 0.1, |g, v| g.pixel_shuffle(&v[0], factor)).unwrap() < 1e-3);
        }
    }

    #[test]
    fn channels_go_to_pixels_in_the_published_order() {
        let mut store = Store::seeded(0);
        let mut g = Graph::eval(&mut store);
        // Two pixels side by side with two channels each after the shuffle by 2.
        let x = g.input(Tensor::from_vec(&[1, 1, 2, 8], (0..16u8).map(f32::from).collect()).unwrap());
        let y = g.pixel_shuffle(&x, 2).unwrap().tensor();
        assert_eq!(y.shape(), [1, 2, 4, 2]);
        let rows = [[0, 4, 1, 5, 8, 12, 9, 13], [2, 6, 3, 7, 10, 14, 11, 15]];
        assert_eq!(y.data(), rows.as_flattened().iter().map(|&v| v as f32).collect::<Vec<_>>());
    }

    #[test]
    fn channels_that_do_not_divide_are_refused() {
        let mut store = Store::seeded(0);
        let mut g = Graph::eval(&mut store);
        let x = g.input(Tensor::zeros(&[1, 2, 2, 6]));
        for factor in [0, 2, usize::MAX] {
            let e = g.pixel_shuffle(&x, factor).unwrap_err().to_string();
            assert!(e.contains("pixel_shuffle") && e.contains("[1, 2, 2, 6]"), "{e}");
        }
        let empty = g.input(Tensor::zeros(&[1, 2, 0, 4]));
        assert_eq!(g.pixel_shuffle(&empty, 2).unwrap().shape(), [1, 4, 0, 1]);
    }
}
