//! Numbers as the page writes them.

/// What is not known.
pub(super) const UNKNOWN: &str = "–";

pub(super) fn or_unknown(text: Option<String>) -> String {
    text.unwrap_or_else(|| UNKNOWN.into())
}

/// A whole number with its thousands apart.
pub(super) fn grouped(n: impl Into<u64>) -> String {
    let digits = n.into().to_string();
    let first = digits.len() % 3;
    let mut parts = if first > 0 { vec![&digits[..first]] } else { vec![] };
    parts.extend((first..digits.len()).step_by(3).map(|i| &digits[i..i + 3]));
    parts.join(",")
}

/// A number in few digits: `40.4 k`, `1.23 M`.
pub(super) fn brief(n: u64) -> String {
    let (v, unit) = match n {
        0..10_000 => return grouped(n),
        10_000..1_000_000 => (n as f64 / 1e3, "k"),
        1_000_000..1_000_000_000 => (n as f64 / 1e6, "M"),
        _ => (n as f64 / 1e9, "G"),
    };
    let places = if v < 10.0 { 2 } else { usize::from(v < 100.0) };
    format!("{v:.places$} {unit}")
}

/// A time in words of its size.
pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 100.0 => format!("{s:.1} s"),
        s if s < 6000.0 => format!("{:.0} min {:02.0} s", (s / 60.0).floor(), (s % 60.0).floor()),
        s => format!("{:.0} h {:02.0} min", (s / 3600.0).floor(), (s % 3600.0 / 60.0).floor()),
    }
}

pub(super) fn capitalized(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_easy_to_read() {
        let texts: Vec<_> = [0u64, 7, 999, 1000, 87_654_321].into_iter().map(grouped).collect();
        assert_eq!(texts, ["0", "7", "999", "1,000", "87,654,321"]);
        assert_eq!(
            [9_999, 40_421, 987_654, 1_234_567, 4_100_000_000].map(brief),
            ["9,999", "40.4 k", "988 k", "1.23 M", "4.10 G"]
        );
        assert_eq!(
            [4.25, 99.0, 100.0, 3_599.0, 7_260.0].map(duration),
            ["4.2 s", "99.0 s", "1 min 40 s", "59 min 59 s", "2 h 01 min"]
        );
    }
}
