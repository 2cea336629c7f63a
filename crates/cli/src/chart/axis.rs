//! Axes: their ends, round marks, and how the numbers on them are written.

use super::Unit;

/// A range of values and the marks on it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Axis {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) log: bool,
    pub(crate) ticks: Vec<f64>,
    /// The distance between ticks; 0 if it varies.
    pub(crate) step: f64,
}

impl Axis {
    /// Where a value lies between the ends, from 0 to 1.
    pub(crate) fn place(&self, v: f64) -> f64 {
        match self.log {
            true => (v / self.low).log10() / (self.high / self.low).log10(),
            false => (v - self.low) / (self.high - self.low),
        }
    }

    /// An axis of values with round ends.
    pub(super) fn linear(low: f64, high: f64, from_zero: bool, unit: Unit) -> Self {
        let low = if from_zero { low.min(0.0) } else { low };
        let spread = high - low;
        // Values that are all the same stand in the middle.
        let (low, high) = match spread > 1e-9 * high.abs().max(1e-30) {
            true => (low, high),
            false if high == 0.0 => (0.0, 1.0),
            false => (high - high.abs() / 2.0, high + high.abs() / 2.0),
        };
        let step = round_step((high - low) / 4.0);
        let (low, high) = ((low / step + 1e-9).floor() * step, (high / step - 1e-9).ceil() * step);
        let high = if unit == Unit::Share { high.min(1.0).max(low + step) } else { high };
        Self { low, high, log: false, ticks: multiples(low, high, step), step }
    }

    /// An axis of values of several orders, its ends at powers of ten or at twice or five times one.
    pub(super) fn log(low: f64, high: f64) -> Self {
        let parts = |decade: i32| [1.0, 2.0, 5.0].map(|m| m * 10f64.powi(decade));
        let decades = (low.log10().floor() as i32)..=(high.log10().floor() as i32 + 1);
        let marks: Vec<f64> = decades.flat_map(parts).collect();
        let low = marks.iter().copied().rfind(|&m| m <= low * (1.0 + 1e-9)).unwrap_or(low);
        let high = marks.iter().copied().find(|&m| m >= high * (1.0 - 1e-9)).unwrap_or(high);
        let inside: Vec<f64> = marks.into_iter().filter(|&m| m >= low && m <= high).collect();
        let tens: Vec<f64> = inside.iter().copied().filter(|m| (m.log10() - m.log10().round()).abs() < 1e-9).collect();
        // Of few decades 2 and 5 have marks too; of many every second, third, … has one.
        let every = tens.len().div_ceil(6).max(1);
        let ticks = if tens.len() < 3 { inside } else { tens.into_iter().step_by(every).collect() };
        Self { low, high, log: true, ticks, step: 0.0 }
    }

    /// An axis with these ends.
    pub(super) fn between((low, high): (f64, f64)) -> Self {
        let step = round_step((high - low) / 4.0);
        Self { low, high, log: false, ticks: multiples((low / step - 1e-9).ceil() * step, high, step), step }
    }

    /// An axis of steps or epochs, from the first to the last.
    pub(super) fn steps(low: f64, high: f64) -> Self {
        let (low, high) = if low < high { (low, high) } else { (low - 1.0, high + 1.0) };
        let step = round_step((high - low) / 4.5).max(1.0);
        Self { low, high, log: false, ticks: multiples((low / step).ceil() * step, high, step), step }
    }
}

fn multiples(first: f64, last: f64, step: f64) -> Vec<f64> {
    let count = ((last - first) / step + 1e-9).floor().max(0.0) as usize;
    (0..=count).map(|i| first + i as f64 * step).collect()
}

/// The next of 1, 2 and 5 times a power of ten.
fn round_step(least: f64) -> f64 {
    let ten = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0].map(|m| m * ten).into_iter().find(|&m| m >= least * (1.0 - 1e-9)).unwrap_or(10.0 * ten)
}

/// A number of an axis whose marks are `step` apart, with as many places as that takes.
pub(crate) fn label(v: f64, unit: Unit, step: f64) -> String {
    let (v, step, end) = if unit == Unit::Share { (100.0 * v, 100.0 * step, " %") } else { (v, step, "") };
    let v = if v.abs() < 1e-9 * step { 0.0 } else { v };
    // A zero among small numbers needs no places.
    if v == 0.0 && step < 1e-3 {
        return format!("0{end}");
    }
    let size = v.abs().max(step);
    // By the step, so that the marks of an axis are of one form.
    if v != 0.0 && (size >= 1e5 || size < 1e-3 && step < 2e-4) {
        let text = format!("{v:.1e}");
        return format!("{}{end}", text.replace(".0e", "e"));
    }
    if v >= 1e4 && (v / 1e3).fract() == 0.0 {
        return format!("{}k{end}", v / 1e3);
    }
    let least = if step > 0.0 { step } else { v.abs() };
    let places = (-least.log10() - 1e-9).ceil().clamp(0.0, 6.0) as usize;
    format!("{v:.places$}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_marks() {
        let axis = Axis::linear(0.012, 0.47, true, Unit::Number);
        assert_eq!((axis.low, axis.high, axis.ticks.len()), (0.0, 0.6000000000000001, 4));
        let axis = Axis::linear(0.961, 0.987, false, Unit::Share);
        let texts: Vec<_> = axis.ticks.iter().map(|&v| label(v, Unit::Share, axis.step)).collect();
        assert_eq!(texts, ["96 %", "97 %", "98 %", "99 %"]);
        // No share is above 1, and equal values have room on both sides.
        assert_eq!(Axis::linear(0.3, 0.999, false, Unit::Share).high, 1.0);
        let axis = Axis::linear(0.1, 0.1, false, Unit::Number);
        assert!(axis.low < 0.1 && axis.high > 0.1 && axis.ticks.len() > 2);
        assert_eq!(Axis::steps(1.0, 4.0).ticks, [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(Axis::steps(50.0, 350.0).ticks, [100.0, 200.0, 300.0]);
        assert_eq!(Axis::steps(3.0, 3.0).ticks, [2.0, 3.0, 4.0]);
        let axis = Axis::log(0.004, 2.3);
        assert_eq!((axis.low, axis.high), (0.002, 5.0));
        assert_eq!(axis.ticks.iter().map(|&v| label(v, Unit::Number, 0.0)).collect::<Vec<_>>(), ["0.01", "0.1", "1"]);
        assert!(axis.place(axis.low) == 0.0 && (axis.place(axis.high) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn labels_are_short() {
        for (v, step, text) in [
            (0.0, 0.2, "0.0"),
            (0.25, 0.05, "0.25"),
            (12.0, 2.0, "12"),
            (20_000.0, 5_000.0, "20k"),
            (2e-5, 1e-5, "2e-5"),
            (0.0, 1e-5, "0"),
            (1.5e-6, 5e-7, "1.5e-6"),
            (5e-4, 5e-4, "0.0005"),
            (1.5e-3, 5e-4, "0.0015"),
        ] {
            assert_eq!(label(v, Unit::Number, step), text, "{v}");
        }
    }
}
