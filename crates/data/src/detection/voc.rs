//! Data sets in the form of Pascal VOC: one XML file per image, and lists of the images of each part.
//!
//! `ImageSets/Main/train.txt`, `val.txt` and `test.txt` name images, one per line; `JPEGImages` has their files, and `Annotations` their
//! XML files. Coordinates of VOC are numbers of pixels, counted from 1, of which the last one belongs to the box: `xmin = 1, xmax = 3` is a
//! box from x = 0 to x = 3.

use super::annotation::{Place, shortened};
use super::listing::{self, MOST, checked_size, images_by_stem, inside, lines, set_of, text_of};
use super::{AnnotatedImage, Annotation, AnnotationFault as Fault, BoundingBox, DetectionSet, DetectionSplit};
use crate::source::{Reader, Request, SourceKind};
use crate::{DataError, Result};
use roxmltree::{Document, Node, ParsingOptions};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};
use std::path::Path;

/// The row of the registry.
pub(crate) const KIND: SourceKind = SourceKind {
    scaled: true,
    ..SourceKind::new("voc:FOLDER", "for detection: images with boxes as Pascal VOC has them", &Voc)
};

/// An optional list of the classes, one per line, in a folder.
const CLASSES: &str = "classes.txt";
/// The most elements of an XML file.
const MOST_NODES: u32 = 1 << 20;

#[derive(Debug)]
struct Voc;

impl Reader for Voc {
    fn detection(&self, request: &Request<'_>) -> Result<DetectionSplit> {
        voc(request.path(), request.whole)
    }

    fn detection_test(&self, request: &Request<'_>, class_names: &[String]) -> Result<DetectionSet> {
        let part = if list(request.path(), "test").is_file() { "test" } else { "val" };
        Part::read(request.path(), part)?.set(class_names.to_vec())
    }
}

/// Reads a folder in the form of Pascal VOC, with the parts `train`, `val` and `test` of `ImageSets/Main`. Without `test.txt` the images of
/// `val.txt` are for testing; where the `whole` folder is for training, no images for testing are needed.
///
/// Classes are those of `classes.txt` in their order, or else those of the training images in alphabetical order.
fn voc(folder: &Path, whole: bool) -> Result<DetectionSplit> {
    let train = Part::read(folder, "train")?;
    let other = |part: &str| list(folder, part).is_file().then(|| Part::read(folder, part)).transpose();
    let (validation, test) = (other("val")?, other("test")?);
    let listed = folder.join(CLASSES);
    let names = match listed.is_file() {
        true => listing::class_names(&listed.display().to_string(), &listing::bytes_of(&listed, MOST)?)?,
        false => train.class_names(),
    };
    let of = |part: Option<Part>| part.map(|part| part.set(names.clone())).transpose();
    let (train, validation, test) = (train.set(names.clone())?, of(validation)?, of(test)?);
    DetectionSplit::of_parts(train, validation, test, whole, "a list ImageSets/Main/test.txt or val.txt")
}

fn list(folder: &Path, part: &str) -> std::path::PathBuf {
    folder.join("ImageSets").join("Main").join(format!("{part}.txt"))
}

/// The images of a part, with the names of classes that are not numbered yet.
struct Part {
    name: String,
    images: Vec<(std::path::PathBuf, AnnotatedImage, Vec<Object>)>,
}

impl Part {
    fn read(folder: &Path, part: &str) -> Result<Self> {
        let path = list(folder, part);
        let file = path.display().to_string();
        let names = names(&file, &listing::bytes_of(&path, MOST)?)?;
        let images = images_by_stem(&folder.join("JPEGImages"))?;
        let read = |(id, (line, name)): &(usize, (usize, String))| {
            let place = Place { file: &file, element: format!("line {line}") };
            let xml = inside(&folder.join("Annotations"), &format!("{name}.xml"), &place)?;
            let image = images.get(name).ok_or_else(|| {
                let expected = format!("an image {name}.jpg in {}", folder.join("JPEGImages").display());
                place.error(Fault::MissingImage, expected, "none")
            })?;
            let xml_name = xml.display().to_string();
            let found = parse(&xml_name, &listing::bytes_of(&xml, MOST)?)?;
            let size = checked_size(image, found.size, &Place { file: &xml_name, element: "size" })?;
            let mut objects = found.objects;
            for (i, object) in objects.iter_mut().enumerate() {
                let place = Place { file: &xml_name, element: format!("object {}", i + 1) };
                object.bbox = place.checked(object.bbox, size)?;
            }
            let name = image.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Ok((image.clone(), AnnotatedImage { name, id: *id as u64, size, annotations: Vec::new() }, objects))
        };
        let names: Vec<_> = names.into_iter().enumerate().collect();
        Ok(Self { name: format!("{} {part}", folder.display()), images: listing::for_each(&names, read)? })
    }

