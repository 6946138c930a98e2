//! Convolutional models: trees of nodes that slide over an image of bits.
//!
//! An output channel is a tree: nodes read bits of a window, the next ones read their answers, the last one is the channel.
//! All trees of a layer are taken together, level by level. Both generations of the library are read: one keeps the first
//! level of many trees in `first_layer_chunks`, the other every level in its tree.
//!
//! The weights are shared by all windows. A small model is written out, a copy of each node per window, which leaves a
//! network of logic that is optimised and emitted as such, and is fastest on many rows. A larger one gathers its windows
//! and runs the trees once per window, with the weights kept once.

use bitc_ir::ops::{Gather, GroupSum, Pad, Reshape, Transpose, pad::PadMode};
use bitc_ir::{Blob, DType, Dim, Graph, Op, Tensor, ValueId};

use super::super::tables::{add_layer, check_connections, n_bits};
use super::nodes::{self, Mixture, Place};
use super::settings::{Pooling, Windows};
use super::{Builder, NodeKind, connections, mixed};
use crate::error::{Diagnostic, quoted};
use crate::frontend::Reals;

mod written_out;

/// The most bits of an image with its border, and of all its windows together.
const IMAGE_BITS: usize = 1 << 28;

/// An image of bits, row-major, channel by channel; it may begin before and end behind what is there.
#[derive(Clone, Copy, Debug)]
struct Image {
    channels: usize,
    height: usize,
    width: usize,
    /// The bits that are there; those behind are 0.
    bits: usize,
}

/// One level of all trees of a layer.
struct Level {
    name: String,
    /// The answers of the level before, or the bits of a window.
    reads: usize,
    /// [nodes, n]
    connections: Vec<i32>,
    fan_in: usize,
    /// [nodes, 2^n]; empty where nodes compute with real numbers.
    tables: Option<Tensor>,
    gates: Vec<Mixture>,
}

impl Level {
    fn nodes(&self) -> usize {
        self.connections.len() / self.fan_in.max(1)
    }
}

/// A layer and the image that it reads.
struct Layer {
    levels: Vec<Level>,
    image: Image,
    /// Rows and columns of windows.
    positions: [usize; 2],
}

impl Layer {
    fn n_positions(&self) -> usize {
        self.positions[0] * self.positions[1]
    }

    fn channels(&self) -> usize {
        self.levels.last().map_or(0, Level::nodes)
    }
}

/// The prefixes under which a layer has its levels, level by level.
struct Keys {
    levels: Vec<Vec<String>>,
    chunked: bool,
}

