//! Charts: lines over steps, epochs or values, one model of them. [`figure`] draws them as files, the report in its page.

mod axis;
mod drawing;
pub(crate) mod figure;
mod font;

pub(crate) use axis::{Axis, label};

/// A line of more points is thinned to about this many.
const POINTS: usize = 600;
/// How many colours there are for lines without an order.
pub(crate) const COLORS: usize = 8;

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) enum Ink {
    /// The accent: what the chart is about.
    #[default]
    Main,
    /// What stands behind it.
    Quiet,
    /// One of several, such as runs.
    Run(usize),
    /// One of several with an order, such as layers: where it is, 0 to 1.
    Depth(f64),
}

impl Ink {
    /// That of the `i`-th of `count` lines that have an order: tones of one scale where they are many.
    pub(crate) fn of(i: usize, count: usize) -> Self {
        if count <= COLORS { Self::Run(i) } else { Self::Depth(i as f64 / (count - 1) as f64) }
    }
}

/// A line. Those of one label share their place in a legend.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Line {
    pub(crate) label: String,
    pub(crate) ink: Ink,
    pub(crate) dashed: bool,
    pub(crate) points: Vec<(f64, f64)>,
    /// Whether its points are apart from each other: drawn as dots, without a line through them.
    pub(crate) dots: bool,
    /// Where given: the lower and the upper border at the place of each point.
    pub(crate) band: Vec<(f64, f64)>,
}

/// How numbers of an axis are written.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) enum Unit {
    #[default]
    Number,
    /// Shares, as percent.
    Share,
}

/// How the axis of values is divided.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) enum Scale {
    /// Evenly, between round numbers around the values.
    #[default]
    Linear,
    /// Evenly from 0 on.
    FromZero,
    /// By powers of ten where values are of several orders, else evenly from 0 on.
    Orders,
    /// By powers of ten; what is not above 0 is left out.
    Log,
    /// Evenly between these ends.
    Between(f64, f64),
}

/// Lines over one axis.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chart {
    pub(crate) title: String,
    /// A sentence below it, in a page.
    pub(crate) about: String,
    /// What is to the right.
    pub(crate) x: &'static str,
    /// What goes up, in a file; a page has the title for it.
    pub(crate) y: String,
    pub(crate) unit: Unit,
    pub(crate) scale: Scale,
    pub(crate) lines: Vec<Line>,
}

/// A chart with axes, ready to be drawn.
pub(crate) struct Laid {
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    /// Lines with a point at least, all of them on the axes, thinned.
    pub(crate) lines: Vec<Line>,
    /// What is written at the marks.
    pub(crate) x_labels: Vec<String>,
    pub(crate) y_labels: Vec<String>,
}

impl Chart {
    /// Whether there is no number to draw.
    pub(crate) fn is_empty(&self) -> bool {
        self.laid().is_none()
    }

    /// Lays out axes around the lines; `None` if there is no number to draw.
    pub(crate) fn laid(&self) -> Option<Laid> {
        let lines: Vec<Line> =
            self.lines.iter().map(|line| self.kept(line)).filter(|line| !line.points.is_empty()).collect();
        let across = bounds(lines.iter().flat_map(|line| line.points.iter().map(|p| p.0)))?;
        let points = lines.iter().flat_map(|line| line.points.iter().map(|p| p.1));
        let borders = lines.iter().flat_map(|line| line.band.iter().flat_map(|&(low, high)| [low, high]));
        let (low, high) = bounds(points.chain(borders))?;
        let several_orders = low > 0.0 && high / low > 30.0;
        let y = match self.scale {
            Scale::Log => Axis::log(low, high),
            Scale::Orders if several_orders => Axis::log(low, high),
            Scale::FromZero | Scale::Orders => Axis::linear(low, high, true, self.unit),
            Scale::Linear => Axis::linear(low, high, false, self.unit),
            Scale::Between(low, high) => Axis::between((low, high)),
        };
        let x = match self.x {
            "step" | "epoch" => Axis::steps(across.0, across.1),
            _ => Axis::between(across),
        };
        let texts = |axis: &Axis, unit| axis.ticks.iter().map(|&v| label(v, unit, axis.step)).collect();
        let (x_labels, y_labels) = (texts(&x, Unit::Number), texts(&y, self.unit));
        Some(Laid { x, y, lines, x_labels, y_labels })
    }

    /// A line without what cannot be drawn.
    fn kept(&self, line: &Line) -> Line {
        let fits = |v: f64| v.is_finite() && (self.scale != Scale::Log || v > 0.0);
        let drawn = |(x, y): (f64, f64)| x.is_finite() && fits(y);
        // A band is drawn along all points of its line.
        let whole =
            line.points.iter().all(|&p| drawn(p)) && line.band.iter().all(|&(low, high)| fits(low) && fits(high));
        if whole && (line.band.len() == line.points.len() || line.dots) {
            return line.clone();
        }
        Line {
            points: thin(line.points.iter().copied().filter(|&p| drawn(p)).collect()),
            band: Vec::new(),
            ..line.clone()
        }
    }
}

fn bounds(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |found, v| match found {
        None => Some((v, v)),
        Some((low, high)) => Some((v.min(low), v.max(high))),
    })
}

/// Coordinates have one place.
pub(crate) fn fixed(v: f64) -> String {
    format!("{v:.1}")
}

/// The path of a line as SVG has it.
pub(crate) fn path(
    points: impl Iterator<Item = (f64, f64)>,
    px: impl Fn(f64) -> f64,
    py: impl Fn(f64) -> f64,
) -> String {
    let point = |(i, (x, y)): (usize, (f64, f64))| {
        let command = if i == 0 { 'M' } else { 'L' };
        format!("{command}{:.1} {:.1}", px(x), py(y))
    };
    points.enumerate().map(point).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn what_cannot_be_drawn_is_left_out() {
        let chart = |scale, points: &[(f64, f64)]| {
            let lines = vec![Line { points: points.to_vec(), ..Line::default() }];
            Chart { x: "step", scale, lines, ..Chart::default() }
        };
        assert!(
            Chart::default().is_empty() && chart(Scale::Linear, &[(1.0, f64::NAN), (f64::INFINITY, 1.0)]).is_empty()
        );
        assert!(chart(Scale::Log, &[(1.0, 0.0), (2.0, -1.0)]).is_empty());
        let laid = chart(Scale::Log, &[(1.0, 0.0), (2.0, 0.5)]).laid().unwrap();
        assert_eq!((laid.lines[0].points.len(), laid.y.log), (1, true));
        // By powers of ten only over several orders.
        let log = |points: &[(f64, f64)]| chart(Scale::Orders, points).laid().unwrap().y.log;
        assert!(log(&[(1.0, 0.01), (2.0, 1.0)]) && !log(&[(1.0, 0.5), (2.0, 1.0)]) && !log(&[(1.0, 0.0), (2.0, 1.0)]));
    }
}
