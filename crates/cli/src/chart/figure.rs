//! Figures: rows of charts with one legend below, laid out as a [`Drawing`], which is written as SVG and as PNG.

use super::drawing::{Anchor, Color, Drawing, Shape};
use super::{Chart, Ink, Laid};
use crate::out::name;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// The size of a chart, the room around its lines, and the height of a row of the legend.
const PANEL: (f64, f64) = (420.0, 300.0);
const LEFT: f64 = 68.0;
const TOP: f64 = 32.0;
const RIGHT: f64 = 14.0;
const BELOW: f64 = 46.0;
const LEGEND: f64 = 22.0;
/// The width of a letter of a legend, or less.
const LETTER: f64 = 7.0;
const EDGE: Color = [153, 153, 153];
const GRID: Color = [229, 229, 229];
/// Colours that people with colour-blindness tell apart (Okabe and Ito).
const RUNS: [Color; super::COLORS] = [
    [0, 114, 178],
    [213, 94, 0],
    [0, 158, 115],
    [204, 121, 167],
    [230, 159, 0],
    [86, 180, 233],
    [0, 0, 0],
    [148, 103, 60],
];
/// From blue over green to yellow, at equal distances: marks of the map "viridis".
const DEPTHS: [Color; 5] = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];

fn color(ink: Ink) -> Color {
    match ink {
        Ink::Main => RUNS[0],
        Ink::Quiet => [130, 130, 130],
        Ink::Run(i) => RUNS[i % RUNS.len()],
        Ink::Depth(t) => {
            let place = t.clamp(0.0, 1.0) * (DEPTHS.len() - 1) as f64;
            let below = (place as usize).min(DEPTHS.len() - 2);
            let (from, to, share) = (DEPTHS[below], DEPTHS[below + 1], place - below as f64);
            std::array::from_fn(|i| (f64::from(from[i]) * (1.0 - share) + f64::from(to[i]) * share).round() as u8)
        }
    }
}

/// Rows of charts with one legend below.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figure {
    pub(crate) rows: Vec<Vec<Chart>>,
}

impl Figure {
    /// Whether there is no number to draw.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.iter().flatten().all(Chart::is_empty)
    }

    /// The label, ink and dashes of each kind of line, once.
    fn legend(&self) -> Vec<(&str, Ink, bool)> {
        let mut seen = Vec::new();
        for line in self.rows.iter().flatten().flat_map(|chart| &chart.lines) {
            let entry = (line.label.as_str(), line.ink, line.dashed);
            if !line.label.is_empty() && !seen.contains(&entry) {
                seen.push(entry);
            }
        }
        seen
    }

    /// The figure as SVG.
    pub(crate) fn svg(&self) -> String {
        self.drawing().svg()
    }

    /// Draws the figure.
    fn drawing(&self) -> Drawing {
        let width = PANEL.0 * self.rows.iter().map(Vec::len).max().unwrap_or(1).max(1) as f64;
        let charts = PANEL.1 * self.rows.len().max(1) as f64;
        let mut shapes = Vec::new();
        for (j, row) in self.rows.iter().enumerate() {
            let wide = width / row.len().max(1) as f64;
            for (i, chart) in row.iter().enumerate() {
                Panel { left: wide * i as f64, top: PANEL.1 * j as f64, wide }.draw(chart, &mut shapes);
            }
        }
        // Rows of the legend that hold its entries.
        let (mut x, mut row) = (12.0, 0.0);
        let legend = self.legend();
        for &(label, ink, dashed) in &legend {
            let wide = 40.0 + LETTER * label.chars().count() as f64;
            if x > 12.0 && x + wide > width {
                (x, row) = (12.0, row + 1.0);
            }
            let y = charts + row * LEGEND + 10.0;
            let dashes = dashed.then_some([6.0, 3.0]);
            shapes.push(Shape::Line { points: vec![[x, y], [x + 24.0, y]], color: color(ink), width: 2.0, dashes });
            shapes.push(Shape::Text {
                place: [x + 30.0, y + 4.5],
                size: 13.0,
                anchor: Anchor::Start,
                upward: false,
                text: name(label),
            });
            x += wide;
        }
        let height = charts + if legend.is_empty() { 0.0 } else { (row + 1.0) * LEGEND + 4.0 };
        Drawing { size: [width, height], shapes }
    }

    /// Where [`write`](Self::write) puts its files.
    pub(crate) fn paths(stem: &Path) -> [PathBuf; 2] {
        // Not `with_extension`: a stem may have dots of its own.
        [".svg", ".png"].map(|end| {
            let mut path = stem.as_os_str().to_owned();
            path.push(end);
            PathBuf::from(path)
        })
    }

    /// Writes `stem.svg` and `stem.png`.
    pub(crate) fn write(&self, stem: &Path) -> Result<[PathBuf; 2]> {
        let drawing = self.drawing();
        let paths = Self::paths(stem);
        let image = drawing.png().with_context(|| paths[1].display().to_string())?;
        for (path, data) in paths.iter().zip([drawing.svg().as_bytes(), &image]) {
            fixnet::train::run::write(path, data)?;
        }
        Ok(paths)
    }
}

/// The place of one chart in a figure.
struct Panel {
    left: f64,
    top: f64,
    wide: f64,
}

impl Panel {
    /// Left, top, width and height of the box around the lines.
    fn inner(&self) -> [f64; 4] {
        [self.left + LEFT, self.top + TOP, self.wide - LEFT - RIGHT, PANEL.1 - TOP - BELOW]
    }