/// Adds the layers, and what becomes of their last image; `bits` are the bits of the encoder.
pub(super) fn build(b: &mut Builder<'_>, bits: ValueId, widths: Option<&[usize]>) -> Result<ValueId, Diagnostic> {
    let windows = b.settings.windows.clone();
    let keys: Vec<Keys> = (0..).map(|i| find_keys(b, i)).take_while(|k| !k.levels.is_empty()).collect();
    if keys.is_empty() {
        return Err(Diagnostic::wrong_input("the weights hold no convolutional layer")
            .expected("tensors of `conv_layers.0.trees.0.0` or `conv_layers.0.first_layer_chunks.0`"));
    }
    if let Some(widths) = widths.filter(|w| w.len() != keys.len()) {
        return Err(Diagnostic::wrong_input("`conv_layer_widths` does not fit the weights")
            .expected(format!("{} layers", keys.len()))
            .found(widths.len()));
    }
    let n_bits = n_bits(b.graph, bits);
    let mut layers: Vec<Layer> = Vec::new();
    for (i, k) in keys.iter().enumerate() {
        let place = Place { first: i == 0, last: i + 1 == keys.len() };
        let levels = read_levels(b, k, place)?;
        let image = match layers.last() {
            None => encoded_image(b, &levels[0], n_bits, &windows)?,
            Some(before) => {
                let [height, width] = before.positions;
                Image { channels: before.channels(), height, width, bits: before.channels() * height * width }
            }
        };
        let layer = Layer { positions: positions(&image, &windows, i)?, levels, image };
        check(&layer, i, &windows, widths)?;
        layers.push(layer);
    }
    let write_out = windows.unroll.unwrap_or_else(|| written_out::suits(&layers, &windows, b.max_memory));
    let mut y = bits;
    if write_out && b.reals != Reals::Numbers {
        for layer in &layers {
            y = written_out::add_layer(b, y, layer, &windows)?;
        }
    } else if let [first, ..] = &layers[..] {
        let bits = |l: &Layer| window_bits(&l.image, &windows).checked_mul(l.n_positions());
        if let Some(layer) = layers.iter().find(|l| bits(l).is_none_or(|n| n > IMAGE_BITS)) {
            return Err(Diagnostic::unsupported("the windows of a layer are too many or too large")
                .node(layer.levels[0].name.as_str())
                .expected(format!("at most {IMAGE_BITS} bits in all windows of an image"))
                .found(format!("{:?} windows of {} bits", layer.positions, window_bits(&layer.image, &windows))));
        }
        y = to_pixels(b, y, &first.image)?;
        for layer in &layers {
            y = share(b, y, layer, &windows)?;
        }
        y = to_bits(b, y, &layers[layers.len() - 1])?;
    }
    let chunked = keys.iter().any(|k| k.chunked);
    pool(b, y, layers.last().map_or((0, 0), |l| (l.channels(), l.n_positions())), windows.pooling, chunked)
}

/// What becomes of the last image: its bits, or the means of its channels.
fn pool(
    b: &mut Builder<'_>,
    y: ValueId,
    (channels, positions): (usize, usize),
    pooling: Option<Pooling>,
    chunked: bool,
) -> Result<ValueId, Diagnostic> {
    let pooling = pooling.unwrap_or_else(|| {
        if !chunked {
            return Pooling::Flatten;
        }
        let d = Diagnostic::wrong_input(
            "the weights are of a version of the library that adds up the mean of every channel, so the scores do too",
        );
        b.warnings.push(d.hint("`--set pooling=none` adds up the bits instead"));
        Pooling::Mean
    });
    if pooling == Pooling::Flatten {
        return Ok(y);
    }
    let mean = GroupSum { groups: channels, tau: positions as f32, beta: 0.0 };
    add(b.graph, "means", mean, &[y])
}

/// Finds the levels of layer `i` in the weights.
fn find_keys(b: &Builder<'_>, i: usize) -> Keys {
    let has = |layer: &String| b.by_node.width(layer) > 0;
    let all = |name: &dyn Fn(usize) -> String| (0..).map(name).take_while(has).collect::<Vec<_>>();
    let chunks = all(&|c| format!("conv_layers.{i}.first_layer_chunks.{c}"));
    let chunked = !chunks.is_empty();
    let mut levels = if chunked { vec![chunks] } else { Vec::new() };
    for level in 0.. {
        let trees = all(&|t| format!("conv_layers.{i}.trees.{t}.{level}"));
        if trees.is_empty() {
            break;
        }
        levels.push(trees);
    }
    Keys { levels, chunked }
}

