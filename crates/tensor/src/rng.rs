//! Counter-based random numbers: Philox4x32 (Salmon et al., SC 2011).
//!
//! A number is a pure function of (seed, domain, a, b, index): no state, no order, so every thread and instruction set
//! draws the same. `domain` separates uses (initial weights, rounding noise, shuffling, …), `a` and `b` are free for
//! the step, the layer or the image.

use crate::dispatch::dispatch;

/// What a stream of numbers is for. Two domains never share numbers.
pub mod domain {
    /// Initial parameters.
    pub const INIT: u32 = 1;
    /// Stochastic rounding of gradients.
    pub const ROUNDING: u32 = 2;
    /// Order of the training images.
    pub const SHUFFLE: u32 = 3;
    /// Augmentation of the training images.
    pub const AUGMENT: u32 = 4;
    /// Data sets that are made on the fly.
    pub const DATA: u32 = 5;
    /// Which images are set apart for validation or testing.
    pub const SPLIT: u32 = 6;
    /// Elements that a dropout sets to zero.
    pub const DROPOUT: u32 = 7;
    /// Anchors and regions that a detector learns from.
    pub const SAMPLES: u32 = 8;
}

const M0: u64 = 0xD251_1F53;
const M1: u64 = 0xCD9E_8D57;
const W0: u32 = 0x9E37_79B9;
const W1: u32 = 0xBB67_AE85;

/// One block of Philox4x32: four random words for a counter and a key.
///
/// Ten rounds are the standard; seven are the fewest that pass the known statistical batteries and serve for rounding.
#[inline(always)]
pub fn philox<const ROUNDS: usize>(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let ([mut c0, mut c1, mut c2, mut c3], [mut k0, mut k1]) = (counter, key);
    for _ in 0..ROUNDS {
        let (p0, p1) = (M0 * u64::from(c0), M1 * u64::from(c2));
        (c0, c1, c2, c3) = ((p1 >> 32) as u32 ^ c1 ^ k0, p1 as u32, (p0 >> 32) as u32 ^ c3 ^ k1, p0 as u32);
        k0 = k0.wrapping_add(W0);
        k1 = k1.wrapping_add(W1);
    }
    [c0, c1, c2, c3]
}

/// A sequence of random numbers that is read by index.
///
/// ```
/// use fixnet_tensor::rng::{Stream, domain};
/// let stream = Stream::new(42, domain::SHUFFLE, 0, 0);
/// assert_eq!(stream.u32_at(7), Stream::new(42, domain::SHUFFLE, 0, 0).u32_at(7));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    key: [u32; 2],
    domain: u32,
    a: u32,
    b: u32,
}

impl Stream {
    /// The stream of `domain` and the numbers `a`, `b` under `seed`.
    pub fn new(seed: u64, domain: u32, a: u32, b: u32) -> Self {
        Self { key: [seed as u32, (seed >> 32) as u32], domain, a, b }
    }

    /// The stream of four further numbers within this one; zeros give this one itself. Its key is drawn from this one's,
    /// so streams of different numbers have as little in common as those of different seeds.
    #[must_use]
    pub fn within(self, numbers: [u32; 4]) -> Self {
        if numbers == [0; 4] {
            return self;
        }
        let [low, high, ..] = philox::<10>(numbers, self.key());
        Self { key: [low, high], ..self }
    }

    /// The domain goes into the key, so that counters keep 32 bits for each of a, b and the block index, and 32 spare.
    #[inline(always)]
    pub(crate) fn key(&self) -> [u32; 2] {
        [self.key[0], self.key[1] ^ self.domain.wrapping_mul(W0)]
    }

    #[inline(always)]
    pub(crate) fn counter(&self, block: u64) -> [u32; 4] {
        [block as u32, (block >> 32) as u32, self.a, self.b]
    }

    /// The random word at index `i`.
    pub fn u32_at(&self, i: u64) -> u32 {
        philox::<10>(self.counter(i / 4), self.key())[(i % 4) as usize]
    }

