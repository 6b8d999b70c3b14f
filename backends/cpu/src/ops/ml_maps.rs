//! Values looked up, and maps to rows and back.
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rinfer_graph::ops::{LabelEncoder, Labels, MapOp};
use rinfer_graph::{
    DType, Key, Reason, Strings, Tensor, Type, Value, invalid, unsupported, with_dtype,
};

use super::wide::Wide;
use crate::kernel::Kernel;

/// A key as something that can be looked up: of floats the bits, 0 and NaN of one kind each.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Item {
    Text(String),
    Int(i64),
    Bits(u64),
}

fn float(x: f64) -> Item {
    Item::Bits(if x.is_nan() { f64::NAN } else { x + 0.0 }.to_bits())
}

fn items(v: &Value) -> Result<Vec<Item>, Reason> {
    Ok(match v {
        Value::Text(s) => s.as_slice().iter().cloned().map(Item::Text).collect(),
        Value::Tensor(t) => match t.dtype() {
            DType::F32 => t.as_slice::<f32>().iter().map(|&x| float(x.into())).collect(),
            DType::F64 => t.as_slice::<f64>().iter().map(|&x| float(x)).collect(),
            dtype => {
                let ints = t.to_ints().ok_or_else(|| unsupported!("keys of type {dtype}"))?;
                ints.into_iter().map(Item::Int).collect()
            }
        },
        other => return Err(invalid!("a {} where keys are expected", other.ty())),
    })
}

pub(super) fn compile_encoder(op: &LabelEncoder) -> Result<Kernel, Reason> {
    let mut index = HashMap::new();
    for (i, key) in items(&op.keys)?.into_iter().enumerate() {
        index.entry(key).or_insert(i);
    }
    let op = op.clone();
    Ok(Kernel::values(move |inputs, cx| {
        cx.check()?;
        let x = inputs.first().and_then(Option::as_ref);
        let x = x.ok_or_else(|| invalid!("input 0 is missing"))?;
        let shape = x.shape().ok_or_else(|| invalid!("a {} where a tensor is needed", x.ty()))?;
        let found: Vec<Option<usize>> =
            items(x)?.iter().map(|item| index.get(item).copied()).collect();
        let y = match (&op.values, &op.default) {
            (Value::Text(values), Value::Text(default)) => {
                let value = |i: &Option<usize>| match i {
                    Some(i) => values.as_slice()[*i].clone(),
                    None => default.as_slice()[0].clone(),
                };
                Value::Text(Strings::new(shape, found.iter().map(value).collect())?)
            }
            (values, default) => {
                let (values, default) = (values.as_tensor()?, default.as_tensor()?);
                let bytes = values.dtype().size();
                if bytes == 0 {
                    return Err(unsupported!("values of type {}", values.dtype()));
                }
                let mut y = Tensor::try_zeros(values.dtype(), shape)?;
                for (y, i) in y.as_mut_bytes().chunks_exact_mut(bytes).zip(&found) {
                    y.copy_from_slice(match i {
                        Some(i) => &values.as_bytes()[i * bytes..][..bytes],
                        None => default.as_bytes(),
                    });
                }
                y.into()
            }
        };
        Ok(vec![y])
    }))
}

pub(super) fn compile(op: &MapOp) -> Result<Kernel, Reason> {
    let op = op.clone();
    Ok(Kernel::values(move |inputs, cx| {
        cx.check()?;
        let x = inputs.first().and_then(Option::as_ref);
        let x = x.ok_or_else(|| invalid!("input 0 is missing"))?;
        let y = match (&op, x) {
            (MapOp::Cast { to, width }, Value::Map { entries, .. }) => cast(entries, *to, *width)?,
            (MapOp::Vectorize(keys), Value::Map { entries, of, .. }) => {
                vectorize(entries, of, keys)?
            }
            (MapOp::Zip(keys), x) => zip(x.as_tensor()?, keys)?,
            (_, other) => return Err(invalid!("a {} where a map is expected", other.ty())),
        };
        Ok(vec![y])
    }))
}

