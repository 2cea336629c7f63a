//! Gradients that are not written out: on its way back a gradient passes clipping, ReLU and normalization as a note of how to
//! compute it ([`Gradient`]), and the pass that needs the numbers computes them.

mod parts;

pub use parts::Parts;

use crate::deferred::{BLOCK, Bounds, Deferred, Real, Scratch, block, len, write};
use crate::value::Value;
use crate::{ParamId, Store};
use fixnet_tensor::profile::{self, Work};
use fixnet_tensor::{Buffer, Integers, Tensor, map, reduce};
use std::ops::Range;
use std::sync::Arc;

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

/// A gradient with a factor for each column, computed where it is needed.
pub struct ColumnGradient {
    d: Arc<dyn Deferred>,
    /// Repeated, so that narrow rows fill vectors too.
    factors: Buffer<f32>,
}

impl ColumnGradient {
    /// Makes it of a gradient and one factor for each of its columns.
    pub fn new(d: Arc<dyn Deferred>, factors: &[f32]) -> Self {
        Self { d, factors: reduce::spread(factors) }
    }
}

impl Deferred for ColumnGradient {
    fn shape(&self) -> &[usize] {
        self.d.shape()
    }
    fn fill(&self, first: usize, out: &mut [f32]) {
        match self.d.slice(Range { start: first, end: first + out.len() }) {
            Some(d) => out.copy_from_slice(d),
            None => self.d.fill(first, out),
        }
        map::scale_columns(out, first, &self.factors);
    }
    fn size(&self) -> usize {
        self.d.size()
    }
}

/// A gradient on its way through a quantizer and a clamp, such as a ReLU: `d` where `value` lies inside, else 0, and what else comes in.
#[derive(Clone)]
pub struct Through {
    /// The value that was quantized, or came out of the clamp.
    pub value: Value,
    /// The gradient of what was made of the value.
    pub d: Value,
    /// The interval outside of which nothing of `d` passes.
    pub clip: Option<Clip>,
    /// What the value received from elsewhere.
    pub plus: Option<Arc<dyn Deferred>>,
    /// The interval inside of which anything passes, without its ends: the value came out of this clamp.
    pub gate: Option<Bounds>,
}

/// Kinds of gates: none, one that is open above, one with both ends.
const NO_GATE: u8 = 0;
const FROM_BELOW: u8 = 1;
const BOTH_ENDS: u8 = 2;

/// Whether y lies inside of a gate.
#[inline(always)]
fn passes<const GATE: u8>(y: f32, gate: Bounds) -> bool {
    GATE == NO_GATE || ((y > gate.low) & (GATE == FROM_BELOW || y < gate.high))
}

/// `d` where y lies inside, else 0; `plus` added if `PLUS`; 0 where y does not pass the gate.
#[inline(always)]
fn mask<T: Real, const GATE: u8, const PLUS: bool>(
    [y, plus]: [&[f32]; 2],
    d: &[T],
    scale: f32,
    (clip, gate): (&Clip, Bounds),
    out: &mut [f32],
) {
    let Clip { per_unit, low, top, .. } = *clip;
    for (((out, &y), &d), &plus) in out.iter_mut().zip(y).zip(d).zip(plus) {
        let level = y * per_unit;
        let inside = (level >= low) & (level <= top) & (PLUS || passes::<GATE>(y, gate));
        let d = d.real() * scale;
        let d = if inside { d } else { 0.0 };
        *out = if !PLUS {
            d
        } else if passes::<GATE>(y, gate) {
            d + plus
        } else {
            0.0
        };
    }
}

/// [`mask`], adding to `slopes` (repeating) what the scale needs.
#[inline(always)]
fn mask_sloped<T: Real, const GATE: u8, const PLUS: bool>(
    [y, plus]: [&[f32]; 2],
    d: &[T],
    scale: f32,
    (clip, gate): (&Clip, Bounds),
    out: &mut [f32],
    slopes: &mut [f32],
) {
    let Clip { per_unit, low, top, post, .. } = *clip;
    let span = slopes.len();
    let blocks = out.chunks_mut(span).zip(y.chunks(span)).zip(d.chunks(span)).zip(plus.chunks(span));
    for (((out, y), d), plus) in blocks {
        for ((((out, &y), &d), &plus), slope) in out.iter_mut().zip(y).zip(d).zip(plus).zip(slopes.iter_mut()) {
            let level = y * per_unit;
            let held = if level < low { low } else { level };
            let held = if held > top { top } else { held };
            let within = (level >= low) & (level <= top);
            let d = d.real() * scale;
            *slope += d * (post * map::round_even(held) - if within { level } else { 0.0 });
            let d = if within & (PLUS || passes::<GATE>(y, gate)) { d } else { 0.0 };
            *out = if !PLUS {
                d
            } else if passes::<GATE>(y, gate) {
                d + plus
            } else {
                0.0
            };
        }
    }
}

