//! Constants, wires and inverters, unread and repeated table inputs, duplicates: one walk in topological order.

use super::builder::{Builder, Folded, Literal};
use bitc_ir::netlist::{Netlist, Wire};

/// Rebuilds the network in normal form and leaves out what nothing reads.
///
/// Because the inputs of a node are rebuilt before it, one walk finds everything that follows from constants, from
/// unread inputs and from equal tables over equal inputs. `known` gives inputs whose value is fixed or equal to that of
/// another input; it is empty, or has one entry per input.
pub fn fold(net: &Netlist, known: &[InputFact]) -> (Netlist, Folded) {
    let mut builder = Builder::new(net.n_inputs());
    let mut map: Vec<Literal> = Vec::with_capacity(net.n_wires());
    for input in 0..net.n_inputs() {
        map.push(match known.get(input as usize) {
            Some(InputFact::Constant(value)) => Literal::FALSE.complement_if(*value),
            Some(InputFact::SameAs(other)) if *other < input => map[*other as usize],
            _ => Literal::new(Wire::new(input), false),
        });
    }
    for (_, node) in net.nodes() {
        let literal = builder.copy(node.table, node.inputs, &map);
        map.push(literal);
    }
    let outputs: Vec<Literal> = net.outputs().iter().map(|wire| map[wire.index()]).collect();
    let folded = builder.folded.clone();
    (builder.finish(&outputs), folded)
}

/// What is known of an input of the network.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum InputFact {
    /// Nothing.
    #[default]
    Free,
    /// It always has this value.
    Constant(bool),
    /// It always equals this earlier input.
    SameAs(u32),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: &str) -> Folded {
        let net: Netlist = text.parse().unwrap();
        let (got, folded) = fold(&net, &[]);
        bitc_ir::netlist::compare(&net, &got, 1 << 12, 1).unwrap();
        assert_eq!(got, want.parse().unwrap(), "got {got}");
        folded
    }

    #[test]
    fn folds_constants_through_readers() {
        let text = "netlist {\n inputs 2\n %2 = 1()\n %3 = 8(%2, %0)\n %4 = e(%3, %2)\n outputs %3, %4\n}";
        let folded = check(text, "netlist {\n inputs 2\n %2 = 1()\n outputs %0, %2\n}");
        assert_eq!((folded.constants, folded.wires), (2, 1));
    }

    #[test]
    fn follows_wires_and_inverters() {
        let text =
            "netlist {\n inputs 2\n %2 = 1(%0)\n %3 = 2(%2)\n %4 = 8(%3, %1)\n %5 = 4(%0, %1)\n outputs %4, %5\n}";
        let folded = check(text, "netlist {\n inputs 2\n %2 = 4(%0, %1)\n outputs %2, %2\n}");
        assert_eq!((folded.inverters, folded.duplicates), (2, 1));
    }

    #[test]
    fn drops_unread_and_repeated_inputs() {
        // ca is a multiplexer; with both data inputs equal it is a wire. The wide table reads two of its six inputs.
        let text = "netlist {\n inputs 6\n %6 = ca(%1, %1, %0)\n \
                    %7 = ffff0000ff00ff00(%0, %1, %2, %3, %4, %5)\n outputs %6, %7\n}";
        let net: Netlist = text.parse().unwrap();
        let (got, folded) = fold(&net, &[]);
        bitc_ir::netlist::compare(&net, &got, 0, 1).unwrap();
        assert_eq!(got.stats().nodes_by_fanin, [0, 0, 0, 1, 0, 0, 0]);
        assert_eq!((folded.wires, folded.unread_inputs), (1, 3));
    }

    #[test]
    fn leaves_a_normal_network_alone() {
        let text = "netlist {\n inputs 3\n %3 = 8(%0, %1)\n %4 = e8(%1, %2, %3)\n outputs %4\n}";
        assert_eq!(check(text, text), Folded::default());
    }

    #[test]
    fn complemented_outputs_flip_the_node_or_add_an_inverter() {
        let text = "netlist {\n inputs 2\n %2 = 7(%0, %1)\n %3 = 6(%2, %0)\n outputs %2, %3\n}";
        check(text, "netlist {\n inputs 2\n %2 = 7(%0, %1)\n %3 = 6(%0, %2)\n outputs %2, %3\n}");
        let both = "netlist {\n inputs 2\n %2 = 7(%0, %1)\n %3 = 8(%0, %1)\n outputs %2, %3\n}";
        check(both, "netlist {\n inputs 2\n %2 = 8(%0, %1)\n %3 = 1(%2)\n outputs %3, %2\n}");
    }

    #[test]
    fn uses_what_is_known_of_inputs() {
        let net: Netlist = "netlist {\n inputs 3\n %3 = 96(%0, %1, %2)\n outputs %3, %1\n}".parse().unwrap();
        let (got, _) = fold(&net, &[InputFact::Free, InputFact::SameAs(0), InputFact::Constant(true)]);
        assert_eq!(got, "netlist {\n inputs 3\n %3 = 1()\n outputs %3, %0\n}".parse().unwrap());
    }
}
