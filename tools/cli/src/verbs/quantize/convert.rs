//! `rinfer quantize convert`: a quantized model in another form.

use rinfer_quant::{Format, convert::convert as change};

use super::failed;
use crate::args::PrintArgs;
use crate::context;
use crate::failure::Result;
use crate::formats;
use crate::quantize_args::{ConvertArgs, FormatChoice};

/// Writes a quantized model in another form.
pub fn convert(args: &ConvertArgs, _: &PrintArgs) -> Result<()> {
    let model = context::open(&args.model, &args.limits, &[])?;
    let format = match args.format {
        FormatChoice::Float => None,
        FormatChoice::Qdq => Some(Format::Qdq),
        FormatChoice::Qoperator => Some(Format::QOperator),
        FormatChoice::Matmulnbits => Some(Format::MatMulNBits),
    };
    let made = change(&model, format).map_err(|e| failed(&args.model, e))?;
    let bytes = formats::write_model(&made, &args.model, &args.output, args.overwrite)?;
    println!("bytes  {bytes}");
    Ok(())
}
