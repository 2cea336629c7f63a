//! `Value`: what flows between operations. `Var`: a value on a graph.

use crate::ParamId;
use crate::deferred::{BLOCK, Deferred, Lazy, Scratch, block};
use fixnet_tensor::{Sums, Tensor, map};
use std::ops::Range;

/// What flows between operations: floats, the exact accumulators of an integer product, or what is to be computed.
#[derive(Debug, Clone)]
pub enum Value {
    /// A float tensor.
    Float(Tensor),
    /// Integer sums with a scale; operations that can use them never see floats.
    Sums(Sums),
    /// Floats that are computed where they are needed.
    Deferred(Lazy),
}

impl Value {
    /// The numbers, wherever they are.
    pub(crate) fn inner(&self) -> &dyn Deferred {
        match self {
            Self::Float(t) => t,
            Self::Sums(s) => s,
            Self::Deferred(d) => d,
        }
    }

    /// The value for another one that is to be computed from it: written if many that are not lie one behind the other. What reads
    /// such a value twice, as a sum with a multiple of itself does, would double the work with each of them.
    pub(crate) fn settled(&self) -> Self {
        /// More than any network here has in a row.
        const MOST: usize = 4;
        if self.depth() < MOST { self.clone() } else { Self::Float(self.tensor()) }
    }

    /// The value as floats; exact sums are converted with one rounding each.
    pub fn tensor(&self) -> Tensor {
        match self {
            Self::Float(t) => t.clone(),
            Self::Sums(s) => s.to_tensor(),
            Self::Deferred(d) => d.tensor(),
        }
    }
}

/// Where a value comes from, and so where its gradient goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The output of a recorded operation.
    Node(usize),
    /// A parameter.
    Param(ParamId),
    /// A value of a traced network: the output of the node of this index. It has a shape and no numbers.
    Traced(usize),
    /// An input: it needs no gradient.
    Const,
}

/// A value in the graph. Cloning is cheap: the numbers are shared.
#[derive(Debug, Clone)]
pub struct Var {
    pub(crate) value: Value,
    pub(crate) source: Source,
    /// The graph that gave it.
    pub(crate) graph: u64,
    /// Whether no element is below 0, as far as the operations tell.
    pub(crate) non_negative: bool,
}

impl Var {
    /// The value as it is.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The value as floats; exact sums are converted with one rounding each.
    pub fn tensor(&self) -> Tensor {
        self.value.tensor()
    }

    /// The lengths of the axes.
    pub fn shape(&self) -> &[usize] {
        self.value.inner().shape()
    }

    /// Returns whether no element is below 0, as far as the operations tell from which it comes: a ReLU, a softmax and the
    /// like give such values, and poolings, reshapes and sums of such values keep them. An input is of either sign.
    ///
    /// A quantized layer gives such a value levels from 0 on, and any other one levels of both signs.
    pub fn is_non_negative(&self) -> bool {
        self.non_negative
    }

    /// Promises that no element is below 0, where the operations do not tell: of an input, or the output of an operation that
    /// a layer records by itself. A quantizer turns elements below 0 of such a value into 0.
    #[must_use]
    pub fn non_negative(self) -> Self {
        Self { non_negative: true, ..self }
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
    fn size(&self) -> usize {
        self.inner().size()
    }
    fn keep(&self) -> bool {
        self.inner().keep()
    }
    fn depth(&self) -> usize {
        self.inner().depth()
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
        let mut scratch = Scratch::new();
        for (i, out) in out.chunks_mut(BLOCK).enumerate() {
            let first = first + i * BLOCK;
            f(block(x, first..first + out.len(), &mut scratch), out);
        }
    });
}
