//! Writes kernels: a WGSL file, the buffers it sees, its numbers, and functions made for it.
//!
//! A file says what a kernel does in terms of names that it does not define: for a buffer `x` that
//! is read, `x_at(i)` gives element `i` in a type to compute with, whatever dtype is stored; for
//! the one that is written, `y_bits(v)` gives the bits of an element; `p.n` is the number `n`. A
//! file that defines `value(i)`, one element of the result, needs no more: [`Shader::elements`]
//! adds what writes all of them, in words of four bytes.
//!
//! Below that stand `x_word(i)` and `y_put(i, v)`, which reach single words. A buffer that is
//! larger than what a kernel may see at once is bound in parts, and only these two know of it.

use std::fmt::Write;

use rinfer_graph::{DType, Kind, Reason, unsupported};

/// A type to compute with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// f32: of f32, f16, bf16.
    Float,
    /// i32: of the signed integers up to 32 bits.
    Int,
    /// u32: of the unsigned integers up to 32 bits.
    Uint,
    /// bool.
    Truth,
    /// vec2<u32>, the low word first: of i64 and u64.
    Wide,
}

impl Class {
    /// The class of a dtype; `Err` if none is exact.
    pub fn of(dtype: DType) -> Result<Class, Reason> {
        use DType::*;
        Ok(match dtype {
            F32 | F16 | BF16 => Class::Float,
            I8 | I16 | I32 => Class::Int,
            U8 | U16 | U32 => Class::Uint,
            Bool => Class::Truth,
            I64 | U64 => Class::Wide,
            _ => return Err(unsupported!("{dtype} on the GPU is not supported")),
        })
    }

    /// Its name in WGSL.
    pub fn wgsl(self) -> &'static str {
        match self {
            Class::Float => "f32",
            Class::Int => "i32",
            Class::Uint => "u32",
            Class::Truth => "bool",
            Class::Wide => "vec2<u32>",
        }
    }
}

/// The unsigned integer of the same width: what moves a dtype without looking at it.
pub(crate) fn raw(dtype: DType) -> Result<DType, Reason> {
    match dtype.size() {
        1 if dtype.bits() == 8 => Ok(DType::U8),
        2 => Ok(DType::U16),
        4 => Ok(DType::U32),
        8 => Ok(DType::U64),
        _ => Err(unsupported!("{dtype} on the GPU is not supported")),
    }
}

/// What a kernel sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Bind {
    /// Input `i` of the node.
    Input(usize),
    /// Output `i` of the node.
    Output(usize),
    /// Memory between kernels of the same node.
    Scratch(usize),
    /// A table that was computed when the node was compiled.
    Table(usize),
    /// Where kernels note the number of a node whose indices are out of range.
    Faults,
}

/// How a kernel reaches a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Read,
    Write,
    Atomic,
}

/// A buffer of a kernel.
#[derive(Clone, Debug)]
struct Buffer {
    name: String,
    element: &'static str,
    access: Access,
}

/// One kernel with what it runs on.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    /// WGSL, complete.
    pub source: String,
    /// Buffers in the order of their bindings, and whether they are written; after them come the
    /// numbers.
    pub binds: Vec<(Bind, bool)>,
    /// The byte at which each of them begins.
    pub offsets: Vec<usize>,
    /// The numbers.
    pub params: Vec<u32>,
    /// Workgroups.
    pub grid: [u32; 3],
    buffers: Vec<Buffer>,
    body: String,
}

/// Whether code, its comments aside, reaches into a buffer by itself.
fn is_indexed(code: &str, name: &str) -> bool {
    let begins = |line: &str, at: usize| {
        let before = line[..at].chars().next_back().unwrap_or(' ');
        !(before.is_alphanumeric() || before == '_')
    };
    code.lines().any(|line| {
        let line = line.split("//").next().unwrap_or("");
        line.match_indices(&format!("{name}[")).any(|(at, _)| begins(line, at))
    })
}

/// What parts of a buffer begin at multiples of, on any GPU.
const PART: usize = 256;

