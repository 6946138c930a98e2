//! The operators against a small onnxruntime of their own: a table of functions that holds tensors in memory.
#![expect(unsafe_code, reason = "the other side of the border to onnxruntime")]

mod models;

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::OnceLock;

use crate::abi::{self, CustomOp, KernelContext, KernelInfo, Status, Table, TensorInfo, Value, element, place};
use crate::ops;

/// A tensor; its data is aligned for any element.
#[derive(Clone, Default)]
struct Stored {
    dims: Vec<i64>,
    r#type: c_int,
    data: Vec<u64>,
}

impl Stored {
    fn of<T: Copy>(r#type: c_int, dims: &[i64], values: &[T]) -> Self {
        let mut data = vec![0u64; size_of_val(values).div_ceil(8)];
        // SAFETY: plain numbers into room for as many bytes.
        unsafe {
            ptr::copy_nonoverlapping(values.as_ptr().cast::<u8>(), data.as_mut_ptr().cast(), size_of_val(values))
        };
        Self { dims: dims.to_vec(), r#type, data }
    }

    /// The bytes of the elements.
    fn bytes(&self) -> Vec<u8> {
        let size = if matches!(self.r#type, element::F32 | element::I32) { 4 } else { 1 };
        let all = self.data.iter().flat_map(|w| w.to_le_bytes());
        all.take(self.dims.iter().product::<i64>() as usize * size).collect()
    }

    fn floats(&self) -> Vec<f32> {
        let words = self.data.iter().flat_map(|w| [*w as u32, (*w >> 32) as u32]);
        words.take(self.dims.iter().product::<i64>() as usize).map(f32::from_bits).collect()
    }
}

/// A node.
#[derive(Default)]
struct Node {
    floats: BTreeMap<String, f32>,
    int: BTreeMap<String, i64>,
    ints: BTreeMap<String, Vec<i64>>,
    constants: BTreeMap<usize, Stored>,
}

/// A call: its inputs, and the outputs with their element types.
struct Context {
    inputs: Vec<Stored>,
    outputs: Vec<Stored>,
}

fn fault(message: &str) -> *mut Status {
    Box::into_raw(Box::new(CString::new(message).unwrap())).cast()
}

fn text(name: *const c_char) -> String {
    // SAFETY: names are constants that end with a zero byte.
    unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
}

unsafe extern "system" fn create_status(_: c_int, message: *const c_char) -> *mut Status {
    fault(&text(message))
}

unsafe extern "system" fn message(status: *const Status) -> *const c_char {
    // SAFETY: a status that `fault` made.
    unsafe { &*status.cast::<CString>() }.as_ptr()
}

unsafe extern "system" fn release_status(status: *mut Status) {
    // SAFETY: a status that `fault` made, released once.
    drop(unsafe { Box::from_raw(status.cast::<CString>()) });
}

unsafe extern "system" fn tensor_info(value: *const Value, out: *mut *mut TensorInfo) -> *mut Status {
    // SAFETY: a place for the result. The tensor describes itself.
    unsafe { out.write(value.cast_mut().cast()) };
    ptr::null_mut()
}

unsafe extern "system" fn release_info(_: *mut TensorInfo) {}

unsafe extern "system" fn rank(info: *const TensorInfo, out: *mut usize) -> *mut Status {
    // SAFETY: a tensor of this file.
    let stored = unsafe { &*info.cast::<Stored>() };
    // SAFETY: a place for the result.
    unsafe { out.write(stored.dims.len()) };
    ptr::null_mut()
}

unsafe extern "system" fn dims(info: *const TensorInfo, out: *mut i64, len: usize) -> *mut Status {
    // SAFETY: a tensor of this file.
    let stored = unsafe { &*info.cast::<Stored>() };
    // SAFETY: room for `len` numbers, of which there are as many.
    unsafe { ptr::copy_nonoverlapping(stored.dims.as_ptr(), out, len) };
    ptr::null_mut()
}

unsafe extern "system" fn element_type(info: *const TensorInfo, out: *mut c_int) -> *mut Status {
    // SAFETY: a tensor of this file.
    let stored = unsafe { &*info.cast::<Stored>() };
    // SAFETY: a place for the result.
    unsafe { out.write(stored.r#type) };
    ptr::null_mut()
}

unsafe extern "system" fn tensor_data(value: *mut Value, out: *mut *mut c_void) -> *mut Status {
    // SAFETY: a tensor of this file.
    let stored = unsafe { &mut *value.cast::<Stored>() };
    // SAFETY: a place for the result.
    unsafe { out.write(stored.data.as_mut_ptr().cast()) };
    ptr::null_mut()
}

unsafe extern "system" fn float_attribute(info: *const KernelInfo, name: *const c_char, out: *mut f32) -> *mut Status {
    // SAFETY: a node of this file.
    let node = unsafe { &*info.cast::<Node>() };
    let Some(&value) = node.floats.get(&text(name)) else { return fault("no such attribute") };
    // SAFETY: a place for the result.
    unsafe { out.write(value) };
    ptr::null_mut()
}

unsafe extern "system" fn int_attribute(info: *const KernelInfo, name: *const c_char, out: *mut i64) -> *mut Status {
    // SAFETY: a node of this file.
    let node = unsafe { &*info.cast::<Node>() };
    let Some(&value) = node.int.get(&text(name)) else { return fault("no such attribute") };
    // SAFETY: a place for the result.
    unsafe { out.write(value) };
    ptr::null_mut()
}

unsafe extern "system" fn ints_attribute(
    info: *const KernelInfo,
    name: *const c_char,
    out: *mut i64,
    size: *mut usize,
) -> *mut Status {
    // SAFETY: a node of this file.
    let node = unsafe { &*info.cast::<Node>() };
    let Some(values) = node.ints.get(&text(name)) else { return fault("no such attribute") };
    if !out.is_null() {
        // SAFETY: room for as many as were counted before.
        unsafe { ptr::copy_nonoverlapping(values.as_ptr(), out, values.len()) };
    }
    // SAFETY: a place for the result.
    unsafe { size.write(values.len()) };
    ptr::null_mut()
}

unsafe extern "system" fn constant_input(
    info: *const KernelInfo,
    index: usize,
    is_constant: *mut c_int,
    out: *mut *const Value,
) -> *mut Status {
    // SAFETY: a node of this file.
    let node = unsafe { &*info.cast::<Node>() };
    let found = node.constants.get(&index);
    // SAFETY: a place for the result.
    unsafe { is_constant.write(c_int::from(found.is_some())) };
    // SAFETY: a place for the result.
    unsafe { out.write(found.map_or(ptr::null(), |s| ptr::from_ref(s).cast())) };
    ptr::null_mut()
}

unsafe extern "system" fn context_input(cx: *const KernelContext, index: usize, out: *mut *const Value) -> *mut Status {
    // SAFETY: a call of this file.
    let context = unsafe { &*cx.cast::<Context>() };
    // SAFETY: a place for the result.
    unsafe { out.write(context.inputs.get(index).map_or(ptr::null(), |s| ptr::from_ref(s).cast())) };
    ptr::null_mut()
}

unsafe extern "system" fn context_output(
    cx: *mut KernelContext,
    index: usize,
    dims: *const i64,
    rank: usize,
    out: *mut *mut Value,
) -> *mut Status {
    // SAFETY: a call of this file.
    let context = unsafe { &mut *cx.cast::<Context>() };
    // SAFETY: as many numbers as the caller says.
    let dims = unsafe { std::slice::from_raw_parts(dims, rank) }.to_vec();
    let stored = &mut context.outputs[index];
    stored.data = vec![0; (dims.iter().product::<i64>() as usize).div_ceil(2)];
    stored.dims = dims;
    // SAFETY: a place for the result.
    unsafe { out.write(ptr::from_mut(stored).cast()) };
    ptr::null_mut()
}

/// The table of functions.
fn table() -> *const Table {
    static TABLE: OnceLock<Vec<usize>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let mut table = vec![0usize; 300];
        let mut put = |place: usize, function: *const ()| table[place] = function as usize;
        put(place::CREATE_STATUS, create_status as *const ());
        put(place::GET_ERROR_MESSAGE, message as *const ());
        put(place::RELEASE_STATUS, release_status as *const ());
        put(place::TENSOR_INFO, tensor_info as *const ());
        put(place::RELEASE_TENSOR_INFO, release_info as *const ());
        put(place::RANK, rank as *const ());
        put(place::DIMS, dims as *const ());
        put(place::ELEMENT_TYPE, element_type as *const ());
        put(place::TENSOR_DATA, tensor_data as *const ());
        put(place::FLOAT_ATTRIBUTE, float_attribute as *const ());
        put(place::INT_ATTRIBUTE, int_attribute as *const ());
        put(place::INTS_ATTRIBUTE, ints_attribute as *const ());
        put(place::CONSTANT_INPUT, constant_input as *const ());
        put(place::CONTEXT_INPUT, context_input as *const ());
        put(place::CONTEXT_OUTPUT, context_output as *const ());
        table
    });
    table.as_ptr().cast()
}

/// The message of a status, which is released; `None` for success.
fn outcome(status: *mut Status) -> Option<String> {
    if status.is_null() {
        return None;
    }
    // SAFETY: a status that `fault` made.
    let text = text(unsafe { message(status) });
    // SAFETY: released once.
    unsafe { release_status(status) };
    Some(text)
}

/// Makes a kernel for a node, calls it, and gives the outputs.
fn run(name: &CStr, node: &Node, inputs: Vec<Stored>) -> Result<Vec<Stored>, String> {
    // SAFETY: descriptions of this library.
    let named = |op: &CustomOp| text(unsafe { (op.name)(op) }) == name.to_string_lossy();
    let op: &CustomOp = ops::all().into_iter().find(|op| named(op)).unwrap();
    let mut kernel = ptr::null_mut();
    // SAFETY: the table and node of this file, and a place for the kernel.
    let status = unsafe { (op.create)(op, table(), ptr::from_ref(node).cast(), &raw mut kernel) };
    if let Some(fault) = outcome(status) {
        return Err(fault);
    }
    // SAFETY: a description of this library.
    let count = unsafe { (op.output_count)(op) };
    // SAFETY: as above.
    let types = (0..count).map(|i| unsafe { (op.output_type)(op, i) });
    let outputs = types.map(|r#type| Stored { r#type, ..Stored::default() }).collect();
    let mut context = Context { inputs, outputs };
    // SAFETY: the kernel that was made, and a call of this file.
    let status = unsafe { (op.compute)(kernel, ptr::from_mut(&mut context).cast()) };
    // SAFETY: given back once.
    unsafe { (op.destroy)(kernel) };
    outcome(status).map_or(Ok(context.outputs), Err)
}

fn floats(dims: &[i64], values: &[f32]) -> Stored {
    Stored::of(element::F32, dims, values)
}

fn bytes(dims: &[i64], values: &[u8]) -> Stored {
    Stored::of(element::U8, dims, values)
}

fn quantizer(axes: &[i64]) -> Node {
    let floats = [("levels", 127.0), ("low", -128.0), ("high", 127.0)];
    Node {
        floats: floats.map(|(k, v)| (k.to_owned(), v)).into(),
        ints: [("axes".to_owned(), axes.to_vec())].into(),
        ..Node::default()
    }
}

#[test]
fn rows_are_quantised_and_multiplied() {
    let x = floats(&[2, 3], &[1.0, -2.0, 0.5, 0.0, 0.0, 0.0]);
    let made = run(c"QuantizeAct", &quantizer(&[-1]), vec![x]).unwrap();
    let scale = 2.0f32 / 127.0;
    assert_eq!(made[1].floats(), [scale, 0.0]);
    // 63.5 rounds to the even 64, 31.75 to 32; zeros stay the zero point.
    let q: Vec<u8> = made[0].data[0].to_le_bytes()[..6].to_vec();
    assert_eq!(q, [128 + 64, 128 - 127, 128 + 32, 128, 128, 128]);

    // Weights [[1, -1], [0, 1], [-1, 1]] by rows of K; codes are weight + 1.
    let packed = [0b01_00_10u8 | 0b10 << 6, 0b10_00];
    let node = Node {
        ints: [("shape".to_owned(), vec![3, 2])].into(),
        constants: [(2, bytes(&[2], &packed))].into(),
        ..Node::default()
    };
    let w = [[1i32, -1], [0, 1], [-1, 1]];
    let ends = [floats(&[2], &[0.5, 2.0]), floats(&[1], &[0.25])];
    let inputs = vec![made[0].clone(), made[1].clone(), bytes(&[2], &packed), ends[0].clone(), ends[1].clone()];
    let y = run(c"BitLinear", &node, inputs).unwrap();
    assert_eq!(y[0].dims, [2, 2]);
    let sum = |n: usize| (64 * w[0][n] - 127 * w[1][n] + 32 * w[2][n]) as f32;
    let expected = [(sum(0) * scale) * 0.5 + 0.25, (sum(1) * scale) * 2.0 + 0.25, 0.25, 0.25];
    assert_eq!(y[0].floats(), expected);
}

#[test]
fn one_scale_for_all_or_for_each_channel() {
    let x = floats(&[1, 2, 2, 1], &[1.0, 4.0, -8.0, 2.0]);
    let all = run(c"QuantizeActQuotient", &quantizer(&[0, 1, 2, 3]), vec![x.clone()]).unwrap();
    assert_eq!((all[1].dims.clone(), all[1].floats()), (vec![1, 1, 1, 1], vec![1.0 / (127.0 / 8.0)]));
    let channels = run(c"QuantizeActReciprocal", &quantizer(&[1]), vec![x.clone()]).unwrap();
    assert_eq!(channels[1].dims, [1, 1, 2, 1]);
    assert_eq!(channels[1].floats(), [8.0f32, 4.0].map(|m| 1.0 / ((1.0 / m) * 127.0)));
    let fault = run(c"QuantizeAct", &quantizer(&[2]), vec![x]).err().unwrap();
    assert!(fault.contains("QuantizeAct: axes [2] have no kernel"), "{fault}");
}

#[test]
fn what_does_not_fit_is_a_status() {
    let node = |shape: &[i64], packed: &[u8]| Node {
        ints: [("shape".to_owned(), shape.to_vec())].into(),
        constants: [(2, bytes(&[packed.len() as i64], packed))].into(),
        ..Node::default()
    };
    let fault = |node: &Node, inputs: Vec<Stored>| run(c"BitLinear", node, inputs).err().unwrap();
    assert!(fault(&node(&[2, 2, 2], &[0, 0]), Vec::new()).contains("two sizes"));
    assert!(fault(&node(&[4, 2], &[0]), Vec::new()).contains("2 bytes of weights expected, found 1"));
    assert!(fault(&node(&[4, 1], &[0xff]), Vec::new()).contains("BitLinear"), "3 is no code");
    assert!(fault(&Node::default(), Vec::new()).contains("no such attribute"));
    let missing = Node { constants: BTreeMap::new(), ..node(&[4, 1], &[0]) };
    assert!(fault(&missing, Vec::new()).contains("must be a constant"));
    let inputs = |k: i64, scales: usize| {
        let q = bytes(&[1, k], &vec![128; k as usize]);
        vec![
            q,
            floats(&[1, 1], &[1.0]),
            bytes(&[1], &[0]),
            floats(&[scales as i64], &vec![1.0; scales]),
            floats(&[1], &[0.0]),
        ]
    };
    assert!(fault(&node(&[4, 1], &[0]), inputs(5, 1)).contains("rows of 4 expected"));
    assert!(fault(&node(&[4, 1], &[0]), inputs(4, 3)).contains("scales of weights: 1 or 1 expected, found 3"));
    assert_eq!(run(c"BitLinear", &node(&[4, 1], &[0x55]), inputs(4, 1)).unwrap()[0].floats(), [0.0]);
    assert!(fault(&node(&[0, 2], &[]), Vec::new()).contains("no inputs"));
    // No rows: no work, and no fault.
    let mut none = inputs(4, 1);
    none[0] = bytes(&[0, 4], &[]);
    none[1] = floats(&[1], &[1.0]);
    assert_eq!(run(c"BitLinear", &node(&[4, 1], &[0]), none).unwrap()[0].dims, [0, 1]);
    assert_eq!(abi::VERSION, 17);
}
