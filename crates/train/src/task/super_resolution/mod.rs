//! Super-resolution: small pictures to large ones, the mean absolute error as loss, PSNR and SSIM of the brightness.
//!
//! | file | what |
//! |---|---|
//! | here | the task: network, loss, metrics, what a checkpoint records |
//! | `pictures.rs` | its data: patches to learn from, whole pictures to judge by |
//! | `enlarge.rs` | a picture of any size through a network, in tiles |
//! | `report.rs` | what a report shows |

mod enlarge;
mod pictures;
mod record;
mod report;

pub use enlarge::Enlarger;
pub use pictures::Pictures;
pub use report::{Judged, judge};

use super::parts;
use super::trial::{self, Trial};
use super::{Answer, Batch, Better, Data, Metric, Part, Section, Task, TaskKind, Unit};
use crate::evaluation::evaluate_test;
use crate::scores::{Network, Scores};
use crate::{Config, Error, Result};
use fixnet_autograd::{Graph, Store, Var};
use fixnet_data::{Augment, Normalize, PairSplit, Pairs, PatchSettings, Picture, Sample};
use fixnet_nn::Layer;
use fixnet_nn::layers::Sequential;
use fixnet_nn::metrics::{self, SSIM_WINDOW};
use fixnet_nn::models::{self, ModelSpec, Output};
use fixnet_nn::plan::Plan;
use fixnet_tensor::Tensor;
use rayon::prelude::*;
use record::Record;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The row of the registry.
pub(super) const KIND: TaskKind =
    TaskKind { name: NAME, metrics: METRICS, trials: TRIALS, check, data_key, load, recorded, of_shape, of_plan };

const NAME: &str = "super-resolution";
const TRIALS: &[Trial] = &[Trial { samples: "pictures", load: trial }];
const METRICS: &[Metric] = &[
    Metric { name: "psnr", unit: Unit::Decibel, better: Better::Higher },
    Metric { name: "ssim", unit: Unit::Number, better: Better::Higher },
];
/// What is taken off the colours, from 0 to 1, before the network and added behind it: the means that EDSR has.
const MEANS: [f32; 3] = [0.4488, 0.4371, 0.4040];

/// Super-resolution, for a network that was or will be trained on such pictures.
#[derive(Debug, Clone)]
pub struct SuperResolution {
    scale: usize,
    /// How far an output pixel sees, in pixels of the input.
    reach: usize,
    record: Record,
}

impl SuperResolution {
    /// Returns the task of a network and the data of pictures that a program made or read itself. `patches` says how patches are
    /// cut.
    ///
    /// # Errors
    /// The network enlarges no pictures; the pictures are those of another scale, or smaller than a patch or than the metrics need.
    pub fn of_split(model: &ModelSpec, split: PairSplit, patches: PatchSettings) -> Result<(Self, Pictures)> {
        let (scale, reach) = enlarges(model)?;
        let normalize = Normalize::new(MEANS.to_vec(), vec![1.0; 3])?;
        let record = Record::of(scale, &split, [patches.side; 2], normalize.clone());
        let data = Pictures::new(scale, split, patches, normalize)?;
        Ok((Self { scale, reach, record }, data))
    }

    /// How many times higher and wider pictures become.
    pub fn scale(&self) -> usize {
        self.scale
    }

    /// What a network sees of pixels.
    pub fn normalize(&self) -> &Normalize {
        &self.record.normalize
    }

    fn enlarger(&self) -> Enlarger {
        Enlarger { scale: self.scale, reach: self.reach, normalize: self.record.normalize.clone() }
    }
}

/// The least side of a small picture or a patch whose large one the metrics can judge: a window within a border.
fn least_side(scale: usize) -> usize {
    (SSIM_WINDOW + 2 * scale).div_ceil(scale)
}

/// How many times a network enlarges pictures, and how far its outputs see.
fn enlarges(model: &ModelSpec) -> Result<(usize, usize)> {
    match model.output() {
        Output::Image { scale, reach } => Ok((scale, reach)),
        _ => {
            let reason = format!("expected a network that enlarges pictures, such as edsr, found {model}");
            Err(Error::Setting { key: "model.name".into(), reason })
        }
    }
}

