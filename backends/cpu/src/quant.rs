//! Codes of small types to f32 and back, slice by slice; packed types included.

use half::{bf16, f16};
use rinfer_graph::float8::{
    F4E2M1, F8E4M3FN, F8E4M3FNUZ, F8E5M2, F8E5M2FNUZ, F8E8M0, Round, f4e2m1_from_f32,
};
use rinfer_graph::{DType, Reason, unsupported};

use crate::simd::Isa;

/// The elements from `start` on, as many as `y` has, of a tensor's bytes at any alignment.
///
/// Integers of 32 bits are rounded to f32; everything else is exact.
///
/// # Panics
/// There are fewer elements.
pub fn read_f32(dtype: DType, x: &[u8], start: usize, y: &mut [f32]) -> Result<(), Reason> {
    macro_rules! words {
        ($n:literal, $bytes:ident => $value:expr) => {{
            let x = x[start * $n..(start + y.len()) * $n].as_chunks::<$n>().0;
            for (y, &$bytes) in y.iter_mut().zip(x) {
                *y = $value;
            }
        }};
    }
    match dtype {
        DType::F32 => words!(4, b => f32::from_le_bytes(b)),
        DType::F16 => words!(2, b => f16::from_le_bytes(b).to_f32()),
        DType::BF16 => words!(2, b => bf16::from_le_bytes(b).to_f32()),
        DType::I32 => words!(4, b => i32::from_le_bytes(b) as f32),
        DType::U16 => words!(2, b => f32::from(u16::from_le_bytes(b))),
        DType::I16 => words!(2, b => f32::from(i16::from_le_bytes(b))),
        DType::U8 => words!(1, b => f32::from(b[0])),
        DType::I8 => words!(1, b => f32::from(b[0] as i8)),
        DType::F8E4M3FN => words!(1, b => F8E4M3FN(b[0]).to_f32()),
        DType::F8E4M3FNUZ => words!(1, b => F8E4M3FNUZ(b[0]).to_f32()),
        DType::F8E5M2 => words!(1, b => F8E5M2(b[0]).to_f32()),
        DType::F8E5M2FNUZ => words!(1, b => F8E5M2FNUZ(b[0]).to_f32()),
        DType::F8E8M0 => words!(1, b => F8E8M0(b[0]).to_f32()),
        DType::U4 | DType::I4 | DType::U2 | DType::I2 | DType::F4E2M1 => {
            read_packed(dtype, x, start, y);
        }
        dtype => return Err(unsupported!("codes of type {dtype} are not supported")),
    }
    Ok(())
}

/// Types of 4 and 2 bits, the first element in the low bits.
fn read_packed(dtype: DType, x: &[u8], start: usize, y: &mut [f32]) {
    let bits = dtype.bits();
    let (each, mask) = (8 / bits, (1u8 << bits) - 1);
    for (i, y) in (start..).zip(y) {
        let code = x[i / each] >> (i % each * bits) & mask;
        let signed = || f32::from((code << (8 - bits)) as i8 >> (8 - bits));
        *y = match dtype {
            DType::F4E2M1 => F4E2M1[usize::from(code)],
            DType::I4 | DType::I2 => signed(),
            _ => f32::from(code),
        };
    }
}

/// Writes numbers as codes of a type to the front of `y`; integers must be in range already.
///
/// What a float type cannot hold becomes its largest finite value (`saturate`), or infinity or
/// NaN. A byte that is not filled keeps zeros in its high bits.
///
/// # Panics
/// There is no room.
pub fn write_codes(
    isa: Isa,
    dtype: DType,
    x: &[f32],
    saturate: bool,
    y: &mut [u8],
) -> Result<(), Reason> {
    macro_rules! words {
        ($n:literal, $v:ident => $bytes:expr) => {{
            let y = y[..x.len() * $n].as_chunks_mut::<$n>().0;
            for (y, &$v) in y.iter_mut().zip(x) {
                *y = $bytes;
            }
        }};
    }
    match dtype {
        DType::F32 => words!(4, v => v.to_le_bytes()),
        DType::F16 => words!(2, v => f16::from_f32(v).to_le_bytes()),
        DType::BF16 => words!(2, v => bf16::from_f32(v).to_le_bytes()),
        DType::U8 => to_u8(isa, x, y),
        DType::I8 => to_i8(isa, x, y),
        DType::U16 => words!(2, v => (v as u16).to_le_bytes()),
        DType::I16 => words!(2, v => (v as i16).to_le_bytes()),
        DType::F8E4M3FN => words!(1, v => [F8E4M3FN::from_f32(v, saturate).0]),
        DType::F8E4M3FNUZ => words!(1, v => [F8E4M3FNUZ::from_f32(v, saturate).0]),
        DType::F8E5M2 => words!(1, v => [F8E5M2::from_f32(v, saturate).0]),
        DType::F8E5M2FNUZ => words!(1, v => [F8E5M2FNUZ::from_f32(v, saturate).0]),
        DType::F8E8M0 => words!(1, v => [F8E8M0::from_f32(v, saturate, Round::Up).0]),
        DType::U4 | DType::I4 => write_packed::<4>(x, y, |v| v as i32 as u8),
        DType::U2 | DType::I2 => write_packed::<2>(x, y, |v| v as i32 as u8),
        DType::F4E2M1 => write_packed::<4>(x, y, f4e2m1_from_f32),
        dtype => return Err(unsupported!("codes of type {dtype} are not supported")),
    }
    Ok(())
}

fn write_packed<const BITS: usize>(x: &[f32], y: &mut [u8], code: impl Fn(f32) -> u8) {
    let mask = (1u8 << BITS) - 1;
    for (x, y) in x.chunks(8 / BITS).zip(y) {
        let add = |byte, (i, &v): (usize, &f32)| byte | (code(v) & mask) << (i * BITS);
        *y = x.iter().enumerate().fold(0, add);
    }
}

crate::simd_fn! {
    fn to_u8(_s: S, x: &[f32], y: &mut [u8]) {
        let n = x.len();
        for (x, y) in x.iter().zip(&mut y[..n]) {
            *y = *x as u8;
        }
    }
}

crate::simd_fn! {
    fn to_i8(_s: S, x: &[f32], y: &mut [u8]) {
        let n = x.len();
        for (x, y) in x.iter().zip(&mut y[..n]) {
            *y = *x as i8 as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_codes_come_back() {
        for (dtype, x) in [
            (DType::I4, vec![-8.0, 7.0, -1.0]),
            (DType::U4, vec![15.0, 0.0, 3.0, 9.0]),
            (DType::I2, vec![-2.0, 1.0, -1.0, 0.0, 1.0]),
            (DType::U2, vec![3.0, 1.0, 2.0]),
            (DType::F4E2M1, vec![-6.0, 0.5, 1.5]),
        ] {
            let mut codes = vec![0xff; dtype.bytes_for(x.len()).unwrap()];
            write_codes(Isa::best(), dtype, &x, true, &mut codes).unwrap();
            let mut y = vec![0.0; x.len() - 1];
            read_f32(dtype, &codes, 1, &mut y).unwrap();
            assert_eq!(y, x[1..], "{dtype}");
        }
    }
}
