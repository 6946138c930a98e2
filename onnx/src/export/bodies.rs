//! The operators of `ai.bitc`, defined by standard operators.
//!
//! Each definition is the body of a model-local function or is written out where the operator stands. A body serves every
//! call of its operator in a model, so that it must not depend on anything but its inputs and attributes; what an
//! attribute says is asked of the scope.
//!
//! Integer products take activations as unsigned bytes with zero point 128 and weights as signed bytes: of all pairs of
//! types this is the one that engines have fast kernels for, and sums of ternary weights cannot saturate them. Weights
//! are unpacked from constants only, so that an engine that folds constants does it once. Logic works on transposed bits:
//! gathering along the batch would be slow for every batch but one of a single row.

use bitc_ir::ops::quantize_act::{Floor, Form, QuantizeAct};
use bitc_ir::{DType, Tensor};

use super::convert::attr_int;
use super::scope::Scope;
use crate::proto::{AttributeProto, attribute_type};

/// What stands for the integers of quantised activations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Carrier {
    /// Bytes: the integer plus 128.
    Bytes,
    /// Floats: the integer.
    Floats,
}

/// The zero point of activations that are carried as bytes.
pub(super) const ZERO_POINT: u8 = 128;

fn zero_point(s: &mut Scope) -> String {
    s.tensor(&Tensor::scalar(ZERO_POINT))
}

/// The number that one kind of floor uses, zero under any other.
pub(super) fn floor_of(op: &QuantizeAct, kind: Floor) -> f32 {
    if op.floor == kind { op.eps } else { 0.0 }
}

/// The name of the operator for a form of quantisation.
pub(super) fn quantizer_name(form: Form) -> &'static str {
    match form {
        Form::Divide => "QuantizeAct",
        Form::Reciprocal => "QuantizeActReciprocal",
        Form::Quotient => "QuantizeActQuotient",
        Form::Integer => "RoundAct",
    }
}

/// Writes the definition of an operator: its outputs for these inputs. `None` if there is no such operator, or it is
/// called with other inputs than it has.
pub(super) fn define(s: &mut Scope, name: &str, inputs: &[&str], carrier: Carrier) -> Option<Vec<String>> {
    let one = |y: String| Some(vec![y]);
    match (name, inputs) {
        ("QuantizeAct", &[x]) => Some(quantize(s, x, Form::Divide, carrier)),
        ("QuantizeActReciprocal", &[x]) => Some(quantize(s, x, Form::Reciprocal, carrier)),
        ("QuantizeActQuotient", &[x]) => Some(quantize(s, x, Form::Quotient, carrier)),
        ("RoundAct", &[x]) => Some(quantize(s, x, Form::Integer, carrier)),
        ("BitLinear", &[q, q_scale, w, scale, bias]) => one(bit_linear(s, q, q_scale, w, scale, bias)),
        ("BitLinearGrouped", &[q, q_scale, w, scale, bias]) => one(grouped(s, q, q_scale, w, scale, bias)),
        ("IntLinear", &[q, q_scale, w, scale, bias]) => one(int_linear(s, q, q_scale, w, scale, bias)),
        ("BitConv", &[q, q_scale, w, scale, bias]) => one(bit_conv(s, q, q_scale, w, scale, bias)),
        ("IntConv", &[q, q_scale, w, scale, bias]) => one(int_conv(s, q, q_scale, w, scale, bias)),
        ("TernaryWeight", &[w, scale]) => one(ternary_weight(s, w, scale)),
        ("Encode", &[x, thresholds]) => one(encode(s, x, thresholds)),
        ("EncodeChosen", &[x, thresholds, features]) => one(encode_chosen(s, x, thresholds, features)),
        ("LutLayer", &[bits, connections, tables]) => one(lut_layer(s, bits, connections, tables, false)),
        ("LutLayerReal", &[bits, connections, tables]) => one(lut_layer(s, bits, connections, tables, true)),
        ("GroupSum", &[x]) => one(group_sum(s, x)),
        _ => None,
    }
}

