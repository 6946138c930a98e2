//! The `.safetensors` format: a length, a JSON header, and the data of all tensors without holes.
//!
//! The tensors are slices of the file; nothing is copied. As in the format's own reader, the header is at most 100 MB and
//! begins with `{`, no name occurs twice, and the tensors cover the data exactly once, so that nothing hides between them.

use std::fmt;

use bitc_ir::{Blob, DType, Tensor};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use super::{StateDict, dimension};
use crate::error::{Diagnostic, nearest, quoted};

/// The longest header, in bytes.
const HEADER_LIMIT: u64 = 100_000_000;
/// The largest number of dimensions of a tensor.
const RANK_LIMIT: usize = 64;

/// The element types that are read.
const TYPES: [(&str, DType); 13] = [
    ("BOOL", DType::Bool),
    ("U8", DType::U8),
    ("I8", DType::I8),
    ("U16", DType::U16),
    ("I16", DType::I16),
    ("F16", DType::F16),
    ("BF16", DType::BF16),
    ("U32", DType::U32),
    ("I32", DType::I32),
    ("F32", DType::F32),
    ("U64", DType::U64),
    ("I64", DType::I64),
    ("F64", DType::F64),
];

/// The tensors of a `.safetensors` file.
///
/// # Errors
/// Wrong input if the file breaks a rule of the format; unsupported if a tensor has an 8-bit or narrower float, or a
/// complex, element type.
pub fn parse(file: &Blob) -> Result<StateDict, Diagnostic> {
    let bytes = file.bytes();
    let wrong = |what: &str, offset: u64| Diagnostic::wrong_input(what).offset(offset);
    let prefix = bytes.first_chunk::<8>().ok_or_else(|| wrong("the file ends inside the length of its header", 0))?;
    let length = u64::from_le_bytes(*prefix);
    if length > HEADER_LIMIT {
        return Err(wrong("the header is too long", 0).expected(format!("at most {HEADER_LIMIT} bytes")).found(length));
    }
    // The limit above keeps this far from overflow.
    let start = 8 + usize::try_from(length).map_err(|_| wrong("the header is too long", 0).found(length))?;
    let text = bytes.get(8..start).ok_or_else(|| {
        wrong("the header is longer than the file", 0).found(format!("{length} bytes in a file of {}", bytes.len()))
    })?;
    if text.first() != Some(&b'{') {
        return Err(wrong("the header does not begin with `{`", 8));
    }
    let header: Header = serde_json::from_slice(text).map_err(|e| {
        let line_start =
            text.split(|&b| b == b'\n').take(e.line().saturating_sub(1)).map(|l| l.len() + 1).sum::<usize>();
        wrong(&format!("the header is wrong: {e}"), (8 + line_start + e.column().saturating_sub(1)) as u64)
    })?;
    check_cover(&header, (bytes.len() - start) as u64)?;
    let mut dict = StateDict::new();
    let mut unsupported = Vec::new();
    for (name, info) in &header.tensors {
        match tensor(file, start, name, info)? {
            Some(tensor) => dict.insert(name, tensor)?,
            None => unsupported.push((name, info)),
        }
    }
    let Some((name, info)) = unsupported.first() else { return Ok(dict) };
    let others = if unsupported.len() > 1 { format!(" (and {} more)", unsupported.len() - 1) } else { String::new() };
    Err(Diagnostic::unsupported(format!("tensor {}{others} has an element type that is not read", quoted(name)))
        .node(name.as_str())
        .expected("bool, integers of 8 to 64 bits, F16, BF16, F32 or F64")
        .found(&info.dtype))
}

/// Checks that the tensors cover the data from its start to its end, each byte once.
fn check_cover(header: &Header, data_len: u64) -> Result<(), Diagnostic> {
    let mut ranges: Vec<_> = header.tensors.iter().map(|(name, info)| (info.data_offsets, name)).collect();
    ranges.sort();
    let mut covered = 0;
    for ((begin, end), name) in ranges {
        let wrong = |what: &str| {
            Diagnostic::wrong_input(format!("the data of tensor {} {what}", quoted(name)))
                .node(name.as_str())
                .found(format!("bytes {begin} to {end}"))
        };
        if end < begin {
            return Err(wrong("ends before it begins"));
        }
        if end > data_len {
            return Err(wrong("ends after the file").expected(format!("at most {data_len} bytes")));
        }
        if begin != covered {
            let what = if begin < covered { "overlaps that of another" } else { "leaves a hole before it" };
            return Err(wrong(what).expected(format!("a start at {covered}")));
        }
        covered = end;
    }
    if covered != data_len {
        return Err(Diagnostic::wrong_input("there is data after the last tensor")
            .expected(format!("{covered} bytes"))
            .found(format!("{data_len} bytes")));
    }
    Ok(())
}

