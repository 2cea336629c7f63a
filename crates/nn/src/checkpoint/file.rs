//! `safetensors` files, read without trust: no claim of a header is believed beyond the length of the file, and the
//! checksum that fixnet writes into its own files is compared before a number is used.
//!
//! A file is: 8 bytes, the length of the header (little endian); the header, JSON, which gives each tensor its type, shape
//! and place; the numbers. The `safetensors` crate knows the header. It is written here, because its order must not change
//! from run to run: equal state gives equal bytes.

use super::foreign;
use crate::{Error, Problem, Result};
use fixnet_autograd::Array;
use fixnet_files::{self as files, input_file};
use fixnet_tensor::{Budget, Tensor};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The key of the checksum in the metadata.
const CHECKSUM: &str = "blake3";

/// The longest header that is read. Parsing takes up to some 50 times the length of a (malicious) header in memory.
const HEADER_MAX: u64 = 16 << 20;

/// Values that are turned into bytes at a time.
const CHUNK: usize = 4096;

/// What a file says about one of its tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorEntry {
    /// The name.
    pub name: String,
    /// The type of a number, as the format writes it: `F32`, `U64`, `BF16`, …
    pub dtype: String,
    /// The lengths of the axes.
    pub shape: Vec<usize>,
    /// The place of the numbers, in bytes after the header.
    pub bytes: Range<usize>,
}

/// What a file says about itself.
#[derive(Debug, Clone)]
pub struct Header {
    /// The length of the file in bytes.
    pub file_bytes: u64,
    /// The metadata: texts by name.
    pub metadata: BTreeMap<String, String>,
    /// The tensors in the order of the file.
    pub tensors: Vec<TensorEntry>,
}

impl Header {
    /// Reads the header of any `safetensors` file.
    ///
    /// # Errors
    /// The file cannot be read, or is none of this format or cut short: its length is not what the header says.
    pub fn read(path: &Path) -> Result<Self> {
        open(path).map(|(header, _)| header)
    }

    /// The checksum that fixnet wrote, if it wrote this file.
    pub fn checksum(&self) -> Option<&str> {
        self.metadata.get(CHECKSUM).map(String::as_str)
    }
}

/// The header, and the file at the first of its numbers.
fn open(path: &Path) -> Result<(Header, File)> {
    let io = |source| Error::Io { path: path.to_path_buf(), source };
    let damaged = |problem| Error::Checkpoint { path: path.to_path_buf(), problem };
    let mut file = input_file::open(path).map_err(io)?;
    let file_bytes = file.metadata().map_err(io)?.len();
    let mut start = Vec::new();
    (&file).take(foreign::START).read_to_end(&mut start).map_err(io)?;
    file.rewind().map_err(io)?;
    if let Some(problem) = foreign::recognize(&start) {
        return Err(damaged(problem));
    }
    let Some(after) = file_bytes.checked_sub(8) else { return Err(damaged(Problem::Short { found: file_bytes })) };
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(io)?;
    let claimed = u64::from_le_bytes(length);
    let most = after.min(HEADER_MAX);
    if claimed > most {
        return Err(damaged(Problem::HeaderLength { claimed, most }));
    }
    // Within HEADER_MAX, so it fits in memory on any machine.
    let mut header = vec![0; claimed as usize];
    file.read_exact(&mut header).map_err(io)?;
    let header: Metadata =
        serde_json::from_slice(&header).map_err(|e| damaged(Problem::Header { reason: e.to_string() }))?;
    let (expected, found) = (header.data_len() as u64, after - claimed);
    if expected != found {
        return Err(damaged(Problem::DataLength { expected, found }));
    }
    let mut tensors: Vec<TensorEntry> = header
        .tensors()
        .into_iter()
        .map(|(name, info)| TensorEntry {
            name,
            dtype: format!("{:?}", info.dtype),
            shape: info.shape.clone(),
            bytes: info.data_offsets.0..info.data_offsets.1,
        })
        .collect();
    tensors.sort_by(|a, b| (a.bytes.start, &a.name).cmp(&(b.bytes.start, &b.name)));
    let metadata = header.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    Ok((Header { file_bytes, metadata, tensors }, file))
}

/// A `safetensors` file in memory.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    header: Header,
    data: Vec<u8>,
}

impl TensorFile {
    /// Reads a file; memory is taken for as many bytes as it has, never for what its header claims. If fixnet wrote it,
    /// its checksum is compared.
    ///
    /// # Errors
    /// As [`Header::read`]; its numbers are beyond [`Budget::FILE`]; or the checksum is another one: the file was damaged.
    pub fn read(path: &Path) -> Result<Self> {
        let (header, mut file) = open(path)?;
        // `open` has compared this length with that of the file, which may be one of holes.
        let bytes = header.tensors.iter().map(|t| t.bytes.end).max().unwrap_or(0);
        let claim = Budget::FILE.clone().claim("the tensors of the file", &[bytes], 1);
        claim.map_err(|e| Error::Checkpoint { path: path.to_path_buf(), problem: Problem::Memory(Box::new(e)) })?;
        let mut data = vec![0; bytes];
        file.read_exact(&mut data).map_err(|source| Error::Io { path: path.to_path_buf(), source })?;
        let file = Self { path: path.to_path_buf(), header, data };
        if let Some(expected) = file.header.checksum() {
            let found = file.compute_checksum();
            if found != expected {
                let expected = expected.to_string();
                return Err(file.damaged(Problem::Checksum { expected, found }));
            }
        }
        Ok(file)
    }

