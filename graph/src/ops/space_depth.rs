//! DepthToSpace and SpaceToDepth: blocks of pixels to channels and back.
//!
//! x [n, c·b², h, w] ↔ [n, c, h·b, w·b]
use super::{Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::{Dim, Fact, Facts, Reason, invalid};

/// Which way elements go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlocksTo {
    /// Channels become pixels.
    Space,
    /// Pixels become channels.
    Depth,
}

/// How the deep side's channels are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DepthOrder {
    /// DCR: [b, b, c], the place in the block first.
    BlockFirst,
    /// CRD: [c, b, b], the channel first.
    ChannelFirst,
}

/// Blocks of pixels to channels, or back.
#[derive(Clone, Debug, PartialEq)]
pub struct SpaceDepth {
    /// Which way elements go.
    pub to: BlocksTo,
    /// How the deep side's channels are ordered.
    pub order: DepthOrder,
    /// Pixels along one side of a block; at least 1.
    pub blocksize: usize,
}

impl SpaceDepth {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        inputs.check_rank(0, 4)?;
        let Some(shape) = x.shape() else { return one(Fact::ranked(x.dtype()?, 4)) };
        let b = Dim::from(self.blocksize);
        let area = b.mul(&b);
        let part = |dim: &Dim, by: &Dim| match (dim.value(), by.value()) {
            (Some(n), Some(m)) if n % m != 0 => {
                Err(invalid!("size {n} is not a multiple of {m} for blocks of {b}"))
            }
            (_, None) => Err(invalid!("blocks of {b} are too large")),
            _ => Ok(dim.div(by)),
        };
        let (c, h, w) = (&shape[1], &shape[2], &shape[3]);
        let out = match self.to {
            BlocksTo::Space => [part(c, &area)?, h.mul(&b), w.mul(&b)],
            BlocksTo::Depth => [c.mul(&area), part(h, &b)?, part(w, &b)?],
        };
        one(Fact::new(x.dtype()?, std::iter::once(shape[0].clone()).chain(out).collect()))
    }
}

fn import(cx: &mut NodeCx<'_>, to: BlocksTo, moded: bool) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    let blocksize = cx.size("blocksize")?.filter(|&b| b > 0);
    let blocksize = blocksize.ok_or_else(|| invalid!("attribute blocksize is missing or 0"))?;
    let mode = if moded { cx.string("mode")? } else { None };
    let order = match mode.unwrap_or("DCR") {
        "DCR" => DepthOrder::BlockFirst,
        "CRD" => DepthOrder::ChannelFirst,
        other => return Err(invalid!("mode {other:?}")),
    };
    cx.emit(SpaceDepth { to, order, blocksize })
}

pub(super) fn import_to_space(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let moded = cx.version >= 11;
    import(cx, BlocksTo::Space, moded)
}

pub(super) fn import_to_depth(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    let moded = cx.version >= 28;
    import(cx, BlocksTo::Depth, moded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    #[test]
    fn sizes_go_there_and_back() {
        let n = Dim::symbol("n");
        let op = |to| SpaceDepth { to, order: DepthOrder::BlockFirst, blocksize: 2 };
        let x = Fact::new(DType::F32, [n.clone(), Dim::N(3), Dim::N(4), n].into_iter().collect());
        let deep = op(BlocksTo::Depth).infer(&Inputs::new(&[Some(&x)], 1)).unwrap();
        assert_eq!(deep[0].to_string(), "float[n, 12, 2, ?]");
        assert!(op(BlocksTo::Space).infer(&Inputs::new(&[Some(&x)], 1)).is_err());
    }
}
