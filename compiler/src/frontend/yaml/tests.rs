//! Tests of YAML models, from text and weights to the values that the graph computes.

use std::collections::BTreeMap;

use bitc_ir::{Tensor, eval::eval};
use tempfile::TempDir;

use super::super::{Imported, Options, import};
use super::*;
use crate::error::Kind as ErrorKind;

/// A folder with a model and its weights.
pub(super) struct Case(TempDir);

impl Case {
    fn new(yaml: &str) -> Self {
        let case = Self(tempfile::tempdir().unwrap());
        std::fs::write(case.path("m.yaml"), yaml).unwrap();
        case
    }

    pub(super) fn with(yaml: &str, weights: &[(&str, Tensor)]) -> Self {
        let case = Self::new(yaml);
        std::fs::write(case.path("w.safetensors"), safetensors(weights)).unwrap();
        case
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn import(&self) -> Result<Imported, Failure> {
        import(&self.path("m.yaml"), &Options::default())
    }

    /// The faults, each as the short format shows it after the path.
    pub(super) fn faults(&self) -> Vec<String> {
        let failure = self.import().unwrap_err();
        let dir = format!("{}/", self.0.path().display());
        failure.diagnostics().iter().map(|d| d.to_string().replace(&dir, "").replace("\n  ", "; ")).collect()
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        self.import().unwrap().warnings.iter().map(|d| d.warning()).collect()
    }

    pub(super) fn run(&self, x: Tensor) -> Vec<f32> {
        let graph = self.import().unwrap_or_else(|e| panic!("{e}")).graph;
        eval(&graph, &[x]).unwrap()[0].to_vec().unwrap()
    }
}

fn safetensors(tensors: &[(&str, Tensor)]) -> Vec<u8> {
    let mut data = Vec::new();
    let mut header = serde_json::Map::new();
    for (name, tensor) in tensors {
        let begin = data.len();
        data.extend_from_slice(tensor.bytes());
        let dtype = match tensor.dtype() {
            DType::I8 => "I8",
            DType::U8 => "U8",
            DType::F64 => "F64",
            DType::I16 => "I16",
            DType::I32 => "I32",
            DType::U64 => "U64",
            _ => "F32",
        };
        let entry = serde_json::json!({"dtype": dtype, "shape": tensor.dims(), "data_offsets": [begin, data.len()]});
        header.insert((*name).to_string(), entry);
    }
    let header = serde_json::to_vec(&header).unwrap();
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}

fn f(dims: &[usize], values: &[f32]) -> Tensor {
    Tensor::new(dims, values)
}

/// One ternary layer from 4 to 2 with quant settings.
fn one_layer(quant: &str) -> String {
    format!(
        "model: bit_mlp\nn_layers: 1\nin_channels: 4\nout_channels: 2\nquant: {{{quant}}}\nweights: w.safetensors\n"
    )
}

/// Mean magnitude 0.5 and, by either rule, the codes 1, -1, 0, 1 and 0, 0, -1, 0.
fn trained() -> [(&'static str, Tensor); 2] {
    let w = f(&[2, 4], &[0.5, -1.0, 0.1, 0.7, 0.2, -0.2, -1.3, 0.0]);
    [("network.0.weight", w), ("network.0.bias", f(&[2], &[0.25, -1.0]))]
}

const X: [f32; 4] = [0.6, -2.54, 1.5, 0.01];

#[test]
fn bitlab_rounds_float_activations_to_integers() {
    // round(x) = 1, -3, 2, 0: (1 + 3 + 0) * 0.5 + 0.25 and -2 * 0.5 - 1.
    let y = Case::with(&one_layer(""), &trained()).run(f(&[1, 4], &X));
    assert_eq!(y, [2.25, -2.0]);
}

#[test]
fn bitlab_int8_shares_one_scale_in_the_batch_and_head_does_not() {
    let x = f(&[2, 4], &[0.6, -2.54, 1.5, 0.01, 0.127, 0.0, 0.0, -0.0005]);
    // The scale of the batch is 0.02, that of the second row 0.001.
    let scaled = |values: [i32; 4], s: f32, w: f32| {
        let [a, b, c, d] = values.map(|v| v as f32 * s);
        [(a - b + d) * w + 0.25, -c * w - 1.0]
    };
    let quant = "activation_dtype: int8";
    let y = Case::with(&one_layer(quant), &trained()).run(x.clone());
    let expected = [scaled([30, -127, 75, 0], 0.02, 0.5), scaled([6, 0, 0, 0], 0.02, 0.5)].concat();
    assert!(y.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5), "{y:?} {expected:?}");

    for quant in
        ["semantics: bitlab_head", "semantics: bitnet", "activation_dtype: int8, activation_granularity: per_channel"]
    {
        let y = Case::with(&one_layer(quant), &trained()).run(x.clone());
        // The quotient 0.5 of the last value rounds to the even 0.
        let expected = [scaled([30, -127, 75, 0], 0.02, 0.5), scaled([127, 0, 0, 0], 0.001, 0.5)].concat();
        assert!(y.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-3), "{quant}: {y:?} {expected:?}");
    }
}

