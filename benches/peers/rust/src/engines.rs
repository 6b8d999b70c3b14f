//! How each engine loads a model and runs it.

use crate::npy::{Array, Elements};
use crate::{Result, Run};

/// Loads a model that will be given these inputs, in each run the same.
pub fn load(engine: &str, model: &str, threads: usize, inputs: &[(String, Array)]) -> Result<Run> {
    match engine {
        "rinfer" => rinfer(model, threads, inputs),
        #[cfg(feature = "rten")]
        "rten" => rten(model, threads, inputs),
        #[cfg(feature = "tract")]
        "tract" => tract(model, threads, inputs),
        other => Err(format!("no engine {other} ({} inputs)", inputs.len()).into()),
    }
}

fn rinfer(model: &str, threads: usize, inputs: &[(String, Array)]) -> Result<Run> {
    use rinfer::{Bool, DType, Session, Tensor, Value};
    let session = Session::builder().threads(threads).load(model)?;
    let value = |x: &Array| match &x.elements {
        Elements::F32(e) => Tensor::from_slice(&x.shape, e),
        Elements::I64(e) => Tensor::from_slice(&x.shape, e),
        Elements::I32(e) => Tensor::from_slice(&x.shape, e),
        Elements::Bool(e) => {
            let e: Vec<Bool> = e.iter().map(|&x| Bool::from(x)).collect();
            Tensor::from_slice(&x.shape, &e)
        }
    };
    let given: Vec<(String, Value)> =
        inputs.iter().map(|(n, x)| (n.clone(), value(x).into())).collect();
    Ok(Box::new(move |keep| {
        let made = session.run(given.clone())?;
        let Some(out) = keep else { return Ok(()) };
        for (port, value) in session.outputs().iter().zip(&made) {
            let t = value.as_tensor()?;
            let elements = match t.dtype() {
                DType::F32 => Elements::F32(t.as_slice().to_vec()),
                DType::I64 => Elements::I64(t.as_slice().to_vec()),
                dtype => return Err(format!("an output of {dtype}").into()),
            };
            out.push((port.name.clone(), Array { shape: t.shape().to_vec(), elements }));
        }
        Ok(())
    }))
}

#[cfg(feature = "rten")]
fn rten(model: &str, threads: usize, inputs: &[(String, Array)]) -> Result<Run> {
    use rten::{Model, ModelOptions, RunOptions, ThreadPool, Value, ValueOrView};
    use rten_tensor::{AsView, Layout};
    let model: Model = ModelOptions::with_all_ops().prepack_weights(true).load_file(model)?;
    let pool = std::sync::Arc::new(ThreadPool::with_num_threads(threads));
    let names: Vec<String> = model
        .output_ids()
        .iter()
        .map(|&id| model.node_info(id).and_then(|n| n.name().map(String::from)).unwrap_or_default())
        .collect();
    let mut given = Vec::new();
    for (name, x) in inputs {
        let shape = x.shape.as_slice();
        let narrow = |x: Vec<i32>| Value::from_shape(shape, x);
        let value = match &x.elements {
            Elements::F32(e) => Value::from_shape(shape, e.clone())?,
            Elements::I32(e) => narrow(e.clone())?,
            Elements::I64(e) => narrow(e.iter().map(|&x| x as i32).collect())?,
            Elements::Bool(e) => narrow(e.iter().map(|&x| i32::from(x)).collect())?,
        };
        given.push((model.node_id(name)?, value));
    }
    Ok(Box::new(move |keep| {
        let views = given.iter().map(|(id, x)| (*id, ValueOrView::View(x.as_view()))).collect();
        let options = RunOptions::default().with_thread_pool(Some(pool.clone()));
        let made = model.run(views, model.output_ids(), Some(options))?;
        let Some(out) = keep else { return Ok(()) };
        for (name, value) in names.iter().zip(made) {
            let array = match value {
                Value::FloatTensor(t) => {
                    Array { shape: t.shape().to_vec(), elements: Elements::F32(t.to_vec()) }
                }
                Value::Int32Tensor(t) => Array {
                    shape: t.shape().to_vec(),
                    elements: Elements::I64(t.iter().map(|&x| i64::from(x)).collect()),
                },
                _ => return Err("an output of another type".into()),
            };
            out.push((name.clone(), array));
        }
        Ok(())
    }))
}

#[cfg(feature = "tract")]
fn tract(model: &str, threads: usize, inputs: &[(String, Array)]) -> Result<Run> {
    use tract_linalg::multithread::{Executor, set_default_executor};
    use tract_onnx::prelude::*;
    if threads > 1 {
        set_default_executor(Executor::multithread(threads));
    }
    let tensor = |x: &Array| -> TractResult<Tensor> {
        match &x.elements {
            Elements::F32(e) => Tensor::from_shape(&x.shape, e),
            Elements::I64(e) => Tensor::from_shape(&x.shape, e),
            Elements::I32(e) => Tensor::from_shape(&x.shape, e),
            Elements::Bool(e) => Tensor::from_shape(&x.shape, e),
        }
    };
    let mut graph = tract_onnx::onnx().model_for_path(model)?;
    let named = |name: &str| inputs.iter().find(|(n, _)| n == name).map(|(_, x)| x);
    let mut given: TVec<TValue> = tvec!();
    for (i, outlet) in graph.input_outlets()?.to_vec().into_iter().enumerate() {
        let name = graph.node(outlet.node).name.clone();
        let x = tensor(named(&name).ok_or_else(|| format!("no input {name}"))?)?;
        graph.set_input_fact(i, InferenceFact::dt_shape(x.datum_type(), x.shape()))?;
        given.push(x.into_tvalue());
    }
    let names: Vec<String> = graph
        .output_outlets()?
        .iter()
        .map(|o| graph.outlet_label(*o).unwrap_or(&graph.node(o.node).name).to_string())
        .collect();
    let runnable = graph.into_optimized()?.into_runnable()?;
    Ok(Box::new(move |keep| {
        let made = runnable.run(given.clone())?;
        let Some(out) = keep else { return Ok(()) };
        for (name, value) in names.iter().zip(made.iter()) {
            let wide = value.cast_to::<f32>()?;
            let elements =
                Elements::F32(wide.to_plain_array_view::<f32>()?.iter().copied().collect());
            out.push((name.clone(), Array { shape: value.shape().to_vec(), elements }));
        }
        Ok(())
    }))
}
