//! Pointwise: a straight-line program of pointwise functions, run in one pass over its inputs.
//!
//! ```text
//! t0 = Mul(x0, 0.5); t1 = Erf(x1); t2 = Add(t1, 1.0); t3 = Mul(t0, t2) → t3
//! ```
//! x0 [s0..], x1 [s1..], …  →  y.. [broadcast(s0, s1, …)..]
//!
//! `x0` is the node's input 0, `t0` what step 0 makes, a number a constant. Values are f32 or
//! truth values: an input of f16 or bf16 is widened, an output of these types rounded once at the
//! end, an input of bool is a truth value, and so is what a comparison makes. Every output has the
//! shape that all inputs together broadcast to.
//!
//! The passes make programs of one step each with [`Pointwise::of`] and join them with
//! [`Pointwise::then`].

use smallvec::SmallVec;

use super::{Binary, BinaryFn, Inputs, Op, Unary, UnaryFn};
use crate::shape::{Shape, broadcast};
use crate::{DType, Fact, Facts, Reason, Type, invalid};

/// Runs a program over its inputs, element by element.
#[derive(Clone, PartialEq)]
pub struct Pointwise {
    inputs: usize,
    steps: Vec<Step>,
    outputs: SmallVec<[(Operand, DType); 1]>,
}

/// What a step reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operand {
    /// The node's input with this number.
    Input(usize),
    /// What the step with this number made.
    Step(usize),
    /// A number.
    Const(f32),
}

/// One line of a program; what it makes is called by its place in the list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// f(x); of a truth value only Not.
    Unary(UnaryFn, Operand),
    /// f(a, b); of truth values only And, Or, Xor and Equal.
    Binary(BinaryFn, Operand, Operand),
    /// The second where the first, a truth value, holds, else the third.
    Where(Operand, Operand, Operand),
    /// min(max(x, lo), hi)
    Clip(Operand, f32, f32),
}

impl Step {
    /// What it reads.
    pub fn args(&self) -> SmallVec<[Operand; 3]> {
        match *self {
            Step::Unary(_, x) | Step::Clip(x, ..) => [x].into_iter().collect(),
            Step::Binary(_, a, b) => [a, b].into_iter().collect(),
            Step::Where(c, a, b) => [c, a, b].into_iter().collect(),
        }
    }

    /// The same step with other arguments.
    fn renamed(&self, f: impl Fn(Operand) -> Operand) -> Step {
        match *self {
            Step::Unary(g, x) => Step::Unary(g, f(x)),
            Step::Binary(g, a, b) => Step::Binary(g, f(a), f(b)),
            Step::Where(c, a, b) => Step::Where(f(c), f(a), f(b)),
            Step::Clip(x, lo, hi) => Step::Clip(f(x), lo, hi),
        }
    }
}

/// What a value in a program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Number,
    Truth,
}

impl Pointwise {
    /// Inputs that a program may have.
    pub const MAX_INPUTS: usize = 12;
    /// Steps that a program may have.
    pub const MAX_STEPS: usize = 64;

    /// A program; `Err` if it is too long, reads what is not made before, or uses a function that
    /// is not defined on f32 and truth values.
    ///
    /// Each output is a value and the dtype it is stored as: f32, f16, bf16, or bool for a truth.
    pub fn new(
        inputs: usize,
        steps: Vec<Step>,
        outputs: &[(Operand, DType)],
    ) -> Result<Pointwise, Reason> {
        if inputs == 0 || inputs > Self::MAX_INPUTS || steps.len() > Self::MAX_STEPS {
            return Err(invalid!("a program of {} steps on {inputs} inputs", steps.len()));
        }
        let check = |arg: &Operand, made: usize| match *arg {
            Operand::Input(i) if i >= inputs => Err(invalid!("input {i} of {inputs} inputs")),
            Operand::Step(i) if i >= made => Err(invalid!("step {i} is read after {made} steps")),
            _ => Ok(()),
        };
        for (i, step) in steps.iter().enumerate() {
            step.args().iter().try_for_each(|arg| check(arg, i))?;
            if !defined(step) {
                return Err(invalid!("step {i} is not a function of f32 or truth values"));
            }
        }
        outputs.iter().try_for_each(|(arg, _)| check(arg, steps.len()))?;
        if outputs.is_empty() || outputs.iter().any(|(_, t)| !stored(*t)) {
            return Err(invalid!("a program stores f32, f16, bf16 or bool, at least once"));
        }
        Ok(Pointwise { inputs, steps, outputs: outputs.into() })
    }

