//! NumPy arrays of text: the names of classes, `U` (four bytes per character) or `S` (bytes, read as UTF-8), both padded
//! with zeros.

use crate::{DataError, Result, npz_header::Header};
use std::io::Read;

/// The most bytes of an array of names.
const MOST_BYTES: usize = 1 << 22;
/// The most names: labels are below this.
const MOST_NAMES: usize = 1 << 16;

/// Reads an array of text `[K]`.
///
/// # Errors
/// It is damaged, of another type or shape, larger than 4 MiB, or holds what is no text.
pub(crate) fn read(place: &str, from: &mut dyn Read) -> Result<Vec<String>> {
    let wrong = |expected: &str, found: String| {
        Err(DataError::Unexpected { place: place.into(), expected: expected.into(), found })
    };
    let header = Header::read(place, from)?;
    let (order, kind, width) = match header.descr().as_deref().map(str::as_bytes) {
        Some([order @ (b'<' | b'>' | b'|'), kind @ (b'U' | b'S'), width @ ..]) => {
            (*order, *kind, std::str::from_utf8(width).ok().and_then(|text| text.parse::<usize>().ok()))
        }
        _ => return wrong("class names as text (types U or S)", header.text()),
    };
    let shape = header.shape();
    let (Some(width), Some([count])) = (width, shape.as_deref()) else {
        return wrong("class names [K]", header.text());
    };
    if width == 0 || *count > MOST_NAMES {
        return wrong("class names [K] of at least one character, K up to 65536", header.text());
    }
    let width = if kind == b'U' { width.saturating_mul(4) } else { width };
    let len = count.saturating_mul(width);
    if len > MOST_BYTES {
        return wrong("class names of at most 4 MiB", format!("{len} bytes"));
    }
    // One byte more than announced tells whether there is more.
    let mut bytes = Vec::new();
    if let Err(e) = from.take(len as u64 + 1).read_to_end(&mut bytes) {
        return wrong("a whole array", format!("a damaged one ({e})"));
    }
    if bytes.len() != len {
        return wrong(
            &format!("{len} bytes of text"),
            if bytes.len() > len { "more".into() } else { bytes.len().to_string() },
        );
    }
    let mut names = Vec::with_capacity(*count);
    for (class, raw) in (0..*count).map(|i| (i, &bytes[i * width..][..width])) {
        let name = match kind {
            b'U' => raw.as_chunks::<4>().0.iter().map(|&c| character(c, order)).collect::<Option<String>>(),
            _ => String::from_utf8(raw.to_vec()).ok(),
        };
        match name {
            Some(name) => names.push(name.trim_end_matches('\0').to_string()),
            None => return wrong("text", format!("what is none for class {class}")),
        }
    }
    Ok(names)
}

/// A character of four bytes.
fn character(bytes: [u8; 4], order: u8) -> Option<char> {
    char::from_u32(if order == b'>' { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixnet_fuzz as fuzz;
    use proptest::prelude::*;

    fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
        let head = [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..]].concat();
        [&head, header.as_bytes(), data].concat()
    }

    fn wide(text: &str, to: fn(u32) -> [u8; 4]) -> Vec<u8> {
        text.chars().flat_map(|c| to(c as u32)).collect()
    }

    fn load(file: &[u8]) -> Result<Vec<String>> {
        let mut from = file;
        fuzz::within(fuzz::MOST, || read("f: class_names", &mut from))
    }

    #[test]
    fn text_of_every_form_is_read() {
        let little = npy("<U3", "(2,)", &wide("Aß\0owl", u32::to_le_bytes));
        let big = npy(">U3", "(2,)", &wide("Aß\0owl", u32::to_be_bytes));
        for file in [little, big, npy("|S3", "(2,)", "Aßowl".as_bytes())] {
            assert_eq!(load(&file).unwrap(), ["Aß", "owl"]);
        }
        for (file, words) in [
            (npy("|u1", "(2,)", &[1, 2]), "expected class names as text (types U or S)"),
            (npy("|O", "(2,)", &[1, 2]), "expected class names as text (types U or S)"),
            (npy("|S1", "(1, 2)", b"ab"), "expected class names [K]"),
            (npy("|S", "(2,)", b"ab"), "expected class names [K]"),
            (npy("|S1", "(2,)", b"a"), "expected 2 bytes of text, found 1"),
            (npy("|S1", "(2,)", b"abc"), "expected 2 bytes of text, found more"),
            (npy("|S1", "(1,)", b"\xff"), "expected text, found what is none for class 0"),
            (npy("<U1", "(1,)", &[0, 0, 0x11, 0x11]), "found what is none for class 0"),
            (npy("<U99999999999", "(9999,)", b"a"), "at most 4 MiB"),
            // Claims that take no byte in the file.
            (npy("|S0", "(99999999999999,)", b""), "at least one character"),
            (npy("|S1", "(65537,)", &[b'a'; 65537]), "K up to 65536"),
        ] {
            let e = load(&file).unwrap_err().to_string();
            assert!(e.starts_with("f: class_names: ") && e.contains(words), "{e}\n{words}");
        }
    }

    proptest! {
        #![proptest_config(fuzz::config())]

        #[test]
        fn damaged_names_never_panic(wide_ones: bool, damage in fuzz::damage()) {
            let file = if wide_ones { npy("<U3", "(2,)", &wide("catowl", u32::to_le_bytes)) } else { npy("|S3", "(2,)", b"catowl") };
            let _ = load(&fuzz::damaged(file, &damage));
        }
    }
}
