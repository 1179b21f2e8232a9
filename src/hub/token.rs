//! The token that says who publishes.

use std::fs;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

/// A token; it has no text that could be printed.
pub struct Token(SecretString);

impl Token {
    /// `HF_TOKEN`, the file that `HF_TOKEN_PATH` names, or the file `token` of `HF_HOME`, as the Hub's tools look for it.
    pub fn of_environment() -> Option<Self> {
        let of_file = |path: PathBuf| fs::read_to_string(path).ok();
        let candidates = [
            std::env::var("HF_TOKEN").ok(),
            std::env::var_os("HF_TOKEN_PATH").and_then(|path| of_file(path.into())),
            of_file(hf_hub::hf_home().join("token")),
        ];
        let found = candidates.into_iter().flatten().map(|text| text.trim().to_owned()).find(|text| !text.is_empty());
        found.map(|text| Self(text.into()))
    }

    /// For the client, which sends it and tells nobody.
    pub fn exposed(&self) -> &str {
        self.0.expose_secret()
    }

    /// Whether it stands among the bytes.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        let token = self.exposed().as_bytes();
        bytes.windows(token.len()).any(|window| window == token)
    }

    /// The text without it, should a server repeat it.
    pub fn taken_out(&self, text: &str) -> String {
        text.replace(self.exposed(), "[token]")
    }
}