/// The names of the inputs and outputs of an operator.
pub(super) fn signature(name: &str) -> (&'static [&'static str], &'static [&'static str]) {
    match name {
        "QuantizeAct" | "QuantizeActReciprocal" | "QuantizeActQuotient" | "RoundAct" => (&["x"], &["q", "q_scale"]),
        "BitLinear" | "BitLinearGrouped" | "IntLinear" | "BitConv" | "IntConv" => {
            (&["q", "q_scale", "w", "scale", "bias"], &["y"])
        }
        "TernaryWeight" => (&["w", "scale"], &["y"]),
        "Encode" => (&["x", "thresholds"], &["bits"]),
        "EncodeChosen" => (&["x", "thresholds", "features"], &["bits"]),
        "LutLayer" | "LutLayerReal" => (&["bits", "connections", "tables"], &["y"]),
        "GroupSum" => (&["x"], &["y"]),
        _ => (&[], &[]),
    }
}

/// The integers and the scale of activations, over the axes that share a scale.
fn quantize(s: &mut Scope, x: &str, form: Form, carrier: Carrier) -> Vec<String> {
    let zero = |s: &mut Scope, m: &str| {
        let none = s.f32(0.0);
        s.op("Equal", &[m, &none], Vec::new())
    };
    let (scaled, scale) = match form {
        Form::Integer => (x.to_owned(), None),
        Form::Divide => {
            let m = largest(s, x);
            let levels = s.param_f32("levels");
            let scale = s.op("Div", &[&m, &levels], Vec::new());
            let scale = unless_zero(s, "Max", &scale, "scale_floor");
            let divisor = unless_zero(s, "Add", &scale, "divisor_add");
            // A group of zeros quantises to zeros, whatever it is divided by.
            let (none, one) = (zero(s, &m), s.f32(1.0));
            let divisor = s.op("Where", &[&none, &one, &divisor], Vec::new());
            (s.op("Div", &[x, &divisor], Vec::new()), Some(scale))
        }
        Form::Reciprocal | Form::Quotient => {
            let m = largest(s, x);
            let (one, nothing) = (s.f32(1.0), s.f32(0.0));
            let levels = s.param_f32("levels");
            // A group of zeros has nothing in place of what its largest magnitude divides. The choice also keeps engines
            // from turning products with a reciprocal into quotients, which round otherwise.
            let none = zero(s, &m);
            let unless_none = |s: &mut Scope, v: &str| s.op("Where", &[&none, &nothing, v], Vec::new());
            let factor = if form == Form::Quotient {
                let factor = s.op("Div", &[&levels, &m], Vec::new());
                unless_none(s, &factor)
            } else {
                let inverse = s.op("Div", &[&one, &m], Vec::new());
                let inverse = unless_none(s, &inverse);
                s.op("Mul", &[&inverse, &levels], Vec::new())
            };
            let scale = s.op("Div", &[&one, &factor], Vec::new());
            let scale = unless_none(s, &scale);
            (s.op("Mul", &[x, &factor], Vec::new()), Some(scale))
        }
    };
    let rounded = s.op("Round", &[&scaled], Vec::new());
    let (low, high) = (s.param_f32("low"), s.param_f32("high"));
    let q = s.op("Clip", &[&rounded, &low, &high], Vec::new());
    let q = match carrier {
        Carrier::Floats => q,
        Carrier::Bytes => {
            let offset = s.f32(f32::from(ZERO_POINT));
            let shifted = s.op("Add", &[&q, &offset], Vec::new());
            s.cast(&shifted, DType::U8)
        }
    };
    // A scale of one has as many axes as the activations. It comes last, since often nobody reads it.
    let scale = scale.unwrap_or_else(|| {
        let (one, shape) = (s.f32(1.0), s.param_ints("scale_shape"));
        s.op("Expand", &[&one, &shape], Vec::new())
    });
    vec![q, scale]
}

/// The largest magnitude over the axes, not below its floor.
fn largest(s: &mut Scope, x: &str) -> String {
    let magnitude = s.op("Abs", &[x], Vec::new());
    let m = s.reduce_param("ReduceMax", &magnitude);
    // The largest of no elements is zero as well.
    let floor = s.param_f32("max_floor");
    s.op("Max", &[&m, &floor], Vec::new())
}

