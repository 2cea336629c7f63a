//! The geometry of a two-dimensional convolution: sizes, checked once, and the sizes that follow from them.

use crate::{Budget, Error, Result};

/// How a window moves over the image and which channels it sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Step between windows, down and across.
    pub stride: [usize; 2],
    /// Zero rows above and below, zero columns left and right.
    pub padding: [usize; 2],
    /// Distance between the taps of a window.
    pub dilation: [usize; 2],
    /// Groups of channels: each output channel sees the input channels of its group alone. As many groups as channels
    /// make the convolution depthwise.
    pub groups: usize,
}

impl Default for Window {
    fn default() -> Self {
        Self { stride: [1, 1], padding: [0, 0], dilation: [1, 1], groups: 1 }
    }
}

/// Sizes of a convolution of [N, H, W, C_in] with [C_out, KH, KW, C_in / groups] to [N, H_out, W_out, C_out], checked when
/// they are put together: no size that follows from them wraps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conv2dGeometry {
    pub(crate) n: usize,
    pub(crate) h: usize,
    pub(crate) w: usize,
    pub(crate) c_in: usize,
    pub(crate) c_out: usize,
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) padding: [usize; 2],
    pub(crate) dilation: [usize; 2],
    pub(crate) groups: usize,
}

impl Conv2dGeometry {
    /// [`windowed`](Self::windowed) with one group.
    ///
    /// # Errors
    /// As there.
    pub fn new(
        input: &[usize],
        weight: &[usize],
        stride: [usize; 2],
        padding: [usize; 2],
        dilation: [usize; 2],
    ) -> Result<Self> {
        Self::windowed(input, weight, Window { stride, padding, dilation, groups: 1 })
    }

    /// Checks the sizes; `input` is [N, H, W, C_in], `weight` is [C_out, KH, KW, C_in / groups].
    ///
    /// # Errors
    /// Axes are missing, channels disagree or are no multiple of the groups, a stride, dilation or window is zero, the padding reaches a whole window,
    /// the window is larger than the padded input, or a size that follows is beyond memory.
    pub fn windowed(input: &[usize], weight: &[usize], window: Window) -> Result<Self> {
        let Window { stride, padding, dilation, groups } = window;
        const OP: &str = "conv2d";
        let &[n, h, w, c_in] = input else { return Err(Error::shape(OP, "input [N, H, W, C]", input)) };
        let &[c_out, kh, kw, c] = weight else { return Err(Error::shape(OP, "weight [O, KH, KW, I]", weight)) };
        if c.checked_mul(groups) != Some(c_in) {
            return Err(Error::shape(OP, format!("input [N, H, W, {c} times {groups} groups]"), input));
        }
        if groups == 0 || !c_out.is_multiple_of(groups) {
            return Err(Error::range(OP, "output channels", format!("a multiple of {groups} groups"), c_out));
        }
        for (what, sizes) in [("window", [kh, kw]), ("stride", stride), ("dilation", dilation)] {
            if sizes.contains(&0) {
                return Err(Error::range(OP, what, "at least 1 in both directions", format!("{sizes:?}")));
            }
        }
        let reach = [(dilation[0], kh), (dilation[1], kw)].map(|(d, k)| d.checked_mul(k - 1)?.checked_add(1));
        let [Some(down), Some(across)] = reach else {
            return Err(Error::range(OP, "dilation", "one whose window fits memory", format!("{dilation:?}")));
        };
        let reach = [down, across];
        if padding[0] >= reach[0] || padding[1] >= reach[1] {
            return Err(Error::range(
                OP,
                "padding",
                format!("below the window's reach {reach:?}"),
                format!("{padding:?}"),
            ));
        }
        let padded = |size: usize, d: usize| padding[d].checked_mul(2)?.checked_add(size);
        let (Some(height), Some(width)) = (padded(h, 0), padded(w, 1)) else {
            return Err(Error::range(OP, "padding", "one that fits memory", format!("{padding:?}")));
        };
        if height < reach[0] || width < reach[1] {
            return Err(Error::shape(OP, format!("an input that holds a window of {reach:?}"), input));
        }
        let geometry = Self { n, h, w, c_in, c_out, kernel: [kh, kw], stride, padding, dilation, groups };
        let mut within = Budget::ARRAY;
        // What a forward pass or an input gradient lays out, at most: each image with all of its margins.
        let sides = [height.saturating_add(reach[0]), width.saturating_add(reach[1])];
        let largest = [n.max(1), sides[0], sides[1], c_in.max(c_out).max(1)];
        within.claim("conv2d: images with their margins", &largest, 4)?;
        within.claim("conv2d: weights", weight, 4)?;
        Budget::new(u64::MAX, "smaller images, windows or batches take less").claim(
            "conv2d: multiply-adds",
            &[geometry.output_shape().as_slice(), &[kh, kw, c]].concat(),
            1,
        )?;
        Ok(geometry)
    }

