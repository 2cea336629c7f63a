//! Data sets in the form of YOLO: one text file per image, with a line `class x y width height` for each box.
//!
//! The numbers are shares of the width and the height of the image, and (`x`, `y`) is the middle of the box; classes are numbered from 0 in
//! the order of `classes.txt` (or `names.txt`, `obj.names`), one name per line. The images of a part are in `images/PART` with their texts in
//! `labels/PART`, or in `PART/images` and `PART/labels`, where PART is `train`, `val` (or `valid`) or `test`. A `data.yaml` may say both
//! instead. An image without a text file has no boxes.

use super::annotation::{Place, shortened};
use super::listing::{self, MOST, images_by_stem, lines, set_of, text_of};
use super::yolo_yaml;
use super::{AnnotatedImage, Annotation, AnnotationFault as Fault, BoundingBox, DetectionSet, DetectionSplit};
use crate::entries::entries;
use crate::source::{Reader, Request, SourceKind};
use crate::{DataError, Picture, Result};
use std::path::{Path, PathBuf};

/// The row of the registry.
pub(crate) const KIND: SourceKind = SourceKind {
    scaled: true,
    ..SourceKind::new("yolo:FOLDER", "for detection: images with boxes as YOLO has them", &Yolo)
};

/// Files of the names of classes are called so.
const NAMES: [&str; 3] = ["classes.txt", "names.txt", "obj.names"];
const VALIDATION: [&str; 2] = ["val", "valid"];

#[derive(Debug)]
struct Yolo;

impl Reader for Yolo {
    fn detection(&self, request: &Request<'_>) -> Result<DetectionSplit> {
        yolo(request.path(), request.whole)
    }

    fn detection_test(&self, request: &Request<'_>, _: &[String]) -> Result<DetectionSet> {
        let folder = request.path();
        let Layout { names, validation, test, .. } = Layout::of(folder)?;
        test.or(validation)
            .ok_or_else(|| DataError::missing(folder, "a folder images/test or images/val"))?
            .read(&names)
    }
}

/// Reads a folder in the form of YOLO. Without a part `test` the images of `val` are for testing; where the `whole` folder is for training, no
/// images for testing are needed.
fn yolo(folder: &Path, whole: bool) -> Result<DetectionSplit> {
    let Layout { names, train, validation, test } = Layout::of(folder)?;
    let train = train.ok_or_else(|| DataError::missing(folder, "a folder images/train"))?;
    let read = |part: Option<Part>| part.map(|part| part.read(&names)).transpose();
    let expected = "a folder images/test or images/val";
    DetectionSplit::of_parts(train.read(&names)?, read(validation)?, read(test)?, whole, expected)
}

/// The classes of a folder, and where its parts are.
struct Layout {
    names: Vec<String>,
    train: Option<Part>,
    validation: Option<Part>,
    test: Option<Part>,
}

impl Layout {
    /// A list of names goes before `data.yaml`.
    fn of(folder: &Path) -> Result<Self> {
        let list = NAMES.iter().map(|name| folder.join(name)).find(|path| path.is_file());
        if let Some(path) = list {
            let names = listing::class_names(&path.display().to_string(), &listing::bytes_of(&path, MOST)?)?;
            let part = |part: &str| Part::find(folder, part);
            let validation = VALIDATION.iter().find_map(|name| part(name));
            return Ok(Self { names, train: part("train"), validation, test: part("test") });
        }
        let Some(yaml) = yolo_yaml::read(folder)? else {
            let expected =
                format!("a file {} with the name of a class in each line, or {}", NAMES.join(" or "), yolo_yaml::FILE);
            return Err(DataError::missing(folder, &expected));
        };
        let part = |part: &str, folders: Option<[PathBuf; 2]>| {
            folders.map(|[images, texts]| Part { name: format!("{} {part}", folder.display()), images, texts })
        };
        Ok(Self {
            names: yaml.class_names,
            train: part("train", yaml.train),
            validation: part("val", yaml.validation),
            test: part("test", yaml.test),
        })
    }
}

/// The folders of a part.
struct Part {
    name: String,
    images: PathBuf,
    texts: PathBuf,
}

impl Part {
    fn find(folder: &Path, part: &str) -> Option<Self> {
        let of = |images: PathBuf, texts| Self { name: format!("{} {part}", folder.display()), images, texts };
        let both = [
            of(folder.join("images").join(part), folder.join("labels").join(part)),
            of(folder.join(part).join("images"), folder.join(part).join("labels")),
        ];
        both.into_iter().find(|part| part.images.is_dir())
    }

