//! Logic networks from YAML and tensors to an artifact and its answers, compared with the tables themselves.

use bitc_ir::{DType, Tensor};
use bitc_runtime::kernels;

use crate::harness::Bench;

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((self.bits() >> 16) % n as u64) as usize
    }
}

/// Layers of tables: for each node what it reads, and its table.
pub(crate) struct Network {
    pub(crate) layers: Vec<Vec<(Vec<usize>, u64)>>,
}

impl Network {
    /// Layers of these widths and numbers of inputs per node. A node may read a bit twice, and some tables are simple.
    pub(crate) fn random(n_inputs: usize, layers: &[(usize, usize)], seed: u64) -> Self {
        let mut random = Random(seed);
        let (mut width, mut all) = (n_inputs, Vec::new());
        for &(nodes, fan_in) in layers {
            let layer = (0..nodes).map(|i| {
                let reads = (0..fan_in).map(|_| random.below(width)).collect();
                let table = random.bits() & (u64::MAX >> (64 - (1 << fan_in)));
                (reads, if i % 9 == 0 { 0 } else { table })
            });
            all.push(layer.collect());
            width = nodes;
        }
        Self { layers: all }
    }

    pub(crate) fn outputs(&self, row: &[u8]) -> Vec<u8> {
        self.layers.iter().fold(row.to_vec(), |bits, layer| {
            let node = |(reads, table): &(Vec<usize>, u64)| {
                let address = reads.iter().enumerate().fold(0, |a, (j, &r)| a | u64::from(bits[r]) << j);
                (table >> address & 1) as u8
            };
            layer.iter().map(node).collect()
        })
    }

    /// The YAML of the layers, and their tensors.
    fn yaml(&self, head: &str, output: &str) -> (String, Vec<(String, Tensor)>) {
        let (mut text, mut tensors) = (format!("model: lut_network\ninputs: {head}\nlayers:\n"), Vec::new());
        for (i, layer) in self.layers.iter().enumerate() {
            text += &format!("  - {{inputs: c{i}, tables: t{i}}}\n");
            let reads: Vec<i32> = layer.iter().flat_map(|(reads, _)| reads.iter().map(|&r| r as i32)).collect();
            tensors.push((format!("c{i}"), Tensor::new(&[layer.len(), layer[0].0.len()], &reads)));
            let tables: Vec<u64> = layer.iter().map(|(_, table)| *table).collect();
            tensors.push((format!("t{i}"), Tensor::new(&[layer.len()], &tables)));
        }
        (text + &format!("output: {output}\nweights: net.safetensors\n"), tensors)
    }

    /// Writes `net.yaml` and its weights; `extra` are further tensors.
    pub(crate) fn write(&self, bench: &Bench, head: &str, output: &str, extra: &[(&str, Tensor)]) {
        let (text, mut tensors) = self.yaml(head, output);
        tensors.extend(extra.iter().map(|(name, t)| ((*name).to_owned(), t.clone())));
        bench.write("net.yaml", text.as_bytes());
        bench.write("net.safetensors", &safetensors(&tensors));
    }
}

/// The bytes of a safetensors file.
pub(crate) fn safetensors(tensors: &[(String, Tensor)]) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, tensor) in tensors {
        let dtype = match tensor.dtype() {
            DType::F32 => "F32",
            DType::I32 => "I32",
            DType::I16 => "I16",
            DType::I64 => "I64",
            DType::U64 => "U64",
            other => panic!("no name for {other}"),
        };
        let start = data.len();
        data.extend_from_slice(tensor.bytes());
        let entry = serde_json::json!({"dtype": dtype, "shape": tensor.dims(), "data_offsets": [start, data.len()]});
        header.insert(name.clone(), entry);
    }
    let header = serde_json::Value::Object(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend(data);
    bytes
}

pub(crate) fn scores(bits: &[u8], groups: usize, tau: f32, beta: f32) -> Vec<f32> {
    let size = bits.len().div_ceil(groups);
    let count = |g: usize| bits.iter().skip(g * size).take(size).map(|&b| u32::from(b)).sum::<u32>();
    (0..groups).map(|g| (count(g) as f32 + beta) / tau).collect()
}

