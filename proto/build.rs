//! Compiles the protocol files with protox: no protoc is needed.

use prost::Message as _;
use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=tidemark");
    let files = protox::compile(["tidemark/dim/v1/dim.proto"], ["."])?;
    let descriptor = PathBuf::from(env::var("OUT_DIR")?).join("descriptor.bin");
    fs::write(descriptor, files.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".").codec_path("crate::codec::ExactCodec").compile_fds(files)?;
    Ok(())
}
