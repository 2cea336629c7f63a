//! `data.yaml`, with which many tools describe a data set in the form of YOLO: names of classes, and the folder of images of each part.
//!
//! `names` is a list, or a map from 0, 1, … to names. `train`, `val` (or `valid`) and `test` are folders of images, which must lie in the
//! folder of the data set; a leading `../`, which some tools write, counts for nothing. `path` is a folder within it, if there is one of this
//! name. The texts of `…/images/…` are in `…/labels/…` if there is such a folder, or else beside the images. Other keys are skipped, and
//! `valid` is one where there is `val`.

use super::AnnotationFault as Fault;
use super::annotation::{Place, shortened};
use super::listing::{MOST, bytes_of, inside, text_of};
use crate::Result;
use crate::classes::check_class_names;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The name of the file.
pub(super) const FILE: &str = "data.yaml";
/// The most classes.
const CLASSES: usize = 65_536;
/// How many scalars and brackets aliases may stand for: a few of them can multiply to any number.
const REPLAYED: usize = 1000;

#[derive(Deserialize)]
struct File {
    path: Option<String>,
    train: Option<Folders>,
    val: Option<Folders>,
    valid: Option<Folders>,
    test: Option<Folders>,
    nc: Option<usize>,
    names: Names,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Folders {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Names {
    List(Vec<Name>),
    Map(BTreeMap<usize, Name>),
}

/// A name without quotes may look like a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Name {
    Text(String),
    Number(i64),
}

impl Name {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
        }
    }
}

/// What a file says, checked.
#[derive(Debug)]
pub(super) struct Description {
    pub(super) class_names: Vec<String>,
    /// The folders of images and of texts of the parts that are named.
    pub(super) train: Option<[PathBuf; 2]>,
    pub(super) validation: Option<[PathBuf; 2]>,
    pub(super) test: Option<[PathBuf; 2]>,
}

/// Reads the file in `folder`; `None` if there is none.
///
/// # Errors
/// It cannot be read or is damaged; names are missing or there twice; or a part is no folder in this one.
pub(super) fn read(folder: &Path) -> Result<Option<Description>> {
    let path = folder.join(FILE);
    match path.is_file() {
        true => parse(folder, &path.display().to_string(), &bytes_of(&path, MOST)?).map(Some),
        false => Ok(None),
    }
}

fn parse(folder: &Path, place: &str, bytes: &[u8]) -> Result<Description> {
    let text = text_of(place, bytes)?;
    let at = |element: &'static str| Place { file: place, element };
    let mut options = serde_saphyr::Options::default();
    options.alias_limits.max_total_replayed_events = REPLAYED;
    let file: File = serde_saphyr::from_str_with_options(text, options).map_err(|e| {
        let found = e.to_string();
        let expected = "YAML with `names` and the folders of `train` and `val`";
        at("the file").error(Fault::Damaged, expected, shortened(found.lines().next().unwrap_or_default()))
    })?;
    let class_names: Vec<String> = match file.names {
        Names::List(names) => names.into_iter().map(Name::into_text).collect(),
        Names::Map(names) => {
            if let Some((expected, (found, _))) = names.iter().enumerate().find(|(i, (k, _))| i != *k) {
                let expected = format!("classes numbered from 0, here {expected}");
                return Err(at("names").error(Fault::UnknownClass, expected, found));
            }
            names.into_values().map(Name::into_text).collect()
        }
    };
    if class_names.is_empty() || class_names.len() > CLASSES || file.nc.is_some_and(|nc| nc != class_names.len()) {
        let expected =
            file.nc.map_or_else(|| format!("1 to {CLASSES} names"), |nc| format!("{nc} names, as `nc` says"));
        return Err(at("names").error(Fault::UnknownClass, expected, class_names.len()));
    }
    check_class_names(place, &class_names, class_names.len())?;
    let root = file.path.iter().filter_map(|path| inside(folder, path, &at("path")).ok());
    let root = root.into_iter().find(|root| root.is_dir()).unwrap_or_else(|| folder.to_path_buf());
    let part = |key: &'static str, folders: Option<Folders>| -> Result<Option<[PathBuf; 2]>> {
        let name = match folders {
            None => return Ok(None),
            Some(Folders::One(name)) => name,
            Some(Folders::Several(names)) => match &names[..] {
                [] => return Ok(None),
                [name] => name.clone(),
                _ => return Err(at(key).error(Fault::Damaged, "one folder", format!("{} folders", names.len()))),
            },
        };
        if name.is_empty() {
            return Ok(None);
        }
        let plain = name.trim_start_matches("./").trim_start_matches("../").trim_end_matches('/');
        let images = inside(&root, plain, &at(key))?;
        match images.is_dir() {
            true => Ok(Some([images.clone(), texts(&root, Path::new(plain)).unwrap_or(images)])),
            false => {
                Err(at(key).error(Fault::MissingImage, "a folder of images in that of the file", shortened(&name)))
            }
        }
    };
    Ok(Description {
        class_names,
        train: part("train", file.train)?,
        validation: match file.val {
            Some(folders) => part("val", Some(folders))?,
            None => part("valid", file.valid)?,
        },
        test: part("test", file.test)?,
    })
}

