//! `Budget`: how much memory a claim may take. Whatever says in a file or a setting how large something is, is counted
//! here before anything is built; so a small file cannot ask for more than its reader gives.

use crate::{Error, Result};

/// A limit in bytes, and what was claimed of it so far. All limits of fixnet are constants of this type.
///
/// ```
/// use fixnet_tensor::Budget;
/// let mut budget = Budget::new(1000, "smaller images take less");
/// assert_eq!(budget.claim("the first image", &[10, 20], 4)?, 200);
/// let e = budget.claim("the second image", &[10, 6], 4).unwrap_err().to_string();
/// assert!(e.starts_with("the second image: [10, 6] of 4 bytes each claims 240 bytes of memory"));
/// # Ok::<(), fixnet_tensor::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    limit: u64,
    claimed: u64,
    advice: &'static str,
}

impl Budget {
    /// The parameters of a model: 8 GiB, or 2^31 numbers.
    pub const MODEL: Self = Self::new(8 << 30, "a model with fewer or narrower layers takes less");
    /// The numbers of a `safetensors` file: 16 GiB.
    pub const FILE: Self = Self::new(16 << 30, "a file without the state of an optimizer takes less");
    /// The images of a data set that are kept in memory, or unpacked from a compressed file: 512 MiB.
    pub const DATA: Self = Self::new(512 << 20, "plain files (not compressed) may be larger: they are streamed");
    /// The rows of a table, which are kept in memory: 512 MiB.
    pub const TABLE: Self = Self::new(512 << 20, "a table with fewer rows or columns takes less");
    /// An image while it is decoded, and an image of a streamed set: 512 MiB. As many are under way as there are threads.
    pub const IMAGE: Self = Self::new(512 << 20, "images with fewer pixels take less");
    /// What a network from a file holds at a time while it evaluates one image: 256 MiB.
    pub const VALUES: Self = Self::new(256 << 20, "a network for smaller images takes less");
    /// What it holds at a time while it evaluates a batch: 4 GiB.
    pub const BATCH: Self = Self::new(4 << 30, "smaller batches take less");
    /// What one array in memory may have at all: `isize::MAX` bytes.
    pub const ARRAY: Self = Self::new(isize::MAX as u64, "no array in memory is larger");

    /// A budget of `limit` bytes. `advice` says what to do where it does not suffice.
    pub const fn new(limit: u64, advice: &'static str) -> Self {
        Self { limit, claimed: 0, advice }
    }

    /// The limit in bytes.
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// What to do where the budget does not suffice.
    pub const fn advice(&self) -> &'static str {
        self.advice
    }

    /// Claims an array of `shape` with `width` bytes an element for `what`. Gives the number of its elements.
    ///
    /// # Errors
    /// The bytes are more than what is left; nothing is then claimed.
    pub fn claim(&mut self, what: &str, shape: &[usize], width: usize) -> Result<usize> {
        let form = || format!("{what}: {shape:?} of {width} bytes each");
        // Zeros first: a shape without elements takes nothing, however large its other lengths are.
        if shape.contains(&0) {
            return Ok(0);
        }
        let elements = shape.iter().fold(1u128, |n, &axis| n.saturating_mul(axis as u128));
        self.count(form, elements.saturating_mul(width as u128))?;
        usize::try_from(elements).map_err(|_| self.exceeded(form(), elements))
    }

    /// Claims `bytes` for `what`.
    ///
    /// # Errors
    /// They are more than what is left; nothing is then claimed.
    pub fn claim_bytes(&mut self, what: &str, bytes: u128) -> Result<()> {
        self.count(|| what.to_string(), bytes)
    }

    fn count(&mut self, what: impl Fn() -> String, bytes: u128) -> Result<()> {
        match u64::try_from(bytes).ok().and_then(|b| self.claimed.checked_add(b)).filter(|&all| all <= self.limit) {
            Some(all) => {
                self.claimed = all;
                Ok(())
            }
            None => Err(self.exceeded(what(), bytes)),
        }
    }

    fn exceeded(&self, what: String, claimed: u128) -> Error {
        Error::Memory { what, claimed, left: self.limit - self.claimed, limit: self.limit, advice: self.advice }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_add_up_and_products_do_not_wrap() {
        let mut budget = Budget::new(100, "ask for less");
        assert_eq!(budget.claim("a", &[5, 4], 4), Ok(20));
        budget.claim_bytes("b", 20).unwrap();
        let e = budget.claim("c", &[1], 1).unwrap_err();
        let text = "c: [1] of 1 bytes each claims 1 bytes of memory, expected at most 0 (of 100 in all); ask for less";
        assert_eq!(e.to_string(), text);
        // 2^66 elements are 4 if 64 bits wrap.
        for shape in [vec![1 << 33, 1 << 33], vec![usize::MAX; 3], vec![1 << 16; 5]] {
            let e = Budget::ARRAY.clone().claim("d", &shape, 4).unwrap_err();
            assert!(matches!(e, Error::Memory { claimed, .. } if claimed > u128::from(u64::MAX)), "{e}");
        }
        assert_eq!(Budget::new(0, "").claim("e", &[usize::MAX, 0, usize::MAX], 4), Ok(0));
        // A refused claim takes nothing.
        let mut budget = Budget::new(10, "");
        assert!(budget.claim_bytes("f", 11).is_err());
        budget.claim_bytes("g", 10).unwrap();
    }
}
