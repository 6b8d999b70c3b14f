//! Attention: each query takes a weighted mean of values, weighted by how its keys answer.
//!
//! y = softmax(softcap(scale · Q·Kᵀ) + bias) · V, a row whose keys are all masked is zero
//!
//! Q [b, h, q, d], K [b, h′, k, d], V [b, h′, k, e]  →  Y [b, h, q, e]; or with heads side by side
//! Q [b, q, h·d], K [b, k, h′·d], V [b, k, h′·e]  →  Y [b, q, h·e]; h′ divides h. Q may have its
//! heads side by side where K and V have not.
//!
//! bias is -∞ where `causal`, the window or `nonpad_kv_seqlen` exclude a key, plus `attn_mask`. A
//! sink is one more score of a head, of a key without a value.

use smallvec::SmallVec;

use super::Inputs;
use crate::onnx::{NodeCx, Outputs};
use crate::shape::Shape;
use crate::{DType, Dim, Fact, Facts, Reason, invalid, unsupported};

/// What the fourth output holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scores {
    /// scale · Q·Kᵀ
    #[default]
    Raw,
    /// After the soft cap.
    Capped,
    /// After the bias was added.
    Biased,
    /// After softmax.
    Softmax,
}

/// Inputs Q, K, V, attn_mask, past_key, past_value, nonpad_kv_seqlen, all from the mask on
/// optional, and two that ONNX's operator has not: the position of each batch's first query among
/// the keys (int64 [b]), and the sinks [h]. Outputs Y, present_key, present_value, scores.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// Heads of Q, where they lie side by side.
    pub q_heads: Option<usize>,
    /// Heads of K and V, where they lie side by side.
    pub kv_heads: Option<usize>,
    /// Factor of Q·Kᵀ; 1/√d if it is none.
    pub scale: Option<f32>,
    /// Whether a query sees only keys up to its own position.
    pub causal: bool,
    /// c · tanh(x / c) is taken of the scores; 0 is none.
    pub softcap: f32,
    /// How many positions before its own a query sees; `None` is all.
    pub left_window: Option<usize>,
    /// How many positions after its own a query sees; `None` is all.
    pub right_window: Option<usize>,
    /// What the fourth output holds.
    pub scores: Scores,
    /// The least precision of softmax.
    pub softmax_precision: Option<DType>,
}

/// The sizes of an attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionSizes {
    /// Batch.
    pub batch: usize,
    /// Heads of Q.
    pub q_heads: usize,
    /// Heads of K and V.
    pub kv_heads: usize,
    /// Queries.
    pub queries: usize,
    /// Keys in K.
    pub new_keys: usize,
    /// Keys in past_key.
    pub past_keys: usize,
    /// Size of a query's and a key's head.
    pub head: usize,
    /// Size of a value's head.
    pub v_head: usize,
    /// Whether heads of Q and Y lie side by side (rank 3).
    pub side_by_side: bool,
    /// Whether heads of K and V do.
    pub kv_side_by_side: bool,
}

impl AttentionSizes {
    /// All keys.
    pub fn keys(&self) -> usize {
        self.past_keys + self.new_keys
    }
}

impl Attention {
    /// Attention without masks, caps or windows over inputs of rank 4.
    pub const PLAIN: Attention = Attention {
        q_heads: None,
        kv_heads: None,
        scale: None,
        causal: false,
        softcap: 0.0,
        left_window: None,
        right_window: None,
        scores: Scores::Raw,
        softmax_precision: None,
    };

