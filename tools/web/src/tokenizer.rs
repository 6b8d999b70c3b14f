//! WordPiece, as BERT and its kin cut text (`BasicTokenizer` and `WordpieceTokenizer` of
//! google-research/bert): clean, lower case, cut at spaces and punctuation, then the longest
//! pieces that the vocabulary has.

use std::collections::HashMap;

use js_sys::{JsString, RegExp};
use rinfer::graph::invalid;
use wasm_bindgen::prelude::*;

use crate::fault;

/// Letters of a word beyond which it is unknown.
const LONGEST: usize = 100;

/// The blocks of Chinese characters, each of which is a word.
const CHINESE: &str = concat!(
    r"[\u{4e00}-\u{9fff}\u{3400}-\u{4dbf}\u{20000}-\u{2a6df}",
    r"\u{2a700}-\u{2ceaf}\u{f900}-\u{faff}\u{2f800}-\u{2fa1f}]"
);

/// The text with every match of a pattern replaced.
fn replaced(text: &JsString, pattern: &str, by: &str) -> JsString {
    text.replace_by_pattern(&RegExp::new(pattern, "gu"), by)
}

/// A vocabulary and how text is cut with it.
#[wasm_bindgen]
pub struct WordPiece {
    ids: HashMap<String, u32>,
    lower: bool,
    unknown: u32,
    begin: u32,
    end: u32,
}

#[wasm_bindgen]
impl WordPiece {
    /// `vocabulary`: a piece a line, numbered from 0 (`vocab.txt`). Text becomes lower case without
    /// accents if `lower`.
    #[wasm_bindgen(constructor)]
    pub fn new(vocabulary: &str, lower: bool) -> Result<WordPiece, JsValue> {
        let ids: HashMap<String, u32> =
            vocabulary.lines().zip(0..).map(|(piece, id)| (piece.trim_end().into(), id)).collect();
        let id = |piece: &str| {
            let missing = || fault::reason(invalid!("the vocabulary has no {piece}"));
            ids.get(piece).copied().ok_or_else(missing)
        };
        let (unknown, begin, end) = (id("[UNK]")?, id("[CLS]")?, id("[SEP]")?);
        Ok(WordPiece { ids, lower, unknown, begin, end })
    }

    /// The numbers of the text's pieces between `[CLS]` and `[SEP]`, at most `most` in all.
    pub fn encode(&self, text: &str, most: usize) -> Vec<u32> {
        let mut ids = vec![self.begin];
        for word in self.prepared(text).split_whitespace() {
            self.pieces(word, &mut ids);
        }
        ids.truncate(most.max(2) - 1);
        ids.push(self.end);
        ids
    }
}

impl WordPiece {
    /// The text with spaces between what are words of their own. JavaScript knows Unicode's
    /// categories: no tables are needed here.
    fn prepared(&self, text: &str) -> String {
        let text = if self.lower { text.to_lowercase() } else { text.to_string() };
        let mut text = replaced(&JsString::from(text), r"\u{fffd}|(?![\t\n\r])\p{C}", "");
        if self.lower {
            text = replaced(&text.normalize("NFD"), r"\p{Mn}", "");
        }
        text = replaced(&text, r"[\p{P}$+<=>^`|~]", " $& ");
        replaced(&text, CHINESE, " $& ").into()
    }

    fn pieces(&self, word: &str, ids: &mut Vec<u32>) {
        let letters: Vec<usize> = word.char_indices().map(|(i, _)| i).chain([word.len()]).collect();
        let first = ids.len();
        let mut start = 0;
        while start + 1 < letters.len() && letters.len() <= LONGEST + 1 {
            let longest = (start + 1..letters.len()).rev().find_map(|end| {
                let piece = &word[letters[start]..letters[end]];
                let id = match start {
                    0 => self.ids.get(piece),
                    _ => self.ids.get(&format!("##{piece}")),
                };
                id.map(|&id| (end, id))
            });
            let Some((end, id)) = longest else { break };
            ids.push(id);
            start = end;
        }
        if start + 1 < letters.len() {
            ids.truncate(first);
            ids.push(self.unknown);
        }
    }
}
