//! `Constant`: a tensor of the file, floats or whole numbers, and what is computed of constants alone: the shapes that exported
//! graphs compute at run time.

use super::super::messages;
use super::problem::{Problem, Result};
use fixnet_tensor::{Budget, Tensor};
use std::sync::Arc;

/// The length of the axis of the batch, which no number is. The numbers behind it stand for its multiples.
pub(super) const BATCH: i64 = i64::MIN;

/// The most samples' worth of an axis that is one with that of the batch: heads, or tokens.
const MULTIPLES: i64 = 1 << 20;

/// The length of an axis of `count` for each sample of the batch; `None` where that is no number of it, or too many.
pub(super) fn batches_of(count: i64) -> Option<i64> {
    (1..=MULTIPLES).contains(&count).then(|| BATCH + (count - 1))
}

/// How many there are for each sample of the batch, of a length that [`batches_of`] gave.
pub(super) fn per_sample(length: i64) -> Option<i64> {
    (length < BATCH + MULTIPLES).then(|| length - BATCH + 1)
}

/// The most numbers of a constant that is computed.
pub(super) const MOST: usize = 1 << 16;

/// Whether a shape has numbers, or is that of an empty list: others without numbers have lengths that no memory bounds.
pub(super) fn is_sound(shape: &[usize]) -> bool {
    !shape.contains(&0) || shape == [0]
}

/// The numbers of a constant.
#[derive(Debug, Clone)]
pub(super) enum Data {
    /// `None` where a run recorded the graph without its weights.
    Float(Option<Arc<Vec<f32>>>),
    Int(Arc<Vec<i64>>),
}

/// A tensor of the file.
#[derive(Debug, Clone)]
pub(super) struct Constant {
    /// The name of an initializer; none of what a node gives.
    pub(super) name: Option<String>,
    pub(super) shape: Vec<usize>,
    pub(super) data: Data,
}

impl Constant {
    pub(super) fn ints(shape: &[usize], values: Vec<i64>) -> Self {
        Self { name: None, shape: shape.to_vec(), data: Data::Int(Arc::new(values)) }
    }

    pub(super) fn floats(shape: &[usize], values: Vec<f32>) -> Self {
        Self { name: None, shape: shape.to_vec(), data: Data::Float(Some(Arc::new(values))) }
    }

    pub(super) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub(super) fn as_ints(&self) -> Option<&[i64]> {
        if let Data::Int(values) = &self.data { Some(values) } else { None }
    }

    pub(super) fn as_floats(&self) -> Option<&[f32]> {
        if let Data::Float(Some(values)) = &self.data { Some(values) } else { None }
    }

    /// The only number, as a float.
    pub(super) fn scalar(&self) -> Option<f32> {
        match (&self.data, self.len()) {
            (Data::Float(Some(values)), 1) => values.first().copied(),
            (Data::Int(values), 1) => values.first().filter(|&&v| per_sample(v).is_none()).map(|&v| v as f32),
            _ => None,
        }
    }

    /// The numbers as a tensor of floats; `None` inside where a recorded graph has left them out.
    pub(super) fn tensor(&self) -> Option<Option<Tensor>> {
        match &self.data {
            Data::Float(None) => Some(None),
            Data::Float(Some(values)) => Tensor::from_vec(&self.shape, values.to_vec()).ok().map(Some),
            Data::Int(_) => None,
        }
    }

