//! xᵀx of values inside a model, over all samples: what GPTQ knows of activations.
//!
//! Rows are gathered until there are enough for one product; of that the lower half is computed,
//! in strips.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rinfer::graph::ops::Custom;
use rinfer::graph::{NodeId, ValueId};
use rinfer::{CustomOp, DType, Facts, Inputs, Kind, Model, Reason, Session, Value};

use crate::calibrate::{Place, Running, Samples, run_all};
use crate::error::{Error, Result};
use crate::products::{Part, Products};
use crate::rebuild::{Rebuild, Writer, rebuild};

/// Rows that are gathered: one product of them costs little beside the reading of its sums.
const ROWS: usize = 512;

/// Rows of k numbers, and the sum of the products of those before.
struct Sum {
    k: usize,
    rows: Vec<f32>,
    /// The lower triangle of xᵀx.
    sum: Vec<f32>,
}

impl Sum {
    fn see(&mut self, x: &[f32], products: &Products) -> std::result::Result<(), Reason> {
        if self.k == 0 || x.len() % self.k != 0 {
            let text = format!("{} numbers are no rows of {}", x.len(), self.k);
            return Err(Reason::new(Kind::Invalid, text));
        }
        let most = ROWS * self.k;
        for x in x.chunks(most) {
            self.rows.extend_from_slice(x);
            if self.rows.len() >= most {
                self.add(products)?;
            }
        }
        Ok(())
    }

    /// Adds the products of the rows that were gathered.
    fn add(&mut self, products: &Products) -> std::result::Result<(), Reason> {
        let (k, rows) = (self.k, self.rows.len() / self.k.max(1));
        if rows == 0 {
            return Ok(());
        }
        self.sum.resize(k * k, 0.0);
        let strip = k.div_ceil(6).max(256);
        for from in (0..k).step_by(strip) {
            let to = k.min(from + strip);
            let part =
                |to: usize| Part { data: &self.rows, at: from, stride: k, rows, cols: to - from };
            let sum = &mut self.sum;
            products.each((part(k), true), part(to), |i, row| {
                let sums = &mut sum[(from + i) * k + from..][..to - from];
                sums.iter_mut().zip(row).for_each(|(s, x)| *s += x);
            })?;
        }
        self.rows.clear();
        Ok(())
    }

    /// xᵀx, both triangles.
    fn whole(mut self, products: &Products) -> std::result::Result<Vec<f32>, Reason> {
        self.add(products)?;
        let k = self.k;
        if !self.sum.is_empty() {
            for i in 0..k {
                for j in i + 1..k {
                    self.sum[i * k + j] = self.sum[j * k + i];
                }
            }
        }
        Ok(self.sum)
    }
}

/// y = x; its rows are gathered.
struct Gram {
    sum: Arc<Mutex<Sum>>,
    products: Arc<Products>,
}

impl CustomOp for Gram {
    fn name(&self) -> &str {
        "Gram"
    }

    fn infer(&self, inputs: &Inputs<'_>) -> std::result::Result<Facts, Reason> {
        Ok([inputs.get(0)?.clone().forget()].into_iter().collect())
    }

    fn run(&self, inputs: &[Option<Value>]) -> std::result::Result<Vec<Value>, Reason> {
        let [Some(x)] = inputs else {
            return Err(Reason::new(Kind::Invalid, "nothing to add up"));
        };
        let t = x.as_tensor()?;
        if t.dtype() == DType::F32 {
            let mut sum = self.sum.lock().unwrap_or_else(|e| e.into_inner());
            sum.see(t.as_slice(), &self.products)?;
        }
        Ok(vec![x.clone()])
    }

    fn deterministic(&self) -> bool {
        false
    }
}

/// Gathers values [.., k].
struct Adder<'a> {
    sums: &'a BTreeMap<Place, Arc<Mutex<Sum>>>,
    products: Arc<Products>,
}

impl Adder<'_> {
    fn add(&mut self, r: &mut Rebuild<'_>, v: ValueId) -> std::result::Result<(), Reason> {
        let Some(sum) = self.sums.get(&(r.number, v)) else { return Ok(()) };
        let gram = Gram { sum: sum.clone(), products: self.products.clone() };
        let x = r.value(v);
        let y = r.new.push1(Custom(Arc::new(gram)), &[x])?;
        r.redirect(v, y);
        Ok(())
    }
}

impl Writer for Adder<'_> {
    fn node(&mut self, r: &mut Rebuild<'_>, id: NodeId) -> std::result::Result<bool, Reason> {
        if r.old.order().first() == Some(&id) {
            for &v in r.old.inputs() {
                self.add(r, v)?;
            }
        }
        Ok(false)
    }

    fn after(&mut self, r: &mut Rebuild<'_>, id: NodeId) -> std::result::Result<(), Reason> {
        let outputs = r.old.node(id).outputs.clone();
        outputs.iter().try_for_each(|&v| self.add(r, v))
    }
}

/// xᵀx of values [.., k], over all samples; empty where no sample came by.
///
/// # Errors
/// A sample cannot be read, or the model cannot run it.
pub(crate) fn grams(
    model: &Model,
    places: &BTreeMap<Place, usize>,
    samples: &dyn Samples,
    running: &Running<'_>,
) -> Result<BTreeMap<Place, Vec<f32>>> {
    let failed = |reason: Reason| Error::Config(format!("products of activations: {reason}"));
    let new = |k: usize| Arc::new(Mutex::new(Sum { k, rows: Vec::new(), sum: Vec::new() }));
    let sums: BTreeMap<Place, _> = places.iter().map(|(&p, &k)| (p, new(k))).collect();
    let products = Arc::new(Products::new(None).map_err(failed)?);
    let graph = rebuild(model.graph(), &mut Adder { sums: &sums, products })?;
    let session = Session::builder().threads(running.threads).build(model.with_graph(graph))?;
    run_all(&session, samples, running, "products of activations")?;
    drop(session);
    let products = Products::new(Some(running.threads)).map_err(failed)?;
    let none = || Sum { k: 0, rows: Vec::new(), sum: Vec::new() };
    let mut made = BTreeMap::new();
    for (place, sum) in sums {
        let sum = std::mem::replace(&mut *sum.lock().unwrap_or_else(|e| e.into_inner()), none());
        made.insert(place, sum.whole(&products).map_err(failed)?);
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_all_rows() {
        let (k, rows) = (300, 1100);
        let x: Vec<f32> =
            (0..k * rows).map(|i| ((i * 7919 % 2003) as f32 - 1000.0) / 500.0).collect();
        let products = Products::new(Some(1)).unwrap();
        let mut sum = Sum { k, rows: Vec::new(), sum: Vec::new() };
        for part in x.chunks(70 * k) {
            sum.see(part, &products).unwrap();
        }
        assert!(sum.see(&x[..7], &products).is_err());
        let found = sum.whole(&products).unwrap();
        for (i, j) in [(0, 0), (299, 0), (0, 299), (256, 255), (17, 290), (299, 299)] {
            let want: f64 = x.chunks(k).map(|r| f64::from(r[i]) * f64::from(r[j])).sum();
            let got = f64::from(found[i * k + j]);
            assert!((got - want).abs() < 1e-2 * want.abs().max(10.0), "{i} {j}: {got} {want}");
        }
    }
}
