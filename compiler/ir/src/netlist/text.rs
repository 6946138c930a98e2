//! The text form of netlists; `parse` and `Display` are inverse.
//!
//! ```text
//! netlist {
//!   inputs 3
//!   %3 = 8(%0, %1)          # table in hexadecimal, lowest address bit first
//!   %4 = e8(%3, %1, %2)
//!   outputs %4, %0
//! }
//! ```
//! Wires `%0` to `%2` are the inputs here. Nodes are numbered in order, so the number on the left is a check. `#` opens
//! a comment.

use super::{Netlist, NetlistError, Wire};
use std::fmt;
use thiserror::Error;

/// Why a text is not a netlist.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("line {line}: {fault}")]
pub struct ParseError {
    /// The line, counted from 1.
    pub line: usize,
    /// What was expected and found, or what the netlist refused.
    pub fault: String,
}

impl fmt::Display for Netlist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "netlist {{\n  inputs {}", self.n_inputs())?;
        for (wire, node) in self.nodes() {
            write!(f, "  %{} = {:x}(", wire.id(), node.table)?;
            wires(f, node.inputs)?;
            writeln!(f, ")")?;
        }
        write!(f, "  outputs")?;
        if !self.outputs().is_empty() {
            write!(f, " ")?;
        }
        wires(f, self.outputs())?;
        writeln!(f, "\n}}")
    }
}

fn wires(f: &mut fmt::Formatter<'_>, wires: &[Wire]) -> fmt::Result {
    for (i, wire) in wires.iter().enumerate() {
        write!(f, "{}%{}", if i == 0 { "" } else { ", " }, wire.id())?;
    }
    Ok(())
}

impl std::str::FromStr for Netlist {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut lines = text.lines().enumerate().filter_map(|(i, line)| {
            let line = line.split('#').next().unwrap_or("").trim();
            (!line.is_empty()).then_some((i + 1, line))
        });
        let mut next = |wanted: &str| {
            lines.next().ok_or_else(|| fault(text.lines().count(), format!("expected {wanted}, found the end")))
        };
        let (line, open) = next("`netlist {`")?;
        if open.split_whitespace().ne(["netlist", "{"]) {
            return Err(fault(line, format!("expected `netlist {{`, found `{}`", clip(open))));
        }
        let (line, inputs) = next("`inputs N`")?;
        let n_inputs = inputs
            .strip_prefix("inputs ")
            .and_then(|n| n.trim().parse::<u32>().ok())
            .filter(|&n| n <= super::MAX_WIRES)
            .ok_or_else(|| fault(line, format!("expected `inputs N`, found `{}`", clip(inputs))))?;
        let mut net = Netlist::new(n_inputs);
        loop {
            let (line, item) = next("a node or `outputs`")?;
            if let Some(list) = item.strip_prefix("outputs") {
                for wire in wire_list(line, list)? {
                    net.add_output(wire).map_err(|e| refused(line, &e))?;
                }
                break;
            }
            node(&mut net, line, item)?;
        }
        let (line, close) = next("`}`")?;
        if close != "}" {
            return Err(fault(line, format!("expected `}}`, found `{}`", clip(close))));
        }
        match lines.next() {
            Some((line, rest)) => Err(fault(line, format!("expected the end, found `{}`", clip(rest)))),
            None => Ok(net),
        }
    }
}

fn node(net: &mut Netlist, line: usize, item: &str) -> Result<(), ParseError> {
    let bad = || fault(line, format!("expected `%N = TABLE(%A, %B)`, found `{}`", clip(item)));
    let (name, rest) = item.split_once('=').ok_or_else(bad)?;
    let (table, list) = rest.trim().strip_suffix(')').and_then(|r| r.split_once('(')).ok_or_else(bad)?;
    let table = u64::from_str_radix(table.trim(), 16).map_err(|_| bad())?;
    let name = wire(line, name)?;
    let inputs = wire_list(line, list)?;
    if name.index() != net.n_wires() {
        return Err(fault(line, format!("expected node %{}, found %{}", net.n_wires(), name.id())));
    }
    net.add(table, &inputs).map_err(|e| refused(line, &e))?;
    Ok(())
}

fn wire_list(line: usize, list: &str) -> Result<Vec<Wire>, ParseError> {
    let list = list.trim();
    if list.is_empty() {
        return Ok(Vec::new());
    }
    list.split(',').map(|item| wire(line, item)).collect()
}

fn wire(line: usize, item: &str) -> Result<Wire, ParseError> {
    let id = item.trim().strip_prefix('%').and_then(|id| id.parse().ok());
    id.map(Wire::new).ok_or_else(|| fault(line, format!("expected a wire like `%3`, found `{}`", clip(item.trim()))))
}

fn refused(line: usize, error: &NetlistError) -> ParseError {
    fault(line, error.to_string())
}

fn fault(line: usize, fault: String) -> ParseError {
    ParseError { line, fault }
}

/// The head of a text that may be long.
fn clip(text: &str) -> &str {
    text.char_indices().nth(40).map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "netlist {\n  inputs 3\n  %3 = 8(%0, %1)\n  %4 = e8(%3, %1, %2)\n  %5 = 1()\n  outputs %4, %0\n}\n";

    #[test]
    fn print_and_parse_are_inverse() {
        let net: Netlist = TEXT.parse().unwrap();
        assert_eq!(net.to_string(), TEXT);
        let spaced = TEXT.replace("(%0, %1)", " ( %0,%1 ) # and").replace('{', " {  # open");
        assert_eq!(spaced.parse::<Netlist>().unwrap(), net);
        let empty = Netlist::new(0);
        assert_eq!(empty.to_string().parse::<Netlist>().unwrap(), empty);
    }

    #[test]
    fn says_where_and_what() {
        let check = |from: &str, to: &str, line: usize, part: &str| {
            let error = TEXT.replacen(from, to, 1).parse::<Netlist>().unwrap_err();
            assert_eq!(error.line, line, "{error}");
            assert!(error.fault.contains(part), "{error}");
        };
        check("netlist {", "network {", 1, "expected `netlist {`");
        check("inputs 3", "inputs x", 2, "expected `inputs N`");
        check("%3 =", "%7 =", 3, "expected node %3, found %7");
        check("8(%0", "g(%0", 3, "expected `%N = TABLE");
        check("8(%0", "18(%0", 3, "does not fit 2 inputs");
        check("8(%0, %1", "8(%0, 1", 3, "expected a wire");
        check("8(%0, %1", "8(%0, %9", 3, "reads %9");
        check("%4, %0", "%40", 6, "output 0 is %40");
        check("}\n", "", 6, "found the end");
        check("}\n", "}\n}\n", 8, "expected the end");
    }
}
