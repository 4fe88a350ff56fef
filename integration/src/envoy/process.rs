//! One running Envoy.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::{Bootstrap, Version};
use crate::client::{Request, Response};
use crate::modules;

/// How long Envoy may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// How to run it.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the modules are, if not beside this program.
    pub modules: Option<PathBuf>,
    /// Worker threads.
    pub concurrency: u32,
    /// Reads its listener from a file that can be replaced; see [`Envoy::replace_listener`].
    pub lds: bool,
    /// A command that Envoy is run under, such as valgrind.
    pub wrapper: Vec<String>,
    /// Level of the log.
    pub log_level: &'static str,
}

impl Default for Options {
    fn default() -> Self {
        Self { modules: None, concurrency: 1, lds: false, wrapper: Vec::new(), log_level: "info" }
    }
}

/// Envoy did not take its configuration.
#[derive(Debug)]
pub struct Refused {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its log.
    pub log: String,
}

/// One running Envoy. Dropping it ends it.
pub struct Envoy {
    child: Child,
    dir: TempDir,
    admin: u16,
    port: u16,
    listener_version: u32,
}

impl Envoy {
    /// Starts Envoy and waits until it serves.
    ///
    /// # Errors
    /// When it does not start; the message is its log.
    pub async fn start(version: Version, bootstrap: &Bootstrap) -> Result<Self> {
        Self::start_with(version, bootstrap, Options::default()).await
    }

    /// As [`Envoy::start`], with options.
    ///
    /// # Errors
    /// When it does not start; the message is its log.
    pub async fn start_with(
        version: Version,
        bootstrap: &Bootstrap,
        options: Options,
    ) -> Result<Self> {
        match Self::try_start(version, bootstrap, options).await? {
            Ok(envoy) => Ok(envoy),
            Err(refused) => bail!("Envoy {version} ended ({}):\n{}", refused.status, refused.log),
        }
    }

    /// Starts Envoy; a configuration that it does not take is no error here.
    ///
    /// # Errors
    /// When it can't be run at all, or neither serves nor ends.
    pub async fn try_start(
        version: Version,
        bootstrap: &Bootstrap,
        options: Options,
    ) -> Result<Result<Self, Refused>> {
        let dir = tempfile::tempdir()?;
        let path = |name: &str| dir.path().join(name).display().to_string();
        let config = if options.lds {
            write(&dir.path().join("lds.json"), &bootstrap.lds(&path("access.log"), 1))?;
            bootstrap.with_lds(&path("lds.json"))
        } else {
            bootstrap.whole(&path("access.log"))
        };
        Self::run(version, dir, &config, &options).await
    }

    /// Starts Envoy with a whole configuration, whose admin interface and first listener are to have
    /// a port of 0.
    ///
    /// # Errors
    /// When it does not start; the message is its log.
    pub async fn start_whole(version: Version, config: &Value, options: Options) -> Result<Self> {
        match Self::run(version, tempfile::tempdir()?, config, &options).await? {
            Ok(envoy) => Ok(envoy),
            Err(refused) => bail!("Envoy {version} ended ({}):\n{}", refused.status, refused.log),
        }
    }

    async fn run(
        version: Version,
        dir: TempDir,
        config: &Value,
        options: &Options,
    ) -> Result<Result<Self, Refused>> {
        let file = dir.path().join("envoy.json");
        write(&file, config)?;
        let mut command = command(version, dir.path(), &file, options)?;
        command
            .args(["--admin-address-path", &dir.path().join("admin").display().to_string()])
            .args(["--concurrency", &options.concurrency.to_string()])
            .args(["--file-flush-interval-msec", "50"])
            .args(["--drain-time-s", "2", "--parent-shutdown-time-s", "3"]);
        let child = command.spawn().with_context(|| format!("running Envoy {version}"))?;
        let mut envoy = Self { child, dir, admin: 0, port: 0, listener_version: 1 };
        let patience = if options.wrapper.is_empty() { PATIENCE } else { PATIENCE * 4 };
        let started = Instant::now();
        loop {
            if let Some(status) = envoy.child.try_wait()? {
                return Ok(Err(Refused { status, log: envoy.log() }));
            }
            if envoy.find_ports().await.is_some() {
                return Ok(Ok(envoy));
            }
            if started.elapsed() > patience {
                bail!("Envoy {version} neither serves nor ends:\n{}", envoy.log());
            }
            crate::pause(20).await;
        }
    }

    async fn find_ports(&mut self) -> Option<()> {
        let admin = fs::read_to_string(self.dir.path().join("admin")).ok()?;
        self.admin = admin.trim().rsplit(':').next()?.parse().ok()?;
        let ready = self.admin("/ready").await;
        if ready.as_deref().map(str::trim) != Some("LIVE") {
            return None;
        }
        let listeners: Value =
            serde_json::from_str(&self.admin("/listeners?format=json").await?).ok()?;
        let address = &listeners["listener_statuses"][0]["local_address"]["socket_address"];
        self.port = u16::try_from(address["port_value"].as_u64()?).ok()?;
        Some(())
    }

