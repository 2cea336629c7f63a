//! `DetectionSet`: images of any sizes with the boxes of their objects, and its parts (`DetectionSplit`).
//!
//! Pictures are kept in memory if all of them are small together; else each is read or made when it is asked for, and memory
//! holds only those in use.

use super::detection_description::check_category_ids;
use super::{Annotation, BoundingBox};
use crate::classes::check_class_names;
use crate::normalize::of_sums;
use crate::samples::IN_MEMORY;
use crate::{ClassDifference, DataError, Normalize, Picture, Result, error::unexpected};
use fixnet_tensor::rng::{Stream, domain};
use rayon::prelude::*;
use std::{fmt, sync::Arc};

/// Pictures that are not kept in memory are known by the pixels of this many, evenly spread.
const SAMPLED: usize = 16;
/// The normalization is that of this many pictures, evenly spread.
const NORMALIZED: usize = 512;

/// What is known of an image without its pixels.
#[derive(Debug, Clone, PartialEq)]
pub struct AnnotatedImage {
    /// What it is called: the name of its file.
    pub name: String,
    /// Its id: that of a COCO file, or else its index.
    pub id: u64,
    /// Height and width.
    pub size: [usize; 2],
    /// Its objects, in the order of the file.
    pub annotations: Vec<Annotation>,
}

/// Reads or makes the picture of an index.
pub type ReadPicture = dyn Fn(usize) -> Result<Picture> + Send + Sync;

/// Images with the boxes of their objects. A clone shares the pictures.
#[derive(Debug, Clone)]
pub struct DetectionSet {
    /// What it is, for messages.
    pub name: String,
    class_names: Arc<[String]>,
    category_ids: Option<Arc<[u64]>>,
    images: Vec<Arc<Held>>,
    fingerprint: String,
    /// What was done with the files that it was read from.
    read_notes: Arc<[String]>,
}

struct Held {
    image: AnnotatedImage,
    picture: Pixels,
}

enum Pixels {
    Memory(Picture),
    OnDemand(Arc<ReadPicture>, usize),
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("image", &self.image).finish_non_exhaustive()
    }
}

impl DetectionSet {
    /// Makes a set of pictures in memory. Boxes are indices of `class_names`.
    ///
    /// # Errors
    /// There is no image; class names are missing, empty or there twice; a picture is not of the size that is stated; a box is outside
    /// its image, has no area or a class without a name; or an id is there twice.
    pub fn new(
        name: impl Into<String>,
        class_names: Vec<String>,
        images: Vec<(AnnotatedImage, Picture)>,
    ) -> Result<Self> {
        let of = |(image, picture): (AnnotatedImage, Picture)| {
            check_size(&image, &picture)?;
            Ok(Arc::new(Held { image, picture: Pixels::Memory(picture) }))
        };
        Self::of(name.into(), class_names.into(), images.into_iter().map(of).collect::<Result<_>>()?, true)
    }

    /// Makes a set of pictures that `read` reads or makes when they are asked for; it is given the index in `images`.
    ///
    /// # Errors
    /// As [`new`](Self::new); or a picture cannot be read: some are, for the fingerprint.
    pub fn on_demand(
        name: impl Into<String>,
        class_names: Vec<String>,
        images: Vec<AnnotatedImage>,
        read: Arc<ReadPicture>,
    ) -> Result<Self> {
        let of = |(i, image)| Arc::new(Held { image, picture: Pixels::OnDemand(Arc::clone(&read), i) });
        Self::of(name.into(), class_names.into(), images.into_iter().enumerate().map(of).collect(), true)
    }