    /// The sizes that the shapes of Q, K, V and past_key amount to.
    pub fn sizes(
        &self,
        [q, k, v]: [&[usize]; 3],
        past: Option<&[usize]>,
    ) -> Result<AttentionSizes, Reason> {
        let split = |shape: &[usize], heads: Option<usize>, what: &str| match *shape {
            [batch, heads, len, size] => Ok([batch, heads, len, size]),
            [batch, len, all] => match heads {
                Some(heads) if heads > 0 && all % heads == 0 => {
                    Ok([batch, heads, len, all / heads])
                }
                Some(heads) => Err(invalid!("{what} of size {all} has no {heads} heads")),
                None => Err(invalid!("{what} has rank 3, but its number of heads is not given")),
            },
            _ => Err(invalid!("{what} has the shape {shape:?}, where rank 3 or 4 is needed")),
        };
        if k.len() != v.len() || (q.len() != k.len() && (q.len(), k.len()) != (3, 4)) {
            return Err(invalid!("Q, K and V have ranks {}, {}, {}", q.len(), k.len(), v.len()));
        }
        let (qs, ks) = (split(q, self.q_heads, "Q")?, split(k, self.kv_heads, "K")?);
        let vs = split(v, self.kv_heads, "V")?;
        let past_keys = match past {
            None => 0,
            Some(&[b, h, n, d]) if [b, h, d] == [ks[0], ks[1], ks[3]] => n,
            Some(past) => return Err(invalid!("past_key {past:?} does not go with K {ks:?}")),
        };
        let agree = qs[0] == ks[0] && ks[..3] == vs[..3] && qs[3] == ks[3];
        if !agree || (ks[1] == 0) != (qs[1] == 0) || (ks[1] > 0 && qs[1] % ks[1] != 0) {
            return Err(invalid!(
                "Q, K and V with [batch, heads, length, size] of {qs:?}, {ks:?}, {vs:?}"
            ));
        }
        Ok(AttentionSizes {
            batch: qs[0],
            q_heads: qs[1],
            kv_heads: ks[1],
            queries: qs[2],
            new_keys: ks[2],
            past_keys,
            head: qs[3],
            v_head: vs[3],
            side_by_side: q.len() == 3,
            kv_side_by_side: k.len() == 3,
        })
    }

