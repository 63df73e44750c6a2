//! Runs the model checker over the models of the planner.

use std::{fmt::Debug, hash::Hash};

use stateright::{Checker, Expectation, Model};

/// A model whose states can be compared, and whose events can be printed.
pub(super) trait Explorable:
    Model<State: Clone + PartialEq + Debug + Hash + Send + Sync, Action: Clone + PartialEq + Debug> + Send + Sync + 'static
{
}

impl<M> Explorable for M where
    M: Model<State: Clone + PartialEq + Debug + Hash + Send + Sync, Action: Clone + PartialEq + Debug>
        + Send
        + Sync
        + 'static
{
}

/// The result of an exploration.
pub(super) struct Explored {
    pub(super) states: usize,
    /// Whether everything that should be possible has happened in some order of events.
    pub(super) ends: bool,
    /// The properties that are broken, each with the shortest order of events that breaks it.
    pub(super) broken: Vec<(&'static str, String)>,
}

/// Explores every state that the model can reach.
pub(super) fn explored(model: impl Explorable) -> Explored {
    let named = |expected: Expectation| {
        let properties = model.properties().into_iter().filter(|property| property.expectation == expected);
        properties.map(|property| property.name).collect::<Vec<_>>()
    };
    let (always, sometimes) = (named(Expectation::Always), named(Expectation::Sometimes));
    let checker = model.checker().threads(2).spawn_bfs().join();
    let ends = sometimes.iter().all(|name| checker.discovery(name).is_some());
    let broken = checker.discoveries().into_iter().filter(|(name, _)| always.contains(name));
    let broken = broken.map(|(name, path)| (name, format!("{:#?}", path.into_actions()))).collect();
    Explored { states: checker.unique_state_count(), ends, broken }
}

/// Checks that no order of events breaks a property, in at least `states` states.
#[track_caller]
pub(super) fn holds(model: impl Explorable, states: usize) {
    let explored = explored(model);
    println!("{} states", explored.states);
    assert_eq!(explored.broken, []);
    assert!(explored.ends && explored.states >= states, "{} states", explored.states);
}

/// Checks that some order of events breaks the property, and prints it.
#[track_caller]
pub(super) fn breaks(model: impl Explorable, property: &str) {
    let broken = explored(model).broken;
    let (_, path) = broken.iter().find(|(name, _)| *name == property).unwrap_or_else(|| panic!("{broken:?}"));
    println!("{property} is broken by {path}");
}
