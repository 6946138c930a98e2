//! Which layers keep more than ternary weights: patterns over names and kinds of layers, and what they keep.

use bitc_ir::AttrReader;

use super::target::Target;

/// What becomes of a layer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kept {
    /// It keeps its floats.
    Float,
    /// It gets weights of eight bits.
    Int8,
    /// It is made ternary, whatever else would have kept it.
    Ternary,
}

/// Patterns and what the layers that fit them keep; the first that fits counts.
#[derive(Debug)]
pub(super) struct Rules(Vec<(String, Kept)>);

/// A layer as patterns see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) target: &'a Target,
    /// Which of the layers of the source it is; a convolution over three axes is several here, of one name.
    position: usize,
    /// How many the source has.
    count: usize,
}

impl Rules {
    /// Reads `PATTERN[=f32|int8|ternary],..`.
    pub(super) fn from_params(params: &mut AttrReader) -> Result<Self, bitc_ir::AttrError> {
        let mut rules = Vec::new();
        for rule in params.str("keep")?.unwrap_or_default().split(',').filter(|s| !s.is_empty()) {
            let (pattern, kept) = rule.split_once('=').unwrap_or((rule, "f32"));
            let kept = match kept {
                "f32" => Kept::Float,
                "int8" => Kept::Int8,
                "ternary" => Kept::Ternary,
                other => {
                    let expected = "`=f32`, `=int8` or `=ternary` after a pattern";
                    return Err(params.invalid("keep", expected, format!("`{other}`")));
                }
            };
            rules.push((pattern.to_owned(), kept));
        }
        Ok(Self(rules))
    }

    /// What a layer keeps as asked.
    pub(super) fn asked(&self, place: Place<'_>) -> Option<Kept> {
        self.0.iter().find(|(pattern, _)| fits(pattern, place)).map(|&(_, kept)| kept)
    }

    /// A pattern that no layer fits.
    pub(super) fn idle(&self, targets: &[Target]) -> Option<&str> {
        let used = |pattern: &str| places(targets).any(|place| fits(pattern, place));
        self.0.iter().map(|(pattern, _)| pattern.as_str()).find(|pattern| !used(pattern))
    }
}

/// The layers as patterns see them.
pub(super) fn places(targets: &[Target]) -> impl Iterator<Item = Place<'_>> {
    let begins = |i: usize| i == 0 || targets[i].name.is_empty() || targets[i].name != targets[i - 1].name;
    let positions = (0..targets.len()).scan(0, move |found, i| {
        *found += usize::from(begins(i));
        Some(*found - 1)
    });
    let count = (0..targets.len()).filter(|&i| begins(i)).count();
    targets.iter().zip(positions).map(move |(target, position)| Place { target, position, count })
}

/// Whether a pattern means a layer.
fn fits(pattern: &str, place: Place<'_>) -> bool {
    match pattern {
        "first" => place.position == 0,
        "last" => place.position + 1 == place.count,
        "convolutions" => place.target.is_conv(),
        "depthwise" => place.target.is_depthwise(),
        glob => matches_glob(glob, &place.target.name),
    }
}

/// Whether a name fits a pattern in which `*` stands for anything.
fn matches_glob(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|head| name.strip_prefix(head)) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, name, fits) in [
            ("fc1", "fc1", true),
            ("fc1", "fc10", false),
            ("*", "", true),
            ("block*.fc*", "block3.fc1", true),
            ("*head", "lm_head", true),
            ("*head", "header", false),
            ("a*b*c", "abbc", true),
            ("a*b*c", "acb", false),
        ] {
            assert_eq!(matches_glob(pattern, name), fits, "{pattern} {name}");
        }
    }
}
