//! Models made to hurt: each must be refused with a typed error, or be answered, in bounded time
//! and memory.
//!
//! Every case runs in a process of its own with 6 GB of address space. What counts is its exit
//! code: a signal, a panic or silence is a failure whatever else happens.

pub mod agree;
mod external;
pub mod generate;
mod kernels;
pub mod long;
pub mod mutate;
mod sizes;
mod structure;
pub mod valid;
pub mod wire;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How a case must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// An error that says why: exit code 3, 4, 5, or 2 where an input cannot be made up.
    Refused,
    /// A limit's own exit code, 5.
    Limit,
    /// Exit code 0.
    Answered,
    /// Either: ONNX leaves it open, or it depends on the machine.
    Either,
}

/// One hostile model.
pub struct Case {
    /// Its name, also of its folder.
    pub name: String,
    /// How it must end.
    pub expect: Expect,
    /// The file.
    pub model: Vec<u8>,
    /// What else lies in its folder.
    pub beside: fn(&Path) -> std::io::Result<()>,
    /// What the command is given besides the model.
    pub args: Vec<String>,
}

impl Case {
    fn new(name: impl Into<String>, expect: Expect, model: Vec<u8>) -> Case {
        Case { name: name.into(), expect, model, beside: |_| Ok(()), args: Vec::new() }
    }

    fn beside(mut self, beside: fn(&Path) -> std::io::Result<()>) -> Case {
        self.beside = beside;
        self
    }

    fn args(mut self, args: &[&str]) -> Case {
        self.args = args.iter().map(|a| a.to_string()).collect();
        self
    }

    /// Writes the case into a folder of its name; the model's path.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, root: &Path) -> std::io::Result<PathBuf> {
        let dir = root.join(&self.name);
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        std::fs::create_dir_all(&dir)?;
        (self.beside)(&dir)?;
        let path = dir.join("model.onnx");
        std::fs::write(&path, &self.model)?;
        Ok(path)
    }
}

/// Every case.
pub fn cases() -> Vec<Case> {
    let mut all = structure::cases();
    all.extend(sizes::cases());
    all.extend(kernels::cases());
    all.extend(external::cases());
    all
}

/// How a case ended.
#[derive(Clone, Debug)]
pub struct Ending {
    /// The exit code; `None` after a signal or when it had to be killed.
    pub code: Option<i32>,
    /// What it said on stderr.
    pub stderr: String,
    /// How long it took.
    pub time: Duration,
    /// Whether it had to be killed.
    pub killed: bool,
}

/// Runs `command` with 6 GB of address space, and kills it after `patience`.
///
/// # Errors
/// The shell cannot be started.
pub fn run(command: &[&std::ffi::OsStr], patience: Duration) -> std::io::Result<Ending> {
    let began = Instant::now();
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -v 6291456; ulimit -c 0; exec \"$@\"", "sh"])
        .args(command)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut pipe = child.stderr.take();
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.as_mut().map(|p| p.take(1 << 16).read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let (mut killed, status): (bool, ExitStatus) = loop {
        if let Some(status) = child.try_wait()? {
            break (false, status);
        }
        if began.elapsed() > patience {
            child.kill()?;
            break (true, child.wait()?);
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let time = began.elapsed();
    killed |= status.code().is_none();
    let stderr = reader.join().unwrap_or_default();
    Ok(Ending { code: status.code(), stderr, time, killed })
}

impl Ending {
    /// Why this is not how the case had to end, if it is not.
    pub fn complaint(&self, expect: Expect, most: Duration) -> Option<String> {
        let typed = matches!(self.code, Some(2..=5 | 124));
        let good = match expect {
            Expect::Refused => typed,
            Expect::Limit => matches!(self.code, Some(5 | 124)),
            Expect::Answered => self.code == Some(0),
            Expect::Either => typed || self.code == Some(0),
        };
        let said = self.stderr.trim().chars().take(300).collect::<String>();
        if self.killed {
            return Some(format!("died or hung after {:?}: {said}", self.time));
        }
        if ["panicked at", "internal error", "stack overflow"].iter().any(|p| said.contains(p)) {
            return Some(format!("a defect: {said}"));
        }
        if !good {
            return Some(format!("exit code {:?}, expected {expect:?}: {said}", self.code));
        }
        (self.time > most).then(|| format!("took {:?}", self.time))
    }
}
