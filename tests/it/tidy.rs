//! The architecture's invariants and the style guide, as far as sources show them.

use std::path::{Path, PathBuf};

/// A source file: its path from the root, and its text.
struct Source {
    path: String,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources() -> Vec<Source> {
    let root = root();
    let folders =
        ["onnx-proto", "graph", "backends", "runtime", "quant", "tools", "tests", "benches"];
    let mut todo: Vec<PathBuf> = folders.iter().map(|f| root.join(f)).collect();
    let mut found = Vec::new();
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if !["target", "node_modules", "models", ".venv"].contains(&name.as_str()) {
                    todo.push(path);
                }
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
                found.push(Source { path, text });
            }
        }
    }
    assert!(found.len() > 50, "the sources were not found");
    found
}

/// A line without comments and without the text of strings: what the compiler acts on.
fn code(line: &str) -> String {
    let mut out = String::new();
    let mut in_string = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if in_string => drop(chars.next()),
            '"' => in_string = !in_string,
            '/' if !in_string && chars.peek() == Some(&'/') => break,
            c if !in_string => out.push(c),
            _ => {}
        }
    }
    out
}

/// Fails with every place where `word` stands in code outside of the files `allowed` starts with.
fn only_in(word: &str, allowed: &[&str]) {
    let mut bad = Vec::new();
    for source in sources() {
        if allowed.iter().any(|a| source.path.starts_with(a)) {
            continue;
        }
        for (i, line) in source.text.lines().enumerate() {
            if code(line).contains(word) {
                bad.push(format!("{}:{}: {}", source.path, i + 1, line.trim()));
            }
        }
    }
    assert!(bad.is_empty(), "{word} does not belong here:\n{}", bad.join("\n"));
}

#[test]
fn only_the_border_knows_protobuf() {
    let fuzzed = "tests/src/fuzz/targets.rs";
    only_in("onnx_proto", &["graph/src/onnx/", "onnx-proto/", fuzzed, "tests/it/tidy.rs"]);
}

#[test]
fn unsafe_stands_only_in_its_fences() {
    for word in ["unsafe {", "unsafe fn", "unsafe impl", "allow(unsafe_code)"] {
        let fences =
            ["backends/cpu/src/simd/", "backends/wgpu/src/fence.rs", "runtime/src/mmap.rs"];
        only_in(word, &[fences[0], fences[1], fences[2], "tests/it/tidy.rs"]);
    }
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    let mut bad = Vec::new();
    for source in sources() {
        if source.path.ends_with("tidy.rs") {
            continue;
        }
        let safety = source.text.contains("SAFETY");
        if source.text.lines().any(|l| code(l).contains("unsafe {")) && !safety {
            bad.push(source.path);
        }
    }
    assert!(bad.is_empty(), "no SAFETY line in {bad:?}");
}

#[test]
fn only_one_module_knows_threads() {
    only_in(
        "rayon",
        &["backends/cpu/src/par.rs", "backends/cpu/src/par/threads.rs", "tests/it/tidy.rs"],
    );
}

#[test]
fn only_simd_knows_instruction_sets() {
    for word in ["std::arch", "core::arch", "target_feature", "is_x86_feature_detected"] {
        only_in(word, &["backends/cpu/src/simd/", "tests/it/tidy.rs"]);
    }
}

#[test]
fn only_the_gpu_backend_knows_wgpu() {
    for word in [" wgpu::", "(wgpu::", "<wgpu::", "&wgpu::"] {
        only_in(word, &["backends/wgpu/", "tests/it/tidy.rs"]);
    }
}

#[test]
fn only_tools_open_files() {
    for word in ["std::fs", "File::open", "std::net", "anyhow", "clap::"] {
        let examples = "backends/cpu/examples/";
        let runtime = ["runtime/src/mmap.rs", "runtime/src/machine.rs", "runtime/tests/"];
        let [mmap, machine, own_tests] = runtime;
        only_in(word, &["tools/", "tests/", "benches/", examples, mmap, machine, own_tests]);
    }
}

#[test]
fn nothing_is_left_unfinished() {
    for word in ["todo!(", "unimplemented!(", "dbg!(", "#[ignore", "allow(dead_code)"] {
        only_in(word, &["tests/it/tidy.rs"]);
    }
}

/// Lists for people may be as long as they are.
const LISTS: &[&str] = &[
    "backends/cpu/src/ops/mod.rs",
    "backends/cpu/src/simd/neon.rs",
    "backends/cpu/src/simd/tests.rs",
    "backends/cpu/src/simd/wasm.rs",
    "graph/src/onnx/export/operators.rs",
    "graph/src/ops/table.rs",
];

#[test]
fn files_say_what_they_are_and_stay_small() {
    let mut bad = Vec::new();
    for source in sources() {
        let lines = source.text.lines().count();
        if lines > 600 && !LISTS.contains(&source.path.as_str()) {
            bad.push(format!("{} has {lines} lines", source.path));
        }
        if !source.text.starts_with("//!") {
            bad.push(format!("{} does not begin with //!", source.path));
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn functions_stay_within_seventy_lines() {
    let mut bad = Vec::new();
    for source in sources().into_iter().filter(|s| !LISTS.contains(&s.path.as_str())) {
        let lines: Vec<&str> = source.text.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let begins = code(line).contains("fn ") && line.trim_end().ends_with('{');
            if !begins {
                continue;
            }
            let end = format!("{}}}", " ".repeat(indent));
            let length = lines[i..].iter().position(|l| *l == end).unwrap_or(0);
            if length > 70 {
                bad.push(format!("{}:{} has {length} lines", source.path, i + 1));
            }
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn the_readme_lists_the_operators_of_the_table() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let (_, rest) = readme.split_once("hold the two equal -->\n").unwrap_or(("", &readme));
    let rest = rest.split_once("the two equal -->\n").map_or(rest, |(_, rest)| rest);
    let (found, _) = rest.split_once("<!-- end of operators -->").unwrap();
    let expected = operator_list();
    assert_eq!(found.trim(), expected.trim(), "the list should be:\n{expected}");
}

/// Every operator by domain, in the order of the table.
fn operator_list() -> String {
    let mut text = String::new();
    let domains =
        ["", "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training", "com.microsoft"];
    for domain in domains {
        let rows = rinfer::graph::ops::table::ONNX.iter().filter(|op| op.domain == domain);
        let names: Vec<&str> = rows.map(|op| op.name).collect();
        let title = if domain.is_empty() { "ai.onnx" } else { domain };
        if !names.is_empty() {
            text.push_str(&format!("**{title}** ({}): {}.\n\n", names.len(), names.join(", ")));
        }
    }
    text
}
