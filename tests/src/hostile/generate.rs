//! Models made of a string of bytes: nearly always right, so that optimizing and running them can
//! be held against each other.
//!
//! Each byte decides one thing: which operator comes next, which values it reads, which attributes
//! it has. Bytes that end early leave a shorter model, so a fuzzer can grow and shrink them.

use super::wire::{self, Graph, Message, elem, f32s, float, i64s, int, ints, node};

/// Decisions, one after the other; 0 when there are no more.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn next(&mut self) -> usize {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(first)
    }

    /// Below `n`.
    fn below(&mut self, n: usize) -> usize {
        self.next() % n.max(1)
    }
}

struct Maker<'a> {
    choices: Choices<'a>,
    graph: Graph,
    /// Values of floats: name and sizes.
    values: Vec<(String, Vec<i64>)>,
    made: usize,
}

/// A model with at most `most` operators; its inputs are floats of fixed sizes.
pub fn model(bytes: &[u8], most: usize) -> Vec<u8> {
    let mut m =
        Maker { choices: Choices(bytes), graph: Graph::default(), values: Vec::new(), made: 0 };
    for i in 0..1 + m.choices.below(3) {
        let name = format!("x{i}");
        let dims = m.dims(4);
        m.graph.inputs.push(wire::value(&name, elem::F32, &dims));
        m.values.push((name, dims));
    }
    let nodes = 1 + m.choices.below(most);
    for _ in 0..nodes {
        m.operator();
    }
    let outputs = 1 + m.choices.below(3);
    for (name, _) in m.values.iter().rev().take(outputs) {
        m.graph.outputs.push(wire::open(name, elem::F32));
    }
    m.graph.file()
}

