//! Figures: rows of charts with one legend below, as SVG. A PNG is the same SVG, rendered with a font that the program
//! carries, so that it looks the same on every machine.

use super::{Chart, Ink, Laid, fixed, path};
use crate::out::name;
use anyhow::{Context, Result};
use maud::{Markup, html};
use resvg::{tiny_skia, usvg};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

/// The size of a chart, the room around its lines, and the height of a row of the legend.
const PANEL: (f64, f64) = (420.0, 300.0);
const LEFT: f64 = 68.0;
const TOP: f64 = 32.0;
const RIGHT: f64 = 14.0;
const BELOW: f64 = 46.0;
const LEGEND: f64 = 22.0;
/// The width of a letter of a legend, or less.
const LETTER: f64 = 7.0;
/// Pixels of a PNG for one unit of the SVG.
const PIXELS: f32 = 2.0;
/// Colours that people with colour-blindness tell apart (Okabe and Ito).
const RUNS: [[u8; 3]; super::COLORS] = [
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
const DEPTHS: [[u8; 3]; 5] = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];

fn color(ink: Ink) -> String {
    let [r, g, b] = match ink {
        Ink::Main => RUNS[0],
        Ink::Quiet => [130, 130, 130],
        Ink::Run(i) => RUNS[i % RUNS.len()],
        Ink::Depth(t) => {
            let place = t.clamp(0.0, 1.0) * (DEPTHS.len() - 1) as f64;
            let below = (place as usize).min(DEPTHS.len() - 2);
            let (from, to, share) = (DEPTHS[below], DEPTHS[below + 1], place - below as f64);
            std::array::from_fn(|i| (f64::from(from[i]) * (1.0 - share) + f64::from(to[i]) * share).round() as u8)
        }
    };
    format!("#{r:02x}{g:02x}{b:02x}")
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
        let width = PANEL.0 * self.rows.iter().map(Vec::len).max().unwrap_or(1).max(1) as f64;
        // Rows of the legend that hold its entries.
        let (mut x, mut row, mut entries) = (12.0, 0.0, Vec::new());
        for (label, ink, dashed) in self.legend() {
            let wide = 40.0 + LETTER * label.chars().count() as f64;
            if x > 12.0 && x + wide > width {
                (x, row) = (12.0, row + 1.0);
            }
            entries.push((label, color(ink), dashed, x, row * LEGEND + 10.0));
            x += wide;
        }
        let charts = PANEL.1 * self.rows.len().max(1) as f64;
        let height = charts + if entries.is_empty() { 0.0 } else { (row + 1.0) * LEGEND + 4.0 };
        let drawn = html! {
            svg xmlns="http://www.w3.org/2000/svg" width=(width) height=(height) viewBox=(format!("0 0 {width} {height}"))
                font-family="sans-serif" {
                rect width=(width) height=(height) fill="#ffffff" {}
                @for (j, row) in self.rows.iter().enumerate() {
                    @let wide = width / row.len().max(1) as f64;
                    @for (i, chart) in row.iter().enumerate() {
                        g transform=(format!("translate({} {})", fixed(wide * i as f64), fixed(PANEL.1 * j as f64))) {
                            (panel(chart, wide))
                        }
                    }
                }
                @for (label, color, dashed, x, y) in &entries {
                    @let y = charts + y;
                    path d=(format!("M{x} {y}h24")) stroke=(color) stroke-width="2" fill="none"
                        stroke-dasharray=[dashed.then_some("6 3")] {}
                    text x=(x + 30.0) y=(y + 4.5) font-size="13" { (name(label)) }
                }
            }
        };
        drawn.into_string()
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
        let svg = self.svg();
        let paths = Self::paths(stem);
        let image = png(&svg).with_context(|| paths[1].display().to_string())?;
        for (path, data) in paths.iter().zip([svg.as_bytes(), &image]) {
            fixnet::train::run::write(path, data)?;
        }
        Ok(paths)
    }
}