#[test]
fn bits_in_give_the_scores_of_the_tables_on_every_machine() {
    let bench = Bench::new();
    let net = Network::random(37, &[(60, 2), (50, 6), (45, 4), (44, 3)], 1);
    net.write(&bench, "37", "{group_sum: {groups: 5, tau: 3.0, beta: 0.5}}", &[]);
    bench.ok("compile net.yaml -o net.bit");
    let rows = 3000;
    let mut random = Random(2);
    let x: Vec<u8> = (0..rows * 37).map(|_| (random.bits() & 1) as u8).collect();
    bench.array("x.npy", &Tensor::new(&[rows, 37], &x));
    let expected: Vec<f32> = x.chunks(37).flat_map(|row| scores(&net.outputs(row), 5, 3.0, 0.5)).collect();
    for set in kernels::available() {
        bench.ok(&format!("run net.bit --input x.npy --output y.npy --isa {}", set.name()));
        assert_eq!(bench.read("y.npy").to_vec::<f32>().unwrap(), expected, "{}", set.name());
    }
    bench.ok("run net.bit --input x.npy --output y.npy --threads 2");
    assert_eq!(bench.read("y.npy").to_vec::<f32>().unwrap(), expected);
    let text = bench.ok("verify net.yaml net.bit --samples 70").stdout;
    assert!(text.contains("max |difference| 0"), "{text}");
    bench.ok("bench net.bit --packed --batch 600 --seconds 0.01");
    bench.fails("bench mlp.yaml --packed", 2, &["`--packed` needs an input of bits"]);
}

#[test]
fn a_hundred_thousand_rows_of_every_width_equal_the_tables() {
    let rows = 100_000;
    for fan_in in 1..=6 {
        let bench = Bench::new();
        let net = Network::random(16, &[(24, fan_in), (20, fan_in)], fan_in as u64);
        net.write(&bench, "16", "bits", &[]);
        bench.ok("compile net.yaml -o net.bit");
        let mut random = Random(7);
        let x: Vec<u8> = (0..rows * 16).map(|_| (random.bits() & 1) as u8).collect();
        bench.array("x.npy", &Tensor::new(&[rows, 16], &x));
        let expected: Vec<u8> = x.chunks(16).flat_map(|row| net.outputs(row)).collect();
        bench.ok("run net.bit --input x.npy --output y.npy");
        assert_eq!(bench.read("y.npy").bytes(), expected, "{fan_in} inputs per node");
    }
}

#[test]
fn an_encoder_compares_only_what_the_network_reads() {
    let bench = Bench::new();
    let net = Network::random(24, &[(30, 4), (20, 4)], 5);
    let mut random = Random(3);
    // Equal thresholds of a feature, and one that nothing is above.
    let thresholds: Vec<f32> = (0..24)
        .map(|i| match i % 4 {
            1 => 0.25,
            2 => 0.25,
            3 if i == 7 => f32::INFINITY,
            _ => random.below(100) as f32 / 50.0 - 1.0,
        })
        .collect();
    net.write(
        &bench,
        "6\nencoder: {name: thermometer, thresholds: enc}",
        "{group_sum: {groups: 4}}",
        &[("enc", Tensor::new(&[6, 4], &thresholds))],
    );
    bench.ok("compile net.yaml -o net.bit");
    let values = [f32::NAN, -2.0, 0.25, 0.3, 0.0, -0.0, 1.0, f32::INFINITY, 0.24];
    let x: Vec<f32> = (0..700 * 6).map(|_| values[random.below(values.len())]).collect();
    bench.array("x.npy", &Tensor::new(&[700, 6], &x));
    let expected: Vec<f32> = x
        .chunks(6)
        .flat_map(|row| {
            let bits: Vec<u8> = (0..24).map(|i| u8::from(row[i / 4] > thresholds[i])).collect();
            scores(&net.outputs(&bits), 4, 1.0, 0.0)
        })
        .collect();
    for set in kernels::available() {
        bench.ok(&format!("run net.bit --input x.npy --output y.npy --isa {}", set.name()));
        assert_eq!(bench.read("y.npy").to_vec::<f32>().unwrap(), expected, "{}", set.name());
    }
    let ir = bench.ok("inspect net.bit --ir").stdout;
    assert!(ir.contains("netlist packed(") || ir.contains("netlist elided("), "{ir}");
    // What the artifact carries is a model again.
    bench.ok("verify net.yaml net.bit --input x.npy");
}