fn check(config: &Config) -> Result<()> {
    let ((scale, _), patch) = (enlarges(config.model())?, config.patches());
    let least = least_side(scale);
    let refuse = |key: &str, reason: String| Err(Error::Setting { key: key.into(), reason });
    if patch.side < least {
        return refuse("data.patch", format!("expected at least {least} for a scale of {scale}, found {}", patch.side));
    }
    if patch.each == 0 {
        return refuse("data.patches", "expected at least 1, found 0".into());
    }
    let Augment { flip, quarter_turns, .. } = config.augment();
    if config.augment() != (Augment { flip, quarter_turns, ..Augment::default() }) {
        return refuse(
            "augmentation",
            "expected flip and quarter_turns alone for super-resolution, found others".into(),
        );
    }
    Ok(())
}

/// Pictures, and how they are cut; runs of other seeds have the same where no part of them is drawn.
fn data_key(config: &Config) -> String {
    let scale = enlarges(config.model()).map_or(0, |(scale, _)| scale);
    format!("{} x{scale} {:?}", parts::data_key(config), config.patches())
}

fn load(config: &Config) -> Result<(Arc<dyn Task>, Box<dyn Data>)> {
    check(config)?;
    let (scale, _) = enlarges(config.model())?;
    let pairs = config.data().load_pairs(scale)?;
    let (task, data) = SuperResolution::of_split(config.model(), pairs, config.patches())?;
    Ok((Arc::new(task), Box::new(data)))
}

fn trial(config: &Config) -> trial::Loaded {
    let (scale, _) = enlarges(config.model())?;
    let pairs = |name: &str| {
        let photos = (0..trial::SAMPLES).map(|i| {
            let (side, shift) = (trial::IMAGE[0], i * 7);
            let pixels = (0..side * side * 3).map(|k| ((k + shift) * 31 % 251) as u8).collect();
            Ok((i.to_string(), Picture::new(side, side, pixels)?))
        });
        Pairs::of_photos(name, scale, photos.collect::<Result<_>>()?).map_err(Error::from)
    };
    let split = PairSplit { train: pairs("trial train")?, test: pairs("trial test")?, validation: None };
    let patches = PatchSettings { side: least_side(scale), each: 1, flip: false, quarter_turns: false };
    let (task, data) = SuperResolution::of_split(config.model(), split, patches)?;
    Ok((Arc::new(task), Box::new(data)))
}

fn recorded(config: &Config, place: &str, metadata: &BTreeMap<String, String>) -> Result<Arc<dyn Task>> {
    let (scale, reach) = enlarges(config.model())?;
    Ok(Arc::new(SuperResolution { scale, reach, record: Record::read_from(place, scale, metadata)? }))
}

fn of_shape(config: &Config, input: &[usize], _: usize) -> Result<Arc<dyn Task>> {
    let (&[height, width, 3], false) = (input, input.contains(&0)) else {
        let found = input.iter().map(ToString::to_string).collect::<Vec<_>>().join("x");
        let reason = format!("expected pictures of three colours, found {found}");
        return Err(Error::Setting { key: "input".into(), reason });
    };
    let (scale, reach) = enlarges(config.model())?;
    let normalize = Normalize::new(MEANS.to_vec(), vec![1.0; 3])?;
    Ok(Arc::new(SuperResolution { scale, reach, record: Record::unseen(scale, [height, width], normalize) }))
}

fn of_plan(config: &Config, place: &str, plan: &Plan) -> Result<Arc<dyn Task>> {
    let (scale, reach) = enlarges(config.model())?;
    let wrong = |reason: String| crate::error::run(std::path::Path::new(place), reason);
    let normalize = plan.normalize().cloned().ok_or_else(|| wrong("expected a normalization, found none".into()))?;
    let (input, output) = (plan.input_shape(), plan.output_shape());
    match (input, output) {
        (&[h, w, 3], &[large_h, large_w, 3]) if [large_h, large_w] == [h, w].map(|side| side * scale) => {
            Ok(Arc::new(SuperResolution { scale, reach, record: Record::unseen(scale, [h, w], normalize) }))
        }
        _ => {
            let expected = format!("a network that enlarges pictures {scale} times");
            Err(wrong(format!("expected {expected}, found one from {input:?} to {output:?}")))
        }
    }
}

/// The pictures of a batch [N, H, W, 3] of numbers from 0 to 1, rounded to bytes.
fn pictures_of(values: &Tensor) -> Result<Vec<Picture>> {
    let &[n, height, width, 3] = values.shape() else {
        return Err(fixnet_tensor::Error::shape("pictures", "[N, H, W, 3]", values.shape()).into());
    };
    let byte = |v: &f32| ((v * 255.0).clamp(0.0, 255.0) + 0.5) as u8;
    let len = height * width * 3;
    let picture = |i: usize| Picture::new(height, width, values.data()[i * len..][..len].iter().map(byte).collect());
    Ok((0..n).into_par_iter().map(picture).collect::<Vec<_>>().into_iter().collect::<fixnet_data::Result<_>>()?)
}