/// A chart, `wide` units wide.
fn panel(chart: &Chart, wide: f64) -> Markup {
    let (width, height) = (wide - LEFT - RIGHT, PANEL.1 - TOP - BELOW);
    let middle = fixed(LEFT + width / 2.0);
    html! {
        text x=(middle) y="20" font-size="15" text-anchor="middle" { (name(&chart.title)) }
        rect x=(LEFT) y=(TOP) width=(width) height=(height) fill="none" stroke="#999999" {}
        text x=(middle) y=(PANEL.1 - 8.0) font-size="12" text-anchor="middle" { (chart.x) }
        text transform=(format!("translate(14 {}) rotate(-90)", fixed(TOP + height / 2.0))) font-size="12" text-anchor="middle" {
            (name(&chart.y))
        }
        @if let Some(laid) = chart.laid() { (lines(&laid, (width, height))) }
    }
}

/// The marks and lines of a chart.
fn lines(Laid { x, y, lines, x_labels, y_labels }: &Laid, (width, height): (f64, f64)) -> Markup {
    let px = |v: f64| LEFT + width * x.place(v);
    let py = |v: f64| TOP + height * (1.0 - y.place(v));
    html! {
        @for (&v, text) in y.ticks.iter().zip(y_labels) {
            path d=(format!("M{LEFT} {}h{}", fixed(py(v)), fixed(width))) stroke="#e5e5e5" fill="none" {}
            text x=(LEFT - 6.0) y=(fixed(py(v) + 4.0)) font-size="12" text-anchor="end" { (text) }
        }
        @for (&v, text) in x.ticks.iter().zip(x_labels) {
            path d=(format!("M{} {}v4", fixed(px(v)), fixed(TOP + height))) stroke="#999999" fill="none" {}
            text x=(fixed(px(v))) y=(fixed(TOP + height + 18.0)) font-size="12" text-anchor="middle" { (text) }
        }
        @for line in lines.iter().filter(|line| !line.band.is_empty() && line.points.len() > 1) {
            @let border = |upper: bool| line.points.iter().zip(&line.band).map(move |(p, b)| (p.0, if upper { b.1 } else { b.0 }));
            path d=(path(border(true).chain(border(false).rev()), px, py)) fill=(color(line.ink)) fill-opacity="0.18" {}
        }
        @for line in lines {
            @if line.points.len() > 1 && !line.dots {
                path d=(path(line.points.iter().copied(), px, py)) stroke=(color(line.ink)) fill="none"
                    stroke-width=(if line.dashed { "1" } else { "2" }) stroke-dasharray=[line.dashed.then_some("5 4")] {}
            }
            @if line.points.len() < 3 || line.dots {
                @for &(x, y) in &line.points { circle cx=(fixed(px(x))) cy=(fixed(py(y))) r="3" fill=(color(line.ink)) {} }
            }
        }
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
    let pixels = |units: f32| (units * PIXELS).ceil() as u32;
    let mut image = tiny_skia::Pixmap::new(pixels(size.width()), pixels(size.height()))
        .with_context(|| format!("rendering: an image of {} x {}", size.width(), size.height()))?;
    resvg::render(&tree, tiny_skia::Transform::from_scale(PIXELS, PIXELS), &mut image.as_mut());
    image.encode_png().context("rendering")
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
        let svg = Figure { rows: vec![vec![chart]] }.svg();
        assert_eq!(svg.matches("\\u001b[31m\\u009b\\u202e\\u0000\\u000a\\uffff&lt;").count(), 3, "{svg}");
        assert!(!svg.contains(fixnet::train::text::commands));
        png(&svg).unwrap();
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
            let png = png(&svg).unwrap();
            let image = tiny_skia::Pixmap::decode_png(&png).unwrap();
            assert_eq!(image.width(), 2 * 2 * PANEL.0 as u32);
            // Letters are there: some pixels are neither white nor of a line.
            assert!(image.pixels().iter().any(|p| (p.red(), p.green(), p.blue()) == (0, 0, 0)));
        }
        assert!(Figure::default().svg().contains("<svg"));
    }

    #[test]
    fn many_lines_have_tones_of_one_scale() {
        assert_eq!([Ink::of(0, 8), Ink::of(7, 8)].map(color), ["#0072b2", "#94673c"]);
        assert_eq!([Ink::of(0, 9), Ink::of(4, 9), Ink::of(8, 9)].map(color), ["#440154", "#21918c", "#fde725"]);
    }
}
