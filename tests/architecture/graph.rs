//! Computes which file needs which other file, and finds circles.
//!
//! An edge leads from a file to the file that *defines* a name that the first one uses. If a `mod.rs` only imports or
//! exports the name again, the edge leads on to the file that defines it. A `mod.rs` that exports its children again
//! needs none of them. It needs a child only if its own code uses the child's name. Names are resolved by text, so
//! names from macros and from `use child::*` are not seen.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    lexer::{Token, tokens, without_tests},
    paths::{Import, imports, paths},
};

/// A module by its path below the crate: `["keyring", "mark"]`.
pub type Module = Vec<String>;

/// The files of the crate and their edges.
#[derive(Clone)]
pub struct Graph {
    files: BTreeMap<Module, File>,
    edges: BTreeMap<Module, BTreeSet<Module>>,
}

#[derive(Clone)]
struct File {
    path: String,
    imports: Vec<Import>,
    paths: Vec<Vec<String>>,
    words: BTreeSet<String>,
}

/// A list of nodes. Each needs the next one, and the last one needs the first.
pub type Circle = Vec<String>;

impl Graph {
    /// Returns the graph of these files, each with its path from `src/` on and its text.
    pub fn of<'a>(sources: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let files = sources.into_iter().map(|(path, text)| (module_of(path), File::of(path, text))).collect();
        let mut graph = Self { files, edges: BTreeMap::new() };
        graph.edges = graph.files.keys().map(|module| (module.clone(), graph.needs(module))).collect();
        graph
    }

    /// Returns the same graph without these files.
    pub fn without(&self, paths: &[&str]) -> Self {
        let mut kept = self.clone();
        let is_kept = |module: &Module| !paths.contains(&self.files[module].path.as_str());
        kept.files.retain(|module, _| is_kept(module));
        kept.edges.retain(|module, _| is_kept(module));
        kept.edges.values_mut().for_each(|needed| needed.retain(is_kept));
        kept
    }

    /// Returns the files that are in a circle of files, each with its shortest circle.
    pub fn circles(&self) -> BTreeMap<String, Circle> {
        let named = |module: &Module| self.files[module].path.clone();
        let edges = self.edges.iter().map(|(from, to)| (named(from), to.iter().map(named).collect()));
        circles(&edges.collect())
    }

    /// Returns the folders that are in a circle with the files and folders beside them. Each folder counts as one node
    /// with all its contents.
    pub fn folders_in_circles(&self) -> BTreeMap<String, Circle> {
        let mut found = BTreeMap::new();
        for folder in self.folders().iter().filter(|folder| !folder.is_empty()) {
            let (parent, depth) = (&folder[..folder.len() - 1], folder.len());
            let entry = |module: &Module| format!("src/{}", module[..module.len().min(depth)].join("/"));
            let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
            for (from, to) in self.edges.iter().filter(|(from, _)| from.starts_with(parent)) {
                let beside = to.iter().filter(|to| to.starts_with(parent)).map(entry);
                edges.entry(entry(from)).or_default().extend(beside.filter(|other| *other != entry(from)));
            }
            found.extend(circles(&edges).into_iter().filter(|(node, _)| *node == entry(folder)));
        }
        found
    }

    fn folders(&self) -> BTreeSet<Module> {
        self.files
            .keys()
            .filter(|module| !module.is_empty())
            .map(|module| module[..module.len() - 1].to_vec())
            .collect()
    }

    /// Returns the files that define what the file of `module` names.
    fn needs(&self, module: &Module) -> BTreeSet<Module> {
        let file = &self.files[module];
        let is_used = |import: &&Import| {
            let target = self.absolute(module, &import.path);
            let is_own_child = target.is_some_and(|target| target.len() > module.len() && target.starts_with(module));
            !(file.names_children() && is_own_child) || file.words.contains(&import.name)
        };
        let imported = file.imports.iter().filter(is_used).map(|import| &import.path);
        let named = imported.chain(&file.paths).filter_map(|path| self.absolute(module, path));
        let mut found: BTreeSet<Module> = named.filter_map(|path| self.definer(&path, 8)).collect();
        found.remove(module);
        found
    }

    /// Returns the path from the crate on for `path`, as the file of `module` writes it. `None` if it leads out of the
    /// crate.
    fn absolute(&self, module: &Module, path: &[String]) -> Option<Vec<String>> {
        let (first, rest) = path.split_first()?;
        let base = match first.as_str() {
            "crate" => Vec::new(),
            "self" => module.clone(),
            "super" => module[..module.len().checked_sub(1)?].to_vec(),
            _ => {
                return self.files.contains_key(&join(module, first)).then(|| [module.clone(), path.to_vec()].concat());
            }
        };
        if rest.first().is_some_and(|next| next == "super") {
            return self.absolute(&base, rest);
        }
        Some([base, rest.to_vec()].concat())
    }

    /// Returns the module whose file defines the item at `path`, at most `steps` `use` lines away.
    fn definer(&self, path: &[String], steps: usize) -> Option<Module> {
        let mut module = Module::new();
        for (place, segment) in path.iter().enumerate() {
            let child = join(&module, segment);
            if self.files.contains_key(&child) {
                module = child;
                continue;
            }
            let import = self.files.get(&module)?.imports.iter().find(|import| import.name == *segment);
            let target = import.and_then(|import| self.absolute(&module, &import.path));
            return match target {
                Some(target) if steps > 0 => self.definer(&[target, path[place + 1..].to_vec()].concat(), steps - 1),
                _ => Some(module),
            };
        }
        self.files.contains_key(&module).then_some(module)
    }
}

impl File {
    fn of(path: &str, text: &str) -> Self {
        let tokens = without_tests(&tokens(text));
        let (imports, code) = imports(&tokens);
        let words = code.iter().map(|token: &Token<'_>| token.text.to_owned()).collect();
        Self { path: path.to_owned(), imports, paths: paths(&code), words }
    }

    /// Whether the file is a `mod.rs` or `lib.rs`.
    fn names_children(&self) -> bool {
        self.path.ends_with("mod.rs") || self.path.ends_with("lib.rs")
    }
}

fn join(module: &[String], segment: &str) -> Module {
    [module, &[segment.to_owned()]].concat()
}

/// Returns the module of a file: `src/scan/bolt/mod.rs` is `scan::bolt`, and `src/lib.rs` the crate.
fn module_of(path: &str) -> Module {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs");
    path.split('/').filter(|segment| !["mod", "lib"].contains(segment)).map(str::to_owned).collect()
}

/// Returns the nodes that are in a circle, each with its shortest circle.
fn circles(edges: &BTreeMap<String, BTreeSet<String>>) -> BTreeMap<String, Circle> {
    edges.keys().filter_map(|node| Some((node.clone(), circle(edges, node)?))).collect()
}

fn circle(edges: &BTreeMap<String, BTreeSet<String>>, start: &str) -> Option<Circle> {
    let mut ways = vec![vec![start.to_owned()]];
    let mut seen = BTreeSet::new();
    let mut at = 0;
    while at < ways.len() {
        let way = ways[at].clone();
        for next in edges.get(way.last()?).into_iter().flatten() {
            if next == start {
                return Some(way);
            }
            if seen.insert(next) {
                ways.push([way.clone(), vec![next.clone()]].concat());
            }
        }
        at += 1;
    }
    None
}
