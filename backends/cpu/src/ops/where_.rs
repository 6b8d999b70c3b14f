//! Where: input 1 where input 0 holds, else input 2; shapes broadcast.
use rinfer_graph::{Bool, DType, Reason, Strings, Value, invalid, unsupported, with_width};

use crate::elementwise::{Broadcast, for_runs};
use crate::kernel::{Args, Cx, Kernel};
use crate::simd::Isa;

pub(super) fn compile(cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let dtype = cx.dtype(1)?;
    if dtype == DType::String {
        return Ok(choose_strings());
    }
    let sizes = [cx.sizes(0)?, cx.sizes(1)?, cx.sizes(2)?];
    let plan = Broadcast::new(&[&sizes[0], &sizes[1], &sizes[2]], &cx.out_sizes(0)?)?;
    let isa = cx.isa;
    with_width!(dtype, W => {
        Ok(Kernel::new(move |args| choose::<W>(isa, &plan, args)))
    }, else Err(unsupported!("Where of {dtype} is not supported")))
}

fn choose<W: bytemuck::Pod + Send + Sync>(
    isa: Isa,
    plan: &Broadcast,
    args: &mut Args<'_>,
) -> Result<(), Reason> {
    let c = args.input(0)?.as_slice::<Bool>();
    let (x, z) = (args.input(1)?.as_bits::<W>(), args.input(2)?.as_bits::<W>());
    let y = args.outputs[0].as_mut_bits::<W>();
    for_runs(plan, y, 500, args.cx, |at, y| {
        let n = y.len();
        let (x, z) = (plan.part(1, x, at[1], n), plan.part(2, z, at[2], n));
        match plan.part(0, c, at[0], n) {
            c if c.len() == n => select(isa, c, x, z, y),
            c => {
                let from = if c[0].get() { x } else { z };
                if from.len() == n { y.copy_from_slice(from) } else { y.fill(from[0]) }
            }
        }
    })
}

crate::simd_fn! {
    fn select<W: bytemuck::Pod>(s: S, c: &[Bool], x: &[W], z: &[W], y: &mut [W]) {
        let _ = s;
        let n = y.len();
        match (x.len() == n, z.len() == n) {
            (true, true) => {
                for (((&c, &x), &z), y) in c.iter().zip(x).zip(z).zip(y) {
                    *y = if c.get() { x } else { z };
                }
            }
            (true, false) => {
                let z = z[0];
                for ((&c, &x), y) in c.iter().zip(x).zip(y) {
                    *y = if c.get() { x } else { z };
                }
            }
            (false, _) => {
                let (x, one) = (x[0], z.len() != n);
                for (i, (&c, y)) in c.iter().zip(y).enumerate() {
                    *y = if c.get() { x } else { z[if one { 0 } else { i }] };
                }
            }
        }
    }
}

fn choose_strings() -> Kernel {
    Kernel::values(|inputs, _| {
        let get = |i: usize| {
            inputs.get(i).and_then(Option::as_ref).ok_or_else(|| invalid!("input {i} is missing"))
        };
        let (c, x, z) = (get(0)?.as_tensor()?, get(1)?.as_text()?, get(2)?.as_text()?);
        let dims = |s: &[usize]| s.iter().map(|&n| n.into()).collect::<Vec<rinfer_graph::Dim>>();
        let both = rinfer_graph::shape::broadcast(&dims(x.shape()), &dims(z.shape()))?;
        let shape = rinfer_graph::shape::broadcast(&dims(c.shape()), &both)?;
        let sizes: Vec<usize> = shape.iter().filter_map(|d| d.size()).collect();
        let plan = Broadcast::new(&[c.shape(), x.shape(), z.shape()], &sizes)?;
        let c = c.as_slice::<Bool>();
        let mut y = Vec::with_capacity(plan.len());
        plan.runs(0..plan.len(), |range, at| {
            for i in 0..range.len() {
                let index = |input: usize| at[input] + i * plan.moves(input) as usize;
                let (from, at) = if c[index(0)].get() { (x, index(1)) } else { (z, index(2)) };
                y.push(from.as_slice()[at].clone());
            }
        });
        Ok(vec![Value::Text(Strings::new(&sizes, y)?)])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::{run, run1};
    use rinfer_graph::Tensor;
    use rinfer_graph::ops::Where;

    #[test]
    fn any_operand_may_broadcast() {
        let c = Tensor::from_slice(&[2, 1], &[Bool(1), Bool(0)]);
        let x = Tensor::vector(&[1.0f32, 2.0]);
        let z = Tensor::from_slice(&[2, 2], &[5.0f32, 6.0, 7.0, 8.0]);
        for isa in Isa::available() {
            let y = run1(isa, Where, &[c.clone(), x.clone(), z.clone()]).unwrap();
            assert_eq!(y.as_slice::<f32>(), [1.0, 2.0, 7.0, 8.0]);
        }
        let c = Tensor::vector(&[Bool(1), Bool(0), Bool(1)]);
        let (x, z) = (Tensor::scalar(1i64), Tensor::vector(&[4i64, 5, 6]));
        for isa in Isa::available() {
            let y = run1(isa, Where, &[c.clone(), x.clone(), z.clone()]).unwrap();
            assert_eq!(y.as_slice::<i64>(), [1, 5, 1]);
            let y = run1(isa, Where, &[c.clone(), z.clone(), x.clone()]).unwrap();
            assert_eq!(y.as_slice::<i64>(), [4, 1, 6]);
            let y = run1(isa, Where, &[c.clone(), x.clone(), x.clone()]).unwrap();
            assert_eq!(y.as_slice::<i64>(), [1, 1, 1]);
        }
    }

    #[test]
    fn strings_are_chosen() {
        let text = |s: &[&str]| {
            Value::Text(
                Strings::new(&[s.len()], s.iter().map(|s| s.to_string()).collect()).unwrap(),
            )
        };
        let c = Value::Tensor(Tensor::vector(&[Bool(1), Bool(0)]));
        let y = run(Isa::best(), Where, &[c, text(&["a"]), text(&["b", "c"])], 1).unwrap();
        assert_eq!(y[0], text(&["a", "c"]));
    }
}
