//! `einsum`: sums of products over named axes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use ndarray::ArrayD;

use crate::attr::{Attr, AttrError, AttrReader, AttrWriter};
use crate::eval::{EvalError, array, select};
use crate::ops::{EvalCx, Inputs, OpDef, OpInfo, TypeError};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Shape, TensorType};

/// Sums of products over the axes that the equation names.
#[derive(Clone, PartialEq, Debug)]
pub struct Einsum {
    /// `ij,jk->ik`: a letter per axis of each input and of the result; `...` stands for axes that broadcast.
    pub equation: String,
}

/// One axis of an operand: a letter, or one of the axes of `...`, counted from the last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Label {
    /// One of the axes of `...`.
    Rest(std::cmp::Reverse<usize>),
    /// A letter.
    Letter(char),
}

/// A parsed equation for inputs of known ranks: what their axes and those of the result are called.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    /// The axes of each input.
    pub inputs: Vec<Vec<Label>>,
    /// The axes of the result.
    pub output: Vec<Label>,
}

impl OpDef for Einsum {
    const INFO: &'static [OpInfo] = &[OpInfo {
        name: "einsum",
        inputs: &["xs*"],
        outputs: &["y"],
        doc: "y = the sum of products of the inputs over the axes that `equation` names, numpy's rules: ij,jk->ik is a matrix \
              product. Without -> the result has the letters that occur once, in alphabetical order.",
    }];

    fn from_attrs(_: &str, attrs: &mut AttrReader) -> Result<Self, AttrError> {
        let equation = attrs.str("equation")?.ok_or(AttrError::Missing { op: "einsum", attr: "equation" })?;
        let known = |c: char| c.is_ascii_alphabetic() || ".,->".contains(c);
        if !equation.chars().all(known) || equation.matches("->").count() > 1 {
            return Err(attrs.invalid("equation", "letters, commas, `...` and one `->`", format!("`{equation}`")));
        }
        Ok(Self { equation })
    }

    fn attrs(&self) -> Vec<(Cow<'static, str>, Attr)> {
        AttrWriter::new().put("equation", self.equation.clone()).finish()
    }

    fn infer(&self, inputs: &Inputs<'_, TensorType>) -> Result<Vec<TensorType>, TypeError> {
        let types: Vec<&TensorType> = inputs.iter().collect();
        let first = types.first().ok_or_else(|| TypeError::new("at least one input", "none"))?;
        if let Some(other) = types.iter().find(|t| t.dtype != first.dtype || t.dtype == DType::Bool) {
            return Err(TypeError::new("numbers of one type", other));
        }
        let plan = self.plan(&types.iter().map(|t| t.shape.rank()).collect::<Vec<_>>())?;
        let mut sizes: BTreeMap<Label, Dim> = BTreeMap::new();
        for (labels, ty) in plan.inputs.iter().zip(&types) {
            for (&label, dim) in labels.iter().zip(&ty.shape.0) {
                match sizes.get(&label) {
                    Some(size) if size == dim || dim.is_one() => {}
                    Some(size) if !size.is_one() => {
                        return Err(TypeError::new(format!("axes of size {size} for one letter of `{}`", self.equation), ty));
                    }
                    _ => {
                        sizes.insert(label, dim.clone());
                    }
                }
            }
        }
        let shape = plan.output.iter().map(|l| sizes.get(l).cloned().unwrap_or(Dim::from(1))).collect();
        Ok(vec![TensorType::new(first.dtype, Shape(shape))])
    }

    fn eval(&self, inputs: &Inputs<'_, Tensor>, _: &EvalCx<'_>) -> Result<Vec<Tensor>, EvalError> {
        let tensors: Vec<&Tensor> = inputs.iter().collect();
        let plan = self.plan(&tensors.iter().map(|t| t.rank()).collect::<Vec<_>>())?;
        let dtype = tensors.first().map_or(DType::F32, |t| t.dtype());
        let integers: Option<Vec<ArrayD<i128>>> = tensors.iter().map(|t| array::integers(t)).collect();
        if let Some(values) = integers {
            return Ok(vec![array::store_integers(dtype, &plan.run(&values, 1))]);
        }
        let values: Vec<ArrayD<f64>> = tensors.iter().map(|t| array::floats(t)).collect();
        Ok(vec![array::store_floats(dtype, &plan.run(&values, 1.0))])
    }
}