impl Launch {
    /// Binds buffers in parts that hold more than `most` bytes; `sizes` are those of all buffers.
    pub fn spread(&mut self, sizes: &[usize], most: usize) -> Result<(), Reason> {
        let part = most / PART * PART;
        if sizes.iter().all(|&bytes| bytes <= most) || part == 0 {
            return Ok(());
        }
        let parts: Vec<usize> =
            sizes.iter().map(|&n| if n <= most { 1 } else { n.div_ceil(part) }).collect();
        for (k, buffer) in self.buffers.iter().enumerate().filter(|(k, _)| parts[*k] > 1) {
            if buffer.access == Access::Atomic || is_indexed(&self.body, &buffer.name) {
                let bytes = sizes[k];
                let text = format!("a tensor of {bytes} bytes, this kernel sees {most} at once");
                return Err(Reason::new(Kind::Limit, text));
            }
        }
        self.source = source(&self.buffers, &parts, part / 4, &self.body);
        let each = |k: usize| (0..parts[k]).map(move |i| (k, i * part));
        let all: Vec<(usize, usize)> = (0..parts.len()).flat_map(each).collect();
        self.binds = all.iter().map(|&(k, _)| self.binds[k]).collect();
        self.offsets = all.iter().map(|&(_, at)| at).collect();
        Ok(())
    }

    /// Says which node it belongs to, for its faults.
    pub fn numbered(&mut self, node: u32) {
        if self.binds.iter().any(|(bind, _)| *bind == Bind::Faults) {
            // The field `node` is the first that a kernel with faults is given.
            self.params[0] = node;
        }
    }
}

/// Lanes of a workgroup, where a kernel does not say otherwise.
pub(crate) const LANES: usize = 64;

/// A kernel being written.
pub(crate) struct Shader {
    buffers: Vec<Buffer>,
    functions: String,
    fields: String,
    params: Vec<u32>,
    binds: Vec<(Bind, bool)>,
    written: Option<DType>,
}

impl Shader {
    /// From the text of a WGSL file.
    pub fn new(file: &str) -> Shader {
        Shader {
            buffers: Vec::new(),
            functions: file.to_string(),
            fields: String::new(),
            params: Vec::new(),
            binds: Vec::new(),
            written: None,
        }
    }

    fn buffer(&mut self, name: &str, element: &'static str, access: Access, bind: Bind) {
        self.buffers.push(Buffer { name: name.into(), element, access });
        self.binds.push((bind, access != Access::Read));
    }

    /// A buffer that is read: `NAME_at(i)`.
    pub fn read(&mut self, name: &str, dtype: DType, bind: Bind) -> Result<(), Reason> {
        let _ = writeln!(self.functions, "{}", reader(name, dtype)?);
        self.buffer(name, words(dtype), Access::Read, bind);
        Ok(())
    }

    /// The buffer that is written.
    pub fn write(&mut self, name: &str, dtype: DType, bind: Bind) -> Result<(), Reason> {
        let _ = writeln!(self.functions, "{}", bits(name, dtype)?);
        self.buffer(name, words(dtype), Access::Write, bind);
        self.written = Some(dtype);
        Ok(())
    }

    /// A buffer of counters that all lanes may change: `NAME[i]` is an `atomic<u32>`.
    pub fn atomics(&mut self, name: &str, bind: Bind) {
        self.buffer(name, "atomic<u32>", Access::Atomic, bind);
    }

    /// Lets the kernel say `fault()`: the run then ends with an error at this node.
    pub fn faults(&mut self) {
        self.buffer("faults", "atomic<u32>", Access::Atomic, Bind::Faults);
        self.number("node", "u32", 0);
        self.code("fn fault() { atomicMax(&faults[0], p.node); }");
    }

    /// A number that is never negative.
    pub fn u32(&mut self, name: &str, value: usize) -> Result<(), Reason> {
        let value = u32::try_from(value).map_err(|_| {
            Reason::new(Kind::Limit, format!("{name} is {value}, a GPU counts to {}", u32::MAX))
        })?;
        self.number(name, "u32", value);
        Ok(())
    }

    /// A stride or an offset, added modulo 2³².
    pub fn stride(&mut self, name: &str, value: i64) -> Result<(), Reason> {
        let small = i32::try_from(value).map_err(|_| {
            Reason::new(Kind::Limit, format!("a step of {value} elements, a GPU counts to 2^31"))
        })?;
        self.number(name, "u32", small as u32);
        Ok(())
    }

    /// A signed number.
    pub fn i32(&mut self, name: &str, value: i64) -> Result<(), Reason> {
        let small = i32::try_from(value)
            .map_err(|_| Reason::new(Kind::Limit, format!("{name} is {value}")))?;
        self.number(name, "i32", small as u32);
        Ok(())
    }

    /// A float; infinities, too, which WGSL cannot write.
    pub fn f32(&mut self, name: &str, value: f32) {
        self.number(name, "f32", value.to_bits());
    }