/// The folder of the texts of `images`, if there is one: the last part of its path that is called so becomes `labels`.
fn texts(root: &Path, images: &Path) -> Option<PathBuf> {
    let parts: Vec<&OsStr> = images.iter().collect();
    let at = parts.iter().rposition(|part| *part == "images")?;
    let parts = parts.iter().enumerate().map(|(i, part)| if i == at { OsStr::new("labels") } else { part });
    Some(parts.fold(root.to_path_buf(), |path, part| path.join(part))).filter(|path| path.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixnet_fuzz as fuzz;
    use proptest::prelude::*;

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let texts = ["labels/train", "valid/labels", "inner/labels/x"];
        for part in ["images/train", "images/val", "valid/images", "plain", "inner/images/x"].into_iter().chain(texts) {
            std::fs::create_dir_all(dir.path().join(part)).unwrap();
        }
        dir
    }

    #[test]
    fn both_forms_of_names_and_the_folders_of_tools_are_read() {
        let dir = folder();
        let of = |text: &str| parse(dir.path(), "data.yaml", text.as_bytes()).unwrap();
        let path = |name: &str| dir.path().join(name);
        let one = of("path: ../datasets/coco8 # elsewhere\ntrain: images/train\nval: ../valid/images\ntest:\n\
                      names:\n  0: cat\n  1: traffic light\nnc: 2\ndownload: https://example.org/x.zip\n");
        assert_eq!(one.class_names, ["cat", "traffic light"]);
        assert_eq!(one.train, Some([path("images/train"), path("labels/train")]));
        assert_eq!((one.validation, one.test), (Some([path("valid/images"), path("valid/labels")]), None));
        let two = of("names: ['cat', 2]\npath: inner\ntrain: [./images/x/]\nvalid: images\n");
        assert_eq!(two.class_names, ["cat", "2"]);
        assert_eq!(two.train, Some([path("inner/images/x"), path("inner/labels/x")]));
        assert_eq!(of("names: [a]\ntrain: plain").train, Some([path("plain"), path("plain")]));
        // Without a folder of texts they are beside the images; and `val` goes before `valid`.
        let both = of("names: [a]\nvalid: nowhere\nval: images/val");
        assert_eq!(both.validation, Some([path("images/val"), path("images/val")]));
    }

    #[test]
    fn each_fault_is_named() {
        let dir = folder();
        for (text, words) in [
            ("train: images/train", "names"),
            ("names: [a, a]", "a"),
            ("names: []", "1 to 65536 names"),
            ("names: {1: a}", "classes numbered from 0, here 0"),
            ("names: [a]\nnc: 2", "2 names, as `nc` says"),
            ("names: [a]\ntrain: nowhere", "a folder of images in that of the file"),
            ("names: [a]\ntrain: /etc", "without `..` and without a root"),
            ("names: [a]\ntrain: images/../../..", "without `..` and without a root"),
            ("names: [a]\ntrain: [plain, plain]", "one folder"),
            ("names: [a", "YAML with `names`"),
        ] {
            let e = parse(dir.path(), "data.yaml", text.as_bytes()).unwrap_err().to_string();
            assert!(e.contains("data.yaml") && e.contains(words), "{text}: {e}");
        }
    }

    proptest! {
        #![proptest_config(fuzz::config())]

        /// Whatever a file has, there is an answer, and it takes no more memory than a file has a right to: aliases that multiply too.
        #[test]
        fn damaged_files_never_panic(damage in fuzz::damage(), bomb in 0..12usize, whole: bool) {
            let dir = folder();
            let mut text = String::from("names: {0: cat, 1: dog}\ntrain: images/train\nval: valid/images\na0: &a0 [x, x]\n");
            for i in 1..=bomb {
                let list = vec![format!("*a{}", i - 1); 9].join(", ");
                text.push_str(&format!("a{i}: &a{i} [{list}]\n"));
            }
            let bytes = if whole { text.into_bytes() } else { fuzz::damaged(text.into_bytes(), &damage) };
            let _ = fuzz::within(fuzz::MOST, || parse(dir.path(), "data.yaml", &bytes));
        }
    }
}
