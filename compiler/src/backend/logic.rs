//! Logic networks for other tools: C, Verilog and BLIF.
//!
//! All three write the same netlist, with nodes as expressions of their inputs. A graph is such a network when it is one
//! `logic_net`, with a thermometer before it and a group sum or argmax behind it where there are any.

mod blif;
mod c;
mod verilog;

pub use blif::Blif;
pub use c::C;
pub use verilog::Verilog;

use bitc_ir::netlist::{Netlist, Wire};
use bitc_ir::ops::{ArgMax, GroupSum, LogicNet, Op, Reshape, Thermometer};
use bitc_ir::{DType, Graph, NodeId};

use crate::error::{Diagnostic, Failure};

/// A graph that is one network.
struct Network<'g> {
    /// A name that is an identifier in every language.
    name: String,
    net: &'g Netlist,
    /// For each input of the network the feature that is compared, and with what.
    cuts: Option<Vec<(usize, f32)>>,
    /// How many values a sample has.
    n_values: usize,
    sum: Option<&'g GroupSum>,
    argmax: bool,
}

impl<'g> Network<'g> {
    /// Looks for the network of a graph.
    ///
    /// # Errors
    /// Every operation that is not part of one.
    fn of(graph: &'g Graph, format: &str) -> Result<Self, Failure> {
        let mut faults = Vec::new();
        let mut nets = Vec::new();
        for id in graph.live_order().unwrap_or_default() {
            match &graph.node(id).op {
                Op::LogicNet(op) => nets.push((id, op)),
                Op::Thermometer(_) | Op::GroupSum(_) | Op::ArgMax(_) | Op::Reshape(_) => {}
                op => faults.push(refused(format, graph, id, &format!("`{}` is no part of one", op.name()))),
            }
        }
        Failure::check(faults)?;
        let [(id, op)] = nets[..] else {
            let fault = Diagnostic::unsupported(format!("{format} is for graphs of one logic network"));
            return Err(fault.found(format!("{} networks", nets.len())).into());
        };
        Ok(Self::around(graph, id, op).map_err(|what| refused(format, graph, id, what))?)
    }

    fn around(graph: &'g Graph, id: NodeId, op: &'g LogicNet) -> Result<Self, &'static str> {
        let bits = graph.input(id, 0).ok_or("it has no input")?;
        let (mut x, mut cuts) = (bits, None);
        if let Some((node, Thermometer)) = graph.producer::<Thermometer>(bits) {
            x = graph.input(node, 0).ok_or("its thermometer has no input")?;
            let constant = |i| graph.input(node, i).and_then(|v| graph.constant(v));
            let thresholds = constant(1).ok_or("its thresholds are not constant")?;
            let values = thresholds.to_vec::<f32>().ok_or("its thresholds are not f32")?;
            let features: Vec<usize> = match graph.input(node, 2) {
                Some(_) => {
                    let features =
                        constant(2).and_then(|t| t.to_vec::<i32>()).ok_or("its features are not constant")?;
                    features.into_iter().filter_map(|f| usize::try_from(f).ok()).collect()
                }
                None => {
                    let per_feature = thresholds.dims().get(1).copied().unwrap_or(1).max(1);
                    (0..values.len()).map(|i| i / per_feature).collect()
                }
            };
            cuts = Some(features.into_iter().zip(values).collect());
        }
        // A sample is the same values in the same order, whatever their axes.
        let source = graph.producer::<Reshape>(x).and_then(|(node, _)| graph.input(node, 0)).unwrap_or(x);
        let only_input = graph.inputs() == [source] && graph.ty(x).shape.rank() == 2;
        let wanted = if cuts.is_some() { DType::F32 } else { DType::Bool };
        if !only_input || graph.ty(x).dtype != wanted {
            return Err("it does not read the only input of the model as it is");
        }
        let n_values =
            graph.ty(x).shape.last().and_then(|d| d.as_const()).ok_or("the size of a sample is not known")?;
        let (mut y, mut sum, mut argmax) = (graph.node(id).outputs[0], None, false);
        let uses = graph.uses();
        if let &[reader] = uses.of(y)
            && let Op::GroupSum(op) = &graph.node(reader).op
        {
            (y, sum) = (graph.node(reader).outputs[0], Some(op));
            if let &[reader] = uses.of(y)
                && let Op::ArgMax(ArgMax { min: false, last: false, axis: -1 | 1, .. }) = graph.node(reader).op
            {
                (y, argmax) = (graph.node(reader).outputs[0], true);
            }
        }
        let [output] = graph.outputs() else { return Err("the model has several outputs") };
        if output.value != y {
            return Err("something else is made of its outputs");
        }
        Ok(Self { name: identifier(&graph.name), net: &op.net, cuts, n_values, sum, argmax })
    }

    /// What the numbers of a sample are compared with, for a comment per input.
    fn input_comment(&self, i: usize) -> Option<String> {
        let &(feature, threshold) = self.cuts.as_ref()?.get(i)?;
        Some(format!("value {feature} > {threshold:?}"))
    }
}

