//! Values and gradients that are not written out: a pass over one computes it block by block in the cache.
//!
//! Moving numbers costs more than computing them. So normalization, ReLU and additions of exact sums only note what is
//! to be computed ([`Lazy`]), and the pass that needs the numbers (a quantizer, a sum over columns) computes them on the
//! way. The same holds on the way back: a gradient passes clipping, ReLU and normalization as a note ([`Gradient`]).
//! Each number is computed by the same expression wherever it is needed, so the bits are those of written tensors.

use crate::{ParamId, Store, Value};
use fixnet_tensor::{Sums, Tensor, map, reduce};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// Numbers of a block: what a pass computes at a time, small enough for the first cache.
pub const BLOCK: usize = 2048;

/// Numbers that can be computed at any place.
pub trait Deferred: Send + Sync {
    /// The lengths of the axes.
    fn shape(&self) -> &[usize];

    /// Writes the numbers from index `first` on to `out`.
    fn fill(&self, first: usize, out: &mut [f32]);

    /// The numbers themselves, where they are in memory.
    fn slice(&self, _: Range<usize>) -> Option<&[f32]> {
        None
    }

    /// Whether the first pass over all should write the numbers out for later ones.
    fn keep(&self) -> bool {
        false
    }
}

/// The number of elements.
pub fn len(x: &dyn Deferred) -> usize {
    x.shape().iter().product()
}

/// A block of at most [`BLOCK`] numbers: those in memory, or `scratch` with the computed ones.
pub fn block<'a>(x: &'a dyn Deferred, range: Range<usize>, scratch: &'a mut [f32]) -> &'a [f32] {
    match x.slice(range.clone()) {
        Some(slice) => slice,
        None => {
            let scratch = &mut scratch[..range.len()];
            x.fill(range.start, scratch);
            scratch
        }
    }
}

/// All numbers as a tensor.
pub fn write(x: &dyn Deferred) -> Tensor {
    let mut out = Tensor::take(x.shape());
    map::chunks(out.data_mut(), |first, out| {
        for (i, out) in out.chunks_mut(BLOCK).enumerate() {
            x.fill(first + i * BLOCK, out);
        }
    });
    out
}

/// `max |x|`; not finite if any number is not.
pub fn max_abs(x: &dyn Deferred) -> f32 {
    let chunk = |range: Range<usize>| {
        let mut scratch = [0f32; BLOCK];
        let blocks = range.clone().step_by(BLOCK);
        blocks.fold(0, |m, i| m.max(map::max_abs(block(x, i..range.end.min(i + BLOCK), &mut scratch)).to_bits()))
    };
    // The bits of numbers without sign are ordered as the numbers, with NaN above infinity.
    f32::from_bits(map::fold_chunks(len(x), || 0, chunk, u32::max))
}

impl Deferred for Tensor {
    fn shape(&self) -> &[usize] {
        self.shape()
    }
    fn fill(&self, first: usize, out: &mut [f32]) {
        out.copy_from_slice(&self.data()[first..][..out.len()]);
    }
    fn slice(&self, range: Range<usize>) -> Option<&[f32]> {
        Some(&self.data()[range])
    }
}

impl Deferred for Sums {
    fn shape(&self) -> &[usize] {
        self.shape()
    }
    fn fill(&self, first: usize, out: &mut [f32]) {
        map::scale_sums(&self.data()[first..][..out.len()], self.scale(), out);
    }
}

impl Deferred for Value {
    fn shape(&self) -> &[usize] {
        self.inner().shape()
    }
    fn fill(&self, first: usize, out: &mut [f32]) {
        self.inner().fill(first, out);
    }
    fn slice(&self, range: Range<usize>) -> Option<&[f32]> {
        self.inner().slice(range)
    }
    fn keep(&self) -> bool {
        self.inner().keep()
    }
}

/// A deferred value, with the tensor once it was written.
#[derive(Clone)]
pub struct Lazy {
    inner: Arc<dyn Deferred>,
    written: Arc<OnceLock<Tensor>>,
}

impl fmt::Debug for Lazy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "deferred {:?}", self.inner.shape())
    }
}

impl Lazy {
    /// A value that nobody has written.
    pub fn new(inner: impl Deferred + 'static) -> Self {
        Self { inner: Arc::new(inner), written: Arc::default() }
    }

    /// The value as a tensor, written once.
    pub fn tensor(&self) -> Tensor {
        self.written.get_or_init(|| write(&*self.inner)).clone()
    }

    /// Whether a pass over all should write the value on the way: later ones will read it, and it is not written yet.
    fn wants_writing(&self) -> bool {
        self.inner.keep() && self.written.get().is_none()
    }
}

