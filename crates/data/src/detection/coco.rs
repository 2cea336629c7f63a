//! Data sets in the form of COCO: one JSON file per part, `train.json`, `val.json` and `test.json`, beside a folder `images`; or as COCO
//! itself is laid out, `annotations/instances_train2017.json` with the images in `train2017` or `images/train2017`, whatever stands in
//! place of the year.
//!
//! Boxes are `[x, y, width, height]`. Classes are the categories in the order of their ids, and images are in the order of theirs, as
//! pycocotools has them. Segmentations and whatever else a file has are skipped. COCO itself has boxes without width or height: these are
//! left out, and a note tells how many there were.

use super::annotation::{Place, shortened};
use super::listing::{self, checked_size, inside, set_of, text_of};
use super::whole::{flag, pixels, whole};
use super::{AnnotatedImage, Annotation, AnnotationFault as Fault, BoundingBox, DetectionSet, DetectionSplit};
use crate::entries::entries;
use crate::source::{Reader, Request, SourceKind};
use crate::{DataError, Result};
use fixnet_tensor::Budget;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The row of the registry.
pub(crate) const KIND: SourceKind = SourceKind {
    scaled: true,
    ..SourceKind::new("coco:FOLDER", "for detection: images with boxes as COCO has them", &Coco)
};

/// The most bytes of a file.
const MOST: u64 = Budget::DATA.limit();

#[derive(Debug)]
struct Coco;

impl Reader for Coco {
    fn detection(&self, request: &Request<'_>) -> Result<DetectionSplit> {
        coco(request.path(), request.whole)
    }

    fn detection_test(&self, request: &Request<'_>, _: &[String]) -> Result<DetectionSet> {
        tested(request.path())
    }
}

/// The images for testing: those of `test`, or else of `val`. In turn, since what is wrong with `val` does not matter where there is `test`.
fn tested(folder: &Path) -> Result<DetectionSet> {
    for name in ["test", "val"] {
        if let Some(part) = Part::find(folder, name)? {
            return part.read();
        }
    }
    Err(DataError::missing(folder, TESTED))
}

/// The files of test images, for messages.
const TESTED: &str = "a file test.json or val.json, or annotations/instances_val*.json";

/// Reads a folder in the form of COCO. Without a file of test images those for validation are for testing; where the `whole` folder is
/// for training, no images for testing are needed.
fn coco(folder: &Path, whole: bool) -> Result<DetectionSplit> {
    let read = |part: &str| Part::find(folder, part)?.map(|part| part.read()).transpose();
    let train = read("train")?
        .ok_or_else(|| DataError::missing(folder, "a file train.json or annotations/instances_train*.json"))?;
    DetectionSplit::of_parts(train, read("val")?, read("test")?, whole, TESTED)
}

/// The files of a part.
struct Part {
    name: String,
    annotations: PathBuf,
    images: PathBuf,
}

impl Part {
    /// Finds a part in one of the two layouts.
    ///
    /// # Errors
    /// There are several files of annotations of it, or the folder of its images is missing.
    fn find(folder: &Path, part: &str) -> Result<Option<Self>> {
        let name = format!("{} {part}", folder.display());
        let plain = folder.join(format!("{part}.json"));
        if plain.is_file() {
            return Ok(Some(Self { name, annotations: plain, images: folder.join("images") }));
        }
        let place = folder.join("annotations");
        if !place.is_dir() {
            return Ok(None);
        }
        // The images of a part are in a folder of the part with its year.
        let stem = |path: &PathBuf| {
            let name = path.file_name()?.to_str()?;
            let of = name.strip_prefix("instances_")?.strip_suffix(".json")?;
            let year = of.strip_prefix(part)?;
            (!year.starts_with(char::is_alphabetic)).then(|| of.to_string())
        };
        let found: Vec<(PathBuf, String)> =
            entries(&place)?.into_iter().filter_map(|path| stem(&path).map(|stem| (path, stem))).collect();
        let (annotations, stem) = match &found[..] {
            [] => return Ok(None),
            [one] => one.clone(),
            several => {
                let names: Vec<&str> = several.iter().map(|(_, stem)| stem.as_str()).collect();
                let file = place.display().to_string();
                let place = Place { file: &file, element: format!("instances_{part}*.json") };
                return Err(place.error(Fault::Duplicate, "one file of this part", names.join(" and ")));
            }
        };
        let images = [folder.join(&stem), folder.join("images").join(&stem)].into_iter().find(|path| path.is_dir());
        let images = images.ok_or_else(|| DataError::missing(folder, &format!("a folder {stem} or images/{stem}")))?;
        Ok(Some(Self { name, annotations, images }))
    }

