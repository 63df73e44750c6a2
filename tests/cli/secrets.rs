//! Checks that no secret is ever printed or logged. The output of every command in these tests is searched for the
//! secrets in its sandbox. Here, the log of a daemon at the level debug is searched for every secret that it uses.

use std::{fs, path::Path};

use base64ct::{Base64, Base64Unpadded, Base64Url, Base64UrlUnpadded, Encoding};

use super::{forge::Forge, kms::Kms, output::identity, sandbox::Sandbox};

/// Returns the names of the secrets below `directory` that `output` contains in any form.
///
/// Secrets are the key files of slots and age's identities.
pub(super) fn found_in(output: &[u8], directory: &Path) -> Vec<String> {
    let mut secrets = Vec::new();
    collect(directory, &mut secrets);
    secrets.retain(|(_, secret)| holds(output, secret));
    secrets.into_iter().map(|(what, _)| what).collect()
}

fn collect(directory: &Path, secrets: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            collect(&path, secrets);
        } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "key") {
            secrets.push((path.display().to_string(), fs::read(&path).unwrap()));
        } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "txt") {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let identities = text.lines().filter(|line| line.starts_with("AGE-SECRET-KEY-1"));
            secrets.extend(identities.map(|identity| (path.display().to_string(), identity.as_bytes().to_vec())));
        }
    }
}

/// Whether `output` contains `secret`: its bytes, or their hexadecimal, base64 or Rust `Debug` form.
pub(super) fn holds(output: &[u8], secret: &[u8]) -> bool {
    // A shorter text is not a secret.
    secret.len() >= 16 && forms(secret).iter().any(|form| output.windows(form.len()).any(|window| window == form))
}

fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let list = format!("{secret:?}");
    let text = [
        base16ct::lower::encode_string(secret),
        base16ct::upper::encode_string(secret),
        Base64::encode_string(secret),
        Base64Unpadded::encode_string(secret),
        Base64Url::encode_string(secret),
        Base64UrlUnpadded::encode_string(secret),
        list.trim_matches(['[', ']']).to_owned(),
        secret.escape_ascii().to_string(),
    ];
    let lower_case = secret.to_ascii_lowercase();
    text.into_iter().map(String::into_bytes).chain([secret.to_vec(), lower_case]).collect()
}

#[test]
fn the_search_finds_every_form() {
    let sandbox = Sandbox::initialised();
    let path = sandbox.path("state/slot-file.key");
    let secret = fs::read(&path).unwrap();
    for form in forms(&secret) {
        let output = [b"before ", &form[..], b" after"].concat();
        assert_eq!(found_in(&output, sandbox.root()), [path.display().to_string()], "{}", form.escape_ascii());
    }
    assert_eq!(found_in(b"nothing of it", sandbox.root()), Vec::<String>::new());
    let recipient = identity(&sandbox, "identity.txt");
    let text = fs::read(sandbox.path("identity.txt")).unwrap();
    assert_eq!(found_in(&text, sandbox.root()), [sandbox.path("identity.txt").display().to_string()]);
    assert!(!holds(recipient.as_bytes(), &text));
}

#[test]
fn a_daemon_at_debug_logs_no_key_and_no_seed() {
    let sandbox = Sandbox::new();
    let recipient = identity(&sandbox, "identity.txt");
    let init = "init --state-dir [DIR]/state --recovery-identity [DIR]/identity.txt --recovery-recipient";
    let mut output = sandbox.run(&format!("{init} {recipient}")).ends_with(0).to_string();
    let seed = *b"a seed that is found if it is seen";

    let mut daemon = sandbox.serve(
        "--state-dir [DIR]/state --socket [DIR]/run/kms.sock --log-level debug --metrics-listen [DIR]/run/metrics.sock",
    );
    let kms = Kms::connect(&sandbox.path("run/kms.sock"));
    let (key_id, wrapped) = kms.encrypt(&seed);
    assert_eq!(kms.decrypt(&key_id, &wrapped).unwrap(), seed);
    let mut damaged = wrapped.clone();
    damaged[107] ^= 1;
    let mut refusals = vec![kms.decrypt(&key_id, &damaged).unwrap_err()];
    refusals.push(kms.decrypt("k9-unknown", &wrapped).unwrap_err());
    refusals.push(kms.decrypt(&key_id, &seed).unwrap_err());
    for verb in ["status", "status --output json"] {
        output += &sandbox.run(&format!("{verb} --state-dir [DIR]/state --socket [DIR]/run/kms.sock")).to_string();
    }
    let metrics = crate::admin::scrape(sandbox.path("run/metrics.sock").to_str().unwrap());
    assert!(metrics.contains("claviger_key_info{") && !metrics.contains(sandbox.root().to_str().unwrap()), "{metrics}");
    output += &metrics;
    let (exit, log) = daemon.terminate();
    assert_eq!(exit, Some(0), "{log}");
    assert!(log.contains("\"DEBUG\"") && log.contains("ciphertext failed authentication"), "{log}");

    output += &(log + &refusals.join("\n"));
    let forge = Forge::of(&sandbox.path("state"));
    let secrets = [("seed", seed.to_vec()), ("root key", forge.root_key()), ("KEK", forge.kek())];
    for (what, secret) in secrets {
        assert!(!holds(output.as_bytes(), &secret), "{what} in {output}");
    }
    assert_eq!(found_in(output.as_bytes(), sandbox.root()), Vec::<String>::new());
}
