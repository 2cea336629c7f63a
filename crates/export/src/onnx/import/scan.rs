//! How much memory the messages of a file take once they are decoded, counted before there is memory for them: an empty message
//! is two bytes of a file and more than a hundred in memory.

use super::super::messages::{Attribute, Dimension, Entry, Graph, Model, Node, OperatorSet, Shape, Tensor};
use super::super::messages::{TensorType, Type, ValueInfo};
use fixnet_tensor::Budget;

/// A message of the format.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Value,
    Type,
    TensorType,
    Shape,
    Dimension,
    Entry,
    OperatorSet,
    /// A text or bytes.
    Text,
    /// Whole numbers of 8 bytes, each one byte or more in the file.
    Numbers,
}

impl Kind {
    /// What a field is that has a length.
    fn field(self, number: u64) -> Option<Self> {
        use Kind::*;
        Some(match (self, number) {
            (Model, 7) => Graph,
            (Model, 8) => OperatorSet,
            (Model, 14) | (Tensor, 13) => Entry,
            (Graph, 1) => Node,
            (Graph, 5) | (Attribute, 5) => Tensor,
            (Graph, 11 | 12) => Value,
            (Node, 5) => Attribute,
            (Value, 2) => Type,
            (Type, 1) => TensorType,
            (TensorType, 2) => Shape,
            (Shape, 1) => Dimension,
            (Attribute, 8) | (Tensor, 1 | 5 | 7) => Numbers,
            (Node, 1 | 2) => Text,
            _ => return None,
        })
    }

    /// Bytes in memory, without those of its fields.
    fn size(self) -> usize {
        match self {
            Self::Model => size_of::<Model>(),
            Self::Graph => size_of::<Graph>(),
            Self::Node => size_of::<Node>(),
            Self::Attribute => size_of::<Attribute>(),
            Self::Tensor => size_of::<Tensor>(),
            Self::Value => size_of::<ValueInfo>(),
            Self::Type => size_of::<Type>(),
            Self::TensorType => size_of::<TensorType>(),
            Self::Shape => size_of::<Shape>(),
            Self::Dimension => size_of::<Dimension>(),
            Self::Entry => size_of::<Entry>(),
            Self::OperatorSet => size_of::<OperatorSet>(),
            Self::Text => size_of::<String>(),
            Self::Numbers => 0,
        }
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 127).checked_shl(shift)?;
        if byte < 128 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(bytes: &mut &'a [u8], length: u64) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    *bytes = rest;
    Some(head)
}

/// A list that grows is copied to twice its room.
fn claim(budget: &mut Budget, bytes: usize) -> Result<(), fixnet_tensor::Error> {
    budget.claim_bytes("the messages of the file", 3 * bytes as u128)
}

/// Counts a message and all in it; `None` if it is cut short. Messages lie at most seven deep in each other.
fn count(kind: Kind, mut bytes: &[u8], budget: &mut Budget) -> Result<Option<()>, fixnet_tensor::Error> {
    claim(budget, kind.size())?;
    if matches!(kind, Kind::Text | Kind::Numbers) {
        claim(budget, if kind == Kind::Numbers { 8 * bytes.len() } else { bytes.len() })?;
        return Ok(Some(()));
    }
    while !bytes.is_empty() {
        let Some(key) = varint(&mut bytes) else { return Ok(None) };
        let done = match key & 7 {
            0 => varint(&mut bytes).map(|_| claim(budget, 8)).transpose()?,
            1 => take(&mut bytes, 8).map(|_| claim(budget, 8)).transpose()?,
            5 => take(&mut bytes, 4).map(|_| claim(budget, 8)).transpose()?,
            2 => match varint(&mut bytes).and_then(|length| take(&mut bytes, length)) {
                Some(inside) => match kind.field(key >> 3) {
                    Some(of) => count(of, inside, budget)?,
                    None => Some(()),
                },
                None => None,
            },
            _ => None,
        };
        if done.is_none() {
            return Ok(None);
        }
    }
    Ok(Some(()))
}

/// Checks that the messages of a file take no more memory than a file of its length should.
///
/// # Errors
/// In words: they take more, or the file is cut short.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    let most = (bytes.len() as u64).saturating_mul(24).saturating_add(128 << 10);
    let mut budget = Budget::new(most, "a file with fewer empty parts takes less");
    match count(Kind::Model, bytes, &mut budget) {
        Ok(Some(())) => Ok(()),
        Ok(None) => Err("cut short".into()),
        Err(e) => Err(e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_messages_are_counted_before_they_are_made() {
        // A graph of nodes without content: field 1, length 0.
        let nodes = [0x0a, 0].repeat(100_000);
        let mut file = vec![0x3a];
        let mut length = nodes.len();
        while length >= 128 {
            file.push(length as u8 | 128);
            length >>= 7;
        }
        file.push(length as u8);
        file.extend(nodes);
        assert!(check(&file).unwrap_err().contains("the messages of the file"));
        assert_eq!(check(&file[..100]).unwrap_err(), "cut short");
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(check(&[0xff; 20]).unwrap_err(), "cut short");
    }
}
