//! Pooling: `max_pool2d`, `avg_pool2d`, `global_avg_pool2d`. Windows of `size`, moved by `stride`, no padding; rows and
//! columns that fill no window are left out, as is usual.

use crate::deferred::{self, Deferred};
use crate::gradient::Gradient;
use crate::stored::{Settings, settings_of};
use crate::{Backward, Cx, Grads, Graph, Operation, Result, Value, Var, exactly};
use fixnet_tensor::{Buffer, Error, Tensor, map};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Sizes of a pooling operation.
#[derive(Clone, Copy)]
struct Windows {
    input: [usize; 4],
    out: [usize; 4],
    size: [usize; 2],
    stride: usize,
}

impl Windows {
    fn new(op: &'static str, shape: &[usize], size: [usize; 2], stride: usize) -> Result<Self> {
        let &[n, h, w, c] = shape else { return Err(Error::shape(op, "[N, H, W, C]", shape).into()) };
        let input = [n, h, w, c];
        if size.contains(&0) || stride == 0 || h < size[0] || w < size[1] || c == 0 {
            let least = format!("an image of at least {size:?} pixels with channels, stride {stride} above 0");
            return Err(Error::shape(op, least, shape).into());
        }
        Ok(Self { input, out: [n, (h - size[0]) / stride + 1, (w - size[1]) / stride + 1, c], size, stride })
    }

    /// The index of the first input pixel of the window of output pixel `i` (all images counted through).
    fn corner(&self, i: usize) -> usize {
        let [_, h, w, _] = self.input;
        let [_, oh, ow, _] = self.out;
        (i / (oh * ow) * h + i / ow % oh * self.stride) * w + i % ow * self.stride
    }

    /// Whether no pixel lies in two windows.
    fn apart(&self) -> bool {
        self.size.iter().all(|&s| s <= self.stride)
    }

    /// The distances from the corner to the pixels of a window.
    fn taps(&self) -> Vec<usize> {
        let [rows, columns] = self.size;
        (0..rows * columns).map(|t| t / columns * self.input[2] + t % columns).collect()
    }

    /// `f(output pixel, input gradient)` for each image on its own: windows of one image may overlap, images never do.
    fn scatter(&self, f: impl Fn(usize, usize, &mut [f32]) + Sync) -> Tensor {
        let mut dx = Tensor::zeros(&self.input);
        let image: usize = self.input[1..].iter().product();
        let pixels = self.out[1] * self.out[2];
        map::rows(
            dx.data_mut(),
            image,
            #[inline(always)]
            |first, dx| {
                for (n, dx) in dx.chunks_exact_mut(image).enumerate() {
                    for i in (first + n) * pixels..(first + n + 1) * pixels {
                        let offset = self.corner(i) - (first + n) * self.input[1] * self.input[2];
                        f(i, offset, dx);
                    }
                }
            },
        );
        dx
    }
}

struct MaxPoolBackward {
    windows: Windows,
    /// Which tap of the window won, for each output element.
    winner: Buffer<u8>,
}

impl Backward for MaxPoolBackward {
    fn name(&self) -> &'static str {
        "max_pool2d"
    }
    fn backward(self: Box<Self>, grad: Tensor, _: &mut Cx<'_>) -> Result<Grads> {
        let Self { windows, winner } = *self;
        if windows.apart() {
            return Ok(vec![Some(deferred::write(&ToWinner { windows, winner, grad }))]);
        }
        let (taps, c) = (windows.taps(), windows.input[3]);
        let (grad, winner) = (grad.data(), &*winner);
        Ok(vec![Some(windows.scatter(|i, offset, dx| {
            let (grad, winner) = (&grad[i * c..][..c], &winner[i * c..][..c]);
            for (tap, at) in taps.iter().enumerate() {
                let dx = &mut dx[(offset + at) * c..][..c];
                for ((dx, &g), &who) in dx.iter_mut().zip(grad).zip(winner) {
                    *dx += if usize::from(who) == tap { g } else { 0.0 };
                }
            }
        }))])
    }
    fn backward_deferred(self: Box<Self>, grad: Gradient, cx: &mut Cx<'_>) -> Result<Vec<Option<Gradient>>> {
        let grad = grad.into_tensor(cx.store);
        if !self.windows.apart() {
            return Ok(self.backward(grad, cx)?.into_iter().map(|g| g.map(Gradient::Float)).collect());
        }
        let Self { windows, winner } = *self;
        Ok(vec![Some(Gradient::Deferred(Arc::new(ToWinner { windows, winner, grad })))])
    }
}

