//! Activations from their pieces:
//! x · ½ · (1 + erf(x / √2)) → Gelu(x), x · ½ · (1 + tanh(√(2/π) (x + 0.044715 x³))) → GeluTanh(x),
//! x · Sigmoid(x) → Swish(x), x · Clip(x + 3, 0, 6) / 6 → HardSwish(x), x · HardSigmoid(x) likewise.

use super::pattern::{is_half, near, plus_number, product, unary};
use super::{GraphView, Rewrite};
use crate::ops::{Binary, BinaryFn, Unary, UnaryFn};
use crate::{Node, NodeId, Op, ValueId};

pub(super) fn rule(g: &GraphView<'_>, id: NodeId) -> Option<Rewrite> {
    let Op::Binary(Binary(BinaryFn::Mul | BinaryFn::Div)) = g.op(id) else { return None };
    let y = g.output(id, 0)?;
    // Where ONNX rounds every piece, one function would round less often.
    if is_half(g, y) {
        return None;
    }
    let all = product(g, y);
    let [a, b] = all.factors[..] else { return None };
    let f =
        [(a, b), (b, a)].into_iter().find_map(|(x, y)| Some((x, activation(g, x, y, all.number)?)));
    let (x, f) = f?;
    g.replace(Unary(f), &[x])
}

/// f, if number · x · y is f(x).
fn activation(g: &GraphView<'_>, x: ValueId, y: ValueId, number: f32) -> Option<UnaryFn> {
    if near(number, 1.0) {
        return gate(g, x, y);
    }
    if near(number, 1.0 / 6.0) {
        return (is_relu6_of_x_plus_3(g, x, y)).then_some(UnaryFn::HardSwish);
    }
    if !near(number, 0.5) {
        return None;
    }
    let (inner, one) = plus_number(g, y)?;
    if one != 1.0 {
        return None;
    }
    if let Some(u) = unary(g, inner, UnaryFn::Erf) {
        let u = product(g, u);
        let scaled = near(u.number, std::f32::consts::FRAC_1_SQRT_2) && u.factors[..] == [x];
        return scaled.then_some(UnaryFn::Gelu);
    }
    let u = product(g, unary(g, inner, UnaryFn::Tanh)?);
    let [sum] = u.factors[..] else { return None };
    let scaled = near(u.number, (2.0 / std::f32::consts::PI).sqrt());
    (scaled && is_x_plus_cube(g, sum, x)).then_some(UnaryFn::GeluTanh)
}

/// x · y where y is a sigmoid of x.
fn gate(g: &GraphView<'_>, x: ValueId, y: ValueId) -> Option<UnaryFn> {
    let Node { op: Op::Unary(Unary(f)), inputs, .. } = g.made_by(y)? else { return None };
    if inputs[0]? != x {
        return None;
    }
    match *f {
        UnaryFn::Sigmoid => Some(UnaryFn::Swish { alpha: 1.0 }),
        UnaryFn::HardSigmoid { alpha, beta } if near(alpha, 1.0 / 6.0) && near(beta, 0.5) => {
            Some(UnaryFn::HardSwish)
        }
        _ => None,
    }
}

/// Whether y is Clip(x + 3, 0, 6).
fn is_relu6_of_x_plus_3(g: &GraphView<'_>, x: ValueId, y: ValueId) -> bool {
    let check = || {
        let Node { op: Op::Clip(_), inputs, .. } = g.made_by(y)? else { return None };
        let bound = |i: usize| inputs.get(i).copied().flatten().and_then(|v| g.scalar(v));
        let (sum, three) = plus_number(g, inputs[0]?)?;
        Some(sum == x && three == 3.0 && bound(1)? == 0.0 && bound(2)? == 6.0)
    };
    check() == Some(true)
}

/// Whether `sum` is x + 0.044715 x³.
fn is_x_plus_cube(g: &GraphView<'_>, sum: ValueId, x: ValueId) -> bool {
    let Some([a, b]) = super::pattern::binary(g, sum, BinaryFn::Add) else { return false };
    let cube = match (a == x, b == x) {
        (true, _) => b,
        (_, true) => a,
        _ => return false,
    };
    let cube = product(g, cube);
    // A cube may be written x · x²: the square is read once, or is a node of its own.
    near(cube.number, 0.044715) && cube.factors.len() == 3 && cube.factors.iter().all(|&v| v == x)
}

#[cfg(test)]
mod tests {
    use crate::passes::testing::{check, unchanged};

    const PASSES: &[&str] = &["fuse_activations", "drop_dead"];

    #[test]
    fn gelu_is_found_in_every_order_of_its_factors() {
        let expected = "x: float[n, 4]\ny = Gelu(x)\n→ y";
        for text in [
            "x: float[n, 4]\na = Div(x, 1.4142135)\nb = Erf(a)\nc = Add(b, 1.0)\nd = Mul(x, c)\ny = Mul(d, 0.5)\n→ y",
            "x: float[n, 4]\na = Mul(x, 0.70710677)\nb = Erf(a)\nc = Add(1.0, b)\nd = Mul(x, 0.5)\ny = Mul(d, c)\n→ y",
        ] {
            check(PASSES, text, expected);
        }
    }

    #[test]
    fn swish_is_x_times_its_sigmoid() {
        check(
            PASSES,
            "x: float[n]\na = Sigmoid(x)\ny = Mul(x, a)\n→ y",
            "x: float[n]\ny = Swish{alpha: 1.0}(x)\n→ y",
        );
    }

    #[test]
    fn another_factor_is_no_gelu() {
        unchanged(
            PASSES,
            "x: float[n, 4]\na = Div(x, 1.5)\nb = Erf(a)\nc = Add(b, 1.0)\nd = Mul(x, c)\ny = Mul(d, 0.5)\n→ y",
        );
    }
}
