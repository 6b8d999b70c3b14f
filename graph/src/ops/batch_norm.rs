//! BatchNormalization: each channel scaled and shifted by its statistics.
//!
//! y = (x - mean) / √(var + epsilon) · scale + b, x [n, c, …], the others [c]
use super::{Axis, Flatten, Inputs, Reshape, Shape};
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Dim, Facts, Reason, invalid, unsupported};

/// x, scale, b, mean, var → y, and when training: the running mean and var, and those of x.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchNormalization {
    /// Keeps the root from zero.
    pub epsilon: f32,
    /// In training: the weight of the old running statistics. `None` is inference.
    pub training: Option<f32>,
}

impl BatchNormalization {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        for i in 0..5 {
            let dtype = inputs.dtype(i)?;
            if !matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64) {
                return Err(unsupported!("BatchNormalization of {dtype} is not supported"));
            }
        }
        let x = inputs.get(0)?;
        let channels = match x.shape() {
            Some([]) => return Err(invalid!("BatchNormalization of a scalar")),
            // A single axis is the batch, of one channel.
            Some([_]) => Dim::N(1),
            Some([_, c, ..]) => c.clone(),
            None => Dim::Unknown,
        };
        for i in 1..5 {
            inputs.check_rank(i, 1)?;
            let n = inputs.shape(i)?.and_then(|s| s[0].value());
            if let (Some(n), Some(c)) = (n, channels.value())
                && n != c
            {
                return Err(invalid!("input {i} has {n} elements for {c} channels"));
            }
        }
        let mut facts: Facts = [x.clone().forget()].into_iter().collect();
        if self.training.is_some() {
            let (mean, var) = (inputs.get(3)?.clone().forget(), inputs.get(4)?.clone().forget());
            facts.extend([mean.clone(), var.clone(), mean, var]);
        }
        Ok(facts)
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(5, 5)?;
    let epsilon = cx.float("epsilon")?.unwrap_or(1e-5);
    let momentum = cx.float("momentum")?.unwrap_or(0.9);
    let spatial = cx.version >= 9 || cx.flag("spatial", true)?;
    cx.ignore(&["consumed_inputs"]);
    let trains = match cx.version {
        14.. => cx.flag("training_mode", false)?,
        // Between the two attributes the number of outputs told the modes apart.
        7..14 => cx.outputs() > 1,
        _ => !cx.flag("is_test", false)?,
    };
    let op = BatchNormalization { epsilon, training: trains.then_some(momentum) };
    if spatial {
        return cx.emit(op);
    }
    // Each element of a sample is a channel of its own.
    let x = cx.input(0)?;
    let shape = cx.push1(Shape { start: 0, end: None }, &[x])?;
    let flat = cx.constant_ints(&[-1]);
    let mut inputs = vec![Some(cx.push1(Flatten { axis: Axis(1) }, &[x])?)];
    for i in 1..5 {
        let param = cx.input(i)?;
        inputs.push(Some(cx.push1(Reshape { allowzero: false }, &[param, flat])?));
    }
    let mut made = cx.push(op, &inputs)?;
    made[0] = cx.push1(Reshape { allowzero: true }, &[made[0], shape])?;
    for (i, v) in made.iter_mut().enumerate().skip(1) {
        let param = cx.input(if i % 2 == 1 { 3 } else { 4 })?;
        let shape = cx.push1(Shape { start: 0, end: None }, &[param])?;
        *v = cx.push1(Reshape { allowzero: true }, &[*v, shape])?;
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fact;

    fn check(x: &[usize], outputs: usize, training: Option<f32>, expected: &str) {
        let (x, p) = (Fact::sized(DType::F32, x), Fact::sized(DType::F32, &[3]));
        let op = BatchNormalization { epsilon: 0.0, training };
        let inputs = [Some(&x), Some(&p), Some(&p), Some(&p), Some(&p)];
        let facts = crate::Op::from(op).infer(&Inputs::new(&inputs, outputs));
        let show = |facts: Facts| facts.iter().map(Fact::to_string).collect::<Vec<_>>().join(" ");
        assert_eq!(facts.map_or_else(|e| e.to_string(), show), expected);
    }

    #[test]
    fn training_makes_the_running_statistics_too() {
        check(&[2, 3, 4], 1, None, "float[2, 3, 4]");
        check(&[2, 3], 3, Some(0.9), "float[2, 3] float[3] float[3]");
        check(&[2, 3], 3, None, "3 outputs are asked for, there are 1");
    }

    #[test]
    fn every_channel_has_its_parameters() {
        check(&[2, 4], 1, None, "input 1 has 3 elements for 4 channels");
        check(&[2], 1, None, "input 1 has 3 elements for 1 channels");
    }
}
