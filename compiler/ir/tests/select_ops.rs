//! Operations that move, pick and compare elements, by small graphs in the text form.

use bitc_ir::eval::eval;
use bitc_ir::text::{NoReferences, parse};
use bitc_ir::{DType, Tensor};

/// Evaluates a graph without inputs.
fn run(body: &str) -> Tensor {
    let text = format!("graph @g() {{\n{body}\n}}");
    let graph = parse(&text, &NoReferences).unwrap_or_else(|faults| panic!("{text}\n{faults:?}"));
    eval(&graph, &[]).unwrap().remove(0)
}

/// The first fault of a graph that is refused when it is parsed or evaluated.
fn refused(body: &str) -> String {
    match parse(&format!("graph @g() {{\n{body}\n}}"), &NoReferences) {
        Ok(graph) => eval(&graph, &[]).unwrap_err().to_string(),
        Err(faults) => faults[0].to_string(),
    }
}

const X: &str = "const %x: i32[2, 3] = dense [0, 1, 2, 3, 4, 5]";

fn ints(dims: &[usize], values: &[i32]) -> Tensor {
    Tensor::new(dims, values)
}

#[test]
fn slice_takes_ranges_with_steps() {
    let y = run(&format!("{X} %y = slice(%x) {{axes = [1], starts = [0], ends = [3], steps = [2]}} return %y"));
    assert_eq!(y, ints(&[2, 2], &[0, 2, 3, 5]));
    let y = run(&format!("{X} %y = slice(%x) {{axes = [0, 1], starts = [1, 1], ends = [2, 1]}} return %y"));
    assert_eq!(y, ints(&[1, 0], &[]));
    let fault = refused(&format!("{X} %y = slice(%x) {{axes = [1], starts = [0], ends = [4]}} return %y"));
    assert!(fault.contains("positions 0 to 4 along axis 1"), "{fault}");
    let fault = refused(&format!("{X} %y = slice(%x) {{axes = [1], starts = [0], ends = [1, 2]}} return %y"));
    assert!(fault.contains("one per axis"), "{fault}");
}

#[test]
fn reverse_turns_axes_around() {
    let y = run(&format!("{X} %y = reverse(%x) {{axes = [1]}} return %y"));
    assert_eq!(y, ints(&[2, 3], &[2, 1, 0, 5, 4, 3]));
}

#[test]
fn gather_takes_slices_and_counts_from_the_end() {
    let y = run(&format!("{X} const %i: i64[2] = dense [-1, 0] %y = gather(%x, %i) {{axis = 1}} return %y"));
    assert_eq!(y, ints(&[2, 2], &[2, 0, 5, 3]));
    let y = run(&format!("{X} const %i: i64 = dense [1] %y = gather(%x, %i) return %y"));
    assert_eq!(y, ints(&[3], &[3, 4, 5]));
    let fault = refused(&format!("{X} const %i: i64[1] = dense [2] %y = gather(%x, %i) return %y"));
    assert!(fault.contains("index 2 lies outside"), "{fault}");
}

#[test]
fn gather_elements_follows_its_indices() {
    let y =
        run(&format!("{X} const %i: i64[2, 1] = dense [2, -3] %y = gather_elements(%x, %i) {{axis = 1}} return %y"));
    assert_eq!(y, ints(&[2, 1], &[2, 3]));
}

#[test]
fn gather_nd_indexes_several_axes() {
    let y = run(&format!("{X} const %i: i64[2, 2] = dense [0, 2, 1, 0] %y = gather_nd(%x, %i) return %y"));
    assert_eq!(y, ints(&[2], &[2, 3]));
    let y = run(&format!("{X} const %i: i64[2, 1] = dense [2, 0] %y = gather_nd(%x, %i) {{batch_dims = 1}} return %y"));
    assert_eq!(y, ints(&[2], &[2, 3]));
}

