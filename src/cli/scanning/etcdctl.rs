//! The command line of etcdctl for the etcd of a scan, so that a suggested command reaches the same etcd.

use crate::etcd::Servers;

use super::super::given::quoted;

/// Returns the command line of etcdctl for this etcd, with one endpoint, because a snapshot is taken of one member. If
/// the etcd is not known, the command contains a placeholder.
pub(in crate::cli) fn etcdctl(servers: Option<&Servers>) -> String {
    let Some(Servers { urls, cafile, certfile, keyfile }) = servers else {
        return "etcdctl --endpoints URL".to_owned();
    };
    let endpoint = urls.first().map(|url| format!(" --endpoints {}", quoted(url)));
    let files = [("cacert", cafile), ("cert", certfile), ("key", keyfile)];
    let files = files.into_iter().filter_map(|(flag, file)| Some(format!(" --{flag} {}", quoted(file.as_ref()?))));
    ["etcdctl".to_owned()].into_iter().chain(endpoint).chain(files).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reaches_the_etcd_that_was_scanned() {
        let servers = Servers {
            urls: vec!["https://a:2379".to_owned(), "https://b:2379".to_owned()],
            cafile: Some("/etc/my ca".into()),
            certfile: Some("/c".into()),
            keyfile: Some("/k".into()),
        };
        let expected = "etcdctl --endpoints https://a:2379 --cacert '/etc/my ca' --cert /c --key /k";
        assert_eq!(etcdctl(Some(&servers)), expected);
        let plain = Servers { urls: vec!["http://a".to_owned()], ..Servers::default() };
        assert_eq!(etcdctl(Some(&plain)), "etcdctl --endpoints http://a");
        assert_eq!(etcdctl(None), "etcdctl --endpoints URL");
    }
}
