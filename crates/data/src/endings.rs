//! How the names of files end that are taken for images: one list for all that look into folders. What an image is, its bytes
//! say.

use std::path::Path;

/// Names of image files end so, in small letters.
pub const ENDINGS: [&str; 5] = ["png", "jpg", "jpeg", "webp", "bmp"];

/// Whether the name of a file ends as that of an image does.
pub(crate) fn is_image_name(path: &Path) -> bool {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}

/// The endings as messages have them: `.png, .jpg, .jpeg, .webp or .bmp`.
pub(crate) fn endings() -> String {
    let (last, others) = (ENDINGS[ENDINGS.len() - 1], &ENDINGS[..ENDINGS.len() - 1]);
    format!(".{} or .{last}", others.join(", ."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_count_in_any_case() {
        for (name, is) in [("a.PNG", true), ("b.Jpeg", true), ("c.webp", true), ("png", false), ("d.gif", false)] {
            assert_eq!(is_image_name(Path::new(name)), is, "{name}");
        }
        assert_eq!(endings(), ".png, .jpg, .jpeg, .webp or .bmp");
    }
}
