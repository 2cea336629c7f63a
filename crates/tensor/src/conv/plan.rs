//! Where a convolution's operands lie: the offsets that turn forward passes and input gradients, with any stride,
//! dilation and padding, into calls of one tile. Bytes and floats share it.
//!
//! The image is read in place, or from a copy with a margin of zeros; nothing is unrolled. An input gradient of stride
//! s is s·s convolutions of stride 1 of the output gradient, one for each phase of the input pixel's position: pixel i
//! meets tap k where i + padding - k·dilation is a multiple of s.

use crate::pool::{Buffer, Element};
use crate::{Conv2dGeometry, Error, Result};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// No weight: a filler k of a step.
pub(crate) const NONE: u32 = u32::MAX;

/// One convolution of stride 1 over the prepared image (any stride in a forward pass).
#[derive(Debug, Clone)]
pub(crate) struct Phase {
    /// Offset of each step in the prepared image.
    pub(crate) koff: Vec<u32>,
    /// Offset in the weights of each k (KR of them a step) for column 0, or [`NONE`].
    pub(crate) source: Vec<u32>,
    /// Offset of each output pixel of one image.
    pub(crate) base: Vec<u32>,
    /// Their positions in the output image where they are not simply in order.
    pub(crate) pixels: Option<Vec<u32>>,
}

/// Offsets for one direction of a convolution.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Height, width and channels of the image that is read.
    pub(crate) source: [usize; 3],
    /// Its place in the prepared image.
    margin: [usize; 2],
    /// Height and width of the prepared image.
    padded: [usize; 2],
    /// Height, width and channels that come out.
    pub(crate) result: [usize; 3],
    /// From one column's weight to the next one's.
    pub(crate) column_stride: usize,
    pub(crate) phases: Vec<Phase>,
    /// How far a step may read beyond its run, so that the last image needs slack behind it.
    slack: usize,
}

/// Plans by direction, geometry (of one image) and elements a step, and their bytes. A network has few; where a program
/// has images of very many sizes, all are dropped at [`KEPT`] bytes and begin anew.
struct Kept {
    plans: BTreeMap<(bool, Conv2dGeometry, usize), Arc<Plan>>,
    bytes: usize,
}

/// 64 MiB: the plans of a network for images of 224 x 224 take 2.
const KEPT: usize = 64 << 20;

/// The plan of a geometry, made once.
fn kept(forward: bool, geo: &Conv2dGeometry, kr: usize, make: fn(&Conv2dGeometry, usize) -> Plan) -> Arc<Plan> {
    static KEEP: Mutex<Kept> = Mutex::new(Kept::NONE);
    let key = (forward, Conv2dGeometry { n: 1, ..*geo }, kr);
    let mut keep = KEEP.lock().unwrap_or_else(|e| e.into_inner());
    if let Some(plan) = keep.plans.get(&key) {
        return plan.clone();
    }
    let plan = Arc::new(make(geo, kr));
    keep.add(key, &plan, KEPT);
    plan
}

impl Kept {
    const NONE: Self = Self { plans: BTreeMap::new(), bytes: 0 };

    /// Keeps a plan, within `most` bytes.
    fn add(&mut self, key: (bool, Conv2dGeometry, usize), plan: &Arc<Plan>, most: usize) {
        let bytes = plan.bytes();
        if self.bytes + bytes > most {
            *self = Self::NONE;
        }
        if bytes <= most {
            self.bytes += bytes;
            self.plans.insert(key, plan.clone());
        }
    }
}

/// The taps of one axis: (position in the prepared image relative to the pixel's, tap), in memory order.
type Axis = Vec<(usize, usize)>;

impl Plan {
    /// Output pixels from input pixels; `kr` elements a step.
    pub(crate) fn forward(geo: &Conv2dGeometry, kr: usize) -> Arc<Self> {
        kept(true, geo, kr, Self::make_forward)
    }

    /// Input pixels from output pixels; `kr` elements a step.
    pub(crate) fn input_grad(geo: &Conv2dGeometry, kr: usize) -> Arc<Self> {
        kept(false, geo, kr, Self::make_input_grad)
    }

    fn make_forward(geo: &Conv2dGeometry, kr: usize) -> Self {
        let [ho, wo] = [geo.out_h(), geo.out_w()];
        let axis = |d: usize| (0..geo.kernel[d]).map(|k| (k * geo.dilation[d], k)).collect::<Axis>();
        let size = |d: usize, out: usize| (out - 1) * geo.stride[d] + (geo.kernel[d] - 1) * geo.dilation[d] + 1;
        let mut plan = Self {
            source: [geo.h, geo.w, geo.c_in],
            margin: geo.padding,
            padded: [size(0, ho), size(1, wo)],
            result: [ho, wo, geo.c_out],
            column_stride: geo.kernel[0] * geo.kernel[1] * geo.c_in,
            phases: Vec::new(),
            slack: 0,
        };
        let rows: Vec<_> = (0..ho).map(|o| o * geo.stride[0]).collect();
        let columns: Vec<_> = (0..wo).map(|o| o * geo.stride[1]).collect();
        let weight = |kh: usize, kw: usize, c: usize| (kh * geo.kernel[1] + kw) * geo.c_in + c;
        plan.push([axis(0), axis(1)], [&rows, &columns], None, kr, weight);
        plan
    }