/// The gradient of the input where windows do not overlap: that of the window for its winner, 0 for the others. It has
/// more numbers than it is made of, so it is made where it is needed.
struct ToWinner {
    windows: Windows,
    winner: Buffer<u8>,
    grad: Tensor,
}

impl Deferred for ToWinner {
    fn shape(&self) -> &[usize] {
        &self.windows.input
    }
    fn fill(&self, first: usize, out: &mut [f32]) {
        let Windows { input: [_, h, w, c], out: [_, oh, ow, _], size, stride } = self.windows;
        let grad = self.grad.data();
        map::dispatch(
            #[inline(always)]
            || {
                let mut from = first % c;
                let (line, mut x) = (first / c / w, first / c % w);
                let (mut image, mut y) = (line / h, line % h);
                let (mut oy, mut row) = (y / stride, y % stride);
                let (mut ox, mut column) = (x / stride, x % stride);
                let mut out = out;
                // Pixel by pixel of the input, of the first and the last perhaps a part.
                while !out.is_empty() {
                    let (pixel, rest) = out.split_at_mut((c - from).min(out.len()));
                    out = rest;
                    if oy >= oh || ox >= ow || row >= size[0] || column >= size[1] {
                        pixel.fill(0.0);
                    } else {
                        let window = ((image * oh + oy) * ow + ox) * c + from;
                        let tap = (row * size[1] + column) as u8;
                        let both = grad[window..][..pixel.len()].iter().zip(&self.winner[window..][..pixel.len()]);
                        pixel.iter_mut().zip(both).for_each(|(o, (&g, &who))| *o = if who == tap { g } else { 0.0 });
                    }
                    from = 0;
                    (x, column) = (x + 1, column + 1);
                    if column == stride {
                        (ox, column) = (ox + 1, 0);
                    }
                    if x == w {
                        (x, ox, column, y, row) = (0, 0, 0, y + 1, row + 1);
                        if row == stride {
                            (oy, row) = (oy + 1, 0);
                        }
                        if y == h {
                            (y, oy, row, image) = (0, 0, 0, image + 1);
                        }
                    }
                }
            },
        );
    }
    fn size(&self) -> usize {
        2
    }
}

struct AvgPoolBackward {
    windows: Windows,
}

impl Backward for AvgPoolBackward {
    fn name(&self) -> &'static str {
        "avg_pool2d"
    }
    fn backward(self: Box<Self>, grad: Tensor, _: &mut Cx<'_>) -> Result<Grads> {
        let (taps, c) = (self.windows.taps(), self.windows.input[3]);
        let share = 1.0 / taps.len() as f32;
        let grad = grad.data();
        Ok(vec![Some(self.windows.scatter(|i, offset, dx| {
            let g = &grad[i * c..][..c];
            for tap in &taps {
                dx[(offset + tap) * c..][..c].iter_mut().zip(g).for_each(|(d, g)| *d += g * share);
            }
        }))])
    }
}

/// The largest value of each window: [N, H, W, C] to [N, H', W', C].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaxPool2d {
    /// Height and width of a window, at most 15.
    pub size: usize,
    /// Distance between windows.
    pub stride: usize,
    /// Rows and columns on each side that never win; fewer than `size`.
    pub padding: usize,
}

impl MaxPool2d {
    /// The windows over an image that is padded already.
    fn windows(&self, shape: &[usize]) -> Result<Windows> {
        let windows = Windows::new("max_pool2d", shape, [self.size; 2], self.stride)?;
        if self.size > 15 {
            return Err(Error::range("max_pool2d", "window", "at most 15", self.size).into());
        }
        Ok(windows)
    }

    fn check_padding(&self) -> Result<()> {
        let Self { size, padding, .. } = *self;
        if padding > 0 && padding >= size {
            let expected = format!("less than the window of {size}");
            return Err(Error::range("max_pool2d", "padding", expected, padding).into());
        }
        Ok(())
    }
}

