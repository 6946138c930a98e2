//! Tensors as runs write them: numbers in nested lists.

use bitc_ir::text::{NoReferences, parse};
use bitc_ir::{Tensor, TensorType};

/// The tensors of a text, separated by commas, each of the type at its position.
///
/// # Errors
/// What is not understood.
pub(crate) fn tensors(text: &str, types: &[TensorType]) -> Result<Vec<Tensor>, String> {
    let mut reader = Reader { rest: text };
    let mut found = Vec::new();
    for (i, ty) in types.iter().enumerate() {
        if i > 0 {
            reader.expect(',')?;
        }
        let mut list = List::default();
        reader.value(0, &mut list)?;
        found.push(list.into_tensor(ty)?);
    }
    reader.skip_space();
    if reader.rest.is_empty() { Ok(found) } else { Err(format!("`{}` follows the last tensor", reader.rest)) }
}

#[derive(Default)]
struct List {
    /// How many items the first list of each depth has.
    dims: Vec<usize>,
    numbers: Vec<String>,
}

impl List {
    fn into_tensor(self, ty: &TensorType) -> Result<Tensor, String> {
        // An empty list says nothing about the other dimensions.
        let declared = || ty.shape.0.iter().map(|d| d.as_const().unwrap_or(0)).collect();
        let dims: Vec<usize> = if self.numbers.is_empty() { declared() } else { self.dims };
        // The text form knows how numbers of every element type are written.
        let shape = dims.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let text =
            format!("graph @g() {{ const %c: {}[{shape}] = dense [{}] return %c }}", ty.dtype, self.numbers.join(", "));
        let graph = parse(&text, &NoReferences).map_err(|e| e[0].message.clone())?;
        graph.constant(graph.outputs()[0].value).cloned().ok_or_else(|| "no constant".to_owned())
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, c: char) -> bool {
        self.skip_space();
        let found = self.rest.strip_prefix(c);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    fn expect(&mut self, c: char) -> Result<(), String> {
        if self.eat(c) { Ok(()) } else { Err(format!("expected `{c}` before `{}`", self.rest)) }
    }

    fn value(&mut self, depth: usize, list: &mut List) -> Result<(), String> {
        if !self.eat('[') {
            let end = self.rest.find([',', ']', ' ']).unwrap_or(self.rest.len());
            let (number, rest) = self.rest.split_at(end);
            if number.is_empty() {
                return Err(format!("expected a number before `{rest}`"));
            }
            list.numbers.push(number.to_owned());
            self.rest = rest;
            return if depth == list.dims.len() { Ok(()) } else { Err("numbers at different depths".to_owned()) };
        }
        let first = list.dims.len() == depth;
        if first {
            if !list.numbers.is_empty() {
                return Err("numbers at different depths".to_owned());
            }
            list.dims.push(0);
        }
        let mut count = 0;
        while !self.eat(']') {
            if count > 0 {
                self.expect(',')?;
            }
            self.value(depth + 1, list)?;
            count += 1;
        }
        if first {
            list.dims[depth] = count;
        }
        if list.dims[depth] == count { Ok(()) } else { Err("lists of different lengths".to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use bitc_ir::{DType, Dim};

    use super::*;

    #[test]
    fn nested_lists_have_their_dimensions() {
        let ty = |dtype, rank| TensorType::new(dtype, vec![Dim::symbol("N"); rank]);
        let read = tensors("[[1, 2.5], [-inf, nan]], 3, []", &[ty(DType::F32, 2), ty(DType::I8, 0), ty(DType::I64, 1)]);
        let read = read.unwrap();
        assert_eq!(read[0].dims(), [2, 2]);
        assert_eq!(read[0].to_f64()[..3], [1.0, 2.5, f64::NEG_INFINITY]);
        assert_eq!(read[1], Tensor::scalar(3i8));
        assert_eq!(read[2].dims(), [0]);
        for wrong in ["[1, [2]]", "[[1], [2, 3]]", "[1", "1 2", "", "[1.5]"] {
            assert!(tensors(wrong, &[ty(DType::I32, 1)]).is_err(), "{wrong}");
        }
    }
}
