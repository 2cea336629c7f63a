//! Drawings of the report as SVG: lines over steps or epochs, and matrices of counts. Colours are classes of the style
//! sheet, so that they follow light and dark.

use fixnet::train::task::Matrix;
use maud::{Markup, html};
use serde_json::json;
use std::fmt::Write;

/// Size of a chart in units of its view, which are about pixels.
const SIZE: (f64, f64) = (360.0, 225.0);
/// Room above, right of and below the lines.
const TOP: f64 = 10.0;
const RIGHT: f64 = 14.0;
const BELOW: f64 = 42.0;
/// The width of a digit of a label.
const DIGIT: f64 = 6.6;
/// A line of more points is thinned to about this many.
const POINTS: usize = 600;

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Ink {
    /// The accent: what the chart is about.
    Main,
    /// What stands behind it.
    Quiet,
    /// One of several runs.
    Run(usize),
    /// One of several layers: where it is in the network, 0 to 1.
    Depth(f64),
}

/// How many colours there are for runs.
const COLORS: usize = 8;

impl Ink {
    pub(super) fn class(self) -> String {
        match self {
            Self::Main => "ink-main".into(),
            Self::Quiet => "ink-quiet".into(),
            Self::Run(i) => format!("ink-{}", i % COLORS),
            Self::Depth(_) => "ink-depth".into(),
        }
    }

    pub(super) fn style(self) -> Option<String> {
        match self {
            Self::Depth(t) => Some(format!("--t:{:.0}%", 100.0 * t)),
            _ => None,
        }
    }
}

/// A line of a chart.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) label: String,
    pub(super) ink: Ink,
    pub(super) dashed: bool,
    pub(super) points: Vec<(f64, f64)>,
}

/// How numbers of an axis are written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Unit {
    Number,
    /// Shares, as percent.
    Share,
}

/// Lines over one axis.
#[derive(Debug, Clone)]
pub(super) struct Chart {
    pub(super) title: String,
    /// A sentence below it.
    pub(super) about: String,
    /// What is to the right.
    pub(super) x: &'static str,
    pub(super) unit: Unit,
    /// Whether the axis of values begins at 0 where it is not logarithmic.
    pub(super) from_zero: bool,
    /// Whether it may be logarithmic; it then is where values are of several orders.
    pub(super) orders: bool,
    pub(super) lines: Vec<Line>,
}

