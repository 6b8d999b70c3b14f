//! LSTM, GRU, RNN: one product for the inputs of all steps, then a kernel for each step.
//!
//! X·Wᵀ + b for all steps at once; at each step one lane adds h·Rᵀ for one unit of one sequence, and
//! makes its next state. The formulas are those of the CPU's `recurrent_cell.rs`.
//!
//! Memory between steps: h before, h after (in turns), c: each [directions, batch, hidden].

use rinfer_graph::ops::{Cell, Direction, GateFn, Recurrent};
use rinfer_graph::{DType, Reason, unsupported};

use super::functions::literal;
use super::gemm::{self, Sizes};
use super::rows::Target;
use crate::kernel::{Cx, Kernel};
use crate::shader::{Bind, Class, LANES, Launch, Shader, grid};

/// The sizes of a network.
struct Net<'a> {
    op: &'a Recurrent,
    seq: usize,
    batch: usize,
    input: usize,
    hidden: usize,
}

impl Net<'_> {
    fn dirs(&self) -> usize {
        self.op.direction.count()
    }

    fn gates(&self) -> usize {
        self.op.cell.gates()
    }

    /// Elements of a state.
    fn state(&self) -> usize {
        self.dirs() * self.batch * self.hidden
    }

    fn numbers(&self, shader: &mut Shader) -> Result<(), Reason> {
        for (name, n) in [
            ("dirs", self.dirs()),
            ("seq", self.seq),
            ("batch", self.batch),
            ("hidden", self.hidden),
            ("gates", self.gates()),
            ("state", self.state()),
        ] {
            shader.u32(name, n)?;
        }
        Ok(())
    }

    /// Where element `j` of a state [dirs, batch, hidden] stands in the model's tensors.
    fn place(&self) -> &'static str {
        match self.op.batch_first {
            false => "j",
            true => {
                "((j / p.hidden % p.batch) * p.dirs + j / p.hidden / p.batch) * p.hidden + j % \
                 p.hidden"
            }
        }
    }
}

pub(super) fn compile(op: &Recurrent, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (x, r) = (cx.sizes(0)?, cx.sizes(2)?);
    let (seq, batch) = if op.batch_first { (x[1], x[0]) } else { (x[0], x[1]) };
    let net = Net { op, seq, batch, input: x[2], hidden: r[2] };
    let mut kernel = Kernel::default();
    let rows = seq * batch;
    let sums = kernel.scratch(DType::F32, net.dirs() * rows * net.gates() * net.hidden)?;
    let states = kernel.scratch(DType::F32, 3 * net.state())?;
    let y = Target::new(&mut kernel, cx, 0)?;
    let two = op.cell == (Cell::Gru { linear_before_reset: false });
    let resets = if two { Some(kernel.scratch(DType::F32, 2 * net.state())?) } else { None };
    kernel.push(product(&net, cx, sums)?);
    kernel.push(begin(&net, cx, states)?);
    for step in 0..seq {
        if let Some(resets) = resets {
            kernel.push(reset(&net, cx, step, [sums, states, resets])?);
        }
        kernel.push(advance(&net, cx, step, [sums, states], resets, &y)?);
    }
    y.finish(&mut kernel, cx)?;
    for (o, part) in [(1, seq % 2), (2, 2)] {
        if cx.wants(o) {
            kernel.push(end(&net, cx, o, states, part)?);
        }
    }
    Ok(kernel)
}

/// X·Wᵀ + b: [dirs, rows of X, gates · hidden].
fn product(net: &Net<'_>, cx: &Cx<'_>, to: Bind) -> Result<Launch, Reason> {
    let mut shader = Shader::new("");
    shader.read("x", cx.dtype(0)?, Bind::Input(0))?;
    shader.read("w", cx.dtype(1)?, Bind::Input(1))?;
    let mut bias = String::new();
    if cx.opt(3).is_some() {
        shader.read("bias", cx.dtype(3)?, Bind::Input(3))?;
        shader.u32("hidden", net.hidden)?;
        // The reset gate of a GRU is multiplied with the second bias of its hidden gate, too.
        let whole = net.op.cell != (Cell::Gru { linear_before_reset: true });
        let second = "bias_at(b * 2u * p.n + p.n + n)";
        bias = " + bias_at(b * 2u * p.n + n)".to_string();
        match whole {
            true => bias.push_str(&format!(" + {second}")),
            false => bias.push_str(&format!(" + select({second}, 0.0, n >= 2u * p.hidden)")),
        }
    }
    shader.code(&format!(
        "fn a_load(b: u32, m: u32, k: u32) -> f32 {{ return x_at(m * p.k + k); }}
fn b_load(b: u32, k: u32, n: u32) -> f32 {{ return w_at((b * p.n + n) * p.k + k); }}
fn finish(v: f32, b: u32, m: u32, n: u32) -> f32 {{ return v{bias}; }}"
    ));
    shader.write("y", DType::F32, to)?;
    let (m, n) = (net.seq * net.batch, net.gates() * net.hidden);
    gemm::launch(cx, shader, Sizes { batch: net.dirs(), m, n, k: net.input }, Class::Float)
}