/// An operator between `x` and a float attribute that changes nothing where it is zero.
fn unless_zero(s: &mut Scope, op: &str, x: &str, name: &str) -> String {
    if s.known_f32(name) == Some(0.0) {
        return x.to_owned();
    }
    let by = s.param_f32(name);
    s.op(op, &[x, &by], Vec::new())
}

/// Bytes of one carrier as signed integers, and back.
pub(super) fn bytes_to_i8(s: &mut Scope, q: &str) -> String {
    let wide = s.cast(q, DType::I32);
    let zero = s.tensor(&Tensor::scalar(i32::from(ZERO_POINT)));
    let centred = s.op("Sub", &[&wide, &zero], Vec::new());
    s.cast(&centred, DType::I8)
}

/// Signed integers as bytes with a zero point.
pub(super) fn i8_to_bytes(s: &mut Scope, q: &str) -> String {
    let wide = s.cast(q, DType::I32);
    let zero = s.tensor(&Tensor::scalar(i32::from(ZERO_POINT)));
    let shifted = s.op("Add", &[&wide, &zero], Vec::new());
    s.cast(&shifted, DType::U8)
}

/// Packed ternary weights as signed bytes in the shape that the attribute `shape` says.
fn unpacked(s: &mut Scope, packed: &str) -> String {
    // 3 is no code; what fills up the last byte is 0.
    let codes: Vec<i8> = (0..256u32).flat_map(|b| (0..4).map(move |i| ((b >> (2 * i)) & 3) as i8 - 1)).collect();
    let table = s.shared("trits_of_byte", &Tensor::new(&[256, 4], &codes));
    let bytes = s.cast(packed, DType::I32);
    let groups = s.op("Gather", &[&table, &bytes], vec![attr_int("axis", 0)]);
    let row = s.ints(&[-1]);
    let flat = s.op("Reshape", &[&groups, &row], Vec::new());
    let shape = s.param_ints("shape");
    let numel = s.reduce("ReduceProd", &shape, None, true);
    let start = s.ints(&[0]);
    let exact = s.op("Slice", &[&flat, &start, &numel], Vec::new());
    s.op("Reshape", &[&exact, &shape], Vec::new())
}

/// What every product of integers ends with: `(f32(acc) * q_scale) * scale + bias`.
pub(super) fn scaled(s: &mut Scope, sums: &str, q_scale: &str, scale: &str, bias: &str) -> String {
    let y = s.op("Mul", &[sums, q_scale], Vec::new());
    let y = s.op("Mul", &[&y, scale], Vec::new());
    s.op("Add", &[&y, bias], Vec::new())
}

/// `BitLinear`: a product of activations by packed ternary weights of the shape `[K, N]`.
fn bit_linear(s: &mut Scope, q: &str, q_scale: &str, packed: &str, scale: &str, bias: &str) -> String {
    let w = unpacked(s, packed);
    let zero = zero_point(s);
    let sums = s.op("MatMulInteger", &[q, &w, &zero], Vec::new());
    let sums = s.cast(&sums, DType::F32);
    scaled(s, &sums, q_scale, scale, bias)
}

/// `BitLinearGrouped`: a product by packed ternary weights of the shape `[groups, G, N]` whose scales `[groups, 1, N]` are
/// for `G` inputs each; rows of activations hold `groups * G`.
fn grouped(s: &mut Scope, q: &str, q_scale: &str, packed: &str, scale: &str, bias: &str) -> String {
    let w = unpacked(s, packed);
    let shape = s.param_ints("shape");
    let (zero, two) = (s.ints(&[0]), s.ints(&[2]));
    let parts = s.op("Slice", &[&shape, &zero, &two], Vec::new());
    let parts = s.op("Concat", &[&zero, &parts], vec![attr_int("axis", 0)]);
    let q = s.op("Reshape", &[q, &parts], Vec::new());
    let q = s.op("Transpose", &[&q], vec![super::convert::attr_ints("perm", &[1, 0, 2])]);
    let zero_point = zero_point(s);
    let sums = s.op("MatMulInteger", &[&q, &w, &zero_point], Vec::new());
    let sums = s.cast(&sums, DType::F32);
    let y = s.op("Mul", &[&sums, q_scale], Vec::new());
    let y = s.op("Mul", &[&y, scale], Vec::new());
    let y = s.reduce("ReduceSum", &y, Some(&[0]), false);
    s.op("Add", &[&y, bias], Vec::new())
}

