//! What a normalization reads, numbers or exact sums, and what it gives: `v · a + b` for each column.

use crate::deferred::{Bounds, Deferred, Real};
use crate::{Value, Var};
use fixnet_tensor::{Integers, Sums, Tensor, map, reduce};
use std::sync::Arc;

/// The input of a normalization.
#[derive(Clone)]
pub(super) enum Input {
    Float(Tensor),
    Sums(Sums),
}

/// Runs `$body` with `$v` the numbers of a range of the input, whichever they are.
macro_rules! numbers {
    ($input:expr, $range:expr, $v:ident => $body:expr) => {
        match $input {
            Input::Float(x) => {
                let $v = &x.data()[$range];
                $body
            }
            Input::Sums(x) => match x.integers($range) {
                Integers::Narrow($v) => $body,
                Integers::Wide($v) => $body,
            },
        }
    };
}

pub(super) use numbers;

impl Input {
    pub(super) fn of(x: &Var) -> Self {
        match x.value() {
            Value::Sums(s) => Self::Sums(s.clone()),
            other => Self::Float(other.tensor()),
        }
    }

    pub(super) fn shape(&self) -> &[usize] {
        match self {
            Self::Float(x) => x.shape(),
            Self::Sums(x) => x.shape(),
        }
    }

    pub(super) fn size(&self) -> usize {
        match self {
            Self::Float(x) => x.size(),
            Self::Sums(x) => x.size(),
        }
    }
}

/// Factors and offsets of columns, repeated so that a pass may start at any column.
#[derive(Clone)]
pub(super) struct Columns {
    columns: usize,
    span: usize,
    values: Vec<f32>,
}

impl Columns {
    pub(super) fn new(values: &[f32]) -> Self {
        let (columns, span) = (values.len(), reduce::span(values.len()));
        Self { columns, span, values: values.iter().copied().cycle().take(span + columns).collect() }
    }

    /// One number for each position of a span that starts at index `first`.
    pub(super) fn from(&self, first: usize) -> &[f32] {
        &self.values[first % self.columns..][..self.span]
    }
}

/// `v · a + b`, held to an interval if there is one.
#[derive(Clone)]
pub(super) struct Affine {
    input: Input,
    a: Columns,
    b: Columns,
    clamp: Option<Bounds>,
}

/// `v · a + b`; held from below if `LOW`, and from above too if `HIGH`.
fn affine<T: Real, const LOW: bool, const HIGH: bool>(v: &[T], a: &[f32], b: &[f32], held: Bounds, out: &mut [f32]) {
    map::dispatch(
        #[inline(always)]
        || {
            for (out, v) in out.chunks_mut(a.len()).zip(v.chunks(a.len())) {
                for (((o, &v), &a), &b) in out.iter_mut().zip(v).zip(a).zip(b) {
                    let y = v.real() * a + b;
                    *o = if LOW { held.hold::<HIGH>(y) } else { y };
                }
            }
        },
    );
}

impl Affine {
    pub(super) fn new(input: Input, a: &[f32], b: &[f32]) -> Self {
        Self { input, a: Columns::new(a), b: Columns::new(b), clamp: None }
    }

    /// Each column of `x` plus its own number.
    pub(super) fn offset(x: &Var, b: &[f32]) -> Self {
        let input = Input::of(x);
        let unit = |k: usize| match &input {
            Input::Float(_) => 1.0,
            Input::Sums(s) => s.unit(k),
        };
        let a: Vec<f32> = (0..b.len()).map(unit).collect();
        Self::new(input, &a, b)
    }
}

impl Deferred for Affine {
    fn shape(&self) -> &[usize] {
        self.input.shape()
    }
    fn fill(&self, first: usize, out: &mut [f32]) {
        let (a, b) = (self.a.from(first), self.b.from(first));
        numbers!(&self.input, first..first + out.len(), v => match self.clamp {
            None => affine::<_, false, false>(v, a, b, Bounds::RELU, out),
            Some(held) if held.is_open() => affine::<_, true, false>(v, a, b, held, out),
            Some(held) => affine::<_, true, true>(v, a, b, held, out),
        });
    }
    fn size(&self) -> usize {
        self.input.size()
    }
    fn clamp(&self, bounds: Bounds) -> Option<Arc<dyn Deferred>> {
        match self.clamp {
            Some(held) if held != bounds => None,
            _ => Some(Arc::new(Self { clamp: Some(bounds), ..self.clone() })),
        }
    }
}
