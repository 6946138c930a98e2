//! The part of onnxruntime's C interface that this library uses, in the layout of version 17.
//!
//! The interface is a table of functions that only ever grows at its end, so that the place of a function is part of the
//! interface. Only the places that are used are named here.

use std::ffi::{c_char, c_int, c_void};

/// The version of the interface whose layout is declared here; onnxruntime 1.17 and newer have it.
pub(crate) const VERSION: u32 = 17;

macro_rules! opaque {
    ($($(#[$doc:meta])* $visible:vis $name:ident)*) => {$(
        $(#[$doc])*
        #[repr(C)]
        $visible struct $name {
            _private: [u8; 0],
        }
    )*};
}

opaque! {
    /// What went wrong; a null pointer is success.
    pub Status
    /// The options of a session.
    pub SessionOptions
    /// The table of functions.
    pub(crate) Table
    /// Operators of one domain.
    pub(crate) Domain
    /// A node that a kernel is made for.
    pub(crate) KernelInfo
    /// A call of a kernel.
    pub(crate) KernelContext
    /// A tensor.
    pub(crate) Value
    /// The type and shape of a tensor.
    pub(crate) TensorInfo
    /// What shapes are inferred in.
    pub(crate) ShapeContext
}

/// Where an application gets the table of functions.
#[repr(C)]
pub struct ApiBase {
    /// The table of a version, or null if this onnxruntime is older.
    pub(crate) get_api: unsafe extern "system" fn(version: u32) -> *const Table,
    /// The version of onnxruntime.
    pub(crate) get_version: unsafe extern "system" fn() -> *const c_char,
}

/// The places of functions in the table.
pub(crate) mod place {
    pub(crate) const CREATE_STATUS: usize = 0;
    pub(crate) const GET_ERROR_MESSAGE: usize = 2;
    pub(crate) const CREATE_DOMAIN: usize = 26;
    pub(crate) const ADD_TO_DOMAIN: usize = 27;
    pub(crate) const ADD_DOMAIN: usize = 28;
    pub(crate) const TENSOR_DATA: usize = 51;
    pub(crate) const ELEMENT_TYPE: usize = 60;
    pub(crate) const RANK: usize = 61;
    pub(crate) const DIMS: usize = 62;
    pub(crate) const TENSOR_INFO: usize = 65;
    pub(crate) const FLOAT_ATTRIBUTE: usize = 85;
    pub(crate) const INT_ATTRIBUTE: usize = 86;
    pub(crate) const CONTEXT_INPUT: usize = 90;
    pub(crate) const CONTEXT_OUTPUT: usize = 91;
    pub(crate) const RELEASE_STATUS: usize = 93;
    pub(crate) const RELEASE_TENSOR_INFO: usize = 99;
    pub(crate) const INTS_ATTRIBUTE: usize = 163;
    pub(crate) const CONSTANT_INPUT: usize = 249;
}

pub(crate) type CreateStatus = unsafe extern "system" fn(code: c_int, message: *const c_char) -> *mut Status;
pub(crate) type GetErrorMessage = unsafe extern "system" fn(status: *const Status) -> *const c_char;
pub(crate) type CreateDomain = unsafe extern "system" fn(name: *const c_char, out: *mut *mut Domain) -> *mut Status;
pub(crate) type AddToDomain = unsafe extern "system" fn(domain: *mut Domain, op: *const CustomOp) -> *mut Status;
pub(crate) type AddDomain = unsafe extern "system" fn(options: *mut SessionOptions, domain: *mut Domain) -> *mut Status;
pub(crate) type TensorData = unsafe extern "system" fn(value: *mut Value, out: *mut *mut c_void) -> *mut Status;
pub(crate) type ElementType = unsafe extern "system" fn(info: *const TensorInfo, out: *mut c_int) -> *mut Status;
pub(crate) type Rank = unsafe extern "system" fn(info: *const TensorInfo, out: *mut usize) -> *mut Status;
pub(crate) type Dims = unsafe extern "system" fn(info: *const TensorInfo, out: *mut i64, len: usize) -> *mut Status;
pub(crate) type TensorInfoOf = unsafe extern "system" fn(value: *const Value, out: *mut *mut TensorInfo) -> *mut Status;
pub(crate) type FloatAttribute =
    unsafe extern "system" fn(info: *const KernelInfo, name: *const c_char, out: *mut f32) -> *mut Status;
pub(crate) type IntAttribute =
    unsafe extern "system" fn(info: *const KernelInfo, name: *const c_char, out: *mut i64) -> *mut Status;
pub(crate) type ContextInput =
    unsafe extern "system" fn(context: *const KernelContext, index: usize, out: *mut *const Value) -> *mut Status;
pub(crate) type ContextOutput = unsafe extern "system" fn(
    context: *mut KernelContext,
    index: usize,
    dims: *const i64,
    rank: usize,
    out: *mut *mut Value,
) -> *mut Status;
pub(crate) type ReleaseStatus = unsafe extern "system" fn(status: *mut Status);
pub(crate) type ReleaseTensorInfo = unsafe extern "system" fn(info: *mut TensorInfo);
pub(crate) type IntsAttribute = unsafe extern "system" fn(
    info: *const KernelInfo,
    name: *const c_char,
    out: *mut i64,
    size: *mut usize,
) -> *mut Status;
pub(crate) type ConstantInput = unsafe extern "system" fn(
    info: *const KernelInfo,
    index: usize,
    is_constant: *mut c_int,
    out: *mut *const Value,
) -> *mut Status;

/// An operator as onnxruntime wants it described. What a version does not know is not read.
#[repr(C)]
pub(crate) struct CustomOp {
    pub(crate) version: u32,
    /// Before version 16; not called for the versions after it.
    pub(crate) create_v1: Option<unsafe extern "system" fn()>,
    pub(crate) name: unsafe extern "system" fn(op: *const CustomOp) -> *const c_char,
    /// Null is the CPU.
    pub(crate) provider: unsafe extern "system" fn(op: *const CustomOp) -> *const c_char,
    pub(crate) input_type: unsafe extern "system" fn(op: *const CustomOp, index: usize) -> c_int,
    pub(crate) input_count: unsafe extern "system" fn(op: *const CustomOp) -> usize,
    pub(crate) output_type: unsafe extern "system" fn(op: *const CustomOp, index: usize) -> c_int,
    pub(crate) output_count: unsafe extern "system" fn(op: *const CustomOp) -> usize,
    /// Before version 16.
    pub(crate) compute_v1: Option<unsafe extern "system" fn()>,
    pub(crate) destroy: unsafe extern "system" fn(kernel: *mut c_void),
    pub(crate) input_kind: unsafe extern "system" fn(op: *const CustomOp, index: usize) -> c_int,
    pub(crate) output_kind: unsafe extern "system" fn(op: *const CustomOp, index: usize) -> c_int,
    pub(crate) input_memory: unsafe extern "system" fn(op: *const CustomOp, index: usize) -> c_int,
    /// What concerns inputs and outputs of any number, of which there are none.
    pub(crate) variadic: [unsafe extern "system" fn(op: *const CustomOp) -> c_int; 4],
    pub(crate) create: unsafe extern "system" fn(
        op: *const CustomOp,
        table: *const Table,
        info: *const KernelInfo,
        kernel: *mut *mut c_void,
    ) -> *mut Status,
    pub(crate) compute: unsafe extern "system" fn(kernel: *mut c_void, context: *mut KernelContext) -> *mut Status,
    pub(crate) infer_shape:
        Option<unsafe extern "system" fn(op: *const CustomOp, cx: *mut ShapeContext) -> *mut Status>,
    pub(crate) start_version: unsafe extern "system" fn(op: *const CustomOp) -> c_int,
    pub(crate) end_version: unsafe extern "system" fn(op: *const CustomOp) -> c_int,
    /// In place computation and aliases, since version 18.
    pub(crate) later: [Option<unsafe extern "system" fn()>; 4],
}

/// The numbers of element types.
pub(crate) mod element {
    use std::ffi::c_int;

    /// Of an input that takes several types: any.
    pub(crate) const ANY: c_int = 0;
    pub(crate) const F32: c_int = 1;
    pub(crate) const U8: c_int = 2;
    pub(crate) const I8: c_int = 3;
    pub(crate) const I32: c_int = 6;
    pub(crate) const BOOL: c_int = 9;
}

/// The number of an error of the caller.
pub(crate) const INVALID_ARGUMENT: c_int = 2;
