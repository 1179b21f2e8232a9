//! Model card, made only from the files of an export, so that it can be made again for the repository it is published
//! to.

mod facts;
mod front_matter;
mod methods;
mod results;

use anyhow::Context;
use equimod_core::checkpoint::sha256;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior};

use crate::artifact::Files;
use facts::Facts;

const TEMPLATE: &str = include_str!("../../assets/card/README.md.jinja");
/// Last line of a generated card, which shows whether it has been edited.
const SEAL: (&str, &str) = ("\n<!-- made by equimod, sha256 of what is above: ", " -->\n");

/// Renders the card of an export; `repository` (`OWNER/NAME`) and `branch` fill in its code snippets.
///
/// # Errors
///
/// If a file of the export is missing or damaged.
pub fn render(files: &Files, repository: Option<&str>, branch: Option<&str>) -> anyhow::Result<String> {
    let facts = Facts::of(files, repository, branch)?;
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let text =
        environment.render_str(TEMPLATE, Serde(&facts)).context("cannot render the model card; please report it")?;
    let text = format!("{}\n", text.trim_end());
    let (before, after) = SEAL;
    Ok(format!("{text}{before}{}{after}", sha256(text.as_bytes())))
}

/// Whether a card was edited by hand after it was generated.
pub fn is_edited(card: &[u8]) -> bool {
    let (before, after) = SEAL;
    let made = std::str::from_utf8(card).ok().and_then(|text| {
        let (text, sum) = text.strip_suffix(after)?.rsplit_once(before)?;
        Some(sha256(text.as_bytes()) == sum)
    });
    made != Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edited_cards_are_recognized() {
        let text = "# Model\n";
        let sealed = format!("{text}{}{}{}", SEAL.0, sha256(text.as_bytes()), SEAL.1);
        assert!(!is_edited(sealed.as_bytes()));
        assert!(is_edited(sealed.replace("Model", "Our model").as_bytes()));
        assert!(is_edited(format!("{sealed}More.\n").as_bytes()));
        assert!(is_edited(b"---\nlicense: mit\n---\n") && is_edited(b""));
    }
}