    /// As [`on_demand`](Self::on_demand), with the pictures kept in memory if they take at most 512 MiB together.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn read(
        name: String,
        class_names: Vec<String>,
        images: Vec<AnnotatedImage>,
        read: Arc<ReadPicture>,
    ) -> Result<Self> {
        let bytes = images.iter().map(|image| 3 * (image.size[0] * image.size[1]) as u64).sum::<u64>();
        if bytes > IN_MEMORY {
            return Self::on_demand(name, class_names, images, read);
        }
        // Each in its place: of several errors it is always the first.
        let pictures = (0..images.len()).into_par_iter().map(|i| read(i)).collect::<Vec<_>>();
        let images = images.into_iter().zip(pictures);
        Self::new(name, class_names, images.map(|(image, picture)| Ok((image, picture?))).collect::<Result<_>>()?)
    }

    fn of(name: String, class_names: Arc<[String]>, images: Vec<Arc<Held>>, check: bool) -> Result<Self> {
        if images.is_empty() {
            return Err(DataError::Empty { place: name });
        }
        if class_names.is_empty() {
            return Err(unexpected(&name, "at least one class", "none"));
        }
        let (fingerprint, read_notes) = (String::new(), Arc::default());
        let mut set = Self { name, class_names, category_ids: None, images, fingerprint, read_notes };
        if check {
            check_class_names(&set.name, &set.class_names, set.classes())?;
            set.check()?;
        }
        set.fingerprint = set.hash()?;
        Ok(set)
    }

    fn check(&self) -> Result<()> {
        let mut ids = std::collections::HashSet::new();
        for held in &self.images {
            let AnnotatedImage { name, id, size, annotations } = &held.image;
            let place = || format!("{}: {name}", self.name);
            Picture::bytes_of(size[0], size[1])?;
            if !ids.insert(*id) {
                return Err(unexpected(&place(), "ids of images that differ", format!("{id} twice")));
            }
            let image = BoundingBox::of_image(*size);
            for (i, Annotation { bbox, class, area, .. }) in annotations.iter().enumerate() {
                if !bbox.has_area() || bbox.clipped(&image) != *bbox || !area.is_finite() || *class >= self.classes() {
                    let expected =
                        format!("a box inside {}x{} with one of {} classes", size[0], size[1], self.classes());
                    let found = format!("{:?} of area {area} and class {class}", bbox.to_array());
                    return Err(unexpected(&format!("{}: box {i}", place()), expected, found));
                }
            }
        }
        Ok(())
    }

    /// A hash over classes, sizes, boxes and pixels.
    fn hash(&self) -> Result<String> {
        let (mut hash, len) = (blake3::Hasher::new(), self.len());
        hash.update(format!("{:?} {len}", self.class_names).as_bytes());
        for held in &self.images {
            let AnnotatedImage { size, annotations, .. } = &held.image;
            hash.update(format!(" {size:?} {}", annotations.len()).as_bytes());
            for Annotation { bbox, class, area, crowd, difficult } in annotations {
                let [x1, y1, x2, y2] = bbox.to_array();
                [x1, y1, x2, y2, *area].iter().for_each(|v| {
                    hash.update(&v.to_le_bytes());
                });
                hash.update(&(*class as u64).to_le_bytes()).update(&[u8::from(*crowd), u8::from(*difficult)]);
            }
        }
        let count = if self.is_on_demand() { len.min(SAMPLED) } else { len };
        for i in 0..count {
            hash.update(self.picture(spread(i, count, len))?.pixels());
        }
        Ok(hash.finalize().to_hex().to_string())
    }

    /// Returns the number of images.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Returns whether there is no image; never true for a set that was made.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// Returns whether pictures are read or made when they are asked for.
    pub fn is_on_demand(&self) -> bool {
        self.images.iter().any(|held| matches!(held.picture, Pixels::OnDemand(..)))
    }

    /// Returns the number of classes.
    pub fn classes(&self) -> usize {
        self.class_names.len()
    }

    /// Gives the classes the numbers that they have in a file of COCO, the first that of class 0.
    ///
    /// # Errors
    /// There is not one for each class, or one is there twice.
    pub fn with_category_ids(self, ids: Vec<u64>) -> Result<Self> {
        check_category_ids(&self.name, &ids, self.classes())?;
        Ok(Self { category_ids: Some(ids.into()), ..self })
    }

    /// Returns the numbers that the classes have in a file of COCO, where they come from one.
    pub fn category_ids(&self) -> Option<&[u64]> {
        self.category_ids.as_deref()
    }

    /// Returns what each class is called, the first that of class 0.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// Returns what tells this set from others: a hash (blake3, hex) of classes, sizes, boxes and pixels in their order. Of pictures that
    /// are not kept in memory, 16, evenly spread, stand for the pixels.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Returns name, id, size and objects of image `index`.
    ///
    /// # Panics
    /// There is no such image.
    pub fn image(&self, index: usize) -> &AnnotatedImage {
        &self.images[index].image
    }

    /// Returns the pixels of image `index`; grey images have three equal colours.
    ///
    /// # Errors
    /// The picture is not kept in memory and its file is no longer what it was.
    ///
    /// # Panics
    /// There is no such image.
    pub fn picture(&self, index: usize) -> Result<Picture> {
        let held = &self.images[index];
        match &held.picture {
            Pixels::Memory(picture) => Ok(picture.clone()),
            Pixels::OnDemand(read, at) => {
                let picture = read(*at)?;
                check_size(&held.image, &picture)?;
                Ok(picture)
            }
        }
    }

    /// Returns how many images have no boxes.
    pub fn images_without_boxes(&self) -> usize {
        self.images.iter().filter(|held| held.image.annotations.is_empty()).count()
    }

    /// Returns the number of boxes of each class, those that metrics ignore included.
    pub fn boxes_per_class(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes()];
        let all = self.images.iter().flat_map(|held| &held.image.annotations);
        all.for_each(|annotation| counts[annotation.class] += 1);
        counts
    }

    /// Returns the objects of all images, in the order of the images: the truth that metrics take.
    pub fn truth(&self) -> Vec<Vec<Annotation>> {
        self.images.iter().map(|held| held.image.annotations.clone()).collect()
    }

    /// Adds a note on the files that the set was read from.
    pub(crate) fn with_note(self, note: String) -> Self {
        let notes = self.read_notes.iter().cloned().chain([note]).collect();
        Self { read_notes: notes, ..self }
    }

    /// Returns notes for the user on the files that the set was read from: what was left out.
    pub fn read_notes(&self) -> &[String] {
        &self.read_notes
    }

    /// Returns notes for the user on this set as one to learn from: those [on its files](Self::read_notes), images without boxes, and
    /// classes without boxes.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.read_notes.to_vec();
        let empty = self.images_without_boxes();
        if empty > 0 {
            notes.push(format!("{}: {empty} of {} images have no boxes", self.name, self.len()));
        }
        let counts = self.boxes_per_class();
        let without: Vec<&String> =
            (0..counts.len()).filter(|&c| counts[c] == 0).map(|c| &self.class_names[c]).collect();
        if !without.is_empty() {
            notes.push(format!("{}: classes without boxes: {}", self.name, crate::listed::listed(&without)));
        }
        notes
    }

    /// Computes mean and deviation of each colour over all pixels, of at most 512 images, evenly spread.
    ///
    /// # Errors
    /// A picture cannot be read.
    pub fn normalization(&self) -> Result<Normalize> {
        let (len, count) = (self.len(), self.len().min(NORMALIZED));
        let sums = (0..count).into_par_iter().map(|i| {
            let picture = self.picture(spread(i, count, len))?;
            let mut sums = [[0u64; 2]; 3];
            for pixel in picture.pixels().as_chunks::<3>().0 {
                for (sum, v) in sums.iter_mut().zip(pixel.map(u64::from)) {
                    *sum = [sum[0] + v, sum[1] + v * v];
                }
            }
            Ok::<_, DataError>((sums, (picture.height() * picture.width()) as u64))
        });
        // Sums of integers: any order gives the same. Of several errors it is always the first.
        let mut all = ([[0u64; 2]; 3], 0);
        for part in sums.collect::<Vec<_>>() {
            let (sums, pixels) = part?;
            all.0.iter_mut().zip(sums).for_each(|(sum, part)| *sum = [sum[0] + part[0], sum[1] + part[1]]);
            all.1 += pixels;
        }
        Ok(of_sums(&all.0, all.1))
    }

    /// Returns the first `count` images (all if there are fewer, one if `count` is 0), for quick trials.
    ///
    /// # Errors
    /// A picture is not kept in memory and cannot be read.
    pub fn first(&self, count: usize) -> Result<Self> {
        self.select(self.name.clone(), &(0..count.clamp(1, self.len())).collect::<Vec<_>>())
    }

    fn select(&self, name: String, indices: &[usize]) -> Result<Self> {
        let images = indices.iter().map(|&i| Arc::clone(&self.images[i])).collect();
        let set = Self::of(name, Arc::clone(&self.class_names), images, false)?;
        Ok(Self { category_ids: self.category_ids.clone(), read_notes: Arc::clone(&self.read_notes), ..set })
    }

    /// Checks that the classes are those of `of`, in the same order.
    ///
    /// # Errors
    /// They are not; the message names the difference. `of` says in it whose classes were expected: `the network`.
    pub fn check_classes(&self, expected: &[String], of: &'static str) -> Result<()> {
        match ClassDifference::between(expected, &self.class_names) {
            Some(difference) => Err(DataError::OtherClasses { place: self.name.clone(), of, difference }),
            None => Ok(()),
        }
    }
}

