//! DepthToSpace and SpaceToDepth: the six axes of blocks and pixels in another order.
use rinfer_graph::ops::{BlocksTo, DepthOrder, SpaceDepth};
use rinfer_graph::{Reason, invalid};

use super::copy::Copy;
use crate::kernel::{Cx, Kernel};

pub(super) fn compile(op: &SpaceDepth, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (sizes, out, b) = (cx.sizes(0)?, cx.out_sizes(0)?, op.blocksize);
    let (&[n, _, h, w], &[_, c, _, _]) = (&sizes[..], &out[..]) else {
        return Err(invalid!("rank {} is not 4", sizes.len()));
    };
    let (x, perm) = match (op.to, op.order) {
        (BlocksTo::Space, DepthOrder::BlockFirst) => ([n, b, b, c, h, w], [0, 3, 4, 1, 5, 2]),
        (BlocksTo::Space, DepthOrder::ChannelFirst) => ([n, c, b, b, h, w], [0, 1, 4, 2, 5, 3]),
        (BlocksTo::Depth, order) => {
            let x = [n, sizes[1], h / b, b, w / b, b];
            match order {
                DepthOrder::BlockFirst => (x, [0, 3, 5, 1, 2, 4]),
                DepthOrder::ChannelFirst => (x, [0, 1, 3, 5, 2, 4]),
            }
        }
    };
    Copy::permuted(&x, &perm)?.kernel(cx.isa, cx.dtype(0)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run1;
    use crate::simd::Isa;
    use rinfer_graph::Tensor;

    #[test]
    fn depth_to_space_undoes_space_to_depth() {
        let x = Tensor::from_slice(&[1, 2, 4, 6], &(0..48).collect::<Vec<i32>>());
        for order in [DepthOrder::BlockFirst, DepthOrder::ChannelFirst] {
            let op = |to| SpaceDepth { to, order, blocksize: 2 };
            let deep = run1(Isa::best(), op(BlocksTo::Depth), &[x.clone()]).unwrap();
            assert_eq!(deep.shape(), [1, 8, 2, 3]);
            let second = if order == DepthOrder::BlockFirst { 24 } else { 1 };
            assert_eq!(deep.as_slice::<i32>()[6], second);
            let back = run1(Isa::best(), op(BlocksTo::Space), &[deep]).unwrap();
            assert_eq!(back, x);
        }
    }
}
