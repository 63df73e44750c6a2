//! Makes databases with Secrets that a plugin can decrypt, and checks what comes out of them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::UnixStream;
use tonic::transport::{Endpoint, Uri};

use crate::{
    contender::Contender,
    harness::{
        binaries::Program,
        commands::output_of_success,
        error::{Context, Error, Result},
        plugin::Plugin,
        processes::Run,
    },
    v2::{EncryptRequest, key_management_service_client::KeyManagementServiceClient},
};

/// The number of seeds: as many as go-generate uses.
const SEEDS: u8 = 8;

const WRITTEN_WITHIN: Duration = Duration::from_mins(10);

/// A keyring, and seeds that a plugin has wrapped under its key.
pub(crate) struct Keys {
    pub(crate) state_dir: PathBuf,
    pub(crate) seeds: PathBuf,
}

/// A database file. It is removed when the value is dropped.
pub(crate) struct Secrets {
    pub(crate) file: PathBuf,
}

impl Keys {
    pub(crate) fn make(run: &Run) -> Result<Self> {
        let mut plugin = Plugin::init(run, env!("CARGO_BIN_EXE_claviger"), "plugin")?;
        let socket = run.socket("kms.sock")?;
        plugin.serve(socket.to_string_lossy())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let wrapped = runtime.during(|| "starting the event loop".to_owned())?.block_on(wrap(&socket))?;
        let seeds = run.path("seeds.json");
        fs::write(&seeds, wrapped).during(|| "writing the seeds".to_owned())?;
        Ok(Self { state_dir: plugin.state_dir().to_owned(), seeds })
    }
}

/// Has the plugin wrap some seeds, and returns them as go-generate and go-decrypt read them.
async fn wrap(socket: &Path) -> Result<String> {
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let failed = |error: &dyn std::fmt::Display| Error::new(format!("wrapping a seed: {error}"));
    let endpoint = Endpoint::from_static("http://plugin");
    let channel = endpoint.connect_with_connector(connector).await.map_err(|error| failed(&error))?;
    let mut client = KeyManagementServiceClient::new(channel);
    let (mut key_id, mut seeds) = (String::new(), Vec::new());
    for number in 0..SEEDS {
        let seed = [number; 32];
        let request = EncryptRequest { plaintext: seed.to_vec(), uid: format!("bench-{number}") };
        let answer = client.encrypt(request).await.map_err(|error| failed(&error))?.into_inner();
        let hex = |bytes: &[u8]| base16ct::lower::encode_string(bytes);
        seeds.push(json!({"seed": hex(&seed), "wrapped": hex(&answer.ciphertext)}));
        key_id = answer.key_id;
    }
    Ok(json!({"key_id": key_id, "seeds": seeds}).to_string())
}

impl Secrets {
    pub(crate) fn generate(run: &Run, keys: &Keys, objects: u32) -> Result<Self> {
        let file = run.path(format!("{}.db", run.unique_name("secrets")));
        let mut command = Command::new(Program::GoGenerate.path()?);
        command.arg("--objects").arg(objects.to_string()).arg("--keys").arg(&keys.seeds).arg("--out").arg(&file);
        output_of_success(command, &[], WRITTEN_WITHIN)?;
        let synced = fs::File::open(&file).and_then(|file| file.sync_all());
        synced.during(|| format!("syncing {}", file.display()))?;
        Ok(Self { file })
    }
}

impl Drop for Secrets {
    fn drop(&mut self) {
        // If this fails, the file is removed with the directory of the run.
        let _ = fs::remove_file(&self.file);
    }
}

/// Compares what claviger and the Go program write of a small database, object by object.
pub(crate) fn compare(run: &Run, keys: &Keys) -> Result<()> {
    const OBJECTS: u16 = 5000;
    let secrets = Secrets::generate(run, keys, OBJECTS.into())?;
    let written = |contender: Contender| -> Result<BTreeSet<Vec<u8>>> {
        let path = run.path("stdout");
        contender.run_to(run, keys, &secrets, &path, false)?;
        frames(&fs::read(&path).during(|| "reading what was written".to_owned())?)
    };
    let (claviger, go) = (written(Contender::Claviger)?, written(Contender::GoDecrypt)?);
    if claviger.len() == usize::from(OBJECTS) && claviger == go {
        return Ok(());
    }
    Err(Error::new(format!(
        "claviger wrote {} objects and go-decrypt {}, expected the same {OBJECTS}",
        claviger.len(),
        go.len()
    )))
}

/// Returns the objects of a stream, each with its line.
fn frames(mut stream: &[u8]) -> Result<BTreeSet<Vec<u8>>> {
    let broken = || Error::new("what was written is not a stream of objects");
    let mut frames = BTreeSet::new();
    while !stream.is_empty() {
        let line = stream.iter().position(|byte| *byte == b'\n').ok_or_else(broken)?;
        let length =
            std::str::from_utf8(&stream[..line]).ok().and_then(|line| line.split(' ').next()?.parse::<usize>().ok());
        let end = line + 1 + length.ok_or_else(broken)? + 1;
        frames.insert(stream.get(..end).ok_or_else(broken)?.to_vec());
        stream = &stream[end..];
    }
    Ok(frames)
}