#[test]
fn a_scale_per_channel_belongs_to_an_output() {
    let y = Case::with(&one_layer("weight_granularity: per_channel"), &trained()).run(f(&[1, 4], &X));
    let (first, second) = (0.575f32, 0.425f32);
    let expected = [4.0 * first + 0.25, -2.0 * second - 1.0];
    assert!(y.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5), "{y:?} {expected:?}");
}

#[test]
fn every_saved_form_of_a_layer_computes_the_same() {
    let [weight, bias] = trained();
    let codes = f(&[2, 4], &[1., -1., 0., 1., 0., 0., -1., 0.]);
    let scale = f(&[], &[0.5]);
    let eval_form = [
        weight.clone(),
        bias.clone(),
        ("network.0.qweight", codes.clone()),
        ("network.0.qweight_scale", scale.clone()),
    ];
    let deployed = [bias.clone(), ("network.0.qweight", codes.clone()), ("network.0.qweight_scale", f(&[1], &[0.5]))];
    let head = [("0.bias", bias.1.clone()), ("0.qw", codes.clone()), ("0.qws", scale.clone())];
    let int8 = Tensor::new(&[2, 4], &[1i8, -1, 0, 1, 0, 0, -1, 0]);
    let small = [("m.0.bias", bias.1), ("m.0.qw", int8), ("m.0.qws", f(&[2, 1], &[0.5, 0.5]))];
    for weights in [&eval_form[..], &deployed, &head, &small] {
        let case = Case::with(&one_layer(""), weights);
        assert_eq!(case.run(f(&[1, 4], &X)), [2.25, -2.0]);
        assert_eq!(case.warnings(), Vec::<String>::new());
    }
}

#[test]
fn what_ran_is_preferred_and_a_disagreement_is_told() {
    let [weight, bias] = trained();
    let other = f(&[2, 4], &[1., 1., 1., 1., 0., 0., 0., 0.]);
    let stale = [weight, bias, ("network.0.qweight", other), ("network.0.qweight_scale", f(&[], &[0.5]))];
    let case = Case::with(&one_layer(""), &stale);
    assert_eq!(case.run(f(&[1, 4], &X)), [0.25, -1.0]);
    let warnings = case.warnings();
    assert!(
        warnings[0].starts_with("warning: ") && warnings[0].contains("`network.0.qweight`")
            || warnings[0].contains("`0.qweight`"),
        "{warnings:?}"
    );
    assert!(warnings[0].contains("3 of 8 weights differ"), "{warnings:?}");
}

