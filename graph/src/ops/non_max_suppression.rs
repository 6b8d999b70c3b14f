//! NonMaxSuppression: the best boxes of each class that do not overlap much.
use super::{Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Dim, Fact, Facts, Reason, invalid};

/// boxes: float [batch, n, 4], scores: float [batch, classes, n], max_output_boxes_per_class: int64
/// (0), iou_threshold: float (0), score_threshold: float (none)
/// → int64 [selected, 3]: batch, class and box of each.
#[derive(Clone, Debug, PartialEq)]
pub struct NonMaxSuppression {
    /// Whether a box is (x centre, y centre, width, height); (y1, x1, y2, x2) otherwise.
    pub center_point_box: bool,
}

impl NonMaxSuppression {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        inputs.check_rank(0, 3)?;
        inputs.check_rank(1, 3)?;
        for (i, dtype) in
            [DType::F32, DType::F32, DType::I64, DType::F32, DType::F32].into_iter().enumerate()
        {
            if let Some(fact) = inputs.opt(i)
                && fact.dtype()? != dtype
            {
                return Err(invalid!("input {i} is {fact} where {dtype} is needed"));
            }
        }
        if let (Some(boxes), Some(scores)) = (inputs.shape(0)?, inputs.shape(1)?) {
            let differ = |a: &Dim, b: &Dim| a.value().zip(b.value()).is_some_and(|(a, b)| a != b);
            if differ(&boxes[0], &scores[0])
                || differ(&boxes[1], &scores[2])
                || differ(&boxes[2], &Dim::N(4))
            {
                return Err(invalid!(
                    "boxes {} and scores {} do not fit",
                    crate::shape::show(boxes),
                    crate::shape::show(scores)
                ));
            }
        }
        one(Fact::new(DType::I64, [Dim::Unknown, Dim::N(3)].into_iter().collect()))
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 5)?;
    let center_point_box = match cx.int("center_point_box")?.unwrap_or(0) {
        0 => false,
        1 => true,
        other => return Err(invalid!("center_point_box is {other}")),
    };
    cx.emit(NonMaxSuppression { center_point_box })
}
