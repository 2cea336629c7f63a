//! The kernel table: one row for each hand-written tile, with the operand ranges for which it is exact.
//!
//! All products of this crate are made of one thing, the gather-broadcast tile: `MR` rows by 16 columns, where row `r`
//! reads its operand at `base[r] + offset[k]` of one flat array and the columns come from a packed panel. A matrix, the
//! windows of an image and, for weight gradients, the pixels of a batch are all addressed by such sums, so no operand is
//! ever spread out in memory (no im2col).
//!
//! This folder holds the crate's only `unsafe`: a safe wrapper checks the bounds of a call once, and each instruction
//! set's file holds its tiles. The scalar tile in [`scalar`] defines every result.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod isa;
mod scalar;

pub use isa::{Isa, available_isas, isa, isa_from_env, set_isa};

use crate::Element;
use std::sync::LazyLock;

/// Columns of a tile and of a packed panel, the same on every instruction set.
pub const NR: usize = 16;
/// The most rows of any tile.
pub const MR_MAX: usize = 16;

/// The accumulators of a tile, row by row.
pub(crate) type Tile<A> = [A; MR_MAX * NR];

/// Byte products are taken four at a time: a lane of 32 bits receives four of them.
pub const QUAD: usize = 4;

type IntegerTile = unsafe fn(*const u8, &[u32; MR_MAX], &[u32], *const i8, &mut Tile<i32>);
type FloatTile = unsafe fn(*const f32, &[u32; MR_MAX], &[u32], *const f32, &mut Tile<f32>);

/// A row of the table: a tile, and for which operands it gives the exact integer sum.
#[derive(Debug)]
pub struct Kernel<F> {
    /// The name, `types-MRxNRcKR-isa[-range]`.
    pub name: &'static str,
    /// The instruction set that it needs.
    pub isa: Isa,
    /// Rows of a tile.
    pub mr: usize,
    /// The largest product `|lhs| · |rhs|` of operands for which the tile is exact; 255 · 128 is every byte pair.
    pub product_max: u32,
    tile: F,
}

/// A tile over bytes: u8 on the left, i8 on the right, i32 sums.
pub type IntegerKernel = Kernel<IntegerTile>;
/// A tile over f32: each sum is one chain of fused multiply-adds in the order of k.
pub type FloatKernel = Kernel<FloatTile>;

/// Offsets of the reduced axis, with their largest known.
pub(crate) struct Offsets {
    list: Vec<u32>,
    max: usize,
}

impl Offsets {
    pub(crate) fn new(list: Vec<u32>) -> Self {
        let max = list.iter().copied().max().unwrap_or(0) as usize;
        Self { list, max }
    }
}

/// What the driver needs of a kernel, for bytes and floats alike.
pub(crate) trait Product: Sync {
    /// Left operand, gathered.
    type Lhs: Element;
    /// Right operand, packed.
    type Rhs: Element;
    /// Sums.
    type Sum: Element;
    /// Consecutive elements of the left operand that one offset stands for.
    const GROUP: usize;
    /// Sums of sums: exact, or in one written order.
    type Wide: Element;
    /// `sum - zero · v`: takes the offset of the left operand out of a start value.
    fn take_out(sum: Self::Sum, zero: Self::Lhs, v: Self::Rhs) -> Self::Sum;
    /// `wide + sum`.
    fn widen(wide: Self::Wide, sum: Self::Sum) -> Self::Wide;
    /// `a + b`.
    fn join(a: Self::Wide, b: Self::Wide) -> Self::Wide;
    /// Rows of a tile.
    fn mr(&self) -> usize;
    /// `sums[r][c] += Σ_k lhs[base[r] + offset[k] + j] · rhs[k][c][j]`, j over the group; up to `mr` rows.
    fn run(&self, lhs: &[Self::Lhs], base: &[u32], k: &Offsets, rhs: &[Self::Rhs], sums: &mut Tile<Self::Sum>);
}

