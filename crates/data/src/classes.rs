//! Names of classes: which number stands for what, and how two lists of names differ.

use crate::{DataError, Result};
use std::collections::BTreeMap;
use std::fmt;

/// The most bytes of all names together, so that every file that carries them can be read again.
const MOST_BYTES: usize = 1 << 20;
/// The longest list of names that a message holds.
const SHOWN: usize = 8;

/// The numbers `0` to `count - 1`: the names of classes that have no others.
pub(crate) fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|class| class.to_string()).collect()
}

/// Checks that there is one name per class, none twice and none empty.
///
/// # Errors
/// As said; or all names together take more than 1 MiB. The message begins with `place`.
pub fn check_class_names(place: &str, names: &[String], classes: usize) -> Result<()> {
    let wrong = |expected: String, found: String| Err(DataError::Unexpected { place: place.into(), expected, found });
    if names.len() != classes {
        return wrong(format!("{classes} class names, one per class"), names.len().to_string());
    }
    let bytes: usize = names.iter().map(String::len).sum();
    if bytes > MOST_BYTES {
        return wrong(format!("class names of at most {MOST_BYTES} bytes"), bytes.to_string());
    }
    let mut first = BTreeMap::new();
    for (class, name) in names.iter().enumerate() {
        if name.is_empty() {
            return wrong("a name for every class".into(), format!("an empty one for class {class}"));
        }
        if let Some(before) = first.insert(name, class) {
            return wrong("class names that differ".into(), format!("`{name}` for classes {before} and {class}"));
        }
    }
    Ok(())
}

/// How a list of class names differs from the one that was expected: only the differences, for messages.
///
/// ```
/// use fixnet_data::ClassDifference;
/// let names = |list: [&str; 3]| list.map(String::from);
/// let (trained, found) = (names(["cat", "dog", "owl"]), names(["dog", "owl", "yak"]));
/// let difference = ClassDifference::between(&trained, &found).unwrap();
/// assert_eq!(
///     difference.to_string(),
///     "missing `cat` (class 0); unexpected `yak` (class 2); in another place `dog` (class 0 instead of 1), \
///      `owl` (class 1 instead of 2)"
/// );
/// assert!(ClassDifference::between(&trained, &trained).is_none());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassDifference {
    /// Names that were expected and are not there, with their class.
    pub missing: Vec<(String, usize)>,
    /// Names that are there and were not expected, with their class.
    pub unexpected: Vec<(String, usize)>,
    /// Names that stand for another class: the name, the class found and the class expected.
    pub moved: Vec<(String, usize, usize)>,
}

impl ClassDifference {
    /// Compares names, the first that of class 0; `None` if they are equal.
    pub fn between(expected: &[String], found: &[String]) -> Option<Self> {
        if expected == found {
            return None;
        }
        let places = |names: &[String]| -> BTreeMap<String, usize> {
            names.iter().enumerate().map(|(class, name)| (name.clone(), class)).collect()
        };
        let (wanted, there) = (places(expected), places(found));
        let without = |names: &[String], others: &BTreeMap<String, usize>| -> Vec<(String, usize)> {
            let named = names.iter().enumerate().filter(|(_, name)| !others.contains_key(*name));
            named.map(|(class, name)| (name.clone(), class)).collect()
        };
        let place = |(class, name): (usize, &String)| Some((name.clone(), class, *wanted.get(name)?));
        let moved = found.iter().enumerate().filter_map(place).filter(|(_, class, wanted)| class != wanted);
        Some(Self { missing: without(expected, &there), unexpected: without(found, &wanted), moved: moved.collect() })
    }
}

/// The first of `items`, and how many more there are.
fn list<T>(items: &[T], text: impl Fn(&T) -> String) -> String {
    let mut shown: Vec<String> = items.iter().take(SHOWN).map(text).collect();
    if items.len() > SHOWN {
        shown.push(format!("and {} more", items.len() - SHOWN));
    }
    shown.join(", ")
}

impl fmt::Display for ClassDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |(name, class): &(String, usize)| format!("`{name}` (class {class})");
        let moved =
            |(name, class, wanted): &(String, usize, usize)| format!("`{name}` (class {class} instead of {wanted})");
        let parts = [
            ("missing", list(&self.missing, named)),
            ("unexpected", list(&self.unexpected, named)),
            ("in another place", list(&self.moved, moved)),
        ];
        let parts = parts.into_iter().filter(|(_, names)| !names.is_empty());
        f.write_str(&parts.map(|(what, names)| format!("{what} {names}")).collect::<Vec<_>>().join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_are_one_per_class_and_each_its_own() {
        let message = |list: &[&str], classes| check_class_names("d", &names(list), classes).unwrap_err().to_string();
        assert!(check_class_names("d", &names(&["a", "b"]), 2).is_ok());
        assert_eq!(message(&["a"], 2), "d: expected 2 class names, one per class, found 1");
        assert_eq!(message(&["a", ""], 2), "d: expected a name for every class, found an empty one for class 1");
        assert_eq!(message(&["a", "b", "a"], 3), "d: expected class names that differ, found `a` for classes 0 and 2");
        let long = "x".repeat(MOST_BYTES + 1);
        assert!(message(&[&long], 1).contains("at most 1048576 bytes"));
    }

    #[test]
    fn a_difference_is_all_that_is_said() {
        let all: Vec<String> = (0..200).map(|i| format!("class-{i:03}")).collect();
        let mut other = all.clone();
        other[7] = "class-xxx".into();
        let text = ClassDifference::between(&all, &other).unwrap().to_string();
        assert_eq!(text, "missing `class-007` (class 7); unexpected `class-xxx` (class 7)");
        other = all.clone();
        other.swap(3, 4);
        let text = ClassDifference::between(&all, &other).unwrap().to_string();
        assert_eq!(text, "in another place `class-004` (class 3 instead of 4), `class-003` (class 4 instead of 3)");
        // A list that is long itself is cut.
        let text = ClassDifference::between(&all, &[]).unwrap().to_string();
        assert!(text.ends_with("`class-007` (class 7), and 192 more"), "{text}");
    }
}
