//! A data source of our own: noisy images with a bright spot, and where it is. A program would read files here.

use fixnet::data::{DataError, Reader, Request, Result, SourceKind};
use fixnet::tensor::rng::{Stream, domain};
use std::any::Any;

/// The row of the registry.
pub const KIND: SourceKind = SourceKind::new("spots:COUNT", "so many noisy images with a bright spot", &Spots);

/// Rows and columns of an image.
pub const SIDE: usize = 16;

/// Images with a spot each.
#[derive(Debug, Clone, PartialEq)]
pub struct Spotted {
    /// Bytes, [N, 16, 16].
    pub pixels: Vec<u8>,
    /// Row and column of each spot, in pixels.
    pub centres: Vec<[f32; 2]>,
}

#[derive(Debug)]
struct Spots;

impl Reader for Spots {
    fn other(&self, request: &Request<'_>) -> Result<Box<dyn Any + Send + Sync>> {
        let text = request.source.argument().unwrap_or_default();
        let count = text.parse().ok().filter(|n| (8..=100_000).contains(n));
        let count: u32 = count.ok_or_else(|| DataError::Unexpected {
            place: request.source.to_string(),
            expected: "spots:COUNT with 8 to 100000".into(),
            found: text.into(),
        })?;
        let (mut pixels, mut centres) = (Vec::new(), Vec::new());
        for index in 0..count {
            let random = Stream::new(1, domain::DATA, index, 0);
            let centre = [0, 1].map(|axis| 3.0 + 10.0 * random.uniform_at(axis));
            let pixel = |i: usize| {
                let (row, column) = ((i / SIDE) as f32, (i % SIDE) as f32);
                let distance = (row - centre[0]).powi(2) + (column - centre[1]).powi(2);
                (200.0 / (1.0 + distance) + 40.0 * random.uniform_at(2 + i as u64)) as u8
            };
            pixels.extend((0..SIDE * SIDE).map(pixel));
            centres.push(centre);
        }
        Ok(Box::new(Spotted { pixels, centres }))
    }
}