    fn read(self) -> Result<DetectionSet> {
        let place = self.annotations.display().to_string();
        let Parsed { class_names, category_ids, images, left_out } =
            parse(&place, &listing::bytes_of(&self.annotations, MOST)?)?;
        let images = listing::for_each(&images, |image| {
            let place = Place { file: &place, element: format!("image {}", image.id) };
            let path = inside(&self.images, &image.name, &place)?;
            if !path.is_file() {
                return Err(place.error(Fault::MissingImage, format!("the image {}", path.display()), "none"));
            }
            checked_size(&path, Some(image.size), &place)?;
            Ok((image.clone(), path))
        })?;
        let set = set_of(self.name, class_names, images)?.with_category_ids(category_ids)?;
        Ok(match left_out {
            0 => set,
            1 => set.with_note(format!("{place}: 1 box without area is left out")),
            _ => set.with_note(format!("{place}: {left_out} boxes without area are left out")),
        })
    }
}

#[derive(Deserialize)]
struct File {
    images: Vec<Image>,
    #[serde(default)]
    annotations: Vec<Entry>,
    categories: Vec<Category>,
}

#[derive(Deserialize)]
struct Image {
    #[serde(deserialize_with = "whole")]
    id: u64,
    file_name: String,
    #[serde(deserialize_with = "pixels")]
    width: usize,
    #[serde(deserialize_with = "pixels")]
    height: usize,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(deserialize_with = "whole")]
    id: u64,
    #[serde(deserialize_with = "whole")]
    image_id: u64,
    #[serde(deserialize_with = "whole")]
    category_id: u64,
    bbox: [f64; 4],
    area: Option<f64>,
    #[serde(default, deserialize_with = "flag")]
    iscrowd: u64,
}

#[derive(Deserialize)]
struct Category {
    #[serde(deserialize_with = "whole")]
    id: u64,
    name: String,
}

/// What a file says, checked.
#[derive(Debug)]
struct Parsed {
    class_names: Vec<String>,
    /// The id of each class in the file.
    category_ids: Vec<u64>,
    /// In the order of their ids.
    images: Vec<AnnotatedImage>,
    /// How many boxes have no area.
    left_out: usize,
}

/// Reads and checks a file of annotations.
fn parse(place: &str, bytes: &[u8]) -> Result<Parsed> {
    let text = text_of(place, bytes)?;
    let File { mut images, annotations, mut categories } = serde_json::from_str(text).map_err(|e| {
        let place = Place { file: place, element: format!("line {}, column {}", e.line(), e.column()) };
        place.error(Fault::Damaged, "a COCO file with `images`, `annotations` and `categories`", e.to_string())
    })?;
    let at = |element: String| Place { file: place, element };
    if images.is_empty() {
        return Err(DataError::Empty { place: place.into() });
    }
    if categories.is_empty() {
        return Err(at("categories".into()).error(Fault::UnknownClass, "at least one category", "none"));
    }
    categories.sort_by_key(|category| category.id);
    images.sort_by_key(|image| image.id);
    let mut classes = BTreeMap::new();
    let mut names = BTreeSet::new();
    for (class, Category { id, name }) in categories.iter().enumerate() {
        let at = at(format!("category {id}"));
        if classes.insert(*id, class).is_some() {
            return Err(at.error(Fault::Duplicate, "ids of categories that differ", "this one twice"));
        }
        if name.is_empty() || !names.insert(name) {
            return Err(at.error(
                Fault::Duplicate,
                "names of categories that differ and are not empty",
                shortened(name),
            ));
        }
    }
    let mut files = BTreeSet::new();
    let mut by_id = BTreeMap::new();
    for (index, Image { id, file_name, width, height }) in images.iter().enumerate() {
        let at = at(format!("image {id}"));
        if by_id.insert(*id, index).is_some() {
            return Err(at.error(Fault::Duplicate, "ids of images that differ", "this one twice"));
        }
        if !files.insert(file_name) {
            return Err(at.error(Fault::Duplicate, "one entry per file", format!("{} twice", shortened(file_name))));
        }
        crate::Picture::bytes_of(*height, *width)
            .map_err(|e| at.error(Fault::Damaged, "the height and width of an image", e))?;
    }
    let mut found: Vec<Vec<Annotation>> = images.iter().map(|_| Vec::new()).collect();
    let (mut ids, mut left_out) = (BTreeSet::new(), 0);
    for entry in &annotations {
        let at = at(format!("annotation {}", entry.id));
        if !ids.insert(entry.id) {
            return Err(at.error(Fault::Duplicate, "ids of annotations that differ", "this one twice"));
        }
        let index = *by_id.get(&entry.image_id).ok_or_else(|| {
            at.error(Fault::MissingImage, "the id of an image of this file", format!("image_id {}", entry.image_id))
        })?;
        let class = *classes.get(&entry.category_id).ok_or_else(|| {
            let found = format!("category_id {}", entry.category_id);
            at.error(Fault::UnknownClass, "the id of a category of this file", found)
        })?;
        match annotation(entry, class, &images[index], &at)? {
            Some(annotation) => found[index].push(annotation),
            None => left_out += 1,
        }
    }
    let images = images.into_iter().zip(found).map(|(image, annotations)| AnnotatedImage {
        name: image.file_name,
        id: image.id,
        size: [image.height, image.width],
        annotations,
    });
    let (category_ids, class_names) = categories.into_iter().map(|category| (category.id, category.name)).unzip();
    Ok(Parsed { images: images.collect(), class_names, category_ids, left_out })
}