/// The states before the first step.
fn begin(net: &Net<'_>, cx: &Cx<'_>, to: Bind) -> Result<Launch, Reason> {
    let mut shader = Shader::new("");
    net.numbers(&mut shader)?;
    let mut text = String::new();
    for (i, part) in [(5, 0), (6, 2)] {
        if let Some(fact) = cx.opt(i) {
            shader.read(&format!("initial{i}"), fact.dtype()?, Bind::Input(i))?;
            let place = net.place();
            text.push_str(&format!(
                "  if (i / p.state == {part}u) {{ return initial{i}_at({place}); }}\n"
            ));
        }
    }
    shader.write("y", DType::F32, to)?;
    shader.code(&format!(
        "fn value(i: u32) -> f32 {{\n  let j = i % p.state;\n{text}  return 0.0;\n}}"
    ));
    shader.elements(3 * net.state(), cx.traits.max_groups)
}

/// What every kernel of a step reads, and where its lane stands: direction `d`, sequence `b`, unit
/// `u`, time `t`, whether the sequence is not over.
fn step_shader(net: &Net<'_>, cx: &Cx<'_>, step: usize, sums: Bind) -> Result<Shader, Reason> {
    let mut shader = Shader::new("");
    if cx.opt(4).is_some() {
        shader.faults();
    }
    net.numbers(&mut shader)?;
    shader.u32("step", step)?;
    // States take turns.
    shader.u32("old", step % 2 * net.state())?;
    shader.u32("into", (step + 1) % 2 * net.state())?;
    shader.read("sums", DType::F32, sums)?;
    shader.read("r", cx.dtype(2)?, Bind::Input(2))?;
    let lens = match cx.opt(4) {
        None => "  return p.seq;",
        Some(_) => {
            shader.read("lens", DType::I32, Bind::Input(4))?;
            "  let n = u32(lens_at(b));
  if (n > p.seq) { fault(); }
  return min(n, p.seq);"
        }
    };
    let reverse = match net.op.direction {
        Direction::Forward => "false",
        Direction::Reverse => "true",
        Direction::Both => "d == 1u",
    };
    let row = match net.op.batch_first {
        false => "t * p.batch + b",
        true => "b * p.seq + t",
    };
    shader.code(&format!(
        "fn steps_of(b: u32) -> u32 {{
{lens}
}}
fn time(d: u32, b: u32) -> u32 {{
  let len = steps_of(b);
  if (p.step >= len) {{ return p.step; }}
  return select(p.step, len - 1u - p.step, {reverse});
}}
fn sum_of(d: u32, b: u32, t: u32, gate: u32, u: u32) -> f32 {{
  let row = d * p.seq * p.batch + {row};
  return sums_at((row * p.gates + gate) * p.hidden + u);
}}"
    ));
    Ok(shader)
}

/// A function: Σ h · R for a gate, where h is what `source` holds from `start` on.
fn dot(shader: &mut Shader, name: &str, source: &str) {
    shader.code(&format!(
        "fn {name}(d: u32, b: u32, gate: u32, u: u32) -> f32 {{
  let h = (d * p.batch + b) * p.hidden;
  let at = ((d * p.gates + gate) * p.hidden + u) * p.hidden;
  var sum = 0.0;
  for (var k = 0u; k < p.hidden; k += 1u) {{ sum = fma({source}, r_at(at + k), sum); }}
  return sum;
}}"
    ));
}

