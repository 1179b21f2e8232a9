//! Objective and modules of a method, with their papers.

use equimod_core::equivariance::ModuleSettings;
use equimod_core::{Entry, EquivarianceConfig, MethodConfig, ObjectiveConfig};

/// The objective, if there is one, and the modules of a method, in this order.
pub fn entries(method: &MethodConfig) -> Vec<Entry> {
    let kind = method.objective.name();
    let objective = ObjectiveConfig::LIST.iter().filter(|entry| entry.name == kind && !entry.arxiv.is_empty());
    objective.copied().chain(modules(method)).collect()
}

/// The equivariance modules of a method. In a baseline, their losses have no weight, and they do not count; modules
/// without a loss do.
pub fn modules(method: &MethodConfig) -> Vec<Entry> {
    let on = method.equivariance.on();
    let values = serde_json::to_value(&method.equivariance).unwrap_or_default();
    let has_loss = |name: &str| values[name].get("weight").is_some();
    let counts = |(name, settings): &(&str, &dyn ModuleSettings)| !(has_loss(name) && settings.weight().is_zero());
    let is_on = |entry: &Entry| on.iter().filter(|one| counts(one)).any(|(name, _)| *name == entry.name);
    EquivarianceConfig::list().into_iter().filter(is_on).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_whose_losses_have_no_weight_do_not_count() {
        let names = |equivariance: &str| {
            let text =
                format!(r#"{{"backbone": {{}}, "objective": {{"kind": "byol"}}, "equivariance": {equivariance}}}"#);
            let method: MethodConfig = serde_json::from_str(&text).unwrap();
            modules(&method).iter().map(|module| module.name).collect::<Vec<_>>()
        };
        assert_eq!(names(r#"{"equimod": {"weight": 0}, "augself": {}}"#), ["augself"]);
        assert_eq!(names(r#"{"equimod": {"weight": 0}, "conditional": {}}"#), ["conditional"]);
        assert!(names(r#"{"equimod": {"weight": 0}}"#).is_empty());
    }
}
