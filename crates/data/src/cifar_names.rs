//! Names of the classes of CIFAR: of the file that comes with the data, or else those that the data set is known for.

use crate::{DataError, Result};
use fixnet_files::input_file;
use std::io::Read;
use std::path::Path;

/// The most bytes of a file of names.
const MOST_BYTES: u64 = 1 << 16;

const CIFAR10: &str = "airplane automobile bird cat deer dog frog horse ship truck";

const CIFAR100: &str = "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly \
    camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin \
    elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man \
    maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain \
    plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake \
    spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle \
    wardrobe whale willow_tree wolf woman worm";

/// The ten names of CIFAR-10, from `batches.meta.txt` where `folder` has it.
///
/// # Errors
/// The file cannot be read, is longer than 64 KiB, or is no UTF-8.
pub(crate) fn cifar10(folder: &Path) -> Result<Vec<String>> {
    names(&folder.join("batches.meta.txt"), CIFAR10)
}

/// The hundred fine names of CIFAR-100, from `fine_label_names.txt` where `folder` has it.
///
/// # Errors
/// As [`cifar10`].
pub(crate) fn cifar100(folder: &Path) -> Result<Vec<String>> {
    names(&folder.join("fine_label_names.txt"), CIFAR100)
}

/// The lines of a file that are not blank, or `known` names if there is no such file.
fn names(path: &Path, known: &str) -> Result<Vec<String>> {
    if !path.exists() {
        return Ok(known.split_whitespace().map(String::from).collect());
    }
    let io = |source| DataError::Io { place: path.display().to_string(), source };
    let mut text = String::new();
    input_file::open(path).map_err(io)?.take(MOST_BYTES + 1).read_to_string(&mut text).map_err(io)?;
    if text.len() as u64 > MOST_BYTES {
        let (place, expected) = (path.display().to_string(), "a file of at most 65536 bytes".into());
        return Err(DataError::Unexpected { place, expected, found: "a longer one".into() });
    }
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(String::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_counts_before_the_known_names() {
        let dir = tempfile::tempdir().unwrap();
        let (ten, hundred) = (cifar10(dir.path()).unwrap(), cifar100(dir.path()).unwrap());
        assert_eq!((ten.len(), ten[3].as_str(), hundred.len(), hundred[99].as_str()), (10, "cat", 100, "worm"));
        // Both sets number their classes in the order of their names.
        assert!(ten.is_sorted() && hundred.is_sorted());
        std::fs::write(dir.path().join("batches.meta.txt"), "one\r\ntwo \n\n").unwrap();
        assert_eq!(cifar10(dir.path()).unwrap(), ["one", "two"]);
        std::fs::write(dir.path().join("fine_label_names.txt"), "x".repeat(1 << 17)).unwrap();
        assert!(
            cifar100(dir.path()).unwrap_err().to_string().contains("fine_label_names.txt: expected a file of at most")
        );
    }
}
