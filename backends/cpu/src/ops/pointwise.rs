//! Pointwise: a program over tiles that stay in the first-level cache.
//!
//! A tile is a stretch of the output. Each input's part of it is read in place where it is f32 and
//! lies in one piece, else copied (widened, repeated) into scratch memory; then every step runs
//! over the whole tile, into a register of the same size, the last one straight into the output.
use half::{bf16, f16};
use rinfer_graph::ops::{BinaryFn, Operand, Pointwise, Step, UnaryFn};
use rinfer_graph::sync::Mutex;
use rinfer_graph::{Bool, DType, Element, Kind, Reason, Tensor, invalid};
use smallvec::SmallVec;
use std::ops::Range;

use crate::convert::Float;
use crate::elementwise::{Broadcast, Side, float};
use crate::kernel::{Args, Cx, Kernel};
use crate::par;
use crate::pool::with_scratch;
use crate::scratch::Scratch;
use crate::simd::Isa;

/// Elements of a tile: a handful of registers of 4 KiB fit into the first-level cache.
const TILE: usize = 1024;

/// Where an argument of a step is, or where its result goes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Input(usize),
    Register(usize),
    /// The f32 output with this number.
    Output(usize),
    Const(f32),
}

/// A step with its places.
#[derive(Debug)]
struct Line {
    step: Step,
    args: SmallVec<[Place; 3]>,
    to: Place,
}

/// A program made ready for inputs of known shapes.
struct Program {
    isa: Isa,
    lines: Vec<Line>,
    registers: usize,
    /// How each input stretches to the output, alone.
    loads: Vec<Broadcast>,
    outputs: Vec<(Place, DType)>,
    len: usize,
    /// What a tile costs, in nanoseconds.
    tile_ns: usize,
}

pub(super) fn compile(op: &Pointwise, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let out = cx.out_sizes(0)?;
    let mut loads = Vec::new();
    let mut whole: SmallVec<[usize; 4]> = SmallVec::new();
    for i in 0..op.inputs() {
        let sizes = cx.sizes(i)?;
        loads.push(Broadcast::new(&[&sizes], &out)?);
        if sizes == out && cx.dtype(i)? == op.outputs()[0].1 {
            whole.push(i);
        }
    }
    let len = rinfer_graph::shape::count(&out).unwrap_or(0);
    let (lines, registers) = allocate(op);
    let outputs = op.outputs().iter().map(|&(arg, dtype)| (place(&lines, arg), dtype)).collect();
    let ps: usize = op.steps().iter().map(cost).sum::<usize>() + 300;
    let tile_ns = TILE * ps / 1000;
    let program = Program { isa: cx.isa, lines, registers, loads, outputs, len, tile_ns };
    let grain = par::grain(program.tile_ns);
    let scratch = Scratch::floats(program.room()).in_loop(len.div_ceil(TILE), grain);
    Ok(Kernel::new(move |args| run(&program, args)).in_place(&whole).takes(scratch))
}

impl Program {
    /// Numbers of a tile: inputs that are loaded, and steps that are not stored.
    fn room(&self) -> usize {
        (self.loads.len() + self.registers) * TILE
    }
}

/// What a step costs for one element, in picoseconds.
fn cost(step: &Step) -> usize {
    use UnaryFn::*;
    match step {
        Step::Unary(Abs | Neg | Relu | Not | Floor | Ceil | Round | HardSwish, _) => 60,
        Step::Unary(Acos | Acosh | Asin | Asinh | Atan | Atanh | Cos | Sin | Tan, _) => 20_000,
        Step::Unary(..) => 500,
        Step::Binary(BinaryFn::Pow | BinaryFn::Mod { .. }, ..) => 20_000,
        _ => 60,
    }
}

