//! For tests of whatever reads files: files of random bytes and damaged good ones, and a bound on the memory that a reader
//! takes for one. `FIXNET_FUZZ_CASES` says how many files of each kind.
//!
//! A test program that uses this crate has its allocator, which counts.
#![forbid(unsafe_code)]

mod memory;

pub use memory::{MOST, within};

use proptest::{prelude::*, sample::Index};

/// 256 inputs a test, or as many as the environment says.
pub fn config() -> ProptestConfig {
    let cases = std::env::var("FIXNET_FUZZ_CASES").ok().and_then(|n| n.parse().ok());
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases.unwrap_or(256)) }
}

/// What happens to a file: one to four times bytes are overwritten, bits flipped, or a stretch is cut out, put in or doubled.
pub fn damage() -> impl Strategy<Value = Vec<(u8, Index, u32)>> {
    prop::collection::vec((0u8..7, any::<Index>(), any::<u32>()), 1..5)
}

/// A file after [`damage`].
pub fn damaged(mut file: Vec<u8>, damage: &[(u8, Index, u32)]) -> Vec<u8> {
    for &(kind, at, value) in damage {
        let at = at.index(file.len() + 1);
        let word = value.to_le_bytes();
        let stretch = at..(at + value as usize % 40).min(file.len());
        let mut put = |bytes: &[u8]| {
            let end = (at + bytes.len()).min(file.len());
            file[at..end].copy_from_slice(&bytes[..end - at]);
        };
        match kind {
            0 => put(&word[..1]),
            1 => put(&word),
            // What breaks sums of lengths.
            2 => put(&[[0; 4], [255; 4], [255, 255, 255, 127], [0, 0, 0, 128]][value as usize % 4]),
            3 => file.iter_mut().skip(at).take(1).for_each(|v| *v ^= 1 << (value % 8)),
            4 => drop(file.drain(stretch)),
            5 => drop(file.splice(at..at, word)),
            _ => {
                let twice = file[stretch.clone()].to_vec();
                file.splice(stretch.end..stretch.end, twice);
            }
        }
    }
    file
}

/// A file of up to 200 random bytes behind one of these beginnings.
pub fn random(starts: &'static [&'static [u8]]) -> impl Strategy<Value = Vec<u8>> {
    (prop::sample::select(starts), prop::collection::vec(any::<u8>(), 0..200))
        .prop_map(|(start, bytes)| [start, &bytes].concat())
}

/// A file with one checksum in the place of another, if they are of one length: damage that a reader finds only behind it.
pub fn resigned(mut file: Vec<u8>, from: &str, to: &str) -> Vec<u8> {
    let at = file.windows(from.len().max(1)).position(|text| text == from.as_bytes());
    if let (Some(at), true) = (at, from.len() == to.len()) {
        file[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    file
}
