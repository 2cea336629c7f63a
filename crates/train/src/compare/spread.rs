//! What a grid came to: mean and spread over seeds.

use super::{Grid, Outcome};
use crate::run::Ended;

/// Mean and spread of some numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The standard deviation, which divides by n - 1; one number has none.
    pub std: Option<f64>,
    /// The smallest number.
    pub min: f64,
    /// The largest number.
    pub max: f64,
}

impl Spread {
    /// Computes the spread of some numbers; there is none of no numbers.
    pub fn of(values: &[f64]) -> Option<Self> {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        let ends = |best: fn(f64, f64) -> f64| values.iter().copied().reduce(best);
        let std = (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt());
        Some(Self { mean, std, min: ends(f64::min)?, max: ends(f64::max)? })
    }

    /// Returns `mean ± std`, both times `unit`.
    pub fn text(&self, unit: f64, digits: usize) -> String {
        let mean = format!("{:.digits$}", unit * self.mean);
        self.std.map_or_else(|| mean.clone(), |std| format!("{mean} ± {:.digits$}", unit * std))
    }
}

/// A mix of the grid with all its seeds.
#[derive(Debug)]
pub struct Row<'a> {
    /// Its values in the columns of the grid.
    pub columns: &'a [String],
    /// Its finished runs.
    pub finished: Vec<&'a Ended>,
    /// How many failed.
    pub failed: usize,
    /// How many there are.
    pub total: usize,
}

impl Row<'_> {
    /// Computes the spread of a number over the finished runs.
    pub fn spread(&self, of: impl Fn(&Ended) -> Option<f64>) -> Option<Spread> {
        Spread::of(&self.finished.iter().filter_map(|run| of(run)).collect::<Vec<_>>())
    }
}

/// Returns the rows of a grid in its order.
pub fn rows<'a>(grid: &'a Grid, outcomes: &'a [Outcome]) -> Vec<Row<'a>> {
    let mut rows: Vec<Row<'a>> = Vec::new();
    for (cell, outcome) in grid.cells.iter().zip(outcomes) {
        let at = rows.iter().position(|row| row.columns == cell.columns).unwrap_or_else(|| {
            rows.push(Row { columns: &cell.columns, finished: Vec::new(), failed: 0, total: 0 });
            rows.len() - 1
        });
        rows[at].total += 1;
        match outcome {
            Outcome::Finished(ended) => rows[at].finished.push(ended),
            Outcome::Failed(_) => rows[at].failed += 1,
            Outcome::Open => {}
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_spread_by_hand() {
        // Deviations -3, -1, 1, 3: squares 20, over 3.
        let s = Spread::of(&[2.0, 4.0, 6.0, 8.0]).unwrap();
        assert_eq!((s.mean, s.std, s.min, s.max), (5.0, Some((20f64 / 3.0).sqrt()), 2.0, 8.0));
        assert_eq!(Spread::of(&[0.5]), Some(Spread { mean: 0.5, std: None, min: 0.5, max: 0.5 }));
        assert_eq!(Spread::of(&[1.0, 1.0, 1.0]).unwrap().std, Some(0.0));
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(s.text(1.0, 2), "5.00 ± 2.58");
        assert_eq!(Spread::of(&[0.985]).unwrap().text(100.0, 1), "98.5");
    }
}
