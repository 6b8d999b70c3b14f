//! Runs models for another program: a request on standard input, its answer on standard output.
//!
//! request:  n, (length, bytes) × n    "plain" or "optimized"; the model; its inputs as messages
//! answer:   n, (length, bytes) × n    how it ended, as a class and why; the outputs as messages
//!
//! Numbers are u32, little end first. Classes are `ok`, `unsupported`, `failed` and `panic`.

use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rinfer::graph::onnx::values;
use rinfer::{Error, Kind, Model, Session};

/// Answers requests until the input ends.
///
/// # Errors
/// The input ends within a request, or the output is gone.
pub fn serve(mut input: impl Read, mut output: impl Write) -> io::Result<()> {
    while let Some(request) = read_frames(&mut input)? {
        let answer = catch_unwind(AssertUnwindSafe(|| answer(request)));
        let frames = match answer {
            Ok(Ok(outputs)) => std::iter::once(b"ok".to_vec()).chain(outputs).collect(),
            Ok(Err(why)) => vec![why.into_bytes()],
            Err(_) => vec![b"panic".to_vec()],
        };
        write_frames(&mut output, &frames)?;
        output.flush()?;
    }
    Ok(())
}

/// The outputs of a model, or the class of the failure and why.
fn answer(request: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, String> {
    let engine = |e: Error| match e.kind() {
        Kind::Unsupported => format!("unsupported {e}"),
        _ => format!("failed {e}"),
    };
    let failed = |e: rinfer::Reason| format!("failed {e}");
    let mut frames = request.into_iter();
    let optimize = frames.next().is_none_or(|way| way != b"plain");
    let model = Model::from_bytes(frames.next().unwrap_or_default()).map_err(engine)?;
    let declared = model.info().declared_inputs.clone();
    let session = Session::builder().threads(1).optimize(optimize).build(model).map_err(engine)?;
    let required = session.inputs().iter().map(|p| p.name.clone()).collect();
    let names: Vec<String> = if frames.len() == declared.len() { declared } else { required };
    let mut inputs = Vec::new();
    for (name, bytes) in names.into_iter().zip(frames) {
        // An initializer that is also given has the same content.
        let Some(port) = session.inputs().iter().find(|p| p.name == name) else { continue };
        inputs.push((name, values::decode(bytes.into(), &port.ty).map_err(failed)?));
    }
    let outputs = session.run(inputs).map_err(engine)?;
    let encode = |(port, value): (&rinfer::Port, _)| values::encode(&port.name, value);
    session.outputs().iter().zip(&outputs).map(encode).collect::<Result<_, _>>().map_err(failed)
}

fn read_number(input: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    input.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

/// `None` at the end of the input.
fn read_frames(input: &mut impl Read) -> io::Result<Option<Vec<Vec<u8>>>> {
    let n = match read_number(input) {
        Ok(n) => n,
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut frames = Vec::new();
    for _ in 0..n {
        let length = u64::from(read_number(input)?);
        let mut frame = Vec::new();
        if (&mut *input).take(length).read_to_end(&mut frame)? as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        frames.push(frame);
    }
    Ok(Some(frames))
}

fn write_frames(output: &mut impl Write, frames: &[Vec<u8>]) -> io::Result<()> {
    let number = |n: usize| u32::try_from(n).map(u32::to_le_bytes).map_err(io::Error::other);
    output.write_all(&number(frames.len())?)?;
    for frame in frames {
        output.write_all(&number(frame.len())?)?;
        output.write_all(frame)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_is_none_is_answered_with_a_failure() {
        let mut request = Vec::new();
        write_frames(&mut request, &[b"optimized".to_vec(), b"no model".to_vec()]).unwrap();
        let mut answer = Vec::new();
        serve(&request[..], &mut answer).unwrap();
        let frames = read_frames(&mut &answer[..]).unwrap().unwrap();
        assert!(frames.len() == 1 && frames[0].starts_with(b"failed "), "{frames:?}");
    }
}
