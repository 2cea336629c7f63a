//! Drawings: a few kinds of shapes, written as SVG or painted as PNG. A PNG has the letters of a font that the program
//! carries, so that it looks the same on every machine.

use super::fixed;
use super::font::{FONT, Pen};
use anyhow::{Context, Result};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use maud::{Markup, html};
use tiny_skia::{FillRule, Paint, Path, PathBuilder, Pixmap, Stroke, StrokeDash, Transform};

/// Pixels of a PNG for one unit of the SVG.
const PIXELS: f64 = 2.0;
/// The colour of letters.
const INK: Color = [0, 0, 0];

/// Red, green and blue.
pub(super) type Color = [u8; 3];

/// Which point of a text is at its place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A shape, in units of the drawing: x to the right, y down.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    /// A line through these points, with dashes of the first length at gaps of the second.
    Line { points: Vec<[f64; 2]>, color: Color, width: f64, dashes: Option<[f64; 2]> },
    /// The inside of a polygon.
    Area { points: Vec<[f64; 2]>, color: Color, opacity: f64 },
    /// A disc.
    Dot { place: [f64; 2], radius: f64, color: Color },
    /// A text on one line, to the right or upward.
    Text { place: [f64; 2], size: f64, anchor: Anchor, upward: bool, text: String },
}

/// Shapes on a white ground, the last one on top.
#[derive(Debug, Clone)]
pub(super) struct Drawing {
    /// Width and height.
    pub(super) size: [f64; 2],
    pub(super) shapes: Vec<Shape>,
}

impl Drawing {
    /// Returns the drawing as SVG.
    pub(super) fn svg(&self) -> String {
        let [width, height] = self.size;
        let drawn = html! {
            svg xmlns="http://www.w3.org/2000/svg" width=(width) height=(height) viewBox=(format!("0 0 {width} {height}"))
                font-family="sans-serif" {
                rect width=(width) height=(height) fill="#ffffff" {}
                @for shape in &self.shapes { (shape.svg()) }
            }
        };
        drawn.into_string()
    }

    /// Returns the drawing as a PNG of twice its size in pixels.
    ///
    /// # Errors
    /// The drawing is too large for an image.
    pub(super) fn png(&self) -> Result<Vec<u8>> {
        let [width, height] = self.size.map(|units| (units * PIXELS).ceil() as u32);
        let mut canvas =
            Pixmap::new(width, height).with_context(|| format!("an image of {width} x {height} pixels"))?;
        canvas.fill(tiny_skia::Color::WHITE);
        for shape in &self.shapes {
            shape.paint(&mut canvas);
        }
        // Painted over white, every pixel is opaque.
        let pixels: Vec<u8> = canvas.pixels().iter().flat_map(|p| [p.red(), p.green(), p.blue()]).collect();
        let mut png = Vec::new();
        PngEncoder::new_with_quality(&mut png, CompressionType::Default, FilterType::Adaptive).write_image(
            &pixels,
            width,
            height,
            ExtendedColorType::Rgb8,
        )?;
        Ok(png)
    }
}

fn hex([r, g, b]: Color) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

impl Shape {
    fn svg(&self) -> Markup {
        let path = |points: &[[f64; 2]]| super::path(points.iter().map(|p| (p[0], p[1])), |x| x, |y| y);
        match self {
            Self::Line { points, color, width, dashes } => html! {
                path d=(path(points)) stroke=(hex(*color)) fill="none" stroke-width=(width)
                    stroke-dasharray=[dashes.map(|[dash, gap]| format!("{dash} {gap}"))] {}
            },
            Self::Area { points, color, opacity } => html! {
                path d=(path(points)) fill=(hex(*color)) fill-opacity=(opacity) {}
            },
            Self::Dot { place: [x, y], radius, color } => html! {
                circle cx=(fixed(*x)) cy=(fixed(*y)) r=(radius) fill=(hex(*color)) {}
            },
            Self::Text { place: [x, y], size, anchor, upward, text } => {
                let (x, y) = (fixed(*x), fixed(*y));
                let anchor = match anchor {
                    Anchor::Start => None,
                    Anchor::Middle => Some("middle"),
                    Anchor::End => Some("end"),
                };
                match upward {
                    false => html! { text x=(x) y=(y) font-size=(size) text-anchor=[anchor] { (text) } },
                    true => html! {
                        text transform=(format!("translate({x} {y}) rotate(-90)")) font-size=(size) text-anchor=[anchor] { (text) }
                    },
                }
            }
        }
    }

