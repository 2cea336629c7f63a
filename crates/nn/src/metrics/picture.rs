//! How near an enlarged picture is to the original: PSNR and SSIM of the brightness, as papers on super-resolution report them.
//!
//! The brightness Y is that of ITU-R BT.601, not rounded: `(65.738 R + 129.057 G + 25.064 B) / 256`; the constant 16 cancels in
//! PSNR and is added for SSIM. A border of pixels is left out, usually as many as the scale. All sums are `f64` in a fixed order.

use fixnet_autograd::{Error, Result};
use fixnet_data::Picture;

/// What equal pictures have instead of an infinite PSNR, so that means stay numbers.
pub const PSNR_MOST: f64 = 100.0;
/// Rows and columns of the window of SSIM.
pub const SSIM_WINDOW: usize = 11;

/// The brightness of pixels within a border.
struct Brightness {
    values: Vec<f64>,
    height: usize,
    width: usize,
}

impl Brightness {
    /// Both pictures' brightness within `border`.
    fn of(a: &Picture, b: &Picture, border: usize, least: usize) -> Result<[Self; 2]> {
        if a.shape() != b.shape() {
            return Err(Error::setting(
                "pictures to compare",
                format!("two of {:?}", a.shape()),
                format!("{:?}", b.shape()),
            ));
        }
        let inner = |side: usize| side.checked_sub(2 * border).filter(|&side| side >= least);
        let (Some(height), Some(width)) = (inner(a.height()), inner(a.width())) else {
            let expected = format!("at least {least}x{least} pixels within a border of {border}");
            return Err(Error::setting("pictures to compare", expected, format!("{}x{}", a.height(), a.width())));
        };
        let of = |picture: &Picture| {
            let row = |y: usize| &picture.pixels()[((y + border) * picture.width() + border) * 3..][..width * 3];
            let values = (0..height).flat_map(row).copied().collect::<Vec<u8>>();
            let values = values.chunks_exact(3).map(|rgb| {
                let [r, g, b] = [rgb[0], rgb[1], rgb[2]].map(f64::from);
                (65.738 * r + 129.057 * g + 25.064 * b) / 256.0 + 16.0
            });
            Self { values: values.collect(), height, width }
        };
        Ok([of(a), of(b)])
    }
}

/// The peak signal-to-noise ratio in dB: `10 log10(255² / mean((Y_a - Y_b)²))`, at most [`PSNR_MOST`].
///
/// # Errors
/// The pictures are of different sizes, or nothing is left within the border.
pub fn psnr(a: &Picture, b: &Picture, border: usize) -> Result<f64> {
    let [a, b] = Brightness::of(a, b, border, 1)?;
    let sum: f64 = a.values.iter().zip(&b.values).map(|(a, b)| (a - b) * (a - b)).sum();
    let mean = sum / a.values.len() as f64;
    let ratio = 10.0 * libm::log10(255.0 * 255.0 / mean);
    Ok(if ratio < PSNR_MOST { ratio } else { PSNR_MOST })
}

/// The structural similarity (Wang et al., 2004): Gaussian windows of 11 x 11 with deviation 1.5, constants (0.01 · 255)² and
/// (0.03 · 255)², the mean over all windows inside the picture.
///
/// # Errors
/// The pictures are of different sizes, or there are fewer than 11 x 11 pixels within the border.
pub fn ssim(a: &Picture, b: &Picture, border: usize) -> Result<f64> {
    let [a, b] = Brightness::of(a, b, border, SSIM_WINDOW)?;
    let (height, width) = (a.height, a.width);
    let weights = gaussian();
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).collect::<Vec<f64>>();
    let blur = |values: &[f64]| blurred(values, [height, width], &weights);
    let (mean_a, mean_b) = (blur(&a.values), blur(&b.values));
    let (aa, bb) = (blur(&product(&a.values, &a.values)), blur(&product(&b.values, &b.values)));
    let ab = blur(&product(&a.values, &b.values));
    let (c1, c2) = (0.01 * 255.0 * (0.01 * 255.0), 0.03 * 255.0 * (0.03 * 255.0));
    let sum: f64 = (0..ab.len())
        .map(|i| {
            let (ma, mb) = (mean_a[i], mean_b[i]);
            let (va, vb, vab) = (aa[i] - ma * ma, bb[i] - mb * mb, ab[i] - ma * mb);
            ((2.0 * ma * mb + c1) * (2.0 * vab + c2)) / ((ma * ma + mb * mb + c1) * (va + vb + c2))
        })
        .sum();
    Ok(sum / ab.len() as f64)
}

