//! The chunks of a WAV file without the bytes that fill them up: a chunk of odd length is followed by one zero (RIFF), which the
//! hound crate takes for the first byte of the next chunk.

use std::io::{Read, Result};

/// Bytes of the header of a chunk: its name and its length.
const HEADER: usize = 8;
/// Bytes before the first chunk: `RIFF`, the length of all, `WAVE`.
const BEGINNING: usize = 12;

/// Reads a WAV file, and leaves out the zero behind each chunk of odd length. Where a program wrote none, nothing is left out: no name
/// of a chunk begins with a zero.
pub(crate) struct Unpadded<R> {
    from: R,
    /// A beginning or header that was read, how much of it there is, and how much was handed out.
    header: [u8; BEGINNING],
    len: usize,
    at: usize,
    /// Bytes of the chunk that were not handed out; of the samples without end.
    left: u64,
    /// Whether a zero may follow them.
    odd: bool,
}

impl<R: Read> Unpadded<R> {
    /// Makes a reader of the file that `from` reads from its beginning.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn new(from: R) -> Result<Self> {
        let mut new = Self { from, header: [0; BEGINNING], len: 0, at: 0, left: 0, odd: false };
        new.fill(BEGINNING)?;
        Ok(new)
    }

    /// Reads on until the header has so many bytes, or the file ends.
    fn fill(&mut self, len: usize) -> Result<()> {
        while self.len < len {
            match self.from.read(&mut self.header[self.len..len])? {
                0 => break,
                count => self.len += count,
            }
        }
        Ok(())
    }

    /// Reads the header of the next chunk.
    fn advance(&mut self) -> Result<()> {
        (self.len, self.at) = (0, 0);
        if self.odd {
            self.fill(1)?;
            if self.header[0] == 0 {
                self.len = 0;
            }
        }
        self.fill(HEADER)?;
        let [name @ .., a, b, c, d] = &self.header[..HEADER] else { return Ok(()) };
        let length = u32::from_le_bytes([*a, *b, *c, *d]);
        let samples = name == b"data";
        (self.left, self.odd) = (if samples { u64::MAX } else { length.into() }, !samples && length % 2 == 1);
        Ok(())
    }
}

impl<R: Read> Read for Unpadded<R> {
    fn read(&mut self, out: &mut [u8]) -> Result<usize> {
        if self.at == self.len && self.left == 0 {
            self.advance()?;
        }
        if self.at < self.len {
            let count = out.len().min(self.len - self.at);
            out[..count].copy_from_slice(&self.header[self.at..self.at + count]);
            self.at += count;
            return Ok(count);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(out.len());
        let count = self.from.read(&mut out[..most])?;
        self.left -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chunk of so many bytes 7, with or without what fills it up.
    fn chunk(name: &[u8; 4], len: u32, filled: bool) -> Vec<u8> {
        let mut bytes = [&name[..], &len.to_le_bytes()].concat();
        bytes.resize(HEADER + len as usize, 7);
        bytes.resize(bytes.len() + usize::from(filled && len % 2 == 1), 0);
        bytes
    }

    fn file(filled: bool) -> Vec<u8> {
        let chunks = [chunk(b"LIST", 3, filled), chunk(b"note", 4, filled), chunk(b"x   ", 1, filled)].concat();
        [b"RIFF\x99\0\0\0WAVE", &chunks[..], &chunk(b"data", 5, true)].concat()
    }

    #[test]
    fn only_the_zeros_behind_odd_chunks_are_left_out() {
        for filled in [true, false] {
            let (given, expected) = (file(filled), file(false));
            for size in [1, 3, 64] {
                let (mut reader, mut found, mut part) =
                    (Unpadded::new(&given[..]).unwrap(), Vec::<u8>::new(), vec![0; size]);
                loop {
                    match reader.read(&mut part).unwrap() {
                        0 => break,
                        count => found.extend(&part[..count]),
                    }
                }
                assert_eq!(found, expected, "{filled} {size}");
            }
        }
        for len in 0..file(true).len() {
            let mut found = Vec::new();
            Unpadded::new(&file(true)[..len]).unwrap().read_to_end(&mut found).unwrap();
            assert!(found.len() <= len && file(false).starts_with(&found), "{len}");
        }
    }
}
