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
    /// The place of the axis of the batch among those of the file, were it alone. In memory it is the first one.
    pub(super) batch: usize,
    /// Which axis of a sample the file has together with that of the batch, as one.
    pub(super) joined: Option<Joined>,
}

/// The neighbour of the axis of the batch that a file has as one with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Joined {
    /// The axis before it: all tokens of all samples.
    Before,
    /// The axis behind it: all heads of all samples.
    After,
}

impl Act {
    pub(super) fn plain(value: usize, dims: Vec<usize>) -> Self {
        let order = (0..dims.len()).collect();
        Self { value, dims, order, image: None, batch: 0, joined: None }
    }

    pub(super) fn in_order(value: usize, dims: Vec<usize>, order: Vec<usize>) -> Self {
        Self { value, dims, order, image: None, batch: 0, joined: None }
    }

    /// The same value with the axis of the batch where `like` has it.
    pub(super) fn placed_as(self, like: &Self) -> Self {
        Self { batch: like.batch, joined: like.joined, ..self }
    }

    /// The number in a sample of each axis of the file; `None` for the axis of the batch, alone or joined.
    pub(super) fn file_axes(&self) -> Vec<Option<usize>> {
        let mut axes: Vec<Option<usize>> = (0..self.dims.len()).map(Some).collect();
        axes.insert(self.batch.min(axes.len()), None);
        match self.joined {
            Some(Joined::Before) if self.batch > 0 => drop(axes.remove(self.batch - 1)),
            Some(Joined::After) if self.batch + 1 < axes.len() => drop(axes.remove(self.batch + 1)),
            _ => {}
        }
        axes
    }

    /// The number of an axis in a sample that is one with that of the batch.
    pub(super) fn joined_axis(&self) -> Option<usize> {
        match self.joined? {
            Joined::Before => self.batch.checked_sub(1),
            Joined::After => Some(self.batch).filter(|&axis| axis < self.dims.len()),
        }
    }

    /// Whether the last axis of the file is one of a sample alone.
    pub(super) fn ends_in_sample(&self) -> bool {
        self.file_axes().last().is_some_and(|axis| *axis == self.dims.len().checked_sub(1) && axis.is_some())
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
        let tokens = Act { batch: 1, joined: Some(Joined::Before), ..Act::plain(0, vec![5, 8]) };
        assert_eq!(
            (tokens.file_axes(), tokens.joined_axis(), tokens.ends_in_sample()),
            (vec![None, Some(1)], Some(0), true)
        );
        let heads = Act { batch: 1, joined: Some(Joined::After), ..Act::plain(0, vec![5, 2]) };
        assert_eq!(
            (heads.file_axes(), heads.joined_axis(), heads.ends_in_sample()),
            (vec![Some(0), None], Some(1), false)
        );
        let act = Act::in_order(0, vec![2, 4, 3], vec![1, 2, 0]);
        assert_eq!((act.stored(), act.place(0), act.place(1), act.place(3)), (vec![4, 3, 2], 0, 3, 2));
    }
}
