//! One NumPy array: its header, and its numbers as images, rows, sequences, targets or labels. Where its bytes come from does not
//! matter here.

use crate::error::unexpected;
use crate::{
    DataError, Result,
    npz_header::Header,
    records::{Form, Part, Records, out_of_range},
    samples::{IN_MEMORY, Samples},
};
use fixnet_tensor::{Budget, Buffer};
use std::{io::Read, path::PathBuf};

/// Where an array lies as it is: a file and the place in it.
pub(crate) type Lies = Option<(PathBuf, u64)>;

/// What an array of samples is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Images, or with two axes rows.
    ImagesOrRows,
    /// Sequences [N, T, C] of numbers.
    Sequences,
}

/// The samples of an array.
pub(crate) enum Inputs {
    /// The shape of an image, and the bytes of all.
    Images([usize; 3], Vec<u8>),
    /// The shape of a row or a sequence, and the numbers of all.
    Floats(Vec<usize>, Vec<f32>),
    Files(Records),
}

impl Inputs {
    pub(crate) fn samples(self, name: &str, in_memory: u64) -> Result<Samples> {
        match self {
            Self::Images(shape, bytes) => Samples::images(name, shape, bytes),
            Self::Floats(shape, values) => Samples::floats(name, &shape, values),
            Self::Files(records) => records.samples(name, in_memory),
        }
    }
}

/// The header of an array.
#[derive(Debug)]
pub(crate) struct Array {
    place: String,
    shape: Vec<usize>,
    /// Type and bytes of a number: `f4`.
    kind: [u8; 2],
    big_endian: bool,
    /// The length of the header.
    start: u64,
    /// Bytes of all numbers.
    len: u128,
}

impl Array {
    pub(crate) fn read(place: &str, from: &mut dyn Read) -> Result<Self> {
        let header = Header::read(place, from)?;
        let wrong = |expected: &str| unexpected(place, expected, header.text());
        let descr = header.descr();
        let Some(&[order @ (b'<' | b'>' | b'|'), kind @ (b'u' | b'i' | b'f'), size @ (b'1' | b'2' | b'4' | b'8')]) =
            descr.as_deref().map(str::as_bytes)
        else {
            return Err(wrong("numbers u1 to u8, i1 to i8 or f4"));
        };
        if !header.is_in_rows() {
            return Err(wrong("'fortran_order': False (numpy.ascontiguousarray(array) makes it so)"));
        }
        let shape = header.shape().ok_or_else(|| wrong("'shape': (…)"))?;
        let start = header.len();
        let len = shape.iter().fold(u128::from(size - b'0'), |n, &axis| n.saturating_mul(axis as u128));
        Ok(Self { place: place.into(), shape, kind: [kind, size], big_endian: order == b'>', start, len })
    }

    /// The bytes of the numbers, of which `most` are allowed.
    fn bytes(&self, from: &mut dyn Read, most: u64) -> Result<Vec<u8>> {
        Budget::new(most, "labels of fewer images, or of fewer bytes each, take less").claim(
            &self.place,
            &self.shape,
            self.size(),
        )?;
        // One byte more than announced tells whether there is more; nothing is allocated on the header's word alone.
        let mut bytes = Vec::new();
        from.take(self.len as u64 + 1).read_to_end(&mut bytes).map_err(|e| self.damaged(e))?;
        match (bytes.len() as u128).cmp(&self.len) {
            std::cmp::Ordering::Equal => Ok(bytes),
            std::cmp::Ordering::Less => self.incomplete(bytes.len()),
            std::cmp::Ordering::Greater => self.incomplete("more"),
        }
    }

    fn incomplete<T>(&self, found: impl ToString) -> Result<T> {
        self.wrong(&format!("{} bytes of numbers {:?}", self.len, self.shape), found)
    }

    fn damaged(&self, e: std::io::Error) -> DataError {
        unexpected(&self.place, "a whole array", format!("a damaged one ({e})"))
    }

    fn wrong<T>(&self, expected: &str, found: impl ToString) -> Result<T> {
        Err(unexpected(&self.place, expected, found))
    }

    fn kind(&self) -> String {
        format!("{}{}", char::from(self.kind[0]), char::from(self.kind[1]))
    }

