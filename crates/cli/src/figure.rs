//! Figures: panels of lines with bands, drawn as SVG. A PNG is the same SVG, rendered with a font that the program
//! carries, so that it looks the same on every machine.

use crate::out::name;
use anyhow::{Context, Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use resvg::{tiny_skia, usvg};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

/// The size of a panel, and the height of a row of the legend.
const PANEL: (u32, u32) = (420, 300);
const LEGEND: u32 = 22;
/// Pixels of a PNG for one unit of the SVG.
const SCALE: f32 = 2.0;
/// Colours that people with colour-blindness tell apart (Okabe and Ito).
const COLORS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
    RGBColor(148, 103, 60),
];

/// The colour of the `i`-th of a few lines.
pub(crate) fn color(i: usize) -> RGBColor {
    COLORS[i % COLORS.len()]
}

/// The colour of the `i`-th of `count` lines that have an order: from blue over green to yellow where they are many.
pub(crate) fn shade(i: usize, count: usize) -> RGBColor {
    if count <= COLORS.len() {
        return color(i);
    }
    ViridisRGB::get_color_normalized(i as f64, 0.0, count as f64)
}

/// A line. Those of one label share their place in the legend.
#[derive(Debug, Clone, Default)]
pub(crate) struct Line {
    pub(crate) label: String,
    pub(crate) color: RGBColor,
    pub(crate) dashed: bool,
    pub(crate) points: Vec<(f64, f64)>,
    /// Where given: the lower and the upper border at the place of each point.
    pub(crate) band: Vec<(f64, f64)>,
}

/// Axes with lines.
#[derive(Debug, Clone, Default)]
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) x: &'static str,
    pub(crate) y: String,
    /// Powers of ten on the vertical axis; what is not above 0 is left out.
    pub(crate) log: bool,
    /// The ends of the vertical axis where they do not follow from the lines.
    pub(crate) range: Option<(f64, f64)>,
    pub(crate) lines: Vec<Line>,
}

/// Rows of panels with one legend below.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figure {
    pub(crate) rows: Vec<Vec<Panel>>,
}

type Drawn = Result<(), Box<dyn std::error::Error>>;

impl Panel {
    /// Whether there is no number to draw.
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.iter().all(|line| line.points.is_empty())
    }

    /// The lines as they are drawn.
    fn shown(&self) -> Vec<Line> {
        let log = |v: f64| if self.log { v.log10() } else { v };
        let finite = |p: &(f64, f64)| p.0.is_finite() && p.1.is_finite();
        let line = |line: &Line| {
            let points = line.points.iter().map(|&(x, y)| (x, log(y))).filter(finite).collect();
            let band = line.band.iter().map(|&(low, high)| (log(low), log(high))).collect();
            Line { points, band, ..line.clone() }
        };
        self.lines.iter().map(line).collect()
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn
    where
        B::ErrorType: 'static,
    {
        let lines = self.shown();
        let points = lines.iter().flat_map(|line| line.points.iter().copied());
        let borders = lines.iter().flat_map(|line| line.band.iter().flat_map(|&(low, high)| [low, high]));
        let (left, right) = ends(points.clone().map(|p| p.0), 0.0);
        let heights = points.map(|p| p.1).chain(borders.filter(|v| v.is_finite()));
        let (low, high) = self.range.unwrap_or_else(|| ends(heights, 0.05));
        let across = Axis { ticks: ticks(left, right, ["epoch", "step"].contains(&self.x)), ends: (left, right) };
        let ticks = if self.log { log_ticks(low, high) } else { ticks(low, high, false) };
        let up = Axis { ticks, ends: (low, high) };
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, ("sans-serif", 15))
            .margin(8)
            .x_label_area_size(34)
            .y_label_area_size(58)
            .build_cartesian_2d(across, up)?;
        let number = |v: &f64| short(if self.log { 10f64.powf(*v) } else { *v });
        chart
            .configure_mesh()
            .x_desc(self.x)
            .y_desc(&self.y)
            .x_label_formatter(&|v| short(*v))
            .y_label_formatter(&number)
            .bold_line_style(BLACK.mix(0.1))
            .draw()?;
        for line in &lines {
            let color = line.color;
            if line.band.len() == line.points.len() && line.points.len() > 1 {
                let upper = line.points.iter().zip(&line.band).map(|(p, b)| (p.0, b.1));
                let lower = line.points.iter().zip(&line.band).map(|(p, b)| (p.0, b.0)).rev();
                chart.draw_series([Polygon::new(upper.chain(lower).collect::<Vec<_>>(), color.mix(0.18))])?;
            }
        }
        for line in &lines {
            let color = line.color;
            let points = line.points.iter().copied();
            if line.dashed {
                chart.draw_series(DashedLineSeries::new(points.clone(), 5, 4, color.stroke_width(1)))?;
            } else {
                chart.draw_series(LineSeries::new(points.clone(), color.stroke_width(2)))?;
            }
            if line.points.len() < 3 {
                chart.draw_series(points.map(|p| Circle::new(p, 3, color.filled())))?;
            }
        }
        Ok(())
    }
}