/// A DiffLUT model of difflogic nodes: two layers whose nodes choose two of their three bits.
fn difflogic(bench: &Bench) {
    let yaml = "model_type: feedforward\nnode_type: difflogic\nencoder_config: {name: thermometer, num_bits: 2}\n\
                node_input_dim: 3\nlayer_widths: [3, 2]\nnum_classes: 2\ninput_size: 2\nruntime: {output_tau: 2.0}\n";
    bench.write("gates.yaml", yaml.as_bytes());
    let mut tensors = vec![("encoder.thresholds".to_owned(), Tensor::new(&[2, 2], &[0.25f32, 0.75, 0.25, 0.75]))];
    let truth: Vec<f32> = (0..64).map(|i| ((i / 4) >> (i % 4) & 1) as f32).collect();
    for (layer, nodes, mapping) in
        [(0, 3, [[0i16, 1, 2], [1, 2, 3], [3, 0, 2]]), (1, 2, [[0, 1, 2], [2, 1, 0], [0; 3]])]
    {
        let reads: Vec<i16> = mapping[..nodes].iter().flatten().copied().collect();
        tensors.push((format!("layers.{layer}._mapping_indices"), Tensor::new(&[nodes, 3], &reads)));
        for node in 0..nodes {
            let at = |name: &str| format!("layers.{layer}.nodes.{node}.{name}");
            let mut weights = [0f32; 16];
            weights[[8, 6, 14, 9, 1][3 * layer + node]] = 3.0;
            tensors.push((at("weights"), Tensor::new(&[1, 16], &weights)));
            let indices = [[0i64, 1], [2, 0], [1, 2]][(layer + node) % 3];
            tensors.push((at("indices"), Tensor::new(&[1, 2], &indices)));
            tensors.push((at("truth_tables"), Tensor::new(&[16, 4], &truth)));
        }
    }
    bench.write("gates.safetensors", &safetensors(&tensors));
}

#[test]
fn real_valued_nodes_are_discretized_when_asked() {
    let bench = Bench::new();
    difflogic(&bench);
    // The weights beside the model are its own.
    bench.fails("compile gates.yaml -o gates.bit", 3, &["difflogic", "--discretize"]);
    bench.fails("compile gates.yaml --discretize -o gates.bit", 2, &["needs data", "--input"]);
    let x = [0.0f32, 0.0, 0.5, 0.0, 1.0, 0.5, 0.5, 1.0, 1.0, 1.0];
    bench.array("x.npy", &Tensor::new(&[5, 2], &x));
    let done = bench.ok("compile gates.yaml --discretize --input x.npy -o gates.bit");
    assert!(done.stderr.contains("is the same in"), "{done:?}");
    assert!(done.stderr.contains("of 5 rows"), "{done:?}");
    bench.ok("run gates.bit --input x.npy --output y.npy");
    bench.ok("run gates.yaml --discretize --input x.npy --output z.npy");
    bench.fails("run gates.bit --discretize", 2, &["gates.bit", "`--discretize` is for models"]);
    let found = bench.read("y.npy").to_vec::<f32>().unwrap();
    assert_eq!(found, bench.read("z.npy").to_vec::<f32>().unwrap());
    // Bit 2a + b of gate f is its answer: 8 is and, 6 exclusive-or, 14 or, 9 equality, 1 nor.
    let expected = x.chunks(2).flat_map(|row| {
        let bits: Vec<usize> = [0, 1].iter().flat_map(|&f| [0.25, 0.75].map(|t| usize::from(row[f] > t))).collect();
        let gate = |f: usize, a: usize, b: usize| f >> (2 * a + b) & 1;
        let h = [gate(8, bits[0], bits[1]), gate(6, bits[3], bits[1]), gate(14, bits[0], bits[2])];
        [gate(9, h[2], h[0]), gate(1, h[1], h[0])].map(|v| v as f32 / 2.0)
    });
    assert_eq!(found, expected.collect::<Vec<_>>());
    // Where there is nothing to discretize, the artifact is no approximation.
    bench.array("m.npy", &Tensor::splat(&[2, 20], 0.5f32));
    let done = bench.ok("compile mlp.yaml --discretize --input m.npy -o mlp.bit --json");
    assert!(done.stderr.contains("warning: mlp.yaml: `--discretize` changed nothing"), "{done:?}");
    assert!(done.stdout.contains("\"approximations\":[]") && done.stdout.contains("changed nothing"), "{done:?}");
}