/// Gives every step a register, or an output of its own; registers are used again once nothing
/// reads what they hold. Returns the lines and how many registers there are.
fn allocate(op: &Pointwise) -> (Vec<Line>, usize) {
    let steps = op.steps();
    // The step after which nothing reads a value any more; outputs are read at the very end.
    let mut last = vec![0; steps.len()];
    for (i, step) in steps.iter().enumerate() {
        for arg in step.args() {
            if let Operand::Step(j) = arg {
                last[j] = i;
            }
        }
    }
    let mut stores = vec![None; steps.len()];
    for (k, &(arg, dtype)) in op.outputs().iter().enumerate() {
        if let Operand::Step(j) = arg {
            // A value that nobody else reads is made where it is stored.
            stores[j] = (last[j] <= j && dtype == DType::F32).then_some(k);
            last[j] = usize::MAX;
        }
    }
    let mut lines: Vec<Line> = Vec::new();
    let (mut free, mut registers) = (Vec::new(), 0);
    for (i, step) in steps.iter().enumerate() {
        let args: SmallVec<[Place; 3]> =
            step.args().into_iter().map(|arg| place(&lines, arg)).collect();
        let mut dying: SmallVec<[usize; 3]> = SmallVec::new();
        for arg in step.args() {
            if let Operand::Step(j) = arg
                && last[j] == i
                && let Place::Register(r) = lines[j].to
                && !dying.contains(&r)
            {
                dying.push(r);
            }
        }
        // Where reads all three operands apart from what it writes.
        let reuse = if matches!(step, Step::Where(..)) { None } else { dying.pop() };
        let to = match (stores[i], reuse) {
            (Some(k), reuse) => {
                free.extend(reuse);
                Place::Output(k)
            }
            (None, Some(r)) => Place::Register(r),
            (None, None) => Place::Register(free.pop().unwrap_or_else(|| {
                registers += 1;
                registers - 1
            })),
        };
        free.extend(dying);
        lines.push(Line { step: *step, args, to });
    }
    (lines, registers)
}

/// Where a value is found.
fn place(lines: &[Line], arg: Operand) -> Place {
    match arg {
        Operand::Input(i) => Place::Input(i),
        Operand::Step(i) => lines[i].to,
        Operand::Const(x) => Place::Const(x),
    }
}

/// The outputs' bytes, cut into tiles.
struct Outputs<'a>(SmallVec<[(&'a mut [u8], usize); 2]>);

impl par::Split for Outputs<'_> {
    fn split(self, at: usize) -> (Self, Self) {
        let (a, b) = self.0.into_iter().map(|part| part.split(at)).unzip();
        (Outputs(a), Outputs(b))
    }
}

fn run(program: &Program, args: &mut Args<'_>) -> Result<(), Reason> {
    let inputs: SmallVec<[Option<&Tensor>; 8]> =
        (0..program.loads.len()).map(|i| args.opt(i)).collect();
    let mut outputs = Outputs(SmallVec::new());
    for (y, (_, dtype)) in args.outputs.iter_mut().zip(&program.outputs) {
        if y.len() != program.len {
            return Err(invalid!("{} elements where {} are planned", y.len(), program.len));
        }
        outputs.0.push((y.as_mut_bytes(), TILE * dtype.size()));
    }
    let (tiles, cx) = (program.len.div_ceil(TILE), args.cx);
    let failed = Mutex::new(None);
    par::split(outputs, tiles, par::grain(program.tile_ns), |first, outputs| {
        let done = with_scratch(program.room(), |scratch| {
            let mut parts: SmallVec<[_; 2]> =
                outputs.0.into_iter().map(|(y, size)| y.chunks_mut(size)).collect();
            for tile in first.. {
                let ys: SmallVec<[&mut [u8]; 2]> =
                    parts.iter_mut().filter_map(Iterator::next).collect();
                if ys.is_empty() || cx.check().is_err() {
                    return;
                }
                let start = tile * TILE;
                run_tile(program, &inputs, start..program.len.min(start + TILE), ys, scratch);
            }
        });
        if let Err(text) = done {
            let reason = Reason::new(Kind::Limit, text);
            *failed.lock().unwrap_or_else(|e| e.into_inner()) = Some(reason);
        }
    });
    match failed.into_inner().unwrap_or_else(|e| e.into_inner()) {
        Some(reason) => Err(reason),
        None => cx.check(),
    }
}

