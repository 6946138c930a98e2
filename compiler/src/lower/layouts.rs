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

/// The layout for weights of `rows` outputs and `columns` inputs; `binary` ones are all -1 or +1.
pub fn choose(target: Target, rows: u64, columns: u64, binary: bool) -> Choice {
    if binary && rows > 0 && columns > 0 {
        return Choice { layout: Layout::Bit1, reason: "no weight is zero" };
    }
    let reason = match target {
        Target::Any => "it is fast on every machine",
        Target::Avx512 | Target::Avx2 | Target::Neon => "it is fast in cache and in batches",
    };
    Choice { layout: Layout::Trit2, reason }
}
