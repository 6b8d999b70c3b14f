//! Values that stay on a device between runs: caches of keys and values, models in a chain.

use std::sync::Arc;
use std::time::Duration;

use rinfer_graph::backend::{Held, OnDevice, Reading, RunCx};
use rinfer_graph::{DType, Tensor, Value};
use web_time::Instant;

use crate::error::Error;
use crate::options::RunOptions;

/// A tensor in a GPU's memory, made by a run ([`crate::Session::run_on_device`]). Clones share it;
/// nothing writes it any more. Its memory is used again once the last clone is dropped.
///
/// It can be an input of any session: on the same GPU it stays where it is, elsewhere it is read.
#[derive(Clone)]
pub struct DeviceTensor(pub(crate) Arc<dyn OnDevice>);

impl DeviceTensor {
    /// The type of its elements.
    pub fn dtype(&self) -> DType {
        self.0.dtype()
    }

    /// The size of each axis.
    pub fn shape(&self) -> &[usize] {
        self.0.shape()
    }

    /// Its content, on the host.
    ///
    /// # Errors
    /// The device is lost.
    pub fn read(&self) -> Result<Tensor, Error> {
        self.read_with(&RunOptions::default())
    }

    /// As [`DeviceTensor::read`]; stops when the options say so.
    ///
    /// # Errors
    /// The device is lost, or the time is up.
    pub fn read_with(&self, options: &RunOptions) -> Result<Tensor, Error> {
        self.0.read(&bounds(options)).map_err(Error::Option)
    }

    /// Begins to bring its content to the host, where nobody may wait for a GPU.
    ///
    /// # Errors
    /// As for [`DeviceTensor::read`].
    pub fn start_read(&self, options: &RunOptions) -> Result<DeviceRead, Error> {
        let reading = self.0.reading().map_err(Error::Option)?;
        Ok(DeviceRead { reading, options: options.clone() })
    }
}

/// The content of a tensor on its way to the host; dropped, it is left where it is.
pub struct DeviceRead {
    reading: Box<dyn Reading>,
    options: RunOptions,
}

impl DeviceRead {
    /// The content, if it comes within about this time. In a page it never waits: the waker of the
    /// options is told when to come again.
    ///
    /// # Errors
    /// As for [`DeviceTensor::read_with`].
    pub fn advance(&mut self, time: Duration) -> Result<Option<Tensor>, Error> {
        let until = Instant::now().checked_add(time);
        self.reading.advance(&bounds(&self.options), until).map_err(Error::Option)
    }
}

/// What stops a readback.
fn bounds(options: &RunOptions) -> RunCx<'_> {
    RunCx {
        cancel: options.cancel.as_ref().map(|t| t.flag()),
        deadline: options.deadline,
        waker: options.waker.as_ref(),
        ..RunCx::unbounded()
    }
}

impl std::fmt::Debug for DeviceTensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{:?} on a device", self.dtype(), self.shape())
    }
}

/// An input or an output of a run on a device: a value of the host, or a tensor that stays there.
#[derive(Clone, Debug)]
pub enum RunValue {
    /// On the host.
    Host(Value),
    /// On a device.
    Device(DeviceTensor),
}

impl RunValue {
    /// The tensor on the device, if it is there.
    pub fn as_device(&self) -> Option<&DeviceTensor> {
        match self {
            RunValue::Device(tensor) => Some(tensor),
            RunValue::Host(_) => None,
        }
    }

    /// The value on the host, read back if need be.
    ///
    /// # Errors
    /// As for [`DeviceTensor::read`].
    pub fn into_value(self) -> Result<Value, Error> {
        match self {
            RunValue::Host(value) => Ok(value),
            RunValue::Device(tensor) => Ok(tensor.read()?.into()),
        }
    }
}

impl From<Value> for RunValue {
    fn from(value: Value) -> RunValue {
        RunValue::Host(value)
    }
}

impl From<Tensor> for RunValue {
    fn from(tensor: Tensor) -> RunValue {
        RunValue::Host(tensor.into())
    }
}

impl From<DeviceTensor> for RunValue {
    fn from(tensor: DeviceTensor) -> RunValue {
        RunValue::Device(tensor)
    }
}

impl From<RunValue> for Held {
    fn from(value: RunValue) -> Held {
        match value {
            RunValue::Host(value) => Held::Host(value),
            RunValue::Device(tensor) => Held::Device(tensor.0),
        }
    }
}

impl From<Held> for RunValue {
    fn from(value: Held) -> RunValue {
        match value {
            Held::Host(value) => RunValue::Host(value),
            Held::Device(tensor) => RunValue::Device(DeviceTensor(tensor)),
        }
    }
}