    fn make_input_grad(geo: &Conv2dGeometry, kr: usize) -> Self {
        let size = [geo.h, geo.w];
        // With t = (i + padding) / stride, tap k of phase p reads output t - (k·dilation - p) / stride, which stands at
        // that plus `margin` in the prepared image.
        let margin =
            [0, 1].map(|d| (geo.kernel[d] - 1) * geo.dilation[d] / geo.stride[d] - geo.padding[d] / geo.stride[d]);
        let padded = [0, 1].map(|d| (size[d] - 1 + geo.padding[d]) / geo.stride[d] + 1 + margin[d]);
        let mut plan = Self {
            source: [geo.out_h(), geo.out_w(), geo.c_out],
            margin,
            padded,
            result: [geo.h, geo.w, geo.c_in],
            column_stride: 1,
            phases: Vec::new(),
            slack: 0,
        };
        let weight = |kh: usize, kw: usize, o: usize| ((o * geo.kernel[0] + kh) * geo.kernel[1] + kw) * geo.c_in;
        // Taps and input positions of phase p along axis d; taps stand relative to the farthest one.
        let axis = |d: usize, p: usize| -> (Axis, Vec<(usize, usize)>) {
            let (s, dil) = (geo.stride[d], geo.dilation[d]);
            let taps: Vec<usize> = (0..geo.kernel[d]).rev().filter(|k| (k * dil) % s == p).collect();
            let far = taps.first().map_or(0, |&k| (k * dil - p) / s);
            let taps = taps.iter().map(|&k| (far - (k * dil - p) / s, k)).collect();
            let places = (0..size[d]).filter(|i| (i + geo.padding[d]) % s == p);
            (taps, places.map(|i| ((i + geo.padding[d]) / s + margin[d] - far, i)).collect())
        };
        // A phase beyond the padded image has no pixel.
        let phases = [0, 1].map(|d| geo.stride[d].min(size[d] + geo.padding[d]));
        for ph in 0..phases[0] {
            for pw in 0..phases[1] {
                let ((mut th, rows), (tw, columns)) = (axis(0, ph), axis(1, pw));
                if tw.is_empty() {
                    th.clear();
                }
                let pixels = (geo.stride != [1, 1]).then(|| {
                    rows.iter().flat_map(|r| columns.iter().map(move |c| (r.1 * geo.w + c.1) as u32)).collect()
                });
                let rows: Vec<_> = rows.iter().map(|r| r.0).collect();
                let columns: Vec<_> = columns.iter().map(|c| c.0).collect();
                plan.push([th, tw], [&rows, &columns], pixels, kr, weight);
            }
        }
        plan
    }

    fn push(
        &mut self,
        [th, tw]: [Axis; 2],
        [rows, columns]: [&[usize]; 2],
        pixels: Option<Vec<u32>>,
        kr: usize,
        weight: impl Fn(usize, usize, usize) -> usize,
    ) {
        let (c, wp) = (self.source[2], self.padded[1]);
        let (mut koff, mut source) = (Vec::new(), Vec::new());
        for &(y, kh) in &th {
            // Taps side by side form one run of elements, so that few channels do not waste steps.
            for run in tw.chunk_by(|a, b| b.0 == a.0 + 1) {
                let start = (y * wp + run[0].0) * c;
                let k: Vec<u32> = run.iter().flat_map(|t| (0..c).map(|i| weight(kh, t.1, i) as u32)).collect();
                for (q, quad) in k.chunks(kr).enumerate() {
                    koff.push((start + q * kr) as u32);
                    source.extend((0..kr).map(|j| quad.get(j).copied().unwrap_or(NONE)));
                    self.slack = self.slack.max(kr - quad.len());
                }
            }
        }
        let base = rows.iter().flat_map(|y| columns.iter().map(move |x| ((y * wp + x) * c) as u32)).collect();
        self.phases.push(Phase { koff, source, base, pixels });
    }

    /// The memory that it takes.
    fn bytes(&self) -> usize {
        let numbers = |p: &Phase| p.koff.len() + p.source.len() + p.base.len() + p.pixels.as_ref().map_or(0, Vec::len);
        let phase = |p: &Phase| size_of::<Phase>() + size_of::<u32>() * numbers(p);
        size_of::<(bool, Conv2dGeometry, usize)>() + size_of::<Self>() + self.phases.iter().map(phase).sum::<usize>()
    }

