//! Every graph of the file tests out to ONNX in every form and back, with the values that it had.
//!
//! What a form cannot say is refused; the refusals of all graphs are a snapshot. `BITC_FILETEST=text` takes only the
//! files whose path contains the text, and leaves the snapshot alone.

use std::collections::BTreeSet;

use bitc::verify::{Tolerance, difference};
use bitc_ir::text::{NoReferences, parse};
use bitc_ir::{Blob, Graph, Op, Tensor};
use bitc_onnx::export::{DOMAIN, Form, Options, encode, export};
use bitc_onnx::external::NoFiles;
use bitc_onnx::import::{Options as ImportOptions, import};
use bitc_tests::{files, read, sample_inputs};

/// The graphs of the file tests that can be read, with the file.
fn graphs(folder: &str) -> Vec<(String, Graph)> {
    let filter = std::env::var("BITC_FILETEST").unwrap_or_default();
    let mut graphs = Vec::new();
    for path in files(folder, ".bir") {
        let name = path.display().to_string();
        let Ok(case) = read(&path) else { continue };
        if name.contains(&filter) {
            let read = case.sections.iter().filter_map(|s| parse(&s.text, &NoReferences).ok());
            graphs.extend(read.map(|g| (name.clone(), g)));
        }
    }
    graphs
}

fn read_back(bytes: &[u8], bodies: bool) -> Result<Graph, String> {
    let options = ImportOptions { bodies, ..ImportOptions::default() };
    Ok(import(&Blob::new(bytes.to_vec()), &mut NoFiles, &options).map_err(|e| e.to_string())?.graph)
}

/// What the values of a graph that was read back are, where they are not those of the source.
fn differences(source: &Graph, bytes: &[u8], bodies: bool) -> Vec<String> {
    let mut found = Vec::new();
    let written = match read_back(bytes, bodies) {
        Ok(graph) => graph,
        Err(e) => return vec![e],
    };
    for inputs in sample_inputs(source, false) {
        let Ok(expected) = bitc_ir::eval::eval(source, &inputs) else { continue };
        match bitc_ir::eval::eval(&written, &inputs) {
            Ok(values) => found.extend(expected.iter().zip(&values).filter_map(|(a, b)| apart(a, b, &inputs))),
            Err(e) => found.push(e.to_string()),
        }
    }
    found
}

fn apart(a: &Tensor, b: &Tensor, inputs: &[Tensor]) -> Option<String> {
    let tolerance = Tolerance { relative: 1e-5, ..Tolerance::default() };
    let d = difference("y", a, b, tolerance);
    (!d.rows.is_empty()).then(|| format!("{d:?} on {inputs:?}: {a:?} and {b:?}"))
}

#[test]
fn every_graph_is_the_same_in_every_form() {
    let mut refused = BTreeSet::new();
    let mut faults = Vec::new();
    let mut written = 0;
    for (file, source) in graphs("tests/filetests") {
        let has_unknown = source.nodes().any(|(_, n)| matches!(n.op, Op::Custom(_)));
        for form in Form::ALL {
            let model = match export(&source, &Options { form, ..Options::default() }) {
                Ok(model) => model,
                Err(refusals) => {
                    refused.extend(refusals.iter().map(|r| format!("{} {}: {}", form.name(), r.op, r.reason)));
                    continue;
                }
            };
            written += 1;
            let bytes = encode(&model);
            for bodies in [false, true] {
                // What bitc does not know it cannot evaluate either.
                let wrong = if has_unknown { Vec::new() } else { differences(&source, &bytes, bodies) };
                let place = format!("{file}, @{}, form {}, bodies {bodies}", source.name, form.name());
                faults.extend(wrong.first().map(|w| format!("{place}: {w}")));
            }
        }
    }
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
    if std::env::var("BITC_FILETEST").is_err() {
        assert!(written > 1000, "only {written} models were written");
        insta::assert_snapshot!(refused.into_iter().collect::<Vec<_>>().join("\n"));
    }
}

#[test]
fn operators_of_bitc_come_back_as_what_they_were() {
    let mut seen = BTreeSet::new();
    for (file, source) in graphs("tests/filetests") {
        let mut source = source;
        source.compact();
        let Ok(model) = export(&source, &Options::default()) else { continue };
        let inline = export(&source, &Options { form: Form::Inline, ..Options::default() });
        let nodes = model.graph.iter().flat_map(|g| &g.node);
        let own: BTreeSet<&str> = nodes.filter(|n| n.domain == DOMAIN).map(|n| n.op_type.as_str()).collect();
        // A network is written as layers of tables, a convolution with a scale per pixel as one of floats.
        let per_pixel = |i: bitc_ir::ValueId| source.ty(i).shape.0.iter().skip(2).any(|d| !d.is_one());
        let other = |n: &bitc_ir::Node| match &n.op {
            Op::LogicNet(_) => true,
            Op::BitConv2d(_) => n.inputs[1].is_some_and(per_pixel),
            _ => false,
        };
        if own.is_empty() || source.nodes().any(|(_, n)| other(n)) {
            continue;
        }
        seen.extend(own.iter().map(|&n| n.to_owned()));
        let names = |g: &Graph| g.nodes().map(|(_, n)| n.op.name()).collect::<Vec<_>>();
        let back = read_back(&encode(&model), false).unwrap();
        let again = inline.ok().map(|model| read_back(&encode(&model), false).unwrap());
        let kept = ["quantize_act", "bit_linear", "bit_conv2d", "dequantize", "thermometer", "lut", "group_sum"];
        for op in kept {
            let count = |g: &Graph| names(g).iter().filter(|n| **n == op).count();
            for back in [Some(&back), again.as_ref()].into_iter().flatten() {
                let lost = op != "dequantize" && count(&source) != count(back);
                assert!(!lost, "{file}: @{} lost `{op}`: {:?} became {:?}", source.name, names(&source), names(back));
            }
        }
    }
    let all = [
        "BitConv",
        "BitLinear",
        "BitLinearGrouped",
        "Encode",
        "EncodeChosen",
        "GroupSum",
        "IntConv",
        "IntLinear",
        "LutLayer",
        "LutLayerReal",
        "QuantizeAct",
        "QuantizeActQuotient",
        "QuantizeActReciprocal",
        "RoundAct",
        "TernaryWeight",
    ];
    assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), all);
}

