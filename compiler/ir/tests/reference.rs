//! `OPS.md` is written from the table of operations; this test keeps it true. `BITC_BLESS=1` writes it anew.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use bitc_ir::ops::OpInfo;
use bitc_ir::{Attr, AttrError, Attrs, Op};

/// An attribute: name, kind, default or "required", meaning.
type Row = (&'static str, &'static str, &'static str, &'static str);

const ACT: Row = (
    "act",
    "word",
    "`none`",
    "activation of the result: `none`, `relu`, `relu2`, `gelu`, `gelu_tanh`, `silu`, `sigmoid`, `tanh`",
);
const STRIDES: Row = ("strides", "two sizes", "`[1, 1]`", "steps down and right");
const PADS: Row = ("pads", "four sizes", "`[0, 0, 0, 0]`", "padding at the top, left, bottom and right");
const DILATIONS: Row = ("dilations", "two sizes", "`[1, 1]`", "distances between the elements of the window");
const GROUPS: Row = ("groups", "integer", "1", "groups of channels that do not see each other");
const KERNEL: Row = ("kernel", "two sizes", "required", "height and width of the window");
const CEIL: Row = ("ceil", "bool", "`false`", "whether a window that reaches beyond the padded input counts");
const KEEP_AXES: Row = ("keep", "bool", "`true`", "whether reduced axes stay with size 1");
const KEEP_AXIS: Row = ("keep", "bool", "`false`", "whether the axis stays with size 1");
const LAST: Row = ("last", "bool", "`false`", "whether the last of equal elements is taken");
const COMBINE: Row = ("combine", "word", "`replace`", "what an update does: `replace`, `add`, `mul`, `max`, `min`");
const SHAPE: Row = ("shape", "dimensions", "required", "the dimensions of the result, which may be symbolic");

const fn axis(default: &'static str) -> Row {
    ("axis", "integer", default, "the axis; negative counts from the end")
}

const fn eps(default: &'static str) -> Row {
    ("eps", "float", default, "added under the root")
}

/// The attributes of the operations that have any.
const GROUP: Row = ("group", "integer", "0", "how many neighbouring inputs share a scale; 0 for all");

const ATTRS: &[(&str, &[Row])] = &[
    ("linear", &[ACT]),
    (
        "quantize_act",
        &[
            (
                "over",
                "word",
                "`row`",
                "which elements share a scale: `row` (last axis), `sample`, `channel` (axis 1), `tensor`",
            ),
            (
                "form",
                "word",
                "`divide`",
                "`divide`: x / (m / L); `reciprocal`: x * ((1 / m) * L); `quotient`: x * (L / m); `integer`: x as it is",
            ),
            (
                "floor",
                "word",
                "`none`",
                "`none`, `add` (eps to the divisor), `clip_scale` (scale at least eps), `clip_max` (m at least eps)",
            ),
            ("eps", "float", "0", "the number that `floor` uses"),
            ("levels", "integer", "127", "L, what the largest magnitude m becomes"),
            ("low", "integer", "-128", "the smallest integer"),
            ("high", "integer", "127", "the largest integer"),
        ],
    ),
    (
        "ternarize",
        &[
            ("per", "word", "`tensor`", "which weights share a scale: `tensor`, `row` (first axis)"),
            (
                "rule",
                "word",
                "`add`",
                "`add`: round(w / (m + eps)), scale m; `clip_reciprocal`: round(w * r), r = 1 / max(m, eps), scale 1 / r",
            ),
            ("eps", "float", "1e-6", "the number that `rule` uses"),
        ],
    ),
    ("bit_linear", &[ACT, GROUP]),
    ("dequantize", &[GROUP]),
    ("conv2d", &[STRIDES, PADS, DILATIONS, GROUPS, ACT]),
    ("bit_conv2d", &[STRIDES, PADS, DILATIONS, GROUPS, ACT]),
    ("cast", &[("to", "element type", "required", "the element type of the result")]),
    ("bit_cast", &[("to", "element type", "required", "the element type of the result")]),
    ("batch_norm", &[eps("1e-5")]),
    ("layer_norm", &[axis("-1"), eps("1e-5")]),
    ("rms_norm", &[axis("-1"), eps("1e-5")]),
    ("softmax", &[axis("-1")]),
    ("log_softmax", &[axis("-1")]),
    ("max_pool2d", &[KERNEL, STRIDES, PADS, DILATIONS, CEIL]),
    (
        "avg_pool2d",
        &[
            KERNEL,
            STRIDES,
            PADS,
            DILATIONS,
            CEIL,
            ("count_padding", "bool", "`false`", "whether padding counts in the divisor"),
        ],
    ),
    ("reduce_sum", REDUCE),
    ("reduce_mean", REDUCE),
    ("reduce_max", REDUCE),
    ("reduce_min", REDUCE),
    ("reduce_prod", REDUCE),
    ("argmax", &[axis("-1"), KEEP_AXIS, LAST]),
    ("argmin", &[axis("-1"), KEEP_AXIS, LAST]),
    ("reshape", &[SHAPE]),
    ("flatten", &[("axis", "integer", "1", "where the columns begin; negative counts from the end")]),
    ("transpose", &[("perm", "integers", "required", "which axis of x each axis of the result is")]),
    ("expand", &[SHAPE]),
    ("concat", &[axis("required")]),
    (
        "slice",
        &[
            ("axes", "integers", "`[]`", "the sliced axes, ascending"),
            ("starts", "dimensions", "required", "the first positions"),
            ("ends", "dimensions", "required", "one past the last positions"),
            ("steps", "integers", "ones", "the steps, at least 1"),
        ],
    ),
    ("reverse", &[("axes", "integers", "`[]`", "the axes, each once")]),
    ("gather", &[axis("0")]),
    ("gather_elements", &[axis("0")]),
    ("gather_nd", &[("batch_dims", "integer", "0", "leading axes that x and `indices` share")]),
    ("scatter_elements", &[axis("0"), COMBINE]),
    ("scatter_nd", &[COMBINE]),
    (
        "shape",
        &[("start", "integer", "required", "the first axis"), ("end", "integer", "required", "one past the last axis")],
    ),
    (
        "group_sum",
        &[
            ("groups", "integer", "required", "the number of groups"),
            ("tau", "float", "1", "what the sums are divided by"),
            ("beta", "float", "0", "what is added to the sums before"),
        ],
    ),
    ("iota", &[("count", "dimensions", "required", "the one dimension of the result, which may be symbolic")]),
    (
        "pad",
        &[
            ("pads", "integers", "`[]`", "positions added before each axis, then behind each"),
            ("mode", "word", "`constant`", "what they are made of: `constant`, `reflect`, `edge`, `wrap`"),
        ],
    ),
    ("cumsum", CUMULATE),
    ("cumprod", CUMULATE),
    (
        "top_k",
        &[
            ("k", "integer", "required", "how many"),
            axis("-1"),
            ("largest", "bool", "`true`", "whether the largest are taken, else the smallest"),
        ],
    ),
    ("einsum", &[("equation", "string", "required", "a letter per axis of each input and of the result")]),
    ("logic_net", &[("net", "netlist", "required", "the network")]),
    (
        "custom",
        &[("domain", "string", "empty", "the domain of the operation"), ("op", "string", "required", "its name there")],
    ),
];