    /// [batch, heads, length, size of a head], as far as they are known.
    fn dims(fact: &Fact, heads: Option<usize>) -> [Dim; 4] {
        let unknown = || Dim::Unknown;
        match fact.shape() {
            Some([b, h, n, d]) => [b.clone(), h.clone(), n.clone(), d.clone()],
            Some([b, n, all]) => {
                let heads = heads.map_or(Dim::Unknown, Dim::from);
                [b.clone(), heads.clone(), n.clone(), all.div(&heads)]
            }
            _ => [unknown(), unknown(), unknown(), unknown()],
        }
    }

    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let (q, k, v) = (inputs.get(0)?, inputs.get(1)?, inputs.get(2)?);
        self.check(inputs)?;
        let [batch, q_heads, queries, _] = Attention::dims(q, self.q_heads);
        let [_, kv_heads, new, head] = Attention::dims(k, self.kv_heads);
        let [_, _, _, v_head] = Attention::dims(v, self.kv_heads);
        let past = match inputs.opt(4) {
            None => Dim::N(0),
            Some(past) => past.shape().and_then(|s| s.get(2).cloned()).unwrap_or(Dim::Unknown),
        };
        let keys = past.add(&new);
        let rank4 = |dims: [&Dim; 4]| -> Shape { dims.into_iter().cloned().collect() };
        let y: Option<Shape> = match q.rank() {
            Some(3) => {
                Some([batch.clone(), queries.clone(), q_heads.mul(&v_head)].into_iter().collect())
            }
            Some(_) => Some(rank4([&batch, &q_heads, &queries, &v_head])),
            None => None,
        };
        let (qt, vt) = (q.dtype()?, v.dtype()?);
        Ok(SmallVec::from_vec(vec![
            Fact { shape: y, ..Fact::unranked(qt) },
            Fact::new(qt, rank4([&batch, &kv_heads, &keys, &head])),
            Fact::new(vt, rank4([&batch, &kv_heads, &keys, &v_head])),
            Fact::new(qt, rank4([&batch, &q_heads, &queries, &keys])),
        ]))
    }

    fn check(&self, inputs: &Inputs<'_>) -> Result<(), Reason> {
        use DType::*;
        for i in [0, 1, 2] {
            let dtype = inputs.dtype(i)?;
            if !matches!(dtype, F16 | BF16 | F32 | F64) {
                return Err(unsupported!("attention over {dtype} is not supported"));
            }
        }
        [(0, 1), (1, 4), (2, 5)].into_iter().try_for_each(|(i, j)| inputs.same_dtype(i, j))?;
        if let Some(mask) = inputs.opt(3)
            && !matches!(mask.dtype()?, Bool | F16 | BF16 | F32 | F64)
        {
            return Err(unsupported!("an attention mask of {} is not supported", mask.ty));
        }
        if inputs.opt(4).is_some() != inputs.opt(5).is_some() {
            return Err(invalid!("past_key and past_value are only given together"));
        }
        if inputs.opt(4).is_some() && (inputs.opt(6).is_some() || inputs.opt(7).is_some()) {
            return Err(invalid!("nonpad_kv_seqlen or positions together with past_key"));
        }
        if let Some(first) = inputs.opt(7).filter(|first| first.dtype() != Ok(I64)) {
            return Err(invalid!("positions of queries are {}, not int64", first.ty));
        }
        inputs.same_dtype(0, 8)?;
        let sizes = |i: usize| inputs.opt(i).and_then(Fact::sizes);
        let (Some(q), Some(k), Some(v)) = (sizes(0), sizes(1), sizes(2)) else { return Ok(()) };
        if inputs.opt(4).is_some() && sizes(4).is_none() {
            return Ok(());
        }
        let sizes4 = sizes(4);
        let all = self.sizes([&q, &k, &v], sizes4.as_deref())?;
        if let Some(mask) = sizes(3) {
            mask_strides(&mask, &all)?;
        }
        if let Some(past) = sizes(5)
            && past[..] != [all.batch, all.kv_heads, all.past_keys, all.v_head]
        {
            return Err(invalid!("past_value has the shape {past:?}"));
        }
        let vectors = [(6, all.batch, "nonpad_kv_seqlen"), (7, all.batch, "positions of queries")];
        for (i, n, what) in vectors.into_iter().chain([(8, all.q_heads, "sinks")]) {
            if let Some(shape) = sizes(i).filter(|shape| shape[..] != [n]) {
                return Err(invalid!("{what} of shape {shape:?} where {n} are needed"));
            }
        }
        Ok(())
    }
}

/// A mask's step from one batch, head and query to the next, and how many keys it speaks of (those
/// after are masked); `Err` if it does not broadcast to [batch, heads, queries, keys].
pub fn mask_strides(mask: &[usize], sizes: &AttentionSizes) -> Result<([usize; 3], usize), Reason> {
    let no = || invalid!("a mask of shape {mask:?} does not fit {sizes:?}");
    let Some((&keys, axes)) = mask.split_last() else { return Err(no()) };
    let want = [sizes.batch, sizes.q_heads, sizes.queries];
    if axes.len() > 3 || keys > sizes.keys() {
        return Err(no());
    }
    let (mut strides, mut step) = ([0; 3], keys);
    for (i, &size) in axes.iter().rev().enumerate() {
        let axis = 2 - i;
        if size == want[axis] {
            strides[axis] = if size == 1 { 0 } else { step };
        } else if size != 1 {
            return Err(no());
        }
        step = step.checked_mul(size).ok_or_else(no)?;
    }
    Ok((strides, keys))
}

