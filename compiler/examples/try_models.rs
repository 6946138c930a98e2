//! Scratch.
use bitc::frontend::{Options, import};
use bitc::lower::{Target, lower};
use bitc::npy;
use bitc_passes::registry;
use bitc_runtime::*;
fn main() {
    for dir in ["bitlab_old_small_pt_i8_deployed", "bitlab_head_mlp", "mlp_float", "cnn_bit_head"] {
        let base = std::path::PathBuf::from("/work/shared/fixtures/bitlab").join(dir);
        let imported = import(&base.join("model.yaml"), &Options::default()).unwrap_or_else(|e| panic!("{e}"));
        let mut graph = imported.graph;
        let names = [
            "eliminate-dead-code",
            "fold-constants",
            "simplify",
            "cse",
            "recognize-quantizers",
            "ternarize-weights",
            "linear-to-bit-linear",
            "fold-batch-norm",
            "fold-scales",
            "fuse-bias-and-activation",
            "cse",
            "simplify",
            "eliminate-dead-code",
            "freeze",
        ];
        for name in names {
            let pass = registry::find(name).unwrap().build(Default::default()).unwrap();
            let mut sink = |_| {};
            let mut cx = bitc_passes::pass::PassCx::new("x", None, &mut sink);
            pass.run(&mut graph, &mut cx).unwrap_or_else(|e| panic!("{name}: {e}"));
            graph.compact();
        }
        println!("{}", bitc_ir::text::print(&graph));
        let lowered = lower(&graph, Target::Any).unwrap_or_else(|e| panic!("{e}"));
        let bytes = bitc::backend::artifact::write(&lowered, Target::Any, false).unwrap();
        for (i, inst) in lowered.program.code.iter().enumerate() {
            println!("{i}: {} {:?}", inst.inst.name(), inst.origin);
        }
        for l in &lowered.program.layers {
            println!("{l:?}");
        }
        println!("{dir}: {} bytes", bytes.len());
        let program = Program::from_bytes(&bytes, &Limits::default()).unwrap();
        let x = npy::read(&base.join("input.npy")).unwrap();
        let e = npy::read(&base.join("expected.npy")).unwrap();
        let e = e.to_f64();
        for k in kernels::available() {
            let mut s = Session::with_kernels(&program, *k);
            let v = [View::new(DType::F32, x.dims(), x.bytes())];
            let shape = s.output_shapes(&v).unwrap();
            let mut y = vec![0f32; shape[0].iter().product()];
            s.run(&v, &mut [ViewMut::of(&shape[0], &mut y)]).unwrap();
            let t = std::time::Instant::now();
            s.run(&v, &mut [ViewMut::of(&shape[0], &mut y)]).unwrap();
            let took = t.elapsed();
            let d = y.iter().zip(&e).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
            println!("{} {} shape {:?} max diff {d} {took:?}", dir, k.name(), shape);
        }
    }
}
