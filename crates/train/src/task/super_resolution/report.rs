//! What a report shows of super-resolution: small, bicubic, network and original side by side, and a table of all pictures.

use super::super::{Element, Picture as Shown, Pictures as Gallery, Section, Table, Unit};
use super::Enlarger;
use crate::Result;
use fixnet_autograd::Store;
use fixnet_data::{Pairs, Picture, bicubic};
use fixnet_nn::Layer;
use fixnet_nn::metrics::{psnr, ssim};

/// How many pictures a report shows.
const SHOWN: usize = 6;
/// Rows and columns of what is shown of one, in pixels of the large picture.
const WINDOW: usize = 192;

/// How near a picture is to the original.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    /// The PSNR of the brightness in dB, a border of `scale` pixels left out.
    pub psnr: f64,
    /// The SSIM of the brightness, with the same border.
    pub ssim: f64,
}

/// Judges an enlarged picture.
///
/// # Errors
/// The pictures have different sizes, or are too small.
pub fn judge(found: &Picture, original: &Picture, scale: usize) -> Result<Judged> {
    Ok(Judged { psnr: psnr(found, original, scale)?, ssim: ssim(found, original, scale)? })
}

impl Judged {
    fn cells(&self) -> [String; 2] {
        [Unit::Decibel.text(self.psnr), Unit::Number.text(self.ssim)]
    }

    fn mean(all: &[Self]) -> Self {
        let mean = |of: fn(&Self) -> f64| all.iter().map(of).sum::<f64>() / all.len().max(1) as f64;
        Self { psnr: mean(|j| j.psnr), ssim: mean(|j| j.ssim) }
    }
}

pub(super) fn section(enlarger: &Enlarger, net: &dyn Layer, store: &mut Store, test: &Pairs) -> Result<Section> {
    let scale = test.scale();
    let (mut elements, mut rows, mut all) = (Vec::new(), Vec::new(), [Vec::new(), Vec::new()]);
    for i in 0..test.len() {
        let (small, large) = test.pair(i)?;
        let interpolated = bicubic(&small, large.height(), large.width())?;
        let found = enlarger.enlarge(net, store, &small)?;
        let judged = [judge(&interpolated, &large, scale)?, judge(&found, &large, scale)?];
        all.iter_mut().zip(judged).for_each(|(all, judged)| all.push(judged));
        let [height, width] = [large.height(), large.width()];
        let mut row = vec![test.name_of(i).to_string(), format!("{width} × {height}")];
        row.extend(judged.iter().flat_map(Judged::cells));
        rows.push(row);
        if i < SHOWN {
            let pictures = side_by_side(test.name_of(i), [&small, &interpolated, &found, &large], judged, scale)?;
            let (title, nothing) = (test.name_of(i).to_string(), String::new);
            elements.push(Element::Pictures(Gallery {
                title,
                pictures,
                none: nothing(),
                note: nothing(),
                large: true,
            }));
        }
    }
    let means = all.map(|judged| Judged::mean(&judged));
    let mut row = vec!["mean".into(), String::new()];
    row.extend(means.iter().flat_map(Judged::cells));
    rows.push(row);
    let columns = ["picture", "size", "PSNR, bicubic", "SSIM, bicubic", "PSNR, network", "SSIM, network"];
    let columns = columns.iter().enumerate().map(|(i, head)| ((*head).to_string(), i > 0)).collect();
    let title = format!("Each picture ({}): brightness, a border of {scale} pixels left out", test.name);
    elements.insert(0, Element::Table(Table { title, columns, rows }));
    Ok(Section { title: "Test pictures".into(), elements })
}

/// The middle of a small picture (its pixels as squares), of what bicubic interpolation and the network make of it, and of the
/// original.
fn side_by_side(name: &str, pictures: [&Picture; 4], judged: [Judged; 2], scale: usize) -> Result<Vec<Shown>> {
    let [small, interpolated, found, large] = pictures;
    // The window begins and ends with whole small pixels.
    let window = [small.height(), small.width()].map(|side| side.min(WINDOW / scale));
    let from = [(small.height() - window[0]) / 2, (small.width() - window[1]) / 2];
    let (size, start) = (window.map(|side| side * scale), from.map(|side| side * scale));
    let squares = squares(&small.window(from, window)?, scale)?;
    let shown = |picture: &Picture, caption: &str, detail: String| Shown {
        pixels: picture.pixels().to_vec(),
        shape: picture.shape(),
        caption: caption.into(),
        spoken: format!("{name}, {caption}{}{detail}", if detail.is_empty() { "" } else { ": " }),
        detail,
    };
    let cut = |picture: &Picture| picture.window(start, size);
    let [of_bicubic, of_network] = judged.map(|judged| Unit::Decibel.text(judged.psnr));
    Ok(vec![
        shown(&squares, "small", String::new()),
        shown(&cut(interpolated)?, "bicubic", of_bicubic),
        shown(&cut(found)?, "network", of_network),
        shown(&cut(large)?, "original", String::new()),
    ])
}

/// A picture with each pixel as a square.
fn squares(picture: &Picture, scale: usize) -> Result<Picture> {
    let [height, width, channels] = picture.shape();
    let pixel = |i: usize| {
        let (y, x) = (i / (width * scale) / scale, i % (width * scale) / scale);
        picture.pixels()[(y * width + x) * channels..][..channels].iter().copied()
    };
    Ok(Picture::new(height * scale, width * scale, (0..height * width * scale * scale).flat_map(pixel).collect())?)
}
