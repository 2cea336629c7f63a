//! `BoxCode`: a box told from an anchor by four numbers.

use fixnet_data::BoundingBox;

/// The weights of the four numbers `(dx, dy, dw, dh)` of a box code: `dx = (cx - ax) / aw · wx`, `dw = ln(w / aw) · ww`, and so for y
/// and the height, with centres c and a (Girshick et al., CVPR 2014).
///
/// ```
/// use fixnet_data::BoundingBox;
/// use fixnet_nn::detection::BoxCode;
/// let (anchor, object) = (BoundingBox::new(0.0, 0.0, 10.0, 10.0), BoundingBox::new(1.0, 0.0, 11.0, 20.0));
/// let code = BoxCode::UNIT.encode(&object, &anchor);
/// assert_eq!(code, [0.1, 0.5, 0.0, std::f32::consts::LN_2]);
/// assert_eq!(BoxCode::UNIT.decode(code, &anchor), object);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BoxCode {
    /// The weights of x, y, width and height.
    pub weights: [f32; 4],
}

impl BoxCode {
    /// All weights 1: RetinaNet, and region proposals.
    pub const UNIT: Self = Self { weights: [1.0; 4] };
    /// 10 for the place and 5 for the size: the box head of Faster R-CNN.
    pub const BOX_HEAD: Self = Self { weights: [10.0, 10.0, 5.0, 5.0] };

    /// Returns the code of a box that has an area, about an anchor that has one.
    pub fn encode(&self, object: &BoundingBox, anchor: &BoundingBox) -> [f32; 4] {
        let [wx, wy, ww, wh] = self.weights;
        let ([cx, cy], [ax, ay]) = (object.centre(), anchor.centre());
        [
            wx * (cx - ax) / anchor.width(),
            wy * (cy - ay) / anchor.height(),
            ww * libm::logf(object.width() / anchor.width()),
            wh * libm::logf(object.height() / anchor.height()),
        ]
    }

    /// Returns the box of a code about an anchor. It grows to at most 62.5 times the anchor, `exp(ln(1000 / 16))`.
    pub fn decode(&self, code: [f32; 4], anchor: &BoundingBox) -> BoundingBox {
        /// ln(1000 / 16).
        const MOST: f32 = 4.135_166_6;
        let [wx, wy, ww, wh] = self.weights;
        let [dx, dy, dw, dh] = code;
        let [ax, ay] = anchor.centre();
        let (x, y) = (dx / wx * anchor.width() + ax, dy / wy * anchor.height() + ay);
        let width = libm::expf((dw / ww).min(MOST)) * anchor.width();
        let height = libm::expf((dh / wh).min(MOST)) * anchor.height();
        BoundingBox::new(x - 0.5 * width, y - 0.5 * height, x + 0.5 * width, y + 0.5 * height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_go_there_and_back_and_sizes_are_bounded() {
        let (anchor, object) = (BoundingBox::new(3.0, 5.0, 11.0, 9.0), BoundingBox::new(2.5, 6.0, 20.0, 8.0));
        for code in [BoxCode::UNIT, BoxCode::BOX_HEAD] {
            let back = code.decode(code.encode(&object, &anchor), &anchor);
            assert!(back.to_array().iter().zip(object.to_array()).all(|(a, b)| (a - b).abs() < 1e-5), "{back:?}");
        }
        let huge = BoxCode::UNIT.decode([0.0, 0.0, 99.0, 0.0], &anchor);
        assert!((huge.width() / 8.0 - 62.5).abs() < 1e-3 && huge.height() == 4.0);
    }
}
