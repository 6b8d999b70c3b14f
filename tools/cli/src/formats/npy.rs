//! NumPy's `.npy`: a magic number, a Python dict as text, and the elements (NEP 1).

use rinfer::{DType, Tensor, Value};

/// dtype and NumPy's name for it, little-endian.
const DESCR: &[(DType, &str)] = &[
    (DType::F32, "<f4"),
    (DType::F64, "<f8"),
    (DType::F16, "<f2"),
    (DType::I8, "|i1"),
    (DType::I16, "<i2"),
    (DType::I32, "<i4"),
    (DType::I64, "<i8"),
    (DType::U8, "|u1"),
    (DType::U16, "<u2"),
    (DType::U32, "<u4"),
    (DType::U64, "<u8"),
    (DType::Bool, "|b1"),
    (DType::C64, "<c8"),
    (DType::C128, "<c16"),
];

/// The longest head that is read.
const MAX_HEAD: usize = 64 << 10;

/// Reads a tensor. Arrays in Fortran's order are put in C's; big-endian ones are swapped.
pub fn decode(bytes: &[u8]) -> Result<Tensor, String> {
    let (head, data) = split(bytes)?;
    let descr = field(head, "descr").ok_or("no descr in the head")?;
    let descr = descr.trim_matches(['\'', '"']);
    let fortran = field(head, "fortran_order").is_some_and(|v| v == "True");
    let shape = shape(&field(head, "shape").ok_or("no shape in the head")?)?;
    let big = descr.starts_with('>');
    let name = descr.trim_start_matches(['<', '>', '=', '|']);
    let named = |row: &&(DType, &str)| row.1.trim_start_matches(['<', '|']) == name;
    let dtype = DESCR.iter().find(named).map(|row| row.0);
    let dtype = dtype.ok_or_else(|| format!("arrays of type {descr} are not read"))?;
    let mut data = data.to_vec();
    if big {
        let complex = matches!(dtype, DType::C64 | DType::C128);
        let width = if complex { dtype.size() / 2 } else { dtype.size() };
        data.chunks_exact_mut(width.max(1)).for_each(<[u8]>::reverse);
    }
    if fortran && shape.len() > 1 {
        data = transpose(&data, &shape, dtype.size())?;
    }
    Tensor::from_bytes(dtype, &shape, data.into()).map_err(|e| e.to_string())
}

fn split(bytes: &[u8]) -> Result<(&str, &[u8]), String> {
    let bad = || "not a .npy file".to_string();
    let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or_else(bad)?;
    let (&[major, _], rest) = rest.split_first_chunk::<2>().ok_or_else(bad)?;
    let (len, rest) = if major == 1 {
        let (n, rest) = rest.split_first_chunk::<2>().ok_or_else(bad)?;
        (u16::from_le_bytes(*n) as usize, rest)
    } else {
        let (n, rest) = rest.split_first_chunk::<4>().ok_or_else(bad)?;
        (u32::from_le_bytes(*n) as usize, rest)
    };
    if len > MAX_HEAD || len > rest.len() {
        return Err(format!("a head of {len} bytes"));
    }
    let (head, data) = rest.split_at(len);
    Ok((std::str::from_utf8(head).map_err(|_| bad())?, data))
}

/// The value of a key in the head's dict: up to the comma, or the bracket that closes a tuple.
fn field(head: &str, key: &str) -> Option<String> {
    let at = head.find(&format!("'{key}'"))? + key.len() + 2;
    let rest = head[at..].trim_start().strip_prefix(':')?.trim_start();
    let end = if rest.starts_with('(') { rest.find(')')? + 1 } else { rest.find([',', '}'])? };
    Some(rest[..end].trim().to_string())
}

fn shape(tuple: &str) -> Result<Vec<usize>, String> {
    let inner = tuple.trim_start_matches('(').trim_end_matches(')');
    let sizes = inner.split(',').map(str::trim).filter(|s| !s.is_empty());
    sizes.map(|s| s.parse().map_err(|_| format!("shape {tuple}"))).collect()
}

/// From the first axis fastest to the last axis fastest.
fn transpose(data: &[u8], shape: &[usize], width: usize) -> Result<Vec<u8>, String> {
    let n = rinfer::graph::shape::count(shape).ok_or("the shape overflows")?;
    if n.checked_mul(width) != Some(data.len()) {
        return Err(format!("{} bytes for shape {shape:?}", data.len()));
    }
    let mut out = Vec::with_capacity(data.len());
    let mut at = vec![0; shape.len()];
    for _ in 0..n {
        let index = at.iter().zip(shape).rev().fold(0, |sum, (i, size)| sum * size + i);
        out.extend_from_slice(&data[index * width..][..width]);
        for (i, &size) in at.iter_mut().zip(shape).rev() {
            *i += 1;
            if *i < size {
                break;
            }
            *i = 0;
        }
    }
    Ok(out)
}

/// Writes a tensor, version 1.0. `Err` for types that NumPy has no name for.
pub fn encode(value: &Value) -> Result<Vec<u8>, String> {
    let t = value.as_tensor().map_err(|e| format!("{e}; use --output-format pb or json"))?;
    let row = DESCR.iter().find(|row| row.0 == t.dtype());
    let (_, descr) = row.ok_or_else(|| format!("NumPy has no {}; use pb or json", t.dtype()))?;
    let sizes: String = t.shape().iter().map(|n| format!("{n}, ")).collect();
    let sizes = if t.rank() == 1 { sizes.trim_end() } else { sizes.trim_end_matches(", ") };
    let mut head = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({sizes}), }}");
    // The elements begin at a multiple of 64 bytes.
    while (10 + head.len() + 1) % 64 != 0 {
        head.push(' ');
    }
    head.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend_from_slice(&(head.len() as u16).to_le_bytes());
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(t.as_bytes());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for shape in [&[][..], &[3], &[2, 0], &[2, 3]] {
            let n = shape.iter().product::<usize>();
            let t = Tensor::from_slice(shape, &vec![1.5f32; n]);
            assert_eq!(decode(&encode(&t.clone().into()).unwrap()).unwrap(), t);
        }
    }

    #[test]
    fn broken_files_are_errors() {
        let good = encode(&Tensor::from_slice(&[2, 3], &[1i64; 6]).into()).unwrap();
        for n in 0..good.len() {
            assert!(decode(&good[..n]).is_err(), "{n}");
        }
        let object =
            b"\x93NUMPY\x01\x00\x36\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,)}";
        assert!(decode(object).is_err());
    }

    #[test]
    fn fortran_order_is_put_right() {
        let head = "{'descr': '<i4', 'fortran_order': True, 'shape': (2, 3), }\n";
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend_from_slice(&(head.len() as u16).to_le_bytes());
        file.extend_from_slice(head.as_bytes());
        for x in [1i32, 4, 2, 5, 3, 6] {
            file.extend_from_slice(&x.to_le_bytes());
        }
        assert_eq!(decode(&file).unwrap().as_slice::<i32>(), [1, 2, 3, 4, 5, 6]);
    }
}