/// Images to learn from and to judge by, with the same classes.
#[derive(Debug, Clone)]
pub struct DetectionSplit {
    /// For learning.
    pub train: DetectionSet,
    /// For measuring at the end.
    pub test: DetectionSet,
    /// For measuring on the way, if the source has such images or a share of the training images was set apart.
    pub validation: Option<DetectionSet>,
}

impl DetectionSplit {
    /// Makes a split of its parts.
    ///
    /// # Errors
    /// They have other classes than the training images.
    pub fn new(train: DetectionSet, test: DetectionSet, validation: Option<DetectionSet>) -> Result<Self> {
        for part in [Some(&test), validation.as_ref()].into_iter().flatten() {
            part.check_classes(&train.class_names, "the training images")?;
        }
        Ok(Self { train, test, validation })
    }

    /// Makes a split of the parts that a folder has: without a test part the validation part is for testing. Where the `whole` of a folder
    /// is for training, since test images come from another source, the test images are the training images.
    ///
    /// # Errors
    /// No training image has a box, there are no images for testing, or the parts have other classes.
    pub(crate) fn of_parts(
        train: DetectionSet,
        validation: Option<DetectionSet>,
        test: Option<DetectionSet>,
        whole: bool,
        names: &str,
    ) -> Result<Self> {
        if train.images_without_boxes() == train.len() {
            return Err(unexpected(
                &train.name,
                "a box in at least one training image (do the annotations lie where the reader looks for them?)",
                format!("none in {} images", train.len()),
            ));
        }
        match (test, validation) {
            (Some(test), validation) => Self::new(train, test, validation),
            (None, Some(validation)) if !whole => Self::new(train, validation, None),
            (None, validation) if whole => Self::new(train.clone(), train, validation),
            (None, _) => Err(unexpected(
                &train.name,
                format!("{names} for testing, or test data from elsewhere (data.test)"),
                "training images alone",
            )),
        }
    }

