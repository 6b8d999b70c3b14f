//! Every sum of products: MatMul, convolutions and attention differ in how they load and store.
//!
//! The caller's shader defines `a_load(b, m, k)`, `b_load(b, k, n)` and `finish(v, b, m, n)`; the
//! result stands at `(b · m + row) · n + column` of `y`.

use rinfer_graph::{Kind, Reason};

use crate::kernel::Cx;
use crate::shader::{Class, Launch, Shader};
use crate::tune::Product;

/// The sizes of a batch of products.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub batch: usize,
    pub m: usize,
    pub n: usize,
    pub k: usize,
}

/// Ends a shader that loads and stores: picks how the products are shared among lanes.
pub(super) fn launch(
    cx: &Cx<'_>,
    shader: Shader,
    sizes: Sizes,
    class: Class,
) -> Result<Launch, Reason> {
    launch_at(cx, shader, sizes, class, "(b * p.m + m) * p.n + n")
}

/// The same, for a result whose elements stand at `place`.
pub(super) fn launch_at(
    cx: &Cx<'_>,
    mut shader: Shader,
    sizes: Sizes,
    class: Class,
    place: &str,
) -> Result<Launch, Reason> {
    let Sizes { batch, m, n, k } = sizes;
    shader.u32("m", m)?;
    shader.u32("n", n)?;
    shader.u32("k", k)?;
    let ty = class.wgsl();
    let mad = if class == Class::Float { "fma(vec4<T>(a), b, c)" } else { "a * b + c" };
    shader.code(&format!(
        "alias T = {ty};
fn mad(a: T, b: vec4<T>, c: vec4<T>) -> vec4<T> {{ return {mad}; }}
fn put(b: u32, m: u32, n: u32, v: T) {{ y_put({place}, finish(v, b, m, n)); }}
fn store(b: u32, m: u32, n: u32, v: vec4<T>) {{
  if (m >= p.m) {{ return; }}
  if (n < p.n) {{ put(b, m, n, v.x); }}
  if (n + 1u < p.n) {{ put(b, m, n + 1u, v.y); }}
  if (n + 2u < p.n) {{ put(b, m, n + 2u, v.z); }}
  if (n + 3u < p.n) {{ put(b, m, n + 3u, v.w); }}
}}"
    ));
    let (columns, rows) = (n.div_ceil(64), |of: usize| m.div_ceil(of));
    let (file, grid) = match cx.traits.tuning.product(m) {
        Product::Lane => (include_str!("gemm_lane.wgsl"), [columns, rows(32), batch]),
        Product::Row => (include_str!("gemm_row.wgsl"), [columns, m, batch]),
        Product::Tile => (include_str!("gemm_tile.wgsl"), [columns, rows(64), batch]),
    };
    shader.code(file);
    if let Some(&groups) = grid.iter().find(|&&g| g > cx.traits.max_groups as usize) {
        let text = format!(
            "{batch} products of {m} x {k} and {k} x {n}: {groups} workgroups along one axis"
        );
        return Err(Reason::new(Kind::Limit, text));
    }
    Ok(shader.launch(grid.map(|g| g.max(1) as u32)))
}
