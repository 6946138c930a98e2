//! The layers of a model as the YAML describes them, before weights are known.

use bitc_ir::Shape;
use bitc_ir::ops::conv2d::Window;
use bitc_ir::{Dim, ops::unary::UnaryKind};

use super::document::{Node, Place, Value};
use super::fields::{Faults, Fields};
use super::quant::Quant;
use crate::error::{Diagnostic, quoted};

/// One layer.
#[derive(Debug)]
pub(super) struct Layer {
    /// The prefix of its tensors in the state dict.
    pub(super) key: String,
    /// Its name in the graph: the prefix, with a word before it where that is a number.
    pub(super) label: String,
    pub(super) place: Place,
    pub(super) kind: Kind,
}

/// What a layer computes.
#[derive(Debug)]
pub(super) enum Kind {
    Dense(Dense),
    Conv(Conv),
    Unary(UnaryKind),
    Softmax {
        axis: i64,
    },
    RmsNorm {
        eps: f32,
    },
    LayerNorm {
        eps: f32,
    },
    BatchNorm {
        eps: f32,
    },
    MaxPool(Pool),
    AvgPool {
        pool: Pool,
        count_padding: bool,
    },
    Flatten {
        start: usize,
    },
    Reshape {
        shape: Vec<Extent>,
    },
    /// Nothing at inference.
    Dropout,
    /// `x + layers(x)`.
    Residual(Vec<Layer>),
}

/// A fully connected layer.
#[derive(Debug)]
pub(super) struct Dense {
    /// The number of inputs, where the YAML says it.
    pub(super) inputs: Option<usize>,
    pub(super) outputs: usize,
    pub(super) bias: Bias,
    /// `None` for float weights.
    pub(super) quant: Option<Quant>,
    /// A norm without which the layer cannot be; other ternary layers have one if the weights hold it.
    pub(super) norm: bool,
}

/// A convolution.
#[derive(Debug)]
pub(super) struct Conv {
    pub(super) outputs: usize,
    pub(super) kernel: [usize; 2],
    pub(super) window: Window,
    pub(super) groups: usize,
    pub(super) bias: Bias,
    pub(super) quant: Option<Quant>,
}

/// A pooling window.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) kernel: [usize; 2],
    pub(super) window: Window,
    pub(super) ceil: bool,
}

/// Whether a layer has a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bias {
    /// As the YAML says.
    Always,
    /// As the YAML says, or because this kind of layer ignores it.
    Never,
    /// If the weights hold one.
    IfPresent,
}

/// One dimension of a reshape.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Extent {
    Known(Dim),
    /// What is left over.
    Rest,
}

/// Every layer name that [`read_list`] knows.
pub(super) const NAMES: [&str; 21] = [
    "linear",
    "bit_linear",
    "bitnet_layer",
    "conv2d",
    "bit_conv2d",
    "relu",
    "relu2",
    "gelu",
    "silu",
    "sigmoid",
    "tanh",
    "softmax",
    "rms_norm",
    "layer_norm",
    "batch_norm",
    "max_pool2d",
    "avg_pool2d",
    "flatten",
    "reshape",
    "dropout",
    "residual",
];

/// Reads a list of single-key layers. `prefix` is that of the list in the state dict, empty or ending with a dot.
pub(super) fn read_list(node: &Node, prefix: &str, faults: &Faults) -> Vec<Layer> {
    let fault = |place: Place, d: Diagnostic| faults.borrow_mut().push(place.at(d));
    let Value::List(items) = &node.value else {
        let d = Diagnostic::wrong_input("`layers` must be a list").found(node.value.describe());
        fault(node.place, d);
        return Vec::new();
    };
    let mut layers = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let nothing = Node { place: item.place, value: Value::Null };
        let (name, place, body) = match &item.value {
            Value::Map(entries) if entries.len() == 1 => (&entries[0].key, entries[0].place, &entries[0].value),
            // A layer without parameters may be its bare name.
            Value::Text(name) => (name, item.place, &nothing),
            other => {
                let found = match other {
                    Value::Map(entries) => format!("a map with {} keys", entries.len()),
                    other => other.describe(),
                };
                let d = Diagnostic::wrong_input("a layer is a map with one key, its kind");
                fault(item.place, d.expected("for example `linear: {out: 10}`").found(found));
                continue;
            }
        };
        if !NAMES.contains(&name.as_str()) {
            let d = Diagnostic::wrong_input(format!("there is no layer {}", quoted(name))).expected(NAMES.join(", "));
            fault(place, d.suggest(name, NAMES));
            continue;
        }
        let mut fields = Fields::of(body, format!("`{name}`"), faults);
        fields.place = place;
        let key = fields.text("name").unwrap_or_else(|| format!("{prefix}{index}"));
        let kind = read_kind(name, &mut fields, &key, faults);
        fields.finish();
        layers.push(Layer { label: label(&key), key, place, kind });
    }
    layers
}

