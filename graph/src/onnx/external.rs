//! Tensor data outside the model file: one description, one resolver for every place.
//!
//! A tensor with `data_location = EXTERNAL` names a file beside the model and a range in it (ONNX
//! IR, "External Tensor Data"). What the names mean is checked here; opening files is the
//! caller's, behind [`ExternalData`].

use std::collections::HashMap;

use bytes::Bytes;
use rinfer_onnx_proto::TensorProto;

use crate::{Reason, invalid, unsupported};

/// Gives the bytes that a model keeps outside of itself.
pub trait ExternalData {
    /// `length` bytes from `offset` of the file at `location`, a path below the model's folder
    /// with `/` between names; `length` `None` is all to the end. `Err` if there are fewer.
    fn read(&self, location: &str, offset: u64, length: Option<u64>) -> Result<Bytes, Reason>;
}

/// For models given as bytes: there is no folder, so there is no external data.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoExternalData;

impl ExternalData for NoExternalData {
    fn read(&self, location: &str, _: u64, _: Option<u64>) -> Result<Bytes, Reason> {
        Err(unsupported!("external data {location:?} of a model that was given as bytes"))
    }
}

/// Files that a program holds in memory, by their path below the model's folder.
#[derive(Clone, Debug, Default)]
pub struct Files(HashMap<String, Bytes>);

impl Files {
    /// Adds a file, or puts another in its place.
    pub fn insert(&mut self, location: &str, bytes: Bytes) {
        self.0.insert(plain(location).to_string(), bytes);
    }
}

/// `./a` is `a`.
fn plain(location: &str) -> &str {
    location.trim_start_matches("./")
}

impl ExternalData for Files {
    fn read(&self, location: &str, offset: u64, length: Option<u64>) -> Result<Bytes, Reason> {
        let Some(file) = self.0.get(plain(location)) else {
            return match self.0.is_empty() {
                true => NoExternalData.read(location, offset, length),
                false => Err(invalid!("external data {location:?} was not given")),
            };
        };
        let start = usize::try_from(offset).ok().filter(|&start| start <= file.len());
        let rest = start.map(|start| file.slice(start..));
        let length = length.map(usize::try_from).transpose().ok();
        let part = rest.zip(length).and_then(|(rest, length)| match length {
            Some(length) if length > rest.len() => None,
            Some(length) => Some(rest.slice(..length)),
            None => Some(rest),
        });
        part.ok_or_else(|| {
            let (bytes, wanted) = (file.len(), length.flatten().unwrap_or_default());
            invalid!("external data {location:?} has {bytes} bytes, none for {wanted} at {offset}")
        })
    }
}

/// The bytes of a tensor whose data is external.
pub(super) fn read(
    t: &TensorProto,
    source: &dyn ExternalData,
    expected: usize,
) -> Result<Bytes, Reason> {
    let (mut location, mut offset, mut length) = (None, 0u64, None);
    for entry in &t.external_data {
        let number = || {
            entry.value().parse::<u64>().map_err(|_| {
                invalid!("external data {}: {:?} is no number of bytes", entry.key(), entry.value())
            })
        };
        match entry.key() {
            "location" => location = Some(entry.value()),
            "offset" => offset = number()?,
            "length" => length = Some(number()?),
            // `checksum` is optional and other keys are for other tools.
            _ => {}
        }
    }
    let location = location.ok_or_else(|| invalid!("external data without a location"))?;
    check_location(location)?;
    if length.is_some_and(|n| n != expected as u64) {
        let length = length.unwrap_or_default();
        return Err(invalid!("external data of {length} bytes for a tensor of {expected}"));
    }
    if offset.checked_add(expected as u64).is_none() {
        return Err(invalid!(
            "external data at offset {offset} with {expected} bytes wraps around"
        ));
    }
    source.read(location, offset, Some(expected as u64))
}

/// `Err` unless the location names a file below the model's folder on every system.
pub fn check_location(location: &str) -> Result<(), Reason> {
    let bad = |why: &str| Err(invalid!("external data location {location:?} {why}"));
    if location.is_empty() {
        return bad("is empty");
    }
    if location.chars().any(|c| c.is_control()) {
        return bad("has a control character");
    }
    if location.contains(['\\', ':']) {
        return bad("has a character that is no part of a relative path on every system");
    }
    if location.starts_with('/') {
        return bad("is absolute");
    }
    if location.split('/').any(|part| part.is_empty() || part == "..") {
        return bad("leaves the model's folder");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_in_memory_are_read_within_their_bounds() {
        let mut files = Files::default();
        assert!(files.read("w", 0, None).unwrap_err().text.contains("given as bytes"));
        files.insert("./w", Bytes::from_static(b"0123"));
        assert_eq!(files.read("w", 1, Some(2)).unwrap(), "12");
        assert_eq!(files.read("./w", 4, None).unwrap(), "");
        for (offset, length) in [(0, Some(5)), (5, None), (3, Some(u64::MAX)), (u64::MAX, Some(1))]
        {
            assert!(files.read("w", offset, length).is_err());
        }
        assert!(files.read("v", 0, None).is_err());
    }

    #[test]
    fn only_plain_relative_paths_pass() {
        for good in ["weights.bin", "a/b.data", "./w", "..data"] {
            assert!(check_location(good).is_ok(), "{good}");
        }
        for bad in ["", "/etc/passwd", "../x", "a/../../x", "a//b", "C:x", "a\\b", "a\0b", "a:b"] {
            assert!(check_location(bad).is_err(), "{bad}");
        }
    }
}
