//! Arrays in NumPy's files: f32, i64, i32 and bool, little-endian, in C order.

use std::path::Path;

use crate::Result;

/// What an array holds.
#[derive(Clone, Debug)]
pub enum Elements {
    F32(Vec<f32>),
    I64(Vec<i64>),
    I32(Vec<i32>),
    Bool(Vec<bool>),
}

/// A dense array.
#[derive(Clone, Debug)]
pub struct Array {
    pub shape: Vec<usize>,
    pub elements: Elements,
}

/// The arrays of a folder, each named as its file.
pub fn read_folder(folder: &Path) -> Result<Vec<(String, Array)>> {
    let mut arrays = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "npy") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            arrays.push((name, read(&path)?));
        }
    }
    arrays.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(arrays)
}

fn read(path: &Path) -> Result<Array> {
    let bytes = std::fs::read(path)?;
    let (size, start) = match bytes.get(6) {
        Some(1) => (usize::from(u16::from_le_bytes([bytes[8], bytes[9]])), 10),
        _ => (u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]) as usize, 12),
    };
    let header = std::str::from_utf8(&bytes[start..start + size])?;
    let after = |key: &str| header.split_once(key).map(|(_, rest)| rest).ok_or("a bad header");
    let dims = after("'shape': (")?.split(')').next().unwrap_or_default();
    let dims = dims.split(',').map(str::trim).filter(|d| !d.is_empty());
    let shape = dims.map(str::parse).collect::<std::result::Result<Vec<usize>, _>>()?;
    let kind = after("'descr': '")?.split('\'').next().unwrap_or_default();
    let data = &bytes[start + size..];
    let elements = match kind {
        "<f4" => Elements::F32(words(data).map(f32::from_le_bytes).collect()),
        "<i4" => Elements::I32(words(data).map(i32::from_le_bytes).collect()),
        "<i8" => Elements::I64(words(data).map(i64::from_le_bytes).collect()),
        "|b1" => Elements::Bool(data.iter().map(|&x| x != 0).collect()),
        other => return Err(format!("{}: elements of {other}", path.display()).into()),
    };
    Ok(Array { shape, elements })
}

fn words<const N: usize>(data: &[u8]) -> impl Iterator<Item = [u8; N]> {
    data.as_chunks::<N>().0.iter().copied()
}

/// Writes an array of f32 or i64.
pub fn write(path: &Path, array: &Array) -> Result<()> {
    let (kind, data): (&str, Vec<u8>) = match &array.elements {
        Elements::F32(x) => ("<f4", x.iter().flat_map(|x| x.to_le_bytes()).collect()),
        Elements::I64(x) => ("<i8", x.iter().flat_map(|x| x.to_le_bytes()).collect()),
        Elements::I32(x) => ("<i4", x.iter().flat_map(|x| x.to_le_bytes()).collect()),
        Elements::Bool(x) => ("|b1", x.iter().map(|&x| u8::from(x)).collect()),
    };
    let dims: String = array.shape.iter().map(|n| format!("{n}, ")).collect();
    let mut header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({dims}), }}");
    while (header.len() + 11) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(data);
    Ok(std::fs::write(path, file)?)
}
