//! A folder with models and the binary to run in it.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use bitc_ir::Tensor;
use serde_json::Value;
use tempfile::TempDir;

/// A ternary network with random weights.
pub(crate) const MLP: &str = "model: bit_mlp\nn_layers: 3\nin_channels: 20\nhidden_dim: 24\nout_channels: 5\n\
    quant: {semantics: bitlab_head, activation_dtype: int8}\nweights: {random: 3}\n";

/// A float network with a normalisation to fold.
pub(crate) const FLOAT: &str = "model: sequential\ninput: {name: x, shape: [N, 6]}\nlayers:\n\
    - linear: {name: a, out: 8}\n- batch_norm: {name: n}\n- relu: {}\n- linear: {name: b, out: 3}\nweights: {random: 4}\n";

/// Two inputs and two outputs, in text IR.
pub(crate) const TWO: &str = "graph @two(%a: f32[N, 2], %b: f32[N, 2]) {\n  %sum = add(%a, %b) : f32[N, 2]\n  \
    %product = mul(%a, %b) : f32[N, 2]\n  return %sum, %product\n}\n";

/// A folder of its own for one test.
pub(crate) struct Bench {
    dir: TempDir,
}

/// What a run of the binary left.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Bench {
    /// A folder with `mlp.yaml`, `float.yaml` and `two.bir`.
    pub(crate) fn new() -> Self {
        let bench = Self { dir: tempfile::tempdir().unwrap() };
        bench.write("mlp.yaml", MLP.as_bytes());
        bench.write("float.yaml", FLOAT.as_bytes());
        bench.write("two.bir", TWO.as_bytes());
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn array(&self, name: &str, tensor: &Tensor) {
        self.write(name, &bitc::npy::encode(tensor));
    }

    pub(crate) fn read(&self, name: &str) -> Tensor {
        bitc::npy::read(&self.path(name)).unwrap()
    }

    /// The names in a folder, sorted.
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(folder)).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bitc"));
        command.current_dir(self.dir.path()).args(line.split_whitespace()).stdin(Stdio::null());
        command.env_remove("BITC_MODELS");
        command
    }

    /// Runs the binary with arguments that are separated by spaces.
    pub(crate) fn bitc(&self, line: &str) -> Done {
        Self::checked(self.command(line).output().unwrap())
    }

    /// As [`Bench::bitc`], with bytes on standard input.
    pub(crate) fn fed(&self, line: &str, bytes: &[u8]) -> Done {
        let mut command = self.command(line);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Who refuses the command line leaves without having read.
        let written = child.stdin.take().unwrap().write_all(bytes);
        assert!(written.as_ref().err().is_none_or(|e| e.kind() == ErrorKind::BrokenPipe), "{written:?}");
        Self::checked(child.wait_with_output().unwrap())
    }

    fn checked(output: Output) -> Done {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("everything printed is UTF-8");
        let code = output.status.code().expect("the process was not killed by a signal");
        let done = Done { code, stdout: text(output.stdout), stderr: text(output.stderr) };
        let control = |c: char| c.is_control() && c != '\n';
        assert!(!done.stderr.contains(control), "control characters: {done:?}");
        assert!(!done.stderr.contains("panicked") && !done.stderr.contains("RUST_BACKTRACE"), "{done:?}");
        done
    }

    /// As [`Bench::bitc`], and it must succeed.
    pub(crate) fn ok(&self, line: &str) -> Done {
        let done = self.bitc(line);
        assert_eq!(done.code, 0, "bitc {line}: {done:?}");
        done
    }

    /// As [`Bench::bitc`], and it must fail like this, with all these texts on standard error.
    pub(crate) fn fails(&self, line: &str, code: i32, texts: &[&str]) -> Done {
        let done = self.bitc(line);
        assert_eq!(done.code, code, "bitc {line}: {done:?}");
        assert!(done.stderr.starts_with("error: "), "bitc {line}: {done:?}");
        for text in texts {
            assert!(done.stderr.contains(text), "bitc {line}: no `{text}` in {}", done.stderr);
        }
        done
    }
}

impl Done {
    /// The JSON object on standard output.
    pub(crate) fn json(&self) -> Value {
        let value: Value = serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}", self.stdout));
        assert_eq!(value["schema"], 1);
        value
    }
}

/// Whether this process may write where it should not: tests about permissions prove nothing then.
pub(crate) fn may_write_everywhere(folder: &Path) -> bool {
    let probe = folder.join("probe");
    let wrote = std::fs::write(&probe, b"x").is_ok();
    if wrote {
        std::fs::remove_file(&probe).unwrap();
    }
    wrote
}
