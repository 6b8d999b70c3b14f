//! Text as the numbers a language model reads: token ids, mask, segments, by a `tokenizer.json`.
//!
//! The file's lines are the batch: [lines, longest line]; shorter lines are padded.

use std::path::Path;

use rinfer::{DType, Tensor, Value};
use tokenizers::{PaddingStrategy, Tokenizer};

/// Which of a tokenizer's outputs an input takes, by its name.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Ids,
    Mask,
    Segments,
}

impl Part {
    /// `attention_mask`, `token_type_ids` and names like them; everything else takes the ids.
    fn of(input: &str) -> Part {
        let name = input.to_lowercase();
        match () {
            () if name.contains("mask") => Part::Mask,
            () if name.contains("type") || name.contains("segment") => Part::Segments,
            () => Part::Ids,
        }
    }
}

/// Reads a text for the input of this name.
///
/// `sizes` is the input's shape with `None` for sizes that are not fixed: lines are cut to the
/// length of its last axis, and padded to it.
pub fn decode(
    bytes: &[u8],
    tokenizer: &Path,
    input: &str,
    dtype: DType,
    sizes: &[Option<usize>],
) -> Result<Value, String> {
    let text = std::str::from_utf8(bytes).map_err(|e| format!("no UTF-8: {e}"))?;
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    let length = match sizes {
        [_, length] => *length,
        _ => return Err(format!("a text for an input of rank {}, not 2", sizes.len())),
    };
    if let [Some(batch), _] = sizes
        && *batch != lines.len()
    {
        return Err(format!("{} lines for an input with {batch} rows", lines.len()));
    }
    let tokenizer = load(tokenizer, length)?;
    let encoded = tokenizer.encode_batch(lines, true).map_err(|e| e.to_string())?;
    let (rows, columns) = (encoded.len(), encoded.first().map_or(0, |e| e.len()));
    let part = Part::of(input);
    let numbers = encoded.iter().flat_map(|e| match part {
        Part::Ids => e.get_ids(),
        Part::Mask => e.get_attention_mask(),
        Part::Segments => e.get_type_ids(),
    });
    let shape = [rows, columns];
    match dtype {
        DType::I64 => {
            let numbers: Vec<i64> = numbers.map(|&n| n.into()).collect();
            Tensor::try_from_slice(&shape, &numbers)
        }
        DType::I32 => {
            let numbers: Result<Vec<i32>, _> = numbers.map(|&n| i32::try_from(n)).collect();
            let numbers = numbers.map_err(|_| "a token beyond int32".to_string())?;
            Tensor::try_from_slice(&shape, &numbers)
        }
        DType::F32 => {
            let numbers: Vec<f32> = numbers.map(|&n| n as f32).collect();
            Tensor::try_from_slice(&shape, &numbers)
        }
        other => return Err(format!("a text for an input of {other}")),
    }
    .map(Value::from)
    .map_err(|e| e.to_string())
}

/// The tokenizer, cutting and padding to `length`, or padding to the longest line.
fn load(path: &Path, length: Option<usize>) -> Result<Tokenizer, String> {
    let bytes = super::read(path).map_err(|e| e.to_string())?;
    let mut tokenizer = Tokenizer::from_bytes(bytes)
        .map_err(|e| format!("{} is no tokenizer: {e}", path.display()))?;
    let mut padding = tokenizer.get_padding().cloned().unwrap_or_default();
    padding.strategy = match length {
        Some(n) => PaddingStrategy::Fixed(n),
        None => PaddingStrategy::BatchLongest,
    };
    tokenizer.with_padding(Some(padding));
    if let Some(max_length) = length {
        let mut truncation = tokenizer.get_truncation().cloned().unwrap_or_default();
        truncation.max_length = max_length;
        tokenizer.with_truncation(Some(truncation)).map_err(|e| e.to_string())?;
    }
    Ok(tokenizer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tokenizer that knows three words.
    fn words() -> std::path::PathBuf {
        let json = r#"{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "Whitespace"},
            "post_processor": null, "decoder": null,
            "model": {"type": "WordLevel", "vocab": {"[PAD]": 0, "a": 1, "good": 2, "day": 3,
                      "?": 4}, "unk_token": "?"}}"#;
        // Written once: tests run at the same time.
        static FILE: std::sync::OnceLock<std::path::PathBuf> = std::sync::OnceLock::new();
        let write = || {
            let path = std::env::temp_dir().join(format!("tokenizer{}.json", std::process::id()));
            std::fs::write(&path, json).unwrap();
            path
        };
        FILE.get_or_init(write).clone()
    }

    fn ids(input: &str, sizes: &[Option<usize>]) -> Result<(Vec<usize>, Vec<i64>), String> {
        let value = decode(b"A good day\n\nday!\n", &words(), input, DType::I64, sizes)?;
        let t = value.as_tensor().unwrap();
        Ok((t.shape().to_vec(), t.as_slice::<i64>().to_vec()))
    }

    #[test]
    fn lines_become_rows_of_ids_masks_and_segments() {
        let any = [None, None];
        assert_eq!(ids("input_ids", &any), Ok((vec![2, 3], vec![1, 2, 3, 3, 4, 0])));
        assert_eq!(ids("attention_mask", &any), Ok((vec![2, 3], vec![1, 1, 1, 1, 1, 0])));
        assert_eq!(ids("token_type_ids", &any), Ok((vec![2, 3], vec![0; 6])));
    }

    #[test]
    fn fixed_lengths_cut_and_pad() {
        assert_eq!(ids("x", &[None, Some(2)]), Ok((vec![2, 2], vec![1, 2, 3, 4])));
        assert_eq!(ids("x", &[None, Some(4)]), Ok((vec![2, 4], vec![1, 2, 3, 0, 3, 4, 0, 0])));
        assert_eq!(ids("x", &[Some(3), None]), Err("2 lines for an input with 3 rows".into()));
        assert!(ids("x", &[None]).is_err());
    }
}
