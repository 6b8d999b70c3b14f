//! TfIdfVectorizer: n-grams are found by walking a trie of the pool, once for each number of
//! skipped items.
use std::collections::HashMap;

use rinfer_graph::ops::{NgramPool, TfIdfVectorizer, Weighting};
use rinfer_graph::{DType, Reason, Tensor, Value, invalid};

use crate::kernel::Kernel;

/// An item of no n-gram.
const UNKNOWN: u32 = u32::MAX;

/// The n-grams of a pool over items numbered from 0.
#[derive(Default)]
struct Trie {
    /// From a node (0 is the root) by an item to a node.
    next: HashMap<(u32, u32), u32>,
    /// Which n-gram ends at a node.
    gram: Vec<Option<usize>>,
}

impl Trie {
    fn insert(&mut self, items: &[u32], gram: usize) {
        let mut at = 0;
        for &item in items {
            let fresh = self.gram.len() as u32;
            at = *self.next.entry((at, item)).or_insert(fresh);
            if at == fresh {
                self.gram.push(None);
            }
        }
        self.gram[at as usize] = Some(gram);
    }
}

pub(super) fn compile(op: &TfIdfVectorizer) -> Result<Kernel, Reason> {
    let (mut ints, mut texts) = (HashMap::new(), HashMap::new());
    let pool: Vec<u32> = match &op.pool {
        NgramPool::Ints(items) => items.iter().map(|&item| number(&mut ints, item)).collect(),
        NgramPool::Texts(items) => items.iter().map(|s| number(&mut texts, s.clone())).collect(),
    };
    let mut trie = Trie { gram: vec![None], ..Trie::default() };
    let mut gram = 0;
    for (i, &start) in op.starts.iter().enumerate() {
        let end = op.starts.get(i + 1).copied().unwrap_or(pool.len());
        for items in pool[start..end].chunks_exact(i + 1) {
            if (op.min_length..=op.max_length).contains(&(i + 1)) {
                trie.insert(items, gram);
            }
            gram += 1;
        }
    }
    let op = op.clone();
    Ok(Kernel::values(move |inputs, cx| {
        let x = inputs.first().and_then(Option::as_ref);
        let x = x.ok_or_else(|| invalid!("input 0 is missing"))?;
        let items: Vec<u32> = match x {
            Value::Text(s) => {
                let known = |s: &String| texts.get(s).copied().unwrap_or(UNKNOWN);
                s.as_slice().iter().map(known).collect()
            }
            x => {
                let x = x.as_tensor()?;
                let x = x.to_ints().ok_or_else(|| invalid!("n-grams of {}", x.dtype()))?;
                x.iter().map(|item| ints.get(item).copied().unwrap_or(UNKNOWN)).collect()
            }
        };
        let width = op.width();
        let shape = x.shape().unwrap_or(&[]);
        let (out, len) = match *shape {
            [] => (vec![width], 1),
            [c] => (vec![width], c),
            [n, c] => (vec![n, width], c),
            _ => return Err(invalid!("rank {} where 1 or 2 is needed", shape.len())),
        };
        let mut y = Tensor::try_zeros(DType::F32, &out)?;
        let rows = y.as_mut_slice::<f32>().chunks_exact_mut(width.max(1));
        for (row, items) in rows.zip(items.chunks(len.max(1))) {
            cx.check()?;
            count(&op, &trie, items, row);
        }
        Ok(vec![y.into()])
    }))
}

fn number<K: std::hash::Hash + Eq>(numbers: &mut HashMap<K, u32>, item: K) -> u32 {
    let fresh = numbers.len() as u32;
    *numbers.entry(item).or_insert(fresh)
}

/// Adds to one row what its items hold.
fn count(op: &TfIdfVectorizer, trie: &Trie, items: &[u32], row: &mut [f32]) {
    // More than the row's length is skipped in no n-gram of two items.
    for skip in 0..=op.max_skip.min(items.len()) {
        for start in 0..items.len() {
            let mut at = 0;
            let walk = items[start..].iter().step_by(skip + 1).take(op.max_length);
            for (i, &item) in walk.enumerate() {
                let Some(&next) = trie.next.get(&(at, item)) else { break };
                at = next;
                // An item alone skips nothing: it is counted once.
                if let Some(gram) = trie.gram[at as usize].filter(|_| skip == 0 || i > 0) {
                    let weight = op.weights.get(gram).copied().unwrap_or(1.0);
                    let y = &mut row[op.columns[gram]];
                    match op.weighting {
                        Weighting::Tf => *y += 1.0,
                        Weighting::Idf => *y = weight,
                        Weighting::TfIdf => *y += weight,
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run1;
    use crate::simd::Isa;

    fn op(weighting: Weighting, max_skip: usize) -> TfIdfVectorizer {
        TfIdfVectorizer {
            weighting,
            min_length: 1,
            max_length: 2,
            max_skip,
            pool: NgramPool::Ints(vec![2, 3, 5, 4, 5, 6, 7, 8, 6, 7]),
            starts: vec![0, 4],
            columns: vec![0, 1, 2, 3, 4, 5, 6],
            weights: vec![1.0, 2.0, 1.0, 1.0, 0.5, 1.0, 3.0],
        }
    }

    fn eval(op: TfIdfVectorizer) -> Vec<f32> {
        let x = Tensor::from_slice(&[2, 6], &[1i32, 1, 3, 3, 3, 7, 8, 6, 7, 5, 6, 8]);
        run1(Isa::available()[0], op, &[x]).unwrap().as_slice::<f32>().to_vec()
    }

    #[test]
    fn an_item_alone_is_counted_once_whatever_is_skipped() {
        let y = eval(op(Weighting::Tf, 5));
        assert_eq!(y, [0., 3., 0., 0., 0., 0., 0., 0., 0., 1., 0., 1., 1., 1.]);
    }

    #[test]
    fn weights_scale_presence_or_counts() {
        let y = eval(op(Weighting::Idf, 0));
        assert_eq!(y, [0., 2., 0., 0., 0., 0., 0., 0., 0., 1., 0., 0.5, 0., 3.]);
        assert_eq!(eval(op(Weighting::TfIdf, 0))[1], 6.0);
    }
}