impl Deferred for Lazy {
    fn shape(&self) -> &[usize] {
        self.inner.shape()
    }
    fn fill(&self, first: usize, out: &mut [f32]) {
        match self.slice(first..first + out.len()) {
            Some(slice) => out.copy_from_slice(slice),
            None => self.inner.fill(first, out),
        }
    }
    fn slice(&self, range: Range<usize>) -> Option<&[f32]> {
        // What is cheap to compute is computed from operands that the same pass reads anyway.
        if !self.keep() {
            return None;
        }
        self.written.get().map(|t| &t.data()[range])
    }
    fn keep(&self) -> bool {
        self.inner.keep()
    }
}

/// One number from each: `out[i] = f(x[i])`, block by block, `f` over whole blocks. Writes a value on the way where that
/// saves a later pass.
pub fn map_blocks<U: Send>(x: &Value, out: &mut [U], f: impl Fn(&[f32], &mut [U]) + Sync) {
    if let Value::Deferred(lazy) = x
        && lazy.wants_writing()
    {
        let mut written = Tensor::take(lazy.shape());
        map::chunks2(written.data_mut(), out, |first, written, out| {
            for (i, (written, out)) in written.chunks_mut(BLOCK).zip(out.chunks_mut(BLOCK)).enumerate() {
                lazy.inner.fill(first + i * BLOCK, written);
                f(written, out);
            }
        });
        // Whoever came first has written the same numbers.
        let _ = lazy.written.set(written);
        return;
    }
    map::chunks(out, |first, out| {
        let mut scratch = [0f32; BLOCK];
        for (i, out) in out.chunks_mut(BLOCK).enumerate() {
            let first = first + i * BLOCK;
            f(block(x, first..first + out.len(), &mut scratch), out);
        }
    });
}

/// The interval of a quantizer, for its straight-through estimator: the gradient passes where `low <= x · per_unit <=
/// top`. The scale receives `factor · Σ d · (post · q - inside · x · per_unit)`, with q the rounded level.
#[derive(Debug, Clone, Copy)]
pub struct Clip {
    /// Levels in a unit of x.
    pub per_unit: f32,
    /// The lowest level.
    pub low: f32,
    /// The highest level.
    pub top: f32,
    /// 1 where the quantized value is the level times the scale, 0 where it is the level alone.
    pub post: f32,
    /// The scale's factor.
    pub factor: f64,
    /// The scale, if it is learned.
    pub scale: Option<ParamId>,
}

/// A gradient on its way through a quantizer and a ReLU: `d` where `value` lies inside, else 0.
#[derive(Debug, Clone)]
pub struct Through {
    /// The value that was quantized, or came out of the ReLU.
    pub value: Value,
    /// The gradient of what was made of the value.
    pub d: Value,
    /// The interval outside of which nothing passes.
    pub clip: Option<Clip>,
    /// Whether only positive values pass: the value came out of a ReLU.
    pub positive: bool,
}

impl Through {
    /// Takes `y` and `d` of a block, leaves the gradient in `y` and adds to `slopes` (repeating) what the scale needs.
    fn block(&self, y: &mut [f32], d: &[f32], slopes: Option<&mut [f32]>) {
        let none = Clip { per_unit: 1.0, low: f32::MIN, top: f32::MAX, post: 0.0, factor: 0.0, scale: None };
        let Clip { per_unit, low, top, post, .. } = self.clip.unwrap_or(none);
        let positive = self.positive;
        let pass = |y: f32, level: f32| (level >= low) & (level <= top) & ((y > 0.0) | !positive);
        map::dispatch(
            #[inline(always)]
            || match slopes {
                None => {
                    for (y, &d) in y.iter_mut().zip(d) {
                        *y = if pass(*y, *y * per_unit) { d } else { 0.0 };
                    }
                }
                Some(slopes) => {
                    for (y, d) in y.chunks_mut(slopes.len()).zip(d.chunks(slopes.len())) {
                        for ((y, &d), slope) in y.iter_mut().zip(d).zip(slopes.iter_mut()) {
                            let level = *y * per_unit;
                            let held = if level < low { low } else { level };
                            let held = if held > top { top } else { held };
                            let inside = if held == level { level } else { 0.0 };
                            *slope += d * (post * map::round_even(held) - inside);
                            *y = if pass(*y, level) { d } else { 0.0 };
                        }
                    }
                }
            },
        );
    }

