//! What detectors need beside layers: anchors, box codes, the assignment of anchors to objects, the losses, and how outputs become
//! detections. All of it is plain arithmetic in one written order, so ties and sums have the same bits everywhere.

mod anchors;
mod box_code;
mod loss;
mod matching;
mod output;
mod proposals;
mod regions;
mod select;

pub use anchors::AnchorConfig;
pub use box_code::BoxCode;
pub use loss::{DetectionLoss, Objects, detection_loss};
pub use matching::{Match, Matcher};
pub use output::BoxOutput;
pub use proposals::Proposals;
pub use regions::{Learned, RegionRow, Sampler, Truth, evaluated_loss, proposal_loss, region_loss};
pub use select::Selection;