    /// A number in [0, 1) with 24 random bits.
    pub fn uniform_at(&self, i: u64) -> f32 {
        (self.u32_at(i) >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    /// A number in 0..n, by multiplication and shift (bias below n / 2^32).
    pub fn below(&self, i: u64, n: u32) -> u32 {
        ((u64::from(self.u32_at(i)) * u64::from(n)) >> 32) as u32
    }

    /// A standard normal number, by the Box-Muller formula on words 2i and 2i + 1.
    pub fn normal_at(&self, i: u64) -> f32 {
        let u = (f64::from(self.u32_at(2 * i)) + 0.5) / 4_294_967_296.0;
        let v = f64::from(self.u32_at(2 * i + 1)) / 4_294_967_296.0;
        (libm::sqrt(-2.0 * libm::log(u)) * libm::cos(2.0 * std::f64::consts::PI * v)) as f32
    }

    /// A permutation of 0..n that depends on the stream alone (Fisher-Yates).
    pub fn permutation(&self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i as u64, i as u32 + 1) as usize);
        }
        order
    }

    /// Fills `out` with 16-bit words; element `i` of `out` is word `first + i`, `first` a multiple of 8.
    ///
    /// Eight elements share one block of seven-round Philox.
    pub fn fill_u16(&self, first: u64, out: &mut [u16]) {
        assert!(first.is_multiple_of(8), "rounding noise starts at a block border");
        dispatch(
            #[inline(always)]
            || {
                let mut words = [0u64; 2 * BLOCKS];
                for (i, out) in out.chunks_mut(8 * BLOCKS).enumerate() {
                    for (j, words) in words.chunks_exact_mut(2).enumerate() {
                        let block = self.rounding_block(first / 8 + (BLOCKS * i + j) as u64);
                        (words[0], words[1]) = (block[0].to_le(), block[1].to_le());
                    }
                    let words: &[u16] = pulp::bytemuck::cast_slice(&words);
                    out.iter_mut().zip(words).for_each(|(out, &word)| *out = u16::from_le(word));
                }
            },
        );
    }

    /// A block of seven-round Philox, two words in each number, the first one low. A product of 32 bits has 64, so that
    /// lanes of 64 bits need no shuffles where the compiler makes vectors of several blocks.
    #[inline(always)]
    fn rounding_block(&self, block: u64) -> [u64; 2] {
        const LOW: u64 = 0xffff_ffff;
        let [mut k0, mut k1] = self.key().map(u64::from);
        let [mut c0, mut c1, mut c2, mut c3] = self.counter(block).map(u64::from);
        for _ in 0..7 {
            let (p0, p1) = (M0 * c0, M1 * c2);
            (c0, c1, c2, c3) = ((p1 >> 32) ^ c1 ^ k0, p1 & LOW, (p0 >> 32) ^ c3 ^ k1, p0 & LOW);
            k0 = (k0 + u64::from(W0)) & LOW;
            k1 = (k1 + u64::from(W1)) & LOW;
        }
        [c0 | c1 << 32, c2 | c3 << 32]
    }
}

/// Blocks of rounding noise that are computed side by side.
const BLOCKS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers_of_the_reference_implementation() {
        assert_eq!(philox::<10>([0; 4], [0; 2]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
        assert_eq!(philox::<10>([!0; 4], [!0; 2]), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
        assert_eq!(
            philox::<10>([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0]),
            [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]
        );
        assert_eq!(philox::<7>([0; 4], [0; 2]), [0x5f6fb709, 0x0d893f64, 0x4f121f81, 0x4f730a48]);
    }

    #[test]
    fn words_for_rounding_are_those_of_single_blocks() {
        let s = Stream::new(0x1234_5678_9abc_def0, domain::ROUNDING, !0, 7);
        // The block index passes 32 bits on the way.
        let first = (1u64 << 32) - 3;
        let mut found = [0u16; 8 * 21];
        s.fill_u16(8 * first, &mut found);
        for (i, found) in found.chunks(8).enumerate() {
            let block = philox::<7>(s.counter(first + i as u64), s.key());
            assert_eq!(found, block.map(|w| [w as u16, (w >> 16) as u16]).as_flattened());
        }
    }

    #[test]
    fn words_for_rounding_do_not_depend_on_where_a_chunk_starts() {
        let s = Stream::new(3, domain::ROUNDING, 5, 9);
        let mut whole = [0u16; 1000];
        s.fill_u16(0, &mut whole);
        for start in [8usize, 128, 200, 992] {
            let mut part = vec![0u16; 1000 - start];
            s.fill_u16(start as u64, &mut part);
            assert_eq!(part, whole[start..]);
        }
    }

    #[test]
    fn streams_within_a_stream_differ_in_each_number() {
        let s = Stream::new(7, domain::ROUNDING, 5, 9);
        let words = |s: Stream| {
            let mut words = [0u16; 400];
            s.fill_u16(0, &mut words);
            words
        };
        assert_eq!(words(s.within([0; 4])), words(s));
        let mut all = vec![words(s)];
        all.extend((0..4).flat_map(|i| {
            [1, 2, u32::MAX].map(|n| words(s.within(std::array::from_fn(|k| if k == i { n } else { 0 }))))
        }));
        for (i, a) in all.iter().enumerate() {
            for b in &all[..i] {
                // Words of 16 bits are equal by chance once in 65,536.
                assert!(a.iter().zip(b).filter(|(a, b)| a == b).count() <= 2);
            }
        }
    }

    #[test]
    fn moments() {
        let s = Stream::new(1, domain::INIT, 0, 0);
        let n = 100_000;
        let (mut sum, mut square, mut uniform) = (0.0, 0.0, 0.0);
        for i in 0..n {
            let x = f64::from(s.normal_at(i));
            sum += x;
            square += x * x;
            uniform += f64::from(s.uniform_at(i));
        }
        let n = n as f64;
        assert!((sum / n).abs() < 0.015 && (square / n - 1.0).abs() < 0.02 && (uniform / n - 0.5).abs() < 0.005);
    }

    #[test]
    fn permutations_hold_every_index_once() {
        let mut p = Stream::new(1, domain::SHUFFLE, 0, 2).permutation(1000);
        assert_ne!(p, (0..1000).collect::<Vec<_>>());
        p.sort_unstable();
        assert_eq!(p, (0..1000).collect::<Vec<_>>());
    }
}
