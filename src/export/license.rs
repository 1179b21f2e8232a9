//! License ids of the Hugging Face Hub.

use equimod_train::nearest;

/// License ids that a model card on the Hub may have, those of single models aside (`llama2`, `gemma` and the like).
const IDS: [&str; 68] = [
    "afl-3.0",
    "agpl-3.0",
    "apache-2.0",
    "artistic-2.0",
    "bigcode-openrail-m",
    "bigscience-bloom-rail-1.0",
    "bigscience-openrail-m",
    "bsd",
    "bsd-2-clause",
    "bsd-3-clause",
    "bsd-3-clause-clear",
    "bsl-1.0",
    "c-uda",
    "cc",
    "cc-by-2.0",
    "cc-by-2.5",
    "cc-by-3.0",
    "cc-by-4.0",
    "cc-by-nc-2.0",
    "cc-by-nc-3.0",
    "cc-by-nc-4.0",
    "cc-by-nc-nd-3.0",
    "cc-by-nc-nd-4.0",
    "cc-by-nc-sa-2.0",
    "cc-by-nc-sa-3.0",
    "cc-by-nc-sa-4.0",
    "cc-by-nd-4.0",
    "cc-by-sa-3.0",
    "cc-by-sa-4.0",
    "cc0-1.0",
    "cdla-permissive-1.0",
    "cdla-permissive-2.0",
    "cdla-sharing-1.0",
    "creativeml-openrail-m",
    "deepfloyd-if-license",
    "ecl-2.0",
    "epl-1.0",
    "epl-2.0",
    "etalab-2.0",
    "eupl-1.1",
    "eupl-1.2",
    "gfdl",
    "gpl",
    "gpl-2.0",
    "gpl-3.0",
    "isc",
    "lgpl",
    "lgpl-2.1",
    "lgpl-3.0",
    "lgpl-lr",
    "lppl-1.3c",
    "mit",
    "mpl-2.0",
    "ms-pl",
    "ncsa",
    "odbl",
    "odc-by",
    "ofl-1.1",
    "openrail",
    "openrail++",
    "osl-3.0",
    "other",
    "pddl",
    "postgresql",
    "unknown",
    "unlicense",
    "wtfpl",
    "zlib",
];

/// A warning of an id that is not among those known here.
pub fn warning(id: &str) -> Option<String> {
    if IDS.contains(&id) {
        return None;
    }
    let hint = nearest(id, IDS.into_iter()).map_or_else(String::new, |near| format!(" (did you mean {near}?)"));
    Some(format!(
        "--license {id} is not one of the ids of the Hub that are known here{hint}; a license without an id is `other`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_ids_get_a_warning() {
        for id in ["mit", "apache-2.0", "cc-by-nc-sa-4.0", "other"] {
            assert_eq!(warning(id), None, "{id}");
        }
        assert!(warning("apache2.0").unwrap().contains("did you mean apache-2.0?"));
        assert!(!warning("my-own-license-of-birds").unwrap().contains("did you mean"));
    }
}
