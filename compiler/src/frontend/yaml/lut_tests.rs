//! Tests of logic networks in YAML, from tables and trained parameters to the scores of the graph.

use bitc_ir::{DType, Tensor};

use super::super::{Options, Reals, import};
use super::tests::Case;

fn f(dims: &[usize], values: &[f32]) -> Tensor {
    Tensor::new(dims, values)
}

fn bits(dims: &[usize], values: &[u8]) -> Tensor {
    Tensor::with_dtype(DType::Bool, dims, values)
}

/// Two inputs, an AND and an XOR, summed in one group.
fn half_adder(output: &str) -> Case {
    let yaml = format!(
        "model: lut_network\ninputs: 2\nlayers:\n  - {{inputs: c, tables: t}}\noutput: {output}\nweights: w.safetensors\n"
    );
    Case::with(&yaml, &[("c", Tensor::new(&[2, 2], &[0i32, 1, 1, 0])), ("t", Tensor::new(&[2], &[8u64, 6]))])
}

const ALL_PAIRS: [u8; 8] = [0, 0, 1, 0, 0, 1, 1, 1];

#[test]
fn a_network_computes_its_tables_and_sums_them() {
    let case = half_adder("{group_sum: {groups: 1, tau: 2.0, beta: 1.0}}");
    assert_eq!(case.run(bits(&[4, 2], &ALL_PAIRS)), [0.5, 1.0, 1.0, 1.0]);
    let case = half_adder("{group_sum: {groups: 2}}");
    assert_eq!(case.run(bits(&[4, 2], &ALL_PAIRS)), [0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0]);
}

#[test]
fn tables_are_bits_per_address_too_and_real_in_the_last_layer() {
    let yaml = "model: lut_network\ninputs: 2\nlayers:\n  - {inputs: c, tables: t}\n  - {inputs: c2, tables: r}\n\
                output: {group_sum: {groups: 1}}\nweights: w.safetensors\n";
    let weights = [
        ("c", Tensor::new(&[1, 2], &[0i16, 1])),
        ("t", Tensor::new(&[1, 4], &[0u8, 1, 1, 0])),
        ("c2", Tensor::new(&[1, 1], &[0i64 as i32])),
        ("r", f(&[1, 2], &[0.25, -1.5])),
    ];
    assert_eq!(Case::with(yaml, &weights).run(bits(&[4, 2], &ALL_PAIRS)), [0.25, -1.5, -1.5, 0.25]);
    let swapped = yaml.replace("c, tables: t", "c, tables: x").replace("c2, tables: r", "c2, tables: t");
    assert!(Case::with(&swapped, &weights).faults()[0].contains("the weights have no tensor `x`"));
}