impl Einsum {
    /// The equation for inputs of these ranks.
    ///
    /// # Errors
    /// If it does not fit them.
    pub fn plan(&self, ranks: &[usize]) -> Result<Plan, TypeError> {
        let (terms, output) = match self.equation.split_once("->") {
            Some((terms, output)) => (terms, Some(output)),
            None => (self.equation.as_str(), None),
        };
        let terms: Vec<&str> = terms.split(',').collect();
        let wrong = || TypeError::new(format!("inputs that fit `{}`", self.equation), format!("ranks {ranks:?}"));
        if terms.len() != ranks.len() {
            return Err(wrong());
        }
        let mut rest = 0;
        let mut inputs = Vec::new();
        for (term, &rank) in terms.iter().zip(ranks) {
            let letters = term.replace("...", "").len();
            let extra = rank.checked_sub(letters).ok_or_else(wrong)?;
            rest = rest.max(extra);
            inputs.push(labels(term, extra).ok_or_else(wrong)?);
        }
        let output = match output {
            Some(output) => {
                let extra = if output.contains("...") { rest } else { 0 };
                labels(output, extra).ok_or_else(wrong)?
            }
            None => {
                let all: Vec<Label> = inputs.iter().flatten().copied().collect();
                let once = |l: &Label| all.iter().filter(|other| *other == l).count() == 1;
                let mut letters: Vec<Label> = all.iter().copied().filter(|l| matches!(l, Label::Letter(_)) && once(l)).collect();
                letters.sort_unstable();
                rests(rest).chain(letters).collect()
            }
        };
        if output.iter().any(|l| !inputs.iter().any(|i| i.contains(l))) {
            return Err(wrong());
        }
        Ok(Plan { inputs, output })
    }
}

/// The labels of one term whose `...` stands for so many axes; `None` if there is no `...` and there are some.
fn labels(term: &str, extra: usize) -> Option<Vec<Label>> {
    let letters = |s: &str| s.chars().map(Label::Letter).collect::<Vec<_>>();
    let (before, after) = match term.split_once("...") {
        Some(parts) => parts,
        None if extra == 0 => (term, ""),
        None => return None,
    };
    if before.contains('.') || after.contains('.') {
        return None;
    }
    Some(letters(before).into_iter().chain(rests(extra)).chain(letters(after)).collect())
}

/// The labels of the axes of `...`, outermost first.
fn rests(count: usize) -> impl Iterator<Item = Label> {
    (0..count).rev().map(|i| Label::Rest(std::cmp::Reverse(i)))
}

impl Plan {
    /// Sums products over all axes that the output does not have.
    fn run<T>(&self, values: &[ArrayD<T>], one: T) -> ArrayD<T>
    where
        T: Copy + Default + std::ops::Mul<Output = T> + std::ops::AddAssign,
    {
        let mut sizes: BTreeMap<Label, usize> = BTreeMap::new();
        for (labels, array) in self.inputs.iter().zip(values) {
            for (&label, &size) in labels.iter().zip(array.shape()) {
                let known = sizes.entry(label).or_insert(size);
                if *known == 1 {
                    *known = size;
                }
            }
        }
        let size = |l: &Label| sizes.get(l).copied().unwrap_or(1);
        let summed: Vec<Label> = sizes.keys().copied().filter(|l| !self.output.contains(l)).collect();
        let out_dims: Vec<usize> = self.output.iter().map(size).collect();
        let sum_dims: Vec<usize> = summed.iter().map(size).collect();
        let mut y = ArrayD::from_elem(out_dims.clone(), T::default());
        let all: Vec<Label> = self.output.iter().chain(&summed).copied().collect();
        // Where each axis of an input is found among the output's and the summed ones.
        let places: Vec<Vec<usize>> = self
            .inputs
            .iter()
            .map(|labels| labels.iter().filter_map(|l| all.iter().position(|other| other == l)).collect())
            .collect();
        for out_index in select::indices(&out_dims) {
            let mut sum = T::default();
            for sum_index in select::indices(&sum_dims) {
                let at = |place: usize| match place.checked_sub(out_index.len()) {
                    Some(i) => sum_index[i],
                    None => out_index[place],
                };
                let mut product = one;
                for (array, places) in values.iter().zip(&places) {
                    let index = places.iter().zip(array.shape()).map(|(&p, &d)| if d == 1 { 0 } else { at(p) });
                    product = product * array[&index.collect::<Vec<_>>()[..]];
                }
                sum += product;
            }
            y[&out_index[..]] = sum;
        }
        y
    }
}