    fn draw(&self, chart: &Chart, shapes: &mut Vec<Shape>) {
        let [left, top, width, height] = self.inner();
        let middle = left + width / 2.0;
        let text = |place, size, upward, text| Shape::Text { place, size, anchor: Anchor::Middle, upward, text };
        shapes.push(text([middle, self.top + 20.0], 15.0, false, name(&chart.title)));
        let corners =
            [[left, top], [left + width, top], [left + width, top + height], [left, top + height], [left, top]];
        shapes.push(Shape::Line { points: corners.to_vec(), color: EDGE, width: 1.0, dashes: None });
        shapes.push(text([middle, self.top + PANEL.1 - 8.0], 12.0, false, chart.x.into()));
        shapes.push(text([self.left + 14.0, top + height / 2.0], 12.0, true, name(&chart.y)));
        if let Some(laid) = chart.laid() {
            self.marks(&laid, shapes);
            self.lines(&laid, shapes);
        }
    }

    /// The marks of both axes, with their numbers.
    fn marks(&self, Laid { x, y, x_labels, y_labels, .. }: &Laid, shapes: &mut Vec<Shape>) {
        let [left, top, width, height] = self.inner();
        let line = |from: [f64; 2], to: [f64; 2], color| Shape::Line {
            points: vec![from, to],
            color,
            width: 1.0,
            dashes: None,
        };
        let text =
            |place, anchor, text: &String| Shape::Text { place, size: 12.0, anchor, upward: false, text: text.clone() };
        for (&v, label) in y.ticks.iter().zip(y_labels) {
            let at = top + height * (1.0 - y.place(v));
            shapes.push(line([left, at], [left + width, at], GRID));
            shapes.push(text([left - 6.0, at + 4.0], Anchor::End, label));
        }
        for (&v, label) in x.ticks.iter().zip(x_labels) {
            let at = left + width * x.place(v);
            shapes.push(line([at, top + height], [at, top + height + 4.0], EDGE));
            shapes.push(text([at, top + height + 18.0], Anchor::Middle, label));
        }
    }

    /// The lines of a chart; bands lie below all of them.
    fn lines(&self, Laid { x, y, lines, .. }: &Laid, shapes: &mut Vec<Shape>) {
        let [left, top, width, height] = self.inner();
        let place = |(u, v): (f64, f64)| [left + width * x.place(u), top + height * (1.0 - y.place(v))];
        for line in lines.iter().filter(|line| !line.band.is_empty() && line.points.len() > 1) {
            let border = |upper: bool| {
                line.points.iter().zip(&line.band).map(move |(p, b)| (p.0, if upper { b.1 } else { b.0 }))
            };
            let points = border(true).chain(border(false).rev()).map(place).collect();
            shapes.push(Shape::Area { points, color: color(line.ink), opacity: 0.18 });
        }
        for line in lines {
            let color = color(line.ink);
            let points: Vec<[f64; 2]> = line.points.iter().copied().map(place).collect();
            if points.len() < 3 || line.dots {
                shapes.extend(points.iter().map(|&place| Shape::Dot { place, radius: 3.0, color }));
            }
            if points.len() > 1 && !line.dots {
                let (width, dashes) = if line.dashed { (1.0, Some([5.0, 4.0])) } else { (2.0, None) };
                shapes.push(Shape::Line { points, color, width, dashes });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::{Line, Scale};

    /// Names of runs and layers may have characters that an SVG does not take, or that command a terminal.
    #[test]
    fn names_with_control_characters_are_drawn() {
        let odd = "a\u{1b}[31m\u{9b}\u{202e}\u{0}\n\u{ffff}<";
        let line = Line { label: odd.into(), points: vec![(1.0, 2.0), (2.0, 3.0)], ..Line::default() };
        let chart = Chart { title: odd.into(), x: "step", y: odd.into(), lines: vec![line], ..Chart::default() };
        let drawing = Figure { rows: vec![vec![chart]] }.drawing();
        let svg = drawing.svg();
        assert_eq!(svg.matches("\\u001b[31m\\u009b\\u202e\\u0000\\u000a\\uffff&lt;").count(), 3, "{svg}");
        assert!(!svg.contains(fixnet::train::text::commands));
        drawing.png().unwrap();
    }

    #[test]
    fn a_figure_of_odd_lines_is_drawn() {
        let line =
            |points: &[(f64, f64)]| Line { label: "a < b & c".into(), points: points.to_vec(), ..Line::default() };
        let lines = vec![line(&[]), line(&[(1.0, 0.0)]), line(&[(1.0, f64::NAN), (2.0, 3.0), (3.0, 3.0)])];
        for scale in [Scale::Linear, Scale::Log] {
            let chart = Chart { title: "γ".into(), x: "step", scale, lines: lines.clone(), ..Chart::default() };
            let figure = Figure { rows: vec![vec![chart.clone(), Chart::default()], vec![chart]] };
            let svg = figure.svg();
            assert!(svg.starts_with("<svg") && svg.contains("a &lt; b &amp; c") && svg.ends_with("</svg>"));
            let png = figure.drawing().png().unwrap();
            let image = image::load_from_memory(&png).unwrap().into_rgb8();
            assert_eq!(image.width(), 2 * 2 * PANEL.0 as u32);
            // Letters are there: some pixels are black.
            assert!(image.pixels().any(|p| p.0 == [0, 0, 0]));
        }
        assert!(Figure::default().svg().contains("<svg"));
    }

    #[test]
    fn many_lines_have_tones_of_one_scale() {
        assert_eq!([Ink::of(0, 8), Ink::of(7, 8)].map(color), [[0x00, 0x72, 0xb2], [0x94, 0x67, 0x3c]]);
        assert_eq!(
            [Ink::of(0, 9), Ink::of(4, 9), Ink::of(8, 9)].map(color),
            [[0x44, 0x01, 0x54], [0x21, 0x91, 0x8c], [0xfd, 0xe7, 0x25]]
        );
    }
}
