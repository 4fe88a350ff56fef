//! `callout`: carries the configuration of Envoy's own filters over to the modules, checks what the
//! modules will refuse, and explains what they report.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing))]

mod check;
mod commands;
mod envoy;
mod explain;
mod migrate;
mod schema;
mod top;
mod yaml;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;
use std::time::Duration;

use clap::{Parser, Subcommand};

static VERSION: LazyLock<String> = LazyLock::new(callout_common::build::version);

/// Callouts for Envoy: migrate, check and explain configurations
#[derive(Parser)]
#[command(name = "callout", version = VERSION.as_str(), max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make modules of the built-in ext_authz, ratelimit and ext_proc filters of a configuration.
    ///
    /// Comments, order and values stay. The limits of a route table go into the per-route
    /// configuration, where a module can see them. What could not be carried over, and what the
    /// modules will refuse, goes to standard error.
    Migrate {
        /// The configuration: a bootstrap, listeners, routes or filters; - is standard input.
        #[arg(default_value = "-")]
        file: PathBuf,
        /// Show the changes instead of the new configuration.
        #[arg(long)]
        diff: bool,
        /// Write here instead of to standard output; may be the file itself.
        #[arg(long, short, value_name = "FILE", conflicts_with = "diff")]
        output: Option<PathBuf>,
        /// Fail when something could not be carried over, or will be refused.
        #[arg(long)]
        strict: bool,
    },
    /// Tell what the modules will refuse in a configuration, and what will have no effect.
    ///
    /// Nothing is started and no connection made. Fails when there is an error.
    Check {
        /// The configurations; - is standard input.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Write one JSON object per finding.
        #[arg(long)]
        json: bool,
        /// Fail when there is a warning, too.
        #[arg(long)]
        deny_warnings: bool,
    },
    /// Print the JSON Schema of a configuration, for an editor or a pipeline.
    ///
    /// An editor with the YAML language server takes it from the file's first line:
    /// `# yaml-language-server: $schema=FILE`.
    Schema {
        /// Of which filter's fields; of a whole Envoy configuration with any of them unless given.
        filter: Option<envoy::Kind>,
        /// Of the configuration of a route.
        #[arg(long, requires = "filter")]
        route: bool,
    },
    /// Show what the filters of a running Envoy do, each second anew.
    Top {
        /// Where its admin interface is.
        #[arg(long, default_value = "127.0.0.1:9901", value_name = "HOST:PORT")]
        admin: String,
        /// Seconds between two looks; 0.1 at least.
        #[arg(long, default_value = "1", value_name = "SECONDS", value_parser = seconds)]
        interval: Duration,
        /// Print one table, of one interval, and end.
        #[arg(long)]
        once: bool,
    },
    /// Explain a cause, a verdict or a counter, and what to do about it.
    Explain {
        /// What the access log or the statistics say, as `timeout` or `cache_bypassed`; all of them
        /// unless given.
        word: Option<String>,
    },
}

/// An interval on the command line.
fn seconds(text: &str) -> Result<Duration, String> {
    let interval = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    interval
        .filter(|interval| *interval >= Duration::from_millis(100))
        .ok_or_else(|| "write a number of seconds, 0.1 or more".to_owned())
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Migrate { file, diff, output, strict } => {
            commands::migrate(&file, diff, output.as_deref(), strict)
        }
        Command::Check { files, json, deny_warnings } => {
            commands::check(&files, json, deny_warnings)
        }
        Command::Schema { filter, route } => commands::schema(filter, route),
        Command::Top { admin, interval, once } => top::run(&admin, interval, once),
        Command::Explain { word } => commands::explain(word.as_deref()),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            anstream::eprintln!("\u{1b}[1;31merror\u{1b}[0m: {error:#}");
            ExitCode::from(2)
        }
    }
}
