//! From a Rust type to an operator of onnxruntime.
#![expect(unsafe_code, reason = "onnxruntime calls these functions through pointers")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use crate::abi::{CustomOp, KernelContext, KernelInfo, Status, Table, VERSION};
use crate::api::{Api, Call, Info};

/// An operator: what it is called, what goes in and out, and its kernels. Calls may come from several threads at once.
pub(crate) trait Operator: Sized + Send + Sync + 'static {
    /// The name in the domain.
    const NAME: &'static CStr;
    /// The element types of the inputs, all of which are required.
    const INPUTS: &'static [c_int];
    /// The element types of the outputs.
    const OUTPUTS: &'static [c_int];

    /// The kernel for a node.
    fn new(info: &Info<'_>) -> Result<Self, String>;

    /// Computes the outputs. Each is asked for once, with the type that [`Operator::OUTPUTS`] says.
    fn compute(&self, call: &mut Call<'_>) -> Result<(), String>;
}

/// A kernel with what it needs to speak.
struct Kernel<O> {
    api: Api,
    operator: O,
}

/// The description of an operator, which lives for ever.
pub(crate) fn describe<O: Operator>() -> &'static CustomOp {
    Box::leak(Box::new(CustomOp {
        version: VERSION,
        create_v1: None,
        name: name::<O>,
        provider,
        input_type: input_type::<O>,
        input_count: input_count::<O>,
        output_type: output_type::<O>,
        output_count: output_count::<O>,
        compute_v1: None,
        destroy: destroy::<O>,
        input_kind: required,
        output_kind: required,
        input_memory: required,
        variadic: [one; 4],
        create: create::<O>,
        compute: compute::<O>,
        infer_shape: None,
        start_version: one,
        end_version: newest,
        later: [None; 4],
    }))
}

unsafe extern "system" fn name<O: Operator>(_: *const CustomOp) -> *const c_char {
    O::NAME.as_ptr()
}

unsafe extern "system" fn provider(_: *const CustomOp) -> *const c_char {
    ptr::null()
}

unsafe extern "system" fn input_type<O: Operator>(_: *const CustomOp, index: usize) -> c_int {
    O::INPUTS.get(index).copied().unwrap_or(0)
}

unsafe extern "system" fn input_count<O: Operator>(_: *const CustomOp) -> usize {
    O::INPUTS.len()
}

unsafe extern "system" fn output_type<O: Operator>(_: *const CustomOp, index: usize) -> c_int {
    O::OUTPUTS.get(index).copied().unwrap_or(0)
}

unsafe extern "system" fn output_count<O: Operator>(_: *const CustomOp) -> usize {
    O::OUTPUTS.len()
}

/// Neither optional nor variadic, and in the default memory.
unsafe extern "system" fn required(_: *const CustomOp, _: usize) -> c_int {
    0
}

unsafe extern "system" fn one(_: *const CustomOp) -> c_int {
    1
}

unsafe extern "system" fn newest(_: *const CustomOp) -> c_int {
    c_int::MAX
}

unsafe extern "system" fn create<O: Operator>(
    _: *const CustomOp,
    table: *const Table,
    info: *const KernelInfo,
    kernel: *mut *mut c_void,
) -> *mut Status {
    // SAFETY: onnxruntime passes its table, of the version that the operator asks for.
    let Some(api) = (unsafe { Api::from_table(table) }) else { return ptr::null_mut() };
    // SAFETY: onnxruntime passes the node, which lives during this call.
    let info = unsafe { Info::new(api, info) };
    match guarded::<O, _>(|| O::new(&info)) {
        Ok(operator) => {
            let made = Box::into_raw(Box::new(Kernel { api, operator })).cast();
            // SAFETY: onnxruntime passes a place for the kernel.
            unsafe { kernel.write(made) };
            ptr::null_mut()
        }
        Err(fault) => api.status(&fault),
    }
}

unsafe extern "system" fn compute<O: Operator>(kernel: *mut c_void, context: *mut KernelContext) -> *mut Status {
    // SAFETY: a kernel that `create` made for this operator; it is only read until `destroy`.
    let kernel = unsafe { &*kernel.cast::<Kernel<O>>() };
    // SAFETY: onnxruntime passes the call, which lives until this function returns.
    let mut call = unsafe { Call::new(kernel.api, context) };
    match guarded::<O, _>(|| kernel.operator.compute(&mut call)) {
        Ok(()) => ptr::null_mut(),
        Err(fault) => kernel.api.status(&fault),
    }
}

unsafe extern "system" fn destroy<O: Operator>(kernel: *mut c_void) {
    // SAFETY: a kernel that `create` made for this operator, given back once.
    drop(unsafe { Box::from_raw(kernel.cast::<Kernel<O>>()) });
}

/// Work whose faults name the operator, a panic included: none may leave this library.
fn guarded<O: Operator, T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let result = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("a fault of bitc".to_owned()));
    result.map_err(|fault| format!("ai.bitc::{}: {fault}", O::NAME.to_string_lossy()))
}
