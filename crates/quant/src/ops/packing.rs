//! Codes packed to their bits, as packed networks store them: level + offset, b bits each, one after the other from the lowest
//! bit of the first word on.

use fixnet_tensor::{Buffer, Codes, Range};

/// Packs levels of `range`, [`Range::bits`] each.
pub(super) fn pack(codes: &Codes) -> Vec<u64> {
    let range = codes.range();
    let bits = usize::from(range.bits());
    let mut words = vec![0; (codes.len() * bits).div_ceil(64)];
    for (i, &byte) in codes.bytes().iter().enumerate() {
        // The two levels of a sign are the bytes 0 and 2.
        let value = u64::from(if range.is_sign() { byte / 2 } else { byte });
        let (word, shift) = (i * bits / 64, i * bits % 64);
        words[word] |= value << shift;
        if shift + bits > 64 {
            words[word + 1] |= value >> (64 - shift);
        }
    }
    words
}

/// The codes of `shape`, if there are as many words as that takes.
pub(super) fn unpack(words: &[u64], shape: &[usize], range: Range) -> Option<Codes> {
    let bits = usize::from(range.bits());
    let len = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
    if words.len() != len.checked_mul(bits)?.div_ceil(64) {
        return None;
    }
    let mask = ((1u16 << bits) - 1) as u8;
    let mut bytes = Buffer::<u8>::take(len);
    for (i, byte) in bytes.iter_mut().enumerate() {
        let (word, shift) = (i * bits / 64, i * bits % 64);
        let high = if shift + bits > 64 { words[word + 1] << (64 - shift) } else { 0 };
        let value = (words[word] >> shift | high) as u8 & mask;
        *byte = if range.is_sign() { 2 * value } else { value };
    }
    Codes::new(shape, range, 1.0, bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_every_width_come_back() {
        let ranges =
            (1..=8).flat_map(|b| [Range::symmetric(b), Range::unsigned(b), Range::twos_complement(b)]).flatten();
        for range in ranges {
            let step = if range.is_sign() { 2 } else { 1 };
            let all: Vec<i32> = (range.min()..=range.max()).step_by(step).collect();
            let levels: Vec<i32> = all.iter().copied().cycle().take(131).collect();
            let codes = Codes::from_levels(&[131], range, 1.0, &levels).unwrap();
            let words = pack(&codes);
            assert_eq!(words.len(), (131 * usize::from(range.bits())).div_ceil(64));
            assert_eq!(unpack(&words, &[131], range).unwrap().bytes(), codes.bytes());
            assert!(unpack(&words, &[131 + 64], range).is_none());
        }
        // Four bits of 1, 2, 3 above the lowest level -7: the bytes 0x98, 0x0a.
        let codes = Codes::from_levels(&[3], Range::symmetric(4).unwrap(), 1.0, &[1, 2, 3]).unwrap();
        assert_eq!(pack(&codes)[0], 0x0a98);
        assert!(unpack(&[15], &[1], Range::symmetric(4).unwrap()).is_none(), "-7 to 7 have no fifteenth step");
        assert!(unpack(&[], &[usize::MAX, 2], Range::symmetric(4).unwrap()).is_none());
    }
}
