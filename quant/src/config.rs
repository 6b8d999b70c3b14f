//! What is asked for: modes, types, what is left out.

use regex::Regex;

use crate::error::{Error, Result};
use crate::layers::{Layer, Left};
use crate::observe::Method;
use crate::scheme::Scheme;
use crate::weights::{Fit, WeightScheme};

/// What becomes of a model's layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Products dynamic, tables stored, convolutions static where there is calibration data and
    /// stored where there is none; float where integers would gain nothing.
    Auto,
    /// Products in integers; ranges of activations are found in every run.
    Dynamic,
    /// Products and convolutions in integers; ranges come from calibration.
    Static,
    /// Weights are stored in integers, computed with in floats.
    WeightOnly,
    /// Half precision throughout.
    Half,
}

/// How a quantized product is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// QuantizeLinear and DequantizeLinear around float operators.
    Qdq,
    /// Operators on integers: QLinearConv, MatMulInteger.
    QOperator,
    /// MatMulNBits of com.microsoft, for weights in blocks.
    MatMulNBits,
}

/// How codes of blocks are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// The nearest.
    Nearest,
    /// Scales and zero points by half-quadratic optimization, without data (HQQ).
    Hqq,
    /// One column after the other, each error made up for by those that follow (GPTQ).
    Gptq,
    /// Channels that meet large activations are scaled up first, ranges clipped (AWQ).
    Awq,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Config {
    /// What becomes of layers.
    pub mode: Mode,
    /// How weights become codes of 8 bits.
    pub weight: WeightScheme,
    /// Codes of activations in static layers.
    pub activations: Scheme,
    /// Whether each row of activations has a range of its own in dynamic layers: a row then does
    /// not depend on the others.
    pub rows: bool,
    /// How ranges of activations are chosen.
    pub method: Method,
    /// Bits of weights in blocks: 4 or 8.
    pub bits: u32,
    /// Rows that share a scale in blocks.
    pub block: usize,
    /// Whether blocks have no zero points.
    pub symmetric_blocks: bool,
    /// Whether scales of blocks are stored in float16.
    pub half_scales: bool,
    /// How codes of blocks are chosen.
    pub rounding: Rounding,
    /// How the model is written; `None` is what suits the mode.
    pub format: Option<Format>,
    /// Whether tables are stored in int8.
    pub embeddings: bool,
    /// How much of the activations' outliers goes into the weights, 0 … 1; `None` is none.
    pub smooth: Option<Smooth>,
    /// Whether channels of neighbouring convolutions are balanced.
    pub equalize: bool,
    /// Whether biases make up for the mean error of each channel.
    pub correct_bias: bool,
    /// Layers whose name matches stay float.
    pub exclude: Vec<Regex>,
    /// Layers of these operators stay float.
    pub exclude_ops: Vec<String>,
    /// If there are any, only layers whose name matches are quantized.
    pub include: Vec<Regex>,
}

/// The share of outliers that goes into weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Smooth {
    /// The best of several, for each group of layers.
    Auto,
    /// This share.
    Alpha(f32),
}

impl Default for Config {
    fn default() -> Config {
        Config {
            mode: Mode::Auto,
            weight: WeightScheme::DEFAULT,
            activations: Scheme::UINT8,
            rows: true,
            method: Method::Mse,
            bits: 4,
            block: 32,
            symmetric_blocks: false,
            half_scales: false,
            rounding: Rounding::Nearest,
            format: None,
            embeddings: true,
            smooth: None,
            equalize: false,
            correct_bias: false,
            exclude: Vec::new(),
            exclude_ops: Vec::new(),
            include: Vec::new(),
        }
    }
}

/// A pattern of names: a regular expression that is found anywhere in the name.
///
/// # Errors
/// It is none.
pub fn pattern(text: &str) -> Result<Regex> {
    Regex::new(text).map_err(|e| Error::Config(format!("pattern {text}: {e}")))
}

