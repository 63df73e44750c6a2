//! Makes the file name of a recovered object from its key in etcd. Invariant: two objects never get the same name, and
//! no name leaves the output directory.

use std::fmt::Write;

use crate::{crypto::Digest, recover::OpenedObject};

/// The greatest number of names in a path. The keys of Kubernetes have fewer slashes; anyone who can write to etcd can
/// invent more.
const DEPTH: usize = 8;

/// The length of the beginning of a long name that is kept. With its digest and `.yaml` the name is shorter than 255
/// bytes, which is the limit of file systems.
const KEPT: usize = 200;

/// Returns the path for an object whose key begins with `prefix`: the segments of its key, with unusual bytes as `%`
/// and two digits. A long name is cut, and ends in `~` and 32 digits of its SHA-256, so that two keys never have the
/// same name.
pub(super) fn file_names(object: &OpenedObject, prefix: &str) -> Vec<String> {
    let path = object.key.strip_prefix(prefix).unwrap_or(&object.key);
    let mut names: Vec<String> = path.splitn(DEPTH, '/').map(name).collect();
    if let Some(last) = names.last_mut() {
        let _ = write!(last, ".{}", object.ending);
    }
    names
}

fn name(part: &str) -> String {
    let mut name = String::with_capacity(part.len());
    for (at, byte) in part.bytes().enumerate() {
        let is_usual = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b':') || byte == b'.' && at > 0;
        // Writing into memory does not fail.
        let _ = if is_usual { name.write_char(char::from(byte)) } else { write!(name, "%{byte:02X}") };
    }
    match name.get(..KEPT) {
        _ if name.is_empty() => "%".to_owned(),
        Some(kept) if name.len() > KEPT => format!("{kept}~{}", &Digest::of(part.as_bytes()).to_hex()[..32]),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(key: &str) -> String {
        let object = OpenedObject {
            key: key.to_owned(),
            mod_revision: 1,
            kind: None,
            ending: "yaml",
            is_authentic: true,
            length: 0,
        };
        file_names(&object, "/registry/").join("/")
    }

    #[test]
    fn a_key_becomes_a_path_that_leads_nowhere_else() {
        for (key, expected) in [
            ("/registry/secrets/default/user", "secrets/default/user.yaml"),
            ("/registry/clusterroles/system:node", "clusterroles/system:node.yaml"),
            ("/registry/secrets/../../etc/passwd", "secrets/%2E./%2E./etc/passwd.yaml"),
            ("/registry/secrets//.hidden", "secrets/%/%2Ehidden.yaml"),
            ("/registry/secrets/a%2Fb~c\n", "secrets/a%252Fb%7Ec%0A.yaml"),
            ("/registry/1/2/3/4/5/6/7/8/9", "1/2/3/4/5/6/7/8%2F9.yaml"),
            ("/registry/", "%.yaml"),
            ("/elsewhere", "%/elsewhere.yaml"),
        ] {
            assert_eq!(path(key), expected, "{key}");
        }
    }

    #[test]
    fn long_names_are_cut_and_stay_apart() {
        let long = |end: &str| path(&format!("/registry/secrets/a/{}{end}", "n".repeat(252)));
        let (one, other) = (long("a"), long("b"));
        assert_ne!(one, other);
        assert_eq!(one.rsplit('/').next().unwrap().len(), 200 + 1 + 32 + 5);
        assert!(one.starts_with("secrets/a/nnn") && one.contains("n~"));
    }
}