#[test]
fn int8_and_packed_models_are_not_taken_for_ternary_ones() {
    let [_, bias] = trained();
    let fails = |weights: &[(&str, Tensor)], text: &str| {
        let failure = Case::with(&one_layer(""), weights).import().unwrap_err();
        let message = failure.to_string();
        assert!(failure.kind() == ErrorKind::Unsupported && message.contains(text), "{message}");
    };
    let scale = ("network.0.qweight_scale", f(&[], &[0.01]));
    let int8 = Tensor::new(&[2, 4], &[127i8, -1, 0, 1, 0, 0, -1, 0]);
    fails(&[bias.clone(), ("network.0.qweight", int8.clone()), scale.clone()], "8-bit weights, with values up to 127");
    let floats = f(&[2, 4], &[127., -1., 0., 1., 0., 0., -1., 0.]);
    fails(&[bias.clone(), ("network.0.qweight", floats), scale.clone()], "8-bit weights");
    let halves = f(&[2, 4], &[0.5, -1., 0., 1., 0., 0., -1., 0.]);
    fails(&[bias.clone(), ("network.0.qweight", halves), scale], "only -1, 0 and 1 are ternary");
    fails(&[bias.clone(), ("network.0.weight", int8.clone())], "a layer in training has float weights");
    fails(&[bias.clone(), ("network.0.w_packed", int8)], "8-bit weights");
    fails(&[bias, ("network.0.qw", Tensor::new(&[3, 1], &[0x64u8, 1, 1]))], "no packed form that bitc knows");
}

/// The codes 0, 1, -1, 1 and 1, 0, 0, 0 as each library packs them.
fn packed() -> [Tensor; 3] {
    let byte_rows = [0x64u8, 0x01];
    let transformers: Vec<u8> =
        [(0, 1), (1, 0), (-1, 0), (1, 0)].iter().map(|(a, b)| (a + 1) as u8 | 5 << 4 | ((b + 1) as u8) << 2).collect();
    let neuropress: Vec<i8> = byte_rows.iter().map(|b| b.cast_signed()).collect();
    // Two outputs are one row of bytes, whose upper half stands for none.
    [Tensor::new(&[1, 4], &transformers), Tensor::new(&[2, 1], &byte_rows), Tensor::new(&[1, 2], &neuropress)]
}

#[test]
fn packed_weights_come_with_what_their_scale_means() {
    let [transformers, bitlab, neuropress] = packed();
    let bias = ("network.0.bias", f(&[2], &[0.25, -1.0]));
    let run = |quant: &str, weights: &[(&str, Tensor)]| {
        Case::with(&one_layer(quant), &[std::slice::from_ref(&bias), weights].concat())
            .run(f(&[1, 4], &[1., 2., 4., 8.]))
    };
    let scale = |v: f32| f(&[1], &[v]);
    // The sums are 2 - 4 + 8 = 6 and 1.
    let expected = [6.0 * 0.5 + 0.25, 0.5 - 1.0];
    assert_eq!(run("", &[("network.0.qw", bitlab.clone()), ("network.0.qws", scale(0.5))]), expected);
    assert_eq!(run("", &[("network.0.w_packed", bitlab), ("network.0.w_scale", scale(0.5))]), expected);
    let hf = [("network.0.weight", transformers), ("network.0.weight_scale", scale(2.0))];
    assert_eq!(run("weight_scale: divide", &hf), expected);
    // The class that multiplies has added the bias by then.
    assert_eq!(run("weight_scale: multiply", &hf), [(6.0 + 0.25) * 2.0, (1.0 - 1.0) * 2.0]);
    let unpacked =
        [("network.0.weight", f(&[2, 4], &[0., 1., -1., 1., 1., 0., 0., 0.])), ("network.0.weight_scale", scale(2.0))];
    assert_eq!(run("weight_scale: multiply", &unpacked), [12.5, 0.0]);
    assert_eq!(run("scale: 2", &[("network.0.packed_weights", neuropress.clone())]), expected);

    let fails = |quant: &str, weights: &[(&str, Tensor)]| {
        let case = Case::with(&one_layer(quant), &[std::slice::from_ref(&bias), weights].concat());
        case.faults().join(" | ")
    };
    assert!(
        fails("", &hf).contains("what the scale `network.0.weight_scale` does is not in the file"),
        "{}",
        fails("", &hf)
    );
    let lonely = fails("", &[("network.0.packed_weights", neuropress)]);
    assert!(lonely.contains("`scale: NUMBER` says it"), "{lonely}");
    let alone = fails("", &[("network.0.w_scale", scale(1.0))]);
    assert!(alone.contains("has no weights that bitc knows"), "{alone}");
}

