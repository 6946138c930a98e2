//! Networks of lookup tables over bits.

use super::{Contract, codes, instruction};
use crate::contract::{Ty, attribute, same};
use crate::logic::Program;
use crate::{BufferId, Cx, DType, Fault, MAX_RANK, Operand};

codes! {
    /// What a [`Logic`] makes of what its program computes.
    LogicHead ("head of a logic network") {
        /// The output bits.
        Bits = 0 "bits",
        /// For each group `(count + beta) / tau`.
        Scores = 1 "scores",
        /// The first group of the largest score.
        Argmax = 2 "argmax",
    }
}

instruction! {
    /// Runs a program of [`crate::logic`] over rows of bits, or of floats that are compared with thresholds first.
    Logic {
        /// The answers: bits `[.., outputs]`, scores `[.., groups]`, or groups `[..]` or `[.., 1]`.
        y: BufferId,
        /// The rows: bits `[.., inputs]`, where a byte other than 0 is 1; with thresholds floats `[.., features]`.
        x: Operand,
        /// The program, a constant `u8 [bytes]`.
        program: Operand,
        /// With thresholds: for each input the feature it compares, a constant `i32 [inputs]`.
        features: Option<Operand>,
        /// For each input a constant `f32 [inputs]`: the bit is `x > threshold`, and 0 for NaN.
        thresholds: Option<Operand>,
        /// What becomes of the outputs.
        head: LogicHead,
        /// What counts are divided by; 1 for bits.
        tau: f32,
        /// What is added to counts before; 0 for bits.
        beta: f32,
    }
}

impl Contract for Logic {
    fn check(&self, cx: &Cx<'_>) -> Result<(), Fault> {
        cx.ty("program", self.program)?.constant()?.dense()?.dtype(&[DType::U8])?.rank(1, 1)?;
        let program = cx.network(self.program).ok_or(Fault::NotConst { operand: "program" })?;
        let x = self.check_rows(cx, program)?;
        let rank = x.shape.rank();
        let y = cx.ty("y", self.y)?.dense()?;
        let groups = count(program.n_groups());
        let counts = self.head != LogicHead::Bits;
        attribute("groups", program.n_groups().min(1), (groups > 0) == counts)?;
        let last = match self.head {
            LogicHead::Bits => {
                y.dtype(&[DType::Bool, DType::Bits])?;
                count(program.outputs().len())
            }
            LogicHead::Scores => {
                y.dtype(&[DType::F32])?;
                groups
            }
            LogicHead::Argmax => {
                y.dtype(&[DType::I64])?;
                1
            }
        };
        let dropped = self.head == LogicHead::Argmax && y.shape.rank() != rank;
        let expected = if dropped { rank.saturating_sub(1) } else { rank };
        y.rank(expected, expected)?;
        for axis in 0..rank.saturating_sub(1) {
            same("a dimension of `y`", x.dim(axis), y.dim(axis))?;
        }
        if !dropped {
            same("the last dimension of `y`", Some(last), y.last())?;
        }
        attribute("tau", self.tau.to_bits(), self.tau.is_finite() && self.tau != 0.0 && (counts || self.tau == 1.0))?;
        attribute("beta", self.beta.to_bits(), self.beta.is_finite() && (counts || self.beta == 0.0))
    }
}

impl Logic {
    /// Checks the rows against the inputs of the program.
    fn check_rows(&self, cx: &Cx<'_>, program: &Program) -> Result<Ty, Fault> {
        let inputs = count(program.n_inputs());
        attribute("inputs", 0, inputs > 0)?;
        let x = cx.ty("x", self.x)?.dense()?.rank(1, MAX_RANK)?;
        let (features, thresholds) = match (self.features, self.thresholds) {
            (None, None) => {
                x.dtype(&[DType::Bits, DType::Bool, DType::U8])?;
                same("the last dimension of `x`", Some(inputs), x.last())?;
                return Ok(x);
            }
            (Some(features), Some(thresholds)) => (features, thresholds),
            (None, Some(_)) => return Err(Fault::NotConst { operand: "features" }),
            (Some(_), None) => return Err(Fault::NotConst { operand: "thresholds" }),
        };
        x.dtype(&[DType::F32])?;
        let one_per_input = |name, operand, dtype| {
            let ty = cx.ty(name, operand)?.constant()?.dense()?.dtype(&[dtype])?.rank(1, 1)?;
            same(name, Some(inputs), ty.last())
        };
        one_per_input("features", features, DType::I32)?;
        one_per_input("thresholds", thresholds, DType::F32)?;
        let needed = cx.features(features).ok_or(Fault::NotConst { operand: "features" })?;
        if let Some(found) = x.last()
            && u64::from(needed) > found
        {
            return Err(Fault::Size { what: "the last dimension of `x`", expected: needed.into(), found });
        }
        Ok(x)
    }
}