fn refused(format: &str, graph: &Graph, id: NodeId, what: &str) -> Diagnostic {
    let node = graph.node(id);
    let name = node.outputs.first().map(|&v| graph.value(v).name.clone()).unwrap_or_default();
    let fault = Diagnostic::unsupported(format!("{format} is for graphs of one logic network: {what}"));
    let fault = if name.is_empty() { fault } else { fault.node(name) };
    if node.origin.names().is_empty() { fault } else { fault.origin(node.origin.to_string()) }
}

/// Words that C, C++, Verilog or SystemVerilog keep for themselves and that a network may well be called, and what the
/// written files use.
const RESERVED: &str = " alias always and assert assign assume auto begin bit bool break buf bufif0 bufif1 byte case casex \
    casez cell char checker class clocking cmos config const context continue cover cross deassign default define defparam \
    delete design disable dist do double edge else end enum event explicit export expect extern final first_match float for \
    force forever fork friend function generate genvar global goto highz0 highz1 if iff import incdir include initial \
    inline inout input inside instance int integer interface intersect join large let liblist library local localparam \
    logic long longint macromodule main matches medium modport module mutable namespace nand negedge new nmos nor \
    noshowcancelled not notif0 notif1 null operator or output package packed parameter pmos posedge primitive priority \
    private program property protected public pull0 pull1 pulldown pullup pure rand randc randcase rcmos real realtime ref \
    reg register release repeat restrict return rnmos rpmos rtran scalared sequence shared short shortint shortreal signed \
    sizeof small soft solve specify specparam static std string strong strong0 strong1 struct super supply0 supply1 switch \
    table tagged task template this throughout time timeprecision timeunit tran tri tri0 tri1 triand trior trireg try type \
    typedef typeid typename union unique unsigned until untyped use using uwire var vectored virtual void volatile wait \
    wand weak weak0 weak1 while wildcard wire with within wor xnor xor ";

/// A name of letters, digits and underscores that begins with a letter and is no word of a language.
fn identifier(name: &str) -> String {
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let is_free = plain.starts_with(|c: char| c.is_ascii_alphabetic()) && !RESERVED.contains(&format!(" {plain} "));
    if is_free { plain } else { format!("net_{plain}") }
}

/// What 0 and 1 are called in a language.
struct Constants {
    zero: &'static str,
    one: &'static str,
}

/// A table as an expression of `~ & | ^`, split at its last input.
fn expression(table: u64, inputs: &[Wire], constants: &Constants, name: &dyn Fn(Wire) -> String) -> String {
    let n = inputs.len();
    let all = bitc_ir::netlist::table_mask(n);
    if table & all == 0 {
        return constants.zero.to_owned();
    }
    if table & all == all {
        return constants.one.to_owned();
    }
    let Some((&last, rest)) = inputs.split_last() else { return constants.zero.to_owned() };
    let s = name(last);
    if rest.is_empty() {
        return if table & 3 == 2 { s } else { format!("~{s}") };
    }
    let half = 1u32 << rest.len();
    let mask = bitc_ir::netlist::table_mask(rest.len());
    let (low, high) = (table & mask, table >> half & mask);
    let of = |table: u64| expression(table, rest, constants, name);
    match (low, high) {
        _ if low == high => of(low),
        (0, _) if high == mask => s,
        (_, 0) if low == mask => format!("~{s}"),
        _ if low == !high & mask => format!("({s} ^ {})", of(low)),
        (0, _) => format!("({s} & {})", of(high)),
        (_, 0) => format!("(~{s} & {})", of(low)),
        _ if high == mask => format!("({s} | {})", of(low)),
        _ if low == mask => format!("(~{s} | {})", of(high)),
        _ => format!("(({s} & {}) | (~{s} & {}))", of(high), of(low)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_no_words_of_a_language() {
        let names = ["net.v2", "7seg", "const", "module", "wire", "constant", ""];
        assert_eq!(
            names.map(identifier),
            ["net_v2", "net_7seg", "net_const", "net_module", "net_wire", "constant", "net_"]
        );
    }
}
