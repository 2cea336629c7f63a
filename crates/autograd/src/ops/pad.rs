//! `pad2d`: a frame of one value around an image, as max pooling with padding needs it.

use crate::stored::{Settings, settings_of};
use crate::{Backward, Cx, Grads, Graph, Operation, Result, Var, exactly};
use fixnet_tensor::{Error, Tensor};
use serde::{Deserialize, Serialize};

struct PadBackward {
    /// The shape of the input.
    shape: [usize; 4],
    padding: usize,
}

/// The places of the input's rows: (first number in the padded image, first number in the input, length).
fn rows([n, h, w, c]: [usize; 4], p: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let (high, wide) = (h + 2 * p, w + 2 * p);
    (0..n * h).map(move |row| {
        let (image, y) = (row / h.max(1), row % h.max(1));
        (((image * high + y + p) * wide + p) * c, row * w * c, w * c)
    })
}

impl Backward for PadBackward {
    fn name(&self) -> &'static str {
        "pad2d"
    }
    fn backward(self: Box<Self>, grad: Tensor, _: &mut Cx<'_>) -> Result<Grads> {
        let mut dx = Tensor::take(&self.shape);
        let (d, g) = (dx.data_mut(), grad.data());
        rows(self.shape, self.padding).for_each(|(large, small, len)| {
            d[small..][..len].copy_from_slice(&g[large..][..len]);
        });
        Ok(vec![Some(dx)])
    }
}

/// A frame of `padding` pixels of `value` around an image: [N, H, W, C] to [N, H + 2p, W + 2p, C].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pad2d {
    /// Rows and columns on each side.
    pub padding: usize,
    /// What they hold.
    pub value: f32,
}

impl Pad2d {
    fn shapes(&self, x: &[usize]) -> Result<([usize; 4], [usize; 4])> {
        let &[n, h, w, c] = x else { return Err(Error::shape("pad2d", "[N, H, W, C]", x).into()) };
        let sides = |length: usize| {
            self.padding.checked_mul(2).and_then(|p| p.checked_add(length)).filter(|&l| l < 1 << 24).ok_or_else(|| {
                Error::range("pad2d", "padding", "an image of fewer than 2^24 rows and columns", self.padding)
            })
        };
        Ok(([n, h, w, c], [n, sides(h)?, sides(w)?, c]))
    }
}

impl Operation for Pad2d {
    fn kind(&self) -> &'static str {
        "pad2d"
    }
    fn title(&self) -> String {
        "pad".into()
    }
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x] = exactly(inputs)?;
        Ok(self.shapes(x)?.1.to_vec())
    }
    fn is_non_negative(&self, inputs: &[bool]) -> bool {
        self.value >= 0.0 && inputs == [true]
    }
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        let [x] = exactly(inputs)?;
        let (shape, padded) = self.shapes(x.shape())?;
        let (t, padding) = (x.tensor(), self.padding);
        let mut out = Tensor::full(&padded, self.value);
        let (o, d) = (out.data_mut(), t.data());
        rows(shape, padding).for_each(|(large, small, len)| o[large..][..len].copy_from_slice(&d[small..][..len]));
        Ok(g.record(out, &[x], || PadBackward { shape, padding }))
    }
    fn settings(&self) -> Settings {
        settings_of(self)
    }
}

impl Graph<'_> {
    /// `padding` rows and columns of `value` on each side. Shapes: [N, H, W, C] to [N, H + 2p, W + 2p, C].
    ///
    /// # Errors
    /// The value is no image.
    pub fn pad2d(&mut self, x: &Var, padding: usize, value: f32) -> Result<Var> {
        self.apply(Pad2d { padding, value }, &[x])
    }
}

#[cfg(test)]
mod tests {
    use crate::check::{gradient_error, sample};
    use crate::{Graph, Store};
    use fixnet_tensor::Tensor;

    #[test]
    fn gradients_match_finite_differences() {
        let x = sample(&[2, 3, 4, 2], 1);
        assert!(gradient_error(&[x], 0.1, |g, v| g.pad2d(&v[0], 2, 0.5)).unwrap() < 1e-3);
    }

    #[test]
    fn the_image_is_in_the_middle() {
        let mut store = Store::seeded(0);
        let mut g = Graph::eval(&mut store);
        let x = g.input(Tensor::from_vec(&[1, 1, 2, 1], vec![1.0, 2.0]).unwrap());
        let y = g.pad2d(&x, 1, 9.0).unwrap().tensor();
        assert_eq!(y.shape(), [1, 3, 4, 1]);
        assert_eq!(y.data(), [9.0, 9.0, 9.0, 9.0, 9.0, 1.0, 2.0, 9.0, 9.0, 9.0, 9.0, 9.0]);
        assert!(g.pad2d(&x, usize::MAX, 0.0).is_err());
    }
}