    /// The program of one step that does what `op` does to inputs of these facts, and which of
    /// them it reads, in order: constants of one element become part of it.
    ///
    /// `None` if the operator or a dtype has no place in a program.
    pub fn of(op: &Op, inputs: &[Option<&Fact>]) -> Option<(Pointwise, SmallVec<[usize; 3]>)> {
        let fact = |i: usize| inputs.get(i).copied().flatten();
        let first = fact(0)?;
        // What becomes part of the program must not be what gives the result its rank.
        let ranks =
            inputs.iter().flatten().filter(|f| !f.is_const()).map(|f| f.rank().unwrap_or(0));
        let rank = ranks.max()?;
        let mut read = SmallVec::<[usize; 3]>::new();
        let mut arg = |i: usize| {
            let fact = fact(i)?;
            let scalar = fact.tensor().and_then(|t| t.to_f32()).filter(|_| fact.ty != bools());
            if let Some(x) = scalar
                && fact.rank()? <= rank
            {
                return Some(Operand::Const(x));
            }
            fact.ty.dtype().filter(|&t| stored(t))?;
            read.push(i);
            Some(Operand::Input(read.len() - 1))
        };
        let step = match op {
            Op::Unary(Unary(f)) => Step::Unary(*f, arg(0)?),
            Op::Binary(Binary(f)) => Step::Binary(*f, arg(0)?, arg(1)?),
            Op::Where(_) => Step::Where(arg(0)?, arg(1)?, arg(2)?),
            Op::Clip(_) => {
                let bound = |i, default| match fact(i) {
                    None => Some(default),
                    Some(fact) => fact.tensor()?.to_f32(),
                };
                Step::Clip(arg(0)?, bound(1, f32::NEG_INFINITY)?, bound(2, f32::INFINITY)?)
            }
            // Widening and rounding are what reading and storing do.
            Op::Cast(cast) if first.ty != bools() && cast.to != DType::Bool => {
                stored(cast.to).then_some(())?;
                let x = arg(0)?;
                return Some((Pointwise::new(1, Vec::new(), &[(x, cast.to)]).ok()?, read));
            }
            _ => return None,
        };
        let facts: SmallVec<[Option<&Fact>; 3]> = read.iter().map(|&i| fact(i)).collect();
        let made = op.infer(&Inputs::new(inputs, 1)).ok()?;
        let out = made[0].ty.dtype()?;
        let program = Pointwise::new(read.len(), vec![step], &[(Operand::Step(0), out)]).ok()?;
        program.infer(&Inputs::new(&facts, 1)).ok()?;
        Some((program, read))
    }

    /// This program followed by `next`, which reads this one's only output as its input `at`.
    ///
    /// The result reads this program's inputs and then those of `next` but `at`; inputs that are
    /// equal by `ids` (the values read, in that order) are read once. Returns what it reads.
    /// `None` if it would be too long, or this program has several outputs.
    pub fn then<V: Copy + PartialEq>(
        &self,
        next: &Pointwise,
        at: usize,
        (ids, next_ids): (&[V], &[V]),
    ) -> Option<(Pointwise, Vec<V>)> {
        let [(made, _)] = self.outputs[..] else { return None };
        let mut reads: Vec<V> = Vec::new();
        let mut place = |v: V| {
            reads.iter().position(|&r| r == v).unwrap_or_else(|| {
                reads.push(v);
                reads.len() - 1
            })
        };
        let old: Vec<usize> = ids.iter().map(|&v| place(v)).collect();
        let through = next_ids.get(at).copied()?;
        let new: Vec<Option<usize>> =
            next_ids.iter().map(|&v| (v != through).then(|| place(v))).collect();
        let base = self.steps.len();
        let rename_old = |arg: Operand| match arg {
            Operand::Input(i) => Operand::Input(old[i]),
            arg => arg,
        };
        let rename_new = |arg: Operand| match arg {
            Operand::Input(i) => new[i].map_or(rename_old(made), Operand::Input),
            Operand::Step(i) => Operand::Step(base + i),
            constant => constant,
        };
        let steps = self.steps.iter().map(|s| s.renamed(rename_old));
        let steps = steps.chain(next.steps.iter().map(|s| s.renamed(rename_new))).collect();
        let outputs: Vec<(Operand, DType)> =
            next.outputs.iter().map(|&(arg, t)| (rename_new(arg), t)).collect();
        Some((Pointwise::new(reads.len(), steps, &outputs).ok()?, reads))
    }

