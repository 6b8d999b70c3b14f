//! Text on stdout and stderr, whatever happens to who reads them.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write, stderr, stdout};

use crate::failure::Code;

/// Writes on stdout. Ends the command if that is impossible: quietly with success if the
/// reader had enough (`rinfer ops | head`), with a message and code 4 if not (a full disk).
pub fn text(text: Arguments<'_>) {
    if let Err(e) = stdout().lock().write_fmt(text) {
        if e.kind() == ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        error_line(format_args!("rinfer: stdout: {e}"));
        std::process::exit(Code::Run as i32);
    }
}

/// Writes a line on stderr; where that is impossible there is nobody to tell.
pub fn error_line(text: Arguments<'_>) {
    let _ = writeln!(stderr().lock(), "{text}");
}
