//! Images put together from parts, cut and padded, and sequences turned around.

use bitc_ir::ops::{Expand, GatherElements};
use bitc_ir::{DType, Dim, Shape, ValueId};

use super::Rule::With;
use super::layout::part;
use super::product::{border, spread};
use super::{Entry, std};
use crate::error::Cause;
use crate::import::attrs::invalid;
use crate::import::node::{NodeCx, Outputs, unsupported};

pub(super) const TABLE: &[Entry] = &[
    std("CenterCropPad", With(center_crop_pad)),
    std("Col2Im", With(col2im)),
    std("ReverseSequence", With(reverse_sequence)),
];

/// As much from the middle as is wanted, or zeros around it.
fn center_crop_pad(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(2, 2)?;
    let mut x = cx.input(0)?;
    let rank = cx.rank(x);
    let axes = match cx.attrs.ints("axes")? {
        Some(axes) => axes.iter().map(|&a| cx.axis(a, rank)).collect::<Result<Vec<_>, _>>()?,
        None => (0..rank).collect(),
    };
    let wanted = cx.build.known_ints(cx.input(1)?, "shape")?;
    if wanted.len() != axes.len() {
        return Err(Cause::Type(format!("{} sizes expected, found {}", axes.len(), wanted.len())));
    }
    for (axis, wanted) in axes.into_iter().zip(wanted) {
        let size = cx.dims(x)[axis].as_const().and_then(|n| i64::try_from(n).ok());
        let size = size.ok_or_else(|| unsupported("CenterCropPad of a symbolic axis"))?;
        let added =
            wanted.checked_sub(size).filter(|_| wanted >= 0).ok_or_else(|| invalid("shape", "sizes", wanted))?;
        // The odd element is cut off, or added, at the end.
        let begin = added / 2;
        x = border(cx, x, axis, begin, added - begin)?;
    }
    Ok(vec![x])
}

/// The numbers of an attribute with one for each spatial axis.
fn per_axis(cx: &mut NodeCx<'_, '_>, name: &'static str, len: usize, default: i64) -> Result<Vec<i64>, Cause> {
    let given = cx.attrs.ints(name)?.map_or(vec![default; len], <[i64]>::to_vec);
    let fits = given.len() == len && given.iter().all(|&n| (default..1 << 31).contains(&n));
    if fits { Ok(given) } else { Err(invalid(name, &format!("{len} numbers from {default} on"), format!("{given:?}"))) }
}

/// The sum of blocks that lie over an image.
fn col2im(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(3, 3)?;
    let x = cx.input(0)?;
    let image = cx.build.known_ints(cx.input(1)?, "image_shape")?;
    let block = cx.build.known_ints(cx.input(2)?, "block_shape")?;
    let rank = image.len();
    let (dilations, strides) = (per_axis(cx, "dilations", rank, 1)?, per_axis(cx, "strides", rank, 1)?);
    let pads = per_axis(cx, "pads", 2 * rank, 0)?;
    let in_range = |list: &[i64]| list.iter().all(|n| (1..1 << 20).contains(n));
    if block.len() != rank || cx.rank(x) != 3 || !in_range(&image) || !in_range(&block) {
        return Err(Cause::Type(format!("blocks of {rank} axes as columns expected, found {}", cx.ty(x))));
    }
    // How many blocks there are along each axis.
    let mut counts = Vec::new();
    for axis in 0..rank {
        let free = image[axis] + pads[axis] + pads[axis + rank] - dilations[axis] * (block[axis] - 1) - 1;
        let count = usize::try_from(free / strides[axis] + 1).ok().filter(|_| free >= 0);
        counts.push(Dim::from(count.ok_or_else(|| invalid("block_shape", "blocks that fit the image", block[axis]))?));
    }
    let taps: i64 = block.iter().product();
    let dims = cx.dims(x);
    let channels = dims[1].div_exact(&Dim::from(usize::try_from(taps).unwrap_or(1)));
    let channels =
        channels.ok_or_else(|| Cause::Type(format!("a multiple of {taps} rows expected, found {}", dims[1])))?;
    let mut split = vec![dims[0].clone(), channels.clone(), Dim::from(usize::try_from(taps).unwrap_or(1))];
    split.push(dims[2].clone());
    let x = cx.reshape(x, split)?;
    let mut sum = None;
    for tap in 0..taps {
        let at = usize::try_from(tap).unwrap_or(0);
        let one = part(cx, x, 2, Dim::from(at), Dim::from(at + 1))?;
        let mut plane = cx.reshape(one, [&[dims[0].clone(), channels.clone()], &counts[..]].concat())?;
        let mut rest = tap;
        for axis in (0..rank).rev() {
            let offset = rest % block[axis] * dilations[axis];
            rest /= block[axis];
            plane = spread(cx, plane, axis + 2, usize::try_from(strides[axis]).unwrap_or(1))?;
            let size = cx.dims(plane)[axis + 2].as_const().and_then(|n| i64::try_from(n).ok()).unwrap_or(0);
            let begin = offset - pads[axis];
            plane = border(cx, plane, axis + 2, begin, image[axis] - size - begin)?;
        }
        sum = Some(match sum {
            Some(sum) => cx.simple("add", &[sum, plane])?,
            None => plane,
        });
    }
    sum.map(|y| vec![y]).ok_or_else(|| unsupported("Col2Im of empty blocks"))
}

/// The first elements of each sample, as many as its length says, in reverse.
fn reverse_sequence(cx: &mut NodeCx<'_, '_>) -> Outputs {
    cx.arity(2, 2)?;
    let (x, lengths) = (cx.input(0)?, cx.input(1)?);
    let (batch, time) = (cx.attrs.int_or("batch_axis", 1)?, cx.attrs.int_or("time_axis", 0)?);
    let rank = cx.rank(x);
    let (batch, time) = (cx.axis(batch, rank)?, cx.axis(time, rank)?);
    if batch == time || cx.rank(lengths) != 1 {
        return Err(Cause::Type(format!("one length per sample expected, found {}", cx.ty(lengths))));
    }
    let dims = cx.dims(x);
    let along = |axis: usize| -> Vec<Dim> {
        (0..rank).map(|i| if i == axis { dims[axis].clone() } else { Dim::from(1) }).collect()
    };
    let count = bitc_ir::Attr::from(&Shape(vec![dims[time].clone()]));
    let steps = cx.named("iota", vec![("count", count)], &[])?;
    let steps = cx.reshape(steps, along(time))?;
    let lengths = cx.cast(lengths, DType::I64)?;
    let lengths = cx.reshape(lengths, along(batch))?;
    let inside = cx.simple("less", &[steps, lengths])?;
    let last = super::elementwise::with_scalar(cx, "sub", lengths, 1.0)?;
    let mirrored = cx.simple("sub", &[last, steps])?;
    let from = cx.simple("where", &[inside, mirrored, steps])?;
    let from: ValueId = cx.add(Expand { shape: Shape(dims) }, &[from])?;
    Ok(vec![cx.add(GatherElements { axis: time as i64 }, &[x, from])?])
}
