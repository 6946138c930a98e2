//! A convolutional layer written out: a copy of its nodes for every window.

use bitc_ir::{Blob, Tensor, ValueId};

use super::super::super::tables;
use super::super::Builder;
use super::super::settings::Windows;
use super::{Layer, Level, window_bits};
use crate::error::Diagnostic;

/// The most nodes that a model has written out unless it is asked for, all windows counted.
const MOST_NODES: usize = 1 << 18;

/// Whether layers are written out unless the user decides: they have few nodes, and nothing passes the bound on memory.
pub(super) fn suits(layers: &[Layer], windows: &Windows, max_memory: u64) -> bool {
    let nodes = |layer: &Layer| {
        let nodes = |n: usize, level: &Level| n.saturating_add(level.nodes().saturating_mul(layer.n_positions()));
        layer.levels.iter().fold(0, nodes)
    };
    let fits = |layer: &Layer| {
        windows_fit(layer, windows, max_memory)
            && layer.levels.iter().all(|level| tables_fit(layer.n_positions(), level, max_memory))
    };
    layers.iter().map(nodes).fold(0, usize::saturating_add) <= MOST_NODES && layers.iter().all(fits)
}

/// Adds a layer with a copy of its nodes for every window.
pub(super) fn add_layer(
    b: &mut Builder<'_>,
    bits: ValueId,
    layer: &Layer,
    windows: &Windows,
) -> Result<ValueId, Diagnostic> {
    let reads = read_windows(layer, windows, b.max_memory)?;
    let positions = layer.n_positions();
    let patch = reads.len() / positions;
    let mut y = bits;
    for (l, level) in layer.levels.iter().enumerate() {
        let Some(tables) = &level.tables else { return Err(Diagnostic::bug("a level without tables")) };
        let (nodes, fan_in) = (level.nodes(), level.fan_in);
        let (size, row_bytes) = (tables.dtype().size_bytes(), tables.dtype().size_bytes() << fan_in);
        if !tables_fit(positions, level, b.max_memory) {
            return Err(Diagnostic::unsupported("the tables of a layer are too large")
                .node(level.name.as_str())
                .expected(format!("at most {} bytes for all windows (see --max-memory)", b.max_memory))
                .found(format!("{positions} windows of {nodes} tables of {} entries", 1u64 << fan_in)));
        }
        let last = l + 1 == layer.levels.len();
        let mut wires = Vec::with_capacity(positions * nodes * fan_in);
        let mut entries = Vec::with_capacity(positions * nodes * row_bytes);
        // The answers of the last level are an image, channel by channel; those before stand window by window.
        let order =
            (0..positions * nodes).map(|i| if last { (i % positions, i / positions) } else { (i / nodes, i % nodes) });
        for (window, node) in order {
            let table = &tables.bytes()[node * row_bytes..][..row_bytes];
            let mut unread = 0;
            for (j, &wire) in level.connections[node * fan_in..][..fan_in].iter().enumerate() {
                let bit = if l == 0 {
                    reads[window * patch + wire as usize]
                } else {
                    Some((window * level.reads) as u32 + wire as u32)
                };
                // An input that is always 0 is an address bit that is never set, so any bit may stand there.
                unread |= usize::from(bit.is_none()) << j;
                wires.push(bit.map_or(0, |b| b as i32));
            }
            for address in 0..1usize << fan_in {
                entries.extend_from_slice(&table[(address & !unread) * size..][..size]);
            }
        }
        let dims = [positions * nodes, fan_in];
        let tables = Tensor::from_blob(tables.dtype(), &[dims[0], 1 << fan_in], Blob::new(entries));
        let tables = tables.map_err(|e| Diagnostic::bug(e.to_string()))?;
        y = tables::add_layer(b.graph, y, &level.name, Tensor::new(&dims, &wires), tables)?;
    }
    Ok(y)
}

/// For each window the bits of the image that it holds, channel by channel; `None` is a 0 that is not there.
fn read_windows(layer: &Layer, windows: &Windows, max_memory: u64) -> Result<Vec<Option<u32>>, Diagnostic> {
    let Layer { image, positions: [rows, columns], .. } = layer;
    let patch = window_bits(image, windows);
    if !windows_fit(layer, windows, max_memory) {
        return Err(Diagnostic::unsupported("the windows of a layer are too many or too large")
            .node(layer.levels[0].name.as_str())
            .expected(format!("16 bytes per bit of a window, in at most {max_memory} bytes (see --max-memory)"))
            .found(format!("{rows} by {columns} windows of {patch} bits")));
    }
    let mut reads = Vec::with_capacity(rows * columns * patch);
    let inside = |at: usize, offset: usize, axis: usize, size: usize| {
        (at * windows.stride[axis] + offset).checked_sub(windows.padding[axis]).filter(|p| *p < size)
    };
    for y in 0..*rows {
        for x in 0..*columns {
            for channel in 0..image.channels {
                for dy in 0..windows.kernel {
                    let row = inside(y, dy, 0, image.height);
                    for dx in 0..windows.kernel {
                        let place = row.zip(inside(x, dx, 1, image.width));
                        let bit = place.map(|(r, c)| (channel * image.height + r) * image.width + c);
                        reads.push(bit.filter(|b| *b < image.bits).map(|b| b as u32));
                    }
                }
            }
        }
    }
    Ok(reads)
}

/// Whether what the windows read can be listed within a bound on memory.
fn windows_fit(layer: &Layer, windows: &Windows, max_memory: u64) -> bool {
    let cells = layer.n_positions().checked_mul(window_bits(&layer.image, windows));
    let bytes = cells.and_then(|n| n.checked_mul(16));
    bytes.is_some_and(|n| n as u64 <= max_memory) && u32::try_from(layer.image.bits).is_ok()
}

/// Whether the tables of a level, one per node and window, are within a bound on memory.
fn tables_fit(positions: usize, level: &Level, max_memory: u64) -> bool {
    let entry_bytes = level.tables.as_ref().map_or(1, |tables| tables.dtype().size_bytes());
    let node_bytes = (entry_bytes << level.fan_in).saturating_add(4 * level.fan_in);
    let bytes = positions.checked_mul(level.nodes()).and_then(|n| n.checked_mul(node_bytes));
    bytes.is_some_and(|n| n as u64 <= max_memory)
}
