//! Which values hold whole numbers although they are floats, and between which bounds.

use bitc_ir::ops::pad::PadMode;
use bitc_ir::ops::quantize_act::Form;
use bitc_ir::ops::{Binary, BinaryKind, Cast, QuantizeAct, Reshape, Unary, UnaryKind, Where};
use bitc_ir::{DType, Dim, NodeId, Op, Shape, Tensor, ValueId};

use crate::rewrite::{Editor, Miss};

/// Numbers up to this magnitude are whole or not without doubt, and are added exactly.
const EXACT: f64 = (1 << 24) as f64;

/// How many operations back a range is looked for.
const DEPTH: usize = 12;

/// Where whole numbers have to come from.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Evidence {
    /// The model makes them so: it rounds, compares or takes a sign. Only this shows training with quantisation.
    Made,
    /// Their type may be the only reason.
    Any,
}

/// The range of a value that can only be whole numbers.
fn whole_range(g: &Editor<'_>, value: ValueId, evidence: Evidence) -> Option<Range> {
    let range = range(g, value, DEPTH)?;
    // Also false where nothing bounds it.
    let exact = range.whole && range.low >= -EXACT && range.high <= EXACT;
    (exact && (range.made || evidence == Evidence::Any)).then_some(range)
}

/// Whether a value is a factor times something that was rounded and limited, or can only be a few whole numbers. The factor
/// is one number, or one per row.
pub(crate) fn is_rounded(g: &Editor<'_>, value: ValueId) -> bool {
    let unscaled = row_scaled(g, value).map_or(scaled(g, value).0, |(v, _)| v);
    whole_range(g, unscaled, Evidence::Made).is_some()
}

/// Whether a value is one number times whole numbers of a known range.
pub(crate) fn is_whole(g: &Editor<'_>, value: ValueId) -> bool {
    whole_range(g, scaled(g, value).0, Evidence::Any).is_some()
}

/// What is known of a value. A value that is no number stays out of it: a quantiser makes it 0.
#[derive(Clone, Copy)]
struct Range {
    low: f64,
    high: f64,
    whole: bool,
    made: bool,
}

impl Range {
    fn unbounded(whole: bool) -> Self {
        Self { low: f64::NEG_INFINITY, high: f64::INFINITY, whole, made: whole }
    }
}

fn range(g: &Editor<'_>, value: ValueId, depth: usize) -> Option<Range> {
    let depth = depth.checked_sub(1)?;
    let made = |low: f64, high: f64| Some(Range { low, high, whole: true, made: true });
    if let Some(c) = number(g, value) {
        return c.is_finite().then_some(Range { low: c, high: c, whole: c.fract() == 0.0, made: false });
    }
    let Some(node) = g.producer_id(value) else { return of_type(g.ty(value).dtype) };
    let input = |i: usize| g.input(node, i);
    let of = |i: usize| range(g, input(i)?, depth);
    // The same for what clips: nothing bounds its input yet.
    let open = |i: usize| {
        let v = input(i)?;
        Some(range(g, v, depth).unwrap_or_else(|| Range::unbounded(rounds(g, v))))
    };
    match &g.node(node).op {
        Op::Unary(Unary(UnaryKind::Sign)) => made(-1.0, 1.0),
        Op::Unary(Unary(UnaryKind::Round)) => {
            let r = open(0)?;
            made(r.low.round_ties_even(), r.high.round_ties_even())
        }
        Op::Unary(Unary(UnaryKind::Relu)) => {
            let r = open(0)?;
            Some(Range { low: r.low.max(0.0), high: r.high.max(0.0), ..r })
        }
        Op::Clip(_) => {
            let bound = |i: usize, none: f64| input(i).map_or(Some(none), |v| number(g, v));
            let (low, high) = (bound(1, f64::NEG_INFINITY)?, bound(2, f64::INFINITY)?);
            let inner = open(0)?;
            let clipped = |v: f64| v.max(low).min(high);
            let bounds_whole = [low, high].iter().all(|b| b.fract() == 0.0 || b.is_infinite());
            let (low, high) = (clipped(inner.low), clipped(inner.high));
            Some(Range { low, high, whole: inner.whole && bounds_whole, ..inner })
        }
        Op::Cast(Cast { to }) => {
            let from = input(0)?;
            let inner = of(0).or_else(|| of_type(g.ty(from).dtype))?;
            let fits = inner.low >= -EXACT && inner.high <= EXACT && inner.whole;
            let holds = match to.integer_range() {
                Some((low, high)) => low as f64 <= inner.low && inner.high <= high as f64,
                None => to.is_float(),
            };
            let exact = !to.is_float() || matches!(to, DType::F32 | DType::F64);
            (fits && holds && exact).then_some(inner)
        }
        Op::Where(Where) => {
            let (a, b) = (of(1)?, of(2)?);
            Some(Range { low: a.low.min(b.low), high: a.high.max(b.high), whole: a.whole && b.whole, made: true })
        }
        Op::QuantizeAct(op) if g.node(node).outputs.first() == Some(&value) => {
            made(f64::from(op.low), f64::from(op.high))
        }
        Op::Pad(op) => {
            let r = of(0)?;
            let border = match (op.mode, input(1)) {
                (PadMode::Constant, Some(v)) => range(g, v, depth)?,
                (PadMode::Constant, None) => Range { low: 0.0, high: 0.0, whole: true, made: false },
                _ => r,
            };
            let whole = r.whole && border.whole;
            Some(Range { low: r.low.min(border.low), high: r.high.max(border.high), whole, made: r.made })
        }
        Op::Binary(Binary(kind)) if g.ty(value).dtype.is_float() || g.ty(value).dtype.bits() >= 32 => {
            let (a, b) = (open(0)?, open(1)?);
            let (low, high) = match kind {
                BinaryKind::Max => (a.low.max(b.low), a.high.max(b.high)),
                BinaryKind::Min => (a.low.min(b.low), a.high.min(b.high)),
                BinaryKind::Add => (a.low + b.low, a.high + b.high),
                BinaryKind::Sub => (a.low - b.high, a.high - b.low),
                _ => return None,
            };
            Some(Range { low, high, whole: a.whole && b.whole, made: a.made || b.made })
        }
        _ => of_type(g.ty(value).dtype),
    }
}

