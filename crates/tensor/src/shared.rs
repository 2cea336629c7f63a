//! Work that threads share. The loops of this crate come with a closure each; behind `dyn` the machinery of threads is compiled
//! once for a type of elements, not once for a loop. A call by pointer costs nothing beside a chunk of numbers.

use rayon::prelude::*;

/// What is done with a part: its number, and its elements.
pub(crate) type Body<'a, U> = dyn Fn(usize, &mut [U]) + Sync + 'a;
/// As [`Body`], with parts of two slices.
pub(crate) type Body2<'a, U, V> = dyn Fn(usize, &mut [U], &mut [V]) + Sync + 'a;

/// `f(i, part i)` for the parts of `length` elements of `x`.
pub(crate) fn parts<U: Send>(x: &mut [U], length: usize, f: &Body<'_, U>) {
    x.par_chunks_mut(length).enumerate().for_each(|(i, x)| f(i, x));
}

/// `f(i, part i of x, part i of y)` for parts of as many elements as `lengths` says.
pub(crate) fn parts2<U: Send, V: Send>((x, y): (&mut [U], &mut [V]), lengths: [usize; 2], f: &Body2<'_, U, V>) {
    let both = x.par_chunks_mut(lengths[0]).zip(y.par_chunks_mut(lengths[1]));
    both.enumerate().for_each(|(i, (x, y))| f(i, x, y));
}

/// `f(i)` for `0..count`, in index order.
pub(crate) fn each<A: Send>(count: usize, f: &(dyn Fn(usize) -> A + Sync)) -> impl Iterator<Item = A> + use<A> {
    let mut results: Vec<Option<A>> = (0..count).map(|_| None).collect();
    parts(&mut results, 1, &|i, result| result[0] = Some(f(i)));
    results.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_results_keep_their_order() {
        let mut x = [0; 7];
        let mut y = [0; 4];
        parts2((&mut x, &mut y), [2, 1], &|i, x, y| {
            x.fill(i);
            y[0] = x.len();
        });
        assert_eq!((x, y), ([0, 0, 1, 1, 2, 2, 3], [2, 2, 2, 1]));
        assert!(each(1000, &|i| i * i).eq((0..1000).map(|i| i * i)));
        assert_eq!(each(0, &|i| i).count(), 0);
    }
}