#[test]
fn scatter_replaces_or_combines() {
    let update = "const %i: i64[2, 1] = dense [0, 0] const %u: i32[2, 1] = dense [9, 8]";
    let y = run(&format!("{X} {update} %y = scatter_elements(%x, %i, %u) {{axis = 1}} return %y"));
    assert_eq!(y, ints(&[2, 3], &[9, 1, 2, 8, 4, 5]));
    let update = "const %i: i64[2, 2] = dense [0, 1, 0, 1] const %u: i32[2] = dense [10, 20]";
    let y = run(&format!("{X} {update} %y = scatter_nd(%x, %i, %u) {{combine = \"add\"}} return %y"));
    assert_eq!(y, ints(&[2, 3], &[0, 31, 2, 3, 4, 5]));
    let float = "const %x: f32[2] = dense [1.0, 2.0] const %i: i64[1] = dense [1] const %u: f32[1] = dense [0.5]";
    let y = run(&format!("{float} %y = scatter_elements(%x, %i, %u) {{combine = \"min\"}} return %y"));
    assert_eq!(y, Tensor::new(&[2], &[1.0f32, 0.5]));
}

#[test]
fn expand_repeats_axes_of_one() {
    let y = run("const %x: i32[2, 1] = dense [1, 2] %y = expand(%x) {shape = [2, 2, 2]} return %y");
    assert_eq!(y, ints(&[2, 2, 2], &[1, 1, 2, 2, 1, 1, 2, 2]));
}

#[test]
fn comparisons_give_truth_values() {
    let bools = |values: &[u8]| Tensor::with_dtype(DType::Bool, &[values.len()], values);
    let pair = "const %a: f32[3] = dense [1.0, 2.0, nan] const %b: f32[3] = dense [2.0, 2.0, nan]";
    for (name, expect) in [
        ("equal", [0, 1, 0]),
        ("not_equal", [1, 0, 1]),
        ("less", [1, 0, 0]),
        ("less_equal", [1, 1, 0]),
        ("greater", [0, 0, 0]),
        ("greater_equal", [0, 1, 0]),
    ] {
        assert_eq!(run(&format!("{pair} %y = {name}(%a, %b) return %y")), bools(&expect), "{name}");
    }
}

#[test]
fn logic_works_bit_by_bit() {
    let pair = "const %a: u8[2] = dense [12, 255] const %b: u8[2] = dense [10, 8]";
    for (name, expect) in
        [("and", [8u8, 8]), ("or", [14, 255]), ("xor", [6, 247]), ("shift_left", [0, 0]), ("shift_right", [0, 0])]
    {
        assert_eq!(run(&format!("{pair} %y = {name}(%a, %b) return %y")), Tensor::new(&[2], &expect), "{name}");
    }
    let signed = "const %a: i8[4] = dense [-8, 4, -1, -8] const %b: i8[4] = dense [1, 8, 7, -1]";
    assert_eq!(run(&format!("{signed} %y = shift_left(%a, %b) return %y")), Tensor::new(&[4], &[-16i8, 0, -128, 0]));
    assert_eq!(run(&format!("{signed} %y = shift_right(%a, %b) return %y")), Tensor::new(&[4], &[-4i8, 0, -1, -1]));
    let fault = refused("const %a: bool[1] = dense [1] %y = shift_left(%a, %a) return %y");
    assert!(fault.contains("integers of one type"), "{fault}");
}

#[test]
fn where_and_clip_choose() {
    let c = "const %c: bool[2, 1] = dense [1, 0] const %a: i32 = dense [7]";
    assert_eq!(run(&format!("{X} {c} %y = where(%c, %x, %a) return %y")), ints(&[2, 3], &[0, 1, 2, 7, 7, 7]));
    let bounds = "const %low: i32 = dense [1] const %high: i32[1] = dense [3]";
    assert_eq!(run(&format!("{X} {bounds} %y = clip(%x, %low, %high) return %y")), ints(&[2, 3], &[1, 1, 2, 3, 3, 3]));
    assert_eq!(run(&format!("{X} {bounds} %y = clip(%x, _, %high) return %y")), ints(&[2, 3], &[0, 1, 2, 3, 3, 3]));
    let y =
        run("const %x: f32[2] = dense [nan, -5.0] const %l: f32 = dense [-1.0] %y = clip(%x, %l) return %y").to_f64();
    assert!(y[0].is_nan() && y[1] == -1.0, "{y:?}");
}

#[test]
fn shape_gives_the_sizes_of_axes() {
    let y = run(&format!("{X} %y = shape(%x) {{start = 0, end = 2}} return %y"));
    assert_eq!(y, Tensor::new(&[2], &[2i64, 3]));
}

