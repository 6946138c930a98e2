//! A pass of one's own, run between those of bitc.
//!
//! `cargo run -p bitc-examples --bin custom_pass`

use std::error::Error;
use std::io::Write;

use bitc_ir::ops::{Unary, UnaryKind};
use bitc_ir::text::{NoReferences, parse, print};
use bitc_ir::{Graph, NodeId, Op};
use bitc_passes::pass::{Changed, Pass, PassCx, PassError, Values};
use bitc_passes::registry::find;
use bitc_passes::{CheckValues, Editor, Miss, Options, PassManager, Quiet, Replacement, Rule, rewrite};

/// Drops a negation of a negation: `neg(neg(x)) == x`.
#[derive(Debug)]
struct DropDoubleNegation;

impl Pass for DropDoubleNegation {
    fn name(&self) -> &'static str {
        "drop-double-negation"
    }

    fn values(&self) -> Values {
        Values::Exact
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<Changed, PassError> {
        rewrite(graph, &[Rule { name: "double-negation", apply: &double_negation }], self.name(), cx)
    }
}

// neg(neg(x)) == x
fn double_negation(g: &mut Editor<'_>, node: NodeId) -> Result<Replacement, Miss> {
    let is_negation = |op: &Op| matches!(op, Op::Unary(Unary(UnaryKind::Neg)));
    if !is_negation(&g.node(node).op) {
        return Err(Miss::NoMatch);
    }
    let inner = g.input(node, 0).and_then(|v| g.producer_id(v)).ok_or(Miss::NoMatch)?;
    if !is_negation(&g.node(inner).op) {
        return Err(Miss::NoMatch);
    }
    Ok(g.input(inner, 0).ok_or(Miss::NoMatch)?.into())
}

fn main() -> Result<(), Box<dyn Error>> {
    let text = "graph @g(%x: f32[N, 4]) { %a = neg(%x)  %b = neg(%a)  %y = relu(%b)  return %y }";
    let mut graph = parse(text, &NoReferences).map_err(|faults| format!("{faults:?}"))?;
    let cleanup = find("eliminate-dead-code").ok_or("there is no such pass")?.build(Default::default())?;
    let passes: Vec<Box<dyn Pass>> = vec![Box::new(DropDoubleNegation), cleanup];
    // Values are compared after every pass on these inputs, so a wrong rule would not go unnoticed.
    let samples = vec![bitc::compile::sample(&graph, 0)?];
    let options = Options { check_values: CheckValues::Each, samples, ..Options::default() };
    PassManager::new(passes, bitc_ir::Facts::NONE, options)?.run(&mut graph, &mut Quiet)?;
    write!(std::io::stdout(), "{}", print(&graph))?;
    Ok(())
}
