//! The register tile, once for every instruction set and for bytes and floats alike.
//!
//! A tile is MR rows by NV vectors. The left operand is never packed: a row is a start offset, a step of k is one more
//! offset, and their sum is where the step's elements lie. So a convolution reads its image in place, a strided one
//! too, and a weight gradient walks over pixels with the same loop. In a step each row broadcasts its elements (four
//! bytes, or one float), each vector of the right panel is loaded once, and every pair is multiplied and added.

/// What a tile works on: raw because the innermost loop must carry no checks. `Job::run` has checked the bounds.
pub(super) struct Tile<L, R, S> {
    pub(super) lhs: *const L,
    /// Offset of each row, `rows` of them, at least one.
    pub(super) base: *const u32,
    pub(super) rows: usize,
    /// Offset of each step, `steps` of them.
    pub(super) koff: *const u32,
    pub(super) steps: usize,
    pub(super) rhs: *const R,
    /// From one panel to the next.
    pub(super) panel_stride: usize,
    /// Start values; a stride of 0 gives every row the same ones, and they may be `out` itself.
    pub(super) start: *const S,
    pub(super) start_stride: usize,
    pub(super) out: *mut S,
    pub(super) out_stride: usize,
}

/// The function of a row of the table.
pub(super) type TileFn<L, R, S> = unsafe fn(&Tile<L, R, S>);

/// How an instruction set multiplies and adds. Every method is `#[inline(always)]`, so that it takes on the target
/// features of the function that the table's macro makes around the tile.
///
/// Safety of all methods: the CPU has the instructions, and pointers reach a vector (or a step's elements).
pub(super) trait Dot {
    /// Element of the left operand.
    type L;
    /// Element of the right panel.
    type R;
    /// Element of the sums.
    type S;
    /// A vector of sums.
    type Sum: Copy;
    /// A vector of sums that are not yet widened.
    type Part: Copy;
    /// The step's elements of a row, in every lane.
    type Lhs: Copy;
    /// A vector of the panel.
    type Rhs: Copy;
    /// Sums in a vector.
    const LANES: usize;
    /// k in a step.
    const KR: usize;
    /// Steps that a `Part` holds without overflow.
    const FLUSH: usize;

    unsafe fn load(from: *const Self::S) -> Self::Sum;
    unsafe fn store(to: *mut Self::S, sum: Self::Sum);
    /// The `Part` to start from: the sum itself where nothing is deferred, else zero.
    unsafe fn begin(sum: Self::Sum) -> Self::Part;
    unsafe fn flush(sum: Self::Sum, part: Self::Part) -> Self::Sum;
    unsafe fn lhs(from: *const Self::L) -> Self::Lhs;
    unsafe fn rhs(from: *const Self::R) -> Self::Rhs;
    unsafe fn step(part: Self::Part, lhs: Self::Lhs, rhs: Self::Rhs) -> Self::Part;
}

/// All rows of `t`, in tiles of MR, the last ones in a tile of TAIL where that is enough.
///
/// # Safety
/// As [`Dot`], and `t` as checked by `Job::run` for NV vectors.
#[inline(always)]
pub(super) unsafe fn rows<D: Dot, const MR: usize, const TAIL: usize, const NV: usize>(t: &Tile<D::L, D::R, D::S>) {
    let mut first = 0;
    while first < t.rows {
        // SAFETY: the caller's obligations, and first < t.rows.
        unsafe {
            if t.rows - first <= TAIL {
                tile::<D, TAIL, NV>(t, first);
                first += TAIL;
            } else {
                tile::<D, MR, NV>(t, first);
                first += MR;
            }
        }
    }
}

/// Rows `first..first + MR`; beyond the last row the last one is computed again and not stored.
#[allow(clippy::needless_range_loop, reason = "counted loops over constants are what unrolls into registers")]
#[inline(always)]
unsafe fn tile<D: Dot, const MR: usize, const NV: usize>(t: &Tile<D::L, D::R, D::S>, first: usize) {
    let last = t.rows - 1;
    // SAFETY: rows are held to the last one; offsets and lengths were checked by `Job::run` for every base and step;
    // vector j of a step lies in panel j / vectors, of which NV / vectors exist.
    unsafe {
        let vectors = 16 / D::LANES;
        let mut row = [t.lhs; MR];
        let mut sum: [[D::Sum; NV]; MR] = [[D::load(t.start); NV]; MR];
        for i in 0..MR {
            let index = (first + i).min(last);
            row[i] = t.lhs.add(*t.base.add(index) as usize);
            for j in 0..NV {
                sum[i][j] = D::load(t.start.add(index * t.start_stride + j * D::LANES));
            }
        }
        let mut left = t.steps;
        let mut koff = t.koff;
        let mut rhs = t.rhs;
        while left > 0 {
            let count = left.min(D::FLUSH);
            let mut part = [[D::begin(sum[0][0]); NV]; MR];
            for i in 0..MR {
                for j in 0..NV {
                    part[i][j] = D::begin(sum[i][j]);
                }
            }
            let end = koff.add(count);
            while koff < end {
                let offset = *koff as usize;
                let mut b = [D::rhs(rhs); NV];
                for j in 1..NV {
                    b[j] = D::rhs(rhs.add(j / vectors * t.panel_stride + j % vectors * D::LANES * D::KR));
                }
                for i in 0..MR {
                    let a = D::lhs(row[i].add(offset));
                    for j in 0..NV {
                        part[i][j] = D::step(part[i][j], a, b[j]);
                    }
                }
                koff = koff.add(1);
                rhs = rhs.add(16 * D::KR);
            }
            for i in 0..MR {
                for j in 0..NV {
                    sum[i][j] = D::flush(sum[i][j], part[i][j]);
                }
            }
            left -= count;
        }
        for i in 0..MR {
            if first + i <= last {
                for j in 0..NV {
                    D::store(t.out.add((first + i) * t.out_stride + j * D::LANES), sum[i][j]);
                }
            }
        }
    }
}
