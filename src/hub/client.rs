//! The Hub, as the environment describes it.

use std::path::PathBuf;

use anyhow::anyhow;
use hf_hub::{HFClient, HFClientBuilder, HFClientSync};

use super::patience::Patience;
use super::token::Token;

/// The Hub, where the environment names no other.
const ADDRESS: &str = "https://huggingface.co";
/// Attempts after the first, of every request.
const RETRIES: usize = 3;

/// The Hub, as the environment describes it.
pub struct Hub {
    /// Asks, fetches and sends.
    pub client: HFClientSync,
    /// What was fetched.
    pub cache: PathBuf,
    /// Whether nothing may be asked.
    pub offline: bool,
    /// Where people look at it.
    pub address: String,
    /// How long it may be silent.
    pub patience: Patience,
}

impl Hub {
    /// Reads the environment.
    pub fn of_environment() -> anyhow::Result<Self> {
        Self::of(HFClient::builder())
    }

    /// The same for somebody who may write.
    pub fn with_token(token: &Token) -> anyhow::Result<Self> {
        Self::of(HFClient::builder().token(token.exposed()))
    }

    fn of(builder: HFClientBuilder) -> anyhow::Result<Self> {
        let offline = std::env::var("HF_HUB_OFFLINE").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"));
        let client = builder
            .user_agent(concat!("equimod/", env!("CARGO_PKG_VERSION")))
            .retry_max_attempts(RETRIES)
            .build_sync()
            .map_err(|e| anyhow!("the Hub cannot be used ({e}); look at HF_ENDPOINT"))?;
        let address = std::env::var("HF_ENDPOINT").ok().filter(|address| !address.is_empty());
        let address = address.unwrap_or_else(|| ADDRESS.into()).trim_end_matches('/').to_owned();
        Ok(Self { address, client, cache: hf_hub::resolve_cache_dir(), offline, patience: Patience::of_environment() })
    }
}
