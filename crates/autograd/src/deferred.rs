//! Values that are not written out: a pass over one computes it block by block in the cache.
//!
//! Moving numbers costs more than computing them. So normalization, ReLU and additions of exact sums only note what is
//! to be computed ([`Lazy`]), and the pass that needs the numbers (a quantizer, a sum over columns) computes them on the
//! way. The same holds on the way back: see [`gradient`](crate::gradient). Each number is computed by the same expression
//! wherever it is needed, so the bits are those of written tensors.

use crate::strided::Strided;
use fixnet_tensor::{Sums, Tensor, map};
use std::cell::RefCell;
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

    /// Bytes that computing one number reads, for profiles.
    fn size(&self) -> usize {
        4
    }

    /// Whether the first pass over all should write the numbers out for later ones.
    fn keep(&self) -> bool {
        false
    }

    /// The view that this is, so that another view of it is one of the same memory.
    #[doc(hidden)]
    #[allow(private_interfaces, reason = "only values of this crate are views")]
    fn strided(&self) -> Option<Strided> {
        None
    }

    /// How many values that are not written lie one behind the other in what computing a number goes through.
    fn depth(&self) -> usize {
        0
    }

    /// These numbers held to an interval, where computing them takes it along.
    fn clamp(&self, _: Bounds) -> Option<Arc<dyn Deferred>> {
        None
    }
}

/// The interval of a clamp. A ReLU has no upper end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// What smaller numbers become.
    pub low: f32,
    /// What larger numbers become.
    pub high: f32,
}

impl Bounds {
    /// From 0 on: a ReLU.
    pub const RELU: Self = Self { low: 0.0, high: f32::INFINITY };

    /// Whether numbers are held from below alone.
    pub(crate) fn is_open(self) -> bool {
        self.high == f32::INFINITY
    }

    /// `x` held to the interval, or from below alone without `TOP`. A NaN stays a NaN, so that it is found.
    #[inline(always)]
    pub(crate) fn hold<const TOP: bool>(self, x: f32) -> f32 {
        let x = if x <= self.low { self.low } else { x };
        if TOP && x >= self.high { self.high } else { x }
    }

    /// Holds each number of a block.
    pub(crate) fn hold_block(self, x: &mut [f32]) {
        map::dispatch(
            #[inline(always)]
            || match self.is_open() {
                true => x.iter_mut().for_each(|x| *x = self.hold::<false>(*x)),
                false => x.iter_mut().for_each(|x| *x = self.hold::<true>(*x)),
            },
        );
    }
}

thread_local! {
    static FREE: RefCell<Vec<Box<[f32; BLOCK]>>> = const { RefCell::new(Vec::new()) };
}

/// Room for a block, contents unspecified. Each thread keeps its own, so that a pass neither allocates nor clears.
pub struct Scratch(Option<Box<[f32; BLOCK]>>);

impl Scratch {
    /// Room that no one else on this thread uses until it is dropped.
    #[allow(clippy::new_without_default, reason = "taken, not made")]
    pub fn new() -> Self {
        Self(Some(FREE.with_borrow_mut(Vec::pop).unwrap_or_else(|| Box::new([0.0; BLOCK]))))
    }

    fn room(&mut self) -> &mut [f32; BLOCK] {
        self.0.as_mut().expect("given back on drop only")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(room) = self.0.take() {
            FREE.with_borrow_mut(|free| free.push(room));
        }
    }
}

/// The number of elements.
pub fn len(x: &dyn Deferred) -> usize {
    x.shape().iter().product()
}

/// A block of at most [`BLOCK`] numbers: those in memory, or computed into `scratch`.
pub fn block<'a>(x: &'a dyn Deferred, range: Range<usize>, scratch: &'a mut Scratch) -> &'a [f32] {
    match x.slice(range.clone()) {
        Some(slice) => slice,
        None => {
            let scratch = &mut scratch.room()[..range.len()];
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
        let mut scratch = Scratch::new();
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
        self.fill(first, out);
    }
    fn size(&self) -> usize {
        self.bytes() / self.len().max(1)
    }
}

/// An element as f32: integers convert with one rounding.
pub(crate) trait Real: Copy + Sync {
    fn real(self) -> f32;
}
impl Real for f32 {
    #[inline(always)]
    fn real(self) -> f32 {
        self
    }
}
impl Real for i16 {
    #[inline(always)]
    fn real(self) -> f32 {
        self.into()
    }
}
impl Real for i32 {
    #[inline(always)]
    fn real(self) -> f32 {
        self as f32
    }
}

/// A deferred value, with the tensor once it was written.
#[derive(Clone)]
pub struct Lazy {
    pub(crate) inner: Arc<dyn Deferred>,
    pub(crate) written: Arc<OnceLock<Tensor>>,
}

impl fmt::Debug for Lazy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "deferred {:?}", self.inner.shape())
    }
}

impl Lazy {
    /// A value that nobody has written.
    pub fn new(inner: impl Deferred + 'static) -> Self {
        Self::of(Arc::new(inner))
    }

    /// As [`new`](Self::new), of what is shared already.
    pub fn of(inner: Arc<dyn Deferred>) -> Self {
        Self { inner, written: Arc::default() }
    }

    /// The value as a tensor, written once.
    pub fn tensor(&self) -> Tensor {
        self.written.get_or_init(|| write(&*self.inner)).clone()
    }

    /// Whether a pass over all should write the value on the way: later ones will read it, and it is not written yet.
    pub(crate) fn wants_writing(&self) -> bool {
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
    fn size(&self) -> usize {
        if self.keep() && self.written.get().is_some() { 4 } else { self.inner.size() }
    }
    fn keep(&self) -> bool {
        self.inner.keep()
    }
    fn depth(&self) -> usize {
        if self.keep() && self.written.get().is_some() { 0 } else { self.inner.depth() }
    }
    fn clamp(&self, bounds: Bounds) -> Option<Arc<dyn Deferred>> {
        self.inner.clamp(bounds)
    }
}
