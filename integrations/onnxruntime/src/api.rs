//! onnxruntime's functions as safe ones: attributes, tensors, statuses.
#![expect(unsafe_code, reason = "this file is the border to onnxruntime")]

use std::ffi::{CStr, CString, c_int, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use bitc_runtime::DType;

use crate::abi::{
    self, ApiBase, CustomOp, Domain, KernelContext, KernelInfo, SessionOptions, Status, Table, Value, place,
};

/// The table of functions.
#[derive(Clone, Copy)]
pub(crate) struct Api(NonNull<Table>);

// SAFETY: the table is constant data of the process and its functions may be called from any thread.
unsafe impl Send for Api {}
// SAFETY: as above.
unsafe impl Sync for Api {}

/// The type of elements with that number, as the runtime has it; `None` for one that no operator takes.
pub(crate) fn dtype_of(element: c_int) -> Option<DType> {
    match element {
        abi::element::F32 => Some(DType::F32),
        abi::element::U8 => Some(DType::U8),
        abi::element::I8 => Some(DType::I8),
        abi::element::I32 => Some(DType::I32),
        abi::element::BOOL => Some(DType::Bool),
        _ => None,
    }
}

/// The bytes of an element.
fn element_bytes(dtype: DType) -> usize {
    if matches!(dtype, DType::F32 | DType::I32) { 4 } else { 1 }
}

/// An element of a tensor.
pub(crate) trait Element: Copy {
    /// Its number.
    const TYPE: c_int;
}

impl Element for f32 {
    const TYPE: c_int = abi::element::F32;
}

impl Element for u8 {
    const TYPE: c_int = abi::element::U8;
}

impl Api {
    /// The table of the version that is declared here; `None` if this onnxruntime is older.
    ///
    /// # Safety
    /// `base` is null or what onnxruntime hands to a library, and lives for ever.
    pub(crate) unsafe fn from_base(base: *const ApiBase) -> Option<Self> {
        // SAFETY: by the caller.
        let base = unsafe { base.as_ref() }?;
        // SAFETY: a function of onnxruntime that takes any number.
        let table = unsafe { (base.get_api)(abi::VERSION) };
        NonNull::new(table.cast_mut()).map(Self)
    }

    /// The table that onnxruntime passes to an operator.
    ///
    /// # Safety
    /// `table` is null or a table of at least the version that is declared here, and lives for ever.
    pub(crate) unsafe fn from_table(table: *const Table) -> Option<Self> {
        NonNull::new(table.cast_mut()).map(Self)
    }

    /// The function at a place.
    ///
    /// # Safety
    /// `F` is the type of the function at that place.
    unsafe fn function<F: Copy>(self, place: usize) -> F {
        const { assert!(size_of::<F>() == size_of::<*const c_void>()) };
        let entries = self.0.as_ptr().cast::<F>();
        // SAFETY: the table of this version has all places that `abi` names; each holds one function pointer.
        let entry = unsafe { entries.add(place) };
        // SAFETY: inside the table, aligned as it is; of type `F` by the caller.
        unsafe { *entry }
    }

    /// Success, or the message of a status, which is released.
    fn check(self, status: *mut Status) -> Result<(), String> {
        if status.is_null() {
            return Ok(());
        }
        // SAFETY: the type of that place.
        let message: abi::GetErrorMessage = unsafe { self.function(place::GET_ERROR_MESSAGE) };
        // SAFETY: the type of that place.
        let release: abi::ReleaseStatus = unsafe { self.function(place::RELEASE_STATUS) };
        // SAFETY: a status that is not null.
        let text = unsafe { message(status) };
        // SAFETY: a message ends with a zero byte and lives as long as the status.
        let text = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
        // SAFETY: released once, and not used afterwards.
        unsafe { release(status) };
        Err(text)
    }

    /// A status with a message.
    pub(crate) fn status(self, message: &str) -> *mut Status {
        let text = CString::new(message.replace('\0', " ")).unwrap_or_default();
        // SAFETY: the type of that place.
        let create: abi::CreateStatus = unsafe { self.function(place::CREATE_STATUS) };
        // SAFETY: the message is copied before the call returns.
        unsafe { create(abi::INVALID_ARGUMENT, text.as_ptr()) }
    }

    /// Registers operators of a domain for a session.
    ///
    /// # Safety
    /// `options` are those of a session that is being set up.
    pub(crate) unsafe fn register(
        self,
        options: *mut SessionOptions,
        name: &CStr,
        ops: Vec<&'static CustomOp>,
    ) -> Result<(), String> {
        let mut domain: *mut Domain = ptr::null_mut();
        // SAFETY: the type of that place.
        let create: abi::CreateDomain = unsafe { self.function(place::CREATE_DOMAIN) };
        // SAFETY: the type of that place.
        let add: abi::AddToDomain = unsafe { self.function(place::ADD_TO_DOMAIN) };
        // SAFETY: the type of that place.
        let attach: abi::AddDomain = unsafe { self.function(place::ADD_DOMAIN) };
        // SAFETY: the name is copied; the domain is written. It must outlive its sessions, of which nobody here knows
        // the end, so it is never released.
        self.check(unsafe { create(name.as_ptr(), &raw mut domain) })?;
        for op in ops {
            // SAFETY: the domain that was made above, and an operator that lives for ever.
            self.check(unsafe { add(domain, op) })?;
        }
        // SAFETY: options by the caller.
        self.check(unsafe { attach(options, domain) })
    }

    /// The shape, type and data of a tensor.
    ///
    /// # Safety
    /// `value` is a tensor on the CPU that lives as long as `'a`, and nobody writes to it meanwhile.
    unsafe fn tensor<'a>(self, value: *const Value) -> Result<Tensor<'a>, String> {
        let mut info = ptr::null_mut();
        let (mut rank, mut r#type, mut data) = (0, 0, ptr::null_mut());
        // SAFETY: the type of that place.
        let info_of: abi::TensorInfoOf = unsafe { self.function(place::TENSOR_INFO) };
        // SAFETY: the type of that place.
        let rank_of: abi::Rank = unsafe { self.function(place::RANK) };
        // SAFETY: the type of that place.
        let dims_of: abi::Dims = unsafe { self.function(place::DIMS) };
        // SAFETY: the type of that place.
        let type_of: abi::ElementType = unsafe { self.function(place::ELEMENT_TYPE) };
        // SAFETY: the type of that place.
        let release: abi::ReleaseTensorInfo = unsafe { self.function(place::RELEASE_TENSOR_INFO) };
        // SAFETY: the type of that place.
        let data_of: abi::TensorData = unsafe { self.function(place::TENSOR_DATA) };
        // SAFETY: a tensor by the caller.
        self.check(unsafe { info_of(value, &raw mut info) })?;
        // SAFETY: the description that was made above.
        let counted = self.check(unsafe { rank_of(info, &raw mut rank) });
        let mut dims = [0i64; MAX_RANK];
        let fits = rank <= MAX_RANK;
        // SAFETY: as above; `dims` has room for so many, and no more than there are may be asked for.
        let sized = self.check(unsafe { dims_of(info, dims.as_mut_ptr(), rank.min(MAX_RANK)) });
        // SAFETY: as above.
        let typed = self.check(unsafe { type_of(info, &raw mut r#type) });
        // SAFETY: released once, and not used afterwards.
        unsafe { release(info) };
        counted.and(sized).and(typed)?;
        if !fits {
            return Err(format!("a tensor of rank {rank}, where at most {MAX_RANK} is known"));
        }
        // SAFETY: a tensor by the caller; its data is only read.
        self.check(unsafe { data_of(value.cast_mut(), &raw mut data) })?;
        let mut sizes = [0usize; MAX_RANK];
        for (size, &dim) in sizes.iter_mut().zip(&dims[..rank]) {
            *size = usize::try_from(dim).map_err(|_| "a tensor has a negative dimension")?;
        }
        Ok(Tensor { sizes, rank, r#type, data, lives: PhantomData })
    }
}

/// The most dimensions of a tensor.
const MAX_RANK: usize = 8;

/// A tensor that is read.
pub(crate) struct Tensor<'a> {
    sizes: [usize; MAX_RANK],
    rank: usize,
    r#type: c_int,
    data: *const c_void,
    lives: PhantomData<&'a [u8]>,
}

impl<'a> Tensor<'a> {
    /// The dimensions.
    pub(crate) fn dims(&self) -> &[usize] {
        &self.sizes[..self.rank]
    }

    /// The number of elements.
    pub(crate) fn numel(&self) -> usize {
        self.dims().iter().product()
    }

    /// The type of the elements.
    pub(crate) fn dtype(&self) -> Result<DType, String> {
        dtype_of(self.r#type).ok_or_else(|| format!("element type {} has no kernel", self.r#type))
    }

    /// The bytes of the elements.
    pub(crate) fn bytes(&self) -> Result<&'a [u8], String> {
        let len = self.numel() * element_bytes(self.dtype()?);
        if len == 0 {
            return Ok(&[]);
        }
        // SAFETY: onnxruntime keeps so many elements of that type there, and they live as long as the tensor.
        Ok(unsafe { std::slice::from_raw_parts(self.data.cast::<u8>(), len) })
    }

    /// The elements.
    pub(crate) fn elements<T: Element>(&self) -> Result<&'a [T], String> {
        if self.r#type != T::TYPE {
            return Err(format!("element type {} expected, found {}", T::TYPE, self.r#type));
        }
        if self.numel() == 0 {
            return Ok(&[]);
        }
        // SAFETY: onnxruntime keeps so many elements of that type there, aligned, and they live as long as the tensor.
        Ok(unsafe { std::slice::from_raw_parts(self.data.cast::<T>(), self.numel()) })
    }
}

/// A node that a kernel is made for.
pub(crate) struct Info<'a> {
    api: Api,
    info: *const KernelInfo,
    lives: PhantomData<&'a ()>,
}

impl<'a> Info<'a> {
    /// # Safety
    /// `info` is what onnxruntime passes to the constructor of a kernel, and lives as long as `'a`.
    pub(crate) unsafe fn new(api: Api, info: *const KernelInfo) -> Self {
        Self { api, info, lives: PhantomData }
    }

    /// A float attribute, if it is there.
    pub(crate) fn float(&self, name: &CStr) -> Option<f32> {
        let mut value = 0.0;
        // SAFETY: the type of that place.
        let get: abi::FloatAttribute = unsafe { self.api.function(place::FLOAT_ATTRIBUTE) };
        // SAFETY: a node by `new`; the value is written only on success.
        self.api.check(unsafe { get(self.info, name.as_ptr(), &raw mut value) }).ok().map(|()| value)
    }

    /// An integer as attribute, if it is there.
    pub(crate) fn int(&self, name: &CStr) -> Option<i64> {
        let mut value = 0;
        // SAFETY: the type of that place.
        let get: abi::IntAttribute = unsafe { self.api.function(place::INT_ATTRIBUTE) };
        // SAFETY: a node by `new`; the value is written only on success.
        self.api.check(unsafe { get(self.info, name.as_ptr(), &raw mut value) }).ok().map(|()| value)
    }

    /// A list of integers as attribute.
    pub(crate) fn ints(&self, name: &CStr) -> Result<Vec<i64>, String> {
        let mut len = 0;
        // SAFETY: the type of that place.
        let get: abi::IntsAttribute = unsafe { self.api.function(place::INTS_ATTRIBUTE) };
        // SAFETY: a node by `new`; without a place for them only the number of elements is written.
        self.api.check(unsafe { get(self.info, name.as_ptr(), ptr::null_mut(), &raw mut len) })?;
        let mut values = vec![0i64; len];
        // SAFETY: as above; there is room for so many.
        self.api.check(unsafe { get(self.info, name.as_ptr(), values.as_mut_ptr(), &raw mut len) })?;
        Ok(values)
    }

    /// An input that must be a constant of the model.
    pub(crate) fn constant(&self, index: usize) -> Result<Tensor<'a>, String> {
        self.constant_if(index)?.ok_or_else(|| format!("input {index} must be a constant of the model"))
    }

    /// An input that may be a constant of the model.
    pub(crate) fn constant_if(&self, index: usize) -> Result<Option<Tensor<'a>>, String> {
        let (mut is_constant, mut value) = (0, ptr::null());
        // SAFETY: the type of that place.
        let get: abi::ConstantInput = unsafe { self.api.function(place::CONSTANT_INPUT) };
        // SAFETY: a node by `new`.
        self.api.check(unsafe { get(self.info, index, &raw mut is_constant, &raw mut value) })?;
        if is_constant == 0 || value.is_null() {
            return Ok(None);
        }
        // SAFETY: a constant of the model, which lives at least until the constructor of the kernel returns.
        unsafe { self.api.tensor(value) }.map(Some)
    }
}

/// A call of a kernel.
pub(crate) struct Call<'a> {
    api: Api,
    context: *mut KernelContext,
    lives: PhantomData<&'a ()>,
}

impl<'a> Call<'a> {
    /// # Safety
    /// `context` is what onnxruntime passes to a kernel, and lives as long as `'a`.
    pub(crate) unsafe fn new(api: Api, context: *mut KernelContext) -> Self {
        Self { api, context, lives: PhantomData }
    }

    /// An input.
    pub(crate) fn input(&self, index: usize) -> Result<Tensor<'a>, String> {
        let mut value = ptr::null();
        // SAFETY: the type of that place.
        let get: abi::ContextInput = unsafe { self.api.function(place::CONTEXT_INPUT) };
        // SAFETY: a call by `new`.
        self.api.check(unsafe { get(self.context, index, &raw mut value) })?;
        if value.is_null() {
            return Err(format!("input {index} is missing"));
        }
        // SAFETY: an input lives as long as the call, and only outputs are written.
        unsafe { self.api.tensor(value) }
    }

    /// The elements of an output of these dimensions, to be written. Taking the call exclusively keeps two callers from
    /// the same output.
    pub(crate) fn output<T: Element>(&mut self, index: usize, dims: &[usize]) -> Result<&'a mut [T], String> {
        let data = self.room(index, dims)?;
        let numel = dims.iter().product();
        if numel == 0 {
            return Ok(&mut []);
        }
        // SAFETY: onnxruntime has made room for so many elements of the type that the operator declares for this output,
        // aligned, which every bit pattern fits; each output is asked for once per call.
        Ok(unsafe { std::slice::from_raw_parts_mut(data.cast::<T>(), numel) })
    }

    /// The bytes of an output of these dimensions and of the type that the operator declares, as [`Call::output`].
    pub(crate) fn output_bytes(&mut self, index: usize, dtype: DType, dims: &[usize]) -> Result<&'a mut [u8], String> {
        let data = self.room(index, dims)?;
        let len = dims.iter().product::<usize>() * element_bytes(dtype);
        if len == 0 {
            return Ok(&mut []);
        }
        // SAFETY: as in `output`, seen as bytes.
        Ok(unsafe { std::slice::from_raw_parts_mut(data.cast::<u8>(), len) })
    }

    /// Where onnxruntime wants the elements of an output of these dimensions.
    fn room(&mut self, index: usize, dims: &[usize]) -> Result<*mut c_void, String> {
        let mut wide = [0i64; MAX_RANK];
        if dims.len() > MAX_RANK {
            return Err(format!("an output of rank {}, where at most {MAX_RANK} is known", dims.len()));
        }
        for (wide, &dim) in wide.iter_mut().zip(dims) {
            *wide = i64::try_from(dim).map_err(|_| "an output is too large")?;
        }
        let (mut value, mut data) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the type of that place.
        let make: abi::ContextOutput = unsafe { self.api.function(place::CONTEXT_OUTPUT) };
        // SAFETY: the type of that place.
        let data_of: abi::TensorData = unsafe { self.api.function(place::TENSOR_DATA) };
        // SAFETY: a call by `new`; the dimensions are copied.
        self.api.check(unsafe { make(self.context, index, wide.as_ptr(), dims.len(), &raw mut value) })?;
        // SAFETY: the output that was made above.
        self.api.check(unsafe { data_of(value, &raw mut data) })?;
        Ok(data)
    }
}
