//! Operators of ONNX Runtime's domain com.microsoft, and its spellings in ai.onnx.
//!
//! Most of them are what its optimizer makes of ONNX's operators, and become these again.

pub(super) mod attention;
pub(super) mod experts;
pub(super) mod gates;
pub(super) mod gelu;
pub(super) mod group_query;
mod heads;
pub(super) mod legacy;
pub(super) mod moves;
pub(super) mod norm;
pub(super) mod product;
pub(super) mod rotary;
pub(super) mod sparse;
pub(super) mod streams;
pub(super) mod words;

#[cfg(test)]
mod tests {
    use crate::onnx::parse;

    /// The facts of the outputs, as far as they are known before a run; or why there is no graph.
    fn made(text: &str) -> Vec<String> {
        match parse(text) {
            Ok(graph) => graph.outputs().iter().map(|&v| graph.fact(v).to_string()).collect(),
            Err(reason) => vec![reason.to_string()],
        }
    }

    #[test]
    fn attention_keeps_its_symbols() {
        let text = "q: float[b, s, 32]; k: float[b, t, 32]; m: int32[b, t]; \
             y, pk, pv = com.microsoft.MultiHeadAttention<num_heads = 4>(q, k, k, _, m); → y, pk";
        assert_eq!(made(text), ["float[b, s, 32]", "float[b, 4, t, 8]"]);
        let text = "x: float[b, s, 6]; w: float[6, 24] = 1; c: float[24] = 0; m: int32[b]; \
             y, p = com.microsoft.Attention<num_heads = 2, unidirectional = 1>(x, w, c, m); → y, p";
        assert_eq!(made(text), ["float[b, s, 8]", "float[2, b, 2, s, 4]"]);
    }

    #[test]
    fn a_cache_grows_as_far_as_it_must() {
        let gqa = |total: i64| {
            format!(
                "q: float[2, 1, 32]; k: float[2, 1, 16]; c: float[2, 2, 5, 8]; l: int32[2]; \
                 n: int32 = {total}; y, pk, pv = com.microsoft.GroupQueryAttention<num_heads = 4, \
                 kv_num_heads = 2>(q, k, k, c, c, l, n); → y, pk"
            )
        };
        assert_eq!(made(&gqa(4)), ["float[2, 1, 32]", "float[2, 2, 5, 8]"]);
        assert_eq!(made(&gqa(6)), ["float[2, 1, 32]", "float[2, 2, 6, 8]"]);
    }

    #[test]
    fn norms_give_their_sums() {
        let text = "x: float16[b, s, 8]; g: float16[8] = 1; y, m, i, z = \
             com.microsoft.SkipSimplifiedLayerNormalization(x, x, g); → y, i, z";
        let all = "float16[b, s, 8]";
        assert_eq!(made(text), [all, "float[b, s, 1]", all]);
    }

    #[test]
    fn windows_are_counted() {
        let text = "x: float[n, 8]; y = com.microsoft.UnfoldTensor<size = 3, step = 2>(x); → y";
        assert_eq!(made(text), ["float[n, 3, 3]"]);
    }

    #[test]
    fn experts_keep_the_shape_of_tokens() {
        let text = "x: float16[b, s, 8]; r: float16[t, 4]; w: uint8[4, 6, 4] = 1; \
             s: float16[4, 6] = 1; v: uint8[4, 8, 3] = 1; u: float16[4, 8] = 1; \
             y = com.microsoft.QMoE<k = 2>(x, r, w, s, _, v, u); → y";
        assert_eq!(made(text), ["float16[b, s, 8]"]);
    }

    #[test]
    fn what_is_not_computed_says_so() {
        let text = "x: float[2, 8]; r: float[2, 4]; w: float[4, 6, 8] = 1; v: float[4, 8, 6] = 1; \
             y = com.microsoft.MoE<k = 2, use_sparse_mixer = 1>(x, r, w, _, v); → y";
        assert!(made(text)[0].contains("a sparse mixer"), "{:?}", made(text));
        let text = "x: float[1]; y = Affine(x); → y";
        assert!(made(text)[0].contains("ends with opset 9"), "{:?}", made(text));
        let text = "x: float[1, 2, 6]; w: float[6, 24] = 1; \
             y = com.microsoft.Attention<num_heads = 2, do_rotary = 1>(x, w); → y";
        assert!(made(text)[0].contains("rotary positions"), "{:?}", made(text));
        let text = "a: float[2, 3]; \
             y = com.microsoft.CDist<metric = \"cosine\">(a, a); → y";
        assert!(made(text)[0].contains("the metric \"cosine\""), "{:?}", made(text));
    }
}