#[test]
fn wrong_weights_are_named() {
    let [weight, bias] = trained();
    let fault = |weights: &[(&str, Tensor)]| Case::with(&one_layer(""), weights).faults().join(" | ");
    let with = |name: &'static str, tensor: Tensor| fault(&[bias.clone(), (name, tensor)]);
    assert!(fault(std::slice::from_ref(&bias)).contains("the weights lack the tensor `network.0.weight`"));
    let two = Case::with(
        "model: bit_mlp\nn_layers: 3\nin_channels: 4\nweights: w.safetensors\n",
        std::slice::from_ref(&bias),
    );
    let faults = two.faults();
    assert_eq!(faults.len(), 3, "{faults:?}");
    assert!(faults[2].contains("`network.4.weight`") && faults[2].contains("w.safetensors"), "{faults:?}");
    assert!(with("network.0.wieght", weight.1.clone()).contains("did you mean `network.0.wieght`?"));
    assert!(with("network.0.weight", f(&[4, 2], &[0.; 8])).contains("expected: [2, 4]; found: f32 [4, 2]"));
    let mut values = [0.5; 8];
    values[6] = f32::NAN;
    assert!(with("network.0.weight", f(&[2, 4], &values)).contains("`network.0.weight` holds NaN at index 6"));
    assert!(with("network.0.weight", Tensor::splat(&[2, 4], 0.1f64)).contains("would change element 0"));
    assert!(with("network.0.qweight", f(&[2, 4], &[1.; 8])).contains("lack the scale `network.0.qweight_scale`"));
    let scale = [bias.clone(), ("network.0.qw", f(&[2, 4], &[1.; 8])), ("network.0.qws", f(&[3], &[1.; 3]))];
    assert!(fault(&scale).contains("one number, or 2 of them"));
    assert!(fault(&[("x.weight", weight.1.clone())]).contains("hold no layer of the model"));
    let extra = [weight.clone(), bias.clone(), ("network.2.weight", weight.1.clone())];
    let warnings = Case::with(&one_layer(""), &extra).warnings();
    assert!(warnings[0].contains("does not use") && warnings[0].contains("`network.2.weight`"), "{warnings:?}");
    let text = Case::new(&one_layer("")).faults().join("");
    assert!(text.contains("m.yaml:6:10: there is no file `w.safetensors`"), "{text}");
}

#[test]
fn doubles_that_are_floats_are_taken() {
    let [_, bias] = trained();
    let w = Tensor::new(&[2, 4], &[0.5f64, -1.0, 0.125, 0.75, 0.25, -0.25, -1.25, 0.0]);
    let y = Case::with(&one_layer(""), &[bias, ("network.0.weight", w)]).run(f(&[1, 4], &X));
    assert_eq!(y.len(), 2);
}

#[test]
fn bit_mlp_counts_layers_as_torch_does() {
    let names = |dropout: &str| {
        let yaml =
            format!("model: bit_mlp\nin_channels: 4\nhidden_dim: 3\ndropout: {dropout}\nweights: {{random: 7}}\n");
        let graph = Case::new(&yaml).import().unwrap().graph;
        let mut names: Vec<String> =
            graph.values().map(|(_, v)| v.name.clone()).filter(|n| n.ends_with(".bias")).collect();
        names.sort();
        (names, graph.ty(graph.outputs()[0].value).to_string())
    };
    let expected = |i: [u32; 3]| (i.map(|i| format!("network.{i}.bias")).to_vec(), "f32[N, 10]".to_string());
    assert_eq!(names("0.0"), expected([0, 2, 4]));
    assert_eq!(names("0.1"), expected([0, 3, 6]));
}

