//! Recognizes files of other formats by their first bytes, so that a message can say what a file is and how to convert it.

use crate::Problem;

/// The bytes of a file that are looked at.
pub(super) const START: u64 = 256;

const FROM_PYTORCH: &str =
    "convert it in Python: safetensors.torch.save_file(model.state_dict(), \"weights.safetensors\")";

/// Returns what is wrong with a file that begins with `start`, if that is the beginning of another format. A safetensors
/// file begins with the length of its header, below 2^24 in eight bytes, and the header with `{`: it is never taken for another one.
pub(super) fn recognize(start: &[u8]) -> Option<Problem> {
    let has = |text: &[u8]| start.windows(text.len()).any(|window| window == text);
    let (found, advice) = match start {
        [_, _, _, 0, 0, 0, 0, 0, ..] => return None,
        [b'P', b'K', 3, 4, ..] if has(b".npy") => {
            ("NumPy arrays (.npz)", "convert them in Python: safetensors.numpy.save_file(dict(numpy.load(FILE)), …)")
        }
        [b'P', b'K', 3, 4, ..] if has(b".keras") || has(b"metadata.json") => {
            ("a model of Keras", "fixnet reads weights of PyTorch, as safetensors")
        }
        [b'P', b'K', 3, 4, ..] => ("a zip archive, as torch.save writes it (.pt, .pth)", FROM_PYTORCH),
        [0x80, 2..=5, ..] => ("pickled data, as torch.save once wrote them (.pt, .pth)", FROM_PYTORCH),
        // The version of the format, then the field of its producer, its domain, its graph, ….
        [8, 1..=32, 0x12 | 0x1a | 0x22 | 0x28 | 0x32 | 0x3a | 0x42, ..] => (
            "a network in ONNX",
            "fixnet reads weights; write those of the model that it came from in Python: \
             safetensors.torch.save_file(model.state_dict(), \"weights.safetensors\")",
        ),
        [0x89, b'H', b'D', b'F', ..] => ("an HDF5 file (.h5)", "fixnet reads weights of PyTorch, as safetensors"),
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => ("a NumPy array (.npy)", "save named arrays as safetensors"),
        [b'G', b'G', b'U', b'F', ..] => ("a GGUF file", "fixnet reads weights of PyTorch, as safetensors"),
        _ if start.starts_with(b"version https://git-lfs") => {
            ("a pointer of Git LFS", "fetch the file itself with `git lfs pull`")
        }
        _ if start.trim_ascii_start().to_ascii_lowercase().starts_with(b"<!doctype html")
            || start.trim_ascii_start().to_ascii_lowercase().starts_with(b"<html") =>
        {
            ("a web page", "download the file itself")
        }
        _ => return None,
    };
    Some(Problem::Foreign { found, advice })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_formats_are_named_with_what_to_do() {
        for (start, found, advice) in [
            (&b"PK\x03\x04\0\0\x08\x08\0\0archive/data.pkl"[..], "torch.save", "model.state_dict()"),
            (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "torch.save", "model.state_dict()"),
            (b"\x08\x08\x12\x07pytorch\x1a\x051.0.0", "ONNX", "model.state_dict()"),
            (b"\x08\x0a:\x8f\x0b\n", "ONNX", "model.state_dict()"),
            (b"PK\x03\x04-\0\0\0\0\0x_train.npy", ".npz", "safetensors.numpy"),
            (b"\x89HDF\r\n\x1a\n", "HDF5", "PyTorch"),
            (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS", "git lfs pull"),
            (b"\n<!DOCTYPE html>", "web page", "download"),
        ] {
            let text = recognize(start).unwrap().to_string();
            assert!(text.starts_with("expected a safetensors file, found "), "{text}");
            assert!(text.contains(found) && text.contains(advice), "{text}");
        }
        // A header of 0x120808 bytes is no protobuf, and short files are others' to judge.
        for start in [&b"\x08\x08\x12\0\0\0\0\0{\"a\":"[..], b"{}", b"", b"\x08"] {
            assert!(recognize(start).is_none(), "{start:?}");
        }
    }
}