    /// Sets a share of the training images apart for validation, drawn by `seed` alone; 0 leaves all as it is. At least one image goes to
    /// either side.
    ///
    /// # Errors
    /// `share` is not between 0 and 1, there are fewer than two training images, or there are validation images already; or a picture cannot be read.
    pub fn with_validation(mut self, share: f64, seed: u64) -> Result<Self> {
        if !(0.0..1.0).contains(&share) {
            return Err(DataError::setting("validation", "a share of the training images from 0 to below 1", share));
        }
        if share == 0.0 {
            return Ok(self);
        }
        if let Some(there) = &self.validation {
            let expected = format!("0, since {} has the validation images", there.name);
            return Err(DataError::setting("validation", &expected, share));
        }
        let (train, len) = (&self.train, self.train.len());
        if len < 2 {
            return Err(unexpected(
                &train.name,
                "at least two images, of which one is set apart for validation",
                "one",
            ));
        }
        let count = ((len as f64 * share).round() as usize).clamp(1, len - 1);
        let mut order = Stream::new(seed, domain::SPLIT, 0, 0).permutation(len);
        order[..count].sort_unstable();
        order[count..].sort_unstable();
        let validation = train.select(format!("{}, set apart for validation", train.name), &order[..count])?;
        self.train = train.select(train.name.clone(), &order[count..])?;
        self.validation = Some(validation);
        Ok(self)
    }

    /// Returns notes for the user on the training images, and on the files of the others.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.train.notes();
        let others = self.validation.iter().chain([&self.test]).flat_map(DetectionSet::read_notes);
        for note in others {
            // Parts of one file have its notes.
            if !notes.contains(note) {
                notes.push(note.clone());
            }
        }
        notes
    }
}

/// The place of the `i`-th of `count` indices that are evenly spread over `len`.
fn spread(i: usize, count: usize, len: usize) -> usize {
    (i as u128 * len as u128 / count as u128) as usize
}