/// One tensor as a slice of the file; `None` if its element type is known but not read.
fn tensor(file: &Blob, data_start: usize, name: &str, info: &Info) -> Result<Option<Tensor>, Diagnostic> {
    let wrong = |what: String| Diagnostic::wrong_input(format!("tensor {}: {what}", quoted(name))).node(name);
    let Some(&(_, dtype)) = TYPES.iter().find(|(n, _)| *n == info.dtype) else {
        let known = ["F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F6_E2M3", "F6_E3M2", "F4", "C64"];
        if known.contains(&info.dtype.as_str()) {
            return Ok(None);
        }
        let d = wrong(format!("unknown element type {}", quoted(&info.dtype)));
        return Err(match nearest(&info.dtype, TYPES.map(|(n, _)| n)) {
            Some(near) => d.hint(format!("did you mean {}?", quoted(near))),
            None => d,
        });
    };
    if info.shape.len() > RANK_LIMIT {
        return Err(wrong("too many dimensions".into())
            .expected(format!("at most {RANK_LIMIT}"))
            .found(info.shape.len()));
    }
    let mut dims = Vec::with_capacity(info.shape.len());
    for &n in &info.shape {
        dims.push(dimension(n).ok_or_else(|| wrong("a dimension is too large".into()).found(n))?);
    }
    let place = |at: u64| usize::try_from(at).ok().and_then(|at| data_start.checked_add(at));
    let data = match (place(info.data_offsets.0), place(info.data_offsets.1)) {
        (Some(begin), Some(end)) => file.slice(begin..end),
        _ => None,
    };
    let data = data.ok_or_else(|| wrong("its data is outside the file".into()))?;
    Tensor::from_blob(dtype, &dims, data).map(Some).map_err(|e| wrong(e.to_string()))
}