    /// [`read`](Self::read) of a file whose numbers are to be used: a checkpoint, a packed network, or weights to start
    /// from, whoever wrote them.
    ///
    /// # Errors
    /// As there; or a number is not finite (as `f32`), a running variance is below 0, or, in a file of fixnet, a scale, a
    /// clipping factor or a mean of squares is out of its range. The message names the tensor and the element.
    pub fn weights(path: &Path) -> Result<Self> {
        let file = Self::read(path)?;
        file.check_numbers()?;
        Ok(file)
    }

    /// Where it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says about itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The tensor called `name`, if it is there and holds `F32`, `U64` on one axis, or one `I64` without an axis.
    pub fn array(&self, name: &str) -> Option<Array> {
        let entry = self.header.tensors.iter().find(|t| t.name == name)?;
        let bytes = &self.data[entry.bytes.clone()];
        match entry.dtype.as_str() {
            "F32" => Tensor::from_vec(&entry.shape, self.values(entry)?).ok().map(Array::F32),
            "U64" if entry.shape.len() == 1 => {
                let word = |b: &[u8]| b.iter().rev().fold(0u64, |v, &b| v << 8 | u64::from(b));
                Some(Array::U64(bytes.chunks_exact(8).map(word).collect()))
            }
            "I64" if entry.shape.is_empty() => Some(Array::I64(i64::from_le_bytes(bytes.try_into().ok()?))),
            _ => None,
        }
    }

    /// The bytes of one of its tensors, as they are in the file.
    pub fn bytes(&self, entry: &TensorEntry) -> &[u8] {
        self.data.get(entry.bytes.clone()).unwrap_or_default()
    }

    /// The numbers of one of its tensors as `f32`, if they are `F32`, `F16`, `BF16` or `F64`.
    pub fn values(&self, entry: &TensorEntry) -> Option<Vec<f32>> {
        self.floats_of(entry).map(Iterator::collect)
    }

    /// [`values`](Self::values) one by one.
    pub(super) fn floats_of(&self, entry: &TensorEntry) -> Option<Box<dyn Iterator<Item = f32> + '_>> {
        let bytes = self.bytes(entry);
        Some(match entry.dtype.as_str() {
            "F32" => Box::new(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))),
            "BF16" => {
                Box::new(bytes.as_chunks().0.iter().map(|b| f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16)))
            }
            "F16" => Box::new(bytes.as_chunks().0.iter().map(|b| half(u16::from_le_bytes(*b)))),
            "F64" => Box::new(bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32)),
            _ => return None,
        })
    }

    /// Writes a file of arrays and metadata, atomically and with a checksum. Equal input gives equal bytes.
    ///
    /// # Errors
    /// The file cannot be written; one that was there stays as it is.
    pub fn save(path: &Path, arrays: &[(String, Array)], metadata: &BTreeMap<String, String>) -> Result<()> {
        files::replace(path, |to| write(to, arrays, metadata))
            .map_err(|source| Error::Save { path: path.to_path_buf(), source })
    }

    /// All `F32` tensors by name.
    pub fn floats(&self) -> BTreeMap<String, Tensor> {
        let float = |t: &TensorEntry| match self.array(&t.name) {
            Some(Array::F32(tensor)) => Some((t.name.clone(), tensor)),
            _ => None,
        };
        self.header.tensors.iter().filter_map(float).collect()
    }

    pub(super) fn damaged(&self, problem: Problem) -> Error {
        Error::Checkpoint { path: self.path.clone(), problem }
    }

    fn compute_checksum(&self) -> String {
        let tensors = self.header.tensors.iter();
        let by_name: BTreeMap<&str, &TensorEntry> = tensors.map(|t| (t.name.as_str(), t)).collect();
        checksum(
            &self.header.metadata,
            by_name.into_values().map(|t| (t.name.as_str(), t.dtype.as_str(), t.shape.as_slice(), t)),
            |t, hash| {
                hash.update(&self.data[t.bytes.clone()]);
            },
        )
    }
}

/// The value of a float of 16 bits: a sign, 5 bits of exponent with 15 taken off, 10 bits of fraction.
fn half(bits: u16) -> f32 {
    let (sign, exponent, fraction) = (u32::from(bits >> 15), u32::from(bits >> 10 & 31), u32::from(bits & 1023));
    let magnitude = match exponent {
        // Subnormal: fraction · 2^-24.
        0 => fraction as f32 / 16_777_216.0,
        31 => f32::from_bits(0x7f80_0000 | fraction << 13),
        _ => f32::from_bits((exponent + 112) << 23 | fraction << 13),
    };
    f32::from_bits(magnitude.to_bits() | sign << 31)
}

