//! Why the command ends, and with which exit code.

use std::fmt;

use rinfer::{Error, Kind};

/// Exit codes that scripts rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// A comparison or a threshold failed.
    Differs = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The model is invalid or unsupported.
    Model = 3,
    /// The run failed.
    Run = 4,
    /// A limit was exceeded.
    Limit = 5,
    /// The time was up.
    Timeout = 124,
    /// Interrupted from the keyboard.
    Interrupted = 130,
}

/// An error message with its exit code.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: Code,
    /// What is said on stderr; empty if all was said.
    pub message: String,
}

impl Failure {
    /// A failure with a message.
    pub fn new(code: Code, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into() }
    }

    /// The command line is wrong.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Code::Usage, message)
    }

    /// Loading `path` failed.
    pub fn load(path: &std::path::Path, error: Error) -> Failure {
        let code = match error.kind() {
            Kind::Limit => Code::Limit,
            Kind::Device => Code::Run,
            _ if matches!(error, Error::Option(_)) => Code::Usage,
            _ => Code::Model,
        };
        Failure::new(code, with_path(path, &error))
    }

    /// Running `path` failed.
    pub fn run(path: &std::path::Path, error: Error) -> Failure {
        let code = match error.kind() {
            Kind::Limit => Code::Limit,
            Kind::Deadline => Code::Timeout,
            Kind::Cancelled => Code::Interrupted,
            _ if matches!(error, Error::Input { .. } | Error::Output { .. }) => Code::Usage,
            _ => Code::Run,
        };
        Failure::new(code, with_path(path, &error))
    }
}

fn with_path(path: &std::path::Path, error: &Error) -> String {
    match error {
        Error::Io { .. } => error.to_string(),
        _ => format!("{}: {error}", path.display()),
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// A result whose error ends the command.
pub type Result<T> = std::result::Result<T, Failure>;

/// Turns any error into a failure of one kind, with a word on what was tried.
pub trait OrFail<T> {
    /// The value, or a failure `what: error`.
    fn or_fail(self, code: Code, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> OrFail<T> for std::result::Result<T, E> {
    fn or_fail(self, code: Code, what: impl fmt::Display) -> Result<T> {
        self.map_err(|e| Failure::new(code, format!("{what}: {e}")))
    }
}
