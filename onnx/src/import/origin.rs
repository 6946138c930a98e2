//! Where a node comes from, in words: torch's scopes and stack traces, and the paths of nested bodies.

/// The longest path of a nested body; a deeper one keeps its innermost part.
const LONGEST_PATH: usize = 200;

/// The path of the body that the node of that name opens.
pub(super) fn nested_path(name: &str) -> String {
    let skip = name.chars().count().saturating_sub(LONGEST_PATH);
    let cut = if skip > 0 { "../" } else { "" };
    format!("{cut}{}/", name.chars().skip(skip).collect::<String>())
}

/// The innermost module of torch's list of scopes, as `layer1.0.conv1` of `['', 'layer1', 'layer1.0.conv1', 'conv2d']`.
///
/// The last entry is the operation itself.
pub(super) fn innermost_scope(list: &str) -> Option<&str> {
    let mut scopes = list.trim().strip_prefix('[')?.strip_suffix(']')?.split(',').map(|s| s.trim().trim_matches('\''));
    scopes.next_back()?;
    scopes.next_back().filter(|s| !s.is_empty())
}

/// The innermost line of a Python stack trace, as `model.py:12, in forward`.
pub(super) fn source_line(trace: &str) -> Option<String> {
    let line = trace.lines().rev().find(|l| l.trim_start().starts_with("File \""))?.trim();
    let (file, rest) = line.strip_prefix("File \"")?.split_once('"')?;
    let number = rest.trim_start_matches(", line ").split(',').next().unwrap_or("").trim();
    let function = rest.split(", in ").nth(1).map_or(String::new(), |f| format!(", in {}", f.trim()));
    let file = file.rsplit(['/', '\\']).next().unwrap_or(file);
    Some(format!("{file}:{number}{function}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn torch_metadata_names_module_and_line() {
        assert_eq!(innermost_scope("['', 'layer1', 'layer1.0.conv1', 'conv2d_1']"), Some("layer1.0.conv1"));
        assert_eq!(innermost_scope("['', 'linear']"), None);
        assert_eq!(innermost_scope("nonsense"), None);
        let trace = "File \"/home/a/model.py\", line 12, in forward\n    return self.fc(x)\n";
        assert_eq!(source_line(trace).unwrap(), "model.py:12, in forward");
        assert_eq!(source_line("nothing"), None);
    }
}