impl Operation for MaxPool2d {
    fn kind(&self) -> &'static str {
        "max_pool2d"
    }
    fn title(&self) -> String {
        format!("max pool {0}x{0}", self.size)
    }
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x] = exactly(inputs)?;
        self.check_padding()?;
        let padded = match *x {
            [n, h, w, c] if self.padding < 1 << 24 => {
                vec![n, h.saturating_add(2 * self.padding), w.saturating_add(2 * self.padding), c]
            }
            _ => x.to_vec(),
        };
        Ok(self.windows(&padded)?.out.to_vec())
    }
    fn is_non_negative(&self, inputs: &[bool]) -> bool {
        inputs.iter().all(|&input| input)
    }
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        let [x] = exactly(inputs)?;
        let Self { size, stride, padding } = *self;
        self.check_padding()?;
        if padding > 0 {
            let padded = g.pad2d(x, padding, f32::NEG_INFINITY)?;
            return g.max_pool2d(&padded, size, stride);
        }
        let windows = self.windows(x.shape())?;
        let Windows { input: [_, h, w, c], out: [_, oh, ow, _], .. } = windows;
        let taps = windows.taps();
        let value: &dyn Deferred = match x.value() {
            Value::Deferred(lazy) if lazy.wants_writing() => &lazy.tensor(),
            value => value,
        };
        let mut out = Tensor::take(&windows.out);
        let mut winner = Buffer::<u8>::take(out.len());
        // By lines of the result: the lines that they see are computed in the cache if they are not written.
        map::rows2(
            out.data_mut(),
            &mut winner,
            ow * c,
            #[inline(always)]
            |first, out, winner| {
                let mut scratch = Buffer::take(size * w * c);
                let lines = out.chunks_exact_mut(ow * c).zip(winner.chunks_exact_mut(ow * c));
                for (line, (out, winner)) in (first..).zip(lines) {
                    let from = (line / oh * h + line % oh * stride) * w * c;
                    let seen = match value.slice(from..from + size * w * c) {
                        Some(seen) => seen,
                        None => {
                            value.fill(from, &mut scratch);
                            &scratch
                        }
                    };
                    for (ox, (out, winner)) in out.chunks_exact_mut(c).zip(winner.chunks_exact_mut(c)).enumerate() {
                        let corner = &seen[ox * stride * c..];
                        out.copy_from_slice(&corner[..c]);
                        winner.fill(0);
                        for (tap, offset) in taps.iter().enumerate().skip(1) {
                            let values = &corner[offset * c..][..c];
                            for ((best, who), &v) in out.iter_mut().zip(winner.iter_mut()).zip(values) {
                                // A NaN wins and stays, so that it is found.
                                let wins = (v > *best) | v.is_nan();
                                *best = if wins { v } else { *best };
                                *who = if wins { tap as u8 } else { *who };
                            }
                        }
                    }
                }
            },
        );
        Ok(g.record(out, &[x], || MaxPoolBackward { windows, winner }))
    }
    fn settings(&self) -> Settings {
        settings_of(self)
    }
}

/// The mean of each window: [N, H, W, C] to [N, H', W', C].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AvgPool2d {
    /// Height and width of a window.
    pub size: usize,
    /// Distance between windows.
    pub stride: usize,
}

impl Operation for AvgPool2d {
    fn kind(&self) -> &'static str {
        "avg_pool2d"
    }
    fn title(&self) -> String {
        format!("avg pool {0}x{0}", self.size)
    }
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x] = exactly(inputs)?;
        Ok(Windows::new("avg_pool2d", x, [self.size; 2], self.stride)?.out.to_vec())
    }
    fn is_non_negative(&self, inputs: &[bool]) -> bool {
        inputs.iter().all(|&input| input)
    }
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        let [x] = exactly(inputs)?;
        average(g, x, Windows::new("avg_pool2d", x.shape(), [self.size; 2], self.stride)?)
    }
    fn settings(&self) -> Settings {
        settings_of(self)
    }
}

/// The mean of each channel over the image: [N, H, W, C] to [N, C].
#[derive(Debug, Clone, Copy)]
pub struct GlobalAvgPool2d;

impl GlobalAvgPool2d {
    fn windows(x: &[usize]) -> Result<Windows> {
        const OP: &str = "global_avg_pool2d";
        let &[_, h, w, _] = x else { return Err(Error::shape(OP, "[N, H, W, C]", x).into()) };
        Windows::new(OP, x, [h, w], 1)
    }
}

impl Operation for GlobalAvgPool2d {
    fn kind(&self) -> &'static str {
        "global_avg_pool2d"
    }
    fn title(&self) -> String {
        "global avg pool".into()
    }
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x] = exactly(inputs)?;
        let [n, _, _, c] = Self::windows(x)?.out;
        Ok(vec![n, c])
    }
    fn is_non_negative(&self, inputs: &[bool]) -> bool {
        inputs.iter().all(|&input| input)
    }
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        let [x] = exactly(inputs)?;
        let windows = Self::windows(x.shape())?;
        let [n, _, _, c] = windows.out;
        let pooled = average(g, x, windows)?;
        g.reshape(&pooled, &[n, c])
    }
}

