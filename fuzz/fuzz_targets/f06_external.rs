//! External data of any location, offset and length gives bytes below the folder or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rinfer::Model;
use rinfer_tests::hostile::wire::{self, Graph, elem, node, open, value};

fuzz_target!(|data: &[u8]| {
    let dir = std::env::temp_dir().join(format!("rinfer-fuzz-{}", std::process::id()));
    let folder = dir.join("model");
    if !folder.exists() {
        std::fs::create_dir_all(folder.join("sub")).expect("a folder for temporary files");
        std::fs::write(folder.join("w.bin"), [1u8; 64]).expect("it can be written");
        std::fs::write(dir.join("secret.bin"), [7u8; 64]).expect("it can be written");
        std::os::unix::fs::symlink(dir.join("secret.bin"), folder.join("link")).expect("links");
    }
    let text = String::from_utf8_lossy(data);
    let mut parts = text.splitn(3, '\n');
    let mut part = || parts.next().unwrap_or("").to_string();
    let (location, offset, length) = (part(), part(), part());
    let mut entries = vec![("location", location.as_str())];
    entries.extend((!offset.is_empty()).then_some(("offset", offset.as_str())));
    entries.extend((!length.is_empty()).then_some(("length", length.as_str())));
    let graph = Graph {
        nodes: vec![node("Add", &["x", "w"], &["y"], &[])],
        weights: vec![wire::external("w", elem::U8, &[16], &entries)],
        inputs: vec![value("x", elem::U8, &[16])],
        outputs: vec![open("y", elem::U8)],
    };
    let path = folder.join("model.onnx");
    std::fs::write(&path, graph.file()).expect("it can be written");
    let Ok(model) = Model::open(&path) else { return };
    for v in model.graph().values() {
        if let Some(t) = model.graph().tensor(v) {
            assert!(!t.as_bytes().contains(&7), "{location:?} gave the secret");
        }
    }
});