type Entries = BTreeMap<Key, Value>;

/// One element of a map, as a number or a string.
enum Cell<'a> {
    Number(f64),
    Text(&'a str),
}

fn cell(v: &Value) -> Result<Cell<'_>, Reason> {
    match v {
        Value::Text(s) if s.as_slice().len() == 1 => Ok(Cell::Text(&s.as_slice()[0])),
        Value::Tensor(t) if t.len() == 1 => super::wide::scalar(t).map(Cell::Number),
        other => Err(invalid!("a {} in a map where one element is needed", other.ty())),
    }
}

fn cast(entries: &Entries, to: DType, width: Option<usize>) -> Result<Value, Reason> {
    let n = width.unwrap_or(entries.len());
    let mut cells: Vec<Option<Cell<'_>>> = Vec::new();
    // The size comes from the model: it is refused, not trusted, if there is no memory for it.
    cells.try_reserve_exact(n).map_err(|_| Reason::no_memory(n))?;
    cells.resize_with(n, || None);
    for (i, (key, value)) in entries.iter().enumerate() {
        let column = match (width, key) {
            (None, _) => Some(i),
            (Some(_), Key::Int(key)) => usize::try_from(*key).ok().filter(|&key| key < n),
            (Some(_), Key::Text(_)) => None,
        };
        let column = column.ok_or_else(|| invalid!("key {key:?} is no column of {n}"))?;
        cells[column] = Some(cell(value)?);
    }
    let number = |cell: &Option<Cell<'_>>| match cell {
        None => Ok(0.0),
        Some(Cell::Number(x)) => Ok(*x),
        Some(Cell::Text(s)) => s.trim().parse().map_err(|_| invalid!("{s:?} is no number")),
    };
    Ok(match to {
        DType::String => {
            let text = |cell: &Option<Cell<'_>>| match cell {
                None => "0".to_string(),
                Some(Cell::Number(x)) => format!("{x:.6}"),
                Some(Cell::Text(s)) => s.to_string(),
            };
            Value::Text(Strings::new(&[1, n], cells.iter().map(text).collect())?)
        }
        DType::F32 => {
            let row =
                cells.iter().map(|c| number(c).map(f32::narrow)).collect::<Result<Vec<_>, _>>();
            Tensor::try_from_slice(&[1, n], &row?)?.into()
        }
        DType::I64 => {
            let row =
                cells.iter().map(|c| number(c).map(i64::narrow)).collect::<Result<Vec<_>, _>>();
            Tensor::try_from_slice(&[1, n], &row?)?.into()
        }
        other => return Err(unsupported!("a map as a tensor of {other}")),
    })
}

fn keys_of(labels: &Labels) -> Vec<Key> {
    match labels {
        Labels::Ints(keys) => keys.iter().map(|&key| Key::Int(key)).collect(),
        Labels::Texts(keys) => keys.iter().map(|key| Key::Text(key.clone())).collect(),
    }
}

fn vectorize(entries: &Entries, of: &Type, keys: &Labels) -> Result<Value, Reason> {
    let found: Vec<Option<&Value>> = keys_of(keys).iter().map(|key| entries.get(key)).collect();
    let shape = [1, found.len()];
    let dtype = of.dtype().ok_or_else(|| invalid!("values of type {of}"))?;
    if dtype == DType::String {
        let text = |v: &Option<&Value>| match v {
            Some(v) => match cell(v)? {
                Cell::Text(s) => Ok(s.to_string()),
                Cell::Number(_) => Err(invalid!("a number where a string is expected")),
            },
            None => Ok(String::new()),
        };
        let data = found.iter().map(text).collect::<Result<_, Reason>>()?;
        return Ok(Value::Text(Strings::new(&shape, data)?));
    }
    let mut y = Tensor::try_zeros(dtype, &shape)?;
    with_dtype!(dtype, [f32, f64, i64], T => {
        for (y, v) in y.as_mut_slice::<T>().iter_mut().zip(found) {
            if let Some(v) = v {
                let v = v.as_tensor()?;
                if v.dtype() != dtype || v.len() != 1 {
                    return Err(invalid!("{v:?} where one {dtype} is expected"));
                }
                *y = v.as_slice::<T>()[0];
            }
        }
    }, else return Err(unsupported!("a map of {dtype} as a tensor")));
    Ok(y.into())
}

