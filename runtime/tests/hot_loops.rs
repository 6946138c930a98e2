//! The hot loops hold the instructions they should, and nothing that a compiler adds when it runs out of registers.
//!
//! The test disassembles itself. It needs an optimised build for x86-64 with symbols, and `objdump`; without them it
//! says so and passes, since nothing can be said about code that is not there.

#![expect(clippy::print_stderr, reason = "a test that has nothing to look at says so")]

use std::hint::black_box;
use std::process::Command;

/// What the innermost loops of a kernel are held to.
struct Expected {
    /// Part of the name of the function.
    function: &'static str,
    /// The instruction that does the work.
    works: &'static str,
    /// Least percentage of such instructions in every loop that has at least half of `tile`; the loops of narrow ends and
    /// of one token with weights of 8 bits are bound by what they load.
    share: usize,
    /// The most such instructions of any loop, at least: the register tile was unrolled as written.
    tile: usize,
    /// Accesses to the stack that a loop may have, in percent of the working instructions.
    stack: usize,
}

const EXPECTED: [Expected; 11] = [
    Expected { function: "avx512::one_token", works: "vpdpbusd", share: 33, tile: 16, stack: 0 },
    Expected { function: "avx512::separate", works: "vpdpbusd", share: 15, tile: 16, stack: 0 },
    Expected { function: "avx512::shifted", works: "vpdpbusd", share: 30, tile: 24, stack: 0 },
    Expected { function: "avx512::lookup::rows", works: "vpermt2b|vpermi2b", share: 10, tile: 8, stack: 0 },
    Expected { function: "avx512::float::rows", works: "vmulps", share: 20, tile: 16, stack: 0 },
    Expected { function: "avx512::quads::block", works: "vpdpbusd", share: 45, tile: 24, stack: 0 },
    Expected { function: "avx2::quads::trits", works: "vpmaddubsw", share: 20, tile: 8, stack: 0 },
    // Four tokens with weights of one bit have as many sums as there are registers.
    Expected { function: "avx2::rows", works: "vpmaddubsw", share: 15, tile: 8, stack: 85 },
    Expected { function: "avx2::vnni::separate", works: "{vex} vpdpbusd|vpdpbusd", share: 20, tile: 8, stack: 0 },
    Expected { function: "avx2::vnni::tokens", works: "{vex} vpdpbusd|vpdpbusd", share: 25, tile: 16, stack: 0 },
    Expected { function: "portable::run", works: "pmullw", share: 12, tile: 8, stack: 0 },
];

#[test]
fn hot_loops_hold_what_they_should() {
    // The linker keeps the kernels only if nothing is known about who calls them.
    assert!(bitc_runtime::kernels::available().map(black_box).count() > 0);
    if cfg!(debug_assertions) || cfg!(not(target_arch = "x86_64")) {
        eprintln!("not an optimised build for x86-64: nothing to look at");
        return;
    }
    let executable = std::env::current_exe().unwrap();
    let arguments = ["--disassemble", "--demangle", "--no-show-raw-insn"];
    let Ok(output) = Command::new("objdump").args(arguments).arg(executable).output() else {
        eprintln!("no objdump: nothing to look with");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let functions = functions(&text);
    let mut faults = Vec::new();
    for expected in &EXPECTED {
        let code = functions.iter().filter(|(name, _)| name.contains(expected.function));
        let loops: Vec<Loop> = code.flat_map(|(_, lines)| innermost_loops(lines, expected.works)).collect();
        let what = expected.function;
        match loops.iter().map(|l| l.works).max() {
            None => faults.push(format!("`{what}` has no loop with {}", expected.works)),
            Some(most) if most < expected.tile => {
                faults.push(format!("no loop of `{what}` has {} {}, at most {most}", expected.tile, expected.works));
            }
            Some(_) => {}
        }
        for Loop { works, all, stack } in loops {
            if 2 * works >= expected.tile && works * 100 < all * expected.share {
                faults.push(format!("a loop of `{what}` has {works} {} in {all} instructions", expected.works));
            }
            if stack * 100 > works * expected.stack {
                faults.push(format!("a loop of `{what}` with {works} {} uses the stack {stack} times", expected.works));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The instructions of each function, with their addresses.
fn functions(text: &str) -> Vec<(&str, Vec<(u64, &str)>)> {
    let mut functions: Vec<(&str, Vec<(u64, &str)>)> = Vec::new();
    for line in text.lines() {
        if let Some((_, name)) = line.strip_suffix(">:").and_then(|line| line.split_once(" <")) {
            functions.push((name, Vec::new()));
        } else if let (Some((_, lines)), Some((address, code))) = (functions.last_mut(), line.split_once(":\t"))
            && let Ok(address) = u64::from_str_radix(address.trim(), 16)
        {
            lines.push((address, code));
        }
    }
    functions
}

/// Counts of the instructions of a loop.
struct Loop {
    works: usize,
    all: usize,
    stack: usize,
}

/// The loops that hold no other loop and do some work: what lies between a jump back and its target.
fn innermost_loops(lines: &[(u64, &str)], works: &str) -> Vec<Loop> {
    let target = |code: &str| {
        let (jump, to) = code.split_once(char::is_whitespace)?;
        let to = to.split_whitespace().next()?;
        (jump.starts_with('j')).then(|| u64::from_str_radix(to, 16).ok()).flatten()
    };
    let back: Vec<(usize, usize)> = (0..lines.len())
        .filter_map(|end| {
            let start = lines.binary_search_by_key(&target(lines[end].1)?, |line| line.0).ok()?;
            // A jump back over the end of the function leads out of a loop that was put behind it.
            let returns = lines.get(start..end)?.iter().any(|line| line.1.starts_with("ret"));
            (start < end && !returns).then_some((start, end))
        })
        .collect();
    let holds = |a: (usize, usize), b: (usize, usize)| a != b && a.0 <= b.0 && b.1 <= a.1;
    let innermost = back.iter().filter(|&&a| !back.iter().any(|&b| holds(a, b)));
    let count = |lines: &[(u64, &str)], is: &dyn Fn(&str) -> bool| lines.iter().filter(|line| is(line.1)).count();
    innermost
        .map(|&(start, end)| &lines[start..=end])
        .map(|lines| Loop {
            works: count(lines, &|code| works.split('|').any(|name| code.starts_with(name))),
            all: lines.len(),
            stack: count(lines, &|code| code.contains("(%rsp")),
        })
        .filter(|l| l.works > 0)
        .collect()
}
