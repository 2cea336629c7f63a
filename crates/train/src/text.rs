//! Characters that do something to whoever shows a text, instead of being shown.

/// Returns whether a character commands a terminal, or the direction or lines of a text, or may stand in no XML. Line breaks and
/// tabs do not count.
///
/// Names of recipes, data, classes and files may come from strangers. Whatever prints them, or writes them to a text file,
/// writes such a character as `\u001b`.
pub fn commands(c: char) -> bool {
    let directs = matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let in_no_xml = matches!(c, '\u{fffe}' | '\u{ffff}');
    directs || in_no_xml || (c.is_control() && c != '\n' && c != '\t')
}