    fn paint(&self, canvas: &mut Pixmap) {
        let scale = Transform::from_scale(PIXELS as f32, PIXELS as f32);
        let fill = |canvas: &mut Pixmap, path: Option<Path>, color: Color, opacity: f64, at| {
            if let Some(path) = path {
                canvas.fill_path(&path, &paint(color, opacity), FillRule::Winding, at, None);
            }
        };
        match self {
            Self::Line { points, color, width, dashes } => {
                let dash = dashes.and_then(|lengths| StrokeDash::new(lengths.map(|l| l as f32).to_vec(), 0.0));
                let stroke = Stroke { width: *width as f32, dash, ..Stroke::default() };
                if let Some(path) = through(points) {
                    canvas.stroke_path(&path, &paint(*color, 1.0), &stroke, scale, None);
                }
            }
            Self::Area { points, color, opacity } => fill(canvas, through(points), *color, *opacity, scale),
            Self::Dot { place: [x, y], radius, color } => {
                fill(canvas, PathBuilder::from_circle(*x as f32, *y as f32, *radius as f32), *color, 1.0, scale);
            }
            Self::Text { place: [x, y], size, anchor, upward, text } => {
                let (letters, width) = letters(text);
                let start = match anchor {
                    Anchor::Start => 0.0,
                    Anchor::Middle => -width / 2.0,
                    Anchor::End => -width,
                };
                let turn = if *upward { -90.0 } else { 0.0 };
                // Letters have a height of about 1, upward from their line.
                let at = scale
                    .pre_translate(*x as f32, *y as f32)
                    .pre_concat(Transform::from_rotate(turn))
                    .pre_scale(*size as f32, -*size as f32)
                    .pre_translate(start, 0.0);
                fill(canvas, letters, INK, 1.0, at);
            }
        }
    }
}

fn paint(color: Color, opacity: f64) -> Paint<'static> {
    let mut paint = Paint { anti_alias: true, ..Paint::default() };
    let [r, g, b] = color;
    paint.set_color_rgba8(r, g, b, (255.0 * opacity).round() as u8);
    paint
}

/// The line through points; `None` of fewer than two.
fn through(points: &[[f64; 2]]) -> Option<Path> {
    let mut path = PathBuilder::new();
    for (i, [x, y]) in points.iter().enumerate() {
        match i {
            0 => path.move_to(*x as f32, *y as f32),
            _ => path.line_to(*x as f32, *y as f32),
        }
    }
    path.finish()
}

/// The outlines of a text of font size 1, and its width.
fn letters(text: &str) -> (Option<Path>, f32) {
    struct Letters {
        path: PathBuilder,
        start: f32,
    }
    impl Pen for Letters {
        fn move_to(&mut self, [x, y]: [f32; 2]) {
            self.path.move_to(self.start + x, y);
        }
        fn line_to(&mut self, [x, y]: [f32; 2]) {
            self.path.line_to(self.start + x, y);
        }
        fn curve_to(&mut self, [u, v]: [f32; 2], [x, y]: [f32; 2]) {
            self.path.quad_to(self.start + u, v, self.start + x, y);
        }
        fn close(&mut self) {
            self.path.close();
        }
    }
    let mut letters = Letters { path: PathBuilder::new(), start: 0.0 };
    for letter in text.chars() {
        let glyph = FONT.glyph(letter);
        FONT.draw(glyph, &mut letters);
        letters.start += FONT.advance(glyph);
    }
    (letters.path.finish(), letters.start)
}
