//! Runs of a session: at once, or in slices for whoever must not be kept waiting.

use std::sync::Arc;
use std::time::Duration;

use rinfer_graph::backend::{Held, RunCx};
use rinfer_graph::onnx::Port;
use rinfer_graph::{Dim, Reason, Type, Value, ValueId, invalid};
use web_time::Instant;

use crate::error::Error;
use crate::executable::Progress;
use crate::held::{DeviceRead, RunValue};
use crate::mmap::Mapping;
use crate::options::RunOptions;
use crate::session::{Session, did_you_mean};

/// A run that is done in slices: where there is one thread that others wait for too, such as that
/// of a page. Dropped, it ends.
///
/// ```
/// use rinfer::{RunOptions, Session, Tensor};
/// use std::{sync::Arc, time::Duration};
///
/// let session = Session::builder().load_text("x: float[n]; y = Exp(x); z = Sin(y); → z")?;
/// let inputs = [("x", Tensor::vector(&[0f32]))];
/// let mut run = Arc::new(session).start(inputs, &RunOptions::new())?;
/// let outputs = loop {
///     match run.advance(Duration::from_millis(10))? {
///         Some(outputs) => break outputs,
///         None => println!("what else there is to do is done now"),
///     }
/// };
/// assert_eq!(outputs[0].as_tensor()?.as_slice::<f32>(), [1f32.sin()]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Run {
    session: Arc<Session>,
    options: RunOptions,
    /// Nothing is left of a run that is through or failed.
    progress: Option<Progress>,
    /// Whether outputs stay on devices.
    on_device: bool,
    /// The outputs, on their way to the host.
    leaving: Vec<Leaving>,
    waits: bool,
}

/// An output that is made.
enum Leaving {
    There(RunValue),
    Coming(DeviceRead),
}

impl Run {
    /// Goes on for about this long: at least one node is run, and none is paused inside, nor are
    /// Loop and Scan. The outputs, once there are all.
    ///
    /// # Errors
    /// As for [`Session::run_with`]; the run is over.
    pub fn advance(&mut self, time: Duration) -> Result<Option<Vec<Value>>, Error> {
        let made = self.advance_on_device(time)?;
        made.map(|made| made.into_iter().map(RunValue::into_value).collect()).transpose()
    }

    /// As [`Run::advance`]; of a run that [`Session::start_on_device`] began, the outputs that it
    /// was told to keep stay where they are.
    ///
    /// # Errors
    /// As for [`Run::advance`].
    pub fn advance_on_device(&mut self, time: Duration) -> Result<Option<Vec<RunValue>>, Error> {
        let until = Instant::now().checked_add(time);
        self.waits = false;
        if self.leaving.is_empty() {
            let Some(mut progress) = self.progress.take() else {
                return Err(Error::Option(invalid!("the run is over")));
            };
            let (session, cx) = (&self.session, &self.session.cx(&self.options));
            let made = session.executable.advance(&mut progress, cx, until)?;
            session.check_mappings()?;
            let Some(made) = made else {
                self.waits = progress.waits;
                self.progress = Some(progress);
                return Ok(None);
            };
            let leave = |value| self.leave(value);
            self.leaving = made.into_iter().map(leave).collect::<Result<_, _>>()?;
        }
        self.left(until)
    }

    /// An output on its way to the host, if it is not there and is to be.
    fn leave(&self, value: Held) -> Result<Leaving, Error> {
        match RunValue::from(value) {
            RunValue::Device(tensor) if !self.on_device => {
                Ok(Leaving::Coming(tensor.start_read(&self.options)?))
            }
            value => Ok(Leaving::There(value)),
        }
    }

    /// The outputs, when all have come.
    fn left(&mut self, until: Option<Instant>) -> Result<Option<Vec<RunValue>>, Error> {
        for leaving in &mut self.leaving {
            if let Leaving::Coming(reading) = leaving {
                let left = until.map(|until| until.saturating_duration_since(Instant::now()));
                match reading.advance(left.unwrap_or(Duration::MAX))? {
                    Some(tensor) => *leaving = Leaving::There(tensor.into()),
                    None => {
                        self.waits = until.is_none_or(|until| Instant::now() < until);
                        return Ok(None);
                    }
                }
            }
        }
        let there = |leaving| match leaving {
            Leaving::There(value) => Some(value),
            Leaving::Coming(_) => None,
        };
        Ok(Some(std::mem::take(&mut self.leaving).into_iter().filter_map(there).collect()))
    }

