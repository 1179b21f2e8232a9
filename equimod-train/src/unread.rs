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

/// Removes every setting whose value cannot be read, so that its default applies.
pub fn remove_unread(table: &mut Table) -> Vec<Unread> {
    let mut unread = Vec::new();
    table.retain(|name, value| {
        let in_recipe = |value: &Value| -> Result<(), String> {
            let recipe = Table::from_iter([(name.to_owned(), value.clone())]).try_into::<Recipe>();
            recipe.map(drop).map_err(|error| error.message().trim().replace('\n', "; "))
        };
        keep_readable(name, value, &in_recipe, &mut unread)
    });
    unread
}

/// Whether a value can be read, perhaps after some settings of a table were removed.
fn keep_readable(
    name: &str,
    value: &mut Value,
    read: &dyn Fn(&Value) -> Result<(), String>,
    unread: &mut Vec<Unread>,
) -> bool {
    let Err(message) = read(value) else { return true };
    let found = unread.len();
    if let Value::Table(settings) = value {
        // Settings are read one at a time, with the kind of their table.
        let kind = settings.get("kind").map(|kind| ("kind".to_owned(), kind.clone()));
        let alone = Table::from_iter(kind);
        match (read(&Value::Table(alone.clone())), alone.get("kind")) {
            (Err(message), Some(kind)) => {
                unread.push(Unread::new(&format!("{name}.kind"), kind, &message));
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
    unread.push(Unread::new(name, value, &message));
    false
}

impl Unread {
    /// The problem with the value of a setting, from the message of its deserializer.
    fn new(setting: &str, value: &Value, message: &str) -> Self {
        let problem = match message.split_once(", expected ") {
            Some((_, expected)) if !value.is_table() => format!("{setting} is {value}; give {}", wanted(expected)),
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
        names => names.replace('`', ""),
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
