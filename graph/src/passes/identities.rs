//! Operators that change nothing disappear: Identity(x) → x, Cast of float to float, x + 0, x · 1,
//! x / 1, x ^ 1, Neg(Neg(x)), Relu(Relu(x)), Expand, Pad, Slice, Tile to the same shape, …
//!
//! Cast(Cast(x)) → Cast(x) where the inner one loses nothing.

use super::{GraphView, Rewrite};
use crate::fact::Fact;
use crate::ops::{Binary, BinaryFn, Cast, Concat, Unary, UnaryFn};
use crate::{DType, Node, NodeId, Op, Tensor, ValueId};

pub(super) fn rule(g: &GraphView<'_>, id: NodeId) -> Option<Rewrite> {
    let x = g.input(id, 0)?;
    match g.op(id) {
        Op::Identity(_) => g.alias(x),
        Op::Cast(cast) => casts(g, cast, x),
        Op::Unary(op) => unary(g, op, x),
        Op::Binary(op) => binary(g, id, op),
        Op::Clip(_) => {
            (g.input(id, 1).is_none() && g.input(id, 2).is_none()).then(|| g.alias(x)).flatten()
        }
        Op::Where(_) => choice(g, id),
        Op::Concat(op) => concat(g, id, op),
        Op::Split(_) if g.node(id).outputs.len() == 1 => g.alias(x),
        Op::Expand(_) => same(g, id, x),
        Op::Tile(_) => all(g, id, 1, 1).then(|| same(g, id, x)).flatten(),
        Op::Pad(_) => all(g, id, 1, 0).then(|| same(g, id, x)).flatten(),
        Op::Slice(_) => {
            let forward = g.input(id, 4).is_none() || all(g, id, 4, 1);
            forward.then(|| same(g, id, x)).flatten()
        }
        _ => None,
    }
}

/// Whether every value of `from` is a value of `to`.
fn fits(from: DType, to: DType) -> bool {
    use DType::*;
    // Bits of a float's significand, or of an integer without its sign.
    let bits = |t: DType| match t {
        F64 => Some(53),
        F32 => Some(24),
        F16 => Some(11),
        BF16 => Some(8),
        Bool => Some(1),
        t if t.is_int() => Some(t.bits() - usize::from(!t.is_unsigned())),
        _ => None,
    };
    let (Some(a), Some(b)) = (bits(from), bits(to)) else { return false };
    if from == to {
        return true;
    }
    match (from.is_float(), to.is_float()) {
        // The exponents of bf16 are those of f32, those of f16 fewer.
        (true, true) => matches!((from, to), (F16 | BF16, F32 | F64) | (F32, F64)),
        (true, false) => false,
        // 2^15 is f16's largest power of two: integers up to 11 bits fit it.
        (false, true) => a <= b,
        (false, false) => {
            to != Bool && a <= b && (from.is_unsigned() || from == Bool || !to.is_unsigned())
        }
    }
}

/// Cast(Cast(x)) → Cast(x), or x.
fn casts(g: &GraphView<'_>, cast: &Cast, x: ValueId) -> Option<Rewrite> {
    if g.fact(x).dtype().ok()? == cast.to {
        return g.alias(x);
    }
    let Node { op: Op::Cast(inner), inputs, .. } = g.made_by(x)? else { return None };
    let source = (*inputs.first()?)?;
    let from = g.fact(source).dtype().ok()?;
    // A number and a bool are not written the same.
    if !fits(from, inner.to) || cast.to == DType::String {
        return None;
    }
    match from == cast.to {
        true => g.alias(source),
        false => g.replace(*cast, &[source]),
    }
}

fn unary(g: &GraphView<'_>, op: &Unary, x: ValueId) -> Option<Rewrite> {
    use UnaryFn::*;
    let Node { op: Op::Unary(inner), inputs, .. } = g.made_by(x)? else { return None };
    if op != inner {
        return None;
    }
    match op.0 {
        Neg | Not | BitwiseNot => g.alias((*inputs.first()?)?),
        Relu | Abs | Ceil | Floor | Round | Sign => g.alias(x),
        _ => None,
    }
}

/// x + 0, x - 0, x · 1, x / 1, x ^ 1, x and true, x or false, and the mirror images of some.
fn binary(g: &GraphView<'_>, id: NodeId, op: &Binary) -> Option<Rewrite> {
    use BinaryFn::*;
    let (a, b) = (g.input(id, 0)?, g.input(id, 1)?);
    let neutral = match op.0 {
        Add | Sub | Or | Xor | BitwiseOr | BitwiseXor => 0.0,
        Mul | Div | Pow | And => 1.0,
        _ => return None,
    };
    let y = g.fact(g.output(id, 0)?);
    let nothing = |x: ValueId, c: ValueId| {
        g.constant(c).is_some_and(|c| filled_with(c, neutral)) && keeps(g.fact(x), g.fact(c), y)
    };
    if nothing(a, b) {
        g.alias(a)
    } else if op.0.commutes() && nothing(b, a) {
        g.alias(b)
    } else {
        None
    }
}

/// Whether broadcasting x with c leaves x's type and shape.
fn keeps(x: &Fact, c: &Fact, y: &Fact) -> bool {
    let ones = || {
        let (Some(rank), Some(sizes)) = (x.rank(), c.sizes()) else { return false };
        sizes.len() <= rank && sizes.iter().all(|&n| n == 1)
    };
    x.ty == y.ty && (ones() || same_shape(x, y))
}

/// Whether both certainly have the same shape.
pub(super) fn same_shape(a: &Fact, b: &Fact) -> bool {
    match (a.shape(), b.shape()) {
        (Some(a), Some(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b)),
        _ => false,
    }
}

