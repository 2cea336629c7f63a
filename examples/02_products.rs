//! What everything rests on: codes of a few bits, and products of them that are exact on every instruction set.

use fixnet::kernel::{available_isas, set_isa};
use fixnet::prelude::*;
use fixnet::tensor::{Codes, Conv2dGeometry, Range, conv2d, conv2d_input_grad, conv2d_weight_grad};

/// Levels that fill the range, in a pattern of prime period.
fn codes(shape: &[usize], range: Range, scale: f32) -> Result<Codes> {
    let span = range.max() - range.min() + 1;
    let levels: Vec<i32> = (0..shape.iter().product()).map(|i: usize| (i % 251) as i32 % span + range.min()).collect();
    Ok(Codes::from_levels(shape, range, scale, &levels)?)
}

fn main() -> Result<()> {
    // Eight images of 16 x 16 pixels and 32 channels, in N, H, W, C order; 3 x 3 windows to 32 channels.
    let (images, weights) = ([8, 16, 16, 32], [32, 3, 3, 32]);
    let geometry = Conv2dGeometry::new(&images, &weights, [1, 1], [1, 1], [1, 1])?;
    let x = codes(&images, Range::unsigned(4)?, 0.1)?; // 0 to 15
    let w = codes(&weights, Range::symmetric(4)?, 0.02)?; // -7 to 7
    let g = codes(&geometry.output_shape(), Range::symmetric(4)?, 1e-3)?;
    for &isa in available_isas() {
        set_isa(isa)?;
        let y = conv2d(&x, &w, &geometry)?; // exact sums; a real value is sum · scale
        let dx = conv2d_input_grad(&g, &w, &geometry)?;
        let dw = conv2d_weight_grad(&x, &g, &geometry)?; // summed exactly over all pixels, then one rounding
        let (y, scale) = (y.to_vec(), y.scale());
        let total: i64 = y.iter().map(|&v| i64::from(v)).sum();
        println!(
            "{:<12} y[0] {} · {}  total {total}  dx[0] {}  dw[0] {}",
            isa.to_string(),
            y[0],
            scale,
            dx.to_vec()[0],
            dw.data()[0]
        );
    }
    Ok(())
}
