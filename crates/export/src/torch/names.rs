//! What the layers of a network are called in files of PyTorch.

use fixnet_nn::models::outside_detector;
use std::fmt;
use std::str::FromStr;

/// Whose names a file of PyTorch has where they differ from one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Names {
    /// Those of torchvision: `fc` for the classifier, `downsample.0` and `.1` for a convolution and its normalization in a
    /// shortcut.
    #[default]
    Torchvision,
    /// Those of the common CIFAR residual networks: `linear`, `shortcut.0` and `.1`.
    Cifar,
    /// Those of fixnet: `classifier`, `shortcut` and `shortcut_bn`.
    Fixnet,
}

/// The names of each kind.
const KINDS: [(Names, &str); 3] =
    [(Names::Torchvision, "torchvision"), (Names::Cifar, "cifar"), (Names::Fixnet, "fixnet")];

/// The layers that have different names: in fixnet, in torchvision, in the common CIFAR networks.
const LAYERS: [[&str; 3]; 3] = [
    ["classifier", "fc", "linear"],
    ["shortcut", "downsample.0", "shortcut.0"],
    ["shortcut_bn", "downsample.1", "shortcut.1"],
];

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(KINDS.iter().find(|(names, _)| names == self).map_or("", |(_, text)| text))
    }
}

impl FromStr for Names {
    type Err = fixnet_autograd::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = KINDS.iter().find(|(_, name)| *name == text).map(|(names, _)| *names);
        found.ok_or_else(|| Self::Err::setting("names of PyTorch", KINDS.map(|(_, name)| name).join(", "), text))
    }
}

/// A layer of fixnet as its block, with a dot, and the row of its last name.
fn row(layer: &str) -> (&str, Option<&'static [&'static str; 3]>) {
    let start = layer.rfind('.').map_or(0, |dot| dot + 1);
    let (block, last) = layer.split_at(start);
    (block, LAYERS.iter().find(|names| names[0] == last))
}

impl Names {
    /// Returns what a layer of fixnet is called.
    pub(super) fn of(self, layer: &str) -> String {
        let (block, row) = row(layer);
        match (self, row) {
            (Self::Torchvision, Some([_, name, _])) | (Self::Cifar, Some([_, _, name])) => format!("{block}{name}"),
            _ => layer.to_string(),
        }
    }
}

/// What a layer may be called in a file. One of the body of a detector may come from a file of the body alone.
pub(super) fn aliases(layer: &str) -> Vec<String> {
    let mut names = match row(layer) {
        (block, Some(names)) => names.iter().map(|name| format!("{block}{name}")).collect(),
        (_, None) => vec![layer.to_string()],
    };
    let alone: Vec<String> = names.iter().filter_map(|name| outside_detector(name)).collect();
    names.extend(alone);
    names
}

/// The name of a tensor without what wrappers of PyTorch add: `DataParallel` and `AveragedModel` (`module`), Lightning
/// (`model`) and `torch.compile` (`_orig_mod`, also within a name where a part of a network is compiled).
pub(super) fn unwrapped(name: &str) -> String {
    let mut parts: Vec<&str> = name.split('.').filter(|part| *part != "_orig_mod").collect();
    let wrappers = parts.iter().take_while(|part| ["module", "model"].contains(part)).count();
    parts.drain(..wrappers);
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_what_wrappers_add_in_any_mix_and_order() {
        let wrappers = ["module.", "model.", "_orig_mod."];
        let mut mixes = vec![String::new()];
        for length in 0..4 {
            let longest: Vec<String> = mixes.iter().filter(|m| m.matches('.').count() == length).cloned().collect();
            mixes.extend(longest.iter().flat_map(|mix| wrappers.map(|w| format!("{mix}{w}"))));
        }
        assert_eq!(mixes.len(), 1 + 3 + 9 + 27 + 81);
        for mix in mixes {
            for name in ["conv1.weight", "layer2.0.downsample.1.running_mean"] {
                assert_eq!(unwrapped(&format!("{mix}{name}")), name);
            }
        }
        assert_eq!(unwrapped("model.layer1._orig_mod.0.conv1.weight"), "layer1.0.conv1.weight");
        assert_eq!(unwrapped("layer1.model.weight"), "layer1.model.weight");
    }

    #[test]
    fn other_names_of_layers() {
        assert_eq!(aliases("classifier"), ["classifier", "fc", "linear"]);
        assert_eq!(aliases("layer2.0.shortcut_bn")[1..], ["layer2.0.downsample.1", "layer2.0.shortcut.1"]);
        assert_eq!(aliases("layer1.0.conv1"), ["layer1.0.conv1"]);
        assert_eq!(aliases("backbone.body.3.conv.2"), ["backbone.body.3.conv.2", "features.3.conv.2"]);
        assert!(aliases("backbone.body.layer2.0.shortcut").contains(&"layer2.0.downsample.0".to_string()));
        for (names, text) in KINDS {
            assert_eq!((text.parse::<Names>().unwrap(), names.to_string().as_str()), (names, text));
        }
        let of = |names: Names| ["layer2.0.shortcut", "classifier", "bn1"].map(|layer| names.of(layer));
        assert_eq!(of(Names::Torchvision), ["layer2.0.downsample.0", "fc", "bn1"]);
        assert_eq!(of(Names::Cifar), ["layer2.0.shortcut.0", "linear", "bn1"]);
        assert_eq!(of(Names::Fixnet), ["layer2.0.shortcut", "classifier", "bn1"]);
        let e = "keras".parse::<Names>().unwrap_err().to_string();
        assert!(e.contains("torchvision, cifar, fixnet") && e.contains("keras"), "{e}");
    }
}
