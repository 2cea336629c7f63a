//! A product as a kernel takes it: its operands, where they lie, and the checks on which the tiles rely.

use super::tile::{Tile, TileFn};
use super::{COLUMNS, QUAD, Words};
use crate::Buffer;

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
    pub(super) fn check(&self, kr: usize) {
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
    pub(super) fn run(self, kr: usize, one: TileFn<L, R, S>, two: Option<TileFn<L, R, S>>) {
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

impl Job<'_, u8, i8, i32> {
    /// Widens what the job reads and runs it on that.
    pub(super) fn widened(self, words: Words) {
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
