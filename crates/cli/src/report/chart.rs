//! Charts and matrices of the report as SVG. Colours are classes of the style sheet, so that they follow light and dark.

use crate::chart::{COLORS, Chart, Ink, Laid, Unit, fixed, path};
use fixnet::train::task::Matrix;
use maud::{Markup, html};
use serde_json::json;

/// Size of a chart in units of its view, which are about pixels.
const SIZE: (f64, f64) = (360.0, 225.0);
/// Room above, right of and below the lines.
const TOP: f64 = 10.0;
const RIGHT: f64 = 14.0;
const BELOW: f64 = 42.0;
/// The width of a digit of a label.
const DIGIT: f64 = 6.6;

/// The class of the style sheet that has the colour.
pub(super) fn class(ink: Ink) -> String {
    match ink {
        Ink::Main => "ink-main".into(),
        Ink::Quiet => "ink-quiet".into(),
        Ink::Run(i) => format!("ink-{}", i % COLORS),
        Ink::Depth(_) => "ink-depth".into(),
    }
}

/// What that class depends on.
pub(super) fn style(ink: Ink) -> Option<String> {
    match ink {
        Ink::Depth(t) => Some(format!("--t:{:.0}%", 100.0 * t)),
        _ => None,
    }
}

/// A chart, or nothing if there is no number to draw.
pub(super) fn draw(chart: &Chart) -> Option<Markup> {
    let Laid { x: xs, y: ys, lines, x_labels, y_labels } = chart.laid()?;
    let left = 12.0 + DIGIT * y_labels.iter().map(|t| t.chars().count()).max().unwrap_or(1) as f64;
    let (width, height) = (SIZE.0 - left - RIGHT, SIZE.1 - TOP - BELOW);
    let px = |x: f64| left + width * xs.place(x);
    let py = |y: f64| TOP + height * (1.0 - ys.place(y));
    let data = json!({
        "x": [xs.low, xs.high], "y": [ys.low, ys.high], "log": ys.log, "frame": [left, TOP, width, height],
        "unit": if chart.unit == Unit::Share { "%" } else { "" }, "axis": chart.x,
        "lines": lines.iter().map(|l| json!({
            "label": l.label, "ink": class(l.ink), "style": style(l.ink), "points": l.points.iter()
                .map(|p| [p.0, rounded(p.1)]).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    });
    // Between dots there is nothing to be told under the pointer.
    let dots = lines.iter().any(|line| line.dots);
    let data = (!dots).then(|| data.to_string());
    let spoken = match dots {
        true => format!("{}, points over {}", chart.title, chart.x),
        false => format!("{}, {} lines over {}s", chart.title, lines.len(), chart.x),
    };
    Some(html! {
        figure.chart {
            figcaption {
                h4 { (chart.title) }
                p { (chart.about) @if ys.log { " Logarithmic." } }
            }
            svg viewBox=(format!("0 0 {} {}", SIZE.0, SIZE.1)) role="img" aria-label=(spoken)
                data-chart=[data] {
                @for (&v, text) in ys.ticks.iter().zip(&y_labels) {
                    line.grid x1=(fixed(left)) x2=(fixed(left + width)) y1=(fixed(py(v))) y2=(fixed(py(v))) {}
                    text.tick x=(fixed(left - 6.0)) y=(fixed(py(v) + 4.0)) text-anchor="end" { (text) }
                }
                @for (&v, text) in xs.ticks.iter().zip(&x_labels) {
                    line.tick x1=(fixed(px(v))) x2=(fixed(px(v))) y1=(fixed(TOP + height)) y2=(fixed(TOP + height + 4.0)) {}
                    text.tick x=(fixed(px(v))) y=(fixed(TOP + height + 17.0)) text-anchor="middle" { (text) }
                }
                text.axis x=(fixed(left + width / 2.0)) y=(fixed(SIZE.1 - 6.0)) text-anchor="middle" { (chart.x) }
                @for l in &lines {
                    g.line.dashed[l.dashed].(class(l.ink)) style=[style(l.ink)] {
                        @if l.points.len() > 1 && !l.dots { path d=(path(l.points.iter().copied(), px, py)) {} }
                        @if l.points.len() <= 16 || l.dots {
                            @for &(x, y) in &l.points { circle cx=(fixed(px(x))) cy=(fixed(py(y))) r="2.4" {} }
                        }
                    }
                }
            }
        }
    })
}

/// Five digits are enough to be told.
fn rounded(v: f64) -> f64 {
    format!("{v:.4e}").parse().unwrap_or(v)
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

/// A matrix of counts: rows are what is, columns what was found, and the tone is the share of the row. There is one name per
/// class.
pub(super) fn matrix(matrix: &Matrix) -> Markup {
    let (names, n) = (&matrix.names, matrix.names.len());
    let rows: Vec<String> = names.iter().enumerate().map(|(class, name)| row_label(class, name)).collect();
    // Shares are written where there is room for them; of many classes not every one has its number beside it.
    let (cell, every, written) = if n <= 20 { (30.0, 1, true) } else { (8.0, n.div_ceil(200) * 10, false) };
    let longest = rows.iter().map(|label| label.chars().count()).max().unwrap_or(0);
    let (edge, top) = (12.0 + 7.0 * longest as f64, 12.0 + 7.0 * n.saturating_sub(1).to_string().len() as f64);
    let (width, height) = (edge + n as f64 * cell, top + n as f64 * cell);
    let gap = if written { 1.0 } else { 0.0 };
    html! {
        svg.matrix viewBox=(format!("0 0 {} {}", fixed(width + 1.0), fixed(height + 1.0))) role="img"
            aria-label=(format!("{} of {n} classes; the table below has its shares", matrix.title)) {
            @for i in (0..n).step_by(every) {
                text.tick x=(fixed(edge - 6.0)) y=(fixed(top + (i as f64 + 0.5) * cell + 4.0)) text-anchor="end" { (rows[i]) }
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
    use crate::chart::{Line, Scale};

    #[test]
    fn shares_are_short() {
        assert_eq!([0.001, 0.012, 0.997, 1.0].map(percent), ["<1", "1", "99", "100"]);
    }

    #[test]
    fn a_chart_of_nothing_is_none_and_odd_numbers_are_left_out() {
        let line = |points: &[(f64, f64)]| Line {
            label: "a < b".into(),
            ink: Ink::Depth(0.5),
            dashed: true,
            points: points.to_vec(),
            ..Line::default()
        };
        let chart = |lines| Chart { title: "t".into(), x: "step", scale: Scale::Orders, lines, ..Chart::default() };
        assert!(draw(&chart(vec![])).is_none());
        assert!(draw(&chart(vec![line(&[]), line(&[(1.0, f64::NAN)])])).is_none());
        for points in [&[(1.0, 0.0)][..], &[(1.0, 2.0), (2.0, f64::INFINITY)], &[(0.0, 1e-9), (5.0, 1e9)]] {
            let svg = draw(&chart(vec![line(points)])).unwrap().into_string();
            assert!(!svg.contains("NaN") && !svg.contains("inf") && svg.contains("a &lt; b"), "{svg}");
        }
    }
}
