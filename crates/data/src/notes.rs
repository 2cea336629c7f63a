//! What is odd about data that can be learned from: notes for the user, not errors.

use crate::listed::listed;
use crate::{Dataset, Fingerprints, Labels, Numbers, Split, Targets};
use std::collections::{BTreeMap, BTreeSet};

impl<T: Targets> Split<T> {
    /// Returns notes for the user on what is odd about the data: classes or columns that say nothing, test samples that are the
    /// training samples. `fingerprints` are those of the data.
    pub fn notes(&self, fingerprints: &Fingerprints) -> Vec<String> {
        let train = &self.train;
        let mut notes: Vec<String> = train.targets().note().into_iter().collect();
        notes.extend(train.note().map(String::from));
        notes.extend(constant_columns(train));
        notes.extend(counting_column(train));
        let noun = train.noun();
        if fingerprints.train == fingerprints.test {
            notes.push(format!(
                "the test {noun} are the training {noun}: how well others are predicted is not measured"
            ));
        }
        if fingerprints.validation.as_ref() == Some(&fingerprints.test) {
            notes.push(format!(
                "the test {noun} are the validation {noun}: what is chosen by these looks better than it is"
            ));
        }
        notes.extend(only_samples(train, &self.test));
        let said = |place: &str, note: String| format!("note: {place}: {note}");
        let mut notes: Vec<String> = notes.into_iter().map(|note| said(&train.name, note)).collect();
        // Few classes among test samples are nothing odd, but of equal numbers no share can be explained.
        let test = self.test.targets().groups().is_none().then(|| self.test.targets().note()).flatten();
        notes.extend(test.map(|note| said(&self.test.name, note)));
        notes
    }
}

/// Classes of one training sample and none for testing: nothing is measured of them, and where they are many, a part that is drawn
/// may be smaller than it was asked to be.
fn only_samples<T: Targets>(train: &Dataset<T>, test: &Dataset<T>) -> Option<String> {
    let (of_train, of_test) = (train.targets().groups()?, test.targets().groups()?);
    let tested: BTreeSet<u16> = of_test.iter().copied().collect();
    let mut counts = BTreeMap::<u16, usize>::new();
    of_train.iter().for_each(|&group| *counts.entry(group).or_default() += 1);
    let only = counts.iter().filter(|&(group, &count)| count == 1 && !tested.contains(group)).count();
    let (classes, noun) = (counts.len(), test.noun());
    (only > 0).then(|| {
        let count = test.len();
        format!("{only} of {classes} classes have one training sample and no test sample; the {count} test {noun} are of others")
    })
}

/// What is odd about labels.
pub(crate) fn of_labels(labels: &Labels) -> Option<String> {
    let mut occurs = vec![false; labels.classes()];
    labels.values().iter().for_each(|&label| occurs[usize::from(label)] = true);
    let found: Vec<usize> = (0..occurs.len()).filter(|&class| occurs[class]).collect();
    match found[..] {
        [one] => {
            Some(format!("all samples are of the class `{}`, so there is nothing to tell apart", labels.names()[one]))
        }
        _ if 2 * found.len() < occurs.len() => {
            let (count, all) = (found.len(), occurs.len());
            Some(format!(
                "there are {all} classes, of which {count} occur ({}); number those from 0 on",
                listed(&found)
            ))
        }
        _ => None,
    }
}

/// What is odd about numbers.
pub(crate) fn of_numbers(numbers: &Numbers) -> Option<String> {
    let values = numbers.values();
    let target = || numbers.column().map_or_else(String::new, |name| format!(" `{name}`"));
    let is_constant = values.iter().all(|value| *value == values[0]);
    is_constant.then(|| format!("the target{} is {} in all rows, so there is nothing to predict", target(), values[0]))
}

/// The numbers of a column.
fn column<T: Targets>(data: &Dataset<T>, column: usize) -> impl Iterator<Item = f32> + '_ {
    (0..data.len()).filter_map(move |i| data.row(i)).map(move |row| row[column])
}

/// What a column is called in messages.
fn called<T: Targets>(data: &Dataset<T>, column: usize) -> String {
    data.columns().map_or_else(|| column.to_string(), |names| format!("`{}`", names[column]))
}

fn constant_columns<T: Targets>(data: &Dataset<T>) -> Option<String> {
    let &[columns] = data.shape() else { return None };
    let is_constant = |k: &usize| {
        let mut numbers = column(data, *k);
        let first = numbers.next();
        numbers.all(|number| Some(number) == first)
    };
    let found: Vec<String> = (0..columns).filter(is_constant).map(|k| called(data, k)).collect();
    match found.len() {
        0 => None,
        1 => Some(format!("column {} is the same in all rows, so it says nothing", found[0])),
        n => {
            Some(format!("{n} of {columns} columns are the same in all rows, so they say nothing: {}", listed(&found)))
        }
    }
}

