//! The kernel table: one row a kernel, with the operand ranges for which it is exact. The only place with `unsafe`.
//!
//! Every product of the library but depthwise ones is `out[i][c] = start[c] + Σ_k lhs[base[i] + koff[k]] · panel[k][c]` over 16 columns (a
//! panel) and any number of rows; see [`Job`]. A row of the table does this for bytes (u8 times i8 into i32, four k a
//! step), a row of [`all_float`] for floats (one fused chain over k). The loop is in `tile.rs`; a file an instruction
//! set holds only its instructions.
//!
//! Tests, benches and dispatch walk the same table: [`all`] is what this CPU runs, best first, and [`select`] takes the
//! first row that is exact for the operands, under the cap of [`set_isa`] or `FIXNET_ISA`.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod bits;
#[cfg(target_arch = "x86_64")]
mod float_avx2;
mod isa;
mod job;
#[cfg(target_arch = "aarch64")]
mod neon;
pub(crate) mod pack;
mod scalar;
mod tile;

pub use isa::{Isa, available_isas, isa, isa_from_env, set_isa};
pub use job::{Job, Start};

use std::fmt;
use std::sync::OnceLock;
use tile::{Tile, rows};

/// Columns of a panel of the right operand, on every instruction set.
pub const COLUMNS: usize = 16;
/// k of a step of a byte kernel.
pub const QUAD: usize = 4;

type ByteTile = Tile<u8, i8, i32>;
type WordTile = Tile<u16, i16, i32>;
type FloatTile = Tile<f32, f32, f32>;
type BitTile = Tile<u32, u32, i32>;

/// A row of the table of byte products.
pub struct Kernel {
    /// Types, tile and instruction set, as in `u8i8-6x16c4-avx2-4bit`.
    pub name: &'static str,
    /// The instruction set that it needs.
    pub isa: Isa,
    /// Rows of its register tile.
    pub mr: usize,
    /// Exact where (largest left byte) · (largest right magnitude) is at most this.
    pub product_max: u32,
    /// The largest left byte that it takes.
    pub lhs_max: u8,
    /// What it subtracts from each left byte; the start values must make up for it.
    pub lhs_bias: u8,
    one: unsafe fn(&ByteTile),
    /// Two panels at once, where that pays.
    two: Option<unsafe fn(&ByteTile)>,
    /// For operands widened beforehand, where that pays: with [`WIDEN_FROM`] rows or more.
    words: Option<Words>,
}

/// A product of operands of 16 bits, and how they come from bytes.
#[derive(Clone, Copy)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "no row of other architectures needs it"))]
struct Words {
    left: unsafe fn(&[u8], &mut [u16]),
    right: unsafe fn(&[i8], &mut [i16]),
    tile: unsafe fn(&WordTile),
}

/// Rows from which on a panel is used often enough to be widened for them.
const WIDEN_FROM: usize = 32;

/// A row of the table of float products; all rows give the same bits.
pub struct FloatKernel {
    /// Types, tile and instruction set.
    pub name: &'static str,
    /// The instruction set that it needs.
    pub isa: Isa,
    /// Rows of its register tile.
    pub mr: usize,
    one: unsafe fn(&FloatTile),
    two: Option<unsafe fn(&FloatTile)>,
}

/// A row of the table of products of one-bit operands, 32 k a word: left bits 0 and 1, right bits for -1 and +1.
pub struct BitKernel {
    /// Types, tile and instruction set.
    pub name: &'static str,
    /// The instruction set that it needs.
    pub isa: Isa,
    /// Rows of its register tile.
    pub mr: usize,
    one: unsafe fn(&BitTile),
    two: Option<unsafe fn(&BitTile)>,
}