    /// How many samples, and they themselves: in memory, or where they lie if they are images of more than `in_memory` bytes.
    pub(crate) fn inputs(
        self,
        taken: Taken,
        from: &mut dyn Read,
        lies: Lies,
        in_memory: u64,
    ) -> Result<(usize, Inputs)> {
        if taken == Taken::Sequences {
            return self.sequences(from);
        }
        let (count, shape) = match self.shape[..] {
            [n, columns] if self.kind[0] == b'f' => return Ok((n, self.rows(columns, from)?)),
            [n, h, w] => (n, [h, w, 1]),
            [n, h, w, c] => {
                self.check_order([h, w, c])?;
                (n, [h, w, c])
            }
            [_, _] if self.kind != *b"u1" => return self.wrong("rows [N, F] as f4 or f8", self.kind()),
            _ => return self.wrong("images [N, H, W] or [N, H, W, C]", format!("{:?}", self.shape)),
        };
        let form = match &self.kind {
            b"u1" => Form::Bytes,
            b"f4" => Form::Floats { big_endian: self.big_endian },
            _ => return self.wrong("images as u1 or f4", self.kind()),
        };
        if self.len == 0 {
            return Err(DataError::Empty { place: self.place });
        }
        if self.len / form.size() as u128 <= u128::from(in_memory) {
            let raw = self.bytes(from, in_memory.saturating_mul(form.size() as u64))?;
            if matches!(form, Form::Bytes) {
                return Ok((count, Inputs::Images(shape, raw)));
            }
            let mut out = vec![0; raw.len() / form.size()];
            form.convert(&raw, shape, &mut out).map_err(|(at, v)| out_of_range(&self.place, at, v))?;
            return Ok((count, Inputs::Images(shape, out)));
        }
        let Some((path, offset)) = lies else {
            Budget::new(in_memory, Budget::DATA.advice()).claim(&self.place, &self.shape, 1)?;
            return self.incomplete("a compressed array");
        };
        // Beyond what a file may hold the sizes of an image need not fit their types.
        let Ok(len) = i64::try_from(self.len) else { return self.incomplete("fewer") };
        let (start, stride) = (offset.saturating_add(self.start), len as u64 / count as u64);
        let part = Part { path, place: self.place.clone(), start, stride, count };
        let records = Records::new(vec![part], shape, form)?;
        // One pass now, so that what is damaged or out of range is known before the first step.
        let (len, image) = (stride as usize, stride as usize / form.size());
        let (mut raw, mut out) = (Buffer::<u8>::take(len), Buffer::<u8>::take(image));
        for i in 0..count {
            from.read_exact(&mut raw).map_err(|e| self.damaged(e))?;
            form.convert(&raw, shape, &mut out).map_err(|(at, v)| out_of_range(&self.place, i * image + at, v))?;
        }
        match from.read(&mut [0]).map_err(|e| self.damaged(e))? {
            0 => Ok((count, Inputs::Files(records))),
            _ => self.incomplete("more"),
        }
    }

    /// Rows of finite numbers.
    fn rows(&self, columns: usize, from: &mut dyn Read) -> Result<Inputs> {
        if self.len == 0 {
            return self.wrong("at least one row of at least one number", format!("{:?}", self.shape));
        }
        self.check_floats()?;
        let values = self.finite(from, |at| format!("row {}, column {}", at / columns, at % columns))?;
        Ok(Inputs::Floats(vec![columns], values))
    }

    /// Sequences [N, T, C] of finite numbers.
    fn sequences(&self, from: &mut dyn Read) -> Result<(usize, Inputs)> {
        let [n, steps, channels] = self.shape[..] else {
            return self.wrong("sequences [N, T, C]", format!("{:?}", self.shape));
        };
        if self.len == 0 {
            return self.wrong("at least one sequence of at least one number", format!("{:?}", self.shape));
        }
        if !matches!(&self.kind, b"f4" | b"f8" | b"i2") {
            return self.wrong("sequences as f4, f8 or i2", self.kind());
        }
        let place = |at: usize| {
            let (step, channel) = (at / channels, at % channels);
            format!("sequence {}, step {}, channel {channel}", step / steps, step % steps)
        };
        Ok((n, Inputs::Floats(vec![steps, channels], self.finite(from, place)?)))
    }