fn run_tile(
    program: &Program,
    inputs: &[Option<&Tensor>],
    range: Range<usize>,
    mut ys: SmallVec<[&mut [u8]; 2]>,
    scratch: &mut [f32],
) {
    let (isa, n) = (program.isa, range.len());
    let (loaded, registers) = scratch.split_at_mut(program.loads.len() * TILE);
    let mut xs: SmallVec<[&[f32]; 8]> = SmallVec::new();
    for ((x, plan), tile) in inputs.iter().zip(&program.loads).zip(loaded.chunks_exact_mut(TILE)) {
        let dtype = program.outputs[0].1;
        xs.push(match x {
            Some(x) => load(isa, x, plan, range.clone(), tile),
            None => held(isa, dtype, ys[0], &mut tile[..n]),
        });
    }
    let mut registers: SmallVec<[&mut [f32]; 16]> =
        registers.chunks_exact_mut(TILE).map(|r| &mut r[..n]).collect();
    for line in &program.lines {
        match line.to {
            Place::Register(r) => {
                let y = std::mem::take(&mut registers[r]);
                step(isa, line, &xs, &registers, y);
                registers[r] = y;
            }
            Place::Output(k) => {
                let y = bytemuck::cast_slice_mut(ys[k]);
                step(isa, line, &xs, &registers, y);
            }
            _ => {}
        }
    }
    for ((from, dtype), y) in program.outputs.iter().zip(ys) {
        match from {
            Place::Register(r) => store(isa, registers[*r], *dtype, y),
            Place::Input(i) => store(isa, xs[*i], *dtype, y),
            Place::Const(x) => store(isa, &[*x], *dtype, y),
            Place::Output(_) => {}
        }
    }
}

/// One step over a tile. An argument in the register that is written is `y` itself.
fn step(isa: Isa, line: &Line, xs: &[&[f32]], registers: &[&mut [f32]], y: &mut [f32]) {
    let side = |i: usize| -> Side<'_, f32> {
        match &line.args[i] {
            place if *place == line.to => None,
            Place::Input(i) => Some(xs[*i]),
            Place::Register(r) => Some(&*registers[*r]),
            Place::Const(x) => Some(std::slice::from_ref(x)),
            Place::Output(_) => Some(&[]),
        }
    };
    match line.step {
        Step::Unary(f, _) => float::unary(isa, f, side(0), y),
        Step::Binary(f, ..) => float::binary(isa, f, side(0), side(1), y),
        Step::Clip(_, lo, hi) => float::clip(isa, side(0), lo, hi, y),
        Step::Where(..) => {
            let all = (side(0).unwrap_or(&[]), side(1).unwrap_or(&[]), side(2).unwrap_or(&[]));
            float::choose(isa, all.0, all.1, all.2, y);
        }
    }
}

/// An input's part of a tile as f32: one element where it stands for all.
fn load<'a>(
    isa: Isa,
    x: &'a Tensor,
    plan: &Broadcast,
    range: Range<usize>,
    tile: &'a mut [f32],
) -> &'a [f32] {
    match x.dtype() {
        DType::F16 => widened(plan, x.as_slice::<f16>(), range, tile, |x, y| f16::widen(isa, x, y)),
        DType::BF16 => {
            widened(plan, x.as_slice::<bf16>(), range, tile, |x, y| bf16::widen(isa, x, y))
        }
        DType::Bool => widened(plan, x.as_slice::<Bool>(), range, tile, truth),
        _ => {
            let (x, n) = (x.as_slice::<f32>(), range.len());
            let mut whole = None;
            plan.runs(range, |run, at| match plan.part(0, x, at[0], run.len()) {
                part if run.len() == n => whole = Some(part),
                part if part.len() == 1 => tile[run].fill(part[0]),
                part => tile[run].copy_from_slice(part),
            });
            whole.unwrap_or(&tile[..n])
        }
    }
}