/// The header: tensors in its order. The map `__metadata__` of strings is checked and dropped.
struct Header {
    tensors: Vec<(String, Info)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Info {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut tensors = Vec::new();
                let mut seen = std::collections::HashSet::new();
                while let Some(name) = map.next_key::<String>()? {
                    if !seen.insert(name.clone()) {
                        return Err(A::Error::custom(format!("the name {} occurs twice", quoted(&name))));
                    }
                    if name == "__metadata__" {
                        map.next_value::<std::collections::HashMap<String, Text>>()?;
                    } else {
                        tensors.push((name, map.next_value()?));
                    }
                }
                Ok(Header { tensors })
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// A string whose content is not kept.
struct Text;

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyText;
        impl Visitor<'_> for AnyText {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: Error>(self, _: &str) -> Result<Text, E> {
                Ok(Text)
            }
        }
        deserializer.deserialize_str(AnyText)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn file(header: &str, data: &[u8]) -> Blob {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(data);
        Blob::new(bytes)
    }

    fn entry(name: &str, dtype: &str, shape: &str, begin: u64, end: u64) -> String {
        format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
    }

    fn error(entries: &[String], data: &[u8]) -> String {
        let d = parse(&file(&format!("{{{}}}", entries.join(",")), data)).unwrap_err();
        assert_eq!(d.kind, Kind::WrongInput);
        d.to_string()
    }

    #[test]
    fn tensors_are_slices_of_the_file_in_its_order() {
        let entries =
            [entry("b", "F32", "[2]", 1, 9), entry("a", "BOOL", "[]", 0, 1), entry("e", "BF16", "[0,3]", 9, 9)];
        let header = format!(r#"{{"__metadata__":{{"format":"pt"}},{}}}   "#, entries.join(","));
        let data = [&[1u8][..], &1.5f32.to_le_bytes(), &(-2f32).to_le_bytes()].concat();
        let file = file(&header, &data);
        let dict = parse(&file).unwrap();
        assert_eq!(dict.iter().map(|(n, _)| n).collect::<Vec<_>>(), ["b", "a", "e"]);
        assert_eq!(dict.get("b").unwrap(), &Tensor::new(&[2], &[1.5f32, -2.0]));
        assert_eq!(dict.get("e").unwrap().dims(), [0, 3]);
        assert!(file.bytes().as_ptr_range().contains(&dict.get("b").unwrap().bytes().as_ptr()));
        assert!(parse(&super::tests::file("{}", &[])).unwrap().is_empty());
    }

    #[test]
    fn holes_overlaps_and_wrong_lengths_are_refused() {
        let f = |name: &str, begin, end| entry(name, "F32", "[1]", begin, end);
        assert!(error(&[f("a", 0, 4), f("b", 8, 12)], &[0; 12]).contains("hole"));
        assert!(error(&[f("a", 0, 4), f("b", 2, 6)], &[0; 6]).contains("overlaps"));
        assert!(error(&[f("a", 4, 0)], &[0; 4]).contains("ends before it begins"));
        assert!(error(&[f("a", 0, 8)], &[0; 4]).contains("ends after the file"));
        assert!(error(&[f("a", 0, 4)], &[0; 5]).contains("data after the last tensor"));
        assert!(error(&[entry("a", "F32", "[2]", 0, 4)], &[0; 4]).contains("takes 8 bytes, found 4"));
        assert!(error(&[entry("a", "F32", "[9223372036854775807,9]", 0, 4)], &[0; 4]).contains("too large"));
        assert!(error(&[entry("a", "F32", "[18446744073709551615,0]", 0, 0)], &[]).contains("too large"));
        assert!(error(&[f("a", u64::MAX - 3, u64::MAX)], &[0; 4]).contains("ends after the file"));
        let deep = format!("[{}1]", "1,".repeat(64));
        assert!(error(&[entry("a", "U8", &deep, 0, 1)], &[0]).contains("too many dimensions"));
    }

    #[test]
    fn wrong_headers_are_refused() {
        let f = entry("a", "F32", "[1]", 0, 4);
        assert!(error(&[f.clone(), f.clone()], &[0; 4]).contains("`a` occurs twice"));
        assert!(error(&[f.replace("dtype", "dtypo")], &[0; 4]).contains("dtypo"));
        assert!(error(&[f.replace("[1]", "[-1]")], &[0; 4]).contains("-1"));
        assert!(error(&[f.replace("[1]", "[1.0]")], &[0; 4]).contains("the header is wrong"));
        assert!(error(&[f.replace("F32", "f32")], &[0; 4]).contains("did you mean `F32`?"));
        assert!(error(&[r#""__metadata__":{"a":1}"#.to_string()], &[]).contains("a string"));
        let raw = |bytes: &[u8]| parse(&Blob::new(bytes.to_vec())).unwrap_err().to_string();
        assert!(raw(&[0; 7]).contains("the file ends"));
        assert!(raw(&u64::MAX.to_le_bytes()).contains("too long"));
        assert!(raw(&100u64.to_le_bytes()).contains("longer than the file"));
        assert!(parse(&file(" {}", &[])).unwrap_err().message.contains("begin with `{`"));
        let d = parse(&file(r#"{"a":}"#, &[])).unwrap_err();
        assert_eq!(d.offset, Some(8 + 5));
    }

    #[test]
    fn narrow_floats_are_unsupported() {
        let entries = [entry("a", "F8_E4M3", "[2]", 0, 2), entry("b", "C64", "[1]", 2, 10)];
        let d = parse(&file(&format!("{{{}}}", entries.join(",")), &[0; 10])).unwrap_err();
        assert_eq!(d.kind, Kind::Unsupported);
        assert!(d.message.contains("`a` (and 1 more)"), "{d}");
    }

    #[test]
    fn ten_thousand_tensors_take_no_time() {
        let entries: Vec<_> = (0..10_000).map(|i| entry(&format!("layer.{i}.weight"), "U8", "[1]", i, i + 1)).collect();
        let file = file(&format!("{{{}}}", entries.join(",")), &[0; 10_000]);
        assert_eq!(parse(&file).unwrap().len(), 10_000);
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_read_or_refused() {
        let entries = [entry("a", "F32", "[2,1]", 0, 8), entry("b", "I8", "[3]", 8, 11)];
        let whole = file(&format!("{{{}}}", entries.join(",")), &[0; 11]).bytes().to_vec();
        for end in 0..whole.len() {
            assert!(parse(&Blob::new(whole[..end].to_vec())).is_err());
        }
        for (at, bit) in (0..whole.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            // The outcome depends on the byte; what counts is that there is one.
            let _ = parse(&Blob::new(bytes));
        }
    }
}
