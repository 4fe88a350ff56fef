//! `migrate-routes < envoy.yaml > new.yaml`: rewrites an Envoy configuration for this filter, and says
//! on standard error what it could not carry over.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is what it is for")]

use std::io::Read;
use std::process::ExitCode;

use callout_ratelimit::migrate::migrate;

fn main() -> ExitCode {
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text).map_err(|error| error.to_string());
    let parsed =
        read.and_then(|_| serde_norway::from_str(&text).map_err(|error| error.to_string()));
    let migrated = match parsed {
        Ok(config) => migrate(config),
        Err(error) => {
            eprintln!("migrate-routes: this is no YAML or JSON: {error}");
            return ExitCode::FAILURE;
        }
    };
    for remark in &migrated.remarks {
        eprintln!("{remark}");
    }
    match serde_norway::to_string(&migrated.config) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("migrate-routes: {error}");
            ExitCode::FAILURE
        }
    }
}
