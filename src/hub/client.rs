//! Hub client, configured from the environment.

use std::path::PathBuf;

use anyhow::anyhow;
use hf_hub::{HFClient, HFClientBuilder, HFClientSync};

use super::timeout::Timeout;
use super::token::Token;

/// Address of the Hub if `HF_ENDPOINT` is not set.
const ADDRESS: &str = "https://huggingface.co";
/// Number of retries of every request.
const RETRIES: usize = 3;

/// A Hub client with its settings from the environment.
pub struct Hub {
    /// HTTP client of the Hub.
    pub client: HFClientSync,
    /// Cache folder of downloads.
    pub cache: PathBuf,
    /// Whether network access is turned off (`HF_HUB_OFFLINE`).
    pub offline: bool,
    /// Address of the Hub for links, without a trailing slash.
    pub address: String,
    /// Longest silence of the Hub before a request counts as failed.
    pub timeout: Timeout,
}

impl Hub {
    /// Client without a token of its own: hf-hub reads `HF_TOKEN` if it is set.
    ///
    /// # Errors
    ///
    /// If the settings in the environment are not usable.
    pub fn of_environment() -> anyhow::Result<Self> {
        Self::of(HFClient::builder())
    }

    /// Client that sends `token` with every request.
    ///
    /// # Errors
    ///
    /// If the settings in the environment are not usable.
    pub fn with_token(token: &Token) -> anyhow::Result<Self> {
        Self::of(HFClient::builder().token(token.exposed()))
    }

    fn of(builder: HFClientBuilder) -> anyhow::Result<Self> {
        let offline = std::env::var("HF_HUB_OFFLINE").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"));
        let client = builder
            .user_agent(concat!("equimod/", env!("CARGO_PKG_VERSION")))
            .retry_max_attempts(RETRIES)
            .build_sync()
            .map_err(|e| anyhow!("cannot set up the Hub client ({e}); check HF_ENDPOINT"))?;
        let address = std::env::var("HF_ENDPOINT").ok().filter(|address| !address.is_empty());
        let address = address.unwrap_or_else(|| ADDRESS.into()).trim_end_matches('/').to_owned();
        Ok(Self { address, client, cache: hf_hub::resolve_cache_dir(), offline, timeout: Timeout::of_environment() })
    }
}