impl fmt::Debug for BitKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl fmt::Debug for FloatKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A function with target features around the tile: MR rows (TAIL for the last ones) by NV vectors.
macro_rules! tile_fn {
    ($($feature:literal)?, $tile:ty, $dot:ty, $mr:literal / $tail:literal x $nv:literal) => {{
        $(#[target_feature(enable = $feature)])?
        unsafe fn tile(t: &$tile) {
            // SAFETY: a row is offered only where its features were detected; `Job::run` has checked `t`.
            unsafe { rows::<$dot, $mr, $tail, $nv>(t) }
        }
        tile as unsafe fn(&$tile)
    }};
}

/// The i16 bound: `flush` steps of two products each.
#[cfg(target_arch = "x86_64")]
const fn pairs_max(flush: u32) -> u32 {
    32_767 / (2 * flush)
}

/// The i16 bound: `flush` steps of one product each.
#[cfg(target_arch = "aarch64")]
const fn singles_max(flush: u32) -> u32 {
    32_767 / flush
}

/// Every pair of a byte and a signed byte.
const FULL: u32 = 255 * 128;

/// Every byte kernel that this CPU can run, best first; the scalar one is last and admits everything.
pub fn all() -> &'static [Kernel] {
    static TABLE: OnceLock<Vec<Kernel>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table = Vec::new();
        let row = |isa, name, mr, product_max, one, two| {
            Kernel { name, isa, mr, product_max, lhs_max: 255, lhs_bias: 0, one, two, words: None }
        };
        #[cfg(target_arch = "x86_64")]
        {
            use avx2::{Pairs, Wide, Widened};
            macro_rules! avx512 {
                ($isa:ident, $name:literal, $max:expr, $feature:literal, $dot:ty) => {
                    row(
                        Isa::$isa,
                        $name,
                        10,
                        $max,
                        tile_fn!($feature, ByteTile, $dot, 10 / 5 x 1),
                        Some(tile_fn!($feature, ByteTile, $dot, 10 / 5 x 2)),
                    )
                };
            }
            macro_rules! avx2 {
                ($isa:ident, $name:literal, $max:expr, $feature:literal, $dot:ty, $mr:literal / $tail:literal) => {
                    row(Isa::$isa, $name, $mr, $max, tile_fn!($feature, ByteTile, $dot, $mr / $tail x 2), None)
                };
            }
            table.extend([
                avx512!(
                    Avx512Vnni,
                    "u8i8-10x16c4-avx512vnni",
                    FULL,
                    "avx512f,avx512bw,avx512vl,avx512vnni",
                    avx512::Vnni
                ),
                avx2!(
                    Avx512Vnni,
                    "u8i8-6x16c4-avx512vnni-256",
                    FULL,
                    "avx2,avx512f,avx512bw,avx512vl,avx512vnni",
                    avx2::Vnni<true>,
                    6 / 3
                ),
                avx512!(
                    Avx512,
                    "u8i8-10x16c4-avx512-4bit",
                    pairs_max(128),
                    "avx512f,avx512bw,avx512vl",
                    avx512::Pairs<128>
                ),
                avx512!(
                    Avx512,
                    "u8i8-10x16c4-avx512-5bit",
                    pairs_max(32),
                    "avx512f,avx512bw,avx512vl",
                    avx512::Pairs<32>
                ),
                avx512!(
                    Avx512,
                    "u8i8-10x16c4-avx512-6bit",
                    pairs_max(8),
                    "avx512f,avx512bw,avx512vl",
                    avx512::Pairs<8>
                ),
                avx2!(AvxVnni, "u8i8-6x16c4-avxvnni", FULL, "avx2,avxvnni", avx2::Vnni<false>, 6 / 3),
                avx2!(Avx2, "u8i8-6x16c4-avx2-4bit", pairs_max(128), "avx2", Pairs<128>, 6 / 3),
                avx2!(Avx2, "u8i8-6x16c4-avx2-5bit", pairs_max(32), "avx2", Pairs<32>, 6 / 3),
                avx2!(Avx2, "u8i8-6x16c4-avx2-6bit", pairs_max(8), "avx2", Pairs<8>, 6 / 3),
                avx2!(Avx2, "u8i8-5x16c4-avx2-7bit", pairs_max(1), "avx2", Widened, 5 / 3),
            ]);
            let words = Words {
                left: avx2::widen_left,
                right: avx2::widen_right,
                tile: tile_fn!("avx2", WordTile, avx2::Words, 6 / 3 x 2),
            };
            let bytes = tile_fn!("avx2", ByteTile, Wide, 4 / 2 x 2);
            table.push(Kernel { words: Some(words), ..row(Isa::Avx2, "u8i8-6x16c4-avx2", 6, FULL, bytes, None) });
        }
        #[cfg(target_arch = "aarch64")]
        {
            use neon::{Narrow, Sdot, Sudot, Wide};
            // Left bytes are signed to all but `sudot`: held to 127, or biased by 128.
            macro_rules! neon {
                ($isa:ident, $name:literal, $max:expr, $lhs:expr, $feature:literal, $dot:ty, $mr:literal / $tail:literal) => {{
                    let one = tile_fn!($feature, ByteTile, $dot, $mr / $tail x 4);
                    let (lhs_max, lhs_bias) = $lhs;
                    Kernel { lhs_max, lhs_bias, ..row(Isa::$isa, $name, $mr, $max, one, None) }
                }};
            }
            table.extend([
                neon!(NeonI8mm, "u8i8-6x16c4-neon-i8mm", FULL, (255, 0), "neon,i8mm", Sudot, 6 / 3),
                neon!(NeonDotprod, "u8i8-6x16c4-neon-dotprod-7bit", FULL, (127, 0), "neon,dotprod", Sdot<0>, 6 / 3),
                neon!(NeonDotprod, "u8i8-6x16c4-neon-dotprod", FULL, (255, 128), "neon,dotprod", Sdot<128>, 6 / 3),
                neon!(Neon, "u8i8-3x16c4-neon-4bit", singles_max(256), (127, 0), "neon", Narrow<256>, 3 / 1),
                neon!(Neon, "u8i8-3x16c4-neon-5bit", singles_max(64), (127, 0), "neon", Narrow<64>, 3 / 1),
                neon!(Neon, "u8i8-3x16c4-neon-6bit", singles_max(16), (127, 0), "neon", Narrow<16>, 3 / 1),
                neon!(Neon, "u8i8-3x16c4-neon-7bit", singles_max(4), (127, 0), "neon", Narrow<4>, 3 / 1),
                neon!(Neon, "u8i8-2x16c4-neon", FULL, (255, 128), "neon", Wide, 2 / 1),
            ]);
        }
        let one = tile_fn!(, ByteTile, scalar::Bytes, 2 / 1 x 1);
        table.push(row(Isa::Scalar, "u8i8-2x16c4-scalar", 2, FULL, one, None));
        table.retain(|k| k.isa.is_available());
        table
    })
}