#[test]
fn faults_of_a_network_are_named() {
    let fault = |change: (&str, &str)| {
        let case = half_adder("{group_sum: {groups: 2}}");
        let path = case.path("m.yaml");
        let text = std::fs::read_to_string(&path).unwrap().replace(change.0, change.1);
        std::fs::write(&path, text).unwrap();
        case.faults().remove(0)
    };
    for (from, to, expected) in [
        ("inputs: 2\n", "inputs: 1\n", "connection 1 reads bit 1"),
        ("tables: t", "table: t", "a layer needs the key `tables`"),
        ("groups: 2", "groups: 2, tau: 0", "`tau` divides the sums and cannot be 0"),
        ("{group_sum: {groups: 2}}", "sum", "`output` is `bits` or"),
        ("tables: t}", "tables: c}", "the tables do not fit the connections"),
    ] {
        let found = fault((from, to));
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn an_encoder_is_never_fitted_again() {
    let yaml = "model: lut_network\ninputs: 1\nencoder: {name: thermometer, thresholds: enc}\n\
                layers:\n  - {inputs: c, tables: t}\noutput: bits\nweights: w.safetensors\n";
    let weights = [("c", Tensor::new(&[1, 2], &[0i32, 1])), ("t", Tensor::new(&[1], &[2u64]))];
    assert!(Case::with(yaml, &weights).faults()[0].contains("the weights hold no encoder state: `enc` is missing"));
    let with_state = [&weights[..], &[("enc", f(&[1, 2], &[0.25, 0.75]))]].concat();
    let graph = Case::with(yaml, &with_state);
    let imported = import(&graph.path("m.yaml"), &Options::default()).unwrap().graph;
    let y = bitc_ir::eval::eval(&imported, &[f(&[4, 1], &[0.25, 0.5, 0.75, 0.8])]).unwrap();
    assert_eq!(y[0].to_vec::<u8>().unwrap(), [0, 1, 1, 0], "the comparison is strict");
}

/// A DiffLUT model of one layer with two nodes of two inputs.
fn difflut(node: &str, runtime: &str, parameters: &[(&str, Tensor)]) -> Case {
    let yaml = format!(
        "model_type: feedforward\nlayer_type: random\nnode_type: {node}\nencoder_config: {{name: thermometer, num_bits: 1}}\n\
         node_input_dim: 2\nlayer_widths: [2]\nnum_classes: 1\ninput_size: 2\nseed: 3\nruntime: {{{runtime}}}\n"
    );
    let mut weights = vec![
        ("encoder.thresholds".to_owned(), f(&[2, 1], &[0.5, 0.5])),
        ("layers.0._mapping_indices".to_owned(), Tensor::new(&[2, 2], &[0i16, 1, 1, 0])),
        ("output_layer.tau".to_owned(), f(&[], &[4.0])),
    ];
    for i in 0..2 {
        weights.extend(parameters.iter().map(|(name, t)| (format!("layers.0.nodes.{i}.{name}"), t.clone())));
    }
    let weights: Vec<(&str, Tensor)> = weights.iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
    Case::with(&yaml, &weights)
}

/// What a model says at the four corners, its sums taken back.
fn corners(case: &Case, discretize: bool) -> Result<Vec<f32>, String> {
    let options = Options {
        weights: Some(case.path("w.safetensors")),
        reals: if discretize { Reals::Bits } else { Reals::Refused },
        ..Options::default()
    };
    let imported = import(&case.path("m.yaml"), &options).map_err(|e| e.to_string())?;
    let x = f(&[4, 2], &ALL_PAIRS.map(f32::from));
    Ok(bitc_ir::eval::eval(&imported.graph, &[x]).unwrap()[0]
        .to_vec::<f32>()
        .unwrap()
        .iter()
        .map(|v| v * 4.0)
        .collect())
}

#[test]
fn each_node_type_has_its_table() {
    // The table 0, 1, 0, 0: one where only the first input is set. The second node reads the inputs exchanged.
    let expected = [0.0, 1.0, 1.0, 0.0];
    let exponents = f(&[4, 2], &[0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
    let nodes: [(&str, Vec<(&str, Tensor)>); 8] = [
        ("probabilistic", vec![("raw_weights", f(&[4, 1], &[-1.0, 0.0, -2.0, -0.5])), ("temperature", f(&[], &[0.5]))]),
        ("dwn", vec![("luts", f(&[1, 4], &[0.4, 0.5, 0.1, -3.0]))]),
        ("dwn_stable", vec![("raw_luts", f(&[1, 4], &[-1.0, 2.0, -1.0, -1.0]))]),
        ("hybrid", vec![("raw_luts", f(&[1, 4], &[-1.0, 2.0, -1.0, -1.0]))]),
        ("linear_lut", vec![("weights", f(&[2, 1], &[1.0, -2.0])), ("bias", f(&[1], &[-0.5]))]),
        ("polylut", vec![("weights", f(&[4, 1], &[-0.5, 1.0, -1.0, 0.0])), ("exponent_matrix", exponents)]),
        ("warp", vec![("coefficients", f(&[4, 1], &[-0.5, 0.5, -0.5, -0.5]))]),
        (
            "neurallut",
            vec![
                ("layers.0.weight", f(&[1, 2], &[1.0, -1.0])),
                ("layers.0.bias", f(&[1], &[0.0])),
                ("layers.1.weight", f(&[1, 1], &[1.0])),
                ("layers.1.bias", f(&[1], &[-0.5])),
            ],
        ),
    ];
    for (node, parameters) in nodes {
        assert_eq!(corners(&difflut(node, "", &parameters), false).unwrap(), expected, "{node}");
    }
}

#[test]
fn real_valued_nodes_are_tables_of_numbers_or_refused() {
    let mut weights = [0.0f32; 16];
    weights[8] = 3.0;
    let tables: Vec<f32> = (0..64).map(|i| f32::from(u8::from((i / 4) >> (i % 4) & 1 == 1))).collect();
    let parameters = [
        ("weights", f(&[1, 16], &weights)),
        ("indices", Tensor::new(&[1, 2], &[0i32, 1])),
        ("truth_tables", f(&[16, 4], &tables)),
    ];
    let case = difflut("difflogic", "", &parameters);
    // Gate 8 answers at address 3 only; the other fifteen gates mix in.
    let mixed = corners(&case, false).unwrap();
    assert!(mixed[3] > 1.4 && mixed[0] < 0.6 && mixed[0] > 0.0, "{mixed:?}");
    assert_eq!(corners(&case, true).unwrap(), [0.0, 0.0, 0.0, 2.0]);

    let fourier = [
        ("amplitudes", f(&[1, 1], &[1.0])),
        ("phases", f(&[1, 1], &[0.0])),
        ("bias", f(&[1], &[0.5])),
        ("frequencies", f(&[1, 2], &[0.5, 0.0])),
    ];
    let y = corners(&difflut("fourier", "max_amplitude: 0.25", &fourier), false).unwrap();
    assert_eq!(y.iter().map(|v| (v * 100.0).round()).collect::<Vec<_>>(), [150.0, 100.0, 100.0, 50.0]);
}

#[test]
fn ties_and_zero_logits_are_reported() {
    let tie = difflut("dwn_stable", "", &[("raw_luts", f(&[1, 4], &[-1e-7, -1.0, -1.0, -1.0]))]);
    let options = Options { weights: Some(tie.path("w.safetensors")), ..Options::default() };
    let imported = import(&tie.path("m.yaml"), &options).unwrap();
    assert!(imported.warnings[0].warning().contains("2 table entries"), "{:?}", imported.warnings);
    assert_eq!(corners(&tie, false).unwrap(), [2.0, 0.0, 0.0, 0.0], "they follow torch");
    // Sums whose terms cancel: what the library adds up in f32 may come out on either side.
    let parameters = [("weights", f(&[2, 1], &[3.0, -1.0])), ("bias", f(&[1], &[-2.000_000_2]))];
    let sum = difflut("linear_lut", "", &parameters);
    let options = Options { weights: Some(sum.path("w.safetensors")), ..Options::default() };
    let imported = import(&sum.path("m.yaml"), &options).unwrap();
    assert!(imported.warnings[0].warning().contains("2 table entries"), "{:?}", imported.warnings);
    let zero = difflut("warp", "", &[("coefficients", f(&[4, 1], &[0.0, 0.0, 0.0, 0.0]))]);
    assert!(corners(&zero, false).unwrap_err().contains("answers one half at address 0"));
}

#[test]
fn settings_are_honoured_or_answered() {
    let case =
        difflut("dwn", "output_tau: 9.0, temperature: 2.0, made_up: 1", &[("luts", f(&[1, 4], &[1.0, 1.0, 1.0, 1.0]))]);
    let scores = |set: &[(&str, &str)]| {
        let overrides = set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let options = Options { weights: Some(case.path("w.safetensors")), overrides, ..Options::default() };
        let imported = import(&case.path("m.yaml"), &options).map_err(|e| e.to_string())?;
        let y =
            bitc_ir::eval::eval(&imported.graph, &[f(&[1, 2], &[0.0, 0.0])]).unwrap()[0].to_vec::<f32>().unwrap()[0];
        Ok::<_, String>((y, imported.warnings.iter().map(|w| w.warning()).collect::<Vec<_>>().join("\n")))
    };
    assert_eq!(scores(&[]).unwrap().0, 0.5, "the stored temperature wins over the configuration");
    assert_eq!(scores(&[("output_tau", "8")]).unwrap().0, 0.25, "and --set over both");
    assert!(scores(&[("temperature", "0.5")]).unwrap().1.contains("`temperature` does not change inference"));
    assert!(scores(&[("output_taw", "8")]).unwrap_err().contains("did you mean `output_tau`"));
    assert!(scores(&[("output_tau", "-1")]).unwrap_err().contains("no value of that setting"));
}