impl Config {
    /// Checks what fits together whatever the model.
    ///
    /// # Errors
    /// What does not.
    pub fn check(&self) -> Result<()> {
        let no = |text: String| Err(Error::Config(text));
        if !matches!(self.bits, 4 | 8) {
            return no(format!("weights of {} bits, not 4 or 8", self.bits));
        }
        if !self.block.is_power_of_two() || self.block < 16 {
            return no(format!("blocks of {}, no power of two from 16 on", self.block));
        }
        if self.rounding != Rounding::Nearest && self.mode != Mode::WeightOnly {
            return no(format!("{:?} rounds weights in blocks: mode weight-only", self.rounding));
        }
        match (self.format, self.mode) {
            (None, _)
            | (Some(Format::Qdq), Mode::Static | Mode::WeightOnly)
            | (Some(Format::QOperator), Mode::Static)
            | (Some(Format::MatMulNBits), Mode::WeightOnly) => {}
            (Some(format), mode) => {
                return no(format!("mode {mode:?} has no form {format:?}"));
            }
        }
        if self.smooth.is_some() && matches!(self.mode, Mode::WeightOnly | Mode::Half) {
            return no("smoothing is for activations in integers: mode static or dynamic".into());
        }
        if self.correct_bias && self.mode == Mode::Half {
            return no("half precision corrects no biases".into());
        }
        Ok(())
    }

    /// Whether ranges of activations are needed.
    pub fn needs_samples(&self) -> bool {
        self.mode == Mode::Static
            || self.smooth.is_some()
            || self.correct_bias
            || matches!(self.rounding, Rounding::Gptq | Rounding::Awq)
    }

    /// Why the user wants a layer left alone, if so.
    pub fn excluded(&self, layer: &Layer) -> Option<String> {
        self.excluded_name(&layer.name, &layer.op)
    }

    /// Why the user wants a node of this name and operator left alone, if so.
    pub fn excluded_name(&self, name: &str, op: &str) -> Option<String> {
        if let Some(found) = self.exclude.iter().find(|r| r.is_match(name)) {
            return Some(format!("excluded by the name, {found}"));
        }
        if self.exclude_ops.iter().any(|o| o == op) {
            return Some(format!("excluded by the operator, {op}"));
        }
        let wanted = self.include.is_empty() || self.include.iter().any(|r| r.is_match(name));
        (!wanted).then(|| "not among the included names".into())
    }

    /// `Err` if a pattern or an operator matches nothing in the model.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check_matches(&self, layers: &[Layer], left: &[Left]) -> Result<()> {
        let names: Vec<&String> =
            layers.iter().map(|l| &l.name).chain(left.iter().map(|l| &l.name)).collect();
        for pattern in self.exclude.iter().chain(&self.include) {
            if !names.iter().any(|name| pattern.is_match(name)) {
                return Err(Error::Config(format!(
                    "the pattern {pattern} matches no layer{}",
                    examples(&names)
                )));
            }
        }
        let mut ops: Vec<&str> = layers.iter().map(|l| l.op.as_str()).collect();
        ops.extend(left.iter().map(|l| l.op.as_str()));
        ops.sort_unstable();
        ops.dedup();
        match self.exclude_ops.iter().find(|op| !ops.contains(&op.as_str())) {
            Some(op) => Err(Error::Config(format!(
                "no layer is a {op}, there are {}",
                if ops.is_empty() { "none at all".into() } else { ops.join(", ") }
            ))),
            None => Ok(()),
        }
    }

    /// What describes the configuration in a model's metadata.
    pub fn describe(&self) -> Vec<(&'static str, String)> {
        let weight = &self.weight;
        vec![
            ("mode", format!("{:?}", self.mode)),
            (
                "weights",
                match self.mode {
                    Mode::WeightOnly => format!("int{} blocks of {}", self.bits, self.block),
                    Mode::Half => "float16".into(),
                    _ => weight.scheme.dtype().to_string(),
                },
            ),
            ("granularity", if weight.per_channel { "channel" } else { "tensor" }.into()),
            ("weight_range", if weight.fit == Fit::Mse { "mse" } else { "minmax" }.into()),
            ("activations", self.activations.dtype().to_string()),
            ("dynamic_ranges", if self.rows { "row" } else { "tensor" }.into()),
            ("calib_method", self.method.to_string()),
            ("round", format!("{:?}", self.rounding)),
            ("equalize", self.equalize.to_string()),
        ]
    }
}

fn examples(names: &[&String]) -> String {
    let some: Vec<&str> = names.iter().take(3).map(|n| n.as_str()).collect();
    match some[..] {
        [] => "; the model has none".into(),
        _ => format!("; layers are called {} …", some.join(", ")),
    }
}
