//! Strings joined, cleaned, split and matched.
use regex::{Regex, RegexBuilder};
use rinfer_graph::backend::RunCx;
use rinfer_graph::ops::{CaseChange, StringOp};
use rinfer_graph::shape::{Sizes, strides};
use rinfer_graph::{Bool, DType, Kind, Reason, Strings, Tensor, Value, invalid, unsupported};

use crate::kernel::{Cx, Kernel};

pub(super) fn compile(op: &StringOp, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    match op.clone() {
        StringOp::Concat => {
            let out = cx.out_sizes(0)?;
            Ok(Kernel::values(move |inputs, _| {
                let (x, y) = (text(inputs, 0)?, text(inputs, 1)?);
                Ok(vec![Value::Text(concat(x, y, &out)?)])
            }))
        }
        StringOp::Normalize { change, case_sensitive, stopwords } => {
            let fold = |s: &str| if case_sensitive { s.to_string() } else { s.to_lowercase() };
            let stops: std::collections::HashSet<String> =
                stopwords.iter().map(|s| fold(s)).collect();
            Ok(Kernel::values(move |inputs, _| {
                let x = text(inputs, 0)?;
                let stopped = |s: &&String| match case_sensitive {
                    true => !stops.contains(*s),
                    false => stops.is_empty() || !stops.contains(&s.to_lowercase()),
                };
                let kept: Vec<&String> = x.as_slice().iter().filter(stopped).collect();
                normalized(x.shape(), &kept, change).map(|y| vec![Value::Text(y)])
            }))
        }
        StringOp::Split { delimiter, most } => Ok(Kernel::values(move |inputs, cx| {
            split(text(inputs, 0)?, &delimiter, most.unwrap_or(usize::MAX), cx)
        })),
        StringOp::FullMatch { pattern } => {
            let regex = full_match(&pattern, cx.limits.regex_bytes)?;
            Ok(Kernel::values(move |inputs, cx| {
                let x = text(inputs, 0)?;
                let mut y = Tensor::try_zeros(DType::Bool, x.shape())?;
                for (s, y) in x.as_slice().iter().zip(y.as_mut_slice::<Bool>()) {
                    cx.check()?;
                    *y = Bool::from(regex.is_match(s));
                }
                Ok(vec![y.into()])
            }))
        }
    }
}

fn text(inputs: &[Option<Value>], i: usize) -> Result<&Strings, Reason> {
    let input = inputs.get(i).and_then(Option::as_ref);
    input.ok_or_else(|| invalid!("input {i} is missing"))?.as_text()
}

/// x followed by y, both broadcast to the shape `out`.
fn concat(x: &Strings, y: &Strings, out: &[usize]) -> Result<Strings, Reason> {
    let (xs, ys) = (broadcast_strides(x.shape(), out)?, broadcast_strides(y.shape(), out)?);
    let n = rinfer_graph::shape::count(out).ok_or_else(|| invalid!("strings of shape {out:?}"))?;
    let row_major = strides(out);
    let made = (0..n).map(|i| {
        let (mut at_x, mut at_y) = (0, 0);
        for axis in 0..out.len() {
            let k = i / row_major[axis] % out[axis];
            at_x += k * xs[axis];
            at_y += k * ys[axis];
        }
        format!("{}{}", x.as_slice()[at_x], y.as_slice()[at_y])
    });
    Strings::new(out, made.collect())
}

/// Strides that stay where an axis of `sizes` is stretched to `out`.
fn broadcast_strides(sizes: &[usize], out: &[usize]) -> Result<Sizes, Reason> {
    let skipped = out.len().checked_sub(sizes.len());
    let skipped = skipped.ok_or_else(|| invalid!("{sizes:?} does not broadcast to {out:?}"))?;
    let own = strides(sizes);
    (0..out.len())
        .map(|axis| match axis.checked_sub(skipped) {
            None => Ok(0),
            Some(i) if sizes[i] == 1 => Ok(0),
            Some(i) if sizes[i] == out[axis] => Ok(own[i]),
            Some(_) => Err(invalid!("{sizes:?} does not broadcast to {out:?}")),
        })
        .collect()
}