/// Like [`load`] for a type that must be converted.
fn widened<'a, T: Element>(
    plan: &Broadcast,
    x: &[T],
    range: Range<usize>,
    tile: &'a mut [f32],
    convert: impl Fn(&[T], &mut [f32]),
) -> &'a [f32] {
    let n = range.len();
    let mut one = false;
    plan.runs(range, |run, at| {
        let part = plan.part(0, x, at[0], run.len());
        let tile = &mut tile[run];
        convert(part, &mut tile[..part.len()]);
        one = part.len() == 1 && tile.len() == n;
        if part.len() == 1 && !one {
            let x = tile[0];
            tile.fill(x);
        }
    });
    &tile[..if one { 1 } else { n }]
}

/// Truth values as 1 and 0.
fn truth(x: &[Bool], y: &mut [f32]) {
    x.iter().zip(y).for_each(|(x, y)| *y = x.get() as u8 as f32);
}

/// What the output holds, which is an input to be overwritten.
fn held<'a>(isa: Isa, dtype: DType, y: &[u8], tile: &'a mut [f32]) -> &'a [f32] {
    match dtype {
        DType::F16 => f16::widen(isa, bytemuck::cast_slice(y), tile),
        DType::BF16 => bf16::widen(isa, bytemuck::cast_slice(y), tile),
        DType::Bool => truth(bytemuck::cast_slice(y), tile),
        _ => tile.copy_from_slice(bytemuck::cast_slice(y)),
    }
    tile
}