/// Reads the levels of a layer and joins those of its trees.
fn read_levels(b: &mut Builder<'_>, keys: &Keys, place: Place) -> Result<Vec<Level>, Diagnostic> {
    let n_trees = keys.levels.get(usize::from(keys.chunked)).map(Vec::len);
    let mut levels: Vec<Level> = Vec::new();
    for (l, prefixes) in keys.levels.iter().enumerate() {
        let here = Place { first: place.first && l == 0, last: place.last && l + 1 == keys.levels.len() };
        let before = levels.last().map(Level::nodes);
        let per_tree = match (before, n_trees) {
            (Some(nodes), Some(trees)) if nodes % trees == 0 && prefixes.len() == trees => nodes / trees,
            (None, _) => 0,
            _ => {
                let d = Diagnostic::wrong_input("the trees of a layer are not alike").node(prefixes[0].as_str());
                return Err(d.expected(format!("{} trees of equal width", n_trees.unwrap_or(0))));
            }
        };
        let mut level = Level {
            name: prefixes[0].clone(),
            reads: before.unwrap_or(0),
            connections: Vec::new(),
            fan_in: 0,
            tables: None,
            gates: Vec::new(),
        };
        let (mut entries, mut dtype) = (Vec::new(), DType::Bool);
        for (tree, prefix) in prefixes.iter().enumerate() {
            let at = |d: Diagnostic| d.node(prefix.as_str());
            let width = b.by_node.width(prefix);
            let wires = connections::mapping(b.dict, prefix, b.learnable, width, b.warnings).map_err(at)?;
            let fan_in = wires.dims()[1];
            if tree == 0 {
                level.fan_in = fan_in;
            }
            if fan_in == 0 || fan_in != level.fan_in || wires.dims()[0] != width {
                let d = Diagnostic::wrong_input("the connections do not fit the nodes").found(wires.ty());
                return Err(at(d.expected(format!("i32[{width}, {}]", level.fan_in.max(1)))));
            }
            let wires = wires.to_vec::<i32>().unwrap_or_default();
            let limit = if l == 0 { i32::MAX as usize } else { per_tree };
            check_connections(wires.iter().copied(), limit).map_err(at)?;
            level.connections.extend(wires.iter().map(|w| w + (tree * per_tree) as i32));
            if b.kind == NodeKind::DiffLogic && b.reals == Reals::Numbers {
                level.gates.extend(nodes::mixtures(&b.by_node, prefix, fan_in).map_err(at)?);
                continue;
            }
            let discretize = b.reals == Reals::Bits;
            let tables = nodes::tables(&b.by_node, prefix, fan_in, b.kind, b.settings, here, discretize).map_err(at)?;
            b.ties += tables.ties;
            dtype = tables.tensor.dtype();
            if tables.tensor.dims() != [width, 1 << fan_in] {
                let d = Diagnostic::wrong_input("the tables do not fit the connections").found(tables.tensor.ty());
                return Err(at(d.expected(format!("{} addresses per node", 1u64 << fan_in))));
            }
            entries.extend_from_slice(tables.tensor.bytes());
        }
        if level.gates.is_empty() {
            let dims = [level.nodes(), 1 << level.fan_in];
            let tables = Tensor::from_blob(dtype, &dims, Blob::new(entries));
            level.tables = Some(tables.map_err(|e| Diagnostic::bug(e.to_string()))?);
        }
        levels.push(level);
    }
    let (last, trees) = (levels.last().map_or(0, Level::nodes), n_trees.or(levels.last().map(Level::nodes)));
    if Some(last) != trees {
        let name = levels.last().map_or("", |l| l.name.as_str());
        return Err(Diagnostic::wrong_input("the trees of a layer do not end in one node each")
            .node(name)
            .expected(format!("{} nodes", trees.unwrap_or(0)))
            .found(last));
    }
    Ok(levels)
}

/// The image that the library makes of encoded bits: as good as square, larger than the window, filled with zeros.
fn encoded_image(b: &mut Builder<'_>, first: &Level, bits: usize, windows: &Windows) -> Result<Image, Diagnostic> {
    let channels = channels(b, first, windows)?;
    let pixels = windows.kernel.saturating_add(2).saturating_add(bits / channels);
    let side = pixels.isqrt().saturating_add(1);
    let row = side.saturating_mul(channels);
    let height = side.max(bits.div_ceil(row));
    Ok(Image { channels, height, width: side, bits })
}

