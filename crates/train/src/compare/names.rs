//! Names of folders, and short forms of the values that they, tables and figures are made of. All follow from a text alone,
//! so that equal settings have equal names in every grid.

use std::path::Path;

/// The longest name of a folder in bytes. File systems allow 255, or 143 where they encrypt names.
const LONGEST: usize = 120;

/// The first digits of the hash of a text: it tells texts apart whose short forms are equal.
fn hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..6].to_string()
}

/// Returns a text as the name of a folder: what is neither letter nor digit nor one of `._=` becomes `-`, and of a long text
/// the end becomes a hash of the whole.
pub fn plain(name: &str) -> String {
    let plain: String = name.chars().map(|c| if c.is_alphanumeric() || "._=".contains(c) { c } else { '-' }).collect();
    if plain.len() <= LONGEST {
        return plain;
    }
    format!("{}-{}", &plain[..plain.floor_char_boundary(LONGEST - 7)], hash(name))
}

/// The longest value that names have as it is.
const LONGEST_VALUE: usize = 40;

/// Returns the short form of a value of a recipe: of a path its last part, with a hash of the whole path if that leaves
/// something out; of a long list or table its beginning with a hash; any other value as it is.
pub fn short(key: &str, value: &str) -> String {
    let (kind, path) = match (key, value.split_once(':')) {
        ("data.source", Some((kind, path))) => (format!("{kind}:"), path),
        ("run.init" | "loss.teacher", _) => (String::new(), value),
        _ if value.len() > LONGEST_VALUE && value.starts_with(['[', '{']) => {
            let start = &value[..value.floor_char_boundary(LONGEST_VALUE / 2)];
            return format!("{start}…{}", hash(value));
        }
        _ => return value.into(),
    };
    let last = Path::new(path).file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    if last == path { value.into() } else { format!("{kind}{last}-{}", hash(path)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_short_and_distinct() {
        assert_eq!(plain("mlp-digits-4/4/4-lbt:0.1:2-lr=0.5"), "mlp-digits-4-4-4-lbt-0.1-2-lr=0.5");
        let long = |end: &str| plain(&format!("{}{end}", "ä/".repeat(100)));
        assert!(long("a").len() <= LONGEST && long("a").starts_with("ä-ä-") && long("a") != long("b"));
        assert_eq!((long("a"), plain(&"x".repeat(120))), (long("a"), "x".repeat(120)));
    }

    #[test]
    fn of_paths_the_last_part_is_kept() {
        for (key, value) in [
            ("data.source", "digits"),
            ("data.source", "photo-digits:seen"),
            ("data.source", "npz:x.npz"),
            ("model.name", "mlp:8/9"),
            ("run.init", "run"),
        ] {
            assert_eq!(short(key, value), value);
        }
        let [a, b, c] =
            ["npz:/data/a/x.npz", "npz:/data/b/x.npz", "mnist:../mnist/"].map(|value| short("data.source", value));
        assert!(a.starts_with("npz:x.npz-") && a.len() == "npz:x.npz-".len() + 6 && a != b);
        assert!(b.starts_with("npz:x.npz-") && c.starts_with("mnist:mnist-"));
        assert!(short("run.init", "/runs/float").starts_with("float-"));
        assert!(short("loss.teacher", "/runs/float").starts_with("float-"));
        let groups =
            |name: &str| short("optimizer.groups", &format!("[{{ match = 'layer1.conv.{name}', lr_factor = 0.1 }}]"));
        assert!(groups("a").len() < 32 && groups("a") != groups("b"), "{}", groups("a"));
        assert_eq!(short("optimizer.betas", "[0.9, 0.99]"), "[0.9, 0.99]");
    }
}