/// Whether a value without a known range is whole all the same.
fn rounds(g: &Editor<'_>, value: ValueId) -> bool {
    let whole = |op: &Unary| matches!(op.0, UnaryKind::Round | UnaryKind::Floor | UnaryKind::Ceil);
    g.producer::<Unary>(value).is_some_and(|(_, op)| whole(op))
}

/// What every value of a type of integers is between.
fn of_type(dtype: DType) -> Option<Range> {
    if dtype == DType::Bool {
        return Some(Range { low: 0.0, high: 1.0, whole: true, made: true });
    }
    let (low, high) = dtype.integer_range().filter(|_| dtype.bits() <= 16)?;
    Some(Range { low: low as f64, high: high as f64, whole: true, made: false })
}

/// The number that a constant of one element holds.
pub(crate) fn number(g: &Editor<'_>, value: ValueId) -> Option<f64> {
    let tensor = g.constant(value).filter(|t| t.numel() == 1)?;
    tensor.to_f64().first().copied()
}

/// A constant of one element in a shape of ones.
pub(crate) fn ones(g: &mut Editor<'_>, c: ValueId, shape: Shape) -> Result<ValueId, Miss> {
    let dims: Vec<usize> = vec![1; shape.rank()];
    let tensor = g.constant(c).and_then(|t| t.reshaped(&dims));
    match tensor {
        Some(tensor) => {
            let name = g.value(c).name.clone();
            Ok(g.add_const(&name, tensor))
        }
        None => g.add(Reshape { shape }, &[Some(c)]),
    }
}

/// Whole numbers of 8 bits that stand for a value: `value == (q + zero) * scale`.
pub(crate) struct Integers {
    /// `i8`.
    pub(crate) q: ValueId,
    /// One number, or one per row.
    pub(crate) scale: ValueId,
    /// What the integers were moved by to fit 8 bits with a sign.
    pub(crate) zero: i32,
    /// The number that `scale` holds, if it is known.
    pub(crate) step: Option<f32>,
    /// Whether 0 is one of the whole numbers that the value may be, before they are scaled.
    pub(crate) has_zero: bool,
}