/// The channels of the image: given, or as many as the connections reach.
fn channels(b: &mut Builder<'_>, first: &Level, windows: &Windows) -> Result<usize, Diagnostic> {
    if let Some(channels) = windows.channels.or(b.channels) {
        return Ok(channels);
    }
    let area = windows.kernel.saturating_mul(windows.kernel);
    if let Some(&[_, patch]) =
        b.dict.get(&format!("{}.mapping.W", first.name)).filter(|_| b.learnable).map(Tensor::dims)
    {
        return Ok((patch / area).max(1));
    }
    let mut read: Vec<i32> = first.connections.clone();
    read.sort_unstable();
    read.dedup();
    let reached = read.last().map_or(0, |&r| r as usize + 1);
    let channels = reached.div_ceil(area).max(1);
    // Drawn connections go through all bits of a window before one is read again.
    if read.len() == channels.saturating_mul(area) {
        return Ok(channels);
    }
    let hint =
        "say how many channels the images have: `input_size: [channels, height, width]`, or `--set in_channels=1`";
    if channels > 1 {
        let d = Diagnostic::wrong_input("the number of channels of the input image is not known");
        return Err(d.expected(format!("at least {channels}, by the connections")).hint(hint));
    }
    let d = Diagnostic::wrong_input("the configuration does not say how many channels the images have; 1 is taken");
    b.warnings.push(d.hint(hint));
    Ok(1)
}

/// Rows and columns of windows.
fn positions(image: &Image, windows: &Windows, layer: usize) -> Result<[usize; 2], Diagnostic> {
    let along = |size: usize, axis: usize| {
        let padded = windows.padding[axis].checked_mul(2)?.checked_add(size)?;
        Some(padded.checked_sub(windows.kernel)? / windows.stride[axis] + 1)
    };
    let (rows, columns) = (along(image.height, 0), along(image.width, 1));
    let (Some(rows), Some(columns)) = (rows, columns) else {
        return Err(Diagnostic::wrong_input("the windows are larger than the image that they slide over")
            .node(format!("conv_layers.{layer}"))
            .expected(format!("an image of at least {0} by {0}", windows.kernel))
            .found(format!("{} by {}", image.height, image.width)));
    };
    let padded = |size: usize, axis: usize| size.saturating_add(windows.padding[axis].saturating_mul(2));
    let area = padded(image.height, 0).saturating_mul(padded(image.width, 1));
    if area.saturating_mul(image.channels) > IMAGE_BITS {
        let d = Diagnostic::unsupported("the windows of a layer are too many or too large");
        return Err(d.node(format!("conv_layers.{layer}")).found(format!("{rows} by {columns} windows")));
    }
    Ok([rows, columns])
}

/// What the configuration says about a layer, and what its connections may reach.
fn check(layer: &Layer, i: usize, windows: &Windows, widths: Option<&[usize]>) -> Result<(), Diagnostic> {
    let name = format!("conv_layers.{i}");
    if let Some(width) = widths.and_then(|w| w.get(i)).filter(|w| **w != layer.channels()) {
        return Err(Diagnostic::wrong_input("`conv_layer_widths` does not fit the weights")
            .node(name)
            .expected(format!("{} channels", layer.channels()))
            .found(width));
    }
    let patch = window_bits(&layer.image, windows);
    check_connections(layer.levels[0].connections.iter().copied(), patch).map_err(|d| {
        d.node(name)
            .hint("a window has the bits of all channels; `conv_kernel_size` and the channels of the images decide")
    })
}

/// The bits of a window.
fn window_bits(image: &Image, windows: &Windows) -> usize {
    image.channels.saturating_mul(windows.kernel).saturating_mul(windows.kernel)
}

