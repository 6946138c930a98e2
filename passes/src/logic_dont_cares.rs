//! `logic-dont-cares`: frees what calibration inputs never ask a logic network for. By choice; values change elsewhere.
//!
//! `logic_net(bits) ~ logic_net'(bits)`: on every row of the calibration inputs the outputs are the same, which is checked.
//! Entries of tables that no row addresses are free, wires that never change on them are constants, and wires that
//! always agree on them are one (`logic/dont_care.rs`). For other inputs the network is another one, so the graph remembers
//! under `ai.bitc.approximate.dont-cares` on how many rows this rests.

use bitc_ir::eval::eval;
use bitc_ir::netlist;
use bitc_ir::{AttrError, AttrReader, Graph, Op, Tensor, ValueId};

use crate::logic::{self, BLOCK_ROWS, Seen, SplitLimits, Step, fault, record};
use crate::pass::{Changed, Pass, PassCx, PassError, RemarkKind, Values};
use crate::samples;

/// Bytes of bits that are evaluated together.
const BITS_AT_ONCE: usize = 1 << 26;

/// See the module.
#[derive(Debug)]
pub struct LogicDontCares;

impl LogicDontCares {
    pub(crate) const NAME: &'static str = "logic-dont-cares";
    pub(crate) const DOC: &'static str =
        "Frees table entries that calibration inputs never address, by choice; values change elsewhere.";

    pub(crate) fn from_params(_: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Self)
    }
}

impl Pass for LogicDontCares {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn values(&self) -> Values {
        Values::Free
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<Changed, PassError> {
        let mut changed = Changed::No;
        for node in logic::networks(graph) {
            let Op::LogicNet(op) = &graph.node(node).op else { continue };
            let Some(bits) = graph.input(node, 0) else { continue };
            // Nodes that are left out anyway need not be looked at row by row.
            let (net, counts) = logic::fold(&op.net, &[]);
            netlist::compare(&op.net, &net, logic::check_samples(&op.net), 1).map_err(fault)?;
            let folded = Step { name: "fold", before: op.net.stats(), after: net.stats(), found: counts.to_string() };
            let mut seen = Seen::new(&net);
            look(graph, bits, cx.calibration(), &mut seen)?;
            let rows = seen.rows();
            if rows == 0 {
                return Err(fault("`logic-dont-cares` needs calibration inputs with rows (--calib)"));
            }
            if !cx.take_rewrite() {
                break;
            }
            let (new, used) = logic::use_freedom(&net, &seen, SplitLimits::default());
            let mut again = Seen::values_of(&new);
            look(graph, bits, cx.calibration(), &mut again)?;
            if let Some(output) = seen.first_difference(&again) {
                return Err(PassError::Values {
                    pass: Self::NAME,
                    output: format!("{output} of a network, on a row of the calibration inputs"),
                    difference: 1.0,
                    allowed: 0.0,
                });
            }
            let freed =
                Step { name: record::DONT_CARES, before: net.stats(), after: new.stats(), found: used.to_string() };
            let warning = format!(
                "the network is no longer the trained function: it keeps its answers on the {rows} calibration rows only; \
                 verify it on other data"
            );
            cx.remark(graph, node, "unseen", RemarkKind::Warning(warning));
            record::note(graph, node, &[folded, freed]);
            record::note_approximation(graph, record::DONT_CARES, &format!("calibration_rows {rows}"));
            logic::replace(graph, node, new, Some(bits), Self::NAME)?;
            changed = Changed::Yes;
        }
        Ok(changed)
    }
}

/// Shows a network all rows that reach it; they are evaluated some at a time.
fn look(graph: &Graph, bits: ValueId, samples: &[Vec<Tensor>], seen: &mut Seen<'_>) -> Result<(), PassError> {
    let wanted = graph.with_outputs(&[bits]);
    let width = graph.ty(bits).shape.last().and_then(|d| d.as_const()).unwrap_or(1);
    let together = (BITS_AT_ONCE / width.max(1)).clamp(1, 8 * BLOCK_ROWS).next_multiple_of(BLOCK_ROWS);
    for inputs in samples {
        let mut show = |inputs: &[Tensor]| {
            let found = eval(&wanted, inputs).map_err(|e| fault(format!("calibration: {e}")))?;
            found.iter().for_each(|tensor| seen.look(tensor.bytes()));
            Ok::<(), PassError>(())
        };
        let Some(n) = samples::n_rows(graph, inputs) else {
            show(inputs)?;
            continue;
        };
        for start in (0..n).step_by(together) {
            show(&samples::take(graph, inputs, start..n.min(start + together)))?;
        }
    }
    Ok(())
}