    /// All numbers as `f32`, each of them finite; `place` says where in a sample number `at` of the array is.
    fn finite(&self, from: &mut dyn Read, place: impl Fn(usize) -> String) -> Result<Vec<f32>> {
        Budget::TABLE.clone().claim(&self.place, &self.shape, size_of::<f32>())?;
        let bytes = self.bytes(from, Budget::TABLE.limit().saturating_mul(2))?;
        let mut values = Vec::with_capacity(bytes.len() / self.size());
        for (at, number) in bytes.chunks_exact(self.size()).enumerate() {
            let v = if self.kind[0] == b'f' { self.float(number) } else { self.integer(number) as f64 };
            if !(v as f32).is_finite() {
                return self.wrong("finite numbers in the range of f32", format!("{v} in {}", place(at)));
            }
            values.push(v as f32);
        }
        Ok(values)
    }

    /// Numbers of any type, one per sample.
    pub(crate) fn numbers(&self, from: &mut dyn Read) -> Result<Vec<f64>> {
        match self.shape[..] {
            [_] | [_, 1] => {}
            _ => return self.wrong("numbers [N] or [N, 1]", format!("{:?}", self.shape)),
        }
        let is_float = self.kind[0] == b'f';
        if is_float {
            self.check_floats()?;
        }
        let bytes = self.bytes(from, IN_MEMORY)?;
        let number = |bytes: &[u8]| if is_float { self.float(bytes) } else { self.integer(bytes) as f64 };
        Ok(bytes.chunks_exact(self.size()).map(number).collect())
    }

    /// The bytes of a number.
    fn size(&self) -> usize {
        usize::from(self.kind[1] - b'0')
    }

    fn check_floats(&self) -> Result<()> {
        match &self.kind {
            b"f4" | b"f8" => Ok(()),
            _ => self.wrong("floats as f4 or f8", self.kind()),
        }
    }

    /// The float of four or eight bytes.
    fn float(&self, number: &[u8]) -> f64 {
        match (<[u8; 4]>::try_from(number), <[u8; 8]>::try_from(number), self.big_endian) {
            (Ok(word), _, false) => f64::from(f32::from_le_bytes(word)),
            (Ok(word), _, true) => f64::from(f32::from_be_bytes(word)),
            (_, Ok(word), false) => f64::from_le_bytes(word),
            (_, Ok(word), true) => f64::from_be_bytes(word),
            _ => f64::NAN,
        }
    }

    /// The whole number of some bytes.
    fn integer(&self, number: &[u8]) -> i128 {
        // Little-endian in 16 bytes, the sign carried on.
        let (mut wide, size) = ([0; 16], number.len());
        wide[..size].copy_from_slice(number);
        if self.big_endian {
            wide[..size].reverse();
        }
        if self.kind[0] == b'i' && wide[size - 1] >= 128 {
            wide[size..].fill(255);
        }
        i128::from_le_bytes(wide)
    }

    /// Refuses images that look like [N, C, H, W], the order of PyTorch: no more than four rows, and more than four columns
    /// and channels. Few rows and columns stay allowed, since patches of 3x3 pixels may well have many channels, and so do
    /// few channels.
    fn check_order(&self, [h, w, c]: [usize; 3]) -> Result<()> {
        const MOST: usize = 4;
        if h > MOST || w <= MOST || c <= MOST {
            return Ok(());
        }
        let expected = format!(
            "images [N, H, W, C]; if these are [N, C, H, W] = {h} channels of {w}x{c} pixels, store \
             x.transpose(0, 2, 3, 1); if they are images of {h} rows with {c} channels, store x.swapaxes(1, 2)"
        );
        self.wrong(&expected, format!("{:?}, which would be {c} channels of {h}x{w} pixels", self.shape))
    }

    pub(crate) fn labels(&self, from: &mut dyn Read) -> Result<Vec<u16>> {
        match self.shape[..] {
            [_] | [_, 1] => {}
            _ => return self.wrong("labels [N] or [N, 1]", format!("{:?}", self.shape)),
        }
        if self.kind[0] == b'f' {
            return self.wrong("labels of an integer type", self.kind());
        }
        let bytes = self.bytes(from, IN_MEMORY)?;
        let mut labels = Vec::with_capacity(bytes.len() / self.size());
        for (i, number) in bytes.chunks_exact(self.size()).enumerate() {
            let v = self.integer(number);
            match u16::try_from(v) {
                Ok(label) if label < u16::MAX => labels.push(label),
                _ => return self.wrong("labels from 0 to 65534", format!("{v} at {i}")),
            }
        }
        Ok(labels)
    }
}
