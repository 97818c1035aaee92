//! Build script of `libs/proto`: compiles `proto/` once, with a compiler in pure Rust.
//!
//! It also reads each RPC's declared access and refuses to build when one is missing.

use std::{error::Error, fmt::Write as _, fs, path::Path, path::PathBuf};

use prost::Message as _;
use prost_reflect::{DescriptorPool, Value};

const ACCESS_EXTENSION: &str = "streamgate.access.v1.access";

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    println!("cargo:rerun-if-changed=../../build.rs");

    let mut files = Vec::new();
    find_protos(&root.join("streamgate"), &mut files)?;
    files.sort();

    let mut compiler = protox::Compiler::new([root.clone(), root.join("third_party")])?;
    compiler.include_imports(true).include_source_info(true).open_files(&files)?;
    let described = compiler.encode_file_descriptor_set();
    let pool = DescriptorPool::decode(described.as_slice())?;

    #[allow(clippy::disallowed_methods, reason = "Cargo tells a build script its folder in no other way")]
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), &described)?;
    fs::write(out.join("access.rs"), access_table(&pool)?)?;
    fs::write(out.join("streaming.rs"), streaming_table(&pool)?)?;

    let set = prost_types::FileDescriptorSet::decode(described.as_slice())?;
    let mut config = tonic_prost_build::Config::new();
    config.bytes([".streamgate.upload.v1", ".streamgate.streaming.v1.ReadAssetResponse", ".streamgate.cache.v1"]);
    tonic_prost_build::configure().include_file("streamgate.rs").compile_fds_with_config(set, config)?;
    Ok(())
}

fn find_protos(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find_protos(&path, found)?;
        } else if path.extension().is_some_and(|ext| ext == "proto") {
            found.push(path);
        }
    }
    Ok(())
}

/// One `(path, access)` row for each RPC of the project, sorted by path.
fn access_table(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    let extension = pool.get_extension_by_name(ACCESS_EXTENSION).ok_or("the access option is not defined")?;
    let mut rows = Vec::new();
    for service in pool.services().filter(|s| s.full_name().starts_with("streamgate.")) {
        for method in service.methods() {
            let options = method.options();
            let level = match options.get_extension(&extension).as_ref() {
                Value::EnumNumber(number) if *number != 0 => *number,
                _ => {
                    return Err(
                        format!("{} does not declare its access: add option ({ACCESS_EXTENSION})", method.full_name()).into()
                    );
                }
            };
            rows.push((format!("/{}/{}", service.full_name(), method.name()), level));
        }
    }
    rows.sort();
    let rows = rows.into_iter().map(|(path, level)| format!("(\"{path}\", {level})"));
    table("Path and access number of every RPC, sorted by path.", "METHOD_ACCESS: &[(&str, i32)]", rows)
}

/// The path of each RPC of the project that streams in either direction, sorted.
fn streaming_table(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    let mut rows = Vec::new();
    for service in pool.services().filter(|s| s.full_name().starts_with("streamgate.")) {
        for method in service.methods().filter(|m| m.is_client_streaming() || m.is_server_streaming()) {
            rows.push(format!("/{}/{}", service.full_name(), method.name()));
        }
    }
    rows.sort();
    let rows = rows.into_iter().map(|path| format!("\"{path}\""));
    table("Path of every RPC that streams in either direction, sorted.", "STREAMING_METHODS: &[&str]", rows)
}

/// The source of a table, a row a line.
fn table(doc: &str, declared: &str, rows: impl Iterator<Item = String>) -> Result<String, Box<dyn Error>> {
    let mut source = format!("/// {doc}\npub static {declared} = &[\n");
    for row in rows {
        writeln!(source, "    {row},")?;
    }
    source.push_str("];\n");
    Ok(source)
}
