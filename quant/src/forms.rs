//! The forms a layer can take.

use std::sync::Arc;

use crate::blocks::{BlockScheme, Blocks};
use crate::scheme::Params;
use crate::weights::{Fit, WeightScheme};

/// What a layer becomes.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// It stays as it is.
    Float,
    /// Integers throughout; the range of activations is found in every run.
    Dynamic {
        /// The weight.
        weight: WeightScheme,
        /// Whether each row of activations has a range of its own.
        rows: bool,
    },
    /// Integers throughout; the ranges of activations are constants.
    Static {
        /// The weight.
        weight: WeightScheme,
        /// What the layer reads.
        input: Params,
        /// What it makes; `None` leaves that in floats.
        output: Option<Params>,
    },
    /// The weight is stored in integers, and computed with in floats.
    Stored(WeightScheme),
    /// The weight is stored in blocks of few bits.
    Blocks(BlockScheme),
}

impl Form {
    /// A word for tables.
    pub fn name(&self) -> String {
        match self {
            Form::Float => "float".into(),
            Form::Dynamic { weight, rows: true } => format!("dynamic {}", weight_name(weight)),
            Form::Dynamic { weight, rows: false } => {
                format!("dynamic {}, one range", weight_name(weight))
            }
            Form::Static { weight, input, .. } => {
                format!("static {} · {}", input.scheme.dtype(), weight_name(weight))
            }
            Form::Stored(w) => format!("stored {}", weight_name(w)),
            Form::Blocks(b) => format!("int{} blocks of {}", b.bits, b.size),
        }
    }

    /// Whether the layer computes in integers.
    pub fn is_integer(&self) -> bool {
        match self {
            Form::Dynamic { .. } => true,
            Form::Static { input, .. } => input.scheme.bits == 8,
            _ => false,
        }
    }
}

fn weight_name(w: &WeightScheme) -> String {
    let per = if w.per_channel { "per channel" } else { "per tensor" };
    let fit = if w.fit == Fit::Mse { ", mse" } else { "" };
    format!("{} {per}{fit}", w.scheme.dtype())
}

/// What is decided about a layer, and what was computed for it beforehand.
#[derive(Clone, Debug)]
pub struct Choice {
    /// What it becomes.
    pub form: Form,
    /// Blocks that an algorithm chose, instead of rounding to the nearest code.
    pub blocks: Option<Blocks>,
    /// What activations are divided by and the weight's rows multiplied with, a number for each.
    pub smooth: Option<Arc<Vec<f32>>>,
    /// Added to the bias, one number for each channel, so that the mean of what it makes stays.
    pub shift: Option<Vec<f32>>,
}

impl From<Form> for Choice {
    fn from(form: Form) -> Choice {
        Choice { form, blocks: None, smooth: None, shift: None }
    }
}
