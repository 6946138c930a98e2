//! `QuantizeAct`, `QuantizeActReciprocal` and `QuantizeActQuotient`.

use std::ffi::{CStr, c_int};

use bitc_format::inst::{Floor, QuantizeKind};
use bitc_runtime::kernels::{self, QuantizeRule, Quantized, Sharing};

use super::ZERO_POINT;
use crate::abi::element::{F32, U8};
use crate::api::{Call, Info};
use crate::operator::Operator;
use crate::scratch::with_rows;

/// A quantiser of one kind.
struct Quantizer {
    rule: QuantizeRule,
    axes: Vec<i64>,
}

impl Quantizer {
    fn new(info: &Info<'_>, kind: QuantizeKind) -> Result<Self, String> {
        let whole = |name: &CStr, default: f32| -> Result<i8, String> {
            let value = info.float(name).unwrap_or(default);
            let fits = value.fract() == 0.0 && (-128.0..=127.0).contains(&value);
            if fits { Ok(value as i8) } else { Err(format!("{} must be a small whole number", name.to_string_lossy())) }
        };
        let levels = info.float(c"levels").unwrap_or(127.0);
        let floor = |name: &CStr| info.float(name).unwrap_or(0.0);
        let (max_floor, scale_floor, divisor_add) = (floor(c"max_floor"), floor(c"scale_floor"), floor(c"divisor_add"));
        // max(m, f) / L == max(m / L, f / L): division rounds monotonically.
        let (floor, eps) = match (kind, max_floor != 0.0, scale_floor != 0.0, divisor_add != 0.0) {
            (QuantizeKind::Divide, true, false, false) => (Floor::Clip, max_floor / levels),
            (QuantizeKind::Divide, false, true, false) => (Floor::Clip, scale_floor),
            (QuantizeKind::Divide, false, false, true) => (Floor::Add, divisor_add),
            (_, _, false, false) => (Floor::None, max_floor),
            _ => return Err("at most one floor may be set".into()),
        };
        let rule = QuantizeRule { kind, floor, eps, levels, lo: whole(c"low", -128.0)?, hi: whole(c"high", 127.0)? };
        Ok(Self { rule, axes: info.ints(c"axes")? })
    }

    /// Which values share a scale in an array of these dimensions, and the dimensions of the scales.
    fn sharing(&self, dims: &[usize]) -> Result<(Sharing, Vec<usize>), String> {
        let rank = dims.len();
        let axis = |&a: &i64| usize::try_from(if a < 0 { a + rank as i64 } else { a }).ok().filter(|&a| a < rank);
        let axes: Option<Vec<usize>> = self.axes.iter().map(axis).collect();
        let axes = axes.ok_or_else(|| format!("axes {:?} of an array of rank {rank}", self.axes))?;
        let scale = dims.iter().enumerate().map(|(i, &d)| if axes.contains(&i) { 1 } else { d }).collect();
        // All axes from one on share a scale, or axis 1 does.
        let first = axes.iter().copied().min().unwrap_or(rank);
        let sharing = if first + axes.len() == rank {
            Sharing::Rows(dims[first..rank.saturating_sub(1)].iter().product())
        } else if axes == [1] {
            Sharing::Channels { channels: dims[1], rows: dims[2..rank - 1].iter().product() }
        } else {
            return Err(format!("axes {:?} have no kernel", self.axes));
        };
        Ok((sharing, scale))
    }

    fn compute(&self, call: &mut Call<'_>) -> Result<(), String> {
        let x = call.input(0)?;
        let (sharing, scale_dims) = self.sharing(x.dims())?;
        let values = x.elements::<f32>()?;
        let bytes = call.output::<u8>(0, x.dims())?;
        let scale = call.output::<f32>(1, &scale_dims)?;
        if values.is_empty() {
            scale.fill(0.0);
            return Ok(());
        }
        let columns = x.dims().last().copied().unwrap_or(1);
        let (rows, pitch) = (values.len() / columns, columns.next_multiple_of(64));
        with_rows(rows * pitch, 0, |q, _| {
            kernels::best().quantize(values, columns, &self.rule, sharing, Quantized { q, pitch, scale, sums: None });
            for (bytes, q) in bytes.chunks_exact_mut(columns).zip(q.chunks_exact(pitch)) {
                bytes.iter_mut().zip(q).for_each(|(byte, q)| *byte = q.cast_unsigned() ^ ZERO_POINT);
            }
        });
        Ok(())
    }
}

macro_rules! quantizers {
    ($($(#[$doc:meta])* $name:ident $text:literal $kind:ident;)*) => {$(
        $(#[$doc])*
        pub(super) struct $name(Quantizer);

        impl Operator for $name {
            const NAME: &'static CStr = $text;
            const INPUTS: &'static [c_int] = &[F32];
            const OUTPUTS: &'static [c_int] = &[U8, F32];

            fn new(info: &Info<'_>) -> Result<Self, String> {
                Quantizer::new(info, QuantizeKind::$kind).map(Self)
            }

            fn compute(&self, call: &mut Call<'_>) -> Result<(), String> {
                self.0.compute(call)
            }
        }
    )*};
}

quantizers! {
    /// Division by the scale.
    QuantizeAct c"QuantizeAct" Divide;
    /// Multiplication by the levels times the reciprocal of the largest magnitude.
    QuantizeActReciprocal c"QuantizeActReciprocal" Reciprocal;
    /// Multiplication by the levels over the largest magnitude.
    QuantizeActQuotient c"QuantizeActQuotient" Quotient;
}