const ALL_LAYERS: &str = "
model: sequential
input: {name: image, shape: [N, 2, 8, 8]}
weights: {random: 3}
layers:
  - conv2d: {name: stem, out: 4, kernel: [3, 3], padding: 1, stride: 1, dilation: 1, groups: 2, bias: false}
  - batch_norm: {}
  - relu: {}
  - bit_conv2d: {out: 4, kernel: 3, padding: [1, 1], quant: {semantics: bitnet}}
  - bit_conv2d: {out: 4, kernel: 1, quant: {semantics: bitlab_head, activation_granularity: per_sample}}
  - silu: {}
  - max_pool2d: {kernel: 3, stride: 2, padding: 1, ceil_mode: true}
  - avg_pool2d: {kernel: 2, count_include_pad: false}
  - flatten: {start_dim: 2}
  - reshape: {shape: [N, -1]}
  - linear: {name: fc, in: 16, out: 6}
  - layer_norm: {eps: 1e-6}
  - gelu: {approximate: tanh}
  - gelu: {}
  - residual:
      layers:
        - rms_norm: {}
        - bit_linear: {out: 5, bias: true, quant: {semantics: bitlab}}
        - relu2
        - bitnet_layer: {input_dim: 5, output_dim: 6, precision: 4}
        - tanh: {}
  - dropout: {p: 0.5}
  - sigmoid: {}
  - flatten: {}
  - linear: {out: 3, bias: false}
  - softmax: {dim: -1}
";

#[test]
fn every_layer_is_built_and_evaluated() {
    let case = Case::new(ALL_LAYERS);
    let graph = case.import().unwrap_or_else(|e| panic!("{e}")).graph;
    let used: std::collections::BTreeSet<&str> = graph.nodes().map(|(_, n)| n.op.name()).collect();
    let expected = "add avg_pool2d batch_norm conv2d dequantize flatten gelu gelu_tanh layer_norm linear max_pool2d \
                    quantize_act relu relu2 reshape rms_norm sigmoid silu softmax tanh ternarize";
    assert_eq!(used.into_iter().collect::<Vec<_>>().join(" "), expected);
    assert!(graph.values().any(|(_, v)| v.name == "layers.14.1.bias"));
    for batch in [0, 1, 3] {
        let x = bitc_ir::random::tensor(DType::F32, &[batch, 2, 8, 8], 5);
        let y = eval(&graph, &[x]).unwrap();
        assert_eq!(y[0].dims(), [batch, 3]);
        let sums: Vec<f32> = y[0].to_vec::<f32>().unwrap().chunks(3).map(|row| row.iter().sum()).collect();
        assert!(sums.iter().all(|s| (s - 1.0).abs() < 1e-5), "{sums:?}");
    }
    let again = case.import().unwrap().graph;
    assert_eq!(bitc_ir::text::print(&graph), bitc_ir::text::print(&again));
}

#[test]
fn all_faults_are_reported_where_they_are() {
    let yaml = "model: sequential
input: {name: x, shape: [N, 4]}
layers:
  - lineer: {out: 3}
  - linear: {outs: 3}
  - linear: {out: 0}
  - relu: {inplace: true}
  - {linear: {out: 1}, relu: {}}
  - bit_linear: {out: 2, quant: {semantcs: bitlab}}
  - max_pool2d: {kernel: 2, padding: 2}
  - linear: {name: same, out: 4}
  - linear: {name: same, out: 4}
  - residual: {}
wieghts: w.safetensors
";
    let faults = Case::new(yaml).faults();
    let expected = [
        "m.yaml:4:5: there is no layer `lineer`",
        "m.yaml:5:5: `linear` needs the key `out`",
        "m.yaml:5:14: `linear` has no key `outs`",
        "m.yaml:6:19: `out` of `linear` has the wrong value",
        "m.yaml:7:12: `relu` has no key `inplace`",
        "m.yaml:8:5: a layer is a map with one key",
        "m.yaml:9:34: `quant` has no key `semantcs`",
        "m.yaml:10:5: the padding of a pool",
        "m.yaml:13:5: `residual` needs the key `layers`",
        "m.yaml:12:5: two layers are named `same`",
        "m.yaml:14:1: the model has no key `wieghts`",
    ];
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
    for (fault, start) in faults.iter().zip(expected) {
        assert!(fault.starts_with(&format!("error: {start}")), "{fault}\n{start}");
    }
    let all = faults.join("\n");
    for near in ["linear", "out", "semantics", "weights"] {
        assert!(all.contains(&format!("did you mean `{near}`?")), "{near}: {all}");
    }
}

