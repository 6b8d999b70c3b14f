//! What stands on the command line after --input, --dim, --shape and limits is parsed or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use clap::Parser;
use rinfer_cli::{args::Cli, context, fill::Fill};

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let _ = Fill::parse(&text).map(|fill| fill.map(drop));
    let _ = context::parse_dims(&[text.to_string()]);
    let words = ["rinfer", "run"].into_iter().chain(text.split('\n'));
    let _ = Cli::try_parse_from(words);
});