/// The rounding r behind a value of a known range, and the b for which the value is `clip(r + b, low, high)` between the
/// bounds of that range: what moves or limits whole numbers, or keeps them in another type, keeps their order.
fn rounding(g: &Editor<'_>, value: ValueId) -> Option<(ValueId, f64)> {
    let (mut at, mut by) = (value, 0.0);
    for _ in 0..DEPTH {
        let node = g.producer_id(at)?;
        let x = g.input(node, 0)?;
        at = match &g.node(node).op {
            Op::Unary(Unary(UnaryKind::Round)) => {
                let fits = g.ty(at).dtype == DType::F32 && g.ty(at).shape == g.ty(value).shape;
                return fits.then_some((at, by));
            }
            // Types that do not hold every number of the range have none.
            Op::Cast(_) => range(g, at, DEPTH).map(|_| x)?,
            Op::Clip(_) => {
                [1, 2].into_iter().all(|i| g.input(node, i).is_none_or(|v| whole(g, v).is_some())).then_some(x)?
            }
            Op::Binary(Binary(kind @ (BinaryKind::Add | BinaryKind::Sub))) => {
                let wide = g.ty(at).dtype.is_float() || g.ty(at).dtype.bits() >= 32;
                let c = g.input(node, 1).filter(|_| wide)?;
                let sign = if *kind == BinaryKind::Sub { -1.0 } else { 1.0 };
                match whole(g, c) {
                    Some(number) => {
                        by += sign * number;
                        x
                    }
                    None if whole(g, x).is_some() && *kind == BinaryKind::Add => {
                        by += whole(g, x)?;
                        c
                    }
                    // What is found while running moves a rounding by a whole number as well.
                    None => {
                        let is_whole = |v| rounds(g, v) || range(g, v, DEPTH).is_some_and(|r| r.whole);
                        let fits = g.ty(at).dtype == DType::F32 && g.ty(at).shape == g.ty(value).shape;
                        return (fits && is_whole(x) && is_whole(c)).then_some((at, by));
                    }
                }
            }
            _ => return None,
        };
    }
    None
}

/// `i8` integers `u - by` for integers u of 8 bits, and by, which is 128 where some may be too large for a sign.
pub(crate) fn bytes_of(g: &mut Editor<'_>, u: ValueId) -> Result<(ValueId, f64), Miss> {
    if g.ty(u).dtype == DType::I8 {
        return Ok((u, 0.0));
    }
    let known = range(g, u, DEPTH).or_else(|| of_type(g.ty(u).dtype));
    let Range { low, high, .. } = known.ok_or(Miss::NoMatch)?;
    let by = if high <= 127.0 { 0.0 } else { 128.0 };
    let (low, high) = (low - by, high - by);
    // Bounds of a quantiser have 0 between them.
    let behind = rounding(g, u).filter(|_| (-128.0..=0.0).contains(&low) && (0.0..=127.0).contains(&high));
    let (mut floats, moved, bounds) = match behind {
        Some((rounded, moved)) => (rounded, moved - by, (low as i8, high as i8)),
        None => (g.add(Cast { to: DType::F32 }, &[Some(u)])?, -by, (i8::MIN, i8::MAX)),
    };
    if moved != 0.0 {
        let by = g.add_const("", Tensor::scalar(moved as f32));
        floats = g.add(Binary(BinaryKind::Add), &[Some(floats), Some(by)])?;
    }
    let op = QuantizeAct { form: Form::Integer, low: bounds.0, high: bounds.1, ..QuantizeAct::default() };
    let outputs = g.add_multi(op, &[Some(floats)])?;
    Ok((*outputs.first().ok_or(Miss::NoMatch)?, by))
}

/// The whole number of at most 16 bits that a constant of one element holds.
fn whole(g: &Editor<'_>, value: ValueId) -> Option<f64> {
    number(g, value).filter(|n| n.fract() == 0.0 && n.abs() <= 65536.0)
}

/// What integers are multiplied with.
enum Factor {
    Nothing,
    Number(ValueId),
    Divisor(ValueId),
    /// One per row, or divisors.
    Rows(ValueId, bool),
}

