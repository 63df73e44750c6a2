//! The explorations of rotations: with all rules nothing breaks, and without one of them something does.

use super::{
    checking::{breaks, explored, holds},
    model::{CHAINED, Exploration, ORDERLY, PROVEN, READABLE, RotationMishap},
    rules::{Rule, Rules},
};

fn one_node(rules: Rules) -> Exploration {
    Exploration {
        rules,
        is_compromise: false,
        mishap: None,
        nodes: 1,
        api_servers: 1,
        objects: 2,
        until: 10,
        crashes: 3,
    }
}

#[test]
fn one_node_rotates_whatever_dies() {
    holds(one_node(Rules::default()), 1_000_000);
}

/// Returns a model in which others may know the first key.
fn compromised(rules: Rules) -> Exploration {
    Exploration { is_compromise: true, objects: 1, until: 9, crashes: 2, ..one_node(rules) }
}

#[test]
fn a_compromise_disables_the_old_key_whatever_dies() {
    holds(compromised(Rules::default()), 10_000);
}

#[test]
fn without_settled_connections_a_compromise_disables_a_key_in_use() {
    breaks(compromised(Rules::without(Rule::Settle)), READABLE);
}

#[test]
fn two_nodes_rotate_whatever_dies() {
    let rules = Rules::default();
    holds(Exploration { nodes: 2, api_servers: 2, objects: 1, until: 4, crashes: 1, ..one_node(rules) }, 100_000);
}

#[test]
fn without_the_quiet_time_an_old_write_comes_after_the_proof() {
    breaks(one_node(Rules::without(Rule::Quiet)), PROVEN);
}

#[test]
fn without_the_acknowledgements_a_node_meets_a_key_that_it_lacks() {
    let rules = Rules::without(Rule::Acknowledge);
    breaks(Exploration { nodes: 2, api_servers: 2, objects: 1, until: 3, crashes: 0, ..one_node(rules) }, READABLE);
}

/// Returns a model in which a node may serve a fork.
fn forked(rules: Rules) -> Exploration {
    Exploration {
        mishap: Some(RotationMishap::Fork),
        nodes: 2,
        api_servers: 2,
        objects: 1,
        until: 5,
        crashes: 1,
        ..one_node(rules)
    }
}

#[test]
fn nothing_is_proven_while_a_node_serves_a_fork() {
    holds(forked(Rules::default()), 10_000);
}

#[test]
fn without_the_chain_a_fork_with_the_same_primary_key_counts_as_the_keyring() {
    breaks(forked(Rules::without(Rule::Chain)), CHAINED);
}

#[test]
fn without_the_count_a_copied_keyring_file_is_taken_for_a_shared_one() {
    let copied = |rules| Exploration { nodes: 1, api_servers: 2, objects: 1, until: 3, crashes: 0, ..one_node(rules) };
    let counted = explored(copied(Rules::default()));
    assert_eq!((counted.broken, counted.ends), (Vec::new(), false), "it is refused");
    breaks(copied(Rules::without(Rule::Count)), READABLE);
}

/// Returns a model in which the plan may be lost.
fn forgetful(rules: Rules) -> Exploration {
    Exploration { mishap: Some(RotationMishap::LostPlan), objects: 1, until: 7, crashes: 2, ..one_node(rules) }
}

#[test]
fn a_rotation_whose_plan_is_lost_is_finished_by_the_next_one() {
    holds(forgetful(Rules::default()), 10_000);
}

#[test]
fn without_finishing_first_a_lost_plan_leaves_values_under_ever_more_keys() {
    breaks(forgetful(Rules::without(Rule::Finish)), ORDERLY);
}

/// Returns a model in which the disk may be lost, and the last backup is restored.
fn restored(rules: Rules) -> Exploration {
    Exploration { mishap: Some(RotationMishap::LostDisk), objects: 1, until: 7, crashes: 2, ..one_node(rules) }
}

#[test]
fn a_backup_that_is_restored_at_any_moment_reads_every_value() {
    holds(restored(Rules::default()), 10_000);
}

#[test]
fn without_the_backup_a_lost_disk_loses_values() {
    breaks(restored(Rules::without(Rule::BackUp)), READABLE);
}
