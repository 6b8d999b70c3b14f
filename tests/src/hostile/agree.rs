//! One model under two settings: optimized and with vectors, or plain and without.

use rinfer::{Error, Kind, Session, Tensor, Value};

use super::mutate::limits;

/// Runs a model, as the generator makes them, both ways. `Ok(false)` if it was refused.
///
/// # Errors
/// One way answers and the other does not, the answers differ, or the engine found a defect.
pub fn agree(file: &[u8]) -> Result<bool, String> {
    let run = |optimize: bool, isa: Option<&str>| -> Result<Vec<Value>, Error> {
        let builder = Session::builder().threads(1).limits(limits()).optimize(optimize);
        let builder = isa.into_iter().fold(builder, |b, isa| b.isa(isa));
        let session = builder.load_bytes(file.to_vec())?;
        let filled = |port: &rinfer::Port| {
            let sizes: Vec<usize> =
                port.shape.iter().flatten().filter_map(rinfer::Dim::size).collect();
            let n: usize = sizes.iter().product();
            let x: Vec<f32> = (0..n).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
            Tensor::try_from_slice(&sizes, &x).map(|t| (port.name.clone(), t))
        };
        let inputs: Result<Vec<_>, _> = session.inputs().iter().map(filled).collect();
        session.run(inputs.map_err(|reason| Error::Input { name: "x".into(), reason })?)
    };
    match (run(false, Some("scalar")), run(true, None)) {
        (Ok(plain), Ok(fast)) => {
            let mut pairs = plain.iter().zip(&fast).enumerate();
            pairs.try_for_each(|(i, (a, b))| close(i, a, b))?;
            Ok(true)
        }
        (Err(e), _) | (_, Err(e)) if e.kind() == Kind::Internal => Err(e.to_string()),
        (Err(_), Err(_)) => Ok(false),
        // A slow machine says nothing about either way.
        (Err(e), _) | (_, Err(e)) if e.kind() == Kind::Deadline => Ok(false),
        (Ok(_), Err(e)) => Err(format!("only the optimized graph fails: {e}")),
        (Err(e), Ok(_)) => Err(format!("only the plain graph fails: {e}")),
    }
}

/// Whether output `i` is the same both ways, as far as rounding allows.
fn close(i: usize, plain: &Value, fast: &Value) -> Result<(), String> {
    let (Value::Tensor(a), Value::Tensor(b)) = (plain, fast) else { return Ok(()) };
    if a.shape() != b.shape() || a.dtype() != b.dtype() {
        return Err(format!("output {i}: {:?} became {:?}", a.shape(), b.shape()));
    }
    let (a, b) = (a.as_slice::<f32>(), b.as_slice::<f32>());
    let scale = a.iter().filter(|x| x.is_finite()).fold(1f32, |m, x| m.max(x.abs()));
    // Where numbers explode, so does what rounding does to them.
    if scale > 1e6 || a.iter().any(|x| !x.is_finite()) {
        return Ok(());
    }
    let far = |(x, y): (&f32, &f32)| (x - y).abs() > 1e-3 * scale || x.is_nan() != y.is_nan();
    match a.iter().zip(b).position(far) {
        None => Ok(()),
        Some(at) => Err(format!("output {i}[{at}]: {} became {}", a[at], b[at])),
    }
}
