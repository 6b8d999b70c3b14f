//! NumPy's `.npz`: a zip of `.npy` files.

use std::io::{Cursor, Read, Write};

use rinfer::{Tensor, Value};
use zip::{ZipArchive, ZipWriter, write::SimpleFileOptions};

use super::npy;

/// A file that unpacks to more than this many times its size is refused.
const MAX_RATIO: u64 = 200;

/// The arrays by name, in the archive's order.
pub fn decode(bytes: &[u8]) -> Result<Vec<(String, Tensor)>, String> {
    let mut zip = ZipArchive::new(Cursor::new(bytes)).map_err(|e| e.to_string())?;
    let mut arrays = Vec::new();
    for i in 0..zip.len() {
        let mut file = zip.by_index(i).map_err(|e| e.to_string())?;
        let name = file.name().trim_end_matches(".npy").to_string();
        let (size, packed) = (file.size(), file.compressed_size().max(1024));
        if size / packed > MAX_RATIO {
            return Err(format!("{name} unpacks to {size} bytes from {packed}"));
        }
        let mut data = Vec::new();
        // The size in the directory may lie: no more than it says is read.
        let mut limited = Read::take(&mut file, size.saturating_add(1));
        limited.read_to_end(&mut data).map_err(|e| format!("{name}: {e}"))?;
        if data.len() as u64 != size {
            return Err(format!("{name} has {} bytes, not {size}", data.len()));
        }
        arrays.push((name.clone(), npy::decode(&data).map_err(|e| format!("{name}: {e}"))?));
    }
    Ok(arrays)
}

/// One array: the one named `key`, or the only one.
pub fn pick(bytes: &[u8], key: Option<&str>) -> Result<Tensor, String> {
    let mut arrays = decode(bytes)?;
    let names: Vec<&str> = arrays.iter().map(|a| a.0.as_str()).collect();
    let found = match key {
        Some(key) => names.iter().position(|n| *n == key),
        None => (names.len() == 1).then_some(0),
    };
    match found {
        Some(i) => Ok(arrays.swap_remove(i).1),
        None => Err(format!("name one of its arrays: {}", names.join(", "))),
    }
}

/// An archive of arrays, not compressed.
pub fn encode(values: &[(String, Value)]) -> Result<Vec<u8>, String> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, value) in values {
        let data = npy::encode(value).map_err(|e| format!("{name}: {e}"))?;
        let options = SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored)
            .large_file(data.len() > u32::MAX as usize);
        zip.start_file(format!("{name}.npy"), options).map_err(|e| e.to_string())?;
        zip.write_all(&data).map_err(|e| e.to_string())?;
    }
    Ok(zip.finish().map_err(|e| e.to_string())?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let t = Tensor::vector(&[1u8, 2, 3]);
        let file =
            encode(&[("a".into(), t.clone().into()), ("b".into(), t.clone().into())]).unwrap();
        assert_eq!(pick(&file, Some("b")).unwrap(), t);
        assert_eq!(pick(&file, None).unwrap_err(), "name one of its arrays: a, b");
    }
}