/// The gate functions of both directions, by name, with the clip before them.
fn gates(net: &Net<'_>, shader: &mut Shader) {
    let count = net.op.activations(0).len();
    for k in 0..count {
        let f = |d: usize| gate(net.op.activations(d)[k]);
        let body = match net.dirs() {
            1 => f(0),
            _ => format!("select({}, {}, d == 1u)", f(0), f(1)),
        };
        let clipped = match net.op.clip {
            Some(clip) => format!("clamp(v, -({c}), {c})", c = literal(clip)),
            None => "v".to_string(),
        };
        shader.code(&format!(
            "fn gate{k}(d: u32, v: f32) -> f32 {{\n  let x = {clipped};\n  return {body};\n}}"
        ));
    }
}

fn gate(f: GateFn) -> String {
    match f {
        GateFn::Relu => "max_f(x, 0.0)".into(),
        GateFn::Tanh => "tanh_f(x)".into(),
        GateFn::Sigmoid => "sigmoid(x)".into(),
        GateFn::Affine(a, b) => format!("({} * x + {})", literal(a), literal(b)),
        GateFn::LeakyRelu(a) => format!("select(x, {} * x, x < 0.0)", literal(a)),
        GateFn::ThresholdedRelu(a) => format!("select(x, 0.0, x < {})", literal(a)),
        GateFn::ScaledTanh(a, b) => format!("{} * tanh_f({} * x)", literal(a), literal(b)),
        GateFn::HardSigmoid(a, b) => {
            format!("clamp({} * x + {}, 0.0, 1.0)", literal(a), literal(b))
        }
        GateFn::Elu(a) => format!("select(x, {} * expm1(x), x < 0.0)", literal(a)),
        GateFn::Softsign => "x / (1.0 + abs(x))".into(),
        GateFn::Softplus => "softplus(x)".into(),
    }
}

/// The update gate and r ∘ h of a GRU whose reset gate comes before the product.
fn reset(
    net: &Net<'_>,
    cx: &Cx<'_>,
    step: usize,
    [sums, states, resets]: [Bind; 3],
) -> Result<Launch, Reason> {
    let mut shader = step_shader(net, cx, step, sums)?;
    shader.read("states", DType::F32, states)?;
    shader.write("resets", DType::F32, resets)?;
    dot(&mut shader, "recurrent", "states_at(p.old + h + k)");
    gates(net, &mut shader);
    shader.code(
        "fn unit(d: u32, b: u32, u: u32, j: u32) {
  let t = time(d, b);
  resets[j] = gate0(d, sum_of(d, b, t, 0u, u) + recurrent(d, b, 0u, u));
  let reset = gate0(d, sum_of(d, b, t, 1u, u) + recurrent(d, b, 1u, u));
  resets[p.state + j] = reset * states_at(p.old + j);
}",
    );
    units(net, cx, shader)
}

/// One step: the next states, and y.
fn advance(
    net: &Net<'_>,
    cx: &Cx<'_>,
    step: usize,
    [sums, states]: [Bind; 2],
    resets: Option<Bind>,
    y: &Target,
) -> Result<Launch, Reason> {
    let mut shader = step_shader(net, cx, step, sums)?;
    if let Some(resets) = resets {
        shader.read("resets", DType::F32, resets)?;
        dot(&mut shader, "recurrent_reset", "resets_at(p.state + h + k)");
    }
    dot(&mut shader, "recurrent", "states[p.old + h + k]");
    gates(net, &mut shader);
    let body = cell(net, cx, &mut shader)?;
    shader.write("states", DType::F32, states)?;
    shader.write("y", y.dtype, y.bind)?;
    let place = match net.op.batch_first {
        false => "((t * p.dirs + d) * p.batch + b) * p.hidden + u",
        true => "((b * p.seq + t) * p.dirs + d) * p.hidden + u",
    };
    shader.code(&format!(
        "fn unit(d: u32, b: u32, u: u32, j: u32) {{
  let t = time(d, b);
  let before = states[p.old + j];
  if (p.step >= steps_of(b)) {{
    states[p.into + j] = before;
    y[{place}] = 0.0;
    return;
  }}
{body}
  states[p.into + j] = h;
  y[{place}] = h;
}}"
    ));
    units(net, cx, shader)
}