/// A ternary layer as text.
const LAYER: &str = "graph @g(%x: f32[N, 6]) {
  const %w: t2[4, 6] = random(seed = 1)
  const %s: f32[4] = dense [0.5, 1, 2, 0.25]
  %q, %qs = quantize_act(%x) {floor = \"clip_max\", eps = 1e-5}
  %y = bit_linear(%q, %qs, %w, %s)
  return %y
}";

#[test]
fn a_quantiser_of_which_one_result_is_read_comes_back() {
    let weights = "const %w: t2[4, 6] = random(seed = 1) const %s: f32[4] = dense [0.5, 1, 2, 0.25]
        const %one: f32 = dense [1.0]";
    for form in ["divide", "reciprocal", "quotient", "integer"] {
        for (read, kept) in [("bit_linear(%q, %one, %w, %s)", true), ("neg(%qs)", form != "integer")] {
            let text = format!(
                "graph @g(%x: f32[N, 6]) {{ {weights}
                 %q, %qs = quantize_act(%x) {{form = \"{form}\"}} %y = {read} return %y }}"
            );
            let mut source = parse(&text, &NoReferences).unwrap();
            source.compact();
            for export_form in [Form::Functions, Form::Inline] {
                let model = export(&source, &Options { form: export_form, ..Options::default() }).unwrap();
                let bytes = encode(&model);
                let back = read_back(&bytes, false).unwrap();
                let found = back.nodes().map(|(_, n)| n.op.name()).collect::<Vec<_>>();
                let is_there = found.contains(&"quantize_act");
                assert!(is_there || !kept && export_form == Form::Inline, "{form}, {read}, {export_form:?}: {found:?}");
                for bodies in [false, true] {
                    assert_eq!(differences(&source, &bytes, bodies), [""; 0], "{form}, {read}, {export_form:?}");
                }
            }
        }
    }
}

#[test]
fn a_definition_that_was_changed_reads_as_what_it_is() {
    let source = parse(LAYER, &NoReferences).unwrap();
    let model = export(&source, &Options { form: Form::Inline, ..Options::default() }).unwrap();
    let ops = |model: &bitc_onnx::proto::ModelProto| {
        let graph = read_back(&encode(model), false).unwrap();
        graph.nodes().map(|(_, n)| n.op.name()).collect::<Vec<_>>()
    };
    assert_eq!(ops(&model), ["quantize_act", "bit_linear"]);
    // A rounding the other way: the marks are still there, what they say is no longer so.
    let mut changed = model.clone();
    let nodes = &mut changed.graph.as_mut().unwrap().node;
    nodes.iter_mut().find(|n| n.op_type == "Round").unwrap().op_type = "Floor".into();
    let found = ops(&changed);
    assert!(!found.contains(&"quantize_act") && found.contains(&"floor") && found.contains(&"bit_linear"), "{found:?}");
    // Another zero point.
    let mut changed = model.clone();
    let constants = &mut changed.graph.as_mut().unwrap().initializer;
    let zero = constants.iter_mut().find(|t| t.raw_data.as_deref() == Some(&[128u8])).unwrap();
    zero.raw_data = Some(vec![127u8].into());
    let found = ops(&changed);
    assert!(!found.contains(&"bit_linear") && found.contains(&"matmul"), "{found:?}");
    // Something else reads what is inside.
    let mut changed = model.clone();
    let graph = changed.graph.as_mut().unwrap();
    let inner = graph.node.iter().find(|n| n.op_type == "MatMulInteger").unwrap().output[0].clone();
    let mut output = graph.output[0].clone();
    output.name = inner;
    graph.output.push(output);
    assert!(ops(&changed).contains(&"matmul"));
}

#[test]
fn what_bitc_does_not_know_passes_through() {
    let text = "graph @g(%x: f32[N, 2]) {\n  %h = relu(%x)\n  \
        %y = custom(%h) {domain = \"acme\", op = \"Foo\", attr.alpha = 1.5, attr.ks = [1, 2], attr.mode = \"fast\"} : f32[N, 3]\n  \
        %z = neg(%y)\n  return %z\n}";
    let source = parse(text, &NoReferences).unwrap();
    let bytes = encode(&export(&source, &Options::default()).unwrap());
    let options = ImportOptions { keep_unknown: true, ..ImportOptions::default() };
    let mut back = import(&Blob::new(bytes.clone()), &mut NoFiles, &options).unwrap().graph;
    back.meta.clear();
    let lines = |g: &Graph| bitc_ir::text::print(g).replace(" from \"relu\"", "");
    let strip = |text: String| text.lines().map(|l| l.split(" from ").next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(strip(lines(&back)), strip(lines(&source)));
    let refused = import(&Blob::new(bytes), &mut NoFiles, &ImportOptions::default()).unwrap_err();
    assert!(refused.is_unsupported() && refused.to_string().contains("acme::Foo"), "{refused}");
}