/// A first column that counts the rows of the file, as the index that pandas writes. Rows that were set apart leave gaps.
fn counting_column<T: Targets>(data: &Dataset<T>) -> Option<String> {
    if data.shape().len() != 1 || data.len() < 3 {
        return None;
    }
    let first: Vec<f32> = column(data, 0).collect();
    let counts = first.windows(2).all(|pair| pair[1] > pair[0]) && first.iter().all(|v| v.fract() == 0.0);
    // At most half of the rows are set apart.
    let is_index = counts
        && (0.0..=2.0 * data.len() as f32).contains(&first[0])
        && first[first.len() - 1] <= 2.0 * data.len() as f32;
    is_index.then(|| {
        format!("column {} counts the rows; leave it out if it is their number (pandas: index=False)", called(data, 0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(columns: [&str; 2], rows: Vec<f32>, labels: Vec<u16>, classes: usize) -> Dataset {
        let labels = Labels::new("t", classes, labels).unwrap();
        let data = Dataset::of_floats("t", &[2], rows, labels).unwrap();
        data.with_columns(columns.map(String::from).to_vec()).unwrap()
    }

    fn notes<T: Targets>(train: Dataset<T>, test: Dataset<T>) -> Vec<String> {
        let split = Split::new(train, test).unwrap();
        split.notes(&Fingerprints::of(&split))
    }

    #[test]
    fn what_says_nothing_is_noted() {
        let good = || table(["a", "b"], vec![3.0, 1.0, 2.0, 5.0, 9.0, 2.0], vec![0, 1, 1], 2);
        let other = || table(["a", "b"], vec![3.0, 1.0], vec![0], 2);
        assert_eq!(notes(good(), other()), [""; 0]);
        let same = notes(good(), good());
        assert!(same.len() == 1 && same[0].starts_with("note: t: the test rows are the training rows"), "{same:?}");
        let one = notes(table(["a", "b"], vec![3.0, 1.0, 2.0, 1.0], vec![1, 1], 2), other());
        assert!(one[0].contains("all samples are of the class `1`"), "{one:?}");
        assert!(one[1].contains("column `b` is the same in all rows"), "{one:?}");
        let gaps = |d: fn() -> Dataset| notes(d(), d())[0].clone();
        let wide = gaps(|| Dataset::new("g", [1, 1, 1], 901, vec![0; 4], vec![0, 900, 0, 900]).unwrap());
        assert_eq!(wide, "note: g: there are 901 classes, of which 2 occur (0, 900); number those from 0 on");
        let index = |first: [f32; 4]| {
            let rows = first.iter().zip([4.0, 1.0, 2.0, 7.0]).flat_map(|(&a, b)| [a, b]).collect();
            let names = ["Unnamed: 0", "b"];
            notes(table(names, rows, vec![0, 1, 1, 0], 2), table(names, vec![3.0, 1.0], vec![0], 2))
        };
        assert!(index([0.0, 1.0, 3.0, 4.0])[0].contains("column `Unnamed: 0` counts the rows; leave it out"));
        for other in
            [[0.0, 1.0, 1.0, 2.0], [0.0, 0.5, 1.0, 2.0], [1990.0, 1991.0, 1992.0, 1993.0], [3.0, 2.0, 1.0, 0.0]]
        {
            assert_eq!(index(other), [""; 0], "{other:?}");
        }
    }

    #[test]
    fn classes_of_one_sample_are_noted() {
        let labels: Vec<u16> = [vec![0; 10], (1..91).collect()].concat();
        let all = Dataset::new("s", [1, 1, 1], 91, (0..100).collect(), labels).unwrap();
        let (train, test) = all.apart_by_group(0.2, 1, "test").unwrap();
        let words =
            "note: s: 90 of 91 classes have one training sample and no test sample; the 5 test images are of others";
        assert_eq!(notes(train, test), [words]);
    }

    #[test]
    fn a_constant_target_and_equal_parts_are_noted() {
        let data = |target: [f64; 2]| {
            let numbers = Numbers::new("t", Some("price"), target.to_vec()).unwrap();
            Dataset::of_floats("t", &[1], vec![1.0, 7.0], numbers).unwrap()
        };
        let words = "note: t: the target `price` is 5 in all rows, so there is nothing to predict";
        assert_eq!(notes(data([5.0; 2]), data([1.0, 2.0])), [words]);
        assert_eq!(notes(data([1.0, 2.0]), data([5.0; 2])), [words]);
        let split = Split::new(data([1.0, 2.0]), data([3.0, 4.0])).unwrap();
        let split = split.with_validation_data(data([3.0, 4.0])).unwrap();
        let found = split.notes(&Fingerprints::of(&split));
        assert!(found[0].contains("the test rows are the validation rows"), "{found:?}");
    }
}