fn count(n: usize) -> u64 {
    crate::cursor::to_u64(n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ArtifactWriter, DTypeSet, DimId, ErrorKind, Layout};
    use alloc::vec;
    use alloc::vec::Vec;

    /// Two inputs, a gate, and an answer of that many groups (0: the bit of the gate).
    fn network(groups: u16) -> Vec<u8> {
        let mut encoder = crate::logic::Encoder::new(2, 3).unwrap();
        encoder.gate(0x88, [0, 1, 1], 2);
        (0..groups).for_each(|group| encoder.count(group, false, &[2, 0]));
        encoder.finish(&vec![0; groups.into()], if groups == 0 { &[2] } else { &[] }).unwrap()
    }

    /// Runs `network` over rows `x` of some type and length, with the given head and output.
    struct LogicCase {
        program: Vec<u8>,
        x: (DType, i64),
        features: Option<Vec<i32>>,
        thresholds: Option<Vec<f32>>,
        head: LogicHead,
        y: (DType, Vec<i64>),
        tau: f32,
        beta: f32,
    }

    impl LogicCase {
        fn scores() -> Self {
            Self {
                program: network(3),
                x: (DType::Bool, 2),
                features: None,
                thresholds: None,
                head: LogicHead::Scores,
                y: (DType::F32, vec![4, 3]),
                tau: 0.5,
                beta: 1.0,
            }
        }

        fn of_floats() -> Self {
            Self { x: (DType::F32, 5), features: Some(vec![4, 0]), thresholds: Some(vec![0.5, -1.0]), ..Self::scores() }
        }

        fn check(self) -> Result<(), ErrorKind> {
            let mut w = ArtifactWriter::new();
            let buffer = |w: &mut ArtifactWriter, dtype, dims: &[i64]| {
                let dims: Vec<DimId> = dims.iter().map(|&d| w.fixed(d)).collect();
                let slot = w.slot();
                w.buffer(dtype, &dims, 1, slot)
            };
            let x = buffer(&mut w, self.x.0, &[4, self.x.1]);
            let y = buffer(&mut w, self.y.0, &self.y.1);
            w.input("x", x, DTypeSet::of(&[self.x.0]));
            w.output("y", y, DTypeSet::of(&[self.y.0]));
            let program = w.constant(DType::U8, Layout::Dense, &[self.program.len() as u64], &self.program).into();
            let features = self.features.map(|values| {
                let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                w.constant(DType::I32, Layout::Dense, &[values.len() as u64], &bytes).into()
            });
            let thresholds = self.thresholds.map(|values| {
                let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                w.constant(DType::F32, Layout::Dense, &[values.len() as u64], &bytes).into()
            });
            let Self { head, tau, beta, .. } = self;
            w.push(Logic { y, x: x.into(), program, features, thresholds, head, tau, beta });
            w.finish().map(drop).map_err(|error| error.kind)
        }

        fn fault(self) -> Fault {
            match self.check() {
                Err(ErrorKind::Contract { fault, .. }) => fault,
                other => panic!("expected a broken contract, found {other:?}"),
            }
        }
    }

    #[test]
    fn logic_takes_bits_in_every_form_and_floats_with_thresholds() {
        for dtype in [DType::Bits, DType::Bool, DType::U8] {
            LogicCase { x: (dtype, 2), ..LogicCase::scores() }.check().unwrap();
        }
        LogicCase::of_floats().check().unwrap();
        for dims in [vec![4], vec![4, 1]] {
            LogicCase { head: LogicHead::Argmax, y: (DType::I64, dims), ..LogicCase::of_floats() }.check().unwrap();
        }
        let bits =
            || LogicCase { program: network(0), head: LogicHead::Bits, tau: 1.0, beta: 0.0, ..LogicCase::scores() };
        for dtype in [DType::Bits, DType::Bool] {
            LogicCase { y: (dtype, vec![4, 1]), ..bits() }.check().unwrap();
        }
        assert_eq!(bits().fault(), Fault::DType { operand: "y", found: DType::F32 });
    }

    #[test]
    fn logic_refuses_what_does_not_fit() {
        let case = LogicCase::scores;
        let size = |what, expected, found| Fault::Size { what, expected, found };
        assert_eq!(LogicCase { x: (DType::Bool, 3), ..case() }.fault(), size("the last dimension of `x`", 2, 3));
        assert_eq!(
            LogicCase { x: (DType::F32, 2), ..case() }.fault(),
            Fault::DType { operand: "x", found: DType::F32 }
        );
        assert_eq!(
            LogicCase { y: (DType::F32, vec![4, 2]), ..case() }.fault(),
            size("the last dimension of `y`", 3, 2)
        );
        assert_eq!(LogicCase { y: (DType::F32, vec![3, 3]), ..case() }.fault(), size("a dimension of `y`", 4, 3));
        for tau in [0.0f32, -0.0, f32::NAN, f32::INFINITY] {
            let value = i64::from(tau.to_bits());
            assert_eq!(LogicCase { tau, ..case() }.fault(), Fault::Attribute { name: "tau", value });
        }
        let value = i64::from(f32::INFINITY.to_bits());
        assert_eq!(LogicCase { beta: f32::INFINITY, ..case() }.fault(), Fault::Attribute { name: "beta", value });
        assert_eq!(LogicCase { program: network(0), ..case() }.fault(), Fault::Attribute { name: "groups", value: 0 });
        let floats = LogicCase::of_floats;
        assert_eq!(LogicCase { features: None, ..floats() }.fault(), Fault::NotConst { operand: "features" });
        assert_eq!(LogicCase { thresholds: None, ..floats() }.fault(), Fault::NotConst { operand: "thresholds" });
        assert_eq!(LogicCase { x: (DType::F32, 4), ..floats() }.fault(), size("the last dimension of `x`", 5, 4));
        assert_eq!(LogicCase { features: Some(vec![0]), ..floats() }.fault(), size("features", 2, 1));
        let negative = LogicCase { features: Some(vec![0, -1]), ..floats() }.check();
        assert_eq!(negative, Err(ErrorKind::Code { what: "feature", value: u32::MAX.into() }));
        let mut broken = network(3);
        broken[0] = 9;
        let error = crate::logic::LogicError::Header { field: "version", found: 9, limit: 1 };
        assert_eq!(LogicCase { program: broken, ..case() }.check(), Err(ErrorKind::Logic { constant: 0, error }));
    }
}