/// The name in the graph for a prefix in the state dict.
fn label(key: &str) -> String {
    if key.starts_with(|c: char| c.is_ascii_digit()) { format!("layers.{key}") } else { key.to_string() }
}

fn read_kind(name: &str, fields: &mut Fields<'_>, key: &str, faults: &Faults) -> Kind {
    match name {
        "linear" | "bit_linear" => {
            let inputs = fields.size("in", 1);
            let outputs = fields.required_size("out");
            let bias = read_bias(fields);
            let quant = (name == "bit_linear").then(|| Quant::read(fields.node("quant"), false, faults));
            Kind::Dense(Dense { inputs, outputs, bias, quant, norm: false })
        }
        "bitnet_layer" => {
            let inputs = Some(fields.required_size("input_dim"));
            let outputs = fields.required_size("output_dim");
            let bits = fields.size("precision", 2).unwrap_or(8);
            if bits > 8 {
                let d = Diagnostic::unsupported("`precision` is the number of bits of the activations");
                fields.fault(fields.place, d.expected("from 2 to 8").found(bits));
            }
            let eps = fields.positive("norm_eps").unwrap_or(1e-5);
            let scale = fields.positive("scale");
            let mut quant = Quant::bitnet(bits.min(8) as u8, eps);
            quant.scale = scale;
            let quant = Some(quant);
            Kind::Dense(Dense { inputs, outputs, bias: Bias::Never, quant, norm: true })
        }
        "conv2d" | "bit_conv2d" => {
            let outputs = fields.required_size("out");
            let kernel = read_kernel(fields);
            let window = read_window(fields, [1, 1]);
            let groups = fields.size("groups", 1).unwrap_or(1);
            let bias = read_bias(fields);
            let quant = (name == "bit_conv2d").then(|| Quant::read(fields.node("quant"), true, faults));
            Kind::Conv(Conv { outputs, kernel, window, groups, bias, quant })
        }
        "relu" => Kind::Unary(UnaryKind::Relu),
        "relu2" => Kind::Unary(UnaryKind::Relu2),
        "gelu" => {
            let forms = [("none", UnaryKind::Gelu), ("tanh", UnaryKind::GeluTanh)];
            Kind::Unary(fields.choice("approximate", &forms).unwrap_or(UnaryKind::Gelu))
        }
        "silu" => Kind::Unary(UnaryKind::Silu),
        "sigmoid" => Kind::Unary(UnaryKind::Sigmoid),
        "tanh" => Kind::Unary(UnaryKind::Tanh),
        "softmax" => Kind::Softmax { axis: fields.int("dim").unwrap_or(-1) },
        // The defaults of torch.
        "rms_norm" => Kind::RmsNorm { eps: fields.positive("eps").unwrap_or(f32::EPSILON) },
        "layer_norm" => Kind::LayerNorm { eps: fields.positive("eps").unwrap_or(1e-5) },
        "batch_norm" => Kind::BatchNorm { eps: fields.positive("eps").unwrap_or(1e-5) },
        "max_pool2d" => Kind::MaxPool(read_pool(fields)),
        "avg_pool2d" => {
            let pool = read_pool(fields);
            Kind::AvgPool { pool, count_padding: fields.bool("count_include_pad").unwrap_or(true) }
        }
        "flatten" => Kind::Flatten { start: fields.size("start_dim", 0).unwrap_or(1) },
        "reshape" => Kind::Reshape { shape: read_extents(fields) },
        "dropout" => {
            fields.positive("p");
            Kind::Dropout
        }
        _ => match fields.node("layers") {
            Some(node) => Kind::Residual(read_list(node, &format!("{key}."), faults)),
            None => {
                fields.missing("layers");
                Kind::Residual(Vec::new())
            }
        },
    }
}