impl Through {
    /// The gradient of a block from its values `y`, gradients `d` and what else comes in.
    fn mask<T: Real>(
        &self,
        y: &[f32],
        d: &[T],
        scale: f32,
        plus: Option<&[f32]>,
        out: &mut [f32],
        slopes: Option<&mut [f32]>,
    ) {
        let none = Clip { per_unit: 1.0, low: f32::MIN, top: f32::MAX, post: 0.0, factor: 0.0, scale: None };
        let (clip, both) = (self.clip.unwrap_or(none), [y, plus.unwrap_or(y)]);
        let gate = self.gate.unwrap_or(Bounds::RELU);
        let kind = match self.gate {
            None => NO_GATE,
            Some(gate) if gate.is_open() => FROM_BELOW,
            Some(_) => BOTH_ENDS,
        };
        let with = (&clip, gate);
        macro_rules! masked {
            ($gate:ident, $plus:literal) => {
                match slopes {
                    None => mask::<T, $gate, $plus>(both, d, scale, with, out),
                    Some(slopes) => mask_sloped::<T, $gate, $plus>(both, d, scale, with, out, slopes),
                }
            };
        }
        map::dispatch(
            #[inline(always)]
            || match (kind, plus.is_some()) {
                (NO_GATE, false) => masked!(NO_GATE, false),
                (FROM_BELOW, false) => masked!(FROM_BELOW, false),
                (_, false) => masked!(BOTH_ENDS, false),
                (NO_GATE, true) => masked!(NO_GATE, true),
                (FROM_BELOW, true) => masked!(FROM_BELOW, true),
                (_, true) => masked!(BOTH_ENDS, true),
            },
        );
    }

    /// As [`Deferred::fill`], adding to `slopes` (one a position of [`reduce::span`]) where they are wanted.
    ///
    /// With slopes, `first` must be the start of a row.
    pub fn fill_sloped(&self, first: usize, out: &mut [f32], mut slopes: Option<&mut [f32]>) {
        let (mut of_value, mut of_d, mut of_plus) = (Scratch::new(), Scratch::new(), Scratch::new());
        for (i, out) in out.chunks_mut(BLOCK).enumerate() {
            let range = first + i * BLOCK..first + i * BLOCK + out.len();
            let y = block(&self.value, range.clone(), &mut of_value);
            let plus = self.plus.as_ref().map(|p| block(&**p, range.clone(), &mut of_plus));
            let slopes = slopes.as_deref_mut().map(|s| match s.len() {
                // A span of more than a block is one row: each block has its part of it.
                long if long > BLOCK => {
                    let at = i * BLOCK % long;
                    &mut s[at..][..out.len()]
                }
                _ => s,
            });
            match &self.d {
                Value::Sums(d) if !d.has_columns() => match d.integers(range) {
                    Integers::Narrow(v) => self.mask(y, v, d.scale(), plus, out, slopes),
                    Integers::Wide(v) => self.mask(y, v, d.scale(), plus, out, slopes),
                },
                d => self.mask(y, block(d, range, &mut of_d), 1.0, plus, out, slopes),
            }
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
            let shape = store.param(scale).value.shape().to_vec();
            let slope = Tensor::full(&shape, (sum * clip.factor) as f32);
            store.accumulate(scale, slope).expect("a gradient of the scale's own shape");
        }
    }

    /// Columns and rows: passes that sum go by rows of the last axis.
    pub fn matrix(&self) -> (usize, usize) {
        let columns = self.shape().last().copied().unwrap_or(1).max(1);
        (len(self) / columns, columns)
    }

    /// The gradient as a tensor; the scale receives its own.
    fn write(self, store: &mut Store) -> Tensor {
        let (rows, columns) = self.matrix();
        let span = reduce::span(columns);
        let sloped = self.scale().is_some();
        let mut out = Tensor::take(self.shape());
        let moved = Work { bytes: out.len() * (self.size() + 4), macs: 0 };
        let pass = |rows: Range<usize>, out: &mut [f32], sums: &mut [f32]| {
            let mut sums = sloped.then_some(sums);
            let length = (BLOCK / span).max(1) * span;
            for (i, out) in out.chunks_mut(length).enumerate() {
                self.fill_sloped(rows.start * columns + i * length, out, sums.as_deref_mut());
            }
        };
        let sum = || reduce::row_pass(out.data_mut(), rows, columns, if sloped { span } else { 0 }, pass);
        let sums = profile::span("write gradient", "", |_| moved, sum);
        self.give_slope(&sums, store);
        out
    }

