//! Names and texts from files as messages show them: escaped, cut, and with the nearest known name.

/// The longest name, in characters, that a message shows.
pub(super) const NAME_LIMIT: usize = 80;

/// A name from a file as messages show it: in backquotes, escaped, at most 80 characters.
pub fn quoted(name: &str) -> String {
    format!("`{}`", escape(&shorten(name, NAME_LIMIT)))
}

/// The known name that `name` most likely means: the nearest by edit distance, if it is near enough to be a slip.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name: Vec<char> = name.chars().take(NAME_LIMIT).flat_map(char::to_lowercase).collect();
    let distance = |k: &str| edit_distance(&name, &k.chars().flat_map(char::to_lowercase).collect::<Vec<_>>());
    let limit = (name.len() / 3).max(1);
    let (d, near) = known.into_iter().map(|k| (distance(k), k)).min_by_key(|(d, _)| *d)?;
    (d <= limit).then_some(near)
}

/// Insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b`.
fn edit_distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &y) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(x != y)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && x == b[j - 1] && a[i - 1] == y {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// `text` without characters that a terminal would act on or hide: each becomes an escape such as `\n` or `\u{202e}`.
pub fn escape(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if hidden(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// The first `limit` characters of `text`, marked if any were cut.
pub(super) fn shorten(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        None => text.to_string(),
        Some(_) => text.chars().take(limit - 3).chain("...".chars()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Diagnostic;

    #[test]
    fn slips_find_the_nearest_known_name() {
        let known = ["hidden_dim", "n_layers", "in_channels", "out_channels"];
        assert_eq!(nearest("hiden_dim", known), Some("hidden_dim"));
        assert_eq!(nearest("n_layer", known), Some("n_layers"));
        assert_eq!(nearest("nlayers", known), Some("n_layers"));
        assert_eq!(nearest("Hidden_Dim", known), Some("hidden_dim"));
        assert_eq!(nearest("learning_rate", known), None);
        assert_eq!(nearest("", ["a"]), Some("a"));
        assert_eq!(edit_distance(&['a', 'b', 'c'], &['b', 'a', 'c']), 1);
        let d = Diagnostic::usage("unknown pass `fold-scale`").suggest("fold-scale", ["fold-scales", "freeze"]);
        assert_eq!(d.hint.as_deref(), Some("did you mean `fold-scales`?"));
    }
}