    /// Runs Envoy with `--mode validate`, under `wrapper`; its exit status and log.
    ///
    /// # Errors
    /// When it can't be run.
    pub async fn validate(
        version: Version,
        bootstrap: &Bootstrap,
        wrapper: Vec<String>,
    ) -> Result<Refused> {
        let dir = tempfile::tempdir()?;
        let log = dir.path().join("access.log").display().to_string();
        let config = dir.path().join("envoy.json");
        write(&config, &bootstrap.whole(&log))?;
        let options = Options { wrapper, ..Options::default() };
        validate(version, dir.path(), &config, &options).await
    }

    /// Runs Envoy with `--mode validate` on a configuration file; its exit status and log.
    ///
    /// # Errors
    /// When it can't be run.
    pub async fn validate_file(version: Version, config: &Path) -> Result<Refused> {
        let dir = tempfile::tempdir()?;
        validate(version, dir.path(), config, &Options::default()).await
    }

    /// The port that serves.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The port of the admin interface.
    #[must_use]
    pub const fn admin_port(&self) -> u16 {
        self.admin
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// The folder with its configuration and its logs.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What it logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("envoy.log")).unwrap_or_default()
    }

    /// The entries of the access log so far.
    #[must_use]
    pub fn access_log(&self) -> Vec<Value> {
        let log = fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default();
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Asks the admin interface.
    pub async fn admin(&self, path: &str) -> Option<String> {
        let response = Request::get(path).send(self.admin).await;
        response.is_complete().then(|| response.body_text())
    }

    /// Posts to the admin interface.
    pub async fn admin_post(&self, path: &str) -> Response {
        Request::post(path).send(self.admin).await
    }

    /// The value of the statistic whose name ends with `name`; 0 when there is none.
    pub async fn stat(&self, name: &str) -> u64 {
        let stats = self.admin("/stats").await.unwrap_or_default();
        stats
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(key, _)| *key == name || key.ends_with(&format!(".{name}")))
            .and_then(|(_, value)| value.parse().ok())
            .unwrap_or_default()
    }

    /// Waits until a statistic has a value.
    ///
    /// # Errors
    /// When it has not within 20 s.
    pub async fn stat_becomes(&self, name: &str, wanted: u64) -> Result<()> {
        let started = Instant::now();
        loop {
            let value = self.stat(name).await;
            if value == wanted {
                return Ok(());
            }
            if started.elapsed() > Duration::from_secs(20) {
                bail!("{name} is {value}, not {wanted}");
            }
            crate::pause(20).await;
        }
    }

    /// Replaces the listener (needs [`Options::lds`]) and waits until Envoy took it or refused it.
    /// True when it took it.
    ///
    /// # Errors
    /// When neither happens.
    pub async fn replace_listener(&mut self, bootstrap: &Bootstrap) -> Result<bool> {
        let before = self.updates().await;
        self.listener_version += 1;
        let log = self.dir.path().join("access.log").display().to_string();
        let mut lds = bootstrap.lds(&log, self.listener_version);
        // The port was free for Envoy to choose; now it has to stay.
        lds["resources"][0]["address"]["socket_address"]["port_value"] = self.port.into();
        let new = self.dir.path().join("lds.new");
        write(&new, &lds)?;
        // Envoy watches for the file to be moved into its place.
        fs::rename(new, self.dir.path().join("lds.json"))?;
        for _ in 0..500 {
            let now = self.updates().await;
            if now != before {
                return Ok(now.0 > before.0);
            }
            crate::pause(20).await;
        }
        bail!("Envoy did not read its new listener:\n{}", self.log())
    }

    async fn updates(&self) -> (u64, u64) {
        (
            self.stat("listener_manager.lds.update_success").await,
            self.stat("listener_manager.lds.update_rejected").await,
        )
    }

    /// Asks Envoy to end, and waits for it.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop(mut self) -> Result<(ExitStatus, String)> {
        self.signal(Signal::SIGTERM)?;
        let status = tokio::time::timeout(PATIENCE * 2, self.child.wait())
            .await
            .with_context(|| format!("Envoy does not end:\n{}", self.log()))??;
        Ok((status, self.log()))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.child.id().context("Envoy has ended")?;
        kill(Pid::from_raw(i32::try_from(pid)?), signal).context("signalling Envoy")
    }
}

fn write(path: &Path, value: &Value) -> Result<()> {
    fs::write(path, serde_json::to_string_pretty(value)?)
        .with_context(|| format!("writing {}", path.display()))
}

async fn validate(
    version: Version,
    dir: &Path,
    config: &Path,
    options: &Options,
) -> Result<Refused> {
    let mut child = command(version, dir, config, options)?.args(["--mode", "validate"]).spawn()?;
    let status = tokio::time::timeout(PATIENCE, child.wait()).await??;
    let log = fs::read_to_string(dir.join("envoy.log"))?;
    Ok(Refused { status, log })
}

/// Envoy with its log in `dir`.
fn command(version: Version, dir: &Path, config: &Path, options: &Options) -> Result<Command> {
    let binary = version.binary()?;
    let log = File::create(dir.join("envoy.log"))?;
    let modules = match &options.modules {
        Some(modules) => modules.clone(),
        None => modules::dir()?,
    };
    let mut words = options.wrapper.iter().map(Into::into).chain([binary.into_os_string()]);
    let mut command = Command::new(words.next().context("no command")?);
    command
        .args(words)
        .arg("-c")
        .arg(config)
        .args(["-l", options.log_level, "--use-dynamic-base-id"])
        .env("ENVOY_DYNAMIC_MODULES_SEARCH_PATH", modules)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true);
    Ok(command)
}
