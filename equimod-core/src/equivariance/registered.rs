//! Modules of other crates, which recipes can name once they are registered.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ModuleSettings;
use crate::registry::Entry;
use crate::{Error, Result};

type SharedSettings = Arc<dyn ModuleSettings + Send + Sync>;

/// A kind of equivariance module that is defined in another crate.
#[derive(Clone, Copy)]
pub struct ModuleKind {
    entry: Entry,
    read: fn(Value) -> serde_json::Result<(Value, SharedSettings)>,
}

impl ModuleKind {
    /// The kind of module whose settings are `S`; recipes name it `entry.name`.
    ///
    /// `S` is read from the recipe, which may leave out settings that `S` has defaults for (`#[serde(default)]`).
    pub const fn new<S>(entry: Entry) -> Self
    where
        S: ModuleSettings + Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        Self { entry, read: read::<S> }
    }
}

fn read<S>(value: Value) -> serde_json::Result<(Value, SharedSettings)>
where
    S: ModuleSettings + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let settings: S = serde_json::from_value(value)?;
    Ok((serde_json::to_value(&settings)?, Arc::new(settings)))
}

static KINDS: RwLock<Vec<ModuleKind>> = RwLock::new(Vec::new());

/// Makes kinds of modules known to recipes and model files of this program, in addition to those of
/// [`EquivarianceConfig::LIST`](super::EquivarianceConfig::LIST). Call it before the first recipe is read.
///
/// # Errors
///
/// If a name is taken, or is not made of lower-case letters, digits and `_`.
pub fn register(kinds: &[ModuleKind]) -> Result<()> {
    let mut known = KINDS.write().unwrap_or_else(PoisonError::into_inner);
    for kind in kinds {
        let name = kind.entry.name;
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if name.is_empty() || !name.chars().all(is_plain) {
            return Err(Error::InvalidSetting {
                setting: "the name of a module".into(),
                value: format!("{name:?}"),
                reason: "use lower-case letters, digits and _".into(),
            });
        }
        let built_in = super::EquivarianceConfig::LIST.iter().any(|entry| entry.name == name);
        if built_in || known.iter().any(|other| other.entry.name == name) {
            return Err(Error::Duplicate { kind: "module", name: name.into() });
        }
        known.push(*kind);
    }
    Ok(())
}

/// Entries of the registered kinds.
pub fn registered() -> Vec<Entry> {
    KINDS.read().unwrap_or_else(PoisonError::into_inner).iter().map(|kind| kind.entry).collect()
}

fn kind(name: &str) -> Option<ModuleKind> {
    KINDS.read().unwrap_or_else(PoisonError::into_inner).iter().find(|kind| kind.entry.name == name).copied()
}

/// The settings of registered modules, by name.
///
/// A module that this program does not know keeps its settings as they are written: its run can be evaluated without
/// it, but not trained.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, Value>", into = "BTreeMap<String, Value>")]
pub struct RegisteredModules(BTreeMap<String, RegisteredModule>);

#[derive(Clone)]
struct RegisteredModule {
    written: Value,
    settings: Option<SharedSettings>,
}

impl RegisteredModules {
    /// The modules that this program knows, with their names.
    pub(super) fn on(&self) -> impl Iterator<Item = (&str, &dyn ModuleSettings)> {
        self.0.iter().filter_map(|(name, module)| {
            module.settings.as_deref().map(|settings| (name.as_str(), settings as &dyn ModuleSettings))
        })
    }

    /// Names of the modules that this program does not know.
    pub(super) fn unknown(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(_, module)| module.settings.is_none()).map(|(name, _)| name.as_str())
    }
}

impl RegisteredModule {
    fn read(name: &str, written: Value) -> Result<Self> {
        let Some(kind) = kind(name) else { return Ok(Self { written, settings: None }) };
        match (kind.read)(written.clone()) {
            Ok((written, settings)) => Ok(Self { written: without_nulls(written), settings: Some(settings) }),
            Err(error) => Err(Error::InvalidSetting {
                setting: format!("equivariance.{name}"),
                value: written.to_string(),
                reason: error.to_string(),
            }),
        }
    }
}

