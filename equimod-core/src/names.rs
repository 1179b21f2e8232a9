//! Translation of a ResNet's tensor names in other codebases to those of torchvision.
//!
//! Other codebases add a prefix (`module.`, `encoder.`, `backbone.`, …), number the layers of a `Sequential` of the
//! ResNet's children (`0.weight` for `conv1.weight`, `4.0.conv1.weight` for `layer1.0.conv1.weight`), or use `shortcut`
//! for `downsample`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use candle_core::Tensor;

use crate::{Error, Result};

/// Parts of a ResNet that have tensors. Anything else in a file (a classifier, heads, prototypes) is not part of it.
const PARTS: [&str; 6] = ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"];
/// Name ending of a tensor that every ResNet has in its first block.
const BLOCK: &str = ".0.conv1.weight";

/// Naming scheme of a network's layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Naming {
    Torchvision,
    /// Numbered layers, with the number of the first stage.
    Numbered(usize),
}

/// A ResNet found in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Network {
    prefix: String,
    naming: Naming,
}

impl Network {
    /// torchvision's name of the tensor `name` of the file; `None` if it is not part of this network.
    fn rename(&self, name: &str) -> Option<String> {
        let inside = name.strip_prefix(&self.prefix)?;
        let (part, rest) = inside.split_once('.')?;
        let part = match self.naming {
            Naming::Torchvision => PARTS.contains(&part).then(|| part.to_owned()),
            Naming::Numbered(first) => match part.parse::<usize>().ok()? {
                0 => Some("conv1".to_owned()),
                1 => Some("bn1".to_owned()),
                number if (first..first + 4).contains(&number) => Some(format!("layer{}", number - first + 1)),
                _ => None,
            },
        }?;
        Some(format!("{part}.{rest}").replace(".shortcut.", ".downsample."))
    }
}

/// Tensors of a ResNet under torchvision's names.
pub(crate) struct Renamed {
    /// Tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// Prefix that was removed from the names.
    pub prefix: String,
    /// Names of the file's other tensors.
    pub left_out: Vec<String>,
    /// Number of the first stage, if layers are numbered.
    pub first_stage: Option<usize>,
}

/// Finds the ResNet in a file and renames its tensors; if there are several, `prefix` selects one. `path` names the
/// file in errors. Without a ResNet and a prefix, the tensors are returned unchanged.
pub(crate) fn renamed(tensors: BTreeMap<String, Tensor>, prefix: Option<&str>, path: &Path) -> Result<Renamed> {
    let networks = networks(&tensors);
    let chosen = chosen(&networks, prefix);
    let network = match (chosen.as_slice(), prefix) {
        ([network], _) => *network,
        ([], None) => {
            let (prefix, left_out, first_stage) = Default::default();
            return Ok(Renamed { tensors, prefix, left_out, first_stage });
        }
        ([], Some(prefix)) => {
            let text = format!("it has no ResNet under {prefix}; {}", listed(&networks));
            return Err(Error::checkpoint(path, text));
        }
        (_, _) => {
            let text = format!(
                "it holds several networks; {}; take one of them with `equimod import FILE --prefix …`",
                listed(&networks)
            );
            return Err(Error::checkpoint(path, text));
        }
    };
    let first_stage = match network.naming {
        Naming::Torchvision => None,
        Naming::Numbered(first) => Some(first),
    };
    let (prefix, left_out) = (network.prefix.clone(), Vec::new());
    let mut found = Renamed { tensors: BTreeMap::new(), prefix, left_out, first_stage };
    for (name, tensor) in tensors {
        match network.rename(&name) {
            Some(renamed) => drop(found.tensors.insert(renamed, tensor)),
            None => found.left_out.push(name),
        }
    }
    Ok(found)
}

/// The networks with this prefix or, if there are none, those whose prefix ends with it.
fn chosen<'a>(networks: &'a [Network], prefix: Option<&str>) -> Vec<&'a Network> {
    let Some(prefix) = prefix.map(trimmed) else { return networks.iter().collect() };
    let exact: Vec<&Network> = networks.iter().filter(|network| trimmed(&network.prefix) == prefix).collect();
    let end = format!(".{prefix}");
    match exact.is_empty() {
        true => networks.iter().filter(|network| trimmed(&network.prefix).ends_with(&end)).collect(),
        false => exact,
    }
}

fn trimmed(prefix: &str) -> &str {
    prefix.trim_end_matches('.')
}

