//! Settings whose values cannot be read, each by its own name.

use toml::{Table, Value};

use crate::recipe::Recipe;

/// A setting whose value cannot be read.
pub struct Unread {
    /// Name, e.g. `schedule.epochs`.
    pub setting: String,
    /// Its problem, with the name.
    pub problem: String,
}

/// The error of a deserializer.
struct Misread {
    /// Its message, on one line.
    message: String,
    /// The full name of the setting that it is about.
    setting: String,
}

impl From<serde_path_to_error::Error<toml::de::Error>> for Misread {
    fn from(error: serde_path_to_error::Error<toml::de::Error>) -> Self {
        let setting = error.path().to_string();
        Self { message: error.into_inner().message().trim().replace('\n', "; "), setting }
    }
}

/// Removes every setting whose value cannot be read, so that its default applies.
pub fn remove_unread(table: &mut Table) -> Vec<Unread> {
    let mut unread = Vec::new();
    table.retain(|name, value| {
        let in_recipe = |value: &Value| -> Result<(), Misread> {
            let table = Value::Table(Table::from_iter([(name.to_owned(), value.clone())]));
            serde_path_to_error::deserialize::<_, Recipe>(table).map(drop).map_err(Misread::from)
        };
        keep_readable(name, value, &in_recipe, &mut unread)
    });
    unread
}

/// Whether a value can be read, perhaps after some settings of a table were removed.
fn keep_readable(
    name: &str,
    value: &mut Value,
    read: &dyn Fn(&Value) -> Result<(), Misread>,
    unread: &mut Vec<Unread>,
) -> bool {
    let Err(misread) = read(value) else { return true };
    let found = unread.len();
    if let Value::Table(settings) = value {
        // Settings are read one at a time, with the kind of their table.
        let kind = settings.get("kind").map(|kind| ("kind".to_owned(), kind.clone()));
        let alone = Table::from_iter(kind);
        match (read(&Value::Table(alone.clone())), alone.get("kind")) {
            (Err(misread), Some(kind)) => {
                unread.push(Unread::new(&format!("{name}.kind"), kind, &misread.message));
                return false;
            }
            (Err(_), None) => {}
            (Ok(()), _) => settings.retain(|key, value| {
                let beside_kind = |value: &Value| {
                    let mut table = alone.clone();
                    table.insert(key.to_owned(), value.clone());
                    read(&Value::Table(table))
                };
                keep_readable(&format!("{name}.{key}"), value, &beside_kind, unread)
            }),
        }
    }
    if unread.len() > found && read(value).is_ok() {
        return true;
    }
    unread.truncate(found);
    unread.push(match inside(name, value, &misread.setting) {
        Some(inner) => Unread::new(&misread.setting, inner, &misread.message),
        None => Unread::new(name, value, &misread.message),
    });
    false
}

/// The value of the setting with the full name `setting` in the table called `name`; `None` if it is not there.
fn inside<'a>(name: &str, table: &'a Value, setting: &str) -> Option<&'a Value> {
    let keys = setting.strip_prefix(name)?.strip_prefix('.')?;
    keys.split('.').try_fold(table, |value, key| value.get(key))
}

impl Unread {
    /// The problem with the value of a setting, from the message of its deserializer.
    fn new(setting: &str, value: &Value, message: &str) -> Self {
        let missing = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
        let problem = match (message.split_once(", expected "), missing) {
            (Some((_, expected)), _) if !value.is_table() => format!("{setting} is {value}; give {}", wanted(expected)),
            (_, Some(missing)) => format!("{setting} has no {missing}; give it, too"),
            _ => format!("{setting}: {message}"),
        };
        Self { setting: setting.to_owned(), problem }
    }
}

/// The words of a deserializer for what it expected, in those of recipes.
fn wanted(expected: &str) -> String {
    match expected {
        "usize" | "u64" | "u32" | "u8" => "a whole number, not negative".into(),
        "f64" | "f32" => "a number".into(),
        "a boolean" => "true or false".into(),
        "a sequence" => "a list".into(),
        other => match other.strip_prefix("an array of length ") {
            Some(length) => format!("a list of {length}"),
            None => other.replace('`', ""),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::remove_unread;
    use toml::Table;

    /// The problems of a recipe, and the table that is left.
    fn unread(text: &str) -> (Vec<String>, Table) {
        let mut table: Table = text.parse().unwrap();
        let problems = remove_unread(&mut table).into_iter().map(|unread| unread.problem).collect();
        (problems, table)
    }

    #[test]
    fn every_value_is_named_with_what_to_give() {
        let text = "seed = -1\n[schedule]\nepochs = \"many\"\nshape = \"stairs\"\nwarmup_epochs = 3\n\
                    [execution]\nautotune = 3\n[objective]\nkind = \"vicreg\"\nvariance = \"x\"\ncovariance = 2\n\
                    [gradient]\nclip_norm = [1]\n[optimizer]\nkind = \"adam\"\nmomentum = 0.9\n";
        let (problems, left) = unread(text);
        let expected = [
            "seed is -1; give a whole number, not negative",
            "schedule.epochs is \"many\"; give a whole number, not negative",
            "schedule.shape is \"stairs\"; give one of cosine, step, constant",
            "execution.autotune is 3; give true or false",
            "objective.variance is \"x\"; give a number",
            "gradient.clip_norm is [1]; give a number",
            "optimizer.kind is \"adam\"; give one of lars, sgd, adamw",
        ];
        assert_eq!(problems, expected);
        let rest =
            "[schedule]\nwarmup_epochs = 3\n[execution]\n[objective]\nkind = \"vicreg\"\ncovariance = 2\n[gradient]";
        assert_eq!(left, rest.parse().unwrap());
    }

    #[test]
    fn of_settings_that_need_each_other_the_wrong_one_is_named() {
        let normalization = |text: &str| unread(&format!("[normalization]\n{text}\n")).0;
        let found = normalization("mean = [0.5, 0.5]\nstd = [0.2, 0.2, 0.2]");
        assert_eq!(found, ["normalization.mean is [0.5, 0.5]; give a list of 3"]);
        let found = normalization("mean = [0.5, 0.5, 0.5]\nstd = \"small\"");
        assert_eq!(found, ["normalization.std is \"small\"; give a list of 3"]);
        assert_eq!(normalization("mean = [0.5, 0.5, 0.5]"), ["normalization has no std; give it, too"]);
    }

    #[test]
    fn a_table_whose_settings_need_each_other_is_one_value() {
        let clean = "clean = { resize = 32, crop = 32, filter = \"bilinear\" }";
        let (problems, left) = unread(&format!("[augmentation]\npolicy = {{ name = \"mine\", {clean}, views = 3 }}"));
        assert!(problems.len() == 1 && problems[0].starts_with("augmentation.policy"), "{problems:?}");
        assert_eq!(left, "[augmentation]".parse().unwrap());
    }

    #[test]
    fn what_can_be_read_stays() {
        let text = crate::Recipe::default().to_toml();
        let (problems, left) = unread(&text);
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(left, text.parse().unwrap());
    }
}