    /// Whether the last slice ended because a GPU is not ready, and nobody may wait for it here:
    /// the waker of the options ([`RunOptions::waker`]) is told when there is something to do.
    pub fn waits(&self) -> bool {
        self.waits
    }
}

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
        let keep = keep.iter().map(|name| self.output_id(name)).collect::<Result<_, _>>()?;
        let given = self.given(inputs)?;
        let made = self.executable.run_held(given, keep, &self.cx(&self.bounded(options)));
        self.check_mappings()?;
        Ok(made?.into_iter().map(RunValue::from).collect())
    }

    /// Begins a run that is done in slices. A timeout counts from now on, pauses included.
    ///
    /// # Errors
    /// An input is missing, unknown or does not fit.
    pub fn start<N, V>(
        self: &Arc<Self>,
        inputs: impl IntoIterator<Item = (N, V)>,
        options: &RunOptions,
    ) -> Result<Run, Error>
    where
        N: AsRef<str>,
        V: Into<Value>,
    {
        let inputs = inputs.into_iter().map(|(name, value)| (name, RunValue::Host(value.into())));
        let run = self.start_on_device(inputs, &[], options)?;
        Ok(Run { on_device: false, ..run })
    }

    /// Begins a run in slices with tensors that stay on the GPU, as [`Session::run_on_device`].
    ///
    /// # Errors
    /// As for [`Session::start`]; `keep` names no output.
    pub fn start_on_device<N, V>(
        self: &Arc<Self>,
        inputs: impl IntoIterator<Item = (N, V)>,
        keep: &[&str],
        options: &RunOptions,
    ) -> Result<Run, Error>
    where
        N: AsRef<str>,
        V: Into<RunValue>,
    {
        let keep = keep.iter().map(|name| self.output_id(name)).collect::<Result<_, _>>()?;
        let given = self.given(inputs)?;
        let progress = self.executable.begin(given, keep).map_err(Error::Option)?;
        Ok(Run {
            session: self.clone(),
            options: self.bounded(options),
            progress: Some(progress),
            on_device: true,
            leaving: Vec::new(),
            waits: false,
        })
    }

    /// The options with the time at which the run must be over.
    fn bounded(&self, options: &RunOptions) -> RunOptions {
        let now = Instant::now();
        let timeouts = [options.timeout, self.limits.run_time];
        let bounds = timeouts.into_iter().flatten().filter_map(|t| now.checked_add(t));
        RunOptions { deadline: bounds.chain(options.deadline).min(), ..options.clone() }
    }

    fn cx<'a>(&'a self, options: &'a RunOptions) -> RunCx<'a> {
        RunCx {
            cancel: options.cancel.as_ref().map(|t| t.flag()),
            deadline: options.deadline,
            profile: options.profiler.as_ref().map(|p| p as _),
            memory: self.memory,
            limits: &self.limits,
            seed: options.seed,
            waker: options.waker.as_ref(),
        }
    }

    /// Outputs of weights that are no longer there are no outputs.
    fn check_mappings(&self) -> Result<(), Error> {
        match self.mappings.iter().any(Mapping::is_lost) {
            true => Err(Error::Lost),
            false => Ok(()),
        }
    }

    /// The inputs in the model's order.
    fn given<N, V>(&self, inputs: impl IntoIterator<Item = (N, V)>) -> Result<Vec<Held>, Error>
    where
        N: AsRef<str>,
        V: Into<RunValue>,
    {
        let mut given: Vec<Option<Held>> = vec![None; self.inputs.len()];
        for (name, value) in inputs {
            self.accept(name.as_ref(), value.into(), &mut given)?;
        }
        let missing = |(port, value): (&Port, Option<Held>)| {
            value.ok_or_else(|| Error::Input {
                name: port.name.clone(),
                reason: invalid!("is missing"),
            })
        };
        self.inputs.iter().zip(given).map(missing).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;

    const NET: &str = "x: float[n, 4]; a = Exp(x); b = Softmax(a); s = Shape(b); \
                       c = Reshape(b, s); d = ReduceSum(c, [1]); → d, c";

    fn x() -> [(&'static str, Tensor); 1] {
        [("x", Tensor::from_slice(&[2, 4], &[0.1f32, 0.2, 0.3, 0.4, 1.0, 2.0, 3.0, 4.0]))]
    }

    #[test]
    fn slices_make_what_a_whole_run_makes() {
        let builder = Session::builder().threads(2).optimize(false);
        let session = Arc::new(builder.load_text(NET).unwrap());
        let whole = session.run(x()).unwrap();
        for _ in 0..3 {
            let mut run = session.start(x(), &RunOptions::new()).unwrap();
            let mut slices = 1;
            let made = loop {
                match run.advance(Duration::ZERO).unwrap() {
                    Some(made) => break made,
                    None => slices += 1,
                }
            };
            assert_eq!(made, whole);
            assert!(slices > 1, "{slices} slices");
            assert!(run.advance(Duration::ZERO).is_err());
        }
    }

    #[test]
    fn a_branch_is_done_in_slices() {
        let text =
            "x: float[n]; c: bool; y = If<then_branch = { a = Exp(x); b = Sin(a); d = Cos(b);
                    → d }, else_branch = { e = Neg(x); → e }>(c); z = Abs(y); → z";
        let session = Arc::new(Session::builder().optimize(false).load_text(text).unwrap());
        for (cond, least) in [(true, 4), (false, 2)] {
            let given = || {
                let cond = Tensor::from_slice(&[], &[crate::Bool::from(cond)]);
                [("x", Tensor::vector(&[0.5f32, 2.0])), ("c", cond)]
            };
            let whole = session.run(given()).unwrap();
            let mut run = session.start(given(), &RunOptions::new()).unwrap();
            let mut slices = 1;
            let made = loop {
                match run.advance(Duration::ZERO).unwrap() {
                    Some(made) => break made,
                    None => slices += 1,
                }
            };
            assert_eq!(made, whole);
            assert!(slices >= least, "{slices} slices");
        }
    }

    #[test]
    fn a_timeout_counts_pauses() {
        let session = Arc::new(Session::builder().optimize(false).load_text(NET).unwrap());
        let options = RunOptions::new().timeout(Duration::from_millis(1));
        let mut run = session.start(x(), &options).unwrap();
        std::thread::sleep(Duration::from_millis(2));
        assert!(run.advance(Duration::from_secs(1)).is_err());
        drop(session.start(x(), &options).unwrap());
        assert_eq!(session.run(x()).unwrap().len(), 2);
    }
}
