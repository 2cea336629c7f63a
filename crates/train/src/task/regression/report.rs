//! What a report shows of regression: predictions against the truth, what is left of it, and the largest errors.

use super::super::{Element, Scatter, Section, Table, Unit};
use fixnet_data::{Dataset, Numbers};

/// How many points a chart has, at most.
const POINTS: usize = 800;
/// How many rows the table of the largest errors has.
const LARGEST: usize = 10;

/// The section of the test samples; `pairs` are prediction and truth of each.
pub(super) fn section(target: &str, test: &Dataset<Numbers>, pairs: &[(f64, f64)]) -> Section {
    let every = pairs.len().div_ceil(POINTS).max(1);
    let shown = || pairs.iter().step_by(every).copied();
    let count = shown().count();
    let of = match every {
        1 => format!("{}, {count} {}", test.name, test.noun()),
        _ => format!("{}, {count} of {} {}", test.name, pairs.len(), test.noun()),
    };
    let ends = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (v.min(low), v.max(high)))
    };
    let (low, high) = ends(&mut shown().map(|(_, truth)| truth));
    let (least, most) = ends(&mut shown().map(|(found, _)| found));
    let prediction = Scatter {
        title: format!("{target}: prediction against truth"),
        about: format!("Up: the prediction; on the line it is right. {of}."),
        x: "truth",
        points: shown().map(|(found, truth)| (truth, found)).collect(),
        line: [(low, low), (high, high)],
    };
    let residuals = Scatter {
        title: format!("{target}: residuals"),
        about: "Up: truth less prediction.".into(),
        x: "prediction",
        points: shown().map(|(found, truth)| (found, truth - found)).collect(),
        line: [(least, 0.0), (most, 0.0)],
    };
    let elements =
        vec![Element::Scatter(prediction), Element::Scatter(residuals), Element::Table(largest(test, pairs))];
    Section { title: format!("Test {}", test.noun()), elements }
}

/// The samples whose predictions are farthest off.
fn largest(test: &Dataset<Numbers>, pairs: &[(f64, f64)]) -> Table {
    let error = |i: usize| (pairs[i].0 - pairs[i].1).abs();
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    order.sort_by(|&a, &b| error(b).total_cmp(&error(a)));
    order.truncate(LARGEST);
    let row = |i: usize| {
        let (found, truth) = pairs[i];
        let numbers = [truth, found, truth - found].map(|v| Unit::Quantity.text(v));
        std::iter::once(i.to_string()).chain(numbers).collect()
    };
    let sample = test.noun().trim_end_matches('s');
    let columns = [sample, "truth", "prediction", "truth − prediction"].map(|head| (head.to_string(), true));
    Table { title: "Largest errors".into(), columns: columns.to_vec(), rows: order.into_iter().map(row).collect() }
}