/// The bases of all rows of a tile: missing rows repeat the last one, and their sums are ignored.
fn full_bases(base: &[u32], mr: usize) -> ([u32; MR_MAX], usize) {
    assert!(!base.is_empty() && base.len() <= mr && mr <= MR_MAX);
    let mut bases = [base[base.len() - 1]; MR_MAX];
    bases[..base.len()].copy_from_slice(base);
    let max = base.iter().copied().max().unwrap_or(0) as usize;
    (bases, max)
}

macro_rules! product {
    ($kernel:ty, $lhs:ty, $rhs:ty, $sum:ty, $wide:ty, $group:expr, $take_out:expr) => {
        impl Product for $kernel {
            type Lhs = $lhs;
            type Rhs = $rhs;
            type Sum = $sum;
            type Wide = $wide;
            const GROUP: usize = $group;

            #[inline(always)]
            fn take_out(sum: $sum, zero: $lhs, v: $rhs) -> $sum {
                $take_out(sum, zero, v)
            }
            #[inline(always)]
            fn widen(wide: $wide, sum: $sum) -> $wide {
                wide + <$wide>::from(sum)
            }
            #[inline(always)]
            fn join(a: $wide, b: $wide) -> $wide {
                a + b
            }
            fn mr(&self) -> usize {
                self.mr
            }

            #[inline]
            fn run(&self, lhs: &[$lhs], base: &[u32], k: &Offsets, rhs: &[$rhs], sums: &mut Tile<$sum>) {
                let (bases, base_max) = full_bases(base, self.mr);
                assert!(k.list.is_empty() || base_max + k.max + ($group - 1) < lhs.len());
                assert!(rhs.len() == k.list.len() * NR * $group);
                // SAFETY: a row enters the table only where its instruction set was detected; every read of the left
                // operand ends at or before base_max + k.max + GROUP, and the panel has one row of NR groups an offset.
                unsafe { (self.tile)(lhs.as_ptr(), &bases, &k.list, rhs.as_ptr(), sums) }
            }
        }
    };
}
product!(IntegerKernel, u8, i8, i32, i64, QUAD, |sum: i32, zero: u8, v: i8| sum
    .wrapping_sub(i32::from(zero) * i32::from(v)));
product!(FloatKernel, f32, f32, f32, f32, 1, |sum: f32, _, _| sum);

impl IntegerKernel {
    /// Whether the tile is exact for left bytes up to `lhs_max` and right levels up to `rhs_max` in magnitude.
    pub fn admits(&self, lhs_max: u8, rhs_max: u8) -> bool {
        u32::from(lhs_max) * u32::from(rhs_max) <= self.product_max
    }
}

static INTEGER: LazyLock<Vec<IntegerKernel>> = LazyLock::new(|| {
    #[allow(unused_mut)]
    let mut table = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        table.extend(avx512::integer());
        table.extend(avx2::integer());
    }
    table.push(scalar::integer());
    table
});

static FLOAT: LazyLock<Vec<FloatKernel>> = LazyLock::new(|| {
    #[allow(unused_mut)]
    let mut table = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        table.extend(avx512::float());
        table.extend(avx2::float());
    }
    table.push(scalar::float());
    table
});

/// The integer kernels that this CPU can run, fastest first; the scalar one is last and exact for all bytes.
pub fn all() -> &'static [IntegerKernel] {
    &INTEGER
}

/// The float kernels that this CPU can run, fastest first.
pub fn all_float() -> &'static [FloatKernel] {
    &FLOAT
}

/// The fastest kernel within the instruction set in force that is exact for left bytes up to `lhs_max` and right levels
/// up to `rhs_max` in magnitude.
pub fn select(lhs_max: u8, rhs_max: u8) -> &'static IntegerKernel {
    let cap = isa();
    INTEGER
        .iter()
        .find(|k| cap.allows(k.isa) && k.admits(lhs_max, rhs_max))
        .expect("the scalar kernel admits every range")
}

/// The fastest float kernel within the instruction set in force.
pub fn select_float() -> &'static FloatKernel {
    let cap = isa();
    FLOAT.iter().find(|k| cap.allows(k.isa)).expect("the scalar kernel runs everywhere")
}

#[cfg(test)]
mod tests;
