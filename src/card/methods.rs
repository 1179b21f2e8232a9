//! Objective and modules of a method, with their papers.

use equimod_core::{Entry, EquivarianceConfig, MethodConfig, ObjectiveConfig};

/// The objective, if there is one, and the modules of a method, in this order.
pub fn entries(method: &MethodConfig) -> Vec<Entry> {
    let kind = method.objective.name();
    let objective = ObjectiveConfig::LIST.iter().filter(|entry| entry.name == kind && !entry.arxiv.is_empty());
    objective.copied().chain(modules(method)).collect()
}

/// The equivariance modules of a method.
pub fn modules(method: &MethodConfig) -> Vec<Entry> {
    let on = method.equivariance.on();
    let is_on = |entry: &Entry| on.iter().any(|(name, _)| *name == entry.name);
    EquivarianceConfig::list().into_iter().filter(is_on).collect()
}
