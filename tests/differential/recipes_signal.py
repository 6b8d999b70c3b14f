"""How nodes of signals and of strings are drawn."""
import numpy as np

from draw import NAMES
from recipes import recipe


@recipe("HannWindow", "HammingWindow", "BlackmanWindow")
def cosine_window(d):
    attrs = {"periodic": d.int(0, 1)} if d.chance(0.5) else {}
    if d.chance(0.3):
        attrs["output_datatype"] = d.ty("T2", ("float", "double"))
    return {"size": np.array(d.int(2, 20), d.ty("T1"))}, attrs


@recipe("DFT")
def dft(d):
    dtype = d.ty("T1")
    shape = d.positive(1, 3) + [d.of([1, 2])]
    shape[0] = max(shape[0], 2)
    rank = len(shape)
    axis = d.int(0, rank - 2)
    inputs, attrs = {"input": d.values(shape, dtype, -3, 3)}, {}
    if d.chance(0.4):
        inputs["dft_length"] = np.array(d.int(1, 9), np.int64)
    if d.opset >= 20:
        inputs["axis"] = np.array(axis - (rank if d.chance(0.4) else 0), np.int64)
    else:
        attrs["axis"] = axis
    if shape[-1] == 1 and d.chance(0.5):
        attrs["onesided"] = 1
    elif d.chance(0.5):
        attrs["inverse"] = 1
    return inputs, attrs


@recipe("STFT")
def stft(d):
    dtype = d.ty("T1")
    n, w = d.int(8, 30), d.int(2, 8)
    inputs = {"signal": d.values([d.int(1, 2), n, 1], dtype, -3, 3),
              "frame_step": np.array(d.int(1, 5), d.ty("T2"))}
    if d.chance(0.6):
        inputs["window"] = d.values([w], dtype, 0, 1)
    inputs["frame_length"] = np.array(w, d.ty("T2"))
    return inputs, {"onesided": d.int(0, 1)} if d.chance(0.5) else {}


@recipe("MelWeightMatrix")
def mel(d):
    ti, tf = d.ty("T1"), d.ty("T2", ("float", "double"))
    return {"num_mel_bins": np.array(d.int(2, 6), ti), "dft_length": np.array(64, ti),
            "sample_rate": np.array(8000, ti), "lower_edge_hertz": np.array(0, tf),
            "upper_edge_hertz": np.array(4000, tf)}, {}


@recipe("StringNormalizer")
def string_normalizer(d):
    x = d.values([d.int(1, 6)], np.object_)
    attrs = {"case_change_action": d.of(["LOWER", "UPPER", "NONE"]),
             "is_case_sensitive": d.int(0, 1)}
    if d.chance(0.6):
        attrs["stopwords"] = ["a", "Ab", "vu"]
    return {"X": x}, attrs


@recipe("StringSplit")
def string_split(d):
    attrs = {"delimiter": d.of(["a", " ", "@", "."])} if d.chance(0.6) else {}
    if d.chance(0.4):
        attrs["maxsplit"] = d.int(1, 2)
    return {"X": d.values(d.shape(0, 2), np.object_)}, attrs, 2


@recipe("RegexFullMatch")
def regex(d):
    return {"X": d.values(d.shape(0, 2), np.object_)}, {
        "pattern": d.of(["a+", ".*", "[a-z]*\\d", "(a|b)", "\\w+"])}


@recipe("TfIdfVectorizer")
def tf_idf(d):
    attrs = {"mode": d.of(["TF", "IDF", "TFIDF"]), "min_gram_length": 1, "max_gram_length": 2,
             "max_skip_count": d.int(0, 2), "ngram_counts": [0, 3],
             "ngram_indexes": [0, 1, 2, 3, 4], "pool_int64s": [1, 2, 3, 1, 2, 3, 1]}
    if d.chance(0.5):
        attrs["weights"] = [0.5, 2.0, 1.0, 3.0, 0.25]
    return {"X": d.values(d.positive(1, 2), d.ty("T", ("int32", "int64")), 0, 4)}, attrs