    /// The names of the classes of all objects, each once, in alphabetical order.
    fn class_names(&self) -> Vec<String> {
        let all = self.images.iter().flat_map(|(.., objects)| objects).map(|object| object.class.as_str());
        all.collect::<BTreeSet<_>>().into_iter().map(String::from).collect()
    }

    fn set(self, names: Vec<String>) -> Result<DetectionSet> {
        let index: BTreeMap<&str, usize> = names.iter().enumerate().map(|(i, name)| (name.as_str(), i)).collect();
        let mut images = Vec::with_capacity(self.images.len());
        for (path, mut image, objects) in self.images {
            for (i, Object { class, bbox, difficult }) in objects.into_iter().enumerate() {
                let class = *index.get(class.as_str()).ok_or_else(|| {
                    let place =
                        Place { file: &format!("{}: {}", self.name, image.name), element: format!("object {}", i + 1) };
                    let expected = format!("a class of {}", crate::listed::listed(&names));
                    place.error(Fault::UnknownClass, expected, shortened(&class))
                })?;
                image.annotations.push(Annotation { difficult, ..Annotation::new(bbox, class) });
            }
            images.push((image, path));
        }
        set_of(self.name, names, images)
    }
}

/// Reads the names of images in a list, with their lines.
fn names(file: &str, bytes: &[u8]) -> Result<Vec<(usize, String)>> {
    let mut first = BTreeMap::new();
    let mut names = Vec::new();
    for (number, line) in lines(text_of(file, bytes)?) {
        let place = Place { file, element: format!("line {number}") };
        if line.contains(char::is_whitespace) {
            return Err(place.error(Fault::Damaged, "the name of an image alone", shortened(line)));
        }
        if let Some(before) = first.insert(line, number) {
            let found = format!("{}, as in line {before}", shortened(line));
            return Err(place.error(Fault::Duplicate, "names of images that differ", found));
        }
        names.push((number, line.to_string()));
    }
    match names.is_empty() {
        true => Err(DataError::Empty { place: file.into() }),
        false => Ok(names),
    }
}

/// What an XML file says.
#[derive(Debug, Clone, PartialEq)]
struct Parsed {
    size: Option<[usize; 2]>,
    objects: Vec<Object>,
}

#[derive(Debug, Clone, PartialEq)]
struct Object {
    class: String,
    bbox: BoundingBox,
    difficult: bool,
}

/// Where an element stands: counted only for a message, since it takes a pass over the file.
struct Line<'a, 'b> {
    node: Node<'a, 'b>,
}

impl Display for Line<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = self.node.document().text_pos_at(self.node.range().start).row;
        write!(f, "line {row}, element {}", shortened(self.node.tag_name().name()))
    }
}

/// Reads the annotations of an image. Boxes are not checked yet, since the size of the image may not be known.
fn parse(file: &str, bytes: &[u8]) -> Result<Parsed> {
    let options = ParsingOptions { nodes_limit: MOST_NODES, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text_of(file, bytes)?, options).map_err(|e| {
        let place = Place { file, element: format!("line {}", e.pos().row) };
        place.error(Fault::Damaged, "XML without a document type", format!("damaged or other text ({e})"))
    })?;
    let root = document.root_element();
    if !root.has_tag_name("annotation") {
        return Err(at(file, root).error(Fault::Damaged, "the element `annotation`", "another one"));
    }
    let size = match optional(file, root, "size")? {
        Some(size) => Some([side(file, size, "height")?, side(file, size, "width")?]),
        None => None,
    };
    let objects = root.children().filter(|node| node.has_tag_name("object")).map(|node| object(file, node));
    Ok(Parsed { size, objects: objects.collect::<Result<_>>()? })
}

fn object(file: &str, node: Node<'_, '_>) -> Result<Object> {
    let name = child(file, node, "name")?;
    let class = text(name);
    if class.is_empty() {
        return Err(at(file, name).error(Fault::UnknownClass, "the name of a class", "none"));
    }
    let difficult = match optional(file, node, "difficult")? {
        Some(difficult) => match text(difficult).as_str() {
            "0" | "" => false,
            "1" => true,
            other => return Err(at(file, difficult).error(Fault::Damaged, "0 or 1", shortened(other))),
        },
        None => false,
    };
    let sides = child(file, node, "bndbox")?;
    let side = |name| {
        let node = child(file, sides, name)?;
        at(file, node).number(name, &text(node))
    };
    // Pixels are counted from 1, and the last one belongs to the box.
    let bbox = BoundingBox::new(side("xmin")? - 1.0, side("ymin")? - 1.0, side("xmax")?, side("ymax")?);
    Ok(Object { class, bbox, difficult })
}

