//! What fuzzing starts from: small files of every kind that the targets read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rinfer::{Tensor, Value};
use rinfer_cli::fill::Random;

use crate::folder::find;
use crate::formats::{npy, npz, pb};
use crate::hostile::{cases, valid};

/// Larger files teach a fuzzer little.
const LARGEST: u64 = 8 << 10;
/// Targets that make a model of a string of bytes.
const GENERATING: &[&str] =
    &["f03_run", "f04_optimizer", "f05_shapes", "f10_quantize", "f11_kernels"];

/// Inputs by target.
pub type Seeds = BTreeMap<&'static str, Vec<Vec<u8>>>;

struct Maker(Seeds);

impl Maker {
    fn add(&mut self, target: &'static str, bytes: &[u8]) {
        self.0.entry(target).or_default().push(bytes.to_vec());
    }

    fn model(&mut self, bytes: &[u8]) {
        self.add("f01_reader", bytes);
        self.add("f02_load", bytes);
    }

    /// A file for the target that reads tensors, whose first byte says of which kind.
    fn tensors(&mut self, kind: u8, bytes: &[u8]) {
        self.add("f07_files", &[&[kind], bytes].concat());
    }
}

/// Seeds of every target. `tests` is a folder of official ONNX tests, whose models and tensors are
/// seeds too; `scratch` is one for a while.
///
/// # Errors
/// The folder cannot be written.
pub fn make(tests: Option<&Path>, scratch: &Path) -> std::io::Result<Seeds> {
    let mut seeds = Maker(Seeds::new());
    for (_, file) in valid::models() {
        seeds.model(&file);
    }
    for case in cases() {
        if let Some(file) = small(case.write(scratch)?) {
            seeds.model(&file);
        }
    }
    std::fs::remove_dir_all(scratch)?;
    for folder in tests.into_iter().flat_map(find) {
        if let Some(file) = small(folder.join("model.onnx")) {
            seeds.model(&file);
        }
        if let Some(file) = small(folder.join("test_data_set_0/input_0.pb")) {
            seeds.tensors(3, &file);
        }
    }
    let mut random = Random(1);
    for n in 0..64 {
        let bytes: Vec<u8> = (0..16 + 8 * n).map(|_| random.bits() as u8).collect();
        for target in GENERATING {
            seeds.add(target, &bytes);
        }
    }
    for text in ["w.bin\n0\n16", "sub/../w.bin\n48\n16", "link\n\n", "../secret.bin\n0\n64"] {
        seeds.add("f06_external", text.as_bytes());
    }
    files(&mut seeds);
    for text in COMMANDS {
        seeds.add("f12_inputs", text.as_bytes());
    }
    Ok(seeds.0)
}

/// Writes seeds into FOLDER/TARGET/… as cargo-fuzz wants them; how many there are.
///
/// # Errors
/// A file cannot be written.
pub fn write(seeds: &Seeds, root: &Path) -> std::io::Result<usize> {
    let mut written = 0;
    for (target, inputs) in seeds {
        let folder = root.join(target);
        std::fs::create_dir_all(&folder)?;
        for input in inputs {
            written += 1;
            std::fs::write(folder.join(format!("seed-{written:05}")), input)?;
        }
    }
    Ok(written)
}

/// What stands on the command line, an argument a line, or after a flag.
const COMMANDS: &[&str] = &[
    "model.onnx\n--input\nimage=ones\n--dim\nbatch=4",
    "model.onnx\n--input\nids=randint:0:100\n--shape\nids=1x128\n--timeout\n1.5s",
    "model.onnx\n--untrusted\n--max-memory\n1GiB\n--max-tensor\n64M\n--json",
    "random:7",
    "zeros",
    "batch=4,tokens=128",
];

/// A file's bytes, if it is there and small.
fn small(path: PathBuf) -> Option<Vec<u8>> {
    let size = std::fs::metadata(&path).ok()?.len();
    (size <= LARGEST).then(|| std::fs::read(&path).ok()).flatten()
}

/// Tensors in every format that is read.
fn files(seeds: &mut Maker) {
    let tensors: [Value; 4] = [
        Tensor::from_slice(&[2, 3], &[0.5f32, -1.0, 2.0, 3.5, 1e-8, -0.0]).into(),
        Tensor::from_slice(&[], &[7i64]).into(),
        Tensor::from_slice(&[0, 4], &[0u8; 0]).into(),
        Tensor::from_slice(&[3], &[1i8, -2, 3]).into(),
    ];
    for (i, value) in tensors.iter().enumerate() {
        if let Ok(bytes) = npy::encode(value) {
            seeds.tensors(0, &bytes);
        }
        if let Ok(bytes) = npz::encode(&[(format!("t{i}"), value.clone())]) {
            seeds.tensors(1, &bytes);
        }
        if let Ok(bytes) = pb::encode("t", value) {
            seeds.tensors(3, &bytes);
        }
    }
    let header = br#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header);
    file.extend_from_slice(&[0; 8]);
    seeds.tensors(2, &file);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_seeds() {
        let folder = std::env::temp_dir().join(format!("rinfer-seeds-{}", std::process::id()));
        let seeds = make(None, &folder).unwrap();
        for target in crate::fuzz::TARGETS {
            assert!(seeds[target.name].len() > 3, "{}", target.name);
        }
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/fuzz_targets");
        for source in std::fs::read_dir(sources).unwrap() {
            let path = source.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            assert!(seeds.contains_key(&*name), "{name}");
        }
        for (_, file) in valid::models() {
            rinfer::Model::from_bytes(file).unwrap();
        }
    }
}