#[test]
fn iota_counts() {
    assert_eq!(run("%y = iota() {count = [3]} return %y"), Tensor::new(&[3], &[0i64, 1, 2]));
}

#[test]
fn pad_fills_mirrors_and_repeats() {
    let x = "const %x: i32[4] = dense [1, 2, 3, 4] const %v: i32 = dense [9]";
    let pad =
        |attrs: &str, args: &str| run(&format!("{x} %y = pad({args}) {{{attrs}}} return %y")).to_vec::<i32>().unwrap();
    assert_eq!(pad("pads = [1, 2]", "%x, %v"), [9, 1, 2, 3, 4, 9, 9]);
    assert_eq!(pad("pads = [1, 0]", "%x"), [0, 1, 2, 3, 4]);
    assert_eq!(pad("pads = [2, 2], mode = \"reflect\"", "%x"), [3, 2, 1, 2, 3, 4, 3, 2]);
    assert_eq!(pad("pads = [2, 1], mode = \"edge\"", "%x"), [1, 1, 1, 2, 3, 4, 4]);
    assert_eq!(pad("pads = [1, 2], mode = \"wrap\"", "%x"), [4, 1, 2, 3, 4, 1, 2]);
}

#[test]
fn cumulation_runs_both_ways() {
    let x = "const %x: i32[3] = dense [2, 3, 4]";
    let all = |name: &str, attrs: &str| {
        run(&format!("{x} %y = {name}(%x) {{axis = 0{attrs}}} return %y")).to_vec::<i32>().unwrap()
    };
    assert_eq!(all("cumsum", ""), [2, 5, 9]);
    assert_eq!(all("cumsum", ", exclusive = true"), [0, 2, 5]);
    assert_eq!(all("cumsum", ", reverse = true"), [9, 7, 4]);
    assert_eq!(all("cumprod", ", exclusive = true, reverse = true"), [12, 4, 1]);
}

#[test]
fn top_k_sorts_and_names_positions() {
    let x = "const %x: f32[5] = dense [1.0, 3.0, 2.0, 3.0, 0.0]";
    let y = run(&format!("{x} %v, %i = top_k(%x) {{k = 3}} return %i"));
    assert_eq!(y, Tensor::new(&[3], &[1i64, 3, 2]));
    let y = run(&format!("{x} %v, %i = top_k(%x) {{k = 2, largest = false}} return %v"));
    assert_eq!(y, Tensor::new(&[2], &[0.0f32, 1.0]));
}

#[test]
fn einsum_follows_its_equation() {
    let ab = "const %a: i32[2, 2] = dense [1, 2, 3, 4] const %b: i32[2, 2] = dense [5, 6, 7, 8]";
    let all =
        |equation: &str, args: &str| run(&format!("{ab} %y = einsum({args}) {{equation = \"{equation}\"}} return %y"));
    assert_eq!(all("ij,jk->ik", "%a, %b"), ints(&[2, 2], &[19, 22, 43, 50]));
    assert_eq!(all("ij,jk", "%a, %b"), ints(&[2, 2], &[19, 22, 43, 50]));
    assert_eq!(all("ii->i", "%a"), ints(&[2], &[1, 4]));
    assert_eq!(all("ij->", "%a"), ints(&[], &[10]));
    assert_eq!(all("...i,...i->...", "%a, %b"), ints(&[2], &[17, 53]));
    assert_eq!(all("ij->ji", "%a"), ints(&[2, 2], &[1, 3, 2, 4]));
    let fault = refused(&format!("{ab} %y = einsum(%a, %b) {{equation = \"ij,jkl->ik\"}} return %y"));
    assert!(fault.contains("inputs that fit"), "{fault}");
}

#[test]
fn remainders_follow_a_sign() {
    let ab = "const %a: i32[2] = dense [-7, 7] const %b: i32[2] = dense [3, -3]";
    assert_eq!(run(&format!("{ab} %y = mod(%a, %b) return %y")), ints(&[2], &[2, -2]));
    assert_eq!(run(&format!("{ab} %y = rem(%a, %b) return %y")), ints(&[2], &[-1, 1]));
}