/// Lines that make `h` of the sums, the state `before`, and c.
fn cell(net: &Net<'_>, cx: &Cx<'_>, shader: &mut Shader) -> Result<String, Reason> {
    let sum = |g: usize| format!("sum_of(d, b, t, {g}u, u) + recurrent(d, b, {g}u, u)");
    Ok(match net.op.cell {
        Cell::Rnn => format!("  let h = gate0(d, {});", sum(0)),
        Cell::Gru { linear_before_reset: false } => "  let z = resets_at(j);
  let x = gate1(d, sum_of(d, b, t, 2u, u) + recurrent_reset(d, b, 2u, u));
  let h = (1.0 - z) * x + z * before;"
            .to_string(),
        Cell::Gru { linear_before_reset: true } => {
            let mut bias = "0.0".to_string();
            if cx.opt(3).is_some() {
                shader.read("bias", cx.dtype(3)?, Bind::Input(3))?;
                bias = "bias_at((d * 6u + 5u) * p.hidden + u)".to_string();
            }
            format!(
                "  let z = gate0(d, {});
  let reset = gate0(d, {});
  let x = gate1(d, sum_of(d, b, t, 2u, u) + reset * (recurrent(d, b, 2u, u) + {bias}));
  let h = (1.0 - z) * x + z * before;",
                sum(0),
                sum(1)
            )
        }
        Cell::Lstm { input_forget } => lstm(cx, shader, input_forget, sum)?,
    })
}

/// The lines of an LSTM; `sum(g)` is what gate `g` is a function of.
fn lstm(
    cx: &Cx<'_>,
    shader: &mut Shader,
    input_forget: bool,
    sum: impl Fn(usize) -> String,
) -> Result<String, Reason> {
    let peephole = cx.opt(7).is_some();
    if peephole {
        shader.read("peepholes", cx.dtype(7)?, Bind::Input(7))?;
    }
    let seen = |k: usize, c: &str| match peephole {
        true => format!(" + peepholes_at((d * 3u + {k}u) * p.hidden + u) * {c}"),
        false => String::new(),
    };
    let forget = match input_forget {
        true => "1.0 - i".to_string(),
        false => format!("gate0(d, {}{})", sum(2), seen(2, "was")),
    };
    Ok(format!(
        "  let was = states[2u * p.state + j];
  let i = gate0(d, {}{});
  let f = {forget};
  let c = f * was + i * gate1(d, {});
  states[2u * p.state + j] = c;
  let o = gate0(d, {}{});
  let h = o * gate2(d, c);",
        sum(0),
        seen(0, "was"),
        sum(3),
        sum(1),
        seen(1, "c")
    ))
}

/// Ends a kernel that defines `unit(d, b, u, j)`: a lane for each unit of each sequence.
fn units(net: &Net<'_>, cx: &Cx<'_>, mut shader: Shader) -> Result<Launch, Reason> {
    shader.code(&format!(
        "@compute @workgroup_size({LANES})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) n: vec3<u32>) {{
  let j = id.x + id.y * n.x * {LANES}u;
  if (j < p.state) {{
    unit(j / p.hidden / p.batch, j / p.hidden % p.batch, j % p.hidden, j);
  }}
}}"
    ));
    Ok(shader.launch(grid(net.state().div_ceil(LANES), cx.traits.max_groups)?))
}

/// Output `o`: a part of the states in the model's order.
fn end(net: &Net<'_>, cx: &Cx<'_>, o: usize, states: Bind, part: usize) -> Result<Launch, Reason> {
    let mut shader = Shader::new("");
    net.numbers(&mut shader)?;
    shader.u32("part", part * net.state())?;
    shader.read("states", DType::F32, states)?;
    shader.write("y", cx.out_dtype(o)?, Bind::Output(o))?;
    let place = match net.op.batch_first {
        false => "i",
        true => {
            "((i / p.hidden % p.dirs) * p.batch + i / p.hidden / p.dirs) * p.hidden + i % p.hidden"
        }
    };
    shader.code(&format!("fn value(i: u32) -> f32 {{ return states_at(p.part + {place}); }}"));
    shader.elements(net.state(), cx.traits.max_groups)
}

/// Whether networks of this dtype run on the GPU.
pub(super) fn supports(op: &Recurrent, dtype: DType) -> Result<(), Reason> {
    match Class::of(dtype)? {
        Class::Float if !op.rounded_state => Ok(()),
        _ => Err(unsupported!("a recurrent network of {dtype} on the GPU")),
    }
}
