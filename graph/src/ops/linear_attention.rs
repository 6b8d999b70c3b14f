//! LinearAttention: a matrix of state per head, updated by each token and read by its query.
//!
//! S ← exp(decay)·S + k ⊗ u;  o = scale · qᵀS, where u is v, or (delta rules) β·(v - Sᵀk), S decayed
//!
//! query [b, t, h·d], key [b, t, h′·d], value [b, t, h′·e], past_state [b, h′, d, e],
//! decay [b, t, h′·d] or [b, t, h′], beta [b, t, h′] or [b, t, 1]
//! →  output [b, t, h·e], present_state [b, h′, d, e]; h′ divides h.

use super::Inputs;
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Dim, Fact, Facts, Reason, invalid, unsupported};

/// Inputs query, key, value, past_state, decay, beta; the last three optional.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearAttention {
    /// Heads of the query.
    pub q_heads: usize,
    /// Heads of key, value and state.
    pub kv_heads: usize,
    /// Factor of the output; 1/√d if it is none.
    pub scale: Option<f32>,
    /// Whether the state decays.
    pub gated: bool,
    /// Whether what the state holds for a key is replaced, not added to.
    pub delta: bool,
}

/// The sizes of a linear attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct LinearAttentionSizes {
    pub batch: usize,
    pub tokens: usize,
    /// Elements of a query's and a key's head.
    pub head: usize,
    /// Elements of a value's head.
    pub v_head: usize,
}

impl LinearAttention {
    /// The sizes that query, key and value amount to.
    pub fn sizes(&self, [q, k, v]: [&[usize]; 3]) -> Result<LinearAttentionSizes, Reason> {
        let no = || invalid!("query {q:?}, key {k:?} and value {v:?} do not go together");
        let ([b, t, q_all], [kb, kt, k_all], [vb, vt, v_all]) = (
            *<&[usize; 3]>::try_from(q).map_err(|_| no())?,
            *<&[usize; 3]>::try_from(k).map_err(|_| no())?,
            *<&[usize; 3]>::try_from(v).map_err(|_| no())?,
        );
        let (head, v_head) = (q_all / self.q_heads, v_all / self.kv_heads);
        let whole = q_all == head * self.q_heads
            && k_all == head * self.kv_heads
            && v_all == v_head * self.kv_heads;
        if !whole || [b, t] != [kb, kt] || [b, t] != [vb, vt] {
            return Err(no());
        }
        Ok(LinearAttentionSizes { batch: b, tokens: t, head, v_head })
    }

    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let dtype = inputs.dtype(0)?;
        for i in 0..6 {
            let Some(fact) = inputs.opt(i) else { continue };
            if !matches!(fact.dtype()?, DType::F32 | DType::F16 | DType::BF16) {
                return Err(unsupported!("LinearAttention of {} is not supported", fact.ty));
            }
        }
        let state = inputs.opt(3).map_or(Ok(dtype), Fact::dtype)?;
        (0..3).try_for_each(|i| inputs.check_rank(i, 3))?;
        let given = [inputs.opt(4).is_some(), inputs.opt(5).is_some()];
        if given != [self.gated, self.delta] {
            return Err(invalid!(
                "decay and beta given: {given:?}, needed: {:?}",
                [self.gated, self.delta]
            ));
        }
        let sizes = |i: usize| inputs.opt(i).and_then(Fact::sizes);
        if let (Some(q), Some(k), Some(v)) = (sizes(0), sizes(1), sizes(2)) {
            let s = self.sizes([&q, &k, &v])?;
            let fits = |i: usize, allowed: &[&[usize]]| match sizes(i) {
                Some(shape) if !allowed.contains(&&shape[..]) => {
                    Err(invalid!("input {i} has the shape {shape:?}"))
                }
                _ => Ok(()),
            };
            let (b, t, h) = (s.batch, s.tokens, self.kv_heads);
            fits(3, &[&[b, h, s.head, s.v_head]])?;
            fits(4, &[&[b, t, h], &[b, t, h * s.head]])?;
            fits(5, &[&[b, t, h], &[b, t, 1]])?;
        }
        let dim = |i: usize, axis: usize| {
            let shape = inputs.opt(i).and_then(Fact::shape);
            shape.and_then(|s| s.get(axis).cloned()).unwrap_or(Dim::Unknown)
        };
        let (q_heads, kv_heads) = (Dim::from(self.q_heads), Dim::from(self.kv_heads));
        let (head, v_head) = (dim(0, 2).div(&q_heads), dim(2, 2).div(&kv_heads));
        let y = [dim(0, 0), dim(0, 1), v_head.mul(&q_heads)].into_iter().collect();
        let made = [dim(0, 0), kv_heads, head, v_head].into_iter().collect();
        Ok([Fact::new(dtype, y), Fact::new(state, made)].into_iter().collect())
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(3, 6)?;
    // How prefill is cut for GPUs; it changes no result.
    cx.ignore(&["chunk_size"]);
    let heads = |name: &str| match cx.size(name)? {
        Some(n) if n > 0 => Ok(n),
        n => Err(invalid!("attribute {name} is {}", n.map_or("missing", |_| "0"))),
    };
    let (q_heads, kv_heads) = (heads("q_num_heads")?, heads("kv_num_heads")?);
    if q_heads % kv_heads != 0 {
        return Err(invalid!("{q_heads} heads of queries for {kv_heads} of keys"));
    }
    let (gated, delta) = match cx.string("update_rule")?.unwrap_or("gated_delta") {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => return Err(invalid!("update_rule {other:?} is unknown")),
    };
    let scale = cx.float("scale")?.filter(|&x| x != 0.0);
    cx.emit(LinearAttention { q_heads, kv_heads, scale, gated, delta })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_a_matrix_per_head() {
        let op =
            LinearAttention { q_heads: 4, kv_heads: 2, scale: None, gated: false, delta: false };
        let facts = [[2, 5, 32], [2, 5, 16], [2, 5, 6]].map(|s| Fact::sized(DType::F32, &s));
        let inputs: Vec<Option<&Fact>> = facts.iter().map(Some).collect();
        let made = op.infer(&Inputs::new(&inputs, 2)).unwrap();
        assert_eq!(made[0].to_string(), "float[2, 5, 12]");
        assert_eq!(made[1].to_string(), "float[2, 2, 8, 3]");
    }
}