#[test]
fn settings_belong_to_the_model_or_to_a_pass() {
    let bench = Bench::new();
    difflogic(&bench);
    bench.array("x.npy", &Tensor::new(&[1, 2], &[1.0f32, 1.0]));
    let done =
        bench.ok("compile gates.yaml --discretize --input x.npy --set output_tau=0.5 --set temperature=2 -o gates.bit");
    assert!(done.stderr.contains("`temperature` does not change inference"), "{done:?}");
    bench.ok("run gates.bit --input x.npy --output y.npy");
    bench.ok("run gates.yaml --discretize --set output_tau=0.5 --input x.npy --output z.npy");
    assert_eq!(bench.read("y.npy").bytes(), bench.read("z.npy").bytes());
    bench.ok("verify gates.yaml gates.bit --discretize --set output_tau=0.5");
    bench.fails("compile gates.yaml --discretize --input x.npy --set output_tau=x -o g.bit", 2, &["output_tau=x"]);
    bench.fails("compile mlp.yaml --set output_tau=2 -o g.bit", 2, &["no setting `output_tau`"]);
    bench.fails("run gates.bit --set output_tau=2", 2, &["an artifact has no setting"]);
    bench.fails("run gates.yaml --set check_samples=2", 2, &["no model has a setting `check_samples`"]);
    bench.ok("compile gates.yaml --discretize --input x.npy --set check_samples=100 -o g.bit");
    // By name, with the weights of that name.
    std::fs::create_dir(bench.path("zoo")).unwrap();
    for file in ["gates.yaml", "gates.safetensors"] {
        std::fs::rename(bench.path(file), bench.path("zoo").join(file)).unwrap();
    }
    assert!(bench.ok("list models --models zoo").stdout.contains("gates"));
    assert!(bench.ok("inspect gates --models zoo --discretize").stdout.contains("logic_net"));
    bench.ok("compile gates --models zoo --discretize --input x.npy -o named.bit");
    bench.fails("compile gatez --models zoo", 1, &["did you mean `gates`?"]);
}

#[test]
fn an_artifact_remembers_that_its_inputs_are_bits() {
    let bench = Bench::new();
    let gates = b"graph @gates(%x: f32[N, 3]) {
  const %left: i64[4] = dense [0, 1, 2, 0]
  const %right: i64[4] = dense [1, 2, 0, 1]
  %a = gather(%x, %left) {axis = 1}
  %b = gather(%x, %right) {axis = 1}
  %y = mul(%a, %b)
  return %y
}
";
    bench.write("gates.bir", gates);
    bench.ok("compile gates.bir --set binary_inputs=true --strip -o g.bit");
    bench.ok("verify gates.bir g.bit --batch 0,1,65 --isa all");
    assert!(bench.ok("inspect g.bit").stdout.contains("inputs are taken to hold only 0 and 1"));
    assert_eq!(bench.ok("inspect g.bit --json").json()["binary_inputs"], true);
    // Other values are another matter, and so is an artifact that takes floats for what they are.
    bench.array("x.npy", &Tensor::new(&[1, 3], &[0.25f32, 0.75, 3.0]));
    bench.fails("verify gates.bir g.bit --input x.npy", 1, &["does not compute what the model does"]);
    bench.ok("compile gates.bir -o f.bit");
    bench.ok("verify gates.bir f.bit --input x.npy");
    assert_eq!(bench.ok("inspect f.bit --json").json()["binary_inputs"], serde_json::Value::Null);
}