/// The ends of an axis that holds `values`, with a margin.
fn ends(values: impl Iterator<Item = f64>, margin: f64) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
    match high - low {
        wide if wide > 0.0 => (low - margin * wide, high + margin * wide),
        0.0 => (low - 0.05 * low.abs().max(1e-3), high + 0.05 * high.abs().max(1e-3)),
        _ => (0.0, 1.0),
    }
}

/// An axis with its numbers.
struct Axis {
    ends: (f64, f64),
    ticks: Vec<f64>,
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;
    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        RangedCoordf64::from(self.range()).map(value, limit)
    }
    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // No finer lines between.
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.clone() }
    }
    fn range(&self) -> Range<f64> {
        self.ends.0..self.ends.1
    }
}

impl From<Axis> for Range<f64> {
    fn from(axis: Axis) -> Self {
        axis.range()
    }
}

/// Round numbers on an axis, six or fewer.
fn ticks(low: f64, high: f64, whole: bool) -> Vec<f64> {
    let rough = (high - low).max(f64::MIN_POSITIVE) / 5.0;
    let unit = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|k| k * unit).into_iter().find(|step| *step >= rough * (1.0 - 1e-9));
    let step = step.unwrap_or(rough).max(if whole { 1.0 } else { 0.0 });
    let first = (low / step - 1e-9).ceil();
    (0..6).map(|i| (first + f64::from(i)) * step).filter(|v| *v <= high + 1e-9 * step).collect()
}

/// Powers of ten, their 2- and 5-folds, or round numbers, whichever fit between two logarithms.
fn log_ticks(low: f64, high: f64) -> Vec<f64> {
    let inside = |v: &f64| (low..=high).contains(v);
    match high - low {
        few if few < 1.0 => ticks(10f64.powf(low), 10f64.powf(high), false).iter().map(|v| v.log10()).collect(),
        some if some < 3.0 => {
            let decades = (low.floor() as i32..=high.ceil() as i32).map(f64::from);
            decades.flat_map(|d| [1.0f64, 2.0, 5.0].map(|k| d + k.log10())).filter(inside).collect()
        }
        _ => ticks(low, high, true),
    }
}

/// A number on an axis, in few letters.
fn short(v: f64) -> String {
    let tidy = |text: String| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text,
    };
    let power = |v: f64| format!("{v:.1e}").replace(".0e", "e");
    match v.abs() {
        0.0 => "0".into(),
        1e6.. => power(v),
        1e4.. => format!("{}k", tidy(format!("{:.1}", v / 1e3))),
        10.0.. => tidy(format!("{v:.1}")),
        0.01.. => tidy(format!("{v:.3}")),
        small if small < 1e-12 => "0".into(),
        _ => power(v),
    }
}