    /// Decodes a tensor. With `bare`, floats may have no numbers.
    ///
    /// # Errors
    /// It is of another type, its numbers are in another file, or they are not as many as its shape says.
    pub(super) fn decode(t: &messages::Tensor, name: &str, bare: bool) -> Result<Self> {
        if t.data_location == Some(1) || !t.external_data.is_empty() {
            let expected = "numbers in the file (torch.onnx.export(..., external_data=False))";
            return Err(Problem::tensor(name, expected, "numbers in another file"));
        }
        let shape: Option<Vec<usize>> = t.dims.iter().map(|&d| usize::try_from(d).ok()).collect();
        let odd = || Problem::tensor(name, "lengths of axes that fit memory", format!("{:?}", t.dims));
        let shape = shape.filter(|shape| shape.len() <= 8 && is_sound(shape)).ok_or_else(odd)?;
        let len = Budget::MODEL.clone().claim("a tensor", &shape, 8).map_err(|_| odd())?;
        let raw = t.raw_data.as_deref();
        let data = match t.data_type.unwrap_or(0) {
            1 => match (raw, t.float_data.len()) {
                (None, 0) if bare && len > 0 => Data::Float(None),
                (Some(raw), 0) => Data::Float(Some(Arc::new(words(raw, f32::from_le_bytes)))),
                _ => Data::Float(Some(Arc::new(t.float_data.clone()))),
            },
            11 => {
                let doubles = raw.map_or_else(|| t.double_data.clone(), |raw| words(raw, f64::from_le_bytes));
                Data::Float(Some(Arc::new(doubles.into_iter().map(|v| v as f32).collect())))
            }
            // The lowest numbers, with the first of which exporters begin ranges, stand for the batch here; the next one does the same.
            7 => {
                let ints = raw.map_or_else(|| t.int64_data.clone(), |raw| words(raw, i64::from_le_bytes));
                Data::Int(Arc::new(ints.into_iter().map(|v| v.max(BATCH + MULTIPLES)).collect()))
            }
            6 => {
                let ints = raw.map_or_else(|| t.int32_data.clone(), |raw| words(raw, i32::from_le_bytes));
                Data::Int(Arc::new(ints.into_iter().map(i64::from).collect()))
            }
            9 => {
                let ints = raw.map_or_else(|| t.int32_data.clone(), |raw| raw.iter().map(|&b| b.into()).collect());
                Data::Int(Arc::new(ints.into_iter().map(i64::from).collect()))
            }
            other => return Err(Problem::tensor(name, "floats (f32, f64) or whole numbers", type_name(other))),
        };
        let found = match &data {
            Data::Float(Some(values)) => values.len(),
            Data::Int(values) => values.len(),
            Data::Float(None) => len,
        };
        if found != len {
            return Err(Problem::tensor(name, format!("{len} numbers for {shape:?}"), found));
        }
        Ok(Self { name: Some(name.into()), shape, data })
    }
}

fn words<const N: usize, T>(raw: &[u8], of: fn([u8; N]) -> T) -> Vec<T> {
    // A part of a number behind the last one counts as one, so that the length is wrong.
    let whole = raw.chunks_exact(N);
    let rest = usize::from(!whole.remainder().is_empty());
    let mut values: Vec<T> = whole.map(|chunk| of(chunk.try_into().expect("N bytes"))).collect();
    values.extend((0..rest).map(|_| of([0; N])));
    values
}

fn type_name(code: i32) -> String {
    let names = [(2, "u8"), (3, "i8"), (4, "u16"), (5, "i16"), (8, "texts"), (10, "f16"), (16, "bf16"), (22, "i4")];
    let known = names.iter().find(|(c, _)| *c == code).map(|(_, name)| (*name).to_string());
    known.unwrap_or_else(|| format!("type {code}"))
}

/// `x op y` of constants, element by element; one of them may be a single number. `None` where it has no value here.
pub(super) fn binary(op: &str, x: &Constant, y: &Constant) -> Option<Constant> {
    let (long, len) = if x.len() >= y.len() { (x, x.len()) } else { (y, y.len()) };
    let fits = |c: &Constant| c.len() == 1 || c.shape == long.shape;
    if len > MOST || !fits(x) || !fits(y) {
        return None;
    }
    let at = |i: usize, c: &Constant| if c.len() == 1 { 0 } else { i };
    if let (Some(a), Some(b)) = (x.as_ints(), y.as_ints()) {
        let one = |i| {
            let (a, b) = (a[at(i, x)], b[at(i, y)]);
            match (per_sample(a), per_sample(b), op) {
                (Some(n), None, "Mul") => n.checked_mul(b).and_then(batches_of),
                (None, Some(n), "Mul") => n.checked_mul(a).and_then(batches_of),
                (Some(n), None, "Div") if b > 0 && n % b == 0 => batches_of(n / b),
                (Some(n), Some(m), "Div") if n % m == 0 => Some(n / m),
                (Some(_), None, "Add" | "Sub") if b == 0 => Some(a),
                (None, Some(_), "Add") if a == 0 => Some(b),
                // There is at least one sample.
                (Some(_), Some(_), "Equal") => Some(i64::from(a == b)),
                (Some(_), None, "Equal") if b <= 0 => Some(0),
                (None, Some(_), "Equal") if a <= 0 => Some(0),
                (Some(_), ..) | (_, Some(_), _) => None,
                (_, _, "Add") => a.checked_add(b),
                (_, _, "Sub") => a.checked_sub(b),
                (_, _, "Mul") => a.checked_mul(b),
                (_, _, "Div") => a.checked_div(b),
                (_, _, "Mod") if b > 0 => a.checked_rem_euclid(b),
                (_, _, "Equal") => Some(i64::from(a == b)),
                _ => None,
            }
        };
        let values: Option<Vec<i64>> = (0..len).map(one).collect();
        // No sum or difference of numbers is taken for a length of the batch.
        let is_known = |v: &i64| per_sample(*v).is_none();
        let open = x.as_ints().into_iter().chain(y.as_ints()).flatten().any(|v| !is_known(v));
        return values.filter(|v| open || v.iter().all(is_known)).map(|v| Constant::ints(&long.shape, v));
    }
    let (a, b) = (x.as_floats()?, y.as_floats()?);
    let one = |i| {
        let (a, b) = (a[at(i, x)], b[at(i, y)]);
        match op {
            "Add" => Some(a + b),
            "Sub" => Some(a - b),
            "Mul" => Some(a * b),
            "Div" => Some(a / b),
            "Pow" => Some(libm_pow(a, b)),
            _ => None,
        }
    };
    let values: Option<Vec<f32>> = (0..len).map(one).collect();
    values.map(|v| Constant::floats(&long.shape, v))
}