/// The value without settings that are not set: TOML has no null.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let set = map.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(set.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        value => value,
    }
}

impl PartialEq for RegisteredModule {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl fmt::Debug for RegisteredModule {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.written.fmt(f)
    }
}

impl TryFrom<BTreeMap<String, Value>> for RegisteredModules {
    type Error = Error;

    fn try_from(written: BTreeMap<String, Value>) -> Result<Self> {
        let module = |(name, value): (String, Value)| Ok((name.clone(), RegisteredModule::read(&name, value)?));
        Ok(Self(written.into_iter().map(module).collect::<Result<_>>()?))
    }
}

impl From<RegisteredModules> for BTreeMap<String, Value> {
    fn from(modules: RegisteredModules) -> Self {
        modules.0.into_iter().map(|(name, module)| (name, module.written)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::BuildContext;
    use crate::equivariance::{EquivarianceConfig, EquivarianceModule};
    use crate::objective::ObjectiveConfig;
    use crate::optim::Weight;
    use crate::params::Scope;

    #[derive(Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Settings {
        weight: Weight,
        hidden: usize,
        note: Option<String>,
    }

    impl Default for Settings {
        fn default() -> Self {
            Self { weight: Weight::Fixed(1.0), hidden: 8, note: None }
        }
    }

    impl ModuleSettings for Settings {
        fn weight(&self) -> Weight {
            self.weight
        }

        fn problems(&self, _objective: &ObjectiveConfig) -> Vec<String> {
            if self.hidden == 0 { vec!["hidden is 0".into()] } else { Vec::new() }
        }

        fn build(&self, _: &BuildContext, _: &mut Scope) -> Result<Option<Box<dyn EquivarianceModule>>> {
            Ok(None)
        }
    }

    const fn entry(name: &'static str) -> Entry {
        Entry { name, title: "a test", arxiv: "", about: "does nothing" }
    }

    #[test]
    fn registered_modules_are_read_with_their_defaults_and_others_are_kept() {
        register(&[ModuleKind::new::<Settings>(entry("of_a_test"))]).unwrap();
        for taken in ["of_a_test", "equimod", "No", ""] {
            assert!(register(&[ModuleKind::new::<Settings>(entry(taken))]).is_err(), "{taken}");
        }
        let read = |text: &str| serde_json::from_str::<EquivarianceConfig>(text);
        let config = read(r#"{"equimod": {}, "of_a_test": {"weight": 0.5}, "from_elsewhere": {"rate": 3}}"#).unwrap();
        let on: Vec<&str> = config.on().into_iter().map(|(name, _)| name).collect();
        assert_eq!(on, ["equimod", "of_a_test"]);
        assert_eq!(config.unknown().collect::<Vec<_>>(), ["from_elsewhere"]);
        let written = serde_json::to_value(&config).unwrap();
        assert_eq!(written["of_a_test"], serde_json::json!({"weight": 0.5, "hidden": 8}));
        assert_eq!(written["from_elsewhere"], serde_json::json!({"rate": 3}));
        assert_eq!(serde_json::from_value::<EquivarianceConfig>(written).unwrap(), config);
        assert!(read(r#"{"of_a_test": {"hiden": 3}}"#).unwrap_err().to_string().contains("hiden"));
        let wrong = read(r#"{"of_a_test": {"hidden": 0}}"#).unwrap();
        let objective = serde_json::from_str(r#"{"kind": "simclr"}"#).unwrap();
        assert_eq!(wrong.validate(&objective), ["hidden is 0"]);
        assert!(EquivarianceConfig::list().iter().any(|entry| entry.name == "of_a_test"));
    }
}
