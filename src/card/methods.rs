//! What objectives and modules are called, and where they come from.

use equimod_core::MethodConfig;
use serde::Serialize;

/// A part of a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    #[serde(skip)]
    kind: &'static str,
    /// For people.
    pub name: &'static str,
    /// Where it was published.
    pub arxiv: &'static str,
}

const fn part(kind: &'static str, name: &'static str, arxiv: &'static str) -> Part {
    Part { kind, name, arxiv }
}

const OBJECTIVES: [Part; 6] = [
    part("simclr", "SimCLR", "2002.05709"),
    part("byol", "BYOL", "2006.07733"),
    part("barlow-twins", "Barlow Twins", "2103.03230"),
    part("vicreg", "VICReg", "2105.04906"),
    part("simsiam", "SimSiam", "2011.10566"),
    part("moco-v3", "MoCo v3", "2104.02057"),
];

const MODULES: [Part; 7] = [
    part("equimod", "EquiMod", "2211.01244"),
    part("augself", "AugSelf", "2111.09613"),
    part("essl", "E-SSL", "2111.00899"),
    part("split", "a feature split after SIE", "2302.10283"),
    part("conditional", "a conditional predictor", "2211.01244"),
    part("care", "CARE", "2306.13924"),
    part("stl", "STL", "2501.08712"),
];

/// The parts of a method, the objective first.
pub fn parts(method: &MethodConfig) -> Vec<Part> {
    let kind =
        serde_json::to_value(&method.objective).ok().and_then(|value| Some(value.get("kind")?.as_str()?.to_owned()));
    let objective = OBJECTIVES.into_iter().filter(|part| kind.as_deref() == Some(part.kind));
    objective.chain(modules(method)).collect()
}

/// The equivariance modules of a method.
pub fn modules(method: &MethodConfig) -> Vec<Part> {
    let on = method.equivariance.on();
    MODULES.into_iter().filter(|part| on.iter().any(|(name, _)| *name == part.kind)).collect()
}

/// Whether EquiMod is on.
pub fn has_equimod(method: &MethodConfig) -> bool {
    modules(method).iter().any(|part| part.kind == "equimod")
}

#[cfg(test)]
mod tests {
    use equimod_core::{EquivarianceConfig, ObjectiveConfig};

    use super::*;

    #[test]
    fn every_objective_and_module_has_a_name() {
        for (kind, _) in ObjectiveConfig::LIST {
            assert!(kind == "none" || OBJECTIVES.iter().any(|part| part.kind == kind), "{kind}");
        }
        for (kind, _) in EquivarianceConfig::LIST {
            assert!(MODULES.iter().any(|part| part.kind == kind), "{kind}");
        }
    }
}