    fn number(&mut self, name: &str, ty: &str, bits: u32) {
        let _ = writeln!(self.fields, "  {name}: {ty},");
        self.params.push(bits);
    }

    /// How many numbers there are: a name for the next.
    pub fn count(&self) -> usize {
        self.params.len()
    }

    /// Adds functions.
    pub fn code(&mut self, text: &str) {
        self.functions.push_str(text);
        self.functions.push('\n');
    }

    /// A kernel whose file has an entry point, on these workgroups.
    pub fn launch(mut self, grid: [u32; 3]) -> Launch {
        if self.params.is_empty() {
            self.number("none", "u32", 0);
        }
        let body = format!("struct Params {{\n{}}}\n{}", self.fields, self.functions);
        let source = source(&self.buffers, &vec![1; self.buffers.len()], 0, &body);
        Launch {
            source,
            offsets: vec![0; self.binds.len()],
            binds: self.binds,
            params: self.params,
            grid,
            buffers: self.buffers,
            body,
        }
    }

    /// A kernel whose file defines `value(i)`, for `n` elements.
    pub fn elements(mut self, n: usize, max_groups: u32) -> Result<Launch, Reason> {
        let dtype = self.written.unwrap_or(DType::F32);
        let words = match dtype.size() {
            1 => n.div_ceil(4),
            2 => n.div_ceil(2),
            _ => n,
        };
        self.u32("elements", n)?;
        self.u32("words", words)?;
        let body = match dtype.size() {
            1 => {
                "  var word = 0u;
  for (var k = 0u; k < 4u; k += 1u) {
    if (4u * w + k < p.elements) { word |= y_bits(value(4u * w + k)) << (8u * k); }
  }
  y_put(w, word);"
            }
            2 => {
                "  var word = y_bits(value(2u * w));
  if (2u * w + 1u < p.elements) { word |= y_bits(value(2u * w + 1u)) << 16u; }
  y_put(w, word);"
            }
            8 => "  let v = value(w);\n  y_put(2u * w, v.x);\n  y_put(2u * w + 1u, v.y);",
            _ => "  y_put(w, value(w));",
        };
        let _ = write!(
            self.functions,
            "
@compute @workgroup_size({LANES})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) n: vec3<u32>) {{
  let w = id.x + id.y * n.x * {LANES}u;
  if (w >= p.words) {{ return; }}
{body}
}}
"
        );
        Ok(self.launch(grid(words.div_ceil(LANES), max_groups)?))
    }
}

/// This many workgroups along two axes.
pub(crate) fn grid(groups: usize, max_groups: u32) -> Result<[u32; 3], Reason> {
    let most = max_groups as usize;
    let y = groups.div_ceil(most).max(1);
    if y > most {
        let text = format!("{groups} workgroups are more than the GPU allows in one dispatch");
        return Err(Reason::new(Kind::Limit, text));
    }
    Ok([groups.div_ceil(y).max(1) as u32, y as u32, 1])
}

/// How a dtype's buffer is declared.
fn words(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "f32",
        DType::I32 => "i32",
        _ => "u32",
    }
}

/// The function that reads an element.
fn reader(name: &str, dtype: DType) -> Result<String, Reason> {
    let ty = Class::of(dtype)?.wgsl();
    let half = format!("(({name}_word(i >> 1u) >> ((i & 1u) * 16u)) & 0xffffu)");
    let byte = format!("(({name}_word(i >> 2u) >> ((i & 3u) * 8u)) & 0xffu)");
    let body = match dtype {
        DType::F32 | DType::I32 | DType::U32 => format!("{name}_word(i)"),
        DType::F16 => format!("unpack2x16float({half}).x"),
        DType::BF16 => format!("bitcast<f32>({half} << 16u)"),
        DType::U16 => half,
        DType::I16 => format!("(bitcast<i32>({half} << 16u) >> 16u)"),
        DType::U8 => byte,
        DType::I8 => format!("(bitcast<i32>({byte} << 24u) >> 24u)"),
        DType::Bool => format!("({byte} != 0u)"),
        _ => format!("vec2<u32>({name}_word(2u * i), {name}_word(2u * i + 1u))"),
    };
    Ok(format!("fn {name}_at(i: u32) -> {ty} {{ return {body}; }}"))
}