/// Whether every element is this number.
pub(super) fn filled_with(t: &Tensor, x: f64) -> bool {
    crate::with_dtype!(t.dtype(), [f32, f64, i32, i8, i16, u8, u16, u32], T => {
        !t.is_empty() && t.as_slice::<T>().iter().all(|&v| f64::from(v) == x)
    }, else match t.dtype() {
        DType::I64 => !t.is_empty() && t.as_slice::<i64>().iter().all(|&v| v == x as i64),
        DType::U64 => !t.is_empty() && t.as_slice::<u64>().iter().all(|&v| v == x as u64),
        DType::F16 => !t.is_empty() && t.as_slice::<half::f16>().iter().all(|v| v.to_f64() == x),
        DType::BF16 => !t.is_empty() && t.as_slice::<half::bf16>().iter().all(|v| v.to_f64() == x),
        DType::Bool => !t.is_empty() && t.as_bytes().iter().all(|&v| (v != 0) == (x != 0.0)),
        _ => false,
    })
}

/// x, if the node's output certainly has x's shape.
fn same(g: &GraphView<'_>, id: NodeId, x: ValueId) -> Option<Rewrite> {
    same_shape(g.fact(x), g.fact(g.output(id, 0)?)).then(|| g.alias(x)).flatten()
}

/// Whether input `i` holds nothing but this number.
fn all(g: &GraphView<'_>, id: NodeId, i: usize, n: i64) -> bool {
    let ints = g.input(id, i).and_then(|v| g.ints(v));
    ints.is_some_and(|ints| ints.iter().all(|&x| x == n))
}

/// Concat without what has no elements along the axis.
fn concat(g: &GraphView<'_>, id: NodeId, op: &Concat) -> Option<Rewrite> {
    let inputs: Vec<ValueId> = g.node(id).inputs.iter().copied().collect::<Option<_>>()?;
    let empty = |v: ValueId| {
        let shape = g.fact(v).shape()?;
        Some(shape[op.axis.resolve(shape.len()).ok()?].is(0))
    };
    let kept: Vec<ValueId> = inputs.iter().copied().filter(|&v| empty(v) != Some(true)).collect();
    match kept[..] {
        [x] => g.alias(x),
        [_, ..] if kept.len() < inputs.len() => g.replace(op.clone(), &kept),
        _ => None,
    }
}

/// Where with a condition that is the same everywhere.
fn choice(g: &GraphView<'_>, id: NodeId) -> Option<Rewrite> {
    let cond = g.constant(g.input(id, 0)?)?;
    let y = g.fact(g.output(id, 0)?);
    let picked = match (filled_with(cond, 1.0), filled_with(cond, 0.0)) {
        (true, _) => g.input(id, 1)?,
        (_, true) => g.input(id, 2)?,
        _ => return None,
    };
    same_shape(g.fact(picked), y).then(|| g.alias(picked)).flatten()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, unchanged};

    /// Checks that `nodes`, which make y of x: float[n, 4], come to nothing.
    fn nothing(nodes: &str) {
        let text = format!("x: float[n, 4]; {nodes}; → y");
        check(&["identities"], &text, "x: float[n, 4]\n→ x");
    }

    #[test]
    fn what_changes_nothing_goes() {
        nothing("y = Identity(x)");
        nothing("y = Cast<to = 1>(x)");
        nothing("y = Add(x, 0.0)");
        nothing("y = Sub(x, [0.0, 0.0, 0.0, 0.0])");
        nothing("y = Mul([1.0], x)");
        nothing("y = Div(x, 1.0)");
        nothing("y = Pow(x, 1)");
        nothing("y = Clip(x)");
        nothing("a = Neg(x); y = Neg(a)");
        nothing("a = Cast<to = 11>(x); y = Cast<to = 1>(a)");
        nothing("c: bool = 1; y = Where(c, x, 0.0)");
        nothing("y = Concat<axis = 0>(x)");
        nothing("e: float[0, 4] = 0; y = Concat<axis = 0>(e, x)");
        nothing("y = Expand(x, [1, 4])");
        nothing("y = Slice(x, [0], [9223372036854775807], [0])");
        nothing("y = Pad(x, [0, 0, 0, 0])");
        nothing("y = Tile(x, [1, 1])");
    }

    #[test]
    fn what_only_looks_like_nothing_stays() {
        for nodes in [
            "y = Sub(0.0, x)",
            "y = Div(1.0, x)",
            "w: float[3, 1, 1] = 0; y = Add(x, w)",
            "y = Mul(x, [1.0, 1.0, 1.0, 2.0])",
            "a = Cast<to = 10>(x); y = Cast<to = 1>(a)",
            "a = Neg(x); y = Abs(a)",
            "y = Slice(x, [-1], [-9223372036854775807], [0], [-1])",
            "y = Pad(x, [0, 1, 0, -1])",
        ] {
            unchanged(&["identities"], &format!("x: float[n, 4]; {nodes}; → y"));
        }
    }

    #[test]
    fn a_lossless_cast_before_a_cast_goes() {
        check(
            &["identities"],
            "x: uint8[n]; a = Cast<to = 6>(x); y = Cast<to = 1>(a); → y",
            "x: uint8[n]
             y = Cast{to: F32, saturate: true, round_mode: Up}(x)
             → y",
        );
        unchanged(&["identities"], "x: int64[n]; a = Cast<to = 6>(x); y = Cast<to = 7>(a); → y");
    }

    #[test]
    fn repeating_what_is_done_already_goes() {
        check(
            &["identities"],
            "x: float[n]; a = Relu(x); y = Relu(a); → y",
            "x: float[n]\ny = Relu(x)\n→ y",
        );
    }
}