/// Every float kernel that this CPU can run, best first, the scalar one last. All give the same bits.
pub fn all_float() -> &'static [FloatKernel] {
    static TABLE: OnceLock<Vec<FloatKernel>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let one = tile_fn!("avx512f,avx512bw,avx512vl", FloatTile, avx512::Floats, 10 / 5 x 1);
            let two = Some(tile_fn!("avx512f,avx512bw,avx512vl", FloatTile, avx512::Floats, 10 / 5 x 2));
            table.push(FloatKernel { name: "f32-10x16-avx512", isa: Isa::Avx512, mr: 10, one, two });
            let one = tile_fn!("avx2,fma", FloatTile, float_avx2::Floats, 6 / 3 x 2);
            table.push(FloatKernel { name: "f32-6x16-avx2", isa: Isa::Avx2, mr: 6, one, two: None });
        }
        #[cfg(target_arch = "aarch64")]
        {
            let one = tile_fn!("neon", FloatTile, neon::Floats, 6 / 3 x 4);
            table.push(FloatKernel { name: "f32-6x16-neon", isa: Isa::Neon, mr: 6, one, two: None });
        }
        let one = tile_fn!(, FloatTile, scalar::Floats, 1 / 1 x 1);
        table.push(FloatKernel { name: "f32-1x16-scalar", isa: Isa::Scalar, mr: 1, one, two: None });
        table.retain(|k| k.isa.is_available());
        table
    })
}

