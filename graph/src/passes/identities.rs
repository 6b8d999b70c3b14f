//! Operators that change nothing disappear: Identity(x) → x
use super::{GraphView, Rewrite};
use crate::{NodeId, Op};

pub(super) fn rule(g: &GraphView<'_>, id: NodeId) -> Option<Rewrite> {
    let x = g.input(id, 0)?;
    match g.op(id) {
        Op::Identity(_) => g.alias(x),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;

    #[test]
    fn identity_goes() {
        check(
            &["identities"],
            "x: float[2, 3]; a = Identity(x); b = Flatten(a); y = Identity(b); → y",
            "x: float[2, 3]
             y = Flatten{axis: Axis(1)}(x)
             → y",
        );
    }
}
