//! The part of the protobuf encoding that ONNX and event files need: messages of numbers, texts and messages, written field
//! by field. A field is a key, `number · 8 + wire type`, and its value: a varint (type 0), a length and so many bytes (2), or
//! a float of eight (1) or four (5) bytes.

/// An encoded message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    /// Seven bits a byte, the lowest first; all bytes but the last have the high bit set.
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn key(&mut self, field: u32, wire: u64) {
        self.varint(u64::from(field) << 3 | wire);
    }

    /// A whole number; negative ones in two's complement of 64 bits, as `int64` has them.
    pub(crate) fn int(mut self, field: u32, value: i64) -> Self {
        self.key(field, 0);
        self.varint(value as u64);
        self
    }

    /// A number of 64 bits.
    pub(crate) fn double(mut self, field: u32, value: f64) -> Self {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// A number of 32 bits.
    pub(crate) fn float(mut self, field: u32, value: f32) -> Self {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Bytes.
    pub(crate) fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        self.key(field, 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    /// A text.
    pub(crate) fn text(self, field: u32, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    /// A message.
    pub(crate) fn message(self, field: u32, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }

    /// `f` for each item: repeated fields.
    pub(crate) fn each<T>(self, items: impl IntoIterator<Item = T>, f: impl Fn(Self, T) -> Self) -> Self {
        items.into_iter().fold(self, f)
    }

    /// The encoded bytes.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// A decoder that shares nothing with the encoder.
#[cfg(test)]
pub(crate) mod wire {
    /// Splits the first bytes off.
    pub(crate) fn take<'a>(data: &mut &'a [u8], count: usize) -> &'a [u8] {
        let (head, tail) = data.split_at(count);
        *data = tail;
        head
    }

    fn varint(data: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = take(data, 1)[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }

    /// Returns the fields of a message: number, and value as number or bytes.
    pub(crate) fn fields(mut data: &[u8]) -> Vec<(u64, u64, &[u8])> {
        let mut out = Vec::new();
        while !data.is_empty() {
            let key = varint(&mut data);
            out.push(match key & 7 {
                0 => (key >> 3, varint(&mut data), &[][..]),
                1 => (key >> 3, u64::from_le_bytes(take(&mut data, 8).try_into().unwrap()), &[][..]),
                2 => {
                    let length = varint(&mut data) as usize;
                    (key >> 3, 0, take(&mut data, length))
                }
                5 => (key >> 3, u32::from_le_bytes(take(&mut data, 4).try_into().unwrap()).into(), &[][..]),
                wire => panic!("wire type {wire}"),
            });
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_encoding_guide() {
        // 150 is 96 01; the text "testing"; a message with 150; -2 takes ten bytes.
        let inner = Message::default().int(1, 150);
        assert_eq!(inner.clone().into_bytes(), [0x08, 0x96, 0x01]);
        assert_eq!(Message::default().text(2, "testing").into_bytes(), b"\x12\x07testing");
        assert_eq!(Message::default().message(3, &inner).into_bytes(), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        let minus_two = Message::default().int(1, -2).into_bytes();
        assert_eq!(minus_two, [0x08, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        assert_eq!(Message::default().double(1, 1.5).into_bytes(), [0x09, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f]);
        assert_eq!(Message::default().float(2, -2.0).into_bytes(), [0x15, 0, 0, 0, 0xc0]);
        // Fields above 15 have keys of two bytes: 20 · 8 = 160.
        assert_eq!(Message::default().int(20, 7).into_bytes(), [0xa0, 0x01, 0x07]);
        assert_eq!(Message::default().each([1, 2], |m, v| m.int(8, v)).into_bytes(), [0x40, 1, 0x40, 2]);
    }
}
