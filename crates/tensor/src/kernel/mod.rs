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
#[cfg(target_arch = "aarch64")]
mod neon;
pub(crate) mod pack;
mod scalar;
mod tile;

pub use isa::{Isa, available_isas, isa, isa_from_env, set_isa};

use crate::Buffer;
use std::fmt;
use std::sync::OnceLock;
use tile::{Tile, TileFn, rows};

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

/// Where the sums of a [`Job`] start.
#[derive(Clone, Copy)]
pub enum Start<'a, S> {
    /// From these, one a column, in every row.
    Columns(&'a [S]),
    /// From what is in `out`.
    Out,
}

/// A product: for every row i and column c of the panels, `out[i][c] = start + Σ_k lhs[base[i] + koff[k]] · panels[k][c]`.
///
/// For bytes, k runs over steps of four: step q reads `lhs[base[i] + koff[q]..][..4]`. Panels are
/// `[panel][step][column][k of the step]`.
pub struct Job<'a, L, R, S> {
    /// The left operand.
    pub lhs: &'a [L],
    /// Offset of each row.
    pub base: &'a [u32],
    /// Offset of each step.
    pub koff: &'a [u32],
    /// The right operand, from its first panel on.
    pub rhs: &'a [R],
    /// Elements from one panel to the next.
    pub panel_stride: usize,
    /// Number of panels.
    pub panels: usize,
    /// Start values of the sums.
    pub start: Start<'a, S>,
    /// The result, 16 columns a panel.
    pub out: &'a mut [S],
    /// Elements from one row of the result to the next.
    pub out_stride: usize,
}

impl<L, R, S> Job<'_, L, R, S> {
    /// Checks every bound that the tiles rely on, for steps of `kr` numbers. Sizes that wrap are refused as well: a
    /// wrapped one would pass for a small one.
    fn check(&self, kr: usize) {
        const WRAPS: &str = "a size of the job is beyond memory";
        let sum = |a: usize, b: usize| a.checked_add(b).expect(WRAPS);
        let product = |a: usize, b: usize| a.checked_mul(b).expect(WRAPS);
        let (rows, steps) = (self.base.len(), self.koff.len());
        if rows == 0 || self.panels == 0 {
            return;
        }
        let columns = product(self.panels, COLUMNS);
        assert!(reach(self.base) <= self.lhs.len(), "a row starts beyond the left operand");
        if steps > 0 {
            let end = sum(sum(reach(self.base), reach(self.koff)), kr);
            assert!(end <= self.lhs.len(), "a row reaches beyond the left operand");
            let end = sum(product(self.panels - 1, self.panel_stride), product(steps, COLUMNS * kr));
            assert!(end <= self.rhs.len(), "the panels end early");
        }
        assert!(self.out_stride >= columns || rows == 1, "the rows of the result overlap");
        assert!(sum(product(rows - 1, self.out_stride), columns) <= self.out.len(), "the result is too short");
        if let Start::Columns(values) = self.start {
            assert!(values.len() >= columns, "a start value is missing");
        }
    }

    /// Checks the job and runs it by the tiles, two panels at a time where `two` exists.
    fn run(self, kr: usize, one: TileFn<L, R, S>, two: Option<TileFn<L, R, S>>) {
        self.check(kr);
        let (rows, steps) = (self.base.len(), self.koff.len());
        if rows == 0 {
            return;
        }
        let mut tile = Tile {
            lhs: self.lhs.as_ptr(),
            base: self.base.as_ptr(),
            rows,
            koff: self.koff.as_ptr(),
            steps,
            rhs: self.rhs.as_ptr(),
            // Without steps nothing is read there, and the stride was not checked.
            panel_stride: if steps > 0 { self.panel_stride } else { 0 },
            out: self.out.as_mut_ptr(),
            out_stride: self.out_stride,
            start: std::ptr::null(),
            start_stride: 0,
        };
        match self.start {
            Start::Columns(values) => tile.start = values.as_ptr(),
            Start::Out => {
                tile.start = tile.out;
                tile.start_stride = self.out_stride;
            }
        }
        let mut left = self.panels;
        while left > 0 {
            let (count, run) = match two {
                Some(two) if left >= 2 => (2, two),
                _ => (1, one),
            };
            // SAFETY: `check` bounds every access of `left` panels from here; the row of the table exists only where
            // its instructions were detected.
            unsafe { run(&tile) };
            left -= count;
            // Beyond the last panel these are not used.
            tile.rhs = tile.rhs.wrapping_add(count * tile.panel_stride);
            tile.start = tile.start.wrapping_add(count * COLUMNS);
            tile.out = tile.out.wrapping_add(count * COLUMNS);
        }
    }
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

impl Job<'_, u8, i8, i32> {
    /// Widens what the job reads and runs it on that.
    fn widened(self, words: Words) {
        self.check(QUAD);
        let least = |offsets: &[u32]| offsets.iter().fold(u32::MAX, |m, &o| m.min(o)) as usize;
        let steps = self.koff.len();
        let (from, to) = match steps {
            0 => (0, 0),
            _ => (least(self.base) + least(self.koff), reach(self.base) + reach(self.koff) + QUAD),
        };
        // As long as the bytes, so that the checks of `run` are the same.
        let mut lhs = Buffer::take(self.lhs.len());
        let length = steps * COLUMNS * QUAD;
        let mut rhs = Buffer::take(self.panels * length);
        // SAFETY: the row of the table exists only where its instructions were detected.
        unsafe {
            (words.left)(&self.lhs[from..to], &mut lhs[from..to]);
            for panel in 0..self.panels {
                let from = &self.rhs[panel * self.panel_stride..][..length];
                (words.right)(from, &mut rhs[panel * length..][..length]);
            }
        }
        let halves: Buffer<u32> = self.koff.iter().flat_map(|&o| [o, o + 2]).collect();
        let Self { base, panels, start, out, out_stride, .. } = self;
        Job { lhs: &lhs, base, koff: &halves, rhs: &rhs, panel_stride: length, panels, start, out, out_stride }.run(
            QUAD / 2,
            words.tile,
            None,
        );
    }
}

/// The largest offset.
fn reach(offsets: &[u32]) -> usize {
    offsets.iter().fold(0, |m, &o| m.max(o)) as usize
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
