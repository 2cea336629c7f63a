//! `Act`: a value of the network, with its axes as the file has them and the order in which they lie in memory.

/// A value of the network.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Act {
    /// The number of the value; 0 is the input.
    pub(super) value: usize,
    /// The lengths of the axes in the order of the file, without that of the batch.
    pub(super) dims: Vec<usize>,
    /// For each axis in memory, the axis in the file.
    pub(super) order: Vec<usize>,
    /// Of features that were an image in another order in memory: its lengths and that order.
    pub(super) image: Option<(Vec<usize>, Vec<usize>)>,
    /// The place of the axis of the batch in the file. In memory it is the first one.
    pub(super) batch: usize,
    /// Whether the file has the axis of the batch and the first one of a sample as one, which is its first axis.
    pub(super) joined: bool,
}

impl Act {
    pub(super) fn plain(value: usize, dims: Vec<usize>) -> Self {
        let order = (0..dims.len()).collect();
        Self { value, dims, order, image: None, batch: 0, joined: false }
    }

    pub(super) fn in_order(value: usize, dims: Vec<usize>, order: Vec<usize>) -> Self {
        Self { value, dims, order, image: None, batch: 0, joined: false }
    }

    /// The lengths of the axes in memory.
    pub(super) fn stored(&self) -> Vec<usize> {
        self.order.iter().map(|&axis| self.dims[axis]).collect()
    }

    /// The place in memory of an axis of the file; that of the batch is 0 in both.
    pub(super) fn place(&self, axis: usize) -> usize {
        self.order.iter().position(|&a| a + 1 == axis).map_or(0, |place| place + 1)
    }

    /// The same axes as `value`.
    pub(super) fn with(&self, value: usize) -> Self {
        Self { value, ..self.clone() }
    }
}

/// For each place in memory the place in the file, of axes in this order.
pub(super) fn positions(dims: &[usize], order: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    for axis in (1..dims.len()).rev() {
        strides[axis - 1] = strides[axis] * dims[axis];
    }
    let mut places = vec![0];
    for &axis in order {
        places = places
            .iter()
            .flat_map(|&p| (0..dims[axis]).map(move |i| (p, i)))
            .map(|(p, i)| p + i * strides[axis])
            .collect();
    }
    places
}

/// Whether axes lie in memory as in the file, but for those of length 1, which have no place.
pub(super) fn in_file_order(dims: &[usize], order: &[usize]) -> bool {
    let long: Vec<usize> = order.iter().copied().filter(|&axis| dims[axis] != 1).collect();
    long.is_sorted()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_memory_by_hand() {
        // Two channels of an image of 1 x 3: memory has the channels of each pixel together.
        assert_eq!(positions(&[2, 1, 3], &[1, 2, 0]), [0, 3, 1, 4, 2, 5]);
        assert_eq!(positions(&[2, 1, 3], &[0, 1, 2]), [0, 1, 2, 3, 4, 5]);
        assert!(in_file_order(&[5, 1, 1], &[1, 2, 0]) && !in_file_order(&[2, 1, 3], &[1, 2, 0]));
        let act = Act::in_order(0, vec![2, 4, 3], vec![1, 2, 0]);
        assert_eq!((act.stored(), act.place(0), act.place(1), act.place(3)), (vec![4, 3, 2], 0, 3, 2));
    }
}