/// The image of a tensor [N, bits], as [N, height, width, channels].
fn to_pixels(b: &mut Builder<'_>, bits: ValueId, image: &Image) -> Result<ValueId, Diagnostic> {
    let Image { channels, height, width, .. } = *image;
    let all = channels.saturating_mul(height).saturating_mul(width);
    let mut y = bits;
    if all > image.bits {
        let pad = Pad { pads: vec![0, 0, 0, all - image.bits], mode: PadMode::Constant };
        y = add(b.graph, "image", pad, &[y])?;
    }
    if channels == 1 {
        return reshape(b, y, &[height, width, 1]);
    }
    y = reshape(b, y, &[channels, height, width])?;
    add(b.graph, "image", Transpose { perm: vec![0, 2, 3, 1] }, &[y])
}

/// A layer whose windows are gathered, as rows of the same trees: [N, height, width, channels] to the same of its own.
fn share(b: &mut Builder<'_>, x: ValueId, layer: &Layer, windows: &Windows) -> Result<ValueId, Diagnostic> {
    let (k, channels, [rows, columns]) = (windows.kernel, layer.image.channels, layer.positions);
    let starts = |n: usize, axis: usize| {
        let at = (0..n).flat_map(|i| (0..k).map(move |d| (i * windows.stride[axis] + d) as i64));
        Tensor::new(&[n, k], &at.collect::<Vec<_>>())
    };
    let mut y = x;
    if windows.padding != [0, 0] {
        let [v, h] = windows.padding;
        y = add(b.graph, "padded", Pad { pads: vec![0, v, h, 0, 0, v, h, 0], mode: PadMode::Constant }, &[y])?;
    }
    // Columns first: what is then taken row by row are whole lines of a window, and nothing large is transposed.
    let places = b.graph.add_const("columns", starts(columns, 1));
    y = add(b.graph, "columns", Gather { axis: 2 }, &[y, places])?;
    y = add(b.graph, "columns", Transpose { perm: vec![0, 2, 1, 3, 4] }, &[y])?;
    let places = b.graph.add_const("rows", starts(rows, 0));
    y = add(b.graph, "windows", Gather { axis: 2 }, &[y, places])?;
    y = reshape(b, y, &[columns, rows, k * k * channels])?;
    for (l, level) in layer.levels.iter().enumerate() {
        let mut wires = level.connections.clone();
        if l == 0 {
            // Windows lie here pixel by pixel, in the weights channel by channel.
            let moved = |w: usize| (w % (k * k) * channels + w / (k * k)) as i32;
            wires.iter_mut().for_each(|w| *w = moved(*w as usize));
        }
        let wires = Tensor::new(&[level.nodes(), level.fan_in], &wires);
        y = match &level.tables {
            Some(tables) => add_layer(b.graph, y, &level.name, wires, tables.clone())?,
            None => mixed::add_layer(b.graph, y, &wires, &level.gates).map_err(|d| d.node(level.name.as_str()))?,
        };
    }
    add(b.graph, "image", Transpose { perm: vec![0, 2, 1, 3] }, &[y])
}

/// The last image as [N, bits], channel by channel.
fn to_bits(b: &mut Builder<'_>, y: ValueId, layer: &Layer) -> Result<ValueId, Diagnostic> {
    let y = add(b.graph, "image", Transpose { perm: vec![0, 3, 1, 2] }, &[y])?;
    reshape(b, y, &[layer.channels() * layer.n_positions()])
}

/// Other dimensions behind the first.
fn reshape(b: &mut Builder<'_>, x: ValueId, dims: &[usize]) -> Result<ValueId, Diagnostic> {
    let batch = b.graph.ty(x).shape.0[..1].to_vec();
    let shape = batch.into_iter().chain(dims.iter().map(|&d| Dim::from(d))).collect::<Vec<_>>().into();
    add(b.graph, "image", Reshape { shape }, &[x])
}

fn add(graph: &mut Graph, name: &str, op: impl Into<Op>, inputs: &[ValueId]) -> Result<ValueId, Diagnostic> {
    let inputs: Vec<_> = inputs.iter().map(|&v| Some(v)).collect();
    graph.add_node(name, op, &inputs).map_err(|e| Diagnostic::wrong_input(format!("{}: {e}", quoted(name))))
}