fn at<'a, 'b, 'f>(file: &'f str, node: Node<'a, 'b>) -> Place<'f, Line<'a, 'b>> {
    Place { file, element: Line { node } }
}

/// All text of an element: a comment may stand within it.
fn text(node: Node<'_, '_>) -> String {
    let parts = node.children().filter(Node::is_text).filter_map(|part| part.text());
    parts.collect::<String>().trim().to_string()
}

fn side(file: &str, size: Node<'_, '_>, name: &str) -> Result<usize> {
    let node = child(file, size, name)?;
    let value = text(node).parse::<usize>().ok().filter(|value| *value > 0);
    value.ok_or_else(|| at(file, node).error(Fault::NotANumber, "a number of pixels above 0", shortened(&text(node))))
}

/// The one child of this name, if there is any.
fn optional<'a, 'b>(file: &str, node: Node<'a, 'b>, name: &str) -> Result<Option<Node<'a, 'b>>> {
    let mut found = node.children().filter(|child| child.has_tag_name(name));
    match (found.next(), found.next()) {
        (Some(_), Some(second)) => {
            Err(at(file, second).error(Fault::Duplicate, format!("one element `{name}`"), "a second one"))
        }
        (first, _) => Ok(first),
    }
}

fn child<'a, 'b>(file: &str, node: Node<'a, 'b>, name: &str) -> Result<Node<'a, 'b>> {
    let missing = || at(file, node).error(Fault::Damaged, format!("an element `{name}` in it"), "none");
    optional(file, node, name)?.ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Picture;
    use fixnet_fuzz as fuzz;
    use proptest::prelude::*;

    const BOX: &str = "<bndbox><xmin>2</xmin><ymin>1</ymin><xmax>3</xmax><ymax>4</ymax></bndbox>";

    fn xml(objects: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?>\n<annotation>\n<size><width>6</width><height>4</height><depth>3</depth></size>\n{objects}\n\
             </annotation>\n"
        )
    }

    fn object_of(name: &str, rest: &str) -> String {
        format!("<object><name>{name}</name>{rest}</object>\n")
    }

    /// A folder with images `a`, `b`, `c`; the last has no boxes.
    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in ["ImageSets/Main", "JPEGImages", "Annotations"] {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let picture = Picture::new(4, 6, (0..72).collect()).unwrap().to_png().unwrap();
        let a = object_of("dog", BOX) + &object_of("cat", &format!("<difficult>1</difficult>{BOX}"));
        for (name, objects) in [("a", a), ("b", object_of("dog", BOX)), ("c", String::new())] {
            put(&dir, &format!("JPEGImages/{name}.png"), &picture);
            put(&dir, &format!("Annotations/{name}.xml"), xml(&objects).as_bytes());
        }
        put(&dir, "ImageSets/Main/train.txt", b"a\nc\n");
        put(&dir, "ImageSets/Main/val.txt", b"b\n");
        dir
    }

    fn put(dir: &tempfile::TempDir, name: &str, bytes: &[u8]) {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }

    fn fails(dir: &tempfile::TempDir) -> (Option<Fault>, String) {
        let e = voc(dir.path(), false).unwrap_err();
        let text = e.to_string().replace(&format!("{}/", dir.path().display()), "");
        match e {
            DataError::Annotation { fault, .. } => (Some(fault), text),
            _ => (None, text),
        }
    }

    #[test]
    fn a_folder_has_its_parts_classes_and_boxes() {
        let dir = folder();
        let split = voc(dir.path(), false).unwrap();
        let (train, test) = (&split.train, &split.test);
        assert_eq!((train.len(), test.len(), train.class_names()), (2, 1, &["cat", "dog"].map(String::from)[..]));
        let image = train.image(0);
        assert_eq!((image.name.as_str(), image.size), ("a.png", [4, 6]));
        assert_eq!(image.annotations[0], Annotation::new(BoundingBox::new(1.0, 0.0, 3.0, 4.0), 1));
        assert!(image.annotations[1].difficult && image.annotations[1].class == 0);
        assert_eq!(train.picture(0).unwrap().pixels()[71], 71);
        // A comment may stand in the middle of a number.
        let text = xml(&object_of("dog", &BOX.replace("<xmax>3", "<xmax><!-- of the right side -->0<!-- -->3")));
        let parsed = roxmltree::Document::parse(&text).unwrap();
        let xmax = parsed.descendants().find(|node| node.has_tag_name("xmax")).unwrap();
        assert_eq!(super::text(xmax), "03");
        assert_eq!((train.images_without_boxes(), train.boxes_per_class()), (1, vec![1, 1]));
        assert!(train.notes()[0].ends_with("1 of 2 images have no boxes"));
        // A list of classes gives their order.
        put(&dir, "classes.txt", b"dog\ncat\ncow\n");
        let split = voc(dir.path(), false).unwrap();
        assert_eq!(split.train.image(0).annotations[0].class, 0);
        assert!(split.train.notes()[1].ends_with("classes without boxes: cow"));
        // With a list for testing, `val` is for validation.
        put(&dir, "ImageSets/Main/test.txt", b"c\n");
        let split = voc(dir.path(), false).unwrap();
        assert_eq!((split.validation.unwrap().len(), split.test.image(0).name.as_str()), (1, "c.png"));
    }

    #[test]
    fn each_fault_is_named_with_its_place() {
        let object = |rest: &str| xml(&object_of("dog", rest));
        let of = |fault, text: &str| (Some(fault), text.to_string());
        let sides = |v: [&str; 4]| {
            let [a, b, c, d] = v;
            format!("<bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox>")
        };
        for (text, fault, words) in [
            (object(&sides(["1", "1", "9", "4"])), Fault::Outside, "object 1: expected a box inside the image of 4x6"),
            (object(&sides(["4", "1", "3", "4"])), Fault::NoArea, "object 1: expected a box with an area"),
            (
                object(&sides(["nan", "1", "3", "4"])),
                Fault::NotANumber,
                "line 4, element `xmin`: expected a finite number",
            ),
            (
                object(&sides(["1", "1", "3", "1e40"])),
                Fault::NotANumber,
                "line 4, element `ymax`: expected a finite number",
            ),
            (object(""), Fault::Damaged, "line 4, element `object`: expected an element `bndbox` in it, found none"),
            (object(&format!("{BOX}{BOX}")), Fault::Duplicate, "expected one element `bndbox`, found a second one"),
            (
                object(&format!("{BOX}<difficult>2</difficult>")),
                Fault::Damaged,
                "`difficult`: expected 0 or 1, found `2`",
            ),
            (xml(&object_of(" ", BOX)), Fault::UnknownClass, "expected the name of a class"),
            (xml("<object>"), Fault::Damaged, "line 5: expected XML"),
            (
                xml("").replace("<width>6", "<width>7"),
                Fault::OtherSize,
                "size: expected 4x6 (height, width), the size of",
            ),
            (
                xml("").replace("<width>6", "<width>0"),
                Fault::NotANumber,
                "expected a number of pixels above 0, found `0`",
            ),
            ("<html></html>".into(), Fault::Damaged, "line 1, element `html`: expected the element `annotation`"),
            ("<!DOCTYPE a [<!ENTITY x \"y\">]><annotation/>".into(), Fault::Damaged, "without a document type"),
        ] {
            let dir = folder();
            put(&dir, "Annotations/a.xml", text.as_bytes());
            let (found, e) = fails(&dir);
            assert!(found == Some(fault) && e.starts_with("Annotations/a.xml: ") && e.contains(words), "{found:?} {e}");
        }
        let dir = folder();
        put(&dir, "Annotations/a.xml", b"\xff");
        assert_eq!(
            fails(&dir),
            of(Fault::Damaged, "Annotations/a.xml: byte 0: expected text in UTF-8, found other bytes")
        );
        put(&dir, "ImageSets/Main/train.txt", b"a\n\na\n");
        assert_eq!(
            fails(&dir),
            of(
                Fault::Duplicate,
                "ImageSets/Main/train.txt: line 3: expected names of images that differ, found `a`, as in line 1"
            )
        );
        put(&dir, "ImageSets/Main/train.txt", b"z\n");
        assert!(fails(&dir).1.starts_with("ImageSets/Main/train.txt: line 1: expected an image z.jpg in JPEGImages"));
        put(&dir, "ImageSets/Main/train.txt", b"../a\n");
        assert!(fails(&dir).1.contains("without `..`"));
        put(&dir, "ImageSets/Main/train.txt", b"a 1\n");
        assert!(fails(&dir).1.contains("the name of an image alone, found `a 1`"));
        put(&dir, "ImageSets/Main/train.txt", b"\n");
        assert!(fails(&dir).1.contains("expected at least one image"));
        let dir = folder();
        put(
            &dir,
            "Annotations/b.xml",
            object_of("cow", BOX)
                .replace("<object>", "<annotation><object>")
                .replace("</object>", "</object></annotation>")
                .as_bytes(),
        );
        let (fault, e) = fails(&dir);
        assert!(fault == Some(Fault::UnknownClass) && e.ends_with("expected a class of cat, dog, found `cow`"), "{e}");
        let dir = folder();
        std::fs::remove_file(dir.path().join("ImageSets/Main/val.txt")).unwrap();
        assert!(fails(&dir).1.contains("or test data from elsewhere (data.test), found training images alone"));
        assert_eq!(voc(dir.path(), true).unwrap().test.len(), 2);
        std::fs::write(dir.path().join("JPEGImages/a.jpg"), b"").unwrap();
        assert_eq!(fails(&dir).0, Some(Fault::Duplicate));
    }

    #[test]
    fn photographs_of_blood_cells_are_read() {
        let split = voc(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/detection/voc")), false).unwrap();
        let (train, test) = (&split.train, &split.test);
        assert_eq!((train.boxes_per_class(), test.boxes_per_class()), (vec![10, 1, 0], vec![5, 1, 2]));
        let image = train.image(0);
        assert_eq!((image.name.as_str(), image.size), ("BloodImage_00388.jpg", [480, 640]));
        assert_eq!(image.annotations[0], Annotation::new(BoundingBox::new(396.0, 164.0, 547.0, 278.0), 0));
        assert_eq!(train.picture(0).unwrap().shape(), [480, 640, 3]);
    }

    /// Texts of numbers, good and bad.
    fn number() -> impl Strategy<Value = String> {
        let odd = prop::sample::select(
            &["", "nan", "-inf", "1e39", "0x1", "1.5.", "&#0;", "<b/>", "9999999999999999999"][..],
        );
        prop_oneof![
            any::<i16>().prop_map(|v| v.to_string()),
            any::<f32>().prop_map(|v| v.to_string()),
            odd.prop_map(Into::into)
        ]
    }

    /// Annotations of the right form with odd contents, elements left out, twice or nested.
    fn annotations() -> impl Strategy<Value = String> {
        let element = |name: &'static str, value: BoxedStrategy<String>| {
            (value, 0usize..12).prop_map(move |(value, times)| {
                let one = format!("<{name}>{value}</{name}>");
                // Nearly always once.
                if times < 2 { one.repeat(2 * times) } else { one }
            })
        };
        let sides = ["xmin", "ymin", "xmax", "ymax"].map(|name| element(name, number().boxed()));
        let object = (element("name", "[a-c&<]{0,2}".boxed()), element("difficult", number().boxed()), sides).prop_map(
            |(name, difficult, sides)| format!("<object>{name}{difficult}<bndbox>{}</bndbox></object>", sides.concat()),
        );
        let size = (element("width", number().boxed()), element("height", number().boxed()));
        (size, prop::collection::vec(object, 0..6), 0usize..300).prop_map(|((width, height), objects, depth)| {
            let (open, close) = ("<part>".repeat(depth), "</part>".repeat(depth));
            format!("<annotation><size>{width}{height}</size>{}{open}{close}</annotation>", objects.concat())
        })
    }

    proptest! {
        #![proptest_config(fuzz::config())]

        #[test]
        fn damaged_annotations_never_panic(text in annotations(), damage in fuzz::damage(), whole: bool) {
            let text = if whole { text.into_bytes() } else { fuzz::damaged(text.into_bytes(), &damage) };
            let parsed = fuzz::within(fuzz::MOST, || parse("f", &text));
            if let Ok(parsed) = parsed {
                for object in parsed.objects {
                    prop_assert!(object.bbox.is_finite() && !object.class.is_empty());
                    drop(Place { file: "f", element: "object" }.checked(object.bbox, parsed.size.unwrap_or([4, 6])));
                }
            }
        }

        #[test]
        fn damaged_lists_never_panic(damage in fuzz::damage()) {
            let list = fuzz::damaged(b"000012\n000017\r\n\n000023\n".to_vec(), &damage);
            fuzz::within(fuzz::MOST, || drop(names("f", &list)));
        }
    }
}