    /// Elements of a prepared image.
    pub(crate) fn image_len(&self) -> usize {
        self.padded[0] * self.padded[1] * self.source[2]
    }

    /// Elements of an image that is read.
    pub(crate) fn source_len(&self) -> usize {
        self.source.iter().product()
    }

    /// Elements of an image that comes out.
    pub(crate) fn result_len(&self) -> usize {
        self.result.iter().product()
    }

    /// How many images make one task: enough rows to be worth the checks, few enough to stay in the first cache, and
    /// whole tiles of `mr` rows where an image is one row.
    pub(crate) fn group(&self, op: &'static str, n: usize, bytes: usize, mr: usize) -> Result<usize> {
        let fit = 24 * 1024 / (self.image_len() * bytes).max(1);
        let pixels = (self.result[0] * self.result[1] / self.phases.len().max(1)).max(1);
        let group = fit.max(96usize.div_ceil(pixels));
        let group = if pixels == 1 { group.next_multiple_of(mr) } else { group }.clamp(1, n.max(1));
        super::check_offsets(op, "elements of a group of images", group * self.image_len() + self.slack)?;
        Ok(group)
    }

    /// The offsets of the output pixels of `images` images of phase `p`.
    pub(crate) fn bases(&self, p: &Phase, images: usize) -> Buffer<u32> {
        let mut bases = Buffer::take(images * p.base.len());
        for (i, bases) in bases.chunks_exact_mut(p.base.len().max(1)).enumerate() {
            bases.iter_mut().zip(&p.base).for_each(|(to, b)| *to = b + (i * self.image_len()) as u32);
        }
        bases
    }

    /// Images `first..first + count` of `data` as the tiles read them: in place if they lie right, else copied into a
    /// margin of `zero`.
    pub(crate) fn prepare<'a, T: Element>(
        &self,
        data: &'a [T],
        first: usize,
        count: usize,
        zero: T,
    ) -> Prepared<'a, T> {
        let [_, w, c] = self.source;
        let from = first * self.source_len();
        let len = count * self.image_len() + self.slack;
        if self.margin == [0, 0] && self.padded == self.source[..2] && from + len <= data.len() {
            return Prepared::InPlace(&data[from..from + len]);
        }
        let mut image = Buffer::take(len);
        image.fill(zero);
        let line = self.padded[1] * c;
        let width = w.min(self.padded[1] - self.margin[1]) * c;
        if width > 0 {
            for i in 0..count {
                let source = &data[from + i * self.source_len()..][..self.source_len()];
                let target = &mut image[i * self.image_len()..][..self.image_len()];
                let rows = target.chunks_exact_mut(line).skip(self.margin[0]);
                for (to, from) in rows.zip(source.chunks_exact(w * c)) {
                    to[self.margin[1] * c..][..width].copy_from_slice(&from[..width]);
                }
            }
        }
        Prepared::Copy(image)
    }
}

/// What [`Plan::prepare`] gives.
pub(crate) enum Prepared<'a, T: Element> {
    InPlace(&'a [T]),
    Copy(Buffer<T>),
}

impl<T: Element> std::ops::Deref for Prepared<'_, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        match self {
            Self::InPlace(data) => data,
            Self::Copy(data) => data,
        }
    }
}

/// Whether an operand has the shape that the geometry asks for.
pub(crate) fn check(op: &'static str, name: &str, expected: &[usize], found: &[usize]) -> Result<()> {
    if expected == found { Ok(()) } else { Err(Error::shape(op, format!("{name} {expected:?}"), found)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_kept_within_a_number_of_bytes() {
        let mut kept = Kept::NONE;
        let mut add = |h: usize, most: usize| {
            let geo = Conv2dGeometry::new(&[1, h, 100, 1], &[1, 3, 3, 1], [1, 1], [1, 1], [1, 1]).unwrap();
            let plan = Arc::new(Plan::make_forward(&geo, 1));
            // An offset of four bytes a pixel, and little else.
            assert!((400 * h..400 * h + 1000).contains(&plan.bytes()), "{}", plan.bytes());
            kept.add((true, geo, 1), &plan, most);
            (kept.plans.len(), kept.bytes)
        };
        let sizes: Vec<_> = (0..100).map(|i| add(100 + i, 300_000)).collect();
        assert!(sizes.iter().all(|&(plans, bytes)| plans >= 1 && bytes <= 300_000), "{sizes:?}");
        assert_eq!(sizes[..3].iter().map(|s| s.0).collect::<Vec<_>>(), [1, 2, 3]);
        // One that is too large alone is not kept.
        assert_eq!(add(1000, 300_000), (0, 0));
    }
}
