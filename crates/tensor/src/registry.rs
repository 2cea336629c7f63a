//! Lists of what can be named in recipes and on the command line, to which programs add their own.

use std::sync::{PoisonError, RwLock};

/// Rows that are known by a name: those that come with fixnet, and those that a program added. A row that was added later
/// stands before earlier ones, so it takes the place of one of the same name.
///
/// ```
/// use fixnet_tensor::Registry;
/// static SHAPES: Registry<(&str, u32)> = Registry::new(&[("triangle", 3), ("square", 4)]);
/// SHAPES.add(("hexagon", 6));
/// assert_eq!(SHAPES.find(|(name, _)| *name == "hexagon"), Some(("hexagon", 6)));
/// assert_eq!(SHAPES.all().len(), 3);
/// ```
#[derive(Debug)]
pub struct Registry<T: 'static> {
    own: &'static [T],
    added: RwLock<Vec<T>>,
}

impl<T: Clone> Registry<T> {
    /// Makes a registry of the rows that come with fixnet.
    pub const fn new(own: &'static [T]) -> Self {
        Self { own, added: RwLock::new(Vec::new()) }
    }

    /// Adds a row.
    pub fn add(&self, row: T) {
        self.added.write().unwrap_or_else(PoisonError::into_inner).push(row);
    }

    /// Returns all rows, the one that was added last first.
    pub fn all(&self) -> Vec<T> {
        let added = self.added.read().unwrap_or_else(PoisonError::into_inner);
        added.iter().rev().chain(self.own).cloned().collect()
    }

    /// Returns the first row that is looked for.
    pub fn find(&self, is: impl Fn(&T) -> bool) -> Option<T> {
        self.all().into_iter().find(is)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_row_takes_the_place_of_one_of_the_same_name() {
        static LIST: Registry<(&str, u8)> = Registry::new(&[("a", 1), ("b", 2)]);
        assert_eq!(LIST.all(), [("a", 1), ("b", 2)]);
        LIST.add(("b", 3));
        LIST.add(("b", 4));
        assert_eq!(LIST.find(|row| row.0 == "b"), Some(("b", 4)));
        assert_eq!(LIST.find(|row| row.0 == "a"), Some(("a", 1)));
        assert_eq!(LIST.find(|row| row.0 == "c"), None);
    }
}