fn targets(batch: &Batch) -> Result<&Tensor> {
    batch.targets.downcast_ref().ok_or_else(|| {
        fixnet_autograd::Error::setting("targets of super-resolution", "a batch of large pictures", "other ones").into()
    })
}

/// Adds the means that were taken off the input.
struct AddMeans(Vec<f32>);

impl Layer for AddMeans {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> fixnet_autograd::Result<Var> {
        let means = g.input(Tensor::from_vec(&[self.0.len()], self.0.clone())?);
        g.add_bias(x, &means)
    }
}

impl Task for SuperResolution {
    fn name(&self) -> &'static str {
        NAME
    }

    fn metrics(&self) -> &'static [Metric] {
        METRICS
    }

    fn input_shape(&self) -> Vec<usize> {
        let [height, width] = self.record.input;
        vec![height, width, 3]
    }

    fn any_size(&self) -> bool {
        true
    }

    fn build(&self, store: &mut Store, config: &Config) -> Result<Box<dyn Layer>> {
        let [height, width] = self.record.input;
        let net = models::build(store, config.model(), [height, width, 3], 0, config.quant())?;
        Ok(self.wrap(Box::new(net)))
    }

    fn wrap(&self, net: Box<dyn Layer>) -> Box<dyn Layer> {
        Box::new(Sequential::new().push(net).push(AddMeans(self.record.normalize.mean().to_vec())))
    }

    fn check(&self, config: &Config) -> Result<()> {
        check(config)
    }

    fn complete(&self, plan: Plan) -> Plan {
        plan.normalized(self.record.normalize.clone())
    }

    fn record(&self, metadata: &mut BTreeMap<String, String>) {
        self.record.write_to(metadata);
    }

    fn check_recorded(&self, config: &Config, place: &str, metadata: &BTreeMap<String, String>) -> Result<Vec<String>> {
        let expected = Record::read_from(place, self.scale, metadata)?;
        expected.check_same(&format!("data {}", config.data().source), &self.record)?;
        Ok(Vec::new())
    }

    fn loss(&self, g: &mut Graph<'_>, output: &Var, batch: &Batch) -> Result<Var> {
        let target = g.input(targets(batch)?.clone());
        Ok(g.l1_loss(output, &target)?)
    }

    fn score(&self, output: &Tensor, batch: &Batch) -> Result<Vec<f64>> {
        let (found, wanted) = (pictures_of(output)?, pictures_of(targets(batch)?)?);
        let border = self.scale;
        let of = |(a, b): (&Picture, &Picture)| -> Result<[f64; 2]> {
            Ok([metrics::psnr(a, b, border)?, metrics::ssim(a, b, border)?])
        };
        let scores = found.par_iter().zip(&wanted).map(of).collect::<Vec<_>>();
        let mut sums = vec![0.0; METRICS.len()];
        for score in scores {
            sums.iter_mut().zip(score?).for_each(|(sum, v)| *sum += v);
        }
        Ok(sums)
    }

    fn load_test(&self, config: &Config) -> Result<Box<dyn Data>> {
        let place = || format!("data {}", config.data().source);
        let test = config.data().load_test_pairs(self.scale).map_err(|e| Error::from(e).within(place()))?;
        Ok(Box::new(Pictures::of_test(self.scale, test, self.record.normalize.clone())?))
    }

    fn predict(&self, net: &dyn Layer, store: &mut Store, samples: &[Sample]) -> Result<Vec<Answer>> {
        let picture = |sample: &Sample| match sample {
            Sample::Image(image) => Ok(Answer::Picture(self.enlarger().enlarge(net, store, &image.picture()?)?)),
            Sample::Row(_) | Sample::Sequence(_) => {
                let expected = self.sample_form().to_string();
                Err(fixnet_autograd::Error::setting("a sample of super-resolution", expected, "numbers").into())
            }
        };
        samples.iter().map(picture).collect()
    }

    fn report(&self, mut network: Network<'_>, data: &dyn Data) -> Result<(Scores, Vec<Section>)> {
        let test = data.as_any().downcast_ref::<Pictures>().and_then(|data| data.part(Part::Test));
        let test = test.ok_or_else(|| {
            fixnet_autograd::Error::setting("data of super-resolution", "pairs of pictures", "other ones")
        })?;
        let scores = evaluate_test(self, &mut network, data)?;
        Ok((scores, vec![report::section(&self.enlarger(), network.net, network.store, test)?]))
    }
}
