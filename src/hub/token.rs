//! Access token for the Hub.

use std::fs;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

/// An access token, which cannot be printed by accident.
pub struct Token(SecretString);

impl Token {
    /// The token from `HF_TOKEN`, the file at `HF_TOKEN_PATH`, or the file `token` in `HF_HOME`, as for the Hub's own
    /// tools.
    pub fn of_environment() -> Option<Self> {
        let of_file = |path: PathBuf| fs::read_to_string(path).ok();
        let candidates = [
            std::env::var("HF_TOKEN").ok(),
            std::env::var_os("HF_TOKEN_PATH").and_then(|path| of_file(path.into())),
            of_file(hf_hub::hf_home().join("token")),
        ];
        let token = candidates.into_iter().flatten().map(|text| text.trim().to_owned()).find(|text| !text.is_empty());
        token.map(|text| Self(text.into()))
    }

    /// The text of the token, for the client that sends it.
    pub fn exposed(&self) -> &str {
        self.0.expose_secret()
    }

    /// Whether `bytes` contain the token.
    pub fn occurs_in(&self, bytes: &[u8]) -> bool {
        let token = self.exposed().as_bytes();
        bytes.windows(token.len()).any(|window| window == token)
    }

    /// The text with the token removed, in case a server repeats it.
    pub fn redact(&self, text: &str) -> String {
        text.replace(self.exposed(), "[token]")
    }
}
