//! Broadcasting: an output cut into runs along which every input moves with it or stands still.
//!
//! Axes that every input crosses in the same way are merged, so most shapes end as one run.

use rinfer_graph::shape::{Sizes, count, strides};
use rinfer_graph::{Reason, invalid};
use smallvec::SmallVec;
use std::ops::Range;

/// How inputs of some shapes stretch to the shape of an output.
#[derive(Clone, Debug)]
pub struct Broadcast {
    /// The merged axes of the output, outermost first; at least one.
    sizes: Sizes,
    /// For each input, how far it moves along each merged axis, in elements; 0 repeats it.
    steps: Vec<Sizes>,
    len: usize,
}

impl Broadcast {
    /// `Err` if an input's shape does not broadcast to the output's.
    pub fn new(inputs: &[&[usize]], out: &[usize]) -> Result<Broadcast, Reason> {
        let len = count(out).ok_or_else(|| invalid!("shape {out:?} is larger than any memory"))?;
        let all = inputs
            .iter()
            .map(|sizes| steps_to(sizes, out))
            .collect::<Result<Vec<Sizes>, Reason>>()?;
        let mut plan = Broadcast { sizes: Sizes::new(), steps: vec![Sizes::new(); all.len()], len };
        for (axis, &size) in out.iter().enumerate().filter(|&(_, &size)| size != 1) {
            let outer = plan.sizes.len().checked_sub(1);
            let follows = |outer: usize| {
                let mut pairs = plan.steps.iter().zip(&all);
                pairs.all(|(merged, steps)| merged[outer] == steps[axis].saturating_mul(size))
            };
            match outer.filter(|&outer| follows(outer)) {
                Some(outer) => {
                    plan.sizes[outer] *= size;
                    plan.steps.iter_mut().zip(&all).for_each(|(m, s)| m[outer] = s[axis]);
                }
                None => {
                    plan.sizes.push(size);
                    plan.steps.iter_mut().zip(&all).for_each(|(m, s)| m.push(s[axis]));
                }
            }
        }
        if plan.sizes.is_empty() {
            plan.sizes.push(1);
            plan.steps.iter_mut().for_each(|steps| steps.push(1));
        }
        Ok(plan)
    }

    /// Elements of the output.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the output has no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Elements of a whole run.
    pub fn run_len(&self) -> usize {
        self.sizes[self.sizes.len() - 1]
    }

    /// Whether input `i` moves along a run; if not, one element stands for the whole run.
    pub fn moves(&self, i: usize) -> bool {
        self.steps[i].last() == Some(&1)
    }

    /// The input that is one row for every row of the output, if the other of two is as large as
    /// the output.
    pub fn repeated(&self) -> Option<usize> {
        let row = self.run_len();
        let is = |i: usize, steps: [usize; 2]| self.steps[i][..] == steps;
        match (self.steps.len(), self.sizes.len()) {
            (2, 2) => (0..2).find(|&i| is(i, [0, 1]) && is(1 - i, [row, 1])),
            _ => None,
        }
    }

    /// Input `i`'s elements for a run of `len` at `offset`: that many, or one.
    #[inline]
    pub fn part<'a, T>(&self, i: usize, data: &'a [T], offset: usize, len: usize) -> &'a [T] {
        &data[offset..][..if self.moves(i) { len } else { 1 }]
    }

    /// Calls `f(part of range, offset of each input)` for the runs that make up a range of the
    /// output's elements, in order; ranges count from the start of `range`.
    pub fn runs(&self, range: Range<usize>, mut f: impl FnMut(Range<usize>, &[usize])) {
        self.each_run(range, &mut f);
    }

    fn each_run(&self, range: Range<usize>, f: &mut dyn FnMut(Range<usize>, &[usize])) {
        if range.is_empty() {
            return;
        }
        let axes = self.sizes.len();
        let mut index: Sizes = SmallVec::from_elem(0, axes);
        let mut rest = range.start;
        for axis in (0..axes).rev() {
            index[axis] = rest % self.sizes[axis];
            rest /= self.sizes[axis];
        }
        let mut offsets: SmallVec<[usize; 4]> = self
            .steps
            .iter()
            .map(|steps| steps.iter().zip(&index).map(|(s, i)| s * i).sum())
            .collect();
        let inner = axes - 1;
        let (mut done, len) = (0, range.len());
        loop {
            let run = (self.sizes[inner] - index[inner]).min(len - done);
            f(done..done + run, &offsets);
            done += run;
            if done == len {
                return;
            }
            // The run ended with its axis: back to the start of it, and one step on the outer axes.
            let mut axis = inner;
            let mut from = index[inner];
            loop {
                for (offset, steps) in offsets.iter_mut().zip(&self.steps) {
                    *offset -= steps[axis] * from;
                }
                index[axis] = 0;
                axis -= 1;
                index[axis] += 1;
                for (offset, steps) in offsets.iter_mut().zip(&self.steps) {
                    *offset += steps[axis];
                }
                if index[axis] < self.sizes[axis] {
                    break;
                }
                from = index[axis];
            }
        }
    }
}