    /// Only the gradient of the scale, for an input that needs none itself.
    pub fn write_slope(&self, store: &mut Store) {
        let (rows, columns) = self.matrix();
        let span = reduce::span(columns);
        let sums = reduce::row_sums(rows, columns, span, |rows, sums| {
            let length = (BLOCK / span).max(1) * span;
            let mut scratch = Buffer::take(length);
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
    fn size(&self) -> usize {
        self.value.size() + self.d.size() + self.plus.as_ref().map_or(0, |p| p.size())
    }
}

/// A gradient that several passes compute, of which the first gives a quantizer's scale its own.
pub(crate) struct Source {
    /// What passed a quantizer whose scale still wants its gradient.
    sloped: Option<Through>,
    pub(crate) grad: Arc<dyn Deferred>,
}

impl Source {
    /// A [`reduce::row_sums`] over the gradient, `width` sums of `block(numbers, their range, sums)`; numbers are whole
    /// rows, of spans where they are more than one. `besides` bytes a number is what `block` reads, for profiles.
    pub(crate) fn sums(
        &self,
        width: usize,
        besides: usize,
        store: &mut Store,
        block: impl Fn(&[f32], Range<usize>, &mut [f32]) + Sync,
    ) -> Buffer<f64> {
        let columns = self.grad.shape().last().copied().unwrap_or(1).max(1);
        let span = reduce::span(columns);
        let slopes = if self.sloped.is_some() { span } else { 0 };
        let rows = len(&*self.grad) / columns;
        let read = Work { bytes: len(&*self.grad) * (self.grad.size() + besides), macs: 0 };
        let pass = |rows: Range<usize>, sums: &mut [f32]| {
            let (sums, slopes) = sums.split_at_mut(width);
            let length = (BLOCK / span).max(1) * span;
            let mut scratch = Buffer::take(length);
            let range = rows.start * columns..rows.end * columns;
            for first in range.clone().step_by(length) {
                let part = first..range.end.min(first + length);
                let scratch = &mut scratch[..part.len()];
                let grad = match (&self.sloped, self.grad.slice(part.clone())) {
                    (Some(t), _) => {
                        t.fill_sloped(first, scratch, Some(slopes));
                        scratch
                    }
                    (None, Some(grad)) => grad,
                    (None, None) => {
                        self.grad.fill(first, scratch);
                        scratch
                    }
                };
                block(grad, part, sums);
            }
        };
        let sum = || reduce::row_sums(rows, columns, width + slopes, pass);
        let sums = profile::span("sums of gradient", "", |_| read, sum);
        if let Some(t) = &self.sloped {
            t.give_slope(&sums[width..], store);
        }
        sums
    }
}

/// A gradient: written, or a note of how to compute it.
#[derive(Clone)]
#[allow(clippy::large_enum_variant, reason = "few exist at a time, and each is moved a few times only")]
pub enum Gradient {
    /// A tensor.
    Float(Tensor),
    /// What passes a quantizer or a clamp.
    Through(Through),
    /// Anything else that can be computed.
    Deferred(Arc<dyn Deferred>),
    /// Runs of positions on one axis; elsewhere it is 0.
    Parts(Parts),
}

impl From<Tensor> for Gradient {
    fn from(t: Tensor) -> Self {
        Self::Float(t)
    }
}

impl From<Through> for Gradient {
    fn from(t: Through) -> Self {
        Self::Through(t)
    }
}

impl Gradient {
    /// The gradient as a tensor. What passed a quantizer leaves its part in the gradient of the quantizer's scale.
    pub fn into_tensor(self, store: &mut Store) -> Tensor {
        match self {
            Self::Float(t) => t,
            Self::Through(t) => t.write(store),
            Self::Deferred(d) => write(&*d),
            Self::Parts(parts) => parts.write(),
        }
    }

    /// The gradient for a pass that sums and for later ones.
    pub(crate) fn source(self, store: &mut Store) -> Source {
        match self {
            // What has more than one source is cheaper to write once than to compute in each of several passes.
            Self::Through(t) if t.plus.is_none() => {
                let sloped = t.scale().is_some().then(|| t.clone());
                Source { sloped, grad: Arc::new(t) }
            }
            Self::Deferred(grad) => Source { sloped: None, grad },
            grad => Source { sloped: None, grad: Arc::new(grad.into_tensor(store)) },
        }
    }

    /// Adds another gradient of the same value: what passes a quantizer takes it along, anything else is written.
    pub(crate) fn plus(self, other: Self, store: &mut Store) -> Self {
        match (self, other) {
            (Self::Through(t), other) | (other, Self::Through(t)) if t.plus.is_none() && t.gate.is_none() => {
                let plus: Arc<dyn Deferred> = match other {
                    Self::Deferred(d) => d,
                    other => Arc::new(other.into_tensor(store)),
                };
                Self::Through(Through { plus: Some(plus), ..t })
            }
            // One pass computes it and adds.
            (Self::Deferred(d), other) | (other, Self::Deferred(d)) => {
                let mut sum = other.into_tensor(store);
                map::chunks(sum.data_mut(), |first, sum| {
                    let mut scratch = Scratch::new();
                    for (i, sum) in sum.chunks_mut(BLOCK).enumerate() {
                        let first = first + i * BLOCK;
                        let d = block(&*d, first..first + sum.len(), &mut scratch);
                        map::update1(sum, d, |sum, d| *sum += d);
                    }
                });
                Self::Float(sum)
            }
            (Self::Parts(a), Self::Parts(b)) => match a.join(b) {
                Ok(parts) => Self::Parts(parts),
                Err((a, b)) => Self::Float(a.write()).plus(Self::Float(b.write()), store),
            },
            (a, b) => {
                let (mut a, b) = (a.into_tensor(store), b.into_tensor(store));
                map::update1(a.data_mut(), b.data(), |a, b| *a += b);
                Self::Float(a)
            }
        }
    }
}
