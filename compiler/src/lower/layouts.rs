//! Which layout the weights of a product get, and why.

use std::fmt;

use bitc_format::Layout;

/// The machines that an artifact is made for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Target {
    /// Every machine: the same input gives the same bytes everywhere.
    #[default]
    Any,
    /// x86 with AVX-512.
    Avx512,
    /// x86 with AVX2.
    Avx2,
    /// ARM with NEON.
    Neon,
}

impl Target {
    /// Every target.
    pub const ALL: [Target; 4] = [Target::Any, Target::Avx512, Target::Avx2, Target::Neon];

    /// The name on the command line and in artifacts.
    pub const fn name(self) -> &'static str {
        match self {
            Target::Any => "any",
            Target::Avx512 => "avx512",
            Target::Avx2 => "avx2",
            Target::Neon => "neon",
        }
    }

    /// The target of that name. `native` is the machine this runs on, told by the best of its kernels.
    pub fn from_name(name: &str, native: &str) -> Option<Self> {
        match name {
            "native" => Some(Self::from_name(native, "any").unwrap_or(Target::Any)),
            name => Self::ALL.into_iter().find(|t| t.name() == name),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A layout and the reason for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Choice {
    /// The layout.
    pub layout: Layout,
    /// Why, in a few words.
    pub reason: &'static str,
}

/// What weights of few bits are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Values {
    /// -1 and 1.
    Binary,
    /// -1, 0 and 1.
    Ternary,
    /// -128 to 127.
    Bytes,
}

/// Packed by two bits, weights of this many bytes are read from memory rather than from a cache.
const STREAMED: u64 = 4 << 20;

/// The layout for weights of `rows` outputs and `columns` inputs.
pub fn choose(target: Target, rows: u64, columns: u64, values: Values) -> Choice {
    match values {
        Values::Bytes => return Choice { layout: Layout::Int8, reason: "weights have 8 bits" },
        Values::Binary if rows > 0 && columns > 0 => {
            return Choice { layout: Layout::Bit1, reason: "no weight is zero" };
        }
        Values::Binary | Values::Ternary => {}
    }
    let streamed = Layout::Trit2.packed_len(rows, columns).is_none_or(|bytes| bytes >= STREAMED);
    match target {
        Target::Any => Choice { layout: Layout::Trit2, reason: "it is fast on every machine" },
        Target::Avx512 if streamed => {
            Choice { layout: Layout::Trit5, reason: "weights that stream from memory should be few bytes" }
        }
        Target::Avx512 | Target::Avx2 | Target::Neon => {
            Choice { layout: Layout::Trit2, reason: "it is fast in cache and in batches" }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_weights_take_fewer_bytes_on_a_named_target_only() {
        let layout = |target, rows, columns| choose(target, rows, columns, Values::Ternary).layout;
        assert_eq!(layout(Target::Any, 8192, 8192), Layout::Trit2);
        assert_eq!(layout(Target::Avx2, 8192, 8192), Layout::Trit2);
        assert_eq!(layout(Target::Avx512, 8192, 8192), Layout::Trit5);
        assert_eq!(layout(Target::Avx512, 512, 784), Layout::Trit2);
        assert_eq!(choose(Target::Any, 8192, 8192, Values::Binary).layout, Layout::Bit1);
        assert_eq!(choose(Target::Any, 8192, 8192, Values::Bytes).layout, Layout::Int8);
    }

    #[test]
    fn a_native_target_is_that_of_the_kernels() {
        assert_eq!(Target::from_name("native", "avx2"), Some(Target::Avx2));
        assert_eq!(Target::from_name("native", "portable"), Some(Target::Any));
        assert_eq!(Target::from_name("avx512", "portable"), Some(Target::Avx512));
        assert_eq!(Target::from_name("sse", "avx2"), None);
    }
}