impl Maker<'_> {
    fn dims(&mut self, rank: usize) -> Vec<i64> {
        let sizes = [1, 2, 3, 4, 5, 7, 8, 17, 1, 3, 0];
        (0..self.choices.below(rank + 1)).map(|_| sizes[self.choices.below(sizes.len())]).collect()
    }

    fn pick(&mut self) -> (String, Vec<i64>) {
        let i = self.choices.below(self.values.len());
        self.values[i].clone()
    }

    fn name(&mut self) -> String {
        self.made += 1;
        format!("v{}", self.made)
    }

    fn weight(&mut self, dims: &[i64]) -> String {
        let name = self.name();
        let seed = self.choices.next();
        let n: i64 = dims.iter().product();
        let data: Vec<f32> =
            (0..n as usize).map(|i| ((i * 7 + seed) % 11) as f32 * 0.25 - 1.0).collect();
        self.graph.weights.push(f32s(&name, dims, &data));
        name
    }

    fn indices(&mut self, data: &[i64]) -> String {
        let name = self.name();
        self.graph.weights.push(i64s(&name, &[data.len() as i64], data));
        name
    }

    /// Adds a node of one output with these sizes.
    fn add(&mut self, op: &str, inputs: &[&str], attributes: &[Message], dims: Vec<i64>) {
        // No model outgrows what a fuzzer has time for.
        if dims.iter().product::<i64>() > 1 << 14 || dims.len() > 8 {
            return;
        }
        let name = self.name();
        self.graph.nodes.push(node(op, inputs, &[&name], attributes));
        self.values.push((name, dims));
    }

    fn operator(&mut self) {
        let (x, dims) = self.pick();
        let rank = dims.len();
        match self.choices.below(16) {
            0 => {
                let ops =
                    ["Relu", "Neg", "Abs", "Sigmoid", "Tanh", "Exp", "Sqrt", "Erf", "Identity"];
                let op = ops[self.choices.below(ops.len())];
                self.add(op, &[&x], &[], dims);
            }
            1 | 2 => self.binary(&x, &dims),
            3 => self.product(&x, &dims),
            4 => {
                let mut perm: Vec<usize> = (0..rank).collect();
                (1..rank).rev().for_each(|i| perm.swap(i, self.choices.below(i + 1)));
                let out = perm.iter().map(|&p| dims[p]).collect();
                let perm: Vec<i64> = perm.into_iter().map(|p| p as i64).collect();
                self.add("Transpose", &[&x], &[ints("perm", &perm)], out);
            }
            5 => {
                let n: i64 = dims.iter().product();
                let shape = if self.choices.below(2) == 0 { vec![n] } else { vec![1, n, 1] };
                let wanted = self.indices(&shape);
                self.add("Reshape", &[&x, &wanted], &[int("allowzero", 1)], shape);
            }
            6 if rank > 0 => {
                let axis = self.choices.below(rank);
                let mut out = dims.clone();
                out[axis] *= 2;
                self.add("Concat", &[&x, &x], &[int("axis", axis as i64)], out);
            }
            7 if rank > 0 => self.slice(&x, &dims),
            8 if rank > 0 => self.reduce(&x, &dims),
            9 if rank > 0 => {
                let axis = self.choices.below(rank);
                self.add("Softmax", &[&x], &[int("axis", axis as i64 - rank as i64)], dims);
            }
            10 if rank > 0 => self.gather(&x, &dims),
            11 if rank > 0 => {
                let pads: Vec<i64> = (0..2 * rank).map(|_| self.choices.below(3) as i64).collect();
                let out = (0..rank).map(|i| dims[i] + pads[i] + pads[rank + i]).collect();
                let pads = self.indices(&pads);
                self.add("Pad", &[&x, &pads], &[], out);
            }
            12 => self.unsqueeze(&x, &dims),
            13 if rank > 0 && dims[rank - 1] > 0 => {
                let scale = self.weight(&dims[rank - 1..]);
                self.add("LayerNormalization", &[&x, &scale], &[float("epsilon", 1e-3)], dims);
            }
            14 => self.conv(),
            _ => {
                let (y, _) = self.pick();
                self.graph.nodes.push(node("Shape", &[&y], &[&format!("s{}", self.made)], &[]));
                self.add("Clip", &[&x], &[], dims);
            }
        }
    }

    fn binary(&mut self, x: &str, dims: &[i64]) {
        let ops = ["Add", "Sub", "Mul", "Max", "Min"];
        let op = ops[self.choices.below(ops.len())];
        let same = |d: &(String, Vec<i64>)| d.1 == dims;
        let others: Vec<String> =
            self.values.iter().filter(|v| same(v)).map(|v| v.0.clone()).collect();
        let y = match self.choices.below(3) {
            0 => others[self.choices.below(others.len())].clone(),
            1 => self.weight(&[]),
            _ => {
                // Broadcast from any axis on, some sizes 1.
                let from = self.choices.below(dims.len() + 1);
                let thin = |&n: &i64, keep: usize| if keep == 0 { 1 } else { n };
                let sizes: Vec<i64> =
                    dims[from..].iter().map(|n| thin(n, self.choices.below(2))).collect();
                self.weight(&sizes)
            }
        };
        self.add(op, &[x, &y], &[], dims.to_vec());
    }

    fn product(&mut self, x: &str, dims: &[i64]) {
        let Some((&k, before)) = dims.split_last() else { return };
        let n = [1, 2, 5, 16, 33][self.choices.below(5)];
        let w = self.weight(&[k, n]);
        let out = before.iter().copied().chain([n]).collect();
        self.add("MatMul", &[x, &w], &[], out);
    }

    fn slice(&mut self, x: &str, dims: &[i64]) {
        let axis = self.choices.below(dims.len());
        let step = [1, 2, -1, -2][self.choices.below(4)];
        let n = dims[axis];
        let start = self.choices.below(n.max(1) as usize) as i64;
        let (from, to, count) = match step > 0 {
            true => (start, i64::MAX, ((n - start).max(0) + step - 1) / step),
            false => (start, i64::MIN, if n == 0 { 0 } else { (start + 1 - step - 1) / -step }),
        };
        let mut out = dims.to_vec();
        out[axis] = count;
        let names = [[from], [to], [axis as i64], [step]].map(|n| self.indices(&n));
        let [a, b, c, d] = &names;
        self.add("Slice", &[x, a, b, c, d], &[], out);
    }

    fn reduce(&mut self, x: &str, dims: &[i64]) {
        let axis = self.choices.below(dims.len());
        let keep = self.choices.below(2);
        // The largest and the mean of nothing are not numbers.
        let ops: &[&str] = match dims[axis] {
            0 => &["ReduceSum"],
            _ => &["ReduceSum", "ReduceMean", "ReduceMax", "ReduceL2"],
        };
        let op = ops[self.choices.below(ops.len())];
        let mut out = dims.to_vec();
        match keep {
            0 => drop(out.remove(axis)),
            _ => out[axis] = 1,
        }
        let axes = self.indices(&[axis as i64]);
        self.add(op, &[x, &axes], &[int("keepdims", keep as i64)], out);
    }

    fn gather(&mut self, x: &str, dims: &[i64]) {
        let axis = self.choices.below(dims.len());
        let n = dims[axis];
        if n == 0 {
            return;
        }
        let count = self.choices.below(4);
        let at: Vec<i64> =
            (0..count).map(|_| self.choices.below(2 * n as usize) as i64 - n).collect();
        let mut out = dims.to_vec();
        out[axis] = count as i64;
        let at = self.indices(&at);
        self.add("Gather", &[x, &at], &[int("axis", axis as i64)], out);
    }

    fn unsqueeze(&mut self, x: &str, dims: &[i64]) {
        match dims.iter().position(|&d| d == 1).filter(|_| self.choices.below(2) == 0) {
            Some(axis) => {
                let mut out = dims.to_vec();
                out.remove(axis);
                let axes = self.indices(&[axis as i64]);
                self.add("Squeeze", &[x, &axes], &[], out);
            }
            None => {
                let axis = self.choices.below(dims.len() + 1);
                let mut out = dims.to_vec();
                out.insert(axis, 1);
                let axes = self.indices(&[axis as i64]);
                self.add("Unsqueeze", &[x, &axes], &[], out);
            }
        }
    }

    fn conv(&mut self) {
        let images: Vec<_> =
            self.values.iter().filter(|v| v.1.len() == 4 && !v.1.contains(&0)).cloned().collect();
        if images.is_empty() {
            return;
        }
        let (x, dims) = images[self.choices.below(images.len())].clone();
        let (k, stride, pad) = (
            1 + self.choices.below(3) as i64,
            1 + self.choices.below(2) as i64,
            self.choices.below(2) as i64,
        );
        let out = |n: i64| (n + 2 * pad - k) / stride + 1;
        if dims[2] + 2 * pad < k || dims[3] + 2 * pad < k {
            return;
        }
        let channels = [1, 3, 8, 17][self.choices.below(4)];
        let w = self.weight(&[channels, dims[1], k, k]);
        let attributes = [ints("strides", &[stride; 2]), ints("pads", &[pad; 4])];
        self.add(
            "Conv",
            &[&x, &w],
            &attributes,
            vec![dims[0], channels, out(dims[2]), out(dims[3])],
        );
    }
}