    /// How many inputs it has.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Its lines.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// What it stores, and as what dtype.
    pub fn outputs(&self) -> &[(Operand, DType)] {
        &self.outputs
    }

    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        if inputs.len() != self.inputs {
            return Err(invalid!("{} inputs where {} are needed", inputs.len(), self.inputs));
        }
        let facts =
            (0..self.inputs).map(|i| inputs.get(i)).collect::<Result<Vec<&Fact>, Reason>>()?;
        self.check_classes(&facts)?;
        let mut shape = Some(Shape::new());
        for fact in &facts {
            shape = match (shape, fact.shape()) {
                (Some(a), Some(b)) => Some(broadcast(&a, b)?),
                _ => None,
            };
        }
        let fact = |dtype| Fact { ty: Type::Tensor(dtype), shape: shape.clone(), known: None };
        Ok(self.outputs.iter().map(|&(_, dtype)| fact(dtype)).collect())
    }

    /// `Err` if a step mixes numbers with truth values, or one is stored as the other.
    fn check_classes(&self, facts: &[&Fact]) -> Result<(), Reason> {
        let mut inputs = Vec::new();
        for (i, fact) in facts.iter().enumerate() {
            inputs.push(match fact.dtype()? {
                DType::Bool => Class::Truth,
                dtype if stored(dtype) => Class::Number,
                other => return Err(invalid!("input {i} of a program is {other}")),
            });
        }
        let mut made: Vec<Class> = Vec::new();
        let class = |arg: Operand, made: &[Class]| match arg {
            Operand::Input(i) => inputs[i],
            Operand::Step(i) => made[i],
            Operand::Const(_) => Class::Number,
        };
        for (i, step) in self.steps.iter().enumerate() {
            let args: SmallVec<[Class; 3]> =
                step.args().iter().map(|&arg| class(arg, &made)).collect();
            let result = result(step, &args)
                .ok_or_else(|| invalid!("step {i} of a program mixes numbers and truth values"))?;
            made.push(result);
        }
        for &(arg, dtype) in &self.outputs {
            if (class(arg, &made) == Class::Truth) != (dtype == DType::Bool) {
                return Err(invalid!("a program stores a number or truth value as {dtype}"));
            }
        }
        Ok(())
    }
}

fn bools() -> Type {
    Type::Tensor(DType::Bool)
}

/// Whether programs read and store this dtype.
fn stored(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::BF16 | DType::Bool)
}

/// Whether the function of a step is defined on f32 or truth values at all.
fn defined(step: &Step) -> bool {
    match step {
        Step::Unary(f, _) => f.takes(DType::F32) || *f == UnaryFn::Not,
        Step::Binary(f, ..) => f.takes(DType::F32, DType::F32) || f.takes(DType::Bool, DType::Bool),
        _ => true,
    }
}

/// The class of what a step makes; `None` if it cannot take its arguments.
fn result(step: &Step, args: &[Class]) -> Option<Class> {
    let dtype = |class| if class == Class::Truth { DType::Bool } else { DType::F32 };
    let made = match *step {
        Step::Unary(f, _) => f.takes(dtype(args[0])).then(|| f.result(dtype(args[0]))),
        Step::Binary(f, ..) => {
            f.takes(dtype(args[0]), dtype(args[1])).then(|| f.result(dtype(args[0])))
        }
        Step::Where(..) => (args[0] == Class::Truth && args[1] == args[2]).then(|| dtype(args[1])),
        Step::Clip(..) => (args[0] == Class::Number).then_some(DType::F32),
    };
    made.map(|dtype| if dtype == DType::Bool { Class::Truth } else { Class::Number })
}

impl std::fmt::Display for Operand {
    /// `x0`, `t3`, `0.5`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Operand::Input(i) => write!(f, "x{i}"),
            Operand::Step(i) => write!(f, "t{i}"),
            Operand::Const(x) => write!(f, "{x:?}"),
        }
    }
}

impl std::fmt::Display for Step {
    /// `Mul(x0, 0.5)`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::Unary(g, x) => write!(f, "{}({x})", flat(g)),
            Step::Binary(g, a, b) => write!(f, "{}({a}, {b})", flat(g)),
            Step::Where(c, a, b) => write!(f, "Where({c}, {a}, {b})"),
            Step::Clip(x, lo, hi) => write!(f, "Clip({x}, {lo:?}, {hi:?})"),
        }
    }
}

/// A function with its attributes: `LeakyRelu{alpha: 0.1}`.
fn flat(f: &dyn std::fmt::Display) -> String {
    f.to_string().replace(" { ", "{").replace(" }", "}")
}