impl Chart {
    /// A chart, or nothing if there is no number to draw.
    pub(super) fn draw(&self) -> Option<Markup> {
        let kept: Vec<Line> = self
            .lines
            .iter()
            .map(|line| {
                let finite = line.points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite());
                Line { points: thin(finite.collect()), ..line.clone() }
            })
            .filter(|line| !line.points.is_empty())
            .collect();
        let bounds = |f: fn(&(f64, f64)) -> f64| {
            let all = kept.iter().flat_map(|line| line.points.iter().map(f));
            all.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
        };
        let ((x_low, x_high), (y_low, y_high)) = (bounds(|p| p.0), bounds(|p| p.1));
        if x_low > x_high {
            return None;
        }
        let log = self.orders && y_low > 0.0 && y_high / y_low > 30.0;
        let ys = if log { Axis::log(y_low, y_high) } else { Axis::linear(y_low, y_high, self.from_zero, self.unit) };
        let xs = Axis::steps(x_low, x_high);
        let labels: Vec<String> = ys.ticks.iter().map(|&v| label(v, self.unit, ys.step)).collect();
        let left = 12.0 + DIGIT * labels.iter().map(|t| t.chars().count()).max().unwrap_or(1) as f64;
        let (width, height) = (SIZE.0 - left - RIGHT, SIZE.1 - TOP - BELOW);
        let px = |x: f64| left + width * xs.place(x);
        let py = |y: f64| TOP + height * (1.0 - ys.place(y));
        let data = json!({
            "x": [xs.low, xs.high], "y": [ys.low, ys.high], "log": log, "frame": [left, TOP, width, height],
            "unit": if self.unit == Unit::Share { "%" } else { "" }, "axis": self.x,
            "lines": kept.iter().map(|l| json!({
                "label": l.label, "ink": l.ink.class(), "style": l.ink.style(), "points": l.points.iter()
                    .map(|p| [p.0, rounded(p.1)]).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
        });
        let spoken = format!("{}, {} lines over {}s", self.title, kept.len(), self.x);
        Some(html! {
            figure.chart {
                figcaption {
                    h4 { (self.title) }
                    p { (self.about) @if log { " Logarithmic." } }
                }
                svg viewBox=(format!("0 0 {} {}", SIZE.0, SIZE.1)) role="img" aria-label=(spoken)
                    data-chart=(data.to_string()) {
                    @for (&v, text) in ys.ticks.iter().zip(&labels) {
                        line.grid x1=(fixed(left)) x2=(fixed(left + width)) y1=(fixed(py(v))) y2=(fixed(py(v))) {}
                        text.tick x=(fixed(left - 6.0)) y=(fixed(py(v) + 4.0)) text-anchor="end" { (text) }
                    }
                    @for &v in &xs.ticks {
                        line.tick x1=(fixed(px(v))) x2=(fixed(px(v))) y1=(fixed(TOP + height)) y2=(fixed(TOP + height + 4.0)) {}
                        text.tick x=(fixed(px(v))) y=(fixed(TOP + height + 17.0)) text-anchor="middle" {
                            (label(v, Unit::Number, xs.step))
                        }
                    }
                    text.axis x=(fixed(left + width / 2.0)) y=(fixed(SIZE.1 - 6.0)) text-anchor="middle" { (self.x) }
                    @for l in &kept {
                        g.line.dashed[l.dashed].(l.ink.class()) style=[l.ink.style()] {
                            @if l.points.len() > 1 { path d=(path(&l.points, px, py)) {} }
                            @if l.points.len() <= 16 {
                                @for &(x, y) in &l.points { circle cx=(fixed(px(x))) cy=(fixed(py(y))) r="2.4" {} }
                            }
                        }
                    }
                }
            }
        })
    }
}

/// A range of values and the marks on it.
#[derive(Debug, Clone, PartialEq)]
struct Axis {
    low: f64,
    high: f64,
    log: bool,
    ticks: Vec<f64>,
    /// The distance between ticks; 0 if it varies.
    step: f64,
}

impl Axis {
    fn place(&self, v: f64) -> f64 {
        match self.log {
            true => (v / self.low).log10() / (self.high / self.low).log10(),
            false => (v - self.low) / (self.high - self.low),
        }
    }

    /// An axis of values with round ends.
    fn linear(low: f64, high: f64, from_zero: bool, unit: Unit) -> Self {
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
    fn log(low: f64, high: f64) -> Self {
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

    /// An axis of steps or epochs, from the first to the last.
    fn steps(low: f64, high: f64) -> Self {
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
fn label(v: f64, unit: Unit, step: f64) -> String {
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

/// Coordinates have one place.
fn fixed(v: f64) -> String {
    format!("{v:.1}")
}

/// Five digits are enough to be told.
fn rounded(v: f64) -> f64 {
    format!("{v:.4e}").parse().unwrap_or(v)
}

fn path(points: &[(f64, f64)], px: impl Fn(f64) -> f64, py: impl Fn(f64) -> f64) -> String {
    let mut d = String::new();
    for (i, &(x, y)) in points.iter().enumerate() {
        let command = if i == 0 { 'M' } else { 'L' };
        // A String takes all that is written.
        let _ = write!(d, "{command}{:.1} {:.1}", px(x), py(y));
    }
    d
}

/// Of a long line the lowest and the highest point of each of equal parts, in their order.
fn thin(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    if points.len() <= POINTS {
        return points;
    }
    let part = points.len().div_ceil(POINTS / 2);
    let mut out = Vec::with_capacity(POINTS + 1);
    for chunk in points.chunks(part) {
        let extreme = |less: fn(f64, f64) -> bool| {
            (0..chunk.len()).fold(0, |best, i| if less(chunk[i].1, chunk[best].1) { i } else { best })
        };
        let (low, high) = (extreme(|a, b| a < b), extreme(|a, b| a > b));
        out.push(chunk[low.min(high)]);
        if low != high {
            out.push(chunk[low.max(high)]);
        }
    }
    // A line ends where it ends.
    if out.last() != points.last() {
        out.extend(points.last());
    }
    out
}

/// The longest name of a class that is written beside a matrix, in letters.
const NAME: usize = 14;

/// What is written beside the row of a class: its number, and its name if that is another.
fn row_label(class: usize, name: &str) -> String {
    let number = class.to_string();
    match name.chars().count() {
        _ if name == number => number,
        0..=NAME => format!("{name} {number}"),
        _ => format!("{}… {number}", name.chars().take(NAME - 1).collect::<String>()),
    }
}

/// A matrix of counts: rows are labels, columns predictions, and the tone is the share of the row. There is one name per
/// class.
pub(super) fn matrix(matrix: &Matrix) -> Markup {
    let (names, n) = (&matrix.names, matrix.names.len());
    let labels: Vec<String> = names.iter().enumerate().map(|(class, name)| row_label(class, name)).collect();
    // Shares are written where there is room for them; of many classes not every one has its number beside it.
    let (cell, every, written) = if n <= 20 { (30.0, 1, true) } else { (8.0, n.div_ceil(200) * 10, false) };
    let longest = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
    let (edge, top) = (12.0 + 7.0 * longest as f64, 12.0 + 7.0 * n.saturating_sub(1).to_string().len() as f64);
    let (width, height) = (edge + n as f64 * cell, top + n as f64 * cell);
    let gap = if written { 1.0 } else { 0.0 };
    html! {
        svg.matrix viewBox=(format!("0 0 {} {}", fixed(width + 1.0), fixed(height + 1.0))) role="img"
            aria-label=(format!("{} of {n} classes; the table below has its shares", matrix.title)) {
            @for i in (0..n).step_by(every) {
                text.tick x=(fixed(edge - 6.0)) y=(fixed(top + (i as f64 + 0.5) * cell + 4.0)) text-anchor="end" { (labels[i]) }
                text.tick x=(fixed(edge + (i as f64 + 0.5) * cell)) y=(fixed(top - 7.0)) text-anchor="middle" { (i) }
            }
            @for label in 0..n {
                @let row = &matrix.counts[label * n..][..n];
                @let all: u64 = row.iter().sum();
                @for predicted in 0..n {
                    @let count = row[predicted];
                    @let share = count as f64 / all.max(1) as f64;
                    // Few mistakes are to be seen as well: the tone is the root of the share.
                    @let tone = share.sqrt();
                    @let (x, y) = (edge + predicted as f64 * cell, top + label as f64 * cell);
                    @if count > 0 || written {
                        g.cell.right[label == predicted].strong[tone > 0.6] {
                            title {
                                (format!("{} taken for {}: {count} of {all} ({:.1} %)", names[label], names[predicted], 100.0 * share))
                            }
                            rect.ground x=(fixed(x)) y=(fixed(y)) width=(cell - gap) height=(cell - gap) {}
                            rect x=(fixed(x)) y=(fixed(y)) width=(cell - gap) height=(cell - gap)
                                fill-opacity=(format!("{tone:.3}")) {}
                            @if written && count > 0 {
                                text x=(fixed(x + (cell - gap) / 2.0)) y=(fixed(y + cell / 2.0 + 3.5)) text-anchor="middle" {
                                    (percent(share))
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A share in few letters: whole percents, and below one as `<1`; 100 only if it is all.
fn percent(share: f64) -> String {
    match 100.0 * share {
        p if p < 0.5 => "<1".into(),
        p if share < 1.0 => format!("{:.0}", p.min(99.0)),
        _ => "100".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_marks() {
        let axis = Axis::linear(0.012, 0.47, true, Unit::Number);
        assert_eq!((axis.low, axis.high, axis.ticks.len()), (0.0, 0.6000000000000001, 4));
        let axis = Axis::linear(0.961, 0.987, false, Unit::Share);
        let labels: Vec<_> = axis.ticks.iter().map(|&v| label(v, Unit::Share, axis.step)).collect();
        assert_eq!(labels, ["96 %", "97 %", "98 %", "99 %"]);
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
        assert_eq!([0.001, 0.012, 0.997, 1.0].map(percent), ["<1", "1", "99", "100"]);
    }

    #[test]
    fn long_lines_keep_their_extremes_and_their_end() {
        let mut points: Vec<(f64, f64)> = (0..10_000).map(|i| (f64::from(i), 1.0)).collect();
        (points[1234].1, points[7777].1) = (9.0, -9.0);
        let thinned = thin(points.clone());
        assert!(thinned.len() <= POINTS + 1, "{}", thinned.len());
        for i in [0, 1234, 7777, 9999] {
            assert!(thinned.contains(&points[i]), "{i}");
        }
        assert!(thinned.windows(2).all(|p| p[0].0 < p[1].0));
    }

    #[test]
    fn a_chart_of_nothing_is_none_and_odd_numbers_are_left_out() {
        let line = |points: &[(f64, f64)]| Line {
            label: "a < b".into(),
            ink: Ink::Depth(0.5),
            dashed: true,
            points: points.to_vec(),
        };
        let chart = |lines| Chart {
            title: "t".into(),
            about: "about".into(),
            x: "step",
            unit: Unit::Number,
            from_zero: true,
            orders: true,
            lines,
        };
        assert!(chart(vec![]).draw().is_none());
        assert!(chart(vec![line(&[]), line(&[(1.0, f64::NAN)])]).draw().is_none());
        for points in [&[(1.0, 0.0)][..], &[(1.0, 2.0), (2.0, f64::INFINITY)], &[(0.0, 1e-9), (5.0, 1e9)]] {
            let svg = chart(vec![line(points)]).draw().unwrap().into_string();
            assert!(!svg.contains("NaN") && !svg.contains("inf") && svg.contains("a &lt; b"), "{svg}");
        }
    }
}
