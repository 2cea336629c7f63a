//! The detections of all images of a part, and the metrics that follow from them.

use super::super::{Batch, Collector};
use super::{Detection, targets};
use crate::Result;
use fixnet_data::Annotation;
use fixnet_nn::metrics::{CocoEvaluation, VocEvaluation, VocYear, coco_average_precision, voc_average_precision};
use fixnet_tensor::Tensor;
use rayon::prelude::*;

/// Truth and detections, image by image, in pixels of the image.
pub(super) struct Found<'a> {
    task: &'a Detection,
    pub(super) truth: Vec<Vec<Annotation>>,
    pub(super) found: Vec<Vec<fixnet_data::Detection>>,
}

/// Average precision by the rules of COCO, and by those of VOC since 2010.
pub(super) struct Averages {
    pub(super) coco: CocoEvaluation,
    pub(super) voc: VocEvaluation,
}

impl<'a> Found<'a> {
    pub(super) fn new(task: &'a Detection) -> Self {
        Self { task, truth: Vec::new(), found: Vec::new() }
    }

    /// Average precision by both rules.
    pub(super) fn averages(&self) -> Result<Averages> {
        let classes = self.task.classes();
        Ok(Averages {
            coco: coco_average_precision(&self.truth, &self.found, classes)?,
            voc: voc_average_precision(&self.truth, &self.found, classes, VocYear::Y2010)?,
        })
    }
}

impl Collector for Found<'_> {
    fn add(&mut self, output: &Tensor, batch: &Batch) -> Result<()> {
        let batch = &targets(batch)?.batch;
        let len = output.shape()[1..].iter().product();
        let rows: Vec<&[f32]> = output.data().chunks_exact(len).collect();
        let select = |(i, row): (usize, &&[f32])| self.task.select(row, &batch.placements[i].shown());
        let found = rows.par_iter().enumerate().map(select).collect::<Vec<_>>();
        for (i, found) in found.into_iter().enumerate() {
            self.truth.push(batch.truth[i].clone());
            self.found.push(batch.back(i, &found?));
        }
        Ok(())
    }

    fn finish(&self) -> Result<Vec<f64>> {
        let Averages { coco, voc } = self.averages()?;
        let coco = coco.summary;
        Ok([coco.ap50, coco.ap, coco.ap75, voc.map].map(|value| value.unwrap_or(0.0)).to_vec())
    }
}