fn check_size(image: &AnnotatedImage, picture: &Picture) -> Result<()> {
    let found = [picture.height(), picture.width()];
    match found == image.size {
        true => Ok(()),
        false => {
            let expected = format!("{}x{} (height, width) as before", image.size[0], image.size[1]);
            Err(unexpected(&image.name, expected, format!("{}x{}", found[0], found[1])))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: u64, annotations: Vec<Annotation>) -> (AnnotatedImage, Picture) {
        let picture = Picture::new(2, 3, (0..18).map(|v| v + id as u8).collect()).unwrap();
        (AnnotatedImage { name: format!("i{id}"), id, size: [2, 3], annotations }, picture)
    }

    fn object(class: usize) -> Annotation {
        Annotation::new(BoundingBox::new(0.0, 0.0, 2.0, 1.0), class)
    }

    fn set(count: u64) -> DetectionSet {
        let images = (0..count).map(|id| image(id, vec![object(id as usize % 2)])).collect();
        DetectionSet::new("d", ["a", "b"].map(String::from).to_vec(), images).unwrap()
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let text = |images, names: &[&str]| {
            let names = names.iter().map(|name| (*name).into()).collect();
            DetectionSet::new("d", names, images).unwrap_err().to_string()
        };
        assert_eq!(text(vec![], &["a"]), "d: expected at least one image of at least one pixel, found none");
        assert_eq!(text(vec![image(1, vec![])], &[]), "d: expected at least one class, found none");
        assert!(text(vec![image(1, vec![])], &["a", "a"]).contains("class names that differ"));
        assert_eq!(
            text(vec![image(1, vec![]), image(1, vec![])], &["a"]),
            "d: i1: expected ids of images that differ, found 1 twice"
        );
        let e = text(vec![image(1, vec![object(0), object(1)])], &["a"]);
        assert_eq!(
            e,
            "d: i1: box 1: expected a box inside 2x3 with one of 1 classes, found [0.0, 0.0, 2.0, 1.0] of area 2 and class 1"
        );
        let outside = Annotation::new(BoundingBox::new(0.0, 0.0, 4.0, 1.0), 0);
        assert!(text(vec![image(1, vec![outside])], &["a"]).contains("box 0: expected a box inside 2x3"));
        let (mut wide, picture) = image(1, vec![]);
        wide.size = [2, 4];
        assert_eq!(text(vec![(wide, picture)], &["a"]), "i1: expected 2x4 (height, width) as before, found 2x3");
    }

    #[test]
    fn pictures_on_demand_are_those_in_memory() {
        let (memory, len) = (set(3), 3);
        let images = (0..len).map(|i| memory.image(i).clone()).collect::<Vec<_>>();
        let from = memory.clone();
        let demand = DetectionSet::on_demand(
            "d",
            memory.class_names().to_vec(),
            images.clone(),
            Arc::new(move |i| from.picture(i)),
        )
        .unwrap();
        assert!(demand.is_on_demand() && !memory.is_on_demand());
        assert_eq!(demand.fingerprint(), memory.fingerprint());
        assert_eq!(demand.picture(2).unwrap(), memory.picture(2).unwrap());
        assert_eq!(demand.normalization().unwrap(), memory.normalization().unwrap());
        // Red of the first picture is 0, 3, …, 15.
        let normalize = set(1).normalization().unwrap();
        assert!((normalize.mean()[0] - 7.5 / 255.0).abs() < 1e-6, "{normalize:?}");
        let other = Arc::new(|_| Picture::new(1, 1, vec![0; 3]));
        assert!(DetectionSet::on_demand("d", vec!["a".into(), "b".into()], images, other).is_err());
    }

    #[test]
    fn fingerprints_see_boxes_and_pixels() {
        let all = [
            set(3),
            set(2),
            DetectionSet::new("d", vec!["a".into(), "c".into()], vec![image(0, vec![object(0)])]).unwrap(),
            DetectionSet::new("d", vec!["a".into(), "b".into()], vec![image(1, vec![object(0)])]).unwrap(),
            DetectionSet::new("d", vec!["a".into(), "b".into()], vec![image(0, vec![object(1)])]).unwrap(),
            DetectionSet::new(
                "d",
                vec!["a".into(), "b".into()],
                vec![image(0, vec![Annotation { crowd: true, ..object(0) }])],
            )
            .unwrap(),
            set(1),
        ];
        let different: std::collections::BTreeSet<&str> = all.iter().map(DetectionSet::fingerprint).collect();
        assert_eq!(different.len(), all.len());
    }

    #[test]
    fn validation_is_a_share_of_the_training_images_by_seed() {
        let split = |seed| DetectionSplit::new(set(20), set(2), None).unwrap().with_validation(0.25, seed).unwrap();
        let (one, validation) = (split(1), split(1).validation.unwrap());
        assert_eq!((one.train.len(), validation.len(), one.test.len()), (15, 5, 2));
        let ids = |set: &DetectionSet| (0..set.len()).map(|i| set.image(i).id).collect::<Vec<_>>();
        let mut all = [ids(&one.train), ids(&validation)].concat();
        assert!(ids(&one.train).is_sorted() && ids(&validation).is_sorted());
        all.sort_unstable();
        assert_eq!(all, (0..20).collect::<Vec<_>>());
        assert_ne!(ids(&validation), ids(&split(2).validation.unwrap()));
        let e = split(1).with_validation(0.1, 1).unwrap_err().to_string();
        assert!(e.starts_with("validation: expected 0, since d, set apart for validation has"), "{e}");
        let other = DetectionSet::new("t", vec!["a".into()], vec![image(0, vec![])]).unwrap();
        let e = DetectionSplit::new(set(2), other, None).unwrap_err().to_string();
        assert!(e.starts_with("t: expected the classes of the training images, found others: missing `b`"), "{e}");
    }
}
