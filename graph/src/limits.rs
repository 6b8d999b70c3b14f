//! What a model and its inputs may ask for.

use std::time::Duration;

use crate::{Kind, Reason};

/// Bounds on models, tensors and runs. What exceeds one is an error of kind
/// [`crate::Kind::Limit`] that names the limit, its value and the request.
///
/// Memory is bounded even where a limit is not: nothing is allocated beyond what the machine has.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Bytes of the model file, external data apart.
    pub model_bytes: usize,
    /// How deep bodies of If, Loop and Scan may be nested.
    pub subgraph_depth: usize,
    /// Nodes after inlining functions, all subgraphs together.
    pub nodes: usize,
    /// Axes of a tensor.
    pub rank: usize,
    /// Bytes of one tensor.
    pub tensor_bytes: usize,
    /// Bytes of weights, intermediate values and outputs of one session.
    pub memory: usize,
    /// Bytes of one value that constant folding may make.
    pub fold_value: usize,
    /// Bytes that constant folding may make in all.
    pub fold_total: usize,
    /// Iterations of one Loop.
    pub loop_iterations: u64,
    /// Wall time of one run.
    pub run_time: Option<Duration>,
    /// Bytes of text in one tensor of strings.
    pub string_bytes: usize,
    /// Bytes of one compiled regular expression.
    pub regex_bytes: usize,
    /// Pixels of one decoded image.
    pub image_pixels: usize,
}

impl Limits {
    /// For models of one's own: what the format allows and the machine has.
    pub const fn trusted() -> Limits {
        Limits {
            model_bytes: i32::MAX as usize,
            subgraph_depth: 32,
            nodes: 1_000_000,
            rank: 64,
            tensor_bytes: isize::MAX as usize,
            memory: isize::MAX as usize,
            fold_value: 64 << 20,
            fold_total: 256 << 20,
            loop_iterations: u64::MAX,
            run_time: None,
            string_bytes: isize::MAX as usize,
            regex_bytes: 10 << 20,
            image_pixels: 100_000_000,
        }
    }

    /// For models of strangers.
    pub const fn untrusted() -> Limits {
        Limits {
            model_bytes: 512 << 20,
            subgraph_depth: 16,
            nodes: 100_000,
            rank: 16,
            tensor_bytes: 1 << 30,
            memory: 1 << 30,
            fold_value: 4 << 20,
            fold_total: 64 << 20,
            loop_iterations: 1_000_000,
            run_time: Some(Duration::from_secs(30)),
            string_bytes: 64 << 20,
            regex_bytes: 1 << 20,
            image_pixels: 50_000_000,
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits::trusted()
    }
}

impl Reason {
    /// `what` asks for more than a limit allows: `memory of 12 bytes is over the limit of 10`.
    pub fn over(
        what: &str,
        asked: impl std::fmt::Display,
        limit: impl std::fmt::Display,
    ) -> Reason {
        Reason::new(Kind::Limit, format!("{what} of {asked} is over the limit of {limit}"))
    }
}
