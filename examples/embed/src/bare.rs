//! A program without the standard library: what that gives a program otherwise, as calls of the C library.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};
use core::alloc::{GlobalAlloc, Layout};
use core::ffi::{CStr, c_char, c_int, c_void};
use core::panic::PanicInfo;

use crate::run::{Report, run};

#[link(name = "c")]
unsafe extern "C" {
    fn malloc(size: usize) -> *mut c_void;
    fn calloc(count: usize, size: usize) -> *mut c_void;
    fn aligned_alloc(align: usize, size: usize) -> *mut c_void;
    fn realloc(memory: *mut c_void, size: usize) -> *mut c_void;
    fn free(memory: *mut c_void);
    fn open(path: *const c_char, flags: c_int, ...) -> c_int;
    fn read(file: c_int, to: *mut c_void, count: usize) -> isize;
    fn write(file: c_int, from: *const c_void, count: usize) -> isize;
    fn clock() -> i64;
    fn abort() -> !;
}

/// Where `malloc` puts things on all systems of 64 bits.
const MALLOC_ALIGN: usize = 16;
const STDOUT: c_int = 1;
const STDERR: c_int = 2;

struct CMemory;

#[global_allocator]
static MEMORY: CMemory = CMemory;

// SAFETY: these functions give memory that nothing else uses until it is freed, as large and as aligned as was asked
// for, or null.
unsafe impl GlobalAlloc for CMemory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() <= MALLOC_ALIGN {
            // SAFETY: any size may be asked for.
            unsafe { malloc(layout.size()) }.cast()
        } else {
            // SAFETY: the alignment is a power of two, and the size a multiple of it.
            unsafe { aligned_alloc(layout.align(), layout.size().next_multiple_of(layout.align())) }.cast()
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.align() <= MALLOC_ALIGN {
            // SAFETY: any size may be asked for.
            return unsafe { calloc(1, layout.size()) }.cast();
        }
        // SAFETY: the caller keeps the contract of this function, which is that of the other.
        let memory = unsafe { self.alloc(layout) };
        if !memory.is_null() {
            // SAFETY: it has been given as many bytes.
            unsafe { memory.write_bytes(0, layout.size()) };
        }
        memory
    }

    unsafe fn dealloc(&self, memory: *mut u8, _: Layout) {
        // SAFETY: the caller got it from here, so it is of the C library.
        unsafe { free(memory.cast()) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if layout.align() <= MALLOC_ALIGN {
            // SAFETY: the caller got it from here, so it is of the C library.
            return unsafe { realloc(memory.cast(), size) }.cast();
        }
        // SAFETY: the caller says that this size with this alignment is a layout.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: the size is not 0, which the caller says.
        let moved = unsafe { self.alloc(wanted) };
        if !moved.is_null() {
            // SAFETY: both have as many bytes, and the new one is nowhere else in use.
            unsafe { memory.copy_to_nonoverlapping(moved, layout.size().min(size)) };
            // SAFETY: the caller gives the old one up.
            unsafe { self.dealloc(memory, layout) };
        }
        moved
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    print(STDERR, &info.to_string());
    // SAFETY: it ends the program.
    unsafe { abort() }
}

/// Compiled parts of `alloc` name what would unwind a panic; here a panic ends the program before that.
// SAFETY: nothing else has this name.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// See [`rust_eh_personality`].
// SAFETY: nothing else has this name.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    // SAFETY: it ends the program.
    unsafe { abort() }
}

/// Where the C library begins the program.
// SAFETY: nothing else has this name, and the arguments are those of C's `main`.
#[unsafe(no_mangle)]
extern "C" fn main(count: c_int, arguments: *const *const c_char) -> c_int {
    let path = (count > 1).then(|| {
        // SAFETY: there are as many arguments as `count` says.
        let second = unsafe { arguments.add(1) };
        // SAFETY: as before.
        let argument = unsafe { *second };
        // SAFETY: arguments end with a zero and stay until the program ends.
        unsafe { CStr::from_ptr(argument) }
    });
    match path.ok_or("usage: embed_runtime MODEL.bit".to_string()).and_then(load_and_run) {
        Ok(report) => {
            print(STDOUT, &report.outputs);
            print(STDERR, &format!("{}\n", report.timing));
            0
        }
        Err(error) => {
            print(STDERR, &format!("Error: {error}\n"));
            1
        }
    }
}

fn load_and_run(path: &CStr) -> Result<Report, String> {
    let bytes = contents(path).ok_or_else(|| format!("cannot read {}", path.to_string_lossy()))?;
    // SAFETY: it reads a clock, of processor time in microseconds.
    let now = || unsafe { clock() };
    let begun = now();
    run(&bytes, || u128::from(now().abs_diff(begun)))
}

/// The contents of a file.
fn contents(path: &CStr) -> Option<Vec<u8>> {
    // SAFETY: the path ends with a zero; 0 is for reading.
    let file = unsafe { open(path.as_ptr(), 0) };
    if file < 0 {
        return None;
    }
    let mut all = Vec::new();
    let mut part = vec![0u8; 1 << 16];
    loop {
        // SAFETY: the buffer has as many bytes. The file is closed when the program ends.
        let count = unsafe { read(file, part.as_mut_ptr().cast(), part.len()) };
        match usize::try_from(count).ok()? {
            0 => return Some(all),
            n => all.extend_from_slice(part.get(..n)?),
        }
    }
}

/// Writes a text, as far as the system lets it.
fn print(file: c_int, text: &str) {
    let mut left = text.as_bytes();
    while !left.is_empty() {
        // SAFETY: there are as many bytes.
        let count = unsafe { write(file, left.as_ptr().cast(), left.len()) };
        match usize::try_from(count) {
            Ok(n) if n > 0 => left = left.get(n..).unwrap_or_default(),
            _ => return,
        }
    }
}
