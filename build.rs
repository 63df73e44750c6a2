//! Makes the gRPC code from `proto/`, in pure Rust: no protoc on the machine.

use std::{env, fs, path::PathBuf};

/// The API that claviger serves (KMS), and the API that it calls (etcd). Cargo runs this again if one of them changes.
const KMS: &str = "proto/kms-v2.proto";
const ETCD: &str = "proto/etcd.proto";

/// Messages that carry a seed: without `Debug`, code that would print one does not compile.
const SECRET: [&str; 2] = [".v2.EncryptRequest", ".v2.DecryptResponse"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for proto in [KMS, ETCD] {
        println!("cargo::rerun-if-changed={proto}");
    }
    let files = protox::compile([KMS], ["proto"])?;
    // Generates the KMS code twice: with claviger's codec for the plugin, and with tonic's own for tests and benchmarks.
    let own = PathBuf::from(env::var_os("OUT_DIR").ok_or("no OUT_DIR")?).join("own-codec");
    fs::create_dir_all(&own)?;
    let configure = || tonic_prost_build::configure().skip_debug(SECRET);
    configure().out_dir(own).codec_path("crate::grpc::codec::Codec").compile_fds(files.clone())?;
    configure().compile_fds(files)?;
    if env::var_os("CARGO_FEATURE_SCAN").is_none() {
        return Ok(());
    }
    // Decodes values as slices of the answer, without copying them.
    let etcd =
        tonic_prost_build::configure().build_server(false).bytes(".").codec_path("crate::etcd::codec::EtcdCodec");
    etcd.compile_fds(protox::compile([ETCD], ["proto"])?)?;
    Ok(())
}
