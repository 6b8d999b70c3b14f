//! Strings, and counts of n-grams.

use super::node::{NodeOut, flag, floats, int, ints, sizes, string, strings};
use crate::Reason;
use crate::ops::{CaseChange, NgramPool, StringOp, TfIdfVectorizer, Weighting};

pub(super) fn string_op(op: &StringOp, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    match op {
        StringOp::Concat => out.plain("StringConcat", vec![]),
        StringOp::Normalize { change, case_sensitive, stopwords } => {
            let change = match change {
                CaseChange::None => "NONE",
                CaseChange::Lower => "LOWER",
                CaseChange::Upper => "UPPER",
            };
            let mut attrs = vec![string("case_change_action", change)];
            attrs.push(flag("is_case_sensitive", *case_sensitive));
            if !stopwords.is_empty() {
                attrs.push(strings("stopwords", &borrowed(stopwords)));
            }
            out.plain("StringNormalizer", attrs)
        }
        StringOp::Split { delimiter, most } => {
            let mut attrs = vec![string("delimiter", delimiter)];
            attrs.extend(most.map(|n| int("maxsplit", n as i64)));
            out.plain("StringSplit", attrs)
        }
        StringOp::FullMatch { pattern } => {
            out.plain("RegexFullMatch", vec![string("pattern", pattern)])
        }
    }
}

fn borrowed(texts: &[String]) -> Vec<&str> {
    texts.iter().map(|s| &**s).collect()
}

pub(super) fn tf_idf(op: &TfIdfVectorizer, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let mode = match op.weighting {
        Weighting::Tf => "TF",
        Weighting::Idf => "IDF",
        Weighting::TfIdf => "TFIDF",
    };
    let mut attrs = vec![
        string("mode", mode),
        int("min_gram_length", op.min_length as i64),
        int("max_gram_length", op.max_length as i64),
        int("max_skip_count", op.max_skip as i64),
        sizes("ngram_counts", &op.starts),
        sizes("ngram_indexes", &op.columns),
    ];
    attrs.push(match &op.pool {
        NgramPool::Ints(items) => ints("pool_int64s", items),
        NgramPool::Texts(items) => strings("pool_strings", &borrowed(items)),
    });
    if !op.weights.is_empty() {
        attrs.push(floats("weights", &op.weights));
    }
    out.plain("TfIdfVectorizer", attrs)
}