const REDUCE: &[Row] = &[("axes", "integers", "`[]`", "the axes; none means all"), KEEP_AXES];

const CUMULATE: &[Row] = &[
    axis("required"),
    ("exclusive", "bool", "`false`", "whether an element does not count itself"),
    ("reverse", "bool", "`false`", "whether it runs from the end"),
];

fn attributes(name: &str) -> &'static [Row] {
    ATTRS.iter().find(|(op, _)| *op == name).map_or(&[], |(_, rows)| rows)
}

fn reference() -> String {
    let mut text = String::from(
        "# Operations\n\nWritten from the table of operations by `cargo test -p bitc-ir --test reference`; do not edit. \
         `?` marks an optional input, `*` any number. `IR.md` says how nodes are written.\n",
    );
    let line = |info: &OpInfo| {
        let mut text = format!("\n## {}\n\n", info.name);
        let _ = writeln!(text, "`{} = {}({})`\n", info.outputs.join(", "), info.name, info.inputs.join(", "));
        let _ = writeln!(text, "{}", info.doc);
        let rows = attributes(info.name);
        if !rows.is_empty() {
            text.push_str("\n| attribute | kind | default | meaning |\n|---|---|---|---|\n");
        }
        for (name, kind, default, meaning) in rows {
            let _ = writeln!(text, "| `{name}` | {kind} | {default} | {meaning} |");
        }
        text
    };
    Op::all().for_each(|info| text.push_str(&line(info)));
    text
}

#[test]
fn the_reference_is_that_of_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("OPS.md");
    let expected = reference();
    if std::env::var_os("BITC_BLESS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "OPS.md is out of date; `BITC_BLESS=1 cargo test -p bitc-ir --test reference` writes it"
    );
}

#[test]
fn every_attribute_that_is_listed_exists() {
    let names: BTreeSet<&str> = Op::all().map(|i| i.name).collect();
    for (op, rows) in ATTRS {
        assert!(names.contains(op), "{op}");
        for (name, ..) in *rows {
            // A bool list is what no attribute is; one that is unknown says so instead.
            let attrs: Attrs = [((*name).to_owned(), Attr::Floats(vec![0.5]))].into();
            let result = Op::from_attrs(op, attrs);
            assert!(!matches!(result, Ok(_) | Err(AttrError::Unknown { .. })), "{op} {name}: {result:?}");
        }
    }
}

#[test]
fn every_attribute_that_is_read_is_listed() {
    let listed: BTreeSet<&str> = ATTRS.iter().flat_map(|(_, rows)| rows.iter()).map(|(name, ..)| *name).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ops");
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let reads = ["int", "float", "bool", "str", "ints", "choice", "dtype", "sizes", "take"];
        let reads = reads.iter().flat_map(|r| [format!("attrs.{r}(\""), format!("attrs.required_{r}(\"")]);
        let reads = reads.chain(["attrs.required_shape(\"".to_owned(), "attrs.sizes::<2>(\"".to_owned()]);
        for read in reads {
            for name in text.split(&read).skip(1).filter_map(|rest| rest.split('"').next()) {
                assert!(listed.contains(name), "attribute `{name}` is not in the reference");
            }
        }
    }
}
