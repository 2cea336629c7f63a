//! Lists of names in messages.

/// The first few of some names, and how many there are besides: a message stays readable however long the list is.
pub fn listed<T: std::fmt::Display>(names: &[T]) -> String {
    const FEW: usize = 6;
    let few = names.iter().take(FEW).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => "none".into(),
        n if n <= FEW => few,
        n => format!("{few} and {} more", n - FEW),
    }
}

#[cfg(test)]
mod tests {
    use super::listed;

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(listed::<&str>(&[]), "none");
        assert_eq!(listed(&["a", "b"]), "a, b");
        assert_eq!(listed(&(0..6).collect::<Vec<_>>()), "0, 1, 2, 3, 4, 5");
        assert_eq!(listed(&(0..200).collect::<Vec<_>>()), "0, 1, 2, 3, 4, 5 and 194 more");
    }
}
