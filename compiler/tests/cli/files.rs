//! Outputs are whole or absent, whatever goes wrong.

use bitc_ir::{DType, Tensor, random};

use crate::harness::{Bench, may_write_everywhere};

#[test]
fn a_failed_compilation_leaves_the_old_artifact() {
    let bench = Bench::new();
    bench.write("out.bit", b"old");
    bench.write("bad.yaml", b"model: bit_mlp\nn_layers: none\n");
    bench.fails("compile bad.yaml -o out.bit", 1, &["bad.yaml:2"]);
    assert_eq!(std::fs::read(bench.path("out.bit")).unwrap(), b"old");
    assert_eq!(bench.names("."), ["bad.yaml", "float.yaml", "mlp.yaml", "out.bit", "two.bir"]);
}

#[test]
fn places_that_cannot_be_written_are_named() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("taken.bit")).unwrap();
    bench.fails("compile mlp.yaml -o taken.bit", 1, &["taken.bit", "folder"]);
    bench.fails("compile mlp.yaml -o no/such/folder.bit", 1, &["no/such/folder.bit", "cannot write"]);
    // Before any pass runs.
    let early = bench.fails("compile mlp.yaml -o no/such/folder.bit --timings", 1, &["cannot write"]);
    assert!(!early.stderr.contains("simplify"), "{early:?}");
    bench.fails("export mlp.yaml -o no/such/m.onnx", 1, &["no/such/m.onnx", "cannot write"]);
    bench.ok("compile mlp.yaml");
    bench.fails("run mlp.bit --output no/such/y.npy", 1, &["no/such/y.npy"]);
    bench.fails("run mlp.bit --output mlp.yaml", 1, &["mlp.yaml"]);
    bench.fails("compile mlp.yaml --dump-dir mlp.bit", 1, &["mlp.bit"]);
    assert!(bench.names(".").iter().all(|n| !n.ends_with(".tmp")));
}

#[cfg(unix)]
#[test]
fn a_folder_without_permission_stays_as_it_is() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new();
    let closed = bench.path("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::write(closed.join("out.bit"), b"old").unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o555)).unwrap();
    if may_write_everywhere(&closed) {
        // Permissions do not bind this user, so the file is replaced, and whole.
        bench.ok("compile mlp.yaml -o closed/out.bit");
        assert!(std::fs::read(closed.join("out.bit")).unwrap().starts_with(b"BITC"));
    } else {
        bench.fails("compile mlp.yaml -o closed/out.bit", 1, &["closed/out.bit"]);
        assert_eq!(std::fs::read(closed.join("out.bit")).unwrap(), b"old");
    }
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(bench.names("closed"), ["out.bit"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error() {
    let bench = Bench::new();
    bench.fails("compile mlp.yaml --emit bit -o /dev/full", 1, &["/dev/full", "cannot write"]);
    let mut command = bench.command("list ops");
    command.stdout(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("standard output"));
}

#[test]
fn standard_output_carries_the_result_alone() {
    let bench = Bench::new();
    bench.ok("compile mlp.yaml");
    let artifact = bench.command("compile mlp.yaml -o - -v").output().unwrap();
    assert_eq!(artifact.stdout, std::fs::read(bench.path("mlp.bit")).unwrap());
    bench.array("x.npy", &random::tensor(DType::F32, &[2, 20], 1));
    bench.ok("run mlp.bit --input x.npy --output y.npy");
    let array = bench.command("run mlp.bit --input x.npy --output -").output().unwrap();
    assert_eq!(array.stdout, std::fs::read(bench.path("y.npy")).unwrap());
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let bench = Bench::new();
    let mut command = bench.command("list ops");
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.stderr.is_empty() && output.status.success(), "{output:?}");
}

#[test]
fn the_input_is_not_written_over() {
    let bench = Bench::new();
    bench.ok("compile float.yaml -o m.bit");
    let before = std::fs::read(bench.path("m.bit")).unwrap();
    bench.fails("export m.bit -o m.bit", 2, &["the output is the input"]);
    bench.fails("export m.bit -o ./m.bit", 2, &["the output is the input"]);
    assert_eq!(std::fs::read(bench.path("m.bit")).unwrap(), before);
    bench.ok("export m.bit -o m.onnx");
    bench.fails("compile m.onnx -o m.onnx", 2, &["the output is the input"]);
}

#[test]
fn faults_are_named_where_the_model_has_them() {
    let bench = Bench::new();
    let model =
        "model: sequential\ninput: {name: x, shape: [N, 2]}\nlayers:\n- linear: {name: a, out: 3}\nweights: w.pt\n";
    bench.write("m.yaml", model.as_bytes());
    bench.fails("compile m.yaml", 1, &["m.yaml:5:10: there is no file `w.pt`", "--weights FILE"]);
    bench.write("two.bir", b"graph @g(%x: f32[N]) {\n  %y = relu(%x)\n  return %y, %y\n}\n");
    bench.fails("compile two.bir", 1, &["two.bir:3:14: two outputs are called `y`"]);
    let trainable = b"frozen graph @g(%x: f32[N, 2]) {\n  param %w: f32[1, 2] = dense [1, 2]\n  %y = linear(%x, %w)\n  return %y\n}\n";
    bench.write("two.bir", trainable);
    bench.fails("compile two.bir", 1, &["two.bir: `%w` is still trainable"]);
}

#[test]
fn standard_input_takes_the_place_of_a_file() {
    let bench = Bench::new();
    let model = std::fs::read(bench.path("mlp.yaml")).unwrap();
    bench.ok("compile mlp.yaml");
    let done = bench.fed("compile - -o piped.bit", &model);
    assert_eq!(done.code, 0, "{done:?}");
    let artifact = std::fs::read(bench.path("mlp.bit")).unwrap();
    assert_eq!(bench.ok("run piped.bit").stdout, bench.ok("run mlp.bit").stdout);
    assert_eq!(bench.fed("run -", &artifact).stdout, bench.ok("run mlp.bit").stdout);
    // It is read once, however often it is asked for.
    assert_eq!(bench.fed("compare - mlp.bit --seconds 0", &model).code, 0);
    let printed = bench.fed("opt - --passes simplify", &std::fs::read(bench.path("two.bir")).unwrap());
    assert_eq!((printed.code, printed.stdout), (0, bench.ok("opt two.bir --passes simplify").stdout));
    bench.array("x.npy", &Tensor::splat(&[3, 20], 0.5f32));
    let rows = bench.fed("run mlp.bit --input -", &std::fs::read(bench.path("x.npy")).unwrap());
    assert!(rows.stdout.contains("f32[3, 5]"), "{rows:?}");
    let nameless = bench.fed("compile -", &model);
    assert!(nameless.code == 2 && nameless.stderr.contains("-o OUT"), "{nameless:?}");
    let empty = bench.fed("run -", b"");
    assert!(empty.code == 1 && empty.stderr.starts_with("error: -: "), "{empty:?}");
}
