//! The outlines of letters, from the TrueType font that the program carries.
//!
//! Figures need the outlines and the widths of letters in one known font and no shaping, so these few tables are read here:
//! a crate for all fonts takes longer to build than the rest of the command. Numbers are big-endian; the tables are those of
//! the OpenType specification (head, hhea, hmtx, cmap format 4, loca, glyf).

use flate2::read::GzDecoder;
use std::io::Read;
use std::sync::LazyLock;

/// Ubuntu Light.
pub(super) static FONT: LazyLock<Font> = LazyLock::new(|| Font::new(&FILE));

/// The file of the font, which the program holds compressed: half as long.
static FILE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut file = Vec::new();
    let packed = &include_bytes!("../../data/ubuntu-light.ttf.gz")[..];
    GzDecoder::new(packed).read_to_end(&mut file).expect("the embedded font is whole");
    file
});

/// What draws an outline. Coordinates are parts of the font size, y is upward.
pub(super) trait Pen {
    fn move_to(&mut self, to: [f32; 2]);
    fn line_to(&mut self, to: [f32; 2]);
    /// Draws a quadratic curve with one control point.
    fn curve_to(&mut self, control: [f32; 2], to: [f32; 2]);
    fn close(&mut self);
}

/// A font. What is missing in one is an empty outline or the sign for a missing letter.
pub(super) struct Font {
    hmtx: Bytes,
    /// The part of `cmap` for the first 65,536 characters.
    letters: Bytes,
    loca: Bytes,
    glyf: Bytes,
    /// Whether places in `loca` have four bytes.
    long: bool,
    /// How many glyphs have a width of their own; the others have that of the last.
    widths: usize,
    /// Font units in the font size.
    units: f32,
}

/// A letter's place in the font.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Glyph(usize);

