//! Short ways to write ONNX messages.

use bitc_ir::Blob;
use bitc_onnx::external::{Location, ResolveError, Resolver};
use bitc_onnx::proto::{EXTERNAL, StringStringEntryProto, TensorProto};

/// A tensor with raw data.
pub(crate) fn raw(name: &str, data_type: i32, dims: &[i64], bytes: &[u8]) -> TensorProto {
    let raw_data = Some(bytes.to_vec().into());
    TensorProto { name: name.into(), data_type, dims: dims.into(), raw_data, ..Default::default() }
}

/// A tensor without data.
pub(crate) fn empty(name: &str, data_type: i32, dims: &[i64]) -> TensorProto {
    TensorProto { name: name.into(), data_type, dims: dims.into(), ..Default::default() }
}

/// A tensor in another file.
pub(crate) fn external(name: &str, data_type: i32, dims: &[i64], keys: &[(&str, &str)]) -> TensorProto {
    TensorProto { data_location: EXTERNAL, external_data: entries(keys), ..empty(name, data_type, dims) }
}

/// Keys and values.
pub(crate) fn entries(pairs: &[(&str, &str)]) -> Vec<StringStringEntryProto> {
    pairs.iter().map(|(k, v)| StringStringEntryProto { key: (*k).into(), value: (*v).into() }).collect()
}

/// Files in memory.
pub(crate) struct Files(pub(crate) Vec<(&'static str, Vec<u8>)>);

impl Files {
    fn find(&self, location: &Location) -> Result<&Vec<u8>, ResolveError> {
        let found = self.0.iter().find(|(name, _)| *name == location.as_str());
        found.map(|(_, bytes)| bytes).ok_or_else(|| ResolveError { message: "no such file".into(), hint: None })
    }
}

impl Resolver for Files {
    fn read(&mut self, location: &Location, offset: u64, len: u64) -> Result<Blob, ResolveError> {
        let bytes = self.find(location)?;
        Ok(Blob::new(bytes[offset as usize..(offset + len) as usize].to_vec()))
    }

    fn len(&mut self, location: &Location) -> Result<u64, ResolveError> {
        Ok(self.find(location)?.len() as u64)
    }
}
