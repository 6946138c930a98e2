//! What is emitted for other tools computes what the tables compute: C compiled and run, Verilog and BLIF simulated.

#![expect(clippy::print_stderr, reason = "a test that lacks a compiler says so")]

use std::collections::HashMap;
use std::process::Command;

use bitc_ir::Tensor;

use crate::harness::Bench;
use crate::logic::{Network, Random};

/// A BLIF model of `.names` only.
struct Blif {
    outputs: Vec<String>,
    /// Inputs, output, and the rows of ones.
    tables: Vec<(Vec<String>, String, Vec<String>)>,
}

impl Blif {
    fn parse(text: &str) -> Self {
        let joined = text.replace("\\\n", " ");
        let mut model = Self { outputs: Vec::new(), tables: Vec::new() };
        for line in joined.lines().map(|l| l.split('#').next().unwrap_or("").trim()).filter(|l| !l.is_empty()) {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            match words[0].as_str() {
                ".model" | ".inputs" | ".end" => {}
                ".outputs" => model.outputs = words[1..].to_vec(),
                ".names" => {
                    let (output, inputs) = words[1..].split_last().unwrap();
                    model.tables.push((inputs.to_vec(), output.clone(), Vec::new()));
                }
                keyword if keyword.starts_with('.') => panic!("{line}"),
                _ => {
                    assert_eq!(words.last().map(String::as_str), Some("1"), "{line}");
                    let row = if words.len() == 2 { words[0].clone() } else { String::new() };
                    model.tables.last_mut().unwrap().2.push(row);
                }
            }
        }
        model
    }

    fn run(&self, x: &[u8]) -> Vec<u8> {
        let mut values: HashMap<&str, bool> = HashMap::new();
        let names: Vec<String> = (0..x.len()).map(|i| format!("x{i}")).collect();
        values.extend(names.iter().map(String::as_str).zip(x.iter().map(|&v| v != 0)));
        for (inputs, output, rows) in &self.tables {
            let now: String = inputs.iter().map(|i| if values[i.as_str()] { '1' } else { '0' }).collect();
            values.insert(output, rows.contains(&now));
        }
        self.outputs.iter().map(|o| u8::from(values[o.as_str()])).collect()
    }
}

/// The assignments of a Verilog module, in order; expressions of `~ & | ^` and parentheses.
struct Verilog(Vec<(String, String)>);

impl Verilog {
    fn module(text: &str, name: &str) -> Self {
        let start = text.find(&format!("module {name}(")).unwrap();
        let body = &text[start..start + text[start..].find("endmodule").unwrap()];
        let assignments =
            body.lines().filter_map(|l| l.trim().strip_prefix("assign ")?.strip_suffix(';')?.split_once(" = "));
        Self(assignments.map(|(to, value)| (to.to_owned(), value.to_owned())).collect())
    }

    fn run(&self, x: &[u8], n_outputs: usize) -> Vec<u8> {
        let mut values: HashMap<String, bool> = HashMap::from([("1'b0".into(), false), ("1'b1".into(), true)]);
        values.extend(x.iter().enumerate().map(|(i, &v)| (format!("x[{i}]"), v != 0)));
        for (to, value) in &self.0 {
            let mut rest = value.as_str();
            let result = expression(&mut rest, &values);
            assert_eq!(rest, "", "{value}");
            values.insert(to.clone(), result);
        }
        (0..n_outputs).map(|i| u8::from(values[&format!("y[{i}]")])).collect()
    }
}

/// A term, or terms joined by one operator; everything else is in parentheses.
fn expression(rest: &mut &str, values: &HashMap<String, bool>) -> bool {
    let mut result = term(rest, values);
    loop {
        *rest = rest.trim_start();
        let Some(operator) = rest.chars().next().filter(|c| "&|^".contains(*c)) else { return result };
        *rest = rest[1..].trim_start();
        let next = term(rest, values);
        result = match operator {
            '&' => result & next,
            '|' => result | next,
            _ => result ^ next,
        };
    }
}

fn term(rest: &mut &str, values: &HashMap<String, bool>) -> bool {
    if let Some(after) = rest.strip_prefix('~') {
        *rest = after;
        return !term(rest, values);
    }
    if let Some(after) = rest.strip_prefix('(') {
        *rest = after;
        let value = expression(rest, values);
        *rest = rest.strip_prefix(')').expect("a closing parenthesis");
        return value;
    }
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "[]'_".contains(c))).unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    *rest = after;
    values[name]
}