/// Powers that need no library: squares and roots.
fn libm_pow(a: f32, b: f32) -> f32 {
    match b {
        2.0 => a * a,
        0.5 => a.sqrt(),
        -0.5 => 1.0 / a.sqrt(),
        1.0 => a,
        _ => f32::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_computed_around_the_batch() {
        let of = |v: &[i64]| Constant::ints(&[v.len()], v.to_vec());
        let ints = |op: &str, x: &[i64], y: &[i64]| binary(op, &of(x), &of(y)).map(|c| c.as_ints().unwrap().to_vec());
        assert_eq!(ints("Mul", &[3, 4], &[2]), Some(vec![6, 8]));
        assert_eq!(ints("Mul", &[BATCH, 4], &[1]), Some(vec![BATCH, 4]));
        // Heads of all samples, and back.
        assert_eq!(ints("Mul", &[BATCH], &[2]), Some(vec![batches_of(2).unwrap()]));
        assert_eq!(ints("Div", &[batches_of(6).unwrap()], &[3]), Some(vec![batches_of(2).unwrap()]));
        assert_eq!(ints("Div", &[batches_of(6).unwrap()], &[BATCH]), Some(vec![6]));
        assert_eq!(ints("Mul", &[BATCH, BATCH], &[1 << 21, 0]), None);
        assert_eq!(ints("Add", &[i64::MIN + (1 << 21)], &[-(1 << 21)]), None);
        assert_eq!(ints("Mod", &[2, -1], &[3]), Some(vec![2, 2]));
        assert_eq!(ints("Mod", &[2], &[0]), None);
        assert_eq!(ints("Div", &[26], &[3]), Some(vec![8]));
        assert_eq!(ints("Div", &[26], &[0]), None);
        assert_eq!(ints("Add", &[i64::MAX], &[1]), None);
        assert_eq!(ints("Add", &[1, 2], &[1, 2, 3]), None);
        assert_eq!(ints("Equal", &[BATCH, -1, 4], &[-1]), Some(vec![0, 1, 0]));
        assert_eq!(ints("Equal", &[BATCH], &[4]), None);
    }

    #[test]
    fn tensors_that_lie_about_their_length_are_refused() {
        let t = |dims: &[i64], raw: usize| messages::Tensor {
            dims: dims.to_vec(),
            data_type: Some(1),
            raw_data: Some(vec![0; raw]),
            ..messages::Tensor::default()
        };
        assert_eq!(Constant::decode(&t(&[2, 3], 24), "w", false).unwrap().len(), 6);
        for (dims, raw) in [
            (&[2, 3][..], 20),
            (&[2, 3], 25),
            (&[-1], 4),
            (&[1 << 40, 1 << 40], 4),
            (&[i64::MAX], 4),
            (&[0, 1 << 40], 0),
        ] {
            let e = Constant::decode(&t(dims, raw), "w", false).unwrap_err().to_string();
            assert!(e.starts_with("tensor `w`: expected"), "{e}");
        }
        let half = messages::Tensor { data_type: Some(10), ..t(&[1], 2) };
        assert!(Constant::decode(&half, "w", false).unwrap_err().to_string().ends_with("found f16"));
        let outside = messages::Tensor { data_location: Some(1), ..t(&[1], 4) };
        assert!(Constant::decode(&outside, "w", false).unwrap_err().to_string().contains("external_data=False"));
    }
}
