//! `upsample_nearest`: each pixel becomes a square of equal pixels, as where the levels of a feature pyramid meet.

use crate::stored::{Settings, settings_of};
use crate::{Backward, Cx, Grads, Graph, Operation, Result, Var, exactly};
use fixnet_tensor::{Error, Tensor, map};
use serde::{Deserialize, Serialize};

struct UpsampleBackward {
    /// The shape of the input.
    shape: [usize; 4],
    factor: usize,
}

impl Backward for UpsampleBackward {
    fn name(&self) -> &'static str {
        "upsample_nearest"
    }
    fn backward(self: Box<Self>, grad: Tensor, _: &mut Cx<'_>) -> Result<Grads> {
        let ([_, _, w, c], r, g) = (self.shape, self.factor, grad.data());
        let mut dx = Tensor::take(&self.shape);
        // Sums over a square go row by row, from left to right.
        map::rows(dx.data_mut(), w * c, |first, dx| {
            for (row, dx) in dx.chunks_exact_mut((w * c).max(1)).enumerate() {
                dx.fill(0.0);
                for i in 0..r {
                    let g = &g[((first + row) * r + i) * w * r * c..][..w * r * c];
                    for (dx, g) in dx.chunks_exact_mut(c.max(1)).zip(g.chunks_exact((r * c).max(1))) {
                        for g in g.chunks_exact(c) {
                            dx.iter_mut().zip(g).for_each(|(d, g)| *d += g);
                        }
                    }
                }
            }
        });
        Ok(vec![Some(dx)])
    }
}

/// Repeated pixels: [N, H, W, C] to [N, H·factor, W·factor, C].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpsampleNearest {
    /// How many times higher and wider the image becomes.
    pub factor: usize,
}

impl UpsampleNearest {
    fn shapes(&self, x: &[usize]) -> Result<([usize; 4], [usize; 4])> {
        const OP: &str = "upsample_nearest";
        let &[n, h, w, c] = x else { return Err(Error::shape(OP, "[N, H, W, C]", x).into()) };
        let r = self.factor;
        match (h.checked_mul(r), w.checked_mul(r)) {
            (Some(height), Some(width)) if r > 0 => Ok(([n, h, w, c], [n, height, width, c])),
            _ => Err(Error::shape(OP, format!("an image that can become {r} times as high and wide"), x).into()),
        }
    }
}

impl Operation for UpsampleNearest {
    fn kind(&self) -> &'static str {
        "upsample_nearest"
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
        let (shape @ [_, _, w, c], large) = self.shapes(x.shape())?;
        let (r, t) = (self.factor, x.tensor());
        let data = t.data();
        let mut out = Tensor::take(&large);
        map::rows(out.data_mut(), w * r * c, |first, out| {
            for (row, out) in out.chunks_exact_mut((w * r * c).max(1)).enumerate() {
                let pixels = data[(first + row) / r * w * c..][..w * c].chunks_exact(c);
                for (out, pixel) in out.chunks_exact_mut(r * c).zip(pixels) {
                    out.chunks_exact_mut(c).for_each(|out| out.copy_from_slice(pixel));
                }
            }
        });
        Ok(g.record(out, &[x], || UpsampleBackward { shape, factor: r }))
    }
    fn settings(&self) -> Settings {
        settings_of(self)
    }
}

impl Graph<'_> {
    /// Repeats each pixel: `out[n, y, x, c] = in[n, y / factor, x / factor, c]`, rounded down (nearest-neighbour interpolation).
    /// Shapes: [N, H, W, C] to [N, H·factor, W·factor, C].
    ///
    /// # Errors
    /// The value is no image, or the factor is 0.
    pub fn upsample_nearest(&mut self, x: &Var, factor: usize) -> Result<Var> {
        self.apply(UpsampleNearest { factor }, &[x])
    }
}

#[cfg(test)]
mod tests {
    use crate::check::{gradient_error, sample};
    use crate::{Graph, Store};
    use fixnet_tensor::Tensor;

    #[test]
    fn gradients_match_finite_differences() {
        for factor in [1, 2, 3] {
            let x = sample(&[2, 3, 2, 5], 1);
            assert!(gradient_error(&[x], 0.1, |g, v| g.upsample_nearest(&v[0], factor)).unwrap() < 1e-3);
        }
    }

    #[test]
    fn pixels_by_hand() {
        let mut store = Store::seeded(0);
        let mut g = Graph::eval(&mut store);
        let x = g.input(Tensor::from_vec(&[1, 1, 2, 2], vec![1.0, 2.0, 3.0, 4.0]).unwrap());
        let y = g.upsample_nearest(&x, 2).unwrap().tensor();
        assert_eq!(y.shape(), [1, 2, 4, 2]);
        let row = [1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0];
        assert_eq!(y.data(), [row, row].as_flattened());
        let e = g.upsample_nearest(&x, 0).unwrap_err().to_string();
        assert!(e.contains("upsample_nearest") && e.contains("[1, 1, 2, 2]"), "{e}");
        let flat = g.input(Tensor::zeros(&[2, 3]));
        assert!(g.upsample_nearest(&flat, 2).is_err());
        let empty = g.input(Tensor::zeros(&[1, 2, 0, 4]));
        assert_eq!(g.upsample_nearest(&empty, 2).unwrap().shape(), [1, 4, 0, 4]);
    }
}
