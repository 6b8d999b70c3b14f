//! Running a session: what it is given, checked, and what it gives back.

use std::sync::Arc;
use std::time::Instant;

use rinfer_graph::backend::{Held, RunCx};
use rinfer_graph::onnx::Port;
use rinfer_graph::{Dim, Reason, Type, Value, ValueId, invalid};

use crate::error::Error;
use crate::held::RunValue;
use crate::mmap::Mapping;
use crate::options::RunOptions;
use crate::session::{Session, did_you_mean};

impl Session {
    /// Runs once with named inputs; gives the outputs in the order of [`Session::outputs`].
    ///
    /// # Errors
    /// An input is missing, unknown or does not fit; a node fails; a limit is exceeded.
    pub fn run<N, V>(&self, inputs: impl IntoIterator<Item = (N, V)>) -> Result<Vec<Value>, Error>
    where
        N: AsRef<str>,
        V: Into<Value>,
    {
        self.run_with(inputs, &RunOptions::default())
    }

    /// As [`Session::run`], with options.
    ///
    /// # Errors
    /// As for [`Session::run`]; also when the run is cancelled or its deadline passes.
    pub fn run_with<N, V>(
        &self,
        inputs: impl IntoIterator<Item = (N, V)>,
        options: &RunOptions,
    ) -> Result<Vec<Value>, Error>
    where
        N: AsRef<str>,
        V: Into<Value>,
    {
        let inputs = inputs.into_iter().map(|(name, value)| (name, RunValue::Host(value.into())));
        let made = self.run_on_device(inputs, &[], options)?;
        made.into_iter().map(RunValue::into_value).collect()
    }

    /// As [`Session::run_with`], with tensors that stay on the GPU: as inputs those that an earlier
    /// run left there, whatever session that was of, and as outputs those that `keep` names. What
    /// was made on the host, or by the CPU backend, comes back as a value even so.
    ///
    /// ```
    /// use rinfer::{Device, RunOptions, RunValue, Session, Tensor};
    ///
    /// // A running sum that stays where it is; without a GPU it is on the host.
    /// let text = "sum: float[4]; x: float[4]; next = Add(sum, x); → next";
    /// let session = Session::builder().device(Device::GpuOrCpu(None)).load_text(text)?;
    /// let mut sum: RunValue = Tensor::vector(&[0f32; 4]).into();
    /// for _ in 0..3 {
    ///     let x: RunValue = Tensor::vector(&[1f32, 2.0, 3.0, 4.0]).into();
    ///     let inputs = [("sum", sum), ("x", x)];
    ///     sum = session.run_on_device(inputs, &["next"], &RunOptions::new())?.remove(0);
    /// }
    /// let sum = sum.into_value()?;
    /// assert_eq!(sum.as_tensor()?.as_slice::<f32>(), [3.0, 6.0, 9.0, 12.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Session::run_with`]; `keep` names no output; a tensor's device is lost.
    pub fn run_on_device<N, V>(
        &self,
        inputs: impl IntoIterator<Item = (N, V)>,
        keep: &[&str],
        options: &RunOptions,
    ) -> Result<Vec<RunValue>, Error>
    where
        N: AsRef<str>,
        V: Into<RunValue>,
    {
        let mut given: Vec<Option<Held>> = vec![None; self.inputs.len()];
        for (name, value) in inputs {
            self.accept(name.as_ref(), value.into(), &mut given)?;
        }
        let keep = keep.iter().map(|name| self.output_id(name)).collect::<Result<Vec<_>, _>>()?;
        let missing = |(port, value): (&Port, Option<Held>)| {
            value.ok_or_else(|| Error::Input {
                name: port.name.clone(),
                reason: invalid!("is missing"),
            })
        };
        let given = self.inputs.iter().zip(given).map(missing).collect::<Result<Vec<_>, _>>()?;
        let now = Instant::now();
        let timeouts = [options.timeout, self.limits.run_time];
        let bounds = timeouts.into_iter().flatten().filter_map(|t| now.checked_add(t));
        let cx = RunCx {
            cancel: options.cancel.as_ref().map(|t| t.flag()),
            deadline: bounds.chain(options.deadline).min(),
            profile: options.profiler.as_ref().map(|p| p as _),
            memory: self.memory,
            limits: &self.limits,
            seed: options.seed,
        };
        let made = self.executable.run_held(given, &keep, &cx);
        // Outputs of weights that are no longer there are no outputs.
        if self.mappings.iter().any(Mapping::is_lost) {
            return Err(Error::Lost);
        }
        Ok(made?.into_iter().map(RunValue::from).collect())
    }

    /// The value that an output is.
    fn output_id(&self, name: &str) -> Result<ValueId, Error> {
        match self.outputs.iter().position(|port| port.name == name) {
            Some(i) => Ok(self.graph.outputs()[i]),
            None => {
                let names: Vec<String> = self.outputs.iter().map(|p| p.name.clone()).collect();
                let reason = invalid!("there is no such output{}", did_you_mean(name, &names));
                Err(Error::Output { name: name.to_string(), reason })
            }
        }
    }

    /// Checks one input and puts it into its place.
    fn accept(&self, name: &str, value: RunValue, given: &mut [Option<Held>]) -> Result<(), Error> {
        let bad = |reason| Error::Input { name: name.to_string(), reason };
        let Some(i) = self.inputs.iter().position(|p| p.name == name) else {
            return match self.defaults.iter().find(|(n, _)| n == name) {
                Some((_, default)) if value.clone().into_value()? == *default => Ok(()),
                Some(_) => Err(bad(invalid!("is a constant of this model with another content"))),
                None => {
                    let names: Vec<String> = self.inputs.iter().map(|p| p.name.clone()).collect();
                    Err(bad(invalid!("there is no such input{}", did_you_mean(name, &names))))
                }
            };
        };
        let port = &self.inputs[i];
        let value = match value {
            RunValue::Host(value) => Held::Host(check_port(port, value).map_err(bad)?),
            RunValue::Device(t) => {
                check_type(port, &Type::Tensor(t.dtype()), Some(t.shape())).map_err(bad)?;
                Held::Device(t.0)
            }
        };
        match given[i].replace(value) {
            Some(_) => Err(bad(invalid!("is given twice"))),
            None => Ok(()),
        }
    }
}

/// The value as the port needs it, or why it does not fit.
fn check_port(port: &Port, value: Value) -> Result<Value, rinfer_graph::Reason> {
    // What an optional holds stands for the optional.
    let value = match (&port.ty, value) {
        (Type::Optional(of), value) if value.ty() == **of => {
            Value::Optional { of: (**of).clone(), value: Some(Arc::new(value)) }
        }
        (_, value) => value,
    };
    check_type(port, &value.ty(), value.shape())?;
    Ok(value)
}

/// `Err` unless a value of this type and shape fits the port.
fn check_type(port: &Port, ty: &Type, shape: Option<&[usize]>) -> Result<(), Reason> {
    if *ty != port.ty {
        return Err(invalid!("is {ty}, the model needs {}", port.ty));
    }
    if let (Some(expected), Some(found)) = (&port.shape, shape) {
        let fits = |(d, &n): (&Dim, &usize)| d.size().is_none_or(|size| size == n);
        if expected.len() != found.len() || !expected.iter().zip(found).all(fits) {
            let expected = rinfer_graph::shape::show(expected);
            return Err(invalid!("has shape {found:?}, the model needs {expected}"));
        }
    }
    Ok(())
}