    fn read(self, names: &[String]) -> Result<DetectionSet> {
        let images = images_by_stem(&self.images)?;
        let texts = if self.texts.is_dir() { entries(&self.texts)? } else { Vec::new() };
        for text in texts.iter().filter(|path| path.extension().is_some_and(|ending| ending == "txt")) {
            let stem = text.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            // Tools leave the list of classes among the texts.
            if !images.contains_key(&stem) && !NAMES.contains(&format!("{stem}.txt").as_str()) {
                let place = Place { file: &text.display().to_string(), element: "the file" };
                let expected = format!("an image of this name in {}", self.images.display());
                return Err(place.error(Fault::MissingImage, expected, "none"));
            }
        }
        let images: Vec<_> = images.into_iter().enumerate().collect();
        let images = listing::for_each(&images, |(id, (stem, path))| {
            let size = Picture::size_of_file(path)?;
            let text = self.texts.join(format!("{stem}.txt"));
            let annotations = match text.is_file() {
                true => parse(&text.display().to_string(), &listing::bytes_of(&text, MOST)?, size, names)?,
                false => Vec::new(),
            };
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Ok((AnnotatedImage { name, id: *id as u64, size, annotations }, path.clone()))
        })?;
        set_of(self.name, names.to_vec(), images)
    }
}

