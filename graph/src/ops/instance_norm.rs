//! InstanceNormalization and GroupNormalization: groups of a sample's channels brought to mean 0
//! and variance 1.
//!
//! y = (x - mean) / √(var + epsilon) · scale + b, x [n, c, …], mean and var over each group
use super::{Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Dim, Facts, Reason, invalid, unsupported};

/// What has its own element of scale and b.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Per {
    /// A channel.
    Channel,
    /// A group, as up to opset 20.
    Group,
}

/// x, scale, b → y
#[derive(Clone, Debug, PartialEq)]
pub struct GroupNormalization {
    /// Into how many groups the channels fall; `None` is a group for each.
    pub groups: Option<usize>,
    /// Keeps the root from zero.
    pub epsilon: f32,
    /// What has its own element of scale and b.
    pub params: Per,
}

impl GroupNormalization {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        for i in 0..3 {
            let dtype = inputs.dtype(i)?;
            if !matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64) {
                return Err(unsupported!("group normalization of {dtype} is not supported"));
            }
            inputs.same_dtype(0, i)?;
        }
        inputs.check_rank(1, 1)?;
        inputs.check_rank(2, 1)?;
        let channels = match x.shape() {
            Some([_, channels, ..]) => channels.value(),
            Some(shape) => return Err(invalid!("rank {} where 2 is the least", shape.len())),
            None => None,
        };
        if let (Some(c), Some(groups)) = (channels, self.groups)
            && (groups == 0 || c % groups as i64 != 0)
        {
            return Err(invalid!("{c} channels do not fall into {groups} groups"));
        }
        let wanted = match self.params {
            Per::Group => self.groups.map(|groups| groups as i64).or(channels),
            Per::Channel => channels,
        };
        for i in 1..3 {
            let n = inputs.shape(i)?.and_then(|s| s.first().and_then(Dim::value));
            if let (Some(n), Some(wanted)) = (n, wanted)
                && n != wanted
            {
                return Err(invalid!("input {i} has {n} elements where {wanted} are needed"));
            }
        }
        one(x.clone().forget())
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(3, 3)?;
    let epsilon = cx.float("epsilon")?.unwrap_or(1e-5);
    cx.ignore(&["consumed_inputs"]);
    cx.emit(GroupNormalization { groups: None, epsilon, params: Per::Channel })
}

pub(super) fn import_group(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(3, 3)?;
    let epsilon = cx.float("epsilon")?.unwrap_or(1e-5);
    let groups = cx.size("num_groups")?;
    let groups = groups.ok_or_else(|| invalid!("attribute num_groups is missing"))?;
    let params = if cx.version < 21 { Per::Group } else { Per::Channel };
    if cx.version >= 21 {
        // Half precision is computed in f32 and f64 in f64, at least what any stash type asks for.
        cx.dtype_attr("stash_type")?;
    }
    cx.emit(GroupNormalization { groups: Some(groups), epsilon, params })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fact;

    fn check(groups: Option<usize>, params: Per, n: usize, expected: &str) {
        let (x, p) = (Fact::sized(DType::F32, &[2, 6, 4]), Fact::sized(DType::F32, &[n]));
        let op = GroupNormalization { groups, epsilon: 0.0, params };
        let facts = op.infer(&Inputs::new(&[Some(&x), Some(&p), Some(&p)], 1));
        assert_eq!(facts.map_or_else(|e| e.to_string(), |f| f[0].to_string()), expected);
    }

    #[test]
    fn channels_fall_into_groups_of_one_size() {
        check(None, Per::Channel, 6, "float[2, 6, 4]");
        check(Some(3), Per::Group, 3, "float[2, 6, 4]");
        check(Some(3), Per::Channel, 3, "input 1 has 3 elements where 6 are needed");
        check(Some(4), Per::Channel, 6, "6 channels do not fall into 4 groups");
    }
}
