//! `export!`: names the filters of a shared library. The rest of this module is how the exported
//! hooks find them.

use crate::envoy::route_config::RouteConfig;
use std::rc::Rc;
use std::sync::Arc;

use crate::api::config::{ConfigError, RawConfig};
use crate::cluster_streams::ClusterStreamManager;
use crate::envoy::host::ConfigHost;
use crate::filter::Filter;
use crate::filter::admin::Purge;
use crate::filter::stats::Setup;
use crate::runner::{AnyStream, Runner, RunnerStats};
use crate::tasks::runtime;

/// Exports filters from a cdylib under the names that `filter_name` gives in Envoy's configuration.
///
/// ```ignore
/// callout_common::export!("authz" => Authz);
/// ```
#[macro_export]
macro_rules! export {
    ($($name:literal => $filter:ty),+ $(,)?) => {
        #[allow(unsafe_code, reason = "Envoy looks this one symbol up by name in every module")]
        const _: () = {
            static FILTERS: &[$crate::runner::export::Exported] =
                &[$($crate::runner::export::Exported::new::<$filter>($name)),+];

            #[unsafe(no_mangle)]
            extern "C" fn envoy_dynamic_module_on_program_init() -> *const ::core::ffi::c_char {
                $crate::abi::program_init(FILTERS)
            }
        };
    };
}

type Configure = fn(&str, &[u8], &mut dyn ConfigHost) -> Result<Arc<dyn AnyFilter>, ConfigError>;

/// One filter of a shared library.
#[derive(Debug)]
pub struct Exported {
    name: &'static str,
    configure: Configure,
    route: fn(&[u8]) -> Result<RouteConfig, ConfigError>,
    purges: bool,
}

impl Exported {
    /// The filter `F` under `name`.
    #[must_use]
    pub const fn new<F: Filter>(name: &'static str) -> Self {
        Self { name, configure: configure::<F>, route: route::<F>, purges: F::PURGES }
    }

    /// The name that `filter_name` gives.
    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }

    /// Whether the filter keeps decisions that an operator may have forgotten.
    pub(crate) const fn purges(&self) -> bool {
        self.purges
    }
}

/// A configured filter of whatever type.
pub(crate) trait AnyFilter: Send + Sync {
    /// A new stream.
    fn open(&self) -> Rc<dyn AnyStream>;
    /// The configuration's streams to Envoy's clusters; none where it is only validated.
    fn cluster_streams(&self) -> Option<&ClusterStreamManager>;
    /// See [`Filter::status`].
    fn status(&self) -> serde_json::Value;
    /// See [`Filter::purge`].
    fn purge(&self, what: &Purge) -> u64;
}

struct Configured<F: Filter> {
    filter: Arc<F>,
    stats: RunnerStats,
    desk: Option<ClusterStreamManager>,
}

impl<F: Filter> AnyFilter for Configured<F> {
    fn open(&self) -> Rc<dyn AnyStream> {
        Rc::new(Runner::new(Arc::clone(&self.filter), self.stats.clone()))
    }

    fn cluster_streams(&self) -> Option<&ClusterStreamManager> {
        self.desk.as_ref()
    }

    fn status(&self) -> serde_json::Value {
        self.filter.status()
    }

    fn purge(&self, what: &Purge) -> u64 {
        self.filter.purge(what)
    }
}

fn configure<F: Filter>(
    name: &str,
    bytes: &[u8],
    host: &mut dyn ConfigHost,
) -> Result<Arc<dyn AnyFilter>, ConfigError> {
    let desk = (!host.validating()).then(|| ClusterStreamManager::new(host.scheduler()));
    let clusters = desk.as_ref().map(ClusterStreamManager::clusters).unwrap_or_default();
    let mut setup = Setup::new(host, name, clusters);
    let stats = RunnerStats::define(&mut setup)?;
    let filter = F::configure(RawConfig::new(bytes), &mut setup)?;
    if !setup.validating() {
        runtime::start().map_err(|error| ConfigError::without_path(error.to_string()))?;
    }
    Ok(Arc::new(Configured { filter: Arc::new(filter), stats, desk }))
}

fn route<F: Filter>(bytes: &[u8]) -> Result<RouteConfig, ConfigError> {
    F::route(RawConfig::new(bytes)).map(RouteConfig::new)
}

/// Configures the filter called `name`.
///
/// # Errors
/// When the library has no such filter, or the filter refuses its configuration.
pub(crate) fn configure_named(
    filters: &[Exported],
    name: &str,
    bytes: &[u8],
    host: &mut dyn ConfigHost,
) -> Result<Arc<dyn AnyFilter>, ConfigError> {
    let filter = find(filters, name)?;
    (filter.configure)(filter.name, bytes, host)
}

/// Makes the per-route configuration of the filter called `name`. A library with a single filter
/// needs no name.
///
/// # Errors
/// As [`configure_named`].
pub(crate) fn route_named(
    filters: &[Exported],
    name: &str,
    bytes: &[u8],
) -> Result<RouteConfig, ConfigError> {
    let filter = match filters {
        [only] if name.is_empty() => only,
        _ => find(filters, name)?,
    };
    (filter.route)(bytes)
}

fn find<'a>(filters: &'a [Exported], name: &str) -> Result<&'a Exported, ConfigError> {
    filters.iter().find(|filter| filter.name == name).ok_or_else(|| {
        let known: Vec<&str> = filters.iter().map(|filter| filter.name).collect();
        ConfigError::field(
            "filter_name",
            format!("no filter `{name}` in this library, it has: {}", known.join(", ")),
        )
    })
}