#[test]
fn layers_that_do_not_fit_are_named_with_their_place() {
    let model = |shape: &str, layer: &str| {
        let yaml =
            format!("model: sequential\ninput: {{shape: {shape}}}\nweights: {{random: 1}}\nlayers:\n  - {layer}\n");
        Case::new(&yaml).faults().join(" | ")
    };
    assert!(
        model("[N, 4]", "linear: {name: a, in: 5, out: 2}").contains("m.yaml:5:5: `a` has the wrong number of inputs")
    );
    assert!(model("[N, 1, 2, 4]", "linear: {in: 8, out: 2}").contains("a `flatten` layer"));
    assert!(model("[N, 4]", "conv2d: {out: 2, kernel: 3}").contains("needs an input of rank 4; node: `layers.0`"));
    assert!(
        model("[N, 3, 2, 2]", "conv2d: {out: 2, kernel: 3}").contains("does not fit what comes before it (`conv2d`)")
    );
    assert!(model("[N, 3, 2, 2]", "conv2d: {out: 2, kernel: 1, groups: 2}").contains("`groups` divides"));
    assert!(model("[N, T]", "linear: {out: 2}").contains("the last dimension of the input must be a known number"));
    assert!(model("[N, 4]", "flatten: {start_dim: 3}").contains("expected: less than 2; found: 3"));
    assert!(model("[N, 4]", "reshape: {shape: [N, 3, -1]}").contains("do not divide"));
    assert!(model("[N, 4]", "softmax: {dim: 5}").contains("does not fit"));
    assert!(model("[N, 4]", "residual: {layers: [linear: {out: 3}]}").contains("(`add`)"));
    assert!(model("[N, -4]", "relu").contains("m.yaml:2:16: `shape` is a list of sizes"));
    assert!(
        model("[N, 4]", "bitnet_layer: {input_dim: 4, output_dim: 2, precision: 16}")
            .contains("from 2 to 8; found: 16")
    );
    let huge = model("[N, 2000000000]", "linear: {out: 2000000000}");
    assert!(huge.contains("take too much memory"), "{huge}");
}

#[test]
fn documents_that_are_no_model_are_refused() {
    let fault = |yaml: &str| Case::new(yaml).faults().join(" | ");
    assert!(fault("").contains("a model is a map"));
    assert!(fault("a: 1").contains("no key `model`"));
    assert!(fault("model: bit_mpl").contains("did you mean `bit_mlp`?"));
    assert!(fault("model: [1]").contains("there is no model a list"));
    assert!(fault("model: bit_mlp").contains("says nothing about its weights"));
    assert!(fault("model: bit_mlp\nweights: 3").contains("m.yaml:2:10: `weights` is the name of a file"));
    assert!(fault("model: bit_mlp\nweights: {seed: 3}").contains("`weights` needs the key `random`"));
    assert!(fault("model: bit_mlp\nn_layers: 9999999\nweights: {random: 1}").contains("too many layers"));
    assert!(fault("model: bit_mlp\nn_layers: 1.5\nweights: {random: 1}").contains("m.yaml:2:11: `n_layers`"));
    let sample = "model: bit_mlp\nquant: {activation_granularity: per_sample}\nweights: {random: 1}";
    assert!(fault(sample).contains("expected: per_tensor or per_channel"));
    assert!(fault("model: &a bit_mlp").contains("anchors"));
}