/// `v * c == (quantize_act{integer}(v - zero) + zero) * c` for a v that can only be some of 256 whole numbers. c is a number;
/// where the evidence is [`Evidence::Any`], also one per row.
pub(crate) fn integers_of(g: &mut Editor<'_>, value: ValueId, evidence: Evidence) -> Result<Integers, Miss> {
    let (v, factor) = match (row_scaled(g, value).filter(|_| evidence == Evidence::Any), scaled(g, value)) {
        (Some((v, (s, divides))), _) => (v, Factor::Rows(s, divides)),
        (None, (v, Some((c, false)))) => (v, Factor::Number(c)),
        (None, (v, Some((c, true)))) => (v, Factor::Divisor(c)),
        (None, (v, None)) => (v, Factor::Nothing),
    };
    let Range { low, high, .. } = whole_range(g, v, evidence).ok_or(Miss::NoMatch)?;
    let rank = g.ty(v).shape.rank();
    if high - low > 255.0 || g.ty(v).dtype != DType::F32 || g.ty(v).shape != g.ty(value).shape || rank == 0 {
        return Err(Miss::NoMatch);
    }
    let fits = low >= -128.0 && high <= 127.0;
    let zero = if fits { 0.0 } else { low + 128.0 };
    let bytes = g.producer::<Cast>(v).and_then(|(n, _)| g.input(n, 0)).filter(|&q| g.ty(q).dtype == DType::I8);
    let q = match bytes {
        // Other rules see to the scale of what a quantiser made.
        Some(_) if evidence == Evidence::Made => return Err(Miss::NoMatch),
        Some(q) => q,
        None => {
            // Limits and moves behind a rounding are those of the quantiser.
            let around_zero = low <= zero && zero <= high;
            let behind = rounding(g, v).filter(|_| around_zero);
            let (mut moved, by) = behind.map_or((v, -zero), |(rounded, by)| (rounded, by - zero));
            if by != 0.0 {
                let by = g.add_const("", Tensor::scalar(by as f32));
                moved = g.add(Binary(BinaryKind::Add), &[Some(moved), Some(by)])?;
            }
            let (low, high) = (((low - zero) as i8).min(0), ((high - zero) as i8).max(0));
            let op = QuantizeAct { form: Form::Integer, low, high, ..QuantizeAct::default() };
            let outputs = g.add_multi(op, &[Some(moved)])?;
            *outputs.first().ok_or(Miss::NoMatch)?
        }
    };
    let ones_of = |step: f32| Tensor::new(&vec![1; rank], &[step]);
    let (scale, step) = match factor {
        Factor::Nothing => (g.add_const("", ones_of(1.0)), Some(1.0)),
        Factor::Number(c) => (ones(g, c, Shape(vec![Dim::from(1); rank]))?, Some(number(g, c).unwrap_or(1.0) as f32)),
        Factor::Divisor(c) => {
            let step = (1.0 / number(g, c).unwrap_or(1.0)) as f32;
            (g.add_const("", ones_of(step)), Some(step))
        }
        Factor::Rows(s, false) => (s, None),
        Factor::Rows(s, true) => (g.add(Unary(UnaryKind::Reciprocal), &[Some(s)])?, None),
    };
    Ok(Integers { q, scale, zero: zero as i32, step, has_zero: low <= 0.0 && high >= 0.0 })
}

/// What a value is a factor per row times of, and that factor, which is no constant; or divided by it.
fn row_scaled(g: &Editor<'_>, value: ValueId) -> Option<(ValueId, (ValueId, bool))> {
    let per_row = |v: ValueId, s: ValueId| {
        let (shape, rows) = (&g.ty(v).shape, &g.ty(s).shape);
        let fits = shape.rank() > 0 && rows.rank() == shape.rank() && rows.0.last().is_some_and(Dim::is_one);
        fits && g.constant(s).is_none() && rows.0.iter().zip(&shape.0).all(|(s, d)| s.is_one() || s == d)
    };
    let (kind, a, b) = binary(g, value)?;
    let found = match kind {
        BinaryKind::Mul => [(a, b), (b, a)].into_iter().find(|&(v, s)| per_row(v, s))?,
        BinaryKind::Div => Some((a, b)).filter(|&(v, s)| per_row(v, s))?,
        _ => return None,
    };
    Some((found.0, (found.1, kind == BinaryKind::Div)))
}

/// What a value is one number times of, and that number; or divided by it.
pub(crate) fn scaled(g: &Editor<'_>, value: ValueId) -> (ValueId, Option<(ValueId, bool)>) {
    let found = binary(g, value).and_then(|(kind, a, b)| match kind {
        BinaryKind::Mul => {
            [(a, b), (b, a)].into_iter().find(|&(_, c)| number(g, c).is_some()).map(|(v, c)| (v, (c, false)))
        }
        BinaryKind::Div => number(g, b).filter(|&c| c != 0.0).map(|_| (a, (b, true))),
        _ => None,
    });
    found.map_or((value, None), |(v, c)| (v, Some(c)))
}

/// The operation on two values that makes a value.
pub(crate) fn binary(g: &Editor<'_>, value: ValueId) -> Option<(BinaryKind, ValueId, ValueId)> {
    let node: NodeId = g.producer_id(value)?;
    match (&g.node(node).op, &g.node(node).inputs[..]) {
        (Op::Binary(op), &[Some(a), Some(b)]) => Some((op.0, a, b)),
        _ => None,
    }
}
