//! Generates the Rust types of `onnx.proto`; protox parses it, so no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=onnx.proto");
    let descriptors = protox::compile(["onnx.proto"], ["."])?;
    // `Bytes` instead of `Vec<u8>`: weights stay where the file is.
    prost_build::Config::new().bytes(["."]).compile_fds(descriptors)?;
    Ok(())
}