    /// The geometry of a matrix product [N, I] x [O, I]^T: a 1x1 convolution of 1x1 images.
    ///
    /// # Errors
    /// The sizes are beyond memory.
    pub fn linear(n: usize, c_in: usize, c_out: usize) -> Result<Self> {
        Self::windowed(&[n, 1, 1, c_in], &[c_out, 1, 1, c_in], Window::default())
    }

    /// Images.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Input height.
    pub fn h(&self) -> usize {
        self.h
    }

    /// Input width.
    pub fn w(&self) -> usize {
        self.w
    }

    /// Input channels.
    pub fn c_in(&self) -> usize {
        self.c_in
    }

    /// Output channels.
    pub fn c_out(&self) -> usize {
        self.c_out
    }

    /// Window height and width.
    pub fn kernel(&self) -> [usize; 2] {
        self.kernel
    }

    /// Step between windows, down and across.
    pub fn stride(&self) -> [usize; 2] {
        self.stride
    }

    /// Zero rows above and below, zero columns left and right.
    pub fn padding(&self) -> [usize; 2] {
        self.padding
    }

    /// Distance between the taps of a window.
    pub fn dilation(&self) -> [usize; 2] {
        self.dilation
    }

    /// Groups of channels.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// Output height.
    pub fn out_h(&self) -> usize {
        (self.h + 2 * self.padding[0] - self.dilation[0] * (self.kernel[0] - 1) - 1) / self.stride[0] + 1
    }

    /// Output width.
    pub fn out_w(&self) -> usize {
        (self.w + 2 * self.padding[1] - self.dilation[1] * (self.kernel[1] - 1) - 1) / self.stride[1] + 1
    }

    /// The shape of the input, [N, H, W, C_in].
    pub fn input_shape(&self) -> [usize; 4] {
        [self.n, self.h, self.w, self.c_in]
    }

    /// The shape of the weight, [C_out, KH, KW, C_in / groups].
    pub fn weight_shape(&self) -> [usize; 4] {
        [self.c_out, self.kernel[0], self.kernel[1], self.c_in / self.groups]
    }

    /// Whether each channel is a convolution of its own.
    pub fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.c_in && self.groups == self.c_out
    }

    /// The convolution of one group.
    pub(crate) fn one_group(&self) -> Self {
        Self { c_in: self.c_in / self.groups, c_out: self.c_out / self.groups, groups: 1, ..*self }
    }

    /// The shape of the output, [N, H_out, W_out, C_out].
    pub fn output_shape(&self) -> [usize; 4] {
        [self.n, self.out_h(), self.out_w(), self.c_out]
    }

    /// Multiply-adds of one product.
    pub fn macs(&self) -> u64 {
        let window = self.kernel[0] * self.kernel[1] * (self.c_in / self.groups);
        self.output_shape().iter().chain([&window]).map(|&n| n as u64).product()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_would_wrap_are_refused() {
        let far = Window { padding: [1 << 39; 2], dilation: [1 << 39; 2], ..Window::default() };
        for (input, weight, window) in [
            ([1 << 31, 1 << 31, 1, 4], [1, 1, 1, 4], Window::default()),
            ([1 << 40, 1, 1, 1], [1 << 40, 1, 1, 1], Window::default()),
            ([1, 1, 1, 1 << 40], [1 << 40, 1, 1, 1 << 40], Window::default()),
            // Margins around one pixel, and around an image of none.
            ([1, 1, 1, 1], [1, 2, 2, 1], far),
            ([1, 1, 1, 0], [0, 2, 2, 0], far),
        ] {
            let e = Conv2dGeometry::windowed(&input, &weight, window).unwrap_err();
            assert!(matches!(e, Error::Memory { .. }), "{e}");
        }
        let e = Conv2dGeometry::linear(1 << 40, 1, 1 << 40).unwrap_err().to_string();
        assert!(e.starts_with("conv2d: images with their margins: ["), "{e}");
        // Each array fits, and the multiply-adds are beyond 64 bits.
        let e = Conv2dGeometry::linear(1 << 30, 1 << 22, 1 << 22).unwrap_err().to_string();
        assert!(e.starts_with("conv2d: multiply-adds"), "{e}");
        let geometry = Conv2dGeometry::linear(3, 4, 5).unwrap();
        assert_eq!((geometry.macs(), geometry.n(), geometry.c_in(), geometry.c_out()), (60, 3, 4, 5));
    }
}