fn listed(networks: &[Network]) -> String {
    let names: Vec<&str> = networks.iter().map(|network| trimmed(&network.prefix)).collect();
    match names.as_slice() {
        [] => "it has none at all".into(),
        names => format!(
            "there is {}",
            names.iter().map(|n| if n.is_empty() { "\"\"" } else { n }).collect::<Vec<_>>().join(", ")
        ),
    }
}

/// All ResNets among the tensors.
fn networks(tensors: &BTreeMap<String, Tensor>) -> Vec<Network> {
    let mut found = BTreeSet::new();
    for start in tensors.keys().filter_map(|name| name.strip_suffix(BLOCK)) {
        let (prefix, stage) = start.rfind('.').map_or(("", start), |dot| start.split_at(dot + 1));
        if stage == "layer1" {
            found.insert(Network { prefix: prefix.to_owned(), naming: Naming::Torchvision });
        } else if let Some(first) = first_numbered(tensors, prefix, stage) {
            found.insert(Network { prefix: prefix.to_owned(), naming: Naming::Numbered(first) });
        }
    }
    found.into_iter().collect()
}

/// The number `stage`, if it is that of the first of four numbered stages that follow a numbered convolution.
fn first_numbered(tensors: &BTreeMap<String, Tensor>, prefix: &str, stage: &str) -> Option<usize> {
    let first: usize = stage.parse().ok()?;
    let is_stage = |number: usize| tensors.contains_key(&format!("{prefix}{number}{BLOCK}"));
    // A deep stem is a nested Sequential.
    let convolution = |name: &str| tensors.get(&format!("{prefix}{name}")).is_some_and(|weight| weight.rank() == 4);
    let stem = convolution("0.weight") || convolution("0.0.weight");
    (stem && first >= 2 && !is_stage(first - 1) && (first..first + 4).all(is_stage)).then_some(first)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    fn file(names: &[&str]) -> BTreeMap<String, Tensor> {
        let tensor = |name: &&str| ((*name).to_owned(), Tensor::zeros((1, 1, 1, 1), DType::F32, &Device::Cpu).unwrap());
        names.iter().map(tensor).collect()
    }

    fn names(names: &[&str]) -> (Vec<String>, String, Vec<String>) {
        let found = renamed(file(names), None, Path::new("file")).unwrap();
        (found.tensors.into_keys().collect(), found.prefix, found.left_out)
    }

    #[test]
    fn names_become_torchvisions() {
        let plain = ["conv1.weight", "layer1.0.conv1.weight", "layer4.1.downsample.0.weight"];
        assert_eq!(names(&plain).0, plain);
        let (found, prefix, left_out) = names(&[
            "state_dict.module.conv1.weight",
            "state_dict.module.layer1.0.conv1.weight",
            "state_dict.module.layer4.1.shortcut.0.weight",
            "state_dict.module.prototypes.weight",
            "state_dict.module.fc.0.weight",
        ]);
        assert_eq!((found.as_slice(), prefix.as_str()), (plain.map(str::to_owned).as_slice(), "state_dict.module."));
        assert_eq!(left_out, ["state_dict.module.fc.0.weight", "state_dict.module.prototypes.weight"]);
    }

    #[test]
    fn children_of_a_sequential_are_known_with_and_without_max_pool() {
        for first in [3, 4] {
            let stage = |k: usize| format!("f.{}.0.conv1.weight", first + k);
            let stages: Vec<String> = (0..4).map(stage).collect();
            let mut all = vec!["f.0.weight", "f.1.bias", "g.0.weight"];
            all.extend(stages.iter().map(String::as_str));
            let (found, prefix, left_out) = names(&all);
            let expected = ["bn1.bias", "conv1.weight", "layer1.0.conv1.weight", "layer2.0.conv1.weight"];
            assert_eq!(found[..4], expected);
            assert_eq!((prefix.as_str(), left_out.as_slice()), ("f.", ["g.0.weight".to_owned()].as_slice()));
        }
    }

    #[test]
    fn one_of_several_networks_is_chosen() {
        let both = ["a.conv1.weight", "a.layer1.0.conv1.weight", "b.conv1.weight", "b.layer1.0.conv1.weight"];
        let several = renamed(file(&both), None, Path::new("file")).err().unwrap().to_string();
        assert!(several.contains("there is a, b") && several.contains("--prefix"), "{several}");
        let chosen = renamed(file(&both), Some("b"), Path::new("file")).unwrap();
        assert_eq!((chosen.tensors.len(), chosen.left_out.len()), (2, 2));
        assert!(
            renamed(file(&both), Some("c"), Path::new("file")).err().unwrap().to_string().contains("no ResNet under c")
        );
    }
}