fn emitted(bench: &Bench, format: &str) -> String {
    bench.ok(&format!("compile net.yaml --emit {format} -o -")).stdout
}

#[test]
fn verilog_and_blif_compute_the_tables() {
    for (fan_in, seed) in [(2, 1), (3, 2), (6, 3)] {
        let bench = Bench::new();
        let net = Network::random(11, &[(14, fan_in), (13, fan_in), (9, fan_in)], seed);
        net.write(&bench, "11", "bits", &[]);
        let verilog = emitted(&bench, "verilog");
        let name = verilog.split(['(', ' ']).nth(1).unwrap().to_owned();
        let (verilog, blif) = (Verilog::module(&verilog, &name), Blif::parse(&emitted(&bench, "blif")));
        let mut random = Random(seed);
        for _ in 0..300 {
            let x: Vec<u8> = (0..11).map(|_| (random.bits() & 1) as u8).collect();
            let want = net.outputs(&x);
            assert_eq!(verilog.run(&x, 9), want, "Verilog, {fan_in} inputs");
            assert_eq!(blif.run(&x), want, "BLIF, {fan_in} inputs");
        }
    }
}

#[test]
fn verilog_counts_the_groups() {
    let bench = Bench::new();
    Network::random(6, &[(10, 2)], 4).write(&bench, "6", "{group_sum: {groups: 5, tau: 2.0}}", &[]);
    let text = emitted(&bench, "verilog");
    assert!(text.contains("assign counts[1:0] = y[0] + y[1];"), "{text}");
    assert!(
        text.contains("assign counts[9:8] = y[8] + y[9];") && text.contains("score = (count + 0.0) / 2.0"),
        "{text}"
    );
}

/// Compiles C with a main that runs samples from standard input; `None` without a compiler.
fn compiled(bench: &Bench, main: &str) -> Option<std::path::PathBuf> {
    bench.ok("compile net.yaml -o net.c");
    bench.write("main.c", main.as_bytes());
    let mut cc = Command::new("cc");
    cc.args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-O1", "net.c", "main.c", "-o", "net"]);
    match cc.current_dir(bench.path("")).output() {
        Err(_) => {
            eprintln!("no C compiler: nothing to run");
            None
        }
        Ok(done) => {
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            Some(bench.path("net"))
        }
    }
}

#[test]
fn c_computes_scores_from_floats() {
    let bench = Bench::new();
    let net = Network::random(24, &[(40, 4), (700, 6), (30, 3)], 6);
    let thresholds: Vec<f32> = (0..24).map(|i| (i * 7 % 11) as f32 / 4.0 - 1.0).collect();
    let head = "8\nencoder: {name: thermometer, thresholds: enc}";
    net.write(
        &bench,
        head,
        "{group_sum: {groups: 4, tau: 3.0, beta: 0.5}}",
        &[("enc", Tensor::new(&[8, 3], &thresholds))],
    );
    bench.ok("compile net.yaml --emit blif -o net.blif");
    let blif = std::fs::read_to_string(bench.path("net.blif")).unwrap();
    assert!(blif.contains("# x0: value 0 > ") && blif.contains("score = (ones of a group + 0.5) / 3.0"), "{blif}");
    let c = emitted(&bench, "c");
    let name = c.split("\nvoid ").last().unwrap().split('(').next().unwrap().to_owned();
    let main = format!(
        "#include <stdio.h>\nvoid {name}(const float *x, float *y);\nint main(void) {{\n  float x[8], y[4];\n  \
         while (fread(x, 4, 8, stdin) == 8) {{ {name}(x, y); fwrite(y, 4, 4, stdout); }}\n  return 0;\n}}\n"
    );
    let Some(program) = compiled(&bench, &main) else { return };
    let mut random = Random(9);
    let x: Vec<f32> = (0..200 * 8).map(|_| random.below(200) as f32 / 50.0 - 2.0).collect();
    let input = Tensor::new(&[200, 8], &x);
    std::fs::write(bench.path("x.raw"), input.bytes()).unwrap();
    let input_file = std::fs::File::open(bench.path("x.raw")).unwrap();
    let done = Command::new(program).stdin(input_file).output().unwrap();
    bench.array("x.npy", &input);
    bench.ok("run net.yaml --input x.npy --output y.npy");
    assert_eq!(done.stdout, bench.read("y.npy").bytes());
}

#[test]
fn only_networks_are_emitted() {
    let bench = Bench::new();
    for format in ["c", "verilog", "blif"] {
        bench.fails(&format!("compile mlp.yaml --emit {format} -o -"), 3, &["is for graphs of one logic network"]);
    }
}