/// `IntLinear`: a product by 8-bit weights `[K, N]`, also with zero point 128. Two unsigned operands keep sums of large
/// weights from saturating where an engine adds pairs of products in 16 bits.
fn int_linear(s: &mut Scope, q: &str, q_scale: &str, w: &str, scale: &str, bias: &str) -> String {
    let zero = zero_point(s);
    let sums = s.op("MatMulInteger", &[q, w, &zero, &zero], Vec::new());
    let sums = s.cast(&sums, DType::F32);
    scaled(s, &sums, q_scale, scale, bias)
}

/// The attributes that place the window of a convolution, as the operator under definition has them.
fn window_attrs(s: &Scope) -> Vec<AttributeProto> {
    let ints = ["strides", "pads", "dilations"].map(|name| s.param(name, attribute_type::INTS));
    ints.into_iter().chain([s.param("group", attribute_type::INT)]).collect()
}

/// `BitConv`: a convolution by packed ternary weights of the shape `[O, C / group, kh, kw]`.
fn bit_conv(s: &mut Scope, q: &str, q_scale: &str, packed: &str, scale: &str, bias: &str) -> String {
    let w = unpacked(s, packed);
    // Convolutions of unsigned by signed bytes are not everywhere; weights move to the other side of 128 as well.
    let w = i8_to_bytes(s, &w);
    int_conv(s, q, q_scale, &w, scale, bias)
}

/// `IntConv`: a convolution by 8-bit weights with zero point 128.
fn int_conv(s: &mut Scope, q: &str, q_scale: &str, w: &str, scale: &str, bias: &str) -> String {
    let (zero, attrs) = (zero_point(s), window_attrs(s));
    let sums = s.op("ConvInteger", &[q, w, &zero, &zero], attrs);
    let sums = s.cast(&sums, DType::F32);
    let (scale, bias) = (per_channel(s, scale), per_channel(s, bias));
    scaled(s, &sums, q_scale, &scale, &bias)
}

/// One number per channel, or one in all, in the shape that broadcasts along axis 1 of images.
pub(super) fn per_channel(s: &mut Scope, v: &str) -> String {
    let shape = s.ints(&[-1, 1, 1]);
    s.op("Reshape", &[v, &shape], Vec::new())
}

/// `TernaryWeight`: packed ternary weights times a scale, as floats.
fn ternary_weight(s: &mut Scope, packed: &str, scale: &str) -> String {
    let w = unpacked(s, packed);
    let w = s.cast(&w, DType::F32);
    s.op("Mul", &[&w, scale], Vec::new())
}

/// `Encode`: one bit per feature of `x[B, F]` and threshold of `[F, b]`, feature by feature.
fn encode(s: &mut Scope, x: &str, thresholds: &str) -> String {
    let last = s.ints(&[2]);
    let column = s.op("Unsqueeze", &[x, &last], Vec::new());
    let bits = s.op("Greater", &[&column, thresholds], Vec::new());
    s.op("Flatten", &[&bits], vec![attr_int("axis", 1)])
}

/// `EncodeChosen`: one bit per threshold, of the feature of `x[B, F]` that it is for.
fn encode_chosen(s: &mut Scope, x: &str, thresholds: &str, features: &str) -> String {
    let swap = || vec![super::convert::attr_ints("perm", &[1, 0])];
    let rows = s.op("Transpose", &[x], swap());
    let chosen = s.op("Gather", &[&rows, features], vec![attr_int("axis", 0)]);
    let column = s.ints(&[-1, 1]);
    let thresholds = s.op("Reshape", &[thresholds, &column], Vec::new());
    let bits = s.op("Greater", &[&chosen, &thresholds], Vec::new());
    s.op("Transpose", &[&bits], swap())
}