    /// As [`Deferred::fill`], adding to `slopes` (one a position of [`reduce::span`]) where they are wanted.
    ///
    /// With slopes, `first` must be the start of a row.
    pub fn fill_sloped(&self, first: usize, out: &mut [f32], slopes: Option<&mut [f32]>) {
        self.value.fill(first, out);
        let mut scratch = [0f32; BLOCK];
        let mut done = 0;
        // A span of more than a block of columns is one row: its slopes go with its parts.
        let mut slopes = slopes;
        while done < out.len() {
            let n = BLOCK.min(out.len() - done);
            let d = block(&self.d, first + done..first + done + n, &mut scratch);
            let part = match &mut slopes {
                Some(s) if s.len() > BLOCK => {
                    let at = done % s.len();
                    Some(&mut s[at..][..n])
                }
                Some(s) => Some(&mut **s),
                None => None,
            };
            self.block(&mut out[done..][..n], d, part);
            done += n;
        }
    }

    /// The scale that wants its gradient.
    pub fn scale(&self) -> Option<ParamId> {
        self.clip.and_then(|c| c.scale)
    }

    /// Gives the scale its gradient from the sums of [`fill_sloped`](Self::fill_sloped).
    pub fn give_slope(&self, sums: &[f64], store: &mut Store) {
        if let Some((scale, clip)) = self.scale().zip(self.clip) {
            let sum = sums.iter().fold(0f64, |a, b| a + b);
            store.accumulate(scale, Tensor::scalar((sum * clip.factor) as f32));
        }
    }

    /// Columns and rows: passes that sum go by rows of the last axis.
    pub fn matrix(&self) -> (usize, usize) {
        let columns = self.shape().last().copied().unwrap_or(1).max(1);
        (len(self) / columns, columns)
    }

    /// The gradient as a tensor, `plus` added; the scale receives its own.
    fn write(self, plus: Option<Tensor>, store: &mut Store) -> Tensor {
        let (rows, columns) = self.matrix();
        let span = reduce::span(columns);
        let sloped = self.scale().is_some();
        let mut out = Tensor::take(self.shape());
        let sums = reduce::row_pass(out.data_mut(), rows, columns, if sloped { span } else { 0 }, |rows, out, sums| {
            let mut sums = sloped.then_some(sums);
            let length = (BLOCK / span).max(1) * span;
            for (i, out) in out.chunks_mut(length).enumerate() {
                let first = rows.start * columns + i * length;
                self.fill_sloped(first, out, sums.as_deref_mut());
                if let Some(plus) = &plus {
                    let plus = &plus.data()[first..][..out.len()];
                    out.iter_mut().zip(plus).for_each(|(o, p)| *o += p);
                }
            }
        });
        self.give_slope(&sums, store);
        out
    }

    /// Only the gradient of the scale, for an input that needs none itself.
    pub fn write_slope(&self, store: &mut Store) {
        let (rows, columns) = self.matrix();
        let span = reduce::span(columns);
        let sums = reduce::row_sums(rows, columns, span, |rows, sums| {
            let length = (BLOCK / span).max(1) * span;
            let mut scratch = vec![0f32; length];
            let range = rows.start * columns..rows.end * columns;
            for first in range.clone().step_by(length) {
                let n = length.min(range.end - first);
                self.fill_sloped(first, &mut scratch[..n], Some(sums));
            }
        });
        self.give_slope(&sums, store);
    }
}

impl Deferred for Through {
    fn shape(&self) -> &[usize] {
        self.value.shape()
    }
    fn fill(&self, first: usize, out: &mut [f32]) {
        self.fill_sloped(first, out, None);
    }
}

/// A gradient: written, or a note of how to compute it.
#[derive(Clone)]
pub enum Gradient {
    /// A tensor.
    Float(Tensor),
    /// What passes a quantizer or a ReLU, perhaps with another gradient added.
    Through(Through, Option<Tensor>),
    /// Anything else that can be computed.
    Deferred(Arc<dyn Deferred>),
}

impl From<Tensor> for Gradient {
    fn from(t: Tensor) -> Self {
        Self::Float(t)
    }
}

impl From<Through> for Gradient {
    fn from(t: Through) -> Self {
        Self::Through(t, None)
    }
}

impl Gradient {
    /// The gradient as a tensor. What passed a quantizer leaves its part in the gradient of the quantizer's scale.
    pub fn into_tensor(self, store: &mut Store) -> Tensor {
        match self {
            Self::Float(t) => t,
            Self::Through(t, plus) => t.write(plus, store),
            Self::Deferred(d) => write(&*d),
        }
    }

    /// Adds another gradient of the same value: in the order of arrival, at most one quantizer deferred.
    pub(crate) fn plus(self, other: Self, store: &mut Store) -> Self {
        match (self, other) {
            (Self::Through(t, None), Self::Float(f)) | (Self::Float(f), Self::Through(t, None)) => {
                Self::Through(t, Some(f))
            }
            (a, b) => {
                let (mut a, b) = (a.into_tensor(store), b.into_tensor(store));
                map::update1(a.data_mut(), b.data(), |a, b| *a += b);
                Self::Float(a)
            }
        }
    }
}