/// Stores a tile, or one element for all of it.
fn store(isa: Isa, x: &[f32], dtype: DType, y: &mut [u8]) {
    fn put<T: Element>(x: &[f32], y: &mut [u8], convert: impl Fn(&[f32], &mut [T])) {
        let y: &mut [T] = bytemuck::cast_slice_mut(y);
        if x.len() == y.len() {
            return convert(x, y);
        }
        let mut one = [T::default()];
        convert(x, &mut one);
        y.fill(one[0]);
    }
    match dtype {
        DType::F16 => put::<f16>(x, y, |x, y| f16::narrow(isa, x, y)),
        DType::BF16 => put::<bf16>(x, y, |x, y| bf16::narrow(isa, x, y)),
        DType::Bool => put::<Bool>(x, y, |x, y| {
            x.iter().zip(y).for_each(|(&x, y)| *y = Bool::from(x != 0.0));
        }),
        _ => put::<f32>(x, y, |x, y| y.copy_from_slice(x)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run as run_op;
    use rinfer_graph::Value;

    /// Runs a program on every instruction set; the first output.
    fn check(program: &Pointwise, inputs: &[Tensor], expected: impl Fn(usize) -> f32) {
        let values: Vec<Value> = inputs.iter().cloned().map(Value::Tensor).collect();
        for isa in Isa::available() {
            let y = run_op(isa, program.clone(), &values, program.outputs().len()).unwrap();
            let y = y[0].as_tensor().unwrap();
            for (i, &y) in y.as_slice::<f32>().iter().enumerate() {
                let want = expected(i);
                let near = (y - want).abs() <= 1e-5 * want.abs().max(1.0);
                assert!(near, "{program}: [{i}] is {y}, not {want}, on {}", isa.name());
            }
        }
    }

    fn ramp(shape: &[usize]) -> Tensor {
        let n: usize = shape.iter().product();
        Tensor::from_slice(shape, &(0..n).map(|i| i as f32 * 0.01 - 3.0).collect::<Vec<_>>())
    }

    #[test]
    fn a_chain_reads_rows_columns_and_scalars() {
        use BinaryFn::*;
        let steps = vec![
            Step::Binary(Add, Operand::Input(0), Operand::Input(1)),
            Step::Binary(Mul, Operand::Step(0), Operand::Input(2)),
            Step::Unary(UnaryFn::Tanh, Operand::Step(1)),
            Step::Binary(Sub, Operand::Step(0), Operand::Step(2)),
            Step::Binary(Div, Operand::Const(1.5), Operand::Step(3)),
            Step::Clip(Operand::Step(4), -2.0, 2.0),
        ];
        let program = Pointwise::new(3, steps, &[(Operand::Step(5), DType::F32)]).unwrap();
        for (rows, columns) in [(7, 5), (40, 70), (3, 3000)] {
            let (x, row) = (ramp(&[rows, columns]), ramp(&[columns]));
            let column = ramp(&[rows, 1]);
            let at = |t: &Tensor, i: usize| t.as_slice::<f32>()[i];
            check(&program, &[x.clone(), row.clone(), column.clone()], |i| {
                let sum = at(&x, i) + at(&row, i % columns);
                let tanh = (sum * at(&column, i / columns)).tanh();
                (1.5 / (sum - tanh)).clamp(-2.0, 2.0)
            });
        }
    }

    #[test]
    fn truth_values_choose() {
        let steps = vec![
            Step::Binary(BinaryFn::Less, Operand::Input(0), Operand::Const(0.0)),
            Step::Binary(BinaryFn::And, Operand::Step(0), Operand::Input(1)),
            Step::Unary(UnaryFn::Not, Operand::Step(1)),
            Step::Where(Operand::Step(2), Operand::Input(0), Operand::Const(9.0)),
        ];
        let outputs = [(Operand::Step(3), DType::F32), (Operand::Step(1), DType::Bool)];
        let program = Pointwise::new(2, steps, &outputs).unwrap();
        let x = ramp(&[1500]);
        let c: Vec<Bool> = (0..1500).map(|i| Bool::from(i % 3 == 0)).collect();
        let inputs = [x.clone(), Tensor::vector(&c)];
        let x = x.as_slice::<f32>();
        check(&program, &inputs, |i| if x[i] < 0.0 && i % 3 == 0 { 9.0 } else { x[i] });
        let values: Vec<Value> = inputs.iter().cloned().map(Value::Tensor).collect();
        let y = run_op(Isa::best(), program, &values, 2).unwrap();
        let y = y[1].as_tensor().unwrap().as_slice::<Bool>();
        assert!((0..1500).all(|i| y[i].get() == (x[i] < 0.0 && i % 3 == 0)));
    }

    #[test]
    fn halves_are_rounded_once() {
        let steps = vec![
            Step::Binary(BinaryFn::Mul, Operand::Input(0), Operand::Input(1)),
            Step::Binary(BinaryFn::Add, Operand::Step(0), Operand::Const(1e-4)),
        ];
        let x: Vec<f16> = (0..1100).map(|i| f16::from_f32(i as f32 * 0.1)).collect();
        let program = Pointwise::new(2, steps, &[(Operand::Step(1), DType::F16)]).unwrap();
        let factor = f16::from_f32(0.3);
        let inputs = [Tensor::vector(&x).into(), Tensor::scalar(factor).into()];
        for isa in Isa::available() {
            let y = run_op(isa, program.clone(), &inputs, 1).unwrap();
            let y = y[0].as_tensor().unwrap().as_slice::<f16>();
            for (x, y) in x.iter().zip(y) {
                assert_eq!(*y, f16::from_f32(x.to_f32() * factor.to_f32() + 1e-4));
            }
        }
    }

    #[test]
    fn registers_are_used_again() {
        let mut steps = vec![Step::Unary(UnaryFn::Neg, Operand::Input(0))];
        steps.extend(
            (0..20).map(|i| Step::Binary(BinaryFn::Add, Operand::Step(i), Operand::Step(i))),
        );
        let program = Pointwise::new(1, steps, &[(Operand::Step(20), DType::F32)]).unwrap();
        assert_eq!(allocate(&program).1, 1);
        let x = ramp(&[9]);
        check(&program, &[x.clone()], |i| x.as_slice::<f32>()[i] * -1048576.0);
    }

    #[test]
    fn an_output_may_be_an_input_or_empty() {
        let outputs = [(Operand::Input(0), DType::F32), (Operand::Const(2.0), DType::F16)];
        let program = Pointwise::new(1, vec![], &outputs).unwrap();
        let x = ramp(&[3]);
        check(&program, &[x.clone()], |i| x.as_slice::<f32>()[i]);
        check(&program, &[ramp(&[0])], |_| 0.0);
    }
}