fn normalized(shape: &[usize], kept: &[&String], change: CaseChange) -> Result<Strings, Reason> {
    let changed = |s: &&String| match change {
        CaseChange::None => s.to_string(),
        CaseChange::Lower => s.to_lowercase(),
        CaseChange::Upper => s.to_uppercase(),
    };
    let mut made: Vec<String> = kept.iter().map(changed).collect();
    if made.is_empty() {
        made.push(String::new());
    }
    match *shape {
        [_] => Strings::new(&[made.len()], made),
        [1, _] => Strings::new(&[1, made.len()], made),
        _ => Err(invalid!("strings of shape {shape:?}")),
    }
}

fn split(x: &Strings, delimiter: &str, most: usize, cx: &RunCx<'_>) -> Result<Vec<Value>, Reason> {
    let parts = |s: &'_ str| -> Vec<String> {
        match delimiter {
            "" => split_white(s, most),
            _ => s.splitn(most.saturating_add(1), delimiter).map(String::from).collect(),
        }
    };
    let rows: Vec<Vec<String>> = x.as_slice().iter().map(|s| parts(s)).collect();
    let width = rows.iter().map(Vec::len).max().unwrap_or(0);
    let bytes = rows.len().saturating_mul(width).saturating_mul(size_of::<String>());
    if bytes > cx.memory.min(isize::MAX as usize) {
        return Err(Reason::new(Kind::Limit, format!("{width} parts a string take {bytes} bytes")));
    }
    let mut counts = Tensor::try_zeros(DType::I64, x.shape())?;
    for (count, row) in counts.as_mut_slice::<i64>().iter_mut().zip(&rows) {
        *count = row.len() as i64;
    }
    let mut shape = Sizes::from(x.shape());
    shape.push(width);
    let padded = rows.into_iter().flat_map(|row| {
        let missing = width - row.len();
        row.into_iter().chain(std::iter::repeat_n(String::new(), missing))
    });
    Ok(vec![Value::Text(Strings::new(&shape, padded.collect())?), counts.into()])
}

/// Parts between white space, at most `most` + 1 of them; the last keeps its own white space
/// inside and, when it is the rest of a string, behind.
fn split_white(s: &str, most: usize) -> Vec<String> {
    let mut parts = Vec::new();
    let mut rest = s.trim_start();
    while !rest.is_empty() {
        let end = match parts.len() < most {
            true => rest.find(char::is_whitespace).unwrap_or(rest.len()),
            false => rest.len(),
        };
        parts.push(rest[..end].to_string());
        rest = rest[end..].trim_start();
    }
    parts
}

/// The regular expression that matches a whole string.
fn full_match(pattern: &str, limit: usize) -> Result<Regex, Reason> {
    RegexBuilder::new(&format!(r"\A(?:{})\z", from_re2(pattern)?))
        .size_limit(limit)
        .octal(true)
        .build()
        .map_err(|e| match e {
            regex::Error::CompiledTooBig(_) => {
                Reason::over("a regular expression", "more bytes when compiled", limit)
            }
            e => invalid!("the pattern {pattern:?} is not understood: {e}"),
        })
}

