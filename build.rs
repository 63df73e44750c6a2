//! Makes the gRPC code from `proto/`, in pure Rust: no protoc on the machine.

/// What is compiled; cargo runs this again only when one of them changes.
const PROTOS: [&str; 1] = ["proto/kms-v2.proto"];

/// Messages that carry a seed: without `Debug`, code that would print one does not compile.
const SECRET: [&str; 2] = [".v2.EncryptRequest", ".v2.DecryptResponse"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for proto in PROTOS {
        println!("cargo::rerun-if-changed={proto}");
    }
    tonic_prost_build::configure().skip_debug(SECRET).compile_fds(protox::compile(PROTOS, ["proto"])?)?;
    Ok(())
}