/// Reads the boxes of an image of `size` (height, width).
fn parse(file: &str, bytes: &[u8], size: [usize; 2], names: &[String]) -> Result<Vec<Annotation>> {
    let [height, width] = size.map(|side| side as f32);
    let annotation = |(number, line): (usize, &str)| {
        let place = Place { file, element: format!("line {number}") };
        let mut fields = line.split_ascii_whitespace();
        let parts = std::array::from_fn(|_| fields.next());
        let ([Some(class), Some(x), Some(y), Some(w), Some(h)], None) = (parts, fields.next()) else {
            return Err(place.error(Fault::Damaged, "five fields: class, x, y, width, height", shortened(line)));
        };
        let class = class.parse::<usize>().ok().filter(|&class| class < names.len()).ok_or_else(|| {
            place.error(
                Fault::UnknownClass,
                format!("a class from 0 to {}", names.len().saturating_sub(1)),
                shortened(class),
            )
        })?;
        let [x, y] = [place.number("x", x)? * width, place.number("y", y)? * height];
        let [w, h] = [place.number("width", w)? * width, place.number("height", h)? * height];
        let bbox = BoundingBox::new(x - 0.5 * w, y - 0.5 * h, x + 0.5 * w, y + 0.5 * h);
        Ok(Annotation::new(place.checked(bbox, size)?, class))
    };
    lines(text_of(file, bytes)?).map(annotation).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixnet_fuzz as fuzz;
    use proptest::prelude::*;

    fn put(dir: &tempfile::TempDir, name: &str, bytes: &[u8]) {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let picture = Picture::new(4, 8, (0..96).collect()).unwrap().to_png().unwrap();
        for name in ["images/train/a.png", "images/train/b.png", "images/val/c.png"] {
            put(&dir, name, &picture);
        }
        put(&dir, "classes.txt", b"cat\ndog\n");
        put(&dir, "labels/train/a.txt", b"1 0.5 0.5 0.25 1\n\n0 0.125 0.25 .25 5e-1\n");
        put(&dir, "labels/val/c.txt", b"");
        dir
    }

    #[test]
    fn a_folder_has_its_parts_classes_and_boxes() {
        let dir = folder();
        let DetectionSplit { train, test, .. } = yolo(dir.path(), false).unwrap();
        assert_eq!((train.len(), test.len(), train.images_without_boxes(), test.images_without_boxes()), (2, 1, 1, 1));
        let expected = [
            Annotation::new(BoundingBox::new(3.0, 0.0, 5.0, 4.0), 1),
            Annotation::new(BoundingBox::new(0.0, 0.0, 2.0, 2.0), 0),
        ];
        assert_eq!(train.image(0).annotations, expected);
        // The other layout, with the list of classes among the texts.
        let other = tempfile::tempdir().unwrap();
        for (from, to) in [("images/train/a.png", "train/images/a.png"), ("images/val/c.png", "valid/images/c.png")] {
            put(&other, to, &std::fs::read(dir.path().join(from)).unwrap());
        }
        put(&other, "train/labels/a.txt", b"1 0.5 0.5 0.25 1\n");
        put(&other, "train/labels/classes.txt", b"cat\ndog\n");
        put(&other, "names.txt", b"cat\ndog\n");
        let split = yolo(other.path(), false).unwrap();
        assert_eq!((&split.train.image(0).annotations[..], split.test.len()), (&expected[..1], 1));
    }

    #[test]
    fn training_images_without_a_box_are_refused() {
        let dir = folder();
        std::fs::remove_dir_all(dir.path().join("labels/train")).unwrap();
        let e = yolo(dir.path(), false).unwrap_err().to_string();
        assert!(e.contains("train") && e.contains("expected a box in at least one training image"), "{e}");
        assert!(e.ends_with("found none in 2 images"), "{e}");
    }

    #[test]
    fn each_fault_is_named_with_its_place() {
        for (text, fault, words) in [
            (
                "1 0.5 0.5 0.25\n",
                Fault::Damaged,
                "line 1: expected five fields: class, x, y, width, height, found `1 0.5 0.5 0.25`",
            ),
            ("1 .5 .5 .2 .2\n1 0.1 0.1 0.2 0.2 0.3 0.3\n", Fault::Damaged, "line 2: expected five fields"),
            ("2 0.5 0.5 0.25 1\n", Fault::UnknownClass, "line 1: expected a class from 0 to 1, found `2`"),
            ("dog 0.5 0.5 0.25 1\n", Fault::UnknownClass, "found `dog`"),
            ("1 0.5 nan 0.25 1\n", Fault::NotANumber, "line 1: expected a finite number as y, found `nan`"),
            ("1 0.5 0.5 3e38 1\n", Fault::NotANumber, "line 1: expected finite coordinates"),
            ("1 0.5 0.5 0 1\n", Fault::NoArea, "line 1: expected a box with an area"),
            ("\n1 0.9 0.5 0.5 1\n", Fault::Outside, "line 2: expected a box inside the image of 4x8"),
        ] {
            let dir = folder();
            put(&dir, "labels/train/a.txt", text.as_bytes());
            let e = yolo(dir.path(), false).unwrap_err();
            let text = e.to_string();
            let DataError::Annotation { fault: found, place, .. } = e else { panic!("{text}") };
            assert!(found == fault && place.ends_with("a.txt") && text.contains(words), "{found:?} {text}");
        }
        let dir = folder();
        put(&dir, "labels/train/z.txt", b"");
        let e = yolo(dir.path(), false).unwrap_err().to_string();
        assert!(e.contains("z.txt: the file: expected an image of this name in"), "{e}");
        let dir = folder();
        put(&dir, "classes.txt", b"cat\n\ncat\n");
        let e = yolo(dir.path(), false).unwrap_err().to_string();
        assert!(
            e.ends_with("classes.txt: line 3: expected names of classes that differ, found `cat`, as in line 1"),
            "{e}"
        );
        std::fs::remove_file(dir.path().join("classes.txt")).unwrap();
        let e = yolo(dir.path(), false).unwrap_err().to_string();
        assert!(e.contains("a file classes.txt or names.txt or obj.names") && e.ends_with("images, labels"), "{e}");
    }

    #[test]
    fn a_data_yaml_stands_for_the_list_of_names_and_the_folders() {
        let dir = folder();
        std::fs::remove_file(dir.path().join("classes.txt")).unwrap();
        put(&dir, "data.yaml", b"train: images/train\nval: ../images/val\nnames: [cat, dog]\n");
        let DetectionSplit { train, test, .. } = yolo(dir.path(), false).unwrap();
        assert_eq!((train.len(), test.len(), train.image(0).annotations.len()), (2, 1, 2));
        assert_eq!(train.class_names(), ["cat", "dog"].map(String::from));
    }

    /// Fields of a line, good and bad.
    fn field() -> impl Strategy<Value = String> {
        let odd = ["", "nan", "-inf", "1e39", "-0", "1e-45", "0.5.5", "\u{2028}", "99999999999999999999", "x"];
        let odd = prop::sample::select(odd.to_vec()).prop_map(String::from);
        prop_oneof![4 => (0u8..10).prop_map(|v| format!("0.{v}")), 2 => (0u8..4).prop_map(|v| v.to_string()), 1 => odd]
    }

    proptest! {
        #![proptest_config(fuzz::config())]

        #[test]
        fn damaged_texts_never_panic(
            rows in prop::collection::vec(prop::collection::vec(field(), 4..7), 0..8),
            damage in fuzz::damage(),
            whole: bool,
            size in prop::sample::select(vec![[1usize, 1], [4, 8], [16384, 16384]]),
        ) {
            let text = rows.iter().map(|row| row.join(" ")).collect::<Vec<_>>().join("\n").into_bytes();
            let text = if whole { text } else { fuzz::damaged(text, &damage) };
            let names = ["a", "b"].map(String::from);
            if let Ok(found) = fuzz::within(fuzz::MOST, || parse("f", &text, size, &names)) {
                let border = BoundingBox::of_image(size);
                for Annotation { bbox, class, .. } in found {
                    prop_assert!(bbox.has_area() && bbox.clipped(&border) == bbox && class < 2);
                }
            }
            fuzz::within(fuzz::MOST, || drop(listing::class_names("f", &text)));
        }
    }
}
