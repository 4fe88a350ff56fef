//! What is measured: an Envoy for each configuration, and the load that it gets.

use anyhow::{Result, bail};
use callout_integration::envoy::{Bootstrap, Envoy, Kind, Options, Version, merge};
use callout_integration::services::{Script, message};
use serde_json::{Value, json};

use crate::measure::{Load, Sample};

/// One Envoy to measure.
pub(crate) struct Lane {
    pub(crate) name: String,
    /// The lane that it is compared with.
    pub(crate) baseline: Option<String>,
    pub(crate) envoy: Envoy,
    /// The status of its answers.
    pub(crate) status: u16,
    pub(crate) load: Load,
    pub(crate) samples: Vec<Sample>,
    /// Its place in the report.
    pub(crate) place: usize,
}

/// The lane that everything is compared with.
pub(crate) const NO_FILTER: &str = "no filter";

/// The domain whose limits are exceeded, and the one whose are far away.
const OVER: &str = "over the limit";
const UNDER: &str = "under the limit";

/// Services that answer at once: everything is allowed, but what is over its limit.
pub(crate) fn answering() -> Script {
    Script::default().unrecorded().limit(|request, _| {
        let code = if request.domain == OVER { "OVER_LIMIT" } else { "OK" };
        let limit = json!({"requestsPerUnit": 1_000_000_000, "unit": "HOUR"});
        let answer = if [OVER, UNDER].contains(&request.domain.as_str()) {
            json!({"overallCode": code, "statuses": [{
                "code": code, "currentLimit": limit, "durationUntilReset": "3600s",
                "limitRemaining": if request.domain == OVER { 0 } else { 900_000_000 },
            }]})
        } else {
            json!({"overallCode": code})
        };
        std::future::ready(Ok(message(answer)))
    })
}

/// Lanes that are measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suite {
    /// Each filter with a call for each request.
    Calls,
    /// authz with its cache, at several parts of hits.
    AuthzCache,
    /// ratelimit in its modes: a flood over the limit, and a hot key under it.
    RateLimitModes,
    /// extproc with bodies of requests.
    ExtProcBodies,
}

impl Suite {
    pub(crate) fn named(name: &str) -> Result<Self> {
        match name {
            "calls" => Ok(Self::Calls),
            "authz-cache" => Ok(Self::AuthzCache),
            "ratelimit-modes" => Ok(Self::RateLimitModes),
            "extproc-bodies" => Ok(Self::ExtProcBodies),
            _ => bail!(
                "no suite is called {name}: calls, authz-cache, ratelimit-modes, extproc-bodies"
            ),
        }
    }

    /// Starts its Envoys in front of `upstream`, with the services at `service`: those whose name holds
    /// one of `only`, unless that is empty, and those without a filter.
    pub(crate) async fn lanes(
        self,
        upstream: u16,
        service: u16,
        only: Vec<String>,
    ) -> Result<Vec<Lane>> {
        let mut lanes = Lanes { upstream, service, only, all: Vec::new() };
        match self {
            Self::Calls => lanes.calls().await?,
            Self::AuthzCache => lanes.authz_cache().await?,
            Self::RateLimitModes => lanes.ratelimit_modes().await?,
            Self::ExtProcBodies => lanes.extproc_bodies().await?,
        }
        Ok(lanes.all)
    }
}

struct Lanes {
    upstream: u16,
    service: u16,
    only: Vec<String>,
    all: Vec<Lane>,
}

impl Lanes {
    async fn add(
        &mut self,
        name: &str,
        baseline: Option<&str>,
        load: Load,
        filters: Vec<Value>,
    ) -> Result<()> {
        let wanted = self.only.is_empty() || self.only.iter().any(|part| name.contains(part));
        if !wanted && !name.starts_with(NO_FILTER) {
            return Ok(());
        }
        let mut bootstrap = Bootstrap::new(self.upstream, filters);
        bootstrap.service = Some(self.service);
        // Nobody reads it, and it would be most of the disk's work.
        bootstrap.hcm = json!({"access_log": null});
        let envoy = quiet(&bootstrap).await?;
        let (name, baseline) = (name.to_owned(), baseline.map(str::to_owned));
        let (place, samples) = (self.all.len(), Vec::new());
        self.all.push(Lane { name, baseline, envoy, status: 200, load, samples, place });
        Ok(())
    }