fn average(g: &mut Graph<'_>, x: &Var, windows: Windows) -> Result<Var> {
    let t = x.tensor();
    let (taps, c) = (windows.taps(), windows.input[3]);
    let share = 1.0 / taps.len() as f32;
    let mut out = Tensor::take(&windows.out);
    let data = t.data();
    map::rows(
        out.data_mut(),
        c,
        #[inline(always)]
        |first, out| {
            for (i, out) in out.chunks_exact_mut(c).enumerate() {
                let corner = windows.corner(first + i);
                out.fill(0.0);
                for tap in &taps {
                    out.iter_mut().zip(&data[(corner + tap) * c..][..c]).for_each(|(o, x)| *o += x);
                }
                out.iter_mut().for_each(|o| *o *= share);
            }
        },
    );
    Ok(g.record(out, &[x], || AvgPoolBackward { windows }))
}

impl Graph<'_> {
    /// The largest value of each window; the first one in row order wins a tie. Shapes: [N, H, W, C] to [N, H', W', C].
    ///
    /// # Errors
    /// The value is no image, or the window (at most 15 x 15) does not fit.
    pub fn max_pool2d(&mut self, x: &Var, size: usize, stride: usize) -> Result<Var> {
        self.apply(MaxPool2d { size, stride, padding: 0 }, &[x])
    }

    /// [`max_pool2d`](Self::max_pool2d) of the image with `padding` rows and columns on each side that never win.
    ///
    /// # Errors
    /// As there; or a window would see padding alone.
    pub fn max_pool2d_padded(&mut self, x: &Var, size: usize, stride: usize, padding: usize) -> Result<Var> {
        self.apply(MaxPool2d { size, stride, padding }, &[x])
    }

    /// The mean of each window, summed in row order. Shapes: [N, H, W, C] to [N, H', W', C].
    ///
    /// # Errors
    /// The value is no image, or the window does not fit.
    pub fn avg_pool2d(&mut self, x: &Var, size: usize, stride: usize) -> Result<Var> {
        self.apply(AvgPool2d { size, stride }, &[x])
    }

    /// The mean of each channel over the whole image. Shapes: [N, H, W, C] to [N, C].
    ///
    /// # Errors
    /// The value is no image.
    pub fn global_avg_pool2d(&mut self, x: &Var) -> Result<Var> {
        self.apply(GlobalAvgPool2d, &[x])
    }
}

#[cfg(test)]
mod tests {
    use super::{ToWinner, Windows};
    use crate::check::{gradient_error, sample};
    use crate::deferred::{self, Deferred};
    use fixnet_tensor::Buffer;

    #[test]
    fn gradients_match_finite_differences() {
        let x = sample(&[2, 6, 6, 3], 1);
        for (size, stride) in [(2, 2), (3, 2), (2, 1), (4, 3)] {
            let error =
                gradient_error(std::slice::from_ref(&x), 1e-3, |g, v| g.max_pool2d(&v[0], size, stride)).unwrap();
            assert!(error < 5e-3, "max {size} {stride}: {error}");
            let padded =
                gradient_error(std::slice::from_ref(&x), 1e-3, |g, v| g.max_pool2d_padded(&v[0], size, stride, 1));
            assert!(padded.unwrap() < 5e-3, "padded {size} {stride}");
            let error =
                gradient_error(std::slice::from_ref(&x), 0.1, |g, v| g.avg_pool2d(&v[0], size, stride)).unwrap();
            assert!(error < 1e-3, "avg {size} {stride}: {error}");
        }
        assert!(gradient_error(&[sample(&[2, 3, 5, 4], 1)], 0.1, |g, v| g.global_avg_pool2d(&v[0])).unwrap() < 1e-3);
    }

    #[test]
    fn the_gradient_of_a_maximum_is_the_same_in_pieces() {
        let windows = Windows::new("test", &[2, 7, 5, 3], [2; 2], 3).unwrap();
        let grad = sample(&windows.out, 1);
        let winner: Buffer<u8> = (0..grad.len()).map(|i| (i * 7 % 4) as u8).collect();
        let gradient = ToWinner { windows, winner, grad };
        let whole = deferred::write(&gradient);
        for length in [1, 2, 5, 7, 16, 100] {
            let mut pieces = vec![9.0; whole.len()];
            pieces.chunks_mut(length).enumerate().for_each(|(i, out)| gradient.fill(i * length, out));
            assert_eq!(pieces, whole.data());
        }
        // Each window gives its gradient to one pixel; the second one begins at column 3.
        let sum = |t: &fixnet_tensor::Tensor| t.data().iter().map(|&v| f64::from(v)).sum::<f64>();
        assert!((sum(&whole) - sum(&gradient.grad)).abs() < 1e-5);
        assert_eq!(gradient.winner[4], 0);
        assert_eq!(whole.view()[[0, 0, 3, 1]], gradient.grad.view()[[0, 0, 1, 1]]);
    }
}
