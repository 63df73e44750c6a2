//! The rules of the planner. A test can take out one of them, to show that the rule is needed.

/// A rule that tests can take out, to show that it is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Rule {
    /// A key is promoted only after every node has proved that it can read with it.
    Acknowledge,
    /// A key is promoted only if a backup contains it.
    BackUp,
    /// There are at most as many API servers as nodes.
    Count,
    /// A scan counts only if it began after the quiet time.
    Quiet,
    /// A node has to serve the present record or a predecessor of it.
    Chain,
    /// If values are under other keys than the primary one, the rotation to the primary key is finished before a new
    /// key is promoted.
    Finish,
    /// A key is given up only after every API server has settled on the primary key.
    Settle,
    /// A key is given up only if a scan finds no value under it.
    Scan,
    /// A key is destroyed only if no listed snapshot of etcd needs it.
    Ledger,
    /// A key is destroyed only after etcd has compacted the revisions at which values needed it.
    Compaction,
}

/// The rules: all but the one that a test has taken out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Rules {
    without: Option<Rule>,
}

impl Rules {
    /// Returns all rules but `rule`.
    #[cfg(test)]
    pub(super) fn without(rule: Rule) -> Self {
        Self { without: Some(rule) }
    }

    pub(super) fn has(self, rule: Rule) -> bool {
        self.without != Some(rule)
    }
}