/// The object of an entry; none if its box has no area, that of COCO's annotation 2206849 for one.
fn annotation(entry: &Entry, class: usize, image: &Image, at: &Place<'_, String>) -> Result<Option<Annotation>> {
    let [x, y, width, height] = entry.bbox;
    // Sums in 64 bits: where they have a corner exactly, so has the box.
    let bbox = BoundingBox::new(x as f32, y as f32, (x + width) as f32, (y + height) as f32);
    if bbox.is_finite() && width >= 0.0 && height >= 0.0 && !bbox.has_area() {
        return Ok(None);
    }
    let bbox = at.checked(bbox, [image.height, image.width])?;
    let area = entry.area.map_or_else(|| bbox.area(), |area| area as f32);
    if !area.is_finite() || area < 0.0 {
        let found = entry.area.map_or_else(String::new, |area| area.to_string());
        return Err(at.error(Fault::NotANumber, "a finite `area` of at least 0", found));
    }
    if entry.iscrowd > 1 {
        return Err(at.error(Fault::Damaged, "0 or 1 as `iscrowd`", entry.iscrowd));
    }
    Ok(Some(Annotation { bbox, class, area, crowd: entry.iscrowd == 1, difficult: false }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Picture;
    use fixnet_fuzz as fuzz;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    /// Two images and two classes; the second image has no boxes.
    fn good() -> Value {
        json!({
            "info": {"year": 2020},
            "images": [
                {"id": 7, "file_name": "b.png", "width": 6, "height": 4, "license": 1},
                {"id": 3, "file_name": "in/a.png", "width": 6, "height": 4},
            ],
            "categories": [{"id": 9, "name": "dog", "supercategory": "x"}, {"id": 2, "name": "cat"}],
            "annotations": [
                {"id": 1, "image_id": 3, "category_id": 9, "bbox": [1.5, 0, 2, 4], "area": 6.5, "segmentation": [[1, 2, 3]]},
                {"id": 2, "image_id": 3, "category_id": 2, "bbox": [0, 0, 6.25, 4], "iscrowd": 1},
            ],
        })
    }

    fn folder(value: &Value) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("images/in")).unwrap();
        let picture = Picture::new(4, 6, (0..72).collect()).unwrap().to_png().unwrap();
        for name in ["b.png", "in/a.png"] {
            std::fs::write(dir.path().join("images").join(name), &picture).unwrap();
        }
        for part in ["train", "val"] {
            std::fs::write(dir.path().join(format!("{part}.json")), value.to_string()).unwrap();
        }
        dir
    }

    #[test]
    fn a_folder_has_its_parts_classes_and_boxes() {
        let dir = folder(&good());
        let DetectionSplit { train, test, validation } = coco(dir.path(), false).unwrap();
        assert_eq!(train.class_names(), ["cat", "dog"].map(String::from));
        assert_eq!((train.len(), test.len(), validation.is_none()), (2, 2, true));
        let image = train.image(0);
        assert_eq!((image.name.as_str(), image.id, image.size), ("in/a.png", 3, [4, 6]));
        let plain = Annotation { area: 6.5, ..Annotation::new(BoundingBox::new(1.5, 0.0, 3.5, 4.0), 1) };
        let crowd = Annotation { crowd: true, ..Annotation::new(BoundingBox::new(0.0, 0.0, 6.0, 4.0), 0) };
        assert_eq!(image.annotations, [plain, crowd]);
        assert_eq!((train.image(1).annotations.len(), train.picture(1).unwrap().height()), (0, 4));
        assert_eq!(train.fingerprint(), test.fingerprint());
        // As tools write them that know floating point numbers alone.
        let mut other = good();
        for path in
            ["/images/1/id", "/images/1/width", "/images/1/height", "/annotations/0/image_id", "/categories/0/id"]
        {
            let number = other.pointer_mut(path).unwrap();
            *number = json!(number.as_f64().unwrap());
        }
        other["annotations"][1]["iscrowd"] = json!(true);
        assert_eq!(coco(folder(&other).path(), false).unwrap().train.fingerprint(), train.fingerprint());
        let mut moved = good();
        moved["annotations"][0]["bbox"][0] = json!(1.75);
        assert_ne!(coco(folder(&moved).path(), false).unwrap().train.fingerprint(), train.fingerprint());
    }

    #[test]
    fn folders_as_coco_has_them_are_read() {
        let dir = folder(&good());
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir(path("annotations")).unwrap();
        std::fs::rename(path("train.json"), path("annotations/instances_train2017.json")).unwrap();
        std::fs::rename(path("val.json"), path("annotations/instances_val2017.json")).unwrap();
        // Files of other things are no parts.
        std::fs::write(path("annotations/captions_train2017.json"), "{").unwrap();
        std::fs::write(path("annotations/instances_trainer.json"), "{").unwrap();
        let e = coco(dir.path(), false).unwrap_err().to_string();
        assert!(e.contains("train2017 or images/train2017"), "{e}");
        std::fs::create_dir(path("pictures")).unwrap();
        std::fs::rename(path("images"), path("train2017")).unwrap();
        std::fs::create_dir_all(path("images/val2017/in")).unwrap();
        for name in ["b.png", "in/a.png"] {
            std::fs::copy(path("train2017").join(name), path("images/val2017").join(name)).unwrap();
        }
        let DetectionSplit { train, test, .. } = coco(dir.path(), false).unwrap();
        assert_eq!((train.len(), test.len(), train.category_ids()), (2, 2, Some(&[2, 9][..])));
        std::fs::write(path("annotations/instances_train2014.json"), good().to_string()).unwrap();
        let e = coco(dir.path(), false).unwrap_err().to_string();
        assert!(e.contains("train2014 and train2017"), "{e}");
        let e = coco(&path("pictures"), false).unwrap_err().to_string();
        assert!(e.contains("annotations/instances_train*.json"), "{e}");
    }

    #[test]
    fn a_broken_part_for_validation_does_not_matter_for_testing() {
        let dir = folder(&good());
        let path = |name: &str| dir.path().join(name);
        std::fs::rename(path("val.json"), path("test.json")).unwrap();
        std::fs::create_dir(path("annotations")).unwrap();
        // Its images are missing.
        std::fs::write(path("annotations/instances_val2017.json"), "{").unwrap();
        assert_eq!(tested(dir.path()).unwrap().len(), 2);
        std::fs::remove_file(path("test.json")).unwrap();
        let e = tested(dir.path()).unwrap_err().to_string();
        assert!(e.contains("val2017"), "{e}");
    }

    #[test]
    fn each_fault_is_named_with_its_place() {
        let mut second = good()["annotations"][0].clone();
        second["image_id"] = json!(7);
        for (path, value, fault, words) in [
            (
                "/annotations/0/bbox",
                json!([1, 0, 9, 4]),
                Fault::Outside,
                "annotation 1: expected a box inside the image of 4x6",
            ),
            ("/annotations/0/bbox", json!([1, 0, -1, 4]), Fault::NoArea, "annotation 1: expected a box with an area"),
            (
                "/annotations/0/bbox",
                json!([1, 0, 1e300, 4]),
                Fault::NotANumber,
                "annotation 1: expected finite coordinates",
            ),
            ("/annotations/0/bbox", json!([1, 0, 4]), Fault::Damaged, "line 1, column "),
            ("/annotations/0/bbox", json!([1, 0, null, 4]), Fault::Damaged, "expected a COCO file"),
            ("/annotations/0/area", json!(-1), Fault::NotANumber, "expected a finite `area` of at least 0, found -1"),
            (
                "/images/0/width",
                json!(6.5),
                Fault::Damaged,
                "floating point `6.5`, expected a whole number of at least 0",
            ),
            ("/images/0/id", json!(true), Fault::Damaged, "boolean `true`, expected a whole number of at least 0"),
            ("/images/0/id", json!(-1), Fault::Damaged, "integer `-1`, expected a whole number of at least 0"),
            ("/annotations/0/iscrowd", json!("1"), Fault::Damaged, "expected 0, 1, true or false"),
            ("/annotations/0/iscrowd", json!(2), Fault::Damaged, "expected 0 or 1 as `iscrowd`, found 2"),
            (
                "/annotations/0/image_id",
                json!(4),
                Fault::MissingImage,
                "expected the id of an image of this file, found image_id 4",
            ),
            (
                "/annotations/0/category_id",
                json!(4),
                Fault::UnknownClass,
                "annotation 1: expected the id of a category",
            ),
            ("/annotations/1", second, Fault::Duplicate, "annotation 1: expected ids of annotations that differ"),
            ("/images/0/id", json!(3), Fault::Duplicate, "image 3: expected ids of images that differ"),
            (
                "/images/0/file_name",
                json!("in/a.png"),
                Fault::Duplicate,
                "image 7: expected one entry per file, found `in/a.png` twice",
            ),
            ("/images/0/file_name", json!("c.png"), Fault::MissingImage, "image 7: expected the image "),
            (
                "/images/0/file_name",
                json!("../val.json"),
                Fault::Damaged,
                "image 7: expected the name of a file, without `..`",
            ),
            (
                "/images/0/file_name",
                json!("/etc/hosts"),
                Fault::Damaged,
                "image 7: expected the name of a file, without `..`",
            ),
            ("/images/0/width", json!(5), Fault::OtherSize, "image 7: expected 4x6 (height, width), the size of"),
            ("/images/0/width", json!(0), Fault::Damaged, "image 7: expected the height and width of an image"),
            ("/categories/0/id", json!(2), Fault::Duplicate, "category 2: expected ids of categories that differ"),
            (
                "/categories/0/name",
                json!("cat"),
                Fault::Duplicate,
                "category 9: expected names of categories that differ",
            ),
            ("/categories", json!([]), Fault::UnknownClass, "categories: expected at least one category, found none"),
            ("/images", json!(7), Fault::Damaged, "expected a COCO file with `images`"),
        ] {
            let mut bad = good();
            match bad.pointer_mut(path) {
                Some(to) => *to = value.clone(),
                None => drop(bad["annotations"][0].as_object_mut().unwrap().insert("iscrowd".into(), value.clone())),
            }
            let dir = folder(&bad);
            let e = Part::find(dir.path(), "train").unwrap().unwrap().read().unwrap_err();
            let text = e.to_string();
            let DataError::Annotation { fault: found, place, .. } = e else { panic!("{path} {value}: {text}") };
            assert!(found == fault && place.ends_with("train.json") && text.contains(words), "{found:?} {text}");
        }
        for text in ["", "[1]", "{", "{\"images\": NaN}", "\u{0}"] {
            assert!(
                matches!(parse("f", text.as_bytes()), Err(DataError::Annotation { fault: Fault::Damaged, .. })),
                "{text}"
            );
        }
        let mut empty = good();
        empty["images"] = json!([]);
        empty["annotations"] = json!([]);
        assert!(matches!(parse("f", empty.to_string().as_bytes()), Err(DataError::Empty { .. })));
    }

    #[test]
    fn boxes_without_area_are_left_out_and_counted() {
        let mut value = good();
        for (i, bbox) in [json!([1.0, 3.0, 1.03, 0.0]), json!([2, 1, 0, 2])].into_iter().enumerate() {
            let more = json!({"id": 10 + i, "image_id": 7, "category_id": 9, "bbox": bbox, "area": 0.0});
            value["annotations"].as_array_mut().unwrap().push(more);
        }
        let split = coco(folder(&value).path(), false).unwrap();
        assert_eq!((split.train.image(0).annotations.len(), split.train.image(1).annotations.len()), (2, 0));
        let counted = |note: &&String| note.ends_with(".json: 2 boxes without area are left out");
        let notes = split.notes();
        let places: Vec<bool> = notes.iter().filter(counted).map(|note| note.contains("train.json")).collect();
        assert_eq!(places, [true, false], "{notes:?}");
        // Part of the images still tells of their file.
        assert_eq!(split.train.first(1).unwrap().notes().iter().filter(counted).count(), 1);
    }

    #[test]
    fn images_of_nuclei_are_read() {
        let split = coco(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/detection/coco")), false).unwrap();
        assert_eq!((split.train.boxes_per_class(), split.test.boxes_per_class()), (vec![11], vec![17]));
        let (image, first) = (split.train.image(0), BoundingBox::new(0.0, 174.0, 4.0, 190.0));
        assert_eq!((image.id, image.size, split.train.class_names()), (19, [256, 256], &["nucleus".to_string()][..]));
        assert_eq!(image.annotations[0], Annotation { area: 46.0, ..Annotation::new(first, 0) });
        assert_eq!(split.test.picture(0).unwrap().shape(), [256, 256, 3]);
    }

    /// Values of any kind, numbers beyond their ranges among them.
    fn value() -> impl Strategy<Value = String> {
        let odd = [
            "null",
            "-1",
            "1e308",
            "1e999",
            "-0",
            "18446744073709551616",
            "NaN",
            "[]",
            "{}",
            "\"\"",
            "true",
            "0.5",
            "\"a\"",
        ];
        prop_oneof![4 => (0u8..8).prop_map(|v| v.to_string()), 1 => prop::sample::select(odd.to_vec()).prop_map(Into::into)]
    }

    /// An entry with these keys, of which one may be left out or doubled.
    fn entry(keys: &'static [(&'static str, u8)]) -> impl Strategy<Value = String> {
        (prop::collection::vec((value(), 0u8..40), keys.len()), value()).prop_map(|(values, last)| {
            let fields = keys.iter().zip(values).flat_map(|((key, kind), (value, times))| {
                let value = match kind {
                    // A name, a box, or a number.
                    1 => format!("\"{}\"", value.replace('"', "")),
                    2 => format!("[1, 0, 2, {value}]"),
                    _ => value,
                };
                let field = format!("\"{key}\": {value}");
                // Nearly always once.
                vec![field; if times < 2 { 2 * usize::from(times) } else { 1 }]
            });
            let fields: Vec<String> = fields.chain([format!("\"more\": {last}")]).collect();
            format!("{{{}}}", fields.join(", "))
        })
    }

    fn file_text() -> impl Strategy<Value = String> {
        let list = |keys| prop::collection::vec(entry(keys), 0..6).prop_map(|all| format!("[{}]", all.join(", ")));
        let images = list(&[("id", 0), ("file_name", 1), ("width", 0), ("height", 0)]);
        let annotations =
            list(&[("id", 0), ("image_id", 0), ("category_id", 0), ("bbox", 2), ("area", 0), ("iscrowd", 0)]);
        (images, annotations, list(&[("id", 0), ("name", 1)]), 0usize..300).prop_map(|(images, annotations, categories, depth)| {
            let (open, close) = ("[".repeat(depth), "]".repeat(depth));
            format!(
                "{{\"x\": {open}{close}, \"images\": {images}, \"annotations\": {annotations}, \"categories\": {categories}}}"
            )
        })
    }

    proptest! {
        #![proptest_config(fuzz::config())]

        #[test]
        fn damaged_files_never_panic(text in file_text(), damage in fuzz::damage(), kind in 0u8..3) {
            let text = match kind {
                0 => text.into_bytes(),
                1 => fuzz::damaged(text.into_bytes(), &damage),
                _ => fuzz::damaged(good().to_string().into_bytes(), &damage),
            };
            if let Ok(parsed) = fuzz::within(fuzz::MOST, || parse("f", &text)) {
                for image in parsed.images {
                    let border = BoundingBox::of_image(image.size);
                    for Annotation { bbox, class, .. } in image.annotations {
                        prop_assert!(bbox.has_area() && bbox.clipped(&border) == bbox && class < parsed.class_names.len());
                    }
                }
            }
        }
    }
}
