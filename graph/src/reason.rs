//! Why something cannot be done, in one sentence with its numbers.

use std::borrow::Cow;

/// What kind of obstacle a [`Reason`] describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// The model or an input breaks ONNX's rules.
    Invalid,
    /// Allowed by ONNX, but not something this engine does.
    Unsupported,
    /// A limit or the machine's memory would be exceeded.
    Limit,
    /// The caller asked to stop.
    Cancelled,
    /// The deadline passed.
    Deadline,
    /// A promise inside the engine was broken: a defect of this engine, not of the model.
    Internal,
    /// There is no such device, or it was lost.
    Device,
}

/// A bare reason, as a kernel or an inference function gives it; whoever runs the node adds its
/// name, operator and facts.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{text}")]
pub struct Reason {
    /// The kind of obstacle.
    pub kind: Kind,
    /// Lower case, no full stop: `axis 3 is out of range for rank 2`.
    pub text: Cow<'static, str>,
}

impl Reason {
    /// A reason of the given kind.
    pub fn new(kind: Kind, text: impl Into<Cow<'static, str>>) -> Reason {
        Reason { kind, text: text.into() }
    }

    /// A panic, caught: a reason that could not be given in another way, or a defect of this engine.
    pub fn of_panic(payload: &(dyn std::any::Any + Send)) -> Reason {
        if let Some(reason) = payload.downcast_ref::<Reason>() {
            return reason.clone();
        }
        let said = payload.downcast_ref::<&str>().copied();
        let said = said.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        Reason::new(Kind::Internal, format!("internal error: {}", said.unwrap_or("a panic")))
    }

    /// The machine has no `bytes` to give.
    pub fn no_memory(bytes: usize) -> Reason {
        Reason::new(Kind::Limit, format!("no memory for {bytes} bytes"))
    }
}

/// `invalid!("rank {} is not 2", r)`: a [`Reason`] of kind `Invalid`.
#[macro_export]
macro_rules! invalid {
    ($($arg:tt)*) => { $crate::Reason::new($crate::Kind::Invalid, format!($($arg)*)) };
}

/// `unsupported!("dtype {} is not supported", d)`: a [`Reason`] of kind `Unsupported`.
#[macro_export]
macro_rules! unsupported {
    ($($arg:tt)*) => { $crate::Reason::new($crate::Kind::Unsupported, format!($($arg)*)) };
}
