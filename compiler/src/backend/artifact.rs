//! The artifact, `.bit`: lowered, planned and packed for the runtime.

use bitc_format::{ArtifactWriter, ConstId, Image, Layout, Meta, Shared, SlotId};
use bitc_ir::Graph;
use bitc_ir::text::{PrintOptions, print_with};
use bitc_passes::logic::record::{NOTE_PREFIX, notes};

use super::{Content, Exporter, Options};
use crate::error::{Diagnostic, Failure};
use crate::lower::{self, Lowered, PackedConsts, Program, Target};
use crate::plan;

/// Writes the artifact of a frozen graph.
pub struct Artifact;

impl Exporter for Artifact {
    fn name(&self) -> &'static str {
        "bit"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["bit"]
    }

    fn needs_frozen(&self) -> bool {
        true
    }

    fn export(&self, graph: &Graph, options: &Options) -> Result<Content, Failure> {
        let lowered = lower::lower(graph, options.target)?;
        Ok(write(&lowered, options.target, options.strip)?.into())
    }
}

/// The file of a lowered graph, with constants where the graph has them: the same for the same graph and target. `strip` leaves the graph itself out.
///
/// # Errors
/// If the program breaks a rule of the format, such as a limit.
pub fn write(lowered: &Lowered, target: Target, strip: bool) -> Result<Image, Diagnostic> {
    let Program { dims, batch, buffers, consts, code, inputs, outputs, layers, .. } = &lowered.program;
    let plan = plan::plan(&lowered.program);
    let mut writer = ArtifactWriter::new();
    dims.write(&mut writer);
    if let Some(batch) = batch {
        writer.set_batch(*batch);
    }
    for _ in 0..plan.n_slots {
        writer.slot();
    }
    for buffer in buffers {
        writer.buffer(buffer.dtype, &buffer.dims, buffer.row_align, SlotId(plan.slot_of[buffer.storage]));
    }
    for constant in consts {
        writer.shared_constant(constant.dtype, constant.layout, &constant.shape, Shared::new(constant.data.clone()));
    }
    for port in inputs {
        writer.input(&port.name, port.buffer, port.accepts);
    }
    for port in outputs {
        writer.output(&port.name, port.buffer, port.accepts);
    }
    for instruction in code {
        writer.push(instruction.inst.clone());
    }
    writer.set_meta(Meta {
        producer: concat!("bitc ", env!("CARGO_PKG_VERSION")).to_owned(),
        target: target.name().to_owned(),
        origins: code.iter().map(|i| i.origin.clone()).collect(),
        layers: layers.clone(),
    });
    for (key, value) in notes(&lowered.graph.meta) {
        writer.note(key, value);
    }
    if !strip {
        let text = graph_text(lowered, &mut writer);
        writer.set_ir(text.into_bytes());
    }
    writer.image().map_err(|error| {
        Diagnostic::bug(format!("the artifact of `{}` breaks its own rules: {error}", lowered.graph.name))
    })
}

/// The text of the graph with its constants by reference to those of the artifact; larger ones that no instruction
/// reads are added. What the artifact notes by itself is left out.
fn graph_text(lowered: &Lowered, writer: &mut ArtifactWriter) -> String {
    let mut const_of = lowered.program.const_of.clone();
    for (value, tensor) in lower::unstored(&lowered.graph, |v| lowered.program.const_of.contains_key(&v)) {
        let shape: Vec<u64> = tensor.dims().iter().map(|&d| d as u64).collect();
        let bytes = Shared::new(tensor.blob().clone());
        let id = writer.shared_constant(lower::stored_type(tensor.dtype()), Layout::Dense, &shape, bytes);
        const_of.insert(value, id);
    }
    let refer = |value| const_of.get(&value).map(|ConstId(index)| format!("packed({index})"));
    let networks = &lowered.program.network_of;
    let refer_netlist = |node| networks.get(&node).map(|ConstId(index)| format!("packed({index})"));
    let options = PrintOptions { refer: Some(&refer), refer_netlist: Some(&refer_netlist), ..PrintOptions::full() };
    let mut graph = lowered.graph.clone();
    graph.meta.retain(|key, _| !key.starts_with(NOTE_PREFIX));
    print_with(&graph, &options)
}

/// The graph that an artifact was made from; `None` if it was left out.
///
/// # Errors
/// If the bytes are no artifact, or the text in it cannot be read.
pub fn read_graph(bytes: &[u8]) -> Result<Option<Graph>, Failure> {
    let artifact = bitc_format::Artifact::parse(bytes)
        .map_err(|e| Diagnostic::wrong_input(e.kind.to_string()).offset(e.offset))?;
    let Some(text) = artifact.ir() else { return Ok(None) };
    let wrong = |message: String| Diagnostic::wrong_input(format!("the graph in the artifact: {message}"));
    let text = std::str::from_utf8(text).map_err(|e| wrong(e.to_string()))?;
    match bitc_ir::text::parse(text, &PackedConsts::new(&artifact)) {
        Ok(mut graph) => {
            let notes = artifact.contents().notes().iter().filter(|(key, _)| key.starts_with(NOTE_PREFIX));
            graph.meta.extend(notes.cloned());
            Ok(Some(graph))
        }
        Err(faults) => {
            Failure::check(faults.into_iter().map(|fault| wrong(fault.to_string())).collect())?;
            Ok(None)
        }
    }
}