fn read_bias(fields: &mut Fields<'_>) -> Bias {
    match fields.bool("bias") {
        Some(true) => Bias::Always,
        Some(false) => Bias::Never,
        None => Bias::IfPresent,
    }
}

fn read_kernel(fields: &mut Fields<'_>) -> [usize; 2] {
    fields.pair("kernel", 1).unwrap_or_else(|| {
        if !fields.has("kernel") {
            fields.missing("kernel");
        }
        [1, 1]
    })
}

fn read_window(fields: &mut Fields<'_>, default_stride: [usize; 2]) -> Window {
    let [top, left] = fields.pair("padding", 0).unwrap_or([0, 0]);
    Window {
        strides: fields.pair("stride", 1).unwrap_or(default_stride),
        pads: [top, left, top, left],
        dilations: fields.pair("dilation", 1).unwrap_or([1, 1]),
    }
}

fn read_pool(fields: &mut Fields<'_>) -> Pool {
    let kernel = read_kernel(fields);
    let window = read_window(fields, kernel);
    let ceil = fields.bool("ceil_mode").unwrap_or(false);
    let too_wide = (0..2).any(|i| window.pads[i] > kernel[i] / 2);
    if too_wide {
        let d = Diagnostic::wrong_input("the padding of a pool is at most half its kernel");
        fields.fault(fields.place, d.found(format!("kernel {kernel:?}, padding {:?}", &window.pads[..2])));
    }
    Pool { kernel, window, ceil }
}

fn read_extents(fields: &mut Fields<'_>) -> Vec<Extent> {
    let Some(node) = fields.node("shape") else {
        fields.missing("shape");
        return Vec::new();
    };
    let faulty = |found: String| {
        let d = Diagnostic::wrong_input("`shape` is a list of dimensions");
        fields.fault(node.place, d.expected("sizes, names of dimensions and at most one -1").found(found));
    };
    let Value::List(items) = &node.value else {
        faulty(node.value.describe());
        return Vec::new();
    };
    let mut extents = Vec::new();
    for item in items {
        match (&item.value, read_dim(&item.value)) {
            (Value::Int(-1), _) if !extents.contains(&Extent::Rest) => extents.push(Extent::Rest),
            (_, Some(dim)) => extents.push(Extent::Known(dim)),
            (other, None) => faulty(other.describe()),
        }
    }
    extents
}

/// A size, or the name of a dimension.
pub(super) fn read_dim(value: &Value) -> Option<Dim> {
    match value {
        Value::Int(n) if *n <= 1 << 31 => usize::try_from(*n).ok().map(Dim::from),
        Value::Text(name) => {
            let first = |c: char| c.is_ascii_alphabetic() || c == '_';
            let plain = name.starts_with(first) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            (plain && name.len() <= 40).then(|| Dim::symbol(name.as_str()))
        }
        _ => None,
    }
}

/// A list of dimensions as a shape.
pub(super) fn read_shape(node: &Node, faults: &Faults) -> Option<Shape> {
    let dims = match &node.value {
        Value::List(items) => items.iter().map(|i| read_dim(&i.value)).collect::<Option<Vec<_>>>(),
        _ => None,
    };
    if dims.is_none() {
        let d = Diagnostic::wrong_input("`shape` is a list of sizes and names of dimensions");
        let d = d.expected("for example `[N, 1, 28, 28]`").found(node.value.describe());
        faults.borrow_mut().push(node.place.at(d));
    }
    dims.map(Shape)
}