fn zip(x: &Tensor, keys: &Labels) -> Result<Value, Reason> {
    if x.dtype() != DType::F32 {
        return Err(invalid!("values of type {}", x.dtype()));
    }
    let (rows, columns) = super::ml::rows_and_features(x)?;
    if columns != keys.len() {
        return Err(invalid!("{} keys for {columns} columns", keys.len()));
    }
    let names = keys_of(keys);
    let of = Type::Tensor(DType::F32);
    let map = |row: &[f32]| {
        let values = row.iter().map(|&x| Value::Tensor(Tensor::scalar(x)));
        let entries: Entries = names.iter().cloned().zip(values).collect();
        Value::Map { key: keys.dtype(), of: of.clone(), entries: Arc::new(entries) }
    };
    let maps: Vec<Value> = x.as_slice::<f32>().chunks(columns.max(1)).take(rows).map(map).collect();
    Ok(Value::sequence(Type::Map(keys.dtype(), Box::new(of.clone())), maps))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run;
    use crate::simd::Isa;

    fn texts(data: &[&str]) -> Value {
        let data: Vec<String> = data.iter().map(|s| s.to_string()).collect();
        Value::Text(Strings::new(&[data.len()], data).unwrap())
    }

    fn eval(op: impl Into<rinfer_graph::Op>, x: Value) -> Result<Value, Reason> {
        run(Isa::available()[0], op, &[x], 1).map(|mut y| y.remove(0))
    }

    #[test]
    fn what_is_no_key_becomes_the_default() {
        let op = LabelEncoder {
            keys: texts(&["a", "b", "a"]),
            values: Tensor::vector(&[1i16, 2, 3]).into(),
            default: Tensor::scalar(42i16).into(),
        };
        let y = eval(op, texts(&["a", "c", "b"])).unwrap();
        assert_eq!(y, Tensor::vector(&[1i16, 42, 2]).into());
    }

    #[test]
    fn zeros_are_one_key_and_so_is_nan() {
        let op = LabelEncoder {
            keys: Tensor::vector(&[0f32, f32::NAN]).into(),
            values: texts(&["zero", "none"]),
            default: texts(&["?"]),
        };
        let y = eval(op, Tensor::vector(&[-0f32, f32::NAN, 1.0]).into()).unwrap();
        assert_eq!(y, texts(&["zero", "none", "?"]));
    }

    #[test]
    fn rows_become_maps_and_maps_rows() {
        let keys = Labels::Ints(vec![7, 3]);
        let x = Tensor::from_slice(&[1, 2], &[0.5f32, 0.25]);
        let maps = eval(MapOp::Zip(keys.clone()), x.clone().into()).unwrap();
        let map = maps.as_sequence().unwrap()[0].clone();
        assert_eq!(eval(MapOp::Vectorize(keys), map.clone()).unwrap(), x.into());
        let dense = eval(MapOp::Cast { to: DType::F32, width: None }, map.clone()).unwrap();
        assert_eq!(dense, Tensor::from_slice(&[1, 2], &[0.25f32, 0.5]).into());
        let sparse = eval(MapOp::Cast { to: DType::I64, width: Some(8) }, map.clone()).unwrap();
        assert_eq!(sparse, Tensor::from_slice(&[1, 8], &[0i64; 8]).into());
        assert!(eval(MapOp::Cast { to: DType::F32, width: Some(7) }, map).is_err());
    }
}