/// RE2's syntax in that of the crate `regex`: classes like `\w` are of ASCII letters only, and in
/// brackets `[`, `&`, `~` and a doubled `-` mean themselves.
fn from_re2(pattern: &str) -> Result<String, Reason> {
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars().peekable();
    let mut in_class = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('w') => out.push_str("[0-9A-Za-z_]"),
                Some('W') => out.push_str("[^0-9A-Za-z_]"),
                Some('d') => out.push_str("[0-9]"),
                Some('D') => out.push_str("[^0-9]"),
                Some('s') => out.push_str(r"[\t\n\x0C\r ]"),
                Some('S') => out.push_str(r"[^\t\n\x0C\r ]"),
                Some('b') if !in_class => out.push_str(r"(?-u:\b)"),
                Some('Q') if !in_class => {
                    let rest: String = chars.by_ref().collect();
                    let (quoted, after) = rest.split_once(r"\E").unwrap_or((&rest, ""));
                    out.push_str(&regex::escape(quoted));
                    out.push_str(&from_re2(after)?);
                }
                Some('C') => return Err(unsupported!(r"\C in the pattern {pattern:?}")),
                Some(other) => out.extend(['\\', other]),
                None => return Err(invalid!("the pattern {pattern:?} ends with a backslash")),
            },
            '[' if !in_class => {
                in_class = true;
                out.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                // A bracket that closes nothing yet means itself.
                if chars.next_if_eq(&']').is_some() {
                    out.push_str(r"\]");
                }
            }
            '[' if chars.peek() == Some(&':') => {
                out.push('[');
                for c in chars.by_ref() {
                    out.push(c);
                    if c == ']' {
                        break;
                    }
                }
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '[' | '&' | '~' if in_class => out.extend(['\\', c]),
            '-' if in_class && chars.peek() == Some(&'-') => out.push_str(r"\-"),
            _ => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run;
    use crate::simd::Isa;

    fn strings(shape: &[usize], data: &[&str]) -> Value {
        Value::Text(Strings::new(shape, data.iter().map(|s| s.to_string()).collect()).unwrap())
    }

    fn eval(op: StringOp, inputs: &[Value], outputs: usize) -> Vec<Value> {
        run(Isa::available()[0], op, inputs, outputs).unwrap()
    }

    fn matches(pattern: &str, s: &str) -> bool {
        full_match(pattern, 1 << 20).unwrap().is_match(s)
    }

    #[test]
    fn a_row_and_a_column_concatenate_to_a_table() {
        let y = eval(
            StringOp::Concat,
            &[strings(&[2, 1], &["a", "b"]), strings(&[3], &["x", "y", "z"])],
            1,
        );
        assert_eq!(y[0], strings(&[2, 3], &["ax", "ay", "az", "bx", "by", "bz"]));
    }

    #[test]
    fn if_only_stop_words_stand_there_an_empty_string_is_left() {
        let op = StringOp::Normalize {
            change: CaseChange::Upper,
            case_sensitive: false,
            stopwords: vec!["Monday".into()],
        };
        let y = eval(op.clone(), &[strings(&[1, 2], &["MONDAY", "monday"])], 1);
        assert_eq!(y[0], strings(&[1, 1], &[""]));
        let y = eval(op, &[strings(&[3], &["straße", "monday", ""])], 1);
        assert_eq!(y[0], strings(&[2], &["STRASSE", ""]));
    }

    #[test]
    fn white_space_is_one_delimiter_however_long() {
        assert_eq!(split_white("  hello \t world ! ", usize::MAX), ["hello", "world", "!"]);
        assert_eq!(split_white("the quick  brown fox", 2), ["the", "quick", "brown fox"]);
        assert!(split_white(" ", 1).is_empty());
    }

    #[test]
    fn parts_are_padded_to_the_longest_row() {
        let op = StringOp::Split { delimiter: "-".into(), most: Some(2) };
        let y = eval(op, &[strings(&[2], &["a--b-c", ""])], 2);
        assert_eq!(y[0], strings(&[2, 3], &["a", "", "b-c", "", "", ""]));
        assert_eq!(y[1], Tensor::vector(&[3i64, 1]).into());
    }

    #[test]
    fn nothing_splits_into_nothing() {
        let op = StringOp::Split { delimiter: String::new(), most: None };
        let y = eval(op, &[strings(&[0], &[])], 2);
        assert_eq!(y[0], strings(&[0, 0], &[]));
    }

    #[test]
    fn patterns_mean_what_they_mean_in_re2() {
        assert!(matches(r"www\.[\w.-]+\.\bcom\b", "www.google.com"));
        assert!(!matches(r"www\.[\w.-]+\.\bcom\b", "www.bbc.co.uk"));
        assert!(!matches(r"\w+", "é") && matches(r"\W", "é"));
        assert!(matches(r"[]a[]+", "][a") && matches(r"[a&&b]+", "&ab"));
        assert!(matches(r"[[:alpha:]-]+", "ab-c") && matches(r"\Qa.b\E+", "a.bb"));
        assert!(!matches("a|ab", "abc") && matches("a|ab", "ab"));
    }

    #[test]
    fn patterns_that_would_take_too_much_are_refused() {
        assert!(full_match(r"(\pL{1000}){1000}", 1 << 20).is_err());
        assert!(full_match("(", 99).is_err() && full_match("\\", 99).is_err());
    }
}
