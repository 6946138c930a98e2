//! External data: where a tensor says its bytes are, and the trait through which they are had.
//!
//! This crate opens no file. It reads the `location`, `offset` and `length` that a tensor declares, refuses locations
//! that could leave the model's folder, and asks a [`Resolver`]. Whoever implements that must hold to the same borders
//! when it opens the file.

use bitc_ir::Blob;

use crate::proto::StringStringEntryProto;

/// Hands out ranges of files beside the model.
pub trait Resolver {
    /// Exactly `len` bytes from `offset` of the file at `location`.
    ///
    /// # Errors
    /// If there is no such file, it leaves the folder, or it is shorter.
    fn read(&mut self, location: &Location, offset: u64, len: u64) -> Result<Blob, ResolveError>;

    /// The length of the file at `location`.
    ///
    /// # Errors
    /// If there is no such file or it leaves the folder.
    fn len(&mut self, location: &Location) -> Result<u64, ResolveError>;
}

/// Why a resolver has no bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ResolveError {
    /// What is wrong, naming the file.
    pub message: String,
    /// What the user can do.
    pub hint: Option<String>,
}

/// A resolver for models that must bring all their data along.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFiles;

impl NoFiles {
    fn refuse(location: &Location) -> ResolveError {
        ResolveError {
            message: format!("{} is not available here", crate::error::quoted(location.as_str())),
            hint: Some("save the model with its weights inside the file".into()),
        }
    }
}

impl Resolver for NoFiles {
    fn read(&mut self, location: &Location, _: u64, _: u64) -> Result<Blob, ResolveError> {
        Err(Self::refuse(location))
    }

    fn len(&mut self, location: &Location) -> Result<u64, ResolveError> {
        Err(Self::refuse(location))
    }
}

/// A path that stays below the folder of the model: plain names separated by `/`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Location(String);

impl Location {
    /// The longest path.
    const MAX_LEN: usize = 4096;

    /// Checks a path. A leading or inner `.` is dropped; every other component must be a plain name.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(path: &str) -> Result<Self, String> {
        let refuse = |why: &str| Err(format!("location {} {why}", crate::error::quoted(path)));
        if path.len() > Self::MAX_LEN {
            return refuse("is too long");
        }
        if path.chars().any(char::is_control) {
            return refuse("holds a control character");
        }
        if path.starts_with('/') || path.contains(['\\', ':']) {
            return refuse("is not a relative path with `/`");
        }
        let parts: Vec<&str> = path.split('/').filter(|&p| p != ".").collect();
        if parts.contains(&"..") {
            return refuse("leaves the folder of the model");
        }
        if parts.is_empty() || parts.contains(&"") {
            return refuse("has an empty component");
        }
        Ok(Self(parts.join("/")))
    }

    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The components, outermost first; each is a plain name.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

/// The range of a file that a tensor names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The file.
    pub location: Location,
    /// First byte.
    pub offset: u64,
    /// Bytes, if stated.
    pub length: Option<u64>,
}

impl Extent {
    /// Reads the entries of `external_data`. A checksum is not checked; keys that ONNX does not know are refused.
    ///
    /// # Errors
    /// What is wrong with them, in words.
    pub fn parse(entries: &[StringStringEntryProto]) -> Result<Self, String> {
        let (mut location, mut offset, mut length) = (None, None, None);
        for entry in entries {
            let number = || {
                // `str::parse` takes a sign, which a length does not have.
                let digits = !entry.value.is_empty() && entry.value.bytes().all(|b| b.is_ascii_digit());
                digits.then(|| entry.value.parse::<u64>().ok()).flatten().ok_or_else(|| {
                    let (key, value) = (&entry.key, crate::error::quoted(&entry.value));
                    format!("`{key}` must be a number of bytes, found {value}")
                })
            };
            let twice = match entry.key.as_str() {
                "location" => location.replace(Location::parse(&entry.value)?).is_some(),
                "offset" => offset.replace(number()?).is_some(),
                "length" => length.replace(number()?).is_some(),
                "checksum" | "basepath" => false,
                key => return Err(format!("unknown key {}", crate::error::quoted(key))),
            };
            if twice {
                return Err(format!("`{}` is given twice", entry.key));
            }
        }
        let location = location.ok_or("`location` is missing")?;
        Ok(Self { location, offset: offset.unwrap_or(0), length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(pairs: &[(&str, &str)]) -> Vec<StringStringEntryProto> {
        pairs.iter().map(|(k, v)| StringStringEntryProto { key: (*k).into(), value: (*v).into() }).collect()
    }

    #[test]
    fn a_plain_path_below_the_model_is_a_location() {
        assert_eq!(Location::parse("w.data").unwrap().as_str(), "w.data");
        assert_eq!(Location::parse("./a/./b.bin").unwrap().as_str(), "a/b.bin");
        assert_eq!(Location::parse("..data").unwrap().as_str(), "..data");
    }

    #[test]
    fn a_path_that_could_leave_the_folder_is_none() {
        for path in ["", ".", "/etc/passwd", "../w", "a/../../w", "a//b", "a/", "a\0b", "a\nb", "C:\\w", "a\\b", "C:w"]
        {
            assert!(Location::parse(path).is_err(), "{path:?}");
        }
        assert!(Location::parse(&"a".repeat(5000)).is_err());
    }

    #[test]
    fn an_extent_reads_its_keys_strictly() {
        let extent = Extent::parse(&entries(&[("location", "w"), ("offset", "8"), ("length", "16")])).unwrap();
        assert_eq!((extent.offset, extent.length), (8, Some(16)));
        let fault = |pairs: &[(&str, &str)]| Extent::parse(&entries(pairs)).unwrap_err();
        assert_eq!(fault(&[("offset", "0")]), "`location` is missing");
        assert_eq!(fault(&[("location", "w"), ("location", "w")]), "`location` is given twice");
        assert_eq!(fault(&[("location", "w"), ("length", "-1")]), "`length` must be a number of bytes, found `-1`");
        assert_eq!(fault(&[("location", "w"), ("length", "+1")]), "`length` must be a number of bytes, found `+1`");
        assert_eq!(fault(&[("location", "w"), ("lenght", "1")]), "unknown key `lenght`");
        assert!(fault(&[("location", "w"), ("offset", "99999999999999999999")]).contains("number of bytes"));
    }
}
