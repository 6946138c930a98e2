//! The independent reference: the original ONNX file in tract, an engine that shares no code with bitc.
//!
//! tract reads the file itself, so a fault in the importer cannot hide. What it is known not to read, or to read as
//! something else, is refused here by name before it starts: it passes over model-local functions, looks operators up
//! without their domain, and has no integers of two bits.

use std::collections::BTreeSet;

use bitc_ir::{DType, Tensor};
use bitc_onnx::import::decode;
use bitc_onnx::limits::{Budget, Limits};
use tract_core::prelude::{DatumType, IntoRunnable as _, TValue, TVec, TractError, TractResult};
use tract_onnx::prelude::{Framework as _, InferenceFact, InferenceModelExt as _};

use crate::error::Diagnostic;
use crate::frontend::Source;

/// The number of ONNX for integers of two bits, without sign and with.
const TWO_BITS: [i32; 2] = [25, 26];

/// An ONNX file that tract can be asked about.
#[derive(Debug)]
pub struct Oracle {
    source: Source,
}

impl Oracle {
    /// Looks at a model.
    ///
    /// # Errors
    /// If it is no ONNX file, or one that tract would not read as it is meant.
    pub fn new(source: Source) -> Result<Self, Diagnostic> {
        if !bitc_onnx::import::looks_like_onnx(source.bytes.bytes()) {
            let fault = Diagnostic::usage("tract runs ONNX files only").file(source.name());
            return Err(fault.hint("without `--reference tract` the model runs on the evaluator"));
        }
        let model = decode(&source.bytes, &Limits::default(), &mut Budget::new(u64::MAX));
        let model = model.map_err(|e| Diagnostic::wrong_input(e.to_string()).file(source.name()))?;
        let unsupported = |what: String| Diagnostic::unsupported(what).file(source.name());
        if let Some(function) = model.functions.first() {
            let fault = unsupported(format!("tract does not read model-local functions, such as `{}`", function.name));
            return Err(fault.hint("`bitc export --form inline` writes their bodies in place"));
        }
        let graph = model.graph.unwrap_or_default();
        let foreign = |domain: &str| !matches!(domain, "" | "ai.onnx");
        let domains: BTreeSet<String> =
            graph.node.iter().filter(|n| foreign(&n.domain)).map(|n| format!("{}::{}", n.domain, n.op_type)).collect();
        if !domains.is_empty() {
            let list = domains.into_iter().collect::<Vec<_>>().join(", ");
            return Err(unsupported(format!("tract looks operators up without their domain, and there is {list}")));
        }
        if let Some(tensor) = graph.initializer.iter().find(|t| TWO_BITS.contains(&t.data_type)) {
            return Err(unsupported(format!("tract has no integers of two bits, and `{}` holds some", tensor.name)));
        }
        Ok(Self { source })
    }

    /// The outputs for these inputs, given in the order of the model.
    ///
    /// # Errors
    /// What tract says where it does not run the model.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, Diagnostic> {
        self.prepare(inputs)?()
    }

    /// The model, optimised for inputs of these shapes and ready to run on these inputs, as often as wanted.
    ///
    /// # Errors
    /// What tract says where it does not take the model.
    pub fn prepare(&self, inputs: &[Tensor]) -> Result<impl Fn() -> Result<Vec<Tensor>, Diagnostic>, Diagnostic> {
        let refused = |error: TractError| {
            // The chain of causes on one line: the innermost is the one that says something.
            let message = format!("{error:#}").replace('\n', " ");
            Diagnostic::unsupported(format!("tract does not run this model: {message}"))
                .file(self.source.name())
                .hint("the evaluator, which is the default reference, runs it")
        };
        let values = inputs.iter().map(to_tract).collect::<Result<Vec<_>, _>>()?;
        let run = self.runnable(values).map_err(refused)?;
        Ok(move || {
            let outputs = run().map_err(refused)?;
            outputs.iter().map(|value| from_tract(value).map_err(|d| d.file(self.source.name()))).collect()
        })
    }

    fn runnable(
        &self,
        inputs: Vec<tract_core::prelude::Tensor>,
    ) -> TractResult<impl Fn() -> TractResult<TVec<TValue>> + use<>> {
        // What the file says of shapes inside may name symbols, which do not unify with the sizes of these inputs.
        let reader = tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
        let mut model = reader.model_for_path(&self.source.path)?;
        for (i, input) in inputs.iter().enumerate() {
            model = model.with_input_fact(i, InferenceFact::dt_shape(input.datum_type(), input.shape()))?;
        }
        let model = model.into_optimized()?.into_runnable()?;
        let inputs: TVec<TValue> = inputs.into_iter().map(TValue::from).collect();
        Ok(move || model.run(inputs.clone()))
    }
}

/// The element types that both engines have.
macro_rules! with_type {
    ($($bitc:ident $tract:ident $ty:ty,)*) => {
        fn to_tract(tensor: &Tensor) -> Result<tract_core::prelude::Tensor, Diagnostic> {
            let made = match tensor.dtype() {
                $(DType::$bitc => tensor.to_vec::<$ty>().map(|v| {
                    tract_core::prelude::Tensor::from_shape(tensor.dims(), &v)
                }),)*
                DType::Bool => tensor.to_vec::<u8>().map(|v| {
                    let v: Vec<bool> = v.into_iter().map(|b| b != 0).collect();
                    tract_core::prelude::Tensor::from_shape(tensor.dims(), &v)
                }),
                _ => None,
            };
            let unsupported = || Diagnostic::unsupported(format!("tract takes no input of type {}", tensor.dtype()));
            made.and_then(Result::ok).ok_or_else(unsupported)
        }

        fn from_tract(value: &tract_core::prelude::Tensor) -> Result<Tensor, Diagnostic> {
            let dims = value.shape();
            let made = match value.datum_type() {
                $(DatumType::$tract => {
                    let view = value.to_plain_array_view::<$ty>();
                    view.map(|view| Tensor::new(dims, &view.iter().copied().collect::<Vec<$ty>>()))
                })*
                DatumType::Bool => value.to_plain_array_view::<bool>().map(|view| {
                    Tensor::with_dtype(DType::Bool, dims, &view.iter().map(|&b| u8::from(b)).collect::<Vec<_>>())
                }),
                // Sizes that depended on nothing.
                DatumType::TDim => value.cast_to::<i64>().and_then(|v| {
                    let view = v.to_plain_array_view::<i64>()?;
                    Ok(Tensor::new(dims, &view.iter().copied().collect::<Vec<_>>()))
                }),
                other => {
                    let message = format!("tract gives an output of type {other:?}, which bitc does not have");
                    return Err(Diagnostic::unsupported(message));
                }
            };
            made.map_err(|e| Diagnostic::bug(format!("an output of tract cannot be read: {e}")))
        }
    };
}

with_type! {
    F32 F32 f32, F64 F64 f64, F16 F16 half::f16,
    I8 I8 i8, I16 I16 i16, I32 I32 i32, I64 I64 i64,
    U8 U8 u8, U16 U16 u16, U32 U32 u32, U64 U64 u64,
}