#[test]
fn the_user_may_name_weights_and_bind_dimensions() {
    let case = Case::with("model: bit_mlp\nn_layers: 1\nin_channels: 4\nout_channels: 2\n", &trained());
    let dims = BTreeMap::from([("N".to_string(), 3)]);
    let options = Options { weights: Some(case.path("w.safetensors")), dims, ..Options::default() };
    let graph = import(&case.path("m.yaml"), &options).unwrap().graph;
    assert_eq!(graph.ty(graph.inputs()[0]).to_string(), "f32[3, 4]");
    assert_eq!(graph.name, "m");
    let options = Options { dims: BTreeMap::from([("n".to_string(), 3)]), ..options };
    let failure = import(&case.path("m.yaml"), &options).unwrap_err();
    assert!(failure.exit_code() == 2 && failure.to_string().contains("did you mean `N`?"), "{failure}");
}

#[test]
fn a_norm_inside_a_bitnet_layer_is_taken_from_the_weights() {
    let [weight, bias] = trained();
    let plain = [weight.clone(), bias.clone()];
    let normed = [weight, bias, ("network.0.norm.weight", f(&[4], &[1., 2., 3., 4.]))];
    let ops = |weights: &[(&str, Tensor)]| {
        let imported = Case::with(&one_layer("semantics: bitnet"), weights).import().unwrap();
        assert!(imported.warnings.is_empty());
        imported.graph.nodes().any(|(_, n)| n.op.name() == "rms_norm")
    };
    assert!(!ops(&plain) && ops(&normed));
}

#[test]
fn a_model_without_tensors_needs_no_weights() {
    let y = Case::new("model: sequential\ninput: {shape: [N, 2]}\nlayers:\n  - relu\n").run(f(&[1, 2], &[-1.0, 2.0]));
    assert_eq!(y, [0.0, 2.0]);
}

#[test]
fn a_stored_bias_that_the_model_denies_is_told() {
    let yaml = "model: sequential\ninput: {shape: [N, 4]}\nweights: w.safetensors\nlayers:\n  - linear: {out: 2, bias: false}\n";
    let [weight, bias] = trained();
    let warnings = Case::with(yaml, &[("0.weight", weight.1), ("0.bias", bias.1)]).warnings();
    assert!(warnings[0].contains("found: `0.bias`"), "{warnings:?}");
}

#[test]
fn every_cut_and_many_changes_are_read_or_refused() {
    let read = |bytes: &[u8]| {
        let source = Source { path: "m.yaml".into(), bytes: bitc_ir::Blob::new(bytes.to_vec()) };
        let options = Options { max_memory: 1 << 16, ..Options::default() };
        // The outcome depends on the bytes; what counts is that there is one.
        let _ = (IMPORTER.import)(&source, &options);
    };
    let whole = ALL_LAYERS.as_bytes();
    for end in 0..whole.len() {
        read(&whole[..end]);
    }
    for at in 0..whole.len() {
        for byte in *b"0-{&\xff" {
            let mut bytes = whole.to_vec();
            bytes[at] = byte;
            read(&bytes);
        }
    }
}

#[test]
fn the_models_in_configs_are_imported() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/models");
    for name in ["bit_mlp", "bit_cnn", "bitnet_block"] {
        let imported =
            import(&dir.join(name).with_extension("yaml"), &Options::default()).unwrap_or_else(|e| panic!("{e}"));
        assert!(imported.warnings.is_empty() && imported.graph.nodes().len() > 3, "{name}");
    }
}

#[test]
fn a_network_of_every_layer_computes_what_torch_computes() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/yaml/all_layers");
    let imported = import(&dir.join("model.yaml"), &Options::default()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(imported.warnings, []);
    let array = |name: &str| crate::npy::read(&dir.join(name)).unwrap();
    let y = eval(&imported.graph, &[array("input.npy")]).unwrap()[0].to_f64();
    let expected = array("expected.npy").to_f64();
    // Sums are in f64 here and in f32 there; one step of any quantiser would show as more.
    let worst = y.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(y.len() == 40 && worst < 1e-5, "{worst}");
}

#[test]
fn the_schema_names_every_layer_and_model() {
    let text = include_str!("../../../../configs/models/README.md");
    for name in layer::NAMES.into_iter().chain(MODELS) {
        assert!(text.contains(&format!("`{name}`")) || text.contains(&format!(": {name}`")), "{name}");
    }
}
