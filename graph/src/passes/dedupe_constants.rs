//! Constants that are equal, bit for bit, become one.
//!
//! Hashing every weight would read the whole file: of large ones a few cache lines are hashed,
//! and only those that agree in them are compared in full.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use super::Cx;
use crate::{DType, Graph, Tensor, ValueId};

/// Up to this many bytes are hashed in full.
const SMALL: usize = 4096;
/// Places of a larger constant that are hashed.
const SAMPLES: usize = 16;
/// Constants of one hash that one more is compared with: adversaries pick collisions, nobody else.
const CANDIDATES: usize = 8;

pub(super) fn run(graph: &mut Graph, _: &Cx<'_>) -> usize {
    let uses = graph.use_counts();
    let state = RandomState::new();
    let mut seen: HashMap<u64, Vec<ValueId>> = HashMap::new();
    let mut alias: Vec<Option<ValueId>> = vec![None; graph.value_count()];
    let mut changes = 0;
    for v in graph.values().filter(|v| uses[v.index()] > 0) {
        let Some(t) = graph.tensor(v).filter(|_| graph.producer(v).is_none()) else { continue };
        let candidates = seen.entry(hash(&state, t)).or_default();
        match candidates.iter().find(|&&other| graph.tensor(other) == Some(t)) {
            Some(&other) => {
                alias[v.index()] = Some(other);
                changes += 1;
            }
            None if candidates.len() < CANDIDATES => candidates.push(v),
            None => {}
        }
    }
    if changes > 0 {
        super::replace_values(graph, &alias);
    }
    changes
}

fn hash(state: &RandomState, t: &Tensor) -> u64 {
    let bytes = t.as_bytes();
    let sample = |i: usize| {
        let at = (bytes.len() - 64) / (SAMPLES - 1) * i;
        &bytes[at..at + 64]
    };
    let (dtype, shape): (DType, &[usize]) = (t.dtype(), t.shape());
    if bytes.len() <= SMALL {
        return state.hash_one((dtype, shape, bytes));
    }
    let samples: [&[u8]; SAMPLES] = std::array::from_fn(sample);
    state.hash_one((dtype, shape, samples))
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;

    #[test]
    fn equal_constants_become_one() {
        check(
            &["dedupe_constants", "drop_dead"],
            "x: float[2]; a: float[2] = 1; b: float[2] = 1; c: float[1, 2] = 1; \
             p = Identity(a); q = Identity(b); r = Identity(c); → p, q, r",
            "x: float[2]
             a: float[2] = 1.0
             c: float[1, 2] = 1.0
             p = Identity(a)
             q = Identity(a)
             r = Identity(c)
             → p, q, r",
        );
    }

    #[test]
    fn large_constants_are_compared_in_full() {
        check(
            &["dedupe_constants"],
            "a: float[3000] = 1; b: float[3000] = 1; c: float[3000] = 2; \
             p = Identity(a); q = Identity(b); r = Identity(c); → p, q, r",
            "a: float[3000] = 1.0
             c: float[3000] = 2.0
             p = Identity(a)
             q = Identity(a)
             r = Identity(c)
             → p, q, r",
        );
    }

    #[test]
    fn zeros_of_either_sign_differ() {
        let text =
            "a: float[1] = 0.0; b: float[1] = -0.0; p = Identity(a); q = Identity(b); → p, q";
        super::super::testing::unchanged(&["dedupe_constants"], text);
    }
}