/// Every kernel for one-bit operands that this CPU can run, best first, the scalar one last.
pub fn all_bits() -> &'static [BitKernel] {
    static TABLE: OnceLock<Vec<BitKernel>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512vpopcntdq") {
                let one = tile_fn!("avx512f,avx512bw,avx512vl,avx512vpopcntdq", BitTile, bits::Popcntdq, 6 / 3 x 1);
                let two =
                    Some(tile_fn!("avx512f,avx512bw,avx512vl,avx512vpopcntdq", BitTile, bits::Popcntdq, 6 / 3 x 2));
                table.push(BitKernel { name: "b1-6x16c32-avx512vpopcntdq", isa: Isa::Avx512, mr: 6, one, two });
            }
            if is_x86_feature_detected!("popcnt") {
                let one = tile_fn!("avx2,popcnt", BitTile, bits::Avx2, 2 / 1 x 2);
                table.push(BitKernel { name: "b1-2x16c32-avx2", isa: Isa::Avx2, mr: 2, one, two: None });
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            let one = tile_fn!("neon", BitTile, bits::Neon, 2 / 1 x 4);
            table.push(BitKernel { name: "b1-2x16c32-neon", isa: Isa::Neon, mr: 2, one, two: None });
        }
        let one = tile_fn!(, BitTile, bits::Scalar, 1 / 1 x 1);
        table.push(BitKernel { name: "b1-1x16c32-scalar", isa: Isa::Scalar, mr: 1, one, two: None });
        table.retain(|k| k.isa.is_available());
        table
    })
}

/// The best kernel for one-bit operands under the cap.
pub fn select_bits() -> &'static BitKernel {
    let cap = isa();
    all_bits().iter().find(|k| cap.allows(k.isa)).expect("the scalar kernel is always there")
}

/// The best byte kernel under the cap that is exact for left bytes up to `lhs_max` and right magnitudes to `rhs_max`.
///
/// # Panics
/// `rhs_max` is above 128: no panel of i8 holds it.
pub fn select(lhs_max: u8, rhs_max: u8) -> &'static Kernel {
    let cap = isa();
    let row = all().iter().find(|k| cap.allows(k.isa) && k.admits(lhs_max, rhs_max));
    row.expect("the scalar kernel admits all magnitudes to 128")
}

/// The best float kernel under the cap.
pub fn select_float() -> &'static FloatKernel {
    let cap = isa();
    all_float().iter().find(|k| cap.allows(k.isa)).expect("the scalar kernel is always there")
}

impl Kernel {
    /// Whether the result is exact for left bytes up to `lhs_max` and right magnitudes up to `rhs_max`.
    pub fn admits(&self, lhs_max: u8, rhs_max: u8) -> bool {
        lhs_max <= self.lhs_max && rhs_max <= 128 && u32::from(lhs_max) * u32::from(rhs_max) <= self.product_max
    }

    /// Runs `job`. Sums wrap in i32, so they are right whenever the final ones fit.
    ///
    /// # Panics
    /// An offset or length in `job` reaches beyond its slice.
    pub fn run(&self, job: Job<'_, u8, i8, i32>) {
        match self.words {
            Some(words) if job.base.len() >= WIDEN_FROM => job.widened(words),
            _ => job.run(QUAD, self.one, self.two),
        }
    }
}

impl BitKernel {
    /// Runs `job`.
    ///
    /// # Panics
    /// An offset or length in `job` reaches beyond its slice.
    pub fn run(&self, job: Job<'_, u32, u32, i32>) {
        job.run(1, self.one, self.two);
    }
}

impl FloatKernel {
    /// Runs `job`: one chain of fused multiply-adds an output, over k in order.
    ///
    /// # Panics
    /// An offset or length in `job` reaches beyond its slice.
    pub fn run(&self, job: Job<'_, f32, f32, f32>) {
        job.run(1, self.one, self.two);
    }
}