impl Figure {
    /// Whether there is no number to draw.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.iter().flatten().all(Panel::is_empty)
    }

    /// The label, colour and dashes of each kind of line, once.
    fn legend(&self) -> Vec<(String, RGBColor, bool)> {
        let mut seen = Vec::new();
        for line in self.rows.iter().flatten().flat_map(|panel| &panel.lines) {
            let entry = (line.label.clone(), line.color, line.dashed);
            if !line.label.is_empty() && !seen.contains(&entry) {
                seen.push(entry);
            }
        }
        seen
    }

    /// The figure with texts that an SVG may hold: names of runs and layers may have control characters.
    fn plain(&self) -> Self {
        let mut plain = self.clone();
        for panel in plain.rows.iter_mut().flatten() {
            for text in [&mut panel.title, &mut panel.y].into_iter().chain(panel.lines.iter_mut().map(|l| &mut l.label))
            {
                *text = name(text);
            }
        }
        plain
    }

    /// The figure as SVG.
    pub(crate) fn svg(&self) -> Result<String> {
        let mut svg = String::new();
        self.plain().draw(&mut svg).map_err(|e| anyhow!("drawing: {e}"))?;
        Ok(svg)
    }

    fn draw(&self, svg: &mut String) -> Drawn {
        let width = PANEL.0 * self.rows.iter().map(Vec::len).max().unwrap_or(1).max(1) as u32;
        let legend = self.legend();
        // Rows of the legend that hold its entries; letters of this size are 7 units wide or less.
        let (mut x, mut row, mut places) = (12, 0, Vec::new());
        for (label, ..) in &legend {
            let wide = 40 + 7 * label.chars().count() as u32;
            if x > 12 && x + wide > width {
                (x, row) = (12, row + 1);
            }
            places.push((x as i32, row * LEGEND));
            x += wide;
        }
        let panels = PANEL.1 * self.rows.len().max(1) as u32;
        let below = if legend.is_empty() { 0 } else { (row + 1) * LEGEND + 4 };
        let root = SVGBackend::with_string(svg, (width, panels + below)).into_drawing_area();
        root.fill(&WHITE)?;
        let (top, bottom) = root.split_vertically(panels);
        for (area, row) in top.split_evenly((self.rows.len().max(1), 1)).iter().zip(&self.rows) {
            for (area, panel) in area.split_evenly((1, row.len().max(1))).iter().zip(row) {
                panel.draw(area)?;
            }
        }
        for ((label, color, dashed), (x, y)) in legend.iter().zip(places) {
            let y = y as i32 + 10;
            let pieces: &[(i32, i32)] = if *dashed { &[(0, 6), (9, 15), (18, 24)] } else { &[(0, 24)] };
            for (from, to) in pieces {
                bottom.draw(&PathElement::new([(x + from, y), (x + to, y)], color.stroke_width(2)))?;
            }
            bottom.draw(&Text::new(label.clone(), (x + 30, y - 6), ("sans-serif", 13)))?;
        }
        root.present()?;
        drop((top, bottom));
        Ok(())
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
        let paths = Self::paths(stem);
        let of = |path: &Path| path.display().to_string();
        let svg = self.svg().with_context(|| of(&paths[0]))?;
        let png = png(&svg).with_context(|| of(&paths[1]))?;
        for (path, data) in paths.iter().zip([svg.as_bytes(), &png]) {
            fixnet::train::run::write(path, data)?;
        }
        Ok(paths)
    }
}