/// The function that gives an element's bits, where a word holds several.
fn bits(name: &str, dtype: DType) -> Result<String, Reason> {
    let ty = Class::of(dtype)?.wgsl();
    let body = match dtype {
        DType::F16 => "half_bits(v)",
        DType::BF16 => "bfloat_bits(v)",
        DType::U16 => "v & 0xffffu",
        DType::U8 => "v & 0xffu",
        DType::I16 => "bitcast<u32>(v) & 0xffffu",
        DType::I8 => "bitcast<u32>(v) & 0xffu",
        DType::Bool => "select(0u, 1u, v)",
        _ => return Ok(String::new()),
    };
    Ok(format!("fn {name}_bits(v: {ty}) -> u32 {{ return {body}; }}"))
}

/// The text of a kernel: its buffers, each in this many parts of `part` words, and what it does.
fn source(buffers: &[Buffer], parts: &[usize], part: usize, body: &str) -> String {
    let (mut text, mut functions) = (String::new(), String::new());
    let mut binding = 0;
    for (Buffer { name, element, access }, &parts) in buffers.iter().zip(parts) {
        let mode = if *access == Access::Read { "read" } else { "read_write" };
        let mut lines = String::new();
        let (call, done) = match access {
            Access::Read => (format!("fn {name}_word(i: u32) -> {element}"), "return "),
            _ => (format!("fn {name}_put(i: u32, v: {element})"), ""),
        };
        for k in 0..parts {
            let own = if parts == 1 { name.clone() } else { format!("{name}_part{k}") };
            let _ = writeln!(
                text,
                "@group(0) @binding({binding}) var<storage, {mode}> {own}: array<{element}>;"
            );
            binding += 1;
            let at = if k == 0 { "i".into() } else { format!("i - {}u", k * part) };
            let value = if *access == Access::Read { "" } else { " = v" };
            let last = k + 1 == parts;
            let here = format!("{done}{own}[{at}]{value};");
            let _ = match (last, access) {
                (true, _) => write!(lines, " {here}"),
                (_, Access::Read) => write!(lines, " if (i < {}u) {{ {here} }}", (k + 1) * part),
                _ => write!(lines, " if (i < {}u) {{ {here} return; }}", (k + 1) * part),
            };
        }
        let used = *access == Access::Read || body.contains(&format!("{name}_put("));
        if *access != Access::Atomic && used {
            let _ = writeln!(functions, "{call} {{{lines} }}");
        }
    }
    let _ = writeln!(text, "@group(0) @binding({binding}) var<uniform> p: Params;");
    text.push_str(body);
    text.push_str(&functions);
    let library = library(&text);
    text + &library
}

/// The functions of `shared.wgsl` that a source calls, and those that they call.
fn library(source: &str) -> String {
    let all: Vec<(&str, &str)> = concat!(include_str!("shared.wgsl"), "\n")
        .split("\nfn ")
        .skip(1)
        .filter_map(|f| Some((f.split_once('(')?.0, f.split("\n\n").next()?)))
        .collect();
    let calls = |text: &str, name: &str| {
        text.match_indices(name).any(|(at, _)| {
            let before = text[..at].chars().next_back().unwrap_or(' ');
            let boundary = !(before.is_alphanumeric() || before == '_');
            boundary && text[at + name.len()..].starts_with('(')
        })
    };
    let mut taken = vec![false; all.len()];
    let mut text = String::new();
    loop {
        let before = text.len();
        for (i, (name, body)) in all.iter().enumerate() {
            if !taken[i] && (calls(source, name) || calls(&text, name)) {
                taken[i] = true;
                text.push_str("\nfn ");
                text.push_str(body);
                text.push('\n');
            }
        }
        if text.len() == before {
            return text;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_workgroups_take_two_axes() {
        assert_eq!(grid(10, 65535).unwrap(), [10, 1, 1]);
        let [x, y, _] = grid(70_000, 65535).unwrap();
        assert!(x as usize * y as usize >= 70_000 && x <= 65535);
        assert!(grid(usize::MAX / 2, 65535).is_err());
    }

    #[test]
    fn comments_do_not_reach_into_buffers() {
        assert!(is_indexed("  let v = y[i];", "y"));
        assert!(!is_indexed("// y[b] = 1\nlet v = x_y[i];", "y"));
    }

    #[test]
    fn only_what_is_called_is_added() {
        let text = library("fn value(i: u32) -> f32 { return gelu(x_at(i)); }");
        assert!(text.contains("fn gelu(") && text.contains("fn erf("));
        assert!(!text.contains("fn half_bits("));
    }
}