    async fn calls(&mut self) -> Result<()> {
        let load = Load::OnePath;
        self.add(NO_FILTER, None, load, Vec::new()).await?;
        for kind in Kind::ALL {
            let builtin = format!("built-in {}", kind.name());
            self.add(&builtin, None, load, vec![self.builtin(kind)]).await?;
            let google = format!("{builtin}, google_grpc");
            let filter = kind.builtin(json!({}), self.service);
            self.add(&google, Some(&builtin), load, vec![filter]).await?;
            let ours = format!("callout {}", kind.name());
            for calls in ["worker", "off_thread"] {
                let filter = kind.module_with(json!({"calls": calls}), json!({}), self.service);
                self.add(&format!("{ours}, {calls}"), Some(&builtin), load, vec![filter]).await?;
            }
            let by_cluster = format!("{ours}, envoy_grpc");
            let filter = kind.module(kind.by_cluster(), self.service);
            self.add(&by_cluster, Some(&builtin), load, vec![filter]).await?;
        }
        Ok(())
    }

    async fn authz_cache(&mut self) -> Result<()> {
        let one = Load::Mixed { repeated: 100 };
        self.add(NO_FILTER, None, one, Vec::new()).await?;
        let builtin = "built-in authz";
        self.add(builtin, None, one, vec![self.builtin(Kind::Authz)]).await?;
        for repeated in [0, 50, 90, 99, 100] {
            let callout = json!({"cache": {"ttl": "600s"}, "coalesce": true});
            let filter = Kind::Authz.module_with(callout, json!({}), self.service);
            let name = format!("callout authz, {repeated} % hits");
            self.add(&name, Some(builtin), Load::Mixed { repeated }, vec![filter]).await?;
        }
        Ok(())
    }

    async fn ratelimit_modes(&mut self) -> Result<()> {
        let load = Load::OnePath;
        self.add(NO_FILTER, None, load, Vec::new()).await?;
        let all = json!({"default_value": {"numerator": 100}});
        let local = json!({"name": "local", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
            "stat_prefix": "local",
            "token_bucket": {"max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "36000s"},
            "filter_enabled": all,
            "filter_enforced": all,
        }});
        let limited = "429 by Envoy's local_ratelimit";
        self.add(limited, None, load, vec![local]).await?;
        self.refused(limited);
        for (domain, mode) in [(OVER, "cache_over_limit"), (UNDER, "lease")] {
            let builtin = format!("built-in ratelimit, {domain}");
            let fields = json!({"domain": domain});
            let filter = self.builtin_with(Kind::RateLimit, fields.clone());
            self.add(&builtin, None, load, vec![filter]).await?;
            let callout = json!({"mode": mode, "expected_proxies": 1});
            let filter = Kind::RateLimit.module_with(callout, fields, self.service);
            let ours = format!("callout ratelimit, {mode}");
            self.add(&ours, Some(&builtin), load, vec![filter]).await?;
            if domain == OVER {
                self.refused(&builtin);
                self.refused(&ours);
            }
        }
        Ok(())
    }

    async fn extproc_bodies(&mut self) -> Result<()> {
        for (what, bytes, mode) in [
            ("1 KiB", 1 << 10, "BUFFERED"),
            ("64 KiB", 64 << 10, "BUFFERED"),
            ("1 MiB", 1 << 20, "STREAMED"),
        ] {
            let load = Load::Body { bytes };
            let bare = if self.all.is_empty() {
                NO_FILTER.to_owned()
            } else {
                format!("{NO_FILTER}, {what}")
            };
            self.add(&bare, None, load, Vec::new()).await?;
            let modes = json!({
                "message_timeout": "10s",
                "processing_mode": {"request_body_mode": mode, "response_header_mode": "SKIP"},
            });
            let builtin = format!("built-in extproc, {what} {mode}");
            let filter = self.builtin_with(Kind::ExtProc, modes.clone());
            self.add(&builtin, None, load, vec![filter]).await?;
            for calls in ["worker", "off_thread"] {
                let callout = json!({"calls": calls});
                let filter = Kind::ExtProc.module_with(callout, modes.clone(), self.service);
                let name = format!("callout extproc, {what} {mode}, {calls}");
                self.add(&name, Some(&builtin), load, vec![filter]).await?;
            }
        }
        Ok(())
    }

    /// The lane `name` refuses everything.
    fn refused(&mut self, name: &str) {
        let lanes = self.all.iter_mut().filter(|lane| lane.name == name);
        lanes.for_each(|lane| lane.status = 429);
    }

    fn builtin(&self, kind: Kind) -> Value {
        self.builtin_with(kind, json!({}))
    }

    /// The built-in filter, calling through a cluster of Envoy's.
    fn builtin_with(&self, kind: Kind, fields: Value) -> Value {
        kind.builtin(merge(fields, kind.by_cluster()), self.service)
    }
}

/// An Envoy that logs little.
pub(crate) async fn quiet(bootstrap: &Bootstrap) -> Result<Envoy> {
    let options = Options { log_level: "warn", ..Options::default() };
    Envoy::start_with(Version::LATEST, bootstrap, options).await
}
