//! Attention: prepares keys, values and masks for the kernel in [`crate::attention`].
//!
//! f16 and bf16 are computed in f32. f64, and whoever asks for the scores, take plain loops.

use std::borrow::Cow;

use rinfer_graph::ops::{Attention, AttentionSizes, mask_strides};
use rinfer_graph::{Bool, DType, Reason, Tensor, invalid, scarce, unsupported};

use super::attention_plain;
use crate::attention::{Job, Mask, MaskData, Steps, Vectors};
use crate::convert;
use crate::kernel::{Args, Cx, Kernel, limit};
use crate::pool::with_scratch;
use crate::scratch::Scratch;
use crate::simd::Isa;

/// Which of q, k, v and y are laid out [batch, position, head, element] in memory, although their
/// shape says [batch, head, position, element].
pub(crate) type Turned = [bool; 4];

/// An attention whose sizes are settled.
pub(super) struct Settled {
    pub isa: Isa,
    pub op: Attention,
    pub sizes: AttentionSizes,
    pub scale: f32,
    /// Steps and keys of the mask.
    pub mask: Option<([usize; 3], usize)>,
    pub turned: Turned,
}

pub(super) fn compile(op: &Attention, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    compile_turned(op, cx, [false; 4])
}

/// As [`compile`], for operands of rank 4 that nobody has transposed.
pub(crate) fn compile_turned(
    op: &Attention,
    cx: &Cx<'_>,
    turned: Turned,
) -> Result<Kernel, Reason> {
    let past = cx.opt(4).map(|_| cx.sizes(4)).transpose()?;
    let sizes = op.sizes([&cx.sizes(0)?, &cx.sizes(1)?, &cx.sizes(2)?], past.as_deref())?;
    let mask = cx.opt(3).map(|_| cx.sizes(3)).transpose()?;
    let mask = mask.map(|mask| mask_strides(&mask, &sizes)).transpose()?;
    let scale = op.scale.unwrap_or(1.0 / (sizes.head as f32).sqrt());
    let settled = Settled { isa: cx.isa, op: op.clone(), sizes, scale, mask, turned };
    let in_f32 = |i: usize| {
        let dtype = cx.opt(i).map(|fact| fact.dtype()).transpose()?;
        Ok(!matches!(dtype, Some(DType::F64)))
    };
    let fast = [0, 1, 2].into_iter().map(in_f32).collect::<Result<Vec<bool>, Reason>>()?;
    if cx.wants(3) || fast.contains(&false) {
        return Ok(Kernel::new(move |args| {
            settled.make_present(args)?;
            attention_plain::run(&settled, args)
        }));
    }
    let scratch = settled.scratch(cx);
    Ok(Kernel::new(move |args| settled.run(args)).takes(scratch))
}

impl Settled {
    /// Keys or values with those of the past before them, as output `i` asks for them.
    fn present(&self, args: &Args<'_>, i: usize, out: &mut Tensor) -> Result<(), Reason> {
        let s = &self.sizes;
        let (new, past) = (args.input(i)?, args.opt(i + 3));
        let size = if i == 1 { s.head } else { s.v_head };
        let row = size * new.dtype().size();
        let steps = Steps::new(s.kv_side_by_side, s.kv_heads, s.new_keys, row);
        let (new, past) = (new.as_bytes(), past.map_or(&[][..], Tensor::as_bytes));
        let (before, all) = (s.past_keys * row, s.keys() * row);
        if all == 0 {
            return Ok(());
        }
        for (n, out) in out.as_mut_bytes().chunks_exact_mut(all).enumerate() {
            let (old, rest) = out.split_at_mut(before);
            old.copy_from_slice(&past[n * before..][..before]);
            let (batch, head) = (n / s.kv_heads, n % s.kv_heads);
            let new = &new[(batch * steps.batch + head * steps.head).min(new.len())..];
            for (j, out) in rest.chunks_exact_mut(row).enumerate() {
                out.copy_from_slice(&new[j * steps.position..][..row]);
            }
        }
        Ok(())
    }

    /// Fills the outputs present_key and present_value, where there are such.
    fn make_present(&self, args: &mut Args<'_>) -> Result<(), Reason> {
        for i in 1..args.outputs.len().min(3) {
            let mut out = std::mem::replace(&mut args.outputs[i], Tensor::scalar(0u8));
            let done = self.present(args, i, &mut out);
            args.outputs[i] = out;
            done?;
        }
        Ok(())
    }