/// How far an input moves along each axis of the output.
fn steps_to(sizes: &[usize], out: &[usize]) -> Result<Sizes, Reason> {
    let refuse = || invalid!("shape {sizes:?} does not broadcast to {out:?}");
    let missing = out.len().checked_sub(sizes.len()).ok_or_else(refuse)?;
    let own = strides(sizes);
    (0..out.len())
        .map(|axis| match axis.checked_sub(missing) {
            Some(i) if sizes[i] == out[axis] => Ok(if sizes[i] == 1 { 0 } else { own[i] }),
            Some(i) if sizes[i] != 1 => Err(refuse()),
            _ => Ok(0),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Collects which element of each input each element of the output reads.
    fn check(inputs: &[&[usize]], out: &[usize], runs: usize, expected: &[&[usize]]) {
        let plan = Broadcast::new(inputs, out).unwrap();
        for cut in 0..=plan.len() {
            let mut seen = vec![Vec::new(); inputs.len()];
            let mut count = 0;
            for range in [0..cut, cut..plan.len()] {
                plan.runs(range, |run, at| {
                    count += 1;
                    for (i, seen) in seen.iter_mut().enumerate() {
                        seen.extend((0..run.len()).map(|k| at[i] + k * plan.moves(i) as usize));
                    }
                });
            }
            assert_eq!(seen, expected, "cut at {cut}");
            assert!(cut != 0 || count == runs, "{count} runs");
        }
    }

    #[test]
    fn equal_shapes_are_one_run() {
        check(&[&[2, 3], &[2, 3]], &[2, 3], 1, &[&[0, 1, 2, 3, 4, 5], &[0, 1, 2, 3, 4, 5]]);
        check(&[&[], &[1, 1]], &[1, 1], 1, &[&[0], &[0]]);
    }

    #[test]
    fn a_row_repeats_and_a_column_stands_still() {
        check(&[&[2, 3], &[3]], &[2, 3], 2, &[&[0, 1, 2, 3, 4, 5], &[0, 1, 2, 0, 1, 2]]);
        check(&[&[2, 3], &[2, 1]], &[2, 3], 2, &[&[0, 1, 2, 3, 4, 5], &[0, 0, 0, 1, 1, 1]]);
        check(&[&[2, 1], &[2]], &[2, 2], 2, &[&[0, 0, 1, 1], &[0, 1, 0, 1]]);
    }

    #[test]
    fn axes_in_the_middle_repeat() {
        check(
            &[&[2, 1, 2], &[2, 2, 2]],
            &[2, 2, 2],
            4,
            &[&[0, 1, 0, 1, 2, 3, 2, 3], &[0, 1, 2, 3, 4, 5, 6, 7]],
        );
    }

    #[test]
    fn a_row_for_every_row_is_seen() {
        let repeated = |a: &[usize], b: &[usize], out: &[usize]| {
            Broadcast::new(&[a, b], out).unwrap().repeated()
        };
        assert_eq!(repeated(&[1, 4, 5, 8], &[8], &[1, 4, 5, 8]), Some(1));
        assert_eq!(repeated(&[1, 1, 1, 8], &[1, 4, 5, 8], &[1, 4, 5, 8]), Some(0));
        assert_eq!(repeated(&[4, 8], &[4, 1], &[4, 8]), None);
        assert_eq!(repeated(&[4, 1], &[8], &[4, 8]), None);
        assert_eq!(repeated(&[2, 4, 8], &[2, 1, 8], &[2, 4, 8]), None);
    }

    #[test]
    fn shapes_that_do_not_broadcast_are_refused() {
        assert!(Broadcast::new(&[&[3]], &[2]).is_err());
        assert!(Broadcast::new(&[&[2, 2]], &[2]).is_err());
        assert!(Broadcast::new(&[&[0]], &[0]).unwrap().is_empty());
    }
}
