//! Compiling a model of which nearly everything is weights takes little more memory than these.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Measuring;

fn grew(bytes: usize) {
    let now = NOW.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(now, Ordering::Relaxed);
}

// SAFETY: every call is passed on to the system's allocator as it is.
#[expect(unsafe_code, reason = "an allocator that measures is one")]
unsafe impl GlobalAlloc for Measuring {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grew(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(memory, layout) }
    }
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        // A block that moves is there twice for a moment.
        grew(len);
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(memory, layout, len) }
    }
}

#[global_allocator]
static MEASURING: Measuring = Measuring;

/// `layers` float layers of `width` inputs and outputs whose weights lie in `w.bin`; every other one is stored the other
/// way round.
fn model(layers: usize, width: usize) -> String {
    let mut text = format!("graph @g(%h0: f32[N, {width}]) {{\n");
    for i in 0..layers {
        let bytes = width * width * 4;
        let _ = writeln!(text, "  const %w{i}: f32[{width}, {width}] = file(\"w.bin\", {}, {bytes})", i * bytes);
    }
    for i in 0..layers {
        let weight = if i % 2 == 0 {
            format!("%w{i}")
        } else {
            let _ = writeln!(text, "  %t{i} = transpose(%w{i}) {{perm = [1, 0]}} : f32[{width}, {width}]");
            format!("%t{i}")
        };
        let _ = writeln!(text, "  %h{} = linear(%h{i}, {weight}) : f32[N, {width}]", i + 1);
    }
    let _ = writeln!(text, "  return %h{layers}\n}}");
    text
}

#[test]
fn weights_are_held_once() {
    let (layers, width) = (12, 512);
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let weights: Vec<u8> =
        (0..layers * width * width).flat_map(|i| ((i % 8191) as f32 - 4095.0).to_le_bytes()).collect();
    std::fs::write(path("w.bin"), &weights).unwrap();
    std::fs::write(path("m.bir"), model(layers, width)).unwrap();
    let size = weights.len();
    drop(weights);

    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let args = ["bitc".into(), "compile".into(), path("m.bir").into_os_string(), "-o".into(), path("m.bit").into()];
    assert_eq!(bitc::cli::main(args), ExitCode::SUCCESS);
    let taken = PEAK.load(Ordering::Relaxed) - before;

    let written = std::fs::metadata(path("m.bit")).unwrap().len() as usize;
    assert!(written > size && written < size + size / 100, "{written} bytes for {size} bytes of weights");
    assert!((size..size + size / 5).contains(&taken), "{taken} bytes in memory for {size} bytes of weights");
}