    /// What [`Settled::run`] takes: what the kernel does; keys and values joined to the past, if no
    /// output is; and everything that is not in f32, widened.
    fn scratch(&self, cx: &Cx<'_>) -> Scratch {
        let s = &self.sizes;
        let wide = |dtype: Result<DType, Reason>, len: usize| match dtype {
            Ok(DType::F32 | DType::Bool) | Err(_) => Scratch::none(),
            Ok(_) => Scratch::floats(len),
        };
        let input = |i: usize, len: Option<usize>| {
            let fact = cx.opt(i);
            let len = len.or_else(|| fact?.len()).unwrap_or(0);
            fact.map_or(Scratch::none(), |fact| wide(fact.dtype(), len))
        };
        let joined = |i: usize, size: usize| {
            let len = s.batch * s.kv_heads * s.keys() * size;
            let bytes = cx.opt(i).and_then(|f| f.dtype().ok()?.bytes_for(len)).unwrap_or(0);
            let made = if cx.opt(4).is_some() && !cx.wants(i) { bytes } else { 0 };
            Scratch::of::<u8>(made).and(input(i, Some(len)))
        };
        let y = cx.outputs.first();
        let y = y.map_or(Scratch::none(), |y| wide(y.dtype(), y.len().unwrap_or(0)));
        let job = self.job([&[]; 3], [false; 3], MaskData::None);
        [joined(1, s.head), joined(2, s.v_head), input(0, None), input(3, None), input(8, None), y]
            .into_iter()
            .fold(job.scratch(self.isa), Scratch::and)
    }

    fn run(&self, args: &mut Args<'_>) -> Result<(), Reason> {
        self.make_present(args)?;
        let (lens, starts) = (self.lens(args)?, self.starts(args)?);
        let [first, present @ ..] = &mut *args.outputs else {
            return Err(invalid!("attention without outputs"));
        };
        let inputs = Args { inputs: args.inputs, outputs: &mut [], cx: args.cx };
        let (mut made_k, mut made_v) = (None, None);
        let k = self.all_keys(&inputs, 1, present.first(), &mut made_k)?;
        let v = self.all_keys(&inputs, 2, present.get(1), &mut made_v)?;
        let mask = inputs.opt(3);
        let added = match mask {
            Some(mask) if mask.dtype() != DType::Bool => Some(self.wide(mask)?),
            _ => None,
        };
        let data = match (mask, &added) {
            (_, Some(added)) => MaskData::Add(added),
            (Some(mask), None) => MaskData::Keep(mask.as_bytes()),
            (None, None) => MaskData::None,
        };
        let (q, k, v) = (self.wide(inputs.input(0)?)?, self.wide(k)?, self.wide(v)?);
        let sinks = inputs.opt(8).map(|sinks| self.wide(sinks)).transpose()?;
        // With a past, keys and values are read from where they were joined to it.
        let kv_side = self.sizes.kv_side_by_side && inputs.opt(4).is_none();
        let [turned_q, turned_k, turned_v, _] = self.turned;
        let sides = [self.sizes.side_by_side || turned_q, kv_side || turned_k, kv_side || turned_v];
        let job = Job {
            lens: &lens,
            starts: &starts,
            sinks: sinks.as_deref().unwrap_or_default(),
            ..self.job([&q, &k, &v], sides, data)
        };
        if first.dtype() == DType::F32 {
            return job.run(self.isa, inputs.cx, first.as_mut_slice());
        }
        with_scratch(first.len(), |y| {
            job.run(self.isa, inputs.cx, y)?;
            convert::write(self.isa, y, first, 0)
        })
        .map_err(limit)?
    }

