//! `curves.svg`: loss and accuracy over the epochs of a run.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

/// One epoch's numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point {
    pub(crate) epoch: u64,
    pub(crate) train_loss: f64,
    pub(crate) test_loss: f64,
    pub(crate) test_accuracy: f64,
}

/// The curves as SVG.
pub(crate) fn curves(title: &str, points: &[Point]) -> Result<String> {
    let mut svg = String::new();
    draw(&mut svg, title, points).map_err(|e| anyhow!("curves: {e}"))?;
    Ok(svg)
}

fn draw(svg: &mut String, title: &str, points: &[Point]) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(svg, (960, 420)).into_drawing_area();
    root.fill(&WHITE)?;
    let (left, right) = root.split_horizontally(480);
    let last = points.last().map_or(1.0, |p| p.epoch as f64).max(1.0);
    let top = points.iter().map(|p| p.train_loss.max(p.test_loss)).fold(0.0, f64::max).max(1e-6) * 1.05;
    let mut chart = ChartBuilder::on(&left)
        .caption(format!("{title}: loss"), ("sans-serif", 16))
        .margin(10)
        .x_label_area_size(35)
        .y_label_area_size(50)
        .build_cartesian_2d(0.0..last, 0.0..top)?;
    chart.configure_mesh().x_desc("epoch").draw()?;
    let series = |f: fn(&Point) -> f64| points.iter().map(move |p| (p.epoch as f64, f(p)));
    chart
        .draw_series(LineSeries::new(series(|p| p.train_loss), &BLUE))?
        .label("train")
        .legend(|(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], BLUE));
    chart
        .draw_series(LineSeries::new(series(|p| p.test_loss), &RED))?
        .label("test")
        .legend(|(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], RED));
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK).draw()?;
    let low = points.iter().map(|p| p.test_accuracy).fold(1.0, f64::min);
    let mut chart = ChartBuilder::on(&right)
        .caption("test accuracy", ("sans-serif", 16))
        .margin(10)
        .x_label_area_size(35)
        .y_label_area_size(50)
        .build_cartesian_2d(0.0..last, (low - 0.02).max(0.0)..1.0)?;
    chart.configure_mesh().x_desc("epoch").draw()?;
    chart.draw_series(LineSeries::new(series(|p| p.test_accuracy), &BLUE))?;
    root.present()?;
    Ok(())
}