/// A part of a font. Numbers beyond its end are 0.
#[derive(Clone, Copy)]
struct Bytes(&'static [u8]);

impl Bytes {
    fn from(self, at: usize) -> Self {
        Self(self.0.get(at..).unwrap_or_default())
    }
    fn u8(self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or(0)
    }
    fn u16(self, at: usize) -> usize {
        usize::from(u16::from_be_bytes([self.u8(at), self.u8(at + 1)]))
    }
    fn i16(self, at: usize) -> i16 {
        i16::from_be_bytes([self.u8(at), self.u8(at + 1)])
    }
    fn u32(self, at: usize) -> usize {
        self.u16(at) << 16 | self.u16(at + 2)
    }
}

/// A point of an outline, in font units, and whether the outline goes through it.
type Point = ([f32; 2], bool);

/// Glyphs are made of glyphs to this depth.
const DEPTH: usize = 4;

impl Font {
    fn new(file: &'static [u8]) -> Self {
        let file = Bytes(file);
        let table = |name: &[u8; 4]| {
            let entries = (0..file.u16(4)).map(|i| 12 + 16 * i);
            let entry = entries.into_iter().find(|&at| file.from(at).0.starts_with(name));
            entry.map_or(Bytes(&[]), |at| file.from(file.u32(at + 8)))
        };
        let (head, cmap) = (table(b"head"), table(b"cmap"));
        let parts = (0..cmap.u16(2)).map(|i| cmap.from(cmap.u32(8 + 8 * i)));
        Self {
            hmtx: table(b"hmtx"),
            letters: parts.into_iter().find(|part| part.u16(0) == 4).unwrap_or(Bytes(&[])),
            loca: table(b"loca"),
            glyf: table(b"glyf"),
            long: head.u16(50) == 1,
            widths: table(b"hhea").u16(34),
            units: head.u16(18).max(1) as f32,
        }
    }

    /// The glyph of a letter, or the sign for a missing one.
    pub(super) fn glyph(&self, letter: char) -> Glyph {
        let (table, code) = (self.letters, letter as usize);
        // Four arrays: last codes, (two bytes), first codes, differences, and how far the glyphs of a segment are from there.
        let length = table.u16(6);
        let segment = (0..length / 2).find(|&i| table.u16(14 + 2 * i) >= code);
        let missing = Glyph(0);
        let Some(at) = segment.map(|i| 16 + length + 2 * i).filter(|&at| table.u16(at) <= code) else { return missing };
        let (first, difference) = (table.u16(at), table.u16(at + length));
        let glyph = match table.u16(at + 2 * length) {
            0 => code,
            distance => match table.u16(at + 2 * length + distance + 2 * (code - first)) {
                0 => return missing,
                glyph => glyph,
            },
        };
        Glyph((glyph + difference) & 0xffff)
    }

    /// How far the next letter is.
    pub(super) fn advance(&self, Glyph(glyph): Glyph) -> f32 {
        self.hmtx.u16(4 * glyph.min(self.widths.saturating_sub(1))) as f32 / self.units
    }

    /// Draws a glyph.
    pub(super) fn draw(&self, Glyph(glyph): Glyph, pen: &mut impl Pen) {
        for contour in self.contours(glyph, DEPTH) {
            trace(&contour, 1.0 / self.units, pen);
        }
    }

    fn contours(&self, glyph: usize, depth: usize) -> Vec<Vec<Point>> {
        let place = |i: usize| if self.long { self.loca.u32(4 * i) } else { 2 * self.loca.u16(2 * i) };
        let (start, end) = (place(glyph), place(glyph + 1));
        if end <= start || depth == 0 {
            return Vec::new();
        }
        let data = self.glyf.from(start);
        match usize::try_from(data.i16(0)) {
            Ok(count) => simple(data, count),
            Err(_) => self.composite(data, depth - 1),
        }
    }

    /// A glyph of other glyphs, such as a letter with an accent.
    fn composite(&self, data: Bytes, depth: usize) -> Vec<Vec<Point>> {
        const WORDS: usize = 1;
        const SCALE: usize = 8;
        const MORE: usize = 32;
        const TWO_SCALES: usize = 64;
        const MATRIX: usize = 128;
        let mut contours = Vec::new();
        let mut at = 10;
        loop {
            let (flags, part) = (data.u16(at), data.u16(at + 2));
            at += 4;
            let [dx, dy] = match flags & WORDS {
                0 => [0, 1].map(|i| f32::from(data.u8(at + i) as i8)),
                _ => [0, 2].map(|i| f32::from(data.i16(at + i))),
            };
            at += if flags & WORDS == 0 { 2 } else { 4 };
            let number = |i: usize| f32::from(data.i16(at + 2 * i)) / 16384.0;
            let ([xx, xy, yx, yy], read) = match () {
                () if flags & SCALE != 0 => ([number(0), 0.0, 0.0, number(0)], 2),
                () if flags & TWO_SCALES != 0 => ([number(0), 0.0, 0.0, number(1)], 4),
                () if flags & MATRIX != 0 => ([0, 1, 2, 3].map(number), 8),
                () => ([1.0, 0.0, 0.0, 1.0], 0),
            };
            at += read;
            for mut contour in self.contours(part, depth) {
                for ([x, y], _) in &mut contour {
                    (*x, *y) = (xx * *x + yx * *y + dx, xy * *x + yy * *y + dy);
                }
                contours.push(contour);
            }
            if flags & MORE == 0 {
                return contours;
            }
        }
    }
}

/// The contours of a glyph that is drawn itself: last points, instructions, then flags, x and y of all points.
fn simple(data: Bytes, count: usize) -> Vec<Vec<Point>> {
    const ON: u8 = 1;
    const REPEAT: u8 = 8;
    let lasts: Vec<usize> = (0..count).map(|i| data.u16(10 + 2 * i)).collect();
    let points = lasts.last().map_or(0, |last| last + 1);
    let mut at = 10 + 2 * count;
    at += 2 + data.u16(at);
    let mut flags = Vec::with_capacity(points);
    while flags.len() < points {
        let flag = data.u8(at);
        let more = if flag & REPEAT != 0 { usize::from(data.u8(at + 1)) } else { 0 };
        at += if flag & REPEAT != 0 { 2 } else { 1 };
        flags.extend(std::iter::repeat_n(flag, 1 + more));
    }
    flags.truncate(points);
    // Differences: of one byte with a sign in the flags, of two, or none.
    let mut numbers = |short: u8, same: u8| -> Vec<f32> {
        let mut v = 0.0;
        let next = |flag: &u8| {
            let (step, read) = match (flag & short != 0, flag & same != 0) {
                (true, positive) => (f32::from(data.u8(at)) * if positive { 1.0 } else { -1.0 }, 1),
                (false, false) => (f32::from(data.i16(at)), 2),
                (false, true) => (0.0, 0),
            };
            at += read;
            v += step;
            v
        };
        flags.iter().map(next).collect()
    };
    let (xs, ys) = (numbers(2, 16), numbers(4, 32));
    let points: Vec<Point> = (0..points).map(|i| ([xs[i], ys[i]], flags[i] & ON != 0)).collect();
    let firsts = std::iter::once(0).chain(lasts.iter().map(|last| last + 1));
    firsts.zip(&lasts).filter_map(|(first, &last)| Some(points.get(first..=last)?.to_vec())).collect()
}

/// Draws a contour: between two control points in turn lies a point that is not written.
fn trace(points: &[Point], scale: f32, pen: &mut impl Pen) {
    let at = |i: usize| {
        let ([x, y], on) = points[i % points.len()];
        ([x * scale, y * scale], on)
    };
    let middle = |a: [f32; 2], b: [f32; 2]| [(a[0] + b[0]) / 2.0, (a[1] + b[1]) / 2.0];
    let Some(first) = points.iter().position(|&(_, on)| on) else { return };
    pen.move_to(at(first).0);
    let mut control = None;
    for i in first + 1..=first + points.len() {
        let (point, on) = at(i);
        match (control, on) {
            (None, true) => pen.line_to(point),
            (None, false) => control = Some(point),
            (Some(c), true) => {
                pen.curve_to(c, point);
                control = None;
            }
            (Some(c), false) => {
                pen.curve_to(c, middle(c, point));
                control = Some(point);
            }
        }
    }
    pen.close();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The area that an outline encloses, by the shoelace formula and the area of a quadratic curve, and its bounds.
    #[derive(Default)]
    struct Measure {
        area: f32,
        at: [f32; 2],
        start: [f32; 2],
        /// `None` before the first point.
        bounds: Option<[[f32; 2]; 2]>,
        contours: usize,
    }

    impl Measure {
        fn go(&mut self, to: [f32; 2]) {
            self.area += (self.at[0] * to[1] - to[0] * self.at[1]) / 2.0;
            let [low, high] = self.bounds.unwrap_or([to, to]);
            self.bounds = Some([[0, 1].map(|i| low[i].min(to[i])), [0, 1].map(|i| high[i].max(to[i]))]);
            self.at = to;
        }
    }

    impl Pen for Measure {
        fn move_to(&mut self, to: [f32; 2]) {
            (self.at, self.start) = (to, to);
            self.contours += 1;
        }
        fn line_to(&mut self, to: [f32; 2]) {
            self.go(to);
        }
        fn curve_to(&mut self, c: [f32; 2], to: [f32; 2]) {
            let cross =
                |o: [f32; 2], a: [f32; 2], b: [f32; 2]| (a[0] - o[0]) * (b[1] - o[1]) - (a[1] - o[1]) * (b[0] - o[0]);
            // A quadratic curve encloses two thirds of the triangle with its control point.
            self.area += cross(self.at, c, to) / 3.0;
            self.go(to);
        }
        fn close(&mut self) {
            let start = self.start;
            self.go(start);
        }
    }

    fn measure(letter: char) -> Measure {
        let mut measure = Measure::default();
        FONT.draw(FONT.glyph(letter), &mut measure);
        measure
    }

    /// Widths, areas and bounds in thousandths of the font size are those that fontTools computes from the font.
    #[test]
    fn outlines_are_those_of_the_font() {
        for (letter, contours, advance, area, bounds) in [
            ('A', 2, 641, 111281.25, [10, 0, 631, 693]),
            ('g', 2, 573, 120166.25, [55, -188, 487, 527]),
            ('Ä', 4, 641, 125513.25, [10, 0, 631, 877]),
            ('γ', 1, 472, 76613.164, [19, -185, 451, 517]),
            ('%', 5, 831, 143350.0, [59, -15, 772, 708]),
            ('8', 3, 564, 122788.54, [66, -15, 498, 708]),
            ('ж', 1, 727, 112900.375, [18, 0, 709, 517]),
        ] {
            let found = measure(letter);
            assert_eq!(found.contours, contours, "{letter}");
            assert_eq!((1000.0 * FONT.advance(FONT.glyph(letter))).round() as i32, advance, "{letter}");
            // Outer contours run clockwise, so that areas are negative.
            assert!((-1e6 * found.area - area).abs() < 1.0, "{letter}: {}", found.area);
            // Curves of these letters have points at their extremes.
            let [low, high] = found.bounds.unwrap().map(|p| p.map(|v| (1000.0 * v).round() as i32));
            assert_eq!([low[0], low[1], high[0], high[1]], bounds, "{letter}");
        }
        assert_eq!(FONT.glyph('水'), Glyph(0));
        assert_eq!(FONT.glyph('\u{1f600}'), Glyph(0));
        assert!((-1e6 * measure('水').area - 105000.0).abs() < 1.0);
        assert_eq!((measure(' ').contours, (1000.0 * FONT.advance(FONT.glyph(' '))).round()), (0, 228.0));
    }

    /// What is no font draws nothing.
    #[test]
    fn damaged_fonts_end() {
        let font = &FILE[..];
        for length in (0..font.len()).step_by(7919) {
            let cut = Font::new(&font[..length]);
            for letter in ['A', 'Ä', '水'] {
                let glyph = cut.glyph(letter);
                assert!(cut.advance(glyph) >= 0.0);
                cut.draw(glyph, &mut Measure::default());
            }
        }
    }
}