    /// The kernel's work on operands in f32; `sides`: whose heads lie side by side.
    fn job<'a>(&self, [q, k, v]: [&'a [f32]; 3], sides: [bool; 3], mask: MaskData<'a>) -> Job<'a> {
        let s = &self.sizes;
        let vectors = |data, heads, len, size, side| Vectors {
            data,
            steps: Steps::new(side, heads, len, size),
        };
        let (steps, keys) = self.mask.unwrap_or(([0; 3], s.keys()));
        Job {
            batch: s.batch,
            q_heads: s.q_heads,
            kv_heads: s.kv_heads,
            queries: s.queries,
            keys: s.keys(),
            head: s.head,
            v_head: s.v_head,
            q: vectors(q, s.q_heads, s.queries, s.head, sides[0]),
            k: vectors(k, s.kv_heads, s.keys(), s.head, sides[1]),
            v: vectors(v, s.kv_heads, s.keys(), s.v_head, sides[2]),
            side_by_side: s.side_by_side || self.turned[3],
            scale: self.scale,
            softcap: self.op.softcap,
            mask: Mask { data: mask, steps, keys },
            lens: &[],
            starts: &[],
            sinks: &[],
            past: s.past_keys as isize,
            left: self.op.left_window,
            right: self.right(),
        }
    }

    /// Positions after its own that a query sees.
    pub fn right(&self) -> Option<usize> {
        if self.op.causal { Some(0) } else { self.op.right_window }
    }

    /// The keys or values that there are: the input, or the past and the input.
    fn all_keys<'a>(
        &self,
        args: &Args<'a>,
        i: usize,
        present: Option<&'a Tensor>,
        made: &'a mut Option<Tensor>,
    ) -> Result<&'a Tensor, Reason> {
        if args.opt(4).is_none() {
            return args.input(i);
        }
        if let Some(present) = present {
            return Ok(present);
        }
        let s = &self.sizes;
        let size = if i == 1 { s.head } else { s.v_head };
        let shape = [s.batch, s.kv_heads, s.keys(), size];
        let out = made.insert(Tensor::try_zeros(args.input(i)?.dtype(), &shape)?);
        self.present(args, i, out)?;
        Ok(out)
    }

    /// The elements in f32.
    fn wide<'a>(&self, x: &'a Tensor) -> Result<Cow<'a, [f32]>, Reason> {
        match x.dtype() {
            DType::F32 => Ok(Cow::Borrowed(x.as_slice())),
            DType::F64 => Ok(x.as_slice::<f64>().iter().map(|&x| x as f32).collect()),
            _ => {
                let mut wide = scarce::zeros(x.len());
                convert::read(self.isa, x, 0, &mut wide)?;
                Ok(Cow::Owned(wide))
            }
        }
    }

    /// nonpad_kv_seqlen, or nothing.
    pub fn lens(&self, args: &Args<'_>) -> Result<Vec<usize>, Reason> {
        let Some(lens) = args.opt(6) else { return Ok(Vec::new()) };
        let lens = lens.to_ints().ok_or_else(|| unsupported!("lengths of {}", lens.dtype()))?;
        let keys = self.sizes.keys();
        let check = |&n: &i64| {
            let len = usize::try_from(n).ok().filter(|&n| n <= keys);
            len.ok_or_else(|| invalid!("{n} keys that are no padding, of {keys}"))
        };
        lens.iter().map(check).collect()
    }

    /// The positions of the batches' first queries among the keys, or nothing.
    pub fn starts(&self, args: &Args<'_>) -> Result<Vec<usize>, Reason> {
        let Some(starts) = args.opt(7) else { return Ok(Vec::new()) };
        let keys = self.sizes.keys();
        let check = |&n: &i64| {
            let start = usize::try_from(n).ok().filter(|&n| n <= keys);
            start.ok_or_else(|| invalid!("queries from position {n} on, of {keys} keys"))
        };
        starts.as_slice::<i64>().iter().map(check).collect()
    }
}

/// The elements of a mask or an operand in f64; of a truth value, what is added to a score.
pub(super) fn elements(x: &Tensor) -> Result<Vec<f64>, Reason> {
    Ok(match x.dtype() {
        DType::F64 => x.as_slice::<f64>().to_vec(),
        DType::Bool => {
            let add = |x: &Bool| if x.get() { 0.0 } else { f64::NEG_INFINITY };
            x.as_slice::<Bool>().iter().map(add).collect()
        }
        dtype => {
            let mut wide = vec![0.0f32; x.len()];
            crate::quant::read_f32(dtype, x.as_bytes(), 0, &mut wide)?;
            wide.into_iter().map(f64::from).collect()
        }
    })
}
