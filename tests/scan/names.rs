//! Compares the names of resources in a report with those of real API servers: each resource and its path.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
};

use serde_json::Value;

use super::{
    objects::define_widgets,
    scanned::{Scan, put},
};
use crate::{
    contract::front::Front,
    harness::{api_server::ApiServer, binaries::Version, etcd::Etcd, processes::Run},
};

/// The resources that API servers keep for themselves, and that no configuration encrypts.
const BOOKKEEPING: [&str; 3] = ["masterleases", "peerserverleases", "ranges"];

/// The beginning of the log line in which an API server names the path of a resource.
const MONITORING: &str = r#""Monitoring resource count at path" resource=""#;

/// Returns each path with its resource, from the log of an API server.
fn paths(log: &str) -> BTreeMap<String, String> {
    let lines = log.lines().filter_map(|line| line.split_once(MONITORING)?.1.strip_suffix('"'));
    let pairs = lines.map(|line| line.split_once(r#"" path="<storage-prefix>/"#).unwrap());
    pairs.map(|(resource, path)| (path.trim_matches('/').to_owned(), resource.to_owned())).collect()
}

fn json(front: &Front, path: &str) -> Value {
    serde_json::from_str(&front.get(path).expect(200)).unwrap()
}

fn list<'a>(document: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    document[name].as_array().unwrap().iter()
}

/// Returns the resources that clients of the API server can create and read.
fn discovered(front: &Front) -> BTreeSet<String> {
    let mut urls = vec!["/api/v1".to_owned()];
    for group in list(&json(front, "/apis"), "groups") {
        urls.extend(
            list(group, "versions").map(|version| format!("/apis/{}", version["groupVersion"].as_str().unwrap())),
        );
    }
    let mut found = BTreeSet::new();
    for url in urls {
        let group = url.strip_prefix("/apis/").map_or("", |group_version| group_version.split('/').next().unwrap());
        for resource in list(&json(front, &url), "resources") {
            let has = |verb: &str| list(resource, "verbs").any(|one| one == verb);
            let name = resource["name"].as_str().unwrap();
            if !name.contains('/') && has("create") && has("get") {
                found.insert(if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") });
            }
        }
    }
    found
}

/// Returns an entry for all resources of each group. It covers a resource only if its group is known.
fn all_groups(resources: &BTreeMap<String, String>) -> String {
    let groups: BTreeSet<&str> =
        resources.values().map(|name| name.split_once('.').map_or("", |(_, group)| group)).collect();
    let mut text = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n".to_owned();
    for group in groups {
        writeln!(text, "- resources: ['*.{group}']\n  providers:").unwrap();
        writeln!(text, "  - secretbox: {{keys: [{{name: k, secret: {}=}}]}}", "A".repeat(43)).unwrap();
    }
    text
}

/// An etcd that an API server with all features has begun to use, and the paths in its log.
struct Served {
    etcd: Etcd,
    paths: BTreeMap<String, String>,
    run: Run,
}

impl Served {
    /// Asserts that each resource that the API server offers has a path.
    fn by(version: Version) -> Self {
        let run = Run::new().unwrap();
        let etcd = Etcd::start(&run, 1).unwrap();
        let api = ApiServer::on(&run, &etcd)
            .version(version)
            .argument("--v=2")
            .argument("--runtime-config=api/all=true")
            .argument("--feature-gates=AllAlpha=true,AllBeta=true")
            .start()
            .unwrap();
        let front = Front::of(&run, &api);
        define_widgets(&front);
        let paths = paths(&api.log().unwrap());
        assert!(paths.len() > 60, "{paths:?}");
        // Two groups serve events, and etcd has them once.
        let mut served = discovered(&front);
        assert!(served.remove("events.events.k8s.io"));
        assert_eq!(served.difference(&paths.values().cloned().collect()).collect::<Vec<_>>(), [""; 0]);
        Self { etcd, paths, run }
    }

    /// Returns the resource whose path a key begins with.
    fn resource(&self, key: &str) -> Option<&str> {
        let below = key.strip_prefix("/registry/").unwrap();
        let mut paths = self.paths.iter();
        paths
            .find(|(path, _)| below.strip_prefix(*path).is_some_and(|rest| rest.starts_with('/')))
            .map(|(_, name)| &**name)
    }

    /// Asserts that a scan names the objects that the API server has written itself as the API server does, or knows
    /// that they are its own.
    fn assert_that_what_is_there_is_named(&self) {
        for (key, line) in Scan::live(&self.run, &self.etcd).list() {
            let resource = line["resource"].as_str().unwrap();
            let is_named = self.resource(&key).map_or_else(|| BOOKKEEPING.contains(&resource), |name| name == resource);
            assert!(is_named, "{key} is called {resource}");
        }
    }

    /// Asserts that a scan names an object at any of the paths as the API server does, and knows its group.
    fn assert_that_whatever_may_come_is_named(&self) {
        let config = self.run.path("all-groups.yaml");
        fs::write(&config, all_groups(&self.paths)).unwrap();
        let probes: Vec<_> = self.paths.keys().map(|path| (format!("/registry/{path}/zz/probe"), &b"{}"[..])).collect();
        put(&self.etcd, &probes);
        let list = Scan::live(&self.run, &self.etcd).config(&config).list();
        for (key, _) in probes {
            let line = &list[&key];
            assert_eq!(line["resource"], self.resource(&key).unwrap(), "{key}");
            assert_eq!(line["finding"], "plaintext-although-covered", "the group of {key} is not known");
        }
    }
}

/// Asserts that a report names the object at each path as the API server does.
fn are_named_as_by(version: Version) {
    let served = Served::by(version);
    served.assert_that_what_is_there_is_named();
    served.assert_that_whatever_may_come_is_named();
}

#[test]
fn resources_are_named_as_kubernetes_1_37_names_them() {
    are_named_as_by(Version::V1_37);
}

#[test]
fn resources_are_named_as_kubernetes_1_31_names_them() {
    are_named_as_by(Version::V1_31);
}