/// blake3 over the metadata (but for the checksum itself) and over names, types, shapes and bytes of all tensors, both in
/// the order of their names.
fn checksum<'a, T>(
    metadata: &BTreeMap<String, String>,
    tensors: impl Iterator<Item = (&'a str, &'a str, &'a [usize], T)>,
    bytes: impl Fn(T, &mut blake3::Hasher),
) -> String {
    let mut hash = blake3::Hasher::new();
    for (key, value) in metadata.iter().filter(|(key, _)| *key != CHECKSUM) {
        // With the lengths, no two lists of texts read alike.
        hash.update(format!("{} {key} {} {value}\n", key.len(), value.len()).as_bytes());
    }
    for (name, dtype, shape, tensor) in tensors {
        hash.update(format!("{} {name} {dtype} {shape:?}\n", name.len()).as_bytes());
        bytes(tensor, &mut hash);
    }
    hash.finalize().to_hex().to_string()
}

/// Type and shape of an array.
pub(super) fn form(array: &Array) -> (Dtype, Vec<usize>) {
    match array {
        Array::F32(t) => (Dtype::F32, t.shape().to_vec()),
        Array::U64(v) => (Dtype::U64, vec![v.len()]),
        Array::I64(_) => (Dtype::I64, Vec::new()),
    }
}

/// Hands the bytes of an array (little endian) to `sink`, piece by piece.
pub(super) fn each_piece<E>(
    array: &Array,
    mut sink: impl FnMut(&[u8]) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let mut buffer = Vec::with_capacity(8 * CHUNK);
    let mut flush = |buffer: &mut Vec<u8>| {
        let done = sink(buffer);
        buffer.clear();
        done
    };
    match array {
        Array::F32(t) => t.data().chunks(CHUNK).try_for_each(|values| {
            values.iter().for_each(|v| buffer.extend_from_slice(&v.to_le_bytes()));
            flush(&mut buffer)
        }),
        Array::U64(v) => v.chunks(CHUNK).try_for_each(|values| {
            values.iter().for_each(|v| buffer.extend_from_slice(&v.to_le_bytes()));
            flush(&mut buffer)
        }),
        Array::I64(v) => sink(&v.to_le_bytes()),
    }
}

/// Adds the bytes of an array to a hash.
pub(super) fn hash(array: &Array, to: &mut blake3::Hasher) {
    let Ok(()) = each_piece(array, |bytes| {
        to.update(bytes);
        Ok::<(), std::convert::Infallible>(())
    });
}

/// Writes arrays and metadata with their checksum. Equal input gives equal bytes.
pub(super) fn write(
    to: &mut dyn Write,
    arrays: &[(String, Array)],
    metadata: &BTreeMap<String, String>,
) -> std::io::Result<()> {
    let by_name: BTreeMap<&str, &Array> = arrays.iter().map(|(name, array)| (name.as_str(), array)).collect();
    let forms: Vec<(&str, &Array, Dtype, String, Vec<usize>)> = by_name
        .into_iter()
        .map(|(name, array)| {
            let (dtype, shape) = form(array);
            (name, array, dtype, format!("{dtype:?}"), shape)
        })
        .collect();
    let tensors = forms.iter().map(|(name, array, _, dtype, shape)| (*name, dtype.as_str(), shape.as_slice(), *array));
    let mut metadata = metadata.clone();
    metadata.insert(CHECKSUM.into(), checksum(&metadata, tensors, hash));

    // Wider types first, so that every tensor begins at a multiple of its width.
    let mut in_order: Vec<_> = forms.iter().collect();
    in_order.sort_by_key(|(_, _, dtype, ..)| std::cmp::Reverse(dtype.bitsize()));
    let mut header = BTreeMap::from([("__metadata__", serde_json::to_value(&metadata)?)]);
    let mut offset = 0;
    for (name, _, dtype, _, shape) in &in_order {
        let end = offset + shape.iter().product::<usize>() * dtype.bitsize() / 8;
        let info = TensorInfo { dtype: *dtype, shape: shape.clone(), data_offsets: (offset, end) };
        header.insert(*name, serde_json::to_value(info)?);
        offset = end;
    }
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' ');

    to.write_all(&(header.len() as u64).to_le_bytes())?;
    to.write_all(&header)?;
    in_order.into_iter().try_for_each(|(_, array, ..)| each_piece(array, |bytes| to.write_all(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_by_hand() {
        // 1, -2, the largest 65504, the smallest 2^-24, the largest subnormal, infinity.
        let cases = [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 2f32.powi(-24)),
            (0x03ff, 1023.0 / 16_777_216.0),
            (0x7c00, f32::INFINITY),
            (0x3555, 0.333_251_95),
        ];
        for (bits, value) in cases {
            assert_eq!(half(bits), value);
        }
        assert!(half(0x7e00).is_nan() && half(0x8000).to_bits() == 0x8000_0000);
    }
}
