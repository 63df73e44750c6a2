//! Makes the gRPC code from `proto/`, in pure Rust: no protoc on the machine.

use std::{env, fs, path::PathBuf};

/// What claviger serves, and whom it asks; cargo runs this again only when one of them changes.
const KMS: &str = "proto/kms-v2.proto";
const ETCD: &str = "proto/etcd.proto";

/// Messages that carry a seed: without `Debug`, code that would print one does not compile.
const SECRET: [&str; 2] = [".v2.EncryptRequest", ".v2.DecryptResponse"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for proto in [KMS, ETCD] {
        println!("cargo::rerun-if-changed={proto}");
    }
    let files = protox::compile([KMS], ["proto"])?;
    // Twice: claviger's own with its codec, and for tests and benchmarks as anybody else would have it.
    let own = PathBuf::from(env::var_os("OUT_DIR").ok_or("no OUT_DIR")?).join("own-codec");
    fs::create_dir_all(&own)?;
    let configure = || tonic_prost_build::configure().skip_debug(SECRET);
    configure().out_dir(own).codec_path("crate::grpc::codec::Codec").compile_fds(files.clone())?;
    configure().compile_fds(files)?;
    if env::var_os("CARGO_FEATURE_SCAN").is_none() {
        return Ok(());
    }
    // Values are slices of the answer that they came in.
    let etcd =
        tonic_prost_build::configure().build_server(false).bytes(".").codec_path("crate::etcd::codec::EtcdCodec");
    etcd.compile_fds(protox::compile([ETCD], ["proto"])?)?;
    Ok(())
}