impl std::fmt::Display for Pointwise {
    /// `t0 = Mul(x0, 0.5); t1 = Tanh(t0) → t1`; outputs that are not f32 name their dtype.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, step) in self.steps.iter().enumerate() {
            let end = if i + 1 == self.steps.len() { " " } else { "; " };
            write!(f, "t{i} = {step}{end}")?;
        }
        f.write_str("→")?;
        for (i, (arg, dtype)) in self.outputs.iter().enumerate() {
            write!(f, "{} {arg}", if i == 0 { "" } else { "," })?;
            if *dtype != DType::F32 {
                write!(f, ": {dtype}")?;
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Pointwise {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pointwise {{ {self} }}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;
    use crate::ops::{Cast, Where};

    fn of(op: impl Into<Op>, facts: &[&Fact]) -> Option<(Pointwise, SmallVec<[usize; 3]>)> {
        Pointwise::of(&op.into(), &facts.iter().map(|&f| Some(f)).collect::<Vec<_>>())
    }

    #[test]
    fn chains_become_one_program() {
        let x = Fact::sized(DType::F32, &[2, 3]);
        let half = Fact::constant(Tensor::scalar(0.5f32));
        let (mul, reads) = of(Binary(BinaryFn::Mul), &[&x, &half]).unwrap();
        assert_eq!((mul.to_string(), &reads[..]), ("t0 = Mul(x0, 0.5) → t0".into(), &[0][..]));
        let (tanh, _) = of(Unary(UnaryFn::Tanh), &[&x]).unwrap();
        let (both, reads) = mul.then(&tanh, 0, (&["x"], &["y"])).unwrap();
        assert_eq!(both.to_string(), "t0 = Mul(x0, 0.5); t1 = Tanh(t0) → t1");
        assert_eq!(reads, ["x"]);
        let (add, _) = of(Binary(BinaryFn::Add), &[&x, &x]).unwrap();
        let (all, reads) = both.then(&add, 1, (&["x"], &["x", "z"])).unwrap();
        assert_eq!(all.to_string(), "t0 = Mul(x0, 0.5); t1 = Tanh(t0); t2 = Add(x0, t1) → t2");
        assert_eq!(reads, ["x"]);
        let square = both.then(&add, 0, (&["x"], &["z", "z"])).unwrap().0;
        assert_eq!(square.to_string(), "t0 = Mul(x0, 0.5); t1 = Tanh(t0); t2 = Add(t1, t1) → t2");
    }

    #[test]
    fn shapes_broadcast_and_dtypes_are_those_stored() {
        let (a, b) = (Fact::sized(DType::F16, &[2, 1]), Fact::sized(DType::F16, &[3]));
        let (add, _) = of(Binary(BinaryFn::Add), &[&a, &b]).unwrap();
        assert_eq!(add.to_string(), "t0 = Add(x0, x1) → t0: float16");
        let made = add.infer(&Inputs::new(&[Some(&a), Some(&b)], 1)).unwrap();
        assert_eq!(made[0].to_string(), "float16[2, 3]");
        let (cast, _) = of(Cast::to(DType::F32), &[&a]).unwrap();
        let (all, _) = add.then(&cast, 0, (&["a", "b"], &["y"])).unwrap();
        assert_eq!(all.to_string(), "t0 = Add(x0, x1) → t0");
    }

    #[test]
    fn truth_values_are_no_numbers() {
        let (x, c) = (Fact::sized(DType::F32, &[2]), Fact::sized(DType::Bool, &[2]));
        let (less, _) = of(Binary(BinaryFn::Less), &[&x, &x]).unwrap();
        assert_eq!(less.to_string(), "t0 = Less(x0, x1) → t0: bool");
        assert!(of(Where, &[&c, &x, &x]).is_some());
        let program =
            |step| Pointwise::new(2, vec![step], &[(Operand::Step(0), DType::F32)]).unwrap();
        let (a, b) = (Operand::Input(0), Operand::Input(1));
        let wrong = [Step::Where(a, a, b), Step::Binary(BinaryFn::And, a, b)];
        for step in wrong {
            let program = program(step);
            assert!(program.infer(&Inputs::new(&[Some(&x), Some(&c)], 1)).is_err(), "{program}");
        }
    }

    #[test]
    fn a_constant_that_gives_the_rank_stays_an_input() {
        let x = Fact::sized(DType::F32, &[2]);
        let one = Fact::constant(Tensor::from_slice(&[1, 1, 1], &[1.0f32]));
        assert_eq!(of(Binary(BinaryFn::Add), &[&x, &one]).unwrap().1[..], [0, 1]);
    }

    #[test]
    fn programs_that_read_ahead_are_refused() {
        let step = Step::Unary(UnaryFn::Exp, Operand::Step(0));
        assert!(Pointwise::new(1, vec![step], &[(Operand::Step(0), DType::F32)]).is_err());
        assert!(Pointwise::new(1, vec![], &[(Operand::Input(1), DType::F32)]).is_err());
        assert!(Pointwise::new(1, vec![], &[(Operand::Input(0), DType::I64)]).is_err());
    }
}