/// An SVG as PNG.
fn png(svg: &str) -> Result<Vec<u8>> {
    static FONTS: LazyLock<Arc<usvg::fontdb::Database>> = LazyLock::new(|| {
        let mut fonts = usvg::fontdb::Database::new();
        fonts.load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
        let family = fonts.faces().next().and_then(|face| face.families.first()).map(|(name, _)| name.clone());
        fonts.set_sans_serif_family(family.unwrap_or_default());
        Arc::new(fonts)
    });
    let options = usvg::Options { fontdb: Arc::clone(&FONTS), ..usvg::Options::default() };
    let tree = usvg::Tree::from_str(svg, &options).context("rendering")?;
    let size = tree.size();
    let pixels = |units: f32| (units * SCALE).ceil() as u32;
    let mut image = tiny_skia::Pixmap::new(pixels(size.width()), pixels(size.height()))
        .with_context(|| format!("rendering: an image of {} x {}", size.width(), size.height()))?;
    resvg::render(&tree, tiny_skia::Transform::from_scale(SCALE, SCALE), &mut image.as_mut());
    image.encode_png().context("rendering")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_on_axes_are_short() {
        for (v, text) in [
            (0.0, "0"),
            (0.25, "0.25"),
            (12.0, "12"),
            (20_000.0, "20k"),
            (0.001, "1e-3"),
            (2.5e-5, "2.5e-5"),
            (1e-17, "0"),
        ] {
            assert_eq!(short(v), text);
        }
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(ticks(1.0, 2.0, true), [1.0, 2.0]);
        assert_eq!(ticks(1.0, 10.0, true), [2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks(-0.02, 0.5, false), [0.0, 0.2, 0.4]);
        assert_eq!(ticks(1.0, 188.0, true), [50.0, 100.0, 150.0]);
        assert_eq!(log_ticks(-6.2, 0.1), [-6.0, -4.0, -2.0, 0.0]);
        let told = |low: f64, high: f64| {
            log_ticks(low.log10(), high.log10()).iter().map(|v| short(10f64.powf(*v))).collect::<Vec<_>>()
        };
        assert_eq!(told(0.015, 0.3), ["0.02", "0.05", "0.1", "0.2"]);
        assert_eq!(told(0.03, 0.06), ["0.03", "0.04", "0.05", "0.06"]);
    }

    #[test]
    fn names_with_control_characters_are_drawn() {
        let odd = "a\u{1b}[31m\u{9b}\u{202e}\u{0}\n\u{ffff}<";
        let line = Line { label: odd.into(), points: vec![(1.0, 2.0), (2.0, 3.0)], ..Line::default() };
        let panel = Panel { title: odd.into(), x: "step", y: odd.into(), lines: vec![line], ..Panel::default() };
        let svg = Figure { rows: vec![vec![panel]] }.svg().unwrap();
        assert_eq!(svg.matches("\\u001b[31m\\u009b\\u202e\\u0000\\u000a\\uffff&lt;").count(), 3, "{svg}");
        assert!(!svg.contains(fixnet::train::text::commands));
        png(&svg).unwrap();
    }

    #[test]
    fn a_figure_of_odd_lines_is_drawn() {
        let line =
            |points: &[(f64, f64)]| Line { label: "a < b & c".into(), points: points.to_vec(), ..Line::default() };
        let lines = vec![line(&[]), line(&[(1.0, 0.0)]), line(&[(1.0, f64::NAN), (2.0, 3.0), (3.0, 3.0)])];
        for log in [false, true] {
            let panel = Panel { title: "γ".into(), x: "step", y: "y".into(), log, range: None, lines: lines.clone() };
            let figure = Figure { rows: vec![vec![panel.clone(), Panel::default()], vec![panel]] };
            let svg = figure.svg().unwrap();
            assert!(svg.starts_with("<svg") && svg.contains("a &lt; b &amp; c") && svg.trim_end().ends_with("</svg>"));
            let png = png(&svg).unwrap();
            let image = tiny_skia::Pixmap::decode_png(&png).unwrap();
            assert_eq!(image.width(), 2 * 2 * PANEL.0);
            // Letters are there: some pixels are neither white nor of a line.
            assert!(image.pixels().iter().any(|p| (p.red(), p.green(), p.blue()) == (0, 0, 0)));
        }
        assert!(Figure::default().svg().unwrap().contains("<svg"));
    }
}
