//! Products of matrices of floats, by the engine: its kernels are the fast ones.

use rinfer::graph::Graph;
use rinfer::graph::ops::MatMul;
use rinfer::{DType, Error, Fact, Kind, Model, Reason, Session, Tensor, Value};

/// A matrix inside another: rows, columns, and where it begins in which stride.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    pub data: &'a [f32],
    pub at: usize,
    pub stride: usize,
    pub rows: usize,
    pub cols: usize,
}

impl Part<'_> {
    fn tensor(&self) -> Result<Value, Reason> {
        let mut t = Tensor::try_zeros(DType::F32, &[self.rows, self.cols])?;
        let rows = t.as_mut_slice::<f32>().chunks_mut(self.cols.max(1));
        for (i, row) in rows.enumerate() {
            row.copy_from_slice(&self.data[self.at + i * self.stride..][..self.cols]);
        }
        Ok(t.into())
    }
}

/// Multiplies matrices.
pub(crate) struct Products {
    plain: Session,
    across: Session,
}

fn failed(e: Error) -> Reason {
    Reason::new(Kind::Internal, e.to_string())
}

fn session(trans_a: bool, threads: Option<usize>) -> Result<Session, Reason> {
    let mut g = Graph::new();
    let [a, b] = ["a", "b"].map(|name| g.input(name, Fact::ranked(DType::F32, 2)));
    let y = g.push1(MatMul { trans_a, ..MatMul::PLAIN }, &[a, b])?;
    g.output(y);
    let builder = Session::builder();
    let builder = match threads {
        Some(threads) => builder.threads(threads),
        None => builder.nested(),
    };
    builder.build(Model::from_graph(g)).map_err(failed)
}

impl Products {
    /// With so many threads; `None` takes those of the run that it is used in.
    pub fn new(threads: Option<usize>) -> Result<Products, Reason> {
        Ok(Products { plain: session(false, threads)?, across: session(true, threads)? })
    }

    /// `f(row, a · b's row)` for each row, or of aᵀ · b.
    pub fn each(
        &self,
        (a, trans_a): (Part<'_>, bool),
        b: Part<'_>,
        mut f: impl FnMut(usize, &[f32]),
    ) -> Result<(), Reason> {
        if a.rows * a.cols == 0 || b.rows * b.cols == 0 {
            return Ok(());
        }
        let session = if trans_a { &self.across } else { &self.plain };
        let made = session.run([("a", a.tensor()?), ("b", b.tensor()?)]).map_err(failed)?;
        let y: &[f32] = made[0].as_tensor()?.as_slice();
        y.chunks(b.cols).enumerate().for_each(|(i, row)| f(i, row));
        Ok(())
    }
}