/// A window attribute, where -1 is no bound.
fn window(cx: &NodeCx<'_>, name: &str) -> Result<Option<usize>, Reason> {
    match cx.int(name)? {
        None | Some(-1) => Ok(None),
        Some(n) => usize::try_from(n).map(Some).map_err(|_| invalid!("attribute {name} is {n}")),
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(3, 7)?;
    let op = Attention {
        q_heads: cx.size("q_num_heads")?,
        kv_heads: cx.size("kv_num_heads")?,
        scale: cx.float("scale")?,
        causal: cx.flag("is_causal", false)?,
        softcap: cx.float("softcap")?.unwrap_or(0.0),
        left_window: window(cx, "left_window_size")?,
        right_window: window(cx, "right_window_size")?,
        scores: match cx.int("qk_matmul_output_mode")?.unwrap_or(0) {
            0 => Scores::Raw,
            1 => Scores::Capped,
            2 => Scores::Biased,
            3 => Scores::Softmax,
            n => return Err(invalid!("qk_matmul_output_mode {n} is unknown")),
        },
        softmax_precision: match cx.int("softmax_precision")? {
            None | Some(0) => None,
            Some(_) => cx.dtype_attr("softmax_precision")?,
        },
    };
    if op.softcap < 0.0 || op.softcap.is_nan() {
        return Err(invalid!("softcap is {}", op.softcap));
    }
    cx.emit(op)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes(op: &Attention, inputs: &[Option<&[usize]>]) -> Result<Vec<String>, String> {
        let facts: Vec<Option<Fact>> =
            inputs.iter().map(|s| s.map(|s| Fact::sized(DType::F32, s))).collect();
        let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        let made = op.infer(&Inputs::new(&facts, 4)).map_err(|e| e.to_string())?;
        Ok(made.iter().map(Fact::to_string).collect())
    }

    #[test]
    fn heads_side_by_side_stay_so() {
        let op = Attention { q_heads: Some(4), kv_heads: Some(2), ..Attention::PLAIN };
        let made = shapes(&op, &[Some(&[2, 5, 32]), Some(&[2, 7, 16]), Some(&[2, 7, 20])]);
        let want =
            ["float[2, 5, 40]", "float[2, 2, 7, 8]", "float[2, 2, 7, 10]", "float[2, 4, 5, 7]"];
        assert_eq!(made.unwrap(), want);
    }

    #[test]
    fn the_past_comes_before_the_new_keys() {
        let (kv, past): (&[usize], &[usize]) = (&[1, 2, 3, 8], &[1, 2, 4, 8]);
        let inputs = [Some(kv), Some(kv), Some(kv), None, Some(past), Some(past)];
        assert_eq!(shapes(&Attention::PLAIN, &inputs).unwrap()[1], "float[1, 2, 7, 8]");
        assert!(shapes(&Attention::PLAIN, &inputs[..5]).is_err());
    }

    #[test]
    fn heads_that_do_not_divide_are_refused() {
        let op = Attention { q_heads: Some(3), kv_heads: Some(2), ..Attention::PLAIN };
        let made = shapes(&op, &[Some(&[2, 5, 24]), Some(&[2, 7, 16]), Some(&[2, 7, 16])]);
        assert!(made.unwrap_err().contains("[2, 3, 5, 8], [2, 2, 7, 8]"));
    }

    #[test]
    fn queries_side_by_side_meet_keys_that_are_not() {
        let op = Attention { q_heads: Some(4), ..Attention::PLAIN };
        let (q, kv): (&[usize], &[usize]) = (&[2, 5, 32], &[2, 2, 7, 8]);
        assert_eq!(shapes(&op, &[Some(q), Some(kv), Some(kv)]).unwrap()[0], "float[2, 5, 32]");
        assert!(shapes(&Attention::PLAIN, &[Some(kv), Some(q), Some(q)]).is_err());
    }

    #[test]
    fn masks_broadcast_from_the_right() {
        let sizes = Attention::PLAIN.sizes([&[2, 3, 4, 8]; 3], None).unwrap();
        assert_eq!(mask_strides(&[4, 4], &sizes), Ok(([0, 0, 4], 4)));
        assert_eq!(mask_strides(&[2, 1, 1, 3], &sizes), Ok(([3, 0, 0], 3)));
        assert_eq!(mask_strides(&[3, 4, 4], &sizes), Ok(([0, 16, 4], 4)));
        assert!(mask_strides(&[5, 4], &sizes).is_err());
        assert!(mask_strides(&[4, 5], &sizes).is_err());
    }
}
