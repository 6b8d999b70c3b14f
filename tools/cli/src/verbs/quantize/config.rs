//! The flags of `rinfer quantize` as a configuration.

use rinfer_quant::config::pattern;
use rinfer_quant::observe::Method;
use rinfer_quant::scheme::Scheme;
use rinfer_quant::weights::{Fit, WeightScheme};
use rinfer_quant::{Config, Format, Mode, Rounding, Smooth};

use crate::failure::{Failure, Result};
use crate::quantize_args::{
    DataArgs, FormatChoice, HowArgs, ModeChoice, RangeChoice, RoundChoice, ScaleChoice, Switch,
    TableChoice,
};

/// What the flags ask for.
pub fn config(how: &HowArgs, data: &DataArgs) -> Result<Config> {
    let usage = |text: String| Failure::usage(text);
    let (bits, block, signed) = weights(&how.weights)?;
    let (per_channel, block) = granularity(&how.granularity, block)?;
    let symmetric = |default: bool| match how.symmetric {
        Switch::Auto => default,
        Switch::On => true,
        Switch::Off => false,
    };
    let scheme = Scheme { bits: 8, signed, symmetric: symmetric(signed) };
    let fit = match how.weight_range.as_str() {
        "minmax" => Fit::Ends,
        "mse" => Fit::Mse,
        other => return Err(usage(format!("--weight-range {other}: minmax, mse"))),
    };
    let patterns = |list: &[String]| {
        let all = list.iter().map(|text| pattern(text));
        all.collect::<rinfer_quant::Result<Vec<_>>>().map_err(|e| Failure::usage(e.to_string()))
    };
    let mode = match how.mode {
        ModeChoice::Auto => Mode::Auto,
        ModeChoice::Dynamic => Mode::Dynamic,
        ModeChoice::Static => Mode::Static,
        ModeChoice::WeightOnly => Mode::WeightOnly,
        ModeChoice::Fp16 => Mode::Half,
    };
    if how.granularity.starts_with("block=") && mode != Mode::WeightOnly {
        return Err(usage("blocks hold weights alone: --mode weight-only".into()));
    }
    if bits == 4 && mode != Mode::WeightOnly {
        return Err(usage("int4 weights are stored in blocks: --mode weight-only".into()));
    }
    Ok(Config {
        mode,
        weight: WeightScheme { scheme, per_channel, fit },
        activations: activations(&how.acts, how.symmetric)?,
        rows: how.dynamic_ranges == RangeChoice::Row,
        method: Method::parse(&how.calib_method)
            .map_err(|e| usage(format!("--calib-method: {e}")))?,
        bits,
        block,
        symmetric_blocks: symmetric(false),
        half_scales: how.block_scales == ScaleChoice::Float16,
        rounding: match how.round {
            RoundChoice::Nearest => Rounding::Nearest,
            RoundChoice::Hqq => Rounding::Hqq,
            RoundChoice::Gptq => Rounding::Gptq,
            RoundChoice::Awq => Rounding::Awq,
        },
        format: match how.format {
            None => None,
            Some(FormatChoice::Qdq) => Some(Format::Qdq),
            Some(FormatChoice::Qoperator) => Some(Format::QOperator),
            Some(FormatChoice::Matmulnbits) => Some(Format::MatMulNBits),
            Some(FormatChoice::Float) => {
                return Err(usage("--format float: that is `quantize convert`".into()));
            }
        },
        embeddings: how.embeddings == TableChoice::Int8,
        smooth: smooth(how, data)?,
        equalize: how.equalize,
        correct_bias: how.bias_correct,
        exclude: patterns(&how.exclude)?,
        exclude_ops: how.exclude_op.clone(),
        include: patterns(&how.include)?,
    })
}

/// `int8`, `uint8`, `int4`, `int4-g32`: bits, rows in a block, whether codes are signed.
fn weights(text: &str) -> Result<(u32, usize, bool)> {
    let (name, group) = text.split_once("-g").unwrap_or((text, "32"));
    let block: Option<usize> = group.parse().ok();
    match (name, block) {
        ("int8", Some(block)) => Ok((8, block, true)),
        ("uint8", Some(block)) => Ok((8, block, false)),
        ("int4", Some(block)) => Ok((4, block, true)),
        _ => {
            Err(Failure::usage(format!("--weights {text}: int8, uint8, int4, int4-g32, int4-g128")))
        }
    }
}

fn granularity(text: &str, block: usize) -> Result<(bool, usize)> {
    match text {
        "auto" | "channel" => Ok((true, block)),
        "tensor" => Ok((false, block)),
        other => match other.strip_prefix("block=").and_then(|n| n.parse().ok()) {
            Some(block) => Ok((true, block)),
            None => {
                Err(Failure::usage(format!("--granularity {other}: tensor, channel, block=32")))
            }
        },
    }
}

fn activations(text: &str, symmetric: Switch) -> Result<Scheme> {
    let (bits, signed) = match text {
        "uint8" => (8, false),
        "int8" => (8, true),
        "uint16" => (16, false),
        "int16" => (16, true),
        other => {
            let text = format!("--acts {other}: uint8, int8, uint16, int16");
            return Err(Failure::usage(text));
        }
    };
    Ok(Scheme { bits, signed, symmetric: signed && symmetric != Switch::Off })
}

/// What is asked for; else outliers are moved where samples show what single channels hold, and 8
/// bits are few for them.
fn smooth(how: &HowArgs, data: &DataArgs) -> Result<Option<Smooth>> {
    match how.smooth.as_deref() {
        None => {
            let bytes = matches!(how.acts.as_str(), "uint8" | "int8");
            let seen = how.mode == ModeChoice::Static && bytes && data.calib.is_some();
            Ok(seen.then_some(Smooth::Auto))
        }
        Some("off") => Ok(None),
        Some("auto") => Ok(Some(Smooth::Auto)),
        Some(number) => match number.parse::<f32>() {
            Ok(alpha) if (0.0..=1.0).contains(&alpha) => Ok(Some(Smooth::Alpha(alpha))),
            _ => Err(Failure::usage(format!("--smooth {number}: auto, off, or 0 … 1"))),
        },
    }
}