/// The weights of the window along an axis, of sum 1.
fn gaussian() -> [f64; SSIM_WINDOW] {
    let middle = (SSIM_WINDOW / 2) as f64;
    let of = |i: usize| libm::exp(-(i as f64 - middle) * (i as f64 - middle) / (2.0 * 1.5 * 1.5));
    let weights: [f64; SSIM_WINDOW] = std::array::from_fn(of);
    let sum: f64 = weights.iter().sum();
    weights.map(|w| w / sum)
}

/// Weighted means over the windows inside the picture: rows first, then columns.
fn blurred(values: &[f64], [height, width]: [usize; 2], weights: &[f64; SSIM_WINDOW]) -> Vec<f64> {
    let (rows, columns) = (height - SSIM_WINDOW + 1, width - SSIM_WINDOW + 1);
    let mut out = vec![0.0; rows * columns];
    let mut line = vec![0.0; width];
    for (y, out) in out.chunks_exact_mut(columns).enumerate() {
        line.fill(0.0);
        for (k, &weight) in weights.iter().enumerate() {
            let row = &values[(y + k) * width..][..width];
            line.iter_mut().zip(row).for_each(|(sum, v)| *sum += weight * v);
        }
        for (k, &weight) in weights.iter().enumerate() {
            out.iter_mut().zip(&line[k..]).for_each(|(sum, v)| *sum += weight * v);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pictures() -> (Picture, Picture) {
        let (h, w) = (24, 31);
        let a = (0..h * w * 3).map(|i| (i * 37 % 251) as u8).collect();
        let b = (0..h * w * 3).map(|i| ((i * 37 % 251) + (i * i % 23)).min(255) as u8).collect();
        (Picture::new(h, w, a).unwrap(), Picture::new(h, w, b).unwrap())
    }

    #[test]
    fn by_hand() {
        let grey = |v: u8| Picture::new(13, 13, vec![v; 13 * 13 * 3]).unwrap();
        // A difference of 10 in every colour is 10 · 219.859 / 256 = 8.5882 in Y, 29.45 dB.
        let expected = 20.0 * (255.0f64 / (10.0 * 219.859 / 256.0)).log10();
        assert!((psnr(&grey(100), &grey(110), 1).unwrap() - expected).abs() < 1e-12);
        assert_eq!((psnr(&grey(9), &grey(9), 0).unwrap(), ssim(&grey(9), &grey(9), 1).unwrap()), (PSNR_MOST, 1.0));
        let e = ssim(&grey(1), &grey(2), 2).unwrap_err().to_string();
        assert!(e.contains("at least 11x11 pixels within a border of 2") && e.contains("13x13"), "{e}");
        let other = Picture::new(1, 2, vec![0; 6]).unwrap();
        assert!(psnr(&grey(1), &other, 0).unwrap_err().to_string().contains("[13, 13, 3]"));
        assert!(psnr(&other, &other, 1).is_err() && psnr(&other, &other, usize::MAX / 2).is_err());
    }

    /// scikit-image 0.26 on the same bytes: `peak_signal_noise_ratio(y_a, y_b, data_range=255)` and `structural_similarity(y_a,
    /// y_b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255)`, with y of the formula above and
    /// the border cut off before.
    #[test]
    fn a_public_tool_gives_the_same_numbers() {
        let (a, b) = pictures();
        for (border, p, s) in [(0, 30.641110744200816, 0.9963193045664891), (2, 30.646958408080888, 0.9963410518233555)]
        {
            let (found_p, found_s) = (psnr(&a, &b, border).unwrap(), ssim(&a, &b, border).unwrap());
            assert!((found_p - p).abs() < 1e-9 && (found_s - s).abs() < 1e-9, "{border}: {found_p} {found_s}");
        }
    }
}