/// `LutLayer`: for bits `[B, F]`, connections `[W, n]` and one row of packed tables per node; `LutLayerReal` has a row of
/// floats per node instead.
fn lut_layer(s: &mut Scope, bits: &str, connections: &str, tables: &str, real: bool) -> String {
    let swap = || vec![super::convert::attr_ints("perm", &[1, 0])];
    let (flat, entries) = flat_tables(s, tables, real);
    // Where the table of each node begins.
    let sizes = s.op("Shape", &[connections], Vec::new());
    let (zero, one, two) = (s.ints(&[0]), s.ints(&[1]), s.ints(&[2]));
    let width = s.op("Slice", &[&sizes, &zero, &one], Vec::new());
    let fan_in = s.op("Slice", &[&sizes, &one, &two], Vec::new());
    let (from, step) = (s.tensor(&Tensor::scalar(0i64)), s.tensor(&Tensor::scalar(1i64)));
    let scalar = s.tensor(&Tensor::new(&[0], &[] as &[i64]));
    let count = s.op("Reshape", &[&width, &scalar], Vec::new());
    let rows = s.op("Range", &[&from, &count, &step], Vec::new());
    let starts = s.op("Mul", &[&rows, &entries], Vec::new());
    let column = s.ints(&[-1, 1]);
    let starts = s.op("Reshape", &[&starts, &column], Vec::new());
    let starts = s.cast(&starts, DType::I32);
    // The address is the sum of the bits that a node reads, each times its power of two.
    let powers: Vec<i32> = (0..16).map(|j| 1 << j).collect();
    let powers = s.shared("powers", &Tensor::new(&[16, 1], &powers));
    let powers = s.op("Slice", &[&powers, &zero, &fan_in], Vec::new());
    let wires = s.cast(bits, DType::I32);
    let wires = s.op("Transpose", &[&wires], swap());
    let read = s.op("Gather", &[&wires, connections], vec![attr_int("axis", 0)]);
    let weighted = s.op("Mul", &[&read, &powers], Vec::new());
    let address = s.reduce("ReduceSum", &weighted, Some(&[1]), false);
    let place = s.op("Add", &[&address, &starts], Vec::new());
    let found = s.op("Gather", &[&flat, &place], vec![attr_int("axis", 0)]);
    s.op("Transpose", &[&found], swap())
}

/// All tables in one row, and how many entries each has there.
fn flat_tables(s: &mut Scope, tables: &str, real: bool) -> (String, String) {
    let sizes = s.op("Shape", &[tables], Vec::new());
    let (one, two, row) = (s.ints(&[1]), s.ints(&[2]), s.ints(&[-1]));
    let entries = s.op("Slice", &[&sizes, &one, &two], Vec::new());
    if real {
        return (s.op("Reshape", &[tables, &row], Vec::new()), entries);
    }
    let bits: Vec<u8> = (0..256u32).flat_map(|b| (0..8).map(move |i| ((b >> i) & 1) as u8)).collect();
    let table = s.shared("bits_of_byte", &Tensor::with_dtype(DType::Bool, &[256, 8], &bits));
    let bytes = s.cast(tables, DType::I32);
    let groups = s.op("Gather", &[&table, &bytes], vec![attr_int("axis", 0)]);
    let eight = s.ints(&[8]);
    let entries = s.op("Mul", &[&entries, &eight], Vec::new());
    (s.op("Reshape", &[&groups, &row], Vec::new()), entries)
}

/// `GroupSum`: sums of equal groups of `x[B, n]`, bits or floats, plus `beta`, divided by `tau`.
fn group_sum(s: &mut Scope, x: &str) -> String {
    let x = s.cast(x, DType::F32);
    let groups = s.param_int("groups");
    let (keep, rest) = (s.ints(&[0]), s.ints(&[-1]));
    let shape = s.op("Concat", &[&keep, &groups, &rest], vec![attr_int("axis", 0)]);
    let split = s.op("Reshape", &[&x, &shape], Vec::new());
    let sums = s.reduce("ReduceSum", &split, Some(&[2]), false);
    let (beta, tau) = (s.param_f32("beta"), s.param_f32("tau"));
    let shifted = s.op("Add", &[&sums, &beta], Vec::new());
    s.op("Div", &[&shifted, &tau], Vec::new())
}
